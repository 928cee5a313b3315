use core::fmt::Write as _;
use core::net::{IpAddr, SocketAddr};

use arcly_core::CloseReason;
use arcly_rtp::sdp::{Format, SdpError, SessionDescription};

use super::offer::{DIRECTIONS, check_fingerprint, credentials, is_sha256};
use super::{MAX_CANDIDATES, OfferError, Protocol, Role, TransportAddress};

/// Bytes of an answer: servers send some thousand.
pub const MAX_ANSWER_BYTES: usize = 64 << 10;
/// The types of candidates (RFC 8839 §5.1).
const CANDIDATE_TYPES: [&str; 4] = ["host", "srflx", "prflx", "relay"];

/// What says which side of a connection a candidate over TCP is (RFC 6544 §4.5), and which one waits for the other.
const TCP_TYPE: &str = "tcptype";
const PASSIVE: &str = "passive";

/// Why an answer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It is no description.
    #[error("the answer is no description: {0}")]
    Description(#[from] SdpError),
    /// It is longer than [`MAX_ANSWER_BYTES`].
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
    /// It has bytes that no description has.
    #[error("the answer is no text in UTF-8")]
    NotText,
    /// Something that every answer has is not there, or is wrong.
    #[error("the answer has {0}")]
    Malformed(&'static str),
    /// Nobody could be sent a check.
    #[error("the answer names no address that may be sent to")]
    NoAddress,
    /// The server wants nothing of what was offered.
    #[error("the server has none of the media that were offered, or knows none of their codecs")]
    NothingAgreed,
    /// The stack does not take it.
    #[error("the answer cannot be used: {0}")]
    Refused(String),
}

impl AnswerError {
    /// The reason for logs and metrics.
    #[must_use]
    pub const fn reason(&self) -> CloseReason {
        match self {
            Self::Description(SdpError::LimitExceeded { what, .. }) => CloseReason::Limit(what),
            Self::TooLong => CloseReason::Limit("answer"),
            Self::NoAddress | Self::NothingAgreed => CloseReason::Unsupported,
            _ => CloseReason::Malformed,
        }
    }
}

/// What offers and answers have in common is looked at in one place.
impl From<OfferError> for AnswerError {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::Description(error) => Self::Description(error),
            OfferError::TooLong => Self::TooLong,
            OfferError::NotText => Self::NotText,
            OfferError::Malformed(what) | OfferError::Unsupported(what) => Self::Malformed(what),
            OfferError::Refused(what) => Self::Refused(what),
        }
    }
}

/// An answer that has been looked over: its media go in the one direction that they can have, and its candidates are addresses that
/// may be sent to, [`MAX_CANDIDATES`] of them at the most.
///
/// Left out are candidates over TCP that take no connections (RFC 6544 §4.5: only `passive` ones do), those of RTCP alone, by names (mDNS) and twice, and simulcast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    role: Role,
    text: String,
    candidates: Vec<TransportAddress>,
}

impl Answer {
    /// Looks over the answer to an offer by who wants to be `role`. `may_reach` says which addresses checks may be sent to.
    ///
    /// # Errors
    /// It cannot be believed, whatever was offered.
    pub fn decode(role: Role, body: &[u8], may_reach: impl Fn(IpAddr) -> bool) -> Result<Self, AnswerError> {
        if body.len() > MAX_ANSWER_BYTES {
            return Err(AnswerError::TooLong);
        }
        let text = core::str::from_utf8(body).map_err(|_| AnswerError::NotText)?;
        if text.contains('\0') {
            return Err(AnswerError::NotText);
        }
        let description: SessionDescription = text.parse()?;
        if description.media.is_empty() {
            return Err(AnswerError::Malformed("no media"));
        }
        for media in description.media.iter().filter(|media| media.port != 0) {
            Format::offered(media)?;
        }
        check_fingerprint(&description)?;
        credentials(&description)?;
        let (text, candidates) = rewrite(role.other().direction(), text, may_reach);
        if candidates.is_empty() {
            return Err(AnswerError::NoAddress);
        }
        Ok(Self { role, text, candidates })
    }

    /// What the one wants to be whose offer is answered.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The text to go by.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where the server says that it is, in the order of the answer.
    #[must_use]
    pub fn candidates(&self) -> &[TransportAddress] {
        &self.candidates
    }
}

/// The lines that are gone by, and the addresses in them.
fn rewrite(
    direction: &str,
    text: &str,
    may_reach: impl Fn(IpAddr) -> bool,
) -> (String, Vec<TransportAddress>) {
    let (mut out, mut found) = (String::with_capacity(text.len()), Vec::new());
    for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
        let attribute = line.strip_prefix("a=").unwrap_or_default();
        let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
        let line = match name {
            "candidate" => {
                let Some(candidate) = Candidate::decode(value) else { continue };
                let address = candidate.address;
                if found.contains(&address)
                    || found.len() >= MAX_CANDIDATES
                    || !may_reach(address.socket.ip())
                {
                    continue;
                }
                found.push(address);
                &format!("a={candidate}")
            }
            "end-of-candidates" | "remote-candidates" | "simulcast" | "rid" | "sctp-init" => continue,
            "fingerprint" if !is_sha256(value) => continue,
            "sendrecv" => &format!("a={direction}"),
            other if other != direction && DIRECTIONS.contains(&other) => "a=inactive",
            _ => line,
        };
        _ = write!(out, "{line}\r\n");
    }
    (out, found)
}

/// A candidate of media and of RTCP together (RFC 8839 §5.1), as far as it says where to send to, or where connections are taken.
struct Candidate<'a> {
    foundation: &'a str,
    priority: u32,
    address: TransportAddress,
    kind: &'a str,
}

impl<'a> Candidate<'a> {
    fn decode(value: &'a str) -> Option<Self> {
        let mut words = value.split_ascii_whitespace();
        let foundation = words.next()?;
        let carries_media = words.next()? == "1";
        let protocol = Protocol::named(words.next()?)?;
        let priority = words.next()?.parse().ok()?;
        let ip: IpAddr = words.next()?.parse().ok()?;
        let port = words.next()?.parse().ok()?;
        let kind = (words.next()? == "typ").then_some(words.next()?)?;
        let ip = ip.to_canonical();
        // What is behind the type comes in pairs.
        let mut extensions = core::iter::from_fn(|| Some((words.next()?, words.next()?)));
        let answers = match protocol {
            Protocol::Udp => true,
            Protocol::Tcp => extensions.any(|extension| extension == (TCP_TYPE, PASSIVE)),
        };
        let usable = carries_media && answers && port != 0 && !ip.is_unspecified() && !ip.is_multicast();
        (usable && CANDIDATE_TYPES.contains(&kind)).then_some(Self {
            foundation,
            priority,
            address: TransportAddress { protocol, socket: SocketAddr::new(ip, port) },
            kind,
        })
    }
}

impl core::fmt::Display for Candidate<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { foundation, priority, address, kind } = self;
        let (protocol, ip, port) = (address.protocol.as_str(), address.socket.ip(), address.socket.port());
        write!(f, "candidate:{foundation} 1 {protocol} {priority} {ip} {port} typ {kind}")?;
        match address.protocol {
            Protocol::Udp => Ok(()),
            Protocol::Tcp => write!(f, " {TCP_TYPE} {PASSIVE}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FINGERPRINT: &str = "sha-256 6B:8B:F0:65:5F:78:E2:51:3B:AC:6F:F3:3F:46:1B:35:DC:B8:5F:64:1A:24:C2:43:F0:A1:58:D0:A1:2C:19:08";

    fn answer() -> String {
        format!(
            "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\na=ice-lite\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\n\
             a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:{FINGERPRINT}\r\n\
             a=setup:passive\r\na=rtpmap:96 VP8/90000\r\na=candidate:1 1 udp 1 192.0.2.1 9 typ host\r\n"
        )
    }

    fn decode(role: Role, text: &str) -> Result<Answer, AnswerError> {
        Answer::decode(role, text.as_bytes(), |_| true)
    }

    #[test]
    fn answers_that_are_none() {
        let refused = |text: &str| decode(Role::Viewer, text).unwrap_err();
        let cases = [
            (answer().replace("a=fingerprint", "a=x"), "no fingerprint (a=f"),
            (answer().replace("sha-256", "sha-1"), "no fingerprint by sha-256"),
            (answer().replace("a=ice-pwd", "a=x"), "ICE credentials"),
            (answer().replace("SAVPF 96", "SAVPF 200"), "payload type"),
            (answer().replace("a=candidate", "a=x"), "no address"),
            (answer().replace("udp 1 ", "tcp 1 "), "no address"),
            (answer().replace("192.0.2.1 9", "b53e.local 9"), "no address"),
            (answer().replace("192.0.2.1 9", "192.0.2.1 0"), "no address"),
            (answer().replace("192.0.2.1 9", "239.0.0.1 9"), "no address"),
            (answer().replace("192.0.2.1 9", "0.0.0.0 9"), "no address"),
            (answer().replace("typ host", "typ"), "no address"),
            (answer().replace("typ host", "typ guest"), "no address"),
            ("v=0\r\n".to_owned(), "no media"),
            ("<html>".to_owned(), "no media"),
            (String::new(), "no media"),
            ("a=\0".to_owned(), "no text"),
            ("x".repeat(MAX_ANSWER_BYTES + 1), "longer than"),
            (answer() + &"m=video 9 RTP/AVP 96\r\n".repeat(arcly_rtp::sdp::MAX_MEDIA), "no description"),
        ];
        for (text, why) in cases {
            let error = refused(&text);
            assert!(error.to_string().contains(why), "{error}: {why}");
        }
        let error = Answer::decode(Role::Viewer, b"v=0\r\na=\xff", |_| true).unwrap_err();
        assert_eq!((error.reason(), error), (CloseReason::Malformed, AnswerError::NotText));
    }

    #[test]
    fn media_go_in_the_one_direction_that_they_can_have() {
        for (role, given, kept) in [
            (Role::Viewer, "sendrecv", "sendonly"),
            (Role::Viewer, "sendonly", "sendonly"),
            (Role::Viewer, "recvonly", "inactive"),
            (Role::Publisher, "sendrecv", "recvonly"),
            (Role::Publisher, "sendonly", "inactive"),
            (Role::Publisher, "inactive", "inactive"),
        ] {
            let answer = decode(role, &answer().replace("sendrecv", given)).unwrap();
            assert!(answer.as_str().contains(&format!("a={kept}\r\n")), "{role:?} {given}");
            assert_eq!(DIRECTIONS.iter().filter(|name| answer.as_str().contains(**name)).count(), 1);
        }
    }

    #[test]
    fn of_the_candidates_those_are_left_that_may_be_sent_to() {
        let more = "a=candidate:2 1 UDP 5 2001:db8::1 1000 typ srflx raddr 10.0.0.1 rport 9 generation 0\r\n\
                    a=candidate:3 2 udp 5 192.0.2.1 1001 typ host\r\n\
                    a=candidate:4 1 udp 5 ::ffff:192.0.2.1 9 typ host\r\n\
                    a=candidate:5 1 udp 5 10.0.0.1 9 typ host\r\n\
                    a=candidate:6 1 TCP 5 192.0.2.1 9 typ srflx raddr 10.0.0.1 rport 9 tcptype passive\r\n\
                    a=candidate:7 1 tcp 5 192.0.2.1 9 typ host tcptype passive\r\n\
                    a=candidate:8 1 tcp 5 192.0.2.2 9 typ host tcptype active\r\n\
                    a=candidate:9 1 tcp 5 192.0.2.2 9 typ host tcptype so\r\n\
                    a=candidate:10 1 tcp 5 192.0.2.2 9 typ host tcptype\r\n\
                    a=candidate:11 1 tcp 5 192.0.2.2 9 typ host\r\n\
                    a=candidate:12 1 tcp 5 10.0.0.1 9 typ host tcptype passive\r\na=end-of-candidates\r\n";
        let text = answer() + more;
        let public = |ip: IpAddr| ip != IpAddr::from([10, 0, 0, 1]);
        let answer = Answer::decode(Role::Viewer, text.as_bytes(), public).unwrap();
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let [udp, tcp] = [TransportAddress::udp, TransportAddress::tcp];
        let kept = [udp(at("192.0.2.1:9")), udp(at("[2001:db8::1]:1000")), tcp(at("192.0.2.1:9"))];
        assert_eq!(answer.candidates(), kept);
        let lines = answer.as_str().lines().filter(|line| line.contains("candidate")).collect::<Vec<_>>();
        assert_eq!(
            lines,
            [
                "a=candidate:1 1 udp 1 192.0.2.1 9 typ host",
                "a=candidate:2 1 udp 5 2001:db8::1 1000 typ srflx",
                "a=candidate:6 1 tcp 5 192.0.2.1 9 typ srflx tcptype passive"
            ]
        );
        assert_eq!(decode(Role::Viewer, answer.as_str()), Ok(answer), "once is enough");

        let many: String = (1..=100)
            .map(|port| format!("a=candidate:{port} 1 udp 5 192.0.2.9 {port} typ host\r\n"))
            .collect();
        let crowded = decode(Role::Viewer, &(text + &many)).unwrap();
        assert_eq!(crowded.candidates().len(), MAX_CANDIDATES);
        let nowhere = Answer::decode(Role::Viewer, crowded.as_str().as_bytes(), |_| false);
        assert_eq!(nowhere, Err(AnswerError::NoAddress));
    }
}
