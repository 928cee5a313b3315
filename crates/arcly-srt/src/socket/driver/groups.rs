//! Groups of connections: those that call, and those whose connections come one by one.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Driver, random, random_seq, route_of};
use crate::config::Config;
use crate::error::SessionError;
use crate::session::{Group, Request};
use crate::socket::carrier::Carrier;
use crate::socket::slot::Slot;
use crate::socket::{Opened, os_entropy};
use crate::wire::{GroupExtension, GroupKind, RejectReason, SocketId};

impl Driver {
    /// A group that calls. Its paths are called once it says so.
    pub(super) fn bond(
        &mut self,
        now: Instant,
        kind: GroupKind,
        (paths, config): (&[(SocketAddr, u16)], Config),
        done: Opened,
    ) {
        match (Group::calling(now, (random(), kind), random_seq(), config, paths), paths.first()) {
            (Ok(group), Some((remote, _))) => {
                let id = self.free_id();
                self.insert(now, Slot::new((id, *remote), Carrier::Many(Box::new(group)), done));
            }
            (Err(error), _) => _ = done.send(Err(error)),
            (Ok(_), None) => {}
        }
    }

    pub(super) fn call_path(&mut self, now: Instant, group: SocketId, remote: SocketAddr) {
        let id = self.free_id();
        self.members.insert(id, group);
        self.with(now, group, |slot| match slot.carrier.group() {
            Some(group) => group.call(now, remote, id, os_entropy()),
            None => Ok(()),
        });
    }

    /// Another connection of a group that is there. An error when it was refused, and why.
    pub(super) fn join(
        &mut self,
        now: Instant,
        group: SocketId,
        request: Request,
    ) -> Result<(), RejectReason> {
        let (id, route) = (self.free_id(), route_of(&request));
        let weight = request.group.map_or(0, |group| group.weight);
        let config = self.slots.get_mut(&group).and_then(|slot| slot.carrier.group());
        let config = config.map(|group| group.member_config(weight)).ok_or(RejectReason::GROUP)?;
        let listener = self.listener.as_mut().ok_or(RejectReason::CLOSE)?;
        match listener.accept(now, request, id, config, os_entropy()) {
            Ok(connection) => {
                self.members.insert(id, group);
                self.with(now, group, |slot| {
                    slot.set_source(id, route.source);
                    // One too many is closed, and that is all.
                    _ = slot.carrier.group().map(|group| group.accept(now, connection, weight));
                    Ok(())
                });
                Ok(())
            }
            Err((reason, answer)) => {
                self.outgoing.push((route, answer));
                Err(reason)
            }
        }
    }

    /// The first connection of a group: there is a group, then.
    pub(super) fn accept_group(
        &mut self,
        now: Instant,
        asked: GroupExtension,
        (request, config): (Request, Config),
        done: Opened,
    ) {
        let (id, remote) = (self.free_id(), request.remote);
        match Group::listening(now, (random(), asked.kind), request.initial_seq(), config) {
            Ok(group) => {
                self.slots.insert(id, Slot::new((id, remote), Carrier::Many(Box::new(group)), done));
                if let Err(reason) = self.join(now, id, request) {
                    self.end(now, id, SessionError::Refused(reason));
                    let others = self.bonds.refuse(asked.id);
                    return others.into_iter().for_each(|other| self.reject_one(now, other, reason));
                }
                for other in self.bonds.open(asked.id, id) {
                    _ = self.join(now, id, other);
                }
            }
            Err(error) => {
                self.reject(now, request, RejectReason::GROUP);
                _ = done.send(Err(error));
            }
        }
    }
}
