use core::fmt::Write as _;

use arcly_core::CloseReason;
use arcly_rtp::payload::Encoding;
use arcly_rtp::sdp::{Format, MediaDescription, SdpError, SessionDescription};

/// Bytes of an offer: browsers send some ten thousand.
pub const MAX_OFFER_BYTES: usize = 128 << 10;
/// Media of an offer.
pub const MAX_OFFER_MEDIA: usize = 8;
/// Layers in which a publisher may send the same picture (simulcast, RFC 8853).
pub const MAX_OFFER_LAYERS: usize = 4;
/// Characters of an ICE user name fragment and of a password (RFC 8839 §5.4).
const FRAGMENT_CHARS: core::ops::RangeInclusive<usize> = 4..=256;
const PASSWORD_CHARS: core::ops::RangeInclusive<usize> = 22..=256;
/// The directions that a medium may have.
pub(super) const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

/// What whoever sends an offer wants to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends media: WHIP.
    Publisher,
    /// Receives them: WHEP.
    Viewer,
}

impl Role {
    /// How the protocol is called in paths, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publisher => "whip",
            Self::Viewer => "whep",
        }
    }

    /// What the one is who answers it.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Publisher => Self::Viewer,
            Self::Viewer => Self::Publisher,
        }
    }

    /// The only direction that its media can have.
    pub(super) const fn direction(self) -> &'static str {
        match self {
            Self::Publisher => "sendonly",
            Self::Viewer => "recvonly",
        }
    }
}

/// Why an offer is not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OfferError {
    /// It is no description.
    #[error(transparent)]
    Description(#[from] SdpError),
    /// It is longer than [`MAX_OFFER_BYTES`].
    #[error("the offer is longer than {MAX_OFFER_BYTES} bytes")]
    TooLong,
    /// It has bytes that no description has.
    #[error("the offer is no text in UTF-8")]
    NotText,
    /// Something that every offer has is not there, or is wrong.
    #[error("the offer has {0}")]
    Malformed(&'static str),
    /// It is an offer, and not one for here.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The stack that answers does not take it.
    #[error("the offer cannot be answered: {0}")]
    Refused(String),
}

impl OfferError {
    /// The reason for logs, metrics and replies.
    #[must_use]
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Description(SdpError::LimitExceeded { what, .. }) => CloseReason::Limit(what),
            Self::TooLong => CloseReason::Limit("offer"),
            Self::Unsupported(_) => CloseReason::Unsupported,
            _ => CloseReason::Malformed,
        }
    }
}

/// An ICE user name fragment and the password that goes with it.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ice-ufrag`
    pub fragment: String,
    /// `ice-pwd`
    pub password: String,
}

impl core::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Credentials({})", self.fragment)
    }
}

impl Credentials {
    /// A pair, if both are of what ICE allows and as long.
    #[must_use]
    pub fn new(fragment: &str, password: &str) -> Option<Self> {
        let is_ice = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'));
        // Firefox has had `-` and `_` in them.
        let is_close = |text: &str| is_ice(&text.replace(['-', '_', '='], "+"));
        let fits = FRAGMENT_CHARS.contains(&fragment.len()) && PASSWORD_CHARS.contains(&password.len());
        (fits && is_close(fragment) && is_close(password))
            .then(|| Self { fragment: fragment.to_owned(), password: password.to_owned() })
    }
}

/// An offer that was looked over, as it is handed on: with one direction, and without candidates.
///
/// Candidates of the peer are left out because an agent that is lite (RFC 8445 §2.5) sends no checks to them: it answers
/// those that come, from wherever they come. Pictures in more layers than [`MAX_OFFER_LAYERS`] are taken as one, in none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    role: Role,
    text: String,
    credentials: Credentials,
    has_known_codec: bool,
}

impl Offer {
    /// Looks an offer over.
    ///
    /// # Errors
    /// It cannot be answered, whatever is to be had here.
    pub fn decode(role: Role, body: &[u8]) -> Result<Self, OfferError> {
        if body.len() > MAX_OFFER_BYTES {
            return Err(OfferError::TooLong);
        }
        let text = core::str::from_utf8(body).map_err(|_| OfferError::NotText)?;
        if text.contains('\0') {
            return Err(OfferError::NotText);
        }
        let description: SessionDescription = text.parse()?;
        let has_known_codec = check_media(role, &description)?;
        check_fingerprint(&description)?;
        let credentials = credentials(&description)?;
        Ok(Self { role, text: rewrite(role, text), credentials, has_known_codec })
    }

    /// What its sender wants to be.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The text to answer.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// False where nothing of it can be answered: no codec of what goes the right way is known here, and there are no data channels.
    #[must_use]
    pub const fn has_known_codec(&self) -> bool {
        self.has_known_codec
    }

    /// What checks by the peer are signed with, and what those of this side would be.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The same offer with other credentials: an ICE restart (RFC 8839 §4.4.1.1.1).
    #[must_use]
    pub fn restarted(&self, credentials: Credentials) -> Self {
        let mut text = String::with_capacity(self.text.len());
        for line in self.text.lines() {
            let line = match line.split_once(':') {
                Some(("a=ice-ufrag", _)) => &format!("a=ice-ufrag:{}", credentials.fragment),
                Some(("a=ice-pwd", _)) => &format!("a=ice-pwd:{}", credentials.password),
                _ => line,
            };
            _ = write!(text, "{line}\r\n");
        }
        Self { text, credentials, ..self.clone() }
    }
}

/// The value of an attribute that a session or its first medium has.
fn attribute<'a>(description: &'a SessionDescription, name: &str) -> Option<&'a str> {
    let media = || description.media.iter().find_map(|media| media.attribute(name));
    description.attribute(name).or_else(media)
}

/// Whether some of what goes the right way is in a codec that is known here, or in data channels.
fn check_media(role: Role, description: &SessionDescription) -> Result<bool, OfferError> {
    if description.media.len() > MAX_OFFER_MEDIA {
        return Err(SdpError::LimitExceeded { what: "sdp_media", limit: MAX_OFFER_MEDIA }.into());
    }
    if description.media.is_empty() {
        return Err(OfferError::Malformed("no media"));
    }
    let (mut fits, mut known, mut channels) = (false, false, 0_u8);
    for media in &description.media {
        if is_channels(media) {
            channels = channels.saturating_add(1);
            fits |= media.port != 0;
            known |= media.port != 0;
            continue;
        }
        if !matches!(media.kind.as_str(), "audio" | "video") {
            return Err(OfferError::Unsupported(
                "only audio, video and data channels (m=application, UDP/DTLS/SCTP) are taken here",
            ));
        }
        let formats = Format::offered(media)?;
        let direction = direction(description, media);
        let is_ours = direction == "sendrecv" || direction == role.direction();
        fits |= is_ours;
        known |= is_ours && formats.iter().any(|format| is_known(&format.encoding));
    }
    if channels > 1 {
        return Err(OfferError::Unsupported("data channels all go in one medium (m=application)"));
    }
    match (fits, role) {
        (true, _) => Ok(known),
        (false, Role::Publisher) => Err(OfferError::Malformed("nothing that it sends (a=sendonly)")),
        (false, Role::Viewer) => Err(OfferError::Malformed("nothing that it receives (a=recvonly)")),
    }
}

/// True for what goes over WebRTC here.
const fn is_known(encoding: &Encoding) -> bool {
    matches!(
        encoding,
        Encoding::H264
            | Encoding::H265
            | Encoding::Av1
            | Encoding::Vp8
            | Encoding::Vp9
            | Encoding::Opus
            | Encoding::G722
            | Encoding::Pcmu
            | Encoding::Pcma
    )
}

/// True for the medium that data channels go in (RFC 8841 §4).
pub(crate) fn is_channels(media: &MediaDescription) -> bool {
    let is_sctp = media.protocol.to_ascii_uppercase().ends_with("/DTLS/SCTP");
    media.kind == "application"
        && is_sctp
        && media.formats.iter().any(|format| format == "webrtc-datachannel")
}

fn direction(description: &SessionDescription, media: &MediaDescription) -> &'static str {
    let of = |find: &dyn Fn(&str) -> bool| DIRECTIONS.into_iter().find(|name| find(name));
    let own = of(&|name| media.attribute(name).is_some());
    own.or_else(|| of(&|name| description.attribute(name).is_some())).unwrap_or("sendrecv")
}

pub(super) fn check_fingerprint(description: &SessionDescription) -> Result<(), OfferError> {
    let session = description.attributes.iter();
    let media = description.media.iter().flat_map(|media| &media.attributes);
    let mut seen = false;
    for attribute in session.chain(media).filter(|attribute| attribute.name == "fingerprint") {
        seen = true;
        if is_sha256(attribute.value.as_deref().unwrap_or_default()) {
            return Ok(());
        }
    }
    if seen {
        return Err(OfferError::Malformed("no fingerprint by sha-256"));
    }
    Err(OfferError::Malformed("no fingerprint (a=fingerprint): media go encrypted or not at all"))
}

/// `sha-256`, and 32 bytes in hexadecimal.
pub(super) fn is_sha256(value: &str) -> bool {
    let Some((hash, digits)) = value.trim().split_once(' ') else { return false };
    let mut bytes = digits.trim().split(':');
    let is_byte = |byte: &str| byte.len() == 2 && byte.bytes().all(|digit| digit.is_ascii_hexdigit());
    hash.eq_ignore_ascii_case("sha-256")
        && bytes.by_ref().take(32).filter(|byte| is_byte(byte)).count() == 32
        && bytes.next().is_none()
}

pub(super) fn credentials(description: &SessionDescription) -> Result<Credentials, OfferError> {
    let missing = || OfferError::Malformed("no ICE credentials (a=ice-ufrag, a=ice-pwd)");
    let fragment = attribute(description, "ice-ufrag").ok_or_else(missing)?;
    let password = attribute(description, "ice-pwd").ok_or_else(missing)?;
    Credentials::new(fragment, password).ok_or(OfferError::Malformed("ICE credentials that are none"))
}

/// The lines that are handed on.
fn rewrite(role: Role, text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let layered = role == Role::Publisher && has_few_layers(text);
    let is_kept = |line: &&str| !line.is_empty() && is_kept(line, layered);
    for line in text.lines().map(str::trim_end).filter(is_kept) {
        let line = match line.strip_prefix("a=") {
            Some("sendrecv") => &format!("a={}", role.direction()),
            Some(other) if other != role.direction() && DIRECTIONS.contains(&other) => "a=inactive",
            _ => line,
        };
        _ = write!(out, "{line}\r\n");
    }
    out
}

/// True when no picture comes in more layers than are taken.
fn has_few_layers(text: &str) -> bool {
    let names = text.lines().filter_map(|line| line.trim_end().strip_prefix("a=simulcast:"));
    names.into_iter().all(|names| names.split([';', ',', ' ']).count() <= MAX_OFFER_LAYERS + 1)
}

fn is_kept(line: &str, layered: bool) -> bool {
    let Some(attribute) = line.strip_prefix("a=") else { return true };
    let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
    match name {
        "candidate" | "end-of-candidates" | "remote-candidates" => false,
        "simulcast" | "rid" => layered,
        "fingerprint" => is_sha256(value),
        // A handshake that takes place in descriptions would not be one that is looked at here.
        "sctp-init" => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: &str = "sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08";

    fn offer() -> String {
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
             a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:{FINGERPRINT}\r\n\
             a=setup:actpass\r\na=rtpmap:96 VP8/90000\r\na=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n"
        )
    }

    const CHANNELS: &str = "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:1\r\n\
                            a=sctp-port:5000\r\na=max-message-size:262144\r\na=sctp-init:AAAA\r\n";

    fn refused(text: &str) -> OfferError {
        Offer::decode(Role::Publisher, text.as_bytes()).unwrap_err()
    }

    #[test]
    fn an_offer_is_handed_on_in_one_direction_and_without_candidates() {
        for (role, direction) in [(Role::Publisher, "a=sendonly\r\n"), (Role::Viewer, "a=recvonly\r\n")] {
            let offer = Offer::decode(role, offer().as_bytes()).unwrap();
            assert!(offer.as_str().contains(direction) && !offer.as_str().contains("sendrecv"));
            assert!(!offer.as_str().contains("candidate"));
            assert_eq!(offer.credentials().fragment, "abcd");
        }
        let text = offer().replace("a=sendrecv", "a=recvonly");
        assert!(matches!(refused(&text), OfferError::Malformed(_)));
    }

    #[test]
    fn data_channels_are_handed_on_with_or_without_pictures() {
        let inactive = offer().replace("a=sendrecv", "a=inactive");
        for role in [Role::Publisher, Role::Viewer] {
            for text in [offer(), inactive.clone()] {
                let offer = Offer::decode(role, (text + CHANNELS).as_bytes()).unwrap();
                assert!(offer.as_str().contains("a=sctp-port:5000") && !offer.as_str().contains("sctp-init"));
            }
            let closed = CHANNELS.replace("m=application 9", "m=application 0");
            assert!(Offer::decode(role, (inactive.clone() + &closed).as_bytes()).is_err());
        }
    }

    #[test]
    fn layers_are_handed_on_where_they_are_a_publishers_and_few() {
        let with = |names: &str| offer() + &format!("a=rid:q send\r\na=simulcast:send {names}\r\n");
        let kept = |role, names| {
            let offer = Offer::decode(role, with(names).as_bytes()).unwrap();
            let has = |text| offer.as_str().contains(text);
            assert_eq!(has("a=rid:"), has("a=simulcast:"));
            has("a=simulcast:")
        };
        assert!(kept(Role::Publisher, "q;h;f") && kept(Role::Publisher, "a;b;c;d"));
        assert!(!kept(Role::Viewer, "q;h;f") && !kept(Role::Publisher, "a;b;c;d;e"));
    }

    #[test]
    fn a_restart_changes_the_credentials_alone() {
        let first = Offer::decode(Role::Viewer, offer().as_bytes()).unwrap();
        let credentials = Credentials::new("wxyz", "abcdefghijklmnopqrstuvwxyz").unwrap();
        let second = first.restarted(credentials.clone());
        assert_eq!(second.credentials(), &credentials);
        let back = second.restarted(first.credentials().clone());
        assert_eq!(back, first);
        assert_ne!(second.as_str(), first.as_str());
    }

    #[test]
    fn w04_w05_w06_w08_w09_offers_that_are_none() {
        let cases = [
            (offer().replace("a=fingerprint", "a=x"), "no fingerprint (a=f"),
            (offer().replace("sha-256", "md5"), "no fingerprint by sha-256"),
            (offer().replace(":19:08", ""), "no fingerprint by sha-256"),
            (offer().replace("a=ice-ufrag:abcd\r\n", ""), "ICE credentials"),
            (offer().replace("abcd", "abc"), "ICE credentials"),
            (offer().replace("SAVPF 96", "SAVPF 200"), "payload type"),
            (offer().replace("SAVPF 96", "SAVPF x"), "payload type"),
            (offer().replace("m=video", "m=application"), "data channels"),
            (offer() + &CHANNELS.repeat(2), "all go in one medium"),
            (offer() + &CHANNELS.replace("webrtc-datachannel", "5000"), "data channels"),
            ("v=0\r\n".to_owned(), "no media"),
            ("a=\0".to_owned(), "no text"),
            ("x".repeat(MAX_OFFER_BYTES + 1), "longer than"),
            (offer() + &"m=video 9 RTP/AVP 96\r\na=mid:1\r\n".repeat(MAX_OFFER_MEDIA), "sdp_media"),
        ];
        for (text, why) in cases {
            let error = refused(&text);
            assert!(error.to_string().contains(why), "{error}: {why}");
        }
        let error = Offer::decode(Role::Viewer, b"v=0\r\na=\xff\xfe\x00").unwrap_err();
        assert_eq!((error.reason(), error), (CloseReason::Malformed, OfferError::NotText));
    }
}
