//! A track of a file, on its way.

use std::collections::VecDeque;
use std::sync::Arc;

use arcly_core::codec::FrameRate;
use arcly_core::wire::DecodeResult;
use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId};
use bytes::Bytes;

use super::Sample;
use super::entry::Stream;
use super::fragment::{Defaults, Known, TrackFragment};
use super::movie::{Edit, TrackBox};
use super::table::Cursor;

/// Bytes that are read of a track at a time, when its samples lie one behind the other.
const MAX_READ: u64 = 1 << 20;

/// The samples to come.
#[derive(Clone, Debug)]
enum Queue {
    Tables(Cursor),
    Fragment(VecDeque<Sample>),
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: TrackId,
    number: u32,
    timescale: Timescale,
    edit: Edit,
    /// Added to decode times, so that nothing is shown before it is decoded; at most zero. Known with the first samples.
    shift: Option<i64>,
    stream: Stream,
    bitrate: Option<u32>,
    language: Option<Arc<str>>,
    label: Option<Arc<str>>,
    frame_rate: Option<FrameRate>,
    track: Option<Track>,
    queue: Queue,
    defaults: Defaults,
    /// Where the track goes on when a fragment does not say.
    end: i64,
    last: Option<Timestamp>,
    /// Bytes of the file that were read for this track, and where they begin.
    window: Bytes,
    window_at: u64,
}

impl Lane {
    pub(super) fn new(id: TrackId, source: TrackBox) -> Self {
        let frame_rate = source.frame_rate();
        let shift = (source.tables.len() > 0).then(|| source.tables.lowest_offset());
        Self {
            id,
            number: source.number,
            timescale: source.timescale,
            edit: source.edit,
            shift,
            stream: source.entry.stream,
            bitrate: source.entry.bitrate,
            language: source.language.map(Into::into),
            label: source.label.map(Into::into),
            frame_rate,
            track: None,
            queue: Queue::Tables(Cursor::new(Arc::new(source.tables))),
            defaults: source.defaults,
            end: 0,
            last: None,
            window: Bytes::new(),
            window_at: 0,
        }
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) const fn known(&self) -> Known {
        (self.defaults, self.end)
    }

    pub(super) const fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    /// Takes the samples of a fragment.
    pub(super) fn extend(&mut self, fragment: TrackFragment) {
        self.end = fragment.end;
        if self.shift.is_none() && !fragment.samples.is_empty() {
            let lowest = fragment.samples.iter().map(|sample| i64::from(sample.composition)).min();
            self.shift = Some(lowest.unwrap_or_default().min(0));
        }
        match &mut self.queue {
            Queue::Fragment(queue) => queue.extend(fragment.samples),
            Queue::Tables(_) => self.queue = Queue::Fragment(fragment.samples.into()),
        }
    }

    pub(super) fn peek(&self) -> Option<&Sample> {
        match &self.queue {
            Queue::Tables(cursor) => cursor.peek(),
            Queue::Fragment(queue) => queue.front(),
        }
    }

    fn advance(&mut self) {
        match &mut self.queue {
            Queue::Tables(cursor) => cursor.advance(),
            Queue::Fragment(queue) => drop(queue.pop_front()),
        }
    }

    pub(super) fn clear(&mut self) {
        self.queue = Queue::Fragment(VecDeque::new());
    }

    /// When the next sample is decoded.
    pub(super) fn next_at(&self) -> Option<Timestamp> {
        self.peek().map(|sample| self.at(sample.dts))
    }

    /// Passes over the samples that are decoded before `from`.
    pub(super) fn skip_to(&mut self, from: Timestamp) {
        while self.next_at().is_some_and(|at| at < from) {
            self.advance();
        }
    }

    fn at(&self, ticks: i64) -> Timestamp {
        let ticks = ticks.saturating_add(self.shift.unwrap_or_default()).saturating_sub(self.edit.media_time);
        Timestamp::from_ticks(ticks, self.timescale) + self.edit.empty
    }

    /// The bytes of a sample, when they were read already.
    pub(super) fn bytes_of(&self, sample: &Sample) -> Option<Bytes> {
        let from = usize::try_from(sample.offset.checked_sub(self.window_at)?).ok()?;
        let to = from.checked_add(usize::try_from(sample.size).ok()?)?;
        (to <= self.window.len()).then(|| self.window.slice(from..to))
    }

    pub(super) fn set_window(&mut self, at: u64, bytes: Bytes) {
        (self.window_at, self.window) = (at, bytes);
    }

    /// From the next sample on, as many bytes as lie one behind the other, within reason.
    pub(super) fn run(&self) -> (u64, u64) {
        let Some(first) = self.peek() else { return (0, 0) };
        let mut len = u64::from(first.size);
        let mut add = |sample: &Sample| {
            let end = len.saturating_add(sample.size.into());
            let follows = first.offset.saturating_add(len) == sample.offset && end <= MAX_READ;
            if follows {
                len = end;
            }
            follows
        };
        match &self.queue {
            Queue::Fragment(queue) => {
                let _ = queue.iter().skip(1).all(add);
            }
            Queue::Tables(cursor) => {
                let mut ahead = cursor.clone();
                ahead.advance();
                while ahead.peek().is_some_and(&mut add) {
                    ahead.advance();
                }
            }
        }
        (first.offset, len)
    }

    /// Takes the next sample off, and makes a frame of its bytes; `None` when there is none in it. True when the track
    /// is another one from here on.
    pub(super) fn take(&mut self, bytes: &Bytes) -> DecodeResult<(Option<MediaFrame>, bool)> {
        let Some(sample) = self.peek().cloned() else { return Ok((None, false)) };
        self.advance();
        let (payload, flags, duration) = match &mut self.stream {
            Stream::Video(stream, _) => {
                let picture = stream.frame(bytes, sample.disposable)?;
                let duration = TimeDelta::from_ticks(sample.duration.into(), self.timescale);
                let (payload, flags) = match picture {
                    Some(picture) if stream.is_ready() => picture,
                    _ => return Ok((None, self.refresh())),
                };
                (payload, flags, duration)
            }
            Stream::Audio(stream, pcm) => match stream.frame(bytes.clone(), *pcm)? {
                Some((payload, duration)) => (payload, FrameFlags::KEYFRAME, duration),
                None => return Ok((None, self.refresh())),
            },
        };
        let frame = self.timed(&sample, MediaFrame::new(self.id, self.at(sample.dts), payload));
        let frame = frame.with_flags(flags).with_duration(duration);
        Ok((Some(frame), self.refresh()))
    }

    /// Decode times do not decrease, and nothing is shown before it is decoded.
    fn timed(&mut self, sample: &Sample, mut frame: MediaFrame) -> MediaFrame {
        let shift = self.shift.unwrap_or_default();
        let shown = sample.dts.saturating_add(sample.composition.into()).saturating_sub(shift);
        frame.pts = self.at(shown);
        let least = self.last.unwrap_or(frame.dts);
        if frame.dts < least || frame.pts < frame.dts {
            frame = frame.with_flags(FrameFlags::CLAMPED);
        }
        frame.dts = frame.dts.max(least);
        frame.pts = frame.pts.max(frame.dts);
        self.last = Some(frame.dts);
        frame
    }

    /// Compares the track with what was announced of it.
    pub(super) fn refresh(&mut self) -> bool {
        if !self.stream.take_changed() {
            return false;
        }
        let Some(mut track) = self.stream.track(self.id) else { return false };
        track.language.clone_from(&self.language);
        track.label.clone_from(&self.label);
        track.bitrate_bps = self.bitrate;
        if let Some(mut params) = track.video().copied().filter(|params| params.frame_rate.is_none()) {
            params.frame_rate = self.frame_rate;
            track = track.with_video(params);
        }
        let changed = self.track.as_ref() != Some(&track);
        self.track = Some(track);
        changed
    }
}
