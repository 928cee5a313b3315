//! Acknowledgements (draft-sharabayko-srt §3.2.4).

use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut as _, BytesMut};

use super::SeqNumber;

/// An acknowledgement: full (with [`rates`](AckReport::rates)), small (without), or light (without a report).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Counts full acknowledgements from 1, for the answer to name it; 0 in the others, which are not answered.
    pub number: u32,
    /// Everything before this packet has come, or is not waited for any more.
    pub next: SeqNumber,
    /// What the receiver has measured.
    pub report: Option<AckReport>,
}

/// What the receiver has measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckReport {
    /// The time of a round trip, in microseconds.
    pub rtt_us: u32,
    /// How much it varies, in microseconds.
    pub rtt_variance_us: u32,
    /// Packets that the receiver has room for.
    pub buffer_available: u32,
    /// Of a full acknowledgement.
    pub rates: Option<AckRates>,
}

/// Rates in a full acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckRates {
    /// Packets that arrive in a second.
    pub packets_per_second: u32,
    /// What the way could carry, by packet pairs.
    pub capacity_packets_per_second: u32,
    /// Bytes that arrive in a second; 0 from peers before SRT 1.0.2, which do not say.
    pub bytes_per_second: u32,
}

impl Ack {
    /// A light acknowledgement.
    #[must_use]
    pub const fn light(next: SeqNumber) -> Self {
        Self { number: 0, next, report: None }
    }

    pub(super) fn decode(r: &mut Reader<'_>, number: u32) -> DecodeResult<Self> {
        let next = r.u32("acknowledged sequence number")?;
        if next > SeqNumber::MAX {
            return Err(r.malformed("acknowledged sequence number"));
        }
        let report = if r.is_empty() { None } else { Some(AckReport::decode(r)?) };
        Ok(Self { number, next: SeqNumber::new(next), report })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.next.value());
        let Some(report) = &self.report else { return };
        out.put_u32(report.rtt_us);
        out.put_u32(report.rtt_variance_us);
        out.put_u32(report.buffer_available);
        let Some(rates) = &report.rates else { return };
        out.put_u32(rates.packets_per_second);
        out.put_u32(rates.capacity_packets_per_second);
        out.put_u32(rates.bytes_per_second);
    }
}

impl AckReport {
    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(Self {
            rtt_us: r.u32("rtt")?,
            rtt_variance_us: r.u32("rtt variance")?,
            buffer_available: r.u32("available buffer")?,
            rates: if r.is_empty() { None } else { Some(AckRates::decode(r)?) },
        })
    }
}

impl AckRates {
    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(Self {
            packets_per_second: r.u32("receiving rate")?,
            capacity_packets_per_second: r.u32("link capacity")?,
            bytes_per_second: if r.is_empty() { 0 } else { r.u32("receiving rate")? },
        })
    }
}
