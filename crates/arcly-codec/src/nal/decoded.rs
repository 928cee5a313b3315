//! What a track's parameter sets say, kept beside the units they came from.

use arcly_core::codec::ParameterSets;
use arcly_core::wire::{DecodeError, DecodeResult};
use smallvec::SmallVec;

use super::access_unit::store_parameter_set;

/// A parameter set that pictures refer to by its identifier.
pub(crate) trait ParameterSet: Sized {
    /// Decodes a NAL unit, header bytes included.
    fn decode(unit: &[u8]) -> DecodeResult<Self>;
    /// The identifier alone.
    fn id_of(unit: &[u8]) -> DecodeResult<u8>;
    fn id(&self) -> u8;
}

/// The types whose own `decode`, `id_of` and `id` are those of a [`ParameterSet`].
macro_rules! parameter_sets {
    ($($set:ty),+) => {$(
        impl crate::nal::ParameterSet for $set {
            fn decode(unit: &[u8]) -> DecodeResult<Self> {
                Self::decode(unit)
            }
            fn id_of(unit: &[u8]) -> DecodeResult<u8> {
                Self::id_of(unit)
            }
            fn id(&self) -> u8 {
                self.id
            }
        }
    )+};
}
pub(crate) use parameter_sets;

/// The decoded parameter sets of one kind, by identifier.
#[derive(Clone, Debug)]
pub(crate) struct Decoded<T>(SmallVec<[T; 1]>);

impl<T> Default for Decoded<T> {
    fn default() -> Self {
        Self(SmallVec::new())
    }
}

impl<T: ParameterSet> Decoded<T> {
    pub(crate) fn of(units: &ParameterSets) -> DecodeResult<Self> {
        units.iter().map(|unit| T::decode(unit)).collect::<DecodeResult<_>>().map(Self)
    }

    pub(crate) fn get(&self, id: u8) -> Option<&T> {
        self.0.iter().find(|set| set.id() == id)
    }

    /// The set in use: that of `active`, or else the first.
    pub(crate) fn active(&self, active: Option<u8>) -> Option<&T> {
        active.and_then(|id| self.get(id)).or_else(|| self.0.first())
    }

    /// Adds a unit to the configuration's `units`, or replaces the one of its identifier; true when that changed anything.
    pub(crate) fn store(&mut self, units: &mut ParameterSets, unit: &[u8], max: usize) -> DecodeResult<bool> {
        if units.iter().any(|known| known == unit) {
            return Ok(false);
        }
        let set = T::decode(unit)?;
        let changed = store_parameter_set(units, unit, max, T::id_of)?;
        self.0.retain(|known| known.id() != set.id());
        let at = self.0.partition_point(|known| known.id() < set.id());
        self.0.insert(at, set);
        Ok(changed)
    }
}

/// The first thing of an access unit that could not be understood.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FirstFault(pub(crate) Option<DecodeError>);

impl FirstFault {
    /// The value, if there is one; otherwise the error is kept, if it is the first.
    pub(crate) fn check<T>(&mut self, result: DecodeResult<T>) -> Option<T> {
        result.map_err(|error| self.0 = self.0.or(Some(error))).ok()
    }
}
