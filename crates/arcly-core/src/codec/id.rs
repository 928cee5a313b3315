use core::fmt;

/// What a track carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TrackKind {
    /// Pictures.
    Video,
    /// Sound.
    Audio,
    /// Anything else that has a time: KLV, SCTE-35, ID3, AMF messages.
    Data,
}

impl TrackKind {
    /// `video`, `audio` or `data`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Audio => "audio",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for TrackKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Four bytes that name a format; printed with everything but printable ASCII replaced.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FourCc(pub [u8; 4]);

impl fmt::Display for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&b| {
            let c = if b.is_ascii_graphic() || b == b' ' { char::from(b) } else { '?' };
            write!(f, "{c}")
        })
    }
}

impl fmt::Debug for FourCc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FourCc({self})")
    }
}

macro_rules! codecs {
    ($($name:ident: $kind:ident, $text:literal, $doc:literal;)*) => {
        /// A codec.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum CodecId {
            $(#[doc = $doc] $name,)*
            /// A format that is carried without being understood.
            Other(TrackKind, FourCc),
        }

        impl CodecId {
            /// Whether it is video, audio or data.
            #[must_use]
            pub const fn kind(self) -> TrackKind {
                match self {
                    $(Self::$name => TrackKind::$kind,)*
                    Self::Other(kind, _) => kind,
                }
            }

            /// The short lower-case name used in logs, the API and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    Self::Other(..) => "other",
                }
            }
        }
    };
}

codecs! {
    H264: Video, "h264", "H.264 / AVC.";
    H265: Video, "h265", "H.265 / HEVC.";
    H266: Video, "h266", "H.266 / VVC.";
    Av1: Video, "av1", "AV1.";
    Vp8: Video, "vp8", "VP8.";
    Vp9: Video, "vp9", "VP9.";
    Mpeg2Video: Video, "mpeg2video", "MPEG-2 video.";
    Mjpeg: Video, "mjpeg", "Motion JPEG.";
    Aac: Audio, "aac", "AAC, any profile.";
    Opus: Audio, "opus", "Opus.";
    Mp3: Audio, "mp3", "MPEG-1/2 audio layer III.";
    Mp2: Audio, "mp2", "MPEG-1/2 audio layer II.";
    Ac3: Audio, "ac3", "Dolby Digital.";
    Eac3: Audio, "eac3", "Dolby Digital Plus.";
    Flac: Audio, "flac", "FLAC.";
    Pcma: Audio, "pcma", "G.711 A-law.";
    Pcmu: Audio, "pcmu", "G.711 µ-law.";
    G722: Audio, "g722", "G.722.";
    PcmBe: Audio, "pcm_be", "Linear PCM, big endian (L16, L24).";
    PcmLe: Audio, "pcm_le", "Linear PCM, little endian.";
    Speex: Audio, "speex", "Speex.";
    Klv: Data, "klv", "SMPTE KLV metadata.";
    Scte35: Data, "scte35", "SCTE-35 splice information.";
    Id3: Data, "id3", "Timed ID3.";
    Amf: Data, "amf", "AMF0 data messages (`onTextData`, `onCuePoint`, …): the name and its values.";
}

impl fmt::Display for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other(_, tag) => write!(f, "{tag}"),
            known => f.write_str(known.as_str()),
        }
    }
}
