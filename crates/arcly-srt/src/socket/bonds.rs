//! Which requests belong together: those for one group, of which the first is decided on.

use std::collections::HashMap;

use crate::session::{MAX_MEMBERS, Request};
use crate::wire::{GroupKind, SocketId};

/// Groups that call, by their own ids.
#[derive(Debug, Default)]
pub(super) struct Bonds {
    bonds: HashMap<u32, Bond>,
}

/// One group: what its first connection has asked for, and what came of it.
#[derive(Debug)]
struct Bond {
    kind: GroupKind,
    stream_id: Option<String>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Connections that wait until the first one has been decided on.
    Asked(Vec<Request>),
    Open(SocketId),
}

/// What becomes of a request.
#[derive(Debug)]
pub(super) enum Asked {
    /// It is to be decided on.
    Anew(Box<Request>),
    /// It joins this group.
    Join(SocketId, Box<Request>),
    /// It waits with the first one of its group.
    Wait,
    /// It asks for something else than its group, or is one too many.
    Refused(Box<Request>),
}

impl Bonds {
    pub(super) fn ask(&mut self, request: Box<Request>) -> Asked {
        let Some(group) = request.group else { return Asked::Anew(request) };
        let Some(bond) = self.bonds.get_mut(&group.id) else {
            let stream_id = request.stream_id.clone();
            let bond = Bond { kind: group.kind, stream_id, state: State::Asked(Vec::new()) };
            self.bonds.insert(group.id, bond);
            return Asked::Anew(request);
        };
        if bond.kind != group.kind || bond.stream_id != request.stream_id {
            return Asked::Refused(request);
        }
        match &mut bond.state {
            State::Open(slot) => Asked::Join(*slot, request),
            State::Asked(waiting) if waiting.len() < MAX_MEMBERS => {
                waiting.push(*request);
                Asked::Wait
            }
            State::Asked(_) => Asked::Refused(request),
        }
    }

    /// The first one was accepted. Those that have waited join it.
    pub(super) fn open(&mut self, group: u32, slot: SocketId) -> Vec<Request> {
        let Some(bond) = self.bonds.get_mut(&group) else { return Vec::new() };
        match std::mem::replace(&mut bond.state, State::Open(slot)) {
            State::Asked(waiting) => waiting,
            State::Open(_) => Vec::new(),
        }
    }

    /// The first one was refused, and so are those that have waited.
    pub(super) fn refuse(&mut self, group: u32) -> Vec<Request> {
        match self.bonds.remove(&group).map(|bond| bond.state) {
            Some(State::Asked(waiting)) => waiting,
            _ => Vec::new(),
        }
    }

    /// The slot is gone.
    pub(super) fn end(&mut self, slot: SocketId) {
        self.bonds.retain(|_, bond| !matches!(bond.state, State::Open(open) if open == slot));
    }
}
