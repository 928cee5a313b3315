//! Which packets are missing, and when they are asked for (draft section 4.8.2).

use std::collections::BTreeMap;

use crate::session::clock::earlier;

/// Requests that fall due within so many microseconds travel together.
const TOGETHER: i64 = 2_000;

/// Packets that are missing one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Gap {
    /// The last of them.
    last: u64,
    /// When they were found missing.
    since: i64,
    /// When they are asked for, the first time or again; `None` when they are not.
    ask_at: Option<i64>,
}

/// Missing packets, by runs. Bounded by the window: none is further than the receive buffer reaches.
#[derive(Debug, Default)]
pub(super) struct Losses {
    gaps: BTreeMap<u64, Gap>,
    packets: u64,
    /// Not after the earliest request; may be before it when that gap has been filled.
    wake: Option<i64>,
}

impl Losses {
    /// The first missing packet.
    pub(super) fn first(&self) -> Option<u64> {
        self.gaps.keys().next().copied()
    }

    /// The first missing packet that is not before `index`.
    pub(super) fn first_from(&self, index: u64) -> Option<u64> {
        if self.contains(index) {
            Some(index)
        } else {
            self.gaps.range(index..).next().map(|(first, _)| *first)
        }
    }

    #[cfg(test)]
    pub(super) const fn packets(&self) -> u64 {
        self.packets
    }

    pub(super) fn contains(&self, index: u64) -> bool {
        self.gaps.range(..=index).next_back().is_some_and(|(_, gap)| index <= gap.last)
    }

    /// The packets from `first` to `last` were found missing `since` then, and are asked for at `ask_at`.
    pub(super) fn add(&mut self, first: u64, last: u64, since: i64, ask_at: Option<i64>) {
        debug_assert!(first <= last && !self.contains(first) && !self.contains(last));
        self.gaps.insert(first, Gap { last, since, ask_at });
        self.packets += last - first + 1;
        self.note(ask_at);
    }

    /// A packet has come. Says since when it was missing, if it was.
    pub(super) fn fill(&mut self, index: u64) -> Option<i64> {
        let (&first, &gap) = self.gaps.range(..=index).next_back()?;
        if index > gap.last {
            return None;
        }
        self.gaps.remove(&first);
        if first < index {
            self.gaps.insert(first, Gap { last: index - 1, ..gap });
        }
        if index < gap.last {
            self.gaps.insert(index + 1, gap);
        }
        self.packets -= 1;
        Some(gap.since)
    }

    /// Packets before `index` are not waited for any more. Says how many that were.
    pub(super) fn forget_before(&mut self, index: u64) -> u64 {
        index.checked_sub(1).map_or(0, |last| self.forget(0, last))
    }

    /// Packets from `first` to `last` are not waited for any more. Says how many that were.
    pub(super) fn forget(&mut self, first: u64, last: u64) -> u64 {
        let before = self.packets;
        if let Some((&start, &gap)) = self.gaps.range(..first).next_back()
            && gap.last >= first
        {
            self.gaps.insert(start, Gap { last: first - 1, ..gap });
            if gap.last > last {
                self.gaps.insert(last + 1, gap);
            }
            self.packets -= gap.last.min(last) - first + 1;
        }
        while let Some((&start, &gap)) = self.gaps.range(first..=last).next() {
            self.gaps.remove(&start);
            if gap.last > last {
                self.gaps.insert(last + 1, gap);
            }
            self.packets -= gap.last.min(last) - start + 1;
        }
        before - self.packets
    }

    /// Of the packets from `first` to `last`, those that are missing are asked for at `at`.
    pub(super) fn request(&mut self, first: u64, last: u64, at: i64) {
        let from = self.gaps.range(..=first).next_back().map_or(first, |(start, _)| *start);
        let missing: Vec<(u64, u64, i64)> = self
            .gaps
            .range(from..=last)
            .filter(|(_, gap)| gap.last >= first)
            .map(|(start, gap)| (first.max(*start), last.min(gap.last), gap.since))
            .collect();
        self.forget(first, last);
        missing.into_iter().for_each(|(first, last, since)| self.add(first, last, since, Some(at)));
    }

    /// When something is to be asked for, at the earliest.
    pub(super) const fn wake(&self) -> Option<i64> {
        self.wake
    }

    /// Hands the runs that are due at `now` to `ask` until it has had enough (`false`); those that were found missing then are
    /// due again at `again`, unless once was to be enough.
    pub(super) fn ask(
        &mut self,
        now: i64,
        again: impl Fn(i64) -> Option<i64>,
        mut ask: impl FnMut(u64, u64) -> bool,
    ) {
        if self.wake.is_none_or(|wake| wake > now) {
            return;
        }
        let mut wake = None;
        let mut room = true;
        for (&first, gap) in &mut self.gaps {
            if room && gap.ask_at.is_some_and(|at| at <= now + TOGETHER) {
                room = ask(first, gap.last);
                if room {
                    gap.ask_at = again(gap.since);
                }
            }
            wake = earlier(wake, gap.ask_at);
        }
        self.wake = wake;
    }

    fn note(&mut self, at: Option<i64>) {
        self.wake = earlier(self.wake, at);
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self) {
        let mut end = None;
        for (&first, gap) in &self.gaps {
            assert!(first <= gap.last && end.is_none_or(|end| first > end));
            end = Some(gap.last);
        }
        assert_eq!(self.packets, self.gaps.iter().map(|(first, gap)| gap.last - first + 1).sum::<u64>());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arcly_testkit::rng::Rng;
    use std::collections::BTreeSet;

    fn asked(losses: &mut Losses, now: i64, again: Option<i64>) -> Vec<(u64, u64)> {
        let mut runs = Vec::new();
        losses.ask(
            now,
            |_| again,
            |first, last| {
                runs.push((first, last));
                true
            },
        );
        runs
    }

    #[test]
    fn runs_are_asked_for_when_they_are_due_and_again_later() {
        let mut losses = Losses::default();
        losses.add(5, 7, 0, Some(0));
        losses.add(9, 9, 0, Some(30_000));
        losses.add(20, 20, 0, None);
        assert_eq!(asked(&mut losses, 0, Some(25_000)), [(5, 7)]);
        assert_eq!(losses.wake(), Some(25_000));
        assert_eq!(losses.fill(6), Some(0));
        assert_eq!(asked(&mut losses, 24_999, Some(50_000)), []);
        assert_eq!(asked(&mut losses, 28_000, Some(53_000)), [(5, 5), (7, 7), (9, 9)]);
        assert_eq!(losses.forget_before(9), 2);
        assert_eq!(asked(&mut losses, 60_000, None), [(9, 9)]);
        assert_eq!((losses.wake(), losses.first(), losses.packets()), (None, Some(9), 2));
    }

    #[test]
    fn what_was_not_to_be_asked_for_can_be_later() {
        let mut losses = Losses::default();
        losses.add(2, 5, 0, None);
        losses.add(7, 9, 0, None);
        assert_eq!(losses.wake(), None);
        losses.request(4, 7, 1_000);
        losses.check_invariants();
        assert_eq!(asked(&mut losses, 1_000, None), [(4, 5), (7, 7)]);
        assert_eq!(losses.packets(), 7);
    }

    #[test]
    fn what_does_not_fit_into_a_request_stays_due() {
        let mut losses = Losses::default();
        (0..10).for_each(|n| losses.add(n * 2, n * 2, 0, Some(0)));
        let mut room = 4;
        losses.ask(
            0,
            |_| Some(9_000),
            |_, _| {
                room -= 1;
                room >= 0
            },
        );
        assert_eq!(losses.wake(), Some(0));
        assert_eq!(asked(&mut losses, 0, Some(9_000)).len(), 6);
    }

    #[test]
    fn runs_are_what_a_set_of_numbers_would_be() {
        let mut rng = Rng::new(4);
        for _ in 0..200 {
            let (mut losses, mut model) = (Losses::default(), BTreeSet::new());
            let mut end = 0;
            for _ in 0..200 {
                let at = rng.below(end + 2);
                match rng.below(4) {
                    0 => {
                        let (first, last) = (end + rng.below(3), end + 3 + rng.below(9));
                        losses.add(first, last, 0, None);
                        model.extend(first..=last);
                        end = last + 1;
                    }
                    1 | 2 => assert_eq!(losses.fill(at).is_some(), model.remove(&at)),
                    _ => {
                        let last = at + rng.below(6);
                        let before = model.len();
                        model.retain(|n| !(at..=last).contains(n));
                        let gone = u64::try_from(before - model.len()).unwrap();
                        assert_eq!(losses.forget(at, last), gone);
                    }
                }
                losses.check_invariants();
                assert_eq!(losses.first(), model.first().copied());
                assert_eq!(losses.contains(at), model.contains(&at));
                assert_eq!(usize::try_from(losses.packets()).unwrap(), model.len());
            }
        }
    }
}
