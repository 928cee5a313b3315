//! Against programs that are not ours: FFmpeg old and new. Each is skipped, loudly, where it is not installed.
#![allow(clippy::unwrap_used, reason = "tests")]

mod serving;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arcly_codec::av1::DELIMITER;
use arcly_codec::flv::{Demuxer, FileDecoder, Limits};
use arcly_core::contract::auth::{ActionSet, NameRule, StaticUsers};
use arcly_core::{
    CodecConfig, FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, TrackId, TrackSet,
};
use arcly_rtsp::ServerConfig;
use arcly_testkit::clips::{AV1_OPUS, Clip, H264_AAC, HEVC_AAC, VP9_OPUS};
use arcly_testkit::media::Source;
use arcly_testkit::need;
use arcly_testkit::program::Program;
use md5::{Digest as _, Md5};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use serving::{LIMIT, LONG, Serving, collect, port_pair, until_written};

fn read_flv(clip: Clip, ffmpeg: &Path) -> (TrackSet, Vec<MediaFrame>) {
    let (mut file, mut demuxer) = (FileDecoder::new(), Demuxer::new(Limits::default()));
    file.push(&std::fs::read(clip.file(ffmpeg)).unwrap());
    while let Some(tag) = file.next_tag().unwrap() {
        demuxer.handle_tag(tag.kind, tag.timestamp_ms.into(), tag.body).unwrap();
    }
    let events: Vec<_> = std::iter::from_fn(|| demuxer.poll_event()).collect();
    let frames = events.into_iter().filter_map(|event| match event {
        MediaEvent::Frame(frame) => Some(frame),
        MediaEvent::Tracks(_) => None,
    });
    (demuxer.tracks(), frames.collect())
}

fn of(track: TrackId, frames: &[MediaFrame]) -> Vec<&MediaFrame> {
    frames.iter().filter(|frame| frame.track == track).collect()
}

/// What was sent has come, bit for bit, each frame at its time.
fn assert_came(sent: &[MediaFrame], got: &[MediaFrame], track: TrackId, may_lack: usize) {
    let (sent, got) = (of(track, sent), of(track, got));
    let unsent = sent.len().saturating_sub(got.len());
    assert!(!got.is_empty() && unsent <= may_lack, "{track}: {unsent} of {} are missing", sent.len());
    let shift = got[0].pts - sent[0].pts;
    for (sent, got) in sent.iter().zip(&got) {
        assert_eq!((&sent.payload, sent.is_keyframe()), (&got.payload, got.is_keyframe()));
        // The file counts milliseconds; FFmpeg rounds them to the clock of the packets.
        let off = (sent.pts + shift) - got.pts;
        assert!(off.abs() <= TimeDelta::from_millis(1), "{track}: {} flicks", off.0);
    }
    assert!(got.is_sorted_by_key(|frame| frame.dts) && got.iter().all(|frame| frame.dts <= frame.pts));
    assert!(!got.iter().any(|frame| frame.flags.intersects(FrameFlags::CORRUPT | FrameFlags::CLAMPED)));
}

/// FFmpeg publishes a clip.
async fn ffmpeg_publishes(ffmpeg: PathBuf, clip: Clip, transport: &str) {
    let (tracks, sent) = read_flv(clip, &ffmpeg);
    let serving = Serving::start().await;
    let mut command = Command::new(&ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-re", "-i"]).arg(clip.file(&ffmpeg));
    command.args(["-c", "copy", "-strict", "-2", "-f", "rtsp", "-rtsp_transport", transport]);
    let mut program = Program::start("ffmpeg", command.arg(serving.url()));
    let reader = serving.reader().await;
    let ended = async {
        tokio::task::spawn_blocking(move || program.end_ok(LIMIT)).await.unwrap();
        // What it has sent may still be in the server's sockets: it is taken when the server has heard its good-bye.
        serving.reasons(1).await;
        serving.engine.drain();
    };
    let ((known, got), ()) = tokio::join!(collect(reader), ended);
    for track in tracks.iter() {
        assert_eq!(known.get(track.id).map(|track| track.codec), Some(track.codec));
        // FFmpeg 5 does not send the sounds that wait for others to share their packet when the file ends.
        assert_came(&sent, &got, track.id, if track.id == TrackId::AUDIO { 8 } else { 0 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m32_ffmpeg_5_publishes_h264_and_aac_over_tcp() {
    ffmpeg_publishes(need!(ffmpeg), H264_AAC, "tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m32_ffmpeg_5_publishes_h264_and_aac_over_udp() {
    ffmpeg_publishes(need!(ffmpeg), H264_AAC, "udp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m32_ffmpeg_9_publishes_h265_and_aac_over_tcp() {
    ffmpeg_publishes(need!(ffmpeg9), HEVC_AAC, "tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m32_ffmpeg_9_publishes_av1_and_opus_over_udp() {
    ffmpeg_publishes(need!(ffmpeg9), AV1_OPUS, "udp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m32_ffmpeg_9_publishes_vp9_and_opus_over_tcp() {
    ffmpeg_publishes(need!(ffmpeg9), VP9_OPUS, "tcp").await;
}

/// What FFmpeg makes of a frame that it receives, by its hash.
fn as_received(tracks: &TrackSet, frame: &MediaFrame) -> String {
    Md5::digest(byte_stream(tracks, frame)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The NAL units of a picture.
fn units(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload;
    std::iter::from_fn(move || {
        let (len, tail) = rest.split_first_chunk::<4>()?;
        let (unit, after) = tail.split_at(usize::try_from(u32::from_be_bytes(*len)).unwrap());
        rest = after;
        Some(unit)
    })
}

/// A frame as FFmpeg gives it: pictures of NAL units as a byte stream, with parameter sets before keyframes; those of AV1 behind a temporal
/// delimiter.
fn byte_stream(tracks: &TrackSet, frame: &MediaFrame) -> Vec<u8> {
    let mut out = Vec::new();
    let mut unit = |unit: &[u8]| {
        out.extend_from_slice(&[0, 0, 0, 1]);
        out.extend_from_slice(unit);
    };
    match tracks.get(frame.track).map(|track| &track.config) {
        Some(CodecConfig::Avc(config)) => {
            if frame.is_keyframe() {
                config.sps.iter().chain(&config.pps).for_each(|set| unit(set));
            }
            units(&frame.payload).for_each(unit);
        }
        Some(CodecConfig::Hevc(config)) => {
            if frame.is_keyframe() {
                config.vps.iter().chain(&config.sps).chain(&config.pps).for_each(|set| unit(set));
            }
            units(&frame.payload).for_each(unit);
        }
        Some(CodecConfig::Av1(_)) => {
            out.extend_from_slice(&DELIMITER);
            out.extend_from_slice(&frame.payload);
        }
        _ => out.extend_from_slice(&frame.payload),
    }
    out
}

/// A packet of a listing: stream, PTS in its time base, hash.
type Listed = (usize, i64, String);

fn listed(path: &Path) -> Vec<Listed> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let packet = |line: &str| {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        Some((fields.first()?.parse().ok()?, fields.get(2)?.parse().ok()?, (*fields.get(5)?).to_owned()))
    };
    lines.filter_map(packet).collect()
}

/// FFmpeg plays what is published from its first keyframe on, bit for bit, to the tick of the packets' clock.
async fn ffmpeg_plays(ffmpeg: PathBuf, transport: &str) {
    let source = Source::h264_aac();
    plays_bit_for_bit(ffmpeg, source.tracks(), source.seconds(7), transport).await;
}

/// The same of a clip, each frame at the time that it had before its file rounded that to milliseconds.
async fn ffmpeg_plays_clip(ffmpeg: PathBuf, clip: Clip, transport: &str) {
    let (tracks, mut frames) = read_flv(clip, &ffmpeg);
    for frame in &mut frames {
        let step = match tracks.get(frame.track).map(|track| &track.config) {
            Some(CodecConfig::Aac(_)) => TimeDelta::from_ticks(1_024, Timescale::new(48_000).unwrap()),
            Some(CodecConfig::Opus(_)) => TimeDelta::from_millis(20),
            _ => TimeDelta::from_ticks(3_000, Timescale::MPEG),
        };
        for time in [&mut frame.pts, &mut frame.dts] {
            let steps = ((*time - Timestamp::ZERO).0 + step.0 / 2).div_euclid(step.0);
            *time = Timestamp::ZERO + TimeDelta(steps * step.0);
        }
    }
    plays_bit_for_bit(ffmpeg, tracks, frames, transport).await;
}

/// What is published but for its last second is played; that makes parsers and the interleaver let go of what is before it.
async fn plays_bit_for_bit(ffmpeg: PathBuf, tracks: TrackSet, frames: Vec<MediaFrame>, transport: &str) {
    let serving = Serving::start().await;
    let end = frames.iter().map(|frame| frame.dts).max().unwrap() - TimeDelta::from_millis(1_000);
    let sent: Vec<MediaFrame> = frames.iter().filter(|frame| frame.dts <= end).cloned().collect();
    let publishing = serving.publish_to_a_reader(tracks.clone(), frames);
    let folder = tempfile::tempdir().unwrap();
    let listing = folder.path().join("played.framehash");
    let mut command = Command::new(&ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-rtsp_transport", transport]);
    command.args(["-analyzeduration", "500000", "-copyts", "-i", &serving.url()]);
    // It sees no keyframes in VP9 that came in RTP: whatever is first is to be listed.
    command.args(["-map", "0:v", "-map", "0:a", "-c", "copy", "-copyinkf"]);
    command.args(["-f", "framehash", "-hash", "md5"]);
    command.args(["-max_interleave_delta", "100000", "-flush_packets", "1", "-y"]).arg(&listing);
    let mut program = Program::start("ffmpeg", &mut command);
    publishing.await.unwrap();
    let count = |stream: usize| listed(&listing).iter().filter(|(of, ..)| *of == stream).count();
    let (pictures, sounds) = (of(TrackId::VIDEO, &sent).len(), of(TrackId::AUDIO, &sent).len());
    until_written("what is played", || count(0) >= pictures && count(1) >= sounds).await;
    serving.engine.drain();
    tokio::task::spawn_blocking(move || program.end_ok(LIMIT)).await.unwrap();
    let got = listed(&listing);
    for (stream, track, clock) in
        [(0, TrackId::VIDEO, Timescale::MPEG), (1, TrackId::AUDIO, Timescale::new(48_000).unwrap())]
    {
        let got: Vec<_> = got.iter().filter(|(of, ..)| *of == stream).collect();
        let sent: Vec<_> = of(track, &sent).iter().map(|f| (f.pts, as_received(&tracks, f))).collect();
        assert!(got.len() >= sent.len(), "{track}: {} of {}", got.len(), sent.len());
        for (n, ((pts, hash), (_, ticks, listed))) in sent.iter().zip(&got).enumerate() {
            assert_eq!(hash, listed, "{track} {n} at {ticks}");
            // FFmpeg does not always know the time of the very first one.
            let (known, listed) = (sent[1].0, got[1].1);
            let is_unknown = n == 0 && *ticks == i64::MIN;
            assert!(
                is_unknown || *ticks - listed == (*pts - known).to_ticks(clock),
                "{track} {n} at {ticks}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_5_plays_h264_and_aac_over_tcp() {
    ffmpeg_plays(need!(ffmpeg), "tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_5_plays_h264_and_aac_over_udp() {
    ffmpeg_plays(need!(ffmpeg), "udp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_h264_and_aac_over_udp() {
    ffmpeg_plays(need!(ffmpeg9), "udp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_h265_and_aac_over_udp() {
    ffmpeg_plays_clip(need!(ffmpeg9), HEVC_AAC, "udp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_h265_and_aac_over_tcp() {
    ffmpeg_plays_clip(need!(ffmpeg9), HEVC_AAC, "tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_av1_and_opus_over_tcp() {
    ffmpeg_plays_clip(need!(ffmpeg9), AV1_OPUS, "tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_vp9_and_opus_over_udp() {
    ffmpeg_plays_clip(need!(ffmpeg9), VP9_OPUS, "udp").await;
}

/// GStreamer's `rtspsrc` writes the pictures that it gets to a file, as a byte stream: each of them is in it.
async fn gstreamer_plays_h265(transport: &str) {
    let (ffmpeg, gst) = (need!(ffmpeg9), need!(gst_launch));
    let (tracks, frames) = read_flv(HEVC_AAC, &ffmpeg);
    let pictures: Vec<_> = frames.into_iter().filter(|frame| frame.track == TrackId::VIDEO).collect();
    let tracks = TrackSet::new(tracks.iter().filter(|track| track.id == TrackId::VIDEO).cloned());
    let serving = Serving::start().await;
    let out = tempfile::NamedTempFile::new().unwrap();
    let mut command = Command::new(gst);
    command.args(["-q", "rtspsrc", "name=s", "latency=200"]).arg(format!("location={}", serving.url()));
    command.arg(format!("protocols={transport}"));
    command.args(["s.", "!", "rtph265depay", "!"]);
    command.args([
        "video/x-h265,stream-format=byte-stream,alignment=au",
        "!",
        "filesink",
        "buffer-mode=unbuffered",
    ]);
    command.arg(format!("location={}", out.path().display()));
    let publishing = serving.publish_to_a_reader(tracks, pictures.clone());
    let program = Program::start("gst-launch-1.0", &mut command);
    publishing.await.unwrap();
    let is_in = |came: &[u8], frame: &MediaFrame| {
        let slice = units(&frame.payload).max_by_key(|unit| unit.len()).unwrap();
        came.windows(slice.len()).any(|part| part == slice)
    };
    let near_the_end = &pictures[pictures.len() - 10];
    until_written("the pictures", || is_in(&std::fs::read(out.path()).unwrap(), near_the_end)).await;
    drop(program);
    let came = std::fs::read(out.path()).unwrap();
    let is_there = |frame: &&MediaFrame| is_in(&came, frame);
    // It asks when the first have been published, and lets go of the last at the end.
    let first = pictures.iter().position(|frame| is_there(&frame)).expect("a picture");
    let last = pictures.iter().rposition(|frame| is_there(&frame)).expect("a picture");
    assert!(pictures[first].is_keyframe() && last - first > 30, "from {first} to {last}");
    assert_eq!(pictures[first..=last].iter().filter(is_there).count(), last - first + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_gstreamer_plays_h265_over_tcp() {
    gstreamer_plays_h265("tcp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_gstreamer_plays_h265_over_udp() {
    gstreamer_plays_h265("udp").await;
}

/// Requests come in by a POST, in Base64, and everything goes out by a GET.
#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_5_plays_h264_and_aac_through_http() {
    ffmpeg_plays(need!(ffmpeg), "http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_h264_and_aac_through_http() {
    ffmpeg_plays(need!(ffmpeg9), "http").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m33_ffmpeg_9_plays_h264_and_aac_over_tcp() {
    ffmpeg_plays(need!(ffmpeg9), "tcp").await;
}

/// What becomes of the ports that players name.
#[derive(Clone, Copy, Debug)]
enum Named {
    /// Nobody gets datagrams there: the server refuses.
    Refused,
    /// Others get the datagrams.
    Astray,
}

/// Puts `ports` where a message names a player's ports, and returns those.
fn rename(message: &[u8], ports: &str) -> Option<(Vec<u8>, String)> {
    let text = std::str::from_utf8(message).ok()?;
    let at = text.find("client_port=")? + "client_port=".len();
    let len = text[at..].find(|c: char| !c.is_ascii_digit() && c != '-')?;
    Some((format!("{}{ports}{}", &text[..at], &text[at + len..]).into_bytes(), text[at..at + len].to_owned()))
}

/// One player's way to the server; `tried` when the player has asked for datagrams.
async fn carry(
    player: TcpStream,
    server: TcpStream,
    ports: [String; 2],
    tried: Arc<AtomicBool>,
) -> std::io::Result<()> {
    let ((mut from_player, mut to_player), (mut from_server, mut to_server)) =
        (player.into_split(), server.into_split());
    let named = Mutex::new(String::new());
    let there = async {
        // Players wait for the answer to each request, so that one comes at a time.
        let (mut buffer, mut ports) = (vec![0; 65_536], ports.into_iter().cycle());
        loop {
            let len = from_player.read(&mut buffer).await?;
            let message = &buffer[..len];
            let renamed =
                message.starts_with(b"SETUP").then(|| rename(message, &ports.next().unwrap())).flatten();
            let Some((message, was)) = renamed else {
                to_server.write_all(message).await?;
                if len == 0 {
                    return to_server.shutdown().await;
                }
                continue;
            };
            *named.lock().unwrap() = was;
            tried.store(true, Ordering::Relaxed);
            to_server.write_all(&message).await?;
        }
    };
    let back = async {
        let mut buffer = vec![0; 65_536];
        loop {
            let len = from_server.read(&mut buffer).await?;
            let message = &buffer[..len];
            let renamed =
                message.starts_with(b"RTSP/1.0").then(|| rename(message, &named.lock().unwrap())).flatten();
            to_player.write_all(renamed.as_ref().map_or(message, |(message, _)| message)).await?;
            if len == 0 {
                return to_player.shutdown().await;
            }
        }
    };
    tokio::try_join!(there, back).map(|_| ())
}

/// A player that is told nothing of transports finds the connection by itself where datagrams are refused, and where none have come for
/// five seconds.
async fn falls_back(
    name: &str,
    named: Named,
    mut command: Command,
    arguments: impl FnOnce(&str, &Path) -> Vec<String>,
) {
    let serving = Serving::start().await;
    let pairs = [port_pair(), port_pair()];
    let ports = pairs.each_ref().map(|(rtp, rtcp)| match named {
        Named::Refused => "53-54".to_owned(),
        Named::Astray => {
            format!("{}-{}", rtp.local_addr().unwrap().port(), rtcp.local_addr().unwrap().port())
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("rtsp://{}/live/cam", listener.local_addr().unwrap());
    let (address, tried) = (serving.address, Arc::new(AtomicBool::new(false)));
    let asked = Arc::clone(&tried);
    let way = tokio::spawn(async move {
        let mut ways = JoinSet::new();
        loop {
            let (player, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(address).await.unwrap();
            ways.spawn(carry(player, server, ports.clone(), Arc::clone(&asked)));
        }
    });
    let publishing = serving.publish_frames(Source::h264().tracks(), Source::h264().seconds(LONG));
    let out = tempfile::NamedTempFile::new().unwrap();
    command.args(arguments(&url, out.path()));
    let program = Program::start(name, &mut command);
    let frames = Source::h264().seconds(1);
    let first: Vec<&[u8]> = units(&frames[0].payload).collect();
    let is_there = |came: &[u8]| came.windows(first[0].len()).any(|part| part == first[0]);
    until_written("pictures", || is_there(&std::fs::read(out.path()).unwrap())).await;
    assert!(tried.load(Ordering::Relaxed), "{name} asks for no datagrams");
    drop(program);
    publishing.abort();
    way.abort();
}

async fn ffmpeg_falls_back(ffmpeg: PathBuf, named: Named) {
    let mut command = Command::new(ffmpeg);
    // It waits for datagrams for ever unless it is told for how many microseconds.
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-y", "-timeout", "5000000"]);
    falls_back("ffmpeg", named, command, |url, out| {
        let out = out.display().to_string();
        ["-i", url, "-c", "copy", "-f", "h264", "-flush_packets", "1", &out].map(str::to_owned).to_vec()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ffmpeg_goes_over_the_connection_where_datagrams_are_refused_or_do_not_come() {
    let ffmpegs = [need!(ffmpeg), need!(ffmpeg9)];
    let [first, second] = ffmpegs.map(|ffmpeg| async move {
        ffmpeg_falls_back(ffmpeg.clone(), Named::Refused).await;
        ffmpeg_falls_back(ffmpeg, Named::Astray).await;
    });
    tokio::join!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn gstreamer_goes_over_the_connection_where_datagrams_are_refused_or_do_not_come() {
    let gst = need!(gst_launch);
    for named in [Named::Refused, Named::Astray] {
        falls_back("gst-launch-1.0", named, Command::new(&gst), |url, out| {
            let words = format!(
                "-q rtspsrc location={url} latency=200 ! rtph264depay ! \
                 video/x-h264,stream-format=byte-stream,alignment=au ! filesink buffer-mode=unbuffered location={}",
                out.display()
            );
            words.split_whitespace().map(str::to_owned).collect()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t39_ffmpeg_5_logs_in_by_digest() {
    let ffmpeg = need!(ffmpeg);
    let users =
        StaticUsers::new().with_user("ann", "right", ActionSet::PLAY, NameRule::parse("live/*").unwrap());
    let mut config = ServerConfig::default();
    config.session.schemes.basic = false;
    let serving = Serving::with(config, Some(Arc::new(users.unwrap()))).await;
    let publishing = serving.publish(LONG);
    for (password, expect) in [("right", true), ("wrong", false)] {
        let url = format!("rtsp://ann:{password}@{}/live/cam", serving.address);
        let mut command = Command::new(&ffmpeg);
        command.args(["-hide_banner", "-nostdin", "-v", "error", "-rtsp_transport", "tcp", "-i", &url]);
        command.args(["-map", "0:v", "-c", "copy", "-frames:v", "5", "-f", "null", "-"]);
        let mut program = Program::start("ffmpeg", &mut command);
        let status = tokio::task::spawn_blocking(move || program.end(LIMIT)).await.unwrap();
        assert_eq!(status.success(), expect, "{password}");
    }
    publishing.abort();
}
