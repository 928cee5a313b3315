use arcly_core::FrameFlags;
use arcly_core::codec::{AvcConfig, VideoParams};
use arcly_core::wire::DecodeResult;
use bytes::Bytes;

use super::slice::SliceStart;
use super::{
    MAX_PPS, MAX_SPS, MAX_SPS_EXT, PictureOrder, Pps, SliceHeader, Sps, nal_ref_idc, nal_type, nal_unit_type,
};
use crate::nal::{
    AccessUnit, Decoded, FirstFault, Framing, NalCounts, NalUse, RefreshHistory, assemble, assemble_units,
    store_parameter_set,
};
use crate::sei::{self, RecoveryPoint};

/// Brings the access units of one track into canonical form and follows its parameter sets.
#[derive(Clone, Debug, Default)]
pub struct Parser {
    config: AvcConfig,
    sps: Decoded<Sps>,
    pps: Decoded<Pps>,
    active_sps: Option<u8>,
    order: PictureOrder,
    joins: JoinPoints,
    config_changed: bool,
}

/// Which pictures a reader may start at.
#[derive(Clone, Copy, Debug, Default)]
struct JoinPoints {
    refresh: RefreshHistory,
    /// Picture order of the last keyframe that was no IDR: what comes before it in output order leans on
    /// pictures before it in decoding order.
    open: Option<i32>,
}

/// What the NAL units of one access unit say together.
struct Picture {
    idr: bool,
    reference: bool,
    all_intra: bool,
    recovery: Option<RecoveryPoint>,
    order: Option<i32>,
    /// Of the prefix NAL unit (annex G), where there is one.
    temporal_id: u8,
    started: bool,
    fault: FirstFault,
}

impl Parser {
    /// A parser that knows no parameter sets yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A parser that starts from a record.
    pub fn with_config(config: AvcConfig) -> DecodeResult<Self> {
        let mut parser = Self::default();
        parser.set_config(config)?;
        Ok(parser)
    }

    /// Takes a new record. On an error the one before stays.
    pub fn set_config(&mut self, config: AvcConfig) -> DecodeResult<()> {
        let sps = Decoded::of(&config.sps)?;
        let pps = Decoded::of(&config.pps)?;
        (self.config, self.sps, self.pps, self.active_sps) = (config, sps, pps, None);
        Ok(())
    }

    /// The configuration, once it is enough to decode with: at least one parameter set of either kind.
    #[must_use]
    pub fn config(&self) -> Option<&AvcConfig> {
        (!self.config.sps.is_empty() && !self.config.pps.is_empty()).then_some(&self.config)
    }

    /// What the active sequence parameter set (the first, before any picture) says of the pictures.
    #[must_use]
    pub fn video_params(&self) -> VideoParams {
        self.active_sps().map(Sps::video_params).unwrap_or_default()
    }

    /// One access unit.
    ///
    /// An error means that its framing is broken and it has to be dropped; the parser stays usable.
    pub fn push(&mut self, data: &Bytes, framing: Framing) -> DecodeResult<AccessUnit> {
        let mut picture = Picture::default();
        let assembled = assemble(data, framing, |unit| self.unit(unit, &mut picture));
        self.conclude(assembled, picture)
    }

    /// One access unit whose NAL units came one by one.
    pub fn push_units(&mut self, units: &[Bytes]) -> DecodeResult<AccessUnit> {
        let mut picture = Picture::default();
        let assembled = assemble_units(units, |unit| self.unit(unit, &mut picture));
        self.conclude(assembled, picture)
    }

    fn active_sps(&self) -> Option<&Sps> {
        self.sps.active(self.active_sps)
    }

    fn unit(&mut self, unit: &[u8], picture: &mut Picture) -> NalUse {
        let header = unit.first().copied().unwrap_or(0);
        let result = match nal_unit_type(header) {
            kind @ nal_type::SLICE..=nal_type::IDR => {
                picture.idr |= kind == nal_type::IDR;
                picture.reference |= nal_ref_idc(header) != 0;
                if matches!(kind, nal_type::SLICE | nal_type::PARTITION_A | nal_type::IDR) {
                    let slice = self.slice(unit, picture.started);
                    picture.all_intra &= slice.is_ok();
                    if let Some(slice) = picture.fault.check(slice) {
                        picture.add(slice);
                    }
                }
                return NalUse::Slice;
            }
            nal_type::SEI => {
                picture.recovery = picture.recovery.or_else(|| recovery_point(unit));
                return NalUse::Other;
            }
            nal_type::PREFIX => {
                picture.temporal_id = temporal_id(unit).unwrap_or(picture.temporal_id);
                return NalUse::Other;
            }
            nal_type::SPS => self.store_sps(unit),
            nal_type::PPS => self.pps.store(&mut self.config.pps, unit, MAX_PPS),
            nal_type::SPS_EXT => {
                store_parameter_set(&mut self.config.sps_ext, unit, MAX_SPS_EXT, Sps::ext_id_of)
            }
            nal_type::AUD => Ok(false),
            _ => return NalUse::Other,
        };
        self.config_changed |= picture.fault.check(result) == Some(true);
        NalUse::Remove
    }

    fn store_sps(&mut self, unit: &[u8]) -> DecodeResult<bool> {
        let changed = self.sps.store(&mut self.config.sps, unit, MAX_SPS)?;
        if changed {
            self.adopt_profile();
        }
        Ok(changed)
    }

    /// The record's profile and level are those of the parameter set in use.
    fn adopt_profile(&mut self) {
        if let Some(sps) = self.active_sps() {
            let (profile, compatibility, level) = (sps.profile, sps.compatibility, sps.level);
            let config = &mut self.config;
            (config.profile, config.compatibility, config.level) = (profile, compatibility, level);
        }
    }

    /// A slice: its type always, its picture order when it is the picture's first.
    fn slice(&mut self, unit: &[u8], started: bool) -> DecodeResult<(bool, Option<i32>)> {
        let start = SliceStart::decode(unit)?;
        if started {
            return Ok((start.is_intra(), None));
        }
        // Until the parameter sets are there the picture is as good as unknown, which is no fault of its own.
        let Some(pps) = self.pps.get(start.pps_id) else {
            return Ok((start.is_intra(), None));
        };
        let Some(sps) = self.sps.get(pps.sps_id) else {
            return Ok((start.is_intra(), None));
        };
        let header = SliceHeader::after(&start, sps, pps)?;
        let order = self.order.next(&header, sps);
        if self.active_sps != Some(sps.id) {
            self.active_sps = Some(sps.id);
            self.adopt_profile();
        }
        Ok((start.is_intra(), Some(order)))
    }

    fn conclude(
        &mut self,
        assembled: DecodeResult<(Bytes, NalCounts)>,
        picture: Picture,
    ) -> DecodeResult<AccessUnit> {
        let (payload, counts) = assembled?;
        let mut flags = FrameFlags::empty();
        if counts.slices > 0 {
            flags = self.joins.flags(&picture).with_temporal_id(picture.temporal_id);
            flags.set(FrameFlags::DISPOSABLE, !picture.reference);
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
}

impl JoinPoints {
    fn flags(&mut self, picture: &Picture) -> FrameFlags {
        if picture.idr {
            self.refresh.full();
            self.open = None;
            return FrameFlags::KEYFRAME;
        }
        // Cameras that send neither IDR nor recovery points still send intra pictures.
        let join = match picture.recovery {
            Some(point) => self.refresh.recovery_point(point),
            None => picture.all_intra && self.refresh.is_empty(),
        };
        if join {
            self.open = picture.order;
            return FrameFlags::KEYFRAME;
        }
        let leading = matches!((picture.order, self.open), (Some(order), Some(open)) if order < open);
        if leading { FrameFlags::LEADING } else { FrameFlags::empty() }
    }
}

impl Default for Picture {
    fn default() -> Self {
        Self {
            idr: false,
            reference: false,
            all_intra: true,
            recovery: None,
            order: None,
            temporal_id: 0,
            started: false,
            fault: FirstFault::default(),
        }
    }
}

impl Picture {
    fn add(&mut self, (intra, order): (bool, Option<i32>)) {
        self.all_intra &= intra;
        self.order = self.order.or(order);
        self.started = true;
    }
}

fn recovery_point(unit: &[u8]) -> Option<RecoveryPoint> {
    let messages = sei::messages(unit.get(1..)?);
    let message = messages.map_while(Result::ok).find(|message| message.kind == sei::RECOVERY_POINT)?;
    RecoveryPoint::decode_h264(&message).ok()
}

/// The temporal layer of the slice behind a prefix NAL unit of SVC (F.7.3.1.1).
const fn temporal_id(unit: &[u8]) -> Option<u8> {
    /// `svc_extension_flag`; without it the prefix is one of MVC.
    const SVC: u8 = 0x80;
    let Some(&[_, first, _, third]) = unit.first_chunk::<4>() else { return None };
    if first & SVC == 0 { None } else { Some(third >> 5) }
}
