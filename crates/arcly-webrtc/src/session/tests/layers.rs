//! Simulcast: a publisher's layers become tracks, and a viewer is sent the one that its link carries.

use str0m::media::{Simulcast, SimulcastLayer};

use super::super::LAYER_LABEL;
use super::*;

const LAYERS: [&str; 3] = ["q", "h", "f"];

/// A publisher of one medium in three layers.
fn simulcast() -> Pair<WhipSession> {
    let now = Instant::now();
    let mut client = Rtc::builder().set_rtp_mode(true).build(now);
    client.add_local_candidate(Candidate::host(at(CLIENT), "udp").unwrap());
    let mut layers = Simulcast::new();
    LAYERS.iter().for_each(|name| layers.add_send_layer(SimulcastLayer::new(name)));
    let mut api = client.sdp_api();
    let mid = api.add_media(MediaKind::Video, Direction::SendOnly, None, None, Some(layers));
    let (offer, pending) = api.apply().unwrap();
    let (transport, answer) = answer(Role::Publisher, &offer.to_sdp_string(), now);
    assert_eq!(transport.media()[0].layers, LAYERS);
    client.sdp_api().accept_answer(pending, SdpAnswer::from_sdp_string(&answer).unwrap()).unwrap();
    let mut pair = publisher(&[MediaKind::Video]);
    (pair.client, pair.mids, pair.session) = (client, vec![mid], WhipSession::new(transport, now));
    (pair.now, pair.wakes) = (now, [now; 2]);
    pair
}

fn write_layer(pair: &mut Pair<WhipSession>, name: &str, (sequence, time): (u64, u32), payload: &[u8]) {
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    let mut api = pair.client.direct_api();
    let stream = api.stream_tx_by_mid(pair.mids[0], Some(Rid::from(name))).unwrap();
    let write = RtpWrite::new(payload_type.into(), sequence.into(), time, pair.now, payload);
    stream.write_rtp(write.marker(true).nackable(true));
    pair.client.handle_input(Input::Timeout(pair.now)).unwrap();
    pair.drain();
}

#[test]
fn each_layer_becomes_a_track_and_the_best_is_the_first() {
    let mut pair = simulcast();
    pair.connect();
    for n in 0..50_u32 {
        for (place, name) in LAYERS.into_iter().enumerate() {
            let fill = u8::try_from(place).unwrap();
            write_layer(&mut pair, name, (n.into(), 1_000 + n * 3_600), &vp8(n == 0, fill));
        }
        pair.run(Duration::from_millis(40));
    }
    pair.run(Duration::from_secs(2));
    let mut tracks = None;
    let mut fills = [const { Vec::new() }; 3];
    for event in &pair.events {
        match event {
            Published::Media(MediaEvent::Tracks(set)) => tracks = Some(set.clone()),
            Published::Media(MediaEvent::Frame(frame)) => {
                let tracks = tracks.as_ref().unwrap();
                let place = tracks.iter().position(|track| track.id == frame.track).unwrap();
                fills[place].push(*frame.payload.last().unwrap());
            }
            _ => {}
        }
    }
    let tracks = tracks.unwrap();
    let labels: Vec<_> = tracks.iter().map(|track| track.label.as_deref().unwrap().to_owned()).collect();
    assert_eq!(labels, ["f", "h", "q"].map(|name| format!("{LAYER_LABEL}{name}")));
    assert_eq!(tracks.iter().next().unwrap().id, TrackId::VIDEO);
    assert_eq!(fills, [vec![2; 50], vec![1; 50], vec![0; 50]]);
    // Each layer is asked for its keyframe, and none more than twice in a second, whoever wants them how often.
    let before = pair.keyframes_asked;
    for _ in 0..3_000 {
        pair.session.request_keyframes(pair.now, TrackMask::ALL);
        pair.run(Duration::from_millis(1));
    }
    pair.run(Duration::from_secs(1));
    let asked = pair.keyframes_asked - before;
    assert!((3 * 3..=3 * 7).contains(&asked), "w25: {asked}");
    // And of one layer when it is that one that somebody needs.
    for (track, name) in tracks.iter().zip(["f", "h", "q"]) {
        pair.layers_asked.clear();
        pair.session.request_keyframes(pair.now, TrackMask::from_iter([track.id]));
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.layers_asked, [Rid::from(name)]);
    }
    pair.session.request_keyframes(pair.now, TrackMask::from_iter([TrackId::AUDIO]));
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.layers_asked.len(), 1, "it has no such track");
}

#[test]
fn a_viewer_is_sent_the_layer_that_its_link_carries() {
    let (track, _) = h264_track();
    let low = TrackId::new(3).unwrap();
    let label =
        |track: Track, name: &str| Track { label: Some(format!("{LAYER_LABEL}{name}").into()), ..track };
    let tracks = TrackSet::new([label(track.clone(), "f"), label(Track { id: low, ..track }, "q")]);
    // 2 Mbit/s and 300 kbit/s, a keyframe now and then in both.
    let lows = in_order(1_500, 90).into_iter().map(|frame| MediaFrame { track: low, ..frame });
    let frames: Vec<_> =
        in_order(10_000, 90).into_iter().zip(lows).flat_map(|(high, low)| [high, low]).collect();
    let frames = packets(&tracks, &frames);
    let mut pair = viewer(&[MediaKind::Video]);
    let (mask, _) = pair.session.choose(&tracks).unwrap();
    assert_eq!(mask.iter().collect::<Vec<_>>(), [TrackId::VIDEO, low]);
    pair.connect();
    let part = frames.len() / 3;
    assert_eq!(pair.session.stats().layer, None, "nothing is sent yet");
    let (mut rates, mut sent) = (Vec::new(), Vec::new());
    for (place, bps) in [20_000_000, 700_000, 20_000_000].into_iter().enumerate() {
        pair.bottleneck = Some((bps, pair.now));
        let (mut before, from) = (0, pair.now);
        for (n, pictures) in frames[place * part..][..part].chunks(2).enumerate() {
            pictures.iter().for_each(|picture| pair.session.send(pair.now, picture));
            pair.run(Duration::from_millis(40));
            // The second half of each third is when it has settled.
            if n == part / 4 {
                before = pair.packets.iter().map(|packet| packet.payload.len()).sum();
            }
        }
        let bytes = pair.packets.iter().map(|packet| packet.payload.len()).sum::<usize>() - before;
        rates.push(bytes as f64 * 8.0 / ((pair.now - from).as_secs_f64() / 2.0));
        sent.push(pair.session.stats().layer.unwrap().track);
    }
    assert_eq!(sent, [TrackId::VIDEO, low, TrackId::VIDEO]);
    let [first, narrow, last] = rates[..] else { panic!("{rates:?}") };
    assert!(first > 1_500_000.0 && narrow < 700_000.0 && last > 1_000_000.0, "{rates:?}");
    let stats = pair.session.stats();
    assert!(stats.layer_switches >= 2, "{stats:?}");
    let asked: Vec<_> = pair
        .events
        .iter()
        .filter_map(|event| match event {
            Viewed::KeyframeRequest(tracks) => Some(*tracks),
            _ => None,
        })
        .collect();
    let of = |track| TrackMask::from_iter([track]);
    assert!(
        asked.contains(&of(low))
            && asked.iter().all(|tracks| *tracks == of(low) || *tracks == of(TrackId::VIDEO))
    );
    // To the viewer it is one stream: no number and no timestamp says that it is not.
    let mut times = std::collections::BTreeMap::new();
    for packet in &pair.packets {
        let time = times.entry(*packet.seq_no).or_insert(packet.time.numer());
        assert_eq!(*time, packet.time.numer());
    }
    assert!(times.values().collect::<Vec<_>>().is_sorted());
}
