//! FLV: tags as RTMP messages and files carry them, legacy and Enhanced RTMP v2, to media and back.
//!
//! | document | section | here |
//! |---|---|---|
//! | Video File Format v10.1 | annex E.2 file, E.4.1 tags | [`FileDecoder`], [`put_file_header`], [`put_tag`] |
//! | | E.4.2 audio, E.4.3 video tags | [`AudioTag`], [`VideoTag`] |
//! | | E.5 onMetaData | [`Demuxer`], [`Muxer`] |
//! | Enhanced RTMP v2 | Enhanced Audio, Enhanced Video, Metadata Frame | the same types |
//!
//! ```text
//! RTMP messages, FLV files ─► tags ─► Demuxer ─► MediaEvent      TrackSet, MediaFrame ─► Muxer ─► Tag
//! ```
//!
//! Guarantees: no panic; a tag is read in one pass without recursion, whatever it nests; payloads are slices of
//! the tag they came in, copied only where they are not canonical; no more than [`Limits`] is held.
//!
//! Tolerated:
//! * HEVC as legacy codec id 12, the form that was in use before Enhanced RTMP;
//! * ADTS frames where raw AAC belongs; AVC start codes where lengths belong; parameter sets in band;
//! * sequence headers that come late, again, or broken, and tags that are too short: counted, and an error only
//!   when there is nothing else ([`Limits::max_bad_in_a_row`]);
//! * `PreviousTagSize` fields that do not fit, as some writers leave them 0.
//!
//! Not done: encrypted tags, screen video, Sorenson H.263, VP6, ADPCM and Nellymoser, which no live encoder
//! makes any more ([`Error::Unsupported`]); seeking.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod body;
mod codec;
mod demuxer;
mod error;
mod file;
mod muxer;
mod script;
#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests choose their numbers"
)]
mod tests;

pub use body::{AudioTag, Body, FrameType, LegacyAudio, Packet, VideoTag};
pub use codec::{TagClass, fourcc_of, needs};
pub use demuxer::{Counters, Demuxer, Limits};
pub use error::{CodecTag, Error};
pub use file::{FileDecoder, FileTag, put_file_header, put_tag, tag_header, tag_len};
pub use muxer::{Muxer, MuxerOptions, Tag};

/// What a tag carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TagKind {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// A name and AMF0 values.
    Script,
}

impl TagKind {
    /// The tag type in files, and the message type in RTMP.
    #[must_use]
    pub const fn type_id(self) -> u8 {
        match self {
            Self::Audio => 8,
            Self::Video => 9,
            Self::Script => 18,
        }
    }

    /// The kind of a tag or message type.
    #[must_use]
    pub const fn from_type_id(id: u8) -> Option<Self> {
        match id {
            8 => Some(Self::Audio),
            9 => Some(Self::Video),
            18 => Some(Self::Script),
            _ => None,
        }
    }
}
