//! What answers a Digest challenge.

use core::fmt;
use core::str::FromStr;
use std::borrow::Cow;
use std::sync::Arc;

use arcly_core::wire::{DecodeError, DecodeResult};
use md5::Md5;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq as _;

use super::challenge::{Challenge, DigestChallenge};
use super::parameters::Quoted;
use super::{Authorization, MALFORMED};

/// Bytes of a nonce, and of any other value that a server chooses or a client claims.
pub const MAX_NONCE: usize = 1_024;

/// A user name and a password. `Debug` shows the name alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The name; no colon for Basic.
    pub user: Arc<str>,
    /// The password.
    pub password: Arc<str>,
}

impl Login {
    /// A name and a password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How a Digest is made (RFC 7616 §3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// `MD5`.
    #[default]
    Md5,
    /// `MD5-sess`: the secret is hashed with the first nonces once more.
    Md5Sess,
    /// `SHA-256`.
    Sha256,
    /// `SHA-256-sess`.
    Sha256Sess,
}

impl Algorithm {
    /// True for SHA-256 and its `-sess` form.
    #[must_use]
    pub const fn is_sha256(self) -> bool {
        matches!(self, Self::Sha256 | Self::Sha256Sess)
    }

    const fn is_session(self) -> bool {
        matches!(self, Self::Md5Sess | Self::Sha256Sess)
    }

    /// `H` over parts with colons between them, in hexadecimal.
    fn hash(self, parts: &[&str]) -> String {
        fn over<D: Digest>(parts: &[&str]) -> String {
            let mut digest = D::new();
            for (at, part) in parts.iter().enumerate() {
                if at > 0 {
                    digest.update(b":");
                }
                digest.update(part.as_bytes());
            }
            hex(&digest.finalize())
        }
        if self.is_sha256() { over::<Sha256>(parts) } else { over::<Md5>(parts) }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.filter_map(|digit| char::from_digit(digit.into(), 16)).collect()
}

impl FromStr for Algorithm {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let all = [Self::Md5, Self::Md5Sess, Self::Sha256, Self::Sha256Sess];
        let found = all.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(text.trim()));
        found.ok_or(DecodeError::Malformed { what: "digest algorithm", offset: 0 })
    }
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Md5Sess => "MD5-sess",
            Self::Sha256 => "SHA-256",
            Self::Sha256Sess => "SHA-256-sess",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The parameters of a Digest answer (RFC 7616 §3.4), as they came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DigestResponse {
    /// Who it claims to be.
    pub user: String,
    /// What it believes to be protected.
    pub realm: String,
    /// The server's number that it answers.
    pub nonce: String,
    /// What the answer was made for; clients of RTSP do not always put here what the request says.
    pub uri: String,
    /// How it was hashed; MD5 when it is not said.
    pub algorithm: Algorithm,
    /// The server's value, given back.
    pub opaque: Option<String>,
    /// The client's number, and how often it has answered this nonce; with `qop=auth`.
    pub counted: Option<(String, u32)>,
    /// The client's number of a `-sess` algorithm without `qop`.
    cnonce: String,
    /// `nc` as it was written: it is hashed so.
    count: String,
    /// The proof, in hexadecimal.
    response: String,
}

impl DigestResponse {
    pub(super) fn set(&mut self, name: &str, value: Cow<'_, str>) -> DecodeResult<()> {
        if value.len() > MAX_NONCE {
            return Err(DecodeError::LimitExceeded { what: "auth_value", limit: MAX_NONCE as u64 });
        }
        match name.to_ascii_lowercase().as_str() {
            "username" => self.user = value.into_owned(),
            "realm" => self.realm = value.into_owned(),
            "nonce" => self.nonce = value.into_owned(),
            "uri" => self.uri = value.into_owned(),
            "response" => self.response = value.to_ascii_lowercase(),
            "algorithm" => self.algorithm = value.parse()?,
            "opaque" => self.opaque = Some(value.into_owned()),
            "cnonce" => self.cnonce = value.into_owned(),
            "nc" => self.count = value.into_owned(),
            "qop" if value.trim().eq_ignore_ascii_case("auth") => {
                self.counted = Some((String::new(), 0));
            }
            "qop" => return Err(DecodeError::Malformed { what: "digest qop", offset: 0 }),
            _ => {}
        }
        Ok(())
    }

    /// Everything that an answer needs is there.
    pub(super) fn check(&mut self) -> DecodeResult<()> {
        if self.user.is_empty() || self.nonce.is_empty() || self.uri.is_empty() || self.response.is_empty() {
            return Err(MALFORMED);
        }
        if let Some((cnonce, count)) = &mut self.counted {
            let malformed = DecodeError::Malformed { what: "digest nc", offset: 0 };
            *count = u32::from_str_radix(&self.count, 16).map_err(|_| malformed)?;
            self.cnonce.clone_into(cnonce);
        }
        Ok(())
    }

    /// True when whoever made it knows the password. Takes the same time wherever it is wrong.
    #[must_use]
    pub fn proves(&self, method: &str, password: &str) -> bool {
        self.response.as_bytes().ct_eq(self.expected(method, password).as_bytes()).into()
    }

    /// `response` as it should be (RFC 7616 §3.4.1; without `qop` RFC 2617 §3.2.2.1).
    fn expected(&self, method: &str, password: &str) -> String {
        let hash = |parts: &[&str]| self.algorithm.hash(parts);
        let mut secret = hash(&[&self.user, &self.realm, password]);
        if self.algorithm.is_session() {
            secret = hash(&[&secret, &self.nonce, &self.cnonce]);
        }
        let request = hash(&[method, &self.uri]);
        match self.counted {
            Some(_) => hash(&[&secret, &self.nonce, &self.count, &self.cnonce, "auth", &request]),
            None => hash(&[&secret, &self.nonce, &request]),
        }
    }
}

impl fmt::Display for DigestResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest username={}, realm={}", Quoted(&self.user), Quoted(&self.realm))?;
        write!(f, ", nonce={}, uri={}", Quoted(&self.nonce), Quoted(&self.uri))?;
        write!(f, ", response={}", Quoted(&self.response))?;
        if self.algorithm != Algorithm::Md5 {
            write!(f, ", algorithm={}", self.algorithm)?;
        }
        if let Some(opaque) = &self.opaque {
            write!(f, ", opaque={}", Quoted(opaque))?;
        }
        if self.counted.is_some() {
            write!(f, ", qop=auth, nc={}", self.count)?;
        }
        if !self.cnonce.is_empty() {
            write!(f, ", cnonce={}", Quoted(&self.cnonce))?;
        }
        Ok(())
    }
}

/// Answers the challenges of one server.
#[derive(Clone, Debug)]
pub struct Answers {
    login: Login,
    /// The client's number: random, in hexadecimal.
    cnonce: String,
    challenge: Option<Challenge>,
    /// Answers to this nonce so far.
    count: u32,
}

impl Answers {
    /// Proves itself with that login; `random` is what the client's own numbers are made of.
    #[must_use]
    pub fn new(login: Login, random: [u8; 16]) -> Self {
        Self { login, cnonce: hex(&random), challenge: None, count: 0 }
    }

    /// Takes the strongest of the server's challenges; false when none can be answered.
    pub fn take(&mut self, offered: &[Challenge]) -> bool {
        self.challenge = offered.first().cloned();
        self.count = 0;
        self.challenge.is_some()
    }

    /// True once the server has asked for something that can be answered.
    #[must_use]
    pub const fn is_asked(&self) -> bool {
        self.challenge.is_some()
    }

    /// What goes with a request; `None` before the server has asked.
    pub fn answer(&mut self, method: &str, uri: &str) -> Option<Authorization> {
        match self.challenge.as_ref()? {
            Challenge::Basic { .. } => Some(Authorization::Basic(self.login.clone())),
            Challenge::Digest(challenge) => {
                self.count = self.count.saturating_add(1);
                let response = self.digest(challenge, method, uri);
                Some(Authorization::Digest(Box::new(response)))
            }
        }
    }

    fn digest(&self, challenge: &DigestChallenge, method: &str, uri: &str) -> DigestResponse {
        let DigestChallenge { realm, nonce, opaque, algorithm, qop, .. } = challenge.clone();
        let cnonce = if qop || algorithm.is_session() { self.cnonce.clone() } else { String::new() };
        let mut response = DigestResponse {
            user: self.login.user.as_ref().to_owned(),
            realm,
            nonce,
            uri: uri.to_owned(),
            algorithm,
            opaque,
            counted: qop.then(|| (cnonce.clone(), self.count)),
            cnonce,
            count: format!("{:08x}", self.count),
            response: String::new(),
        };
        response.response = response.expected(method, &self.login.password);
        response
    }
}
