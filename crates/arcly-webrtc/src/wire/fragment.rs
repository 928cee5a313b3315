use core::fmt;

use arcly_core::wire::{DecodeError, DecodeResult};

use super::Credentials;

/// Bytes of a fragment.
pub const MAX_FRAGMENT_BYTES: usize = 16 << 10;
/// Candidates of a peer, of all its fragments together.
pub const MAX_CANDIDATES: usize = 32;

/// What of a description is sent by itself (RFC 8840 §9): candidates that come later, and the credentials that they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// The credentials that it is about; none when it does not say.
    pub credentials: Option<Credentials>,
    /// How many candidates it brings. What they are nobody needs to know: a lite agent answers, and does not ask.
    pub candidates: usize,
    /// True when no more of them come.
    pub is_last: bool,
}

impl Fragment {
    /// Decodes a body.
    ///
    /// # Errors
    /// It is too long or no text, has too many candidates, or credentials that are none.
    pub fn decode(body: &[u8]) -> DecodeResult<Self> {
        if body.len() > MAX_FRAGMENT_BYTES {
            return Err(DecodeError::LimitExceeded { what: "fragment", limit: MAX_FRAGMENT_BYTES as u64 });
        }
        let malformed = |what| DecodeError::Malformed { what, offset: 0 };
        let text = core::str::from_utf8(body).map_err(|_| malformed("fragment"))?;
        let (mut fragment, mut ufrag, mut pwd) = (Self::default(), None, None);
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let Some(line) = line.strip_prefix("a=") else {
                // `m=` lines say which medium; there is one transport for all of them.
                if line.as_bytes().get(1) == Some(&b'=') {
                    continue;
                }
                return Err(malformed("fragment line"));
            };
            match line.split_once(':').unwrap_or((line, "")) {
                ("ice-ufrag", value) => ufrag = Some(value),
                ("ice-pwd", value) => pwd = Some(value),
                ("candidate", _) => fragment.candidates = fragment.candidates.saturating_add(1),
                ("end-of-candidates", _) => fragment.is_last = true,
                _ => {}
            }
        }
        if fragment.candidates > MAX_CANDIDATES {
            return Err(DecodeError::LimitExceeded { what: "candidates", limit: MAX_CANDIDATES as u64 });
        }
        if let (Some(ufrag), Some(pwd)) = (ufrag, pwd) {
            let credentials = Credentials::new(ufrag, pwd).ok_or_else(|| malformed("ice credentials"))?;
            fragment.credentials = Some(credentials);
        }
        Ok(fragment)
    }

    /// The fragment that answers an ICE restart: what of an answer is about ICE.
    #[must_use]
    pub fn of_answer(answer: &str) -> String {
        let about_ice = |line: &&str| {
            ["a=ice-", "a=candidate:", "a=end-of-candidates", "a=mid:", "a=group:BUNDLE", "m="]
                .iter()
                .any(|start| line.starts_with(start))
        };
        // The first medium has the transport of all; what follows would say the same again.
        let mut media = 0_usize;
        let first = |line: &&str| {
            media = media.saturating_add(usize::from(line.starts_with("m=")));
            media <= 1
        };
        answer.lines().take_while(first).filter(about_ice).map(|line| format!("{line}\r\n")).collect()
    }
}

impl fmt::Display for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Credentials { fragment, password }) = &self.credentials {
            write!(f, "a=ice-ufrag:{fragment}\r\na=ice-pwd:{password}\r\n")?;
        }
        f.write_str(if self.is_last { "a=end-of-candidates\r\n" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc9725_4_3_2_a_fragment_with_candidates() {
        let body = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\n\
                    a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
                    a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw\r\n\
                    a=end-of-candidates\r\n";
        let fragment = Fragment::decode(body.as_bytes()).unwrap();
        assert_eq!((fragment.candidates, fragment.is_last), (1, true));
        assert_eq!(fragment.credentials.as_ref().unwrap().fragment, "EsAw");
        assert_eq!(
            Fragment::decode(fragment.to_string().as_bytes()).unwrap().credentials,
            fragment.credentials
        );
    }

    #[test]
    fn w30_more_candidates_than_anybody_has() {
        let line = "a=candidate:1 1 udp 1 255.255.255.255 9 typ host\r\n";
        assert!(Fragment::decode(line.repeat(MAX_CANDIDATES).as_bytes()).is_ok());
        let error = Fragment::decode(line.repeat(MAX_CANDIDATES + 1).as_bytes()).unwrap_err();
        assert_eq!(error, DecodeError::LimitExceeded { what: "candidates", limit: MAX_CANDIDATES as u64 });
        assert!(Fragment::decode(&[b'a'; MAX_FRAGMENT_BYTES + 1]).is_err());
        assert!(Fragment::decode(b"nonsense").is_err() && Fragment::decode(b"a=\xff").is_err());
        assert!(Fragment::decode(b"a=ice-ufrag:x\r\na=ice-pwd:y\r\n").is_err());
        assert_eq!(Fragment::decode(b""), Ok(Fragment::default()));
    }
}
