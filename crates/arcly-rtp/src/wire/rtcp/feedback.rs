use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::{format, kind, put};

const REMB: [u8; 4] = *b"REMB";
/// Bits of the mantissa.
const REMB_MANTISSA: u32 = 18;
/// The highest rate that 64 bits can hold and 18 of them can say.
const REMB_MAX: u64 = 0x3_FFFF << 46;

/// A packet that is missing, and which of the 16 behind it are (RFC 4585 §6.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NackEntry {
    /// `PID`.
    pub first: u16,
    /// `BLP`: bit *n* stands for `first + n + 1`.
    pub following: u16,
}

impl NackEntry {
    /// The sequence numbers it stands for.
    pub fn sequences(self) -> impl Iterator<Item = u16> {
        let following = (0..16_u16).filter(move |bit| self.following >> bit & 1 == 1);
        core::iter::once(self.first)
            .chain(following.map(move |bit| self.first.wrapping_add(bit).wrapping_add(1)))
    }
}

/// Generic NACK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nack {
    /// Who asks.
    pub sender: u32,
    /// Whose packets are missing.
    pub media: u32,
    /// Which.
    pub entries: SmallVec<[NackEntry; 4]>,
}

impl Nack {
    /// A request for the given packets, ascending in the order of their numbers.
    #[must_use]
    pub fn of(sender: u32, media: u32, sequences: impl IntoIterator<Item = u16>) -> Self {
        let mut entries: SmallVec<[NackEntry; 4]> = SmallVec::new();
        for sequence in sequences {
            let away = entries.last().map(|last| sequence.wrapping_sub(last.first));
            match (entries.last_mut(), away) {
                (Some(last), Some(away @ 1..=16)) => last.following |= 1 << away.saturating_sub(1),
                (Some(_), Some(0)) => {}
                _ => entries.push(NackEntry { first: sequence, following: 0 }),
            }
        }
        Self { sender, media, entries }
    }

    /// The sequence numbers asked for.
    pub fn sequences(&self) -> impl Iterator<Item = u16> {
        self.entries.iter().flat_map(|entry| entry.sequences())
    }

    pub(super) fn decode(body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        let mut nack = Self { sender: r.u32("nack sender")?, media: r.u32("nack media")?, ..Self::default() };
        while !r.is_empty() {
            nack.entries.push(NackEntry { first: r.u16("nack pid")?, following: r.u16("nack blp")? });
        }
        Ok(nack)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put(out, kind::TRANSPORT_FEEDBACK, format::NACK, |out| {
            out.put_u32(self.sender);
            out.put_u32(self.media);
            for entry in &self.entries {
                out.put_u16(entry.first);
                out.put_u16(entry.following);
            }
        });
    }
}

/// PLI: pictures cannot be decoded (RFC 4585 §6.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PictureLoss {
    /// Who says so.
    pub sender: u32,
    /// Whose pictures.
    pub media: u32,
}

impl PictureLoss {
    pub(super) fn decode(body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        Ok(Self { sender: r.u32("pli sender")?, media: r.u32("pli media")? })
    }

    pub(super) fn encode(self, out: &mut BytesMut) {
        put(out, kind::PAYLOAD_FEEDBACK, format::PICTURE_LOSS, |out| {
            out.put_u32(self.sender);
            out.put_u32(self.media);
        });
    }
}

/// FIR: a keyframe is wanted, of each of the sources (RFC 5104 §4.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FullIntra {
    /// Who asks.
    pub sender: u32,
    /// Not used; 0.
    pub media: u32,
    /// Sources, and a number that rises with every new request.
    pub requests: SmallVec<[(u32, u8); 1]>,
}

impl FullIntra {
    pub(super) fn decode(body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        let mut intra = Self { sender: r.u32("fir sender")?, media: r.u32("fir media")?, ..Self::default() };
        while !r.is_empty() {
            let source = r.u32("fir ssrc")?;
            let [number, _, _, _] = r.array("fir sequence")?;
            intra.requests.push((source, number));
        }
        Ok(intra)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put(out, kind::PAYLOAD_FEEDBACK, format::FULL_INTRA, |out| {
            out.put_u32(self.sender);
            out.put_u32(self.media);
            for (source, number) in &self.requests {
                out.put_u32(*source);
                out.put_u32(u32::from(*number) << 24);
            }
        });
    }
}

/// REMB: an estimate of the available bit rate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remb {
    /// Who says so.
    pub sender: u32,
    /// Not used; 0.
    pub media: u32,
    /// Bits per second; 18 significant bits.
    pub bitrate_bps: u64,
    /// The sources that share it, at most 255.
    pub sources: SmallVec<[u32; 1]>,
}

impl Remb {
    pub(super) fn is_in(body: &[u8]) -> bool {
        body.get(8..12) == Some(&REMB)
    }

    pub(super) fn decode(body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        let (sender, media) = (r.u32("remb sender")?, r.u32("remb media")?);
        r.skip(REMB.len(), "remb identifier")?;
        let count = r.u8("remb sources")?;
        let word = r.u24("remb bitrate")?;
        let mantissa = u64::from(word & ((1 << REMB_MANTISSA) - 1));
        // An exponent of six bits and a mantissa of 18 may be more than 64 bits can hold.
        let exact = u64::try_from(u128::from(mantissa) << (word >> REMB_MANTISSA));
        let bitrate_bps = exact.unwrap_or(REMB_MAX);
        let sources = (0..count).map(|_| r.u32("remb ssrc")).collect::<DecodeResult<_>>()?;
        Ok(Self { sender, media, bitrate_bps, sources })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let exponent =
            u64::BITS.saturating_sub(self.bitrate_bps.leading_zeros()).saturating_sub(REMB_MANTISSA);
        let mantissa = u32::try_from(self.bitrate_bps >> exponent).unwrap_or_default();
        let sources = self.sources.get(..self.sources.len().min(usize::from(u8::MAX))).unwrap_or_default();
        let count = u32::try_from(sources.len()).unwrap_or_default();
        put(out, kind::PAYLOAD_FEEDBACK, format::APPLICATION, |out| {
            out.put_u32(self.sender);
            out.put_u32(self.media);
            out.put_slice(&REMB);
            out.put_u32(count << 24 | exponent << REMB_MANTISSA | mantissa);
            sources.iter().for_each(|source| out.put_u32(*source));
        });
    }
}
