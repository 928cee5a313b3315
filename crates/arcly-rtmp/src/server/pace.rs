//! When the sockets of publishers are looked at.
//!
//! A publisher of 1080p30 sends some 75 messages a second, each in a packet of its own. As long as there are few of them, each
//! message is taken as it comes. Where there are many, most of what they cost is that all that belongs to one of them (task,
//! session, log, format, socket) has to come into the caches for every single message. So there a publisher rests from one
//! tick of the readers to the next, and what has come meanwhile is taken in one go, right before the readers get it.
//! Nobody waits longer for that, but for what comes within [`LEAD`]. Meanwhile the socket is out of the runtime's hands
//! ([`Park`]), which would be woken for each of those packets else.
//!
//! A publisher does not rest as long as somebody wants each frame as it comes ([`Stream::is_awaited`]), or as it sends
//! more than one read takes.
//!
//! [`Stream::is_awaited`]: arcly_core::Stream::is_awaited

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::Publisher;
use arcly_core::egress::Egress;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// So many publishers are taken as they come.
const FEW: usize = 32;
/// How long before the readers' tick publishers are read from: for some hundred of them it takes so long.
const LEAD: Duration = Duration::from_millis(4);
/// The longest rest, so that what waits stays well below what a socket holds.
const MAX_REST: Duration = Duration::from_millis(40);

/// Rests without a byte after which a publisher counts as silent, and is waited for instead.
pub(super) const MAX_EMPTY: u8 = 3;

/// Whether a socket is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    /// As soon as something comes.
    No,
    /// Not before then.
    Until(Instant),
    /// Now, whether or not something has come.
    Over,
}

/// What became of a socket that was to be parked.
pub(super) enum Parking<R, W> {
    /// It reads and writes what it can at once, and tells nobody when it can.
    Parked(TcpStream),
    /// It stays where it is.
    Refused(R, W),
    /// It is gone.
    Lost(io::Error),
}

/// The reading half of a socket that can be taken out of the runtime's hands, and be put back.
pub(super) trait Park<W>: Sized {
    fn park(self, writer: W) -> Parking<Self, W>;
    fn unpark(socket: TcpStream) -> io::Result<(Self, W)>;
}

impl Park<OwnedWriteHalf> for OwnedReadHalf {
    fn park(self, writer: OwnedWriteHalf) -> Parking<Self, OwnedWriteHalf> {
        match self.reunite(writer) {
            Ok(stream) => stream.into_std().map_or_else(Parking::Lost, Parking::Parked),
            Err(error) => Parking::Refused(error.0, error.1),
        }
    }
    fn unpark(socket: TcpStream) -> io::Result<(Self, OwnedWriteHalf)> {
        tokio::net::TcpStream::from_std(socket).map(tokio::net::TcpStream::into_split)
    }
}

// The runtime's socket is out of reach inside of the TLS stream.
#[cfg(feature = "tls")]
impl<S> Park<tokio::io::WriteHalf<S>> for tokio::io::ReadHalf<S> {
    fn park(self, writer: tokio::io::WriteHalf<S>) -> Parking<Self, tokio::io::WriteHalf<S>> {
        Parking::Refused(self, writer)
    }
    fn unpark(_: TcpStream) -> io::Result<(Self, tokio::io::WriteHalf<S>)> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The publishers of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Crowd(Arc<()>);

/// One of them. Dropping it takes it out.
#[derive(Debug)]
pub(super) struct Member(Arc<()>);

impl Crowd {
    pub(super) fn join(&self) -> Member {
        Member(Arc::clone(&self.0))
    }
}

impl Member {
    fn is_one_of_many(&self) -> bool {
        // The crowd itself holds one too.
        Arc::strong_count(&self.0) > FEW + 1
    }

    /// Until when this publisher, which has just been read from, is left alone; `None` when it is not.
    pub(super) fn rest(&self, publisher: &Publisher, egress: &Egress, now: Instant) -> Option<Instant> {
        if !self.is_one_of_many() || publisher.stream().is_awaited() {
            return None;
        }
        let until = egress.next_tick(now + LEAD)?.checked_sub(LEAD)?;
        Some(until.min(now + MAX_REST))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use arcly_core::egress::Tick;
    use arcly_core::{
        Engine, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest, StreamKey,
    };

    #[tokio::test]
    async fn publishers_rest_when_they_are_many_and_nobody_wants_each_frame() {
        let engine = Engine::builder().build();
        let key = StreamKey::new("live", "cam");
        let publisher = engine.publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
        let egress = Egress::start(1).with_tick(Tick::STANDARD);
        let crowd = Crowd::default();
        let member = crowd.join();
        let now = arcly_core::clock::now();
        let mut others: Vec<_> = (1..FEW).map(|_| crowd.join()).collect();
        assert_eq!(member.rest(&publisher, &egress, now), None, "{FEW} are few");
        others.push(crowd.join());
        for later in [0, 1, 7, 29, 33, 100] {
            let now = now + Duration::from_millis(later);
            let until = member.rest(&publisher, &egress, now).unwrap();
            let interval = Tick::STANDARD.interval();
            assert!(until > now && until <= now + interval, "{:?}", until - now);
            let tick = until + LEAD;
            assert_eq!(egress.next_tick(tick - Duration::from_nanos(1)), Some(tick), "right before a tick");
        }
        let reader = engine.subscribe(PlayRequest::internal(key, "test")).await.unwrap();
        assert_eq!(member.rest(&publisher, &egress, now), None, "somebody wants each frame");
        drop(reader);
        assert!(member.rest(&publisher, &egress, now).is_some());
        let prompt = Egress::start(1);
        assert_eq!(member.rest(&publisher, &prompt, now), None, "a server without ticks");
        others.pop();
        assert_eq!(member.rest(&publisher, &egress, now), None, "somebody has left");
    }
}
