//! RTP as FFmpeg and GStreamer send it and receive it, over UDP on loopback.

use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use arcly_codec::flv::{Demuxer, FileDecoder, Limits};
use arcly_core::derived::Packetizer as _;
use arcly_core::{
    CodecId, FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, TrackId, TrackKind, TrackSet,
};
use arcly_rtp::media::{
    Event, LaneSpec, MediaReceiver, MediaReceiverOptions, Numbering, Packetizer, PacketizerOptions,
    interleaved,
};
use arcly_rtp::sdp::{Format, SessionDescription, describe, formats};
use arcly_rtp::wire::rtcp::{Goodbye, ReceiverReport, RtcpPacket};
use arcly_testkit::clips::{self, Clip, H264_AAC};
use arcly_testkit::program::Program;
use arcly_testkit::{framehash, need};
use bytes::{Bytes, BytesMut};

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

/// A file of this name among those that interop tests leave.
fn path(name: &str) -> PathBuf {
    clips::folder().join(name)
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

/// H.264 with B-frames, and AAC: bit for bit, with decode times although the packets have none. How far sound and picture are apart is
/// not looked at: FFmpeg's reports count from when it opened each output, tens of milliseconds from each other.
#[test]
fn m32_ffmpeg_sends_h264_and_aac() {
    let ffmpeg = need!(ffmpeg);
    let (tracks, frames) = read_flv(H264_AAC, &ffmpeg);
    let sockets = Sockets::new(2);
    let sdp = path("rtp_from_ffmpeg.sdp");
    _ = std::fs::remove_file(&sdp);
    let mut command = Command::new(&ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "error", "-re", "-i"]).arg(H264_AAC.file(&ffmpeg));
    for (map, (port, control)) in ["0:v", "0:a"].iter().zip(&sockets.ports) {
        let url = format!("rtp://127.0.0.1:{port}?rtcpport={control}&pkt_size=1200");
        command.args(["-map", map, "-c", "copy", "-f", "rtp", "-rtpflags", "send_bye", &url]);
    }
    let mut program = Program::start("ffmpeg", command.arg("-sdp_file").arg(&sdp));
    let text = wait_for(&sdp, |text| text.matches("a=fmtp").count() == 2);
    let mut receiver = receiver(&text.parse().expect("FFmpeg's description"));
    let got = sockets.receive(&mut program, &mut receiver);

    let known = got.tracks.get(TrackId::VIDEO).expect("video");
    assert_eq!(known.config, tracks.get(TrackId::VIDEO).expect("video").config);
    for (track, clock) in [(TrackId::VIDEO, Timescale::MPEG), (TrackId::AUDIO, Timescale::of(48_000))] {
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
            assert!(off.to_ticks(clock).abs() <= 45, "{track}: {} ticks", off.to_ticks(clock));
        }
        assert!(got.is_sorted_by_key(|frame| frame.dts) && got.iter().all(|frame| frame.dts <= frame.pts));
    }
    assert_eq!(got.goodbyes, 2);
    assert!(receiver.counters(0).receiver.lost == 0 && receiver.counters(1).receiver.lost == 0);
}

/// An even port below those that systems give out, and the one behind it, both free.
fn free_pair() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = u16::try_from(std::process::id() % 4_000).expect("small") * 2;
    loop {
        let port = 20_000 + (spread + NEXT.fetch_add(2, Ordering::Relaxed)) % 8_000;
        let free = |port: u16| UdpSocket::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 1) {
            return port;
        }
    }
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

/// What is sent is read by FFmpeg as the file is: every packet, and times as far apart.
#[test]
fn m33_ffmpeg_receives_h264_and_aac() {
    let ffmpeg = need!(ffmpeg);
    let (tracks, frames) = read_flv(H264_AAC, &ffmpeg);
    let lanes = formats(&tracks);
    let ports: Vec<u16> = lanes.iter().map(|_| free_pair()).collect();
    let mut session =
        SessionDescription { connection: Some("IN IP4 127.0.0.1".into()), ..SessionDescription::default() };
    for ((track, format), port) in lanes.iter().zip(&ports) {
        let mut media = describe(tracks.get(*track).expect("of the set"), format);
        media.port = *port;
        session.media.push(media);
    }
    let (sdp, listing) = (path("rtp_to_ffmpeg.sdp"), path("rtp_to_ffmpeg.framehash"));
    std::fs::write(&sdp, session.to_string()).expect("written");
    let options = ["-protocol_whitelist", "file,udp,rtp", "-analyzeduration", "0", "-probesize", "32"];
    let mut program = Program::start(
        "ffmpeg",
        &mut framehash::command(&ffmpeg, &options, &sdp.display().to_string(), &listing),
    );
    let end = Instant::now() + LIMIT;
    while !ports.iter().all(|port| is_bound(*port) && is_bound(port + 1)) {
        assert!(Instant::now() < end, "FFmpeg does not listen");
        std::thread::sleep(Duration::from_millis(10));
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut packetizer = Packetizer::new(PacketizerOptions::new(7));
    packetizer.headers(&tracks.into());
    let mut packets = Vec::new();
    for frame in &frames {
        packetizer.packetize(frame, &mut packets);
        for (channel, packet) in packets.drain(..).flat_map(|packet| interleaved(packet.bytes)) {
            socket.send_to(&packet, ("127.0.0.1", ports[usize::from(channel / 2)])).expect("sent");
        }
        // Twice as fast as it is played, so that no socket overflows.
        std::thread::sleep(Duration::from_millis(5));
    }
    let goodbye = |track| {
        let sources = [Numbering::of(7, track).ssrc].into_iter().collect();
        let mut out = BytesMut::new();
        let ssrc = Numbering::of(7, track).ssrc;
        RtcpPacket::ReceiverReport(ReceiverReport { ssrc, ..ReceiverReport::default() }).encode(&mut out);
        RtcpPacket::Goodbye(Goodbye { sources, ..Goodbye::default() }).encode(&mut out);
        out
    };
    for ((track, _), port) in lanes.iter().zip(&ports) {
        socket.send_to(&goodbye(*track), ("127.0.0.1", port + 1)).expect("sent");
    }
    program.end_ok(LIMIT);
    let listing = std::fs::read_to_string(&listing).expect("a listing");
    assert!(listing.contains("#codec_id 0: h264") && listing.contains("#codec_id 1: aac"), "{listing}");
    for (stream, (track, _)) in lanes.iter().enumerate() {
        let of_stream = format!("{stream},");
        let got = listing.lines().filter(|line| line.starts_with(&of_stream)).count();
        assert_eq!(got, of(*track, &frames).len(), "{track}");
    }
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
