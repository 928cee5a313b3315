use std::process::Command;
use std::time::{Duration, Instant};

use arcly_testkit::process::{Arcly, run};

use crate::client::{PATIENCE, arcly, get, wait_until};

#[test]
fn a_certificate_starts_https_and_rtmps() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let cert = write("cert.pem", made.cert.pem());
    let key = write("key.pem", made.signing_key.serialize_pem());
    let config = write(
        "arcly.toml",
        format!(
            "[tls]\ncert = '{cert}'\nkey = '{key}'\n[rtmp]\nlisten = '127.0.0.1:0'\n\
             [http]\nlisten = '127.0.0.1:0'\n"
        ),
    );
    let server = Arcly::start(&mut arcly(&["demo", "-c", &config]));
    let (https, rtmps) = (server.addr("https"), server.addr("rtmps"));
    for version in ["--http1.1", "--http2"] {
        let url = format!("https://localhost:{}/live/demo.flv", https.port());
        let resolve = format!("localhost:{}:127.0.0.1", https.port());
        let curl = || {
            let mut curl = Command::new("curl");
            curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code} %{http_version}", "-I", version]);
            curl.args(["--cacert", &cert, "--resolve", &resolve, &url]);
            String::from_utf8(run(&mut curl, PATIENCE).stdout).unwrap()
        };
        let expect = if version == "--http2" { "200 2" } else { "200 1.1" };
        wait_until(expect, || curl() == expect);
    }
    // Tests that run at the same time do not take the ports of each other, whatever they are the defaults of.
    assert_ne!((rtmps.port(), https.port()), (1936, 8443));
}

/// What a browser does that plays several renditions over HTTPS: its requests wait side by side on one connection.
#[test]
fn requests_of_hls_that_wait_share_one_connection_of_http_2() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let file = |name: &str| dir.path().join(name);
    put(dir.path(), &made);
    let config = format!(
        "[tls]\ncert = '{}'\nkey = '{}'\n[rtmp]\ntls_listen = 'off'\n[http]\ntls_listen = '127.0.0.1:0'\n",
        file("cert.pem").display(),
        file("key.pem").display(),
    );
    std::fs::write(file("arcly.toml"), config).unwrap();
    let flags = ["demo", "--rtmp", "off", "--http", "127.0.0.1:0", "-c"];
    let server = Arcly::start(arcly(&flags).arg(file("arcly.toml")));
    let (http, https) = (server.addr("http"), server.addr("https").port());
    let playlist = |name: &str| get(http, &format!("/live/demo/{name}"), "GET", "");
    wait_until("there are playlists", || playlist("index.m3u8").status == 200);

    // Thirty wait for the end of the segment in the making, of each rendition, and thirty for what comes after the next part.
    let mut list = String::new();
    for name in ["video0.m3u8", "audio1.m3u8"] {
        let text = playlist(name).text();
        let number = |tag: &str| text.lines().find_map(|line| line.strip_prefix(tag)?.parse::<u64>().ok());
        let listed = text.lines().filter(|line| line.starts_with("#EXTINF:")).count() as u64;
        let next = number("#EXT-X-MEDIA-SEQUENCE:").unwrap() + listed;
        let hint =
            text.lines().find_map(|line| line.strip_prefix("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"")).unwrap();
        let hint = hint.trim_end_matches('"');
        for _ in 0..15 {
            for what in
                [format!("{name}?_HLS_msn={next}"), format!("{name}?_HLS_msn={}", next + 1), hint.to_owned()]
            {
                list += &format!(
                    "url = \"https://localhost:{https}/live/demo/{what}\"\noutput = \"/dev/null\"\n"
                );
            }
        }
    }
    std::fs::write(file("list"), &list).unwrap();
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "--http2",
        "-Z",
        "--parallel-max",
        "100",
        "-w",
        "%{http_code} %{http_version} %{num_connects}\\n",
    ]);
    curl.args(["--resolve", &format!("localhost:{https}:127.0.0.1"), "--cacert"]).arg(file("cert.pem"));
    let said = run(curl.arg("-K").arg(file("list")), PATIENCE);
    let text = String::from_utf8(said.stdout).unwrap();
    let answers: Vec<&str> = text.lines().collect();
    assert_eq!(answers.len(), 90, "{text}");
    assert!(answers.iter().all(|answer| answer.starts_with("200 2 ")), "{text}");
    let connections: u32 =
        answers.iter().filter_map(|answer| answer.rsplit(' ').next()?.parse::<u32>().ok()).sum();
    assert_eq!(connections, 1, "{text}");
}

/// A certificate and its key, each written as a whole.
fn put(dir: &std::path::Path, made: &rcgen::CertifiedKey<rcgen::KeyPair>) {
    for (name, text) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
        std::fs::write(dir.join("new"), text).unwrap();
        std::fs::rename(dir.join("new"), dir.join(name)).unwrap();
    }
}

/// Asks for `path` of `https`, trusting only the certificate in that file; curl's exit code.
fn trusts(https: u16, cert: &std::path::Path, path: &str) -> bool {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "--max-time", "5", "--cacert"]).arg(cert);
    curl.args(["--resolve", &format!("localhost:{https}:127.0.0.1")]);
    run(curl.arg(format!("https://localhost:{https}{path}")), PATIENCE).status.success()
}

#[test]
fn f58_a_certificate_is_replaced_under_running_sessions() {
    let dir = tempfile::tempdir().unwrap();
    let made = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (old, new) = (made(), made());
    let file = |name: &str| dir.path().join(name);
    std::fs::write(file("old.pem"), old.cert.pem()).unwrap();
    std::fs::write(file("newest.pem"), new.cert.pem()).unwrap();
    put(dir.path(), &old);
    let config = format!(
        "[tls]\ncert = '{}'\nkey = '{}'\n[rtmp]\ntls_listen = 'off'\n[http]\ntls_listen = '127.0.0.1:0'\n",
        file("cert.pem").display(),
        file("key.pem").display(),
    );
    std::fs::write(file("arcly.toml"), config).unwrap();
    let flags = ["demo", "--rtmp", "off", "--http", "127.0.0.1:0", "-c"];
    let mut server = Arcly::start(arcly(&flags).arg(file("arcly.toml")));
    let (http, https) = (server.addr("http"), server.addr("https").port());
    wait_until("live/demo is live", || get(http, "/live/demo.flv", "HEAD", "").status == 200);
    assert!(trusts(https, &file("old.pem"), "/healthz") && !trusts(https, &file("newest.pem"), "/healthz"));

    // A session that lasts through all of it.
    let url = format!("https://localhost:{https}/live/demo.flv");
    let mut curl = Command::new("curl");
    curl.args(["-s", "--max-time", "8", "-o"]).arg(file("played.flv")).arg("--cacert").arg(file("old.pem"));
    curl.args(["--resolve", &format!("localhost:{https}:127.0.0.1"), &url]);
    let session = std::thread::spawn(move || run(&mut curl, PATIENCE));
    wait_until("it plays", || get(http, "/api/v1/readers", "GET", "").text().contains("\"id\""));
    let metric = |name: &str| {
        let metrics = get(http, "/metrics", "GET", "").text();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).expect(name).trim().to_owned();
        line.parse::<f64>().unwrap()
    };
    assert!(metric("arcly_tls_certificate_expiry_timestamp_seconds ") > 2e9);

    let began = Instant::now();
    std::fs::write(file("cert.pem"), &new.cert.pem().as_bytes()[..100]).unwrap();
    wait_until("the half of a certificate is refused", || {
        metric("arcly_tls_certificate_rejected_total ") >= 1.0
    });
    assert!(server.log().contains("the TLS certificate in use stays"), "{}", server.log());
    assert!(trusts(https, &file("old.pem"), "/healthz"), "the old one stays");
    put(dir.path(), &new);
    wait_until("the new certificate is served", || trusts(https, &file("newest.pem"), "/healthz"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());

    put(dir.path(), &old);
    server.process().signal("HUP");
    wait_until("the old certificate is back", || trusts(https, &file("old.pem"), "/healthz"));
    let played = session.join().unwrap();
    assert_eq!(played.status.code(), Some(28), "the session lasts until curl has had enough");
    let length = std::fs::metadata(file("played.flv")).unwrap().len();
    assert!(length > 100_000, "{length} bytes of the stream");
}
