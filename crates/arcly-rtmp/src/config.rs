//! What can be tuned, and every bound with its reason.

use std::time::Duration;

use arcly_core::FourCc;
use arcly_core::egress::Tick;

use crate::wire::capability::CodecMap;
use crate::wire::{Capabilities, CapsEx, ChunkLimits, CodecCaps};

/// Video codecs that Enhanced RTMP names by FourCC.
pub const VIDEO_FOURCCS: [FourCc; 6] = [
    FourCc(*b"avc1"),
    FourCc(*b"hvc1"),
    FourCc(*b"vvc1"),
    FourCc(*b"av01"),
    FourCc(*b"vp08"),
    FourCc(*b"vp09"),
];
/// Audio codecs that Enhanced RTMP names by FourCC.
pub const AUDIO_FOURCCS: [FourCc; 6] = [
    FourCc(*b"mp4a"),
    FourCc(*b"Opus"),
    FourCc(*b"fLaC"),
    FourCc(*b"ac-3"),
    FourCc(*b"ec-3"),
    FourCc(*b".mp3"),
];

/// The chunk size that arcly sends with: a video frame is mostly one chunk, so that the headers cost nothing, and
/// it is below 64 KiB, which old clients take for granted.
pub const CHUNK_SIZE: u32 = 60_000;

/// What a [`Server`](crate::Server) keeps to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServerConfig {
    /// What each session keeps to.
    pub session: SessionConfig,
    /// Connections at one time.
    pub max_connections: usize,
    /// Connections that nothing has authorised yet.
    pub max_unauthorized: usize,
    /// The same from one address.
    pub max_unauthorized_per_address: usize,
    /// Tasks that write to players; one per core is the right number. Not used by a server that shares somebody
    /// else's workers ([`Server::with_egress`](crate::Server::with_egress)).
    pub egress_workers: usize,
    /// How often players are written to that do not say `latency=` in their URL; not used by a server that shares
    /// somebody else's workers.
    pub tick: Tick,
    /// How long clients that understand reconnect requests have to follow one when the server goes down.
    pub drain: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            session: SessionConfig::default(),
            max_connections: 65_536,
            max_unauthorized: 2_048,
            max_unauthorized_per_address: 64,
            egress_workers: std::thread::available_parallelism().map_or(1, usize::from),
            tick: Tick::STANDARD,
            drain: Duration::from_secs(2),
        }
    }
}

/// What one session keeps to, server or client.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SessionConfig {
    /// What the peer can make the session hold and do.
    pub limits: Limits,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// The chunk size that is announced and sent with.
    pub chunk_size: u32,
    /// Bytes after which the peer is asked to acknowledge.
    pub window_ack_size: u32,
    /// What is announced to the peer.
    pub capabilities: Capabilities,
}

impl Default for SessionConfig {
    fn default() -> Self {
        let caps = CodecCaps::DECODE | CodecCaps::FORWARD;
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            chunk_size: CHUNK_SIZE,
            window_ack_size: 2_500_000,
            capabilities: Capabilities {
                video: CodecMap::of(&VIDEO_FOURCCS, caps),
                audio: CodecMap::of(&AUDIO_FOURCCS, caps),
                extensions: CapsEx::RECONNECT
                    | CapsEx::MULTITRACK
                    | CapsEx::MODEX
                    | CapsEx::NANOSECOND_OFFSET,
            },
        }
    }
}

/// What a peer can make a session hold and do.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Messages and chunk streams.
    pub chunks: ChunkLimits,
    /// Message streams at one time. Players use one, editors of playlists a few.
    pub streams: usize,
    /// Commands and pings in ten seconds. A busy encoder sends ten.
    pub commands_per_10s: u32,
    /// Chunk headers a second for every KiB received in it, beyond [`chunk_headers`](Self::chunk_headers).
    pub chunk_headers_per_kib: u64,
    /// Chunk headers a second that are always allowed.
    pub chunk_headers: u64,
    /// Bytes at the start of a connection that the two limits above do not look at.
    pub free_bytes: u64,
    /// Media messages in a row that carry nothing.
    pub bad_tags: u32,
    /// Bytes of answers that the peer has not taken.
    pub backlog_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            chunks: ChunkLimits::default(),
            streams: 16,
            commands_per_10s: 1_000,
            chunk_headers_per_kib: 64,
            chunk_headers: 1_024,
            free_bytes: 64 << 10,
            bad_tags: 16,
            backlog_bytes: 256 << 10,
        }
    }
}

/// How long anything may take.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the connection to an authorised publish or play, in total.
    pub setup: Duration,
    /// Nothing from a publisher, pings unanswered.
    pub publisher_idle: Duration,
    /// Nothing from a player, pings unanswered.
    pub player_idle: Duration,
    /// The peer takes nothing from its socket.
    pub write_stall: Duration,
    /// The same of one that only publishes: it is sent so little that it has not read for long before its socket is full.
    pub publisher_stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            setup: Duration::from_secs(10),
            publisher_idle: Duration::from_secs(10),
            player_idle: Duration::from_secs(60),
            write_stall: arcly_core::egress::STALL,
            publisher_stall: Duration::from_secs(5),
        }
    }
}
