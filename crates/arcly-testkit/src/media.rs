//! A real stream of any length, without an encoder: H.264 High with B-frames, and AAC-LC.
//!
//! [`Source`] repeats one closed GOP of 25 pictures (`IBBPBBP…`, 64×36, 25 fps, 1 s) and twelve AAC frames of a
//! steady tone on both sides (48 kHz), interleaved by DTS with exact times. Decoders and ffprobe accept it for
//! ever. Both were encoded once, with FFmpeg 5.1 and x264, from its own generators:
//!
//! ```text
//! assets/gop.h264  ffmpeg -f lavfi -i testsrc2=size=64x36:rate=25 -frames:v 25 -c:v libx264 -profile:v high
//!                    -preset slow -crf 36 -g 25 -bf 2 -b_strategy 0 -sc_threshold 0 -pix_fmt yuv420p
//!                    -x264-params b-pyramid=none:open-gop=0:threads=1:weightp=0 -bsf:v 'filter_units=remove_types=6|9'
//! assets/tone.aac  ffmpeg -f lavfi -i "aevalsrc='0.2*sin(2*PI*468.75*t)|0.2*sin(2*PI*937.5*t)':s=48000"
//!                    -c:a aac -b:a 32k -frames:a 20
//! ```

use arcly_core::codec::{AudioParams, AudioSpecificConfig, AvcConfig, FrameRate, VideoParams};
use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackSet,
};
use bytes::{BufMut, Bytes, BytesMut};

const GOP: &[u8] = include_bytes!("../assets/gop.h264");
const TONE: &[u8] = include_bytes!("../assets/tone.aac");

/// Pictures in a GOP, and per second.
pub const GOP_PICTURES: u64 = 25;
/// Width and height of the picture.
pub const SIZE: (u32, u32) = (64, 36);
/// Samples per second of the sound, unless it was asked for [at 44.1 kHz](Source::at_44_100).
pub const SAMPLE_RATE: u32 = 48_000;
/// Samples in an AAC frame.
pub const AAC_SAMPLES: u64 = 1_024;

const FRAME_RATE: Timescale = Timescale::of(25);
/// Pictures by which presentation lags decoding: one, as B-frames are not referred to.
const REORDER: i64 = 1;
/// Frames at the start of the tone in which the encoder settles.
const SETTLING: usize = 8;
const ADTS_HEADER: usize = 7;
const NAL_SEI: u8 = 6;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;

/// An endless stream as an iterator of frames in DTS order; take as many as the test needs.
///
/// ```
/// use arcly_testkit::media::Source;
/// use arcly_core::Timestamp;
///
/// let source = Source::h264_aac();
/// let tracks = source.tracks();
/// let three_seconds: Vec<_> = source.take_while(|frame| frame.dts < Timestamp::from_millis(3_000)).collect();
/// assert_eq!(three_seconds.iter().filter(|frame| frame.is_keyframe() && frame.track.index() == 0).count(), 3);
/// assert_eq!(tracks.len(), 2);
/// ```
#[derive(Clone, Debug)]
pub struct Source {
    avc: AvcConfig,
    pictures: Vec<Bytes>,
    sounds: Vec<Bytes>,
    start: Timestamp,
    has_video: bool,
    has_audio: bool,
    sample_rate: u32,
    next_picture: u64,
    next_sound: u64,
}

impl Source {
    /// H.264 on [`TrackId::VIDEO`] and AAC on [`TrackId::AUDIO`].
    #[must_use]
    pub fn h264_aac() -> Self {
        let (avc, pictures) = parse_gop();
        Self {
            avc,
            pictures,
            sounds: parse_tone(),
            start: Timestamp::ZERO,
            has_video: true,
            has_audio: true,
            sample_rate: SAMPLE_RATE,
            next_picture: 0,
            next_sound: 0,
        }
    }

    /// The same without sound.
    #[must_use]
    pub fn h264() -> Self {
        Self { has_audio: false, ..Self::h264_aac() }
    }

    /// The same without pictures.
    #[must_use]
    pub fn aac() -> Self {
        Self { has_video: false, ..Self::h264_aac() }
    }

    /// The same stream, its first DTS at `start`.
    #[must_use]
    pub const fn starting_at(mut self, start: Timestamp) -> Self {
        self.start = start;
        self
    }

    /// The same pictures, each at least `bytes` long: the rest is an SEI message that decoders pass over.
    #[must_use]
    pub fn with_pictures_of(mut self, bytes: usize) -> Self {
        self.pictures = self.pictures.iter().map(|picture| pad(picture, bytes)).collect();
        self
    }

    /// The same with sound at 44.1 kHz, a little lower and slower: no number of samples is a whole number of milliseconds.
    #[must_use]
    pub const fn at_44_100(mut self) -> Self {
        self.sample_rate = 44_100;
        self
    }

    /// What is in the stream.
    #[must_use]
    pub fn tracks(&self) -> TrackSet {
        let video = self.has_video.then(|| self.video_track());
        TrackSet::new(video.into_iter().chain(self.has_audio.then(|| self.audio_track())))
    }

    /// The frames of `seconds` seconds, by DTS.
    #[must_use]
    pub fn seconds(self, seconds: u32) -> Vec<MediaFrame> {
        let end = self.start + TimeDelta::from_millis(i64::from(seconds) * 1_000);
        self.take_while(|frame| frame.dts < end).collect()
    }

    fn video_track(&self) -> Track {
        let params = VideoParams {
            width: SIZE.0,
            height: SIZE.1,
            frame_rate: FrameRate::new(FRAME_RATE.get(), 1),
            reorder_depth: u8::try_from(REORDER).ok(),
            bit_depth: 8,
            ..VideoParams::default()
        };
        Track::new(TrackId::VIDEO, CodecId::H264, CodecConfig::Avc(self.avc.clone())).with_video(params)
    }

    fn picture(&mut self) -> MediaFrame {
        let n = self.next_picture;
        self.next_picture += 1;
        let in_gop = n % GOP_PICTURES;
        // Decoding order I P B B P B B …: a P-picture is shown after the two B-pictures that follow it.
        let is_b = in_gop % 3 != 1 && in_gop != 0;
        let shown_at = match in_gop {
            0 => n,
            _ if is_b => n - 1,
            _ => n + 2,
        };
        let dts = self.start + TimeDelta::from_units(to_i64(n), FRAME_RATE);
        let pts = self.start + TimeDelta::from_units(to_i64(shown_at) + REORDER, FRAME_RATE);
        let mut flags = FrameFlags::empty();
        flags.set(FrameFlags::KEYFRAME, in_gop == 0);
        flags.set(FrameFlags::DISPOSABLE, is_b);
        MediaFrame::new(TrackId::VIDEO, dts, pick(&self.pictures, n))
            .with_pts(pts)
            .with_duration(TimeDelta::from_units(1, FRAME_RATE))
            .with_flags(flags)
    }

    fn sound(&mut self) -> MediaFrame {
        let n = self.next_sound;
        self.next_sound += 1;
        // In step with the pictures as they are shown, not as they are decoded.
        let offset =
            if self.has_video { TimeDelta::from_units(REORDER, FRAME_RATE) } else { TimeDelta::ZERO };
        let dts = self.start + offset + self.samples(n * AAC_SAMPLES);
        MediaFrame::new(TrackId::AUDIO, dts, pick(&self.sounds, n))
            .with_duration(self.samples(AAC_SAMPLES))
            .with_flags(FrameFlags::KEYFRAME)
    }

    /// How long so many samples last.
    fn samples(&self, count: u64) -> TimeDelta {
        TimeDelta::from_units(to_i64(count), Timescale::of(self.sample_rate))
    }

    fn audio_track(&self) -> Track {
        // Object type 2 (LC), the sampling frequency's index (3 for 48 kHz, 4 for 44.1), two channels.
        let raw: &[u8] = if self.sample_rate == SAMPLE_RATE { &[0x11, 0x90] } else { &[0x12, 0x10] };
        let config = AudioSpecificConfig {
            object_type: 2,
            sample_rate: self.sample_rate,
            channel_config: 2,
            channels: 2,
            raw: Bytes::from_static(raw),
            ..AudioSpecificConfig::default()
        };
        let params = AudioParams {
            sample_rate: self.sample_rate,
            channels: 2,
            samples_per_frame: u32::try_from(AAC_SAMPLES).ok(),
            ..AudioParams::default()
        };
        Track::new(TrackId::AUDIO, CodecId::Aac, CodecConfig::Aac(config)).with_audio(params)
    }
}

impl Iterator for Source {
    type Item = MediaFrame;

    fn next(&mut self) -> Option<MediaFrame> {
        let picture_dts = TimeDelta::from_units(to_i64(self.next_picture), FRAME_RATE);
        let sound_dts = self.samples(self.next_sound * AAC_SAMPLES);
        let sound_dts = sound_dts + TimeDelta::from_units(REORDER, FRAME_RATE);
        let picture_first = self.has_video && (!self.has_audio || picture_dts <= sound_dts);
        Some(if picture_first { self.picture() } else { self.sound() })
    }
}

/// The parameter sets and the length-prefixed pictures of the GOP.
fn parse_gop() -> (AvcConfig, Vec<Bytes>) {
    let mut avc = AvcConfig::default();
    let mut pictures = Vec::new();
    for nal in nal_units(GOP) {
        match nal[0] & 0x1F {
            NAL_SPS => {
                (avc.profile, avc.compatibility, avc.level) = (nal[1], nal[2], nal[3]);
                avc.sps.push(Bytes::from_static(nal));
            }
            NAL_PPS => avc.pps.push(Bytes::from_static(nal)),
            _ => pictures.push(length_prefixed(nal)),
        }
    }
    (avc, pictures)
}

/// The NAL units of an Annex B stream, which this one ends with neither zeros nor a start code.
fn nal_units(stream: &'static [u8]) -> Vec<&'static [u8]> {
    let starts: Vec<usize> = (0..stream.len()).filter(|&at| stream[at..].starts_with(&[0, 0, 1])).collect();
    let ends = starts.iter().skip(1).copied().chain([stream.len()]);
    let nal = |(start, end): (&usize, usize)| {
        let nal = &stream[start + 3..end];
        // The zero before a four-byte start code.
        nal.strip_suffix(&[0]).unwrap_or(nal)
    };
    starts.iter().zip(ends).map(nal).collect()
}

fn parse_tone() -> Vec<Bytes> {
    let mut frames = Vec::new();
    let mut rest = TONE;
    while rest.len() > ADTS_HEADER {
        // aac_frame_length: 13 bits from bit 30 of the header.
        let len = usize::from(rest[3] & 3) << 11 | usize::from(rest[4]) << 3 | usize::from(rest[5]) >> 5;
        frames.push(Bytes::from_static(&rest[ADTS_HEADER..len]));
        rest = &rest[len..];
    }
    frames.split_off(SETTLING)
}

fn length_prefixed(nal: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(nal.len() + 4);
    out.put_u32(u32::try_from(nal.len()).expect("the assets are small"));
    out.put_slice(nal);
    out.freeze()
}

/// `picture` behind an SEI message (user_data_unregistered) that brings it to `bytes`.
fn pad(picture: &Bytes, bytes: usize) -> Bytes {
    const UUID: [u8; 16] = *b"arcly-testkit-01";
    let missing = bytes.saturating_sub(picture.len());
    if missing == 0 {
        return picture.clone();
    }
    // Length, header, type, last size byte, terminating byte; and a size byte for each 255 bytes.
    let overhead = 4 + 1 + 1 + 1 + UUID.len() + 1;
    let filler = missing.saturating_sub(overhead) * 255 / 256 + 1;
    let size = UUID.len() + filler;
    let mut sei = vec![NAL_SEI, 5];
    sei.extend(std::iter::repeat_n(0xFF, size / 255));
    sei.push(u8::try_from(size % 255).expect("a remainder of 255 is a byte"));
    sei.extend(UUID);
    sei.extend(std::iter::repeat_n(0x55, filler));
    sei.push(0x80);
    let mut out = BytesMut::from(length_prefixed(&sei));
    out.extend_from_slice(picture);
    out.freeze()
}

fn pick(from: &[Bytes], n: u64) -> Bytes {
    let at = usize::try_from(n % from.len() as u64).expect("below a length");
    from[at].clone()
}

fn to_i64(n: u64) -> i64 {
    i64::try_from(n).expect("a test does not run for 10^11 years")
}

/// The same picture with exactly so many bytes: its last NAL unit grows by what no parser looks at.
///
/// # Panics
/// When it is larger already, or no H.264, H.265 or H.266.
#[must_use]
pub fn picture_of(frame: &MediaFrame, bytes: usize) -> MediaFrame {
    let mut payload = frame.payload.to_vec();
    assert!(payload.len() <= bytes, "it has {} bytes", payload.len());
    let mut at = 0;
    loop {
        let length = payload[at..].first_chunk().expect("NAL units with lengths");
        let next = at + 4 + u32::from_be_bytes(*length) as usize;
        if next == payload.len() {
            break;
        }
        at = next;
    }
    payload.resize(bytes, 0xAA);
    let length = u32::try_from(bytes - at - 4).expect("an access unit");
    payload[at..at + 4].copy_from_slice(&length.to_be_bytes());
    MediaFrame { payload: payload.into(), ..frame.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const AUDIO_RATE: Timescale = Timescale::of(SAMPLE_RATE);

    #[test]
    fn the_assets_are_what_they_are_said_to_be() {
        let source = Source::h264_aac();
        assert_eq!((source.pictures.len(), source.sounds.len()), (25, 12));
        assert_eq!((source.avc.profile, source.avc.level), (100, 10));
        assert_eq!((source.avc.sps.len(), source.avc.pps.len()), (1, 1));
        for (n, picture) in source.pictures.iter().enumerate() {
            let nal_ref_idc = picture[4] >> 5;
            let is_b = n % 3 != 1 && n != 0;
            assert_eq!(nal_ref_idc == 0, is_b, "picture {n}");
        }
    }

    #[test]
    fn times_are_exact_and_every_instant_has_one_picture() {
        let frames = Source::h264_aac().starting_at(Timestamp::from_millis(500)).seconds(10);
        let (video, audio): (Vec<_>, Vec<_>) = frames.iter().partition(|f| f.track == TrackId::VIDEO);
        assert_eq!(video.len(), 250);
        assert!(frames.windows(2).all(|pair| pair[0].dts <= pair[1].dts), "in DTS order");
        assert!(video.iter().all(|f| f.pts >= f.dts));
        let shown: BTreeSet<i64> = video.iter().map(|f| f.pts.to_millis()).collect();
        assert_eq!(shown, (0..250).map(|n| 540 + n * 40).collect());
        assert!(
            audio
                .iter()
                .enumerate()
                .all(|(n, f)| (f.dts - audio[0].dts).to_ticks(AUDIO_RATE) == n as i64 * 1_024)
        );
        assert!(
            frames.iter().filter(|f| f.is_keyframe() && f.track == TrackId::VIDEO).all(|f| (f
                .dts
                .to_millis()
                - 500)
                % 1_000
                == 0)
        );
    }

    #[test]
    fn sound_at_44_100_is_exact() {
        let source = Source::aac().at_44_100();
        for (n, frame) in source.seconds(10).iter().enumerate() {
            assert_eq!(frame.dts.to_ticks(Timescale::of(44_100)), n as i64 * 1_024);
        }
    }

    #[test]
    fn padding_reaches_its_size() {
        for size in [500, 1_000, 70_000, 1 << 20] {
            let frame = Source::h264().with_pictures_of(size).nth(1).expect("endless");
            assert!(
                frame.payload.len() >= size && frame.payload.len() < size + 64,
                "{size}: {}",
                frame.payload.len()
            );
        }
    }
}
