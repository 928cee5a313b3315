//! RTMP and Enhanced RTMP with FFmpeg 5 and 9, GStreamer and rtmpdump, packet by packet.

mod interop;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use arcly_testkit::clips::{self, Clip};
use arcly_testkit::ffprobe::{self, Packet, Times};
use arcly_testkit::framehash::{self, Listing};
use arcly_testkit::program::Program;
use arcly_testkit::{need, process};
use interop::{LIMIT, Player, Scene, assert_decodes, assert_received, publish};

/// One publisher, and every program that can play what it sends.
fn legacy_clip_reaches_everybody(test: &str, publisher: &Path, clip: Clip) {
    let (ff5, ff9, ffprobe) = (need!(ffmpeg), need!(ffmpeg9), need!(ffprobe));
    let (rtmpdump, gst_launch) = (need!(rtmpdump), need!(gst_launch));
    let file = clip.file(&ff5);
    let sent = framehash::of_file(&ff5, &file);
    let scene = Scene::start(test);
    let url = scene.rtmp("live/x");
    let players = [scene.ffmpeg_plays("ffmpeg5", &ff5, &url), scene.ffmpeg_plays("ffmpeg9", &ff9, &url)];
    let dump = scene.rtmpdump_plays(&rtmpdump, &url);
    let gstreamer = scene.gstreamer_plays(&gst_launch, &url);
    scene.until_readers("live/x", 4);

    publish("publisher", publisher, &file, &url).end_ok(LIMIT);
    for player in players {
        let name = player.program.name().to_owned();
        assert_received(&sent, &player.listing(), &name);
    }
    let sent = ffprobe::packets(&ffprobe, &file.display().to_string());
    let dumped = dump.packets(&ffprobe);
    ffprobe::assert_same(&sent, &dumped, Times::Shifted);
    assert_eq!(ffprobe::of_kind(&dumped, "data").len(), 0, "nobody sent a data track");
    // rtmp2src forgets what it has not passed on when the stream ends; from nginx-rtmp too.
    let received = ffprobe::assert_part(&sent, &gstreamer.packets(&ffprobe), Times::Shifted);
    assert!(received + 3 >= sent.len(), "GStreamer received {received} packets of {}", sent.len());
}

#[test]
fn ffmpeg_5_publishes_h264_with_b_frames_and_aac() {
    legacy_clip_reaches_everybody("rtmp_ffmpeg5", &need!(ffmpeg), clips::H264_AAC);
}

#[test]
fn ffmpeg_9_publishes_h264_with_b_frames_and_aac() {
    legacy_clip_reaches_everybody("rtmp_ffmpeg9", &need!(ffmpeg9), clips::H264_AAC);
}

#[test]
fn mp3_at_44_1_khz() {
    legacy_clip_reaches_everybody("rtmp_mp3", &need!(ffmpeg), clips::H264_MP3);
}

#[test]
fn sound_without_picture_and_picture_without_sound() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("rtmp_one_track");
    for (clip, path) in [(clips::AAC_ONLY, "live/sound"), (clips::H264_ONLY, "live/picture")] {
        let file = clip.file(&ff5);
        let player = scene.ffmpeg_plays(clip.name, &ff5, &scene.rtmp(path));
        scene.until_readers(path, 1);
        publish("publisher", &ff5, &file, &scene.rtmp(path)).end_ok(LIMIT);
        assert_received(&framehash::of_file(&ff5, &file), &player.listing(), clip.name);
    }
}

/// FFmpeg 9 to FFmpeg 9, one stream per clip, all at once.
#[test]
fn every_codec_of_enhanced_rtmp() {
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start("rtmp_enhanced");
    let codecs = [
        clips::HEVC_AAC,
        clips::AV1_OPUS,
        clips::VP9_OPUS,
        clips::VVC_AAC,
        clips::H264_FLAC,
        clips::H264_AC3,
        clips::H264_EAC3,
        clips::MULTITRACK,
    ];
    let mut running: Vec<(Clip, Player, Program)> = Vec::new();
    for clip in codecs {
        let path = format!("live/{}", clip.name);
        let player = scene.enhanced_ffmpeg_plays(clip.name, &ff9, &scene.rtmp(&path));
        let file = clip.file(&ff9);
        scene.until_readers(&path, 1);
        running.push((clip, player, publish("publisher", &ff9, &file, &scene.rtmp(&path))));
    }
    for (clip, player, mut publisher) in running {
        publisher.end_ok(LIMIT);
        let (mut sent, mut got) = (framehash::of_file(&ff9, &clip.file(&ff9)), player.listing());
        if clip == clips::VVC_AAC {
            // The encoder repeats its parameter sets before each keyframe; arcly leaves them to the configuration.
            let pictures = |listing: &mut Listing| {
                let pictures = listing.packets.iter_mut().filter(|packet| packet.kind == "video");
                pictures.for_each(|packet| (packet.size, packet.hash) = (0, String::new()));
            };
            pictures(&mut sent);
            pictures(&mut got);
        }
        if clip == clips::MULTITRACK {
            // FFmpeg does not say over RTMP that it understands several tracks of a kind, and gets the first.
            sent.keep_tracks(&[0, 2]);
        }
        assert_received(&sent, &got, clip.name);
        assert_decodes(&ff9, &scene.copy_of(clip.name));
    }
}

/// GStreamer takes the stream apart and puts it together again, so what it sends is written to a file as well.
#[test]
fn gstreamer_publishes() {
    let (ff5, ff9, ffprobe) = (need!(ffmpeg), need!(ffmpeg9), need!(ffprobe));
    let gst_launch = need!(gst_launch);
    let scene = Scene::start("rtmp_gstreamer");
    let url = scene.rtmp("live/g");
    let players = [scene.ffmpeg_plays("ffmpeg5", &ff5, &url), scene.ffmpeg_plays("ffmpeg9", &ff9, &url)];
    let dump = scene.rtmpdump_plays(&need!(rtmpdump), &url);
    scene.until_readers("live/g", 3);

    let sent = scene.file("sent.flv");
    let source = clips::H264_AAC.file(&ff5);
    let pipeline = format!(
        "filesrc location={} ! flvdemux name=in \
         flvmux name=out streamable=true ! tee name=both \
         in.video ! queue ! h264parse ! out.video  in.audio ! queue ! aacparse ! out.audio \
         both. ! queue ! filesink location={}  both. ! queue ! rtmp2sink location={url}",
        source.display(),
        sent.display(),
    );
    let mut command = Command::new(&gst_launch);
    Program::start("gstreamer", command.arg("-q").args(pipeline.split_whitespace())).end_ok(LIMIT);

    let expected = framehash::of_file(&ff5, &sent);
    assert_eq!(expected.packets.len(), framehash::of_file(&ff5, &source).packets.len());
    for player in players {
        let name = player.program.name().to_owned();
        assert_received(&expected, &player.listing(), &name);
    }
    let packets = |file: &Path| -> Vec<Packet> { ffprobe::packets(&ffprobe, &file.display().to_string()) };
    ffprobe::assert_same(&packets(&sent), &dump.packets(&ffprobe), Times::Shifted);
}

/// A real player that joins in the middle of a GOP starts with its keyframe, and decodes without an error.
#[test]
fn late_joiner_decodes_from_the_first_packet() {
    let ff5 = need!(ffmpeg);
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start("rtmp_late");
    let url = scene.rtmp("live/late");
    let file = clips::LONG.file(&ff5);
    let _publisher = publish("publisher", &ff5, &file, &url);
    // 30 pictures and 46.9 sounds a second, a keyframe each 1.5 s: two thirds into the second GOP.
    scene.until("live/late", "2.5 s in", |stream| stream["frames_in"].as_u64() >= Some(192));
    let mut players: Vec<Program> = Vec::new();
    for (name, ffmpeg) in [("ffmpeg5", &ff5), ("ffmpeg9", &ff9)] {
        let mut command = Command::new(ffmpeg);
        command.args([
            "-hide_banner",
            "-nostdin",
            "-v",
            "error",
            "-xerror",
            "-err_detect",
            "explode",
            "-i",
            &url,
        ]);
        command.args(["-t", "3", "-f", "framehash", "-hash", "md5", "-y"]);
        players.push(Program::start(name, command.arg(scene.file(name))));
    }
    for mut player in players {
        player.end_ok(LIMIT);
        assert_eq!(player.log(), "", "{} complains", player.name());
        let decoded = framehash::read(&scene.file(player.name()));
        let (pictures, sounds) =
            (ffprobe::of_kind(&decoded.packets, "video"), ffprobe::of_kind(&decoded.packets, "audio"));
        // -t counts from the first picture or sound, whichever is earlier.
        assert!(
            pictures.len() >= 85 && sounds.len() >= 138,
            "{} pictures, {} sounds",
            pictures.len(),
            sounds.len()
        );
    }
}

/// The publisher stands still in the middle of a GOP, so that whatever a joiner gets was kept for it. How soon it gets
/// it is printed; a test does not judge that.
#[test]
fn joiners_start_at_the_keyframe_that_is_kept() {
    const JOINS: usize = 200;
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("rtmp_join");
    let url = scene.rtmp("sticky/join");
    let publisher = publish("publisher", &ff5, &clips::LONG.file(&ff5), &url);
    scene.until("sticky/join", "2.2 s in", |stream| stream["frames_in"].as_u64() >= Some(170));
    publisher.signal("STOP");
    let mut times: Vec<Duration> = Vec::new();
    for n in 0..JOINS {
        let (time, is_keyframe) = interop::joiner::first_picture(&url);
        assert!(is_keyframe, "joiner {n} starts with a picture that is not a keyframe");
        times.push(time);
    }
    times.sort_unstable();
    let [p50, p99] = [JOINS / 2, JOINS * 99 / 100].map(|at| times[at]);
    println!(
        "{JOINS} joins, `play` to first keyframe: p50 {p50:?}, p99 {p99:?}, worst {:?}",
        times[JOINS - 1]
    );
}

/// FFmpeg 9 plays over RTMP without a word about Enhanced RTMP: it gets what every player knows, or is told why not.
#[test]
fn enhanced_codecs_go_only_to_players_that_announced_them() {
    let ff9 = need!(ffmpeg9);
    let scene = Scene::start_with("rtmp_unannounced", "[transcode]\naudio = false\n", &[]);
    let (hevc, av1) = (scene.rtmp("live/hevc"), scene.rtmp("live/av1"));
    let sound_only = scene.ffmpeg_plays("hevc", &ff9, &hevc);
    let mut nothing = scene.ffmpeg_plays("av1", &ff9, &av1);
    scene.until_readers("live/hevc", 1);
    scene.until_readers("live/av1", 1);
    let mut publishers = [(clips::HEVC_AAC, &hevc), (clips::AV1_OPUS, &av1)]
        .map(|(clip, url)| publish(clip.name, &ff9, &clip.file(&ff9), url));
    assert!(!nothing.program.end(LIMIT).success());
    assert!(nothing.program.log().contains("unsupported"), "{}", nothing.program.log());
    publishers.iter_mut().for_each(|publisher| publisher.end_ok(LIMIT));
    let mut sent = framehash::of_file(&ff9, &clips::HEVC_AAC.file(&ff9));
    sent.keep_tracks(&[1]);
    assert_received(&sent, &sound_only.listing(), "the sound of HEVC and AAC");
}

/// F01 with real programs: the publisher is killed in the middle of a GOP and comes back; its reader never notices
/// more than a jump.
#[test]
fn f01_reader_outlives_its_publisher() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("rtmp_return");
    let url = scene.rtmp("sticky/x");
    let file = clips::LONG.file(&ff5);
    let short = clips::H264_AAC.file(&ff5);
    let player = scene.ffmpeg_plays("reader", &ff5, &url);
    scene.until_readers("sticky/x", 1);
    let mut first = publish("first publisher", &ff5, &file, &url);
    scene.until("sticky/x", "2.2 s in", |stream| stream["frames_in"].as_u64() >= Some(170));
    first.process().kill();
    scene.until("sticky/x", "without its publisher", |stream| stream["state"] == "grace");
    scene.until_readers("sticky/x", 1);
    publish("second publisher", &ff5, &short, &url).end_ok(LIMIT);
    let left = scene.until("sticky/x", "left again", |stream| stream["state"] == "grace");
    assert_eq!(left["readers"], 1, "the reader of both is still there");
    let mut player = player;
    // The stream is in its grace period for long: the reader is told to go.
    let readers = scene.api("/api/v1/readers");
    let reader = &readers["items"][0];
    assert_eq!(reader["skips"], 0, "{reader:#}");
    // Everything has been sent to it; the server ends it in order, so that it takes everything too.
    let id = reader["id"].as_u64().expect("a number");
    scene.until("sticky/x", "read to its end", |stream| {
        scene.api(&format!("/api/v1/readers/{id}"))["items_out"] == stream["frames_in"]
    });
    scene.end_reader(id);
    player.program.end(LIMIT);
    let got = framehash::read(&scene.file("reader.framehash"));
    for track in ffprobe::tracks(&got.packets) {
        let increasing = track.windows(2).all(|two| two[0].dts_us < two[1].dts_us);
        assert!(increasing, "{} goes back in time", track[0].kind);
    }
    let (sent_first, sent_second) = (framehash::of_file(&ff5, &file), framehash::of_file(&ff5, &short));
    let second: usize = sent_second.packets.len();
    assert!(got.packets.len() > second + 160, "{} packets", got.packets.len());
    // Track by track: a run of the first, then all of the second.
    let tracks = ffprobe::tracks(&got.packets);
    let expected =
        ffprobe::tracks(&sent_first.packets).into_iter().zip(ffprobe::tracks(&sent_second.packets));
    for (got, (first, second)) in tracks.into_iter().zip(expected) {
        let hashes =
            |packets: &[&Packet]| -> Vec<String> { packets.iter().map(|p| p.hash.clone()).collect() };
        let split = got.len() - second.len();
        assert_eq!(hashes(&got[..split]), hashes(&first[..split]), "before the fault");
        assert_eq!(hashes(&got[split..]), hashes(&second), "after the fault");
    }
}

/// RTMPS with a certificate that nobody vouches for, as people try it first.
#[test]
fn rtmps() {
    let ff5 = need!(ffmpeg);
    let folder = clips::scratch();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(&cert, signed.cert.pem()).expect("the target folder is writable");
    std::fs::write(&key, signed.signing_key.serialize_pem()).expect("the target folder is writable");
    let text = |path: &Path| path.display().to_string();
    let config = format!(
        "[rtmp]\ntls_listen = \"127.0.0.1:0\"\n[http]\ntls_listen = \"127.0.0.1:0\"\n[tls]\ncert = {:?}\nkey = {:?}\n",
        text(&cert),
        text(&key)
    );
    let scene = Scene::start_with("rtmps", &config, &[]);
    let url = format!("rtmps://localhost:{}/live/tls", scene.addr("rtmps").port());
    let file = clips::H264_AAC.file(&ff5);
    let player = scene.ffmpeg_plays("player", &ff5, &url);
    scene.until_readers("live/tls", 1);
    publish("publisher", &ff5, &file, &url).end_ok(LIMIT);
    assert_received(&framehash::of_file(&ff5, &file), &player.listing(), "over TLS");
}

/// What FFmpeg says when there is nothing to play names the stream.
#[test]
fn a_stream_that_is_not_there() {
    let ff5 = need!(ffmpeg);
    let scene = Scene::start("rtmp_missing");
    let mut command = Command::new(&ff5);
    command.args(["-hide_banner", "-nostdin", "-v", "warning", "-i", &scene.rtmp("strict/nobody")]);
    let output = process::run(command.args(["-f", "null", "-"]), Duration::from_secs(20));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("strict/nobody"), "{said}");
}
