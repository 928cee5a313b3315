//! Streams that are sent to groups: once, however many receive them.
//!
//! ```text
//!   session ─┐ reserves              ┌─ member (while it plays) ─┐
//!   session ─┼─► Reservation (group) ┼─ member ─────────────────► Sender ─► egress worker ─► group
//!   session ─┘                       └─ …
//! ```
//!
//! A stream has a group for as long as a session knows it, and a sender for as long as a session receives it: the first one
//! starts it, at the newest keyframe, and the last one stops it. Whoever comes in between waits for the next keyframe, which
//! the publisher is asked for.
//!
//! Packets go out from sockets of their own, which nothing is received on.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

use arcly_core::egress::Attached;
use arcly_core::log::StartMode;
use arcly_core::{CloseReason, PlayRequest, Result, StreamError, StreamKey};
use arcly_rtp::sdp::Format;
use bytes::Bytes;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Shared;
use super::datagrams::Sockets;
use super::scatter::Scatter;
use crate::config::Multicast;
use crate::media::{goodbyes, player};
use crate::session::{Agreed, Group, Presentation};

/// The groups of a server.
#[derive(Debug)]
pub(super) struct Groups {
    config: Multicast,
    sockets: Sockets,
    reserved: Mutex<Reserved>,
}

#[derive(Debug, Default)]
struct Reserved {
    by_stream: HashMap<StreamKey, Weak<Reservation>>,
    taken: HashSet<u32>,
    /// Where the search for one that is free begins: those that were freed last are taken again last.
    next: u32,
}

impl Groups {
    pub(super) fn new(config: Multicast) -> io::Result<Arc<Self>> {
        let sockets = Sockets::new(socket(&config)?, socket(&config)?)?;
        Ok(Arc::new(Self { config, sockets, reserved: Mutex::default() }))
    }

    /// The group of a stream; `None` when all are taken.
    pub(super) fn reserve(self: &Arc<Self>, key: &StreamKey) -> Option<Arc<Reservation>> {
        let mut reserved = self.reserved.lock();
        if let Some(known) = reserved.by_stream.get(key).and_then(Weak::upgrade) {
            return Some(known);
        }
        let count = self.config.range.count();
        let from = reserved.next;
        let mut candidates = (0..count).map(|n| from.wrapping_add(n).checked_rem(count).unwrap_or_default());
        let offset = candidates.find(|offset| !reserved.taken.contains(offset))?;
        let Multicast { range, port, ttl, .. } = self.config;
        let reservation = Arc::new(Reservation {
            groups: Arc::clone(self),
            key: key.clone(),
            offset,
            group: Group { address: range.address(offset), port, ttl },
            sender: tokio::sync::Mutex::default(),
        });
        reserved.taken.insert(offset);
        reserved.next = offset.wrapping_add(1);
        reserved.by_stream.insert(key.clone(), Arc::downgrade(&reservation));
        Some(reservation)
    }
}

fn socket(config: &Multicast) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_multicast_ttl_v4(config.ttl.into())?;
    if let Some(interface) = config.interface {
        socket.set_multicast_if_v4(&interface)?;
    }
    let from = config.interface.unwrap_or(Ipv4Addr::UNSPECIFIED);
    socket.bind(&SocketAddr::from((from, 0)).into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// A group that is a stream's, for as long as a session holds it.
#[derive(Debug)]
pub(super) struct Reservation {
    groups: Arc<Groups>,
    key: StreamKey,
    offset: u32,
    group: Group,
    /// Held while one is started, so that there is one.
    sender: tokio::sync::Mutex<Weak<Sender>>,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.groups.reserved.lock();
        reserved.taken.remove(&self.offset);
        // Another one may be there already, since this one was let go.
        if reserved.by_stream.get(&self.key).is_some_and(|known| core::ptr::eq(known.as_ptr(), self)) {
            reserved.by_stream.remove(&self.key);
        }
    }
}

impl Reservation {
    pub(super) const fn group(&self) -> Group {
        self.group
    }

    /// Has the stream sent, unless it is already. It is sent until what this returns is dropped everywhere.
    pub(super) async fn join(&self, shared: &Shared, presentation: &Presentation) -> Result<Arc<Sender>> {
        let mut slot = self.sender.lock().await;
        if let Some(sender) = slot.upgrade().filter(|sender| sender.ended.borrow().is_none()) {
            if !sender.sends(presentation) {
                // It was described before the stream changed, or after: one of the two does not know what comes.
                let reason = CloseReason::Conflict;
                return Err(StreamError::Refused { key: self.key.clone(), reason });
            }
            return Ok(sender);
        }
        let sender = Arc::new(self.start(shared, presentation).await?);
        *slot = Arc::downgrade(&sender);
        Ok(sender)
    }

    async fn start(&self, shared: &Shared, presentation: &Presentation) -> Result<Sender> {
        let request = PlayRequest::internal(self.key.clone(), "rtsp");
        let mut subscription = shared.context.playback.subscribe(request).await?;
        let speed_percent = shared.config.udp_speed_percent;
        subscription.set_start(StartMode::KeyframePaced { speed_percent });
        let (key, address) = (shared.key(&self.key), self.group.address);
        let presentation = presentation.for_group(self.group);
        let reader = player(subscription, &presentation, key, shared.config.mtu);
        let destinations = presentation.agreed().filter_map(|(at, _, agreed)| match agreed {
            Agreed::Multicast(ports) => {
                Some((at, ((address, ports.rtp).into(), (address, ports.rtcp).into())))
            }
            _ => None,
        });
        let scatter = Scatter::new(&self.groups.sockets, destinations);
        let attached = shared.egress.attach(reader, scatter, Bytes::new());
        tracing::debug!(stream = %self.key, group = %address, "sending to a group");
        let (say, ended) = watch::channel(None);
        let formats = formats(&presentation);
        let sending = Sending { attached, sockets: self.groups.sockets.clone(), address, presentation, key };
        let task = tokio::spawn(sending.run(say)).abort_handle();
        Ok(Sender { ended, formats, task })
    }
}

/// What a stream is sent as: the formats by their places.
fn formats(presentation: &Presentation) -> Vec<Vec<Format>> {
    presentation.media.iter().map(|medium| medium.formats.clone()).collect()
}

/// What sends a stream to its group, until it is dropped.
#[derive(Debug)]
pub(super) struct Sender {
    ended: watch::Receiver<Option<CloseReason>>,
    formats: Vec<Vec<Format>>,
    task: AbortHandle,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    /// Why nothing is sent any more, once that is so. Cancel safe.
    pub(super) async fn ended(&self) -> CloseReason {
        let mut ended = self.ended.clone();
        let reason = ended.wait_for(Option::is_some).await.ok().and_then(|reason| *reason);
        reason.unwrap_or(CloseReason::Shutdown)
    }

    /// Whether that is what is sent.
    fn sends(&self, presentation: &Presentation) -> bool {
        self.formats == formats(presentation)
    }
}

struct Sending {
    attached: Attached<Scatter>,
    sockets: Sockets,
    address: Ipv4Addr,
    presentation: Presentation,
    key: u64,
}

impl Sending {
    async fn run(mut self, say: watch::Sender<Option<CloseReason>>) {
        let reason = self.attached.finished().await.reason;
        for (_, agreed, packet) in goodbyes(&self.presentation, self.key) {
            if let Agreed::Multicast(ports) = agreed {
                self.sockets.send_control((self.address, ports.rtcp).into(), &packet);
            }
        }
        say.send_replace(Some(reason));
    }
}
