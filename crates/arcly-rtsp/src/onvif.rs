//! Finding cameras: ONVIF's use of WS-Discovery (feature `onvif`).
//!
//! | document | section | here |
//! |---|---|---|
//! | WS-Discovery 1.0 (2005/04) | §5 Probe, Probe Match; §2.4 address | [`probe`], [`Match`] |
//! | ONVIF Core | §7.3 discovery: `NetworkVideoTransmitter`, scopes | [`Match::name`], [`Match::hardware`] |
//!
//! ```no_run
//! # async fn run() -> std::io::Result<()> {
//! for camera in arcly_rtsp::onvif::discover(&Default::default()).await? {
//!     println!("{} {:?} {:?}", camera.remote, camera.name(), camera.services);
//! }
//! # Ok(()) }
//! ```
//!
//! Answers are datagrams of strangers: [`MAX_ANSWER`] bytes, [`MAX_MATCHES`] cameras, [`MAX_DEPTH`] elements deep and [`MAX_WORDS`] words of a
//! list are looked at. What cannot be read is passed over. Addresses are said by the cameras themselves, and nothing here connects to them.
//!
//! Not done: asking a camera for its stream URLs (ONVIF media services), Hello and Bye, and discovery proxies.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use arcly_core::wire::{DecodeError, DecodeResult};
use quick_xml::escape::resolve_xml_entity;
use quick_xml::events::Event;
use quick_xml::reader::Reader;
use tokio::net::UdpSocket;

/// Where cameras listen for probes.
pub const GROUP: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(239, 255, 255, 250)), 3_702);
/// Bytes of one answer that are looked at.
pub const MAX_ANSWER: usize = 32 << 10;
/// Cameras of one discovery.
pub const MAX_MATCHES: usize = 1_024;
/// Elements within each other.
pub const MAX_DEPTH: usize = 32;
/// Scopes, types or addresses of one camera.
pub const MAX_WORDS: usize = 64;

/// How to look for cameras.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Discovery {
    /// Where the probe goes.
    pub to: SocketAddr,
    /// The address that it goes out from: which network is asked.
    pub from: Ipv4Addr,
    /// How long answers are waited for; cameras may take half a second before they answer.
    pub wait: Duration,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { to: GROUP, from: Ipv4Addr::UNSPECIFIED, wait: Duration::from_secs(2) }
    }
}

/// A camera that has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Where the answer came from.
    pub remote: SocketAddr,
    /// Its name for itself, which stays the same: `urn:uuid:…`.
    pub address: String,
    /// What it is: `dn:NetworkVideoTransmitter`, …
    pub types: Vec<String>,
    /// What it says about itself: `onvif://www.onvif.org/name/…`.
    pub scopes: Vec<String>,
    /// URLs of its services (`XAddrs`).
    pub services: Vec<String>,
}

impl Match {
    /// Its name, by its scopes.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.scope("name")
    }

    /// Its model, by its scopes.
    #[must_use]
    pub fn hardware(&self) -> Option<String> {
        self.scope("hardware")
    }

    fn scope(&self, category: &str) -> Option<String> {
        let value = self.scopes.iter().find_map(|scope| {
            let rest = scope.strip_prefix("onvif://www.onvif.org/")?;
            rest.strip_prefix(category)?.strip_prefix('/')
        })?;
        Some(percent_encoding::percent_decode_str(value).decode_utf8_lossy().into_owned())
    }
}

/// A probe for cameras. `id` is a random number, by which answers are told from those to others.
#[must_use]
pub fn probe(id: u128) -> String {
    let hex = format!("{id:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let uuid = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-");
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\
         <e:Envelope xmlns:e=\"http://www.w3.org/2003/05/soap-envelope\" \
         xmlns:w=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
         xmlns:d=\"http://schemas.xmlsoap.org/ws/2005/04/discovery\" \
         xmlns:dn=\"http://www.onvif.org/ver10/network/wsdl\"><e:Header>\
         <w:MessageID>uuid:{uuid}</w:MessageID>\
         <w:To e:mustUnderstand=\"true\">urn:schemas-xmlsoap-org:ws:2005:04:discovery</w:To>\
         <w:Action e:mustUnderstand=\"true\">http://schemas.xmlsoap.org/ws/2005/04/discovery/Probe</w:Action>\
         </e:Header><e:Body><d:Probe><d:Types>dn:NetworkVideoTransmitter</d:Types></d:Probe></e:Body></e:Envelope>"
    )
}

/// The cameras that an answer tells of.
///
/// # Errors
/// It is no XML, or beyond a bound.
pub fn decode(remote: SocketAddr, answer: &[u8]) -> DecodeResult<Vec<Match>> {
    const MALFORMED: DecodeError = DecodeError::Malformed { what: "probe match", offset: 0 };
    if answer.len() > MAX_ANSWER {
        return Err(exceeded("discovery_answer", MAX_ANSWER));
    }
    let text = str::from_utf8(answer).map_err(|_| MALFORMED)?;
    let (mut reader, mut decoding) =
        (Reader::from_str(text.trim_start_matches('\u{feff}')), Decoding::new(remote));
    loop {
        match reader.read_event().map_err(|_| MALFORMED)? {
            Event::Start(element) => decoding.begin(element.local_name().into_inner())?,
            Event::End(_) => decoding.end()?,
            Event::Text(text) => decoding.text(&text),
            Event::CData(text) => decoding.text(&text),
            Event::GeneralRef(reference) => match reference.resolve_char_ref() {
                Ok(Some(c)) => decoding.text(c.encode_utf8(&mut [0; 4])),
                Ok(None) => decoding.text(resolve_xml_entity(&reference).unwrap_or_default()),
                Err(_) => return Err(MALFORMED),
            },
            // There is nothing to define in such a message, and much harm in doing so.
            Event::DocType(_) => return Err(MALFORMED),
            Event::Eof if decoding.path.is_empty() => return Ok(decoding.found),
            Event::Eof => return Err(MALFORMED),
            _ => {}
        }
    }
}

fn exceeded(what: &'static str, limit: usize) -> DecodeError {
    DecodeError::LimitExceeded { what, limit: u64::try_from(limit).unwrap_or(u64::MAX) }
}

/// An answer that is being read: the names of the elements that are open, without their prefixes.
struct Decoding {
    remote: SocketAddr,
    path: Vec<String>,
    text: String,
    current: Option<Match>,
    found: Vec<Match>,
}

impl Decoding {
    const fn new(remote: SocketAddr) -> Self {
        Self { remote, path: Vec::new(), text: String::new(), current: None, found: Vec::new() }
    }

    fn begin(&mut self, name: &str) -> DecodeResult<()> {
        if self.path.len() >= MAX_DEPTH {
            return Err(exceeded("discovery_depth", MAX_DEPTH));
        }
        self.text.clear();
        if name == "ProbeMatch" {
            self.current = Some(Match {
                remote: self.remote,
                address: String::new(),
                types: Vec::new(),
                scopes: Vec::new(),
                services: Vec::new(),
            });
        }
        self.path.push(name.to_owned());
        Ok(())
    }

    fn text(&mut self, text: &str) {
        self.text.push_str(text);
    }

    fn end(&mut self) -> DecodeResult<()> {
        let name = self.path.pop().unwrap_or_default();
        let text = core::mem::take(&mut self.text);
        let Some(current) = &mut self.current else { return Ok(()) };
        let words = || text.split_whitespace().take(MAX_WORDS).map(str::to_owned).collect();
        match name.as_str() {
            "Address" => current.address = text.trim().to_owned(),
            "Types" => current.types = words(),
            "Scopes" => current.scopes = words(),
            "XAddrs" => current.services = words(),
            "ProbeMatch" => {
                if self.found.len() >= MAX_MATCHES {
                    return Err(exceeded("discovery_matches", MAX_MATCHES));
                }
                self.found.extend(self.current.take());
            }
            _ => {}
        }
        Ok(())
    }
}

/// Asks, and collects the cameras that answer in time, each once. Cancel safe: what was found until then is lost.
///
/// # Errors
/// The network takes no probe.
pub async fn discover(discovery: &Discovery) -> io::Result<Vec<Match>> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).map_err(|error| io::Error::other(error.to_string()))?;
    let socket = UdpSocket::bind((discovery.from, 0)).await?;
    socket.send_to(probe(u128::from_be_bytes(id)).as_bytes(), discovery.to).await?;
    let mut found: Vec<Match> = Vec::new();
    let mut buffer = vec![0; MAX_ANSWER.saturating_add(1)];
    let collect = async {
        while found.len() < MAX_MATCHES {
            let Ok((len, remote)) = socket.recv_from(&mut buffer).await else { continue };
            match decode(remote, buffer.get(..len).unwrap_or_default()) {
                Ok(matches) => {
                    for camera in matches {
                        if !found.iter().any(|known| known.address == camera.address) {
                            found.push(camera);
                        }
                    }
                }
                Err(error) => tracing::debug!(%remote, %error, "no answer to a probe"),
            }
        }
    };
    let _ = tokio::time::timeout(discovery.wait, collect).await;
    found.truncate(MAX_MATCHES);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://www.w3.org/2003/05/soap-envelope" xmlns:d="http://schemas.xmlsoap.org/ws/2005/04/discovery"
 xmlns:wsa="http://schemas.xmlsoap.org/ws/2004/08/addressing"><SOAP-ENV:Body><d:ProbeMatches><d:ProbeMatch>
<wsa:EndpointReference><wsa:Address>urn:uuid:4419d68c</wsa:Address></wsa:EndpointReference>
<d:Types>dn:NetworkVideoTransmitter tds:Device</d:Types>
<d:Scopes>onvif://www.onvif.org/type/video_encoder onvif://www.onvif.org/name/Front%20Door
 onvif://www.onvif.org/hardware/X&amp;1&#50;</d:Scopes>
<d:XAddrs>http://192.168.1.64/onvif/device_service http://[fe80::1]/onvif/device_service</d:XAddrs>
<d:MetadataVersion>10</d:MetadataVersion></d:ProbeMatch></d:ProbeMatches></SOAP-ENV:Body></SOAP-ENV:Envelope>"#;

    fn remote() -> SocketAddr {
        ([192, 168, 1, 64], 3_702).into()
    }

    #[test]
    fn an_answer_is_read() {
        let found = decode(remote(), ANSWER.as_bytes()).unwrap();
        let [camera] = &found[..] else { panic!("{found:?}") };
        assert_eq!((&*camera.address, camera.remote), ("urn:uuid:4419d68c", remote()));
        assert_eq!(camera.types, ["dn:NetworkVideoTransmitter", "tds:Device"]);
        assert_eq!(camera.services.len(), 2);
        assert_eq!(
            (camera.name().as_deref(), camera.hardware().as_deref()),
            (Some("Front Door"), Some("X&12"))
        );
        // An empty element, and one that is nobody's.
        let empty = "<a><ProbeMatch><Types/><Scopes></Scopes></ProbeMatch><Types>x</Types></a>";
        assert_eq!(decode(remote(), empty.as_bytes()).unwrap()[0].types, [""; 0]);
    }

    #[test]
    fn what_is_none_is_refused() {
        let deep = "<a>".repeat(MAX_DEPTH + 1);
        let long = format!("<a>{}</a>", "x".repeat(MAX_ANSWER));
        let bomb = "<!DOCTYPE a [<!ENTITY b \"bbb\">]><a>&b;</a>";
        for text in ["<a>", "<a></b>", &deep, &long, bomb, "<a>&#x110000;</a>"] {
            assert!(decode(remote(), text.as_bytes()).is_err(), "{text}");
        }
        assert!(decode(remote(), &[0xFF, 0xFE]).is_err());
        (0..ANSWER.len()).for_each(|len| {
            assert!(
                decode(remote(), &ANSWER.as_bytes()[..len]).map_or(true, |found| found.is_empty()),
                "{len}"
            );
        });
    }

    #[tokio::test]
    async fn cameras_are_found_once_each_whatever_else_answers() {
        let camera = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let to = camera.local_addr().unwrap();
        let answering = tokio::spawn(async move {
            let mut buffer = [0; 4_096];
            let (len, from) = camera.recv_from(&mut buffer).await.unwrap();
            let asked = String::from_utf8_lossy(&buffer[..len]).into_owned();
            for answer in ["nonsense", ANSWER, ANSWER, "<a>"] {
                camera.send_to(answer.as_bytes(), from).await.unwrap();
            }
            asked
        });
        let discovery = Discovery { to, from: Ipv4Addr::LOCALHOST, wait: Duration::from_millis(500) };
        let found = discover(&discovery).await.unwrap();
        let asked = answering.await.unwrap();
        assert!(asked.contains("/discovery/Probe<") && asked.contains("NetworkVideoTransmitter"), "{asked}");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name().as_deref(), Some("Front Door"));
    }
}
