//! What the tests of arcly's crates share. Never published, and only ever a development dependency.
//!
//! | module | for |
//! |---|---|
//! | [`clock`] | time that moves when a test says so |
//! | [`net`] | byte streams that split and coalesce, datagrams that are lost, doubled and reordered; seeded |
//! | [`netns`] | tests inside of a network namespace of their own |
//! | [`pair`] | two sans-IO machines, joined by two links, driven to quiescence |
//! | [`media`] | a real H.264 stream with B-frames and AAC, of any length, without an encoder |
//! | [`contribution`] | the same with two languages, KLV and splice information |
//! | [`footprint`] | what one reader of a stream costs in memory |
//! | [`ports`] | ports for programs that have to be told one |
//! | [`tools`] | external programs: found, or skipped loudly |
//! | [`process`] | child processes that end with the test, and the `arcly` binary |
//! | [`program`] | external programs that run beside a test, and what they said when it fails |
//! | [`ffprobe`] | packet lists, and what differs between two of them |
//! | [`framehash`] | packet lists as any FFmpeg receives them, live too |
//! | [`clips`] | short files in every codec that FLV carries, encoded once |
//! | [`hls`] | playlists: a parser, and a checker of every rule over time |
//! | [`http`] | one HTTP request at a time |
//!
//! Everything here panics when something is wrong: that is how a test fails.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod clips;
pub mod clock;
pub mod contribution;
pub mod ffprobe;
pub mod footprint;
pub mod framehash;
pub mod hls;
pub mod http;
pub mod media;
pub mod net;
#[cfg(target_os = "linux")]
pub mod netns;
pub mod pair;
pub mod ports;
pub mod process;
pub mod program;
pub mod rng;
pub mod tools;
