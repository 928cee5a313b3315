//! Extensions of a handshake (draft-sharabayko-srt §3.2.1.1 to §3.2.1.4).

use core::fmt;

use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut as _, Bytes, BytesMut};

use super::{Handshake, KeyMaterial, KeyResponse, MAX_STREAM_ID};

/// Bytes of the name of a congestion control, or of a packet filter's configuration: what libsrt allows.
const MAX_CONFIG: usize = 64;
/// Bytes of the words that handshake extension messages have.
const HS_BYTES: usize = 12;
const GROUP_BYTES: usize = 8;

/// Extension types, as in table 5 of the draft.
mod kind {
    pub(super) const NONE: u16 = 0;
    pub(super) const HS_REQUEST: u16 = 1;
    pub(super) const HS_RESPONSE: u16 = 2;
    pub(super) const KM_REQUEST: u16 = 3;
    pub(super) const KM_RESPONSE: u16 = 4;
    pub(super) const STREAM_ID: u16 = 5;
    pub(super) const CONGESTION: u16 = 6;
    pub(super) const FILTER: u16 = 7;
    pub(super) const GROUP: u16 = 8;
}

bitflags::bitflags! {
    /// What a peer can do.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HsFlags: u32 {
        /// It sends with times to play by.
        const TSBPD_SENDER = 0x01;
        /// It plays by them.
        const TSBPD_RECEIVER = 0x02;
        /// It knows the key flags of data packets; always set.
        const CRYPT = 0x04;
        /// It drops what comes too late.
        const TLPKT_DROP = 0x08;
        /// It repeats its loss lists.
        const PERIODIC_NAK = 0x10;
        /// It knows the retransmission flag of data packets; always set.
        const REXMIT_FLAG = 0x20;
        /// Bytes without bounds between messages.
        const STREAM = 0x40;
        /// It knows packet filters.
        const PACKET_FILTER = 0x80;
        /// What later versions say.
        const _ = !0;
    }
}

/// The version of a peer's library: `0x010501` is 1.5.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SrtVersion(pub u32);

impl SrtVersion {
    /// The version whose behaviour this crate has.
    pub const CURRENT: Self = Self::new(1, 5, 4);

    /// From its three parts.
    #[must_use]
    pub const fn new(major: u8, minor: u8, patch: u8) -> Self {
        Self((major as u32) << 16 | (minor as u32) << 8 | patch as u32)
    }
}

impl fmt::Display for SrtVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0 >> 16, self.0 >> 8 & 0xFF, self.0 & 0xFF)
    }
}

/// The handshake extension message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HsExtension {
    /// Answers one.
    pub response: bool,
    /// The sender's library.
    pub version: SrtVersion,
    /// What the sender can do.
    pub flags: HsFlags,
    /// How long the sender wants to keep what it *receives*, in milliseconds.
    pub receiver_delay_ms: u16,
    /// How long it wants its peer to keep what it *sends*, at the least, in milliseconds.
    pub sender_delay_ms: u16,
}

/// Key material, or what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KmExtension {
    /// The initiator's keys.
    Request(KeyMaterial),
    /// The responder's answer.
    Response(KeyResponse),
}

/// How the connections of a group share their load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// Everything goes over each.
    Broadcast,
    /// Everything goes over one, and over others when that one is failing.
    Backup,
    /// Anything else.
    Other(u8),
}

/// The group that a connection belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupExtension {
    /// The sender's group.
    pub id: u32,
    /// How it shares its load.
    pub kind: GroupKind,
    /// Bit 0: in step by message numbers, not by sequence numbers.
    pub flags: u8,
    /// In a backup group, which connection goes first: the highest.
    pub weight: u16,
}

/// The extensions of a conclusion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// What the peer can do.
    pub hs: Option<HsExtension>,
    /// Keys.
    pub km: Option<KmExtension>,
    /// What the caller wants: not empty, at most [`MAX_STREAM_ID`] bytes.
    pub stream_id: Option<String>,
    /// The congestion control: `live` or `file`.
    pub congestion: Option<String>,
    /// The packet filter's configuration.
    pub filter: Option<String>,
    /// The group that the connection belongs to.
    pub group: Option<GroupExtension>,
}

impl Extensions {
    /// Decodes what follows a handshake's 48 bytes. Unknown types are passed over, and type 0 ends the list; of two of one
    /// type the last counts.
    ///
    /// # Errors
    /// A length runs over the end, contents are wrong, or a text is longer than its bound.
    pub fn decode(bytes: &[u8]) -> DecodeResult<Self> {
        let mut extensions = Self::default();
        let mut r = Reader::new(bytes);
        while !r.is_empty() {
            let offset = r.position();
            extensions.decode_one(&mut r).map_err(|error| error.in_closed_unit(offset))?;
        }
        Ok(extensions)
    }

    fn decode_one(&mut self, r: &mut Reader<'_>) -> DecodeResult<()> {
        let kind = r.u16("extension type")?;
        if kind == kind::NONE {
            return r.skip(r.remaining(), "padding");
        }
        let words = usize::from(r.u16("extension length")?);
        let mut contents = r.sub(words.saturating_mul(4), "extension")?;
        let c = &mut contents;
        match kind {
            kind::HS_REQUEST | kind::HS_RESPONSE => {
                self.hs = Some(HsExtension::decode(c, kind == kind::HS_RESPONSE)?)
            }
            kind::KM_REQUEST => self.km = Some(KmExtension::Request(KeyMaterial::decode(c)?)),
            kind::KM_RESPONSE => self.km = Some(KmExtension::Response(KeyResponse::decode(c)?)),
            kind::STREAM_ID => self.stream_id = text(c, "streamid", MAX_STREAM_ID)?,
            kind::CONGESTION => self.congestion = text(c, "congestion control", MAX_CONFIG)?,
            kind::FILTER => self.filter = text(c, "packet filter", MAX_CONFIG)?,
            kind::GROUP => self.group = Some(GroupExtension::decode(c)?),
            _ => {}
        }
        Ok(())
    }

    /// Which extensions there are, as a handshake's extension field says it.
    #[must_use]
    pub const fn flags(&self) -> u16 {
        let config = self.stream_id.is_some()
            || self.congestion.is_some()
            || self.filter.is_some()
            || self.group.is_some();
        (if self.hs.is_some() { Handshake::EXT_HS } else { 0 })
            | (if self.km.is_some() { Handshake::EXT_KM } else { 0 })
            | (if config { Handshake::EXT_CONFIG } else { 0 })
    }

    /// What follows a handshake's 48 bytes. Texts are cut at their bounds.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(hs) = &self.hs {
            put_header(if hs.response { kind::HS_RESPONSE } else { kind::HS_REQUEST }, HS_BYTES, &mut out);
            hs.encode(&mut out);
        }
        put_text(kind::STREAM_ID, self.stream_id.as_deref(), MAX_STREAM_ID, &mut out);
        put_text(kind::CONGESTION, self.congestion.as_deref(), MAX_CONFIG, &mut out);
        put_text(kind::FILTER, self.filter.as_deref(), MAX_CONFIG, &mut out);
        if let Some(group) = &self.group {
            put_header(kind::GROUP, GROUP_BYTES, &mut out);
            group.encode(&mut out);
        }
        match &self.km {
            Some(KmExtension::Request(keys)) => {
                put_header(kind::KM_REQUEST, keys.encoded_len(), &mut out);
                keys.encode(&mut out);
            }
            Some(KmExtension::Response(response)) => {
                put_header(kind::KM_RESPONSE, response.encoded_len(), &mut out);
                response.encode(&mut out);
            }
            None => {}
        }
        out.freeze()
    }
}

fn put_header(kind: u16, bytes: usize, out: &mut BytesMut) {
    out.put_u16(kind);
    out.put_u16(u16::try_from(bytes.div_ceil(4)).unwrap_or_default());
}

impl HsExtension {
    fn decode(r: &mut Reader<'_>, response: bool) -> DecodeResult<Self> {
        Ok(Self {
            response,
            version: SrtVersion(r.u32("srt version")?),
            flags: HsFlags::from_bits_retain(r.u32("srt flags")?),
            receiver_delay_ms: r.u16("receiver delay")?,
            sender_delay_ms: r.u16("sender delay")?,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.version.0);
        out.put_u32(self.flags.bits());
        out.put_u16(self.receiver_delay_ms);
        out.put_u16(self.sender_delay_ms);
    }
}

impl GroupExtension {
    fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        Ok(Self {
            id: r.u32("group id")?,
            kind: match r.u8("group type")? {
                1 => GroupKind::Broadcast,
                2 => GroupKind::Backup,
                other => GroupKind::Other(other),
            },
            flags: r.u8("group flags")?,
            weight: r.u16("group weight")?,
        })
    }

    fn encode(&self, out: &mut BytesMut) {
        out.put_u32(self.id);
        out.put_u8(match self.kind {
            GroupKind::Broadcast => 1,
            GroupKind::Backup => 2,
            GroupKind::Other(other) => other,
        });
        out.put_u8(self.flags);
        out.put_u16(self.weight);
    }
}

/// Text is in words of four bytes, the last of each first, filled up with zeros. Empty text is none.
fn text(r: &mut Reader<'_>, what: &'static str, limit: usize) -> DecodeResult<Option<String>> {
    // A word more than the bound may be: it could hold zeros only. That is decided below.
    let too_long = DecodeError::LimitExceeded { what, limit: u64::try_from(limit).unwrap_or(u64::MAX) };
    if r.remaining() > limit.saturating_add(4) {
        return Err(too_long);
    }
    let mut bytes = Vec::with_capacity(r.remaining());
    while !r.is_empty() {
        bytes.extend_from_slice(&r.u32_le(what)?.to_be_bytes());
    }
    let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    bytes.truncate(len);
    if bytes.len() > limit {
        return Err(too_long);
    }
    let text = String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
    text.map(|text| Some(text).filter(|text| !text.is_empty())).ok_or_else(|| r.malformed(what))
}

fn put_text(kind: u16, text: Option<&str>, limit: usize, out: &mut BytesMut) {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return };
    let end = (0..=limit.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
    let bytes = text.get(..end).unwrap_or_default().as_bytes();
    put_header(kind, bytes.len(), out);
    for chunk in bytes.chunks(4) {
        let mut word = [0; 4];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        out.put_u32_le(u32::from_be_bytes(word));
    }
}
