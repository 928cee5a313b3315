//! Which actions on which streams credentials cover.

use core::fmt;
use core::str::FromStr;

use super::Action;
use crate::key::{NameError, StreamKey};

/// A set of [`Action`]s; as text their names separated by commas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActionSet(u8);

const ACTIONS: [Action; 3] = [Action::Publish, Action::Play, Action::Api];

impl ActionSet {
    /// Publishing alone.
    pub const PUBLISH: Self = Self::of(Action::Publish);
    /// Playing alone.
    pub const PLAY: Self = Self::of(Action::Play);
    /// Everything.
    pub const ALL: Self = Self(0b111);

    /// One action.
    #[must_use]
    pub const fn of(action: Action) -> Self {
        Self(match action {
            Action::Publish => 1,
            Action::Play => 1 << 1,
            Action::Api => 1 << 2,
        })
    }

    /// These actions and `action`.
    #[must_use]
    pub const fn and(self, action: Action) -> Self {
        Self(self.0 | Self::of(action).0)
    }

    /// True when `action` is one of them.
    #[must_use]
    pub const fn contains(self, action: Action) -> bool {
        self.0 & Self::of(action).0 != 0
    }
}

impl fmt::Display for ActionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = ACTIONS.into_iter().filter(|action| self.contains(*action)).map(Action::as_str);
        f.write_str(names.next().unwrap_or_default())?;
        names.try_for_each(|name| write!(f, ",{name}"))
    }
}

impl FromStr for ActionSet {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        text.split(',').try_fold(Self::default(), |set, name| {
            let action = ACTIONS.into_iter().find(|action| action.as_str() == name);
            action.map(|action| set.and(action)).ok_or(RuleError::Action)
        })
    }
}

/// Which streams: one by name, or all below a path.
///
/// `live/cam` is that stream alone, `live/*` every stream of app `live`, `live/site/*` every one below
/// `live/site`, and `*` every stream. A prefix ends at a slash, so that `live/*` does not cover `live2/cam`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRule(Rule);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Any,
    One(StreamKey),
    /// Ends in a slash.
    Below(String),
}

impl NameRule {
    /// Every stream.
    pub const ANY: Self = Self(Rule::Any);

    /// One stream.
    #[must_use]
    pub const fn one(key: StreamKey) -> Self {
        Self(Rule::One(key))
    }

    /// A rule from its text.
    ///
    /// # Errors
    /// The name is not one that a stream could have.
    pub fn parse(text: &str) -> Result<Self, RuleError> {
        if text == "*" {
            return Ok(Self::ANY);
        }
        let Some(prefix) = text.strip_suffix("/*") else {
            return Ok(Self::one(StreamKey::parse(text)?));
        };
        StreamKey::from_parts(prefix, "x")?;
        Ok(Self(Rule::Below(format!("{prefix}/"))))
    }

    /// True when the rule covers `key`.
    #[must_use]
    pub fn covers(&self, key: &StreamKey) -> bool {
        match &self.0 {
            Rule::Any => true,
            Rule::One(one) => one == key,
            Rule::Below(prefix) => key.as_str().starts_with(prefix),
        }
    }
}

impl FromStr for NameRule {
    type Err = RuleError;
    fn from_str(text: &str) -> Result<Self, RuleError> {
        Self::parse(text)
    }
}

impl fmt::Display for NameRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Rule::Any => f.write_str("*"),
            Rule::One(key) => f.write_str(key.as_str()),
            Rule::Below(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// Why a rule or a user cannot be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RuleError {
    /// An action that does not exist.
    #[error("an action is `publish`, `play` or `api`")]
    Action,
    /// A name that no stream can have.
    #[error(transparent)]
    Name(#[from] NameError),
    /// An empty or overlong secret, user name or key id, or one with a character outside its alphabet.
    #[error("`{0}` is empty, too long or has a character that is not allowed")]
    Value(&'static str),
    /// More users or keys than the bound.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
}
