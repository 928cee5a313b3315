//! What one reader of a stream costs in memory, measured over a hundred of them, with a GOP of 50 frames.

use std::io::Read as _;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaFrame, Publisher, Timestamp, Track, TrackId, TrackSet,
};

/// Readers that are there before anything is measured.
const FIRST: usize = 10;
/// Readers that are measured.
const MEASURED: usize = 100;
/// Readers that there are in the end.
pub const READERS: usize = FIRST + MEASURED;

/// Looks at readers to whom nothing comes, before it is believed that nothing will: more than a machine stands still for.
const QUIET: u32 = 12;

/// A stream whose readers are counted in bytes.
#[derive(Debug)]
pub struct Footprint {
    publisher: Publisher,
    frame: usize,
    next: i64,
    readers: Vec<TcpStream>,
    /// The first reader of those that read nothing more.
    silent: usize,
}

impl Footprint {
    /// A stream with frames of that many bytes.
    ///
    /// # Panics
    /// When the publisher is refused its tracks.
    #[must_use]
    pub fn new(mut publisher: Publisher, frame: usize) -> Self {
        let video = Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::None);
        publisher.set_tracks(TrackSet::new([video])).expect("a good track");
        Self { publisher, frame, next: 0, readers: Vec::with_capacity(READERS), silent: READERS }
    }

    /// The readers that are measured read nothing once they have begun.
    #[must_use]
    pub const fn unread(mut self) -> Self {
        self.silent = FIRST;
        self
    }

    /// Bytes per reader, given what makes one (a connection that has had the beginning of the stream) and what says how many
    /// bytes are in use. Blocks for some seconds; stream and readers stay until this is dropped.
    ///
    /// # Panics
    /// When a connection fails, or the stream is over.
    pub fn measure(&mut self, play: impl Fn() -> TcpStream, in_use: impl Fn() -> usize) -> usize {
        self.publish(1);
        // First so much that the logs forget as much as comes.
        let [before, after] = [(FIRST, 400), (MEASURED, 50)].map(|(readers, frames)| {
            for _ in 0..readers {
                let socket = play();
                socket.set_nonblocking(true).expect("a socket");
                self.readers.push(socket);
            }
            self.publish(frames);
            self.settle();
            in_use()
        });
        after.saturating_sub(before) / MEASURED
    }

    fn publish(&mut self, frames: usize) {
        for _ in 0..frames {
            let flags = if self.next % 50 == 0 { FrameFlags::KEYFRAME } else { FrameFlags::empty() };
            let (at, payload) = (Timestamp::from_millis(self.next * 20), vec![0; self.frame]);
            let frame = MediaFrame::new(TrackId::VIDEO, at, payload.into()).with_flags(flags);
            self.publisher.publish(frame).expect("the stream goes on");
            self.next += 1;
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Waits until nothing comes any more to those that read.
    fn settle(&mut self) {
        let mut quiet = 0;
        while quiet < QUIET {
            thread::sleep(Duration::from_millis(50));
            let read: usize = self.readers.iter_mut().take(self.silent).map(drain).sum();
            quiet = if read == 0 { quiet + 1 } else { 0 };
        }
    }
}

/// Reads what is there.
fn drain(reader: &mut TcpStream) -> usize {
    let mut sink = [0; 64 << 10];
    core::iter::from_fn(|| reader.read(&mut sink).ok().filter(|n| *n > 0)).sum()
}
