//! Program tables: which programs there are, and what each consists of (ISO/IEC 13818-1 §2.4.4.3, §2.4.4.8).

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

use super::packet::{FIRST_FREE_PID, NULL_PID};
use super::section::Section;

/// Programs of one transport stream that are looked at.
pub const MAX_PROGRAMS: usize = 16;
/// Elementary streams of one program that are looked at.
pub const MAX_STREAMS: usize = 32;

/// The packet identifier of the program association table.
pub(super) const PAT_PID: u16 = 0;
const PAT_TABLE: u8 = 0;
const PMT_TABLE: u8 = 2;

/// A program association table, or a section of a long one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pat {
    /// `transport_stream_id`.
    pub transport_stream: u16,
    /// `version_number`, 5 bits.
    pub version: u8,
    /// `program_number` and the packet identifier of its map, the network information left out; at most
    /// [`MAX_PROGRAMS`].
    pub programs: Vec<(u16, u16)>,
}

impl Pat {
    /// Decodes a section that is in force.
    ///
    /// # Errors
    /// It is of another table.
    pub fn decode(section: &Section<'_>) -> DecodeResult<Self> {
        if section.table != PAT_TABLE {
            return Err(DecodeError::Malformed { what: "PAT table id", offset: 0 });
        }
        let programs = section.body.chunks_exact(4).filter_map(|entry| {
            let [a, b, c, d] = *entry.first_chunk()?;
            let (number, pid) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c & 0x1F, d]));
            (number != 0 && is_free(pid)).then_some((number, pid))
        });
        let programs = programs.take(MAX_PROGRAMS).collect();
        Ok(Self { transport_stream: section.extension, version: section.version, programs })
    }

    /// Appends the table as a section.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut body = BytesMut::with_capacity(4 * MAX_PROGRAMS);
        for (number, pid) in self.programs.iter().take(MAX_PROGRAMS) {
            body.put_u16(*number);
            body.put_u16(0xE000 | pid);
        }
        let section = Section {
            table: PAT_TABLE,
            extension: self.transport_stream,
            version: self.version,
            current: true,
            body: &body,
        };
        // Sixteen programs always fit.
        let _ = section.encode(out);
    }
}

/// An elementary stream of a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// `stream_type`.
    pub stream_type: u8,
    /// Its packet identifier.
    pub pid: u16,
    /// Its descriptors; see [`descriptors`](super::descriptor::descriptors).
    pub descriptors: Bytes,
}

/// A program map table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pmt {
    /// `program_number`.
    pub program: u16,
    /// `version_number`, 5 bits.
    pub version: u8,
    /// Where the program's clock is; [`NULL_PID`] when it has none.
    pub pcr_pid: u16,
    /// Descriptors of the program as a whole.
    pub descriptors: Bytes,
    /// Its elementary streams, at most [`MAX_STREAMS`], each identifier once.
    pub streams: Vec<StreamInfo>,
}

impl Pmt {
    /// Decodes a section that is in force.
    ///
    /// # Errors
    /// It is of another table, or a loop runs over its end.
    pub fn decode(section: &Section<'_>) -> DecodeResult<Self> {
        let mut r = Reader::new(section.body);
        if section.table != PMT_TABLE {
            return Err(r.malformed("PMT table id"));
        }
        let closed = |error: DecodeError| error.in_closed_unit(0);
        let pcr_pid = r.u16("PCR PID").map_err(closed)? & 0x1FFF;
        let descriptors = descriptor_loop(&mut r).map_err(closed)?;
        let mut streams = Vec::<StreamInfo>::new();
        while !r.is_empty() {
            let stream_type = r.u8("stream type").map_err(closed)?;
            let pid = r.u16("elementary PID").map_err(closed)? & 0x1FFF;
            let descriptors = descriptor_loop(&mut r).map_err(closed)?;
            let is_new = streams.iter().all(|known| known.pid != pid);
            if streams.len() < MAX_STREAMS && is_free(pid) && is_new {
                streams.push(StreamInfo { stream_type, pid, descriptors });
            }
        }
        Ok(Self { program: section.extension, version: section.version, pcr_pid, descriptors, streams })
    }

    /// Appends the table as a section; streams that do not fit into one are left out.
    pub fn encode(&self, out: &mut BytesMut) {
        let mut count = self.streams.len();
        while self.encode_first(count, out).is_none() && count > 0 {
            count = count.saturating_sub(1);
        }
    }

    fn encode_first(&self, count: usize, out: &mut BytesMut) -> Option<()> {
        let mut body = BytesMut::with_capacity(256);
        body.put_u16(0xE000 | self.pcr_pid);
        put_descriptor_loop(&mut body, &self.descriptors)?;
        for stream in self.streams.iter().take(count) {
            body.put_u8(stream.stream_type);
            body.put_u16(0xE000 | stream.pid);
            put_descriptor_loop(&mut body, &stream.descriptors)?;
        }
        let (table, extension, version) = (PMT_TABLE, self.program, self.version);
        Section { table, extension, version, current: true, body: &body }.encode(out)
    }
}

/// A packet identifier that a program may use.
const fn is_free(pid: u16) -> bool {
    pid >= FIRST_FREE_PID && pid < NULL_PID
}

fn descriptor_loop(r: &mut Reader<'_>) -> DecodeResult<Bytes> {
    let len = r.u16("descriptor loop length")? & 0x0FFF;
    r.bytes(usize::from(len), "descriptor loop").map(Bytes::copy_from_slice)
}

fn put_descriptor_loop(out: &mut BytesMut, descriptors: &[u8]) -> Option<()> {
    let len = u16::try_from(descriptors.len()).ok().filter(|len| *len < 1 << 10)?;
    out.put_u16(0xF000 | len);
    out.put_slice(descriptors);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The PMT that FFmpeg 5.1 writes for H.264 and AAC.
    const PMT: [u8; 26] =
        *b"\x02\xB0\x17\0\x01\xC1\0\0\xE1\0\xF0\0\x1B\xE1\0\xF0\0\x0F\xE1\x01\xF0\0\x2F\x44\xB9\x9B";

    fn section(table: u8, body: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        Section { table, extension: 1, version: 0, current: true, body }.encode(&mut out).unwrap();
        out
    }

    #[test]
    fn a_real_map_is_decoded_and_encoded() {
        let pmt = Pmt::decode(&Section::decode(&PMT).unwrap()).unwrap();
        assert_eq!((pmt.program, pmt.version, pmt.pcr_pid), (1, 0, 0x100));
        let streams: Vec<_> =
            pmt.streams.iter().map(|s| (s.stream_type, s.pid, &s.descriptors[..])).collect();
        assert_eq!(streams, [(0x1B, 0x100, &b""[..]), (0x0F, 0x101, b"")]);
        let mut out = BytesMut::new();
        pmt.encode(&mut out);
        assert_eq!(out[..], PMT);
    }

    #[test]
    fn m18_of_300_programs_sixteen_are_looked_at() {
        let body: Vec<u8> =
            (0..250u16).flat_map(|n| [n.to_be_bytes(), (0xE020 + n).to_be_bytes()].concat()).collect();
        let bytes = section(0, &body);
        let pat = Pat::decode(&Section::decode(&bytes).unwrap()).unwrap();
        assert_eq!(pat.programs.len(), MAX_PROGRAMS);
        assert_eq!(pat.programs[0], (1, 0x21), "program 0 is the network");
        let mut out = BytesMut::new();
        pat.encode(&mut out);
        assert_eq!(Pat::decode(&Section::decode(&out).unwrap()), Ok(pat));
    }

    #[test]
    fn m19_maps_that_point_at_reserved_identifiers_or_hold_too_much() {
        let pat = section(0, &[0, 1, 0xE0, 0, 0, 2, 0xFF, 0xFF, 0, 3, 0xE0, 0x0F, 0, 4, 0xE1, 0]);
        assert_eq!(Pat::decode(&Section::decode(&pat).unwrap()).unwrap().programs, [(4, 0x100)]);
        let mut body = vec![0xE1, 0, 0xF0, 0];
        for n in 0..190_u16 {
            body.push(0x1B);
            body.extend_from_slice(&(0xE020 + n / 2).to_be_bytes());
            body.extend_from_slice(&[0xF0, 0]);
        }
        body.extend_from_slice(&[0x1B, 0xFF, 0xFF, 0xF0, 0, 0x1B, 0xE0, 0, 0xF0, 0]);
        let bytes = section(2, &body);
        let pmt = Pmt::decode(&Section::decode(&bytes).unwrap()).unwrap();
        assert_eq!(pmt.streams.len(), MAX_STREAMS);
        for body in [&[0xE1, 0, 0xF0, 9][..], &[0xE1, 0, 0xF0, 0, 0x1B, 0xE1, 0, 0xF0, 1], &[0xE1]] {
            let bytes = section(2, body);
            assert!(Pmt::decode(&Section::decode(&bytes).unwrap()).is_err(), "{body:?}");
        }
    }
}
