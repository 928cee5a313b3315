//! A file that is being written.

use std::fs::File;
use std::io::{self, ErrorKind, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt as _;

use async_trait::async_trait;
use bytes::Bytes;

use super::{PARTIAL_SUFFIX, Place, StorageError, StorageWriter, Turns, failed};

/// An object that is being written. It keeps its directory open, so that finishing it takes no further file descriptor.
pub(super) struct FsWriter {
    /// Away while an append is under way; gone when one was cancelled, or failed and left a part behind.
    file: Option<File>,
    place: Place,
    written: u64,
    turns: Turns,
}

impl FsWriter {
    pub(super) fn create(place: Place, turns: Turns) -> Result<Self, StorageError> {
        let file = place.folder.create(&partial(&place)).map_err(|error| failed(error, &place.name))?;
        Ok(Self { file: Some(file), place, written: 0, turns })
    }

    fn take_file(&mut self) -> Result<File, StorageError> {
        let broken = || io::Error::other("an earlier append to this object was cancelled or failed half-way");
        Ok(self.file.take().ok_or_else(broken)?)
    }

    fn failed(&self, error: io::Error) -> StorageError {
        failed(error, &self.place.name)
    }
}

fn partial(place: &Place) -> String {
    format!("{}{PARTIAL_SUFFIX}", place.file())
}

/// Nobody will find what is written to a file without a name.
fn check_name(file: &File) -> io::Result<()> {
    match file.metadata()?.nlink() {
        0 => Err(io::Error::other("the file was removed while it was written")),
        _ => Ok(()),
    }
}

#[async_trait]
impl StorageWriter for FsWriter {
    async fn append(&mut self, bytes: Bytes) -> Result<(), StorageError> {
        let (mut file, length, start) = (self.take_file()?, bytes.len() as u64, self.written);
        let append = move || {
            let result = file.write_all(&bytes).and_then(|()| check_name(&file));
            // Half of an append would spoil what is there: cut it off, and go on where it began.
            let sound = result.is_ok()
                || file.set_len(start).and_then(|()| file.seek(SeekFrom::Start(start))).is_ok();
            Ok((sound.then_some(file), result))
        };
        let (file, result) = self.turns.blocking(append).await?;
        self.file = file;
        result.map_err(|error| self.failed(error))?;
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
        let overwrite = move || {
            let result = file
                .sync_data()
                .and_then(|()| file.seek(SeekFrom::Start(offset)))
                .and_then(|_| file.write_all(&bytes));
            let back = file.seek(SeekFrom::Start(end));
            Ok((back.is_ok().then_some(file), result))
        };
        let (file, result) = self.turns.blocking(overwrite).await?;
        self.file = file;
        result.map_err(|error| self.failed(error))
    }

    async fn finish(mut self: Box<Self>) -> Result<u64, StorageError> {
        let (file, turns) = (self.take_file()?, self.turns.clone());
        let finish = move || {
            check_name(&file)?;
            file.sync_data()?;
            let Self { place, written, .. } = *self;
            match place.folder.move_to(&partial(&place), &place.folder, place.file()) {
                Ok(()) => Ok(written),
                Err(error) if error.kind() == ErrorKind::NotFound => Err(StorageError::Io(error)),
                Err(error) => Err(failed(error, &place.name)),
            }
        };
        turns.blocking(finish).await
    }

    async fn discard(self: Box<Self>) -> Result<(), StorageError> {
        let turns = self.turns.clone();
        let discard = move || {
            let place = self.place;
            place.folder.remove(&partial(&place)).map_err(|error| failed(error, &place.name))
        };
        turns.blocking(discard).await
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs::OpenOptions;
    use std::io::Read as _;

    use tempfile::TempDir;

    use super::*;
    use crate::contract::storage::StorageName;
    use crate::contract::storage::fs::Folder;

    /// A writer to that file, with a folder to finish it in.
    fn writer(file: File) -> (TempDir, FsWriter) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let folder = Folder::open(dir.path()).expect("a directory");
        let name = StorageName::parse("live/cam.ts").expect("a good name");
        let writer =
            FsWriter { file: Some(file), place: Place { folder, name }, written: 0, turns: Turns::new() };
        (dir, writer)
    }

    /// `/dev/full` answers every write with ENOSPC.
    #[tokio::test]
    async fn f40_a_full_disk_is_told_apart() {
        let file = OpenOptions::new().write(true).open("/dev/full").expect("a Linux device");
        let (_dir, mut object) = writer(file);
        let error = object.append("media".into()).await.expect_err("no space");
        assert!(matches!(&error, StorageError::NoSpace(name) if name.as_str() == "live/cam.ts"), "{error:?}");
        assert_eq!(error.reason(), crate::close::CloseReason::Io);
        assert_eq!(object.written(), 0);
    }

    /// A pipe that nobody reads is a disk that stands still. Nothing but its own thread waits for it.
    #[tokio::test]
    async fn f41_a_disk_that_stands_still_blocks_no_task() {
        let (mut far, near) = io::pipe().expect("a pipe");
        let near: std::os::fd::OwnedFd = near.into();
        let (_dir, mut object) = writer(near.into());
        let mut append = tokio::spawn(async move {
            let result = object.append(vec![7; 1 << 20].into()).await;
            (object, result)
        });
        // The only thread of this runtime goes on, and so does every other operation of a storage.
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = super::super::FsStorage::open(dir.path()).await.expect("storage");
        for _ in 0..100 {
            tokio::task::yield_now().await;
            use crate::contract::storage::StorageBackend as _;
            assert!(storage.list(None, None).await.expect("a listing").is_empty());
        }
        let unfinished = tokio::time::timeout(std::time::Duration::ZERO, &mut append).await;
        assert!(unfinished.is_err(), "a pipe takes 64 KiB");
        let drain = tokio::task::spawn_blocking(move || {
            let mut bytes = vec![0; 1 << 20];
            far.read_exact(&mut bytes).map(|()| bytes)
        });
        let (object, result) = append.await.expect("no panic");
        assert!(result.is_ok() && object.written() == 1 << 20);
        assert!(drain.await.expect("no panic").expect("all of it").iter().all(|byte| *byte == 7));
    }

    /// F43: what is written to a file that was removed would be gone with it.
    #[tokio::test]
    async fn f43_a_file_that_is_removed_is_noticed_with_the_next_append() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("cam.ts.part");
        let (_dir, mut object) = writer(File::create(&path).expect("a file"));
        object.append("media".into()).await.expect("written");
        std::fs::remove_file(&path).expect("removed");
        let error = object.append("more".into()).await.expect_err("nobody will find it");
        assert!(error.to_string().contains("removed"), "{error}");
        assert_eq!((error.reason(), object.written()), (crate::close::CloseReason::Io, 5));
        assert!(matches!(Box::new(object).finish().await, Err(StorageError::Io(_))));
    }
}
