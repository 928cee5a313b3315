//! A file that comes in order: over HTTP, or through a pipe.

use std::collections::VecDeque;

use arcly_core::MediaEvent;
use arcly_core::wire::DecodeError;
use bytes::{Bytes, BytesMut};

use super::{DemuxError, Demuxer, Step};

/// Bytes that are held back for a track whose media comes later in the file.
const MAX_BUFFERED: usize = 64 << 20;

/// Takes a file apart as it comes in, in pieces of any size. `moov` has to come before the media.
#[derive(Debug, Default)]
pub struct Reader {
    demuxer: Demuxer,
    buffer: BytesMut,
    /// Where the buffer begins in the file, which may be ahead of what has come.
    at: u64,
    /// Bytes to drop before the buffer goes on.
    skip: u64,
    events: VecDeque<MediaEvent>,
    ended: bool,
}

impl Reader {
    /// A reader at the start of a file.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the file.
    ///
    /// # Errors
    /// The file is malformed, exceeds a limit, or has its `moov` behind its media. An error is final; what came before it
    /// can be polled.
    pub fn push(&mut self, data: &[u8]) -> Result<(), DemuxError> {
        let dropped = self.skip.min(data.len() as u64);
        self.skip = self.skip.saturating_sub(dropped);
        let rest = usize::try_from(dropped).ok().and_then(|dropped| data.get(dropped..)).unwrap_or_default();
        self.buffer.extend_from_slice(rest);
        self.drive(false)
    }

    /// Says that the file has ended.
    ///
    /// # Errors
    /// There was no media in it.
    pub fn finish(&mut self) -> Result<(), DemuxError> {
        self.drive(true)
    }

    /// The next event; `None` until more was pushed.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.events.pop_front()
    }

    /// Bytes that wait for more.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// True when the file ended before its last box did.
    #[must_use]
    pub const fn is_truncated(&self) -> bool {
        self.demuxer.is_truncated()
    }

    fn drive(&mut self, last: bool) -> Result<(), DemuxError> {
        while !self.ended {
            match self.demuxer.poll()? {
                Step::Event(event) => self.events.push_back(event),
                Step::End => self.ended = true,
                Step::Read { offset, len } => {
                    self.forget(offset.min(self.demuxer.lowest()));
                    match self.read(offset, len, last)? {
                        Some(data) => self.demuxer.handle_data(data)?,
                        None => return Ok(()),
                    }
                }
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// Drops what nobody will ask for.
    fn forget(&mut self, before: u64) {
        let ahead = before.saturating_sub(self.at);
        let here = usize::try_from(ahead).unwrap_or(usize::MAX).min(self.buffer.len());
        drop(self.buffer.split_to(here));
        self.skip = self.skip.saturating_add(ahead.saturating_sub(here as u64));
        self.at = self.at.max(before);
    }

    fn read(&self, offset: u64, len: usize, last: bool) -> Result<Option<Bytes>, DemuxError> {
        let from = offset.checked_sub(self.at).ok_or(DemuxError::Passed { offset })?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let to = from.saturating_add(len);
        if to > MAX_BUFFERED.max(len) {
            return Err(
                DecodeError::LimitExceeded { what: "interleaving", limit: MAX_BUFFERED as u64 }.into()
            );
        }
        match self.buffer.get(from..to) {
            Some(data) => Ok(Some(Bytes::copy_from_slice(data))),
            // A box of eight bytes at the end has no sixteen.
            None if last => {
                let rest = self.buffer.get(from.min(self.buffer.len())..).unwrap_or_default();
                Ok(Some(Bytes::copy_from_slice(rest)))
            }
            None => Ok(None),
        }
    }
}
