//! Checks of ICE: which are for this session, and what an answer to one says of the address that it came from.

use std::time::Duration;

use super::{BINDING_SUCCESS, Event, Output, Part, Transport};
use crate::wire::{BindingRequest, Kind, TransportAddress, transaction_of};

/// Addresses of one peer that have shown that they know the password: each network that a phone is in, and each change of it.
pub const MAX_SOURCES: usize = 32;
/// Addresses that are [forgotten](Transport::forget) between two ICE restarts; no new one counts behind them. The agent keeps each address
/// that it has had a check from until then.
pub const MAX_FORGOTTEN: usize = 256;
/// Checks that are remembered, so that nobody can send one of them again from elsewhere: those of some minutes.
const MAX_CHECKS: usize = 256;
/// The least between two changes of the address that media go to, once they go somewhere.
const SWITCH_INTERVAL: Duration = Duration::from_secs(1);

impl Transport {
    /// A check for this session, or what comes from where one has come from.
    pub(super) fn is_for_us(&self, kind: Kind, from: TransportAddress, datagram: &[u8]) -> bool {
        let known = self.sources.contains(&from);
        if kind != Kind::Stun {
            return known;
        }
        let is_ours = |request: BindingRequest<'_>| {
            request.local == self.fragment
                && !self.is_repeated(from, request.transaction)
                && !(request.nominates && self.moved_just_now(from))
        };
        let has_room = self.sources.len() < MAX_SOURCES && self.forgotten < MAX_FORGOTTEN;
        (known || has_room) && BindingRequest::decode(datagram).is_ok_and(is_ours)
    }

    /// A datagram on its way out. The answer to a check says that the check knew the password.
    pub(super) fn transmit(&mut self, to: TransportAddress, datagram: Vec<u8>) -> Output<Event> {
        if matches!(self.part, Part::Answers(_)) && datagram.starts_with(&BINDING_SUCCESS) {
            self.consent = Some(self.now);
            self.remember(to, &datagram);
            if !self.sources.contains(&to) {
                self.sources.push(to);
                self.pending = Some((to, datagram));
                return Output::Event(Event::Source(to));
            }
        }
        // Answers to checks go back to where those came from.
        if Kind::of(&datagram) != Some(Kind::Stun) && self.destination.is_none_or(|(before, _)| before != to)
        {
            self.destination = Some((to, self.now));
        }
        Output::Transmit { to, datagram }
    }

    /// True when media are to go to `from` so soon after they have begun to go elsewhere. Who has two good ways asks again; who sends
    /// checks in the name of others gets little out of it.
    fn moved_just_now(&self, from: TransportAddress) -> bool {
        self.connected
            && self.destination.is_some_and(|(current, since)| {
                current != from && self.now.saturating_duration_since(since) < SWITCH_INTERVAL
            })
    }

    /// True for a check that has come before, and from elsewhere: somebody on the way has seen it, and wants to be sent media, or
    /// wants somebody else to be.
    pub(super) fn is_repeated(&self, from: TransportAddress, transaction: &[u8]) -> bool {
        self.checks.iter().any(|(known, source)| known == transaction && *source != from)
    }

    /// Remembers a check by its answer, which says that it knew the password.
    pub(super) fn remember(&mut self, from: TransportAddress, answer: &[u8]) {
        let Some(transaction) = transaction_of(answer) else { return };
        if self.checks.iter().any(|(known, _)| known == transaction) {
            return;
        }
        if self.checks.len() >= MAX_CHECKS {
            self.checks.pop_front();
        }
        self.checks.push_back((transaction.to_vec(), from));
    }
}
