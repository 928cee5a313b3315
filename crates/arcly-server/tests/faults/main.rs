//! Faults around a live server: publishers that vanish, return and change, readers that do not read, crowds, signals,
//! and a system that runs out of something. Over RTMP, HTTP-FLV, RTSP and SRT, on real sockets, each on a server of its own.
//!
//! Policies that depend on time alone are tested in virtual time, in `arcly-core` (engine, timeline, egress) and
//! `arcly-rtmp` (sessions). Where the time of a fault is shorter than in the catalogue, its test says so.
//!
//! `ARCLY_FAULT_ROUNDS=20` runs each fault that often.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::type_complexity, reason = "case tables")]

mod crowds;
mod disks;
mod machine;
mod media;
mod network;
mod process;
mod publishers;
mod readers;
mod rtsp;
mod soak;
mod srt;
#[path = "../support/mod.rs"]
mod support;
mod upstream;

use std::time::{Duration, Instant};

use arcly_codec::flv::TagKind;
use support::bench::Bench;
use support::feed::{Feed, FlvTag};
use support::http::FlvReader;
use support::peer::{PATIENCE, Peer};

const MIB: u64 = 1 << 20;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Runs a fault as often as it is asked for: once, unless `ARCLY_FAULT_ROUNDS` says otherwise.
fn rounds(fault: impl Fn()) {
    let rounds = std::env::var("ARCLY_FAULT_ROUNDS").map_or(1, |n| n.parse().expect("a number of rounds"));
    // One after the other: what one does to the machine is not to be held against the next.
    let _turn = support::bench::turn();
    for round in 1..=rounds {
        if rounds > 1 {
            eprintln!("{} {round}/{rounds}", std::thread::current().name().unwrap_or_default());
        }
        fault();
    }
}

/// An RTMP and an HTTP-FLV reader of one stream, to which the same must happen.
struct Readers {
    rtmp: Peer,
    flv: FlvReader,
    /// The newest time of each reader and kind.
    newest: [[Option<u32>; 2]; 2],
}

impl Readers {
    fn join(bench: &Bench, name: &str) -> Self {
        let rtmp = Peer::open(bench.rtmp).playing(name);
        let flv = FlvReader::open(bench.http, &format!("/live/{name}.flv")).expect("the stream");
        Self { rtmp, flv, newest: [[None; 2]; 2] }
    }

    fn next(&mut self, reader: usize) -> Option<FlvTag> {
        if reader == 0 { self.rtmp.next_tag(soon()) } else { self.flv.next_tag(soon()) }
    }

    /// What each reader gets until the tag that `last` likes, which never goes back in time.
    #[track_caller]
    fn until(&mut self, last: impl Fn(&FlvTag) -> bool) -> [Vec<FlvTag>; 2] {
        [0, 1].map(|reader| {
            let mut tags = Vec::new();
            loop {
                let tag = self
                    .next(reader)
                    .unwrap_or_else(|| panic!("reader {reader} got no more after {tags:#?}"));
                if tag.kind != TagKind::Script {
                    let newest = &mut self.newest[reader][usize::from(tag.kind == TagKind::Audio)];
                    let before = newest.replace(tag.timestamp).unwrap_or(tag.timestamp);
                    assert!(tag.timestamp >= before, "{} after {before}", tag.timestamp);
                }
                let done = last(&tag);
                tags.push(tag);
                if done {
                    return tags;
                }
            }
        })
    }

    /// Both have got this frame, and everything before it.
    #[track_caller]
    fn until_frame(&mut self, tag: &FlvTag) -> [Vec<FlvTag>; 2] {
        let (kind, mark) = (tag.kind, tag.mark());
        self.until(|got| got.kind == kind && got.mark() == mark)
    }
}

fn is_sequence_header(tag: &FlvTag) -> bool {
    tag.kind == TagKind::Video && tag.body.starts_with(&[0x17, 0])
}

fn marks(tags: &[FlvTag]) -> Vec<u32> {
    tags.iter().filter(|tag| tag.kind == TagKind::Video).filter_map(FlvTag::mark).collect()
}

fn send(peer: &mut Peer, tags: &[FlvTag]) {
    tags.iter().for_each(|tag| _ = peer.tag(tag));
}

/// A stream with its publisher and readers, which have what was published.
fn start(bench: &Bench, name: &str, feed: &mut Feed) -> (Peer, Readers) {
    let mut publisher = Peer::open(bench.rtmp).publishing(name);
    publisher.set_chunk_size(60_000);
    send(&mut publisher, &feed.headers());
    let first = feed.millis(200);
    send(&mut publisher, &first);
    let mut readers = Readers::join(bench, name);
    readers.until_frame(first.last().unwrap());
    (publisher, readers)
}
