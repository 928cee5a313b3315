//! FLV files that real programs wrote, tag by tag and packet by packet.

use std::collections::BTreeMap;
use std::path::Path;

use arcly_codec::flv::{Demuxer, FileDecoder, FileTag, Muxer, TagKind};
use arcly_core::{CodecId, MediaEvent, MediaFrame, Timestamp, TrackId, TrackSet};

fn read(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(name)).expect(name)
}

fn tags(file: &[u8]) -> Vec<FileTag> {
    let mut decoder = FileDecoder::new();
    decoder.push(file);
    let mut tags = Vec::new();
    while let Some(tag) = decoder.next_tag().expect("a valid file") {
        tags.push(tag);
    }
    assert_eq!(decoder.buffered(), 0);
    tags
}

fn demux(name: &str) -> (Demuxer, Vec<TrackSet>, Vec<MediaFrame>) {
    let (mut demuxer, mut sets, mut frames) = (Demuxer::default(), Vec::new(), Vec::new());
    for tag in tags(&read(name)) {
        demuxer.handle_tag(tag.kind, tag.timestamp_ms.into(), tag.body).expect("a valid tag");
        while let Some(event) = demuxer.poll_event() {
            match event {
                MediaEvent::Tracks(set) => sets.push(set),
                MediaEvent::Frame(frame) => frames.push(frame),
            }
        }
    }
    (demuxer, sets, frames)
}

/// Track, PTS, DTS in milliseconds, size, keyframe.
type Row = (usize, i64, i64, usize, bool);

fn expected(name: &str) -> Vec<Row> {
    let text = String::from_utf8(read(&format!("{name}.csv"))).expect("text");
    let row = |line: &str| {
        let fields: Vec<_> = line.split(',').collect();
        let number = |at: usize| fields[at].parse::<i64>().expect("a number");
        let size = usize::try_from(number(3)).expect("a size");
        (usize::try_from(number(0)).expect("a track"), number(1), number(2), size, fields[4].contains('K'))
    };
    text.lines().map(row).collect()
}

/// Packets by track. What FFmpeg keeps in a packet and the canonical form does not is taken off.
fn compare(name: &str, codecs: &[(usize, CodecId)], removed: impl Fn(&Row) -> usize) {
    let (demuxer, sets, frames) = demux(name);
    let set = sets.last().expect("tracks");
    let got: Vec<_> = set.iter().map(|track| (track.id.index(), track.codec)).collect();
    assert_eq!(got, codecs, "{name}");
    let mut by_track: BTreeMap<usize, (Vec<Row>, Vec<Row>)> = BTreeMap::new();
    for frame in &frames {
        let (pts, dts) = (frame.pts.to_millis(), frame.dts.to_millis());
        assert_eq!((frame.pts, frame.dts), (Timestamp::from_millis(pts), Timestamp::from_millis(dts)));
        let row = (frame.track.index(), pts, dts, frame.payload.len(), frame.is_keyframe());
        by_track.entry(row.0).or_default().0.push(row);
    }
    for mut row in expected(name) {
        row.3 -= removed(&row);
        by_track.entry(row.0).or_default().1.push(row);
    }
    for (track, (got, expected)) in by_track {
        assert_eq!(got, expected, "{name}, track {track}");
    }
    assert_eq!(demuxer.counters().without_config, 0, "{name}");
}

#[test]
fn m33_ffmpeg_5_avc_and_aac() {
    compare("ffmpeg_5.1_avc_aac.flv", &[(0, CodecId::H264), (1, CodecId::Aac)], |_| 0);
}

#[test]
fn m33_ffmpeg_9_hevc_and_opus() {
    compare("ffmpeg_9.0_hevc_opus.flv", &[(0, CodecId::H265), (1, CodecId::Opus)], |_| 0);
}

#[test]
fn m33_ffmpeg_9_vp9_and_two_dolby_tracks() {
    let codecs = [(0, CodecId::Vp9), (1, CodecId::Ac3), (3, CodecId::Eac3)];
    compare("ffmpeg_9.0_vp9_ac3_eac3.flv", &codecs, |_| 0);
}

#[test]
fn m33_ffmpeg_9_multitrack() {
    let codecs = [(0, CodecId::H264), (1, CodecId::Aac), (3, CodecId::H265), (4, CodecId::Mp3)];
    compare("ffmpeg_9.0_multitrack.flv", &codecs, |_| 0);
}

#[test]
fn m33_ffmpeg_9_av1_and_flac() {
    compare("ffmpeg_9.0_av1_flac.flv", &[(0, CodecId::Av1), (1, CodecId::Flac)], |row| {
        // The temporal delimiter.
        if row.0 == 0 { 2 } else { 0 }
    });
}

#[test]
fn av1_leaves_with_the_delimiters_it_came_with() {
    let name = "ffmpeg_9.0_av1_flac.flv";
    let (demuxer, _, frames) = demux(name);
    let mut muxer = Muxer::default();
    muxer.tracks(&demuxer.tracks(), Timestamp::ZERO);
    let video = frames.iter().filter(|frame| frame.track == TrackId::VIDEO);
    let muxed: Vec<_> = video.filter_map(|frame| muxer.frame(frame)).collect();
    // An Enhanced RTMP tag, a CodedFrames packet.
    let is_picture = |tag: &FileTag| tag.kind == TagKind::Video && tag.body[0] & 0x8F == 0x81;
    let sent: Vec<_> = tags(&read(name)).into_iter().filter(is_picture).collect();
    assert_eq!(muxed.len(), sent.len());
    for (muxed, sent) in muxed.iter().zip(&sent) {
        assert_eq!([&muxed.header[..], &muxed.payload].concat(), sent.body);
    }
}
