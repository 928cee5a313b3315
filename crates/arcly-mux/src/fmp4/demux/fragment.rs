//! `moof`: the samples of a fragment.

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::Bytes;

use super::Sample;
use crate::fmp4::MAX_SAMPLES_PER_RUN;
use crate::fmp4::wire::{boxes, closed, full_box, require};

/// Samples of one fragment, of all its runs.
pub(super) const MAX_SAMPLES_PER_FRAGMENT: usize = 4 * MAX_SAMPLES_PER_RUN;

/// What samples are when a fragment does not say (`trex`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Defaults {
    pub(super) duration: u32,
    pub(super) size: u32,
    pub(super) flags: u32,
}

/// The samples of a track in a fragment.
#[derive(Debug)]
pub(super) struct TrackFragment {
    pub(super) number: u32,
    pub(super) samples: Vec<Sample>,
    /// Where the track goes on.
    pub(super) end: i64,
}

/// What is known of a track before a fragment: its defaults, and where it has got to.
pub(super) type Known = (Defaults, i64);

/// Reads a `moof` whose box begins at `start` in the file. Tracks of which `known` knows nothing are passed over.
pub(super) fn decode(
    moof: &Bytes,
    start: u64,
    known: impl Fn(u32) -> Option<Known>,
) -> DecodeResult<Vec<TrackFragment>> {
    let mut fragments = Vec::new();
    let (mut implicit_base, mut budget) = (start, MAX_SAMPLES_PER_FRAGMENT);
    for child in boxes(moof) {
        let (kind, traf) = child?;
        if &kind != b"traf" {
            continue;
        }
        let tfhd = require(&traf, b"tfhd", "tfhd")?;
        let header = closed(&tfhd, |r| TrackHeader::decode(r, &known))?;
        let Some((mut header, at)) = header else { continue };
        let base = match header.base {
            Base::Given(at) => at,
            Base::Moof => start,
            Base::Implicit => implicit_base,
        };
        (header.base, header.dts, header.start) = (Base::Given(base), at, start);
        let fragment = header.runs(&traf, &mut budget)?;
        implicit_base = header.place;
        fragments.push(fragment);
    }
    Ok(fragments)
}

/// Where data offsets count from.
#[derive(Clone, Copy, Debug)]
enum Base {
    Given(u64),
    Moof,
    /// The end of the data of the track before.
    Implicit,
}

#[derive(Debug)]
struct TrackHeader {
    number: u32,
    defaults: Defaults,
    base: Base,
    start: u64,
    dts: i64,
    /// Where the next run's data is, when it does not say.
    place: u64,
}

impl TrackHeader {
    fn decode(
        r: &mut Reader<'_>,
        known: &impl Fn(u32) -> Option<Known>,
    ) -> DecodeResult<Option<(Self, i64)>> {
        let (_, flags) = full_box(r, "tfhd")?;
        let number = r.u32("tfhd")?;
        let Some((mut defaults, at)) = known(number) else { return Ok(None) };
        let base = match (flags & 1 != 0, flags & 0x02_0000 != 0) {
            (true, _) => Base::Given(r.u64("base_data_offset")?),
            (false, true) => Base::Moof,
            (false, false) => Base::Implicit,
        };
        if flags & 2 != 0 {
            r.skip(4, "sample_description_index")?;
        }
        for (flag, field) in
            [(8, &mut defaults.duration), (0x10, &mut defaults.size), (0x20, &mut defaults.flags)]
        {
            if flags & flag != 0 {
                *field = r.u32("tfhd")?;
            }
        }
        Ok(Some((Self { number, defaults, base, start: 0, dts: 0, place: 0 }, at)))
    }

    fn runs(&mut self, traf: &Bytes, budget: &mut usize) -> DecodeResult<TrackFragment> {
        let mut samples = Vec::new();
        if let Base::Given(base) = self.base {
            self.place = base;
        }
        for child in boxes(traf) {
            let (kind, body) = child?;
            match &kind {
                b"tfdt" => self.dts = closed(&body, decode_time)?,
                b"trun" => closed(&body, |r| self.run(r, &mut samples, budget))?,
                _ => {}
            }
        }
        Ok(TrackFragment { number: self.number, samples, end: self.dts })
    }

    fn run(&mut self, r: &mut Reader<'_>, samples: &mut Vec<Sample>, budget: &mut usize) -> DecodeResult<()> {
        let (_, flags) = full_box(r, "trun")?;
        let count = usize::try_from(r.u32("sample_count")?).unwrap_or(usize::MAX);
        if count > MAX_SAMPLES_PER_RUN {
            let limit = MAX_SAMPLES_PER_RUN as u64;
            return Err(DecodeError::LimitExceeded { what: "samples_per_run", limit });
        }
        *budget = budget.checked_sub(count).ok_or(DecodeError::LimitExceeded {
            what: "samples_per_fragment",
            limit: MAX_SAMPLES_PER_FRAGMENT as u64,
        })?;
        if let (true, Base::Given(base)) = (flags & 1 != 0, self.base) {
            let offset = i64::from_be_bytes(i64::from(r.i32("data_offset")?).to_be_bytes());
            self.place = base.checked_add_signed(offset).ok_or_else(|| r.malformed("data_offset"))?;
        }
        if self.place < self.start {
            return Err(r.malformed("data_offset"));
        }
        let first_flags = if flags & 4 != 0 { Some(r.u32("first_sample_flags")?) } else { None };
        samples.reserve(count);
        for index in 0..count {
            let first_flags = first_flags.filter(|_| index == 0);
            samples.push(self.sample(r, flags, first_flags)?);
        }
        Ok(())
    }

    fn sample(&mut self, r: &mut Reader<'_>, flags: u32, first_flags: Option<u32>) -> DecodeResult<Sample> {
        let mut field = |flag: u32, default| if flags & flag != 0 { r.u32("trun") } else { Ok(default) };
        let duration = field(0x100, self.defaults.duration)?;
        let size = field(0x200, self.defaults.size)?;
        let sample_flags = field(0x400, first_flags.unwrap_or(self.defaults.flags))?;
        let composition = field(0x800, 0)?;
        let sample = Sample {
            offset: self.place,
            size,
            dts: self.dts,
            composition: i32::from_be_bytes(composition.to_be_bytes()),
            duration,
            disposable: (sample_flags >> 22) & 3 == 2,
        };
        self.place = self.place.checked_add(size.into()).ok_or_else(|| r.malformed("sample_size"))?;
        self.dts = self.dts.saturating_add(duration.into());
        Ok(sample)
    }
}

fn decode_time(r: &mut Reader<'_>) -> DecodeResult<i64> {
    let (version, _) = full_box(r, "tfdt")?;
    if version == 0 {
        return Ok(r.u32("tfdt")?.into());
    }
    let at = *r;
    i64::try_from(r.u64("tfdt")?).map_err(|_| at.malformed("tfdt"))
}
