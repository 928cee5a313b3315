//! Whole streams: frames to packets, over a bad network in virtual time, and frames again.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use arcly_core::derived::Packetizer as _;
use arcly_core::time::ClockSource;
use arcly_core::{FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, TrackId, TrackSet};
use arcly_rtp::media::{
    Event, LaneSpec, MAX_BAD_PACKETS, MAX_HELD_FRAMES, MediaReceiver, MediaReceiverOptions, Numbering,
    Packetizer, PacketizerOptions, REASSEMBLY_TIMEOUT, START_WAIT, SYNC_WAIT, interleaved, sender_report,
};
use arcly_rtp::sdp::{Format, SessionDescription, describe, formats};
use arcly_rtp::session::START_HOLD;
use arcly_rtp::wire::rtcp::{Goodbye, RtcpPacket};
use arcly_rtp::wire::{Header, RtpPacket};
use arcly_testkit::clock::Clock;
use arcly_testkit::media::Source;
use arcly_testkit::net::{Conditions, DatagramLink, Link};
use bytes::{Bytes, BytesMut};

const KEY: u64 = 42;
const MS: Duration = Duration::from_millis(1);
const AUDIO: Timescale = Timescale::of(48_000);

/// The formats as they come out of the description that was made of them.
fn described(tracks: &TrackSet) -> Vec<LaneSpec> {
    let media = formats(tracks);
    let media =
        media.iter().map(|(id, format)| describe(tracks.get(*id).expect("of the set"), format)).collect();
    let text = SessionDescription { media, ..SessionDescription::default() }.to_string();
    let session: SessionDescription = text.parse().expect("our own");
    let lanes = tracks.iter().zip(&session.media);
    lanes
        .map(|(track, media)| LaneSpec { track: track.id, formats: Format::offered(media).expect("known") })
        .collect()
}

/// A sender with the tracks of a source.
struct Sender {
    tracks: TrackSet,
    packetizer: Packetizer,
    key: u64,
}

impl Sender {
    fn new(tracks: TrackSet, key: u64) -> Self {
        let mut packetizer = Packetizer::new(PacketizerOptions::new(key));
        packetizer.headers(&tracks.clone().into());
        Self { tracks, packetizer, key }
    }

    /// The packets of a frame: lanes and datagrams.
    fn packets(&mut self, frame: &MediaFrame) -> Vec<(usize, Bytes)> {
        let mut out = Vec::new();
        self.packetizer.packetize(frame, &mut out);
        let packets = out.into_iter().flat_map(|packet| interleaved(packet.bytes));
        packets.map(|(channel, packet)| (usize::from(channel / 2), packet)).collect()
    }

    /// A report that the point `at` of the stream is that long after 2026 began.
    fn report(&self, lane: usize, at: Timestamp, since: Duration) -> Bytes {
        let (track, format) = &formats(&self.tracks)[lane];
        let numbering = Numbering::of(self.key, *track);
        let report = sender_report(numbering, format.clock, (at, year_2026() + since), (0, 0));
        let mut out = BytesMut::new();
        RtcpPacket::SenderReport(report).encode(&mut out);
        out.freeze()
    }
}

fn year_2026() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// What came out, by kind.
#[derive(Default)]
struct Got {
    tracks: Vec<TrackSet>,
    frames: Vec<MediaFrame>,
    requests: usize,
    goodbyes: usize,
}

impl Got {
    fn drain(&mut self, receiver: &mut MediaReceiver) {
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Media(MediaEvent::Tracks(tracks)) => self.tracks.push(tracks),
                Event::Media(MediaEvent::Frame(frame)) => {
                    assert!(!self.tracks.is_empty(), "tracks come before frames");
                    self.frames.push(frame);
                }
                Event::KeyframeNeeded { .. } => self.requests += 1,
                Event::Goodbye { .. } => self.goodbyes += 1,
                other => panic!("{other:?}"),
            }
        }
    }

    fn of(&self, track: TrackId) -> Vec<&MediaFrame> {
        self.frames.iter().filter(|frame| frame.track == track).collect()
    }
}

fn of(track: TrackId, frames: &[MediaFrame]) -> Vec<&MediaFrame> {
    frames.iter().filter(|frame| frame.track == track).collect()
}

fn instant(start: Instant, at: Timestamp) -> Instant {
    start + (at - Timestamp::ZERO).to_duration()
}

/// What a frame loses on its way: nothing of its payload, and of its time nothing that the clock of its packets can say.
fn assert_same(sent: &[&MediaFrame], got: &[&MediaFrame], clock: Timescale, shift: TimeDelta) {
    for (sent, got) in sent.iter().zip(got) {
        assert_eq!(sent.payload, got.payload);
        assert_eq!(sent.is_keyframe(), got.is_keyframe());
        assert_eq!((sent.pts + shift).to_ticks(clock), got.pts.to_ticks(clock));
        assert_eq!((sent.dts + shift).to_ticks(clock), got.dts.to_ticks(clock), "derived");
    }
}

#[test]
fn m32_f13_frames_come_back_bit_for_bit_with_their_decode_times() {
    let source = Source::h264_aac();
    let mut sender = Sender::new(source.tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    let frames = source.seconds(5);
    for lane in 0..2 {
        let report = sender.report(lane, Timestamp::ZERO, Duration::from_secs(1));
        receiver.handle_rtcp(start, lane, &report);
    }
    for frame in &frames {
        for (lane, packet) in sender.packets(frame) {
            receiver.handle_rtp(instant(start, frame.dts), lane, &packet).expect("RTP");
        }
        got.drain(&mut receiver);
    }
    assert_eq!(got.tracks.len(), 1, "everything is known from the description");
    let mut known = got.tracks[0].clone();
    let mut expected = sender.tracks.clone();
    (known.version, expected.version) = (0, 0);
    assert_eq!(
        known.get(TrackId::VIDEO).map(|track| &track.config),
        expected.get(TrackId::VIDEO).map(|track| &track.config)
    );
    let (video, audio) = (of(TrackId::VIDEO, &frames), of(TrackId::AUDIO, &frames));
    let (got_video, got_audio) = (got.of(TrackId::VIDEO), got.of(TrackId::AUDIO));
    assert_eq!((got_video.len(), got_audio.len()), (video.len(), audio.len()));
    // The first packet's timestamp is zero: that of the first picture.
    let shift = got_video[0].pts - video[0].pts;
    assert_same(&video, &got_video, Timescale::MPEG, shift);
    assert_same(&audio, &got_audio, AUDIO, shift);
    let offset = (got_audio[0].pts - got_video[0].pts) - (audio[0].pts - video[0].pts);
    assert!(offset.abs() < TimeDelta::from_ticks(1, AUDIO), "in step to less than a tick: {offset:?}");
    let wall = got_video[25].wall.expect("a wall-clock time");
    assert_eq!(wall.source, ClockSource::Sender);
    let expect = year_2026() + Duration::from_secs(1) + (video[25].pts - Timestamp::ZERO).to_duration();
    let off = wall.time.duration_since(expect).unwrap_or_else(|error| error.duration());
    assert!(off < Duration::from_micros(20), "{off:?}");
}

/// Sends `seconds` of media over a bad network, with reports each second.
struct Simulation {
    clock: Clock,
    sender: Sender,
    receiver: MediaReceiver,
    links: [DatagramLink; 2],
    got: Got,
    deadlines: usize,
}

impl Simulation {
    fn new(conditions: Conditions, seed: u64) -> Self {
        Self::with(MediaReceiverOptions::default(), conditions, seed)
    }

    fn with(options: MediaReceiverOptions, conditions: Conditions, seed: u64) -> Self {
        let sender = Sender::new(Source::h264_aac().tracks(), KEY);
        let receiver = MediaReceiver::new(described(&sender.tracks), options);
        Self {
            clock: Clock::new(),
            sender,
            receiver,
            links: [DatagramLink::new(seed, conditions), DatagramLink::new(seed + 1, conditions)],
            got: Got::default(),
            deadlines: 0,
        }
    }

    fn send(&mut self, frames: &[MediaFrame], base: Instant) {
        for frame in frames {
            self.run_until(instant(base, frame.dts));
            for (lane, packet) in self.sender.packets(frame) {
                self.links[lane].send(self.clock.now(), packet);
            }
        }
    }

    /// Lets time pass, from one thing that happens to the next.
    fn run_until(&mut self, end: Instant) {
        loop {
            let arrivals = self.links.iter().filter_map(Link::next_arrival);
            let next = arrivals.chain(self.receiver.deadline()).min().filter(|next| *next <= end);
            self.clock.advance_to(next.unwrap_or(end).max(self.clock.now()));
            let now = self.clock.now();
            for (lane, link) in self.links.iter_mut().enumerate() {
                while let Some(packet) = link.receive(now) {
                    self.receiver.handle_rtp(now, lane, &packet).expect("RTP");
                }
            }
            if self.receiver.deadline().is_some_and(|deadline| deadline <= now) {
                self.deadlines += 1;
                self.receiver.handle_timeout(now);
            }
            self.got.drain(&mut self.receiver);
            if next.is_none() {
                return;
            }
        }
    }
}

/// F53 and the simulation of the task: losses, reordering, doubles.
#[test]
fn f53_f23_over_a_bad_network_time_runs_forward_and_no_damaged_picture_comes_out() {
    let conditions = Conditions {
        loss_per_mille: 50,
        duplicate_per_mille: 30,
        reorder_per_mille: 50,
        held_back: 30 * MS,
        delay: 20 * MS,
        jitter: 5 * MS,
        mtu: 1_500,
    };
    let mut sim = Simulation::new(conditions, 1);
    let base = sim.clock.now();
    let source = Source::h264_aac().with_pictures_of(6_000);
    let frames = source.seconds(40);
    sim.send(&frames, base);
    sim.run_until(base + Duration::from_secs(42));

    let lost: u64 = (0..2).map(|lane| sim.receiver.counters(lane).receiver.lost).sum();
    let really: usize = sim.links.iter().map(DatagramLink::lost).sum();
    // What is lost at the very end has no packet behind it that would show it.
    assert!(really.abs_diff(usize::try_from(lost).expect("small")) <= 3, "{lost} counted, {really} lost");
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let got = sim.got.of(track);
        assert!(got.is_sorted_by_key(|frame| frame.dts) && got.iter().all(|frame| frame.dts <= frame.pts));
        let sent: Vec<&Bytes> = of(track, &frames).iter().map(|frame| &frame.payload).collect();
        assert!(got.iter().all(|frame| sent.contains(&&frame.payload)), "every frame is one that was sent");
    }
    let video = sim.got.of(TrackId::VIDEO);
    // Behind each loss frames are marked, up to the next keyframe.
    let mut clean = 0;
    for gop in video.split(|frame| frame.is_keyframe()).skip(1) {
        let first =
            gop.iter().position(|frame| frame.flags.contains(FrameFlags::CORRUPT)).unwrap_or(gop.len());
        assert!(gop[first..].iter().all(|frame| frame.flags.contains(FrameFlags::CORRUPT)));
        clean += first;
    }
    assert!(clean > 0 && video.iter().any(|frame| frame.flags.contains(FrameFlags::CORRUPT)));
    assert!(
        video
            .iter()
            .filter(|frame| frame.is_keyframe())
            .all(|frame| !frame.flags.contains(FrameFlags::CORRUPT))
    );
    assert!(sim.got.requests > 10 && sim.got.requests <= 2 * 42, "{} requests in 42 s", sim.got.requests);
    assert!(sim.got.of(TrackId::AUDIO).len() > 1_875 * 90 / 100);
    assert!(sim.receiver.counters(0).receiver.duplicates > 0);
}

#[test]
fn f53_reordering_alone_loses_nothing() {
    let conditions = Conditions {
        reorder_per_mille: 100,
        held_back: 60 * MS,
        delay: 20 * MS,
        jitter: 10 * MS,
        ..Conditions::default()
    };
    let mut sim = Simulation::new(conditions, 7);
    let base = sim.clock.now();
    let frames = Source::h264_aac().with_pictures_of(4_000).seconds(10);
    sim.send(&frames, base);
    sim.run_until(base + Duration::from_secs(12));
    for (lane, track, clock) in [(0, TrackId::VIDEO, Timescale::MPEG), (1, TrackId::AUDIO, AUDIO)] {
        assert_eq!(sim.receiver.counters(lane).receiver.lost, 0);
        let (sent, got) = (of(track, &frames), sim.got.of(track));
        assert_eq!(got.len(), sent.len());
        assert_same(&sent, &got, clock, got[0].pts - sent[0].pts);
        assert!(
            got.iter().all(|frame| !frame.flags.intersects(FrameFlags::CORRUPT | FrameFlags::DISCONTINUITY))
        );
    }
}

/// What all lanes have held comes out in the order of its times, though the lanes let go one after the other.
#[test]
fn f53_lanes_that_were_held_begin_together() {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::from_the_start());
    let (start, mut got) = (Instant::now(), Got::default());
    for lane in 0..2 {
        let report = sender.report(lane, Timestamp::ZERO, Duration::from_secs(1));
        receiver.handle_rtcp(start, lane, &report);
    }
    for (n, frame) in (0..).zip(&Source::h264_aac().seconds(1)) {
        for (lane, packet) in sender.packets(frame) {
            receiver.handle_rtp(start + n * Duration::from_micros(100), lane, &packet).expect("RTP");
        }
    }
    got.drain(&mut receiver);
    assert!(got.frames.is_empty(), "both are held");
    for _ in 0..2 {
        let deadline = receiver.deadline().expect("until then");
        assert!((start + START_HOLD..start + START_HOLD + 10 * MS).contains(&deadline));
        receiver.handle_timeout(deadline);
    }
    got.drain(&mut receiver);
    assert!(got.of(TrackId::VIDEO).len() >= 20 && got.of(TrackId::AUDIO).len() >= 40);
    assert!(got.frames.is_sorted_by_key(|frame| frame.dts));
    assert_eq!(receiver.deadline(), None);
}

/// A lane whose numbers jump again and again begins again and again: the frames of the other do not wait for it without end.
#[test]
fn f53_a_lane_that_never_ends_to_begin_is_not_waited_for() {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::from_the_start());
    let payload_type = formats(&sender.tracks)[0].1.payload_type;
    let jump = |n: u16, step: u16| {
        let sequence = n.wrapping_mul(2_000).wrapping_add(step);
        let header = Header { payload_type, sequence, ssrc: 9, marker: true, ..Header::default() };
        Bytes::from([&header.encode()[..], &[0x41, 1]].concat())
    };
    let sounds = Source::h264_aac().seconds(3);
    let mut sounds = sounds.iter().filter(|frame| frame.track == TrackId::AUDIO).peekable();
    let (start, mut got, mut first) = (Instant::now(), Got::default(), None);
    for ms in 0..2_000 {
        let now = start + ms * MS;
        if ms % 70 == 0 {
            let n = u16::try_from(ms / 70).expect("small");
            (0..2).for_each(|step| receiver.handle_rtp(now, 0, &jump(n, step)).expect("RTP"));
        }
        while let Some(sound) = sounds.next_if(|sound| instant(start, sound.dts) <= now) {
            sender
                .packets(sound)
                .iter()
                .for_each(|(lane, packet)| receiver.handle_rtp(now, *lane, packet).expect("RTP"));
        }
        if receiver.deadline().is_some_and(|deadline| deadline <= now) {
            receiver.handle_timeout(now);
        }
        got.drain(&mut receiver);
        first = first.or_else(|| (!got.frames.is_empty()).then_some(now));
    }
    assert!(receiver.counters(0).receiver.restarts > 20, "it jumps");
    assert_eq!(first, Some(start + START_WAIT + START_HOLD));
    assert!(got.of(TrackId::AUDIO).len() > 80, "none is left out");
}

/// The smallest frames there are, of a lane beside one that does not come.
#[test]
fn so_many_frames_wait_for_another_lane_and_no_more() {
    let session: SessionDescription =
        "v=0\r\nm=audio 0 RTP/AVP 0\r\nm=audio 0 RTP/AVP 8\r\n".parse().expect("a description");
    let lanes = [TrackId::AUDIO, TrackId::VIDEO].into_iter().zip(&session.media);
    let lanes =
        lanes.map(|(track, media)| LaneSpec { track, formats: Format::offered(media).expect("known") });
    let mut receiver = MediaReceiver::new(lanes.collect(), MediaReceiverOptions::ordered());
    let (now, mut got) = (Instant::now(), Got::default());
    for n in 0..=MAX_HELD_FRAMES {
        got.drain(&mut receiver);
        assert!(got.frames.is_empty(), "after {n}");
        let n = u16::try_from(n).expect("small");
        let header = Header { sequence: n, timestamp: n.into(), ssrc: 9, ..Header::default() };
        let packet = Bytes::from([&header.encode()[..], &[0xD5]].concat());
        receiver.handle_packet(now, 0, RtpPacket::decode(&packet).expect("RTP"));
    }
    got.drain(&mut receiver);
    assert_eq!(got.frames.len(), MAX_HELD_FRAMES + 1);
}

/// A sender that begins with a keyframe: what the network does to its first packets costs no picture. Without the hold it costs some of these seeds their first GOP.
#[test]
fn f53_a_start_out_of_order_does_not_cost_the_first_gop() {
    let conditions = Conditions {
        reorder_per_mille: 300,
        held_back: 60 * MS,
        delay: 20 * MS,
        jitter: 10 * MS,
        ..Conditions::default()
    };
    let frames = Source::h264_aac().with_pictures_of(6_000).seconds(2);
    let run = |options, seed| {
        let mut sim = Simulation::with(options, conditions, seed);
        let base = sim.clock.now();
        sim.send(&frames, base);
        sim.run_until(base + Duration::from_secs(3));
        sim
    };
    let mut cut = 0;
    for seed in (0..60).map(|n| 2 * n) {
        let sim = run(MediaReceiverOptions::from_the_start(), seed);
        for (lane, track, clock) in [(0, TrackId::VIDEO, Timescale::MPEG), (1, TrackId::AUDIO, AUDIO)] {
            let counters = sim.receiver.counters(lane).receiver;
            assert_eq!((counters.lost, counters.late), (0, 0), "seed {seed}, {track}");
            let (sent, got) = (of(track, &frames), sim.got.of(track));
            assert_eq!(got.len(), sent.len(), "seed {seed}, {track}");
            assert_same(&sent, &got, clock, got[0].pts - sent[0].pts);
            assert!(got.iter().all(|frame| !frame.flags.contains(FrameFlags::CORRUPT)), "seed {seed}");
        }
        let without = run(MediaReceiverOptions::default(), seed);
        cut += usize::from(without.got.of(TrackId::VIDEO).len() < sim.got.of(TrackId::VIDEO).len());
    }
    assert!(cut > 3, "the network did nothing to the starts: {cut}");
}

/// Timestamps wrap after 24.8 h at 48 kHz, here seven times; sequence numbers once.
#[test]
fn f23_wraps_are_not_noticed() {
    let mut sender = Sender::new(Source::aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    let sound = Source::aac().next().expect("endless");
    for n in 0..70_000 {
        let at = Timestamp::from_millis(n * 9_000);
        let frame = MediaFrame { dts: at, pts: at, ..sound.clone() };
        for (lane, packet) in sender.packets(&frame) {
            receiver.handle_rtp(instant(start, at), lane, &packet).expect("RTP");
        }
        got.drain(&mut receiver);
        assert_eq!(got.frames.pop().map(|frame| frame.dts), Some(at), "frame {n}");
    }
    assert_eq!(receiver.counters(0).receiver.lost, 0);
}

#[test]
fn t40_f01_another_sender_is_one_discontinuity_and_begins_with_its_keyframe() {
    let mut sim = Simulation::new(Conditions { delay: 5 * MS, ..Conditions::default() }, 3);
    let base = sim.clock.now();
    let frames = Source::h264_aac().seconds(3);
    sim.send(&frames, base);
    // It comes back a second later, with another source, other numbers and another clock, in the middle of a GOP.
    sim.sender = Sender::new(sim.sender.tracks.clone(), KEY + 1);
    let later: Vec<MediaFrame> =
        Source::h264_aac().seconds(7).into_iter().filter(|frame| frame.dts.to_millis() > 4_500).collect();
    sim.send(&later, base);
    sim.run_until(base + Duration::from_secs(8));
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let got = sim.got.of(track);
        assert!(got.is_sorted_by_key(|frame| frame.dts));
        let breaks: Vec<_> =
            got.iter().filter(|frame| frame.flags.contains(FrameFlags::DISCONTINUITY)).collect();
        assert_eq!(breaks.len(), 1, "{track}");
        let gap = breaks[0].dts.to_millis() - 3_000;
        assert!((1_300..2_300).contains(&gap), "{track}: time went on as it passed, {gap} ms");
    }
    let video = sim.got.of(TrackId::VIDEO);
    let after = video.iter().position(|frame| frame.flags.contains(FrameFlags::DISCONTINUITY)).expect("one");
    let key = video[after..].iter().position(|frame| frame.is_keyframe()).expect("a keyframe comes");
    assert!(video[after..after + key].iter().all(|frame| frame.flags.contains(FrameFlags::CORRUPT)));
    assert!(!video[after + key + 1].flags.contains(FrameFlags::CORRUPT), "recovered");
}

/// Offsets of audio against video that come out, in milliseconds, with reports as given: how far the audio's report is off.
fn skew(report: Option<Duration>, video_late: Duration) -> i64 {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    let frames = Source::h264_aac().seconds(3);
    let late = |frame: &MediaFrame| if frame.track == TrackId::VIDEO { video_late } else { Duration::ZERO };
    let mut arrivals: Vec<_> =
        frames.iter().map(|frame| (instant(start, frame.dts) + late(frame), frame)).collect();
    arrivals.sort_by_key(|(now, _)| *now);
    for (now, frame) in arrivals {
        for (lane, packet) in sender.packets(frame) {
            receiver.handle_rtp(now, lane, &packet).expect("RTP");
        }
        if let Some(wrong) = report {
            for lane in 0..2 {
                let off = if lane == 1 { wrong } else { Duration::ZERO };
                let report =
                    sender.report(lane, frame.dts, (frame.dts - Timestamp::ZERO).to_duration() + off);
                receiver.handle_rtcp(now, lane, &report);
            }
        }
        receiver.handle_timeout(now);
        got.drain(&mut receiver);
    }
    let (video, audio) = (of(TrackId::VIDEO, &frames), of(TrackId::AUDIO, &frames));
    let (got_video, got_audio) = (got.of(TrackId::VIDEO), got.of(TrackId::AUDIO));
    let last = |list: &[&MediaFrame]| list.last().expect("frames").pts;
    ((last(&got_audio) - last(&got_video)) - (last(&audio) - last(&video))).to_millis()
}

#[test]
fn f25_lip_sync_follows_reports_that_can_be_believed_and_arrival_otherwise() {
    assert_eq!(skew(Some(Duration::ZERO), 300 * MS), 0, "reports put right what the network did");
    assert!((-350..=-250).contains(&skew(None, 300 * MS)), "without reports arrival is all there is");
    assert!(skew(None, Duration::ZERO).abs() <= 60);
    assert!(
        skew(Some(Duration::from_secs(3_600)), Duration::ZERO).abs() <= 60,
        "an hour off is not believed"
    );
}

/// Sound whose clock runs 0.5 % fast for four hours: 72 s by the end. Reports, one each 5 s, keep it in step with the pictures.
#[test]
fn f26_a_clock_that_drifts_is_followed() {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    let first = |track| Source::h264_aac().find(|frame| frame.track == track).expect("endless");
    let (picture, sound) = (first(TrackId::VIDEO), first(TrackId::AUDIO));
    for n in 0..4 * 720 {
        let now = start + Duration::from_secs(5 * n);
        let (played, fast) = (
            Timestamp::from_millis(5_000 * n.cast_signed()),
            Timestamp::from_millis(5_025 * n.cast_signed()),
        );
        for (lane, sent, at) in [(0, &picture, played), (1, &sound, fast)] {
            receiver.handle_rtcp(now, lane, &sender.report(lane, at, Duration::from_secs(5 * n)));
            let frame = MediaFrame { dts: at, pts: at, ..sent.clone() };
            for (lane, packet) in sender.packets(&frame) {
                receiver.handle_rtp(now, lane, &packet).expect("RTP");
            }
        }
        receiver.handle_timeout(now + SYNC_WAIT);
        got.drain(&mut receiver);
    }
    let (video, audio) = (got.of(TrackId::VIDEO), got.of(TrackId::AUDIO));
    assert!(video.len() > 2_800 && audio.len() == 2_880);
    for (video, audio) in video.iter().zip(&audio).skip(2) {
        let skew = (video.pts - audio.pts).to_millis();
        assert!(skew.abs() <= 60, "{skew} ms after {} s", video.pts.to_millis() / 1_000);
    }
    assert_eq!(receiver.counters(1).implausible_reports, 0);
    assert_eq!(receiver.drift(1).map(|drift| drift.media_ppm), Some(5_000));
}

#[test]
fn rtp_info_places_tracks_where_there_are_no_reports() {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    for (lane, (track, format)) in formats(&sender.tracks).iter().enumerate() {
        let timestamp = Numbering::of(KEY, *track).timestamp_of(Timestamp::ZERO, format.clock);
        receiver.set_common_moment(lane, timestamp);
    }
    let frames = Source::h264_aac().seconds(2);
    for (n, frame) in (0..).zip(&frames) {
        for (lane, packet) in sender.packets(frame) {
            receiver.handle_rtp(start + n * MS, lane, &packet).expect("RTP");
        }
        got.drain(&mut receiver);
    }
    let offset = (got.of(TrackId::AUDIO)[0].pts - got.of(TrackId::VIDEO)[0].pts)
        - (of(TrackId::AUDIO, &frames)[0].pts - of(TrackId::VIDEO, &frames)[0].pts);
    assert!(offset.abs() < TimeDelta::from_ticks(1, AUDIO), "{offset:?}");
}

#[test]
fn a_start_in_the_middle_of_a_gop_waits_for_the_keyframe_and_asks_for_it() {
    let mut sender = Sender::new(Source::h264().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    for frame in Source::h264().seconds(3).iter().skip(7) {
        for (lane, packet) in sender.packets(frame) {
            receiver.handle_rtp(instant(start, frame.dts), lane, &packet).expect("RTP");
        }
        got.drain(&mut receiver);
    }
    assert!(got.frames[0].is_keyframe());
    assert!((1..=3).contains(&got.requests), "{} requests in 0.7 s", got.requests);
    assert!(got.frames.iter().all(|frame| !frame.flags.contains(FrameFlags::CORRUPT)));
    assert_eq!(receiver.counters(0).before_keyframe, 18);
}

#[test]
fn f12_a_track_that_never_comes_is_waited_for_a_moment_only() {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::ordered());
    let (start, mut got) = (Instant::now(), Got::default());
    for frame in Source::h264_aac().seconds(1).iter().filter(|frame| frame.track == TrackId::AUDIO) {
        let now = instant(start, frame.dts);
        for (lane, packet) in sender.packets(frame) {
            receiver.handle_rtp(now, lane, &packet).expect("RTP");
        }
        got.drain(&mut receiver);
        let waited = now.saturating_duration_since(instant(start, Timestamp::from_millis(40)));
        assert_eq!(got.frames.is_empty(), waited < SYNC_WAIT, "after {waited:?}");
    }
    assert_eq!(got.tracks[0].len(), 2, "both are known from the description");
}

#[test]
fn t28_a_peer_that_does_not_speak_rtp() {
    let sender = Sender::new(Source::h264().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::default());
    let now = Instant::now();
    for len in 0..12 {
        assert_eq!(receiver.handle_rtp(now, 0, &Bytes::from(vec![0x80; len])), Ok(()));
    }
    assert_eq!(receiver.counters(0).bad_packets, 12);
    for _ in 12..MAX_BAD_PACKETS - 1 {
        assert_eq!(receiver.handle_rtp(now, 0, &Bytes::from_static(b"GET / HTTP/1.1")), Ok(()));
    }
    assert!(receiver.handle_rtp(now, 0, &Bytes::from_static(b"GET / HTTP/1.1")).is_err());
    assert_eq!(receiver.handle_rtp(now, 9, &Bytes::new()), Ok(()), "no such lane");
}

#[test]
fn t30_t33_what_is_never_finished_is_given_up_and_goodbyes_are_heard() {
    let mut sender = Sender::new(Source::h264().tracks(), KEY);
    let mut receiver = MediaReceiver::new(described(&sender.tracks), MediaReceiverOptions::default());
    let (now, mut got) = (Instant::now(), Got::default());
    let frame = Source::h264().with_pictures_of(5_000).next().expect("endless");
    let packets = sender.packets(&frame);
    receiver.handle_rtp(now, 0, &packets[0].1).expect("RTP");
    receiver.handle_rtp(now, 0, &packets[1].1).expect("RTP");
    assert_eq!(receiver.deadline(), Some(now + REASSEMBLY_TIMEOUT));
    receiver.handle_timeout(now + REASSEMBLY_TIMEOUT);
    assert_eq!(receiver.deadline(), None, "nothing is held");
    let ssrc = receiver.ssrc(0).expect("a source");
    let mut bye = |source| {
        let mut out = BytesMut::new();
        let sources = [source].into_iter().collect();
        RtcpPacket::Goodbye(Goodbye { sources, ..Goodbye::default() }).encode(&mut out);
        receiver.handle_rtcp(now, 0, &out.freeze());
        got.drain(&mut receiver);
        got.goodbyes
    };
    assert_eq!((bye(ssrc.wrapping_add(1)), bye(ssrc)), (0, 1), "that of another source ends nothing");
    receiver.handle_rtcp(now, 0, &Bytes::from_static(&[0x80, 201, 0xFF, 0xFF]));
    assert_eq!(receiver.counters(0).bad_reports, 1);
    assert!(receiver.report(now, 0, 1, "arcly").is_some_and(|report| report.len() >= 32));
}

#[test]
fn packets_of_a_stream_are_made_once_and_taken_apart_again() {
    let mut sender = Sender::new(Source::h264_aac().tracks(), KEY);
    let frame = Source::h264_aac().with_pictures_of(5_000).next().expect("endless");
    let packets = sender.packets(&frame);
    assert!(packets.len() > 4 && packets.iter().all(|(_, packet)| packet.len() <= 1_200));
    let mut out = Vec::new();
    sender.packetizer.packetize(&frame, &mut out);
    assert_eq!((out.len(), out[0].track, out[0].flags), (1, frame.track, frame.flags));
    assert_eq!(out[0].bytes[..2], [b'$', 0]);
    let cut = out[0].bytes.slice(..out[0].bytes.len() - 1);
    assert_eq!(interleaved(cut).count(), packets.len() - 1, "the last one is not whole");
    let (video, audio) = (Numbering::of(KEY, TrackId::VIDEO), Numbering::of(KEY, TrackId::AUDIO));
    assert!(video.ssrc != audio.ssrc && video.timestamp != audio.timestamp && video.sequence < 1 << 15);
    assert_ne!(video, Numbering::of(KEY + 1, TrackId::VIDEO));
}
