//! Frame rates as streams declare them.

use arcly_core::codec::FrameRate;

/// Rates above this are not believed: they come from headers that mean something else.
const MAX_FPS: u64 = 1_000;

/// `num / den` pictures per second, reduced; `None` when a part is zero or all ones, or the rate is absurd.
pub(crate) fn frame_rate(num: u64, den: u64) -> Option<FrameRate> {
    const UNSET: u64 = u32::MAX as u64;
    if num == 0 || den == 0 || num >= UNSET || den >= UNSET.saturating_mul(2) {
        return None;
    }
    let divisor = gcd(num, den);
    let (num, den) = (num.checked_div(divisor)?, den.checked_div(divisor)?);
    let plausible = num <= den.saturating_mul(MAX_FPS) && den <= num.saturating_mul(MAX_FPS);
    if !plausible {
        return None;
    }
    FrameRate::new(u32::try_from(num).ok()?, u32::try_from(den).ok()?)
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a.checked_rem(b).unwrap_or(0));
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn m05_rates_that_mean_nothing_are_unknown() {
        let max = u64::from(u32::MAX);
        for (num, den) in
            [(0, 1), (1, 0), (max, 1), (max, 2), (90_000, max), (90_000, 2 * max), (90_000, 1), (1, 90_000)]
        {
            assert_eq!(frame_rate(num, den), None, "{num}/{den}");
        }
        assert_eq!(frame_rate(60_000, 2_002), FrameRate::new(30_000, 1_001));
        assert_eq!(frame_rate(120, 1), FrameRate::new(120, 1));
    }
}
