//! PES packets: their header and their timestamps (ISO/IEC 13818-1 §2.4.3.6, §2.4.3.7).

use arcly_core::wire::{DecodeError, DecodeResult, Reader};

/// `stream_id`s in use here.
pub mod stream_id {
    /// A map of a program stream; has no header extension.
    pub const PROGRAM_STREAM_MAP: u8 = 0xBC;
    /// Private data with a full header: AC-3, Opus, KLV, subtitles.
    pub const PRIVATE_1: u8 = 0xBD;
    /// Padding; has no header extension.
    pub const PADDING: u8 = 0xBE;
    /// Private data without header extension.
    pub const PRIVATE_2: u8 = 0xBF;
    /// The first of the MPEG audio streams.
    pub const AUDIO: u8 = 0xC0;
    /// The first of the video streams.
    pub const VIDEO: u8 = 0xE0;
    /// Metadata with access unit cells.
    pub const METADATA: u8 = 0xFC;
}

/// Timestamps are counted modulo this: 33 bits of 90 kHz.
pub const TIMESTAMP_RANGE: u64 = 1 << 33;

/// Bytes before `PES_packet_length` begins to count.
pub(super) const PREFIX: usize = 6;
/// The header of a PES packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PesHeader {
    /// `stream_id`.
    pub stream_id: u8,
    /// Presentation time in 90 kHz ticks, 33 bits. Absent too when its marker bits are wrong.
    pub pts: Option<u64>,
    /// Decode time, where it differs.
    pub dts: Option<u64>,
    /// `data_alignment_indicator`.
    pub aligned: bool,
}

/// Bytes of the whole packet as its first six bytes say; `None` when they leave it open.
///
/// # Errors
/// The bytes are not the start of a PES packet.
pub fn packet_len(bytes: &[u8]) -> DecodeResult<Option<usize>> {
    let mut r = Reader::new(bytes);
    if r.u24("PES start code")? != 1 {
        return Err(DecodeError::Malformed { what: "PES start code", offset: 0 });
    }
    r.u8("PES stream id")?;
    let len = usize::from(r.u16("PES length")?);
    Ok((len != 0).then_some(len.saturating_add(PREFIX)))
}

impl PesHeader {
    /// Decodes the header of a whole packet; the second value is its payload.
    ///
    /// # Errors
    /// It is no PES packet, or its header is longer than the packet.
    pub fn decode(bytes: &[u8]) -> DecodeResult<(Self, &[u8])> {
        packet_len(bytes)?;
        let mut r = Reader::new(bytes);
        r.u24("PES start code")?;
        let stream_id = r.u8("PES stream id")?;
        r.u16("PES length")?;
        let mut header = Self { stream_id, ..Self::default() };
        if matches!(
            stream_id,
            stream_id::PROGRAM_STREAM_MAP | stream_id::PADDING | stream_id::PRIVATE_2 | 0xF0
                ..=0xF2 | 0xF8 | 0xFF
        ) {
            return Ok((header, r.rest()));
        }
        let closed = |error: DecodeError| error.in_closed_unit(PREFIX);
        let marker = r.u8("PES flags").map_err(closed)?;
        let flags = r.u8("PES flags").map_err(closed)?;
        if marker & 0xC0 != 0x80 {
            return Err(r.malformed("PES flags"));
        }
        header.aligned = marker & 4 != 0;
        let len = usize::from(r.u8("PES header length").map_err(closed)?);
        let mut fields = Reader::new(r.bytes(len, "PES header").map_err(closed)?);
        if flags & 0x80 != 0 {
            header.pts = fields.array("PTS").ok().and_then(decode_timestamp);
        }
        if flags & 0xC0 == 0xC0 {
            header.dts = fields.array("DTS").ok().and_then(decode_timestamp);
        }
        Ok((header, r.rest()))
    }

    /// The header before `payload_len` bytes. A packet that is too long to say its length leaves it open.
    pub(super) fn encode(&self, payload_len: usize, out: &mut Vec<u8>) {
        let fields = match (self.pts, self.dts) {
            (Some(_), Some(_)) => 10_u8,
            (Some(_), None) => 5,
            _ => 0,
        };
        let len = payload_len.saturating_add(3).saturating_add(usize::from(fields));
        let [high, low] = u16::try_from(len).unwrap_or(0).to_be_bytes();
        out.extend_from_slice(&[0, 0, 1, self.stream_id, high, low]);
        let (marker, flags) =
            (if self.aligned { 0x84 } else { 0x80 }, if fields == 10 { 0xC0 } else { 0x80 });
        out.extend_from_slice(&[marker, if fields == 0 { 0 } else { flags }, fields]);
        if let Some(pts) = self.pts {
            out.extend_from_slice(&encode_timestamp(pts, if self.dts.is_some() { 3 } else { 2 }));
            if let Some(dts) = self.dts {
                out.extend_from_slice(&encode_timestamp(dts, 1));
            }
        }
    }
}

fn decode_timestamp([a, b, c, d, e]: [u8; 5]) -> Option<u64> {
    if a & c & e & 1 != 1 {
        return None;
    }
    let high = u64::from(a >> 1 & 7) << 30;
    let middle = u64::from(u16::from_be_bytes([b, c]) >> 1) << 15;
    Some(high | middle | u64::from(u16::from_be_bytes([d, e]) >> 1))
}

/// A timestamp of 33 bits behind the four bits that say which it is.
fn encode_timestamp(ticks: u64, which: u8) -> [u8; 5] {
    let part = |shift: u32| {
        let [.., high, low] = ((ticks >> shift & 0x7FFF) << 1 | 1).to_be_bytes();
        [high, low]
    };
    let [.., top] = (ticks >> 29 & 0x0E | 1).to_be_bytes();
    let ([b, c], [d, e]) = (part(15), part(0));
    [which << 4 | top, b, c, d, e]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(header: PesHeader, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        header.encode(payload.len(), &mut out);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn headers_round_trip() {
        let last = TIMESTAMP_RANGE - 1;
        for (pts, dts) in
            [(None, None), (Some(0), None), (Some(last), Some(last - 1)), (Some(0x1_5555_5555), Some(7))]
        {
            let header = PesHeader { stream_id: stream_id::VIDEO, pts, dts, aligned: pts.is_some() };
            let bytes = encoded(header, b"media");
            assert_eq!(PesHeader::decode(&bytes), Ok((header, &b"media"[..])));
            assert_eq!(packet_len(&bytes), Ok(Some(bytes.len())));
        }
    }

    #[test]
    fn iso_13818_1_2_4_3_7_timestamps_of_a_real_packet() {
        // The first picture that FFmpeg 5.1 writes: PTS 1.48 s, DTS 1.4 s.
        let bytes = b"\0\0\x01\xE0\0\0\x80\xC0\x0A\x31\0\x09\x10\xA1\x11\0\x07\xD8\x61\x09";
        let (header, payload) = PesHeader::decode(bytes).unwrap();
        assert_eq!((header.pts, header.dts), (Some(133_200), Some(126_000)));
        assert_eq!((payload, packet_len(bytes)), (&[9][..], Ok(None)));
    }

    #[test]
    fn m22_headers_that_lie() {
        let good = encoded(PesHeader { stream_id: 0xE0, pts: Some(5), dts: Some(4), aligned: false }, b"x");
        let mut long = good.clone();
        long[8] = 200;
        assert!(PesHeader::decode(&long).is_err(), "header longer than the packet");
        for marker in [9, 11, 13] {
            let mut bad = good.clone();
            bad[marker] &= 0xFE;
            assert_eq!(PesHeader::decode(&bad).unwrap().0.pts, None, "marker bit at {marker}");
        }
        let mut short = good.clone();
        short[8] = 3;
        assert_eq!(PesHeader::decode(&short).unwrap().0.pts, None, "no room for what the flags say");
        assert!(PesHeader::decode(&[0, 0, 2, 0xE0, 0, 0]).is_err());
        for cut in 0..19 {
            assert!(PesHeader::decode(&good[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn streams_without_header_extension_are_all_payload() {
        assert_eq!(PesHeader::decode(&[0, 0, 1, 0xBF, 0, 2, 7, 8]).unwrap().1, [7, 8]);
    }
}
