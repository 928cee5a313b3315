//! Descriptors of programs and elementary streams (ISO/IEC 13818-1 §2.6, ETSI EN 300 468, SCTE 35 §8).

use arcly_core::FourCc;
use arcly_core::wire::Reader;
use bytes::{BufMut, BytesMut};

/// `descriptor_tag`s that say something here.
pub mod tag {
    /// registration_descriptor: who defined a format.
    pub const REGISTRATION: u8 = 0x05;
    /// ISO_639_language_descriptor.
    pub const LANGUAGE: u8 = 0x0A;
    /// metadata_pointer_descriptor: where a program's metadata is.
    pub const METADATA_POINTER: u8 = 0x25;
    /// metadata_descriptor: what metadata it is.
    pub const METADATA: u8 = 0x26;
    /// DVB teletext_descriptor; it begins with a language.
    pub const TELETEXT: u8 = 0x56;
    /// DVB subtitling_descriptor; it begins with a language.
    pub const SUBTITLING: u8 = 0x59;
    /// DVB AC-3_descriptor.
    pub const AC3: u8 = 0x6A;
    /// DVB enhanced_AC-3_descriptor.
    pub const EAC3: u8 = 0x7A;
    /// DVB extension_descriptor; its first byte is a tag of its own.
    pub const EXTENSION: u8 = 0x7F;
    /// SCTE 35 cue_identifier_descriptor.
    pub const CUE_IDENTIFIER: u8 = 0x8A;
}

/// `descriptor_tag_extension` of Opus, as FFmpeg and GStreamer use it.
pub const OPUS_EXTENSION: u8 = 0x80;

/// Iterates over a loop of descriptors: tag and body. One that runs over the end, and what follows it, is left out.
#[must_use]
pub const fn descriptors(bytes: &[u8]) -> Descriptors<'_> {
    Descriptors { reader: Reader::new(bytes) }
}

/// The descriptors of a loop.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for Descriptors<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let r = &mut self.reader;
        let tag = r.u8("descriptor tag").ok()?;
        let len = r.u8("descriptor length").ok()?;
        Some((tag, r.bytes(usize::from(len), "descriptor").ok()?))
    }
}

impl<'a> Descriptors<'a> {
    /// The body of the first descriptor with that tag.
    #[must_use]
    pub fn get(mut self, tag: u8) -> Option<&'a [u8]> {
        self.find(|(found, _)| *found == tag).map(|(_, body)| body)
    }

    /// `format_identifier` of the registration descriptor.
    #[must_use]
    pub fn registration(self) -> Option<FourCc> {
        Some(FourCc(*self.get(tag::REGISTRATION)?.first_chunk()?))
    }

    /// The three letters of the first language.
    #[must_use]
    pub fn language(self) -> Option<[u8; 3]> {
        let of = |tag| self.get(tag)?.first_chunk().copied();
        [tag::LANGUAGE, tag::SUBTITLING, tag::TELETEXT].into_iter().find_map(of)
    }

    /// `metadata_format_identifier` of the metadata descriptor.
    #[must_use]
    pub fn metadata_format(self) -> Option<FourCc> {
        let mut r = Reader::new(self.get(tag::METADATA)?);
        // 0xFFFF says that an identifier of four bytes follows, for the application and for the format 0xFF.
        if r.u16("metadata application format").ok()? == 0xFFFF {
            r.u32("metadata application format").ok()?;
        }
        if r.u8("metadata format").ok()? != 0xFF {
            return None;
        }
        r.array("metadata format").ok().map(FourCc)
    }

    /// `channel_config_code` of the Opus descriptor.
    #[must_use]
    pub fn opus_channels(mut self) -> Option<u8> {
        self.find_map(|(tag, body)| match body {
            [OPUS_EXTENSION, code, ..] if tag == tag::EXTENSION => Some(*code),
            _ => None,
        })
    }
}

/// Appends a descriptor. What is longer than 255 bytes is left out: no descriptor is.
pub(super) fn put(out: &mut BytesMut, tag: u8, body: &[u8]) {
    if let Ok(len) = u8::try_from(body.len()) {
        out.put_slice(&[tag, len]);
        out.put_slice(body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_descriptors_say() {
        let mut loop_ = BytesMut::new();
        put(&mut loop_, tag::REGISTRATION, b"Opus");
        put(&mut loop_, tag::LANGUAGE, b"deu\0");
        put(&mut loop_, tag::EXTENSION, &[0x80, 2]);
        put(&mut loop_, tag::METADATA, b"\xFF\xFFID3 \xFFID3 \0\x0F");
        let all = descriptors(&loop_);
        assert_eq!(all.registration(), Some(FourCc(*b"Opus")));
        assert_eq!(all.language(), Some(*b"deu"));
        assert_eq!(all.opus_channels(), Some(2));
        assert_eq!(all.metadata_format(), Some(FourCc(*b"ID3 ")));
        assert_eq!(all.count(), 4);
    }

    #[test]
    fn m19_descriptors_that_run_over_the_end_are_left_out() {
        assert_eq!(descriptors(&[5, 4, b'H', b'E', b'V']).count(), 0);
        assert_eq!(descriptors(&[5, 1, b'H', 10, 255, 0]).collect::<Vec<_>>(), [(5, &b"H"[..])]);
        assert_eq!(descriptors(&[5, 1, b'H']).registration(), None);
        assert_eq!(descriptors(&[5]).count(), 0);
    }
}
