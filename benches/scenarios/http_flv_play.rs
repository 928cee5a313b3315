//! One 1080p30 stream to N players over HTTP-FLV.
//!
//! **Question.** What does a player cost over HTTP, beside the socket writes that nobody can do without?
//!
//! **Hypothesis.** As for RTMP: tags are built once, and chunked transfer coding is part of what is built.
//!
//! **Decision rule.** As for RTMP, the floor writing FLV tags. nginx-rtmp has no HTTP-FLV; SRS was measured at 0.26 CPU-s
//! per 1 000 subscriber-seconds with 350 ms of merging.

use arcly_benches::load::play::{compare, floors, modes};
use arcly_benches::load::{Protocol, Shape, scenario};

fn main() {
    scenario::main("http_flv_play", |options| {
        let protocol = Protocol::http_flv();
        let contenders: Vec<_> = floors(&protocol, Shape::HD).into_iter().chain(modes()).collect();
        compare(options, &protocol, Shape::HD, &[100, 500, 1_000], &contenders);
    });
}
