//! Objects as files below one directory.
//!
//! An object is written to `NAME.part` and renamed when it is finished, so that nobody sees half of one and a crash leaves
//! what was written. No symbolic link below the root is followed: each directory on the way is looked at before it is
//! entered, files are created with `O_EXCL`, which follows none, and what was opened for reading is compared with what
//! the name stands for. That holds against whatever *names* can do and against links that lie in the tree; it does not
//! hold against somebody who may write into the tree and swaps directories between two system calls.
//!
//! All file operations run on tokio's blocking threads.

use core::ops::Range;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    MAX_LIST, MAX_READ, MAX_STORAGE_SEGMENTS, StorageBackend, StorageEntry, StorageError, StorageName,
    StorageWriter,
};

/// What the name of an unfinished object ends in on disk.
pub const PARTIAL_SUFFIX: &str = ".part";

/// Storage in a directory of the local file system.
#[derive(Clone, Debug)]
pub struct FsStorage {
    /// Canonical: the root itself may be reached through links.
    root: Arc<Path>,
}

impl FsStorage {
    /// Storage below `root`, which is created when it is not there.
    ///
    /// # Errors
    /// The directory cannot be created or entered.
    pub async fn open(root: impl Into<PathBuf>) -> Result<Self, StorageError> {
        let root = root.into();
        let root = blocking(move || {
            fs::create_dir_all(&root)?;
            Ok(fs::canonicalize(&root)?)
        });
        Ok(Self { root: root.await?.into() })
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where an object is, after a look at every directory on the way.
    fn locate(&self, name: &StorageName, make: bool) -> Result<PathBuf, StorageError> {
        let mut path = self.root.to_path_buf();
        let mut segments = name.segments();
        let file = segments.next_back().unwrap_or_default();
        for segment in segments {
            path.push(segment);
            if make
                && let Err(error) = fs::create_dir(&path)
                && error.kind() != ErrorKind::AlreadyExists
            {
                return Err(failed(error, name));
            }
            // `symlink_metadata` tells a link from what it points to.
            if !fs::symlink_metadata(&path).map_err(|error| failed(error, name))?.is_dir() {
                return Err(StorageError::Escapes(self.shown(&path)));
            }
        }
        path.push(file);
        Ok(path)
    }

    /// Where a finished object is, and what it is.
    fn find(&self, name: &StorageName) -> Result<(PathBuf, Metadata), StorageError> {
        let path = self.locate(name, false)?;
        let metadata = fs::symlink_metadata(&path).map_err(|error| failed(error, name))?;
        if metadata.is_symlink() {
            return Err(StorageError::Escapes(self.shown(&path)));
        }
        if !metadata.is_file() {
            return Err(StorageError::NotFound(name.clone()));
        }
        Ok((path, metadata))
    }

    fn is_free(path: &Path, name: &StorageName) -> Result<(), StorageError> {
        match fs::symlink_metadata(path) {
            Ok(_) => Err(StorageError::Exists(name.clone())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed(error, name)),
        }
    }

    fn shown(&self, path: &Path) -> String {
        path.strip_prefix(&self.root).unwrap_or(path).display().to_string()
    }

    fn create_now(&self, name: &StorageName) -> Result<FsWriter, StorageError> {
        let path = self.locate(name, true)?;
        Self::is_free(&path, name)?;
        let mut partial = path.clone().into_os_string();
        partial.push(PARTIAL_SUFFIX);
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&partial)
            .map_err(|error| failed(error, name))?;
        Ok(FsWriter { file: Some(file), partial, path, name: name.clone(), written: 0 })
    }

    fn read_now(&self, name: &StorageName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let length = range.end.saturating_sub(range.start);
        if length > MAX_READ {
            return Err(StorageError::Limit { what: "read", limit: MAX_READ });
        }
        let (path, found) = self.find(name)?;
        let mut file = File::open(&path).map_err(|error| failed(error, name))?;
        if !same_file(&found, &file.metadata()?) {
            return Err(StorageError::Escapes(self.shown(&path)));
        }
        let available = found.len().saturating_sub(range.start).min(length);
        let mut bytes = Vec::with_capacity(usize::try_from(available).unwrap_or(0));
        file.seek(SeekFrom::Start(range.start))?;
        file.take(length).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    }

    fn list_now(&self, prefix: Option<&StorageName>) -> Result<Vec<StorageEntry>, StorageError> {
        let mut entries = Vec::new();
        let top = match prefix {
            None => (self.root.to_path_buf(), String::new(), 0),
            Some(name) => match self.locate(name, false) {
                Ok(path) if fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) => {
                    (path, format!("{name}/"), name.segments().count())
                }
                Ok(_) | Err(StorageError::NotFound(_)) => return Ok(entries),
                Err(error) => return Err(error),
            },
        };
        // Whatever has no storage name was not put here by this storage.
        walk(top, |_, name, metadata| {
            entries.extend(StorageName::parse(&name).ok().map(|name| entry(name, metadata)));
            check_listing(entries.len())
        })?;
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Puts every unfinished object under its name, unless that is taken.
    fn recover_now(&self) -> Result<usize, StorageError> {
        let mut unfinished = Vec::new();
        walk((self.root.to_path_buf(), String::new(), 0), |path, name, _| {
            let whole = name.strip_suffix(PARTIAL_SUFFIX).and_then(|name| StorageName::parse(name).ok());
            unfinished.extend(whole.map(|name| (path, name)));
            check_listing(unfinished.len())
        })?;
        let recovered = unfinished.iter().filter(|(path, name)| {
            let target = self.locate(name, false);
            target.is_ok_and(|target| publish(path, &target, name).is_ok())
        });
        Ok(recovered.count())
    }

    fn rename_now(&self, from: &StorageName, to: &StorageName) -> Result<(), StorageError> {
        let (source, _) = self.find(from)?;
        let target = self.locate(to, true)?;
        publish(&source, &target, to)
    }
}

/// A directory, what the names of its entries begin with, and how deep it is.
type Directory = (PathBuf, String, usize);

/// Calls `each` with every file below a directory: where it is, its name with slashes, and what it is. Links are neither
/// followed nor shown.
fn walk(
    top: Directory,
    mut each: impl FnMut(PathBuf, String, &Metadata) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let mut pending = vec![top];
    while let Some((directory, prefix, depth)) = pending.pop() {
        for found in fs::read_dir(directory)? {
            let found = found?;
            // Of the entry itself, not of what a link points to. It may have gone meanwhile.
            let Ok(metadata) = found.metadata() else { continue };
            let Some(name) = found.file_name().to_str().map(|file| format!("{prefix}{file}")) else {
                continue;
            };
            if metadata.is_dir() && depth < MAX_STORAGE_SEGMENTS && StorageName::parse(&name).is_ok() {
                pending.push((found.path(), format!("{name}/"), depth + 1));
                check_listing(pending.len())?;
            } else if metadata.is_file() {
                each(found.path(), name, &metadata)?;
            }
        }
    }
    Ok(())
}

const fn check_listing(entries: usize) -> Result<(), StorageError> {
    if entries > MAX_LIST {
        return Err(StorageError::Limit { what: "listing", limit: MAX_LIST as u64 });
    }
    Ok(())
}

/// Moves a file to a name that nothing has yet.
fn publish(source: &Path, target: &Path, name: &StorageName) -> Result<(), StorageError> {
    // `rename` would replace what is there; `hard_link` fails. Where a file system has no hard links, a look has to do.
    match fs::hard_link(source, target) {
        Ok(()) => fs::remove_file(source).map_err(|error| failed(error, name)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(StorageError::Exists(name.clone())),
        Err(_) => {
            FsStorage::is_free(target, name)?;
            fs::rename(source, target).map_err(|error| failed(error, name))
        }
    }
}

fn entry(name: StorageName, metadata: &Metadata) -> StorageEntry {
    StorageEntry { name, size: metadata.len(), modified: metadata.modified().ok() }
}

#[cfg(unix)]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

#[cfg(not(unix))]
fn same_file(a: &Metadata, b: &Metadata) -> bool {
    a.created().ok() == b.created().ok()
}

/// What an error of the operating system means for the object of that name.
fn failed(error: io::Error, name: &StorageName) -> StorageError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => StorageError::NotFound(name.clone()),
        ErrorKind::AlreadyExists => StorageError::Exists(name.clone()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            StorageError::NoSpace(name.clone())
        }
        _ => StorageError::Io(error),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StorageError> + Send + 'static,
) -> Result<T, StorageError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(StorageError::Io(io::Error::other(error))),
    }
}

#[async_trait]
impl StorageBackend for FsStorage {
    async fn create(&self, name: &StorageName) -> Result<Box<dyn StorageWriter>, StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        Ok(Box::new(blocking(move || storage.create_now(&name)).await?))
    }

    async fn read(&self, name: &StorageName, range: Range<u64>) -> Result<Bytes, StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        blocking(move || storage.read_now(&name, range)).await
    }

    async fn stat(&self, name: &StorageName) -> Result<StorageEntry, StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        blocking(move || storage.find(&name).map(|(_, metadata)| entry(name, &metadata))).await
    }

    async fn list(&self, prefix: Option<&StorageName>) -> Result<Vec<StorageEntry>, StorageError> {
        let (storage, prefix) = (self.clone(), prefix.cloned());
        blocking(move || storage.list_now(prefix.as_ref())).await
    }

    async fn delete(&self, name: &StorageName) -> Result<(), StorageError> {
        let (storage, name) = (self.clone(), name.clone());
        blocking(move || fs::remove_file(storage.find(&name)?.0).map_err(|error| failed(error, &name))).await
    }

    async fn rename(&self, from: &StorageName, to: &StorageName) -> Result<(), StorageError> {
        let (storage, from, to) = (self.clone(), from.clone(), to.clone());
        blocking(move || storage.rename_now(&from, &to)).await
    }

    async fn recover(&self) -> Result<usize, StorageError> {
        let storage = self.clone();
        blocking(move || storage.recover_now()).await
    }
}

struct FsWriter {
    /// Away while an append is under way; gone when one was cancelled, or failed and left a part behind.
    file: Option<File>,
    partial: PathBuf,
    path: PathBuf,
    name: StorageName,
    written: u64,
}

impl FsWriter {
    fn take_file(&mut self) -> Result<File, StorageError> {
        let broken = || io::Error::other("an earlier append to this object was cancelled or failed half-way");
        Ok(self.file.take().ok_or_else(broken)?)
    }
}

#[async_trait]
impl StorageWriter for FsWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let (mut file, length, start) = (self.take_file()?, bytes.len() as u64, self.written);
        let (file, result) = blocking(move || {
            let result = file.write_all(&bytes);
            // Half of an append would spoil what is there: cut it off, and go on where it began.
            let sound = result.is_ok()
                || file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).is_ok();
            Ok((sound.then_some(file), result))
        })
        .await?;
        self.file = file;
        result.map_err(|error| failed(error, &self.name))?;
        self.written += length;
        Ok(())
    }

    fn written(&self) -> u64 {
        self.written
    }

    async fn overwrite(&mut self, offset: u64, bytes: Bytes) -> Result<(), StorageError> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.written) {
            return Err(StorageError::Io(ErrorKind::InvalidInput.into()));
        }
        let (mut file, end) = (self.take_file()?, self.written);
        let (file, result) = blocking(move || {
            let result = file
                .sync_data()
                .and_then(|()| file.seek(SeekFrom::Start(offset)))
                .and_then(|_| file.write_all(&bytes));
            let back = file.seek(SeekFrom::Start(end));
            Ok((back.is_ok().then_some(file), result))
        })
        .await?;
        self.file = file;
        result.map_err(|error| failed(error, &self.name))
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, StorageError> {
        let file = self.take_file()?;
        blocking(move || {
            file.sync_data()?;
            publish(&self.partial, &self.path, &self.name)?;
            Ok(self.written)
        })
        .await
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// `/dev/full` answers every write with ENOSPC.
    #[tokio::test]
    async fn f40_a_full_disk_is_told_apart() {
        let name = StorageName::parse("live/cam.ts").expect("a good name");
        let file = OpenOptions::new().write(true).open("/dev/full").expect("a Linux device");
        let path = PathBuf::from("unused");
        let mut object =
            FsWriter { file: Some(file), partial: path.clone(), path, name: name.clone(), written: 0 };
        let error = object.append("media".into()).await.expect_err("no space");
        assert!(matches!(&error, StorageError::NoSpace(n) if *n == name), "{error:?}");
        assert_eq!(error.reason(), crate::close::CloseReason::Io);
        assert_eq!(object.written(), 0);
    }
}
