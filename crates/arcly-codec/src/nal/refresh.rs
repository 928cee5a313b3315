use crate::sei::RecoveryPoint;

/// Which pictures without a full refresh a reader may start at, learnt from the pictures so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RefreshHistory {
    /// A picture that resets the decoder (IDR, IRAP) was seen.
    full: bool,
    gradual_since_full: u32,
}

impl RefreshHistory {
    /// A picture that resets the decoder.
    pub(crate) const fn full(&mut self) {
        *self = Self { full: true, gradual_since_full: 0 };
    }

    /// A recovery point; true when readers may start there.
    ///
    /// One that is clean at once is an open GOP's. A gradual refresh leaves artefacts for its duration, so it
    /// only counts where full refreshes do not come (again): the second one in a row says so.
    pub(crate) const fn recovery_point(&mut self, point: RecoveryPoint) -> bool {
        if point.count == 0 {
            return true;
        }
        self.gradual_since_full = self.gradual_since_full.saturating_add(1);
        !self.full || self.gradual_since_full > 1
    }

    /// True as long as there was neither a full refresh nor a recovery point.
    pub(crate) const fn is_empty(&self) -> bool {
        !self.full && self.gradual_since_full == 0
    }
}
