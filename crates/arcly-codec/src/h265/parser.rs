use arcly_core::FrameFlags;
use arcly_core::codec::{HdrMetadata, HevcConfig, VideoParams};
use arcly_core::wire::DecodeResult;
use bytes::Bytes;

use super::slice::SliceStart;
use super::{
    MAX_PPS, MAX_SPS, MAX_VPS, NalHeader, PictureOrder, Pps, SliceHeader, Sps, Vps, nal_type, read_hdr,
};
use crate::TemporalLayers;
use crate::nal::{
    AccessUnit, Decoded, FirstFault, Framing, NalCounts, NalUse, RefreshHistory, assemble, assemble_units,
    store_parameter_set,
};
use crate::sei::{self, RecoveryPoint};

/// Brings the access units of one track into canonical form and follows its parameter sets.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    config: HevcConfig,
    sps: Decoded<Sps>,
    pps: Decoded<Pps>,
    active_sps: Option<u8>,
    hdr: Option<HdrMetadata>,
    order: PictureOrder,
    refresh: RefreshHistory,
    layers: TemporalLayers,
    config_changed: bool,
}

/// What the NAL units of one access unit say together.
#[derive(Default)]
struct Picture {
    slice: Option<NalHeader>,
    recovery: Option<RecoveryPoint>,
    order: Option<i32>,
    fault: FirstFault,
}

impl Parser {
    /// A parser that knows no parameter sets yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser that starts from a record.
    pub fn with_config(config: HevcConfig) -> DecodeResult<Self> {
        let mut parser = Self::default();
        parser.set_config(config)?;
        Ok(parser)
    }

    /// Takes a new record. On an error the one before stays.
    pub fn set_config(&mut self, config: HevcConfig) -> DecodeResult<()> {
        let sps = Decoded::of(&config.sps)?;
        let pps = Decoded::of(&config.pps)?;
        let hdr = super::video_params(&config)?.hdr;
        (self.config, self.sps, self.pps, self.hdr, self.active_sps) = (config, sps, pps, hdr, None);
        Ok(())
    }

    /// The configuration, once it is enough to decode with: at least one parameter set of each kind.
    #[must_use]
    pub fn config(&self) -> Option<&HevcConfig> {
        let config = &self.config;
        (!config.vps.is_empty() && !config.sps.is_empty() && !config.pps.is_empty()).then_some(config)
    }

    /// What the active sequence parameter set (the first, before any picture) and the SEI say of the pictures.
    #[must_use]
    pub fn video_params(&self) -> VideoParams {
        let Some(sps) = self.active_sps() else { return VideoParams::default() };
        let mut params = sps.video_params();
        if params.frame_rate.is_none() {
            let vps = self.config.vps.iter().filter_map(|unit| Vps::decode(unit).ok());
            params.frame_rate =
                vps.into_iter().find(|vps| vps.id == sps.vps_id).and_then(|vps| vps.frame_rate);
        }
        params.hdr = self.hdr;
        params
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

    fn active_sps(&self) -> Option<&Sps> {
        self.sps.active(self.active_sps)
    }

    fn unit(&mut self, unit: &[u8], picture: &mut Picture) -> NalUse {
        // One byte is no NAL unit; removing it is all that can be done.
        let Some(header) = NalHeader::of(unit) else { return NalUse::Remove };
        let base = header.layer == 0;
        let result = match header.kind {
            0..=nal_type::RSV_VCL31 if base => {
                if picture.slice.is_none() {
                    picture.slice = Some(header);
                    let order = self.slice(unit);
                    picture.order = picture.fault.check(order).flatten();
                }
                return NalUse::Slice;
            }
            nal_type::PREFIX_SEI | nal_type::SUFFIX_SEI if base => {
                self.sei(unit, picture);
                return NalUse::Other;
            }
            nal_type::VPS if base => store_parameter_set(&mut self.config.vps, unit, MAX_VPS, Vps::id_of),
            nal_type::SPS if base => self.store_sps(unit),
            nal_type::PPS if base => self.pps.store(&mut self.config.pps, unit, MAX_PPS),
            nal_type::AUD => Ok(false),
            _ => return NalUse::Other,
        };
        self.config_changed |= picture.fault.check(result) == Some(true);
        NalUse::Remove
    }

    fn store_sps(&mut self, unit: &[u8]) -> DecodeResult<bool> {
        let changed = self.sps.store(&mut self.config.sps, unit, MAX_SPS)?;
        if changed {
            self.describe();
        }
        Ok(changed)
    }

    /// The record's profile, level and format are those of the parameter set in use.
    fn describe(&mut self) {
        if let Some(sps) = self.sps.active(self.active_sps) {
            sps.describe(&mut self.config);
        }
    }

    fn sei(&mut self, unit: &[u8], picture: &mut Picture) {
        let mut hdr = self.hdr.unwrap_or_default();
        if read_hdr(unit, &mut hdr) && self.hdr != Some(hdr) {
            self.hdr = Some(hdr);
            self.config_changed = true;
        }
        let mut messages = sei::messages(unit.get(2..).unwrap_or_default()).map_while(Result::ok);
        if let Some(message) = messages.find(|message| message.kind == sei::RECOVERY_POINT) {
            picture.recovery = RecoveryPoint::decode_h265(&message).ok();
        }
    }

    /// The picture order of a picture's first slice segment, where the parameter sets for it are there.
    fn slice(&mut self, unit: &[u8]) -> DecodeResult<Option<i32>> {
        let start = SliceStart::decode(unit)?;
        let Some(pps) = self.pps.get(start.pps_id) else { return Ok(None) };
        let Some(sps) = self.sps.get(pps.sps_id) else { return Ok(None) };
        // Without its first slice segment (lost on the way) a picture's order is unknown.
        if !start.first {
            return Ok(None);
        }
        let header = SliceHeader::after(&start, sps, pps)?;
        let order = self.order.next(&header, sps);
        if self.active_sps != Some(sps.id) {
            self.active_sps = Some(sps.id);
            sps.describe(&mut self.config);
        }
        Ok(Some(order))
    }

    fn conclude(
        &mut self,
        assembled: DecodeResult<(Bytes, NalCounts)>,
        picture: &Picture,
    ) -> DecodeResult<AccessUnit> {
        let (payload, counts) = assembled?;
        let mut flags = FrameFlags::empty();
        if let Some(slice) = picture.slice {
            flags = self.layer(slice);
            flags.set(FrameFlags::KEYFRAME, self.is_keyframe(slice, picture));
            flags.set(FrameFlags::LEADING, slice.is_rasl());
            flags.set(FrameFlags::DISPOSABLE, self.is_disposable(slice));
            flags.set(FrameFlags::CORRUPT, counts.excess > 0);
        }
        // A change that is not yet enough to decode with is reported with the set that completes it.
        let config_changed = self.config_changed && self.config().is_some();
        self.config_changed &= !config_changed;
        Ok(AccessUnit {
            payload,
            flags,
            config_changed,
            picture_order: picture.order,
            counts,
            fault: picture.fault.0,
        })
    }

    const fn is_keyframe(&mut self, slice: NalHeader, picture: &Picture) -> bool {
        if slice.is_irap() {
            self.refresh.full();
            return true;
        }
        match picture.recovery {
            Some(point) => self.refresh.recovery_point(point),
            None => false,
        }
    }

    /// The sub-layer, and whether it can be gone over to here: at each picture that says so (§7.4.2.2), and where sub-layers are nested
    /// behind any picture of a lower one.
    fn layer(&mut self, slice: NalHeader) -> FrameFlags {
        let is_nested = self.active_sps().is_some_and(|sps| sps.temporal_id_nested);
        let mut flags = self.layers.with_switch_up(slice.temporal_id, is_nested);
        flags.set(
            FrameFlags::LAYER_SYNC,
            flags.contains(FrameFlags::LAYER_SYNC) || slice.is_sub_layer_access(),
        );
        flags
    }

    /// Pictures of higher sub-layers may refer to a sub-layer non-reference picture of a lower one.
    fn is_disposable(&self, slice: NalHeader) -> bool {
        let highest = self.active_sps().map_or(0, |sps| sps.sub_layers.saturating_sub(1));
        slice.is_sub_layer_non_reference() && slice.temporal_id >= highest
    }
}
