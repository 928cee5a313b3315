//! `whip+http(s)://` and `whep+http(s)://` URLs: where an offer is sent, what for, and with which login.

use core::fmt;
use core::str::FromStr;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::wire::Role;

/// What a URL is missing, or has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// None of the schemes.
    #[error("not a whip+http://, whip+https://, whep+http:// or whep+https:// URL")]
    Scheme,
    /// No URL (WHATWG URL).
    #[error("not a URL: {0}")]
    Syntax(#[from] url::ParseError),
    /// Port 0.
    #[error("the URL has a port that nothing listens on")]
    Port,
    /// Nothing behind the host.
    #[error("the URL has no path: which stream is meant is said by it, as in /live/cam/whip")]
    Path,
    /// A user or password, or a token, with characters that no header has.
    #[error("the URL has a login with control characters")]
    Login,
}

/// What a client shows who it is with.
#[derive(Clone, PartialEq, Eq)]
pub enum Login {
    /// `user:password@`, for RFC 7617.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// `token@`, for RFC 6750, which is how WHIP and WHEP are meant to be used.
    Bearer(String),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Basic { .. } => "Basic",
            Self::Bearer(_) => "Bearer",
        })
    }
}

/// A parsed `whip+http[s]://[user:password@|token@]host[:port]/path[?query]`, or one of `whep+http[s]`; `whip[s]` and `whep[s]` mean the
/// same. `Display` and `Debug` leave login and query out, so that a URL can be logged.
#[derive(Clone, PartialEq, Eq)]
pub struct WebRtcUrl {
    role: Role,
    login: Option<Login>,
    endpoint: Url,
}

impl WebRtcUrl {
    /// What the client wants to be there.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// What it shows who it is with.
    #[must_use]
    pub const fn login(&self) -> Option<&Login> {
        self.login.as_ref()
    }

    /// Where the offer goes: an `http` or `https` URL without login.
    #[must_use]
    pub const fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// The host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        self.endpoint.host_str().unwrap_or_default().trim_matches(['[', ']'])
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.endpoint.port_or_known_default().unwrap_or(80)
    }
}

impl FromStr for WebRtcUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        let (role, http) = match scheme.to_ascii_lowercase().as_str() {
            "whip+http" | "whip" => (Role::Publisher, "http"),
            "whip+https" | "whips" => (Role::Publisher, "https"),
            "whep+http" | "whep" => (Role::Viewer, "http"),
            "whep+https" | "wheps" => (Role::Viewer, "https"),
            _ => return Err(UrlError::Scheme),
        };
        let mut endpoint = Url::parse(&format!("{http}://{rest}"))?;
        if endpoint.port() == Some(0) {
            return Err(UrlError::Port);
        }
        if endpoint.path() == "/" {
            return Err(UrlError::Path);
        }
        let login = login_of(&endpoint)?;
        endpoint.set_fragment(None);
        // Neither fails for a URL that has a host.
        _ = endpoint.set_username("");
        _ = endpoint.set_password(None);
        Ok(Self { role, login, endpoint })
    }
}

fn login_of(url: &Url) -> Result<Option<Login>, UrlError> {
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let (user, password) = (decode(url.username()), url.password().map(decode));
    if [Some(&user), password.as_ref()].into_iter().flatten().any(|text| text.contains(char::is_control)) {
        return Err(UrlError::Login);
    }
    Ok(match password {
        Some(password) => Some(Login::Basic { user, password }),
        None if user.is_empty() => None,
        None => Some(Login::Bearer(user)),
    })
}

impl fmt::Display for WebRtcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (role, scheme) = (self.role.as_str(), self.endpoint.scheme());
        write!(f, "{role}+{scheme}://{}", self.endpoint.host_str().unwrap_or_default())?;
        self.endpoint.port().map_or(Ok(()), |port| write!(f, ":{port}"))?;
        f.write_str(self.endpoint.path())
    }
}

impl fmt::Debug for WebRtcUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let (publisher, viewer) = (Role::Publisher, Role::Viewer);
        let cases = [
            ("whip+http://h:8080/live/cam/whip", publisher, "h", 8_080, "http://h:8080/live/cam/whip"),
            ("whep+https://h/live/cam/whep?a=b#c", viewer, "h", 443, "https://h/live/cam/whep?a=b"),
            ("WHEP+HTTP://[::1]/x", viewer, "::1", 80, "http://[::1]/x"),
            ("whip://h:1/x", publisher, "h", 1, "http://h:1/x"),
            ("wheps://u:p@h/x", viewer, "h", 443, "https://h/x"),
        ];
        for (text, role, host, port, endpoint) in cases {
            let url: WebRtcUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.role(), url.host(), url.port()), (role, host, port), "{text}");
            assert_eq!(url.endpoint().as_str(), endpoint);
        }
        let wrong = [
            ("http://h/live/cam/whep", UrlError::Scheme),
            ("whep+rtmp://h/x", UrlError::Scheme),
            ("h/x", UrlError::Scheme),
            ("whep+http://h", UrlError::Path),
            ("whep+http://h/?x", UrlError::Path),
            ("whep+http://h:0/x", UrlError::Port),
            ("whep+http://a%0Ab@h/x", UrlError::Login),
            ("whep+http://a:%00@h/x", UrlError::Login),
        ];
        for (text, error) in wrong {
            assert_eq!(text.parse::<WebRtcUrl>(), Err(error), "{text}");
        }
        for text in [
            "whep+http:///x",
            "whep+http://h:x/x",
            "whep+http://[::1/x",
            "whep+http://h:99999/x",
            "whep+http://",
        ] {
            assert!(text.parse::<WebRtcUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_logged_has_no_secret() {
        let url: WebRtcUrl = "whip+http://joe:s%3Acret%40x@h:8080/live/cam/whip?token=t0ken".parse().unwrap();
        let shown = "whip+http://h:8080/live/cam/whip";
        assert_eq!(format!("{url} {url:?} {:?}", url.login()), format!("{shown} {shown} Some(Basic)"));
        assert_eq!(url.login(), Some(&Login::Basic { user: "joe".into(), password: "s:cret@x".into() }));
        assert_eq!(url.endpoint().query(), Some("token=t0ken"));
        let url: WebRtcUrl = "whip+http://t0k%2Fen@h/x".parse().unwrap();
        assert_eq!(url.login(), Some(&Login::Bearer("t0k/en".into())));
    }
}
