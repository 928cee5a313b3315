//! RTSP through what only lets HTTP pass: the request that opens a tunnel, and the text that a tunnel is made of.
//!
//! | document | section | here |
//! |---|---|---|
//! | Apple, "Tunnelling RTSP and RTP over HTTP" (QuickTime Streaming Server) | GET, POST, `x-sessioncookie` | [`Opening::Responses`], [`Opening::Requests`], [`Base64Decoder`] |
//! | ONVIF Streaming Specification | RTSP over WebSocket, `rtsp.onvif.org` | [`Opening::WebSocket`] |
//! | RFC 6455 | §4.2.1 the opening handshake of a client | [`Opening::WebSocket`] |
//! | RFC 4648 | §4 Base64 | [`Base64Decoder`] |
//!
//! ```text
//!   connection 1   GET  x-sessioncookie: C   ◄── 200, then responses and interleaved frames as they are
//!   connection 2   POST x-sessioncookie: C   ──► requests and interleaved frames in Base64; never answered
//! ```
//!
//! Tolerated: requests that are padded each by itself, so that `=` comes in the middle (FFmpeg, Live555, QuickTime), and line
//! breaks between quanta. Not done: a POST that is opened anew for each request (QuickTime before 7).

use arcly_core::wire::{DecodeError, DecodeResult};
use base64ct::{Base64, Encoding as _};
use bytes::{Bytes, BytesMut};

use super::message::{Headers, Protocol, Request, Response, Status, Version};

/// Longest cookie that tells two halves of a tunnel to be one.
pub const MAX_COOKIE: usize = 256;
/// What the two halves are said to carry.
pub const TUNNELLED: &str = "application/x-rtsp-tunnelled";
/// What RTSP is called in a WebSocket's handshake.
pub const SUBPROTOCOL: &str = "rtsp.onvif.org";
/// Characters of a WebSocket's key: 16 bytes in Base64 (RFC 6455 §4.1).
const KEY_LEN: usize = 24;

/// What tells that two connections are one tunnel: 1 to [`MAX_COOKIE`] printable characters, chosen by the client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cookie(Box<str>);

/// A way in by HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// The half on which responses go out.
    Responses(Cookie),
    /// The half on which requests come in.
    Requests(Cookie),
    /// A WebSocket, whose binary messages are the connection's bytes, both ways.
    WebSocket {
        /// `Sec-WebSocket-Key`.
        key: String,
        /// Whether the client has named [`SUBPROTOCOL`].
        named: bool,
    },
}

impl Opening {
    /// What an HTTP request opens.
    ///
    /// # Errors
    /// It opens nothing: the response says why.
    pub fn of(request: &Request) -> Result<Self, Response> {
        if request.version.protocol != Protocol::Http {
            return Err(refusal(Status::BAD_REQUEST));
        }
        let headers = &request.headers;
        match request.method.as_str() {
            "GET" if has_token(headers, "Upgrade", "websocket") => Self::web_socket(headers),
            "GET" => cookie(headers).map(Self::Responses),
            "POST" => cookie(headers).map(Self::Requests),
            _ => Err(refusal(Status::METHOD_NOT_ALLOWED).with("Allow", "GET, POST")),
        }
    }

    fn web_socket(headers: &Headers) -> Result<Self, Response> {
        if headers.get("Sec-WebSocket-Version").map(str::trim) != Some("13") {
            return Err(refusal(Status(426)).with("Upgrade", "websocket").with("Sec-WebSocket-Version", 13));
        }
        let key = headers.get("Sec-WebSocket-Key").map(str::trim).unwrap_or_default();
        let mut nonce = [0; 16];
        let is_key =
            key.len() == KEY_LEN && Base64::decode(key, &mut nonce).is_ok_and(|bytes| bytes.len() == 16);
        if !is_key || !has_token(headers, "Connection", "upgrade") {
            return Err(refusal(Status::BAD_REQUEST));
        }
        let named = has_token(headers, "Sec-WebSocket-Protocol", SUBPROTOCOL);
        Ok(Self::WebSocket { key: key.to_owned(), named })
    }
}

fn cookie(headers: &Headers) -> Result<Cookie, Response> {
    let cookie = headers.get("x-sessioncookie").unwrap_or_default();
    if !(1..=MAX_COOKIE).contains(&cookie.len()) || !cookie.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(refusal(Status::BAD_REQUEST));
    }
    Ok(Cookie(cookie.into()))
}

/// Whether one of the values that a header lists is that, in any case.
fn has_token(headers: &Headers, name: &str, token: &str) -> bool {
    headers.all(name).flat_map(|value| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
}

fn answer(status: Status) -> Response {
    Response { version: Version::HTTP_1_1, ..Response::new(status) }
}

/// The answer to what opens nothing; the connection ends with it.
#[must_use]
pub fn refusal(status: Status) -> Response {
    answer(status).with("Connection", "close").with("Content-Length", 0)
}

/// The answer to [`Opening::Responses`]: everything behind it belongs to the tunnel.
#[must_use]
pub fn tunnelled() -> Response {
    answer(Status::OK)
        .with("Content-Type", TUNNELLED)
        .with("Cache-Control", "no-store")
        .with("Connection", "close")
}

/// The answer to [`Opening::WebSocket`], where `accept` is what RFC 6455 §4.2.2 makes of the key.
#[must_use]
pub fn switching_protocols(accept: &str, named: bool) -> Response {
    let mut answer = Response { reason: "Switching Protocols".into(), ..answer(Status(101)) }
        .with("Upgrade", "websocket")
        .with("Connection", "Upgrade")
        .with("Sec-WebSocket-Accept", accept);
    if named {
        answer.headers.push("Sec-WebSocket-Protocol", SUBPROTOCOL);
    }
    answer
}

/// Turns Base64 back into bytes, in whatever pieces it comes. Holds three characters at most; what comes out is at most three
/// quarters of what went in.
#[derive(Debug, Default)]
pub struct Base64Decoder {
    /// The beginning of a quantum.
    begun: Vec<u8>,
}

impl Base64Decoder {
    /// Appends what `text` says.
    ///
    /// # Errors
    /// It is not Base64.
    pub fn push(&mut self, text: &[u8], out: &mut BytesMut) -> DecodeResult<()> {
        let mut text: Vec<u8> = core::mem::take(&mut self.begun)
            .into_iter()
            .chain(text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()))
            .collect();
        let whole = text.len() & !3;
        self.begun = text.split_off(whole);
        let mut rest = text.as_mut_slice();
        while !rest.is_empty() {
            // Padding ends a piece of text, not all of it.
            let padded = rest.iter().position(|byte| *byte == b'=').unwrap_or(rest.len());
            let end = padded.saturating_add(4).min(rest.len()) & !3;
            let (piece, behind) = rest.split_at_mut(end);
            let decoded = Base64::decode_in_place(piece).map_err(|_| NOT_BASE64)?;
            out.extend_from_slice(decoded);
            rest = behind;
        }
        Ok(())
    }
}

const NOT_BASE64: DecodeError = DecodeError::Malformed { what: "base64 of a tunnel", offset: 0 };

/// A message of a client's half in Base64, padded by itself.
#[must_use]
pub fn encode_base64(bytes: &[u8]) -> Bytes {
    Base64::encode_string(bytes).into()
}

#[cfg(test)]
#[path = "tests/tunnel.rs"]
mod tests;
