//! The rooms of an engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::{Member, Room, RoomError, RoomEvent, RoomLimits};
use crate::clock;
use crate::contract::observe::{EVENT_BACKLOG, EngineEvent, EventItem, EventReceiver};
use crate::engine::Engine;
use crate::key::StreamKey;
use crate::stream::StreamState;

/// How often it is looked who speaks.
pub const LOOK: Duration = Duration::from_millis(100);

/// What a receiver gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RoomItem {
    /// Something happened in the room of that name.
    Event(Arc<str>, RoomEvent),
    /// So many events were lost because the receiver was too slow: [`Rooms::members`] says how things are.
    Lost(u64),
}

/// One task's end of what happens in all rooms. One that is more than [`EVENT_BACKLOG`] behind loses the oldest, and is told how many.
#[derive(Debug)]
pub struct RoomReceiver(broadcast::Receiver<(Arc<str>, RoomEvent)>);

impl RoomReceiver {
    /// The next event, `None` once the rooms are gone. Cancel safe.
    pub async fn next(&mut self) -> Option<RoomItem> {
        match self.0.recv().await {
            Ok((room, event)) => Some(RoomItem::Event(room, event)),
            Err(broadcast::error::RecvError::Lagged(lost)) => Some(RoomItem::Lost(lost)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// The rooms of one application of an engine: those who publish in them are members by themselves, others take a [`Seat`].
///
/// A publisher for whom there is no room any more is let go, with [`RoomError::reason`].
///
/// ```
/// use arcly_core::room::{RoomLimits, Rooms};
/// use arcly_core::{Engine, PublishRegistry as _, PublishRequest, StreamKey};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let engine = Engine::builder().build();
/// let rooms = Rooms::of(&engine, "rooms", RoomLimits::default());
///
/// let carol = rooms.join("standup", "carol")?;
/// let alice = StreamKey::new("rooms", "standup/alice");
/// let publisher = engine.publish(PublishRequest::internal(alice, "example")).await?;
/// # tokio::task::yield_now().await;
///
/// let names: Vec<_> = carol.others().into_iter().map(|member| member.key.to_string()).collect();
/// assert_eq!(names, ["rooms/standup/alice"]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Rooms {
    engine: Weak<Engine>,
    app: Arc<str>,
    limits: RoomLimits,
    rooms: Mutex<BTreeMap<Arc<str>, Room>>,
    bus: broadcast::Sender<(Arc<str>, RoomEvent)>,
}

impl Rooms {
    /// The rooms of that application. Inside a tokio runtime a task keeps them in step, for as long as they and the engine are there;
    /// elsewhere call [`handle_event`](Self::handle_event) with what happens, and [`handle_timeout`](Self::handle_timeout) every [`LOOK`].
    #[must_use]
    pub fn of(engine: &Arc<Engine>, app: &str, limits: RoomLimits) -> Arc<Self> {
        let rooms = Arc::new(Self {
            engine: Arc::downgrade(engine),
            app: app.into(),
            limits,
            rooms: Mutex::default(),
            bus: broadcast::Sender::new(EVENT_BACKLOG),
        });
        let events = engine.events();
        rooms.handle_loss(clock::now());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(follow(Arc::downgrade(&rooms), events));
        }
        rooms
    }

    /// Everything that happens in all of them from now on.
    #[must_use]
    pub fn events(&self) -> RoomReceiver {
        RoomReceiver(self.bus.subscribe())
    }

    /// The names of rooms that have members, in order.
    #[must_use]
    pub fn names(&self) -> Vec<Arc<str>> {
        self.rooms.lock().keys().cloned().collect()
    }

    /// The members of a room, by name; none of one that is not there.
    #[must_use]
    pub fn members(&self, room: &str) -> Vec<Member> {
        self.rooms.lock().get(room).map(|room| room.members().cloned().collect()).unwrap_or_default()
    }

    /// The speaker of a room: see [`Room::speaker`].
    #[must_use]
    pub fn speaker(&self, room: &str) -> Option<Member> {
        self.rooms.lock().get(room)?.speaker().cloned()
    }

    /// Takes a seat in a room, which is made for the first. Who may is decided by whoever calls this.
    ///
    /// # Errors
    /// [`RoomError`] says why not.
    pub fn join(self: &Arc<Self>, room: &str, name: &str) -> Result<Seat, RoomError> {
        let key = self.with(room, true, |room| {
            room.take_seat(name)?;
            Ok(room.key(name)?)
        });
        let key = key.unwrap_or(Err(RoomError::TooMany))?;
        Ok(Seat { rooms: Arc::clone(self), room: room.into(), name: name.into(), key })
    }

    /// Something has happened in the engine.
    pub fn handle_event(&self, now: Instant, event: &EngineEvent) {
        if let EngineEvent::StreamPublished { key, .. }
        | EngineEvent::StreamUnpublished { key, .. }
        | EngineEvent::StreamEnded { key, .. } = event
        {
            self.look_at(now, key);
        }
    }

    /// Events of the engine were lost, or have not been listened to so far: looks at all streams.
    pub fn handle_loss(&self, now: Instant) {
        let Some(engine) = self.engine.upgrade() else { return };
        let members: Vec<StreamKey> = {
            let rooms = self.rooms.lock();
            let publishing = rooms.values().flat_map(Room::members).filter(|member| member.publishes);
            publishing.map(|member| member.key.clone()).collect()
        };
        members.iter().for_each(|key| self.look_at(now, key));
        engine.streams().iter().for_each(|stream| self.look_at(now, stream.key()));
    }

    /// Time has passed: looks who speaks.
    pub fn handle_timeout(&self, now: Instant) {
        let Some(engine) = self.engine.upgrade() else { return };
        let names = self.names();
        let loudness = |key: &StreamKey| {
            let levels = engine.stream(key)?.levels();
            levels.iter().map(|(_, level)| level.mean_dbov).max()
        };
        for name in names {
            // Streams are asked outside the lock: whoever looks at rooms waits for none of them.
            let publishing = self.members(&name).into_iter().filter(|member| member.publishes);
            let levels = publishing.filter_map(|member| Some((member.name, loudness(&member.key)?)));
            let levels: Vec<_> = levels.collect();
            self.with(&name, false, |room| {
                room.handle_levels(now, levels.iter().map(|(name, dbov)| (&**name, *dbov)));
                Ok(())
            });
        }
    }

    /// The room and the member whose stream that is.
    fn parts<'a>(&self, key: &'a StreamKey) -> Option<(&'a str, &'a str)> {
        if key.app() == &*self.app { key.stream().rsplit_once('/') } else { None }
    }

    /// Whether a stream is published is asked the stream, so that it does not matter how old the news about it is.
    fn look_at(&self, now: Instant, key: &StreamKey) {
        let (Some(engine), Some((room, name))) = (self.engine.upgrade(), self.parts(key)) else { return };
        let stream = engine.stream(key).filter(|stream| stream.state() == StreamState::Live);
        let Some(stream) = stream else {
            self.with(room, false, |room| {
                room.unpublish(now, name);
                Ok(())
            });
            return;
        };
        let let_in = self.with(room, true, |room| room.publish(name));
        if let Err(error) = let_in.unwrap_or(Err(RoomError::TooMany)) {
            tracing::info!(stream = %key, %error, "a publisher is not let into its room");
            stream.disconnect_publishers(error.reason());
        }
    }

    /// Does something with a room, made for it if need be and allowed; tells everybody what comes of it. `None` when there is no room.
    fn with<T>(
        &self,
        name: &str,
        make: bool,
        act: impl FnOnce(&mut Room) -> Result<T, RoomError>,
    ) -> Option<Result<T, RoomError>> {
        let mut rooms = self.rooms.lock();
        if make && !rooms.contains_key(name) && rooms.len() < self.limits.max_rooms {
            match Room::new(&format!("{}/{name}", self.app), self.limits) {
                Ok(room) => _ = rooms.insert(name.into(), room),
                Err(error) => return Some(Err(error.into())),
            }
        }
        let room = rooms.get_mut(name)?;
        let outcome = act(room);
        let called: Arc<str> = name.into();
        // Under the lock, so that everybody hears of all in one order.
        while let Some(event) = room.poll_event() {
            // Nobody listening is the normal case.
            let _ = self.bus.send((Arc::clone(&called), event));
        }
        if room.is_empty() {
            rooms.remove(name);
        }
        Some(outcome)
    }
}

async fn follow(rooms: Weak<Rooms>, mut events: EventReceiver) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let item = tokio::select! {
            item = events.next() => Some(item),
            _ = looks.tick() => None,
        };
        let Some(rooms) = rooms.upgrade() else { return };
        let now = clock::now();
        match item {
            Some(Some(EventItem::Event(event))) => rooms.handle_event(now, &event),
            Some(Some(EventItem::Lost(_))) => rooms.handle_loss(now),
            Some(None) => return,
            None => rooms.handle_timeout(now),
        }
    }
}

/// A place in a room, by name, for somebody who reads at least. Whoever has it is in the room until it is dropped.
#[derive(Debug)]
#[must_use = "dropping it leaves the room"]
pub struct Seat {
    rooms: Arc<Rooms>,
    room: Arc<str>,
    name: Arc<str>,
    key: StreamKey,
}

impl Seat {
    /// The room.
    #[must_use]
    pub fn room(&self) -> &str {
        &self.room
    }

    /// The name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where this member publishes, if it wants to.
    #[must_use]
    pub const fn key(&self) -> &StreamKey {
        &self.key
    }

    /// The others who publish, by name: what there is to read.
    #[must_use]
    pub fn others(&self) -> Vec<Member> {
        let mut members = self.rooms.members(&self.room);
        members.retain(|member| member.publishes && member.name != self.name);
        members
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let now = clock::now();
        self.rooms.with(&self.room, false, |room| {
            room.leave_seat(now, &self.name);
            Ok(())
        });
    }
}
