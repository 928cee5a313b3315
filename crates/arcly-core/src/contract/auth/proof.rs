//! Passwords that are known, and not shown.

use core::fmt;
use std::sync::Arc;

/// A proof that a user's password is known, for whoever knows it too: an answer to a Digest challenge (RFC 7616).
///
/// It is checked against a password; it holds none. Two proofs are equal when one is a clone of the other.
#[derive(Clone)]
pub struct LoginProof {
    user: Arc<str>,
    proves: Arc<dyn Fn(&str) -> bool + Send + Sync>,
}

impl LoginProof {
    /// A proof by `user`. `proves` says whether it was made with a password, in time that does not depend on where the two
    /// differ.
    pub fn new(user: impl Into<Arc<str>>, proves: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { user: user.into(), proves: Arc::new(proves) }
    }

    /// Who claims to know the password.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// True when it was made with this password.
    #[must_use]
    pub fn proves(&self, password: &str) -> bool {
        (self.proves)(password)
    }
}

impl PartialEq for LoginProof {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && Arc::ptr_eq(&self.proves, &other.proves)
    }
}

impl Eq for LoginProof {}

impl fmt::Debug for LoginProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LoginProof(by {:?})", self.user)
    }
}
