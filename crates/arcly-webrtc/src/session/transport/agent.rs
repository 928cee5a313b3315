//! What str0m is set up with: who this side is, what it can do, and where it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::CodecId;
use str0m::bwe::Bitrate;
use str0m::config::{CryptoProvider, DtlsCert};
use str0m::net::{Protocol as Carrier, TcpType};
use str0m::{Candidate, Rtc, RtcConfig};

use super::MAX_MESSAGE_BYTES;
use super::data::MAX_WAITING_IN_ALL;
use crate::config::Addresses;
use crate::wire::Protocol;

/// What the link of somebody who is sent media is believed to carry before it has said anything: enough for a picture to be there at once.
const FIRST_ESTIMATE_BPS: u64 = 5_000_000;
/// How often what is counted is brought up to date.
const STATS_INTERVAL: Duration = Duration::from_secs(1);
/// Codecs that offers are answered with, and that are offered, in the order of preference.
pub(in crate::session) const CODECS: [CodecId; 9] = [
    CodecId::H264,
    CodecId::Vp8,
    CodecId::Vp9,
    CodecId::Av1,
    CodecId::H265,
    CodecId::Opus,
    CodecId::G722,
    CodecId::Pcmu,
    CodecId::Pcma,
];

/// What all sessions of a server prove who they are with: a certificate that nobody else has seen before.
#[derive(Clone)]
pub struct Identity {
    crypto: Arc<CryptoProvider>,
    certificate: DtlsCert,
}

impl core::fmt::Debug for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// No certificate can be made.
    pub fn generate() -> io::Result<Self> {
        let crypto = str0m::crypto::from_feature_flags();
        let certificate = crypto.dtls_provider.generate_certificate();
        let certificate = certificate.ok_or_else(|| io::Error::other("no certificate can be made"))?;
        Ok(Self { crypto: Arc::new(crypto), certificate })
    }
}

/// How long a peer may take, and be silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From the offer to the first check.
    pub ice: Duration,
    /// From the offer to media: checks, and the DTLS handshake.
    pub connect: Duration,
    /// From one check to the next (RFC 7675 §5.1: 30 s).
    pub consent: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ice: Duration::from_secs(10),
            connect: Duration::from_secs(20),
            consent: Duration::from_secs(30),
        }
    }
}

/// What both parts have in common, with these codecs.
pub(in crate::session) fn config(identity: &Identity, codecs: &[CodecId]) -> RtcConfig {
    let has = |codec| codecs.contains(&codec);
    RtcConfig::new()
        .set_stats_interval(Some(STATS_INTERVAL))
        .set_crypto_provider(Arc::clone(&identity.crypto))
        .set_dtls_cert(identity.certificate.clone())
        .set_rtp_mode(true)
        .set_sctp_max_message_size(u32::try_from(MAX_MESSAGE_BYTES).unwrap_or(u32::MAX))
        .set_sctp_max_buffered_amount(MAX_WAITING_IN_ALL)
        .clear_codecs()
        .enable_h264(has(CodecId::H264))
        .enable_vp8(has(CodecId::Vp8))
        .enable_vp9(has(CodecId::Vp9))
        .enable_av1(has(CodecId::Av1))
        .enable_h265(has(CodecId::H265))
        .enable_opus(has(CodecId::Opus), true)
        .enable_g722(has(CodecId::G722), false)
        .enable_pcmu(has(CodecId::Pcmu), false)
        .enable_pcma(has(CodecId::Pcma), false)
}

/// Has whoever sends find out what the link to the peer carries; who only receives reports what arrives.
pub(in crate::session) fn finds_out_the_bitrate(config: RtcConfig) -> RtcConfig {
    config.enable_bwe(Some(Bitrate::bps(FIRST_ESTIMATE_BPS)))
}

/// Tells the agent where this side is.
pub(in crate::session) fn announce(rtc: &mut Rtc, addresses: &Addresses) {
    for address in addresses.announced() {
        let candidate = match address.protocol {
            Protocol::Udp => Candidate::host(address.socket, Carrier::Udp),
            // Connections are taken here (RFC 6544 §4.5); see `handle_connection` for those that are opened.
            Protocol::Tcp => {
                Candidate::builder().tcp().host(address.socket).tcptype(TcpType::Passive).build()
            }
        };
        candidate.into_iter().for_each(|candidate| _ = rtc.add_local_candidate(candidate));
    }
}
