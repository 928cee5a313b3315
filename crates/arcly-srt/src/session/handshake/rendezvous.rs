//! Both sides call each other (draft section 4.3.2).
//!
//! ```text
//!            WAVEAHAND from the peer: its cookie decides who asks
//!  initiator  waving ──▶ CONCLUSION + HSREQ ──(HSRSP)──▶ AGREEMENT, connected
//!  responder  waving ──▶ CONCLUSION ──(HSREQ)──▶ CONCLUSION + HSRSP, connected
//! ```
//!
//! A responder is connected with its answer, as a listener is: the initiator repeats its question until it has heard it, and
//! every question is answered.

use super::{Established, Setup, Step, refused};
use crate::error::SessionError;
use crate::wire::{Handshake, HandshakeKind, RejectReason, SocketId};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Initiator,
    Responder,
}

#[derive(Debug)]
pub(in crate::session) struct Rendezvous {
    cookie: u32,
    /// Nobody in particular, until the peer has said its socket id.
    peer: SocketId,
    role: Option<Role>,
    /// What is sent until it is answered.
    sending: Handshake,
}

impl Rendezvous {
    pub(in crate::session) fn new(setup: &mut Setup<'_>) -> Self {
        let mut cookie = [0; 4];
        setup.entropy.fill(&mut cookie);
        let cookie = u32::from_be_bytes(cookie);
        let sending = setup.packet(HandshakeKind::WaveAHand, cookie);
        Self { cookie, peer: SocketId::HANDSHAKE, role: None, sending }
    }

    pub(in crate::session) const fn sending(&self) -> &Handshake {
        &self.sending
    }

    /// Where that goes: libsrt takes what follows the first contact for its socket only, and waves again otherwise.
    pub(in crate::session) const fn destination(&self) -> SocketId {
        self.peer
    }

    /// The peer waves or concludes.
    ///
    /// # Errors
    /// It refuses, or this side does.
    pub(in crate::session) fn handle(
        &mut self,
        packet: &Handshake,
        setup: &mut Setup<'_>,
    ) -> Result<Step, SessionError> {
        match packet.kind {
            HandshakeKind::Rejected(reason) => return Err(SessionError::Rejected(reason)),
            HandshakeKind::WaveAHand | HandshakeKind::Conclusion => {}
            _ => return Ok(Step::Nothing),
        }
        if packet.version < super::VERSION {
            return Err(refused(RejectReason::VERSION));
        }
        let role = self.meet(packet, setup)?;
        self.peer = packet.socket_id;
        if packet.kind == HandshakeKind::WaveAHand {
            return Ok(Step::Send);
        }
        let Ok(theirs) = packet.decode_extensions() else { return Ok(Step::Nothing) };
        match (role, theirs.hs.map(|hs| hs.response)) {
            (Role::Initiator, Some(true)) => {
                let negotiated = setup.conclude(packet, &theirs).map_err(refused)?;
                let agreement = setup.packet(HandshakeKind::Agreement, self.cookie);
                Ok(established(packet, negotiated, agreement))
            }
            (Role::Responder, Some(false)) => {
                let (negotiated, answer) = setup.respond(packet, &theirs).map_err(refused)?;
                let mut conclusion = setup.packet(HandshakeKind::Conclusion, self.cookie);
                conclusion.set_extensions(&answer);
                Ok(established(packet, negotiated, conclusion))
            }
            // It does not know this side's cookie yet, or has not heard the question.
            _ => Ok(Step::Send),
        }
    }

    /// The peer's cookie is known: who asks is decided.
    fn meet(&mut self, packet: &Handshake, setup: &mut Setup<'_>) -> Result<Role, SessionError> {
        if let Some(role) = self.role {
            return Ok(role);
        }
        // Compared as libsrt does: by the sign of the difference modulo 2^32.
        let role = match self.cookie.wrapping_sub(packet.cookie) {
            0 => return Err(refused(RejectReason::RENDEZVOUS_COOKIE)),
            1..=0x7FFF_FFFF => Role::Initiator,
            _ => Role::Responder,
        };
        self.role = Some(role);
        self.sending = setup.packet(HandshakeKind::Conclusion, self.cookie);
        if role == Role::Initiator {
            self.sending.set_extensions(&setup.ask());
        }
        Ok(role)
    }
}

fn established(packet: &Handshake, negotiated: super::Negotiated, answer: Handshake) -> Step {
    Step::Established(Box::new(Established {
        peer: packet.socket_id,
        peer_seq: packet.initial_seq,
        mtu: packet.mtu,
        negotiated,
        answer: Some(answer),
    }))
}
