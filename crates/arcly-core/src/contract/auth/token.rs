//! Signed tokens: whoever holds a key mints them, whoever holds the same key checks them offline.

use core::fmt;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use base64ct::{Base64UrlUnpadded, Encoding};
use hmac::{Hmac, KeyInit, Mac};
use parking_lot::Mutex;
use sha2::Sha256;

use super::{Action, ActionSet, AuthError, AuthRequest, Grant, NameRule, RuleError, StreamAuthenticator};
use crate::key::StreamKey;

/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 1_024;
/// Most keys an authenticator has at a time: enough to rotate.
pub const MAX_KEYS: usize = 16;
/// Most one-time tokens remembered as spent; when that many are unexpired, further ones are refused.
pub const MAX_USED_TOKENS: usize = 65_536;
/// Farthest that a one-time token's `exp` may lie ahead.
pub const MAX_ONCE_LIFETIME: Duration = Duration::from_secs(3_600);

/// Shortest key, in bytes; RFC 2104 section 3 discourages keys shorter than the digest, and secrets in
/// configurations are often text of half the density.
const MIN_KEY: usize = 16;
const MAX_KID: usize = 32;
const MAX_NONCE: usize = 64;
const TAG_LEN: usize = 32;

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claims {
    /// What it allows.
    pub actions: ActionSet,
    /// With which streams.
    pub name: NameRule,
    /// Seconds since 1970 from which on it is valid.
    pub not_before: Option<u64>,
    /// Seconds since 1970 at which it stops being valid, and the session ends.
    pub expires: Option<u64>,
    /// Makes it a one-time token: 1 to 64 of `[A-Za-z0-9_-]`, different for each; whoever mints it has the randomness.
    pub once: Option<String>,
}

impl Claims {
    /// One action on one stream, for ever.
    #[must_use]
    pub const fn new(actions: ActionSet, name: NameRule) -> Self {
        Self { actions, name, not_before: None, expires: None, once: None }
    }

    /// The same, ending at `at`, cut to the second.
    #[must_use]
    pub fn until(mut self, at: SystemTime) -> Self {
        self.expires = Some(unix(at));
        self
    }

    /// The same, beginning at `at`, cut to the second.
    #[must_use]
    pub fn from(mut self, at: SystemTime) -> Self {
        self.not_before = Some(unix(at));
        self
    }

    /// The same, for one session.
    #[must_use]
    pub fn once(mut self, nonce: impl Into<String>) -> Self {
        self.once = Some(nonce.into());
        self
    }

    fn encode(&self, kid: &str) -> String {
        let mut text = format!("v1;kid={kid};act={};name={}", self.actions, self.name);
        for (name, seconds) in [("nbf", self.not_before), ("exp", self.expires)] {
            if let Some(seconds) = seconds {
                text.push_str(&format!(";{name}={seconds}"));
            }
        }
        if let Some(nonce) = &self.once {
            text.push_str(&format!(";once={nonce}"));
        }
        text
    }

    /// The key id and the claims of a payload; `None` for anything that [`encode`](Self::encode) does not make.
    fn decode(text: &str) -> Option<(&str, Self)> {
        let mut fields = text.strip_prefix("v1;")?.split(';').map(|f| f.split_once('=')).peekable();
        let mut take = |name: &str| {
            let field = fields.next_if(|field| field.is_some_and(|(n, _)| n == name));
            field.flatten().map(|(_, value)| value)
        };
        let kid = take("kid")?;
        let actions = take("act")?.parse().ok()?;
        let name = NameRule::parse(take("name")?).ok()?;
        let mut claims = Self::new(actions, name);
        for (name, slot) in [("nbf", &mut claims.not_before), ("exp", &mut claims.expires)] {
            if let Some(seconds) = take(name) {
                *slot = Some(seconds.parse().ok()?);
            }
        }
        if let Some(nonce) = take("once") {
            claims.once = Some(nonce.to_owned());
        }
        fields.next().is_none().then_some((kid, claims))
    }
}

/// Signs claims with the key that the checking side knows as `kid`.
///
/// # Errors
/// The key id, the key or the nonce is not one that [`HmacTokenAuthenticator`] accepts.
pub fn mint(kid: &str, key: &[u8], claims: &Claims) -> Result<String, RuleError> {
    check_kid(kid)?;
    if let Some(nonce) = &claims.once {
        check_word("once", nonce, MAX_NONCE)?;
        claims.expires.ok_or(RuleError::Value("exp"))?;
    }
    let claims = Base64UrlUnpadded::encode_string(claims.encode(kid).as_bytes());
    let tag = keyed(key)?.chain_update(claims.as_bytes()).finalize().into_bytes();
    Ok(format!("{claims}.{}", Base64UrlUnpadded::encode_string(&tag)))
}

/// Grants what a signed token says. Several keys may be valid at once, told apart by their ids.
///
/// ```text
/// token   = claims "." tag
/// claims  = base64url(text)              RFC 4648 section 5, no padding
/// tag     = base64url(HMAC-SHA256(key, claims))     over the encoded claims as they stand
/// text    = "v1" ";kid=" ID ";act=" action *("," action) ";name=" rule
///           [";nbf=" seconds] [";exp=" seconds] [";once=" nonce]
/// ```
///
/// `kid` names the key, `act` is [`ActionSet`], `name` is [`NameRule`], times are seconds since 1970 (UTC): the token
/// is valid from `nbf` on and until just before `exp`. The fields stand in this order, each at most once; anything
/// else is refused. The algorithm is no part of the token and cannot be negotiated. A token with `once` is good
/// for one session; it must have `exp`, at most [`MAX_ONCE_LIFETIME`] ahead, so that the memory of spent tokens is bounded.
///
/// **Guarantees.** Work is bounded by [`MAX_TOKEN`] and done only after the length is checked; nothing of the
/// claims is believed before the tag is verified, in time independent of where it differs.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use arcly_core::StreamKey;
/// use arcly_core::contract::auth::{Action, ActionSet, Claims, HmacTokenAuthenticator, NameRule, mint};
///
/// let auth = HmacTokenAuthenticator::new().with_key("2026-11", b"0123456789abcdef0123456789abcdef")?;
/// let now = SystemTime::now();
/// let claims = Claims::new(ActionSet::PUBLISH, NameRule::parse("live/cam")?).until(now + Duration::from_secs(60));
/// let token = mint("2026-11", b"0123456789abcdef0123456789abcdef", &claims)?;
/// assert!(auth.verify(&token, Action::Publish, &StreamKey::new("live", "cam"), now).is_ok());
/// assert!(auth.verify(&token, Action::Play, &StreamKey::new("live", "cam"), now).is_err());
/// # Ok::<(), arcly_core::contract::auth::RuleError>(())
/// ```
#[derive(Default)]
pub struct HmacTokenAuthenticator {
    keys: BTreeMap<String, Hmac<Sha256>>,
    used: Mutex<UsedTokens>,
}

impl HmacTokenAuthenticator {
    /// An authenticator without keys, which refuses everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with a further key of at least 16 bytes; one of the same id is replaced.
    ///
    /// # Errors
    /// The id is not 1 to 32 of `[A-Za-z0-9_-]`, the key is too short, or there are [`MAX_KEYS`] already.
    pub fn with_key(mut self, kid: &str, key: &[u8]) -> Result<Self, RuleError> {
        check_kid(kid)?;
        self.keys.insert(kid.to_owned(), keyed(key)?);
        if self.keys.len() > MAX_KEYS {
            return Err(RuleError::TooMany("keys", MAX_KEYS));
        }
        Ok(self)
    }

    /// What a token grants at `now`. A one-time token is spent by a yes, and only by that.
    ///
    /// # Errors
    /// [`AuthError::Unauthorized`] for a token that is no token, unsigned, early, late or spent;
    /// [`AuthError::Forbidden`] for a good one that does not cover `action` on `key`;
    /// [`AuthError::Unavailable`] when no further one-time token can be remembered.
    pub fn verify(
        &self,
        token: &str,
        action: Action,
        key: &StreamKey,
        now: SystemTime,
    ) -> Result<Grant, AuthError> {
        let (kid, claims, tag) = self.signed(token).ok_or(AuthError::Unauthorized)?;
        let now = unix(now);
        if claims.not_before.is_some_and(|from| now < from) || claims.expires.is_some_and(|end| end <= now) {
            return Err(AuthError::Unauthorized);
        }
        if !claims.actions.contains(action) || !claims.name.covers(key) {
            return Err(AuthError::Forbidden);
        }
        let expires_at = match claims.expires {
            Some(end) => {
                Some(UNIX_EPOCH.checked_add(Duration::from_secs(end)).ok_or(AuthError::Unauthorized)?)
            }
            None => None,
        };
        if claims.once.is_some() {
            let end = claims.expires.ok_or(AuthError::Unauthorized)?;
            self.used.lock().spend(now, end, tag)?;
        }
        Ok(Grant { expires_at, ..Grant::unlimited().to(kid) })
    }

    /// Key id, claims and tag of a token whose tag is right.
    fn signed(&self, token: &str) -> Option<(String, Claims, [u8; TAG_LEN])> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let (encoded, tag) = token.split_once('.')?;
        let tag: [u8; TAG_LEN] = Base64UrlUnpadded::decode_vec(tag).ok()?.try_into().ok()?;
        let text = String::from_utf8(Base64UrlUnpadded::decode_vec(encoded).ok()?).ok()?;
        let (kid, claims) = Claims::decode(&text)?;
        let mac = self.keys.get(kid)?.clone().chain_update(encoded.as_bytes());
        mac.verify_slice(&tag).ok()?;
        Some((kid.to_owned(), claims, tag))
    }
}

impl fmt::Debug for HmacTokenAuthenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HmacTokenAuthenticator").field("kids", &self.keys.keys()).finish_non_exhaustive()
    }
}

#[async_trait]
impl StreamAuthenticator for HmacTokenAuthenticator {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        let token = request.credentials.bearer().ok_or(AuthError::Unauthorized)?;
        self.verify(token, request.action, &request.key, SystemTime::now())
    }
}

/// The tags of spent one-time tokens, by the second in which they expire.
#[derive(Default)]
pub(super) struct UsedTokens(BTreeSet<(u64, [u8; TAG_LEN])>);

impl UsedTokens {
    pub(super) fn spend(&mut self, now: u64, end: u64, tag: [u8; TAG_LEN]) -> Result<(), AuthError> {
        if end.saturating_sub(now) > MAX_ONCE_LIFETIME.as_secs() {
            return Err(AuthError::Unauthorized);
        }
        while self.0.first().is_some_and(|(end, _)| *end <= now) {
            self.0.pop_first();
        }
        if self.0.contains(&(end, tag)) {
            return Err(AuthError::Unauthorized);
        }
        if self.0.len() >= MAX_USED_TOKENS {
            return Err(AuthError::Unavailable);
        }
        self.0.insert((end, tag));
        Ok(())
    }
}

/// Whole seconds since 1970; zero before.
fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn keyed(key: &[u8]) -> Result<Hmac<Sha256>, RuleError> {
    if key.len() < MIN_KEY {
        return Err(RuleError::Value("key"));
    }
    Hmac::new_from_slice(key).map_err(|_| RuleError::Value("key"))
}

fn check_kid(kid: &str) -> Result<(), RuleError> {
    check_word("kid", kid, MAX_KID)
}

fn check_word(what: &'static str, word: &str, longest: usize) -> Result<(), RuleError> {
    let fits = (1..=longest).contains(&word.len());
    let clean = word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if fits && clean { Ok(()) } else { Err(RuleError::Value(what)) }
}
