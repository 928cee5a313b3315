//! A track as MP4 knows it.

use arcly_codec::codec_string;
use arcly_core::codec::FrameRate;
use arcly_core::{
    CodecConfig, CodecId, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind,
};
use bytes::Bytes;
use core::borrow::Borrow;

use super::{MuxError, entry};

/// The finest clock that a frame rate is given.
const MAX_VIDEO_TIMESCALE: u32 = 1_080_000;
/// How long a frame lasts of which nothing at all is known.
const FALLBACK_DURATION: TimeDelta = TimeDelta::from_millis(40);

/// A track with the number, the clock and the sample entry that it has in MP4.
///
/// The clock represents every time that sources have: a multiple of 90 kHz in which a picture of the declared frame rate
/// lasts a whole number of ticks (90 kHz for 25, 30 and 29.97 pictures a second, 360 kHz for 23.976), and the sample rate
/// for sound, so that an AAC frame is 1024 ticks.
#[derive(Clone, Debug)]
pub struct Mp4Track {
    pub(super) track: Track,
    pub(super) number: u32,
    pub(super) timescale: Timescale,
    pub(super) entry: Bytes,
}

impl Mp4Track {
    /// Describes a track; `number` is its `track_ID`, from 1 on.
    ///
    /// # Errors
    /// The codec cannot be carried, or its parameters are not known yet.
    pub fn new(track: &Track, number: u32) -> Result<Self, MuxError> {
        let entry = entry::encode(track)?;
        Ok(Self { track: track.clone(), number: number.max(1), timescale: timescale_of(track), entry })
    }

    /// Its number in the stream.
    #[must_use]
    pub const fn id(&self) -> TrackId {
        self.track.id
    }

    /// Its `track_ID`.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Ticks per second of its times.
    #[must_use]
    pub const fn timescale(&self) -> Timescale {
        self.timescale
    }

    /// What it describes.
    #[must_use]
    pub const fn track(&self) -> &Track {
        &self.track
    }

    /// The codec string (RFC 6381) of what the sample entry says: for playlists and `MediaSource`.
    #[must_use]
    pub fn codecs(&self) -> Option<String> {
        match self.track.codec {
            CodecId::Mp3 | CodecId::Mp2 => Some(format!("mp4a.{:02X}", entry::mpeg_object_type(&self.track))),
            _ => codec_string::codec_string(&self.track),
        }
    }

    /// When the frame behind `frames` would begin if it came on time: the rule for the last frame of a run of which the
    /// next one is not known.
    ///
    /// Its own duration counts, where it has one; then what the codec and the declared frame rate say; then the distance
    /// to its predecessor; then 40 ms.
    pub fn expected_end<F: Borrow<MediaFrame>>(&self, frames: &[F]) -> Timestamp {
        let Some((last, before)) = frames.split_last() else { return Timestamp::ZERO };
        let last: &MediaFrame = last.borrow();
        let known = [Some(last.duration), self.nominal_duration()];
        let step = before.last().map(|frame| last.dts - frame.borrow().dts);
        let mut durations = known.into_iter().chain([step]).flatten();
        last.dts + durations.find(|duration| *duration > TimeDelta::ZERO).unwrap_or(FALLBACK_DURATION)
    }

    fn nominal_duration(&self) -> Option<TimeDelta> {
        match self.track.audio() {
            Some(audio) => {
                let rate = Timescale::new(audio.sample_rate)?;
                audio.samples_per_frame.map(|samples| TimeDelta::from_units(samples.into(), rate))
            }
            None => self.track.video()?.frame_rate.map(FrameRate::frame_duration),
        }
    }
}

/// The clock in which the track's times are whole numbers.
fn timescale_of(track: &Track) -> Timescale {
    match (track.kind(), &track.config) {
        (TrackKind::Video, _) => {
            track.video().and_then(|params| params.frame_rate).map_or(Timescale::MPEG, video_timescale)
        }
        (_, CodecConfig::Opus(_)) => Timescale::of(48_000),
        _ => track.audio().and_then(|params| Timescale::new(params.sample_rate)).unwrap_or(Timescale::MPEG),
    }
}

/// The smallest multiple of 90 kHz that divides a picture's duration, within reason.
fn video_timescale(rate: FrameRate) -> Timescale {
    let (num, den) = (u64::from(rate.num.get()), u64::from(rate.den.get()));
    let mpeg = u64::from(Timescale::MPEG.get());
    // A picture lasts mpeg * den / num ticks; the fraction vanishes in num / gcd as many.
    let factor = num.checked_div(gcd(num, mpeg.saturating_mul(den))).unwrap_or(1);
    u32::try_from(mpeg.saturating_mul(factor))
        .ok()
        .filter(|&scale| scale <= MAX_VIDEO_TIMESCALE)
        .and_then(Timescale::new)
        .unwrap_or(Timescale::MPEG)
}

pub(super) fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_lasts_whole_ticks() {
        for (num, den, expect) in [
            (25, 1, 90_000),
            (30, 1, 90_000),
            (30_000, 1_001, 90_000),
            (24_000, 1_001, 360_000),
            (60_000, 1_001, 180_000),
            (120_000, 1_001, 360_000),
            (144, 1, 90_000),
            (11, 1, 990_000),
            (1_000_003, 7, 90_000),
        ] {
            let rate = FrameRate::new(num, den).expect("not zero");
            assert_eq!(video_timescale(rate).get(), expect, "{num}/{den}");
        }
    }
}
