use arcly_codec::h264::encode_config;
use arcly_codec::nal::escape;
use arcly_core::{CodecConfig, TrackId};
use arcly_testkit::media::Source;
use arcly_testkit::rng::Rng;

use super::marker::{MARKER, Marker};

/// FLV's numbers for what a tag, or an RTMP message, carries.
pub const AUDIO: u8 = 8;
/// See [`AUDIO`].
pub const VIDEO: u8 = 9;

/// Where the marker of a picture is: after the FLV header of an access unit (5), the length of the SEI NAL unit (4), its
/// own header, payload type and size (3), and the UUID (16).
const VIDEO_MARKER: usize = 28;
/// And of a sound: after the two bytes that say AAC.
const AUDIO_MARKER: usize = 2;
/// A tag's marker lies within so many of its first bytes.
pub const HEAD: usize = VIDEO_MARKER + MARKER;

/// What stands in front of a picture's marker, in an SEI message of user data.
pub const UUID: [u8; 16] = *b"arcly-benchmark!";
const RATE: u64 = 48_000;
const AAC_SAMPLES: u64 = 1_024;

/// What a publisher sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Pictures a second.
    pub pictures: u64,
    /// Pictures in a GOP.
    pub gop: u64,
    /// Bytes of a keyframe.
    pub key_bytes: usize,
    /// Bytes of any other picture.
    pub picture_bytes: usize,
    /// Bytes of an AAC frame; 0 for no sound. There are 46.875 of them a second.
    pub sound_bytes: usize,
}

impl Shape {
    /// 1080p30 as encoders send it: 4.1 Mbit/s, a keyframe every 2 s, and 128 kbit/s of sound. 77 messages a second.
    pub const HD: Self =
        Self { pictures: 30, gop: 60, key_bytes: 120_000, picture_bytes: 15_340, sound_bytes: 341 };

    /// 600 kbit/s altogether.
    pub const LOW: Self =
        Self { pictures: 25, gop: 50, key_bytes: 12_000, picture_bytes: 2_450, sound_bytes: 170 };

    /// [`HD`](Self::HD) with GOPs of that many bytes, by their keyframe alone.
    #[must_use]
    pub const fn with_gop_bytes(mut self, bytes: usize) -> Self {
        self.key_bytes = bytes.saturating_sub(self.picture_bytes * 59);
        self
    }

    /// Frames a second, pictures and sounds.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn frames_per_second(&self) -> f64 {
        self.pictures as f64 + self.sounds_per_second()
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn sounds_per_second(&self) -> f64 {
        if self.sound_bytes == 0 { 0.0 } else { RATE as f64 / AAC_SAMPLES as f64 }
    }

    /// Bytes of media a second.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn bytes_per_second(&self) -> f64 {
        let gop = self.key_bytes as f64 + (self.gop - 1) as f64 * self.picture_bytes as f64;
        let sound = self.sounds_per_second() * self.sound_bytes as f64;
        gop * self.pictures as f64 / self.gop as f64 + sound
    }
}

/// One message: the body of an FLV tag.
#[derive(Clone, Copy, Debug)]
pub struct Tag<'a> {
    /// [`AUDIO`] or [`VIDEO`].
    pub kind: u8,
    /// When it is due, in microseconds since the stream began; its timestamp is that in milliseconds.
    pub at_us: u64,
    /// Which one of its kind it is.
    pub sequence: u64,
    /// Its bytes, with room for a marker.
    pub body: &'a [u8],
}

impl Tag<'_> {
    /// The timestamp that it is sent with.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, reason = "RTMP's clock wraps")]
    pub const fn timestamp(&self) -> u32 {
        (self.at_us / 1_000) as u32
    }

    /// Appends the body with its marker filled in.
    pub fn put(&self, out: &mut Vec<u8>, sent_ns: u64) {
        let marker = Marker { sequence: self.sequence, sent_ns }.encode();
        let at = out.len() + marker_at(self.kind);
        out.extend_from_slice(self.body);
        if let Some(place) = out.get_mut(at..at + MARKER) {
            place.copy_from_slice(&marker);
        }
    }
}

const fn marker_at(kind: u8) -> usize {
    if kind == VIDEO { VIDEO_MARKER } else { AUDIO_MARKER }
}

/// A frame that has arrived.
#[derive(Clone, Copy, Debug)]
pub struct Frame {
    /// [`AUDIO`] or [`VIDEO`].
    pub kind: u8,
    /// Whether it is a keyframe.
    pub key: bool,
    /// Which one it is, and when it was sent.
    pub marker: Marker,
}

impl Frame {
    /// The frame in a tag's body, of which the first [`HEAD`] bytes are enough. `None` for what is none of a [`Clip`]:
    /// sequence headers, metadata.
    #[must_use]
    pub fn from_head(kind: u8, head: &[u8]) -> Option<Self> {
        let (&first, &packet) = (head.first()?, head.get(1)?);
        if !matches!(kind, AUDIO | VIDEO) || packet != 1 {
            return None;
        }
        let marker = Marker::decode(head.get(marker_at(kind)..)?)?;
        Some(Self { kind, key: kind == VIDEO && first >> 4 == 1, marker })
    }
}

/// An endless stream of a [`Shape`], H.264 and AAC to everybody but a decoder.
#[derive(Clone, Debug)]
pub struct Clip {
    /// What it is like.
    pub shape: Shape,
    headers: Vec<(u8, Vec<u8>)>,
    key: Vec<u8>,
    picture: Vec<u8>,
    sound: Vec<u8>,
}

impl Clip {
    /// A stream of that shape; the same bytes each time.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let mut rng = Rng::new(1);
        let mut source = Source::h264();
        let tracks = source.tracks();
        let config = match tracks.iter().find(|track| track.id == TrackId::VIDEO).map(|track| &track.config) {
            Some(CodecConfig::Avc(config)) => encode_config(config),
            _ => unreachable!("the testkit's stream is H.264"),
        };
        let mut sequence_header = vec![0x17, 0, 0, 0, 0];
        sequence_header.extend_from_slice(&config);
        let mut headers = vec![(VIDEO, sequence_header)];
        let mut sound = Vec::new();
        if shape.sound_bytes > 0 {
            headers.push((AUDIO, vec![0xAF, 0, 0x11, 0x90]));
            sound = vec![0xAF, 1];
            sound.extend(rng.bytes(shape.sound_bytes.max(MARKER)));
        }
        let mut picture = |flags: u8, bytes: usize| {
            let slice = source.next().map(|frame| frame.payload.slice(4..)).unwrap_or_default();
            access_unit(flags, &slice, bytes, &mut rng)
        };
        let (key, picture) = (picture(0x17, shape.key_bytes), picture(0x27, shape.picture_bytes));
        Self { shape, headers, key, picture, sound }
    }

    /// What stands before the first frame: the sequence headers, as kind and body.
    pub fn headers(&self) -> impl Iterator<Item = (u8, &[u8])> {
        self.headers.iter().map(|(kind, body)| (*kind, body.as_slice()))
    }

    /// The frames from the beginning.
    #[must_use]
    pub const fn position(&self) -> Position {
        Position { pictures: 0, sounds: 0 }
    }

    /// The frame at `position`, which moves on.
    pub fn next(&self, position: &mut Position) -> Tag<'_> {
        let picture_us = position.pictures * 1_000_000 / self.shape.pictures;
        let sound_us = position.sounds * AAC_SAMPLES * 1_000_000 / RATE;
        if self.sound.is_empty() || picture_us <= sound_us {
            let sequence = position.pictures;
            position.pictures += 1;
            let body = if sequence.is_multiple_of(self.shape.gop) { &self.key } else { &self.picture };
            return Tag { kind: VIDEO, at_us: picture_us, sequence, body };
        }
        let sequence = position.sounds;
        position.sounds += 1;
        Tag { kind: AUDIO, at_us: sound_us, sequence, body: &self.sound }
    }
}

/// How far a publisher has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    /// Pictures sent.
    pub pictures: u64,
    /// Sounds sent.
    pub sounds: u64,
}

/// A tag with an SEI NAL unit for the marker, and a slice that goes on with noise.
fn access_unit(flags: u8, slice: &[u8], bytes: usize, rng: &mut Rng) -> Vec<u8> {
    const SEI_SIZE: u8 = (UUID.len() + MARKER) as u8;
    let mut out = vec![flags, 1, 0, 0, 0];
    let mut sei = vec![6, 5, SEI_SIZE];
    sei.extend(UUID);
    sei.extend(Marker { sequence: 0, sent_ns: 0 }.encode());
    sei.push(0x80);
    let mut unit = |bytes: &[u8]| {
        out.extend(u32::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
        out.extend_from_slice(bytes);
    };
    unit(&sei);
    let noise = bytes.saturating_sub(slice.len() + sei.len() + 13);
    unit(&[slice, &escape(&rng.bytes(noise)), &[0x80]].concat());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clip_has_the_rate_of_its_shape_and_carries_its_markers() {
        for shape in [Shape::HD, Shape::LOW, Shape::HD.with_gop_bytes(8 << 20)] {
            let clip = Clip::new(shape);
            let mut position = clip.position();
            let (mut bytes, mut frames, mut keys, mut last) = (0_usize, 0_u32, 0, 0);
            while position.pictures < shape.pictures * 8 || position.sounds < 375 {
                let tag = clip.next(&mut position);
                let mut body = Vec::new();
                tag.put(&mut body, 42);
                let frame = Frame::from_head(tag.kind, &body[..HEAD.min(body.len())]).expect("a marker");
                assert_eq!(frame.marker, Marker { sequence: tag.sequence, sent_ns: 42 });
                assert!(tag.at_us >= last, "in order");
                last = tag.at_us;
                bytes += body.len();
                frames += 1;
                keys += u32::from(frame.key);
            }
            assert_eq!(keys, 4);
            assert!((f64::from(frames) / 8.0 - shape.frames_per_second()).abs() < 0.3);
            let rate = bytes as f64 / 8.0;
            assert!((rate / shape.bytes_per_second() - 1.0).abs() < 0.02, "{rate}");
            let header = clip.headers().next().expect("video").1;
            assert!(Frame::from_head(VIDEO, header).is_none());
        }
        let bits = Shape::HD.bytes_per_second() * 8.0;
        assert!((bits - 4.23e6).abs() < 2e4, "{bits}");
        assert!((Shape::LOW.bytes_per_second() * 8.0 - 6e5).abs() < 2e4);
    }
}
