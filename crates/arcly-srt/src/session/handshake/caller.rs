//! The caller's side: induction for a cookie, conclusion with it (draft section 4.3.1).

use super::{Established, Setup, Step, refused};
use crate::error::SessionError;
use crate::wire::{Handshake, HandshakeKind, RejectReason};

/// The version that an induction says: what comes back tells what the listener speaks.
const INDUCTION_VERSION: u32 = 4;

#[derive(Debug)]
pub(in crate::session) struct Caller {
    /// What is sent until it is answered.
    sending: Handshake,
}

impl Caller {
    pub(in crate::session) fn new(setup: &Setup<'_>) -> Self {
        let induction = Handshake {
            version: INDUCTION_VERSION,
            encryption: 0,
            extension_field: Handshake::DATAGRAM,
            ..setup.packet(HandshakeKind::Induction, 0)
        };
        Self { sending: induction }
    }

    pub(in crate::session) const fn sending(&self) -> &Handshake {
        &self.sending
    }

    /// The listener answers.
    ///
    /// # Errors
    /// It refuses, or this side does.
    pub(in crate::session) fn handle(
        &mut self,
        packet: &Handshake,
        setup: &mut Setup<'_>,
    ) -> Result<Step, SessionError> {
        match (self.sending.kind, packet.kind) {
            (_, HandshakeKind::Rejected(reason)) => Err(SessionError::Rejected(reason)),
            (HandshakeKind::Induction, HandshakeKind::Induction) => self.handle_cookie(packet, setup),
            (HandshakeKind::Conclusion, HandshakeKind::Conclusion) => conclude(packet, setup),
            _ => Ok(Step::Nothing),
        }
    }

    fn handle_cookie(&mut self, packet: &Handshake, setup: &mut Setup<'_>) -> Result<Step, SessionError> {
        if packet.version < super::VERSION {
            return Err(refused(RejectReason::VERSION));
        }
        if packet.extension_field != Handshake::MAGIC {
            return Err(refused(RejectReason::ROGUE));
        }
        let mut conclusion = setup.packet(HandshakeKind::Conclusion, packet.cookie);
        conclusion.set_extensions(&setup.ask());
        self.sending = conclusion;
        Ok(Step::Send)
    }
}

fn conclude(packet: &Handshake, setup: &mut Setup<'_>) -> Result<Step, SessionError> {
    // What does not decode was changed on the way: the repetition of the conclusion will be answered again.
    let Ok(answer) = packet.decode_extensions() else { return Ok(Step::Nothing) };
    let negotiated = setup.conclude(packet, &answer).map_err(refused)?;
    Ok(Step::Established(Box::new(Established {
        peer: packet.socket_id,
        peer_seq: packet.initial_seq,
        mtu: packet.mtu,
        negotiated,
        answer: None,
    })))
}
