use std::process::Command;

use arcly_testkit::process::{Arcly, run};

use crate::client::{PATIENCE, arcly, wait_until};

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
            "[tls]\ncert = '{cert}'\nkey = '{key}'\n[rtmp]\nlisten = '127.0.0.1:0'\ntls_listen = '127.0.0.1:0'\n\
             [http]\nlisten = '127.0.0.1:0'\ntls_listen = '127.0.0.1:0'\n"
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
    assert_ne!(rtmps.port(), 0);
}
