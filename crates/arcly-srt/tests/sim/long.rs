//! Hours on bad paths: nothing sticks, nothing grows, and what wraps does so unseen.

use std::time::{Duration, Instant};

use arcly_testkit::rng::Rng;

use crate::net::Path;
use crate::world::{Media, Outcome, Setup, World};

/// Virtual hours, unless `ARCLY_SRT_SIM_HOURS` says otherwise.
const HOURS: u64 = 6;
const LATENCY: u64 = 500;
/// Packets that one burst beyond all measure takes, and another.
const LUCK: f64 = 10.0;

/// A path that is different for every seed: up to 10 % of loss in bursts, jitter, duplicates.
fn path(rng: &mut Rng) -> Path {
    let below = |rng: &mut Rng, bound: u64| u32::try_from(rng.below(bound)).unwrap();
    Path {
        loss_ppm: below(rng, 100_000),
        burst: below(rng, 4),
        delay: Duration::from_millis(5 + rng.below(60)),
        jitter: Duration::from_millis(rng.below(5)),
        duplicate_ppm: below(rng, 20_000),
        ..Path::default()
    }
}

/// What a path leaves lost of so many packets, when a packet is lost only with everything that was sent to repair it.
///
/// An attempt is a datagram each way. The first is overdue after a round trip and what an acknowledgement may be late; the second
/// waits for the answer to the first, and the others follow in a hurry until the packet is due. Each one fails when the path is
/// still in the burst that took the one before, or the answer is lost.
fn model(path: &Path, packets: u64) -> f64 {
    let loss = f64::from(path.loss_ppm) / 1e6;
    let stays = if path.burst > 1 { 1.0 - 1.0 / f64::from(path.burst) } else { loss };
    let fails = stays + (1.0 - stays) * loss;
    let ms = |span: Duration| span.as_secs_f64() * 1e3;
    let rtt = 2.0 * (ms(path.delay) + ms(path.jitter));
    let overdue = rtt + 4.0 * ms(path.jitter) + 20.0;
    let left = LATENCY as f64 - overdue - rtt;
    let hurried = (left / (rtt / 5.0).max(20.0)).floor().max(0.0);
    let attempts = if left >= 0.0 { 2.0 + hurried } else { 1.0 };
    packets as f64 * loss * fails.powf(attempts)
}

/// An hour of ten packets a second. Says how many packets were lost, and how many may be.
fn hour(seed: u64) -> (u64, f64) {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::new(seed, path(&mut rng), LATENCY);
    setup.drift_ppm = i64::try_from(rng.below(1_001)).unwrap() - 500;
    // A wrap within the first minutes.
    setup.initial_seq = 0x7FFF_FFFF - u32::try_from(rng.below(2_000)).unwrap();
    setup.caller.connect_timeout = Duration::from_secs(10);
    #[cfg(feature = "encryption")]
    if rng.chance(500) {
        use arcly_srt::crypto::{CryptoConfig, Passphrase};
        let passphrase: Passphrase = "correct horse".parse().unwrap();
        let crypto = CryptoConfig::new(passphrase).with_refresh(2_000, 200);
        (setup.caller.crypto, setup.listener.crypto) = (Some(crypto.clone()), Some(crypto));
    }
    let mut world = World::new(setup);
    world.connect();
    let mut media = Media { interval: Duration::from_millis(100), size: 64, sent: 0 };
    let (mut lost, mut taken, mut latest) = (0, 0, Duration::ZERO);
    while media.sent < 36_000 {
        let (from, first) = (world.now, media.sent);
        media.run(&mut world, Duration::from_secs(15));
        let interval = media.interval;
        let at = |n: u64| -> Option<Instant> {
            Some(from + interval * u32::try_from(n.checked_sub(first)?).ok()?)
        };
        let outcome = Outcome::of(&mut world, media.size, at);
        assert_eq!((outcome.out_of_order, outcome.changed), (0, 0), "seed {seed}");
        assert_eq!((&world.caller.error, &world.callee.error), (&None, &None), "seed {seed}");
        taken += outcome.received;
        latest = latest.max(outcome.delay(100));
        for end in [&world.caller, &world.callee] {
            let now = end.connection().statistics(world.now).instant;
            assert!(now.pkt_snd_buf <= 30 && now.pkt_rcv_buf <= 30, "seed {seed}: {now:?}");
        }
    }
    world.run_for(Duration::from_secs(2));
    taken += Outcome::of(&mut world, media.size, |_| None).received;
    lost += media.sent - taken;
    // A packet whose followers are lost, too, is waited for until one of them is due.
    assert!(latest <= Duration::from_millis(LATENCY + 1_500), "seed {seed}: delivered after {latest:?}");
    let model = model(&world.to_callee.path, media.sent);
    if std::env::var_os("ARCLY_SHOW_ROWS").is_some() {
        let repeated = world.caller.connection().statistics(world.now).totals.pkt_retrans;
        println!("{seed}: {lost} lost, model {model:.3}, {repeated} repeated, {:?}", world.to_callee.path);
    }
    (lost, model)
}

#[test]
fn f23_hours_on_bad_paths() {
    let setting = |name, default| std::env::var(name).map_or(default, |text| text.parse().unwrap());
    let (first, hours) = (setting("ARCLY_SRT_SIM_SEED", 1), setting("ARCLY_SRT_SIM_HOURS", HOURS));
    let outcomes: Vec<(u64, f64)> = (first..first + hours).map(hour).collect();
    for (seed, (lost, model)) in (first..).zip(&outcomes) {
        assert!(
            *lost as f64 <= 2.0 * model + LUCK,
            "seed {seed}: {lost} packets lost, {model:.1} of the model"
        );
    }
    let lost: u64 = outcomes.iter().map(|(lost, _)| lost).sum();
    let model: f64 = outcomes.iter().map(|(_, model)| model).sum();
    assert!(lost as f64 <= model + LUCK, "{lost} packets in {hours} hours, {model:.1} of the model");
}

/// Time stamps wrap after 71 minutes and 35 seconds; the clocks are 500 ppm apart.
#[test]
fn f23_time_stamps_wrap_with_clocks_that_drift() {
    for drift_ppm in [-500, 0, 500] {
        let quiet = Path { delay: Duration::from_millis(20), ..Path::default() };
        let mut world = World::new(Setup { drift_ppm, ..Setup::new(1, quiet, LATENCY) });
        world.connect();
        let mut media = Media { interval: Duration::from_secs(1), size: 64, sent: 0 };
        let from = world.now;
        media.run(&mut world, Duration::from_secs(3 * 4_295));
        world.run_for(Duration::from_secs(2));
        let at = |n: u64| u32::try_from(n).ok().map(|n| from + Duration::from_secs(1) * n);
        let outcome = Outcome::of(&mut world, media.size, at);
        assert_eq!(outcome.received, media.sent, "{drift_ppm} ppm");
        // Few packets say little about a clock: it is followed within a few milliseconds.
        let due = Duration::from_millis(LATENCY + 20);
        assert!(outcome.delay(0) + Duration::from_millis(15) >= due, "{:?}", outcome.delay(0));
        assert!(outcome.delay(100) <= due + Duration::from_millis(15), "{:?}", outcome.delay(100));
    }
}
