//! The synthetic stream is one that real decoders accept.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use arcly_core::{CodecConfig, MediaFrame, TrackId};
use arcly_testkit::media::Source;
use arcly_testkit::{need, process};

const LIMIT: Duration = Duration::from_secs(60);

/// Pictures with start codes, parameter sets before each keyframe.
fn annex_b(source: &Source, frames: &[MediaFrame]) -> Vec<u8> {
    let tracks = source.tracks();
    let Some(CodecConfig::Avc(avc)) = tracks.get(TrackId::VIDEO).map(|track| &track.config) else {
        panic!("no H.264 track");
    };
    let mut out = Vec::new();
    for frame in frames.iter().filter(|frame| frame.track == TrackId::VIDEO) {
        if frame.is_keyframe() {
            for set in avc.sps.iter().chain(&avc.pps) {
                out.extend([0, 0, 0, 1]);
                out.extend_from_slice(set);
            }
        }
        let mut rest = &frame.payload[..];
        while let Some((len, tail)) = rest.split_first_chunk::<4>() {
            let (nal, tail) = tail.split_at(u32::from_be_bytes(*len) as usize);
            out.extend([0, 0, 0, 1]);
            out.extend_from_slice(nal);
            rest = tail;
        }
    }
    out
}

/// AAC frames behind ADTS headers: LC, 48 kHz, stereo.
fn adts(frames: &[MediaFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    for frame in frames.iter().filter(|frame| frame.track == TrackId::AUDIO) {
        let len = frame.payload.len() + 7;
        out.extend([
            0xFF,
            0xF1,
            0x4C,
            0x80 | (len >> 11) as u8,
            (len >> 3) as u8,
            (len << 5) as u8 | 0x1F,
            0xFC,
        ]);
        out.extend_from_slice(&frame.payload);
    }
    out
}

fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).expect("the target folder is writable");
    path
}

#[test]
fn ffmpeg_decodes_every_picture_and_every_sound() {
    let ffmpeg = need!(ffmpeg);
    let ffprobe = need!(ffprobe);
    for padding in [0, 300, 20_000] {
        let source = Source::h264_aac().with_pictures_of(padding);
        let frames = source.clone().seconds(3);
        let picture = write(&format!("synthetic-{padding}.h264"), &annex_b(&source, &frames));
        let sound = write(&format!("synthetic-{padding}.aac"), &adts(&frames));
        let strict = ["-v", "error", "-xerror", "-err_detect", "explode"];
        let mut decode = Command::new(&ffmpeg);
        decode
            .args(strict)
            .arg("-i")
            .arg(&picture)
            .arg("-i")
            .arg(&sound)
            .args(["-map", "0", "-map", "1", "-f", "null", "-"]);
        process::run_ok(&mut decode, LIMIT);

        let mut count = Command::new(&ffprobe);
        count.args([
            "-v",
            "error",
            "-count_frames",
            "-show_entries",
            "stream=profile,width,height,has_b_frames,nb_read_frames",
        ]);
        let said = process::run_ok(count.args(["-of", "csv=p=0"]).arg(&picture), LIMIT);
        assert_eq!(said.trim(), "High,64,36,1,75", "three seconds of pictures with {padding} bytes each");
    }
}
