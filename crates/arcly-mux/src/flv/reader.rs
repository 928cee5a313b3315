//! A file, in pieces, to media.

use arcly_codec::flv::{Demuxer, Error, FileDecoder, Limits};
use arcly_core::MediaEvent;
use arcly_core::time::Unwrapper;

/// Takes a file or a stream apart as it comes in, in pieces of any size.
///
/// ```
/// use arcly_mux::flv::Reader;
///
/// let mut reader = Reader::new();
/// reader.push(b"FLV\x01\x05\0\0\0\x09\0\0\0\0")?;
/// assert_eq!(reader.poll_event(), None, "no tag yet");
/// assert!(reader.push(b"not a tag").is_err());
/// # Ok::<(), arcly_codec::flv::Error>(())
/// ```
#[derive(Default)]
pub struct Reader {
    file: FileDecoder,
    demuxer: Demuxer,
    clock: Unwrapper<32>,
}

impl core::fmt::Debug for Reader {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Reader").field("buffered", &self.file.buffered()).finish_non_exhaustive()
    }
}

impl Reader {
    /// A reader at the start of a file.
    #[must_use]
    pub fn new() -> Self {
        Self { file: FileDecoder::new(), demuxer: Demuxer::new(Limits::default()), clock: Unwrapper::new() }
    }

    /// Takes more of the file.
    ///
    /// # Errors
    /// The file is malformed, exceeds a limit or has a codec that is not known. An error is final.
    pub fn push(&mut self, data: &[u8]) -> Result<(), Error> {
        self.file.push(data);
        while let Some(tag) = self.file.next_tag()? {
            let at = self.clock.unwrap(tag.timestamp_ms.into());
            self.demuxer.handle_tag(tag.kind, at, tag.body)?;
        }
        Ok(())
    }

    /// The next event; `None` until more was pushed.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.demuxer.poll_event()
    }

    /// Bytes of an incomplete tag.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.file.buffered()
    }
}
