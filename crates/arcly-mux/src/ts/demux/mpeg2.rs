//! MPEG-1 and MPEG-2 video, as far as a container has to know it (ISO/IEC 13818-2 §6.2).

use arcly_codec::bits::BitReader;
use arcly_core::FrameFlags;
use arcly_core::codec::{FrameRate, VideoParams};
use arcly_core::wire::DecodeResult;
use bytes::Bytes;
use memchr::memmem;

use super::video::Begins;

const PICTURE: u8 = 0x00;
const SEQUENCE_HEADER: u8 = 0xB3;
const GROUP: u8 = 0xB8;
const FIRST_SLICE: u8 = 0x01;
const LAST_SLICE: u8 = 0xAF;

/// Frames per second by `frame_rate_code` (table 6-4).
const RATES: [(u32, u32); 8] =
    [(24_000, 1_001), (24, 1), (25, 1), (30_000, 1_001), (30, 1), (50, 1), (60_000, 1_001), (60, 1)];

/// What a start code begins.
pub(super) const fn classify(code: u8) -> Begins {
    match code {
        PICTURE => Begins::Picture,
        SEQUENCE_HEADER | GROUP => Begins::Prefix,
        FIRST_SLICE..=LAST_SLICE => Begins::Slice,
        _ => Begins::Other,
    }
}

/// Follows the sequence headers of one stream. Pictures pass as they are, start codes and headers included: that is
/// the form in which every container holds them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Parser {
    params: Option<VideoParams>,
}

impl Parser {
    pub(super) const fn video_params(&self) -> Option<VideoParams> {
        self.params
    }

    /// A picture with its headers, its flags, and whether the sequence header is a new one.
    pub(super) fn push(&mut self, data: Bytes) -> Option<(Bytes, FrameFlags, bool)> {
        let (mut flags, mut changed, mut pictures) = (FrameFlags::empty(), false, false);
        for at in memmem::find_iter(&data, &[0, 0, 1]) {
            let Some((code, unit)) = data.get(at.saturating_add(3)..).and_then(<[u8]>::split_first) else {
                continue;
            };
            match *code {
                SEQUENCE_HEADER => {
                    let params = sequence(unit).ok();
                    changed |= params.is_some() && params != self.params;
                    self.params = params.or(self.params);
                }
                // The first of two fields says what the frame is.
                PICTURE if !pictures => {
                    pictures = true;
                    flags = picture_flags(unit);
                }
                FIRST_SLICE..=LAST_SLICE => break,
                _ => {}
            }
        }
        pictures.then_some((data, flags, changed))
    }
}

fn sequence(unit: &[u8]) -> DecodeResult<VideoParams> {
    let mut r = BitReader::new(unit);
    let (width, height) = (r.bits(12, "horizontal size")?, r.bits(12, "vertical size")?);
    r.bits(4, "aspect ratio")?;
    let code = usize::from(r.small(4, "frame rate")?);
    let rate = code
        .checked_sub(1)
        .and_then(|code| RATES.get(code))
        .and_then(|(num, den)| FrameRate::new(*num, *den));
    Ok(VideoParams { width, height, frame_rate: rate, bit_depth: 8, ..VideoParams::default() })
}

/// From `picture_coding_type`: 1 intra, 2 predicted, 3 bidirectional.
fn picture_flags(unit: &[u8]) -> FrameFlags {
    match unit.get(1).map(|byte| byte >> 3 & 7) {
        Some(1) => FrameFlags::KEYFRAME,
        Some(3) => FrameFlags::DISPOSABLE,
        _ => FrameFlags::empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso_13818_2_6_2_headers() {
        // 720 × 576, 25 fps; picture 0, intra.
        let data = [
            0, 0, 1, 0xB3, 0x2D, 0x02, 0x40, 0x33, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x0F, 0xFF, 0xF8, 0, 0, 1, 1, 9,
        ];
        let mut parser = Parser::default();
        let (payload, flags, changed) = parser.push(Bytes::copy_from_slice(&data)).unwrap();
        assert_eq!((&payload[..], flags, changed), (&data[..], FrameFlags::KEYFRAME, true));
        let params = parser.video_params().unwrap();
        assert_eq!((params.width, params.height, params.frame_rate), (720, 576, FrameRate::new(25, 1)));
        let (_, flags, changed) = parser.push(Bytes::from_static(&[0, 0, 1, 0, 0, 0x18, 0, 0])).unwrap();
        assert_eq!((flags, changed), (FrameFlags::DISPOSABLE, false));
        assert!(parser.push(Bytes::from_static(&[0, 0, 1, 0xB8, 1])).is_none());
    }
}
