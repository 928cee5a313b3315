use super::MediaDescription;

/// Payload types of redundancy that were agreed on (RFC 2198 §4): `a=rtpmap:63 red/48000/2`, `a=fmtp:63 111/111`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redundancy {
    /// The payload type of packets that repeat what was in those before.
    pub payload_type: u8,
    /// The payload type of all that is in them.
    pub of: u8,
}

impl Redundancy {
    /// The first in a medium in which everything is of one format, that has the same clock.
    #[must_use]
    pub fn offered(media: &MediaDescription) -> Option<Self> {
        media.formats.iter().find_map(|format| Self::of(media, format.parse().ok()?))
    }

    fn of(media: &MediaDescription, payload_type: u8) -> Option<Self> {
        let map = media.rtp_map(payload_type).filter(|map| map.encoding.eq_ignore_ascii_case("red"))?;
        let mut types = media.of_type("fmtp", payload_type).next()?.split('/').map(|of| of.trim().parse());
        let of = types.next()?.ok()?;
        // Of one alone nothing would be repeated.
        let repeated = types.clone().count() > 0 && types.all(|other| other == Ok(of));
        let same_clock = media.rtp_map(of)?.clock_rate == map.clock_rate;
        (repeated && same_clock && of != payload_type).then_some(Self { payload_type, of })
    }
}
