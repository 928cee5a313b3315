//! SRT where it meets the rest of the server: the way down, and a reader that acknowledges nothing.

use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};

use arcly_core::{MediaEvent, MediaFrame, TimeDelta};
use arcly_mux::ts::Demuxer;
use arcly_srt::wire::{Packet, SeqNumber};
use arcly_testkit::media::Source;

use super::support::bench::{Bench, lock};
use super::support::srt::Srt;
use super::*;

fn bench() -> Bench {
    Bench::start_alone(&["--srt", "127.0.0.1:0"], "")
}

/// Ten publishers and forty readers, each on a socket of its own, see `SHUTDOWN`.
#[test]
fn f44_srt_says_good_bye_on_the_way_down() {
    rounds(|| {
        let bench = bench();
        let srt = bench.addr("srt");
        thread::scope(|scope| {
            // Everybody reads all the time: what a socket has no more room for, the system drops.
            let heeds = |mut peer: Srt| scope.spawn(move || peer.wait_end(secs(20)));
            let publishers: Vec<_> =
                (0..10).map(|n| heeds(Srt::publishing(srt, &format!("f44-{n}")))).collect();
            let players: Vec<_> =
                (0..40).map(|n| heeds(Srt::connected(srt, &format!("read:live/f44-{}", n % 10)))).collect();
            let log = bench.log();
            assert!(!log.contains("an SRT connection has ended"), "nobody has left before:\n{log}");
            lock(&bench.arcly).process().signal("TERM");
            let status = lock(&bench.arcly).process().wait_for(secs(5)).expect("it ends within five seconds");
            assert!(status.success(), "{status}");
            let untold = |peers: Vec<ScopedJoinHandle<'_, bool>>| {
                peers.into_iter().map(|peer| peer.join().unwrap()).filter(|told| !told).count()
            };
            assert_eq!(
                (untold(publishers), untold(players)),
                (0, 0),
                "publishers and readers without SHUTDOWN"
            );
        });
    });
}

/// What a reader over SRT gets.
#[derive(Default)]
struct Seen {
    demuxer: Demuxer,
    next: Option<SeqNumber>,
    last: Option<MediaFrame>,
    /// The system has dropped a packet: what comes before the next keyframe says nothing about the server.
    torn: bool,
    /// Pictures, and those that do not follow the one before.
    pictures: usize,
    jumps: usize,
}

impl Seen {
    /// Takes everything that has come.
    fn take(&mut self, reader: &Srt) {
        while let Some(datagram) = reader.receive(Duration::from_millis(1)) {
            let Ok(Packet::Data(packet)) = Packet::decode(&datagram) else { continue };
            // The server asks what has become of what it sent by sending some of it again.
            if packet.header.retransmitted {
                continue;
            }
            let seq = packet.header.seq;
            if self.next.is_some_and(|next| next != seq) {
                *self = Self { torn: true, pictures: self.pictures, jumps: self.jumps, ..Self::default() };
            }
            self.next = Some(seq.next());
            self.demuxer.push(&packet.payload).expect("MPEG-TS");
            while let Some(event) = self.demuxer.poll_event() {
                if let MediaEvent::Frame(frame) = event {
                    self.note(frame);
                }
            }
        }
    }

    fn note(&mut self, picture: MediaFrame) {
        if self.torn && !picture.is_keyframe() {
            return;
        }
        self.torn = false;
        let follows = |last: &MediaFrame| picture.dts - last.dts < TimeDelta::from_millis(60);
        if !self.last.as_ref().is_some_and(follows) {
            let last = self.last.as_ref().map(|last| last.dts);
            assert!(picture.is_keyframe(), "{:?} after {last:?}", picture.dts);
            self.jumps += usize::from(last.is_some());
        }
        self.pictures += 1;
        self.last = Some(picture);
    }
}

/// The server gives up what is not acknowledged within a second, and from then on sends nothing that cannot be decoded: each run of
/// pictures begins with a keyframe. Another reader notices nothing.
#[test]
fn f30_a_reader_over_srt_that_acknowledges_nothing_gets_whole_beginnings() {
    rounds(|| {
        let bench = Arc::new(bench());
        let mut feed = Feed::of(Source::h264().with_pictures_of(10_000));
        let mut publisher = Peer::open(bench.rtmp).publishing("f30");
        publisher.set_chunk_size(60_000);
        send(&mut publisher, &feed.headers());
        publisher.tag(&feed.frame());
        let mut good = Peer::open(bench.rtmp).playing("f30");
        let (slow, mut seen) = (Srt::connected(bench.addr("srt"), "read:live/f30"), Seen::default());
        let sequence = readers::broadcast((&mut publisher, &mut feed), &mut good, secs(20), || {
            slow.keep_alive();
            seen.take(&slow);
            seen.jumps >= 3
        });
        assert_eq!((sequence.lost, sequence.repeated), (0, 0), "nobody else notices");
        assert!(seen.jumps >= 3 && seen.pictures >= 25, "{} pictures, {} jumps", seen.pictures, seen.jumps);
        bench.check_alive("F30");
    });
}
