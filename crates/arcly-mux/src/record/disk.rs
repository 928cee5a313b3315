//! From the queue to storage, at the pace of storage.

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
    pub(super) key: StreamKey,
    pub(super) options: RecordOptions,
    pub(super) index: Arc<Index>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) fault: Fault,
}

struct File {
    writer: Box<dyn StorageWriter>,
    recording: Recording,
}

impl Disk {
    /// Works until the feed has gone and everything is written.
    pub(super) async fn run(self, mut steps: UnboundedReceiver<Queued>) {
        let mut file = None;
        while let Some((step, room)) = steps.recv().await {
            file = self.step(file, step).await;
            drop(room);
        }
        if let Some(file) = file {
            self.complete(file).await;
        }
    }

    async fn step(&self, file: Option<File>, step: Step) -> Option<File> {
        match (step, file) {
            (Step::Begin(beginning), before) => {
                if let Some(before) = before {
                    self.complete(before).await;
                }
                self.begin(beginning).await
            }
            (Step::Append { bytes, duration }, Some(mut file)) => {
                match file.writer.append(in_one_piece(bytes)).await {
                    Ok(()) => {
                        file.recording.duration = duration;
                        Some(file)
                    }
                    Err(error) => {
                        self.failed(Some(&file.recording.name), &error);
                        self.complete(file).await;
                        None
                    }
                }
            }
            (Step::End { duration, patch }, Some(mut file)) => {
                file.recording.duration = duration;
                if let Some(Patch { offset, bytes }) = patch {
                    // Where nothing can be replaced, the file stays a fragmented one.
                    let _ = file.writer.overwrite(offset, bytes).await;
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

    async fn begin(&self, Beginning { start, continues }: Beginning) -> Option<File> {
        let name = match self.options.name.name(&self.key, start, self.options.format) {
            Ok(name) => name,
            Err(error) => {
                self.failed(None, &error);
                return None;
            }
        };
        match self.index.storage().create(&name).await {
            Ok(writer) => {
                let recording = self.recording(name, start, continues);
                self.tell(EngineEvent::RecordingStarted {
                    key: self.key.clone(),
                    name: recording.name.as_str().into(),
                });
                Some(File { writer, recording })
            }
            Err(error) => {
                self.failed(Some(&name), &error);
                None
            }
        }
    }

    fn recording(&self, name: StorageName, start: SystemTime, continues: bool) -> Recording {
        let format = self.options.format;
        let (key, duration) = (self.key.clone(), Duration::ZERO);
        Recording { key, name, start, duration, bytes: 0, format, continues }
    }

    async fn complete(&self, file: File) {
        let File { writer, mut recording } = file;
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

    fn failed(&self, name: Option<&StorageName>, error: &StorageError) {
        self.fault.0.store(true, Ordering::Release);
        self.tell(EngineEvent::RecordingFailed {
            key: self.key.clone(),
            name: name.map(|name| name.as_str().into()),
            reason: error.reason(),
            why: error.to_string().into(),
        });
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
