//! What the path could carry, from packets that were sent back to back (draft section 4.6, file transmission).

/// Intervals that count.
const SAMPLES: usize = 16;
/// Each packet whose index is a multiple of this is sent back to back with the next.
pub(in crate::session) const PAIR_PERIOD: u64 = 16;

#[derive(Debug, Default)]
pub(super) struct PacketPairs {
    /// The last first packet of a pair, and when it came.
    first: Option<(u64, i64)>,
    intervals: [i64; SAMPLES],
    count: usize,
}

impl PacketPairs {
    /// A packet has come for the first time.
    pub(super) fn received(&mut self, now: i64, index: u64) {
        if index.is_multiple_of(PAIR_PERIOD) {
            self.first = Some((index, now));
        } else if let Some((first, at)) = self.first.take()
            && first + 1 == index
            && let Some(place) = self.intervals.get_mut(self.count % SAMPLES)
        {
            *place = (now - at).max(1);
            self.count += 1;
        }
    }

    /// Packets a second: of the intervals, those within a factor of 8 of the median count.
    pub(super) fn capacity(&self) -> Option<u32> {
        let mut intervals = self.intervals;
        let intervals = intervals.get_mut(..self.count.min(SAMPLES)).filter(|all| !all.is_empty())?;
        intervals.sort_unstable();
        let median = *intervals.get(intervals.len() / 2)?;
        let usual = intervals.iter().filter(|&&interval| interval > median / 8 && interval < median * 8);
        let (count, sum) = usual.fold((0_i64, 0_i64), |(count, sum), interval| (count + 1, sum + interval));
        u32::try_from(count.checked_mul(1_000_000)?.checked_div(sum)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_say_what_the_path_carries_and_outliers_do_not_count() {
        let mut pairs = PacketPairs::default();
        assert_eq!(pairs.capacity(), None);
        for n in 0..20_u64 {
            let at = i64::try_from(n).unwrap() * 10_000;
            let interval = if n == 7 { 9_000 } else { 100 };
            pairs.received(at, n * 16);
            pairs.received(at + interval, n * 16 + 1);
            pairs.received(at + interval + 5_000, n * 16 + 2);
        }
        assert_eq!(pairs.capacity(), Some(10_000));
    }
}
