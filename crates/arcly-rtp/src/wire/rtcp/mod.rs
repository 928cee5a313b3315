//! RTCP: compound packets and what is in them.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 3550 | §6.4 sender and receiver reports | [`SenderReport`], [`ReceiverReport`] |
//! | | §6.5 SDES, §6.6 BYE, §6.7 APP | [`SdesChunk`], [`Goodbye`], [`App`] |
//! | RFC 4585 | §6.2.1 generic NACK, §6.3.1 PLI | [`Nack`], [`PictureLoss`] |
//! | RFC 5104 | §4.3.1 FIR | [`FullIntra`] |
//! | draft-alvestrand-rmcat-remb | REMB | [`Remb`] |
//! | draft-holmer-rmcat-transport-wide-cc-extensions | transport-wide feedback | [`TransportFeedback`] |
//! | RFC 3611 | extended reports | [`Other`]: passed over |
//! | RFC 5506 | reduced size: any packet may come first, and alone | [`compound`] |
//!
//! Guarantees: no panic; a list is never longer than the bytes that came for it, but for the statuses of transport-wide
//! feedback, of which there are [`MAX_STATUSES`] at most.
//!
//! Tolerated: profile extensions behind reports, and packets of types that are not known.

mod feedback;
mod report;
mod source;
mod transport;

pub use feedback::{FullIntra, Nack, NackEntry, PictureLoss, Remb};
pub use report::{ReceiverReport, ReportBlock, SenderReport};
pub use source::{App, Goodbye, SdesChunk, SdesItem, sdes};
pub use transport::{MAX_STATUSES, TransportFeedback};

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

/// Packets of one compound packet that are looked at.
pub const MAX_PACKETS: usize = 64;
/// What a five-bit count can say: report blocks, chunks, sources.
pub const MAX_COUNT: usize = 31;

const VERSION: u8 = 2;
const HEADER_BYTES: usize = 4;

/// Packet types (RFC 3550 §12.1, RFC 4585 §6.1).
mod kind {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SOURCE_DESCRIPTION: u8 = 202;
    pub(super) const GOODBYE: u8 = 203;
    pub(super) const APP: u8 = 204;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
}

/// Feedback message types: what the count field says in feedback packets.
mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const TRANSPORT_CC: u8 = 15;
    pub(super) const PICTURE_LOSS: u8 = 1;
    pub(super) const FULL_INTRA: u8 = 4;
    pub(super) const APPLICATION: u8 = 15;
}

/// One packet of a compound packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RtcpPacket {
    /// SR.
    SenderReport(SenderReport),
    /// RR.
    ReceiverReport(ReceiverReport),
    /// SDES, at most [`MAX_COUNT`] chunks.
    SourceDescription(Vec<SdesChunk>),
    /// BYE.
    Goodbye(Goodbye),
    /// APP.
    App(App),
    /// Packets that are missing.
    Nack(Nack),
    /// When packets arrived.
    TransportFeedback(TransportFeedback),
    /// A picture cannot be decoded.
    PictureLoss(PictureLoss),
    /// A keyframe is wanted.
    FullIntra(FullIntra),
    /// What the receiver believes to be the available bit rate.
    Remb(Remb),
    /// Anything else: extended reports, other feedback.
    Other(Other),
}

/// A packet that is carried, not understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Other {
    /// `PT`.
    pub kind: u8,
    /// The five bits that are a count or a subtype.
    pub count: u8,
    /// What is behind the first four bytes, without padding; a whole number of 32-bit words.
    pub body: Bytes,
}

/// The packets in a datagram; an error is the last item. Everything up to there counts.
#[must_use]
pub const fn compound(datagram: &Bytes) -> Compound<'_> {
    Compound { datagram, at: 0, seen: 0 }
}

/// Iterates over the packets of a compound packet.
#[derive(Clone, Debug)]
pub struct Compound<'a> {
    datagram: &'a Bytes,
    at: usize,
    seen: usize,
}

impl Compound<'_> {
    fn packet(&mut self) -> DecodeResult<RtcpPacket> {
        let mut r = Reader::new(self.datagram.get(self.at..).unwrap_or_default());
        if self.seen >= MAX_PACKETS {
            return Err(DecodeError::LimitExceeded { what: "rtcp_packets", limit: MAX_PACKETS as u64 });
        }
        self.seen = self.seen.saturating_add(1);
        let [first, kind] = r.array("rtcp header")?;
        let words = usize::from(r.u16("rtcp length")?);
        if first >> 6 != VERSION {
            return Err(DecodeError::Malformed { what: "rtcp version", offset: self.at });
        }
        let mut body = r.bytes(words.saturating_mul(4), "rtcp packet")?;
        self.at = self.at.saturating_add(HEADER_BYTES).saturating_add(body.len());
        if first & 0x20 != 0 {
            let padding = usize::from(body.last().copied().unwrap_or(0));
            let len = body.len().checked_sub(padding).filter(|_| padding > 0 && padding.is_multiple_of(4));
            let len = len.ok_or(DecodeError::Malformed { what: "rtcp padding", offset: self.at })?;
            body = body.get(..len).unwrap_or_default();
        }
        RtcpPacket::decode(kind, first & 0x1F, &self.datagram.slice_ref(body))
    }
}

impl Iterator for Compound<'_> {
    type Item = DecodeResult<RtcpPacket>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.datagram.len() {
            return None;
        }
        let at = self.at;
        let packet = self.packet().map_err(|error| error.in_closed_unit(at));
        if packet.is_err() {
            self.at = self.datagram.len();
        }
        Some(packet)
    }
}

impl RtcpPacket {
    fn decode(kind: u8, count: u8, body: &Bytes) -> DecodeResult<Self> {
        Ok(match (kind, count) {
            (kind::SENDER_REPORT, _) => Self::SenderReport(SenderReport::decode(count, body)?),
            (kind::RECEIVER_REPORT, _) => Self::ReceiverReport(ReceiverReport::decode(count, body)?),
            (kind::SOURCE_DESCRIPTION, _) => Self::SourceDescription(source::decode_chunks(count, body)?),
            (kind::GOODBYE, _) => Self::Goodbye(Goodbye::decode(count, body)?),
            (kind::APP, _) => Self::App(App::decode(count, body)?),
            (kind::TRANSPORT_FEEDBACK, format::NACK) => Self::Nack(Nack::decode(body)?),
            (kind::TRANSPORT_FEEDBACK, format::TRANSPORT_CC) => {
                Self::TransportFeedback(TransportFeedback::decode(body)?)
            }
            (kind::PAYLOAD_FEEDBACK, format::PICTURE_LOSS) => Self::PictureLoss(PictureLoss::decode(body)?),
            (kind::PAYLOAD_FEEDBACK, format::FULL_INTRA) => Self::FullIntra(FullIntra::decode(body)?),
            (kind::PAYLOAD_FEEDBACK, format::APPLICATION) if Remb::is_in(body) => {
                Self::Remb(Remb::decode(body)?)
            }
            _ => Self::Other(Other { kind, count, body: body.clone() }),
        })
    }

    /// Appends the packet. Lists are cut to what their count can say, and the whole to 2¹⁸ bytes.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::SenderReport(report) => report.encode(out),
            Self::ReceiverReport(report) => report.encode(out),
            Self::SourceDescription(chunks) => source::encode_chunks(chunks, out),
            Self::Goodbye(goodbye) => goodbye.encode(out),
            Self::App(app) => app.encode(out),
            Self::Nack(nack) => nack.encode(out),
            Self::TransportFeedback(feedback) => feedback.encode(out),
            Self::PictureLoss(loss) => loss.encode(out),
            Self::FullIntra(intra) => intra.encode(out),
            Self::Remb(remb) => remb.encode(out),
            Self::Other(other) => put(out, other.kind, other.count, |out| out.put_slice(&other.body)),
        }
    }
}

/// Appends a packet: its header, what `body` writes, and zeros up to a whole word.
fn put(out: &mut BytesMut, kind: u8, count: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_slice(&[VERSION << 6 | count & 0x1F, kind, 0, 0]);
    body(out);
    let len = out.len().saturating_sub(start);
    out.put_bytes(0, len.next_multiple_of(4).saturating_sub(len));
    let words = out.len().saturating_sub(start).saturating_sub(HEADER_BYTES) / 4;
    let words = u16::try_from(words).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start.saturating_add(2)..start.saturating_add(4)) {
        field.copy_from_slice(&words.to_be_bytes());
    }
}

/// As many as a five-bit count can say.
fn countable<T>(list: &[T]) -> (u8, &[T]) {
    let list = list.get(..list.len().min(MAX_COUNT)).unwrap_or_default();
    (u8::try_from(list.len()).unwrap_or_default(), list)
}
