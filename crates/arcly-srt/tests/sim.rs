//! Two connections over simulated paths: loss, bursts, jitter, duplication, changed bits, narrow and broken paths, drifting
//! clocks, and counters that wrap. Every run replays from its seed.
//!
//! `ARCLY_SRT_SIM_HOURS=2000` runs so many virtual hours of the long runs instead of a few; `ARCLY_SHOW_ROWS=1` prints what came
//! of each cell of the table.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "all of this is a test")]

#[path = "sim/net.rs"]
mod net;
#[path = "sim/world.rs"]
mod world;

#[path = "sim/bonding.rs"]
mod bonding;
#[path = "sim/long.rs"]
mod long;
#[path = "sim/model.rs"]
mod model;
#[path = "sim/scenes.rs"]
mod scenes;
#[path = "sim/table.rs"]
mod table;
#[path = "sim/transfer.rs"]
mod transfer;
