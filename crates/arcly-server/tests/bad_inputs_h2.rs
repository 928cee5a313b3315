//! The row of the catalogue of bad inputs about HTTP/2 (H10): frames that cost the sender nothing, over TLS.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::bench::{Bench, Row};
use support::peer::PATIENCE;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Frame types and flags of RFC 9113 section 6.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The fields of a request (RFC 7541: static entries, and literals without a place in the table).
fn fields(method: u8, path: &str) -> Vec<u8> {
    let text = |text: &str| [&[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
    [&[method, 0x87, 0x04], &text(path)[..], &[0x01], &text("localhost")].concat()
}

const GET: u8 = 0x82;
const POST: u8 = 0x83;

/// A client of HTTP/2 that sends any frame.
struct Peer(StreamOwned<ClientConnection, TcpStream>);

impl Peer {
    fn open(addr: SocketAddr, cert: &CertificateDer<'static>) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(cert.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("localhost").unwrap();
        let socket = TcpStream::connect(addr).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut peer = Self(StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), socket));
        peer.0.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat()).unwrap();
        peer
    }

    fn name(&self) -> SocketAddr {
        self.0.sock.local_addr().unwrap()
    }

    /// Sends until the server takes no more.
    fn send(&mut self, bytes: &[u8]) {
        let _ = bytes.chunks(16 << 10).try_for_each(|piece| self.0.write_all(piece));
        let _ = self.0.flush();
    }

    /// What the server has sent until it has closed the connection.
    fn wait_end(&mut self, limit: Duration) -> Option<Vec<u8>> {
        let (end, mut got, mut buf) = (Instant::now() + limit, Vec::new(), vec![0; 16 << 10]);
        loop {
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.0.sock.set_read_timeout(Some(left)).unwrap();
            match self.0.read(&mut buf) {
                Ok(0) => return Some(got),
                Ok(count) => got.extend_from_slice(&buf[..count]),
                Err(error) if support::peer::is_timeout(&error) => return None,
                Err(_) => return Some(got),
            }
        }
    }

    /// Reads until a frame of that kind has come, on whichever stream.
    #[track_caller]
    fn wait_for(&mut self, kind: u8) {
        let mut header = [0; 9];
        while header[3] != kind || header == [0; 9] {
            self.0.read_exact(&mut header).expect("a frame");
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            self.0.read_exact(&mut vec![0; length as usize]).expect("its payload");
        }
    }
}

/// A server with a certificate and a witness.
fn start() -> (Arc<Bench>, CertificateDer<'static>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (cert, key) =
        (write("cert.pem", made.cert.pem()), write("key.pem", made.signing_key.serialize_pem()));
    let config = format!(
        "[tls]\ncert = '{cert}'\nkey = '{key}'\n[rtmp]\ntls_listen = 'off'\n[http]\ntls_listen = '127.0.0.1:0'\n"
    );
    (Arc::new(Bench::start(&[], &config)), made.cert.der().clone(), dir)
}

/// Streams of a client have odd numbers.
fn resets(count: u32) -> Vec<u8> {
    let request = fields(GET, "/healthz");
    let one = |stream| {
        [
            frame(HEADERS, END_STREAM | END_HEADERS, stream, &request),
            frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()),
        ]
    };
    (0..count).flat_map(|n| one(2 * n + 1)).flatten().collect()
}

#[test]
fn h10_floods() {
    let (bench, cert, _dir) = start();
    let https = bench.addr("https");
    let request = fields(GET, "/healthz");
    let begun = frame(HEADERS, END_STREAM, 1, &request);
    // A literal field of 1000 bytes.
    let field = [&[0, 1, b'a', 0x7F, 0xE9, 0x06][..], &[b'b'; 1_000]].concat();
    let upload = frame(HEADERS, END_HEADERS, 1, &fields(POST, "/live/h10.flv"));
    let floods = [
        ("rapid reset", resets(10_000)),
        ("CONTINUATION", [&begun[..], &frame(CONTINUATION, 0, 1, &field).repeat(10_000)].concat()),
        ("empty CONTINUATION", [&begun[..], &frame(CONTINUATION, 0, 1, &[]).repeat(50_000)].concat()),
        ("empty DATA", [&upload[..], &frame(DATA, 0, 1, &[]).repeat(50_000)].concat()),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9]).repeat(50_000)),
        ("PING", frame(PING, 0, 0, &[0; 8]).repeat(50_000)),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 9]).repeat(50_000)),
    ];
    for (what, flood) in floods {
        let id = format!("H10 {what}");
        let row = Row::on(&bench, &id).cpu(Duration::from_secs(1));
        let mut peer = Peer::open(https, &cert);
        let name = peer.name();
        peer.send(&flood);
        let sent = peer.wait_end(PATIENCE);
        assert!(sent.is_some(), "{id}: not closed");
        drop(peer);
        row.finish(&[("https", "limit(frames)", 1)], &[(name, "limit(frames)")]);
    }
}

#[test]
fn h10_a_reader_that_only_keeps_its_window_open_stays() {
    let (bench, cert, _dir) = start();
    let mut peer = Peer::open(bench.addr("https"), &cert);
    let request = fields(GET, "/live/witness.flv");
    peer.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, &request));
    for _ in 0..20 {
        let wider = [0, 1].map(|stream| frame(WINDOW_UPDATE, 0, stream, &1_000_u32.to_be_bytes())).concat();
        peer.send(&wider.repeat(100));
        peer.send(&frame(PING, 0, 0, &[0; 8]).repeat(20));
        peer.wait_for(DATA);
    }
    peer.send(&frame(GOAWAY, 0, 0, &[0; 8]));
    bench.check_witness("H10");
}
