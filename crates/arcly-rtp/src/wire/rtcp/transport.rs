use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, BytesMut};

use super::{format, kind, put};

/// Packets that one feedback packet speaks of. A few bytes can claim 65 535; senders report every 100 ms or less.
pub const MAX_STATUSES: usize = 8_192;

/// Symbols in a status vector chunk of two bits each.
const VECTOR: usize = 7;
/// The longest run that one chunk can say.
const MAX_RUN: usize = 0x1FFF;

/// When packets arrived, by their transport-wide numbers (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportFeedback {
    /// Who says so.
    pub sender: u32,
    /// The source it is about.
    pub media: u32,
    /// Number of the first packet.
    pub base: u16,
    /// When the first packet that arrived did, less its delta: in units of 64 ms, 24 bits, of a clock of its own.
    pub reference: u32,
    /// Counts feedback packets.
    pub count: u8,
    /// One for each packet from `base` on, at most [`MAX_STATUSES`]: units of 250 µs since the one that arrived before it;
    /// `None` when it did not arrive.
    pub arrivals: Vec<Option<i16>>,
}

/// How a packet's arrival is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Symbol {
    Missing,
    Small,
    Large,
}

impl Symbol {
    const fn of(arrival: Option<i16>) -> Self {
        match arrival {
            None => Self::Missing,
            Some(0..=255) => Self::Small,
            Some(_) => Self::Large,
        }
    }

    const fn from_bits(bits: u16) -> Option<Self> {
        match bits & 3 {
            0 => Some(Self::Missing),
            1 => Some(Self::Small),
            2 => Some(Self::Large),
            _ => None,
        }
    }

    const fn bits(self) -> u16 {
        match self {
            Self::Missing => 0,
            Self::Small => 1,
            Self::Large => 2,
        }
    }
}

impl TransportFeedback {
    pub(super) fn decode(body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        let mut feedback =
            Self { sender: r.u32("twcc sender")?, media: r.u32("twcc media")?, ..Self::default() };
        feedback.base = r.u16("twcc base")?;
        let count = usize::from(r.u16("twcc status count")?);
        if count > MAX_STATUSES {
            return Err(DecodeError::LimitExceeded { what: "twcc_statuses", limit: MAX_STATUSES as u64 });
        }
        feedback.reference = r.u24("twcc reference time")?;
        feedback.count = r.u8("twcc packet count")?;
        let mut symbols = Vec::new();
        while symbols.len() < count {
            read_chunk(&mut r, count, &mut symbols)?;
        }
        for symbol in symbols {
            feedback.arrivals.push(match symbol {
                Symbol::Missing => None,
                Symbol::Small => Some(i16::from(r.u8("twcc delta")?)),
                Symbol::Large => Some(r.i16("twcc delta")?),
            });
        }
        Ok(feedback)
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let arrivals = self.arrivals.get(..self.arrivals.len().min(MAX_STATUSES)).unwrap_or_default();
        put(out, kind::TRANSPORT_FEEDBACK, format::TRANSPORT_CC, |out| {
            out.put_u32(self.sender);
            out.put_u32(self.media);
            out.put_u16(self.base);
            out.put_u16(u16::try_from(arrivals.len()).unwrap_or_default());
            out.put_u32(self.reference << 8 | u32::from(self.count));
            put_chunks(arrivals, out);
            for delta in arrivals.iter().flatten() {
                match u8::try_from(*delta) {
                    Ok(small) => out.put_u8(small),
                    Err(_) => out.put_i16(*delta),
                }
            }
        });
    }
}

/// Reads one chunk of statuses; of the last one only as many as there are packets.
fn read_chunk(r: &mut Reader<'_>, count: usize, symbols: &mut Vec<Symbol>) -> DecodeResult<()> {
    let chunk = r.u16("twcc chunk")?;
    let left = count.saturating_sub(symbols.len());
    let reserved = r.malformed("twcc status");
    if chunk & 0x8000 == 0 {
        let symbol = Symbol::from_bits(chunk >> 13).ok_or(reserved)?;
        let run = usize::from(chunk & 0x1FFF);
        if run == 0 {
            return Err(r.malformed("twcc run length"));
        }
        symbols.extend(core::iter::repeat_n(symbol, run.min(left)));
    } else if chunk & 0x4000 == 0 {
        let bits = (0..14).rev().map(|bit| chunk >> bit & 1);
        symbols.extend(bits.take(left).filter_map(Symbol::from_bits));
    } else {
        for pair in (0..VECTOR).rev().take(left) {
            symbols.push(Symbol::from_bits(chunk >> pair.saturating_mul(2)).ok_or(reserved)?);
        }
    }
    Ok(())
}

/// Writes runs where they say more than a vector does, and vectors otherwise.
fn put_chunks(mut arrivals: &[Option<i16>], out: &mut BytesMut) {
    while let Some(first) = arrivals.first() {
        let symbol = Symbol::of(*first);
        let run = arrivals.iter().take(MAX_RUN).take_while(|next| Symbol::of(**next) == symbol).count();
        let taken = if run >= VECTOR || run == arrivals.len() {
            out.put_u16(symbol.bits() << 13 | u16::try_from(run).unwrap_or_default());
            run
        } else {
            let symbols = arrivals.iter().take(VECTOR).map(|next| Symbol::of(*next).bits());
            let vector = symbols.enumerate().fold(0_u16, |vector, (at, bits)| {
                vector | bits << VECTOR.saturating_sub(at).saturating_sub(1).saturating_mul(2)
            });
            out.put_u16(0xC000 | vector);
            arrivals.len().min(VECTOR)
        };
        arrivals = arrivals.get(taken..).unwrap_or_default();
    }
}
