//! What a server describes, and what this side describes to it.

use std::net::{IpAddr, Ipv4Addr};

use arcly_core::{TrackId, TrackKind, TrackSet};
use arcly_rtp::media::LaneSpec;
use arcly_rtp::sdp::{Attribute, Format, MediaDescription, SessionDescription, describe, formats};
use arcly_rtp::wire::rtcp;

use super::ClientError;
use crate::srtp::Message;
use crate::url::{RtspUrl, append};
use crate::wire::{KeyMgmt, Response};

/// One medium that is received or sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Medium {
    /// The URL that it is set up with.
    pub control: String,
    /// What `a=control` said, for telling which medium `RTP-Info` is about.
    pub name: String,
    /// The formats that may come.
    pub formats: Vec<Format>,
    /// The server says that it makes keyframes when asked (RFC 4585 §4.2 `nack pli`).
    pub pli: bool,
    /// `RTP/AVPF`, or `RTP/AVP`.
    pub feedback: bool,
    /// The group that it is sent to, where the description names one.
    pub group: Option<Ipv4Addr>,
    /// The port that the description names, or 0.
    pub port: u16,
    /// The key of its packets, where they are protected.
    pub key: Option<Box<Message>>,
}

/// What is to be received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The URL of all media together.
    pub aggregate: String,
    /// The media, none without a format.
    pub media: Vec<Medium>,
}

impl Described {
    /// Reads the answer to DESCRIBE.
    pub(super) fn decode(url: &RtspUrl, response: &Response) -> Result<Self, ClientError> {
        let text = String::from_utf8_lossy(&response.body);
        let description: SessionDescription = text.parse()?;
        let header = |name| response.headers.get(name).filter(|value| !value.trim().is_empty());
        let base = header("Content-Base").or_else(|| header("Content-Location"));
        let base = base.map_or_else(|| url.request_uri(), |base| url.rebased(base));
        let control = description.attribute("control").unwrap_or_default();
        let aggregate = on(&base, url, control);
        let chosen = chosen(&description.media);
        // An absolute control URL of the session is the base of its media too (RFC 2326 C.1.1).
        let base = if control.contains("://") { aggregate.clone() } else { base };
        let media = chosen.map(|medium| {
            let group = match description.address(medium) {
                Some(IpAddr::V4(address)) if address.is_multicast() => Some(address),
                _ => None,
            };
            let key = key(&description, medium).filter(|_| url.tls);
            Ok(Medium { group, key, ..Medium::of(&base, url, medium)? })
        });
        let mut media = media.collect::<Result<Vec<Medium>, ClientError>>()?;
        media.retain(|medium| !medium.formats.is_empty());
        if media.is_empty() { Err(ClientError::NoMedia) } else { Ok(Self { aggregate, media }) }
    }

    /// The lanes that the media are received on.
    pub(super) fn lanes(&self) -> Vec<LaneSpec> {
        let tracks = (0..).filter_map(TrackId::new);
        let lanes = self.media.iter().zip(tracks);
        lanes.map(|(medium, track)| LaneSpec { track, formats: medium.formats.clone() }).collect()
    }

    /// The medium that `RTP-Info` means by a URL: relative or absolute, with whatever host.
    pub(super) fn medium_of(&self, url: &str) -> Option<usize> {
        let url = url.trim_end_matches('/');
        let is_it = |medium: &Medium| {
            let path = |url: &str| url.split_once("://").map_or(url, |(_, rest)| rest).to_owned();
            let (ours, theirs) = (path(&medium.control), path(url));
            let ours = ours.split_once('/').map_or("", |(_, path)| path).trim_end_matches('/').to_owned();
            let theirs = theirs.split_once('/').map_or(&*theirs, |(_, path)| path);
            !medium.name.is_empty() && (url == medium.name || theirs == ours || url == medium.control)
        };
        let found = self.media.iter().position(is_it);
        found.or_else(|| (self.media.len() == 1).then_some(0))
    }
}

/// The media that come from the server. Those that go to it (ONVIF's back-channel) are marked, and left out, where others are not.
fn chosen(media: &[MediaDescription]) -> impl Iterator<Item = &MediaDescription> {
    let outgoing = |medium: &MediaDescription| medium.attribute("sendonly").is_some();
    let inactive = |medium: &MediaDescription| medium.attribute("inactive").is_some();
    let several = media.iter().any(|medium| !outgoing(medium) && !inactive(medium));
    media.iter().filter(move |medium| !(inactive(medium) || several && outgoing(medium)))
}

/// The key of a medium that is protected, and says with what.
fn key(session: &SessionDescription, medium: &MediaDescription) -> Option<Box<Message>> {
    let secure = medium.protocol.to_ascii_uppercase().contains("/SAVP");
    let said = medium.attribute("key-mgmt").or_else(|| session.attribute("key-mgmt")).filter(|_| secure)?;
    Message::from_base64(KeyMgmt::of_attribute(said)?).ok().map(Box::new)
}

fn on(base: &str, url: &RtspUrl, control: &str) -> String {
    if control.contains("://") || control.starts_with('/') {
        url.resolve(control)
    } else {
        append(base, control)
    }
}

impl Medium {
    /// True when it carries pictures, and those alone.
    pub(super) fn has_pictures(&self) -> bool {
        let kind = |format: &Format| format.codec().map(|codec| codec.kind());
        self.formats.first().and_then(kind) == Some(TrackKind::Video)
    }

    fn of(base: &str, url: &RtspUrl, description: &MediaDescription) -> Result<Self, ClientError> {
        let name = description.attribute("control").unwrap_or_default();
        let feedback =
            description.attributes.iter().filter(|attribute| attribute.name.eq_ignore_ascii_case("rtcp-fb"));
        let pli = feedback
            .filter_map(|attribute| attribute.value.as_deref())
            .any(|value| value.contains("nack pli"));
        Ok(Self {
            control: on(base, url, name),
            name: name.to_owned(),
            formats: Format::offered(description)?,
            pli,
            feedback: description.protocol.to_ascii_uppercase().ends_with("AVPF"),
            group: None,
            port: description.port,
            key: None,
        })
    }
}

/// What is announced of tracks that are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    /// The description.
    pub description: SessionDescription,
    /// Tracks and formats, in the order of the media.
    pub formats: Vec<(TrackId, Format)>,
    /// The media.
    pub media: Vec<Medium>,
}

impl Announced {
    /// Describes tracks; those without a format are left out.
    pub(super) fn of(url: &RtspUrl, tracks: &TrackSet) -> Result<Self, ClientError> {
        let formats = formats(tracks);
        let mut description = SessionDescription {
            name: "arcly".to_owned(),
            connection: Some("IN IP4 0.0.0.0".to_owned()),
            ..SessionDescription::default()
        };
        let mut media = Vec::new();
        let base = url.request_uri();
        for (at, (id, format)) in formats.iter().enumerate() {
            let Some(track) = tracks.get(*id) else { continue };
            let name = format!("streamid={at}");
            let mut described = describe(track, format);
            described.attributes.push(Attribute::new("control", name.as_str()));
            description.media.push(described);
            let control = append(&base, &name);
            let formats = vec![format.clone()];
            media.push(Medium {
                control,
                name,
                formats,
                pli: false,
                feedback: false,
                group: None,
                port: 0,
                key: None,
            });
        }
        if media.is_empty() { Err(ClientError::NoMedia) } else { Ok(Self { description, formats, media }) }
    }
}

/// True when a compound packet asks for a keyframe.
pub(super) fn asks_for_keyframe(datagram: &bytes::Bytes) -> bool {
    use rtcp::RtcpPacket::{FullIntra, PictureLoss};
    rtcp::compound(datagram).any(|packet| matches!(packet, Ok(PictureLoss(_) | FullIntra(_))))
}
