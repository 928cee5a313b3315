//! Who may do what: certificates, users, keys and secrets.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[tls]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificate chain, PEM, leaf first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// `[auth]`. With neither users nor keys everybody may publish and play, and only loopback reaches the API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// Names and passwords.
    pub users: Vec<UserConfig>,
    /// Keys that tokens are signed with.
    pub keys: Vec<KeyConfig>,
    /// Streams that anybody may play without credentials, such as `live/*`.
    pub public_play: Vec<String>,
    /// Streams that anybody may publish without credentials.
    pub public_publish: Vec<String>,
    /// Relays that are started over the API may connect to loopback, private and other addresses that are not of the
    /// public Internet, although whoever starts them may be elsewhere. Those of `[[relays]]` may in any case.
    pub private_relays: bool,
}

impl AuthConfig {
    /// True when anybody has credentials.
    #[must_use]
    pub const fn is_configured(&self) -> bool {
        !self.users.is_empty() || !self.keys.is_empty()
    }
}

/// `[[auth.users]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UserConfig {
    /// The name.
    pub name: String,
    /// The password.
    pub password: Secret,
    /// What the user may do: `publish`, `play`, `api`.
    pub actions: Vec<String>,
    /// With which streams: `live/cam`, `live/*` or `*`.
    #[serde(default = "every_stream")]
    pub streams: String,
}

/// `[[auth.keys]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The key's name in tokens.
    pub id: String,
    /// The shared secret, at least 16 bytes.
    pub secret: Secret,
}

fn every_stream() -> String {
    "*".into()
}

/// A secret: given as text, or as `{ file = "…" }`. Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Secret {
    /// As it is.
    Text(String),
    /// The contents of a file, without the line end.
    File {
        /// Its path.
        file: PathBuf,
    },
}

impl Secret {
    /// The secret itself.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn reveal(&self) -> std::io::Result<String> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::File { file } => {
                Ok(std::fs::read_to_string(file)?.trim_end_matches(['\r', '\n']).to_owned())
            }
        }
    }
}

impl core::fmt::Debug for Secret {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("…")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(_) => serializer.serialize_str("********"),
            Self::File { file } => serializer.collect_map([("file", file)]),
        }
    }
}
