//! Media playlists.

use core::fmt::{self, Write as _};
use std::sync::{Arc, OnceLock};

use arcly_core::wall::Rfc3339;
use arcly_core::{TimeDelta, TrackId, TrackKind};

use super::text::{Text, Writer};
use super::{File, Run, VERSION};
use crate::live::{DateRange, Init, Part, Segment, View};

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
        let mut from_end = self.view.open.as_ref().map_or(TimeDelta::ZERO, |open| open.duration);
        let listed = self.view.listed();
        let kept = listed.iter().rev().take_while(|segment| {
            let near = from_end < self.view.plan.skip_boundary();
            from_end += segment.duration;
            near
        });
        listed.len().saturating_sub(kept.count())
    }

    /// The first listed segment with parts.
    fn parts_from(&self) -> usize {
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
        let mut map: Option<&Arc<Init>> = None;
        for (at, segment) in listed.iter().enumerate() {
            if at >= skipped {
                self.put_tags(&mut out, segment, map);
                if at >= parts_from {
                    segment.parts.iter().for_each(|part| self.put_part(&mut out, part));
                }
                self.put_segment(&mut out, segment);
            }
            map = Some(&segment.init);
        }
        self.put_edge(&mut out, map);
        for report in reports.iter().filter(|report| report.track != self.view.track) {
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
            "#EXTM3U\n#EXT-X-VERSION:{VERSION}\n#EXT-X-TARGETDURATION:{}\n\
             #EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={},CAN-SKIP-UNTIL={}\n\
             #EXT-X-PART-INF:PART-TARGET={}\n#EXT-X-MEDIA-SEQUENCE:{msn}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{discontinuities}\n",
            plan.target_seconds(),
            Seconds(plan.part_hold_back()),
            Seconds(plan.skip_boundary()),
            Seconds(plan.part_target),
        ));
        if view.independent {
            out.put(format_args!("#EXT-X-INDEPENDENT-SEGMENTS\n"));
        }
    }

    /// The tags that apply to a segment and to its first part. `map` is what the segment before it needs.
    fn put_tags(&self, out: &mut Writer, segment: &Segment, map: Option<&Arc<Init>>) {
        if segment.discontinuity {
            out.put(format_args!("#EXT-X-DISCONTINUITY\n"));
        }
        if map.is_none_or(|map| map.number != segment.init.number) {
            out.put(format_args!("#EXT-X-MAP:URI=\""));
            out.uri(File::Init(self.kind, self.view.track, self.run, segment.init.number));
            out.put(format_args!("\"\n"));
        }
        out.put(format_args!("#EXT-X-PROGRAM-DATE-TIME:{}\n", Rfc3339(segment.date)));
        for DateRange { id, start, scte35 } in &segment.ranges {
            let mut hex = String::with_capacity(scte35.len().saturating_mul(2));
            for byte in scte35 {
                let _ = write!(hex, "{byte:02X}");
            }
            out.put(format_args!("#EXT-X-DATERANGE:ID=\"scte35-{id}\",START-DATE=\"{}\",", Rfc3339(*start)));
            out.put(format_args!("SCTE35-CMD=0x{hex}\n"));
        }
    }

    fn put_part(&self, out: &mut Writer, part: &Part) {
        out.put(format_args!("#EXT-X-PART:DURATION={},URI=\"", Seconds(part.duration)));
        out.uri(File::Part(self.kind, self.view.track, self.run, part.number));
        let independent = if part.independent { ",INDEPENDENT=YES" } else { "" };
        let gap = if part.is_gap() { ",GAP=YES" } else { "" };
        out.put(format_args!("\"{independent}{gap}\n"));
    }

    fn put_segment(&self, out: &mut Writer, segment: &Segment) {
        if segment.is_gap() {
            out.put(format_args!("#EXT-X-GAP\n"));
        }
        out.put(format_args!("#EXTINF:{},\n", Seconds(segment.duration)));
        out.uri(File::Segment(self.kind, self.view.track, self.run, segment.msn));
        out.put(format_args!("\n"));
    }

    /// The parts of the segment that is being made, and what comes next.
    fn put_edge(&self, out: &mut Writer, map: Option<&Arc<Init>>) {
        if let Some(open) = &self.view.open {
            if open.parts.is_empty() {
                if map.is_none_or(|map| map.number != open.init.number) && !self.view.ended {
                    out.put(format_args!("#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\""));
                    out.uri(File::Init(self.kind, self.view.track, self.run, open.init.number));
                    out.put(format_args!("\"\n"));
                }
            } else {
                self.put_tags(out, open, map);
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

/// Seconds with five decimals, rounded to the nearest.
struct Seconds(TimeDelta);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.0.to_ticks(arcly_core::Timescale::of(100_000)).max(0);
        let (whole, part) = (units.checked_div(100_000), units.checked_rem(100_000));
        write!(f, "{}.{:05}", whole.unwrap_or_default(), part.unwrap_or_default())
    }
}
