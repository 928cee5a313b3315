//! MPEG-TS as FFmpeg and GStreamer write it and read it.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use arcly_codec::nal::put_length_prefixed;
use arcly_core::{
    CodecConfig, CodecId, MediaEvent, MediaFrame, Timescale, Timestamp, TrackId, TrackKind, TrackSet,
};
use arcly_mux::ts::{Counters, Demuxer, Muxer, ORIGIN};
use arcly_testkit::clips::{self, Clip};
use arcly_testkit::ffprobe::{self, Packet};
use arcly_testkit::{need, process};
use bytes::{Bytes, BytesMut};

use support::{minute, read_flv};

const LIMIT: Duration = Duration::from_secs(60);

/// A file of this name among those that the test leaves.
fn path(name: &str) -> PathBuf {
    clips::scratch().join(name)
}

fn demux(file: &Path) -> (TrackSet, Vec<MediaFrame>, Counters) {
    let data = std::fs::read(file).expect("a file");
    let (mut demuxer, mut tracks, mut frames) = (Demuxer::default(), TrackSet::default(), Vec::new());
    let mut take = |demuxer: &mut Demuxer| {
        while let Some(event) = demuxer.poll_event() {
            match event {
                MediaEvent::Tracks(set) => tracks = set,
                MediaEvent::Frame(frame) => frames.push(frame),
            }
        }
    };
    for piece in data.chunks(1_316) {
        demuxer.push(piece).expect("a transport stream");
        take(&mut demuxer);
    }
    demuxer.finish().expect("its end");
    take(&mut demuxer);
    (tracks, frames, demuxer.counters())
}

fn mux(tracks: &TrackSet, frames: &[MediaFrame]) -> BytesMut {
    let (mut muxer, mut out) = (Muxer::new(), BytesMut::new());
    muxer.set_tracks(tracks);
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    out
}

fn of(track: TrackId, frames: &[MediaFrame]) -> Vec<&MediaFrame> {
    frames.iter().filter(|frame| frame.track == track).collect()
}

/// A frame's payload as it comes back: what a record says in SEI stands before every keyframe of a transport stream.
fn as_carried(config: &CodecConfig, frame: &MediaFrame) -> Bytes {
    let CodecConfig::Hevc(config) = config else { return frame.payload.clone() };
    if !frame.is_keyframe() || config.sei.is_empty() {
        return frame.payload.clone();
    }
    let mut out = BytesMut::new();
    config.sei.iter().for_each(|unit| put_length_prefixed(unit, &mut out));
    out.extend_from_slice(&frame.payload);
    out.freeze()
}

/// The payloads of a track as they come back.
fn carried(tracks: &TrackSet, track: TrackId, frames: &[MediaFrame]) -> Vec<Bytes> {
    let config = tracks.get(track).map_or(&CodecConfig::None, |track| &track.config);
    of(track, frames).iter().map(|frame| as_carried(config, frame)).collect()
}

fn payloads(track: TrackId, frames: &[MediaFrame]) -> Vec<Bytes> {
    of(track, frames).iter().map(|frame| frame.payload.clone()).collect()
}

/// Bytes that a transport stream has before a frame.
fn added(codec: CodecId, config: &CodecConfig, frame: &MediaFrame) -> usize {
    let sets = |kinds: &[&[Bytes]]| -> usize {
        let sets = kinds.iter().flat_map(|sets| sets.iter());
        if frame.is_keyframe() { sets.map(|set| set.len() + 4).sum() } else { 0 }
    };
    match config {
        CodecConfig::Avc(c) => 6 + sets(&[&c.sps, &c.sps_ext, &c.pps]),
        CodecConfig::Hevc(c) => 7 + sets(&[&c.vps, &c.sps, &c.pps, &c.sei]),
        CodecConfig::Vvc(c) => 7 + sets(&[&c.dci, &c.vps, &c.sps, &c.pps]),
        _ if codec == CodecId::Aac => 7,
        _ => 0,
    }
}

/// Asserts that what ffprobe reads of a track is its frames. `sizes`: the file is ours, so that every byte is known.
fn assert_track(
    name: &str,
    frames: &[&MediaFrame],
    packets: &[&Packet],
    shift: i64,
    size: impl Fn(&MediaFrame) -> Option<usize>,
) {
    assert_eq!(frames.len(), packets.len(), "{name}: frames");
    // FFmpeg's parser of H.265 gives the zero byte before a start code to the access unit before: the first has one more.
    let is_cut_late =
        name.starts_with("hevc") && packets.first().is_some_and(|packet| packet.kind == "video");
    let zero_byte = |n: usize| usize::from(is_cut_late && n == 0);
    for (n, (frame, packet)) in frames.iter().zip(packets).enumerate() {
        // Ticks of 90 kHz, as ffprobe prints them: microseconds, cut off.
        let micros = |at: Timestamp| (at.to_ticks(Timescale::MPEG) + shift) * 1_000_000 / 90_000;
        let near = |us: Option<i64>, at| us.is_some_and(|us| (us - micros(at)).abs() <= 1);
        assert!(near(packet.pts_us, frame.pts), "{name}: pts of {n}: {packet:?} {:?}", micros(frame.pts));
        assert!(near(packet.dts_us, frame.dts), "{name}: dts of {n}: {packet:?} {:?}", micros(frame.dts));
        assert_eq!(packet.key, frame.is_keyframe(), "{name}: key of {n}: {packet:?}");
        if let Some(size) = size(frame) {
            assert_eq!(
                packet.size + zero_byte(frames.len() - 1 - n),
                size + zero_byte(n),
                "{name}: size of {n}"
            );
        }
    }
}

/// Decodes everything, and takes any complaint for a failure.
fn decode(ffmpeg: &Path, file: &Path) {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-i"]).arg(file);
    let output = process::run(command.args(["-map", "0", "-f", "null", "-"]), LIMIT);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.trim().is_empty(), "{}: {said}", file.display());
}

/// A clip through our muxer into ffprobe and a decoder: every packet is there, with its times and its size.
fn check_out(clip: Clip, encoder: &Path, ffmpeg: &Path, probe: &Path) {
    let media = read_flv(&clip.file(encoder));
    check_media(clip.name, &format!("{}.ours.ts", clip.name), &media, (ffmpeg, probe));
}

fn check_media(
    name: &str,
    file: &str,
    (tracks, frames): &(TrackSet, Vec<MediaFrame>),
    (ffmpeg, probe): (&Path, &Path),
) {
    let file = path(file);
    std::fs::write(&file, mux(tracks, frames)).expect("a file");
    let packets = ffprobe::packets(probe, &file.to_string_lossy());
    let listed = ffprobe::tracks(&packets);
    let mut ids: Vec<_> = tracks.iter().collect();
    ids.sort_by_key(|track| (track.kind(), track.id));
    assert_eq!(ids.len(), listed.len(), "{name}: tracks");
    let origin = ORIGIN.to_ticks(Timescale::MPEG);
    for (track, packets) in ids.iter().zip(&listed) {
        let size = |frame: &MediaFrame| Some(frame.payload.len() + added(track.codec, &track.config, frame));
        assert_track(name, &of(track.id, frames), packets, origin, size);
    }
    decode(ffmpeg, &file);
    // And back.
    let (_, back, counters) = demux(&file);
    assert_eq!(counters, Counters::default(), "{name}");
    for track in tracks {
        let same = carried(tracks, track.id, frames) == payloads(track.id, &back);
        assert!(same, "{name} track {}", track.id);
    }
}

#[test]
fn m33_a_minute_of_six_mixes_of_codecs() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    let mixes = [
        clips::H264_AAC,
        clips::H264_MP3,
        clips::HEVC_AAC,
        clips::H264_AC3,
        clips::H264_EAC3,
        clips::MULTITRACK,
    ];
    std::thread::scope(|threads| {
        for clip in mixes {
            let (ffmpeg9, probe) = (&ffmpeg9, &probe);
            threads.spawn(move || {
                let media = minute(clip, ffmpeg9);
                check_media(clip.name, &format!("{}.minute.ts", clip.name), &media, (ffmpeg9, probe));
            });
        }
    });
}

#[test]
fn m33_ffprobe_reads_what_went_in() {
    let (ffmpeg, probe) = (need!(ffmpeg), need!(ffprobe));
    for clip in [clips::H264_AAC, clips::H264_MP3, clips::AAC_ONLY, clips::H264_ONLY] {
        check_out(clip, &ffmpeg, &ffmpeg, &probe);
    }
}

#[test]
fn m33_ffprobe_reads_what_went_in_of_newer_codecs() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    for clip in [clips::HEVC_AAC, clips::H264_AC3, clips::H264_EAC3, clips::MULTITRACK] {
        check_out(clip, &ffmpeg9, &ffmpeg9, &probe);
    }
}

/// A file of FFmpeg through our demuxer: what ffprobe reads of it, and what the clip holds that it was made of.
fn check_in(clip: Clip, encoder: &Path, ffmpeg: &Path, probe: &Path, options: &[&str]) {
    let source = clip.file(encoder);
    let file = path(&format!("{}.{}.ts", clip.name, options.concat().replace(['-', ':'], "")));
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-y", "-i"]).arg(&source);
    process::run_ok(
        command.args(["-map", "0", "-c", "copy"]).args(options).args(["-f", "mpegts"]).arg(&file),
        LIMIT,
    );
    let (tracks, frames, counters) = demux(&file);
    assert_eq!(counters, Counters::default(), "{}", clip.name);
    assert_listed(&file.to_string_lossy(), &file, probe, &tracks, &frames);
    let (sent_tracks, sent) = read_flv(&source);
    for kind in [TrackKind::Video, TrackKind::Audio] {
        let ids = |set: &TrackSet| -> Vec<TrackId> {
            set.iter().filter(|track| track.kind() == kind).map(|track| track.id).collect()
        };
        for (ours, theirs) in ids(&tracks).into_iter().zip(ids(&sent_tracks)) {
            let (got, sent) = (payloads(ours, &frames), carried(&sent_tracks, theirs, &sent));
            assert_eq!(got.len(), sent.len(), "{}: {kind} frames", clip.name);
            let first = got.iter().zip(&sent).position(|(got, sent)| got != sent);
            assert_eq!(first, None, "{}: {kind} frame that differs", clip.name);
        }
    }
}

/// Asserts that our frames of a file are the packets that ffprobe finds in it.
fn assert_listed(name: &str, file: &Path, probe: &Path, tracks: &TrackSet, frames: &[MediaFrame]) {
    let packets = ffprobe::packets(probe, &file.to_string_lossy());
    let listed = ffprobe::tracks(&packets);
    let mut ids: Vec<_> = tracks.iter().filter(|track| track.kind() != TrackKind::Data).collect();
    ids.sort_by_key(|track| (track.kind(), track.id));
    assert_eq!(ids.len(), listed.len(), "{name}: tracks {tracks:?}");
    for (track, packets) in ids.iter().zip(&listed) {
        // What stands before a picture is the sender's choice, and LOAS headers have no fixed length.
        let is_audio = track.kind() == TrackKind::Audio && !name.contains("latm");
        let size = |frame: &MediaFrame| {
            is_audio.then(|| frame.payload.len() + added(track.codec, &track.config, frame))
        };
        assert_track(name, &of(track.id, frames), packets, 0, size);
    }
}

#[test]
fn files_of_ffmpeg_5_are_what_ffprobe_says() {
    let (ffmpeg, probe) = (need!(ffmpeg), need!(ffprobe));
    for options in
        [&[][..], &["-pes_payload_size", "0"], &["-muxdelay", "0", "-muxpreload", "0"], &["-muxrate", "2M"]]
    {
        check_in(clips::H264_AAC, &ffmpeg, &ffmpeg, &probe, options);
    }
    check_in(clips::H264_AAC, &ffmpeg, &ffmpeg, &probe, &["-mpegts_flags", "latm"]);
    check_in(clips::H264_AAC, &ffmpeg, &ffmpeg, &probe, &["-omit_video_pes_length", "0"]);
    for clip in [clips::H264_MP3, clips::AAC_ONLY, clips::H264_ONLY] {
        check_in(clip, &ffmpeg, &ffmpeg, &probe, &[]);
    }
}

#[test]
fn files_of_ffmpeg_9_are_what_ffprobe_says() {
    let (ffmpeg9, probe) = (need!(ffmpeg9), need!(ffprobe));
    for clip in [clips::HEVC_AAC, clips::H264_AC3, clips::H264_EAC3, clips::MULTITRACK] {
        check_in(clip, &ffmpeg9, &ffmpeg9, &probe, &[]);
    }
}

/// What FFmpeg encodes into TS itself, of codecs that FLV does not carry.
#[test]
fn mpeg_2_mp2_and_opus_of_ffmpeg_are_what_ffprobe_says() {
    let (ffmpeg, probe) = (need!(ffmpeg), need!(ffprobe));
    let cases: [(&str, &[&str]); 4] = [
        ("mpeg2_mp2", &["-c:v", "mpeg2video", "-bf", "2", "-g", "15", "-c:a", "mp2"]),
        ("h264_opus", &["-c:v", "libx264", "-bf", "2", "-c:a", "libopus"]),
        ("interlaced", &["-c:v", "libx264", "-flags", "+ilme+ildct", "-x264-params", "tff=1", "-c:a", "aac"]),
        ("vfr", &["-vf", "setpts=PTS*(1+0.3*mod(N\\,3))", "-vsync", "vfr", "-c:v", "libx264", "-c:a", "ac3"]),
    ];
    for (name, options) in cases {
        let file = path(&format!("{name}.direct.ts"));
        let mut command = Command::new(&ffmpeg);
        command.args(["-hide_banner", "-nostdin", "-v", "error", "-y"]);
        command.args([
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=320x180:rate=25",
            "-f",
            "lavfi",
            "-i",
            "sine=sample_rate=48000",
        ]);
        command.args(["-t", "3", "-pix_fmt", "yuv420p", "-metadata:s:a:0", "language=ger"]).args(options);
        process::run_ok(command.arg(&file), LIMIT);
        let (tracks, frames, counters) = demux(&file);
        assert_eq!(counters, Counters::default(), "{name}");
        assert_listed(name, &file, &probe, &tracks, &frames);
        assert_eq!(tracks.get(TrackId::AUDIO).and_then(|track| track.language.as_deref()), Some("de"));
        // Through our muxer, FFmpeg decodes it without a complaint.
        let ours = path(&format!("{name}.again.ts"));
        std::fs::write(&ours, mux(&tracks, &frames)).expect("a file");
        decode(&ffmpeg, &ours);
        let (again_tracks, again, _) = demux(&ours);
        assert!(again_tracks.same_content(&tracks), "{name}: {again_tracks:#?}");
        let payloads = |frames: &[MediaFrame]| -> Vec<_> {
            frames.iter().map(|f| (f.track, f.payload.clone())).collect()
        };
        for id in [TrackId::VIDEO, TrackId::AUDIO] {
            let of = |frames: &[MediaFrame]| -> Vec<_> {
                payloads(frames).into_iter().filter(|(track, _)| *track == id).collect()
            };
            assert!(of(&frames) == of(&again), "{name} track {id}");
        }
    }
}

#[test]
fn files_of_gstreamer_are_what_ffprobe_says_and_it_reads_ours() {
    let (gst, ffmpeg, probe) = (need!(gst_launch), need!(ffmpeg), need!(ffprobe));
    let file = path("gst.ts");
    let pipeline = format!(
        "mpegtsmux name=m ! filesink location={} \
         videotestsrc num-buffers=90 ! video/x-raw,width=320,height=180,framerate=30/1 ! \
         x264enc key-int-max=30 bframes=2 ! h264parse ! m. \
         audiotestsrc num-buffers=140 ! audio/x-raw,rate=48000 ! avenc_aac ! aacparse ! m.",
        file.display()
    );
    process::run_ok(Command::new(&gst).arg("-q").args(pipeline.split_whitespace()), LIMIT);
    let (tracks, frames, counters) = demux(&file);
    assert_eq!(counters, Counters::default());
    assert_listed("gst", &file, &probe, &tracks, &frames);

    let (tracks, frames) = read_flv(&clips::H264_AAC.file(&ffmpeg));
    let ours = path("for_gst.ts");
    std::fs::write(&ours, mux(&tracks, &frames)).expect("a file");
    for (kind, caps) in [("video", "video/x-h264"), ("audio", "audio/mpeg")] {
        let pipeline = format!(
            "filesrc location={} ! tsdemux name=d d. ! {caps} ! {} ! fakesink silent=false sync=false",
            ours.display(),
            if kind == "video" { "h264parse ! avdec_h264" } else { "aacparse ! avdec_aac" }
        );
        let mut command = Command::new(&gst);
        let said = process::run_ok(command.arg("-v").args(pipeline.split_whitespace()), LIMIT);
        let chains = said.lines().filter(|line| line.contains("chain ")).count();
        let id = if kind == "video" { TrackId::VIDEO } else { TrackId::AUDIO };
        assert_eq!(chains, of(id, &frames).len(), "{kind}");
    }
}
