//! Files: their media, event by event, and copies of them as fast as that goes.
//!
//! ```text
//!   file ──1 MiB──► Wanted ─► demuxer ─► events ─► Writer ──1 MiB──► file
//! ```
//!
//! What a file is asked for does not depend on who reads it: [`FileSource`] reads on tokio's blocking threads for those who send
//! a stream in real time, and [`copy`] is one blocking task without a hop in it.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arcly_core::{MediaEvent, StreamError};
use arcly_mux::fmp4;
use bytes::{Bytes, BytesMut};
use tokio_util::sync::CancellationToken;

use super::container::{Container, Reader, Writer};

/// Bytes that are read and written at a time.
const PIECE: usize = 1 << 20;

/// What a file says next, or has to be read for it.
enum Next {
    Event(MediaEvent),
    Read(Wanted),
    End,
}

/// A part of a file; less only where the file ends.
#[derive(Clone, Copy, Debug)]
struct Wanted {
    offset: u64,
    len: usize,
}

impl Wanted {
    fn read(self, mut file: &File) -> std::io::Result<Bytes> {
        file.seek(SeekFrom::Start(self.offset))?;
        let mut data = Vec::new();
        // What a file's headers say is no reason to allocate; what is there is.
        let there = file.metadata()?.len().saturating_sub(self.offset);
        data.reserve_exact(self.len.min(usize::try_from(there).unwrap_or(usize::MAX)));
        file.take(self.len as u64).read_to_end(&mut data)?;
        Ok(data.into())
    }
}

/// How a file is taken apart.
#[allow(clippy::large_enum_variant, reason = "there is one for each file")]
enum Source {
    /// From front to back.
    Pieces { reader: Reader, at: u64 },
    /// Where it asks to be read, mostly a little further on: out of what was read last.
    Places { demuxer: fmp4::Demuxer, window: Bytes, at: u64, wanted: Option<Wanted> },
}

/// A file on its way, whoever reads it.
struct Parser {
    path: PathBuf,
    source: Source,
    ended: bool,
    /// Why the file ends before its end.
    broken: Option<StreamError>,
}

impl Parser {
    fn new(path: &Path) -> Result<Self, StreamError> {
        let source = match container(path)? {
            Container::Mp4 => {
                Source::Places { demuxer: fmp4::Demuxer::new(), window: Bytes::new(), at: 0, wanted: None }
            }
            container => Source::Pieces { reader: Reader::new(container), at: 0 },
        };
        Ok(Self { path: path.to_owned(), source, ended: false, broken: None })
    }

    fn next(&mut self) -> Result<Next, StreamError> {
        let broken = |error: fmp4::DemuxError| protocol(&self.path, &error.to_string());
        match &mut self.source {
            Source::Pieces { reader, at } => {
                if let Some(event) = reader.poll_event() {
                    return Ok(Next::Event(event));
                }
                match self.broken.take() {
                    Some(error) => Err(error),
                    None if self.ended => Ok(Next::End),
                    None => Ok(Next::Read(Wanted { offset: *at, len: PIECE })),
                }
            }
            Source::Places { demuxer, window, at, wanted } => loop {
                match demuxer.poll().map_err(broken)? {
                    fmp4::Step::Event(event) => return Ok(Next::Event(event)),
                    fmp4::Step::End => return Ok(Next::End),
                    fmp4::Step::Read { offset, len } => match within(window, *at, offset, len) {
                        Some(data) => demuxer.handle_data(data).map_err(broken)?,
                        None => {
                            *wanted = Some(Wanted { offset, len });
                            return Ok(Next::Read(Wanted { offset, len: len.max(PIECE) }));
                        }
                    },
                }
            },
        }
    }

    /// Takes what [`next`](Self::next) asked for.
    fn take(&mut self, data: Bytes) -> Result<(), StreamError> {
        match &mut self.source {
            Source::Pieces { reader, at } => {
                *at = at.saturating_add(data.len() as u64);
                self.ended = data.is_empty();
                let pushed = if self.ended { reader.finish() } else { reader.push(&data) };
                // What came before the fault is good.
                self.broken = pushed.err().map(|error| protocol(&self.path, &error));
                Ok(())
            }
            Source::Places { demuxer, window, at, wanted } => {
                let Some(Wanted { offset, len }) = wanted.take() else { return Ok(()) };
                let first = data.slice(..len.min(data.len()));
                (*window, *at) = (data, offset);
                demuxer.handle_data(first).map_err(|error| protocol(&self.path, &error.to_string()))
            }
        }
    }
}

/// That part of a file, when it is in the window that begins at `at`.
fn within(window: &Bytes, at: u64, offset: u64, len: usize) -> Option<Bytes> {
    let from = usize::try_from(offset.checked_sub(at)?).ok()?;
    let to = from.checked_add(len)?;
    (to <= window.len()).then(|| window.slice(from..to))
}

/// The events of a file, one after the other.
pub(crate) struct FileSource {
    parser: Parser,
    file: Arc<File>,
}

impl FileSource {
    pub(crate) async fn open(path: &Path) -> Result<Self, StreamError> {
        let file = tokio::fs::File::open(path).await.map_err(|error| named(path, error))?;
        Ok(Self { parser: Parser::new(path)?, file: Arc::new(file.into_std().await) })
    }

    /// The next event, `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<MediaEvent>, StreamError> {
        loop {
            match self.parser.next()? {
                Next::Event(event) => return Ok(Some(event)),
                Next::End => return Ok(None),
                Next::Read(wanted) => {
                    let file = Arc::clone(&self.file);
                    let read = tokio::task::spawn_blocking(move || wanted.read(&file)).await;
                    let data = read.unwrap_or_else(|error| Err(std::io::Error::other(error)));
                    self.parser.take(data.map_err(|error| named(&self.parser.path, error))?)?;
                }
            }
        }
    }
}

/// Rewrites a file: what it holds comes out with complete headers and exact sizes. One that is stopped is complete up to there.
pub(super) async fn copy(from: &Path, to: &Path, stop: &CancellationToken) -> Result<(), StreamError> {
    let (from, to, stop) = (from.to_owned(), to.to_owned(), stop.clone());
    let copied = tokio::task::spawn_blocking(move || copy_blocking(&from, &to, &stop)).await;
    copied.unwrap_or_else(|error| Err(StreamError::Io(std::io::Error::other(error))))
}

fn copy_blocking(from: &Path, to: &Path, stop: &CancellationToken) -> Result<(), StreamError> {
    let container = container(to)?;
    let source = File::open(from).map_err(|error| named(from, error))?;
    let mut parser = Parser::new(from)?;
    let mut sink = Sink::create(to, container)?;
    let mut copied = Ok(());
    while copied.is_ok() && !stop.is_cancelled() {
        copied = match parser.next() {
            Ok(Next::Event(event)) => sink.put(&event),
            Ok(Next::Read(wanted)) => {
                wanted.read(&source).map_err(|error| named(from, error)).and_then(|data| parser.take(data))
            }
            Ok(Next::End) => break,
            Err(error) => Err(error),
        };
    }
    // What came before the fault is good.
    sink.finish().and(copied)
}

/// A file that is being written, in pieces.
struct Sink<'a> {
    path: &'a Path,
    file: File,
    writer: Writer,
    out: BytesMut,
}

impl<'a> Sink<'a> {
    fn create(path: &'a Path, container: Container) -> Result<Self, StreamError> {
        let file = File::create(path).map_err(|error| named(path, error))?;
        Ok(Self { path, file, writer: Writer::new(container), out: BytesMut::with_capacity(2 * PIECE) })
    }

    fn put(&mut self, event: &MediaEvent) -> Result<(), StreamError> {
        self.writer.write(event, &mut self.out).map_err(|error| protocol(self.path, &error))?;
        if self.out.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StreamError> {
        self.file.write_all(&self.out).map_err(|error| named(self.path, error))?;
        self.out.clear();
        Ok(())
    }

    /// Everything is in the file before what is at its front is replaced, so that it plays at any moment.
    fn finish(mut self) -> Result<(), StreamError> {
        self.flush()?;
        let Self { path, mut file, writer, mut out } = self;
        let patch = writer.finish(&mut out).map_err(StreamError::protocol)?;
        let written = file.write_all(&out).and_then(|()| {
            let Some(patch) = patch else { return Ok(()) };
            file.sync_data()?;
            file.seek(SeekFrom::Start(patch.offset))?;
            file.write_all(&patch.bytes)
        });
        written.map_err(|error| named(path, error))
    }
}

/// What a file of that name is.
pub(super) fn container(path: &Path) -> Result<Container, StreamError> {
    Container::of(path).ok_or_else(|| protocol(path, "neither .flv, .ts nor .mp4"))
}

fn protocol(path: &Path, what: &str) -> StreamError {
    StreamError::protocol(format!("{}: {what}", path.display()))
}

pub(super) fn named(path: &Path, error: std::io::Error) -> StreamError {
    StreamError::Io(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}
