#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]

use std::time::Duration;

use arcly_core::{CodecConfig, MediaEvent};
use arcly_testkit::hls::{Checker, check_multivariant};
use arcly_testkit::media::Source;

use super::*;
use crate::hls::{File, MediaPlaylist, Rendition, Run, ts_multivariant};
use crate::ts::{Demuxer, DemuxerOptions};

const VIDEO: TrackId = TrackId::VIDEO;
const AUDIO: TrackId = TrackId::AUDIO;

/// A stream in virtual time, and every version of its playlists, checked.
struct Origin {
    segmenter: TsSegmenter,
    versions: Vec<(TrackId, u64)>,
    checker: Checker,
}

impl Origin {
    fn new(tracks: &TrackSet) -> Self {
        let config = Config { window: TimeDelta::from_millis(24_000), ..Config::default() };
        let mut segmenter = TsSegmenter::new(config, Some(TimeDelta::from_millis(1_000)), None);
        segmenter.set_tracks(tracks);
        Self { segmenter, versions: Vec::new(), checker: Checker::new() }
    }

    fn feed(&mut self, frames: impl IntoIterator<Item = MediaFrame>) -> &mut Self {
        for frame in frames {
            let since = (frame.dts - Timestamp::ZERO).to_duration();
            let arrival = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since;
            self.segmenter.push(arrival, &frame);
            self.look();
        }
        self
    }

    fn end(&mut self) -> &mut Self {
        self.segmenter.end();
        self.look();
        self
    }

    fn view(&self, track: TrackId) -> Arc<View> {
        Arc::new(self.segmenter.view(track).expect("the track has a rendition"))
    }

    fn playlist(&self, track: TrackId) -> String {
        let view = self.view(track);
        let kind = view.newest_init().expect("there is media").track.kind();
        let playlist = MediaPlaylist::new(kind, Run(7), view);
        String::from_utf8(playlist.full(Vec::new).plain().to_vec()).expect("text")
    }

    fn look(&mut self) {
        let versions: Vec<_> = self.segmenter.versions().collect();
        let changed = versions.iter().filter(|one| one.1 > 0 && !self.versions.contains(one));
        for (track, _) in changed {
            let kind = self.view(*track).newest_init().expect("there is media").track.kind();
            let text = self.playlist(*track);
            assert!(m3u8_rs::parse_media_playlist_res(text.as_bytes()).is_ok(), "{text}");
            self.checker.check(&File::TsMedia(kind, *track).to_string(), &text);
        }
        self.versions = versions;
    }

    /// All segments of a rendition as one stream.
    fn stream(&self, track: TrackId) -> Vec<u8> {
        self.view(track).kept().iter().flat_map(|segment| segment.parts[0].bytes.to_vec()).collect()
    }
}

fn frames_of(stream: &[u8]) -> Vec<MediaFrame> {
    let mut demuxer = Demuxer::new(DemuxerOptions::default());
    demuxer.push(stream).expect("a transport stream");
    demuxer.finish().expect("a transport stream");
    assert_eq!(demuxer.counters(), crate::ts::Counters::default());
    let mut frames = Vec::new();
    while let Some(event) = demuxer.poll_event() {
        if let MediaEvent::Frame(frame) = event {
            frames.push(frame);
        }
    }
    frames
}

fn range(source: Source, from: i64, to: i64) -> impl Iterator<Item = MediaFrame> {
    let at = |frame: &MediaFrame| frame.dts.to_millis();
    source.skip_while(move |frame| at(frame) < from).take_while(move |frame| at(frame) < to)
}

/// The packet's identifier, its `payload_unit_start_indicator` and `random_access_indicator`.
fn packet(segment: &[u8], number: usize) -> (u16, bool, bool) {
    let packet = &segment[number * 188..][..188];
    let pid = u16::from(packet[1] & 0x1F) << 8 | u16::from(packet[2]);
    (pid, packet[1] & 0x40 != 0, packet[3] & 0x20 != 0 && packet[4] > 0 && packet[5] & 0x40 != 0)
}

#[test]
fn segments_begin_with_tables_and_a_keyframe_and_hold_every_frame_once() {
    let source = Source::h264_aac();
    let mut origin = Origin::new(&source.tracks());
    let sent = source.seconds(21);
    // Sound that comes later than the pictures of its time, as servers send it.
    let late = |frame: &MediaFrame| frame.dts.to_millis() + if frame.track == AUDIO { 300 } else { 0 };
    let mut arriving = sent.clone();
    arriving.sort_by_key(late);
    origin.feed(arriving).end().checker.assert_clean();
    let view = origin.view(VIDEO);
    assert_eq!(view.kept().len(), 11);
    assert!(view.independent && origin.segmenter.versions().count() == 1, "sound is with the pictures");
    for segment in view.kept() {
        let bytes = &segment.parts[0].bytes;
        assert_eq!(packet(bytes, 0).0, 0, "programme association");
        assert_eq!(packet(bytes, 1).0, 0x1000, "programme map");
        assert_eq!(packet(bytes, 2), (0x100, true, true), "a keyframe");
    }
    let got = frames_of(&origin.stream(VIDEO));
    for track in [VIDEO, AUDIO] {
        let of = |frames: &[MediaFrame]| -> Vec<(Bytes, i64, i64)> {
            let shift = |at: Timestamp| (at - Timestamp::ZERO).to_ticks(Timescale::MPEG);
            let frames = frames.iter().filter(|frame| frame.track == track);
            frames.map(|frame| (frame.payload.clone(), shift(frame.dts), shift(frame.pts))).collect()
        };
        let (sent, got) = (of(&sent), of(&got));
        assert_eq!(sent.len(), got.len());
        let shift = got[0].1 - sent[0].1;
        for (sent, got) in sent.iter().zip(&got) {
            assert_eq!((&sent.0, sent.1 + shift, sent.2 + shift), (&got.0, got.1, got.2));
        }
    }
}

#[test]
fn a_return_a_hole_and_another_codec_are_discontinuities_and_break_no_rule() {
    let source = Source::h264_aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(range(source.clone(), 0, 9_500));
    let returned = range(source.clone().starting_at(Timestamp::from_millis(13_210)), 0, 20_000);
    origin.feed(
        returned.enumerate().map(
            |(n, frame)| {
                if n == 0 { frame.with_flags(FrameFlags::DISCONTINUITY) } else { frame }
            },
        ),
    );
    // Five seconds of nothing.
    origin.feed(range(source.clone().starting_at(Timestamp::from_millis(25_000)), 0, 31_000));
    let mut tracks = source.tracks();
    let mut video = tracks.get(VIDEO).expect("pictures").clone();
    if let CodecConfig::Avc(config) = &mut video.config {
        config.pps.push(Bytes::from_static(&[0x68, 1, 2, 3]));
    }
    tracks.insert(video);
    origin.segmenter.set_tracks(&tracks);
    origin.feed(range(source.starting_at(Timestamp::from_millis(31_000)), 0, 36_000)).end();
    origin.checker.assert_clean();
    let view = origin.view(VIDEO);
    let breaks: Vec<u64> =
        view.kept().iter().filter(|segment| segment.discontinuity).map(|segment| segment.msn).collect();
    assert_eq!(breaks.len(), 3, "{breaks:?}");
    assert!(view.independent && view.kept().iter().all(|segment| !segment.is_gap()));
    assert!(origin.playlist(VIDEO).starts_with("#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:2\n"));
}

#[test]
fn the_first_sound_is_with_the_pictures_and_others_are_renditions() {
    let source = Source::h264_aac();
    let mut tracks = source.tracks();
    let mut german = tracks.get(AUDIO).expect("sound").clone();
    german.id = TrackId::new(5).expect("small");
    german.language = Some("de".into());
    tracks.insert(german.clone());
    let mut origin = Origin::new(&tracks);
    origin.feed(source.seconds(9).into_iter().flat_map(|frame| {
        let second = (frame.track == AUDIO).then(|| MediaFrame { track: german.id, ..frame.clone() });
        [Some(frame), second].into_iter().flatten()
    }));
    origin.checker.assert_clean();
    let all = [VIDEO, german.id].map(|track| Rendition::new(origin.view(track)).expect("there is media"));
    let text = String::from_utf8(ts_multivariant(&all).plain().to_vec()).expect("text");
    let found = check_multivariant(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(found.uris(), ["audio5_ts.m3u8", "video0_ts.m3u8"]);
    assert_eq!(found.media.len(), 2, "{text}");
    assert!(!found.media[0].contains_key("URI") && found.media[0]["DEFAULT"] == "YES", "{text}");
    assert_eq!(found.variants[0]["CODECS"].split(',').count(), 2, "{text}");
    let sounds = frames_of(&origin.stream(german.id));
    assert!(sounds.len() > 350 && sounds.iter().all(|frame| frame.track == sounds[0].track));
    let numbers =
        |track| origin.view(track).kept().iter().map(|one| (one.msn, one.duration)).collect::<Vec<_>>();
    assert_eq!(numbers(VIDEO), numbers(german.id), "cut at the same times");
}

#[test]
fn streams_without_keyframes_and_sound_alone_keep_every_rule() {
    let source = Source::h264();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(source.seconds(40).into_iter().enumerate().map(|(n, mut frame)| {
        frame.flags.set(FrameFlags::KEYFRAME, n == 0);
        frame
    }));
    origin.checker.assert_clean();
    assert!(!origin.view(VIDEO).independent && origin.checker.checked() > 15);
    let source = Source::aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(source.seconds(40)).end().checker.assert_clean();
    assert!(origin.view(AUDIO).independent && origin.checker.checked() > 15);
}

#[test]
fn what_cannot_be_carried_is_not_there() {
    let source = Source::h264();
    let mut tracks = source.tracks();
    let mut other = tracks.get(VIDEO).expect("pictures").clone();
    other.codec = CodecId::Vp8;
    other.config = CodecConfig::None;
    assert!(TsSegmenter::can_carry(&tracks));
    tracks.insert(other);
    assert!(!TsSegmenter::can_carry(&tracks));
    let mut origin = Origin::new(&tracks);
    origin.feed(source.seconds(5)).end();
    assert_eq!(origin.segmenter.versions().count(), 0);
}

/// What waits for other tracks is bounded, in time and in number.
#[test]
fn a_track_that_stays_away_holds_nothing_up() {
    let source = Source::h264_aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(range(source, 0, 20_000).filter(|frame| frame.track == VIDEO));
    assert!(origin.segmenter.order.frames.len() < 30, "{}", origin.segmenter.order.frames.len());
    assert!(origin.view(VIDEO).kept().len() >= 8);
    let stands = Timestamp::from_millis(21_000);
    origin.feed((0..5_000).map(|_| MediaFrame::new(VIDEO, stands, Bytes::from_static(&[0, 0, 0, 1, 9]))));
    assert!(origin.segmenter.order.frames.len() <= MAX_WAITING);
}
