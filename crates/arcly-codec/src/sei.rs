//! Supplemental enhancement information: the messages a server acts on, and those it writes.
//!
//! | document | section | here |
//! |---|---|---|
//! | H.264 / H.265 / H.274 | 7.3.2.3 / 7.3.5 `sei_message` | [`messages`], [`encode`] |
//! | H.264 D.1.8, H.265 D.2.8 | recovery point | [`RecoveryPoint`] |
//! | H.265 D.2.28, D.2.35 | mastering display, content light level | [`read_hdr`], [`encode_hdr`] |
//! | H.264 D.1.7, H.265 D.2.7 | user data unregistered | [`UserData`] |
//!
//! Guarantees: reading messages allocates nothing; only [`UserData::decode`] does, as much as there is. A message that
//! nobody wants costs a search for emulation prevention in its bytes, and no look at each of them.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::codec::HdrMetadata;
use arcly_core::wire::DecodeResult;
use bytes::Bytes;

use crate::bits::{BitReader, BitWriter};
use crate::nal;

/// `payloadType` of user data with a UUID.
pub const USER_DATA_UNREGISTERED: u32 = 5;
/// `payloadType` of a recovery point.
pub const RECOVERY_POINT: u32 = 6;
/// `payloadType` of the mastering display colour volume.
pub const MASTERING_DISPLAY: u32 = 137;
/// `payloadType` of the content light level.
pub const CONTENT_LIGHT_LEVEL: u32 = 144;

/// Messages of one NAL unit that are looked at.
pub const MAX_MESSAGES: usize = 64;

/// One message: its type, its size, and a reader at its payload.
#[derive(Clone, Copy, Debug)]
pub struct SeiMessage<'a> {
    /// `payloadType`.
    pub kind: u32,
    /// `payloadSize` in bytes, after removal of emulation prevention; all of them are there.
    pub size: usize,
    /// A reader that starts at the payload (and does not stop at its end).
    pub payload: BitReader<'a>,
}

/// Iterates over the messages of an SEI NAL unit.
#[derive(Clone, Debug)]
pub struct Messages<'a> {
    reader: BitReader<'a>,
    left: usize,
}

/// The messages in `payload`, which is an SEI NAL unit without its header. An error is the last item.
#[must_use]
pub const fn messages(payload: &[u8]) -> Messages<'_> {
    Messages { reader: BitReader::rbsp(payload), left: MAX_MESSAGES }
}

impl<'a> Messages<'a> {
    fn message(&mut self) -> DecodeResult<SeiMessage<'a>> {
        let kind = self.number("payloadType")?;
        let size = self.number("payloadSize")?;
        let payload = self.reader;
        self.reader.skip(u64::from(size).saturating_mul(8), "sei_payload")?;
        Ok(SeiMessage { kind, size: usize::try_from(size).unwrap_or(usize::MAX), payload })
    }

    /// A run of 0xFF bytes counts 255 each, and the byte after it the rest.
    fn number(&mut self, what: &'static str) -> DecodeResult<u32> {
        let mut value = 0_u32;
        loop {
            let byte = self.reader.bits(8, what)?;
            value = value.saturating_add(byte);
            if byte != 0xFF {
                return Ok(value);
            }
        }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = DecodeResult<SeiMessage<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 || !self.reader.more_rbsp_data() {
            return None;
        }
        let message = self.message();
        self.left = if message.is_ok() { self.left.saturating_sub(1) } else { 0 };
        Some(message)
    }
}

/// Where decoding may start without an IDR picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecoveryPoint {
    /// `recovery_frame_cnt` (H.264) or `recovery_poc_cnt` (H.265): pictures until the output is right.
    pub count: i32,
    /// `exact_match_flag`.
    pub exact_match: bool,
    /// `broken_link_flag`.
    pub broken_link: bool,
}

impl RecoveryPoint {
    /// From an H.264 message.
    pub fn decode_h264(message: &SeiMessage<'_>) -> DecodeResult<Self> {
        let mut r = message.payload;
        let count = r.ue_max(0xFFFF, "recovery_frame_cnt")?;
        Self::flags(r, i32::try_from(count).unwrap_or(i32::MAX))
    }

    /// From an H.265 message.
    pub fn decode_h265(message: &SeiMessage<'_>) -> DecodeResult<Self> {
        let mut r = message.payload;
        let count = r.se("recovery_poc_cnt")?;
        Self::flags(r, count)
    }

    fn flags(mut r: BitReader<'_>, count: i32) -> DecodeResult<Self> {
        Ok(Self { count, exact_match: r.flag("exact_match_flag")?, broken_link: r.flag("broken_link_flag")? })
    }

    /// The payload of an H.264 message.
    #[must_use]
    pub fn encode_h264(&self) -> Vec<u8> {
        let mut w = BitWriter::new();
        w.ue(self.count.unsigned_abs()).flag(self.exact_match).flag(self.broken_link).bits(2, 0);
        close_payload(w)
    }
}

/// A payload that does not end on a byte boundary is filled up with a one and zeros (`bit_equal_to_one`).
fn close_payload(mut w: BitWriter) -> Vec<u8> {
    w.trailing();
    w.finish()
}

/// Takes static HDR metadata out of a message; true when there was some.
pub fn read_hdr(message: &SeiMessage<'_>, hdr: &mut HdrMetadata) -> DecodeResult<bool> {
    let mut r = message.payload;
    match message.kind {
        MASTERING_DISPLAY => {
            let mut point = || Ok([r.u16("display_primaries_x")?, r.u16("display_primaries_y")?]);
            let (green, blue, red) = (point()?, point()?, point()?);
            hdr.white_point = point()?;
            hdr.primaries = [red, green, blue];
            hdr.max_luminance = r.bits(32, "max_display_mastering_luminance")?;
            hdr.min_luminance = r.bits(32, "min_display_mastering_luminance")?;
        }
        CONTENT_LIGHT_LEVEL => {
            hdr.max_cll = r.u16("max_content_light_level")?;
            hdr.max_fall = r.u16("max_pic_average_light_level")?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

/// The payloads of the mastering display and content light level messages.
#[must_use]
pub fn encode_hdr(hdr: &HdrMetadata) -> (Vec<u8>, Vec<u8>) {
    let [red, green, blue] = hdr.primaries;
    let mut display = BitWriter::new();
    for [x, y] in [green, blue, red, hdr.white_point] {
        display.bits(16, u64::from(x)).bits(16, u64::from(y));
    }
    display.bits(32, u64::from(hdr.max_luminance)).bits(32, u64::from(hdr.min_luminance));
    let mut light = BitWriter::new();
    light.bits(16, u64::from(hdr.max_cll)).bits(16, u64::from(hdr.max_fall));
    (display.finish(), light.finish())
}

/// User data whose meaning a UUID names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserData {
    /// `uuid_iso_iec_11578`.
    pub uuid: [u8; 16],
    /// The bytes after it.
    pub data: Vec<u8>,
}

impl UserData {
    /// From a message of type [`USER_DATA_UNREGISTERED`].
    pub fn decode(message: &SeiMessage<'_>) -> DecodeResult<Self> {
        let mut r = message.payload;
        let mut uuid = [0; 16];
        for byte in &mut uuid {
            *byte = r.small(8, "uuid_iso_iec_11578")?;
        }
        let len = message.size.checked_sub(uuid.len()).ok_or_else(|| r.malformed("user_data"))?;
        let data = (0..len).map(|_| r.small(8, "user_data")).collect::<DecodeResult<_>>()?;
        Ok(Self { uuid, data })
    }

    /// The payload of the message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [&self.uuid[..], &self.data].concat()
    }
}

/// An SEI NAL unit, escaped: `header` is the NAL unit header (`[6]` for H.264, `[0x4E, 1]` for H.265),
/// `messages` are types and payloads.
#[must_use]
pub fn encode(header: &[u8], messages: &[(u32, &[u8])]) -> Bytes {
    let mut rbsp = Vec::new();
    for &(kind, payload) in messages {
        put_number(usize::try_from(kind).unwrap_or(usize::MAX), &mut rbsp);
        put_number(payload.len(), &mut rbsp);
        rbsp.extend_from_slice(payload);
    }
    rbsp.push(0x80);
    let mut unit = header.to_vec();
    unit.extend(nal::escape(&rbsp));
    unit.into()
}

fn put_number(value: usize, out: &mut Vec<u8>) {
    let mut left = value;
    while left >= 0xFF {
        out.push(0xFF);
        left = left.saturating_sub(0xFF);
    }
    out.push(u8::try_from(left).unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HDR: HdrMetadata = HdrMetadata {
        primaries: [[34_000, 16_000], [13_250, 34_500], [7_500, 3_000]],
        white_point: [15_635, 16_450],
        max_luminance: 10_000_000,
        min_luminance: 1,
        max_cll: 1_000,
        max_fall: 400,
    };

    #[test]
    fn hdr_round_trip_in_one_unit() {
        let (display, light) = encode_hdr(&HDR);
        let unit = encode(&[0x4E, 1], &[(MASTERING_DISPLAY, &display), (CONTENT_LIGHT_LEVEL, &light)]);
        let mut hdr = HdrMetadata::default();
        let read = messages(&unit[2..]).map(|m| read_hdr(&m.unwrap(), &mut hdr).unwrap());
        assert_eq!(read.collect::<Vec<_>>(), [true, true]);
        assert_eq!(hdr, HDR);
    }

    #[test]
    fn recovery_point_round_trip() {
        let point = RecoveryPoint { count: 14, exact_match: true, broken_link: false };
        let unit = encode(&[6], &[(RECOVERY_POINT, &point.encode_h264())]);
        let message = messages(&unit[1..]).next().unwrap().unwrap();
        assert_eq!(RecoveryPoint::decode_h264(&message), Ok(point));
    }

    #[test]
    fn a_size_that_runs_over_the_end_is_malformed_and_the_last_item() {
        let mut found = messages(&[5, 0xFF, 0xFF, 0xFF, 0xFF, 0x10, 1, 2, 3, 0x80]);
        assert!(found.next().unwrap().is_err());
        assert!(found.next().is_none());
        assert!(messages(&[0xFF; 70_000]).next().unwrap().is_err());
        assert_eq!(messages(&[1, 0].repeat(100)).count(), MAX_MESSAGES);
    }

    #[test]
    fn a_message_after_megabytes_of_user_data_is_found() {
        let user = UserData { uuid: [9; 16], data: [7, 0, 0, 1].repeat(500_000) };
        let point = RecoveryPoint { count: 3, exact_match: true, broken_link: false };
        let unit =
            encode(&[6], &[(USER_DATA_UNREGISTERED, &user.encode()), (RECOVERY_POINT, &point.encode_h264())]);
        let found: Vec<_> = messages(&unit[1..]).map(Result::unwrap).collect();
        assert_eq!(
            found.iter().map(|m| m.kind).collect::<Vec<_>>(),
            [USER_DATA_UNREGISTERED, RECOVERY_POINT]
        );
        assert_eq!(found[0].size, 2_000_016);
        assert_eq!(RecoveryPoint::decode_h264(&found[1]), Ok(point));
    }

    proptest! {
        #[test]
        fn user_data_round_trip(uuid: [u8; 16], data in proptest::collection::vec(0..4u8, 0..600)) {
            let user = UserData { uuid, data };
            let unit = encode(&[6], &[(RECOVERY_POINT, &[0x84]), (USER_DATA_UNREGISTERED, &user.encode())]);
            let found: Vec<_> = messages(&unit[1..]).map(Result::unwrap).collect();
            prop_assert_eq!(found.len(), 2);
            prop_assert_eq!(UserData::decode(&found[1]).unwrap(), user);
        }
    }
}
