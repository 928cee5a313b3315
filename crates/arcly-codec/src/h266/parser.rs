use arcly_core::FrameFlags;
use arcly_core::codec::{VideoParams, VvcConfig};
use arcly_core::wire::DecodeResult;
use bytes::Bytes;

use super::{MAX_DCI, MAX_PPS, MAX_SPS, MAX_VPS, NalHeader, Sps, nal_type};
use crate::bits::BitReader;
use crate::nal::{
    AccessUnit, FirstFault, Framing, NalCounts, NalUse, RefreshHistory, assemble, assemble_units,
    store_parameter_set,
};
use crate::sei::RecoveryPoint;

/// Brings the access units of one track into canonical form and follows its parameter sets.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    config: VvcConfig,
    params: VideoParams,
    refresh: RefreshHistory,
    config_changed: bool,
}

/// What the NAL units of one access unit say together.
#[derive(Default)]
struct Picture {
    slice: Option<NalHeader>,
    fault: FirstFault,
}

impl Parser {
    /// A parser that knows no parameter sets yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser that starts from a record.
    pub fn with_config(config: VvcConfig) -> DecodeResult<Self> {
        let params = super::video_params(&config)?;
        Ok(Self { config, params, ..Self::default() })
    }

    /// The configuration, once it is enough to decode with: at least one SPS and PPS.
    #[must_use]
    pub fn config(&self) -> Option<&VvcConfig> {
        (!self.config.sps.is_empty() && !self.config.pps.is_empty()).then_some(&self.config)
    }

    /// What the sequence parameter set last stored says of the pictures.
    #[must_use]
    pub const fn video_params(&self) -> VideoParams {
        self.params
    }

    /// One access unit.
    ///
    /// An error means that its framing is broken and it has to be dropped; the parser stays usable.
    pub fn push(&mut self, data: &Bytes, framing: Framing) -> DecodeResult<AccessUnit> {
        let mut picture = Picture::default();
        let assembled = assemble(data, framing, |unit| self.unit(unit, &mut picture));
        self.conclude(assembled, &picture)
    }

    /// One access unit whose NAL units came one by one.
    pub fn push_units(&mut self, units: &[Bytes]) -> DecodeResult<AccessUnit> {
        let mut picture = Picture::default();
        let assembled = assemble_units(units, |unit| self.unit(unit, &mut picture));
        self.conclude(assembled, &picture)
    }

    fn unit(&mut self, unit: &[u8], picture: &mut Picture) -> NalUse {
        // One byte is no NAL unit; removing it is all that can be done.
        let Some(header) = NalHeader::of(unit) else { return NalUse::Remove };
        let config = &mut self.config;
        let result = match header.kind {
            0..=nal_type::RSV_IRAP_11 => {
                picture.slice = picture.slice.or(Some(header));
                return NalUse::Slice;
            }
            nal_type::SPS => self.store_sps(unit),
            nal_type::DCI => store_parameter_set(&mut config.dci, unit, MAX_DCI, |_| Ok(0)),
            nal_type::VPS => store_parameter_set(&mut config.vps, unit, MAX_VPS, |unit| id_of(unit, 4)),
            nal_type::PPS => store_parameter_set(&mut config.pps, unit, MAX_PPS, |unit| id_of(unit, 6)),
            nal_type::AUD => Ok(false),
            _ => return NalUse::Other,
        };
        self.config_changed |= picture.fault.check(result) == Some(true);
        NalUse::Remove
    }

    fn store_sps(&mut self, unit: &[u8]) -> DecodeResult<bool> {
        if self.config.sps.iter().any(|known| known == unit) {
            return Ok(false);
        }
        let sps = Sps::decode(unit)?;
        let changed = store_parameter_set(&mut self.config.sps, unit, MAX_SPS, Sps::id_of)?;
        (self.config.profile, self.config.tier, self.config.level) = (sps.profile, sps.tier, sps.level);
        // The front of a record describes the sets it came with.
        self.config.record = Bytes::new();
        self.params = sps.video_params();
        Ok(changed)
    }

    fn conclude(
        &mut self,
        assembled: DecodeResult<(Bytes, NalCounts)>,
        picture: &Picture,
    ) -> DecodeResult<AccessUnit> {
        let (payload, counts) = assembled?;
        let mut flags = FrameFlags::empty();
        if let Some(slice) = picture.slice {
            flags.set(FrameFlags::KEYFRAME, self.is_keyframe(slice));
            flags.set(FrameFlags::LEADING, slice.kind == nal_type::RASL);
            flags.set(FrameFlags::CORRUPT, counts.excess > 0);
        }
        // A change that is not yet enough to decode with is reported with the set that completes it.
        let config_changed = self.config_changed && self.config().is_some();
        self.config_changed &= !config_changed;
        Ok(AccessUnit { payload, flags, config_changed, picture_order: None, counts, fault: picture.fault.0 })
    }

    const fn is_keyframe(&mut self, slice: NalHeader) -> bool {
        if slice.is_irap() {
            self.refresh.full();
            return true;
        }
        // How long the refresh takes is in the picture header; that it takes time is what matters here.
        const GRADUAL: RecoveryPoint = RecoveryPoint { count: 1, exact_match: false, broken_link: false };
        slice.kind == nal_type::GDR && self.refresh.recovery_point(GRADUAL)
    }
}

/// Identifiers are the first bits after the header.
fn id_of(unit: &[u8], bits: u32) -> DecodeResult<u8> {
    let mut r = BitReader::rbsp(unit);
    r.skip(16, "nal_unit_header")?;
    r.small(bits, "parameter_set_id")
}
