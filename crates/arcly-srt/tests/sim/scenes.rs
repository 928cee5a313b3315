//! What happens to a connection: the path breaks, a peer vanishes, bits change, both sides call.

use std::time::Duration;

use arcly_core::Phase;
use arcly_srt::wire::SeqNumber;
use arcly_srt::{Bandwidth, Config, SessionError, TransmissionMode};
use bytes::Bytes;

use crate::net::Path;
use crate::world::{Media, Outcome, Setup, World};

const LATENCY: u64 = 120;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn path() -> Path {
    Path { delay: ms(20), ..Path::default() }
}

fn set_down(world: &mut World, down: bool) {
    world.to_callee.path.down = down;
    world.to_caller.path.down = down;
}

/// Media before, during and after an outage. Says how many packets were lost, and what ended the connection, if anything.
fn outage(length: Duration) -> (u64, World) {
    let mut world = World::new(Setup::new(3, path(), LATENCY));
    world.connect();
    let mut media = Media::TABLE;
    media.run(&mut world, ms(2_000));
    set_down(&mut world, true);
    media.run(&mut world, length);
    set_down(&mut world, false);
    media.run(&mut world, ms(2_000));
    world.run_for(ms(1_000));
    let outcome = Outcome::of(&mut world, media.size, |_| None);
    assert_eq!((outcome.out_of_order, outcome.changed), (0, 0));
    (media.sent - outcome.received, world)
}

#[test]
fn f51_an_outage_of_half_the_latency_loses_nothing() {
    let (lost, world) = outage(ms(LATENCY / 2));
    assert_eq!((lost, &world.caller.error), (0, &None));
}

/// What is repeated after the path is back, and before what follows is due, is handed over late.
#[test]
fn f51_an_outage_of_twice_the_latency_loses_no_more_than_itself() {
    let (lost, world) = outage(ms(2 * LATENCY));
    assert!(lost <= 2 * LATENCY * 10 / 25, "{lost}");
    assert_eq!((&world.caller.error, &world.callee.error), (&None, &None));
}

#[test]
fn f51_four_seconds_lose_what_was_too_late_and_it_goes_on() {
    let (lost, world) = outage(ms(4_000));
    assert!(lost > 0 && lost <= 1_616, "{lost} of 1 600");
    assert_eq!((&world.caller.error, &world.callee.error), (&None, &None));
}

#[test]
fn f51_f04_ten_seconds_end_it_and_the_caller_comes_back() {
    let mut world = World::new(Setup::new(3, path(), LATENCY));
    world.connect();
    let mut media = Media::TABLE;
    media.run(&mut world, ms(1_000));
    set_down(&mut world, true);
    let silent = world.now;
    media.run(&mut world, ms(4_900));
    assert_eq!((&world.caller.error, &world.callee.error), (&None, &None));
    while world.callee.error.is_none() || world.caller.error.is_none() {
        world.run_for(ms(10));
        assert!(world.now - silent <= ms(5_050), "{:?}", world.callee.error);
    }
    let idle = SessionError::Timeout(Phase::Idle);
    assert_eq!((&world.caller.error, &world.callee.error), (&Some(idle.clone()), &Some(idle)));
    world.run_for(ms(5_000));
    set_down(&mut world, false);
    world.call(Config::default(), 61, SeqNumber::new(9));
    world.connect();
    world.callee.messages.clear();
    let mut again = Media::TABLE;
    again.run(&mut world, ms(1_000));
    world.run_for(ms(1_000));
    assert_eq!(Outcome::of(&mut world, again.size, |_| None).received, again.sent);
}

#[test]
fn a_goodbye_is_heard_at_once() {
    let mut world = World::new(Setup::new(4, path(), LATENCY));
    world.connect();
    let mut media = Media::TABLE;
    media.run(&mut world, ms(500));
    world.close_caller();
    world.run_for(ms(21));
    assert_eq!(world.callee.error, Some(SessionError::PeerClosed));
    assert_eq!(Outcome::of(&mut world, media.size, |_| None).received, media.sent, "with all that had come");
}

#[test]
fn s34_changed_bits_end_nothing_for_long() {
    for seed in 1..=4 {
        let mut world = World::new(Setup::new(seed, Path { flip_ppm: 10_000, ..path() }, LATENCY));
        world.connect();
        let mut media = Media::TABLE;
        media.run(&mut world, Duration::from_secs(15));
        world.run_for(ms(1_000));
        assert_eq!((&world.caller.error, &world.callee.error), (&None, &None), "seed {seed}");
        let outcome = Outcome::of(&mut world, media.size, |_| None);
        // What has changed in the payload comes through, as UDP's checksum would have caught it.
        let lost = media.sent - outcome.received - outcome.changed;
        assert!(lost * 200 <= media.sent, "seed {seed}: {lost} of {}", media.sent);
        assert_eq!(outcome.out_of_order, 0, "seed {seed}");
    }
}

#[test]
fn both_sides_may_call() {
    for seed in 1..=8 {
        let lossy = Path { loss_ppm: 100_000, ..path() };
        let mut world = World::new(Setup { rendezvous: true, ..Setup::new(seed, lossy, 320) });
        world.connect();
        let mut media = Media::TABLE;
        media.run(&mut world, ms(2_000));
        world.run_for(ms(1_000));
        let outcome = Outcome::of(&mut world, media.size, |_| None);
        assert_eq!((outcome.received, outcome.out_of_order), (media.sent, 0), "seed {seed}");
    }
}

#[test]
fn connecting_survives_loss() {
    for seed in 1..=20 {
        let lossy = Path { loss_ppm: 200_000, ..path() };
        let mut setup = Setup::new(seed, lossy, LATENCY);
        setup.caller.connect_timeout = Duration::from_secs(10);
        World::new(setup).connect();
    }
}

#[test]
fn nobody_there_is_a_time_out_of_the_handshake() {
    let mut world = World::new(Setup::new(1, Path { down: true, ..path() }, LATENCY));
    world.run_for(ms(2_999));
    assert_eq!(world.caller.error, None);
    world.run_for(ms(2));
    assert_eq!(world.caller.error, Some(SessionError::Timeout(Phase::Handshake)));
}

#[test]
fn a_smaller_mtu_on_the_way_loses_large_packets_and_nothing_else() {
    let mut world = World::new(Setup::new(1, path(), LATENCY));
    world.connect();
    let mut small = Media { size: 600, ..Media::TABLE };
    small.run(&mut world, ms(500));
    world.to_callee.path.mtu = 1_000;
    let mut large = Media::TABLE;
    large.run(&mut world, ms(500));
    small.run(&mut world, ms(500));
    world.run_for(ms(1_500));
    assert_eq!((&world.caller.error, &world.callee.error), (&None, &None));
    assert_eq!(Outcome::of(&mut world, small.size, |_| None).received, small.sent);
}

#[test]
fn the_bandwidth_that_was_allowed_is_kept() {
    let mut setup = Setup::new(1, path(), LATENCY);
    setup.caller.bandwidth = Bandwidth::Max { bytes_per_second: 300_000 };
    let mut world = World::new(setup);
    world.connect();
    let mut media = Media::TABLE;
    media.run(&mut world, ms(3_000));
    let totals = world.caller.connection().statistics(world.now).totals;
    let wire = totals.byte_sent + totals.pkt_sent * 44;
    assert!((850_000..=920_000).contains(&wire), "{wire} bytes in 3 s");
    assert!(totals.pkt_snd_drop > 0, "and what waits for too long is dropped");
}

#[test]
fn a_file_arrives_whole_whatever_the_path() {
    for (seed, path) in [
        (1, path()),
        (2, Path { loss_ppm: 20_000, duplicate_ppm: 10_000, ..path() }),
        (3, Path { rate: 1_000_000, ..path() }),
    ] {
        let mut setup = Setup::new(seed, path, LATENCY);
        setup.caller.mode = TransmissionMode::File;
        setup.caller.linger = Duration::from_secs(30);
        setup.listener.mode = TransmissionMode::File;
        let mut world = World::new(setup);
        world.connect();
        let file: Vec<u8> = (0..2_000_000_u32).map(|n| ((n * 31) >> 5) as u8).collect();
        let mut rest = Bytes::from(file.clone());
        while !rest.is_empty() {
            while world.caller.connection().send_room() > 16 && !rest.is_empty() {
                world.send(rest.split_to(rest.len().min(16_384)));
            }
            world.run_for(ms(10));
            assert!(world.now - world.start < Duration::from_secs(60), "seed {seed}: it does not get on");
        }
        world.close_caller();
        world.run_for(Duration::from_secs(31));
        assert_eq!(world.callee.error, Some(SessionError::PeerClosed), "seed {seed}");
        let got: Vec<u8> = world.callee.messages.iter().flat_map(|(_, m)| m.payload.to_vec()).collect();
        assert!(got == file, "seed {seed}: {} bytes of {}", got.len(), file.len());
    }
}
