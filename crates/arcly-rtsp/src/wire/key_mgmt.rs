//! The KeyMgmt header (RFC 4567 §4.2) and `a=key-mgmt` (§3.1): which protocol says the keys, about what, and what it says.
//!
//! Tolerated: values with and without quotes, blanks, parameters in any order and those that are not known, several entries
//! of which one is MIKEY's.

use core::fmt;
use core::str::FromStr;

use arcly_core::wire::DecodeError;

/// The one protocol that is spoken.
const MIKEY: &str = "mikey";
/// Characters of a message that are looked at: what [`srtp::mikey`](crate::srtp::mikey) would take.
pub const MAX_DATA: usize = 8 << 10;
/// Entries of one header that are looked at.
const MAX_ENTRIES: usize = 4;

/// A MIKEY message in Base64, and the medium that its key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyMgmt {
    /// The medium's control URL; empty when nothing is said.
    pub uri: String,
    /// The message.
    pub data: String,
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what, offset: 0 }
}

impl KeyMgmt {
    /// The message of `a=key-mgmt:mikey …`, by the attribute's value.
    #[must_use]
    pub fn of_attribute(value: &str) -> Option<&str> {
        let (protocol, data) = value.trim().split_once(char::is_whitespace)?;
        protocol.eq_ignore_ascii_case(MIKEY).then(|| data.trim())
    }
}

impl FromStr for KeyMgmt {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        // Neither Base64 nor a URL that is escaped has these two.
        for entry in text.split(',').take(MAX_ENTRIES) {
            let (mut protocol, mut uri, mut data) = ("", "", "");
            for part in entry.split(';') {
                let (name, value) = part.split_once('=').ok_or(malformed("KeyMgmt"))?;
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "prot" => protocol = value,
                    "uri" => uri = value,
                    "data" => data = value,
                    _ => {}
                }
            }
            if !protocol.eq_ignore_ascii_case(MIKEY) {
                continue;
            }
            if data.is_empty() {
                return Err(malformed("KeyMgmt data"));
            }
            if data.len() > MAX_DATA {
                return Err(DecodeError::LimitExceeded { what: "mikey", limit: MAX_DATA as u64 });
            }
            return Ok(Self { uri: uri.to_owned(), data: data.to_owned() });
        }
        Err(malformed("KeyMgmt prot"))
    }
}

impl fmt::Display for KeyMgmt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let uri = self.uri.replace('"', "%22");
        write!(f, "prot={MIKEY};uri=\"{uri}\";data=\"{}\"", self.data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(uri: &str, data: &str) -> KeyMgmt {
        KeyMgmt { uri: uri.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn headers() {
        let cases = [
            // RFC 4567 §4.2.
            (
                "prot=mikey; uri=\"rtsp://movies.example.com/action\"; data=\"AQEF/w==\"",
                Ok(entry("rtsp://movies.example.com/action", "AQEF/w==")),
            ),
            (
                "prot=mikey;uri=\"rtsps://h/live/cam?a=b/trackID=0\";data=\"AQ==\"",
                Ok(entry("rtsps://h/live/cam?a=b/trackID=0", "AQ==")),
            ),
            ("PROT = \"MIKEY\"; data=AQ==; x=y", Ok(entry("", "AQ=="))),
            ("prot=other;data=\"x\",prot=mikey;data=\"AQ==\"", Ok(entry("", "AQ=="))),
            ("prot=other;data=\"x\"", Err(malformed("KeyMgmt prot"))),
            ("prot=mikey", Err(malformed("KeyMgmt data"))),
            ("prot=mikey;data=\"\"", Err(malformed("KeyMgmt data"))),
            ("mikey", Err(malformed("KeyMgmt"))),
            ("", Err(malformed("KeyMgmt"))),
        ];
        for (header, expect) in cases {
            assert_eq!(header.parse(), expect, "{header}");
            if let Ok(expect) = expect {
                assert_eq!(expect.to_string().parse(), Ok(expect));
            }
        }
        let long = format!("prot=mikey;data={}", "A".repeat(MAX_DATA + 1));
        assert!(matches!(long.parse::<KeyMgmt>(), Err(DecodeError::LimitExceeded { .. })));
    }

    #[test]
    fn attributes() {
        assert_eq!(KeyMgmt::of_attribute("mikey AQEF/w=="), Some("AQEF/w=="));
        assert_eq!(KeyMgmt::of_attribute(" MIKEY\tAQ== "), Some("AQ=="));
        for none in ["mikey", "other AQ==", ""] {
            assert_eq!(KeyMgmt::of_attribute(none), None);
        }
    }
}
