//! The engine's policies, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use arcly_core::contract::auth::Credentials;
use arcly_core::ingest::Published;
use arcly_core::log::{Progress, Read, StartMode};
use arcly_core::track::TrackMask;
use arcly_core::via::MAX_HOPS;
use arcly_core::{
    AppSpec, ClientInfo, CloseReason, CodecConfig, CodecId, Engine, FrameFlags, MediaFrame, OnDemand,
    PlayRequest, PlaybackRegistry, PublishRegistry, PublishRequest, Publisher, Stream, StreamError,
    StreamKey, StreamState, Subscriber, Takeover, TimeDelta, Timestamp, Track, TrackId, TrackSet, Via,
};
use bytes::Bytes;
use tokio::time::{advance, sleep, timeout};

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

fn engine(app: AppSpec) -> Arc<Engine> {
    Engine::builder().app(app).build()
}

fn tracks() -> TrackSet {
    let video = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
    TrackSet::new([video, Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::None)])
}

async fn publish(engine: &Engine) -> Result<Publisher, StreamError> {
    let mut publisher = engine.publish(PublishRequest::internal(key(), "test")).await?;
    publisher.set_tracks(tracks())?;
    Ok(publisher)
}

async fn subscribe(engine: &Engine) -> Subscriber {
    engine.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames()
}

/// Video at 25 fps in real (virtual) time, a keyframe every 10 frames, source time from `from_ms`.
async fn stream(publisher: &mut Publisher, from_ms: i64, frames: i64) {
    for n in 0..frames {
        let flags = if n % 10 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
        let dts = Timestamp::from_millis(from_ms + n * 40);
        publisher
            .publish(MediaFrame::new(TrackId::VIDEO, dts, Bytes::from_static(b"v")).with_flags(flags))
            .unwrap();
        advance(Duration::from_millis(40)).await;
    }
}

/// Everything that is there: (milliseconds, keyframe, discontinuity).
async fn drain(reader: &mut Subscriber) -> Vec<(i64, bool, bool)> {
    let mut batch = Vec::new();
    let _ = timeout(Duration::from_millis(1), reader.next_batch(&mut batch)).await;
    let frames = batch.into_iter().filter_map(|read| match read {
        Read::Item(frame) => Some((
            frame.dts.to_millis(),
            frame.is_keyframe(),
            frame.flags.contains(FrameFlags::DISCONTINUITY),
        )),
        _ => None,
    });
    frames.collect()
}

fn refused(result: Result<Publisher, StreamError>) -> CloseReason {
    match result {
        Err(StreamError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    }
}

/// Looks at a stream's tracks in the moment in which a reader is woken.
struct Onlooker {
    stream: Arc<Stream>,
    seen: AtomicUsize,
}

impl Wake for Onlooker {
    fn wake(self: Arc<Self>) {
        self.seen.fetch_max(self.stream.tracks().len(), Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_is_woken_by_the_first_frame_knows_the_tracks() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    let mut reader = subscribe(&engine).await;
    let onlooker =
        Arc::new(Onlooker { stream: engine.stream(&key()).unwrap(), seen: AtomicUsize::default() });
    let waker = Waker::from(Arc::clone(&onlooker));
    assert!(reader.poll_ready(&Context::from_waker(&waker)).is_pending());
    stream(&mut publisher, 0, 1).await;
    assert_eq!(onlooker.seen.load(Ordering::Relaxed), 2);
}

#[tokio::test(start_paused = true)]
async fn f01_a_returning_publisher_resumes_the_timeline_and_readers_stay() {
    let engine = engine(AppSpec::new("live"));
    let mut first = publish(&engine).await.unwrap();
    stream(&mut first, 5_000, 25).await;
    let mut reader = subscribe(&engine).await;
    assert_eq!(
        drain(&mut reader).await.first(),
        Some(&(800, true, false)),
        "the newest keyframe, of a zero-based timeline"
    );
    drop(first);
    assert_eq!(engine.stream(&key()).unwrap().state(), StreamState::Grace);
    sleep(Duration::from_secs(3)).await;

    let mut second = publish(&engine).await.unwrap();
    // It begins in the middle of a GOP, and with a clock of its own.
    let delta = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(77), Bytes::from_static(b"v"));
    assert_eq!(second.publish(delta).unwrap(), Published::BeforeKeyframe);
    stream(&mut second, 90_000_000, 20).await;
    let frames = drain(&mut reader).await;
    assert_eq!(frames.len(), 20);
    assert_eq!(frames.iter().filter(|frame| frame.2).count(), 1, "one discontinuity");
    assert!(frames[0].1 && frames[0].2, "on the keyframe that it resumes with");
    assert!((3_900..4_200).contains(&frames[0].0), "in step with real time: {}", frames[0].0);
    assert!(frames.windows(2).all(|pair| pair[1].0 - pair[0].0 == 40));
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_its_grace_period() {
    let engine = engine(AppSpec::new("live").grace(Duration::from_secs(10)));
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 1).await;
    let mut reader = subscribe(&engine).await;
    drop(publisher);
    drain(&mut reader).await;
    assert!(timeout(Duration::from_millis(9_500), reader.next()).await.is_err(), "still waiting");
    assert!(matches!(timeout(Duration::from_secs(2), reader.next()).await.unwrap(), Ok(None)), "and over");
    sleep(Duration::from_secs(1)).await;
    assert!(engine.stream(&key()).is_none());
}

#[tokio::test(start_paused = true)]
async fn f04_without_readers_a_stream_is_forgotten_within_five_seconds() {
    let engine = engine(AppSpec::new("live").grace(Duration::from_secs(60)));
    drop(publish(&engine).await.unwrap());
    sleep(Duration::from_millis(5_600)).await;
    assert!(engine.stream(&key()).is_none());
}

#[tokio::test(start_paused = true)]
async fn f05_a_live_publisher_is_not_hijacked_and_a_silent_one_is_replaced() {
    let engine = engine(AppSpec::new("live"));
    let mut first = publish(&engine).await.unwrap();
    stream(&mut first, 0, 10).await;
    assert_eq!(refused(publish(&engine).await), CloseReason::Conflict);
    sleep(Duration::from_millis(1_900)).await;
    assert_eq!(refused(publish(&engine).await), CloseReason::Conflict, "not silent for long enough");
    sleep(Duration::from_millis(100)).await;
    let mut second = publish(&engine).await.unwrap();
    assert_eq!(first.revoked().await, CloseReason::Conflict);
    let frame = MediaFrame::new(TrackId::VIDEO, Timestamp::ZERO, Bytes::new());
    assert!(matches!(first.publish(frame), Err(StreamError::Closed(CloseReason::Conflict))));
    drop(first);
    stream(&mut second, 0, 10).await;
    assert_eq!(
        engine.stream(&key()).unwrap().state(),
        StreamState::Live,
        "the loser's leaving changes nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn replace_and_reject() {
    let replacing = engine(AppSpec::new("live").takeover(Takeover::Replace));
    let first = publish(&replacing).await.unwrap();
    let _second = publish(&replacing).await.unwrap();
    assert_eq!(first.close_reason(), Some(CloseReason::Conflict));

    let rejecting = engine(AppSpec::new("live").takeover(Takeover::Reject));
    let _first = publish(&rejecting).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(refused(publish(&rejecting).await), CloseReason::Conflict, "however silent");
}

#[tokio::test(start_paused = true)]
async fn a_standby_takes_over_at_its_keyframe_on_a_continuous_timeline() {
    let engine = engine(AppSpec::new("live").takeover(Takeover::Standby));
    let mut main = publish(&engine).await.unwrap();
    let mut backup = publish(&engine).await.unwrap();
    let mut reader = {
        stream(&mut main, 0, 1).await;
        subscribe(&engine).await
    };
    // Both send; the backup's clock is an hour ahead and its keyframes are elsewhere.
    for n in 1..40i64 {
        let frame = |ms, key| {
            let flags = if key { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
            MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(ms), Bytes::new()).with_flags(flags)
        };
        if n < 20 {
            main.publish(frame(n * 40, n % 10 == 0)).unwrap();
        } else if n == 20 {
            main.state().revoke(CloseReason::PeerClosed);
        }
        if n == 20 {
            drop(core::mem::replace(&mut main, publish(&engine).await.unwrap()));
        }
        let published = backup.publish(frame(3_600_000 + n * 40, n % 10 == 5)).unwrap();
        let expected = match n {
            ..20 => Published::Standby,
            20..25 => Published::BeforeKeyframe,
            _ => Published::Logged,
        };
        assert_eq!(published, expected, "frame {n}");
        advance(Duration::from_millis(40)).await;
    }
    let frames = drain(&mut reader).await;
    assert_eq!(frames.len(), 20 + 15);
    assert_eq!(frames.iter().filter(|frame| frame.2).count(), 1);
    assert!(frames.windows(2).all(|pair| pair[1].0 > pair[0].0), "{frames:?}");
    assert_eq!(frames[20].0 - frames[19].0, 6 * 40, "as much later as nothing came");
}

#[tokio::test(start_paused = true)]
async fn a_silent_main_is_passed_by_the_standby() {
    let engine = engine(AppSpec::new("live").takeover(Takeover::Standby));
    let mut main = publish(&engine).await.unwrap();
    let mut backup = publish(&engine).await.unwrap();
    stream(&mut main, 0, 10).await;
    sleep(Duration::from_secs(3)).await;
    let key = MediaFrame::new(TrackId::VIDEO, Timestamp::ZERO, Bytes::new()).with_flags(FrameFlags::KEYFRAME);
    assert_eq!(backup.publish(key.clone()).unwrap(), Published::Logged);
    assert_eq!(main.publish(key).unwrap(), Published::Standby, "and becomes the standby");
}

#[tokio::test(start_paused = true)]
async fn readers_wait_for_a_stream_and_wake_its_source() {
    #[derive(Default)]
    struct Hook(parking_lot::Mutex<Vec<StreamKey>>);
    impl OnDemand for Hook {
        fn wanted(&self, key: &StreamKey) {
            self.0.lock().push(key.clone());
        }
    }
    let hook = Arc::new(Hook::default());
    let app = AppSpec::new("live").wait_for_stream(Duration::from_secs(5));
    let engine = Engine::builder().app(app).on_demand(hook.clone()).build();
    let missing = engine.subscribe(PlayRequest::internal(key(), "test")).await;
    assert!(matches!(missing, Err(StreamError::Refused { reason: CloseReason::NotFound, .. })));
    assert_eq!(*hook.0.lock(), [key()]);

    let waiting = tokio::spawn({
        let engine = Arc::clone(&engine);
        async move { subscribe(&engine).await }
    });
    sleep(Duration::from_secs(2)).await;
    let info = engine.stream(&key()).unwrap().info();
    assert_eq!((info.state, info.readers, info.waiting), (StreamState::Waiting, 0, 1));
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 10).await;
    let mut reader = waiting.await.unwrap();
    assert_eq!(drain(&mut reader).await.len(), 10, "from the first frame on");
    let at_once = engine.subscribe(PlayRequest::internal(StreamKey::new("other", "x"), "test")).await;
    assert!(at_once.is_err(), "other applications do not wait");
}

/// What can be had on demand is waited for wherever it is, and asked for until somebody publishes it.
#[tokio::test(start_paused = true)]
async fn readers_wait_for_what_has_a_source() {
    #[derive(Default)]
    struct Hook(parking_lot::Mutex<u32>);
    impl OnDemand for Hook {
        fn patience(&self, wanted: &StreamKey) -> Option<Duration> {
            (*wanted == key()).then_some(Duration::from_secs(3))
        }

        fn wanted(&self, _: &StreamKey) {
            *self.0.lock() += 1;
        }
    }
    let hook = Arc::new(Hook::default());
    let engine = Engine::builder().on_demand(hook.clone()).build();
    let began = tokio::time::Instant::now();
    assert_eq!(reason(engine.subscribe(PlayRequest::internal(key(), "test")).await), CloseReason::NotFound);
    assert_eq!((began.elapsed(), *hook.0.lock()), (Duration::from_secs(3), 1));
    let no_wait = PlayRequest::internal(key(), "test").wait(Duration::ZERO);
    assert_eq!(reason(engine.subscribe(no_wait).await), CloseReason::NotFound);
    assert_eq!((began.elapsed(), *hook.0.lock()), (Duration::from_secs(3), 2));

    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 10).await;
    let reader = subscribe(&engine).await;
    let there = engine.stream(&key()).unwrap();
    assert!(there.is_wanted(|_| true) && !there.is_wanted(|reader| reader.client.protocol == "other"));
    assert_eq!(*hook.0.lock(), 2, "it is there");
    drop(publisher);
    let second = subscribe(&engine).await;
    assert_eq!(*hook.0.lock(), 3, "its publisher is gone");
    drop((reader, second));
    assert!(!there.is_wanted(|_| true));
}

#[tokio::test(start_paused = true)]
async fn r46_names_that_are_not_there_leave_nothing_behind() {
    let engine = engine(AppSpec::new("live").wait_for_stream(Duration::from_millis(10)));
    for n in 0..1_000 {
        let key = StreamKey::new("live", &format!("none{n}"));
        assert!(engine.subscribe(PlayRequest::internal(key, "test")).await.is_err());
    }
    sleep(Duration::from_secs(10)).await;
    assert_eq!(engine.streams().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn keyframe_requests_reach_the_publisher_at_most_twice_a_second() {
    let engine = engine(AppSpec::new("live"));
    let publisher = publish(&engine).await.unwrap();
    let stream = engine.stream(&key()).unwrap();
    let mut requests = 0;
    for _ in 0..100 {
        stream.request_keyframe();
        requests +=
            u32::from(timeout(Duration::from_millis(20), publisher.keyframe_requested()).await.is_ok());
        sleep(Duration::from_millis(20)).await;
    }
    assert!((4..=9).contains(&requests), "{requests} in two to four seconds");
    let _reader = subscribe(&engine).await;
    let asked = timeout(Duration::from_secs(1), publisher.keyframe_requested()).await;
    assert!(asked.is_ok() || requests > 0, "a joiner without a keyframe asks by itself");
}

#[tokio::test(start_paused = true)]
async fn keyframes_are_asked_for_by_track_and_of_each_so_often() {
    let engine = engine(AppSpec::new("live"));
    let publisher = publish(&engine).await.unwrap();
    let stream = engine.stream(&key()).unwrap();
    let of = |tracks: &[u8]| tracks.iter().map(|track| TrackId::new(*track).unwrap()).collect::<TrackMask>();
    let asked = async || timeout(Duration::from_millis(1), publisher.keyframe_requested_of()).await.ok();
    stream.request_keyframe_of(of(&[0, 3]));
    assert_eq!(asked().await, Some(of(&[0, 3])));
    stream.request_keyframe_of(of(&[3]));
    assert_eq!(asked().await, None, "that was a moment ago");
    stream.request_keyframe_of(of(&[3, 4]));
    stream.request_keyframe_of(of(&[5]));
    stream.request_keyframe_of(of(&[5]));
    assert_eq!(asked().await, Some(of(&[4, 5])), "what waits is asked for at once");
    stream.request_keyframe();
    assert_eq!(asked().await, Some(TrackMask::ALL.difference(of(&[0, 3, 4, 5]))));
    stream.request_keyframe();
    assert_eq!(asked().await, None);
    stream.request_keyframe_of(TrackMask::NONE);
    assert_eq!(asked().await, None);
    sleep(Duration::from_millis(500)).await;
    stream.request_keyframe();
    assert_eq!(asked().await, Some(TrackMask::ALL));
    // Somebody who can be asked for all alone takes any of it for that.
    sleep(Duration::from_millis(500)).await;
    stream.request_keyframe_of(of(&[7]));
    assert!(timeout(Duration::from_millis(1), publisher.keyframe_requested()).await.is_ok());
    assert_eq!(asked().await, None);
}

#[tokio::test(start_paused = true)]
async fn who_can_be_asked_for_all_alone_is_asked_so_often_whatever_is_wanted() {
    let engine = engine(AppSpec::new("live"));
    let publisher = publish(&engine).await.unwrap();
    let stream = engine.stream(&key()).unwrap();
    let one = [TrackId::VIDEO].into_iter().collect::<TrackMask>();
    let mut requests = 0;
    for n in 0..100 {
        if n % 2 == 0 {
            stream.request_keyframe_of(one)
        } else {
            stream.request_keyframe()
        }
        requests +=
            u32::from(timeout(Duration::from_millis(20), publisher.keyframe_requested()).await.is_ok());
        sleep(Duration::from_millis(20)).await;
    }
    assert!((4..=9).contains(&requests), "{requests} in two to four seconds");
}

#[tokio::test(start_paused = true)]
async fn a_change_of_tracks_comes_before_the_first_frame_that_needs_it() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 1).await;
    let mut reader = subscribe(&engine).await;
    stream(&mut publisher, 40, 1).await;
    let mut changed = tracks();
    changed.insert(Track::new(TrackId::VIDEO, CodecId::H265, CodecConfig::None));
    publisher.set_tracks(changed.clone()).unwrap();
    publisher.set_tracks(changed).unwrap();
    let delta = MediaFrame::new(TrackId::VIDEO, Timestamp::from_millis(80), Bytes::new());
    assert_eq!(publisher.publish(delta).unwrap(), Published::BeforeKeyframe, "of the old codec");
    stream(&mut publisher, 120, 2).await;
    let mut batch = Vec::new();
    reader.next_batch(&mut batch).await.unwrap();
    let kinds: Vec<_> = batch
        .iter()
        .map(|read| match read {
            Read::Context(tracks) => {
                format!("v{} {}", tracks.version, tracks.get(TrackId::VIDEO).unwrap().codec)
            }
            Read::Item(frame) => frame.dts.to_millis().to_string(),
            Read::Skipped(_) => "skip".into(),
        })
        .collect();
    assert_eq!(kinds, ["v1 h264", "0", "40", "v2 h265", "120", "160"]);
}

#[tokio::test(start_paused = true)]
async fn f12_audio_alone_can_be_joined_once_a_second() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = engine.publish(PublishRequest::internal(key(), "test")).await.unwrap();
    publisher
        .set_tracks(TrackSet::new([Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None)]))
        .unwrap();
    for n in 0..200 {
        let frame = MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(n * 20), Bytes::new());
        publisher.publish(frame).unwrap();
    }
    let mut reader = subscribe(&engine).await;
    assert_eq!(drain(&mut reader).await.first().map(|frame| frame.0), Some(3_000));
}

#[tokio::test(start_paused = true)]
async fn sound_before_the_first_picture_belongs_to_the_first_gop() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    let mut push = |track, ms, flags| {
        let frame = MediaFrame::new(track, Timestamp::from_millis(ms), Bytes::new()).with_flags(flags);
        publisher.publish(frame).unwrap()
    };
    let (key, none) = (FrameFlags::KEYFRAME, FrameFlags::empty());
    assert_eq!(push(TrackId::AUDIO, 0, none), Published::Logged);
    assert_eq!(push(TrackId::VIDEO, 3, none), Published::BeforeKeyframe);
    assert_eq!(push(TrackId::VIDEO, 7, key), Published::Logged);
    let mut first = subscribe(&engine).await;
    push(TrackId::VIDEO, 47, none);
    let times: Vec<_> = drain(&mut first).await.iter().map(|frame| frame.0).collect();
    assert_eq!(times, [0, 7, 47]);
    push(TrackId::VIDEO, 87, key);
    let mut second = subscribe(&engine).await;
    assert_eq!(
        drain(&mut second).await.first().map(|frame| frame.0),
        Some(87),
        "later ones begin with the picture"
    );
}

#[tokio::test(start_paused = true)]
async fn m30_an_access_unit_of_more_than_8_mib_ends_its_publisher() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    let frame = |size| {
        MediaFrame::new(TrackId::VIDEO, Timestamp::ZERO, Bytes::from(vec![0; size]))
            .with_flags(FrameFlags::KEYFRAME)
    };
    assert_eq!(publisher.publish(frame(8 << 20)).unwrap(), Published::Logged);
    let error = publisher.publish(frame((8 << 20) + 1)).unwrap_err();
    assert_eq!(error.reason(), CloseReason::Limit("access_unit"));
}

#[tokio::test(start_paused = true)]
async fn draining_refuses_newcomers_and_ends_the_others_after_their_last_frame() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 10).await;
    let mut reader = subscribe(&engine).await;
    engine.drain();
    assert_eq!(publisher.revoked().await, CloseReason::Shutdown);
    let mut batch = Vec::new();
    let progress = reader.next_batch(&mut batch).await.unwrap();
    assert_eq!(
        (batch.len(), progress),
        (11, Progress::Ended(CloseReason::Shutdown)),
        "the tracks and ten frames"
    );
    assert_eq!(refused(publish(&engine).await), CloseReason::Shutdown);
    assert!(engine.subscribe(PlayRequest::internal(key(), "test")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_reader_can_be_ended_from_outside_and_leaves_the_list() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 1).await;
    let mut reader = subscribe(&engine).await;
    drain(&mut reader).await;
    let id = reader.subscription().state().id;
    let ending = tokio::spawn(async move { reader.next().await.map(drop).map_err(|error| error.reason()) });
    sleep(Duration::from_millis(10)).await;
    engine.reader(id).unwrap().end(CloseReason::Shutdown);
    assert_eq!(ending.await.unwrap(), Err(CloseReason::Shutdown));
    assert_eq!(engine.stream(&key()).unwrap().reader_count(), 0);
    assert!(engine.reader(id).is_none());
}

#[tokio::test(start_paused = true)]
async fn h17_permissions_end_when_they_expire() {
    use arcly_core::contract::auth::{AuthError, AuthRequest, Grant, StreamAuthenticator};
    struct ForFiveSeconds;
    #[async_trait::async_trait]
    impl StreamAuthenticator for ForFiveSeconds {
        async fn authenticate(&self, _: &AuthRequest) -> Result<Grant, AuthError> {
            Ok(Grant::unlimited().until(std::time::SystemTime::now() + Duration::from_secs(5)))
        }
    }
    let engine = Engine::builder().authenticator(Arc::new(ForFiveSeconds)).build();
    let client = ClientInfo::internal("test");
    let request = PublishRequest::new(key(), client, Credentials::new("test"));
    let publisher = engine.publish(request).await.unwrap();
    let now = std::time::SystemTime::now();
    engine.maintain(arcly_core::clock::now(), now + Duration::from_secs(4));
    assert_eq!(publisher.close_reason(), None);
    engine.maintain(arcly_core::clock::now(), now + Duration::from_secs(6));
    assert_eq!(publisher.close_reason(), Some(CloseReason::Unauthorized));
}

#[tokio::test(start_paused = true)]
async fn start_modes() {
    let engine = engine(AppSpec::new("live"));
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 35).await;
    let first = async |start| {
        let request = PlayRequest::internal(key(), "test").start(start);
        let mut reader = engine.subscribe(request).await.unwrap().into_frames();
        drain(&mut reader).await.first().map(|frame| frame.0)
    };
    assert_eq!(first(StartMode::Keyframe).await, Some(1_200));
    assert_eq!(first(StartMode::Oldest).await, Some(0));
    assert_eq!(first(StartMode::LiveEdge).await, None);
    assert_eq!(TimeDelta::from_millis(1), TimeDelta::from_duration(Duration::from_millis(1)));
}

#[tokio::test(start_paused = true)]
async fn f61_policies_change_for_streams_that_begin_later() {
    let engine = engine(AppSpec::new("live").takeover(Takeover::Reject));
    let _incumbent = publish(&engine).await.unwrap();
    engine.set_policies([AppSpec::new("live").takeover(Takeover::Replace)], None, 2);
    assert_eq!(
        publish(&engine).await.unwrap_err().reason(),
        CloseReason::Conflict,
        "it began with that policy"
    );
    let other = |app: &str| engine.publish(PublishRequest::internal(StreamKey::new(app, "b"), "test"));
    assert_eq!(other("unlisted").await.unwrap_err().reason(), CloseReason::Forbidden);
    let _first = other("live").await.unwrap();
    assert!(other("live").await.is_ok(), "this one began with the new one");
    engine.set_policies([AppSpec::new("live")], None, 1);
    let third = engine.publish(PublishRequest::internal(StreamKey::new("live", "c"), "test")).await;
    assert_eq!(third.unwrap_err().reason(), CloseReason::Limit("streams"));
}

/// H23: who is told that a stream has come through it before, refuses it, and whoever publishes it stays.
#[tokio::test(start_paused = true)]
async fn h23_a_stream_that_comes_back() {
    let (a, b) = (engine(AppSpec::new("live").takeover(Takeover::Replace)), engine(AppSpec::new("live")));
    let mut camera = publish(&a).await.unwrap();
    let from_a = a.via(&key());
    let relayed = |via: &Via| PublishRequest::internal(key(), "relay").via(via.clone());
    let there = b.publish(relayed(&from_a)).await.unwrap();
    let from_b = b.via(&key());
    assert!(from_b.meets(&from_a) && from_a != from_b);

    // Pushed back, pulled back.
    assert_eq!(reason(a.publish(relayed(&from_b)).await), CloseReason::Conflict);
    let pulls = PlayRequest::internal(key(), "relay").via(from_a.clone());
    assert_eq!(reason(b.subscribe(pulls).await), CloseReason::Conflict);
    stream(&mut camera, 0, 2).await;
    drop(there);

    // By way of a server that passes on metadata and nothing else: it shows once the stream is there.
    let marked = |engine: &Engine| engine.stream(&key()).unwrap().tracks().metadata.clone();
    let mut by_metadata = tracks();
    by_metadata.metadata = marked(&a);
    let mut foreign = b.publish(PublishRequest::internal(key(), "rtmp")).await.unwrap();
    foreign.set_tracks(by_metadata.clone()).unwrap();
    stream(&mut foreign, 0, 1).await;
    assert!(Via::of(&marked(&b)).meets(&from_a));
    let mut back = a.publish(PublishRequest::internal(key(), "rtmp")).await.unwrap();
    by_metadata.metadata = marked(&b);
    assert!(matches!(back.set_tracks(by_metadata), Err(StreamError::Closed(CloseReason::Conflict))));
}

#[tokio::test(start_paused = true)]
async fn h23_a_recording_may_be_published_where_it_was_made() {
    let a = engine(AppSpec::new("live").grace(Duration::ZERO));
    let mut camera = publish(&a).await.unwrap();
    stream(&mut camera, 0, 2).await;
    let recorded = TrackSet::clone(&a.stream(&key()).unwrap().tracks());
    drop(camera);
    sleep(Duration::from_secs(2)).await;
    let mut replay = a.publish(PublishRequest::internal(key(), "rtmp")).await.unwrap();
    replay.set_tracks(recorded).unwrap();
    stream(&mut replay, 0, 2).await;
}

#[tokio::test(start_paused = true)]
async fn h23_a_chain_has_an_end() {
    let (mut via, mut servers) = (Via::default(), Vec::new());
    for n in 0..=MAX_HOPS {
        let engine = engine(AppSpec::new("live"));
        let published = engine.publish(PublishRequest::internal(key(), "relay").via(via)).await;
        if n == MAX_HOPS {
            assert_eq!(reason(published), CloseReason::Limit("hops"));
            return;
        }
        via = engine.via(&key());
        servers.push((engine, published.unwrap()));
    }
}

fn reason<T>(result: Result<T, StreamError>) -> CloseReason {
    result.err().expect("refused").reason()
}

#[tokio::test(start_paused = true)]
async fn who_only_looks_is_told_what_a_reader_would_be_and_is_none() {
    let mut app = AppSpec::new("live");
    app.max_readers = 1;
    let engine = engine(app);
    let look = || engine.look(PlayRequest::internal(key(), "test").wait(Duration::from_secs(60)));
    let reason = |looked: Result<Arc<TrackSet>, StreamError>| match looked {
        Err(StreamError::Refused { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason(look().await), CloseReason::NotFound, "at once");
    let mut publisher = publish(&engine).await.unwrap();
    stream(&mut publisher, 0, 1).await;
    let mut events = engine.events();
    let published = engine.stream(&key()).unwrap();
    assert_eq!((look().await.unwrap().len(), look().await.unwrap()), (2, published.tracks()));
    assert_eq!(published.reader_count(), 0);
    let next = timeout(Duration::from_millis(1), events.next()).await;
    assert!(next.is_err(), "nobody has come or gone");
    let _reader = subscribe(&engine).await;
    assert_eq!(reason(look().await), CloseReason::Limit("subscribers"));
    engine.drain();
    assert_eq!(reason(look().await), CloseReason::Shutdown);
}
