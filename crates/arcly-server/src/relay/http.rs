//! FLV and MPEG-TS over HTTP, as a client.

use core::future::poll_fn;
use core::pin::Pin;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::{CloseReason, MediaEvent, Phase, StreamError, Via, via};
use arcly_mux::{flv, fmp4, ts};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::Url;

use super::container::{Container, Reader};
use crate::tls;

/// For the connection, TLS and the response's head together.
const SETUP: Duration = Duration::from_secs(10);
/// A server that sends nothing for so long is gone.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes of an error's text that are looked at.
const MAX_ERROR: usize = 4 << 10;

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A stream on another server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote<'a> {
    /// Its name there.
    pub url: &'a Url,
    /// The server: one of these, or whoever the URL's host resolves to when there are none.
    pub at: &'a [SocketAddr],
    /// Where the stream that is written has come through, or the stream that is fed with the one that is read.
    pub via: &'a Via,
}

/// Asks for a stream; its body, when the server lets this client in.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(super) async fn open(remote: Remote<'_>) -> Result<Incoming, StreamError> {
    within(SETUP, Phase::Connect, ask(remote)).await
}

/// Hands each event of the body that a URL led to, until it ends.
///
/// # Errors
/// The server sends something else, or falls silent; or `take` fails.
pub(super) async fn read(
    url: &Url,
    mut body: Incoming,
    mut take: impl FnMut(MediaEvent) -> Result<(), StreamError>,
) -> Result<(), StreamError> {
    let mut reader = Reader::new(container(url));
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match tokio::time::timeout(IDLE, next).await {
            Err(_) => return Err(StreamError::Closed(CloseReason::Timeout(Phase::Idle))),
            Ok(None) => {
                let ended = reader.finish();
                while let Some(event) = reader.poll_event() {
                    take(event)?;
                }
                return ended.map_err(StreamError::protocol);
            }
            Ok(Some(frame)) => frame.map_err(broken)?,
        };
        let Ok(data) = frame.into_data() else { continue };
        let pushed = reader.push(&data);
        while let Some(event) = reader.poll_event() {
            take(event)?;
        }
        pushed.map_err(|error| StreamError::protocol(format!("not {}: {error}", container(url).name())))?;
    }
}

/// What the stream at a URL is, by the ending of its path.
pub(super) fn container(url: &Url) -> Container {
    Container::of(url.path().as_ref()).unwrap_or(Container::Flv)
}

fn media_type(url: &Url) -> &'static str {
    match container(url) {
        Container::Flv => flv::MEDIA_TYPE,
        Container::Ts => ts::MEDIA_TYPE,
        Container::Mp4 => fmp4::MEDIA_TYPE,
    }
}

async fn ask(remote: Remote<'_>) -> Result<Incoming, StreamError> {
    let request = request(remote, "GET")?
        .body(Empty::<Bytes>::new())
        .map_err(|e| StreamError::protocol(e.to_string()))?;
    let response = send(remote, request).await?;
    match response.status() {
        StatusCode::OK => Ok(response.into_body()),
        status => Err(rejected(status, response.into_body()).await),
    }
}

/// Publishes a body until it ends.
///
/// # Errors
/// The server cannot be reached, or refuses.
pub(super) async fn write<B>(remote: Remote<'_>, body: B) -> Result<(), StreamError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let request = request(remote, "POST")?
        .header(header::CONTENT_TYPE, media_type(remote.url))
        .body(body)
        .map_err(|e| StreamError::protocol(e.to_string()))?;
    let response = send(remote, request).await?;
    if response.status().is_success() {
        return Ok(());
    }
    Err(rejected(response.status(), response.into_body()).await)
}

fn request(remote: Remote<'_>, method: &str) -> Result<http::request::Builder, StreamError> {
    let Remote { url, via, .. } = remote;
    let host = url.host_str().ok_or_else(|| StreamError::protocol("the URL has no host"))?;
    let authority = url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
    let target = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let mut builder = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, concat!("arcly/", env!("CARGO_PKG_VERSION")));
    if !via.is_empty() {
        builder = builder.header(via::HEADER, via.to_string());
    }
    if !url.username().is_empty() {
        builder = builder.header(header::AUTHORIZATION, basic(url));
    }
    Ok(builder)
}

async fn send<B>(remote: Remote<'_>, request: Request<B>) -> Result<http::Response<Incoming>, StreamError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let io = within(SETUP, Phase::Connect, connect(remote)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    // The connection ends with the request: its other half is dropped with the response, or with this future.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    sender.send_request(request).await.map_err(broken)
}

async fn connect(remote: Remote<'_>) -> Result<Box<dyn Io>, StreamError> {
    let Remote { url, at, .. } = remote;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = url.port_or_known_default().unwrap_or(80);
    let stream = match at {
        [] => TcpStream::connect((host.as_str(), port)).await?,
        at => TcpStream::connect(at).await?,
    };
    stream.set_nodelay(true)?;
    if url.scheme() != "https" {
        return Ok(Box::new(stream));
    }
    let name = ServerName::try_from(host).map_err(|error| StreamError::protocol(error.to_string()))?;
    let config = tls::client().map_err(io::Error::other)?;
    Ok(Box::new(TlsConnector::from(Arc::clone(&config)).connect(name, stream).await?))
}

async fn within<T>(
    limit: Duration,
    phase: Phase,
    work: impl Future<Output = Result<T, StreamError>>,
) -> Result<T, StreamError> {
    let done = tokio::time::timeout(limit, work).await;
    done.unwrap_or(Err(StreamError::Closed(CloseReason::Timeout(phase))))
}

/// What the server says about its refusal: the `detail` of a problem, or the beginning of its text.
async fn rejected(status: StatusCode, body: Incoming) -> StreamError {
    let body = tokio::time::timeout(IDLE, Limited::new(body, MAX_ERROR).collect()).await;
    let text = body.ok().and_then(Result::ok).map(|body| body.to_bytes()).unwrap_or_default();
    let detail = serde_json::from_slice::<serde_json::Value>(&text).ok();
    let detail = detail.and_then(|json| Some(json.get("detail")?.as_str()?.to_owned()));
    StreamError::Rejected(match detail {
        Some(detail) => format!("{status}: {detail}"),
        None => status.to_string(),
    })
}

fn broken(error: hyper::Error) -> StreamError {
    StreamError::Io(io::Error::other(error))
}

/// RFC 7617, of the URL's user and password.
fn basic(url: &Url) -> String {
    let decode = |text: &str| percent_decode(text);
    let login = format!("{}:{}", decode(url.username()), decode(url.password().unwrap_or_default()));
    format!("Basic {}", base64(login.as_bytes()))
}

pub(super) fn percent_decode(text: &str) -> String {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| u8::from_str_radix(core::str::from_utf8(hex).ok()?, 16).ok());
        (rest, out) = match (byte, hex) {
            (b'%', Some(value)) => (tail.get(2..).unwrap_or_default(), [out, vec![value]].concat()),
            _ => (tail, [out, vec![byte]].concat()),
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// RFC 4648 section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits =
            group.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            out.push(if at <= group.len() { digit.into() } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_urls() {
        let url = Url::parse("http://Aladdin:open%20sesame@h/live/a.flv").unwrap();
        assert_eq!(basic(&url), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
