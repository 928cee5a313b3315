//! Streams as the bodies of requests and answers: everything that was sent is there, and the end is an end.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use arcly_codec::flv::{Muxer, MuxerOptions, put_file_header, put_tag};
use arcly_core::{MediaFrame, Timestamp, TrackSet};
use arcly_mux::{fmp4, ts};
use arcly_testkit::media::Source;
use arcly_testkit::process::Arcly;
use bytes::BytesMut;

use crate::client::{PATIENCE, start, wait_until};

/// Three seconds of a stream in each container, and how many frames that is.
fn files() -> ([(&'static str, Vec<u8>); 3], usize) {
    let source = Source::h264_aac();
    let (tracks, frames) = (source.tracks(), source.seconds(3));
    let count = frames.len();
    ([("flv", flv(&tracks, &frames)), ("ts", ts(&tracks, &frames)), ("mp4", mp4(&tracks, &frames))], count)
}

fn flv(tracks: &TrackSet, frames: &[MediaFrame]) -> Vec<u8> {
    let (mut muxer, mut out) = (Muxer::new(MuxerOptions::default()), BytesMut::new());
    put_file_header(&mut out, true, true);
    muxer.tracks(tracks, Timestamp::ZERO).iter().for_each(|tag| put_tag(&mut out, tag));
    frames.iter().filter_map(|frame| muxer.frame(frame)).for_each(|tag| put_tag(&mut out, &tag));
    out.to_vec()
}

fn ts(tracks: &TrackSet, frames: &[MediaFrame]) -> Vec<u8> {
    let (mut muxer, mut out) = (ts::Muxer::new(), BytesMut::new());
    muxer.set_tracks(tracks);
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    out.to_vec()
}

fn mp4(tracks: &TrackSet, frames: &[MediaFrame]) -> Vec<u8> {
    let mut writer = fmp4::FileWriter::new(tracks, fmp4::FileOptions::default()).unwrap();
    let mut out = Vec::new();
    frames.iter().for_each(|frame| writer.push(frame, &mut out).unwrap());
    writer.end(&mut out).unwrap();
    out.concat()
}

/// A request with all of its body, in one of the two ways to say how long that is.
fn request(addr: SocketAddr, path: &str, body: &[u8], chunked: bool) -> Vec<u8> {
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    let mut sent = Vec::new();
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(1_316) {
            write!(sent, "{:x}\r\n", piece.len()).unwrap();
            sent.extend_from_slice(piece);
            sent.extend_from_slice(b"\r\n");
        }
        sent.extend_from_slice(b"0\r\n\r\n");
    } else {
        write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
        sent.extend_from_slice(body);
    }
    [head.as_bytes(), &sent].concat()
}

/// How many frames the log says that the publisher of a stream has published, once it has left.
fn published(arcly: &Arcly, stream: &str) -> Option<usize> {
    let (log, name) = (arcly.log(), format!(" stream={stream} "));
    let line = log.lines().find(|line| line.contains("publisher left") && line.contains(&name))?;
    line.split(" frames=").nth(1)?.split(' ').next()?.parse().ok()
}

/// FFmpeg sends the end of its body and closes the connection; nobody is there when the server has taken it all.
#[test]
fn a_publisher_that_leaves_with_its_last_byte_loses_nothing() {
    let arcly = start(&[]);
    let http = arcly.addr("http");
    let (files, count) = files();
    for round in 0..8 {
        for (ending, body) in &files {
            for chunked in [true, false] {
                let stream = format!("live/{ending}{round}{}", if chunked { "chunked" } else { "length" });
                let mut socket = TcpStream::connect(http).unwrap();
                socket.write_all(&request(http, &format!("/{stream}.{ending}"), body, chunked)).unwrap();
                drop(socket);
                wait_until("the publisher has left", || published(&arcly, &stream).is_some());
                assert_eq!(published(&arcly, &stream), Some(count), "{stream}");
            }
        }
    }
}

/// An answer that is cut off looks like a failure; one that ended with its stream has its last chunk.
#[test]
fn bodies_end_with_their_stream() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("arcly.toml");
    std::fs::write(&config, "[apps.default]\ngrace = '0s'\nwait_for_stream = '20s'\n").unwrap();
    let arcly = start(&["-c", config.to_str().unwrap()]);
    let http = arcly.addr("http");
    let (files, _) = files();
    let (_, flv) = &files[0];
    let request = request(http, "/live/x.flv", flv, true);
    let (begin, end) = request.split_at(request.len() - 5);
    let mut publisher = TcpStream::connect(http).unwrap();
    publisher.write_all(begin).unwrap();
    let mut readers = ["flv", "ts", "mp4"].map(|ending| {
        let mut socket = TcpStream::connect(http).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(socket, "GET /live/x.{ending} HTTP/1.1\r\nHost: {http}\r\n\r\n").unwrap();
        let mut first = vec![0; 64];
        socket.read_exact(&mut first).unwrap();
        assert!(first.starts_with(b"HTTP/1.1 200 "), "{ending}: {}", first.escape_ascii());
        (ending, socket)
    });
    publisher.write_all(end).unwrap();
    for (ending, socket) in &mut readers {
        let (mut body, mut piece) = (Vec::new(), [0; 65_536]);
        while !body.ends_with(b"\r\n0\r\n\r\n") {
            let count = socket.read(&mut piece).unwrap();
            assert!(count > 0, "{ending} ends without its last chunk");
            body.extend_from_slice(&piece[..count]);
        }
        assert!(body.len() > 1_000, "{ending}: {} bytes", body.len());
    }
}
