//! A minute over each bad path with a latency of four round trips: every byte arrives.

use std::time::Duration;

use crate::net::Path;
use crate::world::{Media, Outcome, Setup, World};

/// 100 packets of 1 316 bytes a second: a minute is 7.9 MB.
const MEDIA: Media = Media { interval: Duration::from_millis(10), size: 1_316, sent: 0 };
const SPAN: Duration = Duration::from_secs(60);

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// What did not arrive, of so much as was sent.
fn lost(path: Path, seed: u64) -> u64 {
    let latency = u64::try_from(path.delay.as_millis()).unwrap() * 2 * 4;
    let mut setup = Setup::new(seed, path, latency);
    setup.caller.connect_timeout = Duration::from_secs(10);
    let mut world = World::new(setup);
    world.connect();
    let mut media = MEDIA;
    media.run(&mut world, SPAN);
    world.run_for(ms(latency + 1_000));
    assert_eq!((&world.caller.error, &world.callee.error), (&None, &None), "{path:?}");
    let outcome = Outcome::of(&mut world, media.size, |_| None);
    // In its order and unchanged: what arrives whole is the same bytes.
    assert_eq!((outcome.out_of_order, outcome.changed), (0, 0), "{path:?}");
    media.sent - outcome.received
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
                assert_eq!(lost(path, rtt + u64::from(loss)), 0, "rtt {rtt}, {loss} %, ±{jitter} ms");
            }
        }
    }
}

#[test]
fn a_minute_of_bursts_arrives_whole() {
    for rtt in [30, 100, 200] {
        for loss in [2, 5] {
            let path = Path { loss_ppm: loss * 10_000, burst: 4, delay: ms(rtt / 2), ..Path::default() };
            assert_eq!(lost(path, rtt + u64::from(loss)), 0, "rtt {rtt}, {loss} % in bursts of 4");
        }
    }
}
