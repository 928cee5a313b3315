//! Temporal layers: what bitstreams and payload descriptors say of a picture, in the terms of [`FrameFlags`].

use arcly_core::FrameFlags;

/// The temporal layers of a stream, followed from picture to picture in decoding order, as a publisher sends them.
#[derive(Clone, Copy, Debug, Default)]
pub struct TemporalLayers {
    /// The layers of which no picture has come since a point that those of them which follow do not reach behind, a bit each.
    fresh: u8,
    /// The layers of which a picture has come since the last one of the lowest.
    seen: u8,
}

impl TemporalLayers {
    /// Packets are missing: with them may be what was said of the layers.
    pub const fn lost(&mut self) {
        *self = Self { fresh: 0, seen: u8::MAX };
    }

    /// A picture where it is told from which on others need no earlier one of a higher layer: VP9's switching up point.
    pub fn with_switch_up(&mut self, id: u8, up: bool) -> FrameFlags {
        let own = bit(id);
        let sync = self.fresh & own != 0;
        self.fresh &= !own;
        if up {
            self.fresh |= above(id);
        }
        flags(id, sync)
    }

    /// A picture where it is told which refer to none but the last of the lowest layer, and none behind them to anything of another
    /// layer before that one: VP8's layer sync.
    pub fn with_layer_sync(&mut self, id: u8, sync: bool) -> FrameFlags {
        let own = bit(id);
        // Behind the last one of the lowest layer there may be some of this one that others still refer to.
        let sync = id > 0 && sync && self.seen & own == 0;
        self.seen = if id == 0 { own } else { self.seen | own };
        flags(id, sync)
    }
}

const fn bit(id: u8) -> u8 {
    1 << (id & 7)
}

/// The layers above one.
const fn above(id: u8) -> u8 {
    !bit(id) & !(bit(id).wrapping_sub(1))
}

fn flags(id: u8, sync: bool) -> FrameFlags {
    let mut flags = FrameFlags::empty().with_temporal_id(id);
    flags.set(FrameFlags::LAYER_SYNC, sync);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    const SYNC: bool = true;

    fn told(flags: FrameFlags) -> (u8, bool) {
        (flags.temporal_id(), flags.contains(FrameFlags::LAYER_SYNC))
    }

    #[test]
    fn the_first_of_a_layer_behind_a_point_to_switch_up_needs_none_before_it() {
        let mut layers = TemporalLayers::default();
        // A point at the lowest layer only, and one at a picture of the middle one.
        let pictures =
            [(0, true), (2, false), (1, false), (2, false), (0, false), (2, false), (1, true), (2, false)];
        let told: Vec<_> = pictures.map(|(id, up)| told(layers.with_switch_up(id, up))).into();
        let sync =
            [(0, false), (2, SYNC), (1, SYNC), (2, false), (0, false), (2, false), (1, false), (2, SYNC)];
        assert_eq!(told, sync);
        layers.with_switch_up(0, true);
        layers.lost();
        assert_eq!(self::told(layers.with_switch_up(1, false)), (1, false));
    }

    #[test]
    fn a_layer_sync_counts_where_none_of_its_layer_has_come_behind_the_lowest() {
        let mut layers = TemporalLayers::default();
        let pictures =
            [(0, false), (2, true), (1, true), (2, true), (0, true), (1, true), (2, true), (2, false)];
        let told: Vec<_> = pictures.map(|(id, sync)| told(layers.with_layer_sync(id, sync))).into();
        let sync =
            [(0, false), (2, SYNC), (1, SYNC), (2, false), (0, false), (1, SYNC), (2, SYNC), (2, false)];
        assert_eq!(told, sync);
        layers.lost();
        assert_eq!(self::told(layers.with_layer_sync(1, true)), (1, false));
    }
}
