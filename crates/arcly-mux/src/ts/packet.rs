//! Transport packets: header and adaptation field (ISO/IEC 13818-1 §2.4.3).

use arcly_core::wire::{DecodeError, DecodeResult, Reader};

/// Bytes of a transport packet.
pub const PACKET_LEN: usize = 188;
/// The first byte of every packet.
pub const SYNC_BYTE: u8 = 0x47;
/// Bytes of a packet behind its header.
pub const BODY_LEN: usize = PACKET_LEN - 4;
/// Packet identifiers that exist: 13 bits.
pub const PIDS: usize = 1 << 13;
/// The packet identifier of packets that only fill a constant bit rate.
pub const NULL_PID: u16 = 0x1FFF;
/// The first packet identifier that is not reserved.
pub(super) const FIRST_FREE_PID: u16 = 0x10;

/// A transport packet, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// `transport_error_indicator`: some bit of the packet is wrong.
    pub error: bool,
    /// `payload_unit_start_indicator`: a PES packet or a section begins in it.
    pub unit_start: bool,
    /// The packet identifier.
    pub pid: u16,
    /// `transport_scrambling_control` is not zero.
    pub scrambled: bool,
    /// `continuity_counter`, 4 bits.
    pub continuity: u8,
    /// The adaptation field.
    pub adaptation: Adaptation,
    /// The payload; `None` when the packet has an adaptation field only.
    pub payload: Option<&'a [u8]>,
}

/// What an adaptation field says, as far as it matters here; nothing when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Adaptation {
    /// Counters and clock may jump here.
    pub discontinuity: bool,
    /// Decoding may start with the unit that begins here.
    pub random_access: bool,
    /// The program clock in 27 MHz ticks, modulo 2³³ × 300.
    pub pcr: Option<u64>,
}

impl<'a> Packet<'a> {
    /// Takes a packet apart.
    ///
    /// # Errors
    /// The first byte is not the sync byte, or the adaptation field is longer than the packet.
    pub fn decode(bytes: &'a [u8; PACKET_LEN]) -> DecodeResult<Self> {
        let [sync, flags, pid_low, control, ..] = *bytes;
        if sync != SYNC_BYTE {
            return Err(DecodeError::Malformed { what: "sync byte", offset: 0 });
        }
        let (_, mut body) = bytes.split_at(4);
        let mut adaptation = Adaptation::default();
        if control & 0x20 != 0 {
            let mut r = Reader::new(body);
            let len = usize::from(r.u8("adaptation field length")?);
            let field = r.bytes(len, "adaptation field").map_err(|error| error.in_closed_unit(4))?;
            adaptation = Adaptation::decode(field)?;
            body = r.rest();
        }
        Ok(Self {
            error: flags & 0x80 != 0,
            unit_start: flags & 0x40 != 0,
            pid: u16::from_be_bytes([flags & 0x1F, pid_low]),
            scrambled: control & 0xC0 != 0,
            continuity: control & 0x0F,
            adaptation,
            payload: (control & 0x10 != 0).then_some(body),
        })
    }
}

impl Adaptation {
    fn decode(field: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(field);
        let Some(flags) = r.peek() else { return Ok(Self::default()) };
        r.u8("adaptation flags")?;
        let pcr = if flags & 0x10 != 0 {
            let [a, b, c, d, e, f] = r.array("PCR").map_err(|error| error.in_closed_unit(4))?;
            let base = u64::from_be_bytes([0, 0, 0, a, b, c, d, e]) >> 7;
            let extension = u64::from(u16::from_be_bytes([e & 1, f]));
            Some(base.saturating_mul(300).saturating_add(extension))
        } else {
            None
        };
        Ok(Self { discontinuity: flags & 0x80 != 0, random_access: flags & 0x40 != 0, pcr })
    }

    /// Bytes of the field without stuffing, its length byte included; 0 when it says nothing.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        match (self.pcr, self.discontinuity || self.random_access) {
            (Some(_), _) => 8,
            (None, true) => 2,
            (None, false) => 0,
        }
    }

    /// Writes the field over the whole of `out`, length byte first, stuffing last. Of `out`, which is at most a
    /// packet's body, all is written; it has at least [`encoded_len`](Self::encoded_len) bytes.
    pub(super) fn encode(&self, out: &mut [u8]) {
        let len = u8::try_from(out.len().saturating_sub(1)).unwrap_or(u8::MAX);
        out.fill(0xFF);
        let flags = u8::from(self.discontinuity) << 7
            | u8::from(self.random_access) << 6
            | u8::from(self.pcr.is_some()) << 4;
        for (to, from) in out.iter_mut().zip([len, flags]) {
            *to = from;
        }
        if let (Some(pcr), Some(to)) = (self.pcr, out.get_mut(2..8)) {
            to.copy_from_slice(&encode_pcr(pcr));
        }
    }
}

fn encode_pcr(pcr: u64) -> [u8; 6] {
    let (base, extension) = ((pcr / 300) & ((1 << 33) - 1), pcr % 300);
    // 33 bits of base, six reserved ones, nine bits of extension.
    let [.., a, b, c, d, e, f] = (base << 15 | 0x7E00 | extension).to_be_bytes();
    [a, b, c, d, e, f]
}

/// The four bytes before a packet's body.
pub(super) const fn header(pid: u16, unit_start: bool, continuity: u8, has: Has) -> [u8; 4] {
    let [high, low] = (pid & 0x1FFF).to_be_bytes();
    let start = if unit_start { 0x40 } else { 0 };
    let control = match has {
        Has::Payload => 0x10,
        Has::Adaptation => 0x20,
        Has::Both => 0x30,
    };
    [SYNC_BYTE, high | start, low, control | continuity & 0x0F]
}

/// `adaptation_field_control`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Has {
    Payload,
    Adaptation,
    Both,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(start: &[u8]) -> [u8; PACKET_LEN] {
        let mut packet = [0xFF; PACKET_LEN];
        packet[..start.len()].copy_from_slice(start);
        packet
    }

    #[test]
    fn iso_13818_1_2_4_3_2_header_case_table() {
        let plain = packet(&[0x47, 0x40, 0x11, 0x17]);
        let decoded = Packet::decode(&plain).unwrap();
        assert!(decoded.unit_start && !decoded.error && !decoded.scrambled);
        assert_eq!((decoded.pid, decoded.continuity), (0x11, 7));
        assert_eq!(decoded.payload.map(<[u8]>::len), Some(184));
        let damaged = packet(&[0x47, 0x9F, 0xFF, 0xD0]);
        let decoded = Packet::decode(&damaged).unwrap();
        assert!(decoded.error && decoded.scrambled && decoded.pid == NULL_PID);
        assert!(Packet::decode(&packet(&[0x46])).is_err());
    }

    #[test]
    fn iso_13818_1_2_4_3_5_clock_reference() {
        // base 0x1_5555_5555, extension 299.
        let field = [0x47, 0, 0x20, 0x30, 7, 0x50, 0xAA, 0xAA, 0xAA, 0xAA, 0xFF, 0x2B];
        let bytes = packet(&field);
        let decoded = Packet::decode(&bytes).unwrap();
        let pcr = 0x1_5555_5555 * 300 + 299;
        assert_eq!(
            decoded.adaptation,
            Adaptation { discontinuity: false, random_access: true, pcr: Some(pcr) }
        );
        assert_eq!(decoded.payload.map(<[u8]>::len), Some(176));
        let mut out = [0; 8];
        decoded.adaptation.encode(&mut out);
        assert_eq!(out, field[4..]);
    }

    #[test]
    fn m17_an_adaptation_field_longer_than_the_packet() {
        for len in 184..=255 {
            for control in [0x20, 0x30] {
                let bytes = packet(&[0x47, 0, 0x20, control, len]);
                assert!(Packet::decode(&bytes).is_err(), "{len}");
            }
        }
        let whole = packet(&[0x47, 0, 0x20, 0x20, 183, 0]);
        assert_eq!(Packet::decode(&whole).unwrap().payload, None);
        let empty = packet(&[0x47, 0, 0x20, 0x30, 0]);
        assert_eq!(Packet::decode(&empty).unwrap().payload.map(<[u8]>::len), Some(183));
        // A clock that does not fit into its field.
        assert!(Packet::decode(&packet(&[0x47, 0, 0x20, 0x30, 3, 0x10])).is_err());
    }
}
