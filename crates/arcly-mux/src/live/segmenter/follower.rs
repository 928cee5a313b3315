//! The tracks that are cut where the leader was.

use arcly_core::{MediaFrame, TimeDelta, Timestamp};

use super::super::lane::Lane;
use super::{Cut, JITTER, MAX_PATIENCE, RECENT, Segmenter, begin_segment};

impl Segmenter {
    /// Takes the frames of a follower up to `until`.
    pub(super) fn follow_up_to(&mut self, index: usize, until: Timestamp) {
        loop {
            let Some(lane) = self.lanes.get_mut(index) else { return };
            if lane.queue.front().is_none_or(|frame| frame.pts > until) {
                return;
            }
            let Some(frame) = lane.queue.pop_front() else { return };
            self.follow(index, frame);
        }
    }

    pub(super) fn follow(&mut self, index: usize, frame: MediaFrame) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.at.is_none() {
            self.follow_anew(index, &frame);
        } else {
            lane.settle(frame.dts);
        }
        let watermark = self.watermark;
        let Some(lane) = self.lanes.get_mut(index) else { return };
        if lane.at.is_none_or(|at| frame.dts + JITTER < at && lane.is_empty()) {
            // Its time is listed as a gap already: it has to be waited for longer.
            lane.patience = lane.patience.max((watermark - frame.dts) + RECENT).min(MAX_PATIENCE);
            return;
        }
        let hole = |lane: &Lane| lane.is_empty() && lane.at.is_some_and(|at| frame.dts - at > JITTER);
        if self.lanes.get(index).is_some_and(hole) {
            self.fill_follower(index, frame.dts);
        }
        let due = self.next_cut(index).filter(|cut| cut.presented <= frame.pts);
        let Some((plan, lane)) = self.plan.zip(self.lanes.get_mut(index)) else { return };
        let length = lane.window.open().map_or(TimeDelta::ZERO, |open| frame.dts - open.start);
        if due.is_some() || length + lane.step.min(plan.target) > plan.max_segment {
            lane.flush(frame.dts);
            lane.cuts = lane.cuts.saturating_add(due.is_some().into());
            let date = due.map_or_else(|| self.dates.date(frame.pts), |cut| cut.date(frame.pts));
            begin_segment(lane, frame.dts, frame.pts, date, self.discontinuities);
            lane.at = Some(frame.dts);
        }
        lane.push(frame);
    }

    /// The first frame of a follower: its first segment is the leader's of that time, and begins with it.
    pub(super) fn follow_anew(&mut self, index: usize, frame: &MediaFrame) {
        let made = self.cuts.iter().take_while(|cut| cut.presented <= frame.pts + JITTER).count();
        let Some(cut) = made.checked_sub(1).and_then(|at| self.cuts.get(at)).copied() else {
            // Before the first picture, or of a time whose segments are complete.
            return;
        };
        let Some(lane) = self.lanes.get_mut(index) else { return };
        lane.cuts = self.cuts_done.saturating_add(made as u64);
        lane.window.begin_at_msn(cut.msn);
        let start = if frame.dts - cut.presented > JITTER { cut.presented } else { frame.dts };
        begin_segment(lane, start, start, cut.date(start), self.discontinuities);
        lane.at = Some(start);
    }

    /// The leader's next cut that this follower has not made.
    pub(super) fn next_cut(&self, index: usize) -> Option<Cut> {
        let made = self.lanes.get(index)?.cuts.checked_sub(self.cuts_done)?;
        self.cuts.get(usize::try_from(made).ok()?).copied()
    }

    /// Lists that a follower has nothing until `until`.
    pub(super) fn fill_follower(&mut self, index: usize, until: Timestamp) {
        let Some(plan) = self.plan else { return };
        loop {
            let cut = self.next_cut(index);
            let Some(lane) = self.lanes.get_mut(index) else { return };
            let Some(at) = lane.at.filter(|at| *at < until) else { return };
            let until_cut = cut.map_or(plan.target, |cut| cut.presented - at);
            let room = plan.target - lane.window.open().map_or(TimeDelta::ZERO, |open| open.duration);
            if until_cut.min(room) <= TimeDelta::ZERO {
                let due = cut.filter(|_| until_cut <= TimeDelta::ZERO);
                lane.cuts = lane.cuts.saturating_add(due.is_some().into());
                let date = due.map_or_else(|| self.dates.date(at), |cut| cut.date(at));
                begin_segment(lane, at, at, date, self.discontinuities);
                lane.at = Some(at);
                continue;
            }
            lane.push_gap((until - at).min(until_cut).min(room).min(plan.part_target));
        }
    }

    /// A follower that says nothing while the leader goes on.
    pub(super) fn list_silence(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(reached) = lane.newest().or(lane.at) else { return };
        if !lane.queue.is_empty() || self.watermark - reached <= lane.patience {
            return;
        }
        if let Some(end) = lane.expected_end() {
            lane.flush(end);
        }
        self.fill_follower(index, self.watermark - RECENT);
    }
}
