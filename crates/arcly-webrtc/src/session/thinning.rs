use std::time::{Duration, Instant};

use arcly_core::{FrameFlags, TrackId};

use super::LayerCount;
use super::layers::Picture;
use super::temporal::TemporalLayers;

/// When pictures wait so long for their turn on the link, those that no other refers to are left out.
pub const LATE: Duration = Duration::from_millis(150);
/// When they wait so long, all are left out up to the next keyframe.
pub const TOO_LATE: Duration = Duration::from_millis(500);
/// What was there when a viewer came may wait so long.
pub const CATCH_UP: Duration = Duration::from_secs(3);
/// A keyframe that does not come by itself is asked for after this time, and not more often.
pub const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// What was there when the viewer came is on its way.
    CatchingUp,
    Flowing,
    /// Nothing until a keyframe, since then.
    Frozen(Instant),
}

/// How it is with the link to a viewer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The picture has come since the viewer has.
    pub(super) is_new: bool,
    /// How long what is before it waits.
    pub(super) backlog: Duration,
    /// What the link is believed to carry.
    pub(super) estimate_bps: Option<u64>,
    /// The picture cannot be made smaller.
    pub(super) is_lowest: bool,
}

/// Leaves out pictures that a viewer's link has no room for: first those that nothing refers to and one temporal layer after the
/// other, then all up to a keyframe.
///
/// So what waits for the link is bounded by [`TOO_LATE`] and one keyframe; no picture goes out whose reference did not.
#[derive(Debug)]
pub(super) struct Thinning {
    state: State,
    joined: Option<Instant>,
    asked: Option<Instant>,
    left_out: u64,
    temporal: TemporalLayers,
    /// What came last.
    track: Option<TrackId>,
}

impl Thinning {
    pub(super) const fn new() -> Self {
        Self {
            state: State::CatchingUp,
            joined: None,
            asked: None,
            left_out: 0,
            temporal: TemporalLayers::new(),
            track: None,
        }
    }

    /// Pictures that were left out.
    pub(super) const fn left_out(&self) -> u64 {
        self.left_out
    }

    /// True while what was there when the viewer came is on its way.
    pub(super) fn is_catching_up(&self) -> bool {
        self.state == State::CatchingUp
    }

    /// Times that more or fewer temporal layers were sent from then on.
    pub(super) const fn switches(&self) -> u64 {
        self.temporal.switches()
    }

    /// How many temporal layers are sent.
    pub(super) fn temporal(&self) -> LayerCount {
        self.temporal.count()
    }

    /// Whether a picture goes out on that link.
    pub(super) fn admits(&mut self, now: Instant, picture: &Picture, link: Link) -> bool {
        let Link { is_new, backlog, estimate_bps, is_lowest } = link;
        // A smaller picture comes before fewer of them.
        let (late, carried) = if is_lowest { (backlog, estimate_bps) } else { (Duration::ZERO, None) };
        let flags = picture.flags;
        if self.track.replace(picture.track) != Some(picture.track) {
            self.temporal.restart();
        }
        let joined = *self.joined.get_or_insert(now);
        let over = (is_new && backlog < LATE) || now.saturating_duration_since(joined) >= CATCH_UP;
        if self.state == State::CatchingUp && over {
            self.state = State::Flowing;
        }
        let is_key = flags.contains(FrameFlags::KEYFRAME);
        let admitted = match self.state {
            State::CatchingUp => self.temporal.admits(now, picture, Duration::ZERO, carried),
            State::Frozen(_) if is_key && backlog < TOO_LATE => {
                self.state = State::Flowing;
                self.temporal.admits(now, picture, late, carried)
            }
            State::Frozen(_) => false,
            State::Flowing if backlog >= TOO_LATE => {
                self.state = State::Frozen(now);
                false
            }
            State::Flowing => {
                let has_room = backlog < LATE || !flags.contains(FrameFlags::DISPOSABLE);
                self.temporal.admits(now, picture, late, carried) && has_room
            }
        };
        self.left_out = self.left_out.saturating_add(u64::from(!admitted));
        admitted
    }

    /// True when a keyframe should be asked for, now: pictures have stood still, and there is room for one, or for more layers that
    /// only a keyframe leads to.
    pub(super) fn take_request(&mut self, now: Instant, backlog: Duration) -> bool {
        let State::Frozen(since) = self.state else { return self.temporal.take_request(now) };
        let last = self.asked.map_or(since, |asked| asked.max(since));
        let due = backlog < LATE && now.saturating_duration_since(last) >= PATIENCE;
        if due {
            self.asked = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use arcly_core::Timestamp;

    use super::*;

    impl Thinning {
        fn takes(&mut self, now: Instant, flags: FrameFlags, is_new: bool, backlog: Duration) -> bool {
            let picture = Picture { track: TrackId::VIDEO, dts: Timestamp::ZERO, bytes: 1_000, flags };
            self.admits(now, &picture, Link { is_new, backlog, estimate_bps: None, is_lowest: true })
        }
    }

    const NONE: Duration = Duration::ZERO;

    fn flowing() -> (Thinning, Instant) {
        let (mut thinning, now) = (Thinning::new(), Instant::now());
        assert!(thinning.takes(now, FrameFlags::KEYFRAME, true, NONE));
        (thinning, now)
    }

    #[test]
    fn what_nothing_refers_to_goes_first_and_then_all_up_to_a_keyframe() {
        let (mut thinning, now) = flowing();
        let (plain, disposable, key) = (FrameFlags::empty(), FrameFlags::DISPOSABLE, FrameFlags::KEYFRAME);
        let just = |time: Duration| time.saturating_sub(Duration::from_nanos(1));
        let cases = [
            (disposable, just(LATE), true),
            (disposable, LATE, false),
            (plain, just(TOO_LATE), true),
            (plain, TOO_LATE, false),
            (plain, NONE, false),
            (disposable, NONE, false),
            (key, TOO_LATE, false),
            (key, just(TOO_LATE), true),
            (plain, just(TOO_LATE), true),
            (disposable, NONE, true),
        ];
        for (n, (flags, backlog, admitted)) in cases.into_iter().enumerate() {
            assert_eq!(thinning.takes(now, flags, true, backlog), admitted, "{n}");
        }
        assert_eq!(thinning.left_out(), 5);
    }

    #[test]
    fn what_was_there_may_take_its_time_but_not_for_ever() {
        let (mut thinning, now) = (Thinning::new(), Instant::now());
        let (plain, long) = (FrameFlags::empty(), Duration::from_secs(9));
        assert!(thinning.takes(now, plain, false, long) && thinning.takes(now, plain, true, long));
        let then = now + CATCH_UP;
        assert!(thinning.takes(then.checked_sub(Duration::from_nanos(1)).unwrap(), plain, true, long));
        assert!(!thinning.takes(then, plain, true, long));
    }

    #[test]
    fn a_keyframe_that_does_not_come_is_asked_for_once_there_is_room() {
        let (mut thinning, now) = flowing();
        assert!(!thinning.take_request(now + PATIENCE, NONE), "nothing is missing");
        assert!(!thinning.takes(now, FrameFlags::empty(), true, TOO_LATE));
        assert!(!thinning.take_request(now + PATIENCE, LATE), "no room");
        let just_before = (now + PATIENCE).checked_sub(Duration::from_nanos(1)).unwrap();
        assert!(!thinning.take_request(just_before, NONE));
        assert!(thinning.take_request(now + PATIENCE, NONE) && !thinning.take_request(now + PATIENCE, NONE));
        assert!(thinning.take_request(now + PATIENCE * 2, NONE));
        assert!(thinning.takes(now + PATIENCE * 2, FrameFlags::KEYFRAME, true, NONE));
        assert!(!thinning.take_request(now + PATIENCE * 4, NONE));
    }
}
