//! The track that decides where segments begin.

use arcly_core::{MediaFrame, TimeDelta, Timestamp};

use super::super::lane::Lane;
use super::super::window::Window;
use super::{Cut, JITTER, MAX_HOLE, Segmenter, begin_segment};

impl Segmenter {
    /// The next frame of the leader, which decides where segments begin.
    pub(super) fn lead(&mut self, index: usize, frame: MediaFrame) {
        let Some((plan, lane)) = self.plan.zip(self.lanes.get_mut(index)) else { return };
        let Some(at) = lane.at else {
            return self.lead_anew(index, frame);
        };
        lane.settle(frame.dts);
        if frame.dts - lane.newest().unwrap_or(at) > MAX_HOLE {
            // Too long a hole to list; and the frame is one that nothing has to wait for.
            lane.queue.push_front(frame);
            return self.interrupt();
        }
        if lane.is_empty() && lane.at.is_some_and(|at| frame.dts - at > JITTER) {
            self.fill_leader(index, frame.dts);
        }
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let begun = lane.window.open().map_or(frame.dts, |open| open.start);
        let length = frame.dts - begun;
        let enough = frame.is_keyframe() && length >= plan.min_segment;
        if enough && self.dates.has_stepped() {
            // Dates and lengths would disagree for as long as both segments are listed.
            lane.queue.push_front(frame);
            return self.interrupt();
        }
        if enough || length + lane.step.min(plan.target) > plan.max_segment {
            lane.flush(frame.dts);
            self.cut_leader(index, frame.dts, frame.pts);
        }
        self.push_leading(index, frame);
    }

    /// The first frame of the leader after a discontinuity, or at all.
    pub(super) fn lead_anew(&mut self, index: usize, frame: MediaFrame) {
        let msn = self.windows().map(Window::next_msn).max().unwrap_or_default();
        self.lanes.iter_mut().for_each(|lane| lane.window.begin_at_msn(msn));
        self.leader = self.lanes.get(index).map(Lane::id);
        self.cut_leader(index, frame.dts, frame.pts);
        self.push_leading(index, frame);
    }

    pub(super) fn push_leading(&mut self, index: usize, frame: MediaFrame) {
        self.watermark = self.watermark.max(frame.dts);
        if let Some(lane) = self.lanes.get_mut(index) {
            lane.at.get_or_insert(frame.dts);
            lane.push(frame);
        }
    }

    pub(super) fn cut_leader(&mut self, index: usize, start: Timestamp, presented: Timestamp) {
        let date = self.dates.settle(presented);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        begin_segment(lane, start, presented, date, self.discontinuities);
        lane.at = Some(start);
        self.cuts.push_back(Cut { presented, date, msn: lane.window.open().map_or(0, |open| open.msn) });
    }

    /// Lists that the leader has nothing until `until`, in segments that keep the target duration.
    pub(super) fn fill_leader(&mut self, index: usize, until: Timestamp) {
        let Some(plan) = self.plan else { return };
        loop {
            let Some(lane) = self.lanes.get_mut(index) else { return };
            let Some(at) = lane.at.filter(|at| *at < until) else { return };
            let room = lane.window.open().map_or(TimeDelta::ZERO, |open| plan.target - open.duration);
            if room <= TimeDelta::ZERO {
                self.cut_leader(index, at, at);
                continue;
            }
            lane.push_gap((until - at).min(plan.part_target).min(room));
        }
    }
}
