//! Directories as handles, in which names are looked up one at a time.
//!
//! A name is one segment, and is never followed when it is a symbolic link (`O_NOFOLLOW`, `AT_SYMLINK_NOFOLLOW`): whoever
//! walks down from a handle stays below it, whatever others put or swap in the tree meanwhile.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);
const LINKS_STAY: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC);
/// Whom the process's umask leaves it to.
const FOLDER_MODE: Mode = Mode::RWXU.union(Mode::RWXG).union(Mode::RWXO);
const FILE_MODE: Mode = Mode::from_bits_retain(0o666);

/// A directory.
#[derive(Debug)]
pub(super) struct Folder(OwnedFd);

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Folder,
    Link,
    /// A device, a socket, a pipe.
    Other,
}

/// What is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) kind: Kind,
    pub(super) size: u64,
    pub(super) modified: Option<SystemTime>,
}

impl Folder {
    /// Where walks begin; this one path may lead over links.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(fs::open(path, FOLDER, Mode::empty())?))
    }

    /// The directory of that name; `NotADirectory` for a link too.
    pub(super) fn enter(&self, name: &str) -> io::Result<Self> {
        Ok(Self(fs::openat(&self.0, name, FOLDER | LINKS_STAY, Mode::empty())?))
    }

    /// Makes a directory, unless the name is taken.
    pub(super) fn make(&self, name: &str) -> io::Result<()> {
        match fs::mkdirat(&self.0, name, FOLDER_MODE) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file, to write.
    pub(super) fn create(&self, name: &str) -> io::Result<File> {
        let flags = LINKS_STAY | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        Ok(fs::openat(&self.0, name, flags, FILE_MODE)?.into())
    }

    /// A file that is there, to read. Opening what is no file waits for nobody.
    pub(super) fn read(&self, name: &str) -> io::Result<File> {
        Ok(fs::openat(&self.0, name, LINKS_STAY | OFlags::NONBLOCK, Mode::empty())?.into())
    }

    pub(super) fn look(&self, name: &str) -> io::Result<Found> {
        Ok(found(&fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    /// Removes a file or a link.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    /// Gives a file a name that nothing has yet.
    pub(super) fn move_to(&self, name: &str, folder: &Self, new: &str) -> io::Result<()> {
        // `renameat` would replace what is there; `linkat` fails. Where a file system has no hard links, a look has to do.
        match fs::linkat(&self.0, name, &folder.0, new, AtFlags::empty()) {
            Ok(()) => self.remove(name),
            Err(error @ (Errno::EXIST | Errno::NOENT)) => Err(error.into()),
            Err(_) => match folder.look(new) {
                Ok(_) => Err(Errno::EXIST.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Ok(fs::renameat(&self.0, name, &folder.0, new)?)
                }
                Err(error) => Err(error),
            },
        }
    }

    /// The names in it as far as they are text, in the order that paths through them have: a directory's is followed by a
    /// slash. Links are left out.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            let entry = entry?;
            let Some(name) = text(entry.file_name()) else { continue };
            let kind = match entry.file_type() {
                // Not every file system says it here.
                FileType::Unknown => self.look(name).map_or(Kind::Other, |found| found.kind),
                kind => kind_of(kind),
            };
            match kind {
                Kind::File => names.push(name.to_owned()),
                Kind::Folder if !matches!(name, "." | "..") => names.push(format!("{name}/")),
                _ => {}
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn text(name: &CStr) -> Option<&str> {
    name.to_str().ok()
}

const fn kind_of(kind: FileType) -> Kind {
    match kind {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Folder,
        FileType::Symlink => Kind::Link,
        _ => Kind::Other,
    }
}

fn found(stat: &Stat) -> Found {
    // Their types differ between systems.
    let seconds = u64::try_from(stat.st_mtime).ok();
    let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or_default();
    Found {
        kind: kind_of(FileType::from_raw_mode(stat.st_mode)),
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::new(seconds, nanos))),
    }
}
