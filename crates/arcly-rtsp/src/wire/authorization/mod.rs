//! Basic and Digest authentication: challenges, what answers them, and how an answer is checked.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 7617 | §2 Basic | [`Authorization::Basic`] |
//! | RFC 7616 | §3.3 challenge | [`DigestChallenge`] |
//! | | §3.4 answer: MD5, SHA-256 and their `-sess` forms; `qop=auth` | [`DigestResponse`] |
//! | RFC 2617 | §3.2.2.1 answers without `qop` | [`DigestResponse`] |
//! | RFC 7826 | §19.1 both in RTSP | |
//!
//! ```text
//!   client   WWW-Authenticate ──challenges──► Challenge ──Answers──► Authorization ──Display──►
//!   server   Nonces::issue ──► Challenge ──Display──►   Authorization ──FromStr──► verify, Nonces::check
//! ```
//!
//! Guarantees: no panic; [`MAX_PARAMETERS`] parameters and [`MAX_CHALLENGES`] challenges are looked at; secrets are compared in time that
//! does not depend on where they differ, and `Debug` shows none.
//!
//! Tolerated: parameters without quotes, or with a quote that never ends; `algorithm`, `qop` and `stale` in quotes and in any case; blanks
//! around `=`; a comma too many; several challenges in one header. Challenges of other schemes and algorithms are passed over.
//!
//! Not done: `qop=auth-int`, which nobody asks for, `userhash`, and SHA-512/256.

mod challenge;
mod digest;
mod nonce;
mod parameters;

pub use challenge::{Challenge, DigestChallenge, MAX_CHALLENGES, challenges};
pub use digest::{Algorithm, Answers, DigestResponse, Login, MAX_NONCE};
pub use nonce::{Freshness, NONCE_LIFETIME, Nonces};
pub use parameters::MAX_PARAMETERS;

use core::fmt;
use core::str::FromStr;

use arcly_core::wire::DecodeError;
use base64ct::{Base64, Base64Unpadded, Encoding as _};
use subtle::ConstantTimeEq as _;

use self::parameters::{Item, items};

/// What a client proves itself with: the value of `Authorization`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authorization {
    /// Name and password in the clear.
    Basic(Login),
    /// That the password is known.
    Digest(Box<DigestResponse>),
}

const MALFORMED: DecodeError = DecodeError::Malformed { what: "authorization", offset: 0 };

impl Authorization {
    /// The name that is claimed.
    #[must_use]
    pub fn user(&self) -> &str {
        match self {
            Self::Basic(login) => &login.user,
            Self::Digest(response) => &response.user,
        }
    }

    /// True when it proves that the password of [`user`](Self::user) is this one, for a request of that method. Whether nonce, realm
    /// and URI are the server's own is for the server to see.
    #[must_use]
    pub fn proves(&self, method: &str, password: &str) -> bool {
        match self {
            Self::Basic(login) => login.password.as_bytes().ct_eq(password.as_bytes()).into(),
            Self::Digest(response) => response.proves(method, password),
        }
    }
}

impl fmt::Debug for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self::Basic(_) => "Basic",
            Self::Digest(_) => "Digest",
        };
        write!(f, "{scheme} of {:?}", self.user())
    }
}

impl FromStr for Authorization {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let text = text.trim();
        let (scheme, rest) = text.split_once(char::is_whitespace).ok_or(MALFORMED)?;
        if scheme.eq_ignore_ascii_case("Basic") {
            return basic(rest).map(Self::Basic).ok_or(MALFORMED);
        }
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(DecodeError::Malformed { what: "authorization scheme", offset: 0 });
        }
        let mut response = DigestResponse::default();
        for item in items(rest)? {
            let Item::Parameter(name, value) = item else { return Err(MALFORMED) };
            response.set(name, value)?;
        }
        response.check()?;
        Ok(Self::Digest(Box::new(response)))
    }
}

fn basic(token: &str) -> Option<Login> {
    let bytes = Base64Unpadded::decode_vec(token.trim().trim_end_matches('=')).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (user, password) = text.split_once(':')?;
    Some(Login::new(user, password))
}

impl fmt::Display for Authorization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic(Login { user, password }) => {
                write!(f, "Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes()))
            }
            Self::Digest(response) => response.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
