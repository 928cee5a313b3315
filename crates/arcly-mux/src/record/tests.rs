//! Segments, files and the index, in virtual time, with disks that are full, slow or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcly_core::contract::observe::{EngineEvent, EventItem, EventReceiver};
use arcly_core::contract::storage::{
    FsStorage, StorageBackend, StorageEntry, StorageError, StorageName, StorageWriter,
};
use arcly_core::{
    AppSpec, CloseReason, Engine, MediaEvent, MediaFrame, PublishRegistry as _, PublishRequest, Publisher,
    StreamKey, TimeDelta, Timestamp, TrackId, TrackKind,
};
use arcly_testkit::media::Source;
use async_trait::async_trait;
use bytes::Bytes;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{flv, fmp4};

const SECOND: Duration = Duration::from_secs(1);
const STEP: TimeDelta = TimeDelta::from_millis(100);

/// A disk that can be full, read-only or stand still, and counts what it is asked for.
#[derive(Clone)]
struct Disk {
    inner: FsStorage,
    state: Arc<DiskState>,
}

#[derive(Default)]
struct DiskState {
    /// As real ones are: a file can be made, and nothing written to it.
    full: AtomicBool,
    read_only: AtomicBool,
    stalled: AtomicBool,
    appended: AtomicU64,
    creates: AtomicU64,
    reads: AtomicU64,
    stats: AtomicU64,
    lists: AtomicU64,
}

impl Disk {
    fn new(inner: FsStorage) -> Self {
        Self { inner, state: Arc::default() }
    }
}

/// Media whose bytes are counted as long as anybody holds them.
struct Held(Bytes, Arc<AtomicU64>);

impl Held {
    fn payload(bytes: Bytes, held: &Arc<AtomicU64>) -> Bytes {
        held.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Bytes::from_owner(Self(bytes, Arc::clone(held)))
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.1.fetch_sub(self.0.len() as u64, Ordering::Relaxed);
    }
}

struct Writer(Disk, StorageName, Box<dyn StorageWriter>);

#[async_trait]
impl StorageBackend for Disk {
    async fn create(&self, name: &StorageName) -> Result<Box<dyn StorageWriter>, StorageError> {
        self.state.creates.fetch_add(1, Ordering::Relaxed);
        if self.state.read_only.load(Ordering::Relaxed) {
            return Err(StorageError::Io(std::io::ErrorKind::ReadOnlyFilesystem.into()));
        }
        Ok(Box::new(Writer(self.clone(), name.clone(), self.inner.create(name).await?)))
    }
    async fn read(&self, name: &StorageName, range: core::ops::Range<u64>) -> Result<Bytes, StorageError> {
        self.state.reads.fetch_add(1, Ordering::Relaxed);
        self.inner.read(name, range).await
    }
    async fn stat(&self, name: &StorageName) -> Result<StorageEntry, StorageError> {
        self.state.stats.fetch_add(1, Ordering::Relaxed);
        self.inner.stat(name).await
    }
    async fn list(
        &self,
        prefix: Option<&StorageName>,
        after: Option<&StorageName>,
    ) -> Result<Vec<StorageEntry>, StorageError> {
        self.state.lists.fetch_add(1, Ordering::Relaxed);
        self.inner.list(prefix, after).await
    }
    async fn delete(&self, name: &StorageName) -> Result<(), StorageError> {
        self.inner.delete(name).await
    }
    async fn rename(&self, from: &StorageName, to: &StorageName) -> Result<(), StorageError> {
        self.inner.rename(from, to).await
    }
    async fn recover(&self) -> Result<usize, StorageError> {
        self.inner.recover().await
    }
}

#[async_trait]
impl StorageWriter for Writer {
    async fn append(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        while self.0.state.stalled.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if self.0.state.full.load(Ordering::Relaxed) {
            return Err(StorageError::NoSpace(self.1.clone()));
        }
        self.0.state.appended.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.2.append(bytes).await
    }
    async fn overwrite(&mut self, offset: u64, bytes: Bytes) -> Result<(), StorageError> {
        self.2.overwrite(offset, bytes).await
    }
    fn written(&self) -> u64 {
        self.2.written()
    }
    async fn finish(self: Box<Self>) -> Result<u64, StorageError> {
        self.2.finish().await
    }
    async fn discard(self: Box<Self>) -> Result<(), StorageError> {
        self.2.discard().await
    }
}

/// An engine with a publisher of `live/cam`, and a disk.
struct Rig {
    engine: Arc<Engine>,
    publisher: Publisher,
    source: Source,
    published: Vec<MediaFrame>,
    /// Bytes of media that somebody holds, but for `published`.
    held: Arc<AtomicU64>,
    events: EventReceiver,
    disk: Disk,
    index: Arc<Index>,
    stop: CancellationToken,
    _folder: TempDir,
}

impl Rig {
    async fn new(source: Source) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = FsStorage::open(folder.path()).await.expect("storage");
        let disk = Disk::new(inner);
        let index = Index::open(Arc::new(disk.clone()), &NameTemplate::default()).await.expect("an index");
        let engine = Engine::builder().app(AppSpec::new("live").grace(Duration::ZERO)).build();
        let events = engine.events();
        let mut publisher =
            engine.publish(PublishRequest::internal(key(), "test")).await.expect("a publisher");
        publisher.set_tracks(source.tracks()).expect("tracks");
        let (stop, published, held) = (CancellationToken::new(), Vec::new(), Arc::default());
        Self { engine, publisher, source, published, held, events, disk, index, stop, _folder: folder }
    }

    /// Publishes so much media in as much (virtual) time.
    async fn play(&mut self, seconds: u32) {
        for _ in 0..seconds * 10 {
            let end = self.published.last().map_or(Timestamp::ZERO, |last| last.dts) + STEP;
            while self.published.last().is_none_or(|last| last.dts < end) {
                let mut frame = self.source.next().expect("endless");
                self.published.push(frame.clone());
                frame.payload = Held::payload(frame.payload, &self.held);
                self.publisher.publish(frame).expect("published");
            }
            tokio::time::sleep(STEP.to_duration()).await;
        }
    }

    fn recorder(&self, options: RecordOptions) -> Recorder {
        Recorder::new(self.engine.context(self.stop.clone()), Arc::clone(&self.index), options)
    }

    /// Begins to record, and returns when the recorder has its place in the log.
    async fn record(&self, options: RecordOptions) -> JoinHandle<arcly_core::Result<CloseReason>> {
        let (recorder, stop) = (self.recorder(options), self.stop.clone());
        let task = tokio::spawn(async move { recorder.run(key(), &stop).await });
        while self.engine.streams().iter().all(|stream| stream.reader_count() == 0) {
            tokio::task::yield_now().await;
        }
        task
    }

    fn recordings(&self) -> Vec<Recording> {
        self.index.of_stream(&key(), UNIX_EPOCH, 1_000)
    }

    /// The frames of a file of FLV, from its first DTS on.
    async fn frames(&self, recording: &Recording) -> Vec<MediaFrame> {
        let bytes = self.disk.read(&recording.name, 0..recording.bytes).await.expect("the file");
        let mut reader = flv::Reader::new();
        reader.push(&bytes).expect("FLV");
        let events = std::iter::from_fn(|| reader.poll_event());
        events
            .filter_map(|event| match event {
                MediaEvent::Frame(frame) => Some(frame),
                MediaEvent::Tracks(_) => None,
            })
            .collect()
    }

    /// The events of recording so far, as words.
    async fn events(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Ok(Some(EventItem::Event(event))) =
            tokio::time::timeout(Duration::ZERO, self.events.next()).await
        {
            match event {
                EngineEvent::RecordingStarted { .. } => words.push("started".to_owned()),
                EngineEvent::RecordingFinished { .. } => words.push("finished".to_owned()),
                EngineEvent::RecordingFailed { reason, .. } => words.push(format!("failed {reason}")),
                EngineEvent::FramesSkipped { .. } => words.push("skipped".to_owned()),
                _ => {}
            }
        }
        words
    }
}

fn key() -> StreamKey {
    StreamKey::new("live", "cam")
}

fn flv_files(seconds: u64) -> RecordOptions {
    RecordOptions {
        format: Format::Flv,
        segment_duration: Duration::from_secs(seconds),
        ..RecordOptions::default()
    }
}

/// Asserts that the one is the beginning of the other, track by track.
fn assert_begins(all: &[MediaFrame], begin: &[MediaFrame]) {
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let of_track = |frames: &[MediaFrame]| -> Vec<Bytes> {
            frames.iter().filter(|frame| frame.track == track).map(|frame| frame.payload.clone()).collect()
        };
        let (all, begin) = (of_track(all), of_track(begin));
        let same = all.iter().zip(&begin).take_while(|(a, b)| a == b).count();
        assert_eq!(
            (same, begin.len()),
            (begin.len(), begin.len().min(all.len())),
            "{track:?} of {}",
            all.len()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn files_are_cut_at_keyframes_and_nothing_is_lost_between_them() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let task = rig.record(flv_files(3)).await;
    rig.play(10).await;
    rig.stop.cancel();
    assert_eq!(task.await.expect("no panic").expect("it ran"), CloseReason::Shutdown);
    let recordings = rig.recordings();
    let lengths: Vec<_> =
        recordings.iter().map(|recording| recording.duration.as_secs_f64().round()).collect();
    assert_eq!(lengths[..3], [3.0, 3.0, 3.0]);
    let continues: Vec<_> = recordings.iter().map(|recording| recording.continues).collect();
    assert_eq!(continues, [false, true, true, true]);
    let mut all = Vec::new();
    for recording in &recordings {
        let frames = rig.frames(recording).await;
        let first = frames.first().expect("not empty");
        assert!(first.is_keyframe() && first.dts == Timestamp::ZERO, "{first:?}");
        all.extend(frames);
    }
    assert_eq!(all.len(), rig.published.len(), "all of it, once");
    assert_begins(&rig.published, &all);
    for pair in recordings.windows(2) {
        let (end, start) = (pair[0].end(), pair[1].start);
        let gap = start.duration_since(end).unwrap_or_else(|before| before.duration());
        assert!(gap <= Duration::from_millis(5), "{gap:?}: what dates are corrected by");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_ends_when_it_is_large_enough_or_its_tracks_change() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let task = rig.record(RecordOptions { segment_bytes: 8_000, ..flv_files(3_600) }).await;
    rig.play(4).await;
    let before = rig.recordings().len();
    assert!(before >= 1, "cut by size");
    rig.publisher.set_tracks(Source::h264().tracks()).expect("tracks");
    rig.source = Source::h264().starting_at(Timestamp::from_millis(4_000));
    rig.play(2).await;
    drop(rig.publisher);
    assert!(task.await.expect("no panic").is_ok());
    let recordings = rig.index.of_stream(&key(), UNIX_EPOCH, 1_000);
    assert!(recordings.len() > before + 1, "one more at least for the new tracks");
}

/// F42: what a crash leaves is found again, and misses at most the part that was not written.
#[tokio::test(start_paused = true)]
async fn f42_a_crash_loses_at_most_one_part() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let task = rig.record(flv_files(3_600)).await;
    rig.play(6).await;
    task.abort();
    let _ = task.await;
    assert_eq!(rig.recordings(), [], "the file is not finished");
    rig.index = Index::open(Arc::new(rig.disk.clone()), &NameTemplate::default()).await.expect("an index");
    let recordings = rig.recordings();
    let [recording] = recordings.as_slice() else { panic!("{recordings:?}") };
    let frames = rig.frames(recording).await;
    assert_begins(&rig.published, &frames);
    let last = frames.last().expect("frames").dts;
    assert!(last >= Timestamp::from_millis(4_900), "{last:?} of 6 s");
    // Nothing that is recorded from now on gets into its way.
    let task = rig.record(flv_files(3_600)).await;
    rig.play(2).await;
    rig.stop.cancel();
    assert!(task.await.expect("no panic").is_ok());
    assert_eq!(rig.recordings().len(), 2);
}

/// F40: the disk is full; what was written stays, the stream goes on, and so does recording once there is room.
#[tokio::test(start_paused = true)]
async fn f40_a_full_disk_ends_the_file_and_a_new_one_begins_when_there_is_room() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let task = rig.record(flv_files(3_600)).await;
    rig.play(5).await;
    rig.disk.state.full.store(true, Ordering::Relaxed);
    rig.play(20).await;
    assert_eq!(rig.events().await, ["started", "failed io", "finished"], "told once");
    let creates = rig.disk.state.creates.load(Ordering::Relaxed);
    assert!((6..=12).contains(&creates), "tried again now and then: {creates}");
    let files = std::fs::read_dir(rig.disk.inner.root().join("live/cam")).expect("there").count();
    assert_eq!(files, 1, "what was tried leaves nothing");
    rig.disk.state.full.store(false, Ordering::Relaxed);
    rig.play(5).await;
    assert_eq!(rig.events().await, ["started"], "within 5 s");
    rig.stop.cancel();
    assert!(task.await.expect("no panic").is_ok());
    let recordings = rig.recordings();
    assert_eq!(recordings.len(), 2);
    assert!(!recordings[1].continues);
    let first = rig.frames(&recordings[0]).await;
    assert_begins(&rig.published, &first);
    assert!(first.last().expect("frames").dts >= Timestamp::from_millis(3_500));
    assert!(rig.frames(&recordings[1]).await.first().expect("frames").is_keyframe());
}

/// F40: the index, too, is saved once there is room again.
#[tokio::test]
async fn f40_an_index_that_found_no_room_is_saved_later() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::new(FsStorage::open(folder.path()).await.expect("storage"));
    let index = Index::open(Arc::new(disk.clone()), &NameTemplate::default()).await.expect("an index");
    index.add(recording(0, 100));
    disk.state.full.store(true, Ordering::Relaxed);
    assert!(matches!(index.save().await, Err(StorageError::NoSpace(_))));
    assert!(matches!(index.save().await, Err(StorageError::NoSpace(_))), "not that the name is taken");
    disk.state.full.store(false, Ordering::Relaxed);
    index.save().await.expect("saved");
    assert!(folder.path().join(INDEX_NAME).is_file());
}

/// F43: no file can be begun for a while.
#[tokio::test(start_paused = true)]
async fn f43_a_read_only_disk_is_told_once_and_tried_again() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    rig.disk.state.read_only.store(true, Ordering::Relaxed);
    let task = rig.record(flv_files(3_600)).await;
    rig.play(20).await;
    assert_eq!(rig.events().await, ["failed io"]);
    let creates = rig.disk.state.creates.load(Ordering::Relaxed);
    assert!((6..=12).contains(&creates), "{creates}");
    rig.disk.state.read_only.store(false, Ordering::Relaxed);
    rig.play(5).await;
    assert_eq!(rig.events().await, ["started"], "within 5 s");
    rig.stop.cancel();
    assert!(task.await.expect("no panic").is_ok());
    assert_eq!(rig.recordings().len(), 1);
}

/// F43: somebody removes the folder while it is written to. What was in it is gone; what comes is in a new one.
#[tokio::test(start_paused = true)]
async fn f43_a_folder_that_is_removed_is_made_again() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let task = rig.record(flv_files(3_600)).await;
    rig.play(5).await;
    assert_eq!(rig.events().await, ["started"]);
    let root = rig.disk.inner.root().to_owned();
    std::fs::remove_dir_all(&root).expect("removed");
    rig.play(5).await;
    assert_eq!(rig.events().await, ["failed io", "started"]);
    rig.stop.cancel();
    assert!(task.await.expect("no panic").is_ok());
    let [recording] = rig.recordings().try_into().expect("one file");
    assert!(root.join(recording.name.as_str()).is_file());
    assert!(rig.frames(&recording).await.first().expect("frames").is_keyframe());
}

/// F41: the disk stands still for 10 s. Nothing is lost while the queue has room, and GOPs are when it has not.
#[tokio::test(start_paused = true)]
async fn f41_a_stalled_disk_costs_memory_within_a_bound_and_then_gops() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let task = rig.record(flv_files(3_600)).await;
    rig.play(3).await;
    rig.disk.state.stalled.store(true, Ordering::Relaxed);
    rig.play(10).await;
    rig.disk.state.stalled.store(false, Ordering::Relaxed);
    rig.play(2).await;
    assert_eq!(rig.events().await, ["started"], "10 s of this stream fit");
    // 4 MB in a second: 32 MiB are full after 8.
    rig.source = Source::h264_aac().with_pictures_of(160_000).starting_at(Timestamp::from_millis(15_500));
    rig.play(1).await;
    rig.disk.state.stalled.store(true, Ordering::Relaxed);
    for _ in 0..30 {
        rig.play(1).await;
        let log: u64 = rig.engine.streams().iter().map(|stream| stream.info().log.bytes).sum();
        let waiting = rig.held.load(Ordering::Relaxed).saturating_sub(log);
        // What the segmenter holds of the next part, and what waits for room, are not in the queue.
        assert!(waiting <= MAX_QUEUE_BYTES as u64 + (8 << 20), "{waiting} bytes wait for the disk");
    }
    rig.disk.state.stalled.store(false, Ordering::Relaxed);
    rig.play(5).await;
    rig.stop.cancel();
    assert!(task.await.expect("no panic").is_ok());
    let words = rig.events().await;
    assert!(words.contains(&"skipped".to_owned()), "{words:?}");
    let written = rig.disk.state.appended.load(Ordering::Relaxed);
    let published: usize = rig.published.iter().map(|frame| frame.payload.len()).sum();
    assert!(written < published as u64 - (40 << 20), "{written} of {published}");
    let recordings = rig.recordings();
    let frames = rig.frames(&recordings[0]).await;
    let video = rig.source.tracks().first(TrackKind::Video).expect("video").id;
    let mut last: Option<Timestamp> = None;
    for frame in frames.iter().filter(|frame| frame.track == video) {
        let gap = last.is_some_and(|last| (frame.dts - last).to_millis() > 100);
        assert!(!gap || frame.is_keyframe(), "after a gap comes a keyframe");
        last = Some(frame.dts);
    }
}

/// A recording that is told to stop is whole, whatever its parts are doing at that moment.
#[tokio::test(start_paused = true)]
async fn f44_a_recording_that_is_stopped_in_the_middle_of_a_part_plays() {
    for _ in 0..8 {
        let mut rig = Rig::new(Source::h264_aac()).await;
        let task = rig.record(RecordOptions { format: Format::Mp4, ..flv_files(3_600) }).await;
        rig.play(2).await;
        // Parts come at once with the end.
        for frame in rig.source.by_ref().take(200) {
            rig.published.push(frame.clone());
            rig.publisher.publish(frame).expect("published");
        }
        rig.stop.cancel();
        assert!(task.await.expect("no panic").is_ok());
        let [recording] = rig.recordings().try_into().expect("one file");
        let file = rig.disk.read(&recording.name, 0..recording.bytes).await.expect("the file");
        let frames = demux_mp4(&file);
        assert!(frames.len() > 100, "{}", frames.len());
        assert_begins(&rig.published, &frames);
    }
}

/// F41: the same when the disk stands still and the queue is full: what found no room is missing, and nothing else.
#[tokio::test(start_paused = true)]
async fn f41_a_recording_that_is_stopped_while_its_disk_stands_still_plays() {
    let mut rig = Rig::new(Source::h264_aac().with_pictures_of(160_000)).await;
    let task = rig.record(RecordOptions { format: Format::Mp4, ..flv_files(3_600) }).await;
    rig.play(2).await;
    rig.disk.state.stalled.store(true, Ordering::Relaxed);
    rig.play(12).await;
    rig.stop.cancel();
    tokio::time::sleep(SECOND).await;
    rig.disk.state.stalled.store(false, Ordering::Relaxed);
    assert!(task.await.expect("no panic").is_ok());
    let [recording] = rig.recordings().try_into().expect("one file");
    let file = rig.disk.read(&recording.name, 0..recording.bytes).await.expect("the file");
    let frames = demux_mp4(&file);
    assert_begins(&rig.published, &frames);
    let last = frames.last().expect("frames").dts;
    assert!((Timestamp::from_millis(8_000)..Timestamp::from_millis(12_000)).contains(&last), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn a_clip_has_its_pre_roll_and_ends_by_itself() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    rig.play(10).await;
    let recorder = rig.recorder(flv_files(3_600));
    let clip = Clip { pre_roll: Duration::from_secs(3), duration: Duration::from_secs(2) };
    let stop = rig.stop.clone();
    let task = tokio::spawn(async move { recorder.clip(key(), clip, &stop).await });
    rig.play(4).await;
    assert_eq!(task.await.expect("no panic").expect("it ran"), CloseReason::Shutdown);
    let [clip] = rig.recordings().try_into().expect("one file");
    let length = clip.duration.as_secs_f64();
    assert!((5.0..=6.1).contains(&length), "{length} s: 3 before, from a keyframe, and 2 behind");
    let frames = rig.frames(&clip).await;
    assert!(frames.first().expect("frames").is_keyframe());
}

/// The frames of a whole file of MP4, fragmented or plain.
fn demux_mp4(file: &[u8]) -> Vec<MediaFrame> {
    let (mut demuxer, mut frames) = (fmp4::Demuxer::default(), Vec::new());
    loop {
        match demuxer.poll().expect("MP4") {
            fmp4::Step::Event(MediaEvent::Frame(frame)) => frames.push(frame),
            fmp4::Step::Event(MediaEvent::Tracks(_)) => {}
            fmp4::Step::Read { offset, len } => {
                let rest = file.get(usize::try_from(offset).expect("small")..).unwrap_or_default();
                let bytes = Bytes::copy_from_slice(&rest[..len.min(rest.len())]);
                demuxer.handle_data(bytes).expect("MP4");
            }
            fmp4::Step::End => return frames,
        }
    }
}

/// A span across three files is one file without a gap, whatever they are.
#[tokio::test(start_paused = true)]
async fn a_span_of_time_is_played_across_files() {
    for format in [Format::Mp4, Format::Ts, Format::Flv] {
        let mut rig = Rig::new(Source::h264_aac()).await;
        let task = rig.record(RecordOptions { format, ..flv_files(3) }).await;
        rig.play(9).await;
        rig.stop.cancel();
        assert!(task.await.expect("no panic").is_ok());
        let start = rig.recordings()[0].start;
        let (from, length) = (start + Duration::from_millis(2_500), Duration::from_secs(5));
        let mut playback = Playback::new(Arc::clone(&rig.index), &key(), from, length).expect("recorded");
        let mut file = Vec::new();
        while let Some(bytes) = playback.next().await.expect("it plays") {
            bytes.iter().for_each(|bytes| file.extend_from_slice(bytes));
        }
        let frames = demux_mp4(&file);
        let video: Vec<_> = frames.iter().filter(|frame| frame.track == TrackId::VIDEO).collect();
        assert!(video[0].is_keyframe());
        // From the keyframe at 2 s (a GOP is a second) to 7.5 s, at 25 pictures a second.
        assert!((136..=139).contains(&video.len()), "{format:?}: {} pictures", video.len());
        for pair in video.windows(2) {
            let step = (pair[1].dts - pair[0].dts).to_millis();
            assert!((39..=41).contains(&step), "{format:?}: {step} ms between {pair:?}");
        }
        let sent: Vec<_> = rig.published.iter().filter(|frame| frame.track == TrackId::VIDEO).collect();
        let first = sent.iter().position(|frame| frame.dts.to_millis() >= 1_900 && frame.is_keyframe());
        let sent = &sent[first.expect("a keyframe")..];
        assert!(video.iter().zip(sent).all(|(got, sent)| got.payload == sent.payload), "{format:?}");
        let sounds: Vec<_> = frames.iter().filter(|frame| frame.track == TrackId::AUDIO).collect();
        for pair in sounds.windows(2) {
            let step = (pair[1].dts - pair[0].dts).to_ticks(arcly_core::Timescale::of(48_000));
            assert_eq!(step, 1_024, "{format:?}");
        }
        assert!(Playback::new(Arc::clone(&rig.index), &key(), start + SECOND * 60, length).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn streams_are_recorded_as_they_come_and_what_is_too_much_goes() {
    let mut rig = Rig::new(Source::h264_aac()).await;
    let keep = Keep { age: None, bytes: Some(0) };
    let recordings = Recordings::new(rig.recorder(flv_files(2)), keep, &rig.stop);
    let (running, events, engine) = (Arc::clone(&recordings), rig.engine.events(), Arc::clone(&rig.engine));
    let streams = move || engine.streams().iter().map(|stream| stream.key().clone()).collect();
    let task = tokio::spawn(async move { running.run(events, streams, |key| key.app() == "live").await });
    rig.play(5).await;
    assert_eq!(recordings.active(), [key()]);
    assert!(!recordings.begin(&key()), "once is enough");
    assert!(rig.index.len() >= 2);
    rig.play(8).await;
    assert!(rig.index.len() <= 3, "the old ones went: {:?}", rig.recordings());
    rig.stop.cancel();
    task.await.expect("no panic");
    assert_eq!(recordings.active(), []);
    assert!(rig.disk.stat(&StorageName::parse(INDEX_NAME).expect("a name")).await.is_ok(), "saved");
}

fn recording(second: u64, bytes: u64) -> Recording {
    let start = UNIX_EPOCH + Duration::from_secs(1_800_000_000 + second);
    let name = NameTemplate::default().name(&key(), start, Format::Mp4).expect("a name");
    let (duration, format) = (Duration::from_secs(10), Format::Mp4);
    Recording { key: key(), name, start, duration, bytes, format, continues: second > 0 }
}

async fn file(storage: &FsStorage, recording: &Recording) {
    let mut object = storage.create(&recording.name).await.expect("created");
    object.append(vec![7; usize::try_from(recording.bytes).expect("small")].into()).await.expect("appended");
    object.finish().await.expect("finished");
}

#[tokio::test]
async fn the_index_is_what_is_on_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = FsStorage::open(folder.path()).await.expect("storage");
    let open = || async { Index::open(Arc::new(storage.clone()), &NameTemplate::default()).await };
    let recordings: Vec<_> = (0..4).map(|n| recording(n * 10, 100 + n)).collect();
    let index = open().await.expect("an index");
    for recording in &recordings {
        file(&storage, recording).await;
        index.add(recording.clone());
    }
    index.save().await.expect("saved");
    index.save().await.expect("nothing to do");
    let index = open().await.expect("an index");
    assert_eq!(index.of_stream(&key(), UNIX_EPOCH, 10), recordings);
    assert_eq!((index.len(), index.bytes(), index.streams()), (4, 406, vec![key()]));
    let from = recordings[1].start + Duration::from_secs(5);
    assert_eq!(index.of_stream(&key(), from, 2), recordings[1..3], "from the one that reaches into it");
    // One is taken away by hand, one is put there.
    storage.delete(&recordings[0].name).await.expect("deleted");
    let other = recording(500, 9);
    file(&storage, &other).await;
    let index = open().await.expect("an index");
    let found = index.of_stream(&key(), UNIX_EPOCH, 10);
    assert_eq!(found[..3], recordings[1..]);
    assert_eq!((&found[3].name, found[3].bytes, found[3].continues), (&other.name, 9, false));
    // What is no index is none.
    storage.delete(&StorageName::parse(INDEX_NAME).expect("a name")).await.expect("deleted");
    file(&storage, &Recording { name: StorageName::parse(INDEX_NAME).expect("a name"), ..recording(0, 50) })
        .await;
    assert_eq!(open().await.expect("an index").len(), 4);
}

/// Opening thousands of recordings reads the index and their names, and listing them nothing at all.
#[tokio::test]
async fn thousands_of_recordings_are_listed_without_reading_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::new(FsStorage::open(folder.path()).await.expect("storage"));
    let open = || async { Index::open(Arc::new(disk.clone()), &NameTemplate::default()).await };
    let index = open().await.expect("an index");
    // More than there are on a page of the storage.
    let recordings: Vec<_> = (0..12_000).map(|n| recording(n * 10, 1)).collect();
    std::fs::create_dir_all(folder.path().join("live/cam")).expect("a folder");
    for recording in &recordings {
        std::fs::write(folder.path().join(recording.name.as_str()), "x").expect("written");
        index.add(recording.clone());
    }
    index.save().await.expect("saved");
    let calls =
        || [&disk.state.reads, &disk.state.stats, &disk.state.lists].map(|n| n.swap(0, Ordering::Relaxed));
    calls();
    let index = open().await.expect("an index");
    assert_eq!(calls(), [1, 1, 2], "the index is read, whose size is asked for, and two pages of names");
    assert!(index.of_stream(&key(), UNIX_EPOCH, 20_000) == recordings);
    let from = recordings[11_000].start;
    assert_eq!(index.of_stream(&key(), from, 10), recordings[11_000..11_010]);
    assert_eq!((index.len(), index.streams().len()), (12_000, 1));
    assert_eq!(calls(), [0; 3], "a listing asks the disk for nothing");
}

#[tokio::test]
async fn what_is_too_old_or_too_much_expires_oldest_first() {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = FsStorage::open(folder.path()).await.expect("storage");
    let index = Index::open(Arc::new(storage), &NameTemplate::default()).await.expect("an index");
    (0..5).for_each(|n| index.add(recording(n * 10, 100)));
    let now = recording(40, 0).end();
    let expired = |keep: Keep, now: SystemTime| -> Vec<u64> {
        let start = recording(0, 0).start;
        let seconds = |found: &Recording| found.start.duration_since(start).expect("later").as_secs();
        index.expired(&keep, now).iter().map(seconds).collect()
    };
    assert_eq!(expired(Keep::default(), now + SECOND * 1_000_000), []);
    assert_eq!(expired(Keep { age: Some(SECOND * 25), bytes: None }, now), [0, 10]);
    assert_eq!(expired(Keep { age: None, bytes: Some(250) }, now), [0, 10, 20]);
    assert_eq!(expired(Keep { age: Some(SECOND * 35), bytes: Some(400) }, now), [0]);
}
