use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memchr::memmem;

use super::clip::{Frame, UUID, VIDEO};
use super::marker::{MARKER, Marker};
use super::peer::Peer;

/// A response's head.
const MAX_HEAD: usize = 8 << 10;
/// A playlist.
const MAX_PLAYLIST: usize = 1 << 20;
/// A marker with what stands before it.
const PATTERN: usize = UUID.len() + MARKER;

/// A player of LL-HLS on one connection that is kept: it waits for each version of a playlist, and fetches the parts that are
/// new in it, of the pictures and of the sound by turns. A part that was not listed in its turn is an error.
#[derive(Debug)]
pub struct LlHlsPeer {
    folder: String,
    renditions: [Rendition; 2],
    /// Whose turn it is.
    at: usize,
    asked: Asked,
    head: Option<Vec<u8>>,
    /// Bytes of the body that are to come.
    left: usize,
    playlist: Vec<u8>,
    markers: Markers,
    requests: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Rendition {
    name: &'static str,
    /// What its next version has: a media sequence number, and a part of it.
    next: Option<(u64, u64)>,
    /// The part that was listed last.
    newest: Option<u64>,
    /// Parts to fetch, and whether each begins with a keyframe.
    wanted: VecDeque<(String, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Playlist,
    Part { independent: bool },
}

impl LlHlsPeer {
    /// A player of the stream `app/name`, which adds its requests to `requests`.
    #[must_use]
    pub fn new(app: &str, stream: &str, requests: Arc<AtomicU64>) -> Self {
        let rendition = |name| Rendition { name, next: None, newest: None, wanted: VecDeque::new() };
        Self {
            folder: format!("/{app}/{stream}/"),
            renditions: [rendition("video0.m3u8"), rendition("audio1.m3u8")],
            at: 0,
            asked: Asked::Playlist,
            head: None,
            left: 0,
            playlist: Vec::new(),
            markers: Markers::default(),
            requests,
        }
    }

    fn ask(&mut self, out: &mut Vec<u8>) {
        let rendition = &mut self.renditions[self.at];
        let file = match rendition.wanted.pop_front() {
            Some((part, independent)) => {
                self.asked = Asked::Part { independent };
                part
            }
            None => {
                self.asked = Asked::Playlist;
                match rendition.next {
                    Some((msn, part)) => {
                        format!("{}?_HLS_msn={msn}&_HLS_part={part}&_HLS_skip=YES", rendition.name)
                    }
                    None => rendition.name.to_owned(),
                }
            }
        };
        self.markers = Markers { key: self.asked == Asked::Part { independent: true }, ..Markers::default() };
        self.head = Some(Vec::new());
        self.playlist.clear();
        self.requests.fetch_add(1, Ordering::Relaxed);
        out.extend(format!("GET {}{file} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", self.folder).into_bytes());
    }

    /// Passes the response's head; what follows it is handed back.
    fn head<'a>(&mut self, bytes: &'a [u8]) -> io::Result<&'a [u8]> {
        let Some(head) = &mut self.head else { return Ok(bytes) };
        for (n, &byte) in bytes.iter().enumerate() {
            head.push(byte);
            if head.ends_with(b"\r\n\r\n") {
                let text = String::from_utf8_lossy(head).to_ascii_lowercase();
                let length =
                    text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
                let Some(length) = length.filter(|_| text.starts_with("http/1.1 200")) else {
                    return Err(io::Error::new(io::ErrorKind::ConnectionRefused, text));
                };
                (self.left, self.head) = (length, None);
                return Ok(&bytes[n + 1..]);
            }
            if head.len() > MAX_HEAD {
                return Err(invalid("the head has no end"));
            }
        }
        Ok(&[])
    }

    fn body(&mut self, bytes: &[u8], frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        match self.asked {
            Asked::Playlist if self.playlist.len() + bytes.len() > MAX_PLAYLIST => {
                return Err(invalid("the playlist has no end"));
            }
            Asked::Playlist => self.playlist.extend_from_slice(bytes),
            Asked::Part { .. } if self.at == 0 => self.markers.find(bytes, frames),
            Asked::Part { .. } => {}
        }
        self.left -= bytes.len();
        Ok(())
    }

    /// A response is complete.
    fn complete(&mut self) -> io::Result<()> {
        let rendition = &mut self.renditions[self.at];
        if self.asked == Asked::Playlist {
            let text = str::from_utf8(&self.playlist).map_err(|_| invalid("a playlist is text"))?;
            rendition.read(text)?;
        }
        if rendition.wanted.is_empty() {
            self.at = 1 - self.at;
        }
        Ok(())
    }
}

impl Rendition {
    fn read(&mut self, playlist: &str) -> io::Result<()> {
        let (mut msn, mut parts) = (0, 0);
        let mut listed: Vec<(u64, String, bool)> = Vec::new();
        for line in playlist.lines() {
            if let Some(value) = line.strip_prefix("#EXT-X-MEDIA-SEQUENCE:") {
                msn += value.parse::<u64>().map_err(|_| invalid("media sequence"))?;
            } else if let Some(value) = line.strip_prefix("#EXT-X-SKIP:SKIPPED-SEGMENTS=") {
                msn += value.parse::<u64>().map_err(|_| invalid("skipped segments"))?;
            } else if let Some(part) = line.strip_prefix("#EXT-X-PART:") {
                let uri = quoted(part, "URI=\"").ok_or_else(|| invalid("a part without a URI"))?;
                let number = quoted_number(uri).ok_or_else(|| invalid("a part without a number"))?;
                listed.push((number, uri.to_owned(), part.contains("INDEPENDENT=YES")));
                parts += 1;
            } else if !line.starts_with('#') && !line.is_empty() {
                msn += 1;
                parts = 0;
            }
        }
        self.next = Some((msn, parts));
        self.want(listed)
    }

    /// The parts that are new; at first those from the last keyframe on.
    fn want(&mut self, listed: Vec<(u64, String, bool)>) -> io::Result<()> {
        let from = match self.newest {
            Some(newest) => newest + 1,
            None => listed.iter().rev().find(|part| part.2).map_or(0, |part| part.0),
        };
        for (number, uri, independent) in listed.into_iter().filter(|part| part.0 >= from) {
            if self.newest.is_some_and(|newest| number != newest + 1) {
                return Err(invalid("a part is missing"));
            }
            self.newest = Some(number);
            self.wanted.push_back((uri, independent));
        }
        Ok(())
    }
}

impl Peer for LlHlsPeer {
    fn open(&mut self, out: &mut Vec<u8>) {
        self.ask(out);
    }

    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()> {
        let rest = self.head(bytes)?;
        if self.head.is_some() {
            return Ok(());
        }
        // There is one request at a time, so that nothing can follow what it asked for.
        if rest.len() > self.left {
            return Err(invalid("more than was asked for"));
        }
        self.body(rest, frames)?;
        if self.left == 0 {
            self.complete()?;
            self.ask(out);
        }
        Ok(())
    }
}

/// Looks for markers in pictures, wherever the pieces are cut.
#[derive(Debug, Default)]
struct Markers {
    /// The end of what came before, shorter than a marker with what stands before it.
    before: Vec<u8>,
    /// The next picture is a keyframe.
    key: bool,
}

impl Markers {
    fn find(&mut self, bytes: &[u8], frames: &mut dyn FnMut(Frame)) {
        let seam = self.before.len();
        if seam > 0 {
            let mut both = core::mem::take(&mut self.before);
            both.extend_from_slice(&bytes[..bytes.len().min(PATTERN - 1)]);
            self.each(&both, seam, frames);
            both.drain(..both.len().saturating_sub(PATTERN - 1));
            self.before = both;
        }
        self.each(bytes, usize::MAX, frames);
        if bytes.len() >= PATTERN - 1 || seam == 0 {
            self.before.clear();
            self.before.extend_from_slice(&bytes[bytes.len().saturating_sub(PATTERN - 1)..]);
        }
    }

    /// Those that begin before `until`.
    fn each(&mut self, bytes: &[u8], until: usize, frames: &mut dyn FnMut(Frame)) {
        for at in memmem::find_iter(bytes, &UUID).take_while(|at| *at < until) {
            if let Some(marker) = bytes.get(at + UUID.len()..).and_then(Marker::decode) {
                frames(Frame { kind: VIDEO, key: core::mem::take(&mut self.key), marker });
            }
        }
    }
}

fn quoted<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.split_once(name)?.1.split_once('"').map(|(value, _)| value)
}

/// The number in `video0_RUN_part17.m4s`.
fn quoted_number(uri: &str) -> Option<u64> {
    uri.rsplit_once("_part")?.1.split_once('.')?.0.parse().ok()
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("LL-HLS: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn playlist(msn: u64, segments: &[&[u64]], open: &[u64]) -> String {
        let mut text = format!("#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:{msn}\n");
        let put = |text: &mut String, parts: &[u64]| {
            for part in parts {
                let key = if part % 10 == 0 { ",INDEPENDENT=YES" } else { "" };
                text.push_str(&format!("#EXT-X-PART:DURATION=0.2,URI=\"video0_a_part{part}.m4s\"{key}\n"));
            }
        };
        for (n, parts) in segments.iter().enumerate() {
            put(&mut text, parts);
            text.push_str(&format!("#EXTINF:2.0,\nvideo0_a_seg{n}.m4s\n"));
        }
        put(&mut text, open);
        text
    }

    fn response(body: &[u8]) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        out.extend_from_slice(body);
        out
    }

    #[test]
    fn a_player_waits_for_playlists_and_fetches_what_is_new_in_them() {
        for step in [1, 7, 1 << 20] {
            let requests = Arc::new(AtomicU64::new(0));
            let mut peer = LlHlsPeer::new("live", "cam", Arc::clone(&requests));
            let mut out = Vec::new();
            peer.open(&mut out);
            let mut seen = Vec::new();
            let mut turn = |answer: &[u8]| {
                let asked = String::from_utf8(core::mem::take(&mut out)).expect("text");
                let mut each = |frame: Frame| seen.push((frame.key, frame.marker.sequence));
                for piece in response(answer).chunks(step) {
                    peer.receive(piece, &mut out, &mut each).expect("our own bytes");
                }
                asked.split(' ').nth(1).expect("a path").to_owned()
            };
            let media = |first: u64| {
                let mut media = b"moof".repeat(30);
                for sequence in first..first + 5 {
                    media.extend(UUID);
                    media.extend(Marker { sequence, sent_ns: 1 }.encode());
                    media.extend([0; 9]);
                }
                media
            };
            assert_eq!(turn(playlist(3, &[&[8, 9]], &[10, 11]).as_bytes()), "/live/cam/video0.m3u8");
            assert_eq!(turn(&media(0)), "/live/cam/video0_a_part10.m4s");
            assert_eq!(turn(&media(5)), "/live/cam/video0_a_part11.m4s");
            assert_eq!(turn(playlist(3, &[&[]], &[]).as_bytes()), "/live/cam/audio1.m3u8");
            let next = "/live/cam/video0.m3u8?_HLS_msn=4&_HLS_part=2&_HLS_skip=YES";
            assert_eq!(turn(playlist(3, &[&[8, 9], &[10, 11]], &[12]).as_bytes()), next);
            assert_eq!(turn(&media(10)), "/live/cam/video0_a_part12.m4s");
            assert!(turn(b"").starts_with("/live/cam/audio1.m3u8?_HLS_msn=4&_HLS_part=0"));
            assert_eq!(seen, (0..15).map(|n| (n == 0, n)).collect::<Vec<_>>(), "{step}");
            assert_eq!(requests.load(Ordering::Relaxed), 8);
        }
    }

    #[test]
    fn a_missing_part_is_an_error() {
        let requests = Arc::new(AtomicU64::new(0));
        let mut peer = LlHlsPeer::new("live", "cam", requests);
        let text = |parts: &[u64]| response(playlist(0, &[&[0]], parts).as_bytes());
        let mut out = Vec::new();
        peer.open(&mut out);
        peer.receive(&text(&[10]), &mut out, &mut |_| {}).expect("a playlist");
        peer.receive(&response(b"part"), &mut out, &mut |_| {}).expect("a part");
        peer.receive(&response(b"#EXTM3U\n"), &mut out, &mut |_| {}).expect("a playlist of sound");
        assert!(peer.receive(&text(&[10, 12]), &mut out, &mut |_| {}).is_err());
        let mut peer = LlHlsPeer::new("live", "cam", Arc::default());
        let refused = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
        peer.open(&mut out);
        assert!(peer.receive(refused, &mut out, &mut |_| {}).is_err());
    }
}
