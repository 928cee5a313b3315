//! Who may do what: the question every protocol asks before a session publishes, plays or calls the API.
//!
//! | authenticator | knows |
//! |---|---|
//! | [`AllowAll`] | nobody: everything is granted |
//! | [`StaticUsers`] | names and passwords from a configuration |
//! | [`HmacTokenAuthenticator`] | signed tokens with a deadline, minted elsewhere |
//! | [`Throttled`] | another authenticator; slows down addresses that fail |
//!
//! ```
//! use arcly_core::StreamKey;
//! use arcly_core::contract::auth::{Action, ActionSet, AuthRequest, Credentials, NameRule, StaticUsers, StreamAuthenticator};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let users = StaticUsers::new().with_user("studio", "s3cret", ActionSet::PUBLISH, NameRule::parse("live/*")?)?;
//! let credentials = Credentials::new("rtmp").with_login("studio", "s3cret");
//! let request = AuthRequest::new(Action::Publish, StreamKey::new("live", "cam"), credentials);
//! assert!(users.authenticate(&request).await.is_ok());
//! # Ok::<(), arcly_core::contract::auth::RuleError>(())
//! # }).unwrap();
//! ```

mod proof;
mod rule;
mod throttle;
mod token;
mod users;

#[cfg(test)]
mod tests;

use core::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;

pub use self::proof::LoginProof;
pub use self::rule::{ActionSet, NameRule, RuleError};
pub use self::throttle::{Admission, LoginThrottle, Throttled};
pub use self::token::{
    Claims, HmacTokenAuthenticator, MAX_KEYS, MAX_ONCE_LIFETIME, MAX_TOKEN, MAX_USED_TOKENS, mint,
};
pub use self::users::{MAX_SECRET, MAX_USERS, StaticUsers};

use crate::close::CloseReason;
use crate::key::StreamKey;

/// What somebody wants to do with a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Action {
    /// Send media into it.
    Publish,
    /// Receive its media.
    Play,
    /// Read or change it through the API.
    Api,
}

impl Action {
    /// The name in tokens, configuration, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Play => "play",
            Self::Api => "api",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a peer shows, in whatever way its protocol carries it. Absent parts are `None`.
///
/// `Debug` shows neither password nor token nor query (H18).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub user: Option<String>,
    /// Password.
    pub password: Option<String>,
    /// What proves that the password of [`user`](Self::user) is known, without showing it: an answer to a Digest challenge.
    pub proof: Option<LoginProof>,
    /// A bearer token that the protocol has a place for: an HTTP `Authorization: Bearer`, a WHIP token.
    pub token: Option<String>,
    /// The query of the URL or stream name, without `?`, still percent-encoded.
    pub query: Option<String>,
    /// The peer's address, when there is a network between.
    pub remote: Option<SocketAddr>,
    /// The protocol's name, as in metrics: `rtmp`, `http`, …
    pub protocol: &'static str,
}

impl Credentials {
    /// Nothing but the protocol's name.
    #[must_use]
    pub fn new(protocol: &'static str) -> Self {
        Self { protocol, ..Self::default() }
    }

    /// The same with a user name and password.
    #[must_use]
    pub fn with_login(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self.password = Some(password.into());
        self
    }

    /// The same with a user name, and a proof that its password is known. Authenticators that do not know passwords
    /// answer it with [`AuthError::Unauthorized`].
    #[must_use]
    pub fn with_proof(mut self, proof: LoginProof) -> Self {
        self.user = Some(proof.user().to_owned());
        self.proof = Some(proof);
        self
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// The same with a query.
    #[must_use]
    pub fn with_query(mut self, query: impl Into<String>) -> Self {
        self.query = Some(query.into());
        self
    }

    /// The same with the peer's address.
    #[must_use]
    pub const fn with_remote(mut self, remote: SocketAddr) -> Self {
        self.remote = Some(remote);
        self
    }

    /// The token, wherever it was put: its own field, `token=` in the query, or the password (SRT stream ids and
    /// RTMP URLs have no other place).
    #[must_use]
    pub fn bearer(&self) -> Option<&str> {
        self.token.as_deref().or_else(|| self.query_value("token")).or(self.password.as_deref())
    }

    /// The user name and password: their own fields, else `user=` and `pass=` in the query, as they are.
    #[must_use]
    pub fn login(&self) -> Option<(&str, &str)> {
        match (&self.user, &self.password) {
            (Some(user), Some(password)) => Some((user, password)),
            _ => Some((self.query_value("user")?, self.query_value("pass")?)),
        }
    }

    /// True when nothing was shown that could prove anything.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.bearer().is_none() && self.login().is_none() && self.proof.is_none()
    }

    /// The first value of that name in the query, still percent-encoded.
    fn query_value(&self, name: &str) -> Option<&str> {
        let pairs = self.query.as_deref()?.split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = |value: &Option<String>| value.as_ref().map(|_| "…");
        f.debug_struct("Credentials")
            .field("protocol", &self.protocol)
            .field("remote", &self.remote)
            .field("user", &self.user)
            .field("password", &secret(&self.password))
            .field("proof", &self.proof)
            .field("token", &secret(&self.token))
            .field("query", &secret(&self.query))
            .finish()
    }
}

/// One question to a [`StreamAuthenticator`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuthRequest {
    /// What is wanted.
    pub action: Action,
    /// With which stream.
    pub key: StreamKey,
    /// By whom.
    pub credentials: Credentials,
}

impl AuthRequest {
    /// A question.
    #[must_use]
    pub const fn new(action: Action, key: StreamKey, credentials: Credentials) -> Self {
        Self { action, key, credentials }
    }
}

/// The answer yes, and how far it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grant {
    /// When the session has to end as `unauthorized`; `None` for never.
    pub expires_at: Option<SystemTime>,
    /// Who it is, for logs and the API: a user's name or a token's key id. Never a secret.
    pub subject: Option<Arc<str>>,
}

impl Grant {
    /// A grant without end, to nobody in particular.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { expires_at: None, subject: None }
    }

    /// The same, ending at `at`.
    #[must_use]
    pub const fn until(mut self, at: SystemTime) -> Self {
        self.expires_at = Some(at);
        self
    }

    /// The same, to `subject`.
    #[must_use]
    pub fn to(mut self, subject: impl Into<Arc<str>>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// True when the session has to end.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// The answer no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthError {
    /// Credentials are missing, wrong or expired; better ones may help.
    #[error("credentials are missing, wrong or expired")]
    Unauthorized,
    /// The credentials are good and do not cover this.
    #[error("the credentials do not allow this")]
    Forbidden,
    /// It cannot be decided now. The answer is no all the same.
    #[error("authentication is not available at the moment")]
    Unavailable,
}

impl From<AuthError> for CloseReason {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Unauthorized => Self::Unauthorized,
            AuthError::Forbidden => Self::Forbidden,
            AuthError::Unavailable => Self::Overloaded,
        }
    }
}

/// Decides who may publish, play and call the API.
///
/// Asked once per session, before it is told anything about the stream. An implementation that calls out
/// bounds its own time; whoever cannot decide answers [`AuthError::Unavailable`], never yes.
#[async_trait]
pub trait StreamAuthenticator: Send + Sync {
    /// Answers one question. Cancel safe: dropping the future decides nothing, though a one-time token may
    /// already be spent.
    ///
    /// # Errors
    /// [`AuthError`] says in which way the answer is no.
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError>;
}

/// Grants everything to everybody.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

#[async_trait]
impl StreamAuthenticator for AllowAll {
    async fn authenticate(&self, _: &AuthRequest) -> Result<Grant, AuthError> {
        Ok(Grant::unlimited())
    }
}

#[async_trait]
impl<T: StreamAuthenticator + ?Sized> StreamAuthenticator for Arc<T> {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        (**self).authenticate(request).await
    }
}
