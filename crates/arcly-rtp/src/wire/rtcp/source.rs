use arcly_core::wire::{DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

use super::{RtcpPacket, countable, kind, put};

/// `CNAME`: what all sources of one participant have in common.
const CNAME: u8 = 1;

/// One thing that is said of a source. The text is meant to be UTF-8, and not always is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SdesItem {
    /// Which thing: 1 is CNAME. Never 0.
    pub kind: u8,
    /// At most 255 bytes.
    pub text: Bytes,
}

/// What is said of one source (RFC 3550 §6.5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SdesChunk {
    /// The source.
    pub ssrc: u32,
    /// What is said.
    pub items: SmallVec<[SdesItem; 1]>,
}

/// BYE: sources that are no more (RFC 3550 §6.6).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Goodbye {
    /// Which.
    pub sources: SmallVec<[u32; 1]>,
    /// Why; at most 255 bytes, empty when nothing is said.
    pub reason: Bytes,
}

/// APP: an application's own packet (RFC 3550 §6.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Five bits.
    pub subtype: u8,
    /// The source.
    pub ssrc: u32,
    /// Whose packet it is.
    pub name: [u8; 4],
    /// A whole number of 32-bit words.
    pub data: Bytes,
}

/// The SDES packet that every compound packet has: a source and its canonical name.
#[must_use]
pub fn sdes(ssrc: u32, cname: &str) -> RtcpPacket {
    let text = Bytes::copy_from_slice(cname.as_bytes());
    let items = [SdesItem { kind: CNAME, text }].into_iter().collect();
    RtcpPacket::SourceDescription(vec![SdesChunk { ssrc, items }])
}

impl SdesChunk {
    /// Its canonical name.
    #[must_use]
    pub fn cname(&self) -> Option<&[u8]> {
        self.items.iter().find(|item| item.kind == CNAME).map(|item| &item.text[..])
    }

    fn decode(body: &Bytes, r: &mut Reader<'_>) -> DecodeResult<Self> {
        let mut chunk = Self { ssrc: r.u32("sdes ssrc")?, items: SmallVec::new() };
        loop {
            let kind = r.u8("sdes item")?;
            if kind == 0 {
                break;
            }
            let len = usize::from(r.u8("sdes item length")?);
            let text = r.bytes(len, "sdes item text")?;
            chunk.items.push(SdesItem { kind, text: body.slice_ref(text) });
        }
        // The list ends with zeros up to the next word.
        let aligned = r.position().next_multiple_of(4).saturating_sub(r.position());
        r.skip(aligned, "sdes padding")?;
        Ok(chunk)
    }
}

pub(super) fn decode_chunks(count: u8, body: &Bytes) -> DecodeResult<Vec<SdesChunk>> {
    let mut r = Reader::new(body);
    let mut chunks = Vec::new();
    for _ in 0..count {
        chunks.push(SdesChunk::decode(body, &mut r)?);
    }
    Ok(chunks)
}

pub(super) fn encode_chunks(chunks: &[SdesChunk], out: &mut BytesMut) {
    let (count, chunks) = countable(chunks);
    put(out, kind::SOURCE_DESCRIPTION, count, |out| {
        for chunk in chunks {
            let start = out.len();
            out.put_u32(chunk.ssrc);
            for item in &chunk.items {
                put_text(Some(item.kind), &item.text, out);
            }
            // At least one zero ends the list.
            let len = out.len().saturating_sub(start);
            out.put_bytes(0, len.saturating_add(1).next_multiple_of(4).saturating_sub(len));
        }
    });
}

fn put_text(kind: Option<u8>, text: &[u8], out: &mut BytesMut) {
    let text = text.get(..text.len().min(usize::from(u8::MAX))).unwrap_or_default();
    if let Some(kind) = kind {
        out.put_u8(kind);
    }
    out.put_u8(u8::try_from(text.len()).unwrap_or_default());
    out.put_slice(text);
}

impl Goodbye {
    pub(super) fn decode(count: u8, body: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        let sources = (0..count).map(|_| r.u32("bye ssrc")).collect::<DecodeResult<_>>()?;
        let mut reason = Bytes::new();
        if !r.is_empty() {
            let len = usize::from(r.u8("bye reason length")?);
            reason = body.slice_ref(r.bytes(len, "bye reason")?);
        }
        Ok(Self { sources, reason })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        let (count, sources) = countable(&self.sources);
        put(out, kind::GOODBYE, count, |out| {
            sources.iter().for_each(|source| out.put_u32(*source));
            if !self.reason.is_empty() {
                put_text(None, &self.reason, out);
            }
        });
    }
}

impl App {
    pub(super) fn decode(subtype: u8, body: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new(body);
        Ok(Self {
            subtype,
            ssrc: r.u32("app ssrc")?,
            name: r.array("app name")?,
            data: body.slice_ref(r.rest()),
        })
    }

    pub(super) fn encode(&self, out: &mut BytesMut) {
        put(out, kind::APP, self.subtype, |out| {
            out.put_u32(self.ssrc);
            out.put_slice(&self.name);
            out.put_slice(&self.data);
        });
    }
}
