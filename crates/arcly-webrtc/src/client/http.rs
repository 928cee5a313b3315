//! The exchange with a server: an offer for an answer, and the good-bye.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use arcly_core::net::tune;
use arcly_core::{CloseReason, Phase, Result, StreamError, Via, via};
use base64ct::{Base64, Encoding as _};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

use super::ClientConfig;
use crate::http::SDP;
use crate::url::{Login, WebRtcUrl};
use crate::wire::{AnswerError, MAX_ANSWER_BYTES};

/// Places that an offer is sent to, one after the other, as their servers say.
const MAX_REDIRECTS: usize = 5;
/// Bytes of a response's head.
const MAX_HEAD: usize = 64 << 10;
/// Bytes of a refusal's text that are looked at.
const MAX_DETAIL: usize = 4 << 10;
/// Characters of it that are passed on.
const MAX_SHOWN: usize = 300;
/// How long a good-bye may take.
const LEAVE: Duration = Duration::from_secs(2);

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection to a server.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// The address of this machine that the server sees, unless it is translated on the way.
    pub(super) local: IpAddr,
}

/// What a server has made of an offer.
pub(super) struct Resource {
    /// Where the good-bye goes; `None` where the server has named a place that this client may not go to.
    pub(super) session: Option<Url>,
    /// The answer's body.
    pub(super) answer: Bytes,
}

/// Requests of one session.
#[derive(Clone, Copy)]
pub(super) struct Exchange<'a> {
    pub(super) url: &'a WebRtcUrl,
    pub(super) config: &'a ClientConfig,
}

impl Exchange<'_> {
    /// Connects to where the offer goes.
    pub(super) async fn connect(&self) -> Result<Connection> {
        self.connect_to(self.url.endpoint()).await
    }

    async fn connect_to(&self, target: &Url) -> Result<Connection> {
        let host = target.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let stream = match self.config.addresses.as_slice() {
            [] => TcpStream::connect((host, target.port_or_known_default().unwrap_or(80))).await?,
            addresses => TcpStream::connect(addresses).await?,
        };
        tune(&stream);
        let local = stream.local_addr()?.ip();
        let stream: Box<dyn Stream> = match target.scheme() {
            "https" => secure(stream, host, self.config).await?,
            _ => Box::new(stream),
        };
        Ok(Connection { stream, local })
    }

    /// Sends the offer, to wherever the server says that it is to go (RFC 9725 §4.5).
    pub(super) async fn post(&self, mut connection: Connection, offer: &str, via: &Via) -> Result<Resource> {
        let mut target = self.url.endpoint().clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut request = self.request(Method::POST, &target, Bytes::from(offer.to_owned()))?;
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(SDP));
            headers.insert(header::ACCEPT, HeaderValue::from_static(SDP));
            if !via.is_empty() {
                headers.insert(via::HEADER, header_value(&via.to_string())?);
            }
            let response = send(connection, request).await?;
            match response.status() {
                StatusCode::CREATED | StatusCode::OK => return self.resource(&target, response).await,
                StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT => {
                    let to = location(&target, response.headers())?;
                    if let Some(why) = self.out_of_reach(&to) {
                        return Err(StreamError::protocol(format!("the server redirects {why}")));
                    }
                    target = to;
                    connection = self.connect_to(&target).await?;
                }
                _ => return Err(rejected(response).await),
            }
        }
        Err(StreamError::protocol("too many redirections"))
    }

    async fn resource(&self, target: &Url, response: Response<Incoming>) -> Result<Resource> {
        let session = location(target, response.headers())?;
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let essence = kind.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(SDP) {
            return Err(StreamError::protocol(format!(
                "the server answers with `{}`, not {SDP}",
                shown(essence)
            )));
        }
        let session = match self.out_of_reach(&session) {
            None => Some(session),
            Some(why) => {
                tracing::warn!(url = %self.url, "the session is {why}; it is left to end by itself");
                None
            }
        };
        let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
        let answer = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(*error),
            Err(_) => StreamError::protocol(AnswerError::TooLong.to_string()),
        })?;
        Ok(Resource { session, answer: answer.to_bytes() })
    }

    /// Why this client does not go there, if it does not: where its host has been resolved and checked it goes nowhere else, and
    /// nothing leads from TLS into the clear.
    fn out_of_reach(&self, to: &Url) -> Option<&'static str> {
        if self.url.endpoint().scheme() == "https" && to.scheme() != "https" {
            return Some("out of TLS");
        }
        let elsewhere = !self.config.addresses.is_empty() && !self.is_home(to);
        elsewhere.then_some("elsewhere, which is not allowed here")
    }

    /// True for the server that the URL names, which is shown the login.
    fn is_home(&self, target: &Url) -> bool {
        let home = self.url.endpoint();
        home.host_str() == target.host_str() && home.port_or_known_default() == target.port_or_known_default()
    }

    /// Says good-bye; how that goes is nobody's trouble.
    pub(super) async fn delete(&self, session: &Url) {
        let deleting = async {
            let request = self.request(Method::DELETE, session, Bytes::new())?;
            send(self.connect_to(session).await?, request).await
        };
        match tokio::time::timeout(LEAVE, deleting).await {
            Ok(Ok(response)) => {
                tracing::debug!(url = %self.url, status = %response.status(), "said good-bye")
            }
            Ok(Err(error)) => tracing::debug!(url = %self.url, %error, "no good-bye"),
            Err(_) => tracing::debug!(url = %self.url, "no good-bye in time"),
        }
    }

    fn request(&self, method: Method, target: &Url, body: Bytes) -> Result<Request<Full<Bytes>>> {
        let host = target.host_str().unwrap_or_default();
        let authority = target.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut builder = Request::builder()
            .method(method)
            .uri(format!("{}{query}", target.path()))
            .header(header::HOST, authority)
            .header(header::USER_AGENT, concat!("arcly/", env!("CARGO_PKG_VERSION")));
        if self.is_home(target)
            && let Some(login) = self.config.login.as_ref().or(self.url.login())
        {
            builder = builder.header(header::AUTHORIZATION, authorization(login)?);
        }
        builder.body(Full::new(body)).map_err(|error| StreamError::protocol(error.to_string()))
    }
}

#[cfg(feature = "tls")]
async fn secure(stream: TcpStream, host: &str, config: &ClientConfig) -> Result<Box<dyn Stream>> {
    let tls = config.tls.clone().ok_or_else(|| StreamError::protocol("https needs a TLS configuration"))?;
    let name = rustls_pki_types::ServerName::try_from(host.to_owned())
        .map_err(|_| StreamError::protocol("the URL's host cannot be a TLS server name"))?;
    Ok(Box::new(tokio_rustls::TlsConnector::from(tls).connect(name, stream).await?))
}

#[cfg(not(feature = "tls"))]
async fn secure(_: TcpStream, _: &str, _: &ClientConfig) -> Result<Box<dyn Stream>> {
    Err(StreamError::protocol("https needs the feature `tls` of arcly-webrtc"))
}

/// Sends one request, on a connection of its own.
async fn send(connection: Connection, request: Request<Full<Bytes>>) -> Result<Response<Incoming>> {
    let mut builder = hyper::client::conn::http1::Builder::new();
    builder.max_buf_size(MAX_HEAD);
    let (mut sender, driver) = builder.handshake(TokioIo::new(connection.stream)).await.map_err(broken)?;
    // It ends with the exchange: its other half is dropped with the response, or with this future.
    tokio::spawn(async move {
        let _ = driver.await;
    });
    sender.send_request(request).await.map_err(broken)
}

/// Where a response points to.
fn location(base: &Url, headers: &HeaderMap) -> Result<Url> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| StreamError::protocol("the server's answer has no Location"))?;
    let wrong = || StreamError::protocol(format!("the server's Location `{}` is none", shown(location)));
    let mut url = base.join(location).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") || url.port() == Some(0) {
        return Err(wrong());
    }
    // What a server writes in there is no login of ours.
    url.set_fragment(None);
    _ = url.set_username("");
    _ = url.set_password(None);
    Ok(url)
}

fn authorization(login: &Login) -> Result<HeaderValue> {
    let text = match login {
        Login::Basic { user, password } => {
            format!("Basic {}", Base64::encode_string(format!("{user}:{password}").as_bytes()))
        }
        Login::Bearer(token) => format!("Bearer {token}"),
    };
    let mut value = header_value(&text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn header_value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_bytes(text.as_bytes())
        .map_err(|_| StreamError::protocol("a login has characters that no header has"))
}

/// What the server says about its refusal: the `detail` of a problem (RFC 9457), or the beginning of its text.
async fn rejected(response: Response<Incoming>) -> StreamError {
    let status = response.status();
    let is_json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|kind| kind.to_str().ok())
        .is_some_and(|kind| kind.contains("json"));
    let body = Limited::new(response.into_body(), MAX_DETAIL).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let detail = if is_json {
        let problem = serde_json::from_slice::<serde_json::Value>(&body).ok();
        problem.and_then(|problem| Some(shown(problem.get("detail")?.as_str()?)))
    } else {
        core::str::from_utf8(&body).ok().filter(|text| !text.trim_start().starts_with('<')).map(shown)
    };
    StreamError::Rejected(match detail.filter(|detail| !detail.is_empty()) {
        Some(detail) => format!("{status}: {detail}"),
        None => status.to_string(),
    })
}

/// A peer's text as one short line.
fn shown(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect()
}

fn broken(error: hyper::Error) -> StreamError {
    if error.is_incomplete_message() || error.is_canceled() {
        return StreamError::Closed(CloseReason::PeerClosed);
    }
    if error.is_parse() {
        return StreamError::protocol(format!("the server's answer is no HTTP: {error}"));
    }
    StreamError::Io(io::Error::other(error))
}

/// Does something that is not to take longer than this.
pub(super) async fn within<T>(limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or(Err(StreamError::Closed(CloseReason::Timeout(Phase::Connect))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_client_goes_and_what_it_shows_there() {
        let mut config = ClientConfig::default();
        let url: WebRtcUrl = "whip+https://joe:secret@h:8443/live/cam/whip?a=b".parse().unwrap();
        let at = |text: &str| url.endpoint().join(text).unwrap();
        let exchange = Exchange { url: &url, config: &config };
        let shown = |target: &str| {
            let request = exchange.request(Method::DELETE, &at(target), Bytes::new()).unwrap();
            let header = |name| request.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
            (request.uri().to_string(), header(header::HOST).unwrap(), header(header::AUTHORIZATION))
        };
        let login = Some("Basic am9lOnNlY3JldA==".to_owned());
        assert_eq!(shown("x/1?y"), ("/live/cam/x/1?y".into(), "h:8443".into(), login));
        assert_eq!(shown("https://other/x"), ("/x".into(), "other".into(), None));
        assert_eq!(shown("https://h/x").2, None, "another port is another server");
        assert_eq!(exchange.out_of_reach(&at("https://other/x")), None);
        assert!(exchange.out_of_reach(&at("http://h:8443/x")).is_some());

        config.addresses = vec!["192.0.2.1:8443".parse().unwrap()];
        config.login = Some(Login::Bearer("token".into()));
        let exchange = Exchange { url: &url, config: &config };
        assert_eq!(exchange.out_of_reach(&at("/x")), None);
        assert!(exchange.out_of_reach(&at("https://other:8443/x")).is_some());
        assert!(exchange.out_of_reach(&at("https://h/x")).is_some());
        let request = exchange.request(Method::POST, url.endpoint(), Bytes::new()).unwrap();
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer token");
        assert!(!format!("{:?}", request.headers()).contains("token"));
    }

    #[test]
    fn locations() {
        let base = Url::parse("https://h/live/cam/whip?token=x").unwrap();
        let of = |value: Option<&str>| {
            let value = value.map(|value| (header::LOCATION, HeaderValue::from_str(value).unwrap()));
            location(&base, &value.into_iter().collect()).map(String::from).ok()
        };
        assert_eq!(of(Some("/s/1")).as_deref(), Some("https://h/s/1"));
        assert_eq!(of(Some("whip/1#x")).as_deref(), Some("https://h/live/cam/whip/1"));
        assert_eq!(of(Some("//u:p@other/1")).as_deref(), Some("https://other/1"));
        for wrong in [None, Some("ftp://h/1"), Some("https://h:0/1"), Some("https://[/"), Some("file:///etc")]
        {
            assert_eq!(of(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_peers_say_is_one_short_line() {
        assert_eq!(shown(" no\r\n such \u{1b}[2J stream\0 "), "no such [2J stream");
        assert_eq!(shown(&"x".repeat(1_000)).len(), MAX_SHOWN);
    }
}
