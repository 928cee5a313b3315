use bytes::Bytes;
use smallvec::SmallVec;

/// What is true of an audio track whatever its codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AudioParams {
    /// Samples per second that a decoder puts out; 0 when unknown.
    pub sample_rate: u32,
    /// Channels that a decoder puts out; 0 when unknown.
    pub channels: u8,
    /// Bits per sample where the codec has such a thing; 0 otherwise.
    pub bits_per_sample: u8,
    /// Samples per frame at `sample_rate`, where constant.
    pub samples_per_frame: Option<u32>,
}

/// AAC parameters (AudioSpecificConfig, ISO/IEC 14496-3 §1.6.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// Audio object type of the core coder: 2 = LC.
    pub object_type: u8,
    /// Sample rate of the core coder in Hz.
    pub sample_rate: u32,
    /// `channelConfiguration`; 0 means that a program config element says.
    pub channel_config: u8,
    /// Channels, from `channelConfiguration` or the program config element.
    pub channels: u8,
    /// Output sample rate when spectral band replication is signalled explicitly.
    pub sbr_sample_rate: Option<u32>,
    /// Parametric stereo is signalled explicitly.
    pub parametric_stereo: bool,
    /// `frameLengthFlag`: 960 instead of 1024 samples per frame.
    pub short_frames: bool,
    /// The record as received or built; what goes on the wire again.
    pub raw: Bytes,
}

/// Opus parameters (RFC 7845 §5.1 without magic and version, and `dOps`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpusConfig {
    /// Output channels.
    pub channels: u8,
    /// Samples at 48 kHz to drop at the start.
    pub pre_skip: u16,
    /// Sample rate of the original input in Hz; informative.
    pub input_sample_rate: u32,
    /// Q7.8 gain in dB.
    pub output_gain: i16,
    /// Channel mapping family.
    pub mapping_family: u8,
    /// Streams, coupled streams and the channel mapping, for families other than 0.
    pub mapping: SmallVec<[u8; 10]>,
}

/// FLAC parameters (RFC 9639 §8.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FlacConfig {
    /// The 34 bytes of the STREAMINFO metadata block.
    pub stream_info: Bytes,
}

/// AC-3 and E-AC-3 parameters (ETSI TS 102 366 annex F), of the first independent substream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ac3Config {
    /// `fscod`.
    pub fscod: u8,
    /// `bsid`.
    pub bsid: u8,
    /// `bsmod`.
    pub bsmod: u8,
    /// `acmod`.
    pub acmod: u8,
    /// `lfeon`.
    pub lfe: bool,
    /// `bit_rate_code` (AC-3), or `data_rate` in kbit/s (E-AC-3).
    pub bit_rate: u16,
    /// The rest of the E-AC-3 record, when it has more than one substream.
    pub substreams: Bytes,
}

/// Parameters of codecs that are a plain sequence of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PcmConfig {
    /// Samples per second.
    pub sample_rate: u32,
    /// Interleaved channels.
    pub channels: u8,
    /// Bits per sample.
    pub bits_per_sample: u8,
}
