//! Which codec a track carries, and its parameters as plain data.
//!
//! The types live here, at the bottom, so that every protocol can read them; parsing and writing them
//! (avcC, hvcC, AudioSpecificConfig, …) is the work of `arcly-codec`.

mod audio;
mod id;
mod video;

pub use audio::{Ac3Config, AudioParams, AudioSpecificConfig, FlacConfig, OpusConfig, PcmConfig};
pub use id::{CodecId, FourCc, TrackKind};
pub use video::{
    Av1Config, AvcConfig, ChromaFormat, ColorInfo, FrameRate, HdrMetadata, HevcConfig, ParameterSets,
    VideoParams, VpxConfig, VvcConfig,
};

use bytes::Bytes;

/// Codec parameters: what a decoder needs before the first frame.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CodecConfig {
    /// Nothing is needed beyond the codec's name: MP3, VP8, data.
    #[default]
    None,
    /// H.264.
    Avc(AvcConfig),
    /// H.265.
    Hevc(HevcConfig),
    /// H.266.
    Vvc(VvcConfig),
    /// AV1.
    Av1(Av1Config),
    /// VP8 and VP9.
    Vpx(VpxConfig),
    /// AAC.
    Aac(AudioSpecificConfig),
    /// Opus.
    Opus(OpusConfig),
    /// FLAC.
    Flac(FlacConfig),
    /// AC-3 and E-AC-3.
    Ac3(Ac3Config),
    /// G.711, G.722, linear PCM.
    Pcm(PcmConfig),
    /// A record that is carried, not understood.
    Opaque(Bytes),
}
