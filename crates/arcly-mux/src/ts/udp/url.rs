use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use crate::ts::packet::PACKET_LEN;

/// Bytes of a datagram unless the URL says otherwise: seven packets, which fit into every Ethernet frame.
pub const DATAGRAM_LEN: usize = 7 * PACKET_LEN;
/// Bytes of the largest datagram: as many whole packets as UDP over IPv4 takes.
const MAX_DATAGRAM_LEN: usize = 65_507 / PACKET_LEN * PACKET_LEN;
/// Bytes of the largest buffer that is asked for.
const MAX_BUFFER: usize = 64 << 20;

/// A `udp://` URL; see [the table](super).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UdpUrl {
    /// An address or a name; empty for every address of this machine.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Whose datagrams are taken.
    pub source: Option<IpAddr>,
    /// The interface of a group, by its address.
    pub interface: Option<IpAddr>,
    /// Hops of multicast.
    pub ttl: u8,
    /// Bytes of a datagram, a multiple of 188.
    pub datagram_len: usize,
    /// Bytes that the system is asked to buffer.
    pub buffer: Option<usize>,
    /// `program_number` of the program to play.
    pub program: Option<u16>,
}

/// What is wrong with a `udp://` URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UdpUrlError(String);

impl FromStr for UdpUrl {
    type Err = UdpUrlError;

    fn from_str(text: &str) -> Result<Self, UdpUrlError> {
        let rest = text.strip_prefix("udp://").ok_or_else(|| wrong("it does not begin with udp://"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.strip_suffix('/').unwrap_or(place);
        let (source, place) = place.rsplit_once('@').unwrap_or(("", place));
        let (host, port) = place.rsplit_once(':').ok_or_else(|| wrong("it needs a port"))?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let mut url = Self {
            host: host.trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: port.ok_or_else(|| wrong("its port is not a number from 1 to 65535"))?,
            source: None,
            interface: None,
            ttl: 1,
            datagram_len: DATAGRAM_LEN,
            buffer: None,
            program: None,
        };
        if url.host.contains('/') {
            return Err(wrong("it has a path, which means nothing here"));
        }
        if !source.is_empty() {
            url.source = Some(value("the source before @", source)?);
        }
        for (name, text) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            url.option(name, text)?;
        }
        Ok(url)
    }
}

impl UdpUrl {
    fn option(&mut self, name: &str, text: &str) -> Result<(), UdpUrlError> {
        match name {
            "localaddr" => self.interface = Some(value(name, text)?),
            "source" | "sources" => self.source = Some(value(name, text)?),
            "ttl" => self.ttl = value(name, text)?,
            "program" => self.program = Some(value(name, text)?),
            "buffer_size" => self.buffer = Some(value::<usize>(name, text)?.min(MAX_BUFFER)),
            "pkt_size" => {
                let len: usize = value(name, text)?;
                if !(PACKET_LEN..=MAX_DATAGRAM_LEN).contains(&len) {
                    return Err(wrong(&format!("pkt_size={len} is not from 188 to {MAX_DATAGRAM_LEN}")));
                }
                self.datagram_len = len.saturating_sub(len % PACKET_LEN);
            }
            // Options of FFmpeg that say nothing here.
            "reuse" | "fifo_size" | "overrun_nonfatal" | "timeout" | "connect" | "bitrate" => {}
            _ => return Err(wrong(&format!("`{name}` is not an option of udp://"))),
        }
        Ok(())
    }

    /// The host as an address; `None` for a name, and for nothing.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl fmt::Display for UdpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("udp://")?;
        self.source.map_or(Ok(()), |source| write!(f, "{source}@"))?;
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        write!(f, ":{}", self.port)
    }
}

fn value<T: FromStr>(name: &str, text: &str) -> Result<T, UdpUrlError> {
    text.parse().map_err(|_| wrong(&format!("{name}: `{text}` is not such a value")))
}

fn wrong(what: &str) -> UdpUrlError {
    UdpUrlError(format!("this is no URL of MPEG-TS over UDP, such as udp://239.0.0.1:1234: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_urls_say() {
        let cases = [
            ("udp://239.0.0.1:1234", "239.0.0.1", 1234, None),
            ("udp://@239.0.0.1:1234", "239.0.0.1", 1234, None),
            ("udp://10.0.0.7@232.1.1.1:5000/", "232.1.1.1", 5000, Some("10.0.0.7")),
            ("udp://232.1.1.1:5000?sources=10.0.0.7&ttl=4", "232.1.1.1", 5000, Some("10.0.0.7")),
            ("udp://:1234?fifo_size=5", "", 1234, None),
            ("udp://[ff15::1]:1234", "ff15::1", 1234, None),
            ("udp://camera.local:9000", "camera.local", 9000, None),
        ];
        for (text, host, port, source) in cases {
            let url: UdpUrl = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.host.as_str(), url.port), (host, port), "{text}");
            assert_eq!(url.source, source.map(|source| source.parse().unwrap()), "{text}");
            assert_eq!(url.to_string().parse::<UdpUrl>().unwrap().port, port);
        }
        let url: UdpUrl =
            "udp://1.2.3.4:1?pkt_size=1400&buffer_size=9&program=7&localaddr=::1".parse().unwrap();
        assert_eq!((url.datagram_len, url.buffer, url.program), (1_316, Some(9), Some(7)));
        assert_eq!(url.interface, Some("::1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_url() {
        for text in [
            "rtp://1.2.3.4:1",
            "udp://1.2.3.4",
            "udp://1.2.3.4:0",
            "udp://1.2.3.4:70000",
            "udp://x@1.2.3.4:1",
            "udp://1.2.3.4:1?ttl=300",
            "udp://1.2.3.4:1?pkt_size=100",
            "udp://1.2.3.4:1?frob=1",
            "udp://a/b:1",
        ] {
            assert!(text.parse::<UdpUrl>().is_err(), "{text}");
        }
    }
}
