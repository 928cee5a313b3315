use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};

use super::chunks::put_message;
use super::clip::{Clip, Position, Shape};
use super::flv::put_tag;
use super::marker::{clock_ns, due};

pub(super) const LISTENER: Token = Token(usize::MAX);
/// The chunk size of what is sent.
pub(crate) const CHUNK_SIZE: usize = 60_000;

/// How frames look on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// RTMP messages in chunks of 60 000.
    Rtmp,
    /// FLV tags.
    Flv,
}

/// The floor: an epoll loop that accepts, and writes the same bytes to everybody. Never returns.
///
/// With `merge` it writes what has come together in that time at once, without it every message by itself. It knows no
/// protocol, no client and no timeout; who cannot take a write keeps what is left of it.
///
/// # Errors
/// The system has no socket, or no epoll instance, for it.
pub fn rawfan(format: Format, merge: Duration, shape: Shape) -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    eprintln!("listening protocol=raw addr={}\nready", listener.local_addr()?);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let clip = Clip::new(shape);
    let position = clip.position();
    let fan = Fan { format, clip, position, start: Instant::now(), listener, poll, sockets: Vec::new() };
    fan.run(merge)
}

/// The floor of ingest: one publisher at a time, whose bytes are read into one buffer. Never returns.
///
/// # Errors
/// The system has no socket for it.
pub fn rawsink() -> io::Result<()> {
    let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
    eprintln!("listening protocol=raw addr={}\nready", listener.local_addr()?);
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (mut stream, _) = listener.accept()?;
        while stream.read(&mut buffer).is_ok_and(|read| read > 0) {}
    }
}

struct Fan {
    format: Format,
    clip: Clip,
    position: Position,
    start: Instant,
    listener: TcpListener,
    poll: Poll,
    sockets: Vec<Option<Socket>>,
}

pub(super) struct Socket {
    pub(super) stream: TcpStream,
    /// What the socket has not taken, and how much of the first it has.
    waiting: VecDeque<Arc<[u8]>>,
    written: usize,
}

impl Fan {
    fn run(mut self, merge: Duration) -> io::Result<()> {
        let mut events = Events::with_capacity(1_024);
        let (mut body, mut bytes) = (Vec::new(), Vec::new());
        let mut flush_at = self.start + merge;
        loop {
            let next = self.next_due();
            let wake = if merge.is_zero() { next } else { next.min(flush_at) };
            match self.poll.poll(&mut events, Some(wake.saturating_duration_since(Instant::now()))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            events.iter().for_each(|event| self.serve(event.token()));
            let now = Instant::now();
            while self.next_due() <= now {
                self.put_next(&mut body, &mut bytes);
                if merge.is_zero() {
                    self.fan_out(&mut bytes);
                }
            }
            if !merge.is_zero() && now >= flush_at {
                flush_at += merge;
                self.fan_out(&mut bytes);
            }
        }
    }

    fn next_due(&self) -> Instant {
        let mut peek = self.position;
        due(self.start, self.clip.next(&mut peek).at_us)
    }

    fn put_next(&mut self, body: &mut Vec<u8>, out: &mut Vec<u8>) {
        let tag = self.clip.next(&mut self.position);
        body.clear();
        tag.put(body, clock_ns());
        match self.format {
            Format::Rtmp => put_message(out, tag.kind, tag.timestamp(), body, CHUNK_SIZE),
            Format::Flv => put_tag(out, tag.kind, tag.timestamp(), body),
        }
    }

    fn fan_out(&mut self, bytes: &mut Vec<u8>) {
        // Made when the first socket is full, and shared.
        let mut shared: Option<Arc<[u8]>> = None;
        for slot in &mut self.sockets {
            let Some(socket) = slot else { continue };
            let share = || Arc::clone(shared.get_or_insert_with(|| bytes.as_slice().into()));
            if socket.write_or_keep(bytes, share).is_err() {
                *slot = None;
            }
        }
        bytes.clear();
    }

    fn serve(&mut self, token: Token) {
        if token == LISTENER {
            while let Ok((stream, _)) = self.listener.accept() {
                let at = Token(self.sockets.len());
                if let Ok(socket) = Socket::register(stream, self.poll.registry(), at) {
                    self.sockets.push(Some(socket));
                }
            }
            return;
        }
        let Some(slot) = self.sockets.get_mut(token.0) else { return };
        let gone = slot.as_mut().is_some_and(|socket| socket.serve().is_err());
        if gone {
            *slot = None;
        }
    }
}

impl Socket {
    pub(super) fn register(mut stream: TcpStream, registry: &Registry, at: Token) -> io::Result<Self> {
        let _ = stream.set_nodelay(true);
        registry.register(&mut stream, at, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self { stream, waiting: VecDeque::new(), written: 0 })
    }

    fn serve(&mut self) -> io::Result<()> {
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        self.flush()
    }

    /// Writes `bytes`, now or when there is room.
    pub(super) fn send(&mut self, bytes: &Arc<[u8]>) -> io::Result<()> {
        self.write_or_keep(bytes, || Arc::clone(bytes))
    }

    /// Writes what the socket takes of `bytes`, and keeps what `share` makes of them if that is not all.
    fn write_or_keep(&mut self, bytes: &[u8], share: impl FnOnce() -> Arc<[u8]>) -> io::Result<()> {
        let mut written = 0;
        if self.waiting.is_empty() {
            match self.stream.write(bytes) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if written < bytes.len() {
            if self.waiting.is_empty() {
                self.written = written;
            }
            self.waiting.push_back(share());
        }
        Ok(())
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(bytes) = self.waiting.front() {
            match self.stream.write(&bytes[self.written..]) {
                Ok(written) => self.written += written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.written == bytes.len() {
                self.waiting.pop_front();
                self.written = 0;
            }
        }
        Ok(())
    }
}
