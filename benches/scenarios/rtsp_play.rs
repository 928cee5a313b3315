//! One 1080p30 stream to N players over RTSP's own connection, and over RTMP in turns with them.
//!
//! **Question.** What does a player over RTSP cost, beside one over RTMP?
//!
//! **Hypothesis.** A picture is a dozen packets instead of one message, but they are made once and lie behind each other in one piece, so
//! that a player costs the same write of the same bytes, and 1.4 per cent more of them.
//!
//! **Decision rule.** CPU time of the server's process in units of what it takes over RTMP in the same mode and round: ≤ 1.3, medians of the
//! rounds; no frame lost. A miss counts after five rounds.

use arcly_benches::load::play::{Contender, Target, compare, floors};
use arcly_benches::load::{Protocol, Shape, scenario};

/// Names of a mode over RTMP and over RTSP, and its tick.
const MODES: [(&str, &str, &str); 3] = [
    ("RTMP, low latency", "RTSP, low latency", "0ms"),
    ("RTMP, default", "RTSP, default", "33ms"),
    ("RTMP, throughput", "RTSP, throughput", "100ms"),
];

fn main() {
    scenario::main("rtsp_play", |options| {
        let protocol = Protocol::rtmp();
        let modes = MODES.map(|(rtmp, rtsp, tick)| {
            let target = Target { floor: rtmp, ratio: Some(1.3), p50_ms: None, p99_ms: None };
            let over_rtsp = Contender::mode(rtsp, tick).over(Protocol::rtsp).to_reach(target);
            [Contender::mode(rtmp, tick), over_rtsp]
        });
        let contenders: Vec<_> =
            floors(&protocol, Shape::HD).into_iter().chain(modes.into_iter().flatten()).collect();
        compare(options, &protocol, Shape::HD, &[100, 1_000], &contenders);
    });
}
