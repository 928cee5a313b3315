//! The manifest as XML.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use arcly_core::codec::FrameRate;
use arcly_core::wall::Rfc3339;
use arcly_core::{TimeDelta, Timescale, Timestamp, Track, TrackKind};
use bytes::Bytes;
use quick_xml::events::BytesText;
use quick_xml::writer::Writer;

use crate::live::{Init, Plan, Segment, View};

const NAMESPACE: &str = "urn:mpeg:dash:schema:mpd:2011";
/// Segments of a live stream, in CMAF.
const PROFILES: &str = "urn:mpeg:dash:profile:isoff-live:2011,urn:mpeg:dash:profile:cmaf:2019";
/// The time is in the manifest itself.
const UTC_DIRECT: &str = "urn:mpeg:dash:utc:direct:2014";
const CHANNELS: &str = "urn:mpeg:mpegB:cicp:ChannelConfiguration";
const ROLE: &str = "urn:mpeg:dash:role:2011";
/// How far behind the newest part players play that fetch segments while they are made: parts come that much late.
const MARGIN: TimeDelta = TimeDelta::from_millis(1_000);
/// The shortest time between two looks at the manifest.
const MIN_UPDATE: TimeDelta = TimeDelta::from_millis(500);

/// When time zero of a stream was: what `availabilityStartTime` says for as long as the manifest is watched, as it must
/// not change. `None` before the first segment.
#[must_use]
pub fn epoch(views: &[Arc<View>]) -> Option<SystemTime> {
    let first = views
        .iter()
        .filter_map(|view| view.listed().first().or(view.open.as_ref()))
        .min_by_key(|one| one.start)?;
    let since = (first.presented - Timestamp::ZERO).to_duration();
    first.date.checked_sub(since)
}

/// What a manifest is made of.
#[derive(Clone, Copy, Debug)]
pub struct Manifest<'a> {
    /// The renditions, with something in them.
    pub views: &'a [Arc<View>],
    /// When time zero of the stream was, see [`epoch`].
    pub epoch: SystemTime,
    /// Now.
    pub now: SystemTime,
    /// What tells this run's files from those of others, as it stands in their names.
    pub run: u64,
    /// What has to stand behind the URIs of files, without its question mark.
    pub query: &'a str,
}

type Xml = Writer<Vec<u8>>;

impl Manifest<'_> {
    /// The manifest as it is now.
    #[must_use]
    pub fn render(&self) -> Bytes {
        let mut out = Writer::new_with_indent(Vec::with_capacity(8 << 10), b' ', 1);
        let written = self.write(&mut out);
        debug_assert!(written.is_ok(), "memory takes everything");
        let mut text = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n".to_vec();
        text.append(out.get_mut());
        text.push(b'\n');
        text.into()
    }

    fn write(&self, out: &mut Xml) -> io::Result<()> {
        let Some(plan) = self.views.first().map(|view| view.plan) else { return Ok(()) };
        let ended = self.views.iter().all(|view| view.ended);
        let mut mpd = vec![
            ("xmlns", NAMESPACE.to_owned()),
            ("profiles", PROFILES.to_owned()),
            ("type", "dynamic".to_owned()),
            ("availabilityStartTime", date(self.epoch)),
            ("publishTime", date(self.now)),
            ("timeShiftBufferDepth", duration(plan.window)),
            ("maxSegmentDuration", duration(plan.max_segment)),
            ("minBufferTime", duration(plan.part_target)),
            ("suggestedPresentationDelay", duration(plan.target + plan.target)),
        ];
        if ended {
            let end = self.views.iter().flat_map(|view| view.listed().last()).map(|last| last.end()).max();
            mpd.push(("mediaPresentationDuration", duration(end.unwrap_or_default() - Timestamp::ZERO)));
        } else {
            let update = TimeDelta(plan.min_segment.0 / 2).max(MIN_UPDATE);
            mpd.push(("minimumUpdatePeriod", duration(update)));
        }
        element(out, "MPD", &mpd, |out| {
            service_description(out, &plan)?;
            let periods = self.periods();
            for period in &periods {
                self.period(out, period)?;
            }
            empty(out, "UTCTiming", &[("schemeIdUri", UTC_DIRECT.to_owned()), ("value", date(self.now))])
        })
    }

    /// Runs of segments that need nothing new, over all renditions.
    fn periods(&self) -> Vec<Period<'_>> {
        let mut periods: Vec<Period<'_>> = Vec::new();
        for view in self.views {
            for segment in
                view.listed().iter().chain(view.open.as_ref().filter(|open| !open.parts.is_empty()))
            {
                let sequence = segment.discontinuity_sequence;
                let at = match periods.binary_search_by_key(&sequence, |period| period.sequence) {
                    Ok(at) => at,
                    Err(at) => {
                        periods.insert(at, Period { sequence, start: segment.presented, sets: Vec::new() });
                        at
                    }
                };
                let Some(period) = periods.get_mut(at) else { continue };
                period.start = period.start.min(segment.presented);
                match period.sets.last_mut().filter(|set| core::ptr::eq(set.view, &raw const **view)) {
                    Some(set) => set.segments.push(segment),
                    None => period.sets.push(Set { view, segments: vec![segment] }),
                }
            }
        }
        periods
    }

    fn period(&self, out: &mut Xml, period: &Period<'_>) -> io::Result<()> {
        let start = period.start - Timestamp::ZERO;
        let attributes = [("id", format!("p{}", period.sequence)), ("start", duration(start))];
        element(out, "Period", &attributes, |out| {
            for (id, set) in period.sets.iter().enumerate() {
                self.adaptation_set(out, id, period.start, set)?;
            }
            Ok(())
        })
    }

    fn adaptation_set(&self, out: &mut Xml, id: usize, start: Timestamp, set: &Set<'_>) -> io::Result<()> {
        let Some(first) = set.segments.first() else { return Ok(()) };
        let track = &first.init.track;
        let mime = match track.kind() {
            TrackKind::Audio => crate::fmp4::AUDIO_MEDIA_TYPE,
            _ => crate::fmp4::MEDIA_TYPE,
        };
        let mut attributes = vec![
            ("id", id.to_string()),
            ("contentType", track.kind().as_str().to_owned()),
            ("mimeType", mime.to_owned()),
            ("segmentAlignment", "true".to_owned()),
        ];
        if set.segments.iter().all(|segment| segment.is_independent()) {
            attributes.push(("startWithSAP", "1".to_owned()));
        }
        if let Some(language) = track.language.as_deref() {
            attributes.push(("lang", language.to_owned()));
        }
        element(out, "AdaptationSet", &attributes, |out| {
            if let Some(label) = track.label.as_deref() {
                element(out, "Label", &[], |out| {
                    let printable: String = label.chars().filter(|c| !c.is_control()).collect();
                    out.write_event(quick_xml::events::Event::Text(BytesText::new(&printable)))
                })?;
            }
            empty(
                out,
                "Role",
                &[("schemeIdUri", ROLE.to_owned()), ("value", role(self.views, set).to_owned())],
            )?;
            self.producer_time(out, first)?;
            self.representation(out, start, set, &first.init)
        })
    }

    /// When the first picture that is listed came; the `prft` box before each segment says the same of it.
    fn producer_time(&self, out: &mut Xml, first: &Segment) -> io::Result<()> {
        let ticks = first.presented.to_ticks(first.init.timescale);
        let attributes = [
            ("id", "0".to_owned()),
            ("inband", "true".to_owned()),
            ("type", "encoder".to_owned()),
            ("wallClockTime", date(first.date)),
            ("presentationTime", ticks.to_string()),
        ];
        element(out, "ProducerReferenceTime", &attributes, |out| {
            empty(out, "UTCTiming", &[("schemeIdUri", UTC_DIRECT.to_owned()), ("value", date(self.now))])
        })
    }

    fn representation(&self, out: &mut Xml, start: Timestamp, set: &Set<'_>, init: &Init) -> io::Result<()> {
        let track = &init.track;
        let mut attributes = vec![
            ("id", format!("{}{}", track.kind(), set.view.track)),
            ("bandwidth", set.view.bandwidth().0.max(1).to_string()),
        ];
        attributes.extend(init.codecs.clone().map(|codecs| ("codecs", codecs)));
        attributes.extend(picture(track));
        let sound = track.audio().filter(|audio| audio.sample_rate > 0);
        attributes.extend(sound.map(|audio| ("audioSamplingRate", audio.sample_rate.to_string())));
        element(out, "Representation", &attributes, |out| {
            if let Some(value) = track.audio().and_then(|audio| channel_configuration(audio.channels)) {
                let attributes = [("schemeIdUri", CHANNELS.to_owned()), ("value", value.to_string())];
                empty(out, "AudioChannelConfiguration", &attributes)?;
            }
            self.template(out, start, set, init)
        })
    }

    fn template(&self, out: &mut Xml, start: Timestamp, set: &Set<'_>, init: &Init) -> io::Result<()> {
        let (kind, track, plan) = (init.track.kind(), set.view.track, set.view.plan);
        let query = if self.query.is_empty() { String::new() } else { format!("?{}", self.query) };
        let number = set.segments.first().map_or(0, |first| first.msn);
        let early = (plan.min_segment - plan.part_target).max(TimeDelta::ZERO);
        let attributes = [
            ("timescale", init.timescale.get().to_string()),
            ("presentationTimeOffset", ticks(start, init.timescale).to_string()),
            ("startNumber", number.to_string()),
            ("availabilityTimeOffset", format!("{:.3}", early.as_secs_f64())),
            ("availabilityTimeComplete", "false".to_owned()),
            ("initialization", format!("{kind}{track}_{:x}_init{}.m4s{query}", self.run, init.number)),
            ("media", format!("{kind}{track}_{:x}_seg$Number$.m4s{query}", self.run)),
        ];
        element(out, "SegmentTemplate", &attributes, |out| {
            element(out, "SegmentTimeline", &[], |out| timeline(out, set, init.timescale))
        })
    }
}

/// What decoders can play without beginning anew.
struct Period<'a> {
    sequence: u64,
    start: Timestamp,
    sets: Vec<Set<'a>>,
}

/// The segments of one rendition in a period.
struct Set<'a> {
    view: &'a View,
    segments: Vec<&'a Arc<Segment>>,
}

/// Segments of the same length in a row are said once.
fn timeline(out: &mut Xml, set: &Set<'_>, scale: Timescale) -> io::Result<()> {
    let mut rows: Vec<(u64, u64, u64)> = Vec::new();
    let mut segments = set.segments.iter().peekable();
    let mut last = ticks(Timestamp::ZERO + set.view.plan.min_segment, scale);
    while let Some(segment) = segments.next() {
        let at = ticks(segment.presented, scale);
        let length = match segments.peek() {
            Some(next) => ticks(next.presented, scale).saturating_sub(at),
            None if is_open(set.view, segment) => last.max(ticks(Timestamp::ZERO + segment.duration, scale)),
            None => ticks(segment.presented + segment.duration, scale).saturating_sub(at),
        };
        last = length;
        match rows.last_mut() {
            Some((from, duration, repeated))
                if *duration == length
                    && from.saturating_add(duration.saturating_mul(repeated.saturating_add(1))) == at =>
            {
                *repeated = repeated.saturating_add(1);
            }
            _ => rows.push((at, length, 0)),
        }
    }
    for (at, length, repeated) in rows {
        let mut attributes = vec![("t", at.to_string()), ("d", length.to_string())];
        if repeated > 0 {
            attributes.push(("r", repeated.to_string()));
        }
        empty(out, "S", &attributes)?;
    }
    Ok(())
}

fn is_open(view: &View, segment: &Segment) -> bool {
    view.open.as_ref().is_some_and(|open| open.msn == segment.msn)
}

fn ticks(at: Timestamp, scale: Timescale) -> u64 {
    u64::try_from(at.to_ticks(scale)).unwrap_or_default()
}

/// The first of a kind is the main one.
fn role(views: &[Arc<View>], set: &Set<'_>) -> &'static str {
    let kind = |view: &View| view.newest_init().map(|init| init.track.kind());
    let first = views.iter().find(|view| kind(view) == kind(set.view));
    if first.is_some_and(|first| first.track == set.view.track) { "main" } else { "alternate" }
}

fn picture(track: &Track) -> Vec<(&'static str, String)> {
    let mut attributes = Vec::new();
    let Some(video) = track.video() else { return attributes };
    if video.width > 0 && video.height > 0 {
        attributes.push(("width", video.width.to_string()));
        attributes.push(("height", video.height.to_string()));
    }
    if let Some(FrameRate { num, den }) = video.frame_rate {
        let rate = if den.get() == 1 { num.to_string() } else { format!("{num}/{den}") };
        attributes.push(("frameRate", rate));
    }
    attributes
}

/// `ChannelConfiguration` of ISO/IEC 23091-3.
const fn channel_configuration(channels: u8) -> Option<u8> {
    match channels {
        1..=6 => Some(channels),
        7 => Some(11),
        8 => Some(12),
        _ => None,
    }
}

fn service_description(out: &mut Xml, plan: &Plan) -> io::Result<()> {
    let target = plan.part_hold_back() + MARGIN;
    let ms = |delta: TimeDelta| delta.to_millis().to_string();
    element(out, "ServiceDescription", &[("id", "0".to_owned())], |out| {
        let latency = [
            ("referenceId", "0".to_owned()),
            ("target", ms(target)),
            ("min", ms(plan.part_hold_back())),
            ("max", ms(target + plan.target)),
        ];
        empty(out, "Latency", &latency)?;
        empty(out, "PlaybackRate", &[("min", "0.96".to_owned()), ("max", "1.04".to_owned())])
    })
}

type Attribute = (&'static str, String);

fn element(
    out: &mut Xml,
    name: &str,
    attributes: &[Attribute],
    inside: impl FnOnce(&mut Xml) -> io::Result<()>,
) -> io::Result<()> {
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    out.create_element(name).with_attributes(attributes).write_inner_content(inside)?;
    Ok(())
}

fn empty(out: &mut Xml, name: &str, attributes: &[Attribute]) -> io::Result<()> {
    let attributes = attributes.iter().map(|(name, value)| (*name, value.as_str()));
    out.create_element(name).with_attributes(attributes).write_empty()?;
    Ok(())
}

fn date(at: SystemTime) -> String {
    Rfc3339(at).to_string()
}

/// `PT12.345S`.
fn duration(delta: TimeDelta) -> String {
    let mut text = String::from("PT");
    let _ = write!(text, "{:.6}", delta.as_secs_f64().max(0.0));
    let trimmed = text.trim_end_matches('0').trim_end_matches('.').len();
    text.truncate(trimmed);
    if text.ends_with("PT") {
        text.push('0');
    }
    text.push('S');
    text
}
