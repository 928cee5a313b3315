//! Names and passwords from a configuration.

use core::fmt;
use std::collections::HashMap;

use async_trait::async_trait;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::{ActionSet, AuthError, AuthRequest, Grant, LoginProof, NameRule, RuleError, StreamAuthenticator};

/// Longest user name or password that is looked at, in bytes.
pub const MAX_SECRET: usize = 256;
/// Most rules, over all users.
pub const MAX_USERS: usize = 4_096;

/// Grants by user name and password.
///
/// A name may be added several times, with the same or another password: each addition is a rule of its own. Rules for
/// [anonymous](Self::with_anonymous) peers hold for everybody who shows no login, and for every user who shows a right one.
///
/// Passwords are compared as digests, in time independent of where they differ, and an unknown name takes as
/// long as a wrong password. Passwords stay in memory, as a [`LoginProof`] can be checked against nothing less. Wrap it in [`Throttled`](super::Throttled) where strangers can reach it.
#[derive(Default)]
pub struct StaticUsers {
    users: HashMap<String, Vec<Login>>,
    anonymous: Vec<Scope>,
    rules: usize,
}

struct Login {
    digest: [u8; 32],
    password: Box<str>,
    scope: Scope,
}

struct Scope {
    actions: ActionSet,
    name: NameRule,
}

impl Scope {
    fn covers(&self, request: &AuthRequest) -> bool {
        self.actions.contains(request.action) && self.name.covers(&request.key)
    }
}

impl StaticUsers {
    /// Nobody.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a rule for a user.
    ///
    /// # Errors
    /// Name or password is empty or longer than [`MAX_SECRET`], or there are [`MAX_USERS`] rules already.
    pub fn with_user(
        mut self,
        user: &str,
        password: &str,
        actions: ActionSet,
        name: NameRule,
    ) -> Result<Self, RuleError> {
        for (what, text) in [("user", user), ("password", password)] {
            if !(1..=MAX_SECRET).contains(&text.len()) {
                return Err(RuleError::Value(what));
            }
        }
        self.count_rule()?;
        let digest = digest(user, password)?.finalize().into_bytes().into();
        let login = Login { digest, password: password.into(), scope: Scope { actions, name } };
        self.users.entry(user.to_owned()).or_default().push(login);
        Ok(self)
    }

    /// The same with a rule for peers that show no login.
    ///
    /// # Errors
    /// There are [`MAX_USERS`] rules already.
    pub fn with_anonymous(mut self, actions: ActionSet, name: NameRule) -> Result<Self, RuleError> {
        self.count_rule()?;
        self.anonymous.push(Scope { actions, name });
        Ok(self)
    }

    const fn count_rule(&mut self) -> Result<(), RuleError> {
        if self.rules == MAX_USERS {
            return Err(RuleError::TooMany("user rules", MAX_USERS));
        }
        self.rules += 1;
        Ok(())
    }

    fn decide(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        let open = self.anonymous.iter().any(|scope| scope.covers(request));
        if let Some(proof) = &request.credentials.proof {
            return self.decide_proof(proof, request, open);
        }
        let Some((user, password)) = request.credentials.login() else {
            return if open { Ok(Grant::unlimited()) } else { Err(AuthError::Unauthorized) };
        };
        if user.len() > MAX_SECRET || password.len() > MAX_SECRET {
            return Err(AuthError::Unauthorized);
        }
        let shown = digest(user, password).map_err(|_| AuthError::Unavailable)?;
        let logins = self.users.get(user).map_or(&[][..], Vec::as_slice);
        let (mut known, mut allowed) = (false, open);
        for login in logins {
            if shown.clone().verify_slice(&login.digest).is_ok() {
                known = true;
                allowed |= login.scope.covers(request);
            }
        }
        if logins.is_empty() {
            // As much work as for a name that exists.
            let _ = shown.verify_slice(&[0; 32]);
        }
        granted(user, known, allowed)
    }

    fn decide_proof(
        &self,
        proof: &LoginProof,
        request: &AuthRequest,
        open: bool,
    ) -> Result<Grant, AuthError> {
        let logins = self.users.get(proof.user()).map_or(&[][..], Vec::as_slice);
        let (mut known, mut allowed) = (false, open);
        for login in logins.iter().filter(|login| proof.proves(&login.password)) {
            known = true;
            allowed |= login.scope.covers(request);
        }
        if logins.is_empty() {
            // As much work as for a name that exists.
            let _ = proof.proves("");
        }
        granted(proof.user(), known, allowed)
    }
}

fn granted(user: &str, known: bool, allowed: bool) -> Result<Grant, AuthError> {
    match (known, allowed) {
        (true, true) => Ok(Grant::unlimited().to(user)),
        (true, false) => Err(AuthError::Forbidden),
        (false, _) => Err(AuthError::Unauthorized),
    }
}

/// Keyed with the user's name, so that one password of two users has two digests.
fn digest(user: &str, password: &str) -> Result<Hmac<Sha256>, RuleError> {
    let keyed = Hmac::<Sha256>::new_from_slice(user.as_bytes()).map_err(|_| RuleError::Value("user"))?;
    Ok(keyed.chain_update(password.as_bytes()))
}

impl fmt::Debug for StaticUsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaticUsers").field("users", &self.users.len()).field("rules", &self.rules).finish()
    }
}

#[async_trait]
impl StreamAuthenticator for StaticUsers {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        self.decide(request)
    }
}
