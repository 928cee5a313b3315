use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::Extension;

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = 12;
/// Contributing sources of one packet.
pub const MAX_CSRC: usize = 15;

const VERSION: u8 = 2;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const MARKER: u8 = 0x80;

/// The fields of the fixed header that say something on their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `M`: what it means is up to the payload format.
    pub marker: bool,
    /// `PT`, 0 to 127.
    pub payload_type: u8,
    /// Rises by one with every packet, and wraps.
    pub sequence: u16,
    /// In units of the payload format's clock rate, with a random offset; wraps.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
}

impl Header {
    /// The fixed header of a packet without sources, extension and padding.
    #[must_use]
    pub const fn encode(self) -> [u8; HEADER_BYTES] {
        let [seq_high, seq_low] = self.sequence.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.to_be_bytes();
        let [s0, s1, s2, s3] = self.ssrc.to_be_bytes();
        let second = self.payload_type & !MARKER | if self.marker { MARKER } else { 0 };
        [VERSION << 6, second, seq_high, seq_low, t0, t1, t2, t3, s0, s1, s2, s3]
    }
}

/// An RTP packet (RFC 3550 §5.1). It is a datagram: nothing in it says how long the payload is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtpPacket {
    /// The fixed header.
    pub header: Header,
    /// Contributing sources, at most [`MAX_CSRC`].
    pub csrc: SmallVec<[u32; 2]>,
    /// A header extension.
    pub extension: Option<Extension>,
    /// The payload, without padding.
    pub payload: Bytes,
    /// Bytes of padding behind the payload, its count included; 0 when there is none.
    pub padding: u8,
}

impl RtpPacket {
    /// Decodes a datagram.
    ///
    /// # Errors
    /// It is shorter than its header says, of another version, or its padding is longer than what there is, or empty.
    pub fn decode(datagram: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new(datagram);
        let [first, second] = r.array("rtp header")?;
        if first >> 6 != VERSION {
            return Err(DecodeError::Malformed { what: "rtp version", offset: 0 });
        }
        let header = Header {
            marker: second & MARKER != 0,
            payload_type: second & !MARKER,
            sequence: r.u16("rtp sequence")?,
            timestamp: r.u32("rtp timestamp")?,
            ssrc: r.u32("rtp ssrc")?,
        };
        let mut packet = Self { header, ..Self::default() };
        for _ in 0..first & 15 {
            packet.csrc.push(r.u32("rtp csrc")?);
        }
        if first & EXTENSION != 0 {
            let profile = r.u16("rtp extension profile")?;
            let words = usize::from(r.u16("rtp extension length")?);
            let data = r.bytes(words.saturating_mul(4), "rtp extension")?;
            packet.extension = Some(Extension { profile, data: datagram.slice_ref(data) });
        }
        let rest = r.rest();
        if first & PADDING != 0 {
            packet.padding = rest.last().copied().unwrap_or(0);
        }
        let len = rest.len().checked_sub(usize::from(packet.padding));
        let payload =
            len.filter(|_| first & PADDING == 0 || packet.padding > 0).and_then(|len| rest.get(..len));
        packet.payload = datagram.slice_ref(payload.ok_or_else(|| r.malformed("rtp padding"))?);
        Ok(packet)
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let extension = self.extension.as_ref().map_or(0, |extension| extension.data.len().saturating_add(4));
        [
            HEADER_BYTES,
            self.csrc.len().saturating_mul(4),
            extension,
            self.payload.len(),
            usize::from(self.padding),
        ]
        .iter()
        .fold(0, |sum, len| sum.saturating_add(*len))
    }

    /// Appends the datagram. Of more than [`MAX_CSRC`] contributing sources the first count; extension data is taken up to
    /// its last whole word.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        let csrc = self.csrc.get(..self.csrc.len().min(MAX_CSRC)).unwrap_or_default();
        let [_, rest @ ..] = self.header.encode();
        let flags =
            if self.padding > 0 { PADDING } else { 0 } | if self.extension.is_some() { EXTENSION } else { 0 };
        out.put_u8(VERSION << 6 | flags | u8::try_from(csrc.len()).unwrap_or_default());
        out.put_slice(&rest);
        csrc.iter().for_each(|source| out.put_u32(*source));
        if let Some(extension) = &self.extension {
            let words = u16::try_from(extension.data.len() / 4).unwrap_or(u16::MAX);
            out.put_u16(extension.profile);
            out.put_u16(words);
            out.put_slice(extension.data.get(..usize::from(words).saturating_mul(4)).unwrap_or_default());
        }
        out.put_slice(&self.payload);
        if let Some(zeros) = self.padding.checked_sub(1) {
            out.put_bytes(0, usize::from(zeros));
            out.put_u8(self.padding);
        }
    }
}
