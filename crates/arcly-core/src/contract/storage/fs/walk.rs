//! Files below a directory, in the order of their names.

use core::ops::ControlFlow;
use std::io::{self, ErrorKind};

use super::super::{MAX_STORAGE_SEGMENTS, StorageName};
use super::folder::Folder;

/// Where a walk begins: a directory, what the names of its entries begin with, and how deep it is.
#[derive(Debug)]
pub(super) struct Top {
    pub(super) folder: Folder,
    pub(super) prefix: String,
    pub(super) depth: usize,
}

/// Calls `each` with every file whose name comes behind `after`, in order, until it says that this is enough: the directory that it is in,
/// its name with slashes, and the last segment of that. One directory at each depth is open at a time, with its names in
/// memory.
pub(super) fn walk(
    top: &Top,
    after: &str,
    each: &mut impl FnMut(&Folder, &str, &str) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    for name in top.folder.names()? {
        let full = format!("{}{name}", top.prefix);
        let step = match name.strip_suffix('/') {
            Some(segment) => match below(top, segment, &full, after)? {
                Some(folder) => walk(&folder, after, each)?,
                None => ControlFlow::Continue(()),
            },
            None if *full > *after => each(&top.folder, &full, &name),
            None => ControlFlow::Continue(()),
        };
        if step.is_break() {
            return Ok(step);
        }
    }
    Ok(ControlFlow::Continue(()))
}

/// The directory `segment`, unless nothing in it comes behind `after` or can have a storage name.
fn below(top: &Top, segment: &str, full: &str, after: &str) -> io::Result<Option<Top>> {
    let all_before = full <= after && !after.starts_with(full);
    let name = full.trim_end_matches('/');
    if all_before || top.depth >= MAX_STORAGE_SEGMENTS || StorageName::parse(name).is_err() {
        return Ok(None);
    }
    match top.folder.enter(segment) {
        Ok(folder) => Ok(Some(Top { folder, prefix: full.to_owned(), depth: top.depth + 1 })),
        // It has gone, or is something else by now.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(error),
    }
}
