//! The configured authenticator: users, signed tokens, and what is open to everybody.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use arcly_core::contract::auth::{
    ActionSet, AllowAll, AuthError, AuthRequest, Grant, HmacTokenAuthenticator, NameRule, RuleError,
    StaticUsers, StreamAuthenticator, Throttled,
};
use async_trait::async_trait;

use crate::config::{AuthConfig, ConfigError};

/// Asks the users first, then the tokens.
struct Configured {
    users: StaticUsers,
    tokens: Option<HmacTokenAuthenticator>,
}

/// The authenticators that a configuration asks for.
#[derive(Clone)]
pub(crate) struct Authenticators {
    /// For peers: slows down whoever guesses.
    pub throttled: Arc<dyn StreamAuthenticator>,
    /// For questions of the server itself, such as what a page may show.
    pub plain: Arc<dyn StreamAuthenticator>,
}

impl Authenticators {
    /// Builds them; `None` when everybody may do everything.
    ///
    /// # Errors
    /// A secret cannot be read, or a rule cannot be.
    pub(crate) fn from_config(config: &AuthConfig) -> Result<Option<Self>, ConfigError> {
        if !config.is_configured() {
            return Ok(None);
        }
        let plain = Arc::new(Configured { users: users(config)?, tokens: tokens(config)? });
        Ok(Some(Self { throttled: Arc::new(Throttled::new(Arc::clone(&plain))), plain }))
    }
}

/// The authenticators in force, until a new configuration replaces them. Without any everybody may do everything. Who was
/// let in stays in.
#[derive(Default)]
pub(crate) struct InForce(ArcSwapOption<Authenticators>);

impl InForce {
    pub(crate) fn new(authenticators: Option<Authenticators>) -> Self {
        Self(ArcSwapOption::new(authenticators.map(Arc::new)))
    }

    /// Replaces them. How often somebody has guessed wrong is forgotten.
    pub(crate) fn replace(&self, authenticators: Option<Authenticators>) {
        self.0.store(authenticators.map(Arc::new));
    }

    /// For questions of the server itself.
    pub(crate) fn plain(&self) -> Option<Arc<dyn StreamAuthenticator>> {
        self.0.load().as_ref().map(|authenticators| Arc::clone(&authenticators.plain))
    }
}

#[async_trait]
impl StreamAuthenticator for InForce {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        match self.0.load_full() {
            Some(authenticators) => authenticators.throttled.authenticate(request).await,
            None => AllowAll.authenticate(request).await,
        }
    }
}

fn users(config: &AuthConfig) -> Result<StaticUsers, ConfigError> {
    let mut users = StaticUsers::new();
    for user in &config.users {
        let wrong =
            |error: &dyn core::fmt::Display| ConfigError::new(format!("auth.users: {}: {error}", user.name));
        let password = user.password.reveal().map_err(|e| wrong(&e))?;
        let actions: ActionSet = user.actions.join(",").parse().map_err(|e: RuleError| wrong(&e))?;
        let rule = NameRule::parse(&user.streams).map_err(|e| wrong(&e))?;
        users = users.with_user(&user.name, &password, actions, rule).map_err(|e| wrong(&e))?;
    }
    let open = [(ActionSet::PLAY, &config.public_play), (ActionSet::PUBLISH, &config.public_publish)];
    for (actions, rules) in open {
        for text in rules {
            let wrong = |error| ConfigError::new(format!("auth: `{text}`: {error}"));
            users = users.with_anonymous(actions, NameRule::parse(text).map_err(wrong)?).map_err(wrong)?;
        }
    }
    Ok(users)
}

fn tokens(config: &AuthConfig) -> Result<Option<HmacTokenAuthenticator>, ConfigError> {
    if config.keys.is_empty() {
        return Ok(None);
    }
    let mut tokens = HmacTokenAuthenticator::new();
    for key in &config.keys {
        let wrong =
            |error: &dyn core::fmt::Display| ConfigError::new(format!("auth.keys: {}: {error}", key.id));
        let secret = key.secret.reveal().map_err(|e| wrong(&e))?;
        tokens = tokens.with_key(&key.id, secret.as_bytes()).map_err(|e| wrong(&e))?;
    }
    Ok(Some(tokens))
}

#[async_trait]
impl StreamAuthenticator for Configured {
    async fn authenticate(&self, request: &AuthRequest) -> Result<Grant, AuthError> {
        let refused = match self.users.authenticate(request).await {
            Ok(grant) => return Ok(grant),
            Err(error) => error,
        };
        match &self.tokens {
            Some(tokens) if request.credentials.bearer().is_some() => {
                let answer = tokens.authenticate(request).await;
                answer.map_err(|error| if error == AuthError::Unauthorized { refused } else { error })
            }
            _ => Err(refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use arcly_core::StreamKey;
    use arcly_core::contract::auth::{Action, Claims, Credentials, mint};

    use super::*;
    use crate::config::Config;

    const CONFIG: &str = "
        [auth]
        public_play = ['open/*']
        [[auth.users]]
        name = 'studio'
        password = 'correct horse'
        actions = ['publish', 'play']
        streams = 'live/*'
        [[auth.keys]]
        id = 'k1'
        secret = '0123456789abcdef'
    ";

    #[tokio::test]
    async fn users_tokens_and_the_public() {
        let config = Config::from_toml(CONFIG).unwrap();
        let auth = Authenticators::from_config(&config.auth).unwrap().unwrap().plain;
        let rule = NameRule::parse("vod/a").unwrap();
        let claims = Claims::new(ActionSet::PLAY, rule).until(SystemTime::now() + Duration::from_secs(60));
        let token = mint("k1", b"0123456789abcdef", &claims).unwrap();
        let anonymous = || Credentials::new("http");
        let studio = || anonymous().with_login("studio", "correct horse");
        let cases = [
            (Action::Play, "open/a", anonymous(), Ok(())),
            (Action::Publish, "open/a", anonymous(), Err(AuthError::Unauthorized)),
            (Action::Play, "live/a", anonymous(), Err(AuthError::Unauthorized)),
            (Action::Publish, "live/a", studio(), Ok(())),
            (Action::Publish, "vod/a", studio(), Err(AuthError::Forbidden)),
            (
                Action::Publish,
                "live/a",
                anonymous().with_login("studio", "wrong"),
                Err(AuthError::Unauthorized),
            ),
            (Action::Play, "vod/a", anonymous().with_query(format!("token={token}")), Ok(())),
            (Action::Play, "vod/a", anonymous().with_token(&*token), Ok(())),
            (Action::Publish, "vod/a", anonymous().with_token(&*token), Err(AuthError::Forbidden)),
        ];
        for (action, name, credentials, expect) in cases {
            let shown = format!("{action} {name} {credentials:?}");
            let request = AuthRequest::new(action, StreamKey::parse(name).unwrap(), credentials);
            assert_eq!(auth.authenticate(&request).await.map(drop), expect, "{shown}");
        }
    }

    #[test]
    fn without_credentials_everybody_may() {
        assert!(Authenticators::from_config(&AuthConfig::default()).unwrap().is_none());
    }
}
