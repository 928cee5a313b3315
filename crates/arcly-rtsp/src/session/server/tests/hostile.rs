//! Requests that cannot be, and clients that do too much or too little.

use super::*;

/// Each method in each state: answered with what the specification has for it, and the session goes on.
#[test]
fn t12_t13_t14_t15_methods_in_states() {
    let states: &[(&str, fn() -> Test)] = &[
        ("init", Test::new),
        ("described", || {
            let mut test = Test::new();
            test.status(Method::Describe, URL);
            test
        }),
        ("ready", || {
            let mut test = Test::new();
            test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP");
            test
        }),
        ("playing", Test::playing),
        ("recording", || Test::recording("RTP/AVP/TCP")),
    ];
    let cases: &[(Method, [u16; 5])] = &[
        (Method::Options, [200, 200, 200, 200, 200]),
        (Method::Describe, [200, 200, 200, 200, 455]),
        (Method::Play, [455, 455, 200, 200, 455]),
        (Method::Pause, [455, 455, 200, 200, 200]),
        (Method::Record, [455, 455, 455, 455, 455]),
        (Method::Teardown, [455, 455, 200, 200, 200]),
        (Method::GetParameter, [200, 200, 200, 200, 200]),
        (Method::SetParameter, [200, 200, 200, 200, 200]),
        (Method::Redirect, [405, 405, 405, 405, 405]),
        (Method::Other("FROB".into()), [501, 501, 501, 501, 501]),
    ];
    for (method, expect) in cases {
        for ((state, make), expect) in states.iter().zip(expect) {
            let mut test = make();
            assert_eq!(test.status(method.clone(), URL), *expect, "{method} while {state}");
            assert_eq!(test.session.closed(), None, "{method} while {state}");
        }
    }
    for (state, make) in states.iter().skip(2) {
        for method in [Method::Play, Method::Pause, Method::Record, Method::Teardown] {
            let mut test = make();
            test.named = Some("nobody's".to_owned());
            assert_eq!(test.status(method.clone(), URL), 454, "{method} while {state}");
            test.named = None;
            assert_eq!(test.status(method.clone(), URL), 454, "{method} without a session while {state}");
        }
    }
    let mut test = Test::new();
    test.named = Some("nobody's".to_owned());
    assert_eq!(test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP").status.0, 454);
}

#[test]
fn t23_t24_t25_transports_that_cannot_be() {
    let cases = [
        ("RTP/AVP;unicast;client_port=0-0", 461),
        ("RTP/AVP;unicast;client_port=70000-70001", 461),
        ("RTP/AVP;unicast;client_port=-1--2", 461),
        ("RTP/AVP;unicast;client_port=5-4", 461),
        ("RTP/AVP;unicast;client_port=53-54", 461),
        ("RTP/AVP;unicast;destination=127.0.0.9;client_port=53-54", 461),
        ("RTP/AVP;unicast;client_port=5000-5000", 461),
        ("RTP/AVP;unicast", 461),
        ("RTP/AVP;multicast", 461),
        ("RTP/SAVP/TCP;unicast", 461),
        ("RTP/AVP/TCP;mode=record", 461),
        ("", 461),
        ("RTP/AVP;unicast;destination=127.0.0.9;client_port=5000-5001", 200),
    ];
    for (transport, expect) in cases {
        let mut test = Test::new();
        let response = test.setup(&format!("{URL}/trackID=0"), transport);
        assert_eq!(response.status.0, expect, "{transport}");
        assert!(
            !response.headers.get("Transport").unwrap_or_default().contains("destination"),
            "{transport}"
        );
        assert_eq!(test.session.closed(), None);
    }
    let mut test = Test::new();
    let (first, second) = (format!("{URL}/trackID=0"), format!("{URL}/trackID=1"));
    assert_eq!(test.setup(&first, "RTP/AVP;unicast;client_port=5000-5001").status.0, 200);
    assert_eq!(test.setup(&first, "RTP/AVP;unicast;client_port=5002-5003").status.0, 455, "twice");
    assert_eq!(test.setup(&second, "RTP/AVP;unicast;client_port=5001-5002").status.0, 461, "shared ports");
    assert_eq!(test.setup(&second, "RTP/AVP/TCP").status.0, 461, "two ways");
    assert_eq!(test.setup(&second, "RTP/AVP;unicast;client_port=5002-5003").status.0, 200, "still there");
    assert_eq!(test.setup(URL, "RTP/AVP;unicast;client_port=5004-5005").status.0, 459);
    assert_eq!(test.setup(&format!("{URL}/trackID=9"), "RTP/AVP/TCP").status.0, 404);
}

/// What ends the session, with what status and reason.
#[test]
fn t02_t03_t04_t05_t06_t07_t09_t17_t18_t20_t22_what_is_fatal() {
    use CloseReason::{Forbidden, Limit, Malformed, Unsupported};
    let announce = |sdp: String| {
        Request::new(Method::Announce, URL).with("CSeq", 1).with_body("application/sdp", sdp).to_bytes()
    };
    let media =
        |control: &str| format!("m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:{control}\r\n");
    let with = |headers: &str| Bytes::from(format!("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n{headers}\r\n\r\n"));
    let cases: Vec<(&str, Bytes, u16, CloseReason)> = vec![
        ("headers", with(&"A: b\r\n".repeat(10_000)), 400, Limit("headers")),
        ("negative length", with("Content-Length: -1"), 400, Malformed),
        ("length of 2⁶³", with("Content-Length: 9223372036854775808"), 400, Malformed),
        ("length of 2³²", with("Content-Length: 4294967295\r\n\r\nabc"), 413, Limit("body")),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2"), 400, Malformed),
        ("no number", "OPTIONS * RTSP/1.0\r\n\r\n".into(), 400, Malformed),
        ("version", "OPTIONS * RTSP/9.9\r\nCSeq: 1\r\n\r\n".into(), 505, Unsupported),
        ("HTTP", "GET /live/cam HTTP/1.1\r\nCSeq: 1\r\n\r\n".into(), 400, Malformed),
        ("media", announce("m=video 0 RTP/AVP 96\r\n".repeat(1_001)), 400, Limit("sdp_media")),
        ("payload type", announce("m=video 0 RTP/AVP 300\r\n".into()), 400, Malformed),
        ("no known format", announce("m=video 0 RTP/AVP 96\r\na=rtpmap:96 X/1\r\n".into()), 415, Unsupported),
        ("nothing", announce("v=0\r\n".into()), 415, Unsupported),
        ("control elsewhere", announce(media("rtsp://evil/live/cam")), 403, Forbidden),
        ("control above", announce(media("../../x")), 403, Forbidden),
        ("name", "DESCRIBE rtsp://h/../../etc/x RTSP/1.0\r\nCSeq: 1\r\n\r\n".into(), 403, Forbidden),
        ("URL", "DESCRIBE /live/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n".into(), 400, Malformed),
    ];
    for (what, bytes, status, reason) in cases {
        let mut test = Test::new();
        let items = test.raw(&bytes);
        let Some(Item::Response(response)) = items.first() else {
            panic!("{what}: {items:?}");
        };
        assert_eq!((response.status.0, test.session.closed()), (status, Some(reason)), "{what}");
        assert!(test.events.is_empty(), "{what}");
        assert!(test.raw(&bytes).is_empty(), "{what}: nothing more is taken");
    }
}

#[test]
fn t16_a_description_of_120_kb_is_taken() {
    let mut test = Test::new();
    let lines = format!("a=x-{}\r\n", "y".repeat(150)).repeat(740);
    let sdp = format!("{SDP}{lines}");
    assert!((115_000..128 << 10).contains(&sdp.len()), "{}", sdp.len());
    let response = test.ask(Request::new(Method::Announce, URL).with_body("application/sdp", sdp));
    assert_eq!((response.status.0, test.session.closed()), (200, None));
}

#[test]
fn t01_t10_t11_what_is_no_rtsp_is_not_answered() {
    let cases: &[(&[u8], CloseReason)] = &[
        (&[b'A'; 5_000], CloseReason::Limit("request_line")),
        (b"\x16\x03\x01", CloseReason::Malformed),
        (b"$\x00\xFF\xFF", CloseReason::Malformed),
    ];
    for (bytes, reason) in cases {
        let mut test = Test::new();
        assert_eq!(test.raw(bytes), []);
        assert_eq!(test.session.closed(), Some(*reason));
    }
}

#[test]
fn t34_frames_that_nobody_set_up_are_dropped_and_then_too_many() {
    let mut test = Test::recording("RTP/AVP/TCP");
    for _ in 0..63 {
        test.raw(b"$\x63\x00\x01x");
    }
    test.raw(b"$\x00\x00\x01x");
    assert_eq!(test.session.closed(), None);
    for _ in 0..64 {
        test.raw(b"$\x63\x00\x01x");
    }
    assert_eq!(test.session.closed(), Some(CloseReason::Malformed));
}

#[test]
fn t44_ranges_and_speeds_that_are_none() {
    let cases = [
        ("Range", "npt=-9e99", 457),
        ("Range", "npt=0-10", 200),
        ("Range", "npt=now-", 200),
        ("Range", "clock=19961108T142300Z-", 457),
        ("Range", "x", 457),
        ("Scale", "0", 400),
        ("Scale", "2.0", 200),
        ("Speed", "-1", 400),
        ("Speed", "1.0", 200),
    ];
    for (name, value, expect) in cases {
        let mut test = Test::new();
        test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP");
        let play = test.ask(Request::new(Method::Play, URL).with(name, value));
        assert_eq!(play.status.0, expect, "{name}: {value}");
    }
}

#[test]
fn options_that_are_required_are_named_as_unsupported() {
    let mut test = Test::new();
    let request = Request::new(Method::Describe, URL).with("Require", "www.onvif.org/ver20/backchannel");
    let response = test.ask(request);
    assert_eq!(response.status.0, 551);
    assert_eq!(response.headers.get("Unsupported"), Some("www.onvif.org/ver20/backchannel"));
}

#[test]
fn set_up_has_ten_seconds_in_all() {
    let mut test = Test::new();
    assert_eq!(test.after(Duration::from_millis(9_999)), None);
    assert_eq!(test.after(Duration::from_millis(1)), Some(CloseReason::Timeout(Phase::Handshake)));
    let mut test = Test::new();
    for _ in 0..9 {
        test.status(Method::Options, "*");
        assert_eq!(test.after(Duration::from_secs(1)), None);
    }
    assert_eq!(test.after(Duration::from_secs(1)), Some(CloseReason::Timeout(Phase::Command)));
}

#[test]
fn t38_who_is_sent_datagrams_keeps_the_session_alive_or_loses_it_within_a_minute() {
    let mut test = Test::new();
    test.setup(&format!("{URL}/trackID=0"), "RTP/AVP;unicast;client_port=5000-5001");
    assert_eq!(test.status(Method::Play, URL), 200);
    for _ in 0..3 {
        assert_eq!(test.after(Duration::from_secs(50)), None);
        let now = test.now();
        test.session.keep_alive(now);
        assert_eq!(test.after(Duration::from_secs(50)), None);
        assert_eq!(test.status(Method::GetParameter, URL), 200);
    }
    assert_eq!(test.after(Duration::from_secs(60)), Some(CloseReason::Timeout(Phase::Idle)));
    let mut test = Test::playing();
    assert_eq!(test.after(Duration::from_secs(3_600)), None, "whoever reads what it is sent is there");
    for transport in ["RTP/AVP/TCP", "RTP/AVP;unicast;client_port=5000-5001"] {
        let mut test = Test::recording(transport);
        assert_eq!(test.after(Duration::from_millis(9_999)), None);
        assert_eq!(
            test.after(Duration::from_millis(1)),
            Some(CloseReason::Timeout(Phase::Idle)),
            "{transport}"
        );
    }
}

#[test]
fn answers_that_are_not_taken_are_bounded_in_time_and_size() {
    let mut test = Test::playing();
    let now = test.now();
    test.session.handle_backlog(now, 100, false).unwrap();
    assert_eq!(test.after(Duration::from_secs(9)), None);
    let now = test.now();
    test.session.handle_backlog(now, 50, true).unwrap();
    assert_eq!(test.after(Duration::from_secs(9)), None);
    assert_eq!(test.after(Duration::from_secs(1)), Some(CloseReason::SlowConsumer));
    let mut test = Test::playing();
    let now = test.now();
    assert_eq!(test.session.handle_backlog(now, 1 << 20, true), Err(SessionError::SlowConsumer));
}

#[test]
fn a_thousand_requests_in_ten_seconds_are_enough() {
    let mut test = Test::playing();
    let before = test.cseq;
    for _ in before..1_000 {
        test.status(Method::Options, "*");
    }
    let request = test.request(Request::new(Method::Options, "*"));
    test.raw(&request.to_bytes());
    assert_eq!(test.session.closed(), Some(CloseReason::Limit("requests")));
}
