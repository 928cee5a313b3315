use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds from 1900 to 1970.
const UNIX_OFFSET: u64 = 2_208_988_800;
/// Seconds of one era; the second begins in February 2036.
const ERA: u64 = 1 << 32;
/// Times below this are counts since the sender was switched on, which RFC 3550 §6.4.1 allows: half a year of them.
const OWN_COUNT: u64 = 1 << 24;

/// A 64-bit NTP timestamp (RFC 5905 §6): seconds since 1900, and fractions of 2⁻³² s.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// The timestamp of a moment, rounded to the nearest fraction. Times before 1970 count as 1970.
    #[must_use]
    pub fn from_system_time(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let fraction = ((u64::from(since.subsec_nanos()) << 32).saturating_add(500_000_000)) / 1_000_000_000;
        let seconds = since.as_secs().wrapping_add(UNIX_OFFSET) & 0xFFFF_FFFF;
        Self((seconds << 32).wrapping_add(fraction))
    }

    /// The moment, rounded to the nearest nanosecond; `None` when the sender has no wall clock: zero, or less than half a
    /// year, which it then counts from its own start. Seconds below 2³¹ are those of the era that begins in 2036.
    #[must_use]
    pub fn to_system_time(self) -> Option<SystemTime> {
        let (seconds, fraction) = (self.0 >> 32, self.0 & 0xFFFF_FFFF);
        if seconds < OWN_COUNT {
            return None;
        }
        let seconds = if seconds < ERA / 2 { seconds.saturating_add(ERA) } else { seconds };
        let nanos = fraction.saturating_mul(1_000_000_000).saturating_add(1 << 31) >> 32;
        let since = Duration::from_secs(seconds.saturating_sub(UNIX_OFFSET))
            .saturating_add(Duration::from_nanos(nanos));
        UNIX_EPOCH.checked_add(since)
    }

    /// The middle 32 bits: what reports call LSR and DLSR count in, units of 2⁻¹⁶ s.
    #[must_use]
    pub fn middle(self) -> u32 {
        u32::try_from(self.0 >> 16 & 0xFFFF_FFFF).unwrap_or_default()
    }

    /// How long after `earlier` it is, in units of 2⁻³² s; negative before it. Distances are those below 68 years.
    #[must_use]
    pub const fn since(self, earlier: Self) -> i64 {
        self.0.wrapping_sub(earlier.0).cast_signed()
    }
}
