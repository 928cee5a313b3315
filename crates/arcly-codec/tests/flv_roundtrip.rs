//! M32 for FLV: what is muxed and demuxed is what it was.

use std::path::Path;

use arcly_codec::flv::{Demuxer, FileDecoder, Muxer, MuxerOptions, TagClass, TagKind, needs};
use arcly_core::time::Unwrapper32;
use arcly_core::{
    CodecId, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind, TrackSet,
};
use bytes::Bytes;
use proptest::prelude::*;

/// A track and real frames of it.
struct Material {
    track: Track,
    payloads: Vec<Bytes>,
}

/// What the captures hold, by codec. Script tags are left out, so that nothing but the bitstreams is known.
fn materials() -> Vec<Material> {
    let names = ["5.1_avc_aac", "9.0_hevc_opus", "9.0_av1_flac", "9.0_vp9_ac3_eac3", "9.0_multitrack"];
    let mut materials: Vec<Material> = Vec::new();
    for name in names {
        let path = format!("tests/captures/ffmpeg_{name}.flv");
        let file = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(name);
        let (mut decoder, mut demuxer) = (FileDecoder::new(), Demuxer::default());
        decoder.push(&file);
        let mut frames = Vec::new();
        while let Some(tag) = decoder.next_tag().expect("a valid file") {
            if tag.kind != TagKind::Script {
                demuxer.handle_tag(tag.kind, tag.timestamp_ms.into(), tag.body).expect("a valid tag");
            }
            let events = core::iter::from_fn(|| demuxer.poll_event());
            frames.extend(events.filter_map(|event| match event {
                MediaEvent::Frame(frame) => Some(frame),
                MediaEvent::Tracks(_) => None,
            }));
        }
        for track in &demuxer.tracks() {
            let payloads = frames.iter().filter(|f| f.track == track.id).map(|f| f.payload.clone()).collect();
            if materials.iter().all(|known| known.track.codec != track.codec) {
                materials.push(Material { track: track.clone(), payloads });
            }
        }
    }
    materials
}

fn of_kind(materials: &[Material], kind: TrackKind) -> Vec<&Material> {
    materials.iter().filter(|material| material.track.kind() == kind).collect()
}

/// A frame to be: which track, which payload, how much later than the one before, how much later shown.
type Step = (prop::sample::Index, prop::sample::Index, i64, i64);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0i64..60_000_000, 0i64..200);
    prop::collection::vec(step, 1..200)
}

struct Stream<'a> {
    tracks: TrackSet,
    sources: Vec<(TrackId, &'a Material)>,
}

/// First and further tracks of either kind, as a publisher would number them.
fn stream<'a>(materials: &'a [Material], choice: &[prop::sample::Index]) -> Stream<'a> {
    let (video, audio) = (of_kind(materials, TrackKind::Video), of_kind(materials, TrackKind::Audio));
    let all: Vec<_> = materials.iter().collect();
    let mut sources =
        vec![(TrackId::VIDEO, *choice[0].get(&video)), (TrackId::AUDIO, *choice[1].get(&audio))];
    for (id, index) in (3..).zip(&choice[2..]) {
        sources.push((TrackId::new(id).expect("a few"), *index.get(&all)));
    }
    let tracks = sources.iter().map(|(id, material)| Track { id: *id, ..material.track.clone() });
    Stream { tracks: TrackSet::new(tracks), sources }
}

fn has_offset(codec: CodecId) -> bool {
    matches!(codec, CodecId::H264 | CodecId::H265)
}

impl Stream<'_> {
    /// Frames with times that the tags of their tracks can say: whole milliseconds, or to the nanosecond.
    fn frames(&self, steps: &[Step], start: Timestamp, nanos: bool) -> Vec<MediaFrame> {
        let mut dts = start;
        let mut frames = Vec::new();
        for (source, payload, step, offset) in steps {
            let (id, material) = *source.get(&self.sources);
            let track = self.tracks.get(id).expect("of this set");
            dts += TimeDelta(*step);
            let exact = nanos && matches!(needs(track, &self.tracks), Some(TagClass::Enhanced(_)));
            let at = if exact { dts } else { Timestamp::from_millis(dts.to_millis()) };
            let offset = if has_offset(track.codec) { *offset } else { 0 };
            let frame = MediaFrame::new(id, at, payload.get(&material.payloads).clone());
            frames.push(frame.with_pts(at + TimeDelta::from_millis(offset)));
        }
        frames
    }
}

/// Muxes and demuxes: the tracks that are known at the end, and all frames.
fn round_trip(tracks: &TrackSet, frames: &[MediaFrame], nano_offset: bool) -> (TrackSet, Vec<MediaFrame>) {
    let mut muxer = Muxer::new(MuxerOptions { nano_offset, ..MuxerOptions::default() });
    let (mut demuxer, mut clock, mut out) = (Demuxer::default(), Unwrapper32::new(), Vec::new());
    let start = frames.first().map_or(Timestamp::ZERO, |frame| frame.dts);
    let announced = muxer.tracks(tracks, start).into_iter();
    let coded = frames.iter().map(|frame| muxer.frame(frame).expect("announced"));
    let mut known = TrackSet::default();
    for tag in announced.chain(coded) {
        let body = [&tag.header[..], &tag.payload].concat();
        // `onMetaData` has no time of its own.
        let at = if tag.track.is_none() { 0 } else { clock.unwrap(tag.timestamp_ms.into()) };
        demuxer.handle_tag(tag.kind, at, body.into()).expect("own tags");
        while let Some(event) = demuxer.poll_event() {
            match event {
                MediaEvent::Tracks(set) => known = set,
                MediaEvent::Frame(frame) => out.push(frame),
            }
        }
    }
    (known, out)
}

/// Decode times across the 32-bit wrap, or from zero.
fn starts() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(Timestamp::ZERO), Just(Timestamp::from_millis((1 << 32) - 1_000))]
}

/// What is in a frame besides what its bytes say (flags, duration).
fn essence(frame: &MediaFrame) -> (TrackId, Timestamp, Timestamp, Bytes) {
    (frame.track, frame.dts, frame.pts, frame.payload.clone())
}

#[test]
fn m32_flv_demux_of_mux_is_the_same() {
    let materials = materials();
    assert_eq!(materials.len(), 10, "every codec of the captures");
    let inputs =
        (prop::collection::vec(any::<prop::sample::Index>(), 2..6), steps(), starts(), any::<bool>());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(120));
    let result = runner.run(&inputs, |(choice, steps, start, nanos)| {
        let stream = stream(&materials, &choice);
        let frames = stream.frames(&steps, start, nanos);
        let (known, first) = round_trip(&stream.tracks, &frames, nanos);
        let (got, sent): (Vec<_>, Vec<_>) =
            (first.iter().map(essence).collect(), frames.iter().map(essence).collect());
        prop_assert_eq!(got, sent);
        for track in &known {
            let sent = stream.tracks.get(track.id).expect("no track out of nowhere");
            prop_assert_eq!((track.codec, &track.config), (sent.codec, &sent.config));
        }
        // Flags and durations come from the bytes, so from the second time on they stay as well.
        let (again, second) = round_trip(&stream.tracks, &first, nanos);
        prop_assert_eq!(second, first);
        prop_assert!(again.same_content(&known));
        Ok(())
    });
    result.expect("the same");
}

#[test]
fn times_between_milliseconds_are_kept_to_half_of_one() {
    let materials = materials();
    let aac = materials.iter().find(|m| m.track.codec == CodecId::Aac).expect("AAC");
    let tracks = TrackSet::new([Track { id: TrackId::AUDIO, ..aac.track.clone() }]);
    let rate = Timescale::of(44_100);
    let at = |n: i64| Timestamp::from_ticks(n * 1_024, rate);
    let frames: Vec<_> =
        (0..5_000).map(|n| MediaFrame::new(TrackId::AUDIO, at(n), aac.payloads[3].clone())).collect();
    let (_, out) = round_trip(&tracks, &frames, false);
    for (sent, got) in frames.iter().zip(&out) {
        assert!((sent.dts - got.dts).abs().0 * 2 <= TimeDelta::from_millis(1).0, "no drift");
        assert_eq!(got.duration, TimeDelta::from_units(1_024, rate));
    }
    assert_eq!(out.len(), frames.len());
}
