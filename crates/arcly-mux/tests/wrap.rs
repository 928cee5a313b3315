//! Streams whose timestamps wrap: 33 bits of 90 kHz last 26 h 30 m 43 s, in virtual time.
#![cfg(all(feature = "http", feature = "record"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcly_core::contract::auth::Credentials;
use arcly_core::contract::storage::FsStorage;
use arcly_core::log::{LagPolicy, Read};
use arcly_core::{
    ClientInfo, Engine, FrameFlags, MediaEvent, MediaFrame, PlayRequest, PlaybackRegistry as _,
    PublishRegistry as _, PublishRequest, Publisher, StreamKey, TimeDelta, Timescale, Timestamp, TrackId,
};
use arcly_mux::hls::http::{Config, Hls};
use arcly_mux::record::{Format, Index, NameTemplate, Playback, RecordOptions, Recorder};
use arcly_mux::{fmp4, ts};
use arcly_testkit::hls::{Checker, Media};
use arcly_testkit::media::Source;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use http_body_util::BodyExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const HALF_HOUR: TimeDelta = seconds(1_800);
const HOUR: TimeDelta = seconds(3_600);

const fn seconds(count: i64) -> TimeDelta {
    TimeDelta::from_millis(count * 1_000)
}

/// Where timestamps wrap: about there, as what we send and what we make of it do not count from the same moment.
const WRAP: Timestamp = Timestamp::from_ticks(1 << 33, Timescale::MPEG);
/// Where the hour begins.
const BEGIN: Timestamp = Timestamp(WRAP.0 - HALF_HOUR.0);

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

/// A publisher that sends a transport stream, and somebody who reads what becomes of it.
struct Scene {
    engine: Arc<Engine>,
    stop: CancellationToken,
    source: Source,
    muxer: ts::Muxer,
    demuxer: ts::Demuxer,
    publisher: Publisher,
    sent: Vec<MediaFrame>,
    reader: JoinHandle<Vec<MediaFrame>>,
    /// Where it goes on after its first second.
    begin: Timestamp,
    /// How far the stream has got.
    at: Timestamp,
}

impl Scene {
    /// A stream that began a day and a bit ago with a second of media, and goes on now.
    async fn new(begin: Timestamp) -> Self {
        let (engine, source) = (Engine::builder().build(), Source::h264_aac());
        let publisher = engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
        let request = PlayRequest::internal(key(), "test").lag(LagPolicy::PATIENT);
        let mut reader = engine.subscribe(request).await.unwrap().into_frames();
        let reader = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(read) = reader.next().await.unwrap() {
                match read {
                    Read::Item(frame) => seen.push((*frame).clone()),
                    Read::Context(_) => {}
                    Read::Skipped(skip) => panic!("{skip:?}"),
                }
            }
            seen
        });
        let mut muxer = ts::Muxer::new();
        muxer.set_tracks(&source.tracks());
        let (stop, demuxer, at) = (CancellationToken::new(), ts::Demuxer::default(), Timestamp::ZERO);
        let sent = Vec::new();
        let mut scene = Self { engine, stop, source, muxer, demuxer, publisher, sent, reader, begin, at };
        scene.publisher.set_tracks(scene.source.tracks()).unwrap();
        for frame in scene.source.clone().seconds(1) {
            scene.publisher.publish(frame).unwrap();
        }
        tokio::task::yield_now().await;
        // In one leap: nobody's timers are due in between.
        tokio::time::advance((begin - scene.at).to_duration()).await;
        scene.at = begin;
        scene.second().await;
        scene
    }

    /// Publishes a second of it. In the hour around the wrap, but not close to it, that is a keyframe and two sounds.
    async fn second(&mut self) {
        let away = (self.at - WRAP).abs();
        let all = away < seconds(20) || self.at == self.begin;
        let (mut sounds, mut out) = (0, BytesMut::new());
        let end = self.at + seconds(1);
        let frames = self.source.clone().starting_at(self.at).take(if all { usize::MAX } else { 8 });
        for frame in frames.take_while(|frame| frame.dts < end) {
            let is_sound = frame.track == TrackId::AUDIO;
            sounds += usize::from(is_sound);
            if all || (is_sound && sounds <= 2) || (!is_sound && frame.is_keyframe()) {
                self.muxer.frame(&frame, &mut out);
                self.sent.push(frame);
            }
        }
        self.demuxer.push(&out).unwrap();
        self.publish();
        tokio::time::sleep(seconds(1).to_duration()).await;
        self.at += seconds(1);
    }

    fn publish(&mut self) {
        while let Some(event) = self.demuxer.poll_event() {
            self.publisher.handle(event).unwrap();
        }
    }

    async fn play_until(&mut self, until: Timestamp) {
        while self.at < until {
            self.second().await;
        }
    }

    /// Ends the stream: what the demuxer holds back is published too, and everything is what was sent, at the same distances.
    /// Returns what was sent, and what was seen of it.
    async fn finish(mut self) -> (Vec<MediaFrame>, Vec<MediaFrame>) {
        self.demuxer.finish().unwrap();
        self.publish();
        assert_eq!(self.demuxer.counters(), ts::Counters::default(), "nothing is lost or odd");
        drop(self.publisher);
        self.engine.drain();
        let mut seen = self.reader.await.unwrap();
        seen.retain(|frame| frame.dts >= self.begin);
        let odd = FrameFlags::DISCONTINUITY | FrameFlags::CLAMPED;
        assert!(seen.iter().all(|frame| !frame.flags.intersects(odd)), "one timeline");
        assert_same(&self.sent, &seen);
        (self.sent, seen)
    }
}

/// Asserts that frames are those that were sent, from the first picture on, and as far from each other to the tick. Sounds come
/// out of a transport stream before the picture beside them, and those before the first one are not read.
fn assert_same(sent: &[MediaFrame], got: &[MediaFrame]) {
    for (id, early) in [(TrackId::VIDEO, 0), (TrackId::AUDIO, 3)] {
        let of = |frames: &[MediaFrame]| -> Vec<_> {
            frames.iter().filter(|frame| frame.track == id).cloned().collect()
        };
        let (sent, got) = (of(sent), of(got));
        let missed = sent.len().checked_sub(got.len()).unwrap();
        assert!(missed <= early, "{missed} frames of track {id} are missing");
        let sent = &sent[missed..];
        let ticks = |frame: &MediaFrame, first: &MediaFrame| {
            [frame.dts, frame.pts].map(|at| (at - first.dts).to_ticks(Timescale::MPEG))
        };
        let differs = sent.iter().zip(&got).position(|(one, other)| {
            let (sent_at, got_at) = (ticks(one, &sent[0]), ticks(other, &got[0]));
            one.payload != other.payload || sent_at.iter().zip(got_at).any(|(a, b)| (a - b).abs() > 1)
        });
        assert_eq!(differs, None, "track {id}");
    }
}

/// F22: timestamps wrap on their way in and out, and nobody is told.
#[tokio::test(start_paused = true)]
async fn f22_a_wrap_is_no_discontinuity_on_the_way_in_or_out() {
    let mut scene = Scene::new(WRAP - seconds(20)).await;
    scene.play_until(WRAP - seconds(10)).await;
    let hls = Hls::new(&scene.engine.context(scene.stop.clone()), Config::default());
    hls.start(&scene.engine.streams()[0]);
    scene.play_until(WRAP - seconds(5)).await;
    let (mut checkers, mut listed) = ([Checker::new(), Checker::new()], Vec::new());
    while scene.at < WRAP + seconds(15) {
        scene.second().await;
        for (checker, name) in checkers.iter_mut().zip(["video0.m3u8", "audio1.m3u8"]) {
            let text = get(&hls, name).await;
            assert!(text.lines().all(|line| line != "#EXT-X-DISCONTINUITY"), "{text}");
            let media = checker.check(name, &text).unwrap();
            listed.push((name, media));
        }
    }
    checkers.iter().for_each(Checker::assert_clean);
    for name in ["video0.m3u8", "audio1.m3u8"] {
        let of_name = || listed.iter().filter(|(other, _)| *other == name).map(|(_, media)| media);
        let last = |media: &Media| media.last().map(|(segment, _)| segment);
        let segments = of_name().filter_map(last).max().unwrap() - of_name().filter_map(last).min().unwrap();
        assert!((8..=20).contains(&segments), "{name}: {segments} segments of 1 to 2 s in 20 s");
    }
    let (_, seen) = scene.finish().await;
    // On the way out: what our muxer makes of the stream is taken for one timeline by our demuxer.
    let (mut muxer, mut out) = (ts::Muxer::new(), BytesMut::new());
    muxer.set_tracks(&Source::h264_aac().tracks());
    seen.iter().for_each(|frame| muxer.frame(frame, &mut out));
    let mut demuxer = ts::Demuxer::default();
    demuxer.push(&out).unwrap();
    demuxer.finish().unwrap();
    let events = std::iter::from_fn(|| demuxer.poll_event());
    assert_same(&seen, &events.filter_map(frame).collect::<Vec<_>>());
    assert_eq!(demuxer.counters(), ts::Counters::default());
}

async fn get(hls: &Hls, name: &str) -> String {
    let peer = ([127, 0, 0, 1], 1).into();
    let request =
        PlayRequest::new(key(), ClientInfo::new("hls", peer), Credentials::new("hls").with_remote(peer));
    let answer = hls.handle(request, name.parse().unwrap(), &Method::GET, &HeaderMap::new()).await;
    assert_eq!(answer.status(), 200);
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// An hour is recorded, half of it before the wrap: listed as one row of files, and played by time over the wrap.
#[tokio::test(start_paused = true)]
async fn an_hour_across_the_wrap_is_recorded_and_played_by_time() {
    let mut scene = Scene::new(BEGIN).await;
    let folders = [Format::Ts, Format::Mp4].map(|format| (format, tempfile::tempdir().unwrap()));
    let mut records = Vec::new();
    for (format, folder) in &folders {
        let storage = Arc::new(FsStorage::open(folder.path()).await.unwrap());
        let index = Index::open(storage, &NameTemplate::default()).await.unwrap();
        let mut options = RecordOptions::default();
        (options.format, options.segment_duration) = (*format, Duration::from_secs(600));
        let context = scene.engine.context(scene.stop.clone());
        let (recorder, stop) = (Recorder::new(context, Arc::clone(&index), options), scene.stop.clone());
        let task = tokio::spawn(async move { recorder.run(key(), &stop).await });
        records.push((format, index, task));
    }
    scene.play_until(WRAP + HALF_HOUR).await;
    let (sent, _) = scene.finish().await;
    for (format, index, task) in records {
        task.await.unwrap().unwrap();
        let recordings = index.of_stream(&key(), UNIX_EPOCH, 100);
        let length: Duration = recordings.iter().map(|recording| recording.duration).sum();
        assert!(recordings.len() >= 6 && recordings[1..].iter().all(|recording| recording.continues));
        assert!(length.abs_diff(HOUR.to_duration()) < Duration::from_secs(2), "{format:?}: {length:?}");
        let start = recordings[0].start;
        let hour = sent.iter().position(|frame| frame.dts >= BEGIN).unwrap();
        assert_same(&sent[hour..], &play(&index, start, HOUR.to_duration() * 2).await);
        // Ten seconds on either side, from the keyframe at the beginning on.
        let middle = start + HALF_HOUR.to_duration();
        let part = play(&index, middle - Duration::from_millis(9_500), Duration::from_secs(20)).await;
        let around = |frame: &MediaFrame| (-seconds(11)..seconds(11)).contains(&(frame.dts - WRAP));
        let (all, part) = (pictures(sent.iter().filter(|frame| around(frame))), pictures(part.iter()));
        assert!((500..=540).contains(&part.len()), "{format:?}: {} pictures", part.len());
        assert!(all.windows(part.len()).any(|all| all == part), "{format:?}: the pictures around the wrap");
    }
}

fn pictures<'a>(frames: impl Iterator<Item = &'a MediaFrame>) -> Vec<Bytes> {
    frames.filter(|frame| frame.track == TrackId::VIDEO).map(|frame| frame.payload.clone()).collect()
}

/// A span of what was recorded: its frames.
async fn play(index: &Arc<Index>, from: SystemTime, length: Duration) -> Vec<MediaFrame> {
    let mut playback = Playback::new(Arc::clone(index), &key(), from, length).unwrap();
    let mut reader = fmp4::Reader::new();
    while let Some(bytes) = playback.next().await.unwrap() {
        bytes.iter().for_each(|bytes| reader.push(bytes).unwrap());
    }
    reader.finish().unwrap();
    std::iter::from_fn(|| reader.poll_event()).filter_map(frame).collect()
}

fn frame(event: MediaEvent) -> Option<MediaFrame> {
    if let MediaEvent::Frame(frame) = event { Some(frame) } else { None }
}
