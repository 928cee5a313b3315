//! `srt://` URLs, as libsrt's own programs and FFmpeg write them.

use core::fmt;
use core::str::FromStr;
use std::net::IpAddr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::config::{Bandwidth, Config};
use crate::crypto::CryptoConfig;
use crate::wire::{Cipher, KeyLength, MAX_STREAM_ID, StreamId, StreamMode};

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

/// A parsed `srt://[host]:port[?option=value&…]`.
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
/// | `transtype`, `messageapi` | `live`, `1`: the only ones that carry a stream |
///
/// FFmpeg writes latencies in microseconds; libsrt's own programs and this crate do not.
///
/// `Display` and `Debug` show neither passphrase nor credentials.
#[derive(Clone)]
pub struct SrtUrl {
    /// Who opens the connection.
    pub mode: ConnectMode,
    /// Host name or address; an IPv6 address without its brackets. Empty for every address of this machine.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The address of this machine to use.
    pub adapter: Option<IpAddr>,
    /// The port of this machine to use.
    pub local_port: Option<u16>,
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
        let (host, port) = place.trim_end_matches('/').rsplit_once(':').ok_or(UrlError::Port)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or(UrlError::Port)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        let mode = if host.is_empty() { ConnectMode::Listener } else { ConnectMode::Caller };
        let mut parser = Parser::new(mode);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decode_str(value).decode_utf8();
            let value = value.map_err(|_| UrlError::Value { option: "the value", why: "not UTF-8" })?;
            parser.take(option, &value)?;
        }
        let Parser { mode, adapter, local_port, .. } = parser;
        if host.is_empty() && mode != ConnectMode::Listener {
            return Err(UrlError::Host);
        }
        let config = parser.finish()?;
        Ok(Self { mode, host, port, adapter, local_port, config, text: text.to_owned() })
    }
}

/// Reads options.
struct Parser {
    mode: ConnectMode,
    adapter: Option<IpAddr>,
    local_port: Option<u16>,
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
            "transtype" if value == "live" => {}
            "transtype" => return Err(UrlError::Value { option: "transtype", why: "a stream goes `live`" }),
            "messageapi" if switch("messageapi", value)? => {}
            other => return Err(UrlError::Option(other.escape_default().to_string())),
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
        match self.host.as_str() {
            host if host.contains(':') => write!(f, "srt://[{host}]:{}", self.port)?,
            host => write!(f, "srt://{host}:{}", self.port)?,
        }
        let mode = match self.mode {
            ConnectMode::Caller => None,
            ConnectMode::Listener => Some("listener"),
            ConnectMode::Rendezvous => Some("rendezvous"),
        };
        let mut separator = '?';
        if let Some(mode) = mode {
            write!(f, "?mode={mode}")?;
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
