//! Rooms in virtual time.

use std::time::{Duration, Instant};

use super::*;
use crate::level::AudioLevel;
use crate::{
    CloseReason, CodecConfig, CodecId, Engine, MediaFrame, PublishRegistry as _, PublishRequest, Publisher,
    Timestamp, Track, TrackId, TrackSet,
};

fn room(max_members: usize) -> Room {
    Room::new("rooms/standup", RoomLimits { max_members, ..RoomLimits::default() }).unwrap()
}

/// What has happened, in short.
fn told(room: &mut Room) -> Vec<String> {
    core::iter::from_fn(|| room.poll_event()).map(|event| short(&event)).collect()
}

fn short(event: &RoomEvent) -> String {
    match event {
        RoomEvent::Joined(name) => format!("+{name}"),
        RoomEvent::Published(name) => format!("{name} on"),
        RoomEvent::Unpublished(name) => format!("{name} off"),
        RoomEvent::Left(name) => format!("-{name}"),
        RoomEvent::Speaks(name) => format!("{name} speaks"),
        RoomEvent::Silent(name) => format!("{name} silent"),
        RoomEvent::Speaker(name) => format!("speaker {}", name.as_deref().unwrap_or("none")),
    }
}

#[test]
fn members_come_and_go_by_name() {
    let (mut room, now) = (room(3), Instant::now());
    room.take_seat("carol").unwrap();
    room.publish("alice").unwrap();
    room.publish("alice").unwrap();
    assert_eq!(told(&mut room), ["+carol", "+alice", "alice on"]);
    assert_eq!(room.member("alice").unwrap().key.as_str(), "rooms/standup/alice");
    assert_eq!(room.take_seat("carol"), Err(RoomError::Taken));
    room.publish("carol").unwrap();
    room.leave_seat(now, "carol");
    assert_eq!(told(&mut room), ["carol on"], "she is there for as long as her stream is");
    room.take_seat("carol").unwrap();
    room.unpublish(now, "carol");
    room.unpublish(now, "carol");
    room.leave_seat(now, "carol");
    room.leave_seat(now, "nobody");
    assert_eq!(told(&mut room), ["carol off", "-carol"]);
    let left: Vec<_> = room.members().map(|member| &*member.name).collect();
    assert_eq!(left, ["alice"]);
}

#[test]
fn what_others_can_make_grow_is_bounded() {
    let (mut room, now) = (room(2), Instant::now());
    room.take_seat("a").unwrap();
    room.publish("b").unwrap();
    assert_eq!((room.take_seat("c"), room.publish("d")), (Err(RoomError::Full), Err(RoomError::Full)));
    room.publish("a").unwrap();
    let names = [("", NameError::Empty), ("a/b", NameError::Character), ("..", NameError::Traversal)];
    for (name, why) in names {
        assert_eq!(room.take_seat(name), Err(RoomError::Name(why)), "{name}");
    }
    assert!(room.take_seat(&"x".repeat(250)).is_err());
    told(&mut room);
    for _ in 0..MAX_WAITING {
        room.unpublish(now, "b");
        room.publish("b").unwrap();
    }
    assert_eq!(room.lost(), MAX_WAITING as u64 * 3);
    assert_eq!(told(&mut room).len(), MAX_WAITING);
    for path in ["", "rooms", "rooms/", "/rooms/a", "rooms/../a"] {
        assert!(Room::new(path, RoomLimits::default()).is_err(), "{path}");
    }
}

/// A room in which all of these publish, and its clock.
struct Talk {
    room: Room,
    now: Instant,
}

impl Talk {
    fn of(names: &[&str]) -> Self {
        let mut room = room(10);
        names.iter().for_each(|name| room.publish(name).unwrap());
        told(&mut room);
        Self { room, now: Instant::now() }
    }

    /// For so long these are so loud. Says what that has changed.
    fn goes_on(&mut self, ms: u64, levels: &[(&str, i8)]) -> Vec<String> {
        for _ in 0..ms / 100 {
            self.room.handle_levels(self.now, levels.iter().copied());
            self.now += LOOK;
        }
        told(&mut self.room)
    }
}

#[test]
fn who_speaks_first_is_the_speaker_and_a_pause_changes_nothing() {
    let mut talk = Talk::of(&["a", "b"]);
    assert_eq!(talk.goes_on(1_000, &[("a", -51), ("b", -80)]), [""; 0], "a murmur");
    assert_eq!(talk.goes_on(1_000, &[("a", -30), ("b", -80)]), ["a speaks", "speaker a"]);
    assert_eq!(talk.room.speaker().map(|member| (&*member.name, member.speaks)), Some(("a", true)));
    assert_eq!(talk.goes_on(700, &[("a", -80)]), [""; 0]);
    assert_eq!(talk.goes_on(1_000, &[("a", QUIET_DBOV)]), [""; 0], "not quiet enough for a pause");
    assert_eq!(talk.goes_on(700, &[]), [""; 0], "who is not named is silent, and that may be a pause");
    assert_eq!(talk.goes_on(200, &[]), ["a silent"]);
    assert_eq!(&*talk.room.speaker().unwrap().name, "a", "as long as nobody else speaks");
    assert_eq!(talk.goes_on(100, &[("b", SPEAKS_DBOV)]), ["b speaks", "speaker b"]);
}

#[test]
fn who_is_clearly_louder_for_a_while_takes_over() {
    let mut talk = Talk::of(&["a", "b", "c"]);
    talk.goes_on(1_000, &[("a", -30)]);
    let loud = -30 + LOUDER_BY_DB;
    assert_eq!(talk.goes_on(5_000, &[("a", -30), ("b", loud - 1)]), ["b speaks"], "not clearly");
    assert_eq!(talk.goes_on(1_000, &[("a", -30), ("b", loud)]), [""; 0], "not long enough");
    talk.goes_on(100, &[("a", -30), ("b", loud - 1)]);
    assert_eq!(talk.goes_on(1_000, &[("a", -30), ("b", loud)]), [""; 0], "not without a break");
    assert_eq!(talk.goes_on(100, &[("a", -30), ("b", loud)]), ["speaker b"]);
    // Two who take turns in being the loudest are rivals each for himself.
    talk.goes_on(100, &[("a", -10), ("b", -30), ("c", -20)]);
    for _ in 0..5 {
        assert_eq!(talk.goes_on(900, &[("a", -10), ("b", -30), ("c", -20)]), [""; 0]);
        assert!(!talk.goes_on(100, &[("a", -20), ("b", -30), ("c", -10)]).contains(&"speaker c".into()));
    }
}

#[test]
fn a_speaker_who_leaves_is_followed_by_the_loudest() {
    let mut talk = Talk::of(&["a", "b", "c"]);
    talk.goes_on(100, &[("a", -20), ("b", -40), ("c", -35)]);
    talk.room.unpublish(talk.now, "a");
    assert_eq!(told(&mut talk.room), ["a silent", "speaker c", "a off", "-a"]);
    talk.room.unpublish(talk.now, "b");
    talk.room.unpublish(talk.now, "c");
    let told = told(&mut talk.room);
    assert_eq!(told, ["b silent", "b off", "-b", "c silent", "speaker none", "c off", "-c"]);
    assert!(talk.room.is_empty() && talk.room.speaker().is_none());
}

#[test]
fn of_two_who_begin_at_once_and_alike_one_is_the_speaker() {
    let mut talk = Talk::of(&["a", "b"]);
    let told = talk.goes_on(5_000, &[("a", -30), ("b", -30)]);
    assert_eq!(told, ["a speaks", "b speaks", "speaker a"]);
}

async fn publish(engine: &Engine, name: &str) -> Publisher {
    let key: StreamKey = format!("rooms/{name}").parse().unwrap();
    let mut publisher = engine.publish(PublishRequest::internal(key, "test")).await.unwrap();
    let track = Track::new(TrackId::AUDIO, CodecId::Opus, CodecConfig::None);
    publisher.set_tracks(TrackSet::new([track])).unwrap();
    publisher
}

/// Everything that has happened so far, in short.
async fn heard(receiver: &mut RoomReceiver) -> Vec<String> {
    let mut told = Vec::new();
    // The clock stands still while there is something to do.
    while let Ok(Some(item)) = tokio::time::timeout(Duration::from_millis(1), receiver.next()).await {
        match item {
            RoomItem::Event(room, event) => told.push(format!("{room}: {}", short(&event))),
            RoomItem::Lost(lost) => told.push(format!("lost {lost}")),
        }
    }
    told
}

/// Packets of 20 ms, so loud, for so long.
async fn speak(publisher: &mut Publisher, (from, packets): (i64, i64), dbov: i8) {
    for n in from..from + packets {
        let frame = MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(n * 20), b"opus"[..].into());
        publisher.publish(frame).unwrap();
        publisher.handle_level(TrackId::AUDIO, AudioLevel::new(dbov));
        tokio::time::advance(Duration::from_millis(20)).await;
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_publishes_in_a_room_is_in_it_and_is_heard() {
    let engine = Engine::builder().build();
    let before = publish(&engine, "standup/early").await;
    let rooms = Rooms::of(&engine, "rooms", RoomLimits::default());
    assert_eq!(rooms.members("standup").len(), 1, "whoever was there before");
    let mut receiver = rooms.events();
    let carol = rooms.join("standup", "carol").unwrap();
    let mut alice = publish(&engine, "standup/alice").await;
    let mut elsewhere = publish(&engine, "other/room/alice").await;
    let lobby = publish(&engine, "alone").await;
    let told = heard(&mut receiver).await;
    let both = ["standup: +alice", "standup: alice on", "other/room: +alice", "other/room: alice on"];
    assert_eq!((&*told[0], &told[1..]), ("standup: +carol", &both.map(String::from)[..]));
    assert_eq!(rooms.names().iter().map(|name| &**name).collect::<Vec<_>>(), ["other/room", "standup"]);
    let others: Vec<_> = carol.others().iter().map(|member| member.key.to_string()).collect();
    assert_eq!(others, ["rooms/standup/alice", "rooms/standup/early"]);

    speak(&mut alice, (0, 50), -25).await;
    assert_eq!(heard(&mut receiver).await, ["standup: alice speaks", "standup: speaker alice"]);
    let levels = alice.stream().levels();
    assert!(
        matches!(&levels[..], [(TrackId::AUDIO, level)] if (-26..=-25).contains(&level.mean_dbov)),
        "{levels:?}"
    );
    speak(&mut elsewhere, (0, 50), -90).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(heard(&mut receiver).await, ["standup: alice silent"]);
    assert_eq!(&*rooms.speaker("standup").unwrap().name, "alice");

    drop(alice);
    assert_eq!(
        heard(&mut receiver).await,
        ["standup: speaker none", "standup: alice off", "standup: -alice"]
    );
    drop((carol, before, lobby, elsewhere));
    heard(&mut receiver).await;
    assert!(rooms.names().is_empty());
    drop(rooms);
    assert!(receiver.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn publishers_for_whom_there_is_no_room_are_let_go_and_others_stay() {
    let engine = Engine::builder().build();
    let limits = RoomLimits { max_rooms: 2, max_members: 2 };
    let rooms = Rooms::of(&engine, "rooms", limits);
    let seat = rooms.join("a", "reader").unwrap();
    assert!(matches!(rooms.join("a", "reader"), Err(RoomError::Taken)));
    let first = publish(&engine, "a/first").await;
    let second = publish(&engine, "a/second").await;
    assert_eq!(second.revoked().await, CloseReason::Limit("room_members"));
    let other = publish(&engine, "b/first").await;
    let third = publish(&engine, "c/first").await;
    assert_eq!(third.revoked().await, CloseReason::Limit("rooms"));
    assert!(matches!(rooms.join("c", "x"), Err(RoomError::TooMany)));
    assert!(matches!(rooms.join("..", "x"), Err(RoomError::TooMany)));
    assert_eq!((first.close_reason(), other.close_reason()), (None, None));
    drop((seat, other, second));
    // Once there is room again, there is.
    let again = publish(&engine, "a/second").await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(again.close_reason(), None);
    assert_eq!(rooms.members("a").len(), 2);
    assert!(matches!(rooms.join("..", "x"), Err(RoomError::Name(NameError::Traversal))));
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_comes_back_is_a_member_again() {
    let engine = Engine::builder().build();
    let rooms = Rooms::of(&engine, "rooms", RoomLimits::default());
    let mut receiver = rooms.events();
    for _ in 0..2 {
        let publisher = publish(&engine, "a/b").await;
        assert_eq!(heard(&mut receiver).await, ["a: +b", "a: b on"]);
        drop(publisher);
        assert_eq!(heard(&mut receiver).await, ["a: b off", "a: -b"]);
    }
    let publisher = publish(&engine, "a/b").await;
    heard(&mut receiver).await;
    engine.drain();
    assert_eq!(heard(&mut receiver).await, ["a: b off", "a: -b"]);
    drop(publisher);
}

#[tokio::test(start_paused = true)]
async fn levels_of_who_stands_by_and_of_pictures_count_for_nothing() {
    let app = crate::AppSpec::new("rooms").takeover(crate::Takeover::Standby);
    let engine = Engine::builder().app(app).build();
    let mut main = publish(&engine, "a/b").await;
    let mut backup = publish(&engine, "a/b").await;
    speak(&mut main, (0, 50), -30).await;
    backup.handle_level(TrackId::AUDIO, AudioLevel::new(0));
    main.handle_level(TrackId::VIDEO, AudioLevel::new(0));
    let levels = main.stream().levels();
    assert!(
        matches!(&levels[..], [(TrackId::AUDIO, level)] if (-31..=-30).contains(&level.mean_dbov)),
        "{levels:?}"
    );
    drop(main);
    assert!(backup.stream().levels().is_empty(), "nobody is on air");
}
