//! SRT: what `[srt]` says, and what its listener and its connections count.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arcly_core::StreamKey;
use arcly_core::contract::auth::{ActionSet, NameRule};
use arcly_srt::config::LATENCY;
use arcly_srt::crypto::CryptoConfig;
use arcly_srt::server::{ConnectionInfo, ServerStatistics, StreamPassphrase};
use arcly_srt::session::Statistics;
use arcly_srt::wire::StreamId;
use serde_json::{Map, Value};

use crate::config::{ConfigError, Secret, SrtConfig};
use crate::server::Server;

impl SrtConfig {
    /// What the listener keeps to.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub(crate) fn server(&self) -> Result<arcly_srt::ServerConfig, ConfigError> {
        if !LATENCY.contains(&self.latency.0) {
            return Err(ConfigError::new("srt.latency: must be from 20ms to 8s"));
        }
        if !(1_000..=60_000).contains(&self.idle.0.as_millis()) {
            return Err(ConfigError::new("srt.idle: must be from 1s to 1m"));
        }
        let mut config = arcly_srt::ServerConfig::default();
        config.connection.receiver_latency = self.latency.0;
        config.connection.peer_latency = self.latency.0;
        config.connection.peer_idle = self.idle.0;
        config.connection.crypto = crypto("srt.passphrase", self.passphrase.as_ref())?;
        for (at, own) in self.passphrases.iter().enumerate() {
            let key = format!("srt.passphrases[{at}]");
            let wrong = |name: &str, error: &dyn core::fmt::Display| {
                ConfigError::new(format!("{key}.{name}: {error}"))
            };
            let streams = NameRule::parse(&own.streams).map_err(|error| wrong("streams", &error))?;
            let actions = own.actions.join(",").parse::<ActionSet>();
            let actions = actions.map_err(|error| wrong("actions", &error))?;
            let crypto = crypto(&format!("{key}.passphrase"), own.passphrase.as_ref())?;
            config.passphrases.push(StreamPassphrase { streams, actions, crypto });
        }
        if let Some(id) = &self.stream_id {
            let wrong = |error: &dyn core::fmt::Display| ConfigError::new(format!("srt.stream_id: {error}"));
            let parsed: StreamId = id.parse().map_err(|error| wrong(&error))?;
            StreamKey::parse(&parsed.resource).map_err(|error| wrong(&error))?;
            config.default_stream_id = Some(id.clone());
        }
        Ok(config)
    }
}

fn crypto(key: &str, passphrase: Option<&Secret>) -> Result<Option<CryptoConfig>, ConfigError> {
    let Some(passphrase) = passphrase else { return Ok(None) };
    let wrong = |error: &dyn core::fmt::Display| ConfigError::new(format!("{key}: {error}"));
    let text = passphrase.reveal().map_err(|error| wrong(&format!("cannot read it: {error}")))?;
    if crate::config::is_sample(&text) {
        return Err(wrong(&"this is the sample from the documentation; choose your own"));
    }
    Ok(Some(CryptoConfig::new(text.parse().map_err(|error| wrong(&error))?)))
}

/// The figures of SRT at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures(ServerStatistics);

impl Figures {
    /// Those of a server that listens for SRT; of another, nothing.
    pub(crate) async fn of(server: &Arc<Server>) -> Self {
        match server.srt() {
            Some(srt) => Self(srt.statistics().await),
            None => Self::default(),
        }
    }

    /// What a connection has counted, as libsrt names it; null when nobody there carries that stream over SRT.
    pub(crate) fn of_peer(&self, remote: Option<SocketAddr>, key: &StreamKey, publishes: bool) -> Value {
        let is_it = |one: &&ConnectionInfo| {
            Some(one.remote) == remote && one.key == *key && one.publishes == publishes
        };
        self.0.connections.iter().find(is_it).map_or(Value::Null, |one| describe(&one.statistics))
    }

    /// Connections that carry a stream.
    pub(crate) fn connections(&self) -> u64 {
        self.0.connections.len() as u64
    }

    /// Counters of all connections there ever were: name, what it is, value.
    pub(crate) fn totals(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.0.totals.described()
    }

    /// The longest round trip, in seconds.
    pub(crate) fn longest_rtt(&self) -> f64 {
        self.0.connections.iter().map(|one| one.statistics.instant.ms_rtt / 1_000.0).fold(0.0, f64::max)
    }

    /// Sums over the connections that are there: packets on the way, packets and bytes that wait to be acknowledged, and to
    /// be handed over.
    pub(crate) fn buffers(&self) -> [(&'static str, &'static str, u64); 5] {
        let sum = |of: fn(&Statistics) -> u32| -> u64 {
            self.0.connections.iter().map(|one| u64::from(of(&one.statistics))).sum()
        };
        [
            (
                "pkt_flight_size",
                "Packets that are not acknowledged (pktFlightSize)",
                sum(|s| s.instant.pkt_flight_size),
            ),
            (
                "pkt_snd_buf",
                "Packets that wait to be sent or acknowledged (pktSndBuf)",
                sum(|s| s.instant.pkt_snd_buf),
            ),
            ("byte_snd_buf", "Their bytes (byteSndBuf)", sum(|s| s.instant.byte_snd_buf)),
            (
                "pkt_rcv_buf",
                "Packets that wait to be handed over (pktRcvBuf)",
                sum(|s| s.instant.pkt_rcv_buf),
            ),
            ("byte_rcv_buf", "Their bytes (byteRcvBuf)", sum(|s| s.instant.byte_rcv_buf)),
        ]
    }

    /// Datagrams that were passed over, by reason.
    pub(crate) fn ignored(&self) -> BTreeMap<[String; 1], u64> {
        self.0.ignored.iter().map(|(why, count)| ([why.replace(' ', "_")], *count)).collect()
    }
}

fn describe(statistics: &Statistics) -> Value {
    let mut shown = Map::new();
    shown.insert("msTimeStamp".to_owned(), statistics.ms_time_stamp.into());
    shown.extend(statistics.totals.named().map(|(name, value)| (name.to_owned(), value.into())));
    shown.extend(statistics.instant.named().map(|(name, value)| (name.to_owned(), value.into())));
    Value::Object(shown)
}

#[cfg(test)]
mod tests {
    use arcly_core::contract::auth::Action;

    use crate::config::Config;

    #[test]
    fn what_a_listener_keeps_to() {
        let config = Config::from_toml(
            "[srt]\nlatency = '250ms'\npassphrase = 'one of ten or more'\nstream_id = 'publish:live/door'\n\
             [[srt.passphrases]]\nstreams = 'live/*'\nactions = ['play']\npassphrase = 'another of ten'\n\
             [[srt.passphrases]]\nstreams = 'open/*'\n",
        );
        let server = config.unwrap().srt.server().unwrap();
        assert_eq!(server.connection.receiver_latency.as_millis(), 250);
        assert!(server.connection.crypto.is_some() && server.default_stream_id.is_some());
        let [play, open] = &server.passphrases[..] else { panic!("{:?}", server.passphrases) };
        assert!(play.actions.contains(Action::Play) && !play.actions.contains(Action::Publish));
        assert!(play.crypto.is_some() && open.crypto.is_none());
        assert!(open.actions.contains(Action::Publish));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            ("latency = '9s'", "srt.latency"),
            ("idle = '0s'", "srt.idle"),
            ("passphrase = 'short'", "srt.passphrase"),
            ("passphrase = 'changeme-changeme-changeme'", "sample"),
            ("stream_id = 'publish:../x'", "srt.stream_id"),
            ("stream_id = '#!::x'", "srt.stream_id"),
            ("[[srt.passphrases]]\nstreams = '../x'", "srt.passphrases[0].streams"),
            ("[[srt.passphrases]]\nstreams = '*'\nactions = ['api2']", "srt.passphrases[0].actions"),
        ];
        for (text, key) in cases {
            let error = Config::from_toml(&format!("[srt]\n{text}\n")).unwrap_err().to_string();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
