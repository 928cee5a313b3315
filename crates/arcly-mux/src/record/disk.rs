//! From the queue to storage, at the pace of storage.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use arcly_core::contract::observe::{EngineEvent, Observer};
use arcly_core::contract::storage::{StorageError, StorageName, StorageWriter};
use arcly_core::{CloseReason, StreamKey};
use bytes::{Bytes, BytesMut};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedReceiver;

use super::segmenter::{Beginning, Step};
use super::{Index, RecordOptions, Recording};
use crate::fmp4::Patch;

/// A step, and the room it takes in the queue until it is done.
pub(super) type Queued = (Step, Option<OwnedSemaphorePermit>);

/// Set by the disk when a file was lost to an error; the feed begins another one later.
#[derive(Clone, Debug, Default)]
pub(super) struct Fault(Arc<AtomicBool>);

impl Fault {
    pub(super) fn take(&self) -> bool {
        self.0.swap(false, Ordering::AcqRel)
    }
}

/// Writes one stream's files.
pub(super) struct Disk {
    key: StreamKey,
    options: RecordOptions,
    index: Arc<Index>,
    observer: Arc<dyn Observer>,
    fault: Fault,
    /// What the last attempt failed for, and was told; nothing once something was written.
    failing: Option<(CloseReason, Option<ErrorKind>)>,
}

/// A file that has begun; nothing is created for it before there is something to write.
struct File {
    recording: Recording,
    writer: Option<Box<dyn StorageWriter>>,
}

impl Disk {
    pub(super) fn new(
        key: StreamKey,
        options: RecordOptions,
        index: Arc<Index>,
        observer: Arc<dyn Observer>,
        fault: Fault,
    ) -> Self {
        Self { key, options, index, observer, fault, failing: None }
    }

    /// Works until the feed has gone and everything is written.
    pub(super) async fn run(mut self, mut steps: UnboundedReceiver<Queued>) {
        let mut file = None;
        while let Some((step, room)) = steps.recv().await {
            file = self.step(file, step).await;
            drop(room);
        }
        if let Some(file) = file {
            self.complete(file).await;
        }
    }

    async fn step(&mut self, file: Option<File>, step: Step) -> Option<File> {
        match (step, file) {
            (Step::Begin(beginning), before) => {
                if let Some(before) = before {
                    self.complete(before).await;
                }
                self.begin(beginning)
            }
            (Step::Append { bytes, duration }, Some(mut file)) => {
                match self.append(&mut file, bytes, duration).await {
                    Ok(()) => Some(file),
                    Err(error) => {
                        self.failed(Some(&file.recording.name), &error);
                        self.complete(file).await;
                        None
                    }
                }
            }
            (Step::End { duration, patch }, Some(mut file)) => {
                file.recording.duration = duration;
                if let (Some(Patch { offset, bytes }), Some(writer)) = (patch, &mut file.writer) {
                    // Where nothing can be replaced, the file stays a fragmented one.
                    let _ = writer.overwrite(offset, bytes).await;
                }
                self.complete(file).await;
                None
            }
            (Step::Refused(error), file) => {
                self.tell(EngineEvent::RecordingFailed {
                    key: self.key.clone(),
                    name: None,
                    reason: CloseReason::Unsupported,
                    why: error.to_string().into(),
                });
                file
            }
            // Of a file that was lost to an error.
            (Step::Append { .. } | Step::End { .. }, None) => None,
        }
    }

    fn begin(&mut self, Beginning { start, continues }: Beginning) -> Option<File> {
        match self.options.name.name(&self.key, start, self.options.format) {
            Ok(name) => Some(File { recording: self.recording(name, start, continues), writer: None }),
            Err(error) => {
                self.failed(None, &error);
                None
            }
        }
    }

    async fn append(
        &mut self,
        file: &mut File,
        bytes: Vec<Bytes>,
        duration: Duration,
    ) -> Result<(), StorageError> {
        let bytes = in_one_piece(bytes);
        match &mut file.writer {
            Some(writer) => writer.append(bytes).await?,
            None => {
                let writer = self.index.storage().create(&file.recording.name).await?;
                file.writer.insert(writer).append(bytes).await?;
                self.tell(EngineEvent::RecordingStarted {
                    key: self.key.clone(),
                    name: file.recording.name.as_str().into(),
                });
            }
        }
        file.recording.duration = duration;
        self.failing = None;
        Ok(())
    }

    fn recording(&self, name: StorageName, start: SystemTime, continues: bool) -> Recording {
        let format = self.options.format;
        let (key, duration) = (self.key.clone(), Duration::ZERO);
        Recording { key, name, start, duration, bytes: 0, format, continues }
    }

    /// What was written of a file becomes a recording.
    async fn complete(&mut self, file: File) {
        let File { writer: Some(writer), mut recording } = file else { return };
        if writer.written() == 0 {
            // Not even its beginning found room.
            let _ = writer.discard().await;
            return;
        }
        match writer.finish().await {
            Ok(bytes) => {
                recording.bytes = bytes;
                self.tell(EngineEvent::RecordingFinished {
                    key: self.key.clone(),
                    name: recording.name.as_str().into(),
                    duration: recording.duration,
                    bytes,
                });
                self.index.add(recording);
            }
            // What is there stays under its unfinished name, and is found when the index is opened next.
            Err(error) => self.failed(Some(&recording.name), &error),
        }
    }

    /// A file is lost, or could not be begun. It is told once, however often another one fails for the same reason.
    fn failed(&mut self, name: Option<&StorageName>, error: &StorageError) {
        self.fault.0.store(true, Ordering::Release);
        let kind = match error {
            StorageError::Io(error) => Some(error.kind()),
            StorageError::NoSpace(_) => Some(ErrorKind::StorageFull),
            _ => None,
        };
        let (failing, reason) = (Some((error.reason(), kind)), error.reason());
        if core::mem::replace(&mut self.failing, failing) != failing {
            self.tell(EngineEvent::RecordingFailed {
                key: self.key.clone(),
                name: name.map(|name| name.as_str().into()),
                reason,
                why: error.to_string().into(),
            });
        }
    }

    fn tell(&self, event: EngineEvent) {
        self.observer.on_event(&event);
    }
}

/// One write for a part: this is the one copy that recording makes.
fn in_one_piece(bytes: Vec<Bytes>) -> Bytes {
    if let [only] = bytes.as_slice() {
        return only.clone();
    }
    let mut out = BytesMut::with_capacity(bytes.iter().map(Bytes::len).sum());
    bytes.iter().for_each(|bytes| out.extend_from_slice(bytes));
    out.freeze()
}
