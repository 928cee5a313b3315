//! Playlists over time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::SystemTime;

use arcly_core::wall::Rfc3339;

use super::parse::{Media, Part, Segment, seconds, sum};

/// Rounding of durations that are added up, and of what is compared with a bound.
const EPSILON: f64 = 0.000_015;
/// What a date may differ from the one before it and the duration between, in seconds.
const DRIFT: f64 = 0.12;

/// A rule that a playlist does not keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The playlist.
    pub playlist: String,
    /// The rule, by the table of the module.
    pub rule: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.playlist, self.rule, self.what)
    }
}

/// What is known of a playlist.
#[derive(Debug, Default)]
struct Known {
    last: Option<Media>,
    /// Segments and their discontinuity sequence numbers, by media sequence number.
    segments: BTreeMap<u64, Segment>,
    discontinuities: BTreeMap<u64, u64>,
    /// Parts by URI.
    parts: BTreeSet<String>,
    hint: Option<String>,
    map_hint: Option<String>,
    ids: BTreeSet<String>,
}

/// Follows the media playlists of one stream, in full and as deltas, and notes every rule that is not kept.
#[derive(Debug, Default)]
pub struct Checker {
    known: BTreeMap<String, Known>,
    violations: Vec<Violation>,
    checked: usize,
}

impl Checker {
    /// A checker that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything that was wrong.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many playlists were looked at.
    #[must_use]
    pub const fn checked(&self) -> usize {
        self.checked
    }

    /// The playlist as it was last seen, in full.
    #[must_use]
    pub fn last(&self, name: &str) -> Option<&Media> {
        self.known.get(name)?.last.as_ref()
    }

    /// Fails when a rule was not kept.
    ///
    /// # Panics
    /// When there are violations.
    pub fn assert_clean(&self) {
        let list: Vec<String> = self.violations.iter().take(20).map(ToString::to_string).collect();
        assert!(
            list.is_empty(),
            "{} violations in {} playlists:\n{}",
            self.violations.len(),
            self.checked,
            list.join("\n")
        );
    }

    /// Looks at a version of the playlist `name`, which is its URI as other playlists write it. A delta is put together
    /// with what is known; the result is the playlist in full.
    pub fn check(&mut self, name: &str, text: &str) -> Option<Media> {
        self.checked += 1;
        let media = match Media::parse(text) {
            Ok(media) => media,
            Err(what) => {
                self.note(name, "form", what);
                return None;
            }
        };
        let media = self.merged(name, media)?;
        for (rule, what) in alone(&media) {
            self.note(name, rule, what);
        }
        self.compare(name, &media);
        self.check_reports(name, &media);
        let known = self.known.entry(name.into()).or_default();
        remember(known, &media);
        known.last = Some(media.clone());
        Some(media)
    }

    fn note(&mut self, name: &str, rule: &'static str, what: impl Into<String>) {
        self.violations.push(Violation { playlist: name.into(), rule, what: what.into() });
    }

    /// A delta with what it leaves out.
    fn merged(&mut self, name: &str, mut media: Media) -> Option<Media> {
        if media.skipped == 0 {
            return Some(media);
        }
        if media.version < 9 {
            self.note(name, "form", "EXT-X-SKIP needs version 9");
        }
        let Some(boundary) = media.control.get("CAN-SKIP-UNTIL").and_then(|until| seconds(until).ok()) else {
            self.note(name, "delta", "a delta although CAN-SKIP-UNTIL is not there");
            return None;
        };
        if media.duration() + EPSILON < boundary {
            self.note(name, "delta", format!("{} s are left of {boundary} s", media.duration()));
        }
        let known = self.known.entry(name.into()).or_default();
        let skipped: Option<Vec<Segment>> =
            (media.msn..media.msn + media.skipped).map(|msn| known.segments.get(&msn).cloned()).collect();
        let Some(mut all) = skipped else {
            self.note(name, "delta", "skips segments that were never listed");
            return None;
        };
        let map = all.last().and_then(|last| last.map.clone());
        for segment in media.segments.iter_mut().take_while(|segment| segment.map.is_none()) {
            segment.map.clone_from(&map);
        }
        all.append(&mut media.segments);
        (media.segments, media.skipped) = (all, 0);
        Some(media)
    }

    /// What has to be as it was.
    fn compare(&mut self, name: &str, media: &Media) {
        let Some(known) = self.known.get(name) else { return };
        let mut found: Vec<(&'static str, String)> = Vec::new();
        if let Some(last) = &known.last {
            compare_heads(last, media, &mut found);
        }
        for (msn, segment) in media.numbered() {
            if let Some(before) = known.segments.get(&msn) {
                compare_segments(msn, before, segment, &mut found);
            }
        }
        for (msn, sequence) in media.discontinuities() {
            if known.discontinuities.get(&msn).is_some_and(|before| *before != sequence) {
                found.push(("discontinuity-sequence", format!("segment {msn} is now of {sequence}")));
            }
        }
        check_hints(known, media, &mut found);
        found.into_iter().for_each(|(rule, what)| self.note(name, rule, what));
    }

    /// Reports of renditions that are known: never behind what was seen of them, bar what has come in the meantime.
    fn check_reports(&mut self, name: &str, media: &Media) {
        if media.reports.iter().any(|(uri, ..)| uri == name) {
            self.note(name, "report", "of itself");
        }
        for (other, known) in &self.known {
            let Some((seen, last)) =
                known.last.as_ref().filter(|_| other != name).and_then(|last| Some((last, last.last()?)))
            else {
                continue;
            };
            // Only players of low latency have a use for them.
            if media.part_target.is_none() {
                continue;
            }
            let Some((_, msn, part)) = media.reports.iter().find(|(uri, ..)| uri == other) else {
                self.violations.push(Violation {
                    playlist: name.into(),
                    rule: "report",
                    what: format!("none of {other}"),
                });
                continue;
            };
            // This version may have been rendered when the other one was a segment's parts younger.
            let distance = last.0.saturating_sub(*msn);
            let close =
                distance == 0 && last.1.unwrap_or(0) <= part + 3 || distance == 1 && last.1.unwrap_or(0) <= 3;
            let ahead = *msn > last.0 + 3 + seen.target;
            if !(*msn > last.0 || close) || ahead {
                let what = format!("of {other}: {msn}.{part}, but {last:?} was seen");
                self.violations.push(Violation { playlist: name.into(), rule: "report", what });
            }
        }
    }
}

fn remember(known: &mut Known, media: &Media) {
    known.segments = media.numbered().map(|(msn, segment)| (msn, segment.clone())).collect();
    known.discontinuities = media.discontinuities().collect();
    for part in media.segments.iter().flat_map(|segment| &segment.parts) {
        known.parts.insert(part.uri.clone());
    }
    let hint = |kind: &str| media.hints.iter().find(|(of, _)| of == kind).map(|(_, uri)| uri.clone());
    (known.hint, known.map_hint) = (hint("PART"), hint("MAP"));
    known.ids.extend(media.date_ranges.iter().filter_map(|range| range.get("ID").cloned()));
}

/// Rules that a playlist keeps by itself.
fn alone(media: &Media) -> Vec<(&'static str, String)> {
    let mut found = Vec::new();
    check_control(media, &mut found);
    let mut date = None;
    for (msn, segment) in media.numbered() {
        check_segment(media, msn, segment, &mut found);
        check_date(msn, segment, &mut date, &mut found);
    }
    let dated = media.segments.iter().any(|segment| segment.date.is_some());
    for range in &media.date_ranges {
        if !range.contains_key("ID") || !range.contains_key("START-DATE") || !dated {
            found.push(("date-range", format!("{range:?}")));
        }
    }
    if media.ended && !media.hints.is_empty() {
        found.push(("hint", "in a playlist that has ended".into()));
    }
    found
}

fn check_control(media: &Media, found: &mut Vec<(&'static str, String)>) {
    if media.target < 1 {
        found.push(("target-duration", "is zero".into()));
    }
    if media.version < 6 && media.segments.iter().any(|segment| segment.map.is_some()) {
        found.push(("form", "EXT-X-MAP needs version 6".into()));
    }
    let of = |name: &str| media.control.get(name).map(|value| seconds(value).unwrap_or(f64::NAN));
    let target = f64::from(u32::try_from(media.target).unwrap_or(u32::MAX));
    let part_target = media.part_target.unwrap_or_default();
    let bounds = [
        ("HOLD-BACK", 3.0 * target),
        ("CAN-SKIP-UNTIL", 6.0 * target),
        ("PART-HOLD-BACK", 2.0 * part_target),
    ];
    for (name, least) in bounds {
        if of(name).is_some_and(|value| value.is_nan() || value + EPSILON < least) {
            found.push(("server-control", format!("{name} is less than {least}")));
        }
    }
    let has_parts = media.segments.iter().any(|segment| !segment.parts.is_empty());
    if has_parts && media.part_target.is_none() {
        found.push(("form", "parts without EXT-X-PART-INF".into()));
    }
    if media.part_target.is_some() && of("PART-HOLD-BACK").is_none() {
        found.push(("server-control", "PART-HOLD-BACK is missing".into()));
    }
}

fn check_segment(media: &Media, msn: u64, segment: &Segment, found: &mut Vec<(&'static str, String)>) {
    let target = f64::from(u32::try_from(media.target).unwrap_or(u32::MAX));
    if segment.duration.round() > target {
        found.push(("target-duration", format!("segment {msn} lasts {} s", segment.duration)));
    }
    let is_ts = segment.uri.split('?').next().is_some_and(|path| path.ends_with(".ts"));
    if segment.map.is_none() && !segment.gap && !is_ts {
        found.push(("map", format!("segment {msn} has none")));
    }
    let listed = sum(&segment.parts);
    if segment.is_complete() && !segment.parts.is_empty() && (listed - segment.duration).abs() > 0.001 {
        found.push(("part-duration", format!("segment {msn}: {listed} s of {} s", segment.duration)));
    }
    let most = media.part_target.unwrap_or_default();
    for (at, part) in segment.parts.iter().enumerate() {
        let last = at + 1 == segment.parts.len();
        let before_gap = segment.parts.get(at + 1).is_some_and(|next| next.gap);
        let exempt = part.independent || part.gap || before_gap || last;
        if part.duration > most + EPSILON || !exempt && part.duration + EPSILON < 0.85 * most {
            found.push(("part-duration", format!("{} lasts {} s of {most} s", part.uri, part.duration)));
        }
    }
    if segment.gap && segment.parts.iter().any(|part| !part.gap) {
        found.push(("part-order", format!("segment {msn} is a gap, its parts are not")));
    }
}

/// Every segment is dated, and dates follow each other as the durations do.
fn check_date(
    msn: u64,
    segment: &Segment,
    before: &mut Option<(SystemTime, f64)>,
    found: &mut Vec<(&'static str, String)>,
) {
    let Some(text) = &segment.date else {
        found.push(("date", format!("segment {msn} has none")));
        return;
    };
    let Ok(Rfc3339(date)) = text.parse() else {
        found.push(("date", format!("`{text}` is none")));
        return;
    };
    if let Some((last, duration)) = *before {
        match date.duration_since(last) {
            Err(_) => found.push(("date", format!("segment {msn} is before its predecessor"))),
            Ok(step) if !segment.discontinuity && (step.as_secs_f64() - duration).abs() > DRIFT => {
                found.push(("date", format!("segment {msn} comes {step:?} after one of {duration} s")));
            }
            Ok(_) => {}
        }
    }
    *before = Some((date, segment.duration));
}

fn compare_heads(last: &Media, media: &Media, found: &mut Vec<(&'static str, String)>) {
    if (last.target, last.part_target) != (media.target, media.part_target) {
        let what = format!(
            "{}, {:?} became {}, {:?}",
            last.target, last.part_target, media.target, media.part_target
        );
        found.push(("constant", what));
    }
    if media.msn < last.msn || media.discontinuity_sequence < last.discontinuity_sequence {
        found.push(("sequence", format!("{} became {}", last.msn, media.msn)));
    }
    if media.last() < last.last() {
        found.push(("sequence", format!("{:?} came after {:?}", media.last(), last.last())));
    }
    let target = f64::from(u32::try_from(media.target).unwrap_or(u32::MAX));
    if media.msn > last.msn && media.duration() + EPSILON < 3.0 * target {
        found.push(("removal", format!("{} s are left", media.duration())));
    }
    if last.ended && (last.segments != media.segments || !media.ended) {
        found.push(("end", "something came after it".into()));
    }
    if media.independent && !last.independent {
        found.push(("constant", "segments became independent".into()));
    }
}

fn compare_segments(msn: u64, before: &Segment, now: &Segment, found: &mut Vec<(&'static str, String)>) {
    let tags = |one: &Segment| (one.discontinuity, one.map.clone(), one.key.clone(), one.date.clone());
    if tags(before) != tags(now) {
        found.push((
            "unchanged",
            format!("the tags of segment {msn}: {:?} became {:?}", tags(before), tags(now)),
        ));
    }
    let uri = |one: &Segment| (one.uri.clone(), one.duration.to_bits(), one.gap);
    if before.is_complete() && uri(before) != uri(now) {
        found.push(("unchanged", format!("segment {msn}: {:?} became {:?}", before.uri, now.uri)));
    }
    // Parts stay until the segment is too far from the end, and then go all at once.
    let kept = now.parts.len() >= before.parts.len() && now.parts[..before.parts.len()] == before.parts[..];
    let gone = now.parts.is_empty() && now.is_complete();
    if !kept && !gone {
        found.push(("unchanged", format!("the parts of segment {msn}")));
    }
    if before.is_complete() && now.parts.len() > before.parts.len() {
        found.push(("part-order", format!("segment {msn} was complete and has more parts")));
    }
}

/// The next part, and the next initialisation segment, are those that were hinted at.
fn check_hints(known: &Known, media: &Media, found: &mut Vec<(&'static str, String)>) {
    let is_new = |part: &&Part| !known.parts.contains(&part.uri);
    let newest_known = media.segments.iter().flat_map(|segment| &segment.parts).rposition_known(&known.parts);
    let mut later = media.segments.iter().flat_map(|segment| &segment.parts).skip(newest_known);
    let next = later.find(is_new);
    if let (Some(hint), Some(next)) = (&known.hint, next)
        && newest_known > 0
        && *hint != next.uri
    {
        found.push(("hint", format!("{hint} was hinted at, {} came", next.uri)));
    }
    if let Some(map) = &known.map_hint
        && let Some(newest) = media.segments.last()
        && next.is_some()
        && newest.map.as_ref() != Some(map)
        && !media.segments.iter().any(|segment| segment.map.as_ref() == Some(map))
    {
        found.push(("hint", format!("{map} was hinted at")));
    }
    if !media.ended && media.part_target.is_some() && !media.hints.iter().any(|(kind, _)| kind == "PART") {
        found.push(("hint", "there is none".into()));
    }
}

trait PositionKnown {
    /// How many come up to the last one that is known.
    fn rposition_known(self, known: &BTreeSet<String>) -> usize;
}

impl<'a, I: Iterator<Item = &'a Part>> PositionKnown for I {
    fn rposition_known(self, known: &BTreeSet<String>) -> usize {
        self.enumerate().filter(|(_, part)| known.contains(&part.uri)).last().map_or(0, |(at, _)| at + 1)
    }
}
