//! What whole streams become: round trips, splits, losses, tables that lie.

mod losses;
mod round_trips;
mod tables;
mod units;

use arcly_codec::opus;
use arcly_core::codec::{AudioParams, AudioSpecificConfig, OpusConfig};
use arcly_core::{
    CodecConfig, CodecId, FourCc, FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, Track,
    TrackId, TrackKind, TrackSet,
};
use arcly_testkit::media::{Source, picture_of};
use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};

use super::*;
use crate::ts::packet::{NULL_PID, SYNC_BYTE};
use crate::ts::pes::PesHeader;
use crate::ts::psi::{Pat, StreamInfo};
use crate::ts::{Muxer, ORIGIN};

const VIDEO_PID: u16 = 0x100;
const PMT_PID: u16 = 0x1000;

fn mux(tracks: &TrackSet, frames: &[MediaFrame]) -> BytesMut {
    let (mut muxer, mut out) = (Muxer::new(), BytesMut::new());
    muxer.set_tracks(tracks);
    frames.iter().for_each(|frame| muxer.frame(frame, &mut out));
    out
}

/// The events of a stream that comes in pieces, and what was tolerated.
fn demux_in(data: &[u8], piece: usize) -> (Vec<MediaEvent>, Counters) {
    let (mut demuxer, mut events) = (Demuxer::default(), Vec::new());
    for piece in data.chunks(piece) {
        demuxer.push(piece).unwrap();
        events.extend(core::iter::from_fn(|| demuxer.poll_event()));
    }
    demuxer.finish().unwrap();
    events.extend(core::iter::from_fn(|| demuxer.poll_event()));
    (events, demuxer.counters())
}

fn demux(data: &[u8]) -> (Vec<MediaEvent>, Counters) {
    demux_in(data, 1_316)
}

fn frames(events: &[MediaEvent]) -> Vec<MediaFrame> {
    let frame = |event: &MediaEvent| match event {
        MediaEvent::Frame(frame) => Some(frame.clone()),
        MediaEvent::Tracks(_) => None,
    };
    events.iter().filter_map(frame).collect()
}

fn tracks(events: &[MediaEvent]) -> Vec<TrackSet> {
    let set = |event: &MediaEvent| match event {
        MediaEvent::Tracks(set) => Some(set.clone()),
        MediaEvent::Frame(_) => None,
    };
    events.iter().filter_map(set).collect()
}

/// As it comes back: a second later, in ticks of 90 kHz.
fn expected(frame: &MediaFrame) -> (TrackId, i64, i64, Bytes, bool) {
    let ticks = |at: Timestamp| (at + ORIGIN).to_ticks(Timescale::MPEG);
    (frame.track, ticks(frame.pts), ticks(frame.dts), frame.payload.clone(), frame.is_keyframe())
}

fn got(frame: &MediaFrame) -> (TrackId, i64, i64, Bytes, bool) {
    let ticks = |at: Timestamp| at.to_ticks(Timescale::MPEG);
    (frame.track, ticks(frame.pts), ticks(frame.dts), frame.payload.clone(), frame.is_keyframe())
}

/// Asserts that the frames of each track are those that went in.
fn assert_same(sent: &[MediaFrame], received: &[MediaFrame]) {
    let ids: std::collections::BTreeSet<_> = sent.iter().map(|frame| frame.track).collect();
    for id in ids {
        let sent: Vec<_> = sent.iter().filter(|frame| frame.track == id).map(expected).collect();
        let received: Vec<_> = received.iter().filter(|frame| frame.track == id).map(got).collect();
        assert_eq!(sent.len(), received.len(), "frames of track {id}");
        for (n, (sent, received)) in sent.iter().zip(&received).enumerate() {
            assert_eq!(sent, received, "frame {n} of track {id}");
        }
    }
}

fn aac_config(sample_rate: u32) -> AudioSpecificConfig {
    let config = AudioSpecificConfig {
        object_type: 2,
        sample_rate,
        channel_config: 2,
        channels: 2,
        ..AudioSpecificConfig::default()
    };
    AudioSpecificConfig { raw: arcly_codec::aac::encode_config(&config), ..config }
}

/// Frames of one track at a steady pace.
fn steady(track: TrackId, count: i64, step: TimeDelta, payload: impl Fn(i64) -> Vec<u8>) -> Vec<MediaFrame> {
    let frame = |n| {
        MediaFrame::new(track, Timestamp(step.0 * n), payload(n).into())
            .with_duration(step)
            .with_flags(FrameFlags::KEYFRAME)
    };
    (0..count).map(frame).collect()
}

/// Bytes of a NAL unit: any, but for start codes and a zero at the end.
fn unit_bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    let mut unit = rng.bytes(len);
    unit.truncate(len);
    let mut zeros = 0;
    for byte in &mut unit {
        if zeros >= 2 && *byte <= 3 {
            *byte = 4;
        }
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
    }
    unit.push(0x80);
    unit
}

/// Packets of one PES packet of that payload.
fn pes_packets(pid: u16, header: PesHeader, payload: &[u8], continuity: &mut u8) -> Vec<u8> {
    let mut pes = Vec::new();
    header.encode(payload.len(), &mut pes);
    pes.extend_from_slice(payload);
    let mut out = Vec::new();
    for (n, chunk) in pes.chunks(184).enumerate() {
        *continuity = (*continuity + 1) & 15;
        let stuffing = 184 - chunk.len();
        let start = if n == 0 { 0x40 } else { 0 };
        let [high, low] = pid.to_be_bytes();
        let control = if stuffing > 0 { 0x30 } else { 0x10 };
        out.extend_from_slice(&[SYNC_BYTE, start | high, low, control | *continuity]);
        if stuffing > 0 {
            out.push(u8::try_from(stuffing - 1).unwrap());
            out.extend((1..stuffing).map(|n| if n == 1 { 0 } else { 0xFF }));
        }
        out.extend_from_slice(chunk);
    }
    out
}

fn section_packet(pid: u16, continuity: u8, section: &[u8]) -> Vec<u8> {
    let [high, low] = pid.to_be_bytes();
    let mut packet = vec![SYNC_BYTE, 0x40 | high, low, 0x10 | continuity & 15, 0];
    packet.extend_from_slice(section);
    packet.resize(188, 0xFF);
    packet
}

fn pat(version: u8, programs: &[(u16, u16)]) -> BytesMut {
    let mut section = BytesMut::new();
    Pat { transport_stream: 1, version, programs: programs.to_vec() }.encode(&mut section);
    section
}

fn pmt(program: u16, version: u8, streams: &[(u8, u16)]) -> BytesMut {
    let info = |(stream_type, pid): &(u8, u16)| StreamInfo {
        stream_type: *stream_type,
        pid: *pid,
        descriptors: Bytes::new(),
    };
    let mut section = BytesMut::new();
    let streams: Vec<_> = streams.iter().map(info).collect();
    let pcr_pid = streams.first().map_or(NULL_PID, |stream| stream.pid);
    Pmt { program, version, pcr_pid, descriptors: Bytes::new(), streams }.encode(&mut section);
    section
}

fn tables(streams: &[(u8, u16)]) -> Vec<u8> {
    [section_packet(0, 0, &pat(0, &[(1, PMT_PID)])), section_packet(PMT_PID, 0, &pmt(1, 0, streams))].concat()
}

/// The byte stream of a source's pictures, delimiters and parameter sets included, each with its times in ticks.
fn pictures(seconds: u32) -> (Vec<MediaFrame>, Vec<(Vec<u8>, u64, u64)>) {
    let source = Source::h264();
    let CodecConfig::Avc(avc) = source.tracks().get(TrackId::VIDEO).unwrap().config.clone() else { panic!() };
    let frames = source.seconds(seconds);
    let stream = frames.iter().map(|frame| {
        let mut bytes = vec![0, 0, 0, 1, 9, 0xF0];
        if frame.is_keyframe() {
            for set in avc.sps.iter().chain(&avc.pps) {
                bytes.extend_from_slice(&[0, 0, 0, 1]);
                bytes.extend_from_slice(set);
            }
        }
        bytes.extend_from_slice(&arcly_codec::nal::length_prefixed_to_annex_b(&frame.payload).unwrap());
        let ticks = |at: Timestamp| (at + ORIGIN).to_ticks(Timescale::MPEG).unsigned_abs();
        (bytes, ticks(frame.pts), ticks(frame.dts))
    });
    let stream = stream.collect();
    (frames, stream)
}
