use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

use super::{countable, kind, put};
use crate::wire::NtpTime;

/// What a receiver says of one source (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The source it is about.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256 of what was expected.
    pub fraction_lost: u8,
    /// Lost since the beginning; negative when duplicates outnumber losses. 24 bits.
    pub cumulative_lost: i32,
    /// The highest sequence number received, and above it how often it wrapped.
    pub highest_sequence: u32,
    /// Interarrival jitter in units of the clock rate.
    pub jitter: u32,
    /// LSR: the middle 32 bits of the last sender report's NTP time; 0 before one.
    pub last_sender_report: u32,
    /// DLSR: how long ago that was, in 2⁻¹⁶ s.
    pub delay_since_last: u32,
}

/// The blocks of one report, at most [`MAX_COUNT`](super::MAX_COUNT).
type Blocks = SmallVec<[ReportBlock; 1]>;

/// SR: what a sender has sent, and which moment a timestamp stands for (RFC 3550 §6.4.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SenderReport {
    /// The sender.
    pub ssrc: u32,
    /// Wall-clock time when the report was sent.
    pub ntp: NtpTime,
    /// The same moment on the clock of the sender's RTP timestamps.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Bytes of payload sent.
    pub octets: u32,
    /// What it receives itself.
    pub reports: Blocks,
}

/// RR: what a receiver receives (RFC 3550 §6.4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiverReport {
    /// The receiver.
    pub ssrc: u32,
    /// What it receives.
    pub reports: Blocks,
}

impl ReportBlock {
    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(Self {
            ssrc: r.u32("report ssrc")?,
            fraction_lost: r.u8("report fraction lost")?,
            cumulative_lost: r.i24("report cumulative lost")?,
            highest_sequence: r.u32("report highest sequence")?,
            jitter: r.u32("report jitter")?,
            last_sender_report: r.u32("report last sr")?,
            delay_since_last: r.u32("report delay since last sr")?,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.ssrc);
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7F_FFFF);
        out.put_u32(u32::from(self.fraction_lost) << 24 | lost.cast_unsigned() & 0xFF_FFFF);
        out.put_u32(self.highest_sequence);
        out.put_u32(self.jitter);
        out.put_u32(self.last_sender_report);
        out.put_u32(self.delay_since_last);
    }
}

fn decode_blocks(count: u8, r: &mut Reader<'_>) -> DecodeResult<Blocks> {
    (0..count).map(|_| ReportBlock::decode(r)).collect()
}

impl SenderReport {
    pub(super) fn decode(count: u8, body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        Ok(Self {
            ssrc: r.u32("sr ssrc")?,
            ntp: NtpTime(r.u64("sr ntp time")?),
            rtp_timestamp: r.u32("sr rtp timestamp")?,
            packets: r.u32("sr packets")?,
            octets: r.u32("sr octets")?,
            reports: decode_blocks(count, &mut r)?,
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let (count, blocks) = countable(&self.reports);
        put(out, kind::SENDER_REPORT, count, |out| {
            out.put_u32(self.ssrc);
            out.put_u64(self.ntp.0);
            out.put_u32(self.rtp_timestamp);
            out.put_u32(self.packets);
            out.put_u32(self.octets);
            blocks.iter().for_each(|block| block.encode(out));
        });
    }
}

impl ReceiverReport {
    pub(super) fn decode(count: u8, body: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        Ok(Self { ssrc: r.u32("rr ssrc")?, reports: decode_blocks(count, &mut r)? })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let (count, blocks) = countable(&self.reports);
        put(out, kind::RECEIVER_REPORT, count, |out| {
            out.put_u32(self.ssrc);
            blocks.iter().for_each(|block| block.encode(out));
        });
    }
}
