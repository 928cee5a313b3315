use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};

use super::clip::{Clip, Position, Shape, Tag, VIDEO};
use super::marker::clock_ns;
use super::rawfan::{LISTENER, Socket};

/// How long a part is.
const PART: Duration = Duration::from_millis(200);
/// Parts that are listed, and kept for those who fetch late.
const LISTED: usize = 15;
/// A request.
const MAX_REQUEST: usize = 2 << 10;

/// The floor of LL-HLS: an epoll loop that answers each request with one write of bytes that are there. Never returns.
///
/// It makes parts and playlists of both renditions every 200 ms, once for all. A playlist with a query is answered when the next ones
/// are there. It knows no HTTP beyond a path, no client and no timeout.
///
/// # Errors
/// The system has no socket, or no epoll instance, for it.
pub fn rawhls(shape: Shape) -> io::Result<()> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    eprintln!("listening protocol=raw addr={}\nready", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let clip = Clip::new(shape);
    let (mut events, mut position, start) = (Events::with_capacity(1_024), clip.position(), Instant::now());
    let mut origin = Origin { renditions: ["video0", "audio1"].map(Rendition::new), players: Vec::new() };
    let mut end = PART;
    loop {
        let wait = (start + end).saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(wait)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            if event.token() == LISTENER {
                origin.accept(&listener, poll.registry());
            } else {
                origin.serve(event.token());
            }
        }
        if start.elapsed() >= end {
            origin.make(&clip, &mut position, end);
            end += PART;
        }
    }
}

struct Origin {
    renditions: [Rendition; 2],
    players: Vec<Option<Player>>,
}

struct Rendition {
    name: &'static str,
    /// With their heads, the newest last, and whether each begins with a keyframe.
    parts: VecDeque<(Arc<[u8]>, bool)>,
    /// The number of the first of them.
    first: usize,
    playlist: Arc<[u8]>,
}

struct Player {
    socket: Socket,
    request: Vec<u8>,
    /// Waits for the next playlist of this rendition.
    waits: Option<usize>,
}

impl Rendition {
    fn new(name: &'static str) -> Self {
        Self { name, parts: VecDeque::new(), first: 0, playlist: response(b"#EXTM3U\n") }
    }

    fn put(&mut self, media: &[u8], independent: bool) {
        self.parts.push_back((response(media), independent));
        if self.parts.len() > LISTED {
            self.parts.pop_front();
            self.first += 1;
        }
        let mut text = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-MEDIA-SEQUENCE:0\n".to_owned();
        for (n, (_, independent)) in self.parts.iter().enumerate() {
            let key = if *independent { ",INDEPENDENT=YES" } else { "" };
            let (name, number) = (self.name, self.first + n);
            let _ = writeln!(text, "#EXT-X-PART:DURATION=0.2,URI=\"{name}_0_part{number}.m4s\"{key}");
        }
        self.playlist = response(text.as_bytes());
    }

    fn part(&self, path: &str) -> Option<Arc<[u8]>> {
        let number: usize = path.rsplit_once("_part")?.1.split_once('.')?.0.parse().ok()?;
        self.parts.get(number.checked_sub(self.first)?).map(|(part, _)| Arc::clone(part))
    }
}

impl Origin {
    fn accept(&mut self, listener: &TcpListener, registry: &mio::Registry) {
        while let Ok((stream, _)) = listener.accept() {
            if let Ok(socket) = Socket::register(stream, registry, Token(self.players.len())) {
                self.players.push(Some(Player { socket, request: Vec::new(), waits: None }));
            }
        }
    }

    fn serve(&mut self, token: Token) {
        let Some(slot) = self.players.get_mut(token.0) else { return };
        let gone = slot.as_mut().is_some_and(|player| player.serve(&self.renditions).is_err());
        if gone {
            *slot = None;
        }
    }

    /// Makes what is due until `end`, and answers those who wait for it.
    fn make(&mut self, clip: &Clip, position: &mut Position, end: Duration) {
        let (mut media, mut keys) = ([Vec::new(), Vec::new()], [false, true]);
        loop {
            let mut peek = *position;
            let tag: Tag<'_> = clip.next(&mut peek);
            if u128::from(tag.at_us) >= end.as_micros() {
                break;
            }
            *position = peek;
            let at = usize::from(tag.kind != VIDEO);
            keys[at] |= media[at].is_empty() && tag.body.first().is_some_and(|first| first >> 4 == 1);
            tag.put(&mut media[at], clock_ns());
        }
        for ((rendition, media), key) in self.renditions.iter_mut().zip(media).zip(keys) {
            rendition.put(&media, key);
        }
        for slot in &mut self.players {
            let Some((player, at)) =
                slot.as_mut().and_then(|player| player.waits.take().map(|at| (player, at)))
            else {
                continue;
            };
            if player.socket.send(&self.renditions[at].playlist).is_err() {
                *slot = None;
            }
        }
    }
}

impl Player {
    fn serve(&mut self, renditions: &[Rendition; 2]) -> io::Result<()> {
        self.socket.flush()?;
        let mut bytes = [0; MAX_REQUEST];
        match self.socket.stream.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.request.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        if !self.request.ends_with(b"\r\n\r\n") {
            return if self.request.len() < MAX_REQUEST {
                Ok(())
            } else {
                Err(io::ErrorKind::InvalidData.into())
            };
        }
        let request = String::from_utf8_lossy(&self.request);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let at = usize::from(path.contains("audio"));
        let rendition = &renditions[at];
        let answer =
            if path.contains(".m3u8") { Some(Arc::clone(&rendition.playlist)) } else { rendition.part(path) };
        let waits = path.contains('?');
        self.request.clear();
        if waits {
            self.waits = Some(at);
            return Ok(());
        }
        self.socket.send(&answer.ok_or(io::ErrorKind::NotFound)?)
    }
}

fn response(body: &[u8]) -> Arc<[u8]> {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat().into()
}
