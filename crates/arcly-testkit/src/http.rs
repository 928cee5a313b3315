//! One HTTP/1.1 request at a time, over a connection of its own: for the API, metrics, and streams as files.

use std::io::{Error, ErrorKind, Read as _, Result, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and headers.
    pub head: String,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Reads a whole response.
    ///
    /// # Errors
    /// It is not one, or is cut short.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let malformed = || Error::new(ErrorKind::InvalidData, "not an HTTP response");
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").ok_or_else(malformed)?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
        let body = &bytes[end + 4..];
        let is_chunked = head.to_ascii_lowercase().contains("\r\ntransfer-encoding: chunked");
        let body = if is_chunked { unchunk(body)? } else { body.to_vec() };
        Ok(Self { status, head, body })
    }
}

/// `GET path`; the answer has to be complete within `limit`.
///
/// # Errors
/// No connection, no answer in time, or not an HTTP answer.
pub fn get(addr: SocketAddr, path: &str, limit: Duration) -> Result<Response> {
    request(addr, "GET", path, "", limit)
}

/// A request with a JSON body, or none when `body` is empty; the answer has to be complete within `limit`.
///
/// # Errors
/// No connection, no answer in time, or not an HTTP answer.
pub fn request(addr: SocketAddr, method: &str, path: &str, body: &str, limit: Duration) -> Result<Response> {
    let end = Instant::now() + limit;
    let mut socket = TcpStream::connect_timeout(&addr, limit)?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n");
    let content = if body.is_empty() {
        String::new()
    } else {
        format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len())
    };
    socket.write_all(format!("{head}{content}\r\n{body}").as_bytes())?;
    let mut bytes = Vec::new();
    let mut buffer = vec![0; 65_536];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::new(
                ErrorKind::TimedOut,
                format!("{method} {path} takes more than {limit:?}"),
            ));
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut buffer)? {
            0 => return Response::decode(&bytes),
            n => bytes.extend_from_slice(&buffer[..n]),
        }
    }
}

fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>> {
    let cut_short = || Error::new(ErrorKind::UnexpectedEof, "a chunk is cut short");
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").ok_or_else(cut_short)?;
        let size = String::from_utf8_lossy(&rest[..line]);
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(|_| Error::new(ErrorKind::InvalidData, "a chunk has no size"))?;
        if size == 0 {
            return Ok(body);
        }
        rest = &rest[line + 2..];
        body.extend_from_slice(rest.get(..size).ok_or_else(cut_short)?);
        rest = rest.get(size + 2..).ok_or_else(cut_short)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        let whole = Response::decode(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nnothing").expect("an answer");
        assert_eq!((whole.status, whole.text().as_str()), (404, "nothing"));
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let chunked = |body: &[u8]| Response::decode(&[&head[..], body].concat());
        let body = b"3\r\nabc\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n";
        assert_eq!(chunked(body).expect("an answer").text(), "abc0123456789abcdef");
        for cut in 0..body.len() - 4 {
            assert!(chunked(&body[..cut]).is_err(), "cut at {cut}");
        }
        assert!(Response::decode(b"hello").is_err());
    }
}
