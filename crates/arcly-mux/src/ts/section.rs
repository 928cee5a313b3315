//! Sections: their assembly from packets, their header and their checksum (ISO/IEC 13818-1 §2.4.4, annex A).

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, BytesMut};

/// Bytes of a section of the program tables, from its table id to its checksum.
pub const MAX_TABLE_BYTES: usize = 1_024;
/// Bytes of a private section.
pub const MAX_SECTION_BYTES: usize = 4_096;

/// Bytes before `section_length` begins to count.
const PREFIX: usize = 3;
/// The byte that fills what follows the last section of a packet.
const STUFFING: u8 = 0xFF;

#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a constant: checked when compiled"
)]
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u32) << 24;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000_0000 != 0 { crc << 1 ^ 0x04C1_1DB7 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// The checksum of sections, CRC-32/MPEG-2; over a section with its checksum it is zero.
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        let [top, ..] = crc.to_be_bytes();
        crc << 8 ^ CRC_TABLE.get(usize::from(top ^ byte)).copied().unwrap_or_default()
    })
}

/// Puts sections together from the payloads of one packet identifier.
///
/// Holds at most one section of at most `max` bytes. Longer ones are passed over.
#[derive(Clone, Debug)]
pub struct SectionAssembler {
    max: usize,
    buffer: Vec<u8>,
    /// A section has begun and is not whole yet.
    open: bool,
}

impl SectionAssembler {
    /// An assembler of sections of at most `max` bytes.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, buffer: Vec::new(), open: false }
    }

    /// Forgets what has begun: packets were lost.
    pub const fn reset(&mut self) {
        self.open = false;
    }

    /// Takes a packet's payload and hands over the sections that are whole with it, from the table id on.
    ///
    /// # Errors
    /// The pointer points behind the packet, or a section says that it is longer than allowed; what the packet has
    /// to say is lost.
    pub fn push(
        &mut self,
        payload: &[u8],
        unit_start: bool,
        mut each: impl FnMut(&[u8]),
    ) -> DecodeResult<()> {
        if !unit_start {
            if self.open {
                self.take(payload, &mut each)?;
            }
            return Ok(());
        }
        let mut r = Reader::new(payload);
        let pointer = usize::from(r.u8("pointer field")?);
        let tail = r.bytes(pointer, "pointer field").map_err(|error| {
            self.reset();
            error.in_closed_unit(0)
        })?;
        if self.open {
            self.take(tail, &mut each)?;
        }
        self.reset();
        let mut rest = r.rest();
        while rest.first().is_some_and(|&table| table != STUFFING) {
            self.buffer.clear();
            self.open = true;
            rest = self.take(rest, &mut each)?;
        }
        Ok(())
    }

    /// Takes bytes of the open section; gives back what lies behind its end.
    fn take<'a>(&mut self, bytes: &'a [u8], each: &mut impl FnMut(&[u8])) -> DecodeResult<&'a [u8]> {
        let missing = |have: usize, len: usize| len.saturating_sub(have).min(bytes.len());
        let prefix = missing(self.buffer.len(), PREFIX);
        let (head, rest) = bytes.split_at_checked(prefix).unwrap_or((bytes, &[]));
        self.buffer.extend_from_slice(head);
        let Some(&[_, high, low]) = self.buffer.first_chunk::<PREFIX>() else { return Ok(&[]) };
        let len = usize::from(u16::from_be_bytes([high & 0x0F, low])).saturating_add(PREFIX);
        if len > self.max {
            self.reset();
            return Err(DecodeError::LimitExceeded { what: "section", limit: self.max as u64 });
        }
        let count = len.saturating_sub(self.buffer.len()).min(rest.len());
        let (body, rest) = rest.split_at_checked(count).unwrap_or((rest, &[]));
        self.buffer.extend_from_slice(body);
        if self.buffer.len() < len {
            return Ok(&[]);
        }
        self.open = false;
        each(&self.buffer);
        Ok(rest)
    }
}

/// A section with the long header of the program tables; its checksum is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'a> {
    /// `table_id`.
    pub table: u8,
    /// `transport_stream_id` or `program_number`.
    pub extension: u16,
    /// `version_number`, 5 bits.
    pub version: u8,
    /// The table is in force, not announced for later.
    pub current: bool,
    /// What lies between the header and the checksum.
    pub body: &'a [u8],
}

/// Bytes of the header and the checksum that `section_length` counts.
const COUNTED: usize = 9;

impl<'a> Section<'a> {
    /// Takes a whole section apart.
    ///
    /// # Errors
    /// It has not the long header, its length or its checksum is wrong.
    pub fn decode(bytes: &'a [u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(bytes);
        let table = r.u8("table id")?;
        let length = r.u16("section length")?;
        if length & 0x8000 == 0 || usize::from(length & 0x0FFF) != r.remaining() {
            return Err(r.malformed("section length"));
        }
        if crc32(bytes) != 0 {
            return Err(DecodeError::Malformed { what: "section checksum", offset: bytes.len() });
        }
        let closed = |error: DecodeError| error.in_closed_unit(PREFIX);
        let extension = r.u16("table id extension").map_err(closed)?;
        let version = r.u8("version").map_err(closed)?;
        r.u16("section number").map_err(closed)?;
        let len = r.remaining().checked_sub(4).ok_or_else(|| r.malformed("section checksum"))?;
        let body = r.bytes(len, "section body")?;
        Ok(Self { table, extension, version: version >> 1 & 0x1F, current: version & 1 == 1, body })
    }

    /// Appends the section, header and checksum made; `None` when its body is too long for a program table.
    #[must_use]
    pub fn encode(&self, out: &mut BytesMut) -> Option<()> {
        let length = self.body.len().saturating_add(COUNTED);
        if length.saturating_add(PREFIX) > MAX_TABLE_BYTES {
            return None;
        }
        let start = out.len();
        out.put_u8(self.table);
        out.put_u16(0xB000 | u16::try_from(length).ok()?);
        out.put_u16(self.extension);
        out.put_u8(0xC0 | self.version << 1 | u8::from(self.current));
        // One section, the first and the last.
        out.put_u16(0);
        out.put_slice(self.body);
        let crc = crc32(out.get(start..).unwrap_or_default());
        out.put_u32(crc);
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The PAT that FFmpeg 5.1 writes: program 1 on 0x1000.
    const PAT: [u8; 16] = [0, 0xB0, 0x0D, 0, 1, 0xC1, 0, 0, 0, 1, 0xF0, 0, 0x2A, 0xB1, 0x04, 0xB2];

    fn collect(assembler: &mut SectionAssembler, payloads: &[(&[u8], bool)]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for (payload, start) in payloads {
            let _ = assembler.push(payload, *start, |section| found.push(section.to_vec()));
        }
        found
    }

    #[test]
    fn the_checksum_of_the_catalogue_and_of_a_real_table() {
        // The check value of CRC-32/MPEG-2 in the catalogue of CRC algorithms.
        assert_eq!(crc32(b"123456789"), 0x0376_E6E7);
        assert_eq!(crc32(&PAT), 0);
    }

    #[test]
    fn a_real_table_is_decoded_and_encoded() {
        let section = Section::decode(&PAT).unwrap();
        assert_eq!((section.table, section.extension, section.version, section.current), (0, 1, 0, true));
        assert_eq!(section.body, [0, 1, 0xF0, 0]);
        let mut out = BytesMut::new();
        section.encode(&mut out).unwrap();
        assert_eq!(out[..], PAT);
    }

    #[test]
    fn sections_are_put_together_however_they_are_cut() {
        let two = [PAT, PAT].concat();
        for cut in 0..=two.len() {
            let mut assembler = SectionAssembler::new(MAX_TABLE_BYTES);
            let first = [&[0], &two[..cut]].concat();
            let found = collect(&mut assembler, &[(&first, true), (&two[cut..], false)]);
            // A section that begins in a packet makes that packet a start, so a cut between the two hides the second.
            let expect = if cut <= PAT.len() { 1 } else { 2 };
            assert_eq!(found.len(), if cut == 0 { 0 } else { expect }, "{cut}");
        }
        let mut assembler = SectionAssembler::new(MAX_TABLE_BYTES);
        let second = [&[6], &PAT[10..], &PAT, &[0xFF; 20]].concat();
        let found = collect(&mut assembler, &[(&[&[0], &PAT[..10]].concat(), true), (&second, true)]);
        assert_eq!(found, [PAT.to_vec(), PAT.to_vec()]);
    }

    #[test]
    fn m17_a_pointer_behind_the_packet_and_m18_lengths_that_lie() {
        let mut assembler = SectionAssembler::new(MAX_TABLE_BYTES);
        assert!(assembler.push(&[183; 183], true, |_| panic!()).is_err());
        let long = [&[0, 0, 0xBF, 0xFF], &[0; 180][..]].concat();
        assert_eq!(
            assembler.push(&long, true, |_| panic!()),
            Err(DecodeError::LimitExceeded { what: "section", limit: 1_024 })
        );
        // What follows does not belong to it.
        assembler.push(&[0; 184], false, |_| panic!()).unwrap();
        let mut bad = PAT;
        bad[9] ^= 1;
        assert_eq!(
            Section::decode(&bad),
            Err(DecodeError::Malformed { what: "section checksum", offset: 16 })
        );
    }

    #[test]
    fn m34_a_table_cut_or_changed_anywhere_is_refused() {
        for cut in 0..PAT.len() {
            assert!(Section::decode(&PAT[..cut]).is_err(), "{cut}");
        }
        for at in 0..PAT.len() {
            for flip in 1..=255 {
                let mut bytes = PAT;
                bytes[at] ^= flip;
                assert!(Section::decode(&bytes).is_err(), "{at} {flip}");
            }
        }
    }
}
