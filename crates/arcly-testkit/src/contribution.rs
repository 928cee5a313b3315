//! A stream as contribution links carry it: a picture, sound in two languages, KLV and splice information.

use arcly_core::{CodecConfig, CodecId, MediaFrame, Timestamp, Track, TrackId, TrackSet};
use bytes::Bytes;

use crate::media::Source;

/// `splice_null` of SCTE 35.
const SPLICE: &[u8] = b"\xFC\x30\x12\0\0\0\0\0\0\0\0\xFF\xF0\0\0\0\0\x7A\x4F\xBF\xFF";
/// The universal label that KLV begins with.
const KEY: &[u8] = b"\x06\x0E\x2B\x34 key ";

fn id(n: u8) -> TrackId {
    TrackId::new(n).expect("a number of a track")
}

/// [`Source::h264_aac`], the same sound in German, KLV, and SCTE 35.
///
/// # Panics
/// Never: the source has sound.
#[must_use]
pub fn tracks() -> TrackSet {
    let source = Source::h264_aac().tracks();
    let sound = source.get(TrackId::AUDIO).expect("sound");
    let mut german = Track::new(id(3), CodecId::Aac, sound.config.clone());
    german.language = Some("de".into());
    let data = |n, codec| Track::new(id(n), codec, CodecConfig::None);
    let mut all: Vec<Track> = source.iter().cloned().collect();
    all.extend([german, data(4, CodecId::Klv), data(5, CodecId::Scte35)]);
    TrackSet::new(all)
}

/// So many seconds of it, by DTS: KLV ten times a second and splice information twice, but for the last second, which has
/// neither.
#[must_use]
pub fn seconds(seconds: u32) -> Vec<MediaFrame> {
    let mut all = Source::h264_aac().seconds(seconds);
    let german = |frame: &MediaFrame| MediaFrame {
        track: id(3),
        payload: Bytes::from([b"de", &frame.payload[..]].concat()),
        ..frame.clone()
    };
    let sounds = all.iter().filter(|frame| frame.track == TrackId::AUDIO).map(german);
    let sounds: Vec<MediaFrame> = sounds.collect();
    all.extend(sounds);
    let last = i64::from(seconds.saturating_sub(1));
    let at = |n: i64| Timestamp::from_millis(100 * n);
    let klv = |n: i64| Bytes::from([KEY, &n.to_be_bytes()[..]].concat());
    all.extend((1..10 * last).map(|n| MediaFrame::new(id(4), at(n), klv(n))));
    all.extend((1..2 * last).map(|n| MediaFrame::new(id(5), at(5 * n), Bytes::from_static(SPLICE))));
    all.sort_by_key(|frame| frame.dts);
    all
}
