//! SRTP and SRTCP: packets of RTP and RTCP, encrypted and authenticated (RFC 3711, RFC 7714).
//!
//! A [`Sender`] and a [`Receiver`] have one key each. A sender protects no two packets under one number, whatever it is given. A receiver accepts each packet once: within the newest [`WINDOW`] of
//! a source's packets it remembers which have come, and older ones are refused. It knows [`MAX_SOURCES`] sources; a source
//! counts once a packet of it was authentic, so that nobody without the key can use them up. Packets that come may name their key
//! (an MKI); those that are sent do not, as there is one.
//!
//! Nothing here allocates but for the packet that comes out (and what is authenticated of a long header by AES-GCM), and nothing panics.

use arcly_core::wire::{DecodeError, Reader};
use bytes::{BufMut as _, Bytes, BytesMut};
use smallvec::SmallVec;

pub use super::transform::{GCM_TAG_LEN, KEY_LEN, MasterKey, SALT_LEN, Suite, TAG_LEN};
use super::transform::{Keys, Place, RTCP_LABELS, RTP_LABELS};

/// Packets behind the newest that are told apart (§3.3.2 asks for 64).
pub const WINDOW: u32 = 128;
/// Sources that one key is for.
pub const MAX_SOURCES: usize = 16;
/// Where the number of an RTP packet is.
const SEQUENCE: core::ops::Range<usize> = 2..4;
/// Bytes that protection adds at the most: a tag and an SRTCP index.
const OVERHEAD: usize = GCM_TAG_LEN + 4;

/// Why a packet was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// It is no packet.
    #[error(transparent)]
    Wire(#[from] DecodeError),
    /// It was not made with the key, or was changed on its way.
    #[error("not authentic")]
    NotAuthentic,
    /// It has come before, or is too old to tell.
    #[error("replayed")]
    Replayed,
    /// It is of one source too many.
    #[error("too many sources")]
    TooManySources,
    /// It has a number that the key has protected a packet under already: what both have in common would show.
    #[error("its number was used before")]
    Reused,
    /// The key has protected as many packets as it may (§9.2).
    #[error("the key is used up")]
    KeyUsedUp,
}

/// What an RTP packet's protection depends on.
struct RtpHeader {
    ssrc: u32,
    seq: u16,
    /// Bytes up to the payload.
    len: usize,
}

impl RtpHeader {
    fn decode(packet: &[u8]) -> Result<Self, SrtpError> {
        let mut r = Reader::new(packet);
        let first = r.u8("rtp")?;
        if first >> 6 != 2 {
            return Err(r.malformed("rtp version").into());
        }
        r.skip(1, "payload type")?;
        let seq = r.u16("sequence number")?;
        r.skip(4, "timestamp")?;
        let ssrc = r.u32("ssrc")?;
        r.skip(usize::from(first & 0x0F).saturating_mul(4), "csrc")?;
        if first & 0x10 != 0 {
            r.skip(2, "extension")?;
            let words = usize::from(r.u16("extension length")?);
            r.skip(words.saturating_mul(4), "extension")?;
        }
        Ok(Self { ssrc, seq, len: r.position() })
    }
}

/// The index of a packet near the newest one (§3.3.1): its sequence number, and how often that has wrapped.
fn index_near(newest: u64, seq: u16) -> u64 {
    const WRAP: u64 = 1 << 16;
    let base = newest & !(WRAP - 1);
    let here = base | u64::from(seq);
    if here.saturating_add(WRAP / 2) < newest {
        here.saturating_add(WRAP)
    } else if here > newest.saturating_add(WRAP / 2) {
        here.checked_sub(WRAP).unwrap_or(here)
    } else {
        here
    }
}

/// Indices have 48 bits; SRTCP's have 31.
const MAX_RTP_INDEX: u64 = (1 << 48) - 1;
const MAX_RTCP_INDEX: u64 = (1 << 31) - 1;

/// A source whose packets are protected.
#[derive(Clone, Copy, Debug)]
struct Sent {
    ssrc: u32,
    newest: u64,
    /// What is added to its numbers.
    shift: u16,
    /// The next packet, whatever its number, is to follow the newest.
    resumes: bool,
}

impl Sent {
    /// The number behind the newest.
    fn next(&self) -> u16 {
        u16::try_from(self.newest.wrapping_add(1) & 0xFFFF).unwrap_or_default()
    }
}

/// Protects packets with one key.
pub struct Sender {
    rtp: Keys,
    rtcp: Keys,
    sources: SmallVec<[Sent; 2]>,
    /// How many reports were sent.
    reports: u64,
}

impl core::fmt::Debug for Sender {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Sender").field("sources", &self.sources).finish_non_exhaustive()
    }
}

impl Sender {
    /// A sender that has sent nothing: its first packets have wrapped 0 times.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self {
            rtp: Keys::derive(master, RTP_LABELS),
            rtcp: Keys::derive(master, RTCP_LABELS),
            sources: SmallVec::new(),
            reports: 0,
        }
    }

    /// What is given from now on begins with whatever number it does, and is numbered behind what was sent before: a player goes on
    /// after a pause, and gets a keyframe that it had, or packets that are made anew.
    pub fn resume(&mut self) {
        self.sources.iter_mut().for_each(|source| source.resumes = true);
    }

    /// The number that the next packet gets of the first source that was sent; `None` where it is the packet's own.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u16> {
        self.sources.first().filter(|source| source.resumes).map(Sent::next)
    }

    /// Protects an RTP packet. Those of a source are given in order, each number once; after [`resume`](Self::resume) they get
    /// others.
    ///
    /// # Errors
    /// It is no packet, of one source too many, out of order, or the key is used up.
    pub fn protect(&mut self, packet: &[u8]) -> Result<Bytes, SrtpError> {
        let header = RtpHeader::decode(packet)?;
        let index = self.index(&header)?;
        let mut out = BytesMut::with_capacity(packet.len().saturating_add(OVERHEAD));
        out.put_slice(packet);
        if let Some(number) = out.get_mut(SEQUENCE) {
            number.copy_from_slice(&u16::try_from(index & 0xFFFF).unwrap_or_default().to_be_bytes());
        }
        self.rtp.seal(Place { ssrc: header.ssrc, index }, header.len, &mut out);
        Ok(out.freeze())
    }

    fn index(&mut self, header: &RtpHeader) -> Result<u64, SrtpError> {
        let known = self.sources.iter_mut().find(|source| source.ssrc == header.ssrc);
        let Some(source) = known else {
            if self.sources.len() >= MAX_SOURCES {
                return Err(SrtpError::TooManySources);
            }
            let newest = header.seq.into();
            self.sources.push(Sent { ssrc: header.ssrc, newest, shift: 0, resumes: false });
            return Ok(newest);
        };
        if source.resumes {
            source.shift = source.next().wrapping_sub(header.seq);
        }
        let index = index_near(source.newest, header.seq.wrapping_add(source.shift));
        if index <= source.newest {
            return Err(SrtpError::Reused);
        }
        if index > MAX_RTP_INDEX {
            return Err(SrtpError::KeyUsedUp);
        }
        (source.newest, source.resumes) = (index, false);
        Ok(index)
    }

    /// Protects an RTCP packet, compound or not.
    ///
    /// # Errors
    /// It is no packet, or the key is used up.
    pub fn protect_rtcp(&mut self, packet: &[u8]) -> Result<Bytes, SrtpError> {
        let ssrc = sender_ssrc(packet)?;
        if self.reports >= MAX_RTCP_INDEX {
            return Err(SrtpError::KeyUsedUp);
        }
        self.reports = self.reports.saturating_add(1);
        let mut out = BytesMut::with_capacity(packet.len().saturating_add(OVERHEAD));
        out.put_slice(packet);
        self.rtcp.seal_rtcp(Place { ssrc, index: self.reports }, &mut out);
        Ok(out.freeze())
    }
}

fn sender_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    let mut r = Reader::new(packet);
    if r.u8("rtcp")? >> 6 != 2 {
        return Err(r.malformed("rtcp version").into());
    }
    r.skip(3, "rtcp header")?;
    Ok(r.u32("ssrc")?)
}

/// Which of the newest packets have come.
#[derive(Clone, Copy, Debug)]
struct Replay {
    newest: u64,
    /// Bit n: the packet n before the newest has come.
    seen: u128,
}

impl Replay {
    const fn new(first: u64) -> Self {
        Self { newest: first, seen: 0 }
    }

    fn is_new(&self, index: u64) -> bool {
        match self.newest.checked_sub(index) {
            Some(before) => before < u64::from(WINDOW) && self.seen >> before & 1 == 0,
            None => true,
        }
    }

    fn note(&mut self, index: u64) {
        if let Some(ahead) = index.checked_sub(self.newest).filter(|ahead| *ahead > 0) {
            let shift = u32::try_from(ahead).unwrap_or(u32::MAX);
            self.seen = self.seen.checked_shl(shift).unwrap_or(0);
            self.newest = index;
        }
        let before = self.newest.saturating_sub(index);
        self.seen |= u32::try_from(before).ok().and_then(|before| 1_u128.checked_shl(before)).unwrap_or(0);
    }
}

/// Takes protected packets apart that were made with one key.
pub struct Receiver {
    rtp: Keys,
    rtcp: Keys,
    /// How often the sequence numbers of a source have wrapped before its first packet, where it was said.
    announced: SmallVec<[(u32, u32); 2]>,
    rtp_sources: SmallVec<[(u32, Replay); 2]>,
    rtcp_sources: SmallVec<[(u32, Replay); 2]>,
    /// Names the key in each packet, before its tag (§3.1); mostly nothing does.
    mki: Bytes,
}

impl core::fmt::Debug for Receiver {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Receiver").field("sources", &self.rtp_sources.len()).finish_non_exhaustive()
    }
}

impl Receiver {
    /// A receiver that has received nothing.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self {
            rtp: Keys::derive(master, RTP_LABELS),
            rtcp: Keys::derive(master, RTCP_LABELS),
            announced: SmallVec::new(),
            rtp_sources: SmallVec::new(),
            rtcp_sources: SmallVec::new(),
            mki: Bytes::new(),
        }
    }

    /// The same of packets that name the key: those that name another one are not authentic.
    #[must_use]
    pub fn with_mki(mut self, mki: Bytes) -> Self {
        self.mki = mki;
        self
    }

    /// Says how often the sequence numbers of a source have wrapped before its first packet. What is beyond
    /// [`MAX_SOURCES`] is not kept.
    pub fn announce(&mut self, ssrc: u32, roc: u32) {
        if self.announced.len() < MAX_SOURCES {
            self.announced.push((ssrc, roc));
        }
    }

    /// The RTP packet in a protected one.
    ///
    /// # Errors
    /// It is no packet, not authentic, has come before, or is of one source too many.
    pub fn unprotect(&mut self, packet: &[u8]) -> Result<Bytes, SrtpError> {
        let parts = self.rtp.split(packet, &self.mki)?;
        let header = RtpHeader::decode(parts.body)?;
        let known = self.rtp_sources.iter().position(|(ssrc, _)| *ssrc == header.ssrc);
        let (index, mut replay) = match known.and_then(|at| self.rtp_sources.get(at)) {
            Some((_, replay)) => (index_near(replay.newest, header.seq), *replay),
            None => {
                let announced = self.announced.iter().find(|(ssrc, _)| *ssrc == header.ssrc);
                let wrapped = announced.map_or(0, |(_, roc)| u64::from(*roc));
                let index = wrapped << 16 | u64::from(header.seq);
                (index, Replay::new(index))
            }
        };
        if !replay.is_new(index) {
            return Err(SrtpError::Replayed);
        }
        let out = self.rtp.open(Place { ssrc: header.ssrc, index }, header.len, &parts)?;
        replay.note(index);
        keep(&mut self.rtp_sources, known, (header.ssrc, replay))?;
        Ok(out.freeze())
    }

    /// The RTCP packet in a protected one.
    ///
    /// # Errors
    /// As [`unprotect`](Self::unprotect).
    pub fn unprotect_rtcp(&mut self, packet: &[u8]) -> Result<Bytes, SrtpError> {
        let parts = self.rtcp.split_rtcp(packet, &self.mki)?;
        let ssrc = sender_ssrc(parts.body)?;
        let (index, _) = parts.index()?;
        let known = self.rtcp_sources.iter().position(|(known, _)| *known == ssrc);
        let replay = known.and_then(|at| self.rtcp_sources.get(at)).map(|(_, replay)| *replay);
        let mut replay = replay.unwrap_or(Replay::new(index));
        if !replay.is_new(index) {
            return Err(SrtpError::Replayed);
        }
        let out = self.rtcp.open_rtcp(Place { ssrc, index }, &parts)?;
        replay.note(index);
        keep(&mut self.rtcp_sources, known, (ssrc, replay))?;
        Ok(out.freeze())
    }
}

fn keep(
    sources: &mut SmallVec<[(u32, Replay); 2]>,
    known: Option<usize>,
    source: (u32, Replay),
) -> Result<(), SrtpError> {
    if let Some(there) = known.and_then(|at| sources.get_mut(at)) {
        *there = source;
        return Ok(());
    }
    if sources.len() >= MAX_SOURCES {
        return Err(SrtpError::TooManySources);
    }
    sources.push(source);
    Ok(())
}

#[cfg(test)]
mod tests;
