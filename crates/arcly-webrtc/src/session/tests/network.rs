//! What a bad network does to media: losses, delays that vary, a link that is too narrow.

use super::*;

/// One way; the round trip is 100 ms and a little more.
const FAR: Conditions = Conditions {
    loss_per_mille: 50,
    delay: Duration::from_millis(50),
    jitter: Duration::from_millis(10),
    duplicate_per_mille: 0,
    reorder_per_mille: 0,
    held_back: Duration::ZERO,
    mtu: 0,
};
const PICTURE: Duration = Duration::from_millis(40);

/// A VP8 frame in three packets, which all say which frame they are of.
fn write_picture(pair: &mut Pair<WhipSession>, payload_type: u8, n: u32, is_key: bool) {
    for part in 0..3_u32 {
        let mut payload = if part == 0 { vp8(is_key, 0) } else { vec![0x00] };
        payload.extend(n.to_be_bytes().repeat(200));
        let (sequence, now) = (u64::from(n * 3 + part), pair.now);
        let mut api = pair.client.direct_api();
        let stream = api.stream_tx_by_mid(pair.mids[0], None).unwrap();
        let write = RtpWrite::new(payload_type.into(), sequence.into(), n * 3_600, now, payload);
        stream.write_rtp(write.marker(part == 2).nackable(true));
        pair.client.handle_input(Input::Timeout(now)).unwrap();
        pair.drain();
    }
}

#[test]
fn a_publisher_far_away_loses_five_in_a_hundred_and_its_pictures_go_on() {
    let mut pair = publisher(&[MediaKind::Video]);
    pair.connect();
    (pair.to_session.conditions, pair.to_client.conditions) = (FAR, FAR);
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    let (count, mut asked) = (750_u32, 0);
    for n in 0..count {
        let is_key = n == 0 || core::mem::replace(&mut asked, pair.keyframes_asked) != pair.keyframes_asked;
        write_picture(&mut pair, payload_type, n, is_key);
        pair.run(PICTURE);
    }
    pair.run(Duration::from_secs(2));
    let frames = pair.events.iter().filter_map(|event| match event {
        Published::Media(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    let (mut whole, mut corrupt) = (0, 0);
    for frame in frames {
        // Of a frame all parts are there, and of the same frame: 800 bytes of its number in each.
        let body = &frame.payload[if frame.is_keyframe() { 30 } else { 23 }..];
        assert_eq!(body.len(), 2_400, "a hole");
        let number = &body[..4];
        assert!(body.chunks(4).all(|chunk| chunk == number), "parts of two frames in one");
        *(if frame.flags.contains(FrameFlags::CORRUPT) { &mut corrupt } else { &mut whole }) += 1;
    }
    assert!(whole > count * 85 / 100 && corrupt < count / 10, "{whole} whole, {corrupt} behind a loss");
    let stats = pair.session.stats();
    assert!(stats.repairs_received > 30 && stats.nacks_sent > 20, "{stats:?}");
    assert!(pair.to_session.lost() > 60);
    assert!(pair.keyframes_asked <= 2 * 33 && stats.keyframe_requests_sent >= pair.keyframes_asked as u64);
}

#[test]
fn a_viewer_far_away_loses_five_in_a_hundred_and_gets_them_again() {
    let (track, _) = h264_track();
    let tracks = TrackSet::new([track]);
    let mut pair = viewer(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    let frames = packets(&tracks, &in_order(3_000, 10));
    for frame in &frames {
        pair.session.send(pair.now, frame);
        pair.run(PICTURE);
        // From the second picture on: what is overtaken by the first packet that a receiver sees is none of its stream.
        (pair.to_session.conditions, pair.to_client.conditions) = (FAR, FAR);
    }
    pair.run(Duration::from_secs(3));
    let count = frames.iter().map(|frame| frame.packets.len()).sum::<usize>();
    let stats = pair.session.stats();
    assert_eq!(pair.packets.len(), count, "{stats:?}");
    assert!(stats.repairs_sent > 10 && stats.nacks_received > 5, "{stats:?}");
    assert!(stats.packets_sent as usize >= count && stats.frames_thinned == 0, "{stats:?}");
    let rtt = stats.rtt.unwrap().as_millis();
    assert!((80..=250).contains(&rtt), "{rtt} ms");
    assert!(stats.estimate_bps.is_some() && stats.loss.is_some());
}

#[test]
fn a_link_that_is_too_narrow_gets_fewer_pictures_and_no_queue() {
    let (track, _) = h264_track();
    let tracks = TrackSet::new([track]);
    let mut pair = viewer(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    // 1.2 Mbit/s over a link of half of that, and then of many times as much.
    pair.bottleneck = Some((600_000, pair.now));
    let frames = packets(&tracks, &in_order(6_000, 60));
    let (narrow, wide) = frames.split_at(frames.len() / 2);
    let (mut longest, mut sent) = (0, 0);
    for (n, frame) in narrow.iter().enumerate() {
        pair.session.send(pair.now, frame);
        pair.run(PICTURE);
        let stats = pair.session.stats();
        // The first seconds are for finding out.
        if n > narrow.len() / 3 {
            longest = longest.max(stats.queued_bytes);
        }
        sent += 1;
    }
    let stats = pair.session.stats();
    let estimate = stats.estimate_bps.unwrap();
    assert!((100_000..1_200_000).contains(&estimate), "{stats:?}");
    assert!(stats.frames_thinned > sent / 5, "{stats:?}");
    assert!(longest < 150_000, "two seconds of the link at most: {longest} bytes");
    pair.bottleneck = Some((20_000_000, pair.now));
    let (first, last) = wide.split_at(wide.len() * 2 / 3);
    for part in [first, last] {
        let before = pair.session.stats().frames_thinned;
        for frame in part {
            pair.session.send(pair.now, frame);
            pair.run(PICTURE);
        }
        if part.len() == last.len() {
            let stats = pair.session.stats();
            assert_eq!(stats.frames_thinned, before, "it has recovered: {stats:?}");
        }
    }
    let sequences =
        pair.packets.iter().map(|packet| *packet.seq_no).collect::<std::collections::BTreeSet<_>>();
    let span = sequences.last().unwrap() - sequences.first().unwrap() + 1;
    assert!(sequences.len() as u64 > span * 9 / 10, "what was left out leaves no hole in the numbers");
}

#[test]
fn w26_repairs_for_a_link_that_loses_most_cost_half_of_the_media_at_most() {
    let (track, _) = h264_track();
    let tracks = TrackSet::new([track]);
    let mut pair = viewer(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    pair.to_client.conditions.loss_per_mille = 600;
    let frames = packets(&tracks, &in_order(3_000, 10));
    for frame in &frames {
        pair.session.send(pair.now, frame);
        pair.run(PICTURE);
    }
    let stats = pair.session.stats();
    let first = stats.packets_sent - stats.repairs_sent;
    assert!(stats.repairs_sent > 0 && stats.nacks_received > 0, "{stats:?}");
    assert!(stats.repairs_sent <= first / 2 + super::super::REPAIR_BURST / 1_000, "{stats:?}");
}
