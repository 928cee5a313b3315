//! One 1080p30 stream to N players over RTMP.
//!
//! **Question.** What does a player cost, beside the socket writes that nobody can do without?
//!
//! **Hypothesis.** The same bytes go to everybody, built once; a worker that owns many sockets adds next to nothing to
//! the write. So a mode that writes each frame costs what `rawfan` costs, and one that merges costs what merging leaves.
//!
//! **Decision rule.** CPU time of the server's process in units of the floor's in the same round, medians of the rounds:
//! low latency ≤ 1.15, default ≤ 0.85, throughput ≤ 1.20 of the floor that merges 100 ms; latencies within their bounds;
//! no frame lost. A miss counts after five rounds.

use arcly_benches::load::play::{compare, floors, modes, nginx, other};
use arcly_benches::load::{Protocol, Shape, scenario};

fn main() {
    scenario::main("rtmp_play", |options| {
        let protocol = Protocol::rtmp();
        let contenders: Vec<_> =
            floors(&protocol, Shape::HD).into_iter().chain(modes()).chain([other(), nginx()]).collect();
        compare(options, &protocol, Shape::HD, &[100, 500, 1_000], &contenders);
    });
}
