use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::audience::{Audience, MakePeer};
use super::clip::{Clip, Shape};
use super::feeder::{Feeder, Plan};
use super::flv::{HttpFlvPeer, RawFlvPeer};
use super::rawfan::{CHUNK_SIZE, Format};
use super::rtmp::{RawRtmpPeer, Role, RtmpPeer};
use super::rtsp::RtspPeer;
use super::server::{Program, Running};

/// How readers read: what a scenario needs to know of a protocol.
#[derive(Clone)]
pub struct Protocol {
    /// Its name in the table.
    pub name: &'static str,
    /// What the floor sends instead.
    pub format: Format,
    /// Its client, of the stream `live/bench0`.
    pub peer: MakePeer,
    /// Where a server has it.
    pub addr: fn(&Running) -> SocketAddr,
}

impl Protocol {
    /// RTMP.
    #[must_use]
    pub fn rtmp() -> Self {
        Self {
            name: "RTMP",
            format: Format::Rtmp,
            peer: Arc::new(|| Box::new(RtmpPeer::new(Role::Play, "live", "bench0"))),
            addr: |running| running.rtmp,
        }
    }

    /// HTTP-FLV.
    #[must_use]
    pub fn http_flv() -> Self {
        Self {
            name: "HTTP-FLV",
            format: Format::Flv,
            peer: Arc::new(|| Box::new(HttpFlvPeer::new("live", "bench0"))),
            addr: |running| running.http.unwrap_or(running.rtmp),
        }
    }

    /// RTSP over its connection. The floor is that of RTMP, so that the two can be compared.
    #[must_use]
    pub fn rtsp() -> Self {
        Self {
            name: "RTSP",
            format: Format::Rtmp,
            peer: Arc::new(|| Box::new(RtspPeer::new("live", "bench0"))),
            addr: |running| running.rtsp.unwrap_or(running.rtmp),
        }
    }

    /// What reads the floor.
    #[must_use]
    pub fn raw(&self) -> MakePeer {
        match self.format {
            Format::Rtmp => Arc::new(|| Box::new(RawRtmpPeer::new(CHUNK_SIZE))),
            Format::Flv => Arc::new(|| Box::<RawFlvPeer>::default()),
        }
    }
}

/// A server with a live publisher, and an audience that has yet to come.
#[derive(Debug)]
pub struct Stage {
    /// Goes first, so that nobody sees the server go down.
    pub audience: Audience,
    /// The publisher; the floor publishes by itself.
    pub feeder: Option<Feeder>,
    /// The server.
    pub program: Running,
    /// Resident memory with a whole GOP and nobody watching.
    pub alone_bytes: u64,
}

impl Stage {
    /// Starts the server and the publisher, and waits until there is a whole GOP to begin with.
    ///
    /// # Panics
    /// When the server does not start, or does not let the publisher in.
    #[must_use]
    pub fn open(protocol: &Protocol, program: &Program, shape: Shape) -> Self {
        let clip = Arc::new(Clip::new(shape));
        let is_floor = program.is_floor();
        let raw =
            if matches!(program, Program::RawHls(_)) { Arc::clone(&protocol.peer) } else { protocol.raw() };
        let program = program.start();
        let feeder = (!is_floor).then(|| Feeder::start(Plan::live(program.rtmp, &clip)));
        let gop = Duration::from_millis(shape.gop * 1_000 / shape.pictures);
        std::thread::sleep(gop + Duration::from_millis(500));
        let (addr, peer) = if is_floor {
            (program.rtmp, raw)
        } else {
            ((protocol.addr)(&program), Arc::clone(&protocol.peer))
        };
        let alone_bytes = program.rss_bytes();
        Self { audience: Audience::start(addr, peer), feeder, program, alone_bytes }
    }

    /// Pictures that the publisher has sent.
    #[must_use]
    pub fn pictures(&self) -> u64 {
        self.feeder.as_ref().map_or(0, Feeder::pictures)
    }

    /// Publishers that were thrown out.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.feeder.as_ref().map_or(0, Feeder::failed)
    }

    /// Lets readers join and waits until all of them play.
    ///
    /// # Panics
    /// When they do not within thirty seconds.
    pub fn seat(&self, group: usize, count: usize) {
        self.audience.join(group, count, Duration::from_millis(count as u64));
        let report = self.audience.wait_playing(group, count, Duration::from_secs(30));
        let log = self.program.log();
        let log = log.lines().rev().take(10).collect::<Vec<_>>().join("\n");
        assert_eq!(report.playing, count, "{:?}\n{log}", report.error);
    }
}
