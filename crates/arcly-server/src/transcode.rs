//! What makes sound for readers that cannot take a stream's own.

use std::sync::Arc;

use arcly_core::contract::transcode::Transcoder;

use crate::config::TranscodeConfig;

/// The transcoder that is configured, if one is.
#[cfg(feature = "transcode-audio")]
pub(crate) fn transcoder(config: &TranscodeConfig) -> Option<Arc<dyn Transcoder>> {
    use arcly_transcode::{AudioBridge, Config};
    let TranscodeConfig { audio, opus_bitrate_bps, aac_bitrate_bps, max_tracks } = *config;
    let bridge = Config { opus_bitrate_bps, aac_bitrate_bps, max_sessions: max_tracks };
    audio.then(|| Arc::new(AudioBridge::new(bridge)) as Arc<dyn Transcoder>)
}

/// This build has none.
#[cfg(not(feature = "transcode-audio"))]
pub(crate) const fn transcoder(_: &TranscodeConfig) -> Option<Arc<dyn Transcoder>> {
    None
}
