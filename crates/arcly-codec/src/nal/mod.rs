//! NAL units: framing, emulation prevention, and the canonical form of an access unit.
//!
//! | document | section | here |
//! |---|---|---|
//! | ITU-T H.264, H.265, H.266 | Annex B byte stream | [`annex_b()`], [`put_annex_b`] |
//! | | 7.4.1 / 7.4.2 emulation prevention | [`escape()`], [`unescape`] |
//! | ISO/IEC 14496-15 | 4.3 length-prefixed samples | [`length_prefixed`], [`put_length_prefixed`] |
//!
//! Guarantees: linear time, no panic; iteration allocates nothing, and an access unit that is canonical
//! already is passed on as the same [`Bytes`](bytes::Bytes).
//!
//! Tolerated: start codes where lengths belong (some RTMP encoders), when the lengths do not add up.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod access_unit;
mod decoded;
mod escape;
mod framing;
mod refresh;

pub use access_unit::{AccessUnit, Framing, NalCounts};
pub(crate) use access_unit::{NalUse, assemble, assemble_units, check_parameter_set, store_parameter_set};
pub(crate) use decoded::{Decoded, FirstFault, ParameterSet, parameter_sets};
pub(crate) use escape::find_escape;
pub use escape::{escape, unescape};
pub use framing::{
    AnnexB, LengthPrefixed, LengthSize, annex_b, annex_b_to_length_prefixed, check_access_unit_size,
    length_prefixed, length_prefixed_to_annex_b, put_annex_b, put_length_prefixed,
};
pub(crate) use refresh::RefreshHistory;

/// The largest access unit that is accepted, in canonical form: an 8K intra picture fits.
pub const MAX_ACCESS_UNIT_BYTES: usize = 8 << 20;

/// Bytes that an access unit may have beyond that as it comes, which the canonical form does not have: parameter sets,
/// delimiters, zeros between NAL units.
pub const MAX_REMOVED_BYTES: usize = 64 << 10;

/// NAL units of one access unit that are kept; H.264 level 6.2 has at most 200 slices at this picture size.
pub const MAX_NALS_PER_ACCESS_UNIT: usize = 256;

/// The largest parameter set that is kept.
pub const MAX_PARAMETER_SET_BYTES: usize = 4 << 10;
