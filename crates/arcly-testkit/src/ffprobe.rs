//! Packet lists as ffprobe reads them, and what differs between two of them.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process;

/// One packet of a file or stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// `video`, `audio` or `data`.
    pub kind: String,
    /// Which stream of the file it belongs to.
    pub stream: usize,
    /// Presentation time in microseconds, where known.
    pub pts_us: Option<i64>,
    /// Decode time in microseconds, where known.
    pub dts_us: Option<i64>,
    /// Bytes.
    pub size: usize,
    /// A keyframe.
    pub key: bool,
    /// Hash of the bytes.
    pub hash: String,
}

/// How times of two lists are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// They are equal.
    Equal,
    /// They are equal after one shift of everything: a live stream joined in the middle.
    Shifted,
    /// Only the bytes count.
    Ignored,
}

/// Every packet of `input`, a file or a URL, in file order.
///
/// # Panics
/// When ffprobe fails or takes more than a minute.
#[must_use]
pub fn packets(ffprobe: &Path, input: &str) -> Vec<Packet> {
    packets_with(ffprobe, &[], input)
}

/// The same with options for FFmpeg's demuxer.
///
/// # Panics
/// As [`packets`].
#[must_use]
pub fn packets_with(ffprobe: &Path, options: &[&str], input: &str) -> Vec<Packet> {
    let mut command = Command::new(ffprobe);
    command.args(["-v", "error", "-show_packets", "-show_data_hash", "md5", "-of", "compact=nk=0:p=0"]);
    command.args(options);
    let text = process::run_ok(command.arg(input), Duration::from_secs(60));
    records(&text).iter().filter_map(|record| parse(record)).collect()
}

/// One record a packet: ffprobe breaks the line after side data.
fn records(text: &str) -> Vec<String> {
    let mut records: Vec<String> = Vec::new();
    for line in text.lines() {
        match records.last_mut().filter(|_| !line.starts_with("codec_type=")) {
            Some(record) => record.push_str(line),
            None => records.push(line.to_owned()),
        }
    }
    records
}

/// `key=value|key=value|…`
fn parse(line: &str) -> Option<Packet> {
    let field = |name: &str| line.split('|').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
    Some(Packet {
        kind: field("codec_type")?.to_owned(),
        stream: field("stream_index")?.parse().ok()?,
        pts_us: field("pts_time").and_then(micros),
        dts_us: field("dts_time").and_then(micros),
        size: field("size")?.parse().ok()?,
        key: field("flags")?.starts_with('K'),
        hash: field("data_hash")?.to_owned(),
    })
}

/// Microseconds of a decimal count of seconds, without going through floating point.
fn micros(seconds: &str) -> Option<i64> {
    let (sign, digits) = seconds.strip_prefix('-').map_or((1, seconds), |digits| (-1, digits));
    let (whole, part) = digits.split_once('.').unwrap_or((digits, "0"));
    let part = format!("{part:0<6}");
    Some(sign * (whole.parse::<i64>().ok()? * 1_000_000 + part.get(..6)?.parse::<i64>().ok()?))
}

/// The packets of one kind, in order.
#[must_use]
pub fn of_kind<'a>(packets: &'a [Packet], kind: &str) -> Vec<&'a Packet> {
    packets.iter().filter(|packet| packet.kind == kind).collect()
}

/// The packets of each track, video before audio, in the order in which the file counts its tracks.
#[must_use]
pub fn tracks(packets: &[Packet]) -> Vec<Vec<&Packet>> {
    let mut tracks = Vec::new();
    for kind in ["video", "audio"] {
        let of_kind = of_kind(packets, kind);
        let mut streams: Vec<usize> = of_kind.iter().map(|packet| packet.stream).collect();
        streams.sort_unstable();
        streams.dedup();
        let of_stream = |stream| of_kind.iter().copied().filter(|packet| packet.stream == stream).collect();
        tracks.extend(streams.into_iter().map(of_stream));
    }
    tracks
}

/// Asserts that `got` has the same tracks as `expected`, and on each the same packets in the same order.
///
/// # Panics
/// At the first difference, with both sides.
pub fn assert_same(expected: &[Packet], got: &[Packet], times: Times) {
    let (expected, got) = (tracks(expected), tracks(got));
    let count = |tracks: &[Vec<&Packet>]| -> Vec<(String, usize)> {
        tracks.iter().map(|track| (track[0].kind.clone(), track.len())).collect()
    };
    assert_eq!(count(&expected), count(&got), "packets of each track: sent, and received");
    let pairs: Vec<_> = expected.iter().map(Vec::as_slice).zip(got.iter().map(Vec::as_slice)).collect();
    assert_runs(&pairs, times);
}

/// Asserts that `got` is one uninterrupted run of `expected` on each track: what a reader gets that joins late
/// and leaves early. Returns how many packets it has.
///
/// # Panics
/// When `got` is empty or lacks a track, starts at a packet that is not in `expected`, or differs after its start.
pub fn assert_part(expected: &[Packet], got: &[Packet], times: Times) -> usize {
    assert!(!got.is_empty(), "nothing was received");
    let (expected_tracks, got_tracks) = (tracks(expected), tracks(got));
    assert_eq!(expected_tracks.len(), got_tracks.len(), "tracks sent, and received");
    let pairs: Vec<_> =
        expected_tracks.iter().zip(&got_tracks).map(|(e, g)| (find_run(e, g), &g[..])).collect();
    assert_runs(&pairs, times);
    got.len()
}

/// The part of `expected` at which `got` starts, as long as `got`.
fn find_run<'a, 'p>(expected: &'a [&'p Packet], got: &[&Packet]) -> &'a [&'p Packet] {
    let first = got[0];
    let is_run = |start: &usize| {
        let rest = &expected[*start..];
        rest.len() >= got.len() && rest.iter().zip(got).all(|(e, g)| e.hash == g.hash)
    };
    let candidates: Vec<usize> = (0..expected.len()).filter(|&at| expected[at].hash == first.hash).collect();
    // Where packets repeat (silence), the one that goes on as `got` does is meant.
    let start = candidates.iter().copied().find(is_run).or_else(|| candidates.first().copied());
    let start = start.unwrap_or_else(|| panic!("the first {} packet was never sent: {first:?}", first.kind));
    let end = expected.len().min(start + got.len());
    assert!(
        got.len() <= end - start,
        "{} {} packets more than were sent",
        got.len() - (end - start),
        first.kind
    );
    &expected[start..end]
}

/// Compares track by track, under one shift for all: sound stays with its picture.
fn assert_runs(tracks: &[(&[&Packet], &[&Packet])], times: Times) {
    let shift = match tracks.first().map(|(expected, got)| (expected.first(), got.first())) {
        Some((Some(e), Some(g))) if times == Times::Shifted => g.dts_us.unwrap_or(0) - e.dts_us.unwrap_or(0),
        _ => 0,
    };
    let same_time = |e: Option<i64>, g: Option<i64>| times == Times::Ignored || e.map(|e| e + shift) == g;
    for (track, (expected, got)) in tracks.iter().enumerate() {
        for (n, (e, g)) in expected.iter().zip(*got).enumerate() {
            let same_bytes = e.kind == g.kind && e.hash == g.hash && e.size == g.size && e.key == g.key;
            let same = same_bytes && same_time(e.pts_us, g.pts_us) && same_time(e.dts_us, g.dts_us);
            let kind = &e.kind;
            assert!(
                same,
                "{kind} packet {n} of track {track} differs\n  expected {e:?}\n  got      {g:?}\n  shift    {shift} us"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(range: std::ops::Range<i64>, shift: i64) -> Vec<Packet> {
        let packet = |n: i64| Packet {
            kind: "video".into(),
            stream: 0,
            pts_us: Some(n * 40_000 + 80_000 + shift),
            dts_us: Some(n * 40_000 + shift),
            size: 10,
            key: n % 25 == 0,
            hash: format!("MD5:{n}"),
        };
        range.map(packet).collect()
    }

    #[test]
    fn a_line_of_ffprobe() {
        let line = "codec_type=video|stream_index=0|pts=80|pts_time=0.080000|dts=-40|dts_time=-0.040000|\
                    duration=40|duration_time=0.040000|size=463|pos=9|flags=K_|data_hash=MD5:ab";
        let packet = parse(line).expect("a packet");
        assert_eq!(
            (packet.pts_us, packet.dts_us, packet.size, packet.key),
            (Some(80_000), Some(-40_000), 463, true)
        );
        assert_eq!(micros("12.5"), Some(12_500_000));
        let broken = line.replace("|data_hash", "|side_data_type=New Extradata\n|data_hash");
        let records = records(&format!("{line}\n{broken}\n{line}\n"));
        assert_eq!(records.len(), 3);
        assert_eq!(parse(&records[1]), Some(packet));
        assert_eq!(micros("N/A"), None);
    }

    #[test]
    fn a_part_is_a_run_without_gaps() {
        let all = list(0..100, 0);
        assert_same(&all, &list(0..100, 0), Times::Equal);
        assert_eq!(assert_part(&all, &list(25..75, -1_000_000), Times::Shifted), 50);
        let gap: Vec<Packet> = list(25..75, 0).into_iter().filter(|p| p.hash != "MD5:50").collect();
        let late: Vec<Packet> = list(25..50, 0).into_iter().chain(list(50..75, 1_000)).collect();
        let foreign = list(100..110, 0);
        let sound =
            |shift| list(25..75, shift).into_iter().map(|p| Packet { kind: "audio".into(), stream: 1, ..p });
        let late_sound: Vec<Packet> = list(25..75, 0).into_iter().chain(sound(1_000)).collect();
        let with_sound: Vec<Packet> = list(25..75, 0).into_iter().chain(sound(0)).collect();
        let caught = std::panic::catch_unwind(|| assert_same(&with_sound, &late_sound, Times::Shifted));
        assert!(caught.is_err(), "sound that is 1 ms behind its picture");
        for wrong in [gap, late, foreign, late_sound, Vec::new()] {
            let caught = std::panic::catch_unwind(|| assert_part(&all, &wrong, Times::Shifted));
            assert!(caught.is_err(), "{wrong:?}");
        }
    }
}
