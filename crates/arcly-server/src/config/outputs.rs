//! What is made of streams: playlists, recordings, sound, and how often players are written to.

use core::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use arcly_core::egress::Tick;
use serde::{Deserialize, Serialize};

use super::{Size, Span};

/// `[record]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordConfig {
    /// Streams that are recorded by themselves, such as `live/*`; others are on demand, over the API.
    pub streams: Vec<String>,
    /// The container.
    pub format: RecordFormat,
    /// The folder, below `data_dir` unless absolute.
    pub dir: PathBuf,
    /// What files are called: `%path`, `%Y %m %d %H %M %S %f` in UTC, `%s`.
    pub name: String,
    /// A file ends at the first keyframe from then on.
    pub segment: Span,
    /// The same for its size.
    pub segment_size: Size,
    /// How much media is written at a time: what a crash can lose.
    pub part: Span,
    /// Recordings that ended longer ago are removed; 0 keeps them.
    pub keep: Span,
    /// The oldest recordings are removed until all together are no larger; 0 keeps them.
    pub keep_size: Size,
}

impl Default for RecordConfig {
    fn default() -> Self {
        Self {
            streams: Vec::new(),
            format: RecordFormat::Mp4,
            dir: "recordings".into(),
            name: "%path/%Y-%m-%d_%H-%M-%S-%f".into(),
            segment: Span::secs(3_600),
            segment_size: Size(4 << 30),
            part: Span::secs(1),
            keep: Span::secs(0),
            keep_size: Size(0),
        }
    }
}

/// About a minute of segments of two seconds.
const KEY_SEGMENTS: NonZeroU64 = NonZeroU64::new(30).expect("not zero");

/// `[hls]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HlsConfig {
    /// Streams can be watched over HLS.
    pub enabled: bool,
    /// How long parts should be; what decides latency.
    pub part: Span,
    /// How long segments are at least; they end at a keyframe.
    pub segment: Span,
    /// How much playlists list.
    pub window: Span,
    /// Most bytes of media that a rendition keeps.
    pub max_bytes: Size,
    /// How long a stream is muxed that nobody watches.
    pub idle: Span,
    /// Every stream is muxed from its start, so that its first viewer has a window at once.
    pub always: bool,
    /// Whether segments are encrypted. They are then listed once they are complete, without parts.
    pub encryption: HlsEncryption,
    /// A key is used for so many segments of a rendition.
    pub key_segments: NonZeroU64,
}

/// `hls.encryption`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum HlsEncryption {
    /// Not at all.
    #[serde(rename = "none")]
    None,
    /// Whole segments, with keys that arcly makes and serves.
    #[serde(rename = "aes-128")]
    Aes128,
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            part: Span(Duration::from_millis(200)),
            segment: Span::secs(2),
            window: Span::secs(30),
            max_bytes: Size(64 << 20),
            idle: Span::secs(60),
            always: false,
            encryption: HlsEncryption::None,
            key_segments: KEY_SEGMENTS,
        }
    }
}

/// `record.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordFormat {
    /// MP4, fragmented while it is written and plain when it is finished.
    Mp4,
    /// An MPEG transport stream.
    Ts,
    /// FLV.
    Flv,
}

/// `[transcode]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TranscodeConfig {
    /// Makes AAC or Opus of a stream's AAC, Opus or G.711 for readers that cannot take it, as long as there are any. Nothing
    /// is made in a build without the feature `transcode-audio`.
    pub audio: bool,
    /// Bits per second of Opus in stereo; mono takes half of it.
    pub opus_bitrate_bps: u32,
    /// Bits per second of AAC in stereo; mono takes half of it.
    pub aac_bitrate_bps: u32,
    /// Tracks that are made at one time; further ones are passed on as they are.
    pub max_tracks: usize,
}

impl Default for TranscodeConfig {
    fn default() -> Self {
        Self { audio: true, opus_bitrate_bps: 128_000, aac_bitrate_bps: 128_000, max_tracks: 256 }
    }
}

/// `[egress]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct EgressConfig {
    /// How often a reader is written to whose URL does not say `latency=low` or `latency=throughput`: what comes in
    /// between goes out together. `0ms` is each frame at once; 33 ms cost a third less than each message by
    /// itself, 100 ms half; at most a second.
    pub tick: Span,
    /// Tasks that write to readers; 0 for one per core.
    pub workers: usize,
}

impl Default for EgressConfig {
    fn default() -> Self {
        Self { tick: Span(Tick::STANDARD.interval()), workers: 0 }
    }
}
