//! Where recordings and segments are kept: objects that are written once, front to back, and then read.
//!
//! ```
//! use arcly_core::contract::storage::{FsStorage, StorageBackend, StorageName};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! # let root = std::env::temp_dir().join(format!("arcly-doc-{}", std::process::id()));
//! let storage = FsStorage::open(&root).await?;
//! let name = StorageName::parse("live/cam/1.ts")?;
//! let mut object = storage.create(&name).await?;
//! object.append("some media".into()).await?;
//! object.finish().await?;
//! assert_eq!(storage.read(&name, 5..100).await?, "media");
//! # storage.delete(&name).await?;
//! # let _ = std::fs::remove_dir_all(root);
//! # Ok::<(), arcly_core::contract::storage::StorageError>(())
//! # }).unwrap();
//! ```

#[cfg(unix)]
mod fs;

#[cfg(all(test, unix))]
mod tests;

use core::fmt;
use core::ops::Range;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;

#[cfg(unix)]
pub use self::fs::{FsStorage, MAX_AT_ONCE};

use crate::close::CloseReason;
use crate::key::StreamKey;

/// Longest name, in bytes.
pub const MAX_STORAGE_NAME: usize = 512;
/// Longest segment of a name, in bytes; file systems allow 255, and an unfinished object's name is longer than its own.
pub const MAX_STORAGE_SEGMENT: usize = 240;
/// Most segments of a name: those of a stream's, and a few below.
pub const MAX_STORAGE_SEGMENTS: usize = 16;
/// Most bytes that one read returns.
pub const MAX_READ: u64 = 64 << 20;
/// Most entries of one page of a listing.
pub const MAX_LIST: usize = 10_000;
/// What the name of an unfinished object ends in, and no other.
pub const PARTIAL_SUFFIX: &str = ".part";

/// A relative name that cannot leave its root: segments of `[A-Za-z0-9._~-]` between single slashes, none of which begins
/// with a dot or ends in `.part`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StorageName(Arc<str>);

impl StorageName {
    /// A name from its text.
    ///
    /// # Errors
    /// [`StorageError::Name`] says what is wrong with it.
    pub fn parse(name: &str) -> Result<Self, StorageError> {
        if name.len() > MAX_STORAGE_NAME {
            return Err(StorageError::Name("longer than 512 bytes"));
        }
        if name.split('/').count() > MAX_STORAGE_SEGMENTS {
            return Err(StorageError::Name("more than 16 segments"));
        }
        name.split('/').try_for_each(check_segment)?;
        Ok(Self(name.into()))
    }

    /// The name of something that belongs to a stream: `app/stream/file`.
    ///
    /// # Errors
    /// As [`parse`](Self::parse): a stream's name may have a segment that begins with a dot, a file's not.
    pub fn of_stream(key: &StreamKey, file: &str) -> Result<Self, StorageError> {
        Self::parse(&format!("{key}/{file}"))
    }

    /// The name as it stands, with slashes.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its segments, first to last; at least one.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

impl fmt::Display for StorageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn check_segment(segment: &str) -> Result<(), StorageError> {
    let wrong = match segment {
        "" => "an empty segment",
        _ if segment.starts_with('.') => "a segment that begins with a dot",
        _ if segment.ends_with(PARTIAL_SUFFIX) => "a segment that ends in .part",
        _ if segment.len() > MAX_STORAGE_SEGMENT => "a segment longer than 240 bytes",
        _ if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)) => {
            "a character outside A-Z a-z 0-9 . _ ~ -"
        }
        _ => return Ok(()),
    };
    Err(StorageError::Name(wrong))
}

/// Why storage did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The name is none, or could leave the root; says what it has.
    #[error("the storage name has {0}")]
    Name(&'static str),
    /// The object, or something on the way to it, is a symbolic link or not a directory.
    #[error("{0} is a link or not a directory")]
    Escapes(String),
    /// There is no such object.
    #[error("{0} does not exist")]
    NotFound(StorageName),
    /// There is one already, finished or not.
    #[error("{0} exists")]
    Exists(StorageName),
    /// The disk, or the quota, is full.
    #[error("no space left for {0}")]
    NoSpace(StorageName),
    /// More was asked for than a bound.
    #[error("{what} is over the limit of {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The storage failed.
    #[error("storage: {0}")]
    Io(#[from] io::Error),
}

impl StorageError {
    /// The reason in the terms of logs, metrics and replies.
    #[must_use]
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Name(_) | Self::Escapes(_) => CloseReason::Forbidden,
            Self::NotFound(_) => CloseReason::NotFound,
            Self::Exists(_) => CloseReason::Conflict,
            Self::Limit { what, .. } => CloseReason::Limit(what),
            Self::NoSpace(_) | Self::Io(_) => CloseReason::Io,
        }
    }
}

/// What a listing says of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageEntry {
    /// Its name.
    pub name: StorageName,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written to, when the storage knows.
    pub modified: Option<SystemTime>,
}

/// Keeps objects by name.
///
/// Objects appear under their name when they are finished, whole, and never change after that. What a call leaves behind
/// when its future is dropped is either nothing or all of it, not a part.
#[async_trait]
pub trait StorageBackend: Send + Sync {
    /// Begins an object.
    ///
    /// # Errors
    /// [`StorageError::Exists`] when there is one of that name, finished or not.
    async fn create(&self, name: &StorageName) -> Result<Box<dyn StorageWriter>, StorageError>;

    /// Reads a part of a finished object; shorter where the object ends before the range does.
    ///
    /// # Errors
    /// [`StorageError::Limit`] for more than [`MAX_READ`] bytes, [`StorageError::NotFound`].
    async fn read(&self, name: &StorageName, range: Range<u64>) -> Result<Bytes, StorageError>;

    /// Size and age of a finished object.
    ///
    /// # Errors
    /// [`StorageError::NotFound`].
    async fn stat(&self, name: &StorageName) -> Result<StorageEntry, StorageError>;

    /// A page of the finished objects below `prefix` at any depth (of all, for `None`): in order of their names, the first
    /// [`MAX_LIST`] that come behind `after`. A page with fewer is the last one.
    ///
    /// # Errors
    /// The storage failed.
    async fn list(
        &self,
        prefix: Option<&StorageName>,
        after: Option<&StorageName>,
    ) -> Result<Vec<StorageEntry>, StorageError>;

    /// Removes a finished object.
    ///
    /// # Errors
    /// [`StorageError::NotFound`].
    async fn delete(&self, name: &StorageName) -> Result<(), StorageError>;

    /// Gives a finished object another name.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], and [`StorageError::Exists`] when the new name is taken.
    async fn rename(&self, from: &StorageName, to: &StorageName) -> Result<(), StorageError>;

    /// Finishes objects that nobody writes any more, because whoever did has died, as they are; how many those were. To
    /// be called before anything is created. The default has nothing to recover.
    ///
    /// # Errors
    /// The storage failed.
    async fn recover(&self) -> Result<usize, StorageError> {
        Ok(0)
    }
}

/// An object that is being written.
#[async_trait]
pub trait StorageWriter: Send {
    /// Appends bytes. After an error the object can still be finished with what was appended before.
    /// Not cancel safe: when the future is dropped, the bytes may or may not be part of the object.
    ///
    /// # Errors
    /// [`StorageError::NoSpace`] when the disk is full.
    async fn append(&mut self, bytes: Bytes) -> Result<(), StorageError>;

    /// Bytes appended so far.
    fn written(&self) -> u64;

    /// Replaces bytes that were appended, once all that was appended is safe on the disk: how formats finish a file whose
    /// front has to say what came after it. Not cancel safe, as [`append`](Self::append).
    ///
    /// # Errors
    /// The range is not all there, the storage failed, or it cannot replace anything, which is what the default says. The
    /// object can still be finished.
    async fn overwrite(&mut self, offset: u64, bytes: Bytes) -> Result<(), StorageError> {
        let _ = (offset, bytes);
        Err(StorageError::Io(io::ErrorKind::Unsupported.into()))
    }

    /// Puts the object under its name, whole, and returns its size. A writer that is dropped instead leaves the
    /// object unfinished: what a crash leaves too, and what a backend may offer to recover.
    ///
    /// # Errors
    /// The storage failed; the object stays unfinished.
    async fn finish(self: Box<Self>) -> Result<u64, StorageError>;

    /// Lets go of the object, of which nothing is left. The default leaves it unfinished.
    ///
    /// # Errors
    /// The storage failed; the object stays unfinished.
    async fn discard(self: Box<Self>) -> Result<(), StorageError> {
        Ok(())
    }
}
