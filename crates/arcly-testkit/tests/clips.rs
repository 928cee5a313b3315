//! The clips hold what they say, and a listing of one equals itself only.

use arcly_testkit::clips::{self, Clip};
use arcly_testkit::ffprobe::{Times, assert_same};
use arcly_testkit::{framehash, need};

fn codecs(clip: Clip, ffmpeg: &std::path::Path) -> Vec<String> {
    let listing = framehash::of_file(ffmpeg, &clip.file(ffmpeg));
    assert!(listing.packets.len() as u32 > clip.seconds * 40, "{} has {}", clip.name, listing.packets.len());
    listing.tracks.into_iter().map(|track| track.codec).collect()
}

#[test]
fn legacy_clips_have_their_codecs() {
    let ffmpeg = need!(ffmpeg);
    assert_eq!(codecs(clips::H264_AAC, &ffmpeg), ["h264", "aac"]);
    assert_eq!(codecs(clips::H264_MP3, &ffmpeg), ["h264", "mp3"]);
    assert_eq!(codecs(clips::AAC_ONLY, &ffmpeg), ["aac"]);
}

#[test]
fn enhanced_clips_have_their_codecs() {
    let ffmpeg = need!(ffmpeg9);
    assert_eq!(codecs(clips::HEVC_AAC, &ffmpeg), ["hevc", "aac"]);
    assert_eq!(codecs(clips::AV1_OPUS, &ffmpeg), ["av1", "opus"]);
    assert_eq!(codecs(clips::VP9_OPUS, &ffmpeg), ["vp9", "opus"]);
    assert_eq!(codecs(clips::MULTITRACK, &ffmpeg), ["h264", "h264", "aac", "aac"]);
}

#[test]
fn two_ffmpegs_see_the_same_packets() {
    let (old, new) = (need!(ffmpeg), need!(ffmpeg9));
    let file = clips::H264_AAC.file(&old);
    let (a, b) = (framehash::of_file(&old, &file), framehash::of_file(&new, &file));
    assert_eq!(a.tracks, b.tracks);
    assert_same(&a.packets, &b.packets, Times::Equal);
    let without_one = [&b.packets[..50], &b.packets[51..]].concat();
    assert!(std::panic::catch_unwind(|| assert_same(&a.packets, &without_one, Times::Shifted)).is_err());
}
