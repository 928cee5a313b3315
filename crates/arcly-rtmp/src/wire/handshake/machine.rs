//! Both sides of the handshake as machines over bytes.

use arcly_core::wire::{DecodeError, DecodeResult};
use bytes::{BufMut, Bytes, BytesMut};

use super::digest::{self, Role, Scheme};
use super::{Entropy, PACKET, VERSION};

/// What [`ServerHandshake`] shows in S1: versions from 3 on tell Flash players that there is a digest.
const SERVER_VERSION: [u8; 4] = [4, 5, 0, 1];
/// What [`ClientHandshake`] shows in C1: a Flash Player that digests.
const CLIENT_VERSION: [u8; 4] = [9, 0, 124, 2];

/// What a step of a handshake led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Send this.
    pub transmit: Option<Bytes>,
    /// The handshake is over; what is left of the input belongs to the chunk streams.
    pub done: bool,
}

/// The packet that is being received.
#[derive(Debug, Default)]
struct Incoming(BytesMut);

impl Incoming {
    /// Moves bytes from `input` until `len` are here.
    fn take(&mut self, input: &mut &[u8], len: usize) -> bool {
        let missing = len.saturating_sub(self.0.len());
        let (now, later) = input.split_at(missing.min(input.len()));
        self.0.put_slice(now);
        *input = later;
        self.0.len() >= len
    }

    /// The packet after the leading `skip` bytes; leaves nothing behind.
    fn packet(&mut self, skip: usize) -> [u8; PACKET] {
        let bytes = core::mem::take(&mut self.0);
        bytes.get(skip..).and_then(|rest| rest.first_chunk()).copied().unwrap_or([0; PACKET])
    }
}

fn check_version(input: &[u8], received: usize, what: &'static str) -> DecodeResult<()> {
    match input.first() {
        Some(&version) if received == 0 && version != VERSION => {
            Err(DecodeError::Malformed { what, offset: 0 })
        }
        _ => Ok(()),
    }
}

/// `time` and `version`, then random bytes.
fn stamp(packet: &mut [u8; PACKET], version: [u8; 4]) {
    if let Some(head) = packet.first_chunk_mut::<8>() {
        let [a, b, c, d] = version;
        *head = [0, 0, 0, 0, a, b, c, d];
    }
}

/// The server's side.
#[derive(Debug)]
pub struct ServerHandshake {
    entropy: Option<Entropy>,
    incoming: Incoming,
}

impl ServerHandshake {
    /// Waits for C0.
    #[must_use]
    pub fn new(entropy: Entropy) -> Self {
        Self { entropy: Some(entropy), incoming: Incoming::default() }
    }

    /// Takes what belongs to the handshake from the front of `input`.
    ///
    /// # Errors
    /// The first byte is not [`VERSION`]. Nothing was sent then.
    pub fn advance(&mut self, input: &mut &[u8]) -> DecodeResult<Progress> {
        let mut progress = Progress { transmit: None, done: false };
        if self.entropy.is_some() {
            check_version(input, self.incoming.0.len(), "C0 version")?;
            if !self.incoming.take(input, PACKET.saturating_add(1)) {
                return Ok(progress);
            }
            let c1 = self.incoming.packet(1);
            progress.transmit = self.entropy.take().map(|entropy| answer_c1(&c1, &entropy));
        }
        progress.done = self.incoming.take(input, PACKET);
        if progress.done {
            self.incoming = Incoming::default();
        }
        Ok(progress)
    }
}

/// S0, S1 and S2 for a C1, in the digest scheme it uses, or plain.
fn answer_c1(c1: &[u8; PACKET], entropy: &Entropy) -> Bytes {
    let (mut s1, mut s2) = entropy.packets();
    match digest::find(c1, Role::Player) {
        Some((scheme, client_digest)) => {
            stamp(&mut s1, SERVER_VERSION);
            digest::sign(&mut s1, scheme, Role::Server);
            digest::sign_answer(&mut s2, &client_digest, Role::Server);
        }
        None => {
            stamp(&mut s1, [0; 4]);
            s2 = *c1;
        }
    }
    let mut out = BytesMut::with_capacity(1 + 2 * PACKET);
    out.put_u8(VERSION);
    out.put_slice(&s1);
    out.put_slice(&s2);
    out.freeze()
}

/// The client's side.
#[derive(Debug)]
pub struct ClientHandshake {
    incoming: Incoming,
    answer: [u8; PACKET],
    answered: bool,
}

impl ClientHandshake {
    /// Starts the handshake: what to send first, C0 and C1, comes with it. C1 has a digest, which servers that
    /// know nothing of digests take for random bytes.
    #[must_use]
    pub fn new(entropy: &Entropy, scheme: Scheme) -> (Self, Bytes) {
        let (mut c1, c2) = entropy.packets();
        stamp(&mut c1, CLIENT_VERSION);
        digest::sign(&mut c1, scheme, Role::Player);
        let mut out = BytesMut::with_capacity(1 + PACKET);
        out.put_u8(VERSION);
        out.put_slice(&c1);
        (Self { incoming: Incoming::default(), answer: c2, answered: false }, out.freeze())
    }

    /// Takes what belongs to the handshake from the front of `input`.
    ///
    /// # Errors
    /// The first byte is not [`VERSION`].
    pub fn advance(&mut self, input: &mut &[u8]) -> DecodeResult<Progress> {
        let mut progress = Progress { transmit: None, done: false };
        if !self.answered {
            check_version(input, self.incoming.0.len(), "S0 version")?;
            if !self.incoming.take(input, PACKET.saturating_add(1)) {
                return Ok(progress);
            }
            let s1 = self.incoming.packet(1);
            match digest::find(&s1, Role::Server) {
                Some((_, server_digest)) => {
                    digest::sign_answer(&mut self.answer, &server_digest, Role::Player)
                }
                None => self.answer = s1,
            }
            progress.transmit = Some(Bytes::copy_from_slice(&self.answer));
            self.answered = true;
        }
        progress.done = self.incoming.take(input, PACKET);
        Ok(progress)
    }
}
