//! RTMP chunk streams, both ways, and the AMF of its commands.
//!
//! **Question.** At what rate are messages cut into chunks and put together again, against copying the same bytes?
//!
//! **Hypothesis.** Encoding is one copy and twelve bytes of header per message at the chunk size that we announce
//! (60 000), and a little more at the 128 bytes that everybody starts with; decoding is one copy.
//!
//! **Decision rule.** At 60 000 and at 4 096 at least a third of the rate of the copy, which has its buffer already where
//! the decoder makes one for each message; at 128 a chunk header per 128 bytes is parsed, and 1 GB/s is asked for. A
//! `connect` command is decoded and encoded in 2 µs each.
//!
//! What is encoded is a second of 4 Mbit/s H.264 and AAC; what is decoded comes in pieces of 64 KiB, as from a socket.

use arcly_benches::{Bench, FlvPacketizer, Goal, Media, Unit};
use arcly_codec::amf0::{self, Object, Value};
use arcly_core::TrackId;
use arcly_core::derived::Packetizer;
use arcly_rtmp::wire::{
    ChunkDecoder, ChunkLimits, ChunkStreamId, MessageHeader, MessageType, encode_message,
};
use bytes::{Bytes, BytesMut};

const CHUNK_SIZES: [(usize, Option<f64>); 3] = [(128, Some(1.0)), (4_096, None), (60_000, None)];
const PIECE: usize = 64 << 10;
/// Of the rate of a copy.
const SHARE: f64 = 0.33;
const AMF_TARGET: f64 = 2_000.0;

fn main() {
    let mut bench = Bench::new("rtmp");
    let messages = messages();
    let bytes: usize = messages.iter().map(|(_, body)| body.len()).sum();
    let unit = Unit::Throughput(bytes as u64);
    let mut out = BytesMut::with_capacity(2 * bytes);
    let copy = bench.plain("copy", unit, Goal::NONE, || {
        out.clear();
        messages.iter().for_each(|(_, body)| out.extend_from_slice(body));
    });
    for (chunk_size, target) in CHUNK_SIZES {
        let goal = Goal { target: target.or(copy.map(|copy| copy * SHARE)), ..Goal::NONE }.over(copy, "copy");
        bench.plain(&format!("encode, chunks of {chunk_size}"), unit, goal, || {
            out.clear();
            encode(&messages, chunk_size, &mut out);
        });
        let mut encoded = BytesMut::new();
        encode(&messages, chunk_size, &mut encoded);
        bench.plain(&format!("decode, chunks of {chunk_size}"), unit, goal, || {
            assert_eq!(decode(&encoded, chunk_size), messages.len());
        });
    }
    amf(&mut bench);
}

/// The messages of one second.
fn messages() -> Vec<(MessageHeader, Bytes)> {
    let media = Media::h264_aac();
    let mut packetizer = FlvPacketizer::default();
    packetizer.headers(&media.tracks().into());
    let mut packets = Vec::new();
    media.second().iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    let message = |packet: arcly_core::derived::Packet| {
        let video = packet.track == TrackId::VIDEO;
        let header = MessageHeader {
            csid: if video { ChunkStreamId::VIDEO } else { ChunkStreamId::AUDIO },
            timestamp: u32::try_from(packet.dts.to_millis()).unwrap_or_default(),
            kind: if video { MessageType::Video } else { MessageType::Audio },
            stream_id: 1,
        };
        (header, packet.bytes)
    };
    packets.into_iter().map(message).collect()
}

fn encode(messages: &[(MessageHeader, Bytes)], chunk_size: usize, out: &mut BytesMut) {
    for (header, body) in messages {
        encode_message(out, header, &[body], chunk_size);
    }
}

fn decode(encoded: &[u8], chunk_size: usize) -> usize {
    let mut decoder = ChunkDecoder::new(ChunkLimits::default());
    decoder.set_chunk_size(u32::try_from(chunk_size).unwrap_or(u32::MAX));
    let mut messages = 0;
    for mut piece in encoded.chunks(PIECE) {
        while let Some(message) = decoder.decode(&mut piece).expect("our own chunks") {
            std::hint::black_box(message);
            messages += 1;
        }
    }
    messages
}

/// `connect` as OBS sends it.
fn connect() -> Vec<Value> {
    let fourccs = ["av01", "vp09", "hvc1", "Opus"].map(Value::from).to_vec();
    let object = Object::new()
        .with("app", "live")
        .with("type", "nonprivate")
        .with("flashVer", "FMLE/3.0 (compatible; FMSc/1.0)")
        .with("swfUrl", "rtmp://ingest.example.com:1935/live")
        .with("tcUrl", "rtmp://ingest.example.com:1935/live")
        .with("capsEx", 3.0)
        .with("fourCcList", Value::StrictArray(fourccs));
    vec!["connect".into(), 1.0.into(), object.into()]
}

fn amf(bench: &mut Bench) {
    let (values, goal) = (connect(), Goal::target(AMF_TARGET));
    let encoded = amf0::encode_all(&values);
    bench.plain("AMF0 connect, encode", Unit::NanosPer("command", 1), goal, || amf0::encode_all(&values));
    bench.plain("AMF0 connect, decode", Unit::NanosPer("command", 1), goal, || {
        amf0::decode_all(&encoded).expect("our own command")
    });
}
