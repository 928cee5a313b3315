//! What deviates from the specification, by the names in [`quirks`](super::super::quirks).

use super::*;

#[test]
fn q01_lines_that_end_in_lf_alone() {
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.request();
    bench.hears("RTSP/1.0 200 OK\nCSeq: 1\nPublic: DESCRIBE\n\n").unwrap();
    assert_eq!(bench.request().method, Method::Describe);
}

#[test]
fn q02_numbers_that_are_missing_or_wrong() {
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.request();
    bench.hears("RTSP/1.0 200 OK\r\n\r\n").unwrap();
    assert_eq!(bench.request().method, Method::Describe);
    let len = SDP.len();
    // That of the request before, one that was never sent, and none at all.
    bench.hears(&format!("RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: {len}\r\n\r\n{SDP}")).unwrap();
    assert_eq!(bench.request().method, Method::Setup);
    bench.hears("RTSP/1.0 200 OK\r\nCSeq: 900\r\n\r\n").unwrap();
    assert_eq!(bench.request().method, Method::Setup);
    bench.hears("RTSP/1.0 200 OK\r\nCSeq: x\r\n\r\n").unwrap();
    assert_eq!(bench.request().method, Method::Play);
    bench.hears("RTSP/1.0 200 OK\r\n\r\nRTSP/1.0 200 OK\r\nCSeq: 5\r\n\r\n").unwrap();
    assert!(bench.session.is_flowing(), "an answer too many is none");
}

#[test]
fn q03_options_that_are_refused_and_sessions_that_are_not_named() {
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.answer_with(Method::Options, "501 Not Implemented", "", "").unwrap();
    bench.answer(Method::Describe, "", SDP);
    bench.answer(Method::Setup, "Session: ;timeout=0\r\n", "");
    bench.answer(Method::Setup, "", "");
    let play = bench.answer(Method::Play, "", "");
    assert_eq!(play.headers.get("Session"), None);
    assert!(bench.session.is_flowing());
}

#[test]
fn q04_other_channels_than_were_asked_for() {
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", SDP);
    bench.answer(Method::Setup, "Transport: RTP/AVP/TCP;interleaved=2-3\r\n", "");
    bench.answer(Method::Setup, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", "");
    bench.answer(Method::Play, "", "");
    (0..200).for_each(|n| bench.frame(0, sound(n)).unwrap());
    bench.wait(Duration::from_secs(2)).unwrap();
    assert_eq!(bench.frames(), 200);
    // Others than it said itself, before PLAY was answered at that.
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", SDP);
    bench.answer(Method::Setup, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", "");
    bench.answer(Method::Setup, "Transport: RTP/AVP/TCP;interleaved=0-1\r\n", "");
    (0..100).for_each(|n| bench.frame(6, sound(n)).unwrap());
    bench.answer(Method::Play, "", "");
    (100..200).for_each(|n| bench.frame(6, sound(n)).unwrap());
    bench.wait(Duration::from_secs(2)).unwrap();
    assert_eq!(bench.frames(), 200);
}

#[test]
fn t34_frames_on_channels_that_nobody_set_up() {
    let mut bench = Bench::playing("rtsp://h/cam");
    let stray = packet(111, 1, 1, 1, &[0]);
    for _ in 0..3 {
        (0..63).for_each(|_| bench.frame(0x63, stray.clone()).unwrap());
        bench.frame(2, sound(1)).unwrap();
    }
    (0..63).for_each(|_| bench.frame(0x63, stray.clone()).unwrap());
    assert_eq!(bench.frame(0x63, stray), Err(ClientError::StrayFrames(64)));
}

#[test]
fn q05_keep_alives_that_are_refused_or_never_answered() {
    let mut bench = Bench::playing("rtsp://h/cam");
    let mut asked = Vec::new();
    for n in 0..3_000_u16 {
        bench.frame(2, sound(n)).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
        for item in bench.said() {
            if let Item::Request(request) = item {
                if asked.is_empty() {
                    let cseq = request.cseq().unwrap();
                    bench.hears(&format!("RTSP/1.0 501 Not Implemented\r\nCSeq: {cseq}\r\n\r\n")).unwrap();
                }
                asked.push(request.method);
            }
        }
    }
    assert_eq!(asked[..3], [Method::GetParameter, Method::Options, Method::Options]);
    // A session that the server has forgotten is over.
    let mut bench = Bench::playing("rtsp://h/cam");
    (0..500).for_each(|n| {
        bench.frame(2, sound(n)).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
    });
    assert!(bench.said().iter().any(|item| matches!(item, Item::Request(_))));
    assert_eq!(bench.hears("RTSP/1.0 454 Session Not Found\r\n\r\n"), Err(ClientError::Ended));
}

#[test]
fn q06_back_channels_are_left_out_and_everything_that_is_sendonly_is_not() {
    let media = "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:v\r\na=recvonly\r\n\
        m=audio 0 RTP/AVP 0\r\na=control:a\r\na=recvonly\r\nm=audio 0 RTP/AVP 0\r\na=control:back\r\na=sendonly\r\n\
        m=application 0 RTP/AVP 107\r\na=rtpmap:107 vnd.onvif.metadata/90000\r\na=control:meta\r\n";
    let set_up = |sdp: &str| {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        bench.answer(Method::Describe, "", sdp);
        let mut uris = Vec::new();
        loop {
            let request = bench.request();
            if request.method != Method::Setup {
                return uris;
            }
            uris.push(request.uri.clone());
            let cseq = request.cseq().unwrap();
            bench.hears(&format!("RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\n\r\n")).unwrap();
        }
    };
    assert_eq!(set_up(media), ["rtsp://h/cam/v", "rtsp://h/cam/a"]);
    let outgoing = "m=audio 0 RTP/AVP 0\r\na=control:a\r\na=sendonly\r\n";
    assert_eq!(set_up(outgoing), ["rtsp://h/cam/a"]);
}

#[test]
fn q07_control_urls() {
    let sdp = |session: &str, medium: &str| format!("{session}m=audio 0 RTP/AVP 0\r\na=control:{medium}\r\n");
    let cases = [
        ("", sdp("", "trackID=1"), "rtsp://h/cam/trackID=1", "rtsp://h/cam"),
        ("Content-Base: rtsp://0.0.0.0/x/\r\n", sdp("", "t1"), "rtsp://h/x/t1", "rtsp://h/x/"),
        ("Content-Base: /x/\r\n", sdp("a=control:*\r\n", "t1"), "rtsp://h/x/t1", "rtsp://h/x/"),
        ("Content-Base: 10.0.0.2:554/x/\r\n", sdp("", "t1"), "rtsp://h/x/t1", "rtsp://h/x/"),
        ("Content-Base: rtsp://rtsp://h:554/x/\r\n", sdp("", "t1"), "rtsp://h/x/t1", "rtsp://h/x/"),
        ("Content-Base: nonsense\r\n", sdp("", "t1"), "rtsp://h/cam/t1", "rtsp://h/cam"),
        ("Content-Base:  \r\nContent-Location: rtsp://h/y\r\n", sdp("", "t1"), "rtsp://h/y/t1", "rtsp://h/y"),
        ("", sdp("a=control:rtsp://10.0.0.1/z\r\n", "t1"), "rtsp://h/z/t1", "rtsp://h/z"),
        ("", sdp("", "rtsp://10.0.0.1:8554/cam/t1"), "rtsp://h/cam/t1", "rtsp://h/cam"),
        ("", "m=audio 0 RTP/AVP 0\r\n".to_owned(), "rtsp://h/cam", "rtsp://h/cam"),
    ];
    for (headers, sdp, control, aggregate) in cases {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        bench.answer(Method::Describe, headers, &sdp);
        assert_eq!(bench.answer(Method::Setup, "", "").uri, control, "{headers}{sdp}");
        assert_eq!(bench.answer(Method::Play, "", "").uri, aggregate, "{headers}{sdp}");
    }
}

#[test]
fn q08_rtp_info_by_any_name_and_with_nonsense() {
    for url in ["rtsp://h/cam/trackID=1", "rtsp://10.0.0.1:554/cam/trackID=1", "trackID=1", "/cam/trackID=1"]
    {
        let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
        bench.answer(Method::Options, "", "");
        bench.answer(Method::Describe, "", SDP);
        bench.answer(Method::Setup, "", "");
        bench.answer(Method::Setup, "", "");
        let Flow::Pull(receiving) = &bench.session.flow else { panic!("described") };
        assert_eq!(receiving.medium_of(url), Some(1), "{url}");
        bench.answer(Method::Play, "RTP-Info: seq=nonsense\r\n", "");
        assert!(bench.session.is_flowing());
    }
}
