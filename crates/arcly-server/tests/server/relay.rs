use std::time::Duration;

use arcly_testkit::process::{run, run_ok};
use serde_json::Value;

use crate::client::{PATIENCE, arcly, get, send_json, start, start_demo, wait_until};

#[test]
fn probe_sees_the_demo_over_both_protocols() {
    let server = start_demo();
    let (rtmp, http) = (server.addr("rtmp"), server.addr("http"));
    for url in [format!("rtmp://{rtmp}/live/demo"), format!("http://{http}/live/demo.flv")] {
        let stdout = run_ok(&mut arcly(&["probe", "--json", "--time", "3s", &url]), PATIENCE);
        let report: Value = serde_json::from_str(&stdout).unwrap();
        let (video, audio) = (&report["tracks"][0], &report["tracks"][1]);
        assert_eq!((&video["codec"], &audio["codec"]), (&"h264".into(), &"aac".into()), "{url}");
        assert!((video["fps"].as_f64().unwrap() - 25.0).abs() < 0.5, "{url}: {video}");
        assert!(
            video["keyframe_interval_seconds"].as_f64().is_some_and(|s| (1.0..3.0).contains(&s)),
            "{url}: {video}"
        );
        assert_eq!(audio["sample_rate"], 48_000);
    }
    let missing = run(&mut arcly(&["probe", &format!("http://{http}/live/none.flv")]), PATIENCE);
    let stderr = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert_eq!(missing.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("live/none") && stderr.contains("404"), "{stderr}");
}

#[test]
fn relay_copies_a_file_to_a_server_and_a_stream_to_a_file() {
    let server = start(&[]);
    let (rtmp, http) = (server.addr("rtmp"), server.addr("http"));
    let dir = tempfile::tempdir().unwrap();
    let clip = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo.flv");
    for (name, to) in [("a", format!("rtmp://{rtmp}/live/a")), ("b", format!("http://{http}/live/b.flv"))] {
        let mut sending = arcly(&["relay", clip, &to]);
        let sending = arcly_testkit::process::Guard::spawn(&mut sending);
        wait_until("it is live", || get(http, &format!("/live/{name}.flv"), "HEAD", "").status == 200);
        let copy = dir.path().join(format!("{name}.flv"));
        let from = format!("http://{http}/live/{name}.flv");
        let mut receiving = arcly(&["relay", &from, copy.to_str().unwrap()]);
        let mut receiving = arcly_testkit::process::Guard::spawn(&mut receiving);
        wait_until("it is written", || std::fs::metadata(&copy).is_ok_and(|file| file.len() > 50_000));
        receiving.signal("TERM");
        assert_eq!(receiving.wait_for(PATIENCE).and_then(|status| status.code()), Some(0));
        drop(sending);
        let report = run_ok(&mut arcly(&["probe", copy.to_str().unwrap()]), PATIENCE);
        assert!(
            report.contains("h264 (avc1.64001f), 640x360") && report.contains("aac (mp4a.40.2)"),
            "{report}"
        );
    }
}

#[test]
fn pulls_and_pushes_run_between_servers() {
    let (origin, edge) = (start_demo(), start(&[]));
    let post = |body: String| send_json(edge.addr("http"), "/api/v1/relays", "POST", &body).status;
    let (rtmp, http) = (origin.addr("rtmp"), origin.addr("http"));
    assert_eq!(post(format!(r#"{{"from":"rtmp://{rtmp}/live/demo","to":"live/over-rtmp"}}"#)), 201);
    assert_eq!(post(format!(r#"{{"from":"http://{http}/live/demo.flv","to":"live/over-http"}}"#)), 201);
    let is_live = |server: &arcly_testkit::process::Arcly, name: &str| {
        let stream = get(server.addr("http"), &format!("/api/v1/streams/live/{name}"), "GET", "");
        stream.status == 200 && stream.json()["frames_in"].as_u64().is_some_and(|frames| frames > 50)
    };
    wait_until("both pulls run", || is_live(&edge, "over-rtmp") && is_live(&edge, "over-http"));
    assert_eq!(post(format!(r#"{{"from":"live/over-http","to":"rtmp://{rtmp}/live/back"}}"#)), 201);
    assert_eq!(post(format!(r#"{{"from":"live/over-rtmp","to":"http://{http}/live/back2.flv"}}"#)), 201);
    wait_until("both pushes run", || is_live(&origin, "back") && is_live(&origin, "back2"));
}

/// The frames of a file that our own demuxers read, by track.
fn payloads(file: &std::path::Path) -> Vec<Vec<bytes::Bytes>> {
    let data = bytes::Bytes::from(std::fs::read(file).unwrap());
    let mut tracks = vec![Vec::new(); 2];
    let mut take = |event| {
        if let arcly_core::MediaEvent::Frame(frame) = event {
            tracks[frame.track.index()].push(frame.payload);
        }
    };
    if file.extension().is_some_and(|extension| extension == "flv") {
        let mut reader = arcly_mux::flv::Reader::new();
        reader.push(&data).unwrap();
        std::iter::from_fn(|| reader.poll_event()).for_each(&mut take);
        return tracks;
    }
    let mut demuxer = arcly_mux::fmp4::Demuxer::new();
    loop {
        match demuxer.poll().unwrap() {
            arcly_mux::fmp4::Step::Event(event) => take(event),
            arcly_mux::fmp4::Step::End => return tracks,
            arcly_mux::fmp4::Step::Read { offset, len } => {
                let from = usize::try_from(offset).unwrap().min(data.len());
                demuxer.handle_data(data.slice(from..(from + len).min(data.len()))).unwrap();
            }
        }
    }
}

#[test]
fn relay_reads_and_writes_mp4_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let clip = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/assets/demo.flv"));
    let (there, back) = (path("there.mp4"), path("back.flv"));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    run_ok(&mut arcly(&["relay", &text(clip), &text(&there)]), PATIENCE);
    run_ok(&mut arcly(&["relay", &text(&there), &text(&back)]), PATIENCE);
    let sent = payloads(clip);
    assert!(sent.iter().all(|track| track.len() > 100));
    assert!(payloads(&there) == sent && payloads(&back) == sent, "the same frames");
    // Finished: the index is at the end, and one box holds everything before.
    let file = std::fs::read(&there).unwrap();
    let moov = file.windows(4).rposition(|window| window == b"moov").unwrap() - 4;
    let size = u32::from_be_bytes(file[moov..moov + 4].try_into().unwrap());
    assert_eq!(moov + size as usize, file.len());

    // A stream without end, over HTTP into a file, which is finished when the relay is stopped.
    let server = start_demo();
    let received = path("received.mp4");
    let from = format!("http://{}/live/demo.mp4", server.addr("http"));
    let mut receiving = arcly(&["relay", &from, &text(&received)]);
    let mut receiving = arcly_testkit::process::Guard::spawn(&mut receiving);
    wait_until("it is written", || std::fs::metadata(&received).is_ok_and(|file| file.len() > 50_000));
    receiving.signal("TERM");
    assert_eq!(receiving.wait_for(PATIENCE).and_then(|status| status.code()), Some(0));
    let report = run_ok(&mut arcly(&["probe", &text(&received)]), PATIENCE);
    assert!(report.contains("h264 (avc1.64001f), 640x360") && report.contains("aac (mp4a.40.2)"), "{report}");
    assert!(payloads(&received).iter().all(|track| track.len() > 20));
}

#[test]
fn a_configured_pull_on_demand_runs_while_somebody_reads_it() {
    let origin = start_demo();
    let (rtmp, http) = (origin.addr("rtmp"), origin.addr("http"));
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("arcly.toml");
    let relay = |from: &str, to: &str| {
        format!("[[relays]]\nfrom = '{from}'\nto = 'live/{to}'\non_demand = true\nclose_after = '500ms'\n")
    };
    let relays = [
        relay(&format!("rtmp://{rtmp}/live/demo"), "over-rtmp"),
        relay(&format!("http://{http}/live/demo.flv"), "over-http"),
        relay("rtmp://127.0.0.1:1/live/none", "down"),
    ];
    std::fs::write(&config, relays.concat()).unwrap();
    let edge = start(&["-c", config.to_str().unwrap()]);
    let at = edge.addr("http");
    let relays = || get(at, "/api/v1/relays", "GET", "").json()["items"].clone();
    let states = || [0, 1, 2].map(|n| relays()[n]["state"].as_str().unwrap().to_owned());
    assert_eq!(states(), ["idle", "idle", "idle"]);
    assert_eq!((&relays()[0]["on_demand"], &relays()[0]["close_after"]), (&true.into(), &"500ms".into()));

    let connect = |path: &str| {
        let mut socket = std::net::TcpStream::connect(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        std::io::Write::write_all(
            &mut socket,
            format!("GET {path} HTTP/1.1\r\nHost: {at}\r\n\r\n").as_bytes(),
        )
        .unwrap();
        let mut begin = [0; 15];
        std::io::Read::read_exact(&mut socket, &mut begin).unwrap();
        assert_eq!(String::from_utf8_lossy(&begin), "HTTP/1.1 200 OK", "{path}");
        socket
    };
    let first = connect("/live/over-rtmp.flv");
    let second = connect("/live/over-rtmp.ts");
    let third = connect("/live/over-http.mp4");
    wait_until("both are pulled", || states() == ["running", "running", "idle"]);
    drop((first, third));
    wait_until("what nobody reads is not", || states() == ["running", "idle", "idle"]);
    drop(second);
    wait_until("nor the other", || states() == ["idle", "idle", "idle"]);
    assert_eq!(relays()[0]["attempts"], 1, "one pull was for both readers");
    let nobody =
        || get(http, "/api/v1/readers", "GET", "").json()["items"].as_array().is_some_and(Vec::is_empty);
    wait_until("the source sees who leaves", nobody);
    let playlist = get(at, "/live/over-rtmp/index.m3u8", "GET", "");
    assert!(playlist.status == 200 && playlist.text().starts_with("#EXTM3U"), "{}", playlist.text());

    let asked = std::time::Instant::now();
    let down = get(at, "/live/down.flv", "GET", "");
    assert!(down.status == 404 && down.text().contains("live/down"), "{}", down.text());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    let down = relays()[2].clone();
    assert!((2..=6).contains(&down["attempts"].as_u64().unwrap()), "{down}");
    assert_eq!(get(at, "/live/down.flv", "HEAD", "").status, 404, "who only asks does not wait");
}
