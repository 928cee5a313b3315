//! What a configuration must hold beyond the types of its values.

use arcly_core::StreamKey;
use arcly_core::contract::auth::{ActionSet, NameRule};
use arcly_core::egress::Tick;
use arcly_mux::ts::udp::UdpUrl;

use super::{AuthConfig, Config, ConfigError, HlsConfig, RtspTransport, Secret, TranscodeConfig, UdpConfig};
use crate::relay::RelaySpec;

/// Secrets that stand in documentation and examples; a server that starts with one is open to everybody.
const SAMPLE_SECRETS: [&str; 6] =
    ["changeme", "change-me", "change me", "secret", "password", "changeme-changeme-changeme"];
/// Bytes of media that a rendition must be allowed at least.
const MIN_HLS_BYTES: u64 = 1 << 20;
/// Bits per second that sound in stereo can have.
const BITRATES_BPS: core::ops::RangeInclusive<u32> = 32_000..=510_000;
/// Bytes that a signing key has at least.
const MIN_KEY: usize = 16;

impl Config {
    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first thing that is wrong, with its key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match (&self.tls.cert, &self.tls.key) {
            (Some(_), None) => return Err(ConfigError::new("tls.key: a certificate needs its private key")),
            (None, Some(_)) => return Err(ConfigError::new("tls.cert: a private key needs its certificate")),
            _ => {}
        }
        if !self.rtsp.transports.contains(&RtspTransport::Tcp) {
            return Err(ConfigError::new(
                "rtsp.transports: `tcp` is what clients fall back to, and cannot be left out",
            ));
        }
        self.rtsp.multicast.groups()?;
        if let Some(name) = &self.rtsp.back_channel {
            StreamKey::parse(&format!("live/cam/{name}"))
                .map_err(|error| ConfigError::new(format!("rtsp.back_channel: `{name}`: {error}")))?;
        }
        if self.egress.tick.0 > Tick::MAX.interval() {
            return Err(ConfigError::new(
                "egress.tick: more than a second; players would run dry in between",
            ));
        }
        for app in self.apps.keys() {
            if app.contains('/') || StreamKey::from_parts(app, "x").is_err() {
                return Err(ConfigError::new(format!("apps.{app}: not the name of an application")));
            }
        }
        for (at, relay) in self.relays.iter().enumerate() {
            RelaySpec::new(relay).map_err(|wrong| ConfigError::new(format!("relays[{at}].{wrong}")))?;
        }
        self.srt.server()?;
        self.webrtc.server()?;
        self.hls.validate()?;
        self.record.options()?;
        self.record.rules()?;
        self.transcode.validate()?;
        self.udp.validate()?;
        self.auth.validate()
    }
}

impl HlsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let [part, segment, window] = [self.part, self.segment, self.window].map(|span| span.0.as_millis());
        let bounds = [
            ("part", part, 50, 2_000),
            ("segment", segment, 500, 30_000),
            ("window", window, 1_000, 3_600_000),
        ];
        for (key, value, least, most) in bounds {
            if !(least..=most).contains(&value) {
                return Err(ConfigError::new(format!("hls.{key}: must be from {least}ms to {most}ms")));
            }
        }
        if part > segment {
            return Err(ConfigError::new("hls.part: parts cannot be longer than segments"));
        }
        if self.max_bytes.0 < MIN_HLS_BYTES {
            return Err(ConfigError::new("hls.max_bytes: must be at least 1MiB"));
        }
        Ok(())
    }
}

impl TranscodeConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let bitrates =
            [("opus_bitrate_bps", self.opus_bitrate_bps), ("aac_bitrate_bps", self.aac_bitrate_bps)];
        match bitrates.iter().find(|(_, bitrate)| !BITRATES_BPS.contains(bitrate)) {
            Some((key, _)) => {
                let (least, most) = (BITRATES_BPS.start(), BITRATES_BPS.end());
                Err(ConfigError::new(format!("transcode.{key}: must be from {least} to {most}")))
            }
            None => Ok(()),
        }
    }
}

impl UdpConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let inputs = self.input.iter().map(|input| ("input", &input.path, &input.url)).enumerate();
        let outputs = self.output.iter().map(|output| ("output", &output.path, &output.url)).enumerate();
        for (at, (kind, path, url)) in inputs.chain(outputs) {
            let wrong = |key, error: &dyn core::fmt::Display| {
                ConfigError::new(format!("udp.{kind}[{at}].{key}: {error}"))
            };
            StreamKey::parse(path).map_err(|error| wrong("path", &error))?;
            let url: UdpUrl = url.parse().map_err(|error| wrong("url", &error))?;
            if kind == "input" && !url.host.is_empty() && url.ip().is_none() {
                return Err(wrong("url", &"the host of an input is an address of this machine, or a group"));
            }
            if kind == "output" && url.host.is_empty() {
                return Err(wrong("url", &"an output needs a host to send to"));
            }
        }
        Ok(())
    }
}

impl AuthConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        for (at, user) in self.users.iter().enumerate() {
            let wrong = |what: String| ConfigError::new(format!("auth.users[{at}].{what}"));
            user.actions
                .join(",")
                .parse::<ActionSet>()
                .map_err(|e| wrong(format!("actions: {:?}: {e}", user.actions)))?;
            NameRule::parse(&user.streams).map_err(|e| wrong(format!("streams: {e}")))?;
            check_secret(&user.password, 1).map_err(|e| wrong(format!("password: {e}")))?;
        }
        for (at, key) in self.keys.iter().enumerate() {
            check_secret(&key.secret, MIN_KEY)
                .map_err(|e| ConfigError::new(format!("auth.keys[{at}].secret: {e}")))?;
        }
        for (name, rules) in [("public_play", &self.public_play), ("public_publish", &self.public_publish)] {
            for rule in rules {
                NameRule::parse(rule).map_err(|e| ConfigError::new(format!("auth.{name}: `{rule}`: {e}")))?;
            }
        }
        Ok(())
    }
}

/// Whether a secret stands in documentation and examples.
pub(crate) fn is_sample(text: &str) -> bool {
    SAMPLE_SECRETS.iter().any(|sample| text.eq_ignore_ascii_case(sample))
}

fn check_secret(secret: &Secret, min: usize) -> Result<(), String> {
    let text = secret.reveal().map_err(|error| format!("cannot read it: {error}"))?;
    if is_sample(&text) {
        return Err("this is the sample from the documentation; choose your own".into());
    }
    if text.len() < min {
        return Err(format!("must have at least {min} bytes"));
    }
    Ok(())
}
