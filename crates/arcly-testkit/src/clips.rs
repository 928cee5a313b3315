//! Short files in every codec that FLV carries, encoded by FFmpeg once and kept under `target/interop`.
//!
//! They are FLV, so that their times are whole milliseconds and survive RTMP unchanged.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::process;

const LIMIT: Duration = Duration::from_secs(120);
const PICTURE: &str = "testsrc2=size=320x180:rate=30";
const SOUND: &str = "sine=frequency=440:sample_rate=48000";

/// What is in a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Its name, and that of its file.
    pub name: &'static str,
    /// How long it is, in seconds.
    pub seconds: u32,
    encode: &'static [&'static str],
}

const X264: &[&str] =
    &["-c:v", "libx264", "-preset", "veryfast", "-profile:v", "high", "-g", "45", "-bf", "2"];

macro_rules! clip {
    ($name:literal, $seconds:literal, [$($arg:literal),* $(,)?]) => {
        Clip { name: $name, seconds: $seconds, encode: &[$($arg),*] }
    };
}

/// H.264 High with B-frames, and AAC stereo. A keyframe each 1.5 s.
pub const H264_AAC: Clip = clip!("h264_aac", 4, ["x264", "-c:a", "aac", "-b:a", "64k", "-ac", "2"]);
/// The same with a single keyframe: who comes late gets all of it.
pub const ONE_GOP: Clip = clip!(
    "h264_aac_one_gop",
    4,
    ["x264", "-g", "999", "-sc_threshold", "0", "-c:a", "aac", "-b:a", "64k", "-ac", "2"]
);
/// The same at 12 s, for readers that come and go.
pub const LONG: Clip = clip!("h264_aac_long", 12, ["x264", "-c:a", "aac", "-b:a", "64k", "-ac", "2"]);
/// H.264 and MP3 at 44.1 kHz, whose frames last 26.12 ms.
pub const H264_MP3: Clip = clip!("h264_mp3", 3, ["x264", "-c:a", "libmp3lame", "-ar", "44100", "-ac", "2"]);
/// AAC alone.
pub const AAC_ONLY: Clip = clip!("aac_only", 3, ["-map", "1", "-c:a", "aac", "-ac", "2"]);
/// H.264 alone.
pub const H264_ONLY: Clip = clip!("h264_only", 3, ["-map", "0", "x264"]);
/// H.264 without B-frames, alone: what WebRTC carries as it is. A keyframe each second.
pub const H264_BASELINE: Clip = clip!(
    "h264_baseline",
    6,
    ["-map", "0", "-c:v", "libx264", "-preset", "veryfast", "-profile:v", "baseline", "-g", "30", "-bf", "0"]
);

/// HEVC with B-frames, and AAC. This one and the following need Enhanced FLV.
pub const HEVC_AAC: Clip = clip!(
    "hevc_aac",
    3,
    [
        "-c:v",
        "libx265",
        "-preset",
        "ultrafast",
        "-x265-params",
        "log-level=error:keyint=45:bframes=2",
        "-c:a",
        "aac"
    ]
);
/// AV1 and Opus.
pub const AV1_OPUS: Clip =
    clip!("av1_opus", 3, ["-c:v", "libsvtav1", "-preset", "12", "-g", "45", "-c:a", "libopus"]);
/// VP9 and Opus.
pub const VP9_OPUS: Clip = clip!(
    "vp9_opus",
    3,
    [
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        "-cpu-used",
        "8",
        "-g",
        "45",
        "-c:a",
        "libopus",
        "-ac",
        "2"
    ]
);
/// VVC and AAC.
pub const VVC_AAC: Clip =
    clip!("vvc_aac", 2, ["-c:v", "libvvenc", "-preset", "faster", "-pix_fmt", "yuv420p10", "-c:a", "aac"]);
/// H.264 and FLAC.
pub const H264_FLAC: Clip = clip!("h264_flac", 2, ["x264", "-c:a", "flac"]);
/// H.264 and AC-3.
pub const H264_AC3: Clip = clip!("h264_ac3", 2, ["x264", "-c:a", "ac3"]);
/// H.264 and E-AC-3.
pub const H264_EAC3: Clip = clip!("h264_eac3", 2, ["x264", "-c:a", "eac3"]);
/// Two H.264 and two AAC tracks.
pub const MULTITRACK: Clip = clip!(
    "multitrack",
    3,
    [
        "-map", "0", "-map", "0", "-map", "1", "-map", "2", "x264", "-s:v:1", "160x90", "-c:a", "aac",
        "-b:a", "64k"
    ]
);

impl Clip {
    /// Its file, encoded with `ffmpeg` unless it is there.
    ///
    /// # Panics
    /// When FFmpeg fails, or the folder cannot be written.
    #[must_use]
    pub fn file(self, ffmpeg: &Path) -> PathBuf {
        // Two tests that need a clip encode it once; two test programs do not run at the same time.
        static ENCODING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = ENCODING.lock().unwrap_or_else(PoisonError::into_inner);
        let args = self.arguments();
        let mut hasher = DefaultHasher::new();
        (&args, ffmpeg).hash(&mut hasher);
        // A recipe that changes makes a file of another name.
        let path = folder().join(format!("{}-{:08x}.flv", self.name, hasher.finish() & 0xFFFF_FFFF));
        if !path.is_file() {
            let unfinished = path.with_extension("part");
            process::run_ok(Command::new(ffmpeg).args(args).arg(&unfinished), LIMIT);
            std::fs::rename(&unfinished, &path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        path
    }

    fn arguments(self) -> Vec<String> {
        let mut args = vec!["-hide_banner", "-nostdin", "-v", "error", "-y"];
        let second_sound = "sine=frequency=880:sample_rate=48000";
        for source in [PICTURE, SOUND, second_sound] {
            args.extend(["-f", "lavfi", "-i", source]);
        }
        let seconds = self.seconds.to_string();
        args.extend(["-t", &seconds, "-pix_fmt", "yuv420p"]);
        let has_map = self.encode.contains(&"-map");
        if !has_map {
            args.extend(["-map", "0", "-map", "1"]);
        }
        for arg in self.encode {
            if *arg == "x264" { args.extend(X264) } else { args.push(arg) }
        }
        args.extend(["-f", "flv"]);
        args.into_iter().map(str::to_owned).collect()
    }
}

/// A folder of the test that asks, where it leaves what it made and received: of its program, and its own name.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn scratch() -> PathBuf {
    let program = std::env::current_exe().ok();
    let program =
        program.as_deref().and_then(Path::file_stem).map(|name| name.to_string_lossy().into_owned());
    let program =
        program.as_deref().map_or("test", |name| name.rsplit_once('-').map_or(name, |(name, _)| name));
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("main").replace("::", "-");
    let scratch = folder().join(program).join(test);
    std::fs::create_dir_all(&scratch).unwrap_or_else(|error| panic!("{}: {error}", scratch.display()));
    scratch
}

/// Where clips are kept, and the folders of tests are.
///
/// # Panics
/// When it cannot be made.
#[must_use]
pub fn folder() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    let folder = target.unwrap_or_else(default).join("interop");
    std::fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder.canonicalize().unwrap_or(folder)
}
