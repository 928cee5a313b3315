//! What was recorded: kept in memory, and in a file beside the recordings.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcly_core::StreamKey;
use arcly_core::contract::storage::{
    MAX_LIST, MAX_READ, StorageBackend, StorageEntry, StorageError, StorageName,
};
use bytes::Bytes;
use parking_lot::Mutex;

use super::{Format, NameTemplate};

/// The object that the index is kept in, at the root of the storage.
pub const INDEX_NAME: &str = "recordings.index";
/// Where it is written before it takes that name.
const NEW_INDEX_NAME: &str = "recordings.index.new";
/// The first line: what the others are.
const VERSION: &str = "arcly-recordings 1";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recording {
    /// The stream.
    pub key: StreamKey,
    /// The file.
    pub name: StorageName,
    /// Wall-clock time of its first frame.
    pub start: SystemTime,
    /// From its first frame to the end of its last. Of a file that a crash left, what its age says.
    pub duration: Duration,
    /// Its size.
    pub bytes: u64,
    /// Its container.
    pub format: Format,
    /// Its first frame is the one behind the last frame of the file before it.
    pub continues: bool,
}

impl Recording {
    /// Wall-clock time of the end of its last frame.
    #[must_use]
    pub fn end(&self) -> SystemTime {
        self.start.checked_add(self.duration).unwrap_or(self.start)
    }
}

/// The recordings in a storage, in order: listing them reads nothing from disk.
///
/// It is in memory, about 300 bytes for each, and written to [`INDEX_NAME`] by [`save`](Self::save), so that opening a
/// storage with thousands of recordings looks at their names and sizes only. What the index does not know, because it
/// was put there by hand or left by a crash, is taken in by its name.
pub struct Index {
    storage: Arc<dyn StorageBackend>,
    streams: Mutex<HashMap<StreamKey, BTreeMap<SystemTime, Recording>>>,
    changed: AtomicBool,
}

impl core::fmt::Debug for Index {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Index").field("recordings", &self.len()).finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the recordings of a storage. Files that a crash left unfinished are finished as they are; nothing may be
    /// recorded into the storage meanwhile. `names` tells what files are recordings.
    ///
    /// # Errors
    /// The storage cannot be read.
    pub async fn open(
        storage: Arc<dyn StorageBackend>,
        names: &NameTemplate,
    ) -> Result<Arc<Self>, StorageError> {
        storage.recover().await?;
        let known = load(storage.as_ref()).await?;
        let mut known: HashMap<_, _> = known.into_iter().map(|found| (found.name.clone(), found)).collect();
        let index = Self { storage, streams: Mutex::default(), changed: AtomicBool::new(false) };
        let mut after = None;
        loop {
            let page = index.storage.list(None, after.as_ref()).await?;
            for entry in &page {
                let same = |found: &Recording| found.bytes == entry.size;
                let found = known.remove(&entry.name).filter(same);
                found
                    .or_else(|| by_name(entry, names))
                    .into_iter()
                    .for_each(|recording| index.add(recording));
            }
            if page.len() < MAX_LIST {
                return Ok(Arc::new(index));
            }
            after = page.into_iter().next_back().map(|entry| entry.name);
        }
    }

    /// Where the recordings are.
    #[must_use]
    pub fn storage(&self) -> &dyn StorageBackend {
        self.storage.as_ref()
    }

    /// Takes in a finished recording.
    pub fn add(&self, recording: Recording) {
        let mut streams = self.streams.lock();
        streams.entry(recording.key.clone()).or_default().insert(recording.start, recording);
        self.changed.store(true, Ordering::Release);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.streams.lock().values().map(BTreeMap::len).sum()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.streams.lock().values().flat_map(BTreeMap::values).map(|recording| recording.bytes).sum()
    }

    /// The streams of which there is a recording, in order.
    #[must_use]
    pub fn streams(&self) -> Vec<StreamKey> {
        let mut keys: Vec<_> = self.streams.lock().keys().cloned().collect();
        keys.sort_unstable();
        keys
    }

    /// A stream's recordings, oldest first: those that have something from `from` on, at most `limit`.
    #[must_use]
    pub fn of_stream(&self, key: &StreamKey, from: SystemTime, limit: usize) -> Vec<Recording> {
        let streams = self.streams.lock();
        let Some(recordings) = streams.get(key) else { return Vec::new() };
        // The one that begins before may reach into it.
        let before = recordings.range(..from).next_back().filter(|(_, recording)| recording.end() > from);
        let behind = recordings.range(from..);
        before.into_iter().chain(behind).take(limit).map(|(_, recording)| recording.clone()).collect()
    }

    /// Removes a recording, file and entry.
    ///
    /// # Errors
    /// It is not there, or the storage failed.
    pub async fn delete(&self, recording: &Recording) -> Result<(), StorageError> {
        match self.storage.delete(&recording.name).await {
            Ok(()) | Err(StorageError::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
        let mut streams = self.streams.lock();
        if let Some(recordings) = streams.get_mut(&recording.key) {
            recordings.remove(&recording.start);
            if recordings.is_empty() {
                streams.remove(&recording.key);
            }
        }
        self.changed.store(true, Ordering::Release);
        Ok(())
    }

    /// The recordings that `keep` lets go of at `now`: those that are too old, and then the oldest of those that are too much.
    #[must_use]
    pub fn expired(&self, keep: &super::Keep, now: SystemTime) -> Vec<Recording> {
        let mut all: Vec<_> = self.streams.lock().values().flat_map(BTreeMap::values).cloned().collect();
        all.sort_unstable_by_key(|recording| recording.start);
        let mut bytes = all.iter().fold(0_u64, |sum, recording| sum.saturating_add(recording.bytes));
        let mut expired = Vec::new();
        for recording in all {
            let age = now.duration_since(recording.end()).unwrap_or_default();
            let old = keep.age.is_some_and(|limit| age > limit);
            let much = keep.bytes.is_some_and(|limit| bytes > limit);
            if old || much {
                bytes = bytes.saturating_sub(recording.bytes);
                expired.push(recording);
            }
        }
        expired
    }

    /// Writes the index to storage, if it has changed since.
    ///
    /// # Errors
    /// The storage failed; the next call tries again.
    pub async fn save(&self) -> Result<(), StorageError> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let result = self.write(self.encode()).await;
        if result.is_err() {
            self.changed.store(true, Ordering::Release);
        }
        result
    }

    async fn write(&self, text: String) -> Result<(), StorageError> {
        let (name, new) = (StorageName::parse(INDEX_NAME)?, StorageName::parse(NEW_INDEX_NAME)?);
        // Of a save that was cut short.
        let _ = self.storage.delete(&new).await;
        let mut object = self.storage.create(&new).await?;
        if let Err(error) = object.append(Bytes::from(text)).await {
            // The next save needs the name.
            let _ = object.discard().await;
            return Err(error);
        }
        object.finish().await?;
        // Without an index at this moment the next start looks at names alone, which is slower and no worse.
        let _ = self.storage.delete(&name).await;
        self.storage.rename(&new, &name).await
    }

    /// A line each: begin and length in nanoseconds, size, format, whether it continues, the stream, the file.
    fn encode(&self) -> String {
        let mut text = format!("{VERSION}\n");
        for recording in self.streams.lock().values().flat_map(BTreeMap::values) {
            let start = recording.start.duration_since(UNIX_EPOCH).unwrap_or_default();
            let _ = writeln!(
                text,
                "{} {} {} {} {} {} {}",
                start.as_nanos(),
                recording.duration.as_nanos(),
                recording.bytes,
                recording.format.extension(),
                u8::from(recording.continues),
                recording.key,
                recording.name,
            );
        }
        text
    }
}

/// What the index object says; nothing where there is none, or of another version.
async fn load(storage: &dyn StorageBackend) -> Result<Vec<Recording>, StorageError> {
    let name = StorageName::parse(INDEX_NAME)?;
    let size = match storage.stat(&name).await {
        Ok(entry) => entry.size,
        Err(StorageError::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let bytes = storage.read(&name, 0..size.min(MAX_READ)).await?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    if lines.next() != Some(VERSION) {
        return Ok(Vec::new());
    }
    Ok(lines.filter_map(decode).collect())
}

fn decode(line: &str) -> Option<Recording> {
    let mut fields = line.split(' ');
    let mut next = || fields.next();
    let start = UNIX_EPOCH.checked_add(nanos(next()?)?)?;
    let duration = nanos(next()?)?;
    let bytes = next()?.parse().ok()?;
    let format = Format::of_extension(next()?)?;
    let continues = next()? == "1";
    let key = next()?.parse().ok()?;
    let name = StorageName::parse(next()?).ok()?;
    next().is_none().then_some(Recording { key, name, start, duration, bytes, format, continues })
}

fn nanos(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_nanos)
}

/// A recording that only its name and its age tell of. An empty file is none.
fn by_name(entry: &StorageEntry, names: &NameTemplate) -> Option<Recording> {
    let (key, start, format) = names.read(&entry.name).filter(|_| entry.size > 0)?;
    let duration = entry.modified.and_then(|end| end.duration_since(start).ok()).unwrap_or_default();
    Some(Recording {
        key,
        name: entry.name.clone(),
        start,
        duration,
        bytes: entry.size,
        format,
        continues: false,
    })
}
