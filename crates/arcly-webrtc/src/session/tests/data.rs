//! Data tracks over data channels, and what a peer may do with them.

use arcly_core::{FourCc, TrackKind};
use str0m::channel::Reliability;

use super::*;
use crate::session::{
    DATA_WAIT, MAX_CHANNELS, MAX_LABEL_BYTES, MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_SECOND, MAX_WAITING_BYTES,
    MESSAGE_LIFETIME,
};

fn channel(label: &str, protocol: &str) -> ChannelConfig {
    ChannelConfig { label: label.to_owned(), protocol: protocol.to_owned(), ..ChannelConfig::default() }
}

fn pair<S: Session>(
    role: Role,
    kinds: &[MediaKind],
    channels: &[ChannelConfig],
    session: impl FnOnce(Transport, Instant) -> S,
) -> Pair<S> {
    let now = Instant::now();
    let direction = if role == Role::Publisher { Direction::SendOnly } else { Direction::RecvOnly };
    let mut client = Rtc::builder().set_rtp_mode(true).build(now);
    client.add_local_candidate(Candidate::host(at(CLIENT), "udp").unwrap()).unwrap();
    let offered = offer_of(client, kinds, direction, channels);
    Pair::answered(Protocol::Udp, role, offered, session, now)
}

fn publisher_with(kinds: &[MediaKind], channels: &[ChannelConfig]) -> Pair<WhipSession> {
    pair(Role::Publisher, kinds, channels, WhipSession::new)
}

pub(super) fn viewer_with(kinds: &[MediaKind]) -> Pair<WhepSession> {
    pair(Role::Viewer, kinds, &[channel("", "")], |transport, _| WhepSession::new(transport, 7))
}

impl<S: Session> Pair<S> {
    /// The client sends a message over a channel.
    fn tell(&mut self, at: usize, message: &[u8]) -> bool {
        let id = self.opened[at];
        let told = self.client.channel(id).is_some_and(|mut channel| channel.write(true, message).unwrap());
        self.client.handle_input(Input::Timeout(self.now)).unwrap();
        self.drain();
        told
    }

    /// What has come to the client over the channel of that label.
    fn told(&mut self, label: &str) -> Vec<Vec<u8>> {
        let messages = core::mem::take(&mut self.messages);
        let is_it = |client: &mut Rtc, id| client.channel(id).unwrap().config().unwrap().label == label;
        let told = messages.iter().filter(|(id, _)| is_it(&mut self.client, *id));
        let told = told.map(|(_, message)| message.clone()).collect();
        self.messages = messages;
        told
    }
}

/// The last tracks, and the frames of one.
fn published(events: &[Published], track: TrackId) -> (TrackSet, Vec<MediaFrame>) {
    let (mut tracks, mut frames) = (TrackSet::default(), Vec::new());
    for event in events {
        match event {
            Published::Media(MediaEvent::Tracks(announced)) => tracks = announced.clone(),
            Published::Media(MediaEvent::Frame(frame)) => {
                assert!(tracks.get(frame.track).is_some(), "a frame of a track that nobody knows");
                if frame.track == track {
                    frames.push(frame.clone());
                }
            }
            _ => {}
        }
    }
    (tracks, frames)
}

fn data_track(codec: CodecId, label: Option<&str>) -> Track {
    let mut track = Track::new(TrackId::DATA, codec, CodecConfig::None);
    track.label = label.map(Into::into);
    track
}

fn klv(ms: i64, payload: &[u8]) -> MediaFrame {
    MediaFrame::new(TrackId::DATA, Timestamp::from_millis(ms), Bytes::copy_from_slice(payload))
}

#[test]
fn a_publishers_channels_are_tracks_and_their_messages_frames_of_when_they_came() {
    let mut pair = publisher_with(&[MediaKind::Video], &[channel("telemetry", "klv"), channel("", "json")]);
    pair.connect();
    assert_eq!(pair.opened.len(), 2);
    let vp8_type = pair.payload_type(0, CodecId::Vp8);
    // What comes before the first picture waits for it, and is no earlier than that.
    assert!(pair.tell(0, b"early"));
    pair.run(Duration::from_millis(200));
    assert_eq!(published(&pair.events, TrackId::DATA).0, TrackSet::default());
    for n in 0..50_u32 {
        pair.write(0, vp8_type, (n.into(), 1_000 + n * 3_600), &vp8(n == 0, 7));
        assert!(pair.tell(0, format!("at {n}").as_bytes()));
        pair.run(Duration::from_millis(40));
    }
    assert!(pair.tell(1, b"{}"));
    pair.run(Duration::from_secs(1));
    let (tracks, data) = published(&pair.events, TrackId::DATA);
    let found = tracks.iter().map(|track| (track.codec, track.label.as_deref())).collect::<Vec<_>>();
    let json = CodecId::Other(TrackKind::Data, FourCc(*b"json"));
    assert_eq!(found, [(CodecId::Vp8, None), (CodecId::Klv, Some("telemetry")), (json, None)]);
    let (_, pictures) = published(&pair.events, TrackId::VIDEO);
    assert_eq!((pictures.len(), data.len()), (50, 51));
    assert_eq!((&data[0].payload[..], data[0].dts), (&b"early"[..], Timestamp::ZERO));
    for (n, (picture, data)) in pictures.iter().zip(&data[1..]).enumerate() {
        assert_eq!(data.payload, format!("at {n}"));
        let apart = (data.dts - picture.dts).abs().to_duration();
        assert!(apart <= Duration::from_millis(5), "{apart:?} from picture {n}");
    }
    let third = tracks.iter().last().unwrap().id;
    assert_eq!(published(&pair.events, third).1.len(), 1);
    assert_eq!((pair.session.stats().messages_received, pair.session.stats().messages_dropped), (52, 0));
}

#[test]
fn a_publisher_of_nothing_but_data_is_a_stream_and_pictures_that_come_later_go_on_from_there() {
    let mut pair = publisher_with(&[], &[channel("klv", "")]);
    assert!(pair.session.can_receive());
    pair.connect();
    for n in 0..10_u8 {
        assert!(pair.tell(0, &[n]));
        pair.run(Duration::from_millis(100));
    }
    let (tracks, data) = published(&pair.events, TrackId::DATA);
    assert_eq!(tracks.iter().map(|track| track.codec).collect::<Vec<_>>(), [CodecId::Klv]);
    let times = data.iter().map(|frame| (frame.dts - Timestamp::ZERO).to_duration().as_millis());
    assert!(times.zip(0..).all(|(ms, n)| ms == n * 100), "{data:?}");

    // One who has agreed on pictures, and turns the camera on after eleven seconds.
    let mut pair = publisher_with(&[MediaKind::Video], &[channel("klv", "")]);
    pair.connect();
    assert!(pair.tell(0, b"first"));
    pair.run(DATA_WAIT + Duration::from_secs(8));
    assert_eq!(published(&pair.events, TrackId::DATA).1.len(), 1);
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    for n in 0..25_u32 {
        pair.write(0, payload_type, (n.into(), n * 3_600), &vp8(n == 0, 7));
        assert!(pair.tell(0, b"again"));
        pair.run(Duration::from_millis(40));
    }
    let (tracks, data) = published(&pair.events, TrackId::DATA);
    let (_, pictures) = published(&pair.events, TrackId::VIDEO);
    assert_eq!((tracks.len(), data.len(), pictures.len()), (2, 26, 25));
    assert!(data.windows(2).all(|pair| pair[0].dts <= pair[1].dts));
    assert_eq!(data[0].dts, Timestamp::ZERO);
    let begun = (pictures[0].dts - data[0].dts).to_duration();
    assert!((10_900..11_100).contains(&begun.as_millis()), "{begun:?}");
    assert!((data[25].dts - pictures[24].dts).abs().to_duration() <= Duration::from_millis(5));
}

#[test]
fn a_viewer_is_sent_the_last_of_before_it_came_and_all_of_since() {
    // What was there before it came is there at once, and mostly before any channel can be.
    for is_late in [false, true] {
        is_sent_the_last_and_all_since(is_late);
    }
}

fn is_sent_the_last_and_all_since(is_late: bool) {
    let (video, pictures) = h264_track();
    let tracks = TrackSet::new([video, data_track(CodecId::Klv, Some("telemetry"))]);
    let mut pair = viewer_with(&[MediaKind::Video]);
    let (mask, _) = pair.session.choose(&tracks).unwrap();
    assert_eq!(mask.iter().count(), 2);
    if is_late {
        pair.connect();
        pair.run(Duration::from_secs(1));
    }
    while !pair.session.transport().is_connected() {
        pair.run(Duration::from_millis(1));
    }
    assert_eq!(pair.opened.len(), if is_late { 2 } else { 0 });
    pair.session.join(pair.now, Some(Timestamp::from_millis(1_900)));
    let old = (0..10).map(|n| klv(n * 100, &[n as u8; 40]));
    let mut before = old.chain(pictures).collect::<Vec<_>>();
    before.sort_by_key(|frame| frame.dts);
    for frame in packets(&tracks, &before) {
        pair.session.send(pair.now, &frame);
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.told("telemetry"), [[9; 40]]);
    let configs =
        pair.opened.clone().into_iter().map(|id| pair.client.channel(id).unwrap().config().unwrap().clone());
    let config = configs.into_iter().find(|config| config.label == "telemetry").unwrap();
    let lifetime = u16::try_from(MESSAGE_LIFETIME.as_millis()).unwrap();
    assert_eq!((config.protocol.as_str(), config.ordered), ("klv", true));
    assert_eq!(config.reliability, Reliability::MaxPacketLifetime { lifetime });

    let longest = vec![7; MAX_MESSAGE_BYTES];
    let live = [
        klv(2_000, b"one"),
        klv(2_100, &longest),
        klv(2_200, &[&longest[..], &[7]].concat()),
        klv(2_300, b"four"),
    ];
    for frame in packets(&tracks, &live) {
        pair.session.send(pair.now, &frame);
        pair.run(Duration::from_millis(500));
    }
    assert_eq!(pair.told("telemetry")[1..], [b"one".to_vec(), longest, b"four".to_vec()]);
    let stats = pair.session.stats();
    assert_eq!((stats.messages_sent, stats.messages_dropped), (4, 1), "one was too long");
}

#[test]
fn a_viewer_without_data_channels_is_sent_none_and_a_stream_may_be_nothing_but_data() {
    let (video, _) = h264_track();
    let klv_track = data_track(CodecId::Klv, None);
    let both = TrackSet::new([video, klv_track.clone()]);
    let mut plain = viewer(&[MediaKind::Video]);
    assert_eq!(plain.session.choose(&both).unwrap().0.iter().count(), 1);

    let tracks = TrackSet::new([klv_track]);
    let mut pair = viewer_with(&[]);
    assert_eq!(pair.session.choose(&tracks).unwrap().0.iter().count(), 1);
    pair.connect();
    for frame in packets(&tracks, &[klv(0, b"x")]) {
        pair.session.send(pair.now, &frame);
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.told("klv"), [b"x"]);
}

#[test]
fn tracks_that_change_open_and_close_channels() {
    let mut pair = viewer_with(&[MediaKind::Video]);
    let (video, _) = h264_track();
    let set = |labels: &[&str]| {
        let data = labels.iter().zip(2..).map(|(label, id)| {
            let track = data_track(CodecId::Klv, Some(label));
            Track { id: TrackId::new(id).unwrap(), ..track }
        });
        TrackSet::new(core::iter::once(video.clone()).chain(data))
    };
    pair.session.choose(&set(&["a", "b"])).unwrap();
    pair.connect();
    assert_eq!(pair.opened.len(), 3, "the client's own, and two");
    pair.session.choose(&set(&["a", "c"])).unwrap();
    pair.run(Duration::from_secs(1));
    assert_eq!((pair.opened.len(), pair.closed.len()), (4, 1));
    assert!(pair.told("c").is_empty());
    for frame in packets(&set(&["a", "c"]), &[klv(0, b"still")]) {
        pair.session.send(pair.now, &frame);
    }
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.told("a"), [b"still"], "as it was");
    // More tracks than there are channels.
    let names = (0..40).map(|n| n.to_string()).collect::<Vec<_>>();
    let names = names.iter().map(String::as_str).collect::<Vec<_>>();
    let (mask, _) = pair.session.choose(&set(&names)).unwrap();
    assert_eq!(mask.iter().count(), 1 + MAX_CHANNELS);
}

#[test]
fn data_for_a_viewer_that_is_slow_are_dropped_and_do_not_pile_up() {
    let tracks = TrackSet::new([data_track(CodecId::Klv, None)]);
    let mut pair = viewer_with(&[]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    // Two megabits for a link of a tenth of that, whose queue is full most of the time.
    pair.bottleneck = Some((200_000, pair.now));
    for n in 0..500_u16 {
        let message = [&n.to_be_bytes()[..], &[7; 4_998]].concat();
        for frame in packets(&tracks, &[klv(i64::from(n) * 20, &message)]) {
            pair.session.send(pair.now, &frame);
        }
        pair.run(Duration::from_millis(20));
    }
    let stats = pair.session.stats();
    assert_eq!(stats.messages_sent + stats.messages_dropped, 500);
    assert!(stats.messages_dropped > 300, "{stats:?}");
    pair.run(Duration::from_secs(5));
    let told = pair.told("klv");
    assert!(told.len() > 20 && told.len() as u64 <= stats.messages_sent, "{} of {stats:?}", told.len());
    let numbers = told.iter().map(|message| u16::from_be_bytes([message[0], message[1]])).collect::<Vec<_>>();
    assert!(numbers.is_sorted(), "in order: {numbers:?}");
    // And once the link is as it was, so are the data.
    pair.bottleneck = None;
    pair.run(Duration::from_secs(10));
    let before = pair.told("klv").len();
    for n in 0..20_i64 {
        for frame in packets(&tracks, &[klv(20_000 + n * 20, &[9; 50])]) {
            pair.session.send(pair.now, &frame);
        }
        pair.run(Duration::from_millis(200));
    }
    assert_eq!(pair.told("klv").len() - before, 20);
    assert_eq!(pair.session.closed(), None);
}

#[test]
fn a_viewer_whose_link_is_cut_costs_no_more_than_may_wait() {
    let tracks = TrackSet::new([data_track(CodecId::Klv, None)]);
    let mut pair = viewer_with(&[]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    let frame = packets(&tracks, &[klv(0, &[7; 1_000])]).remove(0);
    // Nobody hears anything any more.
    let now = pair.now + Duration::from_millis(10);
    for _ in 0..10_000 {
        pair.session.send(now, &frame);
        while !matches!(pair.session.poll_output(), Output::Wait(_)) {}
    }
    let stats = pair.session.stats();
    assert_eq!(stats.messages_sent, 1 + MAX_WAITING_BYTES as u64 / 1_000);
    assert_eq!(stats.messages_dropped, 10_000 - stats.messages_sent);
}

#[test]
fn what_a_viewer_says_is_dropped_and_counted() {
    let (video, frames) = h264_track();
    let tracks = TrackSet::new([video]);
    let mut pair = viewer_with(&[MediaKind::Video]);
    pair.session.choose(&tracks).unwrap();
    pair.connect();
    let frames = packets(&tracks, &frames);
    for frame in &frames {
        for _ in 0..100 {
            pair.tell(0, &[7; 100]);
        }
        pair.session.send(pair.now, frame);
        pair.run(Duration::from_millis(20));
    }
    pair.run(Duration::from_secs(2));
    let stats = pair.session.stats();
    assert!(stats.messages_received > 1_000, "{stats:?}");
    assert_eq!(stats.messages_dropped, stats.messages_received);
    let packets = frames.iter().map(|frame| frame.packets.len()).sum::<usize>();
    assert_eq!((pair.session.closed(), pair.packets.len()), (None, packets));
}

#[test]
fn w28_channels_beyond_sixteen_are_closed_and_those_without_end_are_lost_on_the_way() {
    let mut pair = publisher_with(&[MediaKind::Video], &[channel("first", "klv")]);
    pair.connect();
    let payload_type = pair.payload_type(0, CodecId::Vp8);
    let mut sent = 0_u32;
    let mut go_on = |pair: &mut Pair<WhipSession>, pictures: u32| {
        for n in sent..sent + pictures {
            pair.write(0, payload_type, (n.into(), n * 3_600), &vp8(n == 0, 7));
            pair.run(Duration::from_millis(40));
        }
        sent += pictures;
    };
    go_on(&mut pair, 10);
    // What str0m costs who opens them grows with their square.
    for n in 0..1_000 {
        pair.client.direct_api().create_data_channel(channel(&format!("{n}"), "klv"));
        if n % 10 == 0 {
            go_on(&mut pair, 1);
        }
    }
    go_on(&mut pair, 100);
    assert_eq!(pair.session.closed(), None);
    let (tracks, pictures) = published(&pair.events, TrackId::VIDEO);
    assert_eq!(tracks.len(), 1 + MAX_CHANNELS);
    assert!(pictures.len() > 200, "{} of 210 pictures come through", pictures.len());
    assert!(pair.session.transport().dropped() > 0);
    let announced =
        pair.events.iter().filter(|event| matches!(event, Published::Media(MediaEvent::Tracks(_))));
    assert!(announced.count() <= 1 + MAX_CHANNELS, "each is announced once");
}

#[test]
fn messages_that_come_too_fast_or_are_too_long_are_none() {
    let mut pair = publisher_with(&[], &[channel("klv", "")]);
    pair.connect();
    let start = pair.now;
    let mut told = 0;
    while pair.now - start < Duration::from_secs(3) {
        told += u64::from((0..20).map(|_| u32::from(pair.tell(0, b"again"))).sum::<u32>());
        pair.run(Duration::from_millis(5));
    }
    pair.run(Duration::from_secs(2));
    let frames = published(&pair.events, TrackId::DATA).1.len() as u64;
    let stats = pair.session.stats();
    assert!(told > 10_000 && frames <= 5 * u64::from(MAX_MESSAGES_PER_SECOND), "{frames} of {told}");
    assert!(frames >= 2 * u64::from(MAX_MESSAGES_PER_SECOND), "{frames} of {told}");
    assert_eq!(stats.messages_dropped, stats.messages_received - frames);
    // One whose parts never end.
    pair.run(Duration::from_secs(5));
    let before = published(&pair.events, TrackId::DATA).1.len();
    let id = pair.opened[0];
    let too_long = vec![7; MAX_MESSAGE_BYTES + 1];
    assert!(
        pair.client.channel(id).unwrap().write(true, &too_long).is_err(),
        "the answer says how long one may be"
    );
    assert!(pair.tell(0, &too_long[1..]));
    pair.run(Duration::from_secs(2));
    assert_eq!(published(&pair.events, TrackId::DATA).1.len(), before + 1);
    assert_eq!(pair.session.closed(), None);
}

#[test]
fn a_channel_that_comes_again_is_the_track_that_it_was() {
    let mut pair = publisher_with(&[], &[channel("a", "klv")]);
    pair.connect();
    for n in 0..40 {
        assert!(pair.tell(n, b"here"), "{n}");
        pair.run(Duration::from_millis(200));
        let id = pair.opened[n];
        pair.client.direct_api().close_data_channel(id);
        pair.run(Duration::from_millis(500));
        pair.client.direct_api().create_data_channel(channel("a", "klv"));
        pair.run(Duration::from_millis(500));
    }
    let (tracks, frames) = published(&pair.events, TrackId::DATA);
    assert_eq!((tracks.len(), frames.len()), (1, 40));
    let announced =
        pair.events.iter().filter(|event| matches!(event, Published::Media(MediaEvent::Tracks(_))));
    assert_eq!(announced.count(), 1);
    // A label longer than anybody needs is none.
    let long = "x".repeat(MAX_LABEL_BYTES + 1);
    pair.client.direct_api().create_data_channel(channel(&long, "klv"));
    pair.run(Duration::from_secs(1));
    assert_eq!(published(&pair.events, TrackId::DATA).0.len(), 1);
    assert_eq!(pair.closed.len(), 41);
}
