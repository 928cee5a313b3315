//! The Transport header: how packets of a medium travel, as a client offers it and as a server decides (RFC 2326 §12.39).
//!
//! Tolerated: names and values in any case, blanks, ports and channels said as one number (the other is the next),
//! parameters that are not known, values that are wrong in parameters that decide nothing (`ssrc`, `ttl`, `mode`).

use core::fmt;
use core::str::FromStr;
use std::net::Ipv4Addr;

use arcly_core::wire::DecodeError;

use super::message::number;

/// Alternatives of one header that are looked at.
pub const MAX_TRANSPORTS: usize = 16;

/// What is done to packets (RFC 3551, RFC 3711, RFC 4585).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `RTP/AVP`.
    #[default]
    Avp,
    /// `RTP/AVPF`: with feedback.
    Avpf,
    /// `RTP/SAVP`: encrypted.
    Savp,
    /// `RTP/SAVPF`: both.
    Savpf,
}

impl Profile {
    /// The name on the wire, as in `m=` lines.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Avp => "RTP/AVP",
            Self::Avpf => "RTP/AVPF",
            Self::Savp => "RTP/SAVP",
            Self::Savpf => "RTP/SAVPF",
        }
    }

    /// True for SRTP.
    #[must_use]
    pub const fn is_secure(self) -> bool {
        matches!(self, Self::Savp | Self::Savpf)
    }
}

/// What carries packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum LowerTransport {
    /// Datagrams.
    #[default]
    Udp,
    /// The connection itself.
    Tcp,
}

/// To whom packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cast {
    /// To this client.
    Unicast,
    /// To a group.
    Multicast,
}

/// What a client wants to do with a medium.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TransportMode {
    /// Receive it.
    #[default]
    Play,
    /// Send it.
    Record,
}

/// The ports of a medium; neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PortPair {
    /// Where RTP goes.
    pub rtp: u16,
    /// Where RTCP goes.
    pub rtcp: u16,
}

impl FromStr for PortPair {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let (rtp, rtcp) = pair(text).ok_or(malformed("port"))?;
        if rtp == 0 { Err(malformed("port")) } else { Ok(Self { rtp, rtcp }) }
    }
}

impl fmt::Display for PortPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.rtp, self.rtcp)
    }
}

/// Two numbers, the second not below the first; of one alone the second is the next.
fn pair<T: TryFrom<u64> + PartialOrd>(text: &str) -> Option<(T, T)> {
    let (first, second) = match text.split_once('-') {
        Some((first, second)) => (number(first.trim())?, number(second.trim())?),
        None => {
            let first = number(text.trim())?;
            (first, first.checked_add(1)?)
        }
    };
    let (first, second) = (T::try_from(first).ok()?, T::try_from(second).ok()?);
    (first <= second).then_some((first, second))
}

/// One alternative.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transport {
    /// What is done to packets.
    pub profile: Profile,
    /// What carries them.
    pub lower: LowerTransport,
    /// To whom they go; nothing is said by many for TCP.
    pub cast: Option<Cast>,
    /// Channels of RTP and RTCP.
    pub interleaved: Option<(u8, u8)>,
    /// Ports of the client.
    pub client_port: Option<PortPair>,
    /// Ports of the server.
    pub server_port: Option<PortPair>,
    /// Ports of a group.
    pub port: Option<PortPair>,
    /// Where packets go; arcly's server never looks at it (T23).
    pub destination: Option<String>,
    /// Where they come from.
    pub source: Option<String>,
    /// How far multicast goes.
    pub ttl: Option<u8>,
    /// The source that RTP packets name.
    pub ssrc: Option<u32>,
    /// What the client wants to do; nothing is said by many.
    pub mode: Option<TransportMode>,
}

const fn malformed(what: &'static str) -> DecodeError {
    DecodeError::Malformed { what, offset: 0 }
}

impl Transport {
    /// RTP over the connection itself, on those channels.
    #[must_use]
    pub fn tcp(channels: (u8, u8)) -> Self {
        Self {
            lower: LowerTransport::Tcp,
            cast: Some(Cast::Unicast),
            interleaved: Some(channels),
            ..Self::default()
        }
    }

    /// RTP in datagrams, to those ports of the client.
    #[must_use]
    pub fn udp(client_port: PortPair) -> Self {
        Self { cast: Some(Cast::Unicast), client_port: Some(client_port), ..Self::default() }
    }

    /// RTP in datagrams to a group, on those ports.
    #[must_use]
    pub fn multicast(group: Ipv4Addr, port: PortPair, ttl: u8) -> Self {
        Self {
            cast: Some(Cast::Multicast),
            destination: Some(group.to_string()),
            port: Some(port),
            ttl: Some(ttl),
            ..Self::default()
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), DecodeError> {
        match name.to_ascii_lowercase().as_str() {
            "unicast" => self.cast = Some(Cast::Unicast),
            "multicast" => self.cast = Some(Cast::Multicast),
            "interleaved" => self.interleaved = Some(pair(value).ok_or(malformed("interleaved"))?),
            "client_port" => self.client_port = Some(value.parse()?),
            "server_port" => self.server_port = Some(value.parse()?),
            "port" => self.port = Some(value.parse()?),
            "destination" if !value.is_empty() => self.destination = Some(value.to_owned()),
            "source" if !value.is_empty() => self.source = Some(value.to_owned()),
            "ttl" => self.ttl = number(value).and_then(|ttl| u8::try_from(ttl).ok()),
            "ssrc" => self.ssrc = u32::from_str_radix(value.trim_start_matches("0x"), 16).ok(),
            "mode" => self.mode = mode(value),
            _ => {}
        }
        Ok(())
    }
}

/// `PLAY`, `RECORD`, what older clients call `receive`, or a list.
fn mode(value: &str) -> Option<TransportMode> {
    let first = value.trim_matches('"').split(',').next().unwrap_or_default().trim();
    match first.to_ascii_lowercase().as_str() {
        "play" => Some(TransportMode::Play),
        "record" | "receive" => Some(TransportMode::Record),
        _ => None,
    }
}

impl FromStr for Transport {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let mut parts = text.split(';').map(str::trim).filter(|part| !part.is_empty());
        let protocol = parts.next().ok_or(malformed("transport"))?.to_ascii_uppercase();
        let (profile, lower) = match protocol.strip_suffix("/TCP") {
            Some(profile) => (profile, LowerTransport::Tcp),
            None => (protocol.strip_suffix("/UDP").unwrap_or(&protocol), LowerTransport::Udp),
        };
        let profiles = [Profile::Avp, Profile::Avpf, Profile::Savp, Profile::Savpf];
        let profile = profiles.into_iter().find(|known| known.as_str() == profile);
        let profile = profile.ok_or(malformed("transport protocol"))?;
        let mut transport = Self { profile, lower, ..Self::default() };
        for part in parts {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            transport.set(name.trim(), value.trim())?;
        }
        Ok(transport)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.profile.as_str())?;
        if self.lower == LowerTransport::Tcp {
            f.write_str("/TCP")?;
        }
        match self.cast {
            Some(Cast::Unicast) => f.write_str(";unicast")?,
            Some(Cast::Multicast) => f.write_str(";multicast")?,
            None => {}
        }
        if let Some(destination) = &self.destination {
            write!(f, ";destination={destination}")?;
        }
        if let Some(source) = &self.source {
            write!(f, ";source={source}")?;
        }
        if let Some((rtp, rtcp)) = self.interleaved {
            write!(f, ";interleaved={rtp}-{rtcp}")?;
        }
        for (name, ports) in
            [("port", self.port), ("client_port", self.client_port), ("server_port", self.server_port)]
        {
            if let Some(ports) = ports {
                write!(f, ";{name}={ports}")?;
            }
        }
        if let Some(ttl) = self.ttl {
            write!(f, ";ttl={ttl}")?;
        }
        if let Some(ssrc) = self.ssrc {
            write!(f, ";ssrc={ssrc:08X}")?;
        }
        match self.mode {
            Some(TransportMode::Play) => f.write_str(";mode=\"PLAY\""),
            Some(TransportMode::Record) => f.write_str(";mode=\"RECORD\""),
            None => Ok(()),
        }
    }
}

/// The alternatives of a header that are understood, best first; at most [`MAX_TRANSPORTS`] are looked at. Those that are
/// of another kind, or wrong, are passed over, so that the client's next one counts.
pub fn transports(header: &str) -> impl Iterator<Item = Transport> {
    let mut quoted = false;
    let alternatives = header.split(move |c| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    alternatives.take(MAX_TRANSPORTS).filter_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_2326_12_39_several_alternatives() {
        let header =
            "RTP/AVP;multicast;ttl=127;mode=\"PLAY\",RTP/AVP;unicast;client_port=3456-3457;mode=\"PLAY\"";
        let found: Vec<_> = transports(header).collect();
        assert_eq!((found[0].cast, found[0].ttl), (Some(Cast::Multicast), Some(127)));
        assert_eq!(found[1].client_port, Some(PortPair { rtp: 3_456, rtcp: 3_457 }));
        assert_eq!(found[1].mode, Some(TransportMode::Play));
        let written: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(written.join(","), header);
    }

    #[test]
    fn what_clients_send() {
        let cases = [
            ("RTP/AVP/TCP;unicast;interleaved=0-1", Transport::tcp((0, 1))),
            ("rtp/avp/tcp; Unicast ; Interleaved = 4-5", Transport::tcp((4, 5))),
            ("RTP/AVP/TCP;interleaved=2", Transport { cast: None, ..Transport::tcp((2, 3)) }),
            (
                "RTP/AVP/UDP;unicast;client_port=5000-5001",
                Transport::udp(PortPair { rtp: 5_000, rtcp: 5_001 }),
            ),
            ("RTP/AVP;unicast;client_port=5000", Transport::udp(PortPair { rtp: 5_000, rtcp: 5_001 })),
            (
                "RTP/SAVP/TCP;unicast;interleaved=0-1;mode=record",
                Transport {
                    profile: Profile::Savp,
                    mode: Some(TransportMode::Record),
                    ..Transport::tcp((0, 1))
                },
            ),
            (
                "RTP/AVP/TCP;unicast;interleaved=0-1;mode=\"PLAY,RECORD\";append;ssrc=zz;layers=9",
                Transport { mode: Some(TransportMode::Play), ..Transport::tcp((0, 1)) },
            ),
        ];
        for (header, expect) in cases {
            assert_eq!(header.parse(), Ok(expect.clone()), "{header}");
            assert_eq!(expect.to_string().parse(), Ok(expect));
        }
    }

    #[test]
    fn quotes_keep_commas_together_and_the_next_alternative_counts() {
        let header = "RAW/RAW/UDP;unicast,RTP/AVP;client_port=70000-70001,RTP/AVP/TCP;mode=\"PLAY,RECORD\"";
        let found: Vec<_> = transports(header).map(|transport| transport.lower).collect();
        assert_eq!(found, [LowerTransport::Tcp]);
        assert_eq!(transports(&"RTP/AVP,".repeat(100)).count(), MAX_TRANSPORTS);
        assert_eq!(transports("").count(), 0);
    }

    #[test]
    fn t24_ports_and_channels_that_are_none() {
        for ports in ["0-0", "0-1", "70000-70001", "65535", "-1--2", "5-4", "", "a-b", "1-", "+1-2"] {
            assert!(ports.parse::<PortPair>().is_err(), "{ports}");
        }
        for channels in ["256-257", "255", "1-0", "-", "x"] {
            assert!(
                format!("RTP/AVP/TCP;interleaved={channels}").parse::<Transport>().is_err(),
                "{channels}"
            );
        }
    }

    #[test]
    fn what_a_server_answers() {
        let text =
            "RTP/AVP;unicast;source=192.0.2.1;client_port=5000-5001;server_port=8000-8001;ssrc=0A0B0C0D";
        let transport: Transport = text.parse().unwrap();
        assert_eq!(transport.ssrc, Some(0x0A0B_0C0D));
        assert_eq!(transport.server_port, Some(PortPair { rtp: 8_000, rtcp: 8_001 }));
        assert_eq!(transport.to_string(), text);
    }
}
