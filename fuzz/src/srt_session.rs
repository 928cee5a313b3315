//! Sequences of datagrams into the sessions of `arcly-srt`.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use arcly_core::machine::{Machine as _, Output};
use arcly_srt::Config;
use arcly_srt::session::{Connection, Endpoint, Group, GroupEvent, GroupOutput, Listener, Verdict};
use arcly_srt::wire::{GroupKind, SeqNumber, SocketId};
use arcly_testkit::rng::Rng;
use bytes::{Bytes, BytesMut};

use crate::parts;

crate::targets!(srt_listener, srt_connection, srt_group);

const LOCAL: SocketId = SocketId(70);

fn entropy() -> Box<dyn arcly_srt::crypto::Entropy> {
    let mut rng = Rng::new(1);
    Box::new(move |out: &mut [u8]| out.copy_from_slice(&rng.bytes(out.len())))
}

fn caller() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 40_000))
}

/// What a machine sends now. It must come to an end.
fn drain(connection: &mut Connection) -> Vec<Bytes> {
    let mut sent = Vec::new();
    for _ in 0..100_000 {
        match connection.poll_output() {
            Output::Transmit(datagram) => sent.push(datagram),
            Output::Event(_) => {}
            Output::Wait(_) => return sent,
        }
    }
    panic!("a connection that talks without end");
}

/// A listener's connection with a caller that is at `192.0.2.1:40000`.
fn accepted(now: Instant) -> Option<Connection> {
    let mut listener = Listener::new(now, [7; 32]);
    let remote = SocketAddr::from(([192, 0, 2, 2], 8_890));
    let endpoint = Endpoint { remote, local: SocketId(60), initial_seq: SeqNumber::new(5_000) };
    let mut calling = Connection::connect(now, endpoint, Config::default(), entropy()).ok()?;
    loop {
        let datagram = drain(&mut calling).pop()?;
        match listener.handle_datagram(now, caller(), &datagram) {
            Verdict::Reply(reply) => calling.handle_datagram(now, reply).ok()?,
            Verdict::Request(request) => {
                return listener.accept(now, *request, LOCAL, Config::default(), entropy()).ok();
            }
            _ => return None,
        }
    }
}

/// A listener: each part is a datagram. Nothing is answered with more than it takes, and nothing is kept without a cookie.
pub fn srt_listener(data: &[u8]) {
    let now = Instant::now();
    let mut listener = Listener::new(now, [7; 32]);
    for part in parts(data) {
        match listener.handle_datagram(now, caller(), &Bytes::copy_from_slice(part)) {
            Verdict::Reply(reply) => assert!(reply.len() <= part.len()),
            Verdict::Request(_) => panic!("a cookie that was not given"),
            _ => {}
        }
        assert_eq!(listener.kept(), 0);
    }
}

/// A connection: each part is the time that passes, in milliseconds, and a datagram, which is for this connection.
pub fn srt_connection(data: &[u8]) {
    let mut now = Instant::now();
    let Some(mut connection) = accepted(now) else { return };
    drain(&mut connection);
    for part in parts(data) {
        let Some((&wait, datagram)) = part.split_first() else { continue };
        now += Duration::from_millis(wait.into());
        let _ = connection.send(now, Bytes::from_static(b"data"), Default::default());
        let mut datagram = BytesMut::from(datagram);
        if let Some(destination) = datagram.get_mut(12..16) {
            destination.copy_from_slice(&LOCAL.0.to_be_bytes());
        }
        let heard = connection.handle_datagram(now, datagram.freeze());
        let ended = heard.and_then(|()| connection.handle_timeout(now)).is_err();
        drain(&mut connection);
        assert_eq!(ended, connection.is_over());
        if ended {
            return;
        }
        let statistics = connection.statistics(now).instant;
        assert!(statistics.pkt_rcv_buf <= 8_192 && statistics.pkt_snd_buf <= 8_192);
    }
}

/// What a group says now. It must come to an end.
fn drain_group(group: &mut Group) -> (Vec<(SocketId, SocketAddr, Bytes)>, Vec<SocketAddr>) {
    let (mut sent, mut wanted) = (Vec::new(), Vec::new());
    for _ in 0..100_000 {
        match group.poll_output() {
            GroupOutput::Transmit(id, to, datagram) => sent.push((id, to, datagram)),
            GroupOutput::Event(GroupEvent::Wanted(remote)) => wanted.push(remote),
            GroupOutput::Event(_) => {}
            GroupOutput::Wait(_) => return (sent, wanted),
        }
    }
    panic!("a group that talks without end");
}

/// A listener's group with both connections of a caller's: [`LOCAL`] and the id behind it.
fn bonded(now: Instant, kind: GroupKind) -> Option<Group> {
    let paths = [2_u8, 3].map(|last| (SocketAddr::from(([192, 0, 2, last], 8_890)), u16::from(last)));
    let (mut listener, seq) = (Listener::new(now, [7; 32]), SeqNumber::new(5_000));
    let mut group = Group::listening(now, (9, kind), seq, Config::default()).ok()?;
    let mut calling = Group::calling(now, (7, kind), seq, Config::default(), &paths).ok()?;
    for (remote, id) in drain_group(&mut calling).1.into_iter().zip(60..) {
        calling.call(now, remote, SocketId(id), entropy()).ok()?;
    }
    for _ in 0..2 {
        for (id, _, datagram) in drain_group(&mut calling).0 {
            let from = SocketAddr::from(([192, 0, 2, 1], u16::try_from(id.0).ok()?));
            match listener.handle_datagram(now, from, &datagram) {
                Verdict::Reply(reply) => calling.handle_datagram(now, id, reply).ok()?,
                Verdict::Request(request) => {
                    let weight = request.group?.weight;
                    let local = SocketId(LOCAL.0 + id.0 - 60);
                    let config = group.member_config(weight);
                    let connection = listener.accept(now, *request, local, config, entropy()).ok()?;
                    group.accept(now, connection, weight).ok()?;
                }
                _ => return None,
            }
        }
    }
    drain_group(&mut group);
    Some(group)
}

/// A group: the first byte says of which kind, and each part which member, the time that passes, in milliseconds, and a datagram,
/// which is for that member.
pub fn srt_group(data: &[u8]) {
    let Some((&kind, data)) = data.split_first() else { return };
    let kind = if kind & 1 == 0 { GroupKind::Broadcast } else { GroupKind::Backup };
    let mut now = Instant::now();
    let mut group = bonded(now, kind).expect("two connections");
    assert_eq!(group.members().count(), 2);
    for part in parts(data) {
        let &[member, wait, ref datagram @ ..] = part else { continue };
        now += Duration::from_millis(wait.into());
        let member = SocketId(LOCAL.0 + u32::from(member & 1));
        // The upper bits: nothing is taken out meanwhile, or it is again.
        group.hold(now, part.first().is_some_and(|first| first & 0xC0 == 0xC0));
        let _ = group.send(now, Bytes::from_static(b"data"), Default::default());
        let mut datagram = BytesMut::from(datagram);
        if let Some(destination) = datagram.get_mut(12..16) {
            destination.copy_from_slice(&member.0.to_be_bytes());
        }
        let heard = group.handle_datagram(now, member, datagram.freeze());
        let ended = heard.and_then(|()| group.handle_timeout(now)).is_err();
        drain_group(&mut group);
        assert_eq!(ended, group.is_over());
        if ended {
            return;
        }
        assert!(group.take_departed().len() <= 2);
        for connection in group.connections() {
            let statistics = connection.statistics(now).instant;
            assert!(statistics.pkt_rcv_buf <= 8_192 && statistics.pkt_snd_buf <= 8_192);
        }
    }
}
