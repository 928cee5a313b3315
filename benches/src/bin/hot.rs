//! The hot paths, each a given number of times and nothing else: what `cargo xtask bench instructions` runs under callgrind.
//!
//! Without arguments it lists them: name, what is counted, and how many of those one repetition does.
#![allow(clippy::print_stdout, reason = "the list is what xtask reads")]

use std::sync::Arc;
use std::time::Instant;

use arcly_benches::load::{Clip, Peer, Role, RtmpPeer, Shape, put_message};
use arcly_benches::{FlvPacketizer, HlsPlayers, Media, Published};
use arcly_codec::flv::{Demuxer, FileDecoder, FileTag, Limits, put_file_header};
use arcly_core::derived::{Packet, Packetizer};
use arcly_core::log::Budget;
use arcly_core::machine::{Machine, Output};
use arcly_core::{Engine, MediaEvent, PublishRegistry, PublishRequest, StreamKey, TrackId};
use arcly_mux::ts;
use arcly_rtmp::media::Ingest;
use arcly_rtmp::wire::handshake::Entropy;
use arcly_rtmp::wire::{
    ChunkDecoder, ChunkLimits, ChunkStreamId, MessageHeader, MessageType, encode_message,
};
use arcly_rtmp::{ServerEvent, ServerSession, SessionConfig};
use bytes::{Bytes, BytesMut};
use tokio::runtime::{Builder, Runtime};

/// What one read of a socket gives at most.
const PIECE: usize = 64 << 10;
const CURSORS: u64 = 100;
const PLAYERS: usize = 200;
/// What one repetition of ingest takes in: about a second of 1080p30.
const INGESTED: usize = 77;

/// A hot path: its name, what it is counted in, how many of those a repetition does, and how to do it so often.
struct Hot {
    name: &'static str,
    unit: &'static str,
    per: fn() -> usize,
    run: fn(u64),
}

const HOT: [Hot; 13] = [
    Hot { name: "RTMP ingest", unit: "message", per: || INGESTED, run: ingest },
    Hot { name: "chunk decode, 128", unit: "message", per: frames, run: |n| decode(n, 128) },
    Hot { name: "chunk decode, 4096", unit: "message", per: frames, run: |n| decode(n, 4_096) },
    Hot { name: "chunk decode, 60000", unit: "message", per: frames, run: |n| decode(n, 60_000) },
    Hot { name: "chunk encode, 60000", unit: "message", per: frames, run: encode },
    Hot { name: "FLV mux", unit: "frame", per: frames, run: mux },
    Hot { name: "FLV demux", unit: "tag", per: frames, run: demux },
    Hot { name: "publish", unit: "frame", per: || 1, run: publish },
    Hot { name: "log fan-out, 100 cursors", unit: "delivery", per: || 100, run: fan_out },
    Hot { name: "join", unit: "join", per: || 1, run: join },
    Hot { name: "TS demux", unit: "frame", per: frames, run: demux_ts },
    Hot { name: "LL-HLS playlist", unit: "request", per: || PLAYERS, run: hls_playlists },
    Hot { name: "LL-HLS part", unit: "request", per: || PLAYERS, run: hls_parts },
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, times] = args.as_slice() else {
        HOT.iter().for_each(|hot| println!("{}\t{}\t{}", hot.name, hot.unit, (hot.per)()));
        return;
    };
    let times = times.parse().expect("a number of repetitions");
    let hot = HOT.iter().find(|hot| hot.name == name).expect("the name of a hot path");
    (hot.run)(times);
}

fn packets() -> Vec<Packet> {
    let media = Media::h264_aac();
    let mut packetizer = FlvPacketizer::default();
    packetizer.headers(&media.tracks().into());
    let mut packets = Vec::new();
    media.second().iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    packets
}

/// Frames of the second that everything here is about.
fn frames() -> usize {
    packets().len()
}

fn messages() -> Vec<(MessageHeader, Bytes)> {
    let message = |packet: Packet| {
        let video = packet.track == TrackId::VIDEO;
        let header = MessageHeader {
            csid: if video { ChunkStreamId::VIDEO } else { ChunkStreamId::AUDIO },
            timestamp: u32::try_from(packet.dts.to_millis()).unwrap_or_default(),
            kind: if video { MessageType::Video } else { MessageType::Audio },
            stream_id: 1,
        };
        (header, packet.bytes)
    };
    packets().into_iter().map(message).collect()
}

fn decode(times: u64, chunk_size: usize) {
    let mut encoded = BytesMut::new();
    for (header, body) in messages() {
        encode_message(&mut encoded, &header, &[&body], chunk_size);
    }
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    decoder.set_chunk_size(u32::try_from(chunk_size).unwrap_or(u32::MAX));
    for _ in 0..times {
        for mut piece in encoded.chunks(PIECE) {
            while let Some(message) = decoder.decode(&mut piece).expect("our own chunks") {
                std::hint::black_box(message);
            }
        }
    }
}

/// From the bytes of a socket to the log: what a server does with a publisher.
fn ingest(times: u64) {
    let runtime = runtime();
    let engine = Engine::builder().build();
    let publisher = runtime.block_on(async {
        engine.publish(PublishRequest::internal(StreamKey::new("live", "bench0"), "bench")).await
    });
    let mut ingest = Ingest::new(publisher.expect("the engine takes every publisher"));
    let now = Instant::now();
    let config = Arc::new(SessionConfig::default());
    let mut session = ServerSession::new(config, Entropy::from_fn(|bytes| bytes.fill(7)), now);
    let mut peer = RtmpPeer::new(Role::Publish(4_096), "live", "bench0");
    let mut out = Vec::new();
    peer.open(&mut out);
    while !peer.is_ready() {
        session.handle_input(now, &std::mem::take(&mut out)).expect("our own client");
        loop {
            match session.poll_output() {
                Output::Transmit(bytes) => {
                    peer.receive(&bytes, &mut out, &mut drop).expect("our own server");
                }
                Output::Event(ServerEvent::PublishRequest { stream, .. }) => {
                    session.accept_publish(now, stream);
                }
                Output::Event(_) => {}
                Output::Wait(_) => break,
            }
        }
    }
    let clip = Clip::new(Shape::HD);
    let mut position = clip.position();
    let (mut body, mut bytes) = (Vec::new(), Vec::new());
    clip.headers().for_each(|(kind, body)| put_message(&mut bytes, kind, 0, body, 4_096));
    for _ in 0..times {
        for _ in 0..INGESTED {
            let tag = clip.next(&mut position);
            body.clear();
            tag.put(&mut body, 0);
            put_message(&mut bytes, tag.kind, tag.timestamp(), &body, 4_096);
        }
        for piece in bytes.chunks(PIECE) {
            session.handle_input(now, piece).expect("our own client");
            loop {
                match session.poll_output() {
                    Output::Event(ServerEvent::Tag { tag, .. }) => ingest.handle(tag).expect("our own tags"),
                    Output::Wait(_) => break,
                    _ => {}
                }
            }
        }
        bytes.clear();
    }
}

fn encode(times: u64) {
    let messages = messages();
    let mut out = BytesMut::new();
    for _ in 0..times {
        out.clear();
        messages.iter().for_each(|(header, body)| encode_message(&mut out, header, &[body], 60_000));
        std::hint::black_box(&out);
    }
}

fn mux(times: u64) {
    let media = Media::h264_aac();
    let mut packetizer = FlvPacketizer::default();
    packetizer.headers(&media.tracks().into());
    let frames = media.second();
    let mut packets = Vec::new();
    for _ in 0..times {
        packets.clear();
        frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
        std::hint::black_box(&packets);
    }
}

fn tags() -> Vec<FileTag> {
    let media = Media::h264_aac();
    let mut packetizer = FlvPacketizer::default();
    let headers = packetizer.headers(&media.tracks().into());
    let mut packets = Vec::new();
    media.second().iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    let mut file = BytesMut::new();
    put_file_header(&mut file, true, true);
    headers.parts.iter().for_each(|(_, bytes)| file.extend_from_slice(bytes));
    packets.iter().for_each(|packet| file.extend_from_slice(&packet.bytes));
    let mut decoder = FileDecoder::new();
    decoder.push(&file);
    core::iter::from_fn(|| decoder.next_tag().expect("our own file")).collect()
}

fn demux(times: u64) {
    let tags = tags();
    for _ in 0..times {
        let mut demuxer = Demuxer::new(Limits::default());
        for tag in &tags {
            let at = i64::from(tag.timestamp_ms);
            demuxer.handle_tag(tag.kind, at, tag.body.clone()).expect("our own tags");
            while let Some(event) = demuxer.poll_event() {
                std::hint::black_box(matches!(event, MediaEvent::Frame(_)));
            }
        }
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().expect("a runtime")
}

fn publish(times: u64) {
    let mut stream = runtime().block_on(Published::start());
    for _ in 0..times {
        let frame = stream.next_frame();
        stream.publish(frame);
    }
}

fn fan_out(times: u64) {
    let runtime = runtime();
    let mut stream = runtime.block_on(Published::start());
    let mut readers: Vec<_> =
        (0..CURSORS).map(|_| runtime.block_on(stream.subscribe()).into_frames()).collect();
    for _ in 0..times {
        let frame = stream.next_frame();
        stream.publish(frame);
        for reader in &mut readers {
            reader.read(Budget::UNLIMITED, |read| drop(std::hint::black_box(read))).expect("nobody ends it");
        }
    }
}

fn join(times: u64) {
    let runtime = runtime();
    let stream = runtime.block_on(Published::start());
    let budget = Budget { items: 1, ..Budget::default() };
    for _ in 0..times {
        let mut reader = runtime.block_on(stream.subscribe()).into_frames();
        reader.read(budget, |read| drop(std::hint::black_box(read))).expect("nobody ends it");
    }
}

fn demux_ts(times: u64) {
    let media = Media::h264_aac();
    let mut muxer = ts::Muxer::new();
    muxer.set_tracks(&media.tracks());
    let mut file = BytesMut::new();
    media.second().iter().for_each(|frame| muxer.frame(frame, &mut file));
    for _ in 0..times {
        let mut demuxer = ts::Demuxer::default();
        for piece in file.chunks(PIECE) {
            demuxer.push(piece).expect("our own packets");
            while let Some(event) = demuxer.poll_event() {
                std::hint::black_box(matches!(event, MediaEvent::Frame(_)));
            }
        }
    }
}

/// Each waits for a version of the playlist; what making it costs is shared by all.
fn hls_playlists(times: u64) {
    runtime().block_on(async {
        let mut players = HlsPlayers::start(PLAYERS).await;
        for _ in 0..times {
            players.playlists().await;
        }
    });
}

fn hls_parts(times: u64) {
    runtime().block_on(async {
        let mut players = HlsPlayers::start(PLAYERS).await;
        (0..times).for_each(|_| players.parts());
    });
}
