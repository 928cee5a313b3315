//! HLS and LL-HLS: every packet arrives, playlists keep the rules while the publisher comes and goes, and real players
//! play.

mod interop;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use arcly_core::{
    CodecConfig, CodecId, MediaEvent, MediaFrame, TimeDelta, Timestamp, Track, TrackId, TrackSet,
};
use arcly_mux::{flv, ts};
use arcly_testkit::clips::{self, Clip};
use arcly_testkit::ffprobe::{self, Packet};
use arcly_testkit::hls::{Checker, Media, check_multivariant};
use arcly_testkit::media::Source;
use arcly_testkit::{framehash, http, need, process};
use bytes::{Bytes, BytesMut};
use interop::{LIMIT, Scene, publish};

/// Every stream is muxed from its first second on.
const ALWAYS: &str = "\n[hls]\nalways = true\n";
/// What FFmpeg says of any live playlist with `EXT-X-MAP`, as it reads that again after each reload.
const RELOADED_MAP: &str = "Found duplicated MOOV Atom. Skipped it";
/// Transports that count milliseconds round sound by so much, which gets its own clock back on the way.
const ROUNDING_US: i64 = 1_000;

/// A player of our own: it follows every rendition with blocking reloads, checks each playlist, takes every part that is
/// hinted at, and keeps what it got.
struct Client {
    addr: SocketAddr,
    stream: String,
    checker: Checker,
    renditions: Vec<String>,
    files: BTreeMap<String, Vec<u8>>,
    turns: usize,
}

impl Client {
    /// Opens a stream, waiting until it is there.
    fn open(scene: &Scene, stream: &str) -> Self {
        Self::open_as(scene, stream, "index.m3u8")
    }

    /// The same of another multivariant playlist.
    fn open_as(scene: &Scene, stream: &str, index: &str) -> Self {
        let addr = scene.addr("http");
        let end = Instant::now() + LIMIT;
        let index = loop {
            let answer = http::get(addr, &format!("/{stream}/{index}"), LIMIT).expect("an answer");
            if answer.status == 200 {
                break answer.text();
            }
            assert!(Instant::now() < end, "{stream}: {}", answer.text());
            std::thread::sleep(Duration::from_millis(50));
        };
        let renditions = check_multivariant(&index).unwrap_or_else(|error| panic!("{error}\n{index}")).uris();
        let checker = Checker::new();
        Self { addr, stream: stream.into(), checker, renditions, files: BTreeMap::new(), turns: 0 }
    }

    fn get(&self, file: &str) -> http::Response {
        http::get(self.addr, &format!("/{}/{file}", self.stream), LIMIT).expect("an answer")
    }

    /// One reload of every rendition, in full and as a delta by turns. False once all have ended.
    fn follow(&mut self) -> bool {
        self.turns += 1;
        let mut goes_on = false;
        for name in self.renditions.clone() {
            let query = match self.checker.last(&name) {
                Some(last) if last.ended => continue,
                Some(last) => next_part(last, self.turns.is_multiple_of(2)),
                None => String::new(),
            };
            let answer = self.get(&format!("{name}{query}"));
            if answer.status == 503 {
                goes_on = true;
                continue;
            }
            assert_eq!(answer.status, 200, "{name}{query}: {}", answer.text());
            let media = self.checker.check(&name, &answer.text()).expect("a playlist");
            goes_on |= !media.ended;
            self.take(&media);
        }
        goes_on
    }

    /// Fetches what is listed and complete, each once.
    fn take(&mut self, media: &Media) {
        let maps = media.segments.iter().filter_map(|segment| segment.map.clone());
        let whole =
            media.segments.iter().filter(|one| one.is_complete() && !one.gap).map(|one| one.uri.clone());
        for file in maps.chain(whole).collect::<Vec<_>>() {
            if !self.files.contains_key(&file) {
                let answer = self.get(&file);
                assert_eq!(answer.status, 200, "{file}");
                self.files.insert(file, answer.body);
            }
        }
    }

    /// A rendition as one file: its initialisation segment, and every segment.
    fn save(&self, scene: &Scene, name: &str) -> PathBuf {
        let path = scene.file(&format!("{}_{name}.mp4", self.stream.replace('/', "_")));
        let mut file = std::fs::File::create(&path).expect("the target folder is writable");
        let media = self.checker.last(name).expect("it was followed");
        let map = media.segments[0].map.clone();
        for part in map.iter().chain(media.segments.iter().map(|segment| &segment.uri)) {
            file.write_all(&self.files[part]).expect("the target folder is writable");
        }
        path
    }
}

/// The query that waits for what comes next.
fn next_part(media: &Media, skip: bool) -> String {
    if media.part_target.is_none() {
        return media.last().map_or_else(String::new, |(msn, _)| format!("?_HLS_msn={}", msn + 1));
    }
    let skip = if skip { "&_HLS_skip=YES" } else { "" };
    match (media.last(), media.open()) {
        (Some((msn, Some(part))), Some(_)) => format!("?_HLS_msn={msn}&_HLS_part={}{skip}", part + 1),
        (Some((msn, _)), _) => format!("?_HLS_msn={}&_HLS_part=0{skip}", msn + 1),
        (None, _) => String::new(),
    }
}

/// The same packets with the same times under one shift for all tracks.
fn assert_tracks(clip: &str, sent: &[Packet], got: &[Vec<Packet>]) {
    let sent = ffprobe::tracks(sent);
    assert_eq!(sent.len(), got.len(), "{clip}: tracks");
    let shift = got[0][0].dts_us.expect("a time") - sent[0][0].dts_us.expect("a time");
    for (number, (sent, got)) in sent.iter().zip(got).enumerate() {
        assert_eq!(sent.len(), got.len(), "{clip}: packets of track {number}");
        for (n, (sent, got)) in sent.iter().zip(got).enumerate() {
            let close = |a: Option<i64>, b: Option<i64>| {
                a.zip(b).is_some_and(|(a, b)| (a + shift - b).abs() <= ROUNDING_US)
            };
            let same = sent.hash == got.hash && sent.size == got.size && sent.key == got.key;
            let in_time = close(sent.dts_us, got.dts_us) && close(sent.pts_us, got.pts_us);
            assert!(
                same && in_time,
                "{clip}: packet {n} of track {number}, shift {shift}:\n{sent:?}\n{got:?}"
            );
        }
    }
    let packets: usize = got.iter().map(Vec::len).sum();
    eprintln!("{clip}: {packets} packets in {} renditions", got.len());
}

#[test]
fn m33_every_packet_of_every_rendition_is_what_was_sent() {
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start_with("hls_packets", ALWAYS, &[]);
    // Not AV1: FFmpeg leaves temporal delimiters in FLV, which MP4 must not have.
    let clips: [Clip; 3] = [clips::H264_AAC, clips::HEVC_AAC, clips::MULTITRACK];
    std::thread::scope(|threads| {
        for clip in clips {
            let (scene, ff9) = (&scene, &ff9);
            threads.spawn(move || {
                let (path, file) = (format!("live/{}", clip.name), clip.file(ff9));
                let mut publisher = publish(clip.name, ff9, &file, &scene.flv(&path));
                let mut client = Client::open(scene, &path);
                while client.follow() {}
                publisher.end_ok(LIMIT);
                client.checker.assert_clean();
                // Pictures first, as the source counts its tracks.
                let mut names = client.renditions.clone();
                names.sort_by_key(|name| (name.starts_with("audio"), name.clone()));
                let packets = |name: &String| framehash::of_file(ff9, &client.save(scene, name)).packets;
                // FFmpeg 9 lists both sides: what ffprobe 5 makes of Enhanced FLV is not what is in it.
                let sent = framehash::of_file(ff9, &file).packets;
                assert_tracks(clip.name, &sent, &names.iter().map(packets).collect::<Vec<_>>());
            });
        }
    });
}

/// The frames that a container holds.
fn frames(poll: impl FnMut() -> Option<MediaEvent>) -> Vec<MediaFrame> {
    let events = std::iter::from_fn(poll);
    events.filter_map(|event| if let MediaEvent::Frame(frame) = event { Some(frame) } else { None }).collect()
}

/// The payloads of a track, and when they are decoded and presented after the first picture is decoded.
fn of_track(frames: &[MediaFrame], track: TrackId) -> Vec<(Bytes, TimeDelta, TimeDelta)> {
    let first = frames.iter().find(|frame| frame.track == TrackId::VIDEO).expect("a picture").dts;
    let ours = frames.iter().filter(|frame| frame.track == track);
    ours.map(|frame| (frame.payload.clone(), frame.dts - first, frame.pts - first)).collect()
}

/// The old players' way in, and every packet in it, sound and pictures together.
#[test]
fn m33_every_packet_of_segments_in_mpeg_ts_is_what_was_sent() {
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start_with("hls_ts_packets", ALWAYS, &[]);
    let clips: [Clip; 2] = [clips::H264_AAC, clips::HEVC_AAC];
    std::thread::scope(|threads| {
        for clip in clips {
            let (scene, ff9) = (&scene, &ff9);
            threads.spawn(move || {
                let (path, file) = (format!("live/ts_{}", clip.name), clip.file(ff9));
                let mut publisher = publish(clip.name, ff9, &file, &scene.flv(&path));
                let mut client = Client::open_as(scene, &path, "index.m3u8?container=ts");
                assert_eq!(client.renditions, ["video0_ts.m3u8"]);
                while client.follow() {}
                publisher.end_ok(LIMIT);
                client.checker.assert_clean();
                let saved = std::fs::read(client.save(scene, "video0_ts.m3u8")).expect("a file");
                let mut demuxer = ts::Demuxer::default();
                demuxer.push(&saved).and_then(|()| demuxer.finish()).expect("MPEG-TS");
                assert_eq!(demuxer.counters(), ts::Counters::default(), "continuous over all segments");
                let mut reader = flv::Reader::new();
                reader.push(&std::fs::read(&file).expect("a file")).expect("FLV");
                let sent = frames(|| reader.poll_event());
                let got = frames(|| demuxer.poll_event());
                for track in [TrackId::VIDEO, TrackId::AUDIO] {
                    let (sent, got) = (of_track(&sent, track), of_track(&got, track));
                    assert_eq!(sent.len(), got.len(), "{}: track {track}", clip.name);
                    // The messages of an `hvcC` record stand before its pictures in MPEG-TS, as parameter sets do.
                    let same = |sent: &(Bytes, TimeDelta, TimeDelta), got: &(Bytes, TimeDelta, TimeDelta)| {
                        got.0.ends_with(&sent.0) && (sent.1, sent.2) == (got.1, got.2)
                    };
                    let differs = sent.iter().zip(&got).position(|(sent, got)| !same(sent, got));
                    assert_eq!(differs, None, "{}: frame of track {track}", clip.name);
                }
            });
        }
    });
}

#[test]
fn f01_a_reconnect_is_one_discontinuity_and_breaks_no_rule() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start_with("hls_reconnect", ALWAYS, &[]);
    let file = clips::LONG.file(&ff5);
    let first = publish("first", &ff5, &file, &scene.rtmp("sticky/x"));
    let mut client = Client::open(&scene, "sticky/x");
    let until = |client: &mut Client, segments: usize| {
        let enough = |client: &Client| {
            let last = client.checker.last("video0.m3u8");
            last.is_some_and(|last| last.msn as usize + last.segments.len() >= segments)
        };
        while !enough(client) {
            assert!(client.follow(), "the stream has ended");
        }
    };
    until(&mut client, 3);
    first.signal("KILL");
    drop(first);
    let second = publish("second", &ff5, &file, &scene.rtmp("sticky/x"));
    until(&mut client, 6);
    drop(second);
    client.checker.assert_clean();
    for name in &client.renditions {
        let last = client.checker.last(name).expect("it was followed");
        let breaks = last.segments.iter().filter(|segment| segment.discontinuity).count();
        assert_eq!(breaks, 1, "{name}");
    }
    eprintln!("{} playlists checked", client.checker.checked());
    let readers = scene.api("/api/v1/readers");
    let ours = readers["items"].as_array().expect("a list").iter().filter(|one| one["protocol"] == "hls");
    assert_eq!(ours.count(), 1, "one client is one reader: {readers:#}");
}

/// What a program said that must not be said.
fn complaints(log: &str) -> Vec<&str> {
    let harmless = |line: &&str| !line.trim().is_empty() && !line.contains(RELOADED_MAP);
    log.lines().filter(harmless).collect()
}

fn plays(ffmpeg: &Path, url: &str) {
    let mut command = Command::new(ffmpeg);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-xerror", "-i", url]);
    let output = process::run(command.args(["-t", "5", "-f", "null", "-"]), LIMIT);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints(&said).is_empty(), "{}: {said}", ffmpeg.display());
}

/// Both FFmpegs and GStreamer play a multivariant playlist, GStreamer until the stream ends.
fn all_play(scene: &Scene, stream: &str, index: &str, programs: (&Path, &Path, Option<&Path>)) {
    let (ff5, ff9, gst) = programs;
    let url = format!("http://{}/{stream}/{index}", scene.addr("http"));
    let url = url.as_str();
    let _publisher = publish("publisher", ff5, &clips::LONG.file(ff5), &scene.rtmp(stream));
    let _ready = Client::open_as(scene, stream, index);
    std::thread::scope(|threads| {
        threads.spawn(move || plays(ff5, url));
        threads.spawn(move || plays(ff9, url));
        let Some(gst) = gst else { return };
        threads.spawn(move || {
            let mut command = Command::new(gst);
            command.args([
                "-q",
                "playbin",
                &format!("uri={url}"),
                "video-sink=fakesink",
                "audio-sink=fakesink",
            ]);
            let output = process::run(&mut command, LIMIT);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && !said.contains("ERROR") && !said.contains("WARN"), "{said}");
        });
    });
}

#[test]
fn ffmpeg_and_gstreamer_play_it_without_a_complaint() {
    let (ff5, ff9, gst) = (need!(ffmpeg), need!(ffmpeg9), need!(gst_launch));
    let scene = Scene::start_with("hls_players", ALWAYS, &[]);
    std::thread::scope(|threads| {
        for (stream, index) in [("live/x", "index.m3u8"), ("live/y", "index.m3u8?container=ts")] {
            let (scene, programs) = (&scene, (ff5.as_path(), ff9.as_path(), Some(gst.as_path())));
            threads.spawn(move || all_play(scene, stream, index, programs));
        }
    });
}

/// A `splice_insert` (SCTE 35) of event 7 that begins a break of 30 s, or ends it.
fn splice(out: bool) -> Bytes {
    let duration: &[u8] = if out { &[0x7E, 0, 0x29, 0x32, 0xE0] } else { &[] };
    let command = [&[0, 0, 0, 7, 0x7F, if out { 0xF0 } else { 0x50 }], duration, &[0, 1, 0, 0]].concat();
    let length = u8::try_from(11 + command.len() + 2 + 4).expect("short");
    let head =
        [0xFC, 0x30, length, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, u8::try_from(command.len()).expect("short"), 5];
    let section = [&head[..], &command, &[0, 0]].concat();
    let checksum = ts::section::crc32(&section).to_be_bytes();
    [&section[..], &checksum].concat().into()
}

/// Twelve seconds in MPEG-TS with a break from the fourth to the eighth, in pieces of [`STEP_MS`].
fn with_a_break() -> Vec<BytesMut> {
    let source = Source::h264_aac();
    let mut tracks: Vec<_> = source.tracks().iter().cloned().collect();
    tracks.push(Track::new(TrackId::DATA, CodecId::Scte35, CodecConfig::None));
    let (mut muxer, mut out, mut pieces) = (ts::Muxer::new(), BytesMut::new(), Vec::new());
    muxer.set_tracks(&TrackSet::new(tracks));
    let mut messages = [(4_000, true), (8_000, false)].into_iter().peekable();
    let mut next = STEP_MS;
    for frame in source.take_while(|frame| frame.dts < Timestamp::from_millis(12_000)) {
        if frame.dts >= Timestamp::from_millis(next) {
            pieces.push(out.split());
            next += STEP_MS;
        }
        while let Some((at, begins)) = messages.next_if(|(at, _)| Timestamp::from_millis(*at) <= frame.dts) {
            let message = MediaFrame::new(TrackId::DATA, Timestamp::from_millis(at), splice(begins));
            muxer.frame(&message, &mut out);
        }
        muxer.frame(&frame, &mut out);
    }
    pieces.push(out);
    pieces
}

/// What is sent at a time: a part.
const STEP_MS: i64 = 200;

/// SCTE 35 from end to end: messages of a transport stream that is published are date ranges in everybody's playlists.
#[test]
fn breaks_in_mpeg_ts_are_date_ranges_in_playlists() {
    let scene = Scene::start_with("hls_breaks", ALWAYS, &[]);
    let mut socket = TcpStream::connect(scene.addr("http")).expect("a connection");
    let pieces = with_a_break();
    // The body is longer than what comes of it, so that the stream goes on.
    let length = pieces.iter().map(BytesMut::len).sum::<usize>() + 188;
    write!(socket, "POST /live/x.ts HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n").expect("sent");
    // Muxing begins with what is kept by then, which is the last second: more than the first one is sent once that is muxed.
    let (first, rest) = pieces.split_at(15);
    let (begins, goes_on) = first.split_at(5);
    begins.iter().for_each(|piece| socket.write_all(piece).expect("sent"));
    let end = Instant::now() + LIMIT;
    while http::get(scene.addr("http"), "/metrics", LIMIT)
        .expect("an answer")
        .text()
        .contains("arcly_hls_bytes 0\n")
    {
        assert!(Instant::now() < end, "nothing is muxed");
        std::thread::sleep(Duration::from_millis(5));
    }
    goes_on.iter().for_each(|piece| socket.write_all(piece).expect("sent"));
    let mut client = Client::open(&scene, "live/x");
    let mut text = client.get("video0.m3u8").text();
    // Nothing is sent faster than it is cut.
    let behind = first.len() - hinted(&text) + 2;
    for (piece, sent) in rest.iter().zip(first.len()..) {
        socket.write_all(piece).expect("sent");
        let end = Instant::now() + LIMIT;
        while hinted(&text) + behind < sent {
            assert!(Instant::now() < end, "{sent} parts were sent:\n{text}");
            std::thread::sleep(Duration::from_millis(5));
            text = client.get("video0.m3u8").text();
        }
        client.checker.check("video0.m3u8", &text).expect("a playlist");
    }
    client.checker.assert_clean();
    let ranges = text.lines().filter(|line| line.starts_with("#EXT-X-DATERANGE:"));
    assert_ranges(&ranges.map(str::to_owned).collect::<Vec<_>>());
}

/// The number of the part that comes next.
fn hinted(playlist: &str) -> usize {
    let hint =
        playlist.lines().find(|line| line.starts_with("#EXT-X-PRELOAD-HINT:TYPE=PART")).unwrap_or_default();
    let number =
        hint.rsplit_once("_part").and_then(|(_, rest)| rest.split_once('.')).map(|(number, _)| number);
    number.and_then(|number| number.parse().ok()).unwrap_or_default()
}

fn assert_ranges(ranges: &[String]) {
    let [begins, ends] = ranges else { panic!("two ranges, not {ranges:#?}") };
    let attribute = |line: &str, name: &str| -> String {
        let found = line.split([':', ',']).find_map(|pair| pair.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("{name} of {ranges:#?}")).trim_matches('"').to_owned()
    };
    let hex = |out| splice(out).iter().map(|byte| format!("{byte:02X}")).collect::<String>();
    assert_eq!(attribute(begins, "SCTE35-OUT"), format!("0x{}", hex(true)), "bit for bit");
    assert_eq!(attribute(ends, "SCTE35-IN"), format!("0x{}", hex(false)));
    assert_eq!(attribute(begins, "PLANNED-DURATION"), "30.00000");
    assert_eq!(attribute(begins, "ID"), attribute(ends, "ID"), "one break");
    assert!(begins.contains("START-DATE=\"") && ends.contains("END-DATE=\""), "{ranges:#?}");
}

/// GStreamer 1.22 decrypts initialisation segments too, although these stand where no key is in force: neither `hlsdemux` nor
/// `hlsdemux2` plays segments of FFmpeg that OpenSSL has encrypted, listed in the same way (docs/interop.md).
#[test]
fn ffmpeg_and_gstreamer_play_encrypted_segments_without_a_complaint() {
    let (ff5, ff9, gst) = (need!(ffmpeg), need!(ffmpeg9), need!(gst_launch));
    let config = "\n[hls]\nalways = true\nencryption = \"aes-128\"\nkey_segments = 2\n";
    let scene = Scene::start_with("hls_encrypted", config, &[]);
    std::thread::scope(|threads| {
        let (cmaf, ts) = ("index.m3u8", "index.m3u8?container=ts");
        for (stream, index, gst) in [("live/x", cmaf, None), ("live/y", ts, Some(gst.as_path()))] {
            let (scene, programs) = (&scene, (ff5.as_path(), ff9.as_path(), gst));
            threads.spawn(move || all_play(scene, stream, index, programs));
        }
    });
}
