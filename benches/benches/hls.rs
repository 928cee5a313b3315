//! Playlists of a live stream.
//!
//! **Question.** What does a version of a playlist cost that has to be rendered, in full and as a delta; and one that
//! somebody has asked for before?
//!
//! **Hypothesis.** Thirty seconds of segments, six of them with parts, are 5 KB of text that is written once, without looking
//! at it again: the formatting of numbers and dates is what it costs.
//!
//! **Decision rule.** In full in 30 µs, as a delta in 15 µs; one that is there already in 50 ns, whoever asks.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_benches::{Bench, Goal, Unit};
use arcly_core::{TimeDelta, Timestamp, TrackId, TrackKind};
use arcly_mux::hls::{MediaPlaylist, Report, Run};
use arcly_mux::live::{Config, Segmenter, View};
use arcly_testkit::media::Source;

const FULL_US: f64 = 30.0;
const DELTA_US: f64 = 15.0;
const SHARED_NS: f64 = 50.0;

fn main() {
    let mut bench = Bench::new("hls");
    let view = view();
    let playlist = || MediaPlaylist::new(TrackKind::Video, Run(0x19A_4C2D_11AB), Arc::clone(&view));
    let reports = || vec![Report { kind: TrackKind::Audio, track: TrackId::AUDIO, msn: 30, part: 4 }];
    let one = playlist();
    let (full, delta) = (one.full(reports).plain().len(), one.delta(reports).plain().len());
    eprintln!("hls: {full} bytes in full, {delta} as a delta");

    let us = Unit::MicrosPer("playlist", 1);
    bench.plain("rendered in full", us, Goal::target(FULL_US), || playlist().full(reports).plain().len());
    bench
        .plain("rendered as a delta", us, Goal::target(DELTA_US), || playlist().delta(reports).plain().len());
    let unit = Unit::Throughput(full as u64);
    bench.plain("rendered in full, text", unit, Goal::NONE, || playlist().full(reports).plain().len());
    let ns = Unit::NanosPer("request", 1);
    bench.plain("there already", ns, Goal::target(SHARED_NS), || one.full(reports).plain().clone());
    let query = "token=0123456789abcdef";
    bench.plain("with credentials in it", us, Goal::NONE, || one.full(reports).with_query(query).len());
}

/// A minute of a stream with a keyframe each second.
fn view() -> Arc<View> {
    let source = Source::h264_aac();
    let mut segmenter = Segmenter::new(Config::default(), Some(TimeDelta::from_millis(1_000)), None);
    segmenter.set_tracks(&source.tracks());
    for frame in source.seconds(60) {
        let since = (frame.dts - Timestamp::ZERO).to_duration();
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since;
        segmenter.push(wall, &frame);
    }
    Arc::new(segmenter.view(TrackId::VIDEO).expect("there are pictures"))
}
