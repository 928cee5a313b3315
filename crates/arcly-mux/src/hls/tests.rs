#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arcly_core::codec::{AudioSpecificConfig, CodecConfig, CodecId};
use arcly_core::{
    FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind, TrackSet,
};
use arcly_testkit::hls::{Checker, check_multivariant};
use arcly_testkit::media::Source;
use bytes::Bytes;

use super::*;
use crate::live::{Config, Segmenter, View};

const VIDEO: TrackId = TrackId::VIDEO;
const AUDIO: TrackId = TrackId::AUDIO;

/// A stream in virtual time, and every version of its playlists, checked.
struct Origin {
    segmenter: Segmenter,
    kinds: Vec<(TrackId, TrackKind)>,
    versions: Vec<(TrackId, u64)>,
    full: Checker,
    delta: Checker,
    deltas: usize,
}

impl Origin {
    fn new(tracks: &TrackSet) -> Self {
        let config = Config { window: TimeDelta::from_millis(24_000), ..Config::default() };
        let mut segmenter = Segmenter::new(config, Some(TimeDelta::from_millis(1_000)), None);
        segmenter.set_tracks(tracks);
        let kinds = tracks.iter().map(|track| (track.id, track.kind())).collect();
        let (full, delta) = (Checker::new(), Checker::new());
        Self { segmenter, kinds, versions: Vec::new(), full, delta, deltas: 0 }
    }

    fn feed(&mut self, frames: impl IntoIterator<Item = MediaFrame>) -> &mut Self {
        self.feed_late(frames, |_| Duration::ZERO)
    }

    /// Frames that come so late after they were made.
    fn feed_late(
        &mut self,
        frames: impl IntoIterator<Item = MediaFrame>,
        late: impl Fn(&MediaFrame) -> Duration,
    ) -> &mut Self {
        for frame in frames {
            let since = (frame.dts - Timestamp::ZERO).to_duration() + late(&frame);
            let arrival = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000) + since;
            self.segmenter.push(arrival, &frame);
            self.look();
        }
        self
    }

    fn view(&self, track: TrackId) -> Arc<View> {
        Arc::new(self.segmenter.view(track).expect("the track has a rendition"))
    }

    fn reports(&self) -> Vec<Report> {
        let of = |&(track, kind): &(TrackId, TrackKind)| {
            let (msn, part) = self.segmenter.view(track)?.last_part()?;
            Some(Report { kind, track, msn, part })
        };
        self.kinds.iter().filter_map(of).collect()
    }

    /// Every rendition that has changed, in full and as a delta, through both checkers and another parser.
    fn look(&mut self) {
        let versions: Vec<_> = self.segmenter.versions().collect();
        let changed = versions.iter().filter(|one| !self.versions.contains(one)).map(|one| one.0);
        for track in changed.collect::<Vec<_>>() {
            let view = self.view(track);
            if view.listed().is_empty() {
                continue;
            }
            let kind = self.kinds.iter().find(|one| one.0 == track).expect("a known track").1;
            let playlist = MediaPlaylist::new(kind, Run(7), view);
            let name = File::Media(kind, track).to_string();
            let full = text(playlist.full(|| self.reports()));
            let delta = text(playlist.delta(|| self.reports()));
            let parsed = m3u8_rs::parse_media_playlist_res(full.as_bytes());
            let parsed = parsed.unwrap_or_else(|error| panic!("m3u8-rs: {error}\n{full}"));
            assert_eq!(parsed.media_sequence, playlist.view().listed()[0].msn);
            assert_eq!(parsed.segments.len(), playlist.view().listed().len());
            assert_eq!(parsed.end_list, playlist.view().ended);
            self.deltas += usize::from(delta.contains("EXT-X-SKIP"));
            let merged = self.delta.check(&name, &delta);
            assert_eq!(self.full.check(&name, &full), merged, "a delta is worth the whole\n{full}\n{delta}");
        }
        self.versions = versions;
    }

    fn clean(&self) {
        self.full.assert_clean();
        self.delta.assert_clean();
    }
}

fn text(text: &Text) -> String {
    String::from_utf8(text.plain().to_vec()).expect("playlists are UTF-8")
}

fn range(source: Source, from: i64, to: i64) -> impl Iterator<Item = MediaFrame> {
    let at = |frame: &MediaFrame| frame.dts.to_millis();
    source.skip_while(move |frame| at(frame) < from).take_while(move |frame| at(frame) < to)
}

#[test]
fn a_live_stream_keeps_every_rule_through_whatever_happens_to_it() {
    let source = Source::h264_aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(range(source.clone(), 0, 40_000));
    let returned = range(source.clone().starting_at(Timestamp::from_millis(43_210)), 0, 60_000);
    origin.feed(
        returned.enumerate().map(
            |(n, frame)| {
                if n == 0 { frame.with_flags(FrameFlags::DISCONTINUITY) } else { frame }
            },
        ),
    );
    let mut tracks = source.tracks();
    let mut video = tracks.get(VIDEO).unwrap().clone();
    if let CodecConfig::Avc(config) = &mut video.config {
        config.pps.push(Bytes::from_static(&[0x68, 1, 2, 3]));
    }
    tracks.insert(video);
    origin.segmenter.set_tracks(&tracks);
    let changed = range(source.clone().starting_at(Timestamp::from_millis(60_000)), 0, 70_000);
    origin.feed(
        changed.filter(|frame| frame.track == VIDEO || !(62_000..66_000).contains(&frame.dts.to_millis())),
    );
    let lost = range(source.starting_at(Timestamp::from_millis(73_000)), 0, 80_000);
    origin.feed(lost);
    origin.segmenter.end();
    origin.look();
    origin.clean();
    assert!(origin.deltas > 300, "{}", origin.deltas);
    let last = origin.full.last("video0.m3u8").unwrap();
    assert!(last.ended && last.hints.is_empty());
    let playlist = MediaPlaylist::new(TrackKind::Video, Run(7), origin.view(VIDEO));
    assert!(text(playlist.full(Vec::new)).contains("#EXT-X-MAP:URI=\"video0_7_init1.m4s\""));
}

#[test]
fn f15_f18_odd_frame_rates_and_gops_keep_every_rule() {
    for (step, key) in [(41_i64, 100_000), (33, 45), (1_000, 3), (8, 1_000), (100, 25)] {
        let source = Source::h264();
        let mut origin = Origin::new(&source.tracks());
        origin.feed(source.take(usize::try_from(60_000 / step).unwrap()).enumerate().map(
            |(n, mut frame)| {
                let jitter = if step == 33 { (n as i64 * 7) % 5 - 2 } else { 0 };
                frame.dts = Timestamp::from_millis(n as i64 * step + jitter + 5);
                frame.pts = frame.dts;
                frame.flags.set(FrameFlags::KEYFRAME, n % key == 0);
                frame
            },
        ));
        origin.clean();
        assert!(origin.full.checked() > 50, "{step} ms");
    }
}

/// A segment as a playlist lists it, and as it is, in seconds.
struct Listed {
    date: f64,
    length: f64,
    presented: f64,
    end: f64,
}

fn listed(origin: &Origin, track: TrackId, kind: TrackKind) -> Vec<Listed> {
    let view = origin.view(track);
    let playlist = text(MediaPlaylist::new(kind, Run(7), Arc::clone(&view)).full(Vec::new));
    let parsed = m3u8_rs::parse_media_playlist_res(playlist.as_bytes()).expect("a playlist");
    let seconds = |at: Timestamp| (at - Timestamp::ZERO).to_duration().as_secs_f64();
    let one = |(segment, text): (&Arc<crate::live::Segment>, &m3u8_rs::MediaSegment)| {
        let date = text.program_date_time.expect("a date").timestamp_millis() - 1_800_000_000_000;
        // As the media say it: `tfdt`, and how long the samples are.
        let scale = f64::from(segment.init.timescale.get());
        let end = match kind {
            TrackKind::Video => buffered_end(segment),
            _ => segment.parts.last().expect("parts").ticks.end as f64 / scale,
        };
        Listed {
            date: date as f64 / 1_000.0,
            length: text.duration.into(),
            presented: seconds(segment.presented),
            end,
        }
    };
    view.listed().iter().zip(&parsed.segments).map(one).collect()
}

/// When the pictures of a segment are over, each by its own duration, whatever comes then: where a player's buffer ends.
fn buffered_end(segment: &crate::live::Segment) -> f64 {
    let mut reader = crate::fmp4::Reader::new();
    reader.push(&segment.init.bytes).expect("our own file");
    segment.parts.iter().for_each(|part| reader.push(&part.bytes).expect("our own file"));
    reader.finish().expect("our own file");
    let frames = core::iter::from_fn(|| reader.poll_event()).filter_map(|event| match event {
        arcly_core::MediaEvent::Frame(frame) => Some(frame.pts + frame.duration),
        arcly_core::MediaEvent::Tracks(_) => None,
    });
    (frames.max().expect("pictures") - Timestamp::ZERO).to_duration().as_secs_f64()
}

/// hls.js takes the start of a segment of pictures from its media, that of sound from there by both dates, and adds up what is
/// listed. While the buffer ends earlier than the segment that way, it loads no further part: for three segments.
#[test]
fn no_segment_is_listed_to_end_later_than_its_media() {
    // Sound that was rounded to milliseconds, and that runs ahead of its clock or behind it.
    for (step, drift) in [(3_600, 0), (3_600, 10_000), (3_600, -10_000), (3_601, 9_600), (3_599, -7_300)] {
        let source = Source::h264_aac();
        let mut origin = Origin::new(&source.tracks());
        let mut pictures = 0_i64;
        let frames = source.seconds(90).into_iter().map(|mut frame| {
            let composed = frame.pts - frame.dts;
            if frame.track == VIDEO {
                // Some pictures take a millisecond longer.
                frame.dts =
                    Timestamp::from_ticks(pictures * step + 7 + 90 * (pictures / 3 % 2), Timescale::MPEG);
                pictures += 1;
            } else {
                let ms = frame.dts.to_millis();
                frame.dts = Timestamp::from_millis(ms + ms.checked_div(drift).unwrap_or_default());
            }
            frame.pts = frame.dts + composed;
            frame
        });
        // A network that delays each frame differently, and all of them less and less.
        let late = |frame: &MediaFrame| {
            let ms = frame.dts.to_millis().unsigned_abs();
            Duration::from_millis(300 + ms * 7_919 % 40) - Duration::from_millis(ms) / 500
        };
        origin.feed_late(frames, late);
        let pictures = listed(&origin, VIDEO, TrackKind::Video);
        let sound = listed(&origin, AUDIO, TrackKind::Audio);
        for picture in &pictures {
            let ends = picture.presented + picture.length;
            assert!(ends < picture.end && ends > picture.end - 0.002, "{ends} of {}", picture.end);
        }
        // The middle of one list and the first of the other are put beside each other; where the middle is follows from the
        // last, whose media are there.
        let (middle, last) = (pictures.len() / 2, pictures.len() - 1);
        let behind: f64 = pictures[middle..last].iter().map(|picture| picture.length).sum();
        let mut ends = pictures[last].presented - behind + sound[0].date - pictures[middle].date;
        for segment in &sound {
            ends += segment.length;
            assert!(ends < segment.end - 0.003, "{drift}: {ends} of {}", segment.end);
            assert!(ends > segment.end - 0.025, "{drift}: {ends} of {}", segment.end);
        }
    }
}

#[test]
fn a_playlist_is_rendered_once_whoever_asks() {
    let source = Source::h264_aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(source.seconds(30));
    let playlist = MediaPlaylist::new(TrackKind::Video, Run(7), origin.view(VIDEO));
    let rendered = Cell::new(0);
    let reports = || {
        rendered.set(rendered.get() + 1);
        Vec::new()
    };
    let first = playlist.full(reports).plain().as_ptr();
    for _ in 0..1_000 {
        assert_eq!(playlist.full(reports).plain().as_ptr(), first, "the same bytes");
        playlist.delta(reports);
    }
    assert_eq!(rendered.get(), 2, "in full, and as a delta");
    assert_eq!(playlist.is_rendered(), (true, true));
}

#[test]
fn a_playlist_as_it_looks() {
    let source = Source::h264_aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(source.seconds(5));
    let playlist = MediaPlaylist::new(TrackKind::Video, Run(0xAB), origin.view(VIDEO));
    let report = Report { kind: TrackKind::Audio, track: AUDIO, msn: 2, part: 3 };
    let full = playlist.full(|| vec![report]);
    let lines = text(full);
    let expect = "#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:2\n\
        #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK=0.60000,CAN-SKIP-UNTIL=12.00000\n\
        #EXT-X-PART-INF:PART-TARGET=0.20000\n#EXT-X-MEDIA-SEQUENCE:0\n#EXT-X-DISCONTINUITY-SEQUENCE:0\n\
        #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"video0_ab_init0.m4s\"\n\
        #EXT-X-PROGRAM-DATE-TIME:2027-01-15T08:00:00.040Z\n\
        #EXT-X-PART:DURATION=0.199998,URI=\"video0_ab_part0.m4s\",INDEPENDENT=YES\n\
        #EXT-X-PART:DURATION=0.199998,URI=\"video0_ab_part1.m4s\"\n";
    assert!(lines.starts_with(expect), "{lines}");
    let end = "#EXT-X-PART:DURATION=0.199998,URI=\"video0_ab_part23.m4s\"\n\
        #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"video0_ab_part24.m4s\"\n\
        #EXT-X-RENDITION-REPORT:URI=\"audio1.m3u8\",LAST-MSN=2,LAST-PART=3\n";
    assert!(lines.ends_with(end), "{lines}");
    let private = String::from_utf8(full.with_query("token=a.b").to_vec()).unwrap();
    assert!(private.contains("URI=\"video0_ab_part23.m4s?token=a.b\""), "{private}");
    assert!(private.contains("\nvideo0_ab_seg1.m4s?token=a.b\n"), "{private}");
    assert_eq!(private.replace("?token=a.b", ""), lines);
}

#[test]
fn multivariant_playlists_say_what_a_player_needs() {
    let source = Source::h264_aac();
    let mut tracks = source.tracks();
    let mut english = tracks.get(AUDIO).unwrap().clone();
    english.language = Some("en".into());
    let mut german = english.clone();
    german.id = TrackId::new(5).unwrap();
    (german.language, german.label) = (Some("de".into()), Some("Deutsch \"laut\"\n".into()));
    if let CodecConfig::Aac(AudioSpecificConfig { object_type, raw, .. }) = &mut german.config {
        (*object_type, *raw) = (5, Bytes::from_static(&[0x29, 0x90]));
    }
    tracks.insert(english);
    tracks.insert(german.clone());
    let mut origin = Origin::new(&tracks);
    origin.feed(source.seconds(9).into_iter().flat_map(|frame| {
        let second = (frame.track == AUDIO).then(|| MediaFrame { track: german.id, ..frame.clone() });
        [Some(frame), second].into_iter().flatten()
    }));
    origin.clean();
    let renditions: Vec<Rendition> =
        [VIDEO, AUDIO, german.id].iter().filter_map(|track| Rendition::new(origin.view(*track))).collect();
    let text = text(&multivariant(&renditions));
    let found = check_multivariant(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(found.uris(), ["audio1.m3u8", "audio5.m3u8", "video0.m3u8"]);
    assert!(found.independent);
    assert!(text.contains("NAME=\"Deutsch laut\",LANGUAGE=\"de\",DEFAULT=NO"), "{text}");
    let variant = &found.variants[0];
    assert_eq!(variant["CODECS"].split(',').count(), 3, "{variant:?}");
    assert_eq!((&*variant["RESOLUTION"], &*variant["FRAME-RATE"]), ("64x36", "25.000"));
    // What the renditions really take: the largest segments, with headers.
    let sum = |track| -> u64 { origin.view(track).bandwidth().0 };
    assert_eq!(variant["BANDWIDTH"], (sum(VIDEO) + sum(AUDIO).max(sum(german.id))).to_string());
    assert!(matches!(m3u8_rs::parse_playlist_res(text.as_bytes()), Ok(m3u8_rs::Playlist::MasterPlaylist(_))));
}

#[test]
fn sound_alone_is_a_variant() {
    let source = Source::aac();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(source.seconds(9));
    origin.clean();
    let renditions: Vec<_> = Rendition::new(origin.view(AUDIO)).into_iter().collect();
    let text = text(&multivariant(&renditions));
    let found = check_multivariant(&text).unwrap();
    assert_eq!((found.media.len(), &*found.variants[0]["CODECS"]), (0, "mp4a.40.2"));
}

#[test]
fn splice_messages_are_date_ranges() {
    let source = Source::h264();
    let mut tracks = source.tracks();
    tracks.insert(Track::new(TrackId::DATA, CodecId::Scte35, CodecConfig::None));
    let mut origin = Origin::new(&tracks);
    origin.kinds.retain(|one| one.1 != TrackKind::Data);
    let splice = MediaFrame::new(
        TrackId::DATA,
        Timestamp::from_millis(5_000),
        Bytes::from_static(&[0xFC, 0x30, 0x0A]),
    );
    origin.feed(range(source.clone(), 0, 5_100));
    origin.feed([splice]);
    origin.feed(range(source, 5_100, 9_000));
    origin.clean();
    let playlist = MediaPlaylist::new(TrackKind::Video, Run(7), origin.view(VIDEO));
    let text = text(playlist.full(Vec::new));
    let expect =
        "#EXT-X-DATERANGE:ID=\"scte35-0\",START-DATE=\"2027-01-15T08:00:05.000Z\",SCTE35-CMD=0xFC300A\n";
    assert!(text.contains(expect), "{text}");
}

/// `splice_insert` of event 7, a break of 30 s: its beginning, or its end.
fn splice_insert(out: bool) -> Bytes {
    let mut section = vec![0xFC, 0x30, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xF0, 0x0A, 5, 0, 0, 0, 7, 0x7F];
    section.push(if out { 0xF0 } else { 0x50 });
    if out {
        section.extend([0x7E, 0, 0x29, 0x32, 0xE0]);
    }
    section.extend([0, 1, 0, 0, 0, 0, 1, 2, 3, 4]);
    section[2] = u8::try_from(section.len() - 3).expect("short");
    section.into()
}

#[test]
fn a_break_is_one_date_range_from_its_splice_time_to_its_end() {
    let source = Source::h264();
    let mut tracks = source.tracks();
    tracks.insert(Track::new(TrackId::DATA, CodecId::Scte35, CodecConfig::None));
    let mut origin = Origin::new(&tracks);
    origin.kinds.retain(|one| one.1 != TrackKind::Data);
    let message = |came: i64, applies: i64, out| {
        MediaFrame::new(TrackId::DATA, Timestamp::from_millis(came), splice_insert(out))
            .with_pts(Timestamp::from_millis(applies))
    };
    origin.feed(range(source.clone(), 0, 3_100));
    origin.feed([message(3_080, 6_000, true), message(3_080, 6_000, true)]);
    origin.feed(range(source.clone(), 3_100, 9_100));
    origin.feed([message(9_080, 10_000, false)]);
    origin.feed(range(source, 9_100, 14_000));
    origin.clean();
    let playlist = MediaPlaylist::new(TrackKind::Video, Run(7), origin.view(VIDEO));
    let text = text(playlist.full(Vec::new));
    let ranges: Vec<&str> = text.lines().filter(|line| line.starts_with("#EXT-X-DATERANGE")).collect();
    let name = "#EXT-X-DATERANGE:ID=\"scte35-0\",START-DATE=\"2027-01-15T08:00:06.000Z\"";
    assert_eq!(ranges.len(), 2, "{ranges:#?}");
    assert!(
        ranges[0].starts_with(&format!("{name},PLANNED-DURATION=30.00000,SCTE35-OUT=0xFC30")),
        "{ranges:#?}"
    );
    let end = format!("{name},END-DATE=\"2027-01-15T08:00:10.000Z\",SCTE35-IN=0xFC30");
    assert!(ranges[1].starts_with(&end), "{ranges:#?}");
}

#[test]
fn directives_wait_for_what_will_come_and_for_nothing_else() {
    let source = Source::h264();
    let mut origin = Origin::new(&source.tracks());
    origin.feed(source.seconds(5));
    let view = origin.view(VIDEO);
    assert_eq!(view.last_part(), Some((2, 3)));
    for (msn, part, expect) in [
        (None, None, Ok(true)),
        (Some(0), None, Ok(true)),
        (Some(1), Some(9), Ok(true)),
        (Some(1), Some(400), Ok(true)),
        (Some(2), Some(3), Ok(true)),
        (Some(2), Some(4), Ok(false)),
        (Some(2), None, Ok(false)),
        (Some(3), Some(0), Ok(false)),
        (Some(4), None, Ok(false)),
        (Some(5), None, Err(DirectiveError::TooFarAhead)),
        (Some(2), Some(40), Err(DirectiveError::TooFarAhead)),
        (Some(u64::MAX), Some(u64::MAX), Err(DirectiveError::TooFarAhead)),
    ] {
        assert_eq!(Directives { msn, part, skip: false }.is_met(&view), expect, "{msn:?} {part:?}");
    }
}
