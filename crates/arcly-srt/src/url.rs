//! `srt://` URLs, as libsrt's own programs and FFmpeg write them.

use core::fmt;
use core::str::FromStr;
use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::{Bandwidth, Config};
use crate::crypto::CryptoConfig;
use crate::session::MAX_MEMBERS;
use crate::wire::{Cipher, GroupKind, KeyLength, MAX_STREAM_ID, StreamId, StreamMode};

/// Who opens the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectMode {
    /// This side.
    Caller,
    /// The other side; the URL's host and port are where this side waits for it.
    Listener,
    /// Both, at the same time.
    Rendezvous,
}

/// What a URL is missing, or has too much of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// Not `srt://`.
    #[error("not an srt:// URL")]
    Scheme,
    /// No host, where one is to be called.
    #[error("the URL has no host; to wait for a caller, write srt://:PORT?mode=listener")]
    Host,
    /// No port, or none that is one.
    #[error("the URL has no port; write srt://HOST:PORT")]
    Port,
    /// An option that there is not.
    #[error("`{0}` is no option of srt:// URLs")]
    Option(String),
    /// A value that an option cannot have.
    #[error("`{option}` cannot be that: {why}")]
    Value {
        /// The option.
        option: &'static str,
        /// What it can be.
        why: &'static str,
    },
}

/// Several ways to one listener that carry the same ([`Socket::call_group`](crate::socket::Socket::call_group)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtGroup {
    /// What each of them is for.
    pub kind: GroupKind,
    /// At least one, at most [`MAX_MEMBERS`].
    pub paths: Vec<SrtPath>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtPath {
    /// As [`SrtUrl::host`]; never empty.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Of a backup group the path with the greatest is used.
    pub weight: u16,
}

impl SrtGroup {
    /// Of what each path's host resolves to, one address for each path: they share a socket, which is IPv4's or IPv6's. `None` when
    /// there is neither for all of them.
    #[must_use]
    pub fn choose(&self, found: &[Vec<SocketAddr>]) -> Option<Vec<SocketAddr>> {
        let first = found.first().filter(|_| found.len() == self.paths.len())?;
        first.iter().map(SocketAddr::is_ipv4).find_map(|v4| {
            found.iter().map(|each| each.iter().copied().find(|addr| addr.is_ipv4() == v4)).collect()
        })
    }
}

/// A parsed `srt://[host]:port[?option=value&…]`.
///
/// A group of connections to one listener is `srt://HOST:PORT,HOST:PORT?grouptype=broadcast`, or as libsrt's programs write it
/// `srt://*?type=broadcast&nodes=HOST:PORT,HOST:PORT` (`srt:////group?…`), where a node may end in `?weight=N`. Where none does,
/// the first is the best.
///
/// | option | is |
/// |---|---|
/// | `mode` | `caller` (with a host), `listener` (without), `rendezvous` |
/// | `streamid` | what the listener is asked for ([`StreamId`]); `%26` for an `&` |
/// | `passphrase`, `pbkeylen`, `cryptomode` | 10 to 79 characters; 16, 24 or 32; 1 for AES-CTR, 2 for AES-GCM |
/// | `latency`, `rcvlatency`, `peerlatency` | milliseconds |
/// | `conntimeo`, `peeridletimeo` | milliseconds |
/// | `mss`, `fc`, `payloadsize` | bytes, packets, bytes |
/// | `maxbw`, `inputbw`, `oheadbw` | bytes in a second, bytes in a second, percent |
/// | `packetfilter` | forward error correction |
/// | `enforcedencryption`, `tlpktdrop`, `nakreport` | `1` or `0` |
/// | `adapter`, `localport` | where this side is |
/// | `grouptype` (`type`), `nodes` | `broadcast`: all at once; `backup`: the best, and others when it fails; where to |
/// | `transtype`, `messageapi` | `live`, `1`: the only ones that carry a stream |
///
/// FFmpeg writes latencies in microseconds; libsrt's own programs and this crate do not.
///
/// `Display` and `Debug` show neither passphrase nor credentials.
#[derive(Clone)]
pub struct SrtUrl {
    /// Who opens the connection.
    pub mode: ConnectMode,
    /// Host name or address; an IPv6 address without its brackets. Empty for every address of this machine; of a group the first.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address of this machine to use.
    pub adapter: Option<IpAddr>,
    /// The port of this machine to use.
    pub local_port: Option<u16>,
    /// The group to call.
    pub group: Option<SrtGroup>,
    /// What the options say.
    pub config: Config,
    text: String,
}

impl PartialEq for SrtUrl {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SrtUrl {}

impl SrtUrl {
    /// The stream that is asked for, if that can be understood.
    #[must_use]
    pub fn stream_id(&self) -> Option<StreamId> {
        self.config.stream_id.as_deref()?.parse().ok()
    }
}

impl FromStr for SrtUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let rest = text.strip_prefix("srt://").ok_or(UrlError::Scheme)?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let place = place.trim_end_matches('/');
        // libsrt's programs say so that the places are among the options.
        let elsewhere = matches!(place, "*" | "//group");
        let places: Vec<SrtPath> = if elsewhere { Vec::new() } else { paths(place)? };
        let named = places.first().is_none_or(|first| !first.host.is_empty());
        let mut parser = Parser::new(if named { ConnectMode::Caller } else { ConnectMode::Listener });
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| UrlError::Value { option: "the value", why: "not UTF-8" })?;
            parser.take(option, &value)?;
        }
        let Parser { mode, adapter, local_port, .. } = parser;
        if !named && mode != ConnectMode::Listener {
            return Err(UrlError::Host);
        }
        let group = group(&mut parser, elsewhere, &places)?;
        let first = group.as_ref().map_or(places, |group| group.paths.clone()).into_iter().next();
        let SrtPath { host, port, .. } = first.ok_or(UrlError::Port)?;
        let config = parser.finish()?;
        Ok(Self { mode, host, port, adapter, local_port, group, config, text: text.to_owned() })
    }
}

/// `host:port`, each with `?weight=…` perhaps, with commas between them.
fn paths(text: &str) -> Result<Vec<SrtPath>, UrlError> {
    let path = |text: &str| {
        let (place, weight) = text.split_once('?').unwrap_or((text, "weight=0"));
        let weight = weight.strip_prefix("weight=").ok_or_else(|| UrlError::Option(escaped(weight)))?;
        let (host, port) = place.rsplit_once(':').ok_or(UrlError::Port)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        Ok(SrtPath { host, port, weight: number("weight", weight)? })
    };
    text.split(',').map(path).collect()
}

/// The group that a URL names, if it names one.
fn group(parser: &mut Parser, elsewhere: bool, places: &[SrtPath]) -> Result<Option<SrtGroup>, UrlError> {
    let nodes = parser.nodes.take();
    let Some(kind) = parser.group else {
        return match (elsewhere || nodes.is_some(), places) {
            (false, [_]) => Ok(None),
            _ => Err(UrlError::Value { option: "grouptype", why: GROUP_KINDS }),
        };
    };
    let mut paths = match (elsewhere, nodes) {
        (true, Some(nodes)) => nodes,
        (false, None) => places.to_vec(),
        (true, None) => return Err(UrlError::Value { option: "nodes", why: "HOST:PORT,HOST:PORT" }),
        (false, Some(_)) => {
            return Err(UrlError::Value { option: "nodes", why: "the URL begins srt://*? then" });
        }
    };
    let count = u16::try_from(paths.len()).unwrap_or(u16::MAX);
    if paths.len() > MAX_MEMBERS {
        return Err(UrlError::Value { option: "nodes", why: "at most 8" });
    }
    if paths.iter().any(|path| path.host.is_empty()) {
        return Err(UrlError::Host);
    }
    let names = paths.iter().map(|path| (path.host.to_ascii_lowercase(), path.port));
    if names.collect::<HashSet<_>>().len() < paths.len() {
        return Err(UrlError::Value { option: "nodes", why: "each path once" });
    }
    if parser.mode != ConnectMode::Caller {
        return Err(UrlError::Value { option: "mode", why: "a group calls" });
    }
    if parser.config.filter.is_some() {
        return Err(UrlError::Value { option: "packetfilter", why: "a group has none" });
    }
    if paths.iter().all(|path| path.weight == 0) {
        (0..count).rev().zip(&mut paths).for_each(|(weight, path)| path.weight = weight);
    }
    Ok(Some(SrtGroup { kind, paths }))
}

fn escaped(option: &str) -> String {
    option.escape_default().to_string()
}

/// Reads options.
struct Parser {
    mode: ConnectMode,
    adapter: Option<IpAddr>,
    local_port: Option<u16>,
    group: Option<GroupKind>,
    nodes: Option<Vec<SrtPath>>,
    config: Config,
    passphrase: Option<String>,
    key_length: KeyLength,
    cipher: Cipher,
    max_bandwidth: Option<i64>,
    input_bandwidth: Option<u64>,
    overhead: u32,
}

impl Parser {
    fn new(mode: ConnectMode) -> Self {
        Self {
            mode,
            adapter: None,
            local_port: None,
            group: None,
            nodes: None,
            config: Config::default(),
            passphrase: None,
            key_length: KeyLength::Aes128,
            cipher: Cipher::Ctr,
            max_bandwidth: None,
            input_bandwidth: None,
            overhead: 25,
        }
    }

    fn take(&mut self, option: &str, value: &str) -> Result<(), UrlError> {
        let config = &mut self.config;
        match option {
            "mode" => self.mode = mode(value)?,
            "streamid" | "srt_streamid" if value.len() > MAX_STREAM_ID => {
                return Err(UrlError::Value { option: "streamid", why: "it has at most 512 bytes" });
            }
            "streamid" | "srt_streamid" => config.stream_id = Some(value.to_owned()),
            "passphrase" => self.passphrase = Some(value.to_owned()).filter(|value| !value.is_empty()),
            "pbkeylen" => self.key_length = key_length(value)?,
            "cryptomode" => self.cipher = cipher(value)?,
            "latency" => {
                config.receiver_latency = millis("latency", value)?;
                config.peer_latency = config.receiver_latency;
            }
            "rcvlatency" => config.receiver_latency = millis("rcvlatency", value)?,
            "peerlatency" => config.peer_latency = millis("peerlatency", value)?,
            "conntimeo" => config.connect_timeout = millis("conntimeo", value)?,
            "peeridletimeo" => config.peer_idle = millis("peeridletimeo", value)?,
            "mss" => config.mss = number("mss", value)?,
            "fc" => config.flow_window = number("fc", value)?,
            "payloadsize" | "payload_size" | "pkt_size" => {
                config.payload_size = number("payloadsize", value)?;
            }
            "maxbw" => self.max_bandwidth = Some(number("maxbw", value)?),
            "inputbw" => self.input_bandwidth = Some(number("inputbw", value)?),
            "oheadbw" => self.overhead = number("oheadbw", value)?,
            "packetfilter" => {
                let why = "see libsrt's documentation of the packet filter `fec`";
                let filter = value.parse().map_err(|_| UrlError::Value { option: "packetfilter", why })?;
                config.filter = Some(filter);
            }
            "enforcedencryption" => config.require_encryption = switch("enforcedencryption", value)?,
            "tlpktdrop" => config.too_late_drop = switch("tlpktdrop", value)?,
            "nakreport" => config.periodic_nak = switch("nakreport", value)?,
            "adapter" | "localip" => {
                let why = "an address of this machine";
                self.adapter = Some(value.parse().map_err(|_| UrlError::Value { option: "adapter", why })?);
            }
            "localport" => self.local_port = Some(number("localport", value)?),
            "grouptype" | "type" => self.group = Some(group_kind(value)?),
            "nodes" => self.nodes = Some(paths(value)?),
            "transtype" if value == "live" => {}
            "transtype" => return Err(UrlError::Value { option: "transtype", why: "a stream goes `live`" }),
            "messageapi" if switch("messageapi", value)? => {}
            other => return Err(UrlError::Option(escaped(other))),
        }
        Ok(())
    }

    fn finish(self) -> Result<Config, UrlError> {
        let Self { mut config, passphrase, key_length, cipher, overhead, .. } = self;
        if let Some(passphrase) = passphrase {
            let why = "it has 10 to 79 characters";
            let passphrase = passphrase.parse().map_err(|_| UrlError::Value { option: "passphrase", why })?;
            let crypto = CryptoConfig::new(passphrase).with_key_length(key_length).with_cipher(cipher);
            config.crypto = Some(crypto);
        }
        // libsrt: 0 is relative to the input's rate, and -1 has no bound.
        config.bandwidth = match (self.max_bandwidth, self.input_bandwidth) {
            (None, None) => config.bandwidth,
            (Some(most), _) if most > 0 => Bandwidth::Max { bytes_per_second: most.unsigned_abs() },
            (Some(none), _) if none < 0 => Bandwidth::Unlimited,
            (_, input) => Bandwidth::Input {
                bytes_per_second: input.filter(|rate| *rate > 0),
                overhead_percent: overhead,
            },
        };
        Ok(config.clamped())
    }
}

const GROUP_KINDS: &str = "`broadcast` or `backup`";

fn group_kind(value: &str) -> Result<GroupKind, UrlError> {
    match value {
        "broadcast" | "redundancy" => Ok(GroupKind::Broadcast),
        "backup" => Ok(GroupKind::Backup),
        _ => Err(UrlError::Value { option: "grouptype", why: GROUP_KINDS }),
    }
}

fn mode(value: &str) -> Result<ConnectMode, UrlError> {
    match value {
        "caller" | "client" => Ok(ConnectMode::Caller),
        "listener" | "server" => Ok(ConnectMode::Listener),
        "rendezvous" => Ok(ConnectMode::Rendezvous),
        _ => Err(UrlError::Value { option: "mode", why: "`caller`, `listener` or `rendezvous`" }),
    }
}

fn key_length(value: &str) -> Result<KeyLength, UrlError> {
    match value {
        "0" | "16" => Ok(KeyLength::Aes128),
        "24" => Ok(KeyLength::Aes192),
        "32" => Ok(KeyLength::Aes256),
        _ => Err(UrlError::Value { option: "pbkeylen", why: "16, 24 or 32" }),
    }
}

fn cipher(value: &str) -> Result<Cipher, UrlError> {
    match value {
        "0" | "1" => Ok(Cipher::Ctr),
        "2" => Ok(Cipher::Gcm),
        _ => Err(UrlError::Value { option: "cryptomode", why: "1 for AES-CTR or 2 for AES-GCM" }),
    }
}

fn number<T: FromStr>(option: &'static str, value: &str) -> Result<T, UrlError> {
    value.parse().map_err(|_| UrlError::Value { option, why: "a number in its range" })
}

fn millis(option: &'static str, value: &str) -> Result<Duration, UrlError> {
    number::<u32>(option, value).map(|ms| Duration::from_millis(ms.into()))
}

fn switch(option: &'static str, value: &str) -> Result<bool, UrlError> {
    match value {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(UrlError::Value { option, why: "1 or 0" }),
    }
}

/// With what is asked for, and without who asks.
impl fmt::Display for SrtUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |f: &mut fmt::Formatter<'_>, host: &str, port: u16| match host {
            host if host.contains(':') => write!(f, "[{host}]:{port}"),
            host => write!(f, "{host}:{port}"),
        };
        f.write_str("srt://")?;
        match &self.group {
            None => write(f, &self.host, self.port)?,
            Some(group) => {
                for (n, path) in group.paths.iter().enumerate() {
                    f.write_str(if n == 0 { "" } else { "," })?;
                    write(f, &path.host, path.port)?;
                }
            }
        }
        let option = match (self.mode, self.group.as_ref().map(|group| group.kind)) {
            (_, Some(GroupKind::Backup)) => Some("grouptype=backup"),
            (_, Some(_)) => Some("grouptype=broadcast"),
            (ConnectMode::Caller, None) => None,
            (ConnectMode::Listener, None) => Some("mode=listener"),
            (ConnectMode::Rendezvous, None) => Some("mode=rendezvous"),
        };
        let mut separator = '?';
        if let Some(option) = option {
            write!(f, "?{option}")?;
            separator = '&';
        }
        match self.stream_id() {
            Some(id) if !id.resource.is_empty() => {
                let what = if id.mode == StreamMode::Publish { "publish" } else { "read" };
                write!(f, "{separator}streamid={what}:{}", id.resource)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for SrtUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SrtUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> SrtUrl {
        text.parse().unwrap()
    }

    #[test]
    fn places_and_modes() {
        let cases = [
            ("srt://h:8890", ConnectMode::Caller, "h"),
            ("srt://h:8890/", ConnectMode::Caller, "h"),
            ("srt://[::1]:8890?mode=caller", ConnectMode::Caller, "::1"),
            ("srt://:8890", ConnectMode::Listener, ""),
            ("srt://0.0.0.0:8890?mode=listener", ConnectMode::Listener, "0.0.0.0"),
            ("srt://h:8890?mode=rendezvous&localport=9000", ConnectMode::Rendezvous, "h"),
        ];
        for (text, mode, host) in cases {
            let url = url(text);
            assert_eq!((url.mode, &*url.host, url.port), (mode, host, 8_890), "{text}");
        }
    }

    #[test]
    fn groups() {
        let paths = |url: &SrtUrl| -> Vec<(String, u16, u16)> {
            let group = url.group.as_ref().unwrap();
            group.paths.iter().map(|path| (path.host.clone(), path.port, path.weight)).collect()
        };
        let short = url("srt://a:1,[::1]:2,c:3?grouptype=backup&streamid=read:live/cam");
        assert_eq!(paths(&short), [("a".into(), 1, 2), ("::1".into(), 2, 1), ("c".into(), 3, 0)]);
        assert_eq!((short.mode, &*short.host, short.port), (ConnectMode::Caller, "a", 1));
        assert_eq!(short.group.as_ref().unwrap().kind, GroupKind::Backup);
        assert_eq!(short.to_string(), "srt://a:1,[::1]:2,c:3?grouptype=backup&streamid=read:live/cam");
        for text in [
            "srt://*?type=broadcast&nodes=a:1,b:2?weight=7&latency=200",
            "srt:////group?nodes=a:1,b:2?weight=7&type=redundancy",
        ] {
            let long = url(text);
            assert_eq!(paths(&long), [("a".into(), 1, 0), ("b".into(), 2, 7)], "{text}");
            assert_eq!(long.to_string(), "srt://a:1,b:2?grouptype=broadcast");
        }
        assert_eq!(paths(&url("srt://a:1?grouptype=broadcast")).len(), 1);
        let value = |option, why| UrlError::Value { option, why };
        let cases = [
            ("srt://a:1,b:2", value("grouptype", GROUP_KINDS)),
            ("srt://*?nodes=a:1", value("grouptype", GROUP_KINDS)),
            ("srt://a:1,b:2?grouptype=balancing", value("grouptype", GROUP_KINDS)),
            ("srt://*?type=backup", value("nodes", "HOST:PORT,HOST:PORT")),
            ("srt://a:1?type=backup&nodes=b:2", value("nodes", "the URL begins srt://*? then")),
            ("srt://a:1,b?type=backup", UrlError::Port),
            ("srt://a:1,:2?type=backup", UrlError::Host),
            ("srt://a:1,b:1,A:1?type=backup", value("nodes", "each path once")),
            ("srt://*?type=backup&nodes=a:1?wait=3", UrlError::Option("wait=3".into())),
            ("srt://*?type=backup&nodes=a:1?weight=-3", value("weight", "a number in its range")),
            ("srt://a:1,b:2?type=backup&mode=rendezvous", value("mode", "a group calls")),
            (
                "srt://a:1,b:2?type=backup&packetfilter=fec,cols:4,rows:2",
                value("packetfilter", "a group has none"),
            ),
            ("srt://a:1,a:2,a:3,a:4,a:5,a:6,a:7,a:8,a:9?type=backup", value("nodes", "at most 8")),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<SrtUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn the_paths_of_a_group_are_of_one_family() {
        let group = url("srt://a:1,b:2?grouptype=broadcast").group.unwrap();
        let at =
            |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
        let both = [at(&["[::1]:1", "192.0.2.1:1"]), at(&["192.0.2.2:2"])];
        assert_eq!(group.choose(&both), Some(at(&["192.0.2.1:1", "192.0.2.2:2"])));
        assert_eq!(group.choose(&[at(&["[::1]:1"]), at(&["192.0.2.2:2"])]), None);
        assert_eq!(group.choose(&[at(&["192.0.2.2:2"])]), None);
    }

    #[test]
    fn options_as_libsrt_has_them() {
        let all = url(
            "srt://h:1?streamid=#!::m=publish,r=live/cam,u=me&passphrase=0123456789abc&pbkeylen=32&latency=200\
             &peerlatency=300&conntimeo=5000&payloadsize=1128&maxbw=-1&enforcedencryption=0&cryptomode=2",
        );
        assert_eq!(all.stream_id().unwrap().resource, "live/cam");
        let config = all.config;
        let latencies = (config.receiver_latency.as_millis(), config.peer_latency.as_millis());
        assert_eq!((latencies, config.payload_size), ((200, 300), 1_128));
        assert_eq!((config.bandwidth, config.require_encryption), (Bandwidth::Unlimited, false));
        let crypto = config.crypto.unwrap();
        assert_eq!((crypto.key_length, crypto.cipher), (KeyLength::Aes256, Cipher::Gcm));
        let relative = url("srt://h:1?inputbw=500000&oheadbw=30").config.bandwidth;
        let input = Bandwidth::Input { bytes_per_second: Some(500_000), overhead_percent: 30 };
        assert_eq!(relative, input);
        // A query within the stream id, and an `&` in it.
        let id = url("srt://h:1?streamid=read:live/cam?token=a%26b").stream_id().unwrap();
        assert_eq!(id.query.as_deref(), Some("token=a&b"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("rtmp://h/live/cam", UrlError::Scheme),
            ("srt://h", UrlError::Port),
            ("srt://h:0", UrlError::Port),
            ("srt://h:99999", UrlError::Port),
            ("srt://:8890?mode=caller", UrlError::Host),
            ("srt://h:1?strimid=x", UrlError::Option("strimid".into())),
            (
                "srt://h:1?passphrase=short",
                UrlError::Value { option: "passphrase", why: "it has 10 to 79 characters" },
            ),
            ("srt://h:1?pbkeylen=17", UrlError::Value { option: "pbkeylen", why: "16, 24 or 32" }),
            (
                "srt://h:1?transtype=file",
                UrlError::Value { option: "transtype", why: "a stream goes `live`" },
            ),
        ];
        for (text, error) in cases {
            assert_eq!(text.parse::<SrtUrl>(), Err(error), "{text}");
        }
    }

    #[test]
    fn h18_neither_passphrase_nor_credentials_are_shown() {
        let url =
            url("srt://h:8890?streamid=publish:live/cam:me:hunter2&passphrase=correct horse&mode=rendezvous");
        assert_eq!(url.to_string(), "srt://h:8890?mode=rendezvous&streamid=publish:live/cam");
        assert!(!format!("{url:?}").contains("horse"));
        assert_eq!(url, url.clone());
    }
}
