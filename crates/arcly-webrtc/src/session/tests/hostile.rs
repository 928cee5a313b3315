//! Rows of the catalogue of bad inputs from peers that have got in, or try to.

use super::*;

/// A DTLS handshake record that holds `fragment` of a message that claims to have `total` bytes.
fn handshake(sequence: u8, message: u16, total: u32, (offset, fragment): (u32, &[u8])) -> Vec<u8> {
    let u24 = |n: usize| u32::try_from(n).unwrap().to_be_bytes()[1..].to_vec();
    let mut record = vec![22, 254, 253, 0, 0, 0, 0, 0, 0, 0, sequence];
    record.extend(u16::try_from(12 + fragment.len()).unwrap().to_be_bytes());
    record.push(1);
    record.extend(&total.to_be_bytes()[1..]);
    record.extend(message.to_be_bytes());
    record.extend(&offset.to_be_bytes()[1..]);
    record.extend(u24(fragment.len()));
    record.extend(fragment);
    record
}

/// Everything that is not right, from where a check has come from.
fn bad_dtls() -> Vec<Vec<u8>> {
    let mut all = vec![
        // Fragments without bytes, a length without end, messages with gaps between them, a decoy.
        handshake(1, 0, 100, (0, &[])),
        handshake(2, 0, (1 << 24) - 1, (0, &[0; 100])),
        handshake(3, 9, 100, (0, &[0; 100])),
        handshake(4, 1, 100, (50, &[0; 50])),
        handshake(5, 0, 10, (90, &[0; 50])),
    ];
    // ApplicationData that was never encrypted, longer than a record may be.
    let mut data = vec![23, 254, 253, 0, 0, 0, 0, 0, 0, 0, 1];
    data.extend(20_000_u16.to_be_bytes());
    data.extend([7; 20_000]);
    all.push(data);
    all.push(vec![22; 14]);
    all
}

/// True when a viewer connects while those come again and again from its own address, as only somebody can send them who is on the way.
fn connects_beside(mut pair: Pair<WhepSession>, bad: &[Vec<u8>]) -> bool {
    let end = pair.now + Duration::from_secs(8);
    while !(pair.client.is_connected() && pair.session.transport().is_connected()) {
        if pair.now >= end || pair.session.closed().is_some() {
            return false;
        }
        for datagram in bad {
            pair.session.handle_datagram(pair.now, udp(CLIENT), datagram);
            pair.drain();
        }
        pair.run(Duration::from_millis(50));
    }
    for datagram in bad.iter().cycle().take(200) {
        pair.session.handle_datagram(pair.now, udp(CLIENT), datagram);
        pair.drain();
    }
    pair.run(Duration::from_secs(1));
    pair.session.closed().is_none()
}

#[test]
fn w20_w21_dtls_that_is_none_does_not_keep_a_peer_from_connecting() {
    assert!(connects_beside(viewer(&[MediaKind::Video]), &bad_dtls()));
    assert!(connects_beside(data::viewer_with(&[MediaKind::Video]), &bad_dtls()));
}

#[test]
fn w24_reports_that_lie_change_nothing() {
    let (track, frames) = h264_track();
    let tracks = TrackSet::new([track]);
    let mut pair = viewer(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    let frames = packets(&tracks, &frames);
    // REMB of 255 sources that are not there, of none, of bits without end; and what is no REMB at all.
    let lies: [&[u8]; 5] = [
        b"REMB\xFF\xFF\xFF\xFF",
        b"REMB\x00\x00\x00\x00",
        b"REMB\xFF\x03\xFF\xFF\0\0\0\x01",
        b"REM",
        &[0xFF; 1_000],
    ];
    for (frame, lie) in frames.iter().zip(lies.iter().cycle()) {
        pair.client.direct_api().send_app_specific_feedback(1.into(), 2.into(), lie.to_vec());
        pair.client.handle_input(Input::Timeout(pair.now)).unwrap();
        pair.session.send(pair.now, frame);
        pair.run(Duration::from_millis(20));
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.session.closed(), None);
    assert_eq!(pair.packets.len(), frames.iter().map(|frame| frame.packets.len()).sum::<usize>());
}

#[test]
fn w28_data_channels_that_nobody_has_agreed_on_are_nothing() {
    let mut pair = publisher(&[MediaKind::Video]);
    pair.connect();
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    pair.client.direct_api().start_sctp(true);
    for n in 0..1_000 {
        let config = ChannelConfig { label: format!("{n}"), ..Default::default() };
        pair.client.direct_api().create_data_channel(config);
    }
    let before = pair.events.len();
    for n in 0..100_u32 {
        pair.write(0, payload_type, (n.into(), n * 3_600), &vp8(n == 0, 7));
        pair.run(Duration::from_millis(40));
    }
    assert_eq!(pair.session.closed(), None);
    let frames = pair.events[before..].iter();
    let frames = frames.filter(|event| matches!(event, Published::Media(MediaEvent::Frame(_)))).count();
    assert!(frames > 90, "{frames} of 100 frames come through");
    assert!(pair.session.transport().dropped() > 0, "what is about data channels is not looked at");
}

#[test]
fn w29_payloads_that_lie_are_dropped_and_the_next_keyframe_is_as_ever() {
    let cases: [(CodecId, &[&[u8]]); 3] = [
        (
            CodecId::H264,
            &[
                &[24],
                &[24, 0xFF, 0xFF],
                &[24, 0, 0],
                &[24, 0, 5, 0x61, 0x62],
                &[0x7C],
                &[0x7C, 0xC5],
                &[0x7C, 0x05, 1, 2],
                &[29, 1],
                &[30],
                &[0],
                &[],
                &[24, 0, 1, 0x65, 0, 1, 0x65, 0, 1, 0x65, 0, 1, 0x65, 0, 0, 0, 0],
            ],
        ),
        (
            CodecId::Vp8,
            &[
                &[],
                &[0x80],
                &[0x80, 0xF0],
                &[0x80, 0xF0, 0x80],
                &[0x17],
                &[0x10, 0xFF, 0xFF, 0xFF],
                &[0x10, 0],
            ],
        ),
        (
            CodecId::Av1,
            &[
                &[],
                &[0x10],
                &[0x30, 0xFF, 0xFF],
                &[0x08, 0x0A, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
                &[0xC0, 1],
                &[0x00, 0x7F, 1],
            ],
        ),
    ];
    for (codec, payloads) in cases {
        let mut pair = publisher(&[MediaKind::Video]);
        pair.connect();
        let payload_type = pair.payload_type(0, codec);
        let bombs = payloads.iter().cycle().take(1_000);
        for (n, payload) in (0_u32..).zip(bombs) {
            pair.write(0, payload_type, (n.into(), n * 3_600), payload);
            pair.run(Duration::from_millis(5));
        }
        assert_eq!(pair.session.closed(), None, "{codec}");
        let counters = pair.session.counters(0, 0).unwrap();
        let bad = counters.bad_payloads + counters.bad_units + counters.damaged + counters.before_keyframe;
        assert!(bad > 100, "{codec}: {counters:?}");
        // And then as if nothing had been.
        let good = pair.payload_type(0, CodecId::Vp8);
        let before = pair.events.len();
        for n in 1_000..1_050_u32 {
            pair.write(0, good, (n.into(), n * 3_600), &vp8(n % 10 == 0, 7));
            pair.run(Duration::from_millis(40));
        }
        pair.run(Duration::from_secs(2));
        let frames = pair.events[before..].iter();
        let frames = frames.filter(|event| matches!(event, Published::Media(MediaEvent::Frame(_)))).count();
        assert!(frames >= 40, "{codec}: {frames} of 50 frames");
    }
}

#[test]
fn what_nobody_has_shown_a_password_for_is_answered_with_nothing_and_a_check_with_less_than_it_is() {
    let mut pair = viewer(&[MediaKind::Video]);
    let (source, check) = checks_of(&mut pair.client, pair.now, 1).remove(0);
    let (now, transport) = (pair.now + Duration::from_millis(1), pair.session.transport_mut());
    let mut rng = arcly_testkit::rng::Rng::new(7);
    for n in 0..2_000_u16 {
        let stranger = TransportAddress::udp(SocketAddr::new([203, 0, 113, 9].into(), n.max(1)));
        let mut datagram = rng.bytes(1 + usize::from(n % 1_200));
        datagram[0] = [0, 1, 22, 23, 63, 0x80, 0xBF][usize::from(n) % 7];
        transport.handle_datagram(now, stranger, &datagram);
        // Its own check with something changed: the password does not fit any more.
        let mut changed = check.clone();
        let at = usize::from(n) % changed.len();
        changed[at] ^= 0x10;
        transport.handle_datagram(now, stranger, &changed);
    }
    assert_eq!((transmitted(transport), transport.sources().len()), (0, 0));
    assert_eq!(transport.dropped(), 4_000);
    transport.handle_datagram(now, TransportAddress::udp(source), &check);
    let mut answered = 0;
    loop {
        match transport.poll_output() {
            Output::Transmit { to, datagram } => {
                assert_eq!(to.socket, source);
                answered += datagram.len();
            }
            Output::Event(_) => {}
            Output::Wait(_) => break,
        }
    }
    assert!(answered > 0 && answered <= check.len(), "{answered} bytes for {}", check.len());
}
