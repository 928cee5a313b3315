//! What a session is about: a stream, its media, and how each of them travels.

use core::fmt::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;

use arcly_core::{TrackId, TrackKind, TrackSet, Via};
use arcly_rtp::media::Numbering;
use arcly_rtp::sdp::{
    Attribute, Format, MAX_MEDIA, MediaDescription, SdpError, SessionDescription, describe, formats,
};

use super::target::{Location, TRACK, Target};
use crate::srtp::{Keyring, Message, Protection};
use crate::wire::{KeyMgmt, PortPair, Profile};

/// What a client wants of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Receive it.
    Play,
    /// Send it.
    Publish,
}

/// How packets of a medium travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Agreed {
    /// Over the connection, on those channels: RTP and RTCP.
    Tcp(u8, u8),
    /// In datagrams, from or to those ports of the client.
    Udp(PortPair),
    /// In datagrams to those ports of the stream's [`Group`].
    Multicast(PortPair),
}

impl Agreed {
    /// True for datagrams.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        !matches!(self, Self::Tcp(..))
    }

    /// True when two media travel in the same kind of way, as all of a session do.
    pub(super) fn is_like(self, other: Self) -> bool {
        core::mem::discriminant(&self) == core::mem::discriminant(&other)
    }
}

/// A multicast group that a stream is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its address.
    pub address: Ipv4Addr,
    /// The port of the first medium's RTP; RTCP has the next, and each further medium the two behind.
    pub port: u16,
    /// How many routers its packets pass.
    pub ttl: u8,
}

impl Group {
    /// The ports of a medium, by its place in the presentation; `None` beyond the last port.
    #[must_use]
    pub fn ports(self, medium: usize) -> Option<PortPair> {
        let rtp = self.port.checked_add(u16::try_from(medium.checked_mul(2)?).ok()?)?;
        Some(PortPair { rtp, rtcp: rtp.checked_add(1)? })
    }
}

/// One medium of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Its track.
    pub track: TrackId,
    /// The formats it comes in; none when it is of a kind that is not understood.
    pub formats: Vec<Format>,
    /// What its control URL ends in, or all of it.
    pub control: String,
    /// How it travels, once that is agreed on.
    pub agreed: Option<Agreed>,
    /// How its packets are protected, where that is agreed on.
    pub protection: Option<Box<Protection>>,
    /// The client sends it, while it plays the others.
    pub is_back_channel: bool,
    /// The key that its publisher has announced.
    pub(super) announced: Option<Box<Message>>,
}

/// A stream that is played or published in a session.
#[derive(Clone, Debug)]
pub struct Presentation {
    /// Its name.
    pub target: Target,
    /// What is wanted of it.
    pub intent: Intent,
    /// Its media in order.
    pub media: Vec<Medium>,
    /// Its URL, without a slash at the end.
    pub(super) base: String,
    /// What numbers of packets are made of that are sent.
    pub(super) key: u64,
    /// What is sent.
    pub(super) tracks: Arc<TrackSet>,
    /// The group that it can be received from, once its owner has said; `Some(None)` when there is none.
    pub(super) group: Option<Option<Group>>,
}

impl Presentation {
    /// A stream that is played.
    pub(super) fn to_play(target: Target, uri: &str, tracks: Arc<TrackSet>, key: u64) -> Self {
        let media = formats(&tracks).into_iter().enumerate().map(|(at, (track, format))| Medium {
            track,
            formats: vec![format],
            control: format!("{TRACK}{at}"),
            agreed: None,
            protection: None,
            is_back_channel: false,
            announced: None,
        });
        let media = media.collect();
        Self { target, intent: Intent::Play, media, base: base(uri), key, tracks, group: None }
    }

    /// A stream that is published, of the media that a description has.
    pub(super) fn to_publish(target: Target, uri: &str, media: Vec<Medium>) -> Self {
        let tracks = Arc::default();
        Self { target, intent: Intent::Publish, media, base: base(uri), key: 0, tracks, group: None }
    }

    /// Where what is sent has come through.
    pub(super) fn via(&self) -> Via {
        Via::of(&self.tracks.metadata)
    }

    /// `Content-Base`.
    pub(super) fn content_base(&self) -> String {
        format!("{}/", self.base)
    }

    /// The URL of a medium.
    pub(super) fn control_url(&self, medium: &Medium) -> String {
        if medium.control.contains("://") {
            medium.control.clone()
        } else {
            format!("{}/{}", self.base, medium.control)
        }
    }

    /// The number of the source that a medium is sent by.
    pub(super) fn ssrc(&self, medium: &Medium) -> u32 {
        Numbering::of(self.key, medium.track).ssrc
    }

    /// The medium that a URL names; one that is alone goes by the name of the whole too.
    pub(super) fn medium_at(&self, uri: &str) -> Option<usize> {
        let found = match self.intent {
            Intent::Play => Location::of(uri)?.track.filter(|at| *at < self.media.len()),
            Intent::Publish => {
                let uri = uri.trim_end_matches('/');
                self.media.iter().position(|medium| {
                    let control = medium.control.trim_end_matches('/');
                    let tail = || uri.strip_suffix(control).is_some_and(|before| before.ends_with('/'));
                    !control.is_empty() && (uri == control || tail())
                })
            }
        };
        let alone = || (self.media.len() == 1 && base(uri) == self.base).then_some(0);
        found.or_else(alone)
    }

    /// Media that are set up, with their places.
    pub fn agreed(&self) -> impl Iterator<Item = (usize, &Medium, Agreed)> {
        let all = self.media.iter().enumerate();
        all.filter_map(|(at, medium)| Some((at, medium, medium.agreed?)))
    }

    /// Media that are set up and sent to a player, with their places.
    pub fn played(&self) -> impl Iterator<Item = (usize, &Medium, Agreed)> {
        self.agreed().filter(|(_, medium, _)| !medium.is_back_channel)
    }

    /// Adds the medium that a player sends, unless it is there or there is no room.
    pub(super) fn add_back_channel(&mut self) {
        let at = self.media.len();
        if at >= MAX_MEDIA || self.media.iter().any(|medium| medium.is_back_channel) {
            return;
        }
        let taken = |id: &TrackId| self.media.iter().any(|medium| medium.track == *id);
        let track = (0_u8..).map_while(TrackId::new).find(|id| !taken(id)).unwrap_or(TrackId::AUDIO);
        let formats = Format::offered(&back_channel()).unwrap_or_default();
        let control = format!("{TRACK}{at}");
        let is_back_channel = true;
        let (agreed, protection, announced) = (None, None, None);
        self.media.push(Medium { track, formats, control, agreed, protection, is_back_channel, announced });
    }

    /// True when it is received from a group.
    #[must_use]
    pub fn is_multicast(&self) -> bool {
        self.played().any(|(.., agreed)| matches!(agreed, Agreed::Multicast(_)))
    }

    /// The same stream as it is sent to a group: all of its media.
    #[must_use]
    pub fn for_group(&self, group: Group) -> Self {
        let mut all = self.clone();
        for (at, medium) in all.media.iter_mut().enumerate() {
            medium.agreed = group.ports(at).map(Agreed::Multicast);
        }
        all
    }

    /// The description that a player gets, with keys where it asks for them and there are some.
    pub(super) fn description(&self, keys: Option<&Keyring>) -> SessionDescription {
        let keys = keys.filter(|_| self.target.wants_srtp());
        let group = self.group.flatten().filter(|_| self.target.wants_multicast());
        let media = self.media.iter().enumerate().filter_map(|(at, medium)| {
            let mut media = match medium.is_back_channel {
                true => back_channel(),
                false => describe(self.tracks.get(medium.track)?, medium.formats.first()?),
            };
            if let Some((group, ports)) = group.and_then(|group| Some((group, group.ports(at)?))) {
                media.port = ports.rtp;
                media.connection = Some(format!("IN IP4 {}/{}", group.address, group.ttl));
            }
            if let Some(message) = keys.and_then(|keys| keys.message(at, self.ssrc(medium))) {
                message.announce(&mut media);
            }
            media.attributes.push(Attribute::new("control", medium.control.clone()));
            Some(media)
        });
        let name = self.target.key.as_str().to_owned();
        SessionDescription {
            origin: format!("- {} 1 IN IP4 127.0.0.1", self.key & 0x7FFF_FFFF),
            name,
            connection: Some("IN IP4 0.0.0.0".to_owned()),
            attributes: vec![Attribute::new("control", "*"), Attribute::new("range", "npt=now-")],
            media: media.collect(),
            ..SessionDescription::default()
        }
    }
}

/// What a player may send: G.711, which every camera and every client has (ONVIF Streaming §5.3 names no other that all must).
fn back_channel() -> MediaDescription {
    MediaDescription {
        kind: "audio".to_owned(),
        protocol: Profile::Avp.as_str().to_owned(),
        formats: vec!["0".to_owned(), "8".to_owned()],
        attributes: vec![
            Attribute::new("rtpmap", "0 PCMU/8000"),
            Attribute::new("rtpmap", "8 PCMA/8000"),
            Attribute::flag("sendonly"),
        ],
        ..MediaDescription::default()
    }
}

fn base(uri: &str) -> String {
    uri.trim_end_matches('/').to_owned()
}

/// The media of a description that a publisher announces, each with a track of its own: the first of a kind where every
/// protocol has it, the others behind them.
pub(super) fn announced(description: &SessionDescription) -> Result<Vec<Medium>, SdpError> {
    let media = &description.media;
    let usual = |kind: &str| match kind {
        "video" => TrackKind::Video,
        "audio" => TrackKind::Audio,
        _ => TrackKind::Data,
    };
    let mut found: Vec<Medium> = Vec::new();
    for (at, media) in media.iter().enumerate() {
        let first = match usual(&media.kind) {
            TrackKind::Video => TrackId::VIDEO,
            TrackKind::Audio => TrackId::AUDIO,
            TrackKind::Data => TrackId::DATA,
        };
        let taken = |id: &TrackId| found.iter().any(|medium| medium.track == *id);
        let others = (3_u8..).map_while(TrackId::new);
        let track = core::iter::once(first).chain(others).find(|id| !taken(id)).unwrap_or(first);
        let mut control = media.attribute("control").unwrap_or_default().to_owned();
        if control.is_empty() {
            let _ = write!(control, "{TRACK}{at}");
        }
        let message = media.attribute("key-mgmt").or_else(|| description.attribute("key-mgmt"));
        let message =
            message.and_then(KeyMgmt::of_attribute).and_then(|data| Message::from_base64(data).ok());
        let formats = Format::offered(media)?;
        let announced = message.map(Box::new);
        found.push(Medium {
            track,
            formats,
            control,
            agreed: None,
            protection: None,
            is_back_channel: false,
            announced,
        });
    }
    Ok(found)
}
