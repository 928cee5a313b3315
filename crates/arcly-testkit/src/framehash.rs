//! Packet lists as any FFmpeg receives them: its `framehash` output, without decoding.
//!
//! ffprobe 5 does not know Enhanced RTMP, and FFmpeg 9's wheel brings no ffprobe; `ffmpeg -c copy -f framehash` works
//! with both, for files and live. Unlike ffprobe it does not say which packets are keyframes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::ffprobe::Packet;
use crate::process;

/// What was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Tracks in the order in which packets name them: video first.
    pub tracks: Vec<TrackLine>,
    /// Packets in the order of their arrival. None is marked as a keyframe.
    pub packets: Vec<Packet>,
}

impl Listing {
    /// Forgets the tracks that are not among `kept`, and counts the others anew.
    pub fn keep_tracks(&mut self, kept: &[usize]) {
        self.tracks = kept.iter().map(|&n| self.tracks[n].clone()).collect();
        let renumbered = |packet: Packet| {
            let stream = kept.iter().position(|&n| n == packet.stream)?;
            Some(Packet { stream, ..packet })
        };
        self.packets = core::mem::take(&mut self.packets).into_iter().filter_map(renumbered).collect();
    }
}

/// A track.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrackLine {
    /// `video` or `audio`.
    pub kind: String,
    /// FFmpeg's name: `h264`, `hevc`, `opus`.
    pub codec: String,
    /// Hash of the codec configuration, when there is one.
    pub config: Option<String>,
}

/// The command with which `ffmpeg` lists the packets of `input`, a file or a URL, into the file `output`: every
/// video and audio track, with the times that are in the stream. `options` are options of the input.
#[must_use]
pub fn command(ffmpeg: &Path, options: &[&str], input: &str, output: &Path) -> Command {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-copyts"]).args(options).args(["-i", input]);
    command.args(["-map", "0:v?", "-map", "0:a?", "-c", "copy", "-f", "framehash", "-hash", "md5", "-y"]);
    command.arg(output);
    command
}

/// The packets of a file.
///
/// # Panics
/// When FFmpeg fails, or takes more than a minute.
#[must_use]
pub fn of_file(ffmpeg: &Path, input: &Path) -> Listing {
    let mut command = command(ffmpeg, &[], &input.display().to_string(), Path::new("-"));
    decode(&process::run_ok(&mut command, Duration::from_secs(60)))
}

/// The same of a file that somebody still writes: what can be read of it by now.
///
/// # Panics
/// When FFmpeg does not end.
#[must_use]
pub fn so_far(ffmpeg: &Path, input: &Path) -> Listing {
    let mut command = command(ffmpeg, &[], &input.display().to_string(), Path::new("-"));
    let output = process::run(&mut command, Duration::from_secs(60));
    let text = if output.status.success() { String::from_utf8_lossy(&output.stdout) } else { "".into() };
    decode(&text)
}

/// The listing that [`command`] has written.
///
/// # Panics
/// When the file cannot be read.
#[must_use]
pub fn read(output: &Path) -> Listing {
    let text = std::fs::read_to_string(output);
    decode(&text.unwrap_or_else(|error| panic!("{}: {error}", output.display())))
}

/// Reads a listing.
///
/// # Panics
/// When it is not one.
#[must_use]
pub fn decode(text: &str) -> Listing {
    let mut listing = Listing { tracks: Vec::new(), packets: Vec::new() };
    let mut time_bases = Vec::new();
    for line in text.lines() {
        if let Some((name, rest)) = line.strip_prefix('#').and_then(|line| line.split_once(' ')) {
            header(&mut listing.tracks, &mut time_bases, name, rest);
        } else if !line.starts_with('#') {
            let packet = packet(&listing.tracks, &time_bases, line);
            listing.packets.push(packet.unwrap_or_else(|| panic!("not a line of framehash: {line:?}")));
        }
    }
    listing
}

/// `#tb 0: 1/1000`, `#media_type 0: video`, `#codec_id 0: h264`, `#extradata 0,   45, ea49…`
fn header(tracks: &mut Vec<TrackLine>, time_bases: &mut Vec<(i64, i64)>, name: &str, rest: &str) {
    let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
    let Ok(n) = number.parse::<usize>() else { return };
    let value = rest[number.len()..].trim_start_matches([':', ',']).trim();
    if !["tb", "media_type", "codec_id", "extradata"].contains(&name) {
        return;
    }
    tracks.resize_with(tracks.len().max(n + 1), TrackLine::default);
    time_bases.resize(time_bases.len().max(n + 1), (1, 1));
    match name {
        "tb" => {
            let (num, den) = value.split_once('/').expect("a time base is a fraction");
            let int = |text: &str| text.parse().expect("a time base has two numbers");
            time_bases[n] = (int(num), int(den));
        }
        "media_type" => value.clone_into(&mut tracks[n].kind),
        "codec_id" => value.clone_into(&mut tracks[n].codec),
        _ => tracks[n].config = value.rsplit_once(' ').map(|(_, hash)| hash.to_owned()),
    }
}

/// `0,          0,         67,       33,     4048, b65528b2da79546cf960b509dcb13fff`
fn packet(tracks: &[TrackLine], time_bases: &[(i64, i64)], line: &str) -> Option<Packet> {
    let mut fields = line.split(',').map(str::trim);
    let stream: usize = fields.next()?.parse().ok()?;
    let (num, den) = *time_bases.get(stream)?;
    let mut time = || fields.next()?.parse::<i64>().ok().map(|ticks| ticks * num * 1_000_000 / den);
    let (dts_us, pts_us, _duration) = (time(), time(), time());
    let size = fields.next()?.parse().ok()?;
    let hash = fields.next()?.to_owned();
    Some(Packet { kind: tracks.get(stream)?.kind.clone(), stream, pts_us, dts_us, size, key: false, hash })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ffmpeg_writes() {
        let text = "#format: frame checksums\n#version: 2\n#hash: MD5\n\
                    #extradata 0,                              45, ea49\n#software: Lavf63.1.102\n\
                    #tb 0: 1/1000\n#media_type 0: video\n#codec_id 0: h264\n#dimensions 0: 320x180\n#sar 0: 1/1\n\
                    #tb 1: 1/1000\n#media_type 1: audio\n#codec_id 1: aac\n#sample_rate 1: 48000\n\
                    #stream#, dts,        pts, duration,     size, hash\n\
                    0,          0,         67,       33,     4048, b655\n\
                    1,        -46,        -46,       21,      132, ff8f\n";
        let listing = decode(text);
        let video = TrackLine { kind: "video".into(), codec: "h264".into(), config: Some("ea49".into()) };
        let audio = TrackLine { kind: "audio".into(), codec: "aac".into(), config: None };
        assert_eq!(listing.tracks, [video, audio]);
        let fields = |p: &Packet| (p.kind.clone(), p.dts_us, p.pts_us, p.size, p.hash.clone());
        let first = ("video".to_owned(), Some(0), Some(67_000), 4_048, "b655".to_owned());
        let second = ("audio".to_owned(), Some(-46_000), Some(-46_000), 132, "ff8f".to_owned());
        assert_eq!(listing.packets.iter().map(fields).collect::<Vec<_>>(), [first, second]);
        let mut sound = listing;
        sound.keep_tracks(&[1]);
        assert_eq!((sound.tracks.len(), sound.packets.len(), sound.packets[0].stream), (1, 1, 0));
    }

    #[test]
    #[should_panic(expected = "not a line of framehash")]
    fn anything_else_is_refused() {
        let _ = decode("Connection refused\n");
    }
}
