//! The elementary stream descriptor in `esds` boxes and MPEG-2 descriptors.
//!
//! | document | section | here |
//! |---|---|---|
//! | ISO/IEC 14496-1 | §7.2.6.5 ES_Descriptor | [`EsDescriptor`] |
//! | | §7.2.6.6 DecoderConfigDescriptor | its fields from `object_type` on |
//! | | §8.3.3 expandable classes | lengths of up to four bytes |
//!
//! Guarantees: no panic, no recursion. Tolerated: descriptors that are not known are passed over; lengths in
//! the padded form (`80 80 80 nn`) that most writers use. Written lengths are the shortest form.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, Bytes, BytesMut};

mod tag {
    pub(super) const ES: u8 = 3;
    pub(super) const DECODER_CONFIG: u8 = 4;
    pub(super) const DECODER_SPECIFIC: u8 = 5;
    pub(super) const SL_CONFIG: u8 = 6;
}

/// `objectTypeIndication`s in use (MP4 registration authority).
pub mod object_type {
    /// MPEG-4 audio: an AudioSpecificConfig follows.
    pub const AAC: u8 = 0x40;
    /// MPEG-2 AAC LC.
    pub const AAC_MPEG2_LC: u8 = 0x67;
    /// MPEG-2 audio, low rates.
    pub const MP3_MPEG2: u8 = 0x69;
    /// MPEG-1 audio.
    pub const MP3: u8 = 0x6B;
}

/// `streamType` of audio.
pub const STREAM_TYPE_AUDIO: u8 = 5;

/// An elementary stream descriptor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EsDescriptor {
    /// `ES_ID`; 0 in MP4 files.
    pub es_id: u16,
    /// `objectTypeIndication`.
    pub object_type: u8,
    /// `streamType`.
    pub stream_type: u8,
    /// `bufferSizeDB` in bytes, 24 bits.
    pub buffer_size: u32,
    /// `maxBitrate` in bits per second.
    pub max_bitrate: u32,
    /// `avgBitrate` in bits per second; 0 for variable.
    pub avg_bitrate: u32,
    /// `DecoderSpecificInfo`: for AAC the AudioSpecificConfig.
    pub specific: Bytes,
}

impl EsDescriptor {
    /// Decodes a descriptor (the body of an `esds` box without version and flags).
    pub fn decode(data: &Bytes) -> DecodeResult<Self> {
        let mut r = Reader::new(data);
        let at = r;
        let (tag, body) = descriptor(&mut r)?;
        if tag != tag::ES {
            return Err(at.malformed("ES descriptor"));
        }
        Self::body(Reader::new(body), data).map_err(|error| error.in_closed_unit(at.position()))
    }

    fn body(mut r: Reader<'_>, data: &Bytes) -> DecodeResult<Self> {
        let mut es = Self { es_id: r.u16("ES_ID")?, ..Self::default() };
        let flags = r.u8("ES flags")?;
        if flags & 0x80 != 0 {
            r.skip(2, "dependsOn_ES_ID")?;
        }
        if flags & 0x40 != 0 {
            let len = usize::from(r.u8("URL length")?);
            r.skip(len, "URL")?;
        }
        if flags & 0x20 != 0 {
            r.skip(2, "OCR_ES_ID")?;
        }
        while !r.is_empty() {
            let (tag, body) = descriptor(&mut r)?;
            if tag == tag::DECODER_CONFIG {
                es.decoder_config(Reader::new(body), data)?;
                return Ok(es);
            }
        }
        Err(r.malformed("DecoderConfigDescriptor"))
    }

    fn decoder_config(&mut self, mut r: Reader<'_>, data: &Bytes) -> DecodeResult<()> {
        self.object_type = r.u8("objectTypeIndication")?;
        self.stream_type = r.u8("streamType")? >> 2;
        self.buffer_size = r.u24("bufferSizeDB")?;
        self.max_bitrate = r.u32("maxBitrate")?;
        self.avg_bitrate = r.u32("avgBitrate")?;
        while !r.is_empty() {
            let (tag, body) = descriptor(&mut r)?;
            if tag == tag::DECODER_SPECIFIC {
                self.specific = data.slice_ref(body);
                break;
            }
        }
        Ok(())
    }

    /// The descriptor with a predefined SLConfigDescriptor for MP4 files.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut config = BytesMut::with_capacity(self.specific.len().saturating_add(18));
        config.put_slice(&[self.object_type, (self.stream_type << 2) | 1]);
        config.put_uint(u64::from(self.buffer_size & 0xFF_FFFF), 3);
        config.put_u32(self.max_bitrate);
        config.put_u32(self.avg_bitrate);
        if !self.specific.is_empty() {
            put_descriptor(&mut config, tag::DECODER_SPECIFIC, &self.specific);
        }
        let mut body = BytesMut::with_capacity(config.len().saturating_add(11));
        body.put_u16(self.es_id);
        body.put_u8(0);
        put_descriptor(&mut body, tag::DECODER_CONFIG, &config);
        put_descriptor(&mut body, tag::SL_CONFIG, &[2]);
        let mut out = BytesMut::with_capacity(body.len().saturating_add(5));
        put_descriptor(&mut out, tag::ES, &body);
        out.freeze()
    }
}

fn descriptor<'a>(r: &mut Reader<'a>) -> DecodeResult<(u8, &'a [u8])> {
    let tag = r.u8("descriptor tag")?;
    let mut len = 0_usize;
    for _ in 0..4 {
        let byte = r.u8("descriptor length")?;
        len = (len << 7) | usize::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Ok((tag, r.bytes(len, "descriptor")?));
        }
    }
    Err(DecodeError::Malformed { what: "descriptor length", offset: r.position() })
}

/// Writes a descriptor; the length takes as few bytes as it needs, of at most four.
fn put_descriptor(out: &mut BytesMut, tag: u8, body: &[u8]) {
    out.put_u8(tag);
    let len = body.len();
    for shift in [21_u32, 14, 7] {
        let part = len.checked_shr(shift).unwrap_or_default();
        if part > 0 {
            out.put_u8(0x80 | u8::try_from(part & 0x7F).unwrap_or_default());
        }
    }
    out.put_u8(u8::try_from(len & 0x7F).unwrap_or_default());
    out.put_slice(body);
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "tests choose their numbers")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aac() -> EsDescriptor {
        EsDescriptor {
            es_id: 1,
            object_type: object_type::AAC,
            stream_type: STREAM_TYPE_AUDIO,
            buffer_size: 0x01_0203,
            max_bitrate: 128_000,
            avg_bitrate: 96_000,
            specific: Bytes::from_static(&[0x12, 0x10]),
        }
    }

    #[test]
    fn padded_lengths_and_optional_fields_are_understood() {
        // As FFmpeg writes it, with every length in four bytes, and with all three optional fields.
        let config =
            [&[0x40, 0x15, 1, 2, 3][..], &128_000u32.to_be_bytes(), &96_000u32.to_be_bytes()].concat();
        let config = [&config[..], &[5, 0x80, 0x80, 0x80, 2, 0x12, 0x10]].concat();
        let body = [&[0, 1, 0xE0, 0, 7, 2, b'u', b'r', 0, 9, 4, 0x80, 0x80, 0x80, 20][..], &config].concat();
        let body = [&body[..], &[6, 0x80, 0x80, 0x80, 1, 2]].concat();
        let bytes = [&[3, 0x80, 0x80, 0x80, u8::try_from(body.len()).unwrap()][..], &body].concat();
        assert_eq!(EsDescriptor::decode(&bytes.into()), Ok(aac()));
    }

    #[test]
    fn m34_every_strict_prefix_is_incomplete() {
        let bytes = aac().encode();
        assert_eq!(EsDescriptor::decode(&bytes), Ok(aac()));
        for cut in 0..bytes.len() {
            assert!(EsDescriptor::decode(&bytes.slice(..cut)).unwrap_err().is_incomplete(), "{cut}");
        }
    }

    #[test]
    fn lengths_beyond_their_parent_are_malformed() {
        for at in [1, 6, 21] {
            let mut bytes = aac().encode().to_vec();
            bytes[at] = 0x7F;
            assert!(EsDescriptor::decode(&bytes.into()).is_err(), "length at {at}");
        }
        let endless = Bytes::from_static(&[3, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]);
        assert!(matches!(EsDescriptor::decode(&endless), Err(DecodeError::Malformed { .. })));
    }

    proptest! {
        #[test]
        fn any_configuration_round_trips(specific in proptest::collection::vec(any::<u8>(), 0..20_000)) {
            let es = EsDescriptor { specific: specific.into(), ..aac() };
            prop_assert_eq!(EsDescriptor::decode(&es.encode()), Ok(es));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = EsDescriptor::decode(&[&[3, 50][..], &bytes].concat().into());
        }
    }
}
