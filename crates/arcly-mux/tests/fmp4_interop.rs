//! Fragmented MP4 as FFmpeg reads it.

mod support;

use std::path::Path;
use std::process::Command;

use arcly_core::TimeDelta;
use arcly_testkit::clips::{self, Clip};
use arcly_testkit::{ffprobe, need};

use support::{assert_frames, fragmented, read_flv};

/// Decodes everything, and takes any complaint for a failure.
fn decode(ffmpeg: &Path, file: &Path) {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-i"]).arg(file);
    let output = command.args(["-map", "0", "-f", "null", "-"]).output().expect("ffmpeg runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{}: {said}", file.display());
}

/// A clip as fragments of `millis`, read back by ffprobe and decoded by `ffmpeg`.
fn check(clip: Clip, encoder: &Path, ffmpeg: &Path, probe: &Path, millis: i64) {
    let (tracks, frames) = read_flv(&clip.file(encoder));
    assert!(!frames.is_empty(), "{} has frames", clip.name);
    let file = clips::folder().join(format!("{}-{millis}.fragmented.mp4", clip.name));
    std::fs::write(&file, fragmented(&tracks, &frames, TimeDelta::from_millis(millis))).expect("a file");
    let first = frames.iter().map(|frame| frame.pts).min().expect("frames");
    let packets = ffprobe::packets(probe, &file.to_string_lossy());
    assert_frames(&tracks, &frames, &packets, TimeDelta(-first.0));
    decode(ffmpeg, &file);
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
