use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::*;
use crate::codec::{CodecConfig, OpusConfig};
use crate::contract::transcode::{TranscodeError, TranscodeSession};
use crate::frame::{FrameFlags, MediaFrame};
use crate::log::Read;
use crate::time::Timestamp;
use crate::track::TrackId;
use crate::{CloseReason, Engine, PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, Publisher};
use crate::{StreamKey, Subscriber, Subscription, clock};

const AAC: AudioChoice = Some(&[CodecId::Aac, CodecId::Mp3]);

/// "Codes" by reversing the payload, one frame behind. `panic` panics, `fail` fails, `bad` is of no use, and `wait` waits
/// to be let on.
struct Session {
    track: Track,
    held: VecDeque<MediaFrame>,
    finished: bool,
    open: Arc<AtomicUsize>,
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TranscodeSession for Session {
    fn track(&self) -> Option<&Track> {
        Some(&self.track)
    }
    fn put(&mut self, frame: &MediaFrame) -> Result<(), TranscodeError> {
        match &frame.payload[..] {
            b"panic" => panic!("a codec that panics"),
            b"fail" => return Err(TranscodeError::Failed("it has".into())),
            b"bad" => return Err(TranscodeError::Frame("it is".into())),
            b"wait" => self.gate.lock().recv().expect("let on"),
            _ => {}
        }
        let payload = frame.payload.iter().rev().copied().collect();
        self.held.push_back(MediaFrame { payload, flags: FrameFlags::empty(), ..frame.clone() });
        Ok(())
    }
    fn take(&mut self) -> Option<MediaFrame> {
        if self.finished || self.held.len() > 1 { self.held.pop_front() } else { None }
    }
    fn finish(&mut self) {
        self.finished = true;
    }
}

/// Makes AAC of Opus.
struct FromOpus {
    open: Arc<AtomicUsize>,
    opened: AtomicUsize,
    gate: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Transcoder for FromOpus {
    fn supports(&self, source: &Track, target: &TranscodeTarget) -> bool {
        (source.codec, target.codec) == (CodecId::Opus, CodecId::Aac)
    }
    fn open(&self, _: &Track, target: &TranscodeTarget) -> Result<Box<dyn TranscodeSession>, TranscodeError> {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.opened.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(Session {
            track: Track::new(target.track, target.codec, CodecConfig::None),
            held: VecDeque::new(),
            finished: false,
            open: Arc::clone(&self.open),
            gate: Arc::clone(&self.gate),
        }))
    }
}

struct Bench {
    engine: Arc<Engine>,
    transcoder: Arc<FromOpus>,
    gate: mpsc::Sender<()>,
}

fn bench() -> Bench {
    let (gate, waits) = mpsc::channel();
    let transcoder = Arc::new(FromOpus {
        open: Arc::default(),
        opened: AtomicUsize::new(0),
        gate: Arc::new(Mutex::new(waits)),
    });
    let engine = Engine::builder().transcoder(transcoder.clone()).build();
    Bench { engine, transcoder, gate }
}

impl Bench {
    async fn publisher(&self) -> Publisher {
        self.engine.publish(PublishRequest::internal(key(), "test")).await.expect("admitted")
    }

    async fn play(&self, audio: AudioChoice) -> Subscription {
        self.engine.subscribe(PlayRequest::internal(key(), "test").audio(audio)).await.expect("there")
    }

    async fn play_frames(&self, audio: AudioChoice) -> Subscriber {
        self.play(audio).await.into_frames()
    }

    fn open(&self) -> usize {
        self.transcoder.open.load(Ordering::SeqCst)
    }

    fn maintain(&self) {
        self.engine.maintain(clock::now(), SystemTime::now());
    }
}

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

fn audio(codec: CodecId, config: CodecConfig) -> Track {
    Track::new(TrackId::AUDIO, codec, config)
}

fn tracks(codec: CodecId) -> TrackSet {
    let video = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
    TrackSet::new([video, audio(codec, CodecConfig::None)])
}

fn frame(track: TrackId, ms: i64, payload: &'static [u8]) -> MediaFrame {
    MediaFrame::new(track, Timestamp::from_millis(ms), payload.into()).with_flags(FrameFlags::KEYFRAME)
}

fn picture(publisher: &mut Publisher, ms: i64) {
    publisher.publish(frame(TrackId::VIDEO, ms, b"picture")).expect("published");
}

fn sound(publisher: &mut Publisher, ms: i64, payload: &'static [u8]) {
    publisher.publish(frame(TrackId::AUDIO, ms, payload)).expect("published");
}

/// The next thing: tracks by their codecs, a frame by its track, time and payload.
async fn next(reader: &mut Subscriber) -> String {
    match reader.next().await {
        Ok(Some(Read::Context(tracks))) => {
            tracks.iter().map(|track| track.codec.to_string()).collect::<Vec<_>>().join("+")
        }
        Ok(Some(Read::Item(frame))) => {
            let payload = String::from_utf8_lossy(&frame.payload).into_owned();
            format!("{}@{} {payload}", frame.track, frame.dts.to_millis())
        }
        Ok(Some(Read::Skipped(skip))) => format!("{skip:?}"),
        Ok(None) => format!("ended: {:?}", reader.subscription().log().closed()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test(start_paused = true)]
async fn sound_that_a_reader_takes_is_read_as_it_is() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Aac)).expect("set");
    picture(&mut publisher, 0);
    for choice in [AAC, None, Some(&[CodecId::Opus]), Some(&[])] {
        let subscription = bench.play(choice).await;
        let stream = subscription.stream();
        assert!(Arc::ptr_eq(subscription.feed(), stream.feed()), "{choice:?}: nothing makes Opus here");
    }
    assert_eq!(bench.engine.transcoding(), TranscodeUsage::default());
}

#[tokio::test(start_paused = true)]
async fn sound_is_made_for_whoever_needs_it_and_once() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    sound(&mut publisher, 1, b"abc");
    sound(&mut publisher, 20, b"def");
    let (mut first, mut second) = (bench.play_frames(AAC).await, bench.play_frames(AAC).await);
    assert!(Arc::ptr_eq(first.subscription().feed(), second.subscription().feed()));
    for reader in [&mut first, &mut second] {
        assert_eq!(next(reader).await, "h264+aac");
        assert_eq!(next(reader).await, "0@0 picture");
        assert_eq!(next(reader).await, "1@1 cba");
    }
    picture(&mut publisher, 40);
    sound(&mut publisher, 41, b"ghi");
    assert_eq!(next(&mut first).await, "0@40 picture");
    assert_eq!(next(&mut first).await, "1@20 fed");
    assert_eq!((bench.open(), bench.transcoder.opened.load(Ordering::SeqCst)), (1, 1));
    let usage = bench.engine.transcoding();
    assert_eq!((usage.renditions, usage.sessions, usage.frames_in, usage.frames_out), (1, 1, 3, 2));
    let info = bench.engine.stream(&key()).expect("there").info();
    assert_eq!(info.tracks.get(TrackId::AUDIO).map(|track| track.codec), Some(CodecId::Opus));
    assert_eq!(info.renditions.iter().map(|made| made.audio).collect::<Vec<_>>(), [CodecId::Aac]);
    assert_eq!(info.readers, 2);
    let mut plain = bench.play_frames(None).await;
    assert_eq!(next(&mut plain).await, "h264+opus");
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_passes_is_shared() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    let picture = frame(TrackId::VIDEO, 0, b"picture");
    publisher.publish(picture.clone()).expect("published");
    let mut reader = bench.play_frames(AAC).await;
    assert_eq!(next(&mut reader).await, "h264+aac");
    let Ok(Some(Read::Item(read))) = reader.next().await else { panic!("a picture") };
    assert_eq!(read.payload.as_ptr(), picture.payload.as_ptr());
}

#[tokio::test(start_paused = true)]
async fn a_rendition_outlives_its_last_reader_by_its_linger() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    let mut reader = bench.play_frames(AAC).await;
    assert_eq!(next(&mut reader).await, "h264+aac");
    drop(reader);
    bench.maintain();
    tokio::time::advance(LINGER - Duration::from_millis(1)).await;
    bench.maintain();
    assert_eq!(bench.engine.transcoding().sessions, 1);
    // Somebody comes just in time, so that it begins to linger anew.
    let feed = Arc::downgrade(bench.play(AAC).await.feed());
    bench.maintain();
    assert!(feed.upgrade().is_some());
    tokio::time::advance(LINGER).await;
    bench.maintain();
    while bench.engine.transcoding().renditions > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!((bench.open(), bench.engine.transcoding().sessions), (0, 0));
    // It is made again when somebody needs it again.
    let mut reader = bench.play_frames(AAC).await;
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(bench.transcoder.opened.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_before_the_sound_is_known_gets_what_it_takes() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    let mut reader = bench.play_frames(AAC).await;
    let video = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
    publisher.set_tracks(TrackSet::new([video])).expect("set");
    picture(&mut publisher, 0);
    assert_eq!(next(&mut reader).await, "h264");
    assert_eq!(next(&mut reader).await, "0@0 picture");
    assert_eq!(bench.open(), 0);
    publisher.set_tracks(tracks(CodecId::Aac)).expect("set");
    sound(&mut publisher, 10, b"abc");
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(next(&mut reader).await, "1@10 abc");
    assert_eq!(bench.open(), 0);
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    sound(&mut publisher, 20, b"def");
    sound(&mut publisher, 30, b"ghi");
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(next(&mut reader).await, "1@20 fed");
    assert_eq!(bench.open(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_new_configuration_is_a_new_session_and_the_old_one_is_emptied_first() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    sound(&mut publisher, 1, b"abc");
    let mut reader = bench.play_frames(AAC).await;
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(next(&mut reader).await, "0@0 picture");
    // Another label changes nothing for a decoder.
    let mut labelled = tracks(CodecId::Opus);
    labelled.insert(Track { label: Some("English".into()), ..audio(CodecId::Opus, CodecConfig::None) });
    publisher.set_tracks(labelled).expect("set");
    picture(&mut publisher, 40);
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(next(&mut reader).await, "0@40 picture");
    assert_eq!(bench.transcoder.opened.load(Ordering::SeqCst), 1);
    let mut mono = tracks(CodecId::Opus);
    mono.insert(audio(CodecId::Opus, CodecConfig::Opus(OpusConfig { channels: 1, ..OpusConfig::default() })));
    publisher.set_tracks(mono).expect("set");
    sound(&mut publisher, 50, b"def");
    assert_eq!(next(&mut reader).await, "1@1 cba");
    sound(&mut publisher, 60, b"ghi");
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(next(&mut reader).await, "1@50 fed");
    assert_eq!((bench.open(), bench.transcoder.opened.load(Ordering::SeqCst)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_coded_is_missing_and_what_fails_is_silent() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    let mut reader = bench.play_frames(AAC).await;
    assert_eq!(next(&mut reader).await, "h264+aac");
    assert_eq!(next(&mut reader).await, "0@0 picture");
    for (ms, payload) in [(1, &b"abc"[..]), (2, b"bad"), (3, b"def")] {
        sound(&mut publisher, ms, payload);
    }
    assert_eq!(next(&mut reader).await, "1@1 cba");
    sound(&mut publisher, 4, b"fail");
    sound(&mut publisher, 5, b"ghi");
    picture(&mut publisher, 40);
    assert_eq!(next(&mut reader).await, "0@40 picture");
    let usage = bench.engine.transcoding();
    assert_eq!((usage.failed, bench.open()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_panics_ends_its_rendition_alone() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    let (mut made, mut plain) = (bench.play_frames(AAC).await, bench.play_frames(None).await);
    assert_eq!(next(&mut made).await, "h264+aac");
    assert_eq!(next(&mut made).await, "0@0 picture");
    sound(&mut publisher, 1, b"panic");
    assert_eq!(next(&mut made).await, format!("ended: {:?}", Some(CloseReason::Internal)));
    for expected in ["h264+opus", "0@0 picture", "1@1 panic"] {
        assert_eq!(next(&mut plain).await, expected);
    }
    // Whoever comes next gets another one.
    picture(&mut publisher, 40);
    let mut again = bench.play_frames(AAC).await;
    assert_eq!(next(&mut again).await, "h264+aac");
    assert_eq!(next(&mut again).await, "0@40 picture");
}

#[tokio::test(start_paused = true)]
async fn coding_that_takes_long_holds_up_its_rendition_alone() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    let (mut made, mut plain) = (bench.play_frames(AAC).await, bench.play_frames(None).await);
    assert_eq!(next(&mut made).await, "h264+aac");
    assert_eq!(next(&mut made).await, "0@0 picture");
    sound(&mut publisher, 1, b"wait");
    tokio::task::yield_now().await;
    picture(&mut publisher, 40);
    for expected in ["h264+opus", "0@0 picture", "1@1 wait", "0@40 picture"] {
        assert_eq!(next(&mut plain).await, expected);
    }
    bench.gate.send(()).expect("waits");
    assert_eq!(next(&mut made).await, "0@40 picture");
    sound(&mut publisher, 41, b"abc");
    assert_eq!(next(&mut made).await, "1@1 tiaw");
}

#[tokio::test(start_paused = true)]
async fn a_rendition_ends_with_its_stream_and_keeps_nothing_back() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(tracks(CodecId::Opus)).expect("set");
    picture(&mut publisher, 0);
    sound(&mut publisher, 1, b"abc");
    let mut reader = bench.play_frames(AAC).await;
    bench.engine.drain();
    for expected in ["h264+aac", "0@0 picture", "1@1 cba"] {
        assert_eq!(next(&mut reader).await, expected);
    }
    assert_eq!(next(&mut reader).await, format!("ended: {:?}", Some(CloseReason::Shutdown)));
}

#[tokio::test(start_paused = true)]
async fn without_pictures_readers_begin_where_they_could_in_the_stream() {
    let bench = bench();
    let mut publisher = bench.publisher().await;
    publisher.set_tracks(TrackSet::new([audio(CodecId::Opus, CodecConfig::None)])).expect("set");
    for ms in (0..3_000).step_by(20) {
        sound(&mut publisher, ms, b"abc");
    }
    let mut reader = bench.play_frames(AAC).await;
    assert_eq!(next(&mut reader).await, "aac");
    assert_eq!(next(&mut reader).await, "1@2000 cba");
}
