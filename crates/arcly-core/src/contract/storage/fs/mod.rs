//! Objects as files below one directory.
//!
//! An object is written to `NAME.part` and gets its name when it is finished, so that nobody sees half of one and a crash
//! leaves what was written. No symbolic link below the root is followed: directories are entered one after the other, each
//! from the handle of the one before, so that neither a name nor somebody who may write into the tree leads out of it
//! (`docs/decisions/0007-storage-walks-down-handles.md`). The root itself is a path, looked up for every call: a disk may be
//! mounted there later, and a root that was removed is made again by whoever creates.
//!
//! File operations run on tokio's blocking threads, at most [`MAX_AT_ONCE`] of one storage at a time: a disk that stands
//! still leaves the other threads to everybody else.

mod folder;
mod walk;
mod writer;

use core::ops::{ControlFlow, Range};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

use self::folder::{Folder, Found, Kind};
use self::walk::{Top, walk};
use self::writer::FsWriter;
use super::{
    MAX_LIST, MAX_READ, PARTIAL_SUFFIX, StorageBackend, StorageEntry, StorageError, StorageName,
    StorageWriter,
};

/// File operations of one storage that are under way at a time; tokio has 512 threads for all that block.
pub const MAX_AT_ONCE: usize = 64;

/// Storage in a directory of the local file system.
#[derive(Clone, Debug)]
pub struct FsStorage {
    /// Canonical: the root itself may be reached through links.
    root: Arc<Path>,
    turns: Turns,
}

impl FsStorage {
    /// Storage below `root`, which is created when it is not there.
    ///
    /// # Errors
    /// The directory cannot be created or entered.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let (root, turns) = (root.into(), Turns::new());
        let root = turns.blocking(move || {
            std::fs::create_dir_all(&root)?;
            Ok(std::fs::canonicalize(&root)?)
        });
        Ok(Self { root: root.await?.into(), turns })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of an object, if the directories on the way are there.
    fn locate(&self, name: &StorageName) -> Result<Place, StorageError> {
        let root = Folder::open(&self.root).map_err(|error| failed(error, name))?;
        Place::below(root, name, false)
    }

    /// The same, and makes the directories on the way.
    fn make_place(&self, name: &StorageName) -> Result<Place, StorageError> {
        let root = Folder::open(&self.root).or_else(|error| match error.kind() {
            ErrorKind::NotFound => {
                std::fs::create_dir_all(&self.root).and_then(|()| Folder::open(&self.root))
            }
            _ => Err(error),
        });
        Place::below(root?, name, true).map_err(|error| match error {
            // It was there a moment ago.
            StorageError::NotFound(_) => StorageError::Io(ErrorKind::NotFound.into()),
            error => error,
        })
    }

    fn create_now(&self, name: &StorageName) -> Result<FsWriter, StorageError> {
        let place = self.make_place(name)?;
        match place.folder.look(place.file()) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error, name)),
            Ok(_) => return Err(StorageError::Exists(name.clone())),
        }
        FsWriter::create(place, self.turns.clone())
    }

    fn read_now(&self, name: &StorageName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let length = range.end.saturating_sub(range.start);
        if length > MAX_READ {
            return Err(StorageError::Limit { what: "read", limit: MAX_READ });
        }
        let place = self.locate(name)?;
        let mut file = place.folder.read(place.file()).map_err(|error| failed(error, name))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(StorageError::NotFound(name.clone()));
        }
        let available = metadata.len().saturating_sub(range.start).min(length);
        let mut bytes = Vec::with_capacity(usize::try_from(available).unwrap_or(0));
        file.seek(SeekFrom::Start(range.start))?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    /// The first `most` entries of a listing.
    pub(super) fn list_now(
        &self,
        prefix: Option<&StorageName>,
        after: Option<&StorageName>,
        most: usize,
    ) -> Result<Vec<StorageEntry>, StorageError> {
        let mut entries = Vec::new();
        let Some(top) = self.top(prefix)? else { return Ok(entries) };
        let after = after.map_or("", StorageName::as_str);
        let _ = walk(&top, after, &mut |folder, name, file| {
            // Whatever has no storage name was not put here by this storage, and what is gone by now is not there.
            if let Ok(name) = StorageName::parse(name)
                && let Ok(found) = folder.look(file)
                && found.kind == Kind::File
            {
                entries.push(entry(name, &found));
            }
            if entries.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(entries)
    }

    /// Where a listing begins; `None` when there is nothing.
    fn top(&self, prefix: Option<&StorageName>) -> Result<Option<Top>, StorageError> {
        let Some(name) = prefix else {
            return Ok(Some(Top { folder: Folder::open(&self.root)?, prefix: String::new(), depth: 0 }));
        };
        let place = match self.locate(name) {
            Ok(place) => place,
            Err(StorageError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let depth = name.segments().count();
        match place.folder.enter(place.file()) {
            Ok(folder) => Ok(Some(Top { folder, prefix: format!("{name}/"), depth })),
            // An object, or a link, has nothing below it.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(failed(error, name)),
        }
    }

    /// Puts every unfinished object under its name, unless that is taken.
    fn recover_now(&self) -> Result<usize, StorageError> {
        let mut recovered = 0;
        let top = Top { folder: Folder::open(&self.root)?, prefix: String::new(), depth: 0 };
        let _ = walk(&top, "", &mut |folder, name, file| {
            let whole =
                name.strip_suffix(PARTIAL_SUFFIX).is_some_and(|name| StorageName::parse(name).is_ok());
            let target = file.strip_suffix(PARTIAL_SUFFIX).filter(|_| whole);
            recovered +=
                usize::from(target.is_some_and(|target| folder.move_to(file, folder, target).is_ok()));
            ControlFlow::Continue(())
        })?;
        Ok(recovered)
    }

    fn delete_now(&self, name: &StorageName) -> Result<(), StorageError> {
        let place = self.locate(name)?;
        place.find()?;
        place.folder.remove(place.file()).map_err(|error| failed(error, name))
    }

    fn rename_now(&self, from: &StorageName, to: &StorageName) -> Result<(), StorageError> {
        let source = self.locate(from)?;
        source.find()?;
        let target = self.make_place(to)?;
        let moved = source.folder.move_to(source.file(), &target.folder, target.file());
        moved.map_err(|error| failed(error, to))
    }
}

/// The directory of an object, and its name there.
#[derive(Debug)]
struct Place {
    folder: Folder,
    name: StorageName,
}

impl Place {
    fn below(root: Folder, name: &StorageName, make: bool) -> Result<Self, StorageError> {
        let mut folder = root;
        let mut segments = name.segments();
        segments.next_back();
        let mut shown = String::new();
        for segment in segments {
            shown.push_str(segment);
            if make {
                folder.make(segment).map_err(|error| failed(error, name))?;
            }
            folder = folder.enter(segment).map_err(|error| match error.kind() {
                ErrorKind::NotADirectory => StorageError::Escapes(shown.clone()),
                _ => failed(error, name),
            })?;
            shown.push('/');
        }
        Ok(Self { folder, name: name.clone() })
    }

    fn file(&self) -> &str {
        self.name.segments().next_back().unwrap_or_default()
    }

    /// The finished object.
    fn find(&self) -> Result<Found, StorageError> {
        let found = self.folder.look(self.file()).map_err(|error| failed(error, &self.name))?;
        match found.kind {
            Kind::File => Ok(found),
            Kind::Link => Err(StorageError::Escapes(self.name.to_string())),
            Kind::Folder | Kind::Other => Err(StorageError::NotFound(self.name.clone())),
        }
    }
}

fn entry(name: StorageName, found: &Found) -> StorageEntry {
    StorageEntry { name, size: found.size, modified: found.modified }
}

/// What an error of the operating system means for the object of that name.
fn failed(error: io::Error, name: &StorageName) -> StorageError {
    if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
        return StorageError::Escapes(name.to_string());
    }
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => StorageError::NotFound(name.clone()),
        ErrorKind::AlreadyExists => StorageError::Exists(name.clone()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StorageError::NoSpace(name.clone())
        }
        _ => StorageError::Io(error),
    }
}

/// Who may block a thread.
#[derive(Clone, Debug)]
struct Turns(Arc<Semaphore>);

impl Turns {
    fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_AT_ONCE)))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
    ) -> Result<T, StorageError> {
        let turn = Arc::clone(&self.0).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            // Kept by the thread: a call that is dropped leaves it at work.
            let _turn = turn;
            work()
        });
        done.await.unwrap_or_else(|error| Err(StorageError::Io(io::Error::other(error))))
    }
}

#[async_trait]
impl StorageBackend for FsStorage {
    async fn create(&self, name: &StorageName) -> Result<Box<dyn StorageWriter>, StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        Ok(Box::new(self.turns.blocking(move || storage.create_now(&name)).await?))
    }

    async fn read(&self, name: &StorageName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        self.turns.blocking(move || storage.read_now(&name, range)).await
    }

    async fn stat(&self, name: &StorageName) -> Result<StorageEntry, StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        self.turns.blocking(move || storage.locate(&name)?.find().map(|found| entry(name, &found))).await
    }

    async fn list(
        &self,
        prefix: Option<&StorageName>,
        after: Option<&StorageName>,
    ) -> Result<Vec<StorageEntry>, StorageError> {
        let (storage, prefix, after) = (self.clone(), prefix.cloned(), after.cloned());
        self.turns.blocking(move || storage.list_now(prefix.as_ref(), after.as_ref(), MAX_LIST)).await
    }

    async fn delete(&self, name: &StorageName) -> Result<(), StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        self.turns.blocking(move || storage.delete_now(&name)).await
    }

    async fn rename(&self, from: &StorageName, to: &StorageName) -> Result<(), StorageError> {
        let (storage, from, to) = (self.clone(), from.clone(), to.clone());
        self.turns.blocking(move || storage.rename_now(&from, &to)).await
    }

    async fn recover(&self) -> Result<usize, StorageError> {
        let storage = self.clone();
        self.turns.blocking(move || storage.recover_now()).await
    }
}
