//! Decoding times where a transport only gives presentation times (RTP, WebRTC).
//!
//! With a reorder depth of *N* (`max_num_reorder_frames`, `sps_max_num_reorder_pics`) at most *N* pictures
//! come before another one in decoding order and after it in output order. So when picture *i* arrives,
//! the (*i − N*)-th presentation time in output order is known for good, and that is the decoding time of
//! picture *i*: what encoders and muxers use themselves.
//!
//! ```text
//! arrives (pts)    0   4   2   1   3   8   6        N = 2
//! dts             −2  −1   0   1   2   3   4
//! ```
//!
//! Guarantees: `dts` never decreases and is never after `pts`; exact (no rounding) for streams that keep to
//! their depth. The first *N* + 1 pictures are held back (none when *N* is 0), until it is known how the
//! timeline starts; from then on nothing waits. At most [`MAX_REORDER_DEPTH`] + 1 pictures and times are held.
//!
//! Tolerated: streams that reorder deeper than they declare. The picture that shows it is presented late by
//! clamping, and the depth grows by one.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::VecDeque;

use arcly_core::{TimeDelta, Timestamp};
use smallvec::SmallVec;

/// The deepest reordering that H.264 and H.265 know (size of the decoded picture buffer).
pub const MAX_REORDER_DEPTH: u8 = 16;

/// A picture with both its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Derived<T> {
    /// Decoding time.
    pub dts: Timestamp,
    /// Presentation time: as given, unless `clamped`.
    pub pts: Timestamp,
    /// The presentation time was before the decoding time, and was raised to it.
    pub clamped: bool,
    /// What came with it.
    pub item: T,
}

/// Derives decoding times from presentation times in decoding order.
#[derive(Clone, Debug)]
pub struct DtsDeriver<T> {
    depth: usize,
    /// Pictures at the start of the timeline; `None` once it is settled.
    start: Option<VecDeque<(Timestamp, T)>>,
    /// Presentation times that are not yet a decoding time, ascending.
    times: SmallVec<[Timestamp; 17]>,
    last: Option<Timestamp>,
    ready: VecDeque<Derived<T>>,
}

impl<T> DtsDeriver<T> {
    /// A deriver for streams of that reorder depth; at most [`MAX_REORDER_DEPTH`].
    #[must_use]
    pub fn new(depth: u8) -> Self {
        Self {
            depth: usize::from(depth.min(MAX_REORDER_DEPTH)),
            start: Some(VecDeque::new()),
            times: SmallVec::new(),
            last: None,
            ready: VecDeque::new(),
        }
    }

    /// The reorder depth: as given, or as learnt.
    #[must_use]
    pub const fn depth(&self) -> usize {
        self.depth
    }

    /// The next picture in decoding order. [`poll`](Self::poll) gives what can be said after it.
    pub fn push(&mut self, pts: Timestamp, item: T) {
        let Some(start) = &mut self.start else {
            self.steady(pts, item);
            return;
        };
        start.push_back((pts, item));
        // One picture more than the depth settles the first output time, another one the second: the distance
        // of the two is what the times before the first one are extrapolated with.
        let settled = if self.depth == 0 { 1 } else { self.depth.saturating_add(2) };
        if start.len() >= settled {
            self.begin();
        }
    }

    /// The next picture whose times are known.
    pub fn poll(&mut self) -> Option<Derived<T>> {
        self.ready.pop_front()
    }

    /// Ends the timeline: what is still held back becomes ready, and the next picture starts a new one, of
    /// that depth. Decoding times still never decrease.
    pub fn restart(&mut self, depth: u8) {
        self.begin();
        self.depth = usize::from(depth.min(MAX_REORDER_DEPTH));
        self.times.clear();
        self.start = Some(VecDeque::new());
    }

    /// Ends the start: the times before the first presentation time are as far apart as the first two are.
    fn begin(&mut self) {
        let Some(mut start) = self.start.take() else { return };
        let mut times: SmallVec<[Timestamp; 17]> = start.iter().map(|(pts, _)| *pts).collect();
        times.sort_unstable();
        let Some(&first) = times.first() else { return };
        let step = times.get(1).map_or(TimeDelta::ZERO, |&second| second - first);
        for ahead in (1..=self.depth).rev() {
            let Some((pts, item)) = start.pop_front() else { break };
            self.insert(pts);
            let ahead = i64::try_from(ahead).unwrap_or(0);
            self.emit(first - TimeDelta(step.0.saturating_mul(ahead)), pts, item);
        }
        for (pts, item) in start {
            self.steady(pts, item);
        }
    }

    fn steady(&mut self, pts: Timestamp, item: T) {
        self.insert(pts);
        // After the depth grew, one picture shares the decoding time of the one before it.
        let due = if self.times.len() > self.depth { Some(self.times.remove(0)) } else { None };
        self.emit(due.or(self.last).unwrap_or(pts), pts, item);
    }

    fn insert(&mut self, pts: Timestamp) {
        let at = self.times.partition_point(|&known| known <= pts);
        self.times.insert(at, pts);
    }

    fn emit(&mut self, due: Timestamp, pts: Timestamp, item: T) {
        let dts = self.last.map_or(due, |last| due.max(last));
        let clamped = pts < dts;
        if clamped && self.depth < usize::from(MAX_REORDER_DEPTH) {
            self.depth = self.depth.saturating_add(1);
        }
        self.last = Some(dts);
        self.ready.push_back(Derived { dts, pts: pts.max(dts), clamped, item });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn derive(depth: u8, pts: &[i64]) -> Vec<Derived<usize>> {
        let mut deriver = DtsDeriver::new(depth);
        for (index, &pts) in pts.iter().enumerate() {
            deriver.push(Timestamp(pts), index);
        }
        deriver.restart(depth);
        core::iter::from_fn(|| deriver.poll()).collect()
    }

    fn dts(depth: u8, pts: &[i64]) -> Vec<i64> {
        derive(depth, pts).iter().map(|d| d.dts.0).collect()
    }

    #[test]
    fn f13_known_decoding_orders() {
        assert_eq!(dts(0, &[0, 1, 2, 3]), [0, 1, 2, 3], "no B pictures");
        assert_eq!(dts(1, &[0, 3, 1, 2, 6, 4, 5]), [-1, 0, 1, 2, 3, 4, 5], "plain B pictures");
        assert_eq!(dts(2, &[0, 4, 2, 1, 3, 8, 6, 5, 7]), [-2, -1, 0, 1, 2, 3, 4, 5, 6], "a pyramid");
        assert_eq!(dts(2, &[2, 0, 1, 6, 4, 3, 5]), [-2, -1, 0, 1, 2, 3, 4], "leading pictures at the start");
        assert_eq!(dts(2, &[0, 40, 20]), [-40, -20, 0], "the end comes within the start");
        assert_eq!(dts(4, &[7]), [7], "one picture");
    }

    #[test]
    fn a_stream_that_reorders_deeper_than_it_says_is_clamped_once() {
        let derived = derive(0, &[0, 3, 1, 2, 6, 4, 5, 9, 7, 8]);
        assert_eq!(derived.iter().filter(|d| d.clamped).map(|d| d.item).collect::<Vec<_>>(), [2, 3]);
        assert!(derived.iter().all(|d| d.dts <= d.pts));
        assert!(derived.is_sorted_by_key(|d| d.dts));
    }

    #[test]
    fn holds_back_no_more_than_the_depth_and_only_at_the_start() {
        let mut deriver = DtsDeriver::new(200);
        assert_eq!(deriver.depth(), 16);
        (0..17).for_each(|n| deriver.push(Timestamp(n), n));
        assert!(deriver.poll().is_none());
        for n in 17..100 {
            deriver.push(Timestamp(n), n);
            while deriver.poll().is_some() {}
            assert!(deriver.times.len() <= 17);
            assert!(deriver.start.is_none());
        }
    }

    /// Decoding order of a mini-GOP: its last picture first, then the middle of each half, as pyramids go.
    fn pyramid(range: core::ops::Range<i64>, out: &mut Vec<i64>) {
        if range.is_empty() {
            return;
        }
        let middle = range.start + (range.end - range.start) / 2;
        out.push(middle);
        pyramid(range.start..middle, out);
        pyramid(middle + 1..range.end, out);
    }

    fn reorder_depth(decode: &[i64]) -> usize {
        let before = |at: usize| decode[..at].iter().filter(|&&other| other > decode[at]).count();
        (0..decode.len()).map(before).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn f13_exact_for_any_mixture_of_pyramids_and_open_gops(
            minis in proptest::collection::vec((0..9_i64, any::<bool>()), 1..30),
            duration in 1..1_000_000_i64,
        ) {
            let mut decode = vec![];
            let mut at = 0;
            for (inner, flat) in minis {
                decode.push(at + inner);
                if flat {
                    decode.extend(at..at + inner);
                } else {
                    pyramid(at..at + inner, &mut decode);
                }
                at += inner + 1;
            }
            let depth = reorder_depth(&decode);
            let pts: Vec<_> = decode.iter().map(|n| n * duration).collect();
            let derived = derive(u8::try_from(depth).unwrap(), &pts);
            prop_assert_eq!(derived.len(), pts.len());
            for (index, d) in derived.iter().enumerate() {
                let expect = (i64::try_from(index).unwrap() - i64::try_from(depth).unwrap()) * duration;
                // A stream that ends within its start does not tell how long its pictures last.
                if pts.len() >= depth + 2 || depth == 0 {
                    prop_assert_eq!(d.dts.0, expect);
                }
                prop_assert_eq!((d.pts.0, d.item, d.clamped), (pts[index], index, false));
                prop_assert!(d.dts <= d.pts);
            }
        }

        #[test]
        fn never_backwards_whatever_comes(depth in 0..20_u8, pts in proptest::collection::vec(any::<i64>(), 0..60)) {
            let derived = derive(depth, &pts);
            prop_assert_eq!(derived.len(), pts.len());
            prop_assert!(derived.is_sorted_by_key(|d| d.dts));
            prop_assert!(derived.iter().all(|d| d.dts <= d.pts));
        }
    }
}
