//! Data from server to server.

use super::*;

fn klv_track() -> Track {
    let track = Track::new(TrackId::DATA, CodecId::Klv, CodecConfig::None);
    Track { label: Some("telemetry".into()), ..track }
}

/// Two seconds of sound, and KLV of all lengths beside it.
fn sound_and_klv() -> (TrackSet, Vec<MediaFrame>) {
    let klv = |n: i64| {
        let payload = (0..n * n * 13 + 16).map(|at| (at % 251) as u8).collect::<Vec<_>>();
        MediaFrame::new(TrackId::DATA, Timestamp::from_millis(n * 50), payload.into())
    };
    let mut frames = (0..40).map(klv).chain((0..100).map(|n| sound(n * 20))).collect::<Vec<_>>();
    frames.sort_by_key(|frame| frame.dts);
    (TrackSet::new([opus(), klv_track()]), frames)
}

/// The last tracks, and the payloads of the data.
fn data_of(events: &[Published]) -> (TrackSet, Vec<Bytes>) {
    let (mut tracks, mut data) = (TrackSet::default(), Vec::new());
    for event in events {
        match event {
            Published::Media(MediaEvent::Tracks(announced)) => tracks = announced.clone(),
            Published::Media(MediaEvent::Frame(frame)) if frame.track == TrackId::DATA => {
                data.push(frame.payload.clone());
            }
            _ => {}
        }
    }
    (tracks, data)
}

fn all_of(frames: &[MediaFrame]) -> Vec<Bytes> {
    let data = frames.iter().filter(|frame| frame.track == TrackId::DATA);
    data.map(|frame| frame.payload.clone()).collect()
}

fn check(events: &[Published], frames: &[MediaFrame]) {
    let (tracks, data) = data_of(events);
    let found = tracks.iter().map(|track| (track.codec, track.label.as_deref())).collect::<Vec<_>>();
    assert_eq!(found, [(CodecId::Opus, None), (CodecId::Klv, Some("telemetry"))]);
    assert!(data == all_of(frames), "{} of {}", data.len(), all_of(frames).len());
}

#[test]
fn data_that_are_pulled_are_what_the_server_has() {
    let (tracks, frames) = sound_and_klv();
    let mut house = puller();
    house.server.choose(&tracks).unwrap();
    house.connect();
    for frame in packets(&tracks, &frames) {
        house.server.send(house.now, &frame);
        house.run(Duration::from_millis(14));
    }
    house.run(Duration::from_secs(1));
    check(&house.client_events, &frames);
}

#[test]
fn data_that_are_pushed_are_what_the_server_gets() {
    let (tracks, frames) = sound_and_klv();
    let mut house = pusher(&tracks);
    house.connect();
    for frame in packets(&tracks, &frames) {
        house.client.send(house.now, &frame);
        house.run(Duration::from_millis(14));
    }
    house.run(Duration::from_secs(1));
    check(&house.server_events, &frames);

    // Of a stream that is nothing else.
    let tracks = TrackSet::new([klv_track()]);
    let mut house = pusher(&tracks);
    house.connect();
    for frame in packets(&tracks, &frames) {
        house.client.send(house.now, &frame);
        house.run(Duration::from_millis(50));
    }
    house.run(Duration::from_secs(1));
    assert!(data_of(&house.server_events).1 == all_of(&frames));
}

#[test]
fn data_channels_are_offered_where_there_are_data_and_can_be_left_out() {
    let (tracks, _) = sound_and_klv();
    let with = Wish::publish(&tracks).unwrap();
    let without = with.clone().without_data().unwrap();
    assert!(with.has_data() && !without.has_data() && without.clone().without_data().is_none());
    let offers = |wish: &Wish| offering(wish, Instant::now()).as_str().contains("m=application");
    assert_eq!((offers(&with), offers(&without), offers(&Wish::view())), (true, false, true));
    let sound = TrackSet::new([opus()]);
    assert_eq!(Wish::publish(&sound).unwrap(), without);
    assert!(Wish::publish(&TrackSet::new([klv_track()])).unwrap().without_data().is_none());
}

#[test]
fn a_server_that_wants_no_data_is_sent_none() {
    let (tracks, frames) = sound_and_klv();
    let (now, wish) = (Instant::now(), Wish::publish(&tracks).unwrap());
    let offering = offering(&wish, now);
    let (server, text) = answer(identity(), Role::Publisher, offering.as_str(), now);
    let refused = decoded(Role::Publisher, &text.replace("m=application 9", "m=application 0"));
    let mut client = WhepSession::new(offering.answered(&refused, now).unwrap(), 9);
    let (mask, _) = client.choose(&tracks).unwrap();
    assert_eq!(mask, TrackMask::from_iter([TrackId::AUDIO]));
    let mut house = House::new(client, WhipSession::new(server, now), now);
    house.connect();
    for frame in packets(&tracks, &frames) {
        house.client.send(house.now, &frame);
        house.run(Duration::from_millis(14));
    }
    house.run(Duration::from_secs(1));
    let (tracks, data) = data_of(&house.server_events);
    assert_eq!((tracks.len(), data.len()), (1, 0));
}
