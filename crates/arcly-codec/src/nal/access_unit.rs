//! Access units: from any framing to the canonical payload, and what was found on the way.

use arcly_core::FrameFlags;
use arcly_core::codec::ParameterSets;
use arcly_core::wire::{DecodeError, DecodeResult};
use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

use super::{
    LengthSize, MAX_NALS_PER_ACCESS_UNIT, MAX_PARAMETER_SET_BYTES, MAX_REMOVED_BYTES, annex_b,
    check_access_unit_size, length_prefixed, put_length_prefixed,
};

/// How the NAL units of an access unit are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Start codes: MPEG-TS, raw files.
    AnnexB,
    /// Lengths: FLV, RTMP, MP4.
    Length(LengthSize),
}

/// What was in an access unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NalCounts {
    /// Slices (VCL NAL units) kept.
    pub slices: usize,
    /// Other NAL units kept: SEI, filler data, end of sequence.
    pub other: usize,
    /// Parameter sets and access unit delimiters, which the canonical form does not have.
    pub removed: usize,
    /// NAL units of no length, dropped.
    pub empty: usize,
    /// NAL units beyond [`MAX_NALS_PER_ACCESS_UNIT`], dropped; of a byte stream the first of them, because it is not
    /// searched any further.
    pub excess: usize,
}

/// An access unit in canonical form.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessUnit {
    /// NAL units with 4-byte lengths, without parameter sets and delimiters. Empty when there was no slice:
    /// parameter sets, SEI or filler on their own are no picture.
    pub payload: Bytes,
    /// `KEYFRAME`, `DISPOSABLE`, `LEADING`, and `CORRUPT` when slices had to be dropped.
    pub flags: FrameFlags,
    /// In-band parameter sets or HDR metadata differ from those known; the parser's configuration is a new
    /// one, for this picture and what follows.
    pub config_changed: bool,
    /// Picture order count, where the headers allow to know it.
    pub picture_order: Option<i32>,
    /// What was found.
    pub counts: NalCounts,
    /// The first in-band parameter set or header that could not be understood, and was left aside.
    pub fault: Option<DecodeError>,
}

impl AccessUnit {
    /// True when there is a picture.
    #[must_use]
    pub const fn has_picture(&self) -> bool {
        !self.payload.is_empty()
    }
}

/// What a codec wants done with a NAL unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NalUse {
    Slice,
    Other,
    Remove,
}

/// Runs `classify` over the NAL units and gives the canonical payload: the very same bytes, not copied,
/// when they are canonical already.
pub(crate) fn assemble(
    data: &Bytes,
    framing: Framing,
    classify: impl FnMut(&[u8]) -> NalUse,
) -> DecodeResult<(Bytes, NalCounts)> {
    // What is removed does not count, within reason.
    check_access_unit_size(data.len().saturating_sub(MAX_REMOVED_BYTES))?;
    let mut assembly = Assembly { kept: SmallVec::new(), counts: NalCounts::default(), classify };
    match effective_framing(data, framing) {
        Framing::AnnexB => {
            let mut units = annex_b(data);
            // What comes behind the last unit that is kept is not looked for.
            units.by_ref().take_while(|unit| assembly.add(unit)).for_each(drop);
            assembly.counts.empty = units.empty();
        }
        Framing::Length(size) => {
            let mut units = length_prefixed(data, size);
            units.by_ref().try_for_each(|unit| unit.map(|unit| _ = assembly.add(unit)))?;
            assembly.counts.empty = units.empty();
            if size == LengthSize::Four && assembly.is_canonical() {
                check_access_unit_size(data.len())?;
                return Ok((data.clone(), assembly.counts));
            }
        }
    }
    assembly.finish()
}

/// The same for NAL units that come one by one (RTP).
pub(crate) fn assemble_units(
    units: &[Bytes],
    classify: impl FnMut(&[u8]) -> NalUse,
) -> DecodeResult<(Bytes, NalCounts)> {
    check_access_unit_size(units.iter().fold(0, |sum, unit| sum.saturating_add(unit.len())))?;
    let mut assembly = Assembly { kept: SmallVec::new(), counts: NalCounts::default(), classify };
    for unit in units {
        if unit.is_empty() {
            assembly.counts.empty = assembly.counts.empty.saturating_add(1);
        } else {
            let _ = assembly.add(unit);
        }
    }
    assembly.finish()
}

/// Some encoders put a byte stream where lengths belong; it shows in lengths that do not add up.
fn effective_framing(data: &[u8], framing: Framing) -> Framing {
    let Framing::Length(size) = framing else { return framing };
    let start_code = data.starts_with(&[0, 0, 1]) || data.starts_with(&[0, 0, 0, 1]);
    if start_code && length_prefixed(data, size).any(|unit| unit.is_err()) {
        Framing::AnnexB
    } else {
        framing
    }
}

struct Assembly<'a, F> {
    kept: SmallVec<[&'a [u8]; 32]>,
    counts: NalCounts,
    classify: F,
}

impl<'a, F: FnMut(&[u8]) -> NalUse> Assembly<'a, F> {
    /// False when there was no room for the unit.
    fn add(&mut self, unit: &'a [u8]) -> bool {
        if self.kept.len().saturating_add(self.counts.removed) >= MAX_NALS_PER_ACCESS_UNIT {
            self.counts.excess = self.counts.excess.saturating_add(1);
            return false;
        }
        let count = match (self.classify)(unit) {
            NalUse::Slice => &mut self.counts.slices,
            NalUse::Other => &mut self.counts.other,
            NalUse::Remove => {
                self.counts.removed = self.counts.removed.saturating_add(1);
                return true;
            }
        };
        *count = count.saturating_add(1);
        self.kept.push(unit);
        true
    }

    const fn is_canonical(&self) -> bool {
        let counts = &self.counts;
        counts.removed == 0 && counts.empty == 0 && counts.excess == 0 && counts.slices > 0
    }

    fn finish(self) -> DecodeResult<(Bytes, NalCounts)> {
        if self.counts.slices == 0 {
            return Ok((Bytes::new(), self.counts));
        }
        let len =
            self.kept.iter().fold(0, |sum: usize, unit| sum.saturating_add(unit.len()).saturating_add(4));
        check_access_unit_size(len)?;
        let mut out = BytesMut::with_capacity(len);
        self.kept.iter().for_each(|unit| put_length_prefixed(unit, &mut out));
        Ok((out.freeze(), self.counts))
    }
}

/// Adds a parameter set, or replaces the one of the same id; true when that changed anything.
/// The set is copied, so that it does not keep a whole access unit alive.
pub(crate) fn store_parameter_set<Id: Ord>(
    sets: &mut ParameterSets,
    unit: &[u8],
    max: usize,
    id_of: impl Fn(&[u8]) -> DecodeResult<Id>,
) -> DecodeResult<bool> {
    if sets.iter().any(|known| known == unit) {
        return Ok(false);
    }
    check_parameter_set(unit, 0, max)?;
    let id = id_of(unit)?;
    let slot = sets.iter().position(|known| id_of(known).is_ok_and(|known| known >= id));
    let stored = Bytes::copy_from_slice(unit);
    match slot.and_then(|at| sets.get_mut(at).map(|known| (at, known))) {
        Some((_, known)) if id_of(known).is_ok_and(|known| known == id) => *known = stored,
        place => {
            let at = place.map(|(at, _)| at);
            check_parameter_set(unit, sets.len(), max)?;
            sets.insert(at.unwrap_or(sets.len()), stored);
        }
    }
    Ok(true)
}

/// Checks a parameter set's size, and that one more fits besides `count` others.
pub(crate) const fn check_parameter_set(unit: &[u8], count: usize, max: usize) -> DecodeResult<()> {
    if unit.len() > MAX_PARAMETER_SET_BYTES {
        return Err(DecodeError::LimitExceeded {
            what: "parameter_set",
            limit: MAX_PARAMETER_SET_BYTES as u64,
        });
    }
    if count >= max {
        return Err(DecodeError::LimitExceeded { what: "parameter_sets", limit: max as u64 });
    }
    Ok(())
}
