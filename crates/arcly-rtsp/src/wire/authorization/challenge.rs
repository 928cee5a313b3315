//! What a server asks for.

use core::fmt;

use arcly_core::wire::DecodeResult;

use super::digest::{Algorithm, MAX_NONCE};
use super::parameters::{Item, Quoted, items};

/// Challenges of one answer that are looked at.
pub const MAX_CHALLENGES: usize = 8;

/// A way to prove oneself that a server offers: the value of `WWW-Authenticate`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Challenge {
    /// Name and password in the clear.
    Basic {
        /// What is protected.
        realm: String,
    },
    /// That the password is known.
    Digest(DigestChallenge),
}

/// The parameters of a Digest challenge (RFC 7616 §3.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DigestChallenge {
    /// What is protected.
    pub realm: String,
    /// The server's number, at most [`MAX_NONCE`] bytes.
    pub nonce: String,
    /// To be given back as it is.
    pub opaque: Option<String>,
    /// How to hash; MD5 when it is not said.
    pub algorithm: Algorithm,
    /// The nonce of the request was too old, and its credentials may be right.
    pub stale: bool,
    /// True when answers are to be counted (`qop=auth`).
    pub qop: bool,
}

/// The challenges in `WWW-Authenticate` headers that can be answered, the strongest first: Digest with SHA-256, Digest with MD5, Basic.
///
/// # Errors
/// A header is no list of challenges. Those of other headers are lost with it: their server is not believed.
pub fn challenges<'a>(headers: impl IntoIterator<Item = &'a str>) -> DecodeResult<Vec<Challenge>> {
    let mut found = Vec::new();
    for header in headers {
        let mut current: Option<Builder> = None;
        for item in items(header)? {
            match item {
                Item::Scheme(name) => {
                    found.extend(current.take().and_then(Builder::build));
                    current = Builder::of(name);
                }
                Item::Parameter(name, value) => {
                    if let Some(builder) = &mut current {
                        builder.set(name, &value);
                    }
                }
            }
        }
        found.extend(current.and_then(Builder::build));
    }
    found.truncate(MAX_CHALLENGES);
    found.sort_by_key(|challenge| match challenge {
        Challenge::Digest(challenge) if challenge.algorithm.is_sha256() => 0,
        Challenge::Digest(_) => 1,
        Challenge::Basic { .. } => 2,
    });
    Ok(found)
}

/// A challenge that is being read.
struct Builder {
    challenge: DigestChallenge,
    digest: bool,
    /// Something in it says that it cannot be answered.
    unknown: bool,
}

impl Builder {
    fn of(scheme: &str) -> Option<Self> {
        let digest = scheme.eq_ignore_ascii_case("Digest");
        let known = digest || scheme.eq_ignore_ascii_case("Basic");
        known.then(|| Self { challenge: DigestChallenge::default(), digest, unknown: false })
    }

    fn set(&mut self, name: &str, value: &str) {
        let challenge = &mut self.challenge;
        match name.to_ascii_lowercase().as_str() {
            "realm" => value.clone_into(&mut challenge.realm),
            "nonce" => value.clone_into(&mut challenge.nonce),
            "opaque" => challenge.opaque = Some(value.to_owned()),
            "stale" => challenge.stale = value.eq_ignore_ascii_case("true"),
            "algorithm" => match value.parse() {
                Ok(algorithm) => challenge.algorithm = algorithm,
                Err(_) => self.unknown = true,
            },
            "qop" => {
                challenge.qop = value.split(',').any(|qop| qop.trim().eq_ignore_ascii_case("auth"));
                self.unknown |= !challenge.qop && !value.trim().is_empty();
            }
            _ => {}
        }
    }

    fn build(self) -> Option<Challenge> {
        if !self.digest {
            return Some(Challenge::Basic { realm: self.challenge.realm });
        }
        let nonce = &self.challenge.nonce;
        let usable = !self.unknown && !nonce.is_empty() && nonce.len() <= MAX_NONCE;
        usable.then_some(Challenge::Digest(self.challenge))
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { realm } => write!(f, "Basic realm={}", Quoted(realm)),
            Self::Digest(challenge) => challenge.fmt(f),
        }
    }
}

impl fmt::Display for DigestChallenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest realm={}, nonce={}", Quoted(&self.realm), Quoted(&self.nonce))?;
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", Quoted(opaque))?;
        }
        // Clients of RFC 2069 know no other algorithm, and some of them no such parameter.
        if self.algorithm != Algorithm::Md5 {
            write!(f, ", algorithm={}", self.algorithm)?;
        }
        if self.qop {
            f.write_str(", qop=\"auth\"")?;
        }
        if self.stale {
            f.write_str(", stale=true")?;
        }
        Ok(())
    }
}
