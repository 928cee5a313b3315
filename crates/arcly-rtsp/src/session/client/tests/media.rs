//! What is received, and how it goes on when something is missing, wrong, or does not come.

use super::*;

#[test]
fn f60_servers_that_do_not_answer_and_cameras_that_stall_are_given_up() {
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    let late = bench.wait(Duration::from_secs(11));
    assert_eq!(late, Err(ClientError::Timeout(Phase::Command)));
    let mut bench = Bench::playing("rtsp://h/cam");
    for n in 0..50 {
        bench.frame(2, sound(n)).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
    }
    bench.wait(Duration::from_millis(9_970)).unwrap();
    assert_eq!(bench.wait(Duration::from_millis(20)), Err(ClientError::Timeout(Phase::Idle)));
}

#[test]
fn protected_packets_are_opened_and_reports_are_protected() {
    for suite in [Suite::AesCm, Suite::AesGcm] {
        protected_with(suite);
    }
}

fn protected_with(suite: Suite) {
    let theirs = keys(7).message(0, 0x0102_0304).unwrap().of_suite(suite);
    let data = theirs.to_base64();
    let sdp = format!("v=0\r\nm=audio 0 RTP/SAVP 0\r\na=control:a\r\na=key-mgmt:mikey {data}\r\n");
    let mut bench = Bench::pull("rtsps://h/cam", Carriage::Automatic);
    bench.session = bench.session.with_keys(keys(1));
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", &sdp);
    let setup = bench.answer(Method::Setup, "Transport: RTP/SAVP/TCP;interleaved=0-1\r\n", "");
    assert!(setup.headers.get("Transport").unwrap().starts_with("RTP/SAVP/TCP"));
    let said: crate::wire::KeyMgmt = setup.headers.get("KeyMgmt").unwrap().parse().unwrap();
    assert_eq!(said.uri, "rtsps://h/cam/a");
    let ours = Message::from_base64(&said.data).unwrap();
    assert_eq!(Some(&ours.key), keys(1).key(0).map(|key| key.of_suite(suite)).as_ref());
    bench.answer(Method::Play, "", "");
    let (mut sender, mut receiver) = (Sender::new(&theirs.key), Receiver::new(&ours.key));
    for n in 0..100 {
        let packet = sender.protect(&sound(n)).unwrap();
        bench.frame(0, packet.clone()).unwrap();
        // Twice, spoilt, and in the clear: not what the server made.
        bench.frame(0, packet.clone()).unwrap();
        let mut spoilt = packet.to_vec();
        *spoilt.last_mut().unwrap() ^= 1;
        bench.frame(0, spoilt.into()).unwrap();
        bench.frame(0, sound(n)).unwrap();
        bench.wait(Duration::from_millis(100)).unwrap();
    }
    let came = bench.events.iter().filter(|event| matches!(event, ClientEvent::Media(MediaEvent::Frame(_))));
    assert_eq!(came.count(), 100);
    let reports: Vec<_> = bench
        .said()
        .into_iter()
        .filter_map(|item| match item {
            Item::Frame(frame) if frame.channel == 1 => {
                Some(receiver.unprotect_rtcp(&frame.payload).unwrap())
            }
            _ => None,
        })
        .collect();
    assert!(!reports.is_empty());
    for report in reports {
        assert!(matches!(compound(&report).next(), Some(Ok(RtcpPacket::ReceiverReport(_)))));
    }
    // Where others can read what is said nobody says a key, nor takes one.
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.session = bench.session.with_keys(keys(1));
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", &sdp);
    let setup = bench.request();
    assert_eq!(
        (setup.headers.get("KeyMgmt"), setup.headers.get("Transport").unwrap().contains("SAVP")),
        (None, false)
    );
}

/// An encoder that hangs while the microphone goes on, and silence that is none of our business.
#[test]
fn pictures_that_stall_end_a_pull_though_sound_goes_on() {
    let key = [0x10, 0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0];
    let talk = |bench: &mut Bench, seconds: u16| {
        (0..seconds * 5).try_for_each(|n| {
            bench.frame(2, sound(n))?;
            bench.wait(Duration::from_millis(200))
        })
    };
    let mut bench = Bench::playing("rtsp://h/cam");
    assert_eq!(talk(&mut bench, 30), Ok(()), "pictures never came");
    bench.frame(0, packet(96, 1, 0, 1, &key)).unwrap();
    assert_eq!(talk(&mut bench, 9), Ok(()));
    assert_eq!(talk(&mut bench, 2), Err(ClientError::Timeout(Phase::Idle)));
    assert_eq!(bench.session.closed(), Some(CloseReason::Timeout(Phase::Idle)));
    // Sound that pauses is no fault.
    let mut bench = Bench::playing("rtsp://h/cam");
    talk(&mut bench, 1).unwrap();
    for n in 0..100 {
        bench.frame(0, packet(96, n, u32::from(n) * 18_000, 1, &key)).unwrap();
        bench.wait(Duration::from_millis(200)).unwrap();
    }
}

#[test]
fn a_missed_keyframe_is_asked_for_where_the_server_listens() {
    let key = [0x10, 0x10, 0, 0, 0x9D, 1, 0x2A, 0x40, 1, 0xF0, 0];
    let mut bench = Bench::playing("rtsp://h/cam");
    bench.frame(0, packet(96, 1, 0, 1, &key)).unwrap();
    bench.wait(Duration::from_secs(2)).unwrap();
    let asked = |bench: &mut Bench| {
        let frames = bench.said().into_iter().filter_map(|item| match item {
            Item::Frame(frame) if frame.channel == 1 => Some(frame.payload),
            _ => None,
        });
        let packets = frames.flat_map(|payload| compound(&payload).map(Result::unwrap).collect::<Vec<_>>());
        packets.filter(|packet| matches!(packet, RtcpPacket::PictureLoss(loss) if loss.media == 1)).count()
    };
    let before = asked(&mut bench);
    bench.frame(0, packet(96, 3, 6_000, 1, &[0x10, 0x11, 0, 0])).unwrap();
    bench.wait(Duration::from_millis(50)).unwrap();
    assert_eq!(asked(&mut bench), 1, "a packet is missing; before it {before}");
    bench.session.request_keyframe();
    assert_eq!(asked(&mut bench), 1);
}

#[test]
fn goodbyes_of_everybody_end_the_session_unless_somebody_goes_on() {
    let goodbye = |ssrc: u32| {
        let mut out = BytesMut::new();
        RtcpPacket::Goodbye(arcly_rtp::wire::rtcp::Goodbye {
            sources: [ssrc].into_iter().collect(),
            reason: Bytes::new(),
        })
        .encode(&mut out);
        out.freeze()
    };
    let sdp = "m=audio 0 RTP/AVP 0\r\na=control:t0\r\n";
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", sdp);
    bench.answer(Method::Setup, "", "");
    bench.answer(Method::Play, "", "");
    bench.frame(0, sound(0)).unwrap();
    bench.frame(1, goodbye(2)).unwrap();
    bench.wait(Duration::from_millis(500)).unwrap();
    bench.frame(0, packet(0, 9, 0, 3, &[0; 160])).unwrap();
    bench.wait(Duration::from_millis(1_500)).unwrap();
    bench.frame(0, packet(0, 10, 160, 3, &[0; 160])).unwrap();
    bench.frame(1, goodbye(3)).unwrap();
    assert_eq!(bench.wait(Duration::from_millis(1_500)), Err(ClientError::Ended));
}

#[test]
fn f23_reports_and_timestamps_that_wrap_keep_media_in_step() {
    let sdp = "m=audio 0 RTP/AVP 0\r\na=control:t0\r\nm=audio 0 RTP/AVP 8\r\na=control:t1\r\n";
    let mut bench = Bench::pull("rtsp://h/cam", Carriage::Tcp);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", sdp);
    bench.answer(Method::Setup, "", "");
    bench.answer(Method::Setup, "", "");
    bench.answer(Method::Play, "", "");
    // Two clocks that wrap at different times, a second after their reports, and a sequence that wraps as well.
    let (first, second) = (u32::MAX - 8_000, 0x8000_0000_u32 - 16_000);
    bench.frame(1, report(1, 0, first)).unwrap();
    bench.frame(3, report(2, 0, second)).unwrap();
    for n in 0..400_u32 {
        let sequence = 65_500_u16.wrapping_add(u16::try_from(n).unwrap());
        bench.frame(0, packet(0, sequence, first.wrapping_add(n * 160), 1, &[0; 160])).unwrap();
        bench.frame(2, packet(8, sequence, second.wrapping_add(n * 160), 2, &[0; 160])).unwrap();
        bench.wait(Duration::from_millis(20)).unwrap();
    }
    let times = |track: u8| {
        let frames = bench.events.iter().filter_map(|event| match event {
            ClientEvent::Media(MediaEvent::Frame(frame)) if frame.track == TrackId::new(track).unwrap() => {
                Some(frame.pts)
            }
            _ => None,
        });
        frames.collect::<Vec<_>>()
    };
    let (first, second) = (times(0), times(1));
    assert_eq!((first.len(), &first), (400, &second), "of one moment, to the tick");
    assert!(first.windows(2).all(|pair| (pair[1] - pair[0]).to_duration() == Duration::from_millis(20)));
}

/// Ten seconds of pictures with B-frames and of sound, in datagrams over a network that loses 2 % and holds others back.
#[test]
fn f53_losses_are_repaired_or_counted_and_nothing_damaged_passes_for_whole() {
    use arcly_core::derived::Packetizer as _;
    use arcly_rtp::media::{Packetizer, interleaved};
    use arcly_testkit::media::Source;
    use arcly_testkit::net::{Conditions, DatagramLink, Link as _};

    let (tracks, sent) = (Source::h264_aac().tracks(), Source::h264_aac().seconds(10));
    let url = "rtsp://h/cam";
    let sdp = Announced::of(&url.parse().unwrap(), &tracks).unwrap().description.to_string();
    let mut bench = Bench::pull(url, Carriage::Udp);
    bench.answer(Method::Options, "", "");
    bench.answer(Method::Describe, "", &sdp);
    bench.session.set_ports(bench.clock.now(), vec![PortPair { rtp: 5_000, rtcp: 5_001 }; 2]);
    bench.answer(Method::Setup, "", "");
    bench.answer(Method::Setup, "", "");
    bench.answer(Method::Play, "", "");
    let conditions = Conditions {
        loss_per_mille: 20,
        reorder_per_mille: 50,
        held_back: Duration::from_millis(5),
        delay: Duration::from_millis(20),
        ..Conditions::default()
    };
    let mut links = [DatagramLink::new(11, conditions), DatagramLink::new(12, conditions)];
    let mut packetizer = Packetizer::new(PacketizerOptions::new(3));
    packetizer.headers(&Arc::new(tracks));
    let (began, mut packets) = (bench.clock.now(), Vec::new());
    let carry = |bench: &mut Bench, links: &mut [DatagramLink; 2], until: Instant| {
        while bench.clock.now() < until {
            bench.wait(Duration::from_millis(1)).unwrap();
            let now = bench.clock.now();
            for (medium, link) in links.iter_mut().enumerate() {
                while let Some(payload) = link.receive(now) {
                    let datagram = Datagram { medium, control: false, payload };
                    bench.session.handle_datagram(now, &datagram).unwrap();
                }
            }
        }
    };
    for frame in &sent {
        carry(&mut bench, &mut links, began + (frame.dts - Timestamp::ZERO).to_duration());
        packets.clear();
        packetizer.packetize(frame, &mut packets);
        for (channel, payload) in packets.drain(..).flat_map(|packet| interleaved(packet.bytes)) {
            links[usize::from(channel / 2)].send(bench.clock.now(), payload);
        }
    }
    // What comes last comes whole, so that losses before it are seen.
    links.iter_mut().for_each(|link| link.conditions.loss_per_mille = 0);
    let end = bench.clock.now() + Duration::from_secs(5);
    carry(&mut bench, &mut links, end);

    let got = bench.events.iter().filter_map(|event| match event {
        ClientEvent::Media(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    let got: Vec<_> = got.collect();
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let of_track = |frame: &&&arcly_core::MediaFrame| frame.track == track;
        let came: Vec<_> = got.iter().filter(of_track).collect();
        let whole: std::collections::HashSet<&Bytes> =
            sent.iter().filter(|frame| frame.track == track).map(|frame| &frame.payload).collect();
        assert!(came.iter().all(|frame| whole.contains(&frame.payload)), "{track}: never a part of a unit");
        assert!(came.windows(2).all(|pair| pair[0].dts <= pair[1].dts), "{track}");
        assert!(came.len() * 10 > sent.iter().filter(|frame| frame.track == track).count() * 8, "{track}");
    }
    let lost = |medium: usize| {
        let reports = bench.events.iter().rev().filter_map(|event| match event {
            ClientEvent::Datagram(datagram) if datagram.control && datagram.medium == medium => {
                compound(&datagram.payload).next().map(Result::unwrap)
            }
            _ => None,
        });
        reports.into_iter().find_map(|packet| match packet {
            RtcpPacket::ReceiverReport(report) => report.reports.first().map(|block| block.cumulative_lost),
            _ => None,
        })
    };
    for (medium, link) in links.iter().enumerate() {
        let expected = i32::try_from(link.lost()).unwrap();
        assert!(expected > 0, "something is lost on each way");
        let counted = lost(medium).unwrap();
        // The last packets of all may be among the lost: nobody can know of those.
        assert!((expected - 1..=expected).contains(&counted), "{medium}: {counted} of {expected}");
    }
}
