use super::*;
use crate::net::Pieces;
use bytes::Bytes;

/// Sends a byte each second and counts what it gets; fails on 0xFF, saying good-bye first.
struct Beeper {
    next: Instant,
    out: VecDeque<Output<usize>>,
    got: usize,
}

#[derive(Debug, PartialEq)]
struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("0xFF")
    }
}

impl std::error::Error for Refused {}

impl Beeper {
    fn new(clock: &Clock) -> Self {
        Self { next: clock.now() + Duration::from_secs(1), out: VecDeque::new(), got: 0 }
    }
}

impl Machine for Beeper {
    type Event = usize;
    type Error = Refused;

    fn handle_input(&mut self, _: Instant, input: &[u8]) -> Result<(), Refused> {
        self.got += input.len();
        self.out.push_back(Output::Event(self.got));
        if input.contains(&0xFF) {
            self.out.push_back(Output::Transmit(Bytes::from_static(b"bye")));
            return Err(Refused);
        }
        Ok(())
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Refused> {
        while self.next <= now {
            self.out.push_back(Output::Transmit(Bytes::from_static(b"x")));
            self.next += Duration::from_secs(1);
        }
        Ok(())
    }

    fn poll_output(&mut self) -> Output<usize> {
        self.out.pop_front().unwrap_or(Output::Wait(Some(self.next)))
    }
}

fn pair() -> Pair<Beeper, Beeper> {
    let clock = Clock::new();
    Pair::new(clock, Beeper::new(&clock), Beeper::new(&clock))
}

#[test]
fn time_outs_fire_at_their_instant_and_not_before() {
    let mut pair = pair();
    pair.run_for(Duration::from_millis(999));
    assert_eq!(pair.server.machine.got, 0);
    pair.run_for(Duration::from_millis(1));
    assert_eq!((pair.client.machine.got, pair.server.machine.got), (1, 1));
    pair.run_for(Duration::from_secs(3_600));
    assert_eq!((pair.client.machine.got, pair.server.machine.got), (3_601, 3_601));
    assert_eq!(pair.clock.elapsed(), Duration::from_secs(3_601));
}

#[test]
fn settling_takes_only_the_time_that_bytes_need() {
    let mut pair = pair();
    let ms = Duration::from_millis;
    pair.to_server = StreamLink::new(3).with_delay(ms(40), ms(0)).with_pieces(Pieces::Fixed(1));
    pair.client.machine.out.push_back(Output::Transmit(Bytes::from_static(b"hello")));
    pair.settle();
    assert_eq!(pair.clock.elapsed(), ms(40));
    assert_eq!(pair.server.events, [1, 2, 3, 4, 5], "byte by byte");
}

#[test]
fn a_machine_that_failed_still_says_goodbye_and_takes_no_more() {
    let mut pair = pair();
    pair.client.machine.out.push_back(Output::Transmit(Bytes::from_static(&[0xFF])));
    pair.settle();
    assert_eq!(pair.server.error, Some(Refused));
    assert_eq!(pair.client.machine.got, 3, "bye");
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.server.machine.got, 1);
    assert_eq!(pair.client.machine.got, 3, "a failed machine's timers are off");
}
