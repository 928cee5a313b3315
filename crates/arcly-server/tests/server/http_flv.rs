use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use arcly_codec::flv::{Muxer, MuxerOptions, put_file_header, put_tag};
use arcly_core::{MediaEvent, MediaFrame, Timestamp, TrackSet};
use arcly_mux::flv::Reader;
use arcly_testkit::media::Source;
use bytes::BytesMut;

use crate::client::{PATIENCE, exchange, get, parse, read_for, start, start_demo, wait_until};

/// A stream as a file.
fn file(source: Source, seconds: u32) -> (Vec<u8>, Vec<MediaFrame>) {
    let (tracks, frames) = (source.tracks(), source.seconds(seconds));
    let mut muxer = Muxer::new(MuxerOptions::default());
    let mut out = BytesMut::new();
    put_file_header(&mut out, true, true);
    muxer.tracks(&tracks, Timestamp::ZERO).iter().for_each(|tag| put_tag(&mut out, tag));
    frames.iter().filter_map(|frame| muxer.frame(frame)).for_each(|tag| put_tag(&mut out, &tag));
    (out.to_vec(), frames)
}

fn demux(file: &[u8]) -> (TrackSet, Vec<MediaFrame>) {
    let (mut reader, mut tracks, mut frames) = (Reader::new(), TrackSet::default(), Vec::new());
    reader.push(file).unwrap();
    while let Some(event) = reader.poll_event() {
        match event {
            MediaEvent::Tracks(set) => tracks = set,
            MediaEvent::Frame(frame) => frames.push(frame),
        }
    }
    (tracks, frames)
}

/// A publisher whose body is not over yet.
fn publish(addr: SocketAddr, path: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "POST {path} HTTP/1.1\r\nHost: {addr}\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for piece in body.chunks(1_000) {
        write!(stream, "{:x}\r\n", piece.len()).unwrap();
        stream.write_all(piece).unwrap();
        stream.write_all(b"\r\n").unwrap();
    }
    stream
}

#[test]
fn what_is_posted_is_what_is_got() {
    let arcly = start(&[]);
    let http = arcly.addr("http");
    let (file, sent) = file(Source::h264_aac(), 3);
    let mut publisher = publish(http, "/live/cam.flv", &file);
    let frames_in = || get(http, "/api/v1/streams/live/cam", "GET", "").json()["frames_in"].as_u64();
    // A reader who is behind so much of it, ahead of its time, would be sent a part of it.
    wait_until("all of it is in", || frames_in() == Some(sent.len() as u64));
    // Three GOPs are kept, and the reader begins at the newest: what it gets is the end of what was sent.
    let body = read_for(http, "/live/cam.flv", Duration::from_secs(2));
    assert!(body.starts_with(b"FLV\x01\x05"));
    let (tracks, got) = demux(&body);
    assert_eq!(tracks.len(), 2);
    assert!(got.len() > 30, "{} frames", got.len());
    let tail = &sent[sent.len() - got.len()..];
    assert!(tail[0].is_keyframe());
    let base = got[0].dts - tail[0].dts;
    for (sent, got) in tail.iter().zip(&got) {
        assert_eq!(got.payload, sent.payload);
        let expect = (sent.dts + base).to_millis();
        assert!((got.dts.to_millis() - expect).abs() <= 1, "{:?} is not {expect} ms", got.dts);
        assert_eq!(got.composition_offset().to_millis(), sent.composition_offset().to_millis());
    }
    publisher.write_all(b"0\r\n\r\n").unwrap();
    let mut answer = vec![0; 1024];
    let count = publisher.read(&mut answer).unwrap();
    assert_eq!(parse(&answer[..count]).status, 204);
}

#[test]
fn heads_say_what_comes() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    let head = get(http, "/live/demo.flv", "HEAD", "Origin: https://page.example\r\n");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-type"), Some("video/x-flv"));
    assert_eq!(head.header("cache-control"), Some("no-store"));
    assert_eq!(head.header("access-control-allow-origin"), Some("*"));
    let preflight = get(http, "/live/demo.flv", "OPTIONS", "Origin: https://page.example\r\n");
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-methods").is_some_and(|methods| methods.contains("POST")));
    let page = get(http, "/live/none", "GET", "");
    assert_eq!(page.status, 404);
    assert!(page.text().contains("live/none"));
}

/// The player's page asks like this whether there is anything to play.
#[test]
fn who_asks_for_the_head_reads_nothing() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    for path in ["/live/demo.flv", "/live/demo.ts", "/live/demo.mp4"] {
        assert_eq!(get(http, path, "HEAD", "").status, 200, "{path}");
    }
    assert!(read_for(http, "/live/demo.flv", Duration::from_millis(500)).starts_with(b"FLV"));
    wait_until("the reader has left", || arcly.log().contains("reader left"));
    let log = arcly.log();
    let lines = |what| log.lines().filter(|line| line.contains(what)).count();
    assert_eq!((lines("playing stream="), lines("reader left")), (1, 1), "{log}");
}

#[test]
fn bad_publishers_are_told_why() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    let post = |path: &str, body: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        exchange(http, &[head.as_bytes(), body].concat())
    };
    let (good, _) = file(Source::h264_aac(), 1);
    let cases: [(&str, &[u8], u16, &str); 5] = [
        ("/live/a.flv", b"not FLV at all, nor anything like it", 400, "malformed"),
        ("/live/b.flv", b"", 400, "malformed"),
        ("/live/c.flv", &good[..good.len() - 100], 400, "malformed"),
        ("/live/d.flv", b"FLV\x01\x05\0\0\0\x09\0\0\0\0\x09\xFF\xFF\xFF\0\0\0\0\0\0\0", 413, "limit(tag)"),
        ("/live/demo.flv", &good, 409, "conflict"),
    ];
    for (path, body, status, reason) in cases {
        let answer = post(path, body);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert_eq!(answer.json()["reason"], reason, "{path}");
    }
}

#[test]
fn websocket_carries_the_same_bytes() {
    let arcly = start_demo();
    let http = arcly.addr("http");
    let key = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let missing =
        exchange(http, format!("GET /live/none.flv HTTP/1.1\r\nHost: {http}\r\n{key}\r\n").as_bytes());
    assert_eq!(missing.status, 404);

    let mut socket = TcpStream::connect(http).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET /live/demo.flv HTTP/1.1\r\nHost: {http}\r\n{key}\r\n").unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let head = parse(&head);
    assert_eq!(
        (head.status, head.header("sec-websocket-accept")),
        (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    );
    let mut file = Vec::new();
    while demux(&file).1.len() < 100 {
        file.extend(read_message(&mut socket));
    }
    assert!(file.starts_with(b"FLV\x01\x05"));
    assert_eq!(demux(&file).0.len(), 2);
}

/// One unfragmented binary message of a server (RFC 6455 5.2).
fn read_message(socket: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    socket.read_exact(&mut head).unwrap();
    assert_eq!(head[0], 0x82, "a whole binary message");
    let length = match head[1] {
        126 => {
            let mut length = [0; 2];
            socket.read_exact(&mut length).unwrap();
            u64::from(u16::from_be_bytes(length))
        }
        127 => {
            let mut length = [0; 8];
            socket.read_exact(&mut length).unwrap();
            u64::from_be_bytes(length)
        }
        short => u64::from(short),
    };
    let mut message = vec![0; usize::try_from(length).unwrap()];
    socket.read_exact(&mut message).unwrap();
    message
}
