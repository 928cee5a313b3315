//! `demo-clip`: the test stream that `arcly demo` loops, made from FFmpeg's own generators.
//!
//! The loop has no seam. 9.6 s are 240 pictures at 25 fps (five closed GOPs of 48) and exactly 450 AAC frames
//! of 1 024 samples at 48 kHz; every movement and every tone has a period that divides 9.6 s; and the sound is
//! taken from the middle of three encoded rounds, so that its first frame continues its last. There are no B-frames, which WebRTC
//! has no place for: whoever plays it by WHEP would see two pictures of three left out.

use std::fs;
use std::process::Command;

use crate::run::{Result, no_more, root, run};
use crate::tools::on_path;

const CLIP: &str = "crates/arcly-server/assets/demo.flv";
const PICTURES: &str = "240";
const AAC_FRAMES: &str = "450";
const LOOP_SECONDS: &str = "9.6";

/// Colour bars, a square on a Lissajous path, a hand that crosses once per round, a flash at each GOP's start.
const PICTURE: &str = "
[0]drawbox=x=0:y=232:w=640:h=128:color=0x101820:t=fill[bars];
[bars][1]overlay=x='308+290*cos(2*PI*t/4.8)':y='104+90*sin(2*PI*t/1.92)'[square];
[square][2]overlay=x='mod(t/9.6*640,640)':y=320[hand];
[hand][3]overlay=x=564:y=252:enable='lt(mod(n,48),3)'[flash];
[flash]drawtext=font='DejaVu Sans Mono':timecode='00\\:00\\:00\\:00':rate=25:fontsize=40:fontcolor=white:x=24:y=252,
drawtext=font='DejaVu Sans Mono':text='arcly demo':fontsize=24:fontcolor=0xE8B020:x=380:y=262,
format=yuv420p[v]";

/// A quiet chord, a different note on each side, and a beep of 120 ms with the flash.
const SOUND: &str = "aevalsrc=s=48000:d=28.8:exprs='\
0.05*sin(2*PI*220*t)+0.25*sin(2*PI*1000*t)*lt(mod(t,1.92),0.12)|\
0.05*sin(2*PI*275*t)+0.25*sin(2*PI*1000*t)*lt(mod(t,1.92),0.12)'";

/// Muxers and encoders leave out versions and dates, so that the same FFmpeg makes the same bytes.
const BIT_EXACT: [&str; 4] = ["-flags", "+bitexact", "-fflags", "+bitexact"];

pub(crate) fn main(args: &[String]) -> Result {
    no_more(args)?;
    let ffmpeg = on_path("ffmpeg").ok_or("ffmpeg is not installed")?;
    let work = root().join("target/demo-clip");
    let clip = root().join(CLIP);
    for dir in [work.as_path(), clip.parent().unwrap_or(&work)] {
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let pass = |args: &[&str], to: &std::path::Path| {
        let mut command = Command::new(&ffmpeg);
        command.current_dir(&work).args(["-v", "error", "-y"]).args(args).args(BIT_EXACT).arg(to);
        run(&mut command)
    };
    pass(&picture_args(), &work.join("picture.nut"))?;
    pass(&["-f", "lavfi", "-i", SOUND, "-c:a", "aac", "-b:a", "96k"], &work.join("rounds.nut"))?;
    let middle = ["-i", "rounds.nut", "-ss", LOOP_SECONDS, "-c", "copy", "-frames:a", AAC_FRAMES];
    pass(&middle, &work.join("sound.nut"))?;
    pass(&["-i", "picture.nut", "-i", "sound.nut", "-map", "0:v", "-map", "1:a", "-c", "copy"], &clip)?;
    let size = fs::metadata(&clip).map_err(|e| format!("{}: {e}", clip.display()))?.len();
    println!("{CLIP}: {size} bytes");
    Ok(())
}

fn picture_args() -> Vec<&'static str> {
    let mut args = Vec::new();
    let sources = [
        "smptehdbars=size=640x360:rate=25",
        "color=c=white:size=24x24:rate=25",
        "color=c=0xE8B020:size=6x40:rate=25",
        "color=c=white:size=56x56:rate=25",
    ];
    sources.iter().for_each(|source| args.extend(["-f", "lavfi", "-i", source]));
    args.extend(["-filter_complex", PICTURE, "-map", "[v]", "-frames:v", PICTURES]);
    args.extend(["-c:v", "libx264", "-profile:v", "high", "-preset", "veryslow", "-crf", "18", "-bf", "0"]);
    args.extend(["-g", "48", "-keyint_min", "48", "-sc_threshold", "0"]);
    args.extend(["-x264-params", "open-gop=0:threads=1"]);
    args
}
