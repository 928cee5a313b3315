//! MP4 as FFmpeg reads it, and as FFmpeg and GStreamer write it.

mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use arcly_core::track::TrackParams;
use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timestamp, Track, TrackId, TrackSet};
use arcly_mux::fmp4::FileOptions;
use arcly_mux::live::{self, Segmenter};
use arcly_testkit::clips::{self, Clip};
use arcly_testkit::ffprobe::{self, Packet};
use arcly_testkit::{need, process};

use support::{assert_frames, assert_sound_is_even, fragmented, minute, read_flv, read_mp4, written};

/// Decodes everything, and takes any complaint for a failure.
fn decode(ffmpeg: &Path, file: &Path) {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-i"]).arg(file);
    let output = command.args(["-map", "0", "-f", "null", "-"]).output().expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{}: {said}", file.display());
}

/// Temporal delimiters have no place in MP4.
fn flags_of(frame: &MediaFrame) -> FrameFlags {
    frame.flags.difference(FrameFlags::DELIMITED)
}

/// What ffprobe reads of a file, at the times that its edit lists say. Left to itself FFmpeg edits: it moves the first picture to
/// where an edit begins that shows nothing at first, away from the sound, and drops sound behind the last edit.
fn unedited(probe: &Path, file: &Path) -> Vec<Packet> {
    ffprobe::packets_with(probe, &["-advanced_editlist", "0"], &file.to_string_lossy())
}

/// What a track is, as MP4 in fragments can say it: a frame rate that only FLV's metadata told is gone.
fn params(was: &Track, is: &Track) -> TrackParams {
    match (was.params, &is.params) {
        (TrackParams::Video(mut was), TrackParams::Video(is)) if is.frame_rate.is_none() => {
            was.frame_rate = None;
            TrackParams::Video(was)
        }
        (was, _) => was,
    }
}

/// A clip as fragments of `millis`, read back by ffprobe and decoded by `ffmpeg`.
fn check(clip: Clip, encoder: &Path, ffmpeg: &Path, probe: &Path, millis: i64) {
    let (tracks, frames) = read_flv(&clip.file(encoder));
    assert!(!frames.is_empty(), "{} has frames", clip.name);
    let bytes = fragmented(&tracks, &frames, TimeDelta::from_millis(millis));
    let file = format!("{}-{millis}.fragmented.mp4", clip.name);
    check_bytes(&bytes, &file, (&tracks, &frames), (ffmpeg, probe));
}

fn check_bytes(
    bytes: &[u8],
    file: &str,
    (tracks, frames): (&TrackSet, &[MediaFrame]),
    (ffmpeg, probe): (&Path, &Path),
) {
    let file = clips::scratch().join(file);
    std::fs::write(&file, bytes).expect("a file");
    let (back, read) = read_mp4(bytes, true, 1_013);
    assert_eq!(back.len(), tracks.len());
    for track in tracks {
        let payloads = |frames: &[MediaFrame]| -> Vec<_> {
            let mine = frames.iter().filter(|frame| frame.track == track.id);
            mine.map(|frame| (frame.payload.clone(), flags_of(frame), frame.pts - frame.dts)).collect()
        };
        assert!(payloads(&read) == payloads(frames), "{} comes back as it was", track.codec);
        let (was, is) = (track, back.get(track.id).expect("the track"));
        assert_eq!((&was.config, &params(was, is)), (&is.config, &is.params));
    }
    let first = frames.iter().map(|frame| frame.pts).min().expect("frames");
    let packets = ffprobe::packets(probe, &file.to_string_lossy());
    // Sound that was rounded to milliseconds gets its own times back.
    assert_frames(tracks, frames, &packets, (TimeDelta(-first.0), 1_000));
    assert_sound_is_even(tracks, frames, &packets);
    decode(ffmpeg, &file);
}

const MIXES: [Clip; 7] = [
    clips::H264_AAC,
    clips::H264_MP3,
    clips::HEVC_AAC,
    clips::AV1_OPUS,
    clips::VP9_OPUS,
    clips::H264_FLAC,
    clips::MULTITRACK,
];

#[test]
fn m33_a_minute_of_seven_mixes_of_codecs() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    std::thread::scope(|threads| {
        for clip in MIXES {
            let programs = (ffmpeg9.as_path(), probe.as_path());
            threads.spawn(move || {
                let (tracks, frames) = minute(clip, programs.0);
                let bytes = fragmented(&tracks, &frames, TimeDelta::from_millis(1_000));
                let file = format!("{}-minute.fragmented.mp4", clip.name);
                check_bytes(&bytes, &file, (&tracks, &frames), programs);
            });
        }
    });
}

/// Every rendition of HLS: its initialisation segment and all of its segments, as a player puts them together.
#[test]
fn m33_a_minute_of_seven_mixes_of_codecs_in_segments_of_hls() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    std::thread::scope(|threads| {
        for clip in MIXES {
            let programs = (ffmpeg9.as_path(), probe.as_path());
            threads.spawn(move || check_segments(clip, programs));
        }
    });
}

fn check_segments(clip: Clip, (ffmpeg, probe): (&Path, &Path)) {
    let (tracks, frames) = minute(clip, ffmpeg);
    let config = live::Config { window: TimeDelta::from_millis(120_000), ..live::Config::default() };
    let mut segmenter = Segmenter::new(config, None, None);
    segmenter.set_tracks(&tracks);
    for frame in &frames {
        let since = (frame.dts - Timestamp::ZERO).to_duration();
        segmenter.push(SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since, frame);
    }
    segmenter.end();
    for track in &tracks {
        let view = segmenter.view(track.id).expect("a rendition");
        assert_eq!(view.listed().first().map(|first| first.msn), Some(0), "all of it is kept");
        let segments = view.listed().iter().flat_map(|segment| &segment.parts).map(|part| &part.bytes[..]);
        let init = view.newest_init().expect("one").bytes.clone();
        let bytes = core::iter::once(&init[..]).chain(segments).collect::<Vec<_>>().concat();
        let file = clips::scratch().join(format!("{}-{}.rendition.mp4", clip.name, track.id));
        std::fs::write(&file, &bytes).expect("a file");
        let packets = ffprobe::packets(probe, &file.to_string_lossy());
        let mine: Vec<_> = frames.iter().filter(|frame| frame.track == track.id).cloned().collect();
        let alone = TrackSet::new([track.clone()]);
        // Renditions keep the stream's own times.
        assert_frames(&alone, &mine, &packets, (TimeDelta::ZERO, 1_000));
        assert_sound_is_even(&alone, &mine, &packets);
        decode(ffmpeg, &file);
    }
}

#[test]
fn m33_ffprobe_reads_what_went_in() {
    let (ffmpeg, probe) = (need!(ffmpeg), need!(ffprobe));
    for clip in [clips::H264_AAC, clips::H264_MP3, clips::AAC_ONLY, clips::H264_ONLY] {
        for millis in [200, 1_500, 60_000] {
            check(clip, &ffmpeg, &ffmpeg, &probe, millis);
        }
    }
}

#[test]
fn m33_ffprobe_reads_what_went_in_of_newer_codecs() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    for clip in [
        clips::HEVC_AAC,
        clips::AV1_OPUS,
        clips::VP9_OPUS,
        clips::H264_FLAC,
        clips::H264_AC3,
        clips::H264_EAC3,
        clips::MULTITRACK,
        clips::VVC_AAC,
    ] {
        check(clip, &ffmpeg9, &ffmpeg9, &probe, 1_000);
    }
}

/// A clip as a file, finished and not, read by ffprobe and decoded by `ffmpeg`.
fn check_file(clip: Clip, encoder: &Path, ffmpeg: &Path, probe: &Path) {
    let (tracks, frames) = read_flv(&clip.file(encoder));
    let (unfinished, finished) = written(&tracks, &frames, FileOptions::default());
    let (_, back) = read_mp4(&finished, false, 1 << 20);
    for track in &tracks {
        let payloads = |frames: &[MediaFrame]| -> Vec<_> {
            let mine = frames.iter().filter(|frame| frame.track == track.id);
            mine.map(|frame| (frame.payload.clone(), flags_of(frame), frame.pts - frame.dts)).collect()
        };
        assert!(payloads(&back) == payloads(&frames), "{} comes back as it was", track.codec);
    }
    let first = frames.iter().map(|frame| frame.pts).min().expect("frames");
    for (name, bytes) in [("unfinished", unfinished), ("finished", finished)] {
        let path = clips::scratch().join(format!("{}-{name}.mp4", clip.name));
        std::fs::write(&path, &bytes).expect("a file");
        let packets = ffprobe::packets(probe, &path.to_string_lossy());
        if name == "finished" {
            assert_frames(&tracks, &frames, &packets, (TimeDelta(-first.0), 1_000));
            assert_sound_is_even(&tracks, &frames, &packets);
        } else {
            let lost = frames.len() - packets.len();
            assert!(lost > 0 && lost < 90, "{lost} frames were not written yet");
        }
        decode(ffmpeg, &path);
        // From the middle: a plain player seeks.
        let mut seek = Command::new(ffmpeg);
        seek.args(["-v", "warning", "-xerror", "-ss", "1.7", "-i"]).arg(&path);
        process::run_ok(seek.args(["-frames:v", "3", "-f", "null", "-"]), Duration::from_secs(60));
    }
}

#[test]
fn m33_finished_files() {
    let (ffmpeg, ffmpeg9, probe) = (need!(ffmpeg), need!(ffmpeg9), need!(ffprobe));
    for clip in [clips::H264_AAC, clips::H264_MP3, clips::AAC_ONLY] {
        check_file(clip, &ffmpeg, &ffmpeg, &probe);
    }
    for clip in [clips::HEVC_AAC, clips::AV1_OPUS, clips::VP9_OPUS, clips::H264_FLAC, clips::MULTITRACK] {
        check_file(clip, &ffmpeg9, &ffmpeg9, &probe);
    }
}

/// A clip as MP4 by FFmpeg: how, and whether `moov` comes first.
const FFMPEG_FLAGS: &[(&str, &str, bool)] = &[
    ("plain", "", false),
    ("faststart", "+faststart", true),
    ("fragments", "+frag_keyframe+empty_moov+default_base_moof", true),
    ("offsets", "+frag_keyframe+empty_moov", true),
    ("legacy", "+frag_keyframe+empty_moov+omit_tfhd_offset+separate_moof", true),
    ("hybrid", "+frag_keyframe", true),
    ("negative", "+negative_cts_offsets", false),
    ("cmaf", "+cmaf+frag_keyframe", true),
    ("every_frame", "+frag_every_frame+empty_moov+default_base_moof", true),
];

/// Files by FFmpeg are read packet for packet as its own ffprobe reads them.
fn check_reading(clip: Clip, encoder: &Path, probe: &Path, flags: &[(&str, &str, bool)]) {
    for (name, flags, moov_first) in flags {
        let path = clips::scratch().join(format!("{}-{name}.mp4", clip.name));
        let mut command = Command::new(encoder);
        command.args(["-hide_banner", "-nostdin", "-v", "error", "-y", "-i"]).arg(clip.file(encoder));
        command.args(["-map", "0", "-c", "copy", "-strict", "-2"]);
        // FFmpeg looks into packets for what the sample entries of AC-3 have to say.
        let delay = if clip.name.ends_with("ac3") { "+delay_moov" } else { "" };
        if clip.name.starts_with("vvc") {
            // Its encoder puts into the first access unit what the file says once for all, and a delimiter.
            command.args(["-bsf:v", "filter_units=remove_types=14-16|20"]);
        }
        if !flags.is_empty() {
            command.args(["-movflags", &format!("{flags}{delay}")]);
        }
        process::run_ok(command.arg(&path), Duration::from_secs(60));
        let file = std::fs::read(&path).expect("the file");
        let (tracks, mut frames) = read_mp4(&file, *moov_first, 4_096);
        let packets = unedited(probe, &path);
        if *name == "cmaf" {
            show_late(&mut frames);
        }
        eprintln!("{} {name}: {} frames", clip.name, frames.len());
        assert_frames(&tracks, &frames, &packets, (TimeDelta::ZERO, 1));
    }
}

/// Offsets below zero in fragments: the first picture is shown at the time of its `tfdt` (ISO/IEC 14496-12 8.8.12), which
/// needs decode times before it. FFmpeg moves presentation instead, away from the sound.
fn show_late(frames: &mut [MediaFrame]) {
    let mut video = frames.iter_mut().filter(|frame| frame.track == TrackId::VIDEO).peekable();
    let late = video.peek().map_or(TimeDelta::ZERO, |first| first.pts - first.dts);
    assert!(video.peek().is_none_or(|first| first.pts == Timestamp::ZERO), "shown at zero");
    for frame in video {
        (frame.dts, frame.pts) = (frame.dts + late, frame.pts + late);
    }
}

#[test]
fn m33_files_of_ffmpeg_5() {
    let (ffmpeg, probe) = (need!(ffmpeg), need!(ffprobe));
    check_reading(clips::H264_AAC, &ffmpeg, &probe, FFMPEG_FLAGS);
    for clip in [clips::H264_MP3, clips::AAC_ONLY, clips::H264_ONLY] {
        check_reading(clip, &ffmpeg, &probe, &FFMPEG_FLAGS[..3]);
    }
}

#[test]
fn m33_files_of_ffmpeg_9() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    check_reading(clips::HEVC_AAC, &ffmpeg9, &probe, FFMPEG_FLAGS);
    for clip in [
        clips::AV1_OPUS,
        clips::VP9_OPUS,
        clips::H264_FLAC,
        clips::H264_AC3,
        clips::H264_EAC3,
        clips::MULTITRACK,
        clips::VVC_AAC,
    ] {
        check_reading(clip, &ffmpeg9, &probe, &FFMPEG_FLAGS[..3]);
    }
}

/// GStreamer's muxer, plain and in fragments.
#[test]
fn m33_files_of_gstreamer() {
    let (ffmpeg, probe, gst) = (need!(ffmpeg), need!(ffprobe), need!(gst_launch));
    let source = clips::H264_AAC.file(&ffmpeg);
    for (name, mux, moov_first) in [
        ("plain", "mp4mux name=mux", false),
        ("faststart", "mp4mux name=mux faststart=true", true),
        ("fragments", "mp4mux name=mux fragment-duration=500 streamable=true", true),
        ("mfra", "mp4mux name=mux fragment-duration=1000", true),
        ("quicktime", "qtmux name=mux", false),
    ] {
        let path = clips::scratch().join(format!("gstreamer-{name}.mp4"));
        let pipeline = format!(
            "filesrc location={} ! flvdemux name=demux {mux} ! filesink location={} \
             demux.video ! queue ! h264parse ! mux. demux.audio ! queue ! aacparse ! mux.",
            source.display(),
            path.display()
        );
        let mut command = Command::new(&gst);
        process::run_ok(command.arg("-q").args(pipeline.split_whitespace()), Duration::from_secs(60));
        let file = std::fs::read(&path).expect("the file");
        let (tracks, frames) = read_mp4(&file, moov_first, 10_000);
        let packets = unedited(&probe, &path);
        eprintln!("{name}: {} frames", frames.len());
        assert_frames(&tracks, &frames, &packets, (TimeDelta::ZERO, 1));
    }
}
