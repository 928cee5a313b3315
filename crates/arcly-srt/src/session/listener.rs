//! Who may connect: cookies, conclusions, and decisions that somebody else makes.
//!
//! ```text
//!  induction  ──▶ the same number of bytes back, with a cookie         nothing is kept
//!  conclusion ──▶ cookie right? decodes? ── Request ──▶ accept ── Connection
//!                     │                        │  └──▶ reject ── bytes to send
//!                     └ silence                └ repeated: waits, or goes to its connection
//! ```
//!
//! A cookie is an HMAC of the peer's address and the minute, and lives for two. Before it has come back nothing is
//! stored, and nothing is sent that is longer than what came. A conclusion that has been decided on is not taken again
//! while its cookie lives, so that a replayed one opens nothing; what makes it the same are its sender's address, socket id
//! and first sequence number.

mod cookies;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use arcly_core::CloseReason;
use arcly_core::wire::DecodeError;
use bytes::{Bytes, BytesMut};

use self::cookies::{COOKIE_LIFE, Cookies};
use super::Connection;
use super::handshake::{Endpoint, Setup, VERSION};
use crate::config::{Config, MSS};
use crate::crypto::{Crypto, Entropy, RequestError};
use crate::wire::{
    Control, ControlPacket, Extensions, GroupExtension, HEADER_BYTES, Handshake, HandshakeKind, KeyLength,
    KeyMaterial, KmExtension, KmState, RejectReason, SeqNumber, SocketId, SrtVersion, TimeStamp,
};

/// Requests that wait for a decision. Each came from an address that its cookie has proved.
pub const MAX_PENDING: usize = 1_024;
/// Conclusions that are remembered after they were decided on.
pub const MAX_DECIDED: usize = 16_384;

/// What becomes of a datagram.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing; why, for a counter.
    Ignored(&'static str),
    /// To be sent back.
    Reply(Bytes),
    /// Somebody wanted to connect, and cannot.
    Refused {
        /// Why.
        reason: CloseReason,
        /// To be sent back.
        answer: Bytes,
    },
    /// Somebody wants to connect: [`Listener::accept`] or [`Listener::reject`], now or later.
    Request(Box<Request>),
    /// The conclusion of a connection that is there: to be handed to it, so that it answers again.
    Repeated(SocketId),
}

/// Somebody who wants to connect.
#[derive(Debug)]
pub struct Request {
    /// Where from. The cookie has proved it.
    pub remote: SocketAddr,
    /// The peer's socket id.
    pub peer: SocketId,
    /// What it asks for.
    pub stream_id: Option<String>,
    /// Its version of SRT.
    pub version: SrtVersion,
    /// How long the keys are that it sends with its request; `None` in the clear.
    pub encrypted: Option<KeyLength>,
    /// The group that the connection is to belong to.
    pub group: Option<GroupExtension>,
    /// The address that it was sent to, where the owner of the socket notes that down.
    pub local_ip: Option<IpAddr>,
    received: Instant,
    stamp: TimeStamp,
    packet: Handshake,
    extensions: Extensions,
    /// With the keys that came, once somebody has looked at them.
    prepared: Option<Crypto>,
}

/// Which conclusion: where it came from, for which socket, and where its packets begin. A peer that comes back at the same port
/// with the same socket id draws another sequence number, and is somebody else.
type Key = (SocketAddr, SocketId, SeqNumber);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Open(SocketId),
    Over,
}

/// The listening side of a UDP socket, connections excepted.
#[derive(Debug)]
pub struct Listener {
    cookies: Cookies,
    known: HashMap<Key, State>,
    pending: usize,
    /// What can be forgotten, and when.
    decided: VecDeque<(Instant, Key)>,
}

impl Listener {
    /// A listener whose cookies nobody can make without `secret`, which is random.
    #[must_use]
    pub fn new(now: Instant, secret: [u8; 32]) -> Self {
        let cookies = Cookies::new(now, &secret);
        Self { cookies, known: HashMap::new(), pending: 0, decided: VecDeque::new() }
    }

    /// Takes a datagram whose destination is [`SocketId::HANDSHAKE`], or that no connection has.
    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &Bytes) -> Verdict {
        self.forget_old(now);
        let Ok(ControlPacket { timestamp, control: Control::Handshake(packet), .. }) =
            ControlPacket::decode(datagram)
        else {
            return Verdict::Ignored("no handshake");
        };
        match packet.kind {
            HandshakeKind::Induction => Verdict::Reply(self.induction(now, from, packet)),
            HandshakeKind::Conclusion => self.conclusion(now, from, timestamp, packet),
            // A rendezvous with a listener (S16), or an answer to nothing.
            _ => Verdict::Ignored("no caller"),
        }
    }

    /// Answers the first contact, with as many bytes as it takes at the least.
    fn induction(&self, now: Instant, from: SocketAddr, packet: Handshake) -> Bytes {
        let (destination, cookie) = (packet.socket_id, self.cookies.make(now, from));
        let answer = Handshake {
            version: VERSION,
            encryption: 0,
            extension_field: Handshake::MAGIC,
            cookie,
            peer_ip: from.ip(),
            extensions: Bytes::new(),
            ..packet
        };
        encode(destination, answer)
    }

    fn conclusion(&mut self, now: Instant, from: SocketAddr, stamp: TimeStamp, packet: Handshake) -> Verdict {
        if !self.cookies.is_right(now, from, packet.cookie) {
            return Verdict::Ignored("cookie");
        }
        let key = (from, packet.socket_id, packet.initial_seq);
        match self.known.get(&key) {
            Some(State::Open(local)) => return Verdict::Repeated(*local),
            Some(_) => return Verdict::Ignored("repeated"),
            None => {}
        }
        let extensions = match decode(&packet) {
            Ok(extensions) => extensions,
            Err((told, reason)) => {
                return Verdict::Refused { reason, answer: rejection(&packet, from, told) };
            }
        };
        if self.pending >= MAX_PENDING {
            let answer = rejection(&packet, from, RejectReason::BACKLOG);
            return Verdict::Refused { reason: CloseReason::Overloaded, answer };
        }
        self.pending += 1;
        self.known.insert(key, State::Pending);
        Verdict::Request(Box::new(Request::new(now, from, stamp, packet, extensions)))
    }

    /// Accepts a request: `local` is the connection's socket id, which no other on this socket has. What `config` does not
    /// allow is refused all the same: a wrong passphrase, say.
    ///
    /// # Errors
    /// What to send to the peer, and why it was refused.
    pub fn accept(
        &mut self,
        now: Instant,
        mut request: Request,
        local: SocketId,
        config: Config,
        mut entropy: Box<dyn Entropy>,
    ) -> Result<Connection, (RejectReason, Bytes)> {
        let config = config.clamped();
        let initial_seq = config.membership.map_or(request.packet.initial_seq, |member| member.seq);
        let endpoint = Endpoint { remote: request.remote, local, initial_seq };
        let prepared = request.prepared.take();
        let respond = || {
            let mut crypto = match (&config.crypto, prepared) {
                (Some(_), Some(prepared)) => Ok(Some(prepared)),
                (wanted, _) => wanted.as_ref().map(Crypto::new).transpose(),
            };
            let crypto_slot = crypto.as_mut().map_err(|_| RejectReason::CRYPTO)?;
            let entropy: &mut dyn Entropy = &mut *entropy;
            let mut setup = Setup { now, config: &config, endpoint, crypto: crypto_slot, entropy };
            let (negotiated, answer) = setup.respond(&request.packet, &request.extensions)?;
            let mut packet = setup.packet(HandshakeKind::Conclusion, request.packet.cookie);
            packet.set_extensions(&answer);
            Ok((negotiated, packet, crypto.unwrap_or_default()))
        };
        match respond() {
            Ok((negotiated, answer, crypto)) => {
                self.decide(&request, State::Open(local), None);
                let established = request.established(negotiated, answer);
                let heard = (request.received, request.stamp);
                Ok(Connection::accepted(now, endpoint, (config, crypto, entropy), established, heard))
            }
            Err(reason) => Err((reason, self.reject(now, request, reason))),
        }
    }

    /// Refuses a request. What comes back is to be sent to the peer; its repetitions are not answered.
    pub fn reject(&mut self, now: Instant, request: Request, reason: RejectReason) -> Bytes {
        self.decide(&request, State::Over, Some(now));
        rejection(&request.packet, request.remote, reason)
    }

    /// A connection is over. Its conclusion opens nothing while its cookie lives (S35).
    pub fn forget(&mut self, now: Instant, connection: &Connection) {
        let Some((peer, initial_seq)) = connection.peer_id().zip(connection.peer_seq()) else { return };
        let key = (connection.remote(), peer, initial_seq);
        if self.known.get(&key) == Some(&State::Open(connection.local_id())) {
            self.known.insert(key, State::Over);
            self.forget_later(now, key);
        }
    }

    fn decide(&mut self, request: &Request, state: State, forget: Option<Instant>) {
        let key = (request.remote, request.peer, request.initial_seq());
        if self.known.insert(key, state) == Some(State::Pending) {
            self.pending = self.pending.saturating_sub(1);
        }
        if let Some(now) = forget {
            self.forget_later(now, key);
        }
    }

    fn forget_later(&mut self, now: Instant, key: Key) {
        if self.decided.len() >= MAX_DECIDED
            && let Some((_, oldest)) = self.decided.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.decided.push_back((now + COOKIE_LIFE, key));
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some((_, key)) = self.decided.front().filter(|(at, _)| *at <= now) {
            self.known.remove(key);
            self.decided.pop_front();
        }
        if self.known.is_empty() && self.known.capacity() > MAX_PENDING {
            self.known.shrink_to(0);
        }
    }

    /// What is kept for peers, in entries.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.known.len()
    }
}

impl Request {
    /// Unwraps the keys that come with it, which costs thousands of hashes and is not to hold up a socket;
    /// [`Listener::accept`] then has no more of that to do, and is to get the same `config`.
    ///
    /// # Errors
    /// What the caller is to be refused with: it has another passphrase, or none, or no need of one.
    pub fn prepare(&mut self, now: Instant, config: &Config) -> Result<(), RejectReason> {
        match (&config.crypto, self.key_material()) {
            (Some(wanted), Some(material)) => {
                let mut crypto = Crypto::new(wanted).map_err(|_| RejectReason::CRYPTO)?;
                crypto.handle_request(now, material).map_err(|error| match error {
                    RequestError::Refused(KmState::BadCipher) => RejectReason::CRYPTO,
                    RequestError::Refused(_) | RequestError::Limited => RejectReason::BAD_SECRET,
                })?;
                self.prepared = Some(crypto);
                Ok(())
            }
            (Some(_), None) | (None, Some(_)) if config.require_encryption => Err(RejectReason::UNSECURE),
            _ => Ok(()),
        }
    }

    /// The keys that come with it.
    const fn key_material(&self) -> Option<&KeyMaterial> {
        match &self.extensions.km {
            Some(KmExtension::Request(material)) => Some(material),
            _ => None,
        }
    }

    /// The number of the caller's first packet.
    #[must_use]
    pub const fn initial_seq(&self) -> SeqNumber {
        self.packet.initial_seq
    }

    fn new(
        received: Instant,
        remote: SocketAddr,
        stamp: TimeStamp,
        packet: Handshake,
        extensions: Extensions,
    ) -> Self {
        let encrypted = match &extensions.km {
            Some(KmExtension::Request(material)) => Some(material.key_length),
            _ => None,
        };
        Self {
            remote,
            peer: packet.socket_id,
            stream_id: extensions.stream_id.clone(),
            version: extensions.hs.map_or(SrtVersion(0), |hs| hs.version),
            encrypted,
            group: extensions.group,
            local_ip: None,
            received,
            stamp,
            packet,
            extensions,
            prepared: None,
        }
    }

    fn established(&self, negotiated: super::Negotiated, answer: Handshake) -> super::handshake::Established {
        super::handshake::Established {
            peer: self.peer,
            peer_seq: self.packet.initial_seq,
            mtu: self.packet.mtu,
            negotiated,
            answer: Some(answer),
        }
    }
}

/// What a conclusion asks for, or what its sender is told, and why.
fn decode(packet: &Handshake) -> Result<Extensions, (RejectReason, CloseReason)> {
    // HSv4 exchanges what is in the extensions once it is connected. libsrt refuses it, too, where the least version is
    // 1.3.0.
    if packet.version < VERSION {
        return Err((RejectReason::VERSION, CloseReason::Unsupported));
    }
    let rogue = (RejectReason::ROGUE, CloseReason::Malformed);
    if packet.mtu < *MSS.start() || packet.extension_field & Handshake::EXT_HS == 0 {
        return Err(rogue);
    }
    let wrong = |error: DecodeError| (error.into(), error.into());
    let extensions = packet.decode_extensions().map_err(wrong)?;
    if extensions.hs.is_none_or(|hs| hs.response) {
        return Err(rogue);
    }
    Ok(extensions)
}

fn rejection(packet: &Handshake, from: SocketAddr, reason: RejectReason) -> Bytes {
    let answer = Handshake {
        version: VERSION,
        encryption: 0,
        extension_field: 0,
        kind: HandshakeKind::Rejected(reason),
        peer_ip: from.ip(),
        extensions: Bytes::new(),
        ..packet.clone()
    };
    encode(packet.socket_id, answer)
}

fn encode(destination: SocketId, packet: Handshake) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES + Handshake::BYTES + packet.extensions.len());
    // The listener has no clock of its own: what is answered here has no time.
    let timestamp = TimeStamp::new(0);
    ControlPacket { timestamp, destination, control: Control::Handshake(packet) }.encode(&mut out);
    out.freeze()
}
