//! A minute over each bad path with a latency of four round trips: every byte arrives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arcly_srt::session::Message;

use crate::net::Path;
use crate::world::{Media, Outcome, Setup, World};

/// 100 packets of 1 316 bytes a second: a minute is 7.9 MB.
const MEDIA: Media = Media { interval: Duration::from_millis(10), size: 1_316, sent: 0 };
const SPAN: Duration = Duration::from_secs(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// A minute over this path: the world when it is over, when each packet was sent, and those that did not arrive.
fn minute(path: Path, seed: u64) -> (World, Vec<Instant>) {
    let latency = u64::try_from(path.delay.as_millis()).unwrap() * 2 * 4;
    let mut setup = Setup::new(seed, path, latency);
    setup.caller.connect_timeout = Duration::from_secs(10);
    let mut world = World::new(setup);
    world.connect();
    let (mut media, from) = (MEDIA, world.now);
    media.run(&mut world, SPAN);
    world.run_for(ms(latency + 1_000));
    assert_eq!((&world.caller.error, &world.callee.error), (&None, &None), "{path:?}");
    let here: BTreeSet<u64> = world.callee.messages.iter().map(|(_, message)| number(message)).collect();
    let outcome = Outcome::of(&mut world, media.size, |_| None);
    // In its order and unchanged: what arrives whole is the same bytes.
    assert_eq!((outcome.out_of_order, outcome.changed), (0, 0), "{path:?}");
    let missing = (0..media.sent).filter(|n| !here.contains(n));
    let missing = missing.map(|n| from + media.interval * u32::try_from(n).unwrap()).collect();
    (world, missing)
}

fn number(message: &Message) -> u64 {
    u64::from_be_bytes(*message.payload.first_chunk().unwrap())
}

#[test]
fn a_minute_arrives_whole_up_to_ten_percent_of_loss() {
    for rtt in [30, 100, 200] {
        for loss in [0, 2, 5, 10] {
            for jitter in [0, rtt / 20] {
                let path = Path {
                    loss_ppm: loss * 10_000,
                    delay: ms(rtt / 2),
                    jitter: ms(jitter),
                    ..Path::default()
                };
                let (_, missing) = minute(path, rtt + u64::from(loss));
                assert_eq!(missing, [], "rtt {rtt}, {loss} %, ±{jitter} ms");
            }
        }
    }
}

/// Bursts are counted in datagrams: at a hundred of them a second one of twelve is as long as the shortest of these latencies, and
/// nothing helps what was sent in it. What is missing was sent into one that left no time for a round trip and for its being
/// noticed.
#[test]
fn a_minute_of_bursts_arrives_whole() {
    for (rtt, loss, seed) in [30, 100, 200].into_iter().flat_map(|rtt| {
        [2, 5].into_iter().flat_map(move |loss| (0..8).map(move |n| (rtt, loss, rtt + u64::from(loss) + n)))
    }) {
        let path = Path { loss_ppm: loss * 10_000, burst: 4, delay: ms(rtt / 2), ..Path::default() };
        let (world, missing) = minute(path, seed);
        let outages = [world.to_callee.outages, world.to_caller.outages].concat();
        for sent in &missing {
            let excuse = outages.iter().find(|(from, to)| {
                *from <= *sent + ms(rtt * 4) && *to >= *sent && *to - *from >= ms(rtt * 2)
            });
            assert!(excuse.is_some(), "rtt {rtt}, {loss} % in bursts of 4, seed {seed}");
        }
        if std::env::var_os("ARCLY_SHOW_ROWS").is_some() {
            println!("rtt {rtt} ms, {loss} % in bursts of 4, seed {seed}: {} missing", missing.len());
        }
        let most = if (rtt, loss) == (30, 5) { 3 } else { 0 };
        assert!(missing.len() <= most, "rtt {rtt}, {loss} % in bursts of 4, seed {seed}: {}", missing.len());
    }
}
