use std::time::Instant;

use arcly_core::{CodecId, TrackKind, TrackSet};
use arcly_rtp::sdp::Redundancy;
use str0m::Rtc;
use str0m::change::{SdpAnswer, SdpPendingOffer};
use str0m::channel::ChannelConfig;
use str0m::media::{Direction, MediaKind};

use super::medium::media;
use super::transport::{CODECS, announce, config, finds_out_the_bitrate};
use super::{Identity, Medium, NoCommonCodec, Timeouts, Transport};
use crate::config::Addresses;
use crate::wire::{Answer, AnswerError, Role, red_last};

/// The channel that an offer of data channels needs, and its stream: one that nobody comes to by counting.
const PLACE_HOLDER: &str = "arcly";
const PLACE_HOLDER_STREAM: u16 = 1_022;

/// What is offered: to receive whatever there is, or to send the tracks of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    role: Role,
    /// In the order of preference; there is a medium for each kind among them.
    codecs: Vec<CodecId>,
    /// Data channels.
    data: bool,
}

impl Wish {
    /// To receive pictures and sound in whatever codec they are, and data.
    #[must_use]
    pub fn view() -> Self {
        Self { role: Role::Viewer, codecs: CODECS.to_vec(), data: true }
    }

    /// To send the first track of each kind that has a codec that WebRTC knows, in that codec alone, and data if there are any.
    ///
    /// # Errors
    /// There are pictures, or nothing but sound, and in no such codec; or there is nothing.
    pub fn publish(tracks: &TrackSet) -> Result<Self, NoCommonCodec> {
        let mut codecs = Vec::new();
        for kind in [TrackKind::Video, TrackKind::Audio] {
            let of_kind = || tracks.iter().filter(|track| track.kind() == kind).map(|track| track.codec);
            match (of_kind().find(|codec| CODECS.contains(codec)), of_kind().next()) {
                (Some(codec), _) => codecs.push(codec),
                (None, Some(codec)) if kind == TrackKind::Video => return Err(NoCommonCodec { codec }),
                (None, _) => {}
            }
        }
        let data = tracks.first(TrackKind::Data).is_some();
        let silent = tracks.first(TrackKind::Audio).map(|track| track.codec);
        match (codecs.is_empty(), silent) {
            (true, Some(codec)) => Err(NoCommonCodec { codec }),
            _ => Ok(Self { role: Role::Publisher, codecs, data }),
        }
    }

    /// The same without data channels, for servers that know none. `None` when there are none in it, or nothing else.
    #[must_use]
    pub fn without_data(self) -> Option<Self> {
        (self.data && !self.codecs.is_empty()).then_some(Self { data: false, ..self })
    }

    /// True when there are data channels in it.
    #[must_use]
    pub const fn has_data(&self) -> bool {
        self.data
    }

    /// What the one wants to be who offers it.
    #[must_use]
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The codecs.
    #[must_use]
    pub fn codecs(&self) -> &[CodecId] {
        &self.codecs
    }
}

/// An offer by this side that waits for its answer. As a full agent (RFC 8445 §2.4) it controls, and sends checks to the candidates
/// of the answer; as the peer learns from them where they come from, candidates of this side are worth little, and no server is asked
/// for more.
pub struct Offering {
    rtc: Rtc,
    pending: SdpPendingOffer,
    text: String,
    role: Role,
    /// There is nothing but data channels in it.
    is_data: bool,
    addresses: Addresses,
    timeouts: Timeouts,
}

impl core::fmt::Debug for Offering {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Offering({})", self.role.as_str())
    }
}

impl Offering {
    /// Makes an offer; `addresses` say where this side's datagrams come from. `None` when nothing is wished for.
    #[must_use]
    pub fn new(
        identity: &Identity,
        addresses: Addresses,
        timeouts: Timeouts,
        wish: &Wish,
        now: Instant,
    ) -> Option<Self> {
        let config = config(identity, &wish.codecs);
        let mut rtc = match wish.role {
            Role::Publisher => finds_out_the_bitrate(config).build(now),
            Role::Viewer => config.build(now),
        };
        announce(&mut rtc, &addresses);
        let direction = match wish.role {
            Role::Publisher => Direction::SendOnly,
            Role::Viewer => Direction::RecvOnly,
        };
        let mut api = rtc.sdp_api();
        for (kind, medium) in [(TrackKind::Video, MediaKind::Video), (TrackKind::Audio, MediaKind::Audio)] {
            if wish.codecs.iter().any(|codec| codec.kind() == kind) {
                api.add_media(medium, direction, None, None, None);
            }
        }
        if wish.data {
            // What stands for all of them until there is one. Nobody is told of it.
            api.add_channel_with_config(ChannelConfig {
                label: PLACE_HOLDER.to_owned(),
                negotiated: Some(PLACE_HOLDER_STREAM),
                ..ChannelConfig::default()
            });
        }
        let (offer, pending) = api.apply()?;
        let (text, is_data) = (red_last(&offer.to_sdp_string(), None), wish.codecs.is_empty());
        Some(Self { text, rtc, pending, role: wish.role, is_data, addresses, timeouts })
    }

    /// The text of the offer.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The transport that comes of the answer. Deadlines count from `now`.
    ///
    /// # Errors
    /// The answer is one to another offer, or nothing is agreed on.
    pub fn answered(mut self, answer: &Answer, now: Instant) -> Result<Transport, AnswerError> {
        let refused = |error: &dyn core::fmt::Display| AnswerError::Refused(error.to_string());
        if answer.role() != self.role {
            return Err(AnswerError::Malformed("another role"));
        }
        let text = SdpAnswer::from_sdp_string(answer.as_str()).map_err(|error| refused(&error))?;
        self.rtc.sdp_api().accept_answer(self.pending, text).map_err(|error| refused(&error))?;
        let media = agreed(&self.rtc, self.role, answer);
        // Data are worth a session where nothing else was offered.
        let is_enough = |medium: &Medium| match medium.kind {
            TrackKind::Data => self.is_data && medium.description.port != 0,
            _ => !medium.formats.is_empty(),
        };
        if !media.iter().any(is_enough) {
            return Err(AnswerError::NothingAgreed);
        }
        Ok(Transport::offered(self.rtc, (self.addresses, self.timeouts), media, now))
    }
}

/// The media of an answer, as the one sees them who has offered: with the formats that were both offered and answered.
fn agreed(rtc: &Rtc, role: Role, answer: &Answer) -> Vec<Medium> {
    let mut media = media(answer.as_str());
    for medium in &mut media {
        let flows = medium.description.port != 0 && medium.description.attribute("inactive").is_none();
        (medium.sends, medium.receives) = (flows && role == Role::Publisher, flows && role == Role::Viewer);
        let known = rtc.media(medium.mid).filter(|_| flows).map_or(&[][..], |media| media.remote_pts());
        medium.formats.retain(|format| known.contains(&format.payload_type.into()));
        let is_known = |red: &Redundancy| {
            let mut params = rtc.codec_config().iter();
            params.any(|of| *of.pt() == red.of && of.red() == Some(red.payload_type.into()))
        };
        medium.redundancy = medium.redundancy.filter(|red| known.contains(&red.of.into()) && is_known(red));
    }
    media
}

#[cfg(test)]
mod tests;
