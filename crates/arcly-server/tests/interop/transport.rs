//! Transport streams: sent by FFmpeg, taken apart, and held against what was published.

use std::path::Path;
use std::process::Command;

use arcly_core::{MediaEvent, MediaFrame, TimeDelta, TrackId};
use arcly_mux::{flv, ts};
use arcly_testkit::ffprobe::{self, Packet, Times};
use arcly_testkit::program::Program;

/// What FLV rounds times to.
pub(crate) const MILLISECOND: TimeDelta = TimeDelta::from_millis(1);

/// The frames of a file.
pub(crate) fn read_flv(file: &Path) -> Vec<MediaFrame> {
    let mut reader = flv::Reader::new();
    reader.push(&std::fs::read(file).expect("a file")).expect("FLV");
    frames(|| reader.poll_event())
}

/// The frames of a transport stream in which nothing is missing or odd.
pub(crate) fn read_ts(data: &[u8]) -> Vec<MediaFrame> {
    let mut demuxer = ts::Demuxer::default();
    demuxer.push(data).expect("MPEG-TS");
    demuxer.finish().expect("MPEG-TS");
    assert_eq!(demuxer.counters(), ts::Counters::default(), "nothing is lost or odd");
    frames(|| demuxer.poll_event())
}

fn frames(poll: impl FnMut() -> Option<MediaEvent>) -> Vec<MediaFrame> {
    let events = std::iter::from_fn(poll);
    events.filter_map(|event| if let MediaEvent::Frame(frame) = event { Some(frame) } else { None }).collect()
}

/// Asserts that packets are those that were sent, bit for bit. Sounds that share a PES packet get their times from the first; the
/// clip has each rounded to a millisecond.
#[track_caller]
pub(crate) fn assert_arrived(sent: &[Packet], got: &[Packet]) {
    ffprobe::assert_same(sent, got, Times::Ignored);
    let first = |packets: &[Packet]| ffprobe::tracks(packets)[0][0].dts_us.unwrap_or_default();
    let shift = first(got) - first(sent);
    for (sent, got) in ffprobe::tracks(sent).concat().iter().zip(ffprobe::tracks(got).concat()) {
        let tolerance = if sent.kind == "audio" { 1_000 } else { 0 };
        for (sent_at, got_at) in [(sent.dts_us, got.dts_us), (sent.pts_us, got.pts_us)] {
            let off = got_at.unwrap_or_default() - sent_at.unwrap_or_default() - shift;
            assert!(off.abs() <= tolerance, "{off} us: {sent:?} {got:?}");
        }
    }
}

/// Asserts that of each track the frames are a run of those that were sent, bit for bit, to the millisecond under one shift, and
/// that no more than `missing` are not there at either end.
#[track_caller]
pub(crate) fn assert_run(sent: &[MediaFrame], got: &[MediaFrame], missing: [usize; 2], who: &str) {
    let mut shift = None;
    for id in [TrackId::VIDEO, TrackId::AUDIO] {
        let of = |frames: &[MediaFrame]| -> Vec<MediaFrame> {
            frames.iter().filter(|frame| frame.track == id).cloned().collect()
        };
        let (sent, got) = (of(sent), of(got));
        let head = got.first().unwrap_or_else(|| panic!("{who}: nothing of track {id}"));
        let first = sent.iter().position(|frame| frame.payload == head.payload);
        let first = first.unwrap_or_else(|| panic!("{who}: track {id} begins with what nobody sent"));
        let rest = &sent[first..];
        assert!(
            first <= missing[0] && got.len() <= rest.len() && rest.len() - got.len() <= missing[1],
            "{who}: {} of {} frames of track {id}, from {first}",
            got.len(),
            sent.len()
        );
        for (n, (sent, got)) in rest.iter().zip(&got).enumerate() {
            assert_eq!(sent.payload, got.payload, "{who}: frame {n} of track {id}");
            for (sent, got) in [(sent.dts, got.dts), (sent.pts, got.pts)] {
                let off = (got - sent) - *shift.get_or_insert(got - sent);
                assert!(
                    off.abs() <= MILLISECOND + MILLISECOND,
                    "{who}: frame {n} of track {id} is off by {off:?}"
                );
            }
        }
    }
    eprintln!("{who}: {} frames", got.len());
}

/// FFmpeg sends a file as MPEG-TS, in real time.
pub(crate) fn sends(name: &str, ffmpeg: &Path, file: &Path, options: &[&str], url: &str) -> Program {
    Program::start(name, as_ts(Command::new(ffmpeg).arg("-re"), file).args(options).arg(url))
}

/// The same again and again, for tests whose length is the machine's.
#[allow(dead_code, reason = "not every test file has such a test")]
pub(crate) fn sends_on(name: &str, ffmpeg: &Path, file: &Path, url: &str) -> Program {
    Program::start(name, as_ts(Command::new(ffmpeg).args(["-re", "-stream_loop", "-1"]), file).arg(url))
}

fn as_ts<'a>(ffmpeg: &'a mut Command, file: &Path) -> &'a mut Command {
    ffmpeg.args(["-hide_banner", "-nostdin", "-v", "warning", "-i"]).arg(file);
    ffmpeg.args(["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "mpegts"])
}
