//! RTP as FFmpeg and GStreamer send it and receive it, over UDP on loopback.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use arcly_codec::flv::{Demuxer, FileDecoder, Limits};
use arcly_core::derived::Packetizer as _;
use arcly_core::{
    CodecId, FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind,
    TrackSet,
};
use arcly_rtp::media::{
    Event, LaneSpec, MediaReceiver, MediaReceiverOptions, Packetizer, PacketizerOptions, interleaved,
};
use arcly_rtp::payload::Encoding;
use arcly_rtp::sdp::{Format, SessionDescription, describe, formats};
use arcly_testkit::clips::{self, AV1_OPUS, Clip, H264_AAC, HEVC_AAC, VP9_OPUS};
use arcly_testkit::need;
use arcly_testkit::ports::free_pair;
use arcly_testkit::program::Program;
use bytes::Bytes;

const LIMIT: Duration = Duration::from_secs(60);
/// Nothing came for so long after the sender has ended.
const QUIET: Duration = Duration::from_millis(500);

fn read_flv(clip: Clip, ffmpeg: &Path) -> (TrackSet, Vec<MediaFrame>) {
    let (mut file, mut demuxer) = (FileDecoder::new(), Demuxer::new(Limits::default()));
    file.push(&std::fs::read(clip.file(ffmpeg)).expect("the clip"));
    while let Some(tag) = file.next_tag().expect("FLV") {
        demuxer.handle_tag(tag.kind, tag.timestamp_ms.into(), tag.body).expect("FLV");
    }
    let events: Vec<_> = std::iter::from_fn(|| demuxer.poll_event()).collect();
    let frames = events.into_iter().filter_map(|event| match event {
        MediaEvent::Frame(frame) => Some(frame),
        MediaEvent::Tracks(_) => None,
    });
    (demuxer.tracks(), frames.collect())
}

/// A datagram: when, on which lane, and whether it came where reports come.
type Datagram = (Instant, usize, bool, Bytes);

/// A pair of sockets for each lane, read by a thread each.
struct Sockets {
    ports: Vec<(u16, u16)>,
    datagrams: mpsc::Receiver<Datagram>,
    stop: Arc<AtomicBool>,
}

impl Sockets {
    fn new(lanes: usize) -> Self {
        let (sender, datagrams) = mpsc::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let open = |lane: usize, control: bool| {
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
            let port = socket.local_addr().expect("bound").port();
            socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time-out");
            let (sender, stop) = (sender.clone(), Arc::clone(&stop));
            std::thread::spawn(move || {
                let mut buffer = [0; 2_048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(len) = socket.recv(&mut buffer) {
                        _ = sender.send((
                            Instant::now(),
                            lane,
                            control,
                            Bytes::copy_from_slice(&buffer[..len]),
                        ));
                    }
                }
            });
            port
        };
        let ports = (0..lanes).map(|lane| (open(lane, false), open(lane, true))).collect();
        Self { ports, datagrams, stop }
    }

    /// Feeds what comes until the program has ended and nothing more comes.
    fn receive(&self, program: &mut Program, receiver: &mut MediaReceiver) -> Got {
        let (mut got, end, mut last) = (Got::default(), Instant::now() + LIMIT, Instant::now());
        loop {
            assert!(Instant::now() < end, "{} sends without end", program.name());
            match self.datagrams.recv_timeout(Duration::from_millis(20)) {
                Ok((now, lane, control, datagram)) => {
                    last = now;
                    if control {
                        receiver.handle_rtcp(now, lane, &datagram);
                    } else {
                        receiver.handle_rtp(now, lane, &datagram).expect("RTP");
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    let ended = program.process().try_wait().is_some();
                    if ended && last.elapsed() > QUIET {
                        break;
                    }
                }
                Err(RecvTimeoutError::Disconnected) => break,
            }
            got.drain(receiver);
        }
        receiver.handle_timeout(Instant::now() + Duration::from_secs(2));
        got.drain(receiver);
        program.end_ok(LIMIT);
        got
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[derive(Default)]
struct Got {
    tracks: TrackSet,
    frames: Vec<MediaFrame>,
    transport_bytes: usize,
    goodbyes: usize,
}

impl Got {
    fn drain(&mut self, receiver: &mut MediaReceiver) {
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Media(MediaEvent::Tracks(tracks)) => self.tracks = tracks,
                Event::Media(MediaEvent::Frame(frame)) => self.frames.push(frame),
                Event::TransportStream { data, .. } => self.transport_bytes += data.len(),
                Event::Goodbye { .. } => self.goodbyes += 1,
                _ => {}
            }
        }
    }
}

fn of(track: TrackId, frames: &[MediaFrame]) -> Vec<&MediaFrame> {
    frames.iter().filter(|frame| frame.track == track).collect()
}

/// A receiver of what a description says, one lane for each medium.
fn receiver(session: &SessionDescription) -> MediaReceiver {
    let lanes = session.media.iter().zip(0..).map(|(media, track)| LaneSpec {
        track: TrackId::new(track).expect("small"),
        formats: Format::offered(media).expect("known formats"),
    });
    let lanes: Vec<LaneSpec> = lanes.collect();
    assert!(lanes.iter().all(|lane| !lane.formats.is_empty()), "{session}");
    MediaReceiver::new(lanes, MediaReceiverOptions::default())
}

/// A file of this name among those that the test leaves.
fn path(name: &str) -> PathBuf {
    clips::scratch().join(name)
}

/// Waits for a file that is whole: its writer closes it before it sends anything.
fn wait_for(file: &Path, whole: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + LIMIT;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if whole(&text) {
            return text;
        }
        assert!(Instant::now() < end, "{} does not come: {text}", file.display());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A clip comes in bit for bit, with decode times although the packets have none. How far sound and picture are apart is not
/// looked at: FFmpeg's reports count from when it opened each output, tens of milliseconds from each other.
fn ffmpeg_sends(ffmpeg: &Path, clip: Clip) {
    let (tracks, frames) = read_flv(clip, ffmpeg);
    let sockets = Sockets::new(2);
    let sdp = path(&format!("rtp_{}_from_ffmpeg.sdp", clip.name));
    _ = std::fs::remove_file(&sdp);
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-re", "-i"]).arg(clip.file(ffmpeg));
    for (map, (port, control)) in ["0:v", "0:a"].iter().zip(&sockets.ports) {
        let url = format!("rtp://127.0.0.1:{port}?rtcpport={control}&pkt_size=1200");
        command.args([
            "-map",
            map,
            "-c",
            "copy",
            "-strict",
            "-2",
            "-f",
            "rtp",
            "-rtpflags",
            "send_bye",
            &url,
        ]);
    }
    let mut program = Program::start("ffmpeg", command.arg("-sdp_file").arg(&sdp));
    let text =
        wait_for(&sdp, |text| text.matches("m=").count() == 2 && text.matches("a=rtpmap").count() == 2);
    let mut receiver = receiver(&text.parse().expect("FFmpeg's description"));
    let got = sockets.receive(&mut program, &mut receiver);

    let known = got.tracks.get(TrackId::VIDEO).expect("video");
    let sent = tracks.get(TrackId::VIDEO).expect("video");
    assert_eq!(known.codec, sent.codec);
    let size = |track: &Track| track.video().map(|video| (video.width, video.height));
    assert_eq!(size(known), size(sent));
    for track in [TrackId::VIDEO, TrackId::AUDIO] {
        let (sent, got) = (of(track, &frames), of(track, &got.frames));
        // FFmpeg 5 does not send the sounds that wait for others to share their packet when the file ends.
        let unsent = sent.len().saturating_sub(got.len());
        let may_lack = if track == TrackId::AUDIO { 8 } else { 0 };
        assert!(unsent <= may_lack, "{track}: {unsent} are missing, {:?}", receiver.counters(track.index()));
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
    assert_eq!(got.goodbyes, 2);
    assert!(receiver.counters(0).receiver.lost == 0 && receiver.counters(1).receiver.lost == 0);
}

#[test]
fn m32_ffmpeg_sends_h264_and_aac() {
    ffmpeg_sends(&need!(ffmpeg), H264_AAC);
}

#[test]
fn m32_ffmpeg_9_sends_av1_and_opus() {
    ffmpeg_sends(&need!(ffmpeg9), AV1_OPUS);
}

#[test]
fn m32_ffmpeg_9_sends_vp9_and_opus() {
    ffmpeg_sends(&need!(ffmpeg9), VP9_OPUS);
}

#[test]
fn m32_ffmpeg_9_sends_h265_and_aac() {
    ffmpeg_sends(&need!(ffmpeg9), HEVC_AAC);
}

fn is_bound(port: u16) -> bool {
    let tables =
        ["/proc/net/udp", "/proc/net/udp6"].map(|table| std::fs::read_to_string(table).unwrap_or_default());
    let local = format!(":{port:04X}");
    tables
        .iter()
        .flat_map(|table| table.lines())
        .any(|line| line.split_whitespace().nth(1).is_some_and(|addr| addr.ends_with(&local)))
}

/// FFmpeg reads every frame that is sent, by our description.
fn ffmpeg_receives(ffmpeg: &Path, clip: Clip, codecs: [&str; 2]) {
    let (tracks, frames) = read_flv(clip, ffmpeg);
    let lanes = formats(&tracks);
    let ports: Vec<u16> = lanes.iter().map(|_| free_pair()).collect();
    let mut session =
        SessionDescription { connection: Some("IN IP4 127.0.0.1".into()), ..SessionDescription::default() };
    for ((track, format), port) in lanes.iter().zip(&ports) {
        let mut media = describe(tracks.get(*track).expect("of the set"), format);
        media.port = *port;
        session.media.push(media);
    }
    let name = |kind: &str| path(&format!("rtp_{}_to_ffmpeg.{kind}", clip.name));
    let (sdp, listing) = (name("sdp"), name("framehash"));
    std::fs::write(&sdp, session.to_string()).expect("written");
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-protocol_whitelist", "file,udp,rtp"]);
    command.args(["-analyzeduration", "500000", "-i"]).arg(&sdp);
    command.args([
        "-map",
        "0:v",
        "-map",
        "0:a",
        "-c",
        "copy",
        "-f",
        "framehash",
        "-hash",
        "md5",
        "-max_interleave_delta",
        "100000",
        "-flush_packets",
        "1",
        "-y",
    ]);
    _ = std::fs::remove_file(&listing);
    let mut program = Program::start("ffmpeg", command.arg(&listing));
    let end = Instant::now() + LIMIT;
    while !ports.iter().all(|port| is_bound(*port) && is_bound(port + 1)) {
        assert!(Instant::now() < end, "FFmpeg does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut packetizer = Packetizer::new(PacketizerOptions::new(7));
    packetizer.headers(&tracks.into());
    let (mut packets, start) = (Vec::new(), Instant::now());
    // The clip again and again, as a player holds back what it received last, until all of the first round is listed.
    let round =
        frames.iter().map(|frame| frame.pts + frame.duration).max().expect("frames") - Timestamp::ZERO;
    let shifts = (0..).map(|n| TimeDelta(round.0 * n));
    let rounds = shifts.flat_map(|shift| frames.iter().map(move |frame| (shift, frame)));
    for (shift, frame) in rounds {
        let (dts, pts) = (frame.dts + shift, frame.pts + shift);
        let due = start + (dts - Timestamp::ZERO).to_duration();
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        packetizer.packetize(&MediaFrame { dts, pts, ..frame.clone() }, &mut packets);
        let packets = packets.drain(..).flat_map(|packet| interleaved(packet.bytes));
        for (n, (channel, packet)) in packets.enumerate() {
            socket.send_to(&packet, ("127.0.0.1", ports[usize::from(channel / 2)])).expect("sent");
            // A keyframe at once is more than a socket of usual size takes.
            if n % 16 == 15 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        let listed = std::fs::read_to_string(&listing).unwrap_or_default();
        let all = |(stream, (track, _)): (usize, &(TrackId, Format))| {
            sizes(&listed, stream).len() >= of(*track, &frames).len()
        };
        if shift > TimeDelta::ZERO && lanes.iter().enumerate().all(all) {
            break;
        }
        assert!(start.elapsed() < LIMIT, "FFmpeg does not list what it receives: {listed}");
    }
    program.process().kill();
    let listing = std::fs::read_to_string(&listing).expect("a listing");
    for (stream, ((track, format), codec)) in lanes.iter().zip(codecs).enumerate() {
        assert!(listing.contains(&format!("#codec_id {stream}: {codec}")), "{listing}");
        let sent: Vec<usize> = of(*track, &frames).iter().map(|frame| frame.payload.len()).collect();
        // A byte stream has parameter sets, and an AV1 temporal unit may have a delimiter, that frames have not.
        if matches!(format.encoding, Encoding::H264 | Encoding::H265 | Encoding::Av1) {
            continue;
        }
        assert_eq!(sizes(&listing, stream)[..sent.len()], sent, "{track}");
    }
}

/// The sizes of a stream's packets in a listing: `stream, dts, pts, duration, size, hash`.
fn sizes(listing: &str, stream: usize) -> Vec<usize> {
    let whole = listing.rfind('\n').map_or("", |end| &listing[..end]);
    let lines = whole.lines().filter(|line| line.starts_with(&format!("{stream},")));
    lines
        .map(|line| line.split(',').nth(4).and_then(|size| size.trim().parse().ok()).expect("a size"))
        .collect()
}

#[test]
fn m33_ffmpeg_receives_h264_and_aac() {
    ffmpeg_receives(&need!(ffmpeg), H264_AAC, ["h264", "aac"]);
}

/// Everything that GStreamer 1.22 has a payloader for, at once: each frame comes, in its place.
#[test]
fn m32_gstreamer_sends_every_format() {
    /// How long the streams are.
    const PICTURES: usize = 30;
    let gst = need!(gst_launch);
    let video = |encode: &str| {
        format!(
            "videotestsrc is-live=true num-buffers={PICTURES} ! video/x-raw,format=I420,width=160,height=120,framerate=30/1 ! {encode}"
        )
    };
    let audio = |rate: u32, channels: u8, encode: &str| {
        format!(
            "audiotestsrc is-live=true num-buffers=50 samplesperbuffer=960 ! audio/x-raw,rate={rate},channels={channels} ! audioconvert ! {encode}"
        )
    };
    let ts = "mpegtsmux ! rtpmp2tpay pt=33";
    let lanes: [(&str, String, Option<CodecId>); 14] = [
        (
            "video 0 RTP/AVP 96|H264/90000",
            video(
                "x264enc key-int-max=10 bframes=2 speed-preset=ultrafast b-adapt=false ! rtph264pay config-interval=-1 pt=96",
            ),
            Some(CodecId::H264),
        ),
        (
            "video 0 RTP/AVP 96|H265/90000",
            video("x265enc key-int-max=10 speed-preset=ultrafast ! rtph265pay config-interval=-1 pt=96"),
            Some(CodecId::H265),
        ),
        (
            "video 0 RTP/AVP 96|VP8/90000",
            video("vp8enc deadline=1 keyframe-max-dist=10 ! rtpvp8pay pt=96 picture-id-mode=15-bit"),
            Some(CodecId::Vp8),
        ),
        (
            "video 0 RTP/AVP 96|VP9/90000",
            video("vp9enc deadline=1 cpu-used=8 keyframe-max-dist=10 ! rtpvp9pay pt=96"),
            Some(CodecId::Vp9),
        ),
        (
            "audio 0 RTP/AVP 96|opus/48000/2",
            audio(48_000, 2, "opusenc ! rtpopuspay pt=96"),
            Some(CodecId::Opus),
        ),
        (
            "audio 0 RTP/AVP 96|mpeg4-generic/48000/2|config=1190",
            audio(48_000, 2, "voaacenc ! rtpmp4gpay pt=96"),
            Some(CodecId::Aac),
        ),
        (
            "audio 0 RTP/AVP 96|MP4A-LATM/48000/2|cpresent=0;config=400023203fc0",
            audio(48_000, 2, "voaacenc ! rtpmp4apay pt=96"),
            Some(CodecId::Aac),
        ),
        ("audio 0 RTP/AVP 96|L16/48000/2", audio(48_000, 2, "rtpL16pay pt=96"), Some(CodecId::PcmBe)),
        ("audio 0 RTP/AVP 96|L24/48000/2", audio(48_000, 2, "rtpL24pay pt=96"), Some(CodecId::PcmBe)),
        ("audio 0 RTP/AVP 8", audio(8_000, 1, "alawenc ! rtppcmapay"), Some(CodecId::Pcma)),
        (
            "audio 0 RTP/AVP 14",
            audio(48_000, 2, "lamemp3enc ! mpegaudioparse ! rtpmpapay"),
            Some(CodecId::Mp3),
        ),
        (
            "audio 0 RTP/AVP 96|AC3/48000/2",
            audio(48_000, 2, "avenc_ac3 ! ac3parse ! rtpac3pay pt=96"),
            Some(CodecId::Ac3),
        ),
        ("audio 0 RTP/AVP 9", audio(16_000, 1, "avenc_g722 ! rtpg722pay"), Some(CodecId::G722)),
        ("video 0 RTP/AVP 33", audio(48_000, 2, &format!("voaacenc ! aacparse ! {ts}")), None),
    ];
    let mut sdp = String::new();
    for (description, ..) in &lanes {
        let mut parts = description.split('|');
        sdp += &format!("m={}\n", parts.next().expect("a medium"));
        parts.next().iter().for_each(|map| sdp += &format!("a=rtpmap:96 {map}\n"));
        parts.next().iter().for_each(|parameters| sdp += &format!("a=fmtp:96 {parameters}\n"));
    }
    let sockets = Sockets::new(lanes.len());
    let mut receiver = receiver(&sdp.parse().expect("a description"));
    let chains = lanes.iter().zip(&sockets.ports);
    let pipeline: Vec<String> = chains
        .map(|((_, chain, _), (port, _))| {
            format!("{chain} mtu=1200 ! queue ! udpsink host=127.0.0.1 port={port} async=false")
        })
        .collect();
    let mut command = Command::new(gst);
    command.arg("-q").args(pipeline.iter().flat_map(|chain| chain.split(' ')));
    let mut program = Program::start("gst-launch", &mut command);
    let got = sockets.receive(&mut program, &mut receiver);

    for (lane, (description, _, codec)) in lanes.iter().enumerate() {
        let counters = receiver.counters(lane);
        assert_eq!(
            (counters.receiver.lost, counters.bad_payloads, counters.bad_units),
            (0, 0, 0),
            "{description}"
        );
        let Some(codec) = codec else { continue };
        let id = TrackId::new(u8::try_from(lane).expect("small")).expect("small");
        let track = got.tracks.get(id).unwrap_or_else(|| panic!("{description}: {counters:?}"));
        assert_eq!(track.codec, *codec, "{description}");
        let frames = of(id, &got.frames);
        assert!(
            frames.is_sorted_by_key(|frame| frame.dts) && frames.iter().all(|frame| frame.dts <= frame.pts)
        );
        assert!(
            frames.iter().all(|frame| !frame.flags.intersects(FrameFlags::CORRUPT | FrameFlags::CLAMPED)),
            "{description}"
        );
        if track.kind() == TrackKind::Video {
            assert_eq!(
                (frames.len(), frames.iter().filter(|frame| frame.is_keyframe()).count()),
                (PICTURES, 3),
                "{description}"
            );
            let mut shown: Vec<i64> =
                frames.iter().map(|frame| frame.pts.to_ticks(Timescale::MPEG)).collect();
            shown.sort_unstable();
            assert!(
                shown.windows(2).all(|pair| (2_999..=3_001).contains(&(pair[1] - pair[0]))),
                "{description}: {shown:?}"
            );
            assert_eq!(
                track.video().map(|video| (video.width, video.height)),
                Some((160, 120)),
                "{description}"
            );
        } else {
            assert!(frames.len() > 20, "{description}: {} frames", frames.len());
            // Opus: the first packet's time is less by what decoders drop of it.
            for pair in frames.windows(2).skip(1) {
                let off = pair[1].dts - (pair[0].dts + pair[0].duration);
                assert!(off.abs() <= TimeDelta::from_millis(1), "{description}: {} flicks", off.0);
            }
        }
    }
    assert!(got.transport_bytes > 188 * 50, "{} bytes of transport stream", got.transport_bytes);
}
