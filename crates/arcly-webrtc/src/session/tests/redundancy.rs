//! Sound over a link that loses packets: what is repeated of it, and what that leaves lost.

use std::collections::BTreeMap;

use arcly_rtp::wire::{Red, RedBlock};

use super::super::{CALM, Offering, Wish};
use super::*;
use crate::wire::Answer;

/// A round trip of 100 ms, on which so many of a thousand datagrams get lost.
fn losing(loss_per_mille: u32) -> Conditions {
    Conditions { loss_per_mille, delay: Duration::from_millis(50), ..Conditions::default() }
}

const FRAME: Duration = Duration::from_millis(20);
const SECOND: u32 = 50;

/// A frame of Opus that says which one it is.
fn frame(n: u32) -> MediaFrame {
    let payload = [&[0xF8][..], &n.to_be_bytes(), &[7; 75]].concat();
    MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(i64::from(n) * 20), payload.into())
}

fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[1..5].try_into().unwrap())
}

/// A client's offer of sound, with redundancy or without.
fn offer_of_sound(
    direction: Direction,
    has_red: bool,
    now: Instant,
) -> (Rtc, Vec<Mid>, String, SdpPendingOffer) {
    let mut client = Rtc::builder().set_rtp_mode(true).enable_opus(true, has_red).build(now);
    client.add_local_candidate(Candidate::host(at(CLIENT), "udp").unwrap()).unwrap();
    offer_of(client, &[MediaKind::Audio], direction, &[])
}

/// A viewer that takes redundancy, or does not.
fn listener(takes_red: bool) -> Pair<WhepSession> {
    let now = Instant::now();
    let offered = offer_of_sound(Direction::RecvOnly, takes_red, now);
    let whep = |transport, _| WhepSession::new(transport, 7);
    let mut pair = Pair::answered(Protocol::Udp, Role::Viewer, offered, whep, now);
    pair.session.choose(&TrackSet::new([opus()])).unwrap();
    pair.connect();
    pair
}

/// A publisher that sends redundancy.
fn speaker() -> Pair<WhipSession> {
    let now = Instant::now();
    let offered = offer_of_sound(Direction::SendOnly, true, now);
    let mut pair = Pair::answered(Protocol::Udp, Role::Publisher, offered, WhipSession::new, now);
    pair.connect();
    pair
}

impl Pair<WhepSession> {
    fn send(&mut self, numbers: core::ops::Range<u32>) {
        let tracks = TrackSet::new([opus()]);
        let frames: Vec<_> = numbers.map(frame).collect();
        for frame in packets(&tracks, &frames) {
            self.session.send(self.now, &frame);
            self.run(FRAME);
        }
    }

    /// The frames that the client has got, by their numbers, how many of which came repeated only, and how many packets had
    /// redundancy. All are checked to be what was sent, with the timestamp that they were to have.
    fn heard(&self) -> (BTreeMap<u32, bool>, usize) {
        let red = self.session.transport().media()[0].redundancy;
        let (mut heard, mut redundant) = (BTreeMap::new(), 0);
        let mut first = None;
        let mut hear = |payload: &[u8], timestamp: u32, is_new: bool| {
            let n = number(payload);
            assert_eq!(payload, &frame(n).payload[..]);
            assert_eq!(
                timestamp.wrapping_sub(n * 960),
                *first.get_or_insert(timestamp.wrapping_sub(n * 960))
            );
            *heard.entry(n).or_insert(false) |= is_new;
        };
        for packet in &self.packets {
            let timestamp = packet.header.timestamp;
            if Some(*packet.header.payload_type) != red.map(|red| red.payload_type) {
                hear(&packet.payload, timestamp, true);
                continue;
            }
            redundant += 1;
            let red = Red::decode(&packet.payload).unwrap();
            hear(red.data, timestamp, true);
            for block in &red.redundant {
                hear(block.data(), timestamp - u32::from(block.offset()), false);
            }
        }
        (heard, redundant)
    }
}

#[test]
fn a_viewer_that_loses_five_in_a_hundred_hears_all_but_one_in_two_hundred() {
    let total = 120 * SECOND;
    let mut shares = [0.0; 2];
    for (takes_red, share) in [false, true].into_iter().zip(&mut shares) {
        let mut pair = listener(takes_red);
        (pair.to_session.conditions, pair.to_client.conditions) = (losing(50), losing(50));
        // Until it is known what is lost.
        let begin = 5 * SECOND;
        pair.send(0..begin + total);
        pair.run(Duration::from_secs(1));
        let (heard, redundant) = pair.heard();
        assert_eq!(redundant > 0, takes_red);
        *share = f64::from(total) - heard.range(begin..).count() as f64;
        *share /= f64::from(total);
        let stats = pair.session.stats();
        assert!(stats.redundant_sent as usize >= redundant, "{stats:?}");
    }
    let [without, with] = shares;
    assert!((0.04..0.06).contains(&without) && with < 0.005, "{without} without, {with} with");
    eprintln!(
        "lost of the sound at 5 %: {:.2} % without redundancy, {:.2} % with it",
        without * 100.0,
        with * 100.0
    );
}

#[test]
fn a_viewer_on_a_clean_link_is_sent_what_all_are_sent() {
    let mut pair = listener(true);
    pair.send(0..10 * SECOND);
    pair.run(Duration::from_secs(1));
    let opus = pair.payload_type(0, CodecId::Opus);
    assert!(pair.packets.iter().all(|packet| *packet.header.payload_type == opus));
    assert_eq!((pair.packets.len() as u32, pair.session.stats().redundant_sent), (10 * SECOND, 0));
}

#[test]
fn a_link_that_loses_nothing_any_more_is_sent_everything_once_again_after_a_while() {
    let mut pair = listener(true);
    pair.to_client.conditions = losing(200);
    pair.send(0..10 * SECOND);
    let two = |packet: &RtpPacket| {
        Red::decode(&packet.payload)
            .is_ok_and(|red| red.redundant.iter().map(RedBlock::offset).eq([1_920, 960]))
    };
    assert!(pair.packets.iter().any(two), "two frames where much is lost");
    pair.to_client.conditions = losing(0);
    // And until the next report says so.
    let calm = u32::try_from(2 * CALM.as_secs() + 10).unwrap();
    pair.send(10 * SECOND..(10 + calm) * SECOND);
    let before = pair.session.stats().redundant_sent;
    pair.send((10 + calm) * SECOND..(15 + calm) * SECOND);
    assert_eq!(pair.session.stats().redundant_sent, before);
}

#[test]
fn what_a_publisher_repeats_is_in_the_stream_once_and_in_order() {
    let mut pair = speaker();
    let red = pair.session.transport().media()[0].redundancy.unwrap();
    let total = 60 * SECOND;
    for n in 0..total {
        let payloads = (n.saturating_sub(1)..=n).map(|n| frame(n).payload).collect::<Vec<_>>();
        let block = RedBlock::new(red.of, 960, &payloads[0]).filter(|_| n > 0);
        let whole = Red {
            redundant: block.into_iter().collect(),
            payload_type: red.of,
            data: payloads.last().unwrap(),
        };
        let mut payload = bytes::BytesMut::new();
        whole.encode(&mut payload);
        pair.write(
            0,
            red.payload_type,
            (u64::from(n) + 65_000, n.wrapping_mul(960).wrapping_sub(9_600)),
            &payload,
        );
        pair.run(FRAME);
        if n == SECOND {
            pair.to_session.conditions = losing(50);
        }
    }
    pair.run(Duration::from_secs(1));
    let frames = pair.events.iter().filter_map(|event| match event {
        Published::Media(MediaEvent::Frame(frame)) => Some(frame),
        _ => None,
    });
    let frames: Vec<_> = frames.collect();
    for pair in frames.windows(2) {
        let (n, next) = (number(&pair[0].payload), number(&pair[1].payload));
        assert!(n < next, "each once, and in order: {n}, {next}");
        assert_eq!((pair[1].pts - pair[0].pts).to_millis(), i64::from(next - n) * 20);
    }
    assert!(frames.iter().all(|got| got.payload == frame(number(&got.payload)).payload));
    let lost = f64::from(total) - frames.len() as f64;
    let stats = pair.session.stats();
    assert!(stats.recovered > 100 && stats.redundant_received > 2_500, "{stats:?}");
    assert!(lost / f64::from(total) < 0.005, "{lost} of {total}: {stats:?}");
}

#[test]
fn redundancy_that_is_none_is_dropped_and_counted() {
    let mut pair = speaker();
    let red = pair.session.transport().media()[0].redundancy.unwrap();
    let bad: [&[u8]; 4] = [
        &[0xEF, 0, 4],
        &[0xEF, 0x0F, 0x03, 0xFF, 111, 1],
        &[5, 1, 2, 3],
        &[&[0xEF, 0, 4, 0].repeat(200)[..], &[111]].concat(),
    ];
    for (n, payload) in (0..).zip(bad) {
        pair.write(0, red.payload_type, (n, 960 * u32::try_from(n).unwrap()), payload);
        pair.run(FRAME);
    }
    let dropped = pair.session.stats().datagrams_dropped;
    pair.write(0, red.of, (4, 4 * 960), &frame(4).payload);
    pair.run(Duration::from_secs(1));
    let is_frame = |event: &&Published| matches!(event, Published::Media(MediaEvent::Frame(_)));
    assert_eq!((dropped, pair.events.iter().filter(is_frame).count()), (4, 1));
}

/// The `m=` line of the sound.
fn sound(text: &str) -> &str {
    text.lines().find(|line| line.starts_with("m=audio")).unwrap()
}

#[test]
fn redundancy_is_offered_and_answered_behind_what_it_repeats() {
    let now = Instant::now();
    for wish in [Wish::view(), Wish::publish(&TrackSet::new([opus()])).unwrap()] {
        let addresses = Addresses::new([at(CLIENT)]);
        let offering = Offering::new(identity(), addresses, Timeouts::default(), &wish, now).unwrap();
        let offer = offering.as_str().to_owned();
        assert!(offer.contains("a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"), "{offer}");
        assert!(sound(&offer).contains(" 111") && sound(&offer).ends_with(" 63"), "{offer}");
        // The peer answers as it was asked; one that prefers it gets it in front.
        let (_, answered) = answer(wish.role(), &offer, now);
        assert!(sound(&answered).ends_with(" 63"), "{answered}");
        let first = offer.replace(sound(&offer), "m=audio 9 UDP/TLS/RTP/SAVPF 63 111");
        let (_, preferred) = answer(wish.role(), &first, now);
        assert!(sound(&preferred).contains("63 111"), "{preferred}");
        // One that knows none has none.
        let without = offer.replace("red/48000/2", "x-unknown/48000/2");
        let (transport, none) = answer(wish.role(), &without, now);
        assert!(!sound(&none).contains(" 63") && !none.contains("red/"), "{none}");
        assert!(transport.media().iter().all(|medium| medium.redundancy.is_none()));
        let answered = Answer::decode(wish.role(), answered.as_bytes(), |_| true).unwrap();
        let transport = offering.answered(&answered, now).unwrap();
        let red = transport.media().iter().find_map(|medium| medium.redundancy).unwrap();
        assert_eq!((red.payload_type, red.of), (63, 111));
    }
}

#[test]
fn payload_types_that_stand_for_two_things_do_no_harm() {
    let now = Instant::now();
    for (role, direction) in [(Role::Viewer, Direction::RecvOnly), (Role::Publisher, Direction::SendOnly)] {
        let client = Rtc::builder().set_rtp_mode(true).enable_opus(true, true).build(now);
        let (_, _, text, _) = offer_of(client, &BOTH, direction, &[]);
        for other in ["111", "96", "0", "9", "127"] {
            let text = text.replace("a=rtpmap:63 ", &format!("a=rtpmap:{other} "));
            let text = text.replace("a=fmtp:63 ", &format!("a=fmtp:{other} "));
            let text = text.replace(" 63 ", &format!(" {other} "));
            let offer = Offer::decode(role, text.as_bytes()).unwrap();
            let addresses = Addresses::new([at(SERVER)]);
            let answered = Transport::answer(identity(), addresses, Timeouts::default(), offer, now);
            // In one medium that is refused; what is another medium's belongs to that one.
            let is_same_medium = ["111", "0", "9"].contains(&other);
            assert!(answered.is_ok() || is_same_medium, "{other}: {answered:?}");
        }
    }
}
