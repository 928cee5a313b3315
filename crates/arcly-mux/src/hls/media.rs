//! Media playlists.

use core::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arcly_core::wall::Rfc3339;
use arcly_core::{TimeDelta, TrackId, TrackKind};

use super::text::{Text, Writer};
use super::{File, MAP_VERSION, Run, TS_VERSION, VERSION};
use crate::live::{Container, Cue, DateRange, Init, Key, Part, Segment, View};

/// Bytes of a playlist without its segments, and of a segment with its parts: what is set aside before writing.
const HEAD: usize = 1_024;
const EACH: usize = 768;
/// Parts are listed for so many target durations from the end (6.2.2).
const PARTS_LISTED: i64 = 3;

/// How far another rendition has come (`EXT-X-RENDITION-REPORT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Its kind.
    pub kind: TrackKind,
    /// Its track.
    pub track: TrackId,
    /// The media sequence number of its last part.
    pub msn: u64,
    /// The index of that part in its segment.
    pub part: u64,
}

/// The media playlist of one version of a rendition. It is rendered for the first who asks, and shared.
#[derive(Debug)]
pub struct MediaPlaylist {
    kind: TrackKind,
    run: Run,
    view: Arc<View>,
    full: OnceLock<Text>,
    delta: OnceLock<Text>,
}

impl MediaPlaylist {
    /// The playlist of `view`, not rendered yet.
    #[must_use]
    pub const fn new(kind: TrackKind, run: Run, view: Arc<View>) -> Self {
        Self { kind, run, view, full: OnceLock::new(), delta: OnceLock::new() }
    }

    /// What it lists.
    #[must_use]
    pub const fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// Everything. `reports` is asked for the other renditions when this is the first time.
    pub fn full(&self, reports: impl FnOnce() -> Vec<Report>) -> &Text {
        self.full.get_or_init(|| self.render(0, &reports()))
    }

    /// What is new, for those who had a playlist recently (6.2.5.1); everything when nothing can be left out.
    pub fn delta(&self, reports: impl FnOnce() -> Vec<Report>) -> &Text {
        match self.skipped() {
            0 => self.full(reports),
            skipped => self.delta.get_or_init(|| self.render(skipped, &reports())),
        }
    }

    /// True when somebody has asked for it in full, and for what is new.
    #[must_use]
    pub fn is_rendered(&self) -> (bool, bool) {
        (self.full.get().is_some(), self.delta.get().is_some())
    }

    /// How many segments a delta leaves out: those that end before the skip boundary.
    fn skipped(&self) -> usize {
        if !self.view.low_latency {
            return 0;
        }
        // What is listed is a little shorter than it is.
        let boundary = self.view.plan.skip_boundary() + TimeDelta::from_millis(1);
        let mut from_end = self.view.open.as_ref().map_or(TimeDelta::ZERO, |open| open.duration);
        let listed = self.view.listed();
        let kept = listed.iter().rev().take_while(|segment| {
            let near = from_end < boundary;
            from_end += segment.duration;
            near
        });
        listed.len().saturating_sub(kept.count())
    }

    /// The first listed segment with parts.
    fn parts_from(&self) -> usize {
        if !self.view.low_latency {
            return self.view.listed().len();
        }
        let near = TimeDelta(self.view.plan.target.0.saturating_mul(PARTS_LISTED));
        let mut from_end = self.view.open.as_ref().map_or(TimeDelta::ZERO, |open| open.duration);
        let listed = self.view.listed();
        let with = listed.iter().rev().take_while(|segment| {
            from_end += segment.duration;
            from_end <= near
        });
        listed.len().saturating_sub(with.count())
    }

    fn render(&self, skipped: usize, reports: &[Report]) -> Text {
        let listed = self.view.listed();
        let size = listed.len().saturating_sub(skipped).saturating_mul(EACH).saturating_add(HEAD);
        let mut out = Writer::new(size);
        self.put_head(&mut out);
        if skipped > 0 {
            out.put(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}\n"));
        }
        let parts_from = self.parts_from();
        let mut force = InForce::default();
        for (at, segment) in listed.iter().enumerate() {
            if at >= skipped {
                self.put_tags(&mut out, segment, &force);
                if at >= parts_from {
                    segment.parts.iter().for_each(|part| self.put_part(&mut out, part));
                }
                self.put_segment(&mut out, segment);
            }
            force = InForce { map: Some(&segment.init), key: segment.key.as_ref().or(force.key) };
        }
        if self.view.low_latency {
            self.put_edge(&mut out, &force);
        }
        let others = |report: &&Report| self.view.low_latency && report.track != self.view.track;
        for report in reports.iter().filter(others) {
            out.put(format_args!("#EXT-X-RENDITION-REPORT:URI=\""));
            out.uri(File::Media(report.kind, report.track));
            out.put(format_args!("\",LAST-MSN={},LAST-PART={}\n", report.msn, report.part));
        }
        if self.view.ended {
            out.put(format_args!("#EXT-X-ENDLIST\n"));
        }
        out.finish()
    }

    fn put_head(&self, out: &mut Writer) {
        let (view, plan) = (&self.view, &self.view.plan);
        let first = view.listed().first().or(view.open.as_ref());
        let msn = first.map_or(view.next_msn, |first| first.msn);
        let discontinuities =
            first.map_or(0, |first| first.discontinuity_sequence.saturating_sub(first.discontinuity.into()));
        out.put(format_args!(
            "#EXTM3U\n#EXT-X-VERSION:{}\n#EXT-X-TARGETDURATION:{}\n#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES",
            version(view),
            plan.target_seconds(),
        ));
        if view.low_latency {
            out.put(format_args!(
                ",PART-HOLD-BACK={},CAN-SKIP-UNTIL={}\n#EXT-X-PART-INF:PART-TARGET={}",
                Seconds(plan.part_hold_back()),
                Seconds(plan.skip_boundary()),
                Seconds(plan.part_target),
            ));
        }
        out.put(format_args!(
            "\n#EXT-X-MEDIA-SEQUENCE:{msn}\n#EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n"
        ));
        if view.independent {
            out.put(format_args!("#EXT-X-INDEPENDENT-SEGMENTS\n"));
        }
    }

    fn needs_map(&self, segment: &Segment, force: &InForce<'_>) -> bool {
        let changed = force.map.is_none_or(|map| map.number != segment.init.number);
        self.view.container == Container::Cmaf && changed
    }

    /// The tags that apply to a segment and to its first part, given what the segment before it needs.
    fn put_tags(&self, out: &mut Writer, segment: &Segment, force: &InForce<'_>) {
        if segment.discontinuity {
            out.put(format_args!("#EXT-X-DISCONTINUITY\n"));
        }
        let mut key = force.key.map(|key| key.number());
        if self.needs_map(segment, force) {
            if key.take().is_some() {
                out.put(format_args!("#EXT-X-KEY:METHOD=NONE\n"));
            }
            out.put(format_args!("#EXT-X-MAP:URI=\""));
            out.uri(File::Init(self.kind, self.view.track, self.run, segment.init.number));
            out.put(format_args!("\"\n"));
        }
        if let Some(wanted) =
            segment.key.as_ref().map(|key| key.number()).filter(|wanted| key != Some(*wanted))
        {
            out.put(format_args!("#EXT-X-KEY:METHOD=AES-128,URI=\""));
            out.uri(File::Key(self.view.container, self.kind, self.view.track, self.run, wanted));
            out.put(format_args!("\"\n"));
        }
        out.put(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}\n", Rfc3339(self.date(segment))));
        segment.ranges.iter().for_each(|range| put_range(out, range));
    }

    /// When a segment begins. Players put sound where its date says, seen from that of a picture in the middle of the list,
    /// and that where it is by what is listed behind it: sound is dated a little earlier, so that nothing which is rounded
    /// or corrected on that way puts it later than it is.
    fn date(&self, segment: &Segment) -> SystemTime {
        let earlier = if self.kind == TrackKind::Audio { DATE_ROUNDING } else { Duration::ZERO };
        segment.date.checked_sub(earlier).unwrap_or(segment.date)
    }

    fn put_part(&self, out: &mut Writer, part: &Part) {
        out.put(format_args!("#EXT-X-PART:DURATION={},URI=\"", Length(part.duration)));
        out.uri(File::Part(self.kind, self.view.track, self.run, part.number));
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        let gap = if part.is_gap() { ",GAP=YES" } else { "" };
        out.put(format_args!("\"{independent}{gap}\n"));
    }

    fn put_segment(&self, out: &mut Writer, segment: &Segment) {
        if segment.is_gap() {
            out.put(format_args!("#EXT-X-GAP\n"));
        }
        out.put(format_args!("#EXTINF:{},\n", Length(segment.duration)));
        out.uri(match self.view.container {
            Container::Cmaf => File::Segment(self.kind, self.view.track, self.run, segment.msn),
            Container::Ts => File::TsSegment(self.kind, self.view.track, self.run, segment.msn),
        });
        out.put(format_args!("\n"));
    }

    /// The parts of the segment that is being made, and what comes next.
    fn put_edge(&self, out: &mut Writer, force: &InForce<'_>) {
        if let Some(open) = &self.view.open {
            if open.parts.is_empty() {
                if self.needs_map(open, force) && !self.view.ended {
                    out.put(format_args!("#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\""));
                    out.uri(File::Init(self.kind, self.view.track, self.run, open.init.number));
                    out.put(format_args!("\"\n"));
                }
            } else {
                self.put_tags(out, open, force);
                open.parts.iter().for_each(|part| self.put_part(out, part));
            }
        }
        if !self.view.ended {
            out.put(format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\""));
            out.uri(File::Part(self.kind, self.view.track, self.run, self.view.next_part));
            out.put(format_args!("\"\n"));
        }
    }
}

/// What applies to segments until another tag says otherwise.
#[derive(Clone, Copy, Debug, Default)]
struct InForce<'a> {
    map: Option<&'a Arc<Init>>,
    key: Option<&'a Arc<Key>>,
}

const fn version(view: &View) -> u32 {
    match view.container {
        Container::Ts => TS_VERSION,
        Container::Cmaf if view.low_latency => VERSION,
        Container::Cmaf => MAP_VERSION,
    }
}

fn put_range(out: &mut Writer, range: &DateRange) {
    let start = Rfc3339(range.start);
    out.put(format_args!("#EXT-X-DATERANGE:ID=\"scte35-{}\",START-DATE=\"{start}\"", range.id));
    if let Some(end) = range.end {
        out.put(format_args!(",END-DATE=\"{}\"", Rfc3339(end)));
    }
    if let Some(planned) = range.planned {
        out.put(format_args!(",PLANNED-DURATION={}", Seconds(planned)));
    }
    let cue = match range.cue {
        Cue::Command => "CMD",
        Cue::Out => "OUT",
        Cue::In => "IN",
    };
    out.put(format_args!(",SCTE35-{cue}=0x"));
    for byte in &range.scte35 {
        out.put(format_args!("{byte:02X}"));
    }
    out.put(format_args!("\n"));
}

/// What the places of renditions beside each other may be wrong by: a millisecond for each segment in half a list, where
/// pictures end earlier than the next begin, one for dates, and what dates are corrected by meanwhile.
const DATE_ROUNDING: Duration = Duration::from_millis(15);
/// What is lost where players count in microseconds: once in the start of a segment, and once in its end.
const LOST: u128 = 2;

/// How long media last in seconds with six decimals, and never longer than they are in a player's buffer: hls.js does not
/// load the next part before the buffer reaches to where the segment ends that the last one is in.
struct Length(TimeDelta);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.0.to_duration().as_micros().saturating_sub(LOST);
        let (whole, part) = (micros.checked_div(1_000_000), micros.checked_rem(1_000_000));
        write!(f, "{}.{:06}", whole.unwrap_or_default(), part.unwrap_or_default())
    }
}

/// Seconds with five decimals, rounded to the nearest.
struct Seconds(TimeDelta);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.to_ticks(arcly_core::Timescale::of(100_000)).max(0);
        let (whole, part) = (units.checked_div(100_000), units.checked_rem(100_000));
        write!(f, "{}.{:05}", whole.unwrap_or_default(), part.unwrap_or_default())
    }
}
