//! FLV tags, both ways.
//!
//! **Question.** At what rate do frames become tags and tags frames again, against copying the same bytes; and what
//! does a tag cost that is so small that only its header counts?
//!
//! **Hypothesis.** A tag is one copy of the payload into the packet that all readers share. Taking a file apart is
//! one copy out of the network's buffer; the demuxer gives out slices of the tag. H.264 payloads are walked from one
//! NAL unit to the next, not byte by byte.
//!
//! **Decision rule.** Encoding takes at most twice the time of the copy, taking a file apart at most three times (it is
//! copied in and handed out), and an audio tag is demultiplexed in 250 ns.

use arcly_benches::{Bench, FlvPacketizer, Goal, Media, Unit};
use arcly_codec::flv::{Demuxer, FileDecoder, FileTag, Limits, put_file_header};
use arcly_core::MediaEvent;
use arcly_core::derived::Packetizer;
use arcly_testkit::media::Source;
use bytes::BytesMut;

const PIECE: usize = 64 << 10;
const AUDIO_TAG_TARGET: f64 = 250.0;

fn main() {
    let mut bench = Bench::new("flv");
    let media = Media::h264_aac();
    let (tracks, frames) = (media.tracks(), media.clone().second());
    let file = file(media);
    let payload: usize = frames.iter().map(|frame| frame.payload.len()).sum();
    let unit = Unit::Throughput(payload as u64);

    let mut copied = Vec::new();
    let copy = bench.plain("copy", unit, Goal::NONE, || {
        copied.clear();
        copied.extend(frames.iter().map(|frame| frame.payload.to_vec()));
    });
    let share = |share: f64| Goal { target: copy.map(|copy| copy * share), ..Goal::NONE }.over(copy, "copy");
    let mut packetizer = FlvPacketizer::default();
    packetizer.headers(&tracks.into());
    let mut packets = Vec::new();
    bench.plain("frames to tags", unit, share(0.5), || {
        packets.clear();
        frames.iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    });
    bench.plain("file to tags", unit, share(0.33), || tags(&file).len());
    let whole = tags(&file);
    bench.plain("tags to frames", unit, Goal::NONE.over(copy, "copy"), || demux(&whole));
    bench.plain("file to frames", unit, Goal::NONE.over(copy, "copy"), || demux(&tags(&file)));

    let sound = tags(&self::file(Media::new(Source::aac())));
    let unit = Unit::NanosPer("tag", sound.len() as u64);
    bench.plain("audio tag to frame", unit, Goal::target(AUDIO_TAG_TARGET), || demux(&sound));
}

/// One second of FLV.
fn file(media: Media) -> BytesMut {
    let mut packetizer = FlvPacketizer::default();
    let headers = packetizer.headers(&media.tracks().into());
    let mut packets = Vec::new();
    media.second().iter().for_each(|frame| packetizer.packetize(frame, &mut packets));
    let mut file = BytesMut::new();
    put_file_header(&mut file, true, true);
    headers.parts.iter().for_each(|(_, bytes)| file.extend_from_slice(bytes));
    packets.iter().for_each(|packet| file.extend_from_slice(&packet.bytes));
    file
}

fn tags(file: &[u8]) -> Vec<FileTag> {
    let mut decoder = FileDecoder::new();
    let mut tags = Vec::new();
    for piece in file.chunks(PIECE) {
        decoder.push(piece);
        while let Some(tag) = decoder.next_tag().expect("our own file") {
            tags.push(tag);
        }
    }
    tags
}

fn demux(tags: &[FileTag]) -> usize {
    let mut demuxer = Demuxer::new(Limits::default());
    let mut frames = 0;
    for tag in tags {
        demuxer.handle_tag(tag.kind, i64::from(tag.timestamp_ms), tag.body.clone()).expect("our own tags");
        while let Some(event) = demuxer.poll_event() {
            frames += usize::from(matches!(event, MediaEvent::Frame(_)));
        }
    }
    assert_ne!(frames, 0);
    frames
}
