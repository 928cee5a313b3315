//! File congestion control (draft section 5.2): as fast as the path carries.

use std::time::Duration;

use crate::session::clock::micros;

/// The rate is looked at so often.
const RC_INTERVAL: i64 = 10_000;
/// The window of a connection that begins.
const INITIAL_WINDOW: f64 = 16.0;
/// Between two packets while nothing is known: no time.
const INITIAL_PERIOD: f64 = 1.0;
/// A period does not grow beyond a packet a second, however much is lost.
const MAX_PERIOD: f64 = 1_000_000.0;
/// Each decrease within one congestion.
const DECREASE: f64 = 1.03;
const MAX_DECREASES: u32 = 5;

/// What an acknowledgement says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// Packets that are newly acknowledged.
    pub(super) acked: u64,
    pub(super) rtt: Duration,
    /// Packets a second that arrive; 0 when nobody knows.
    pub(super) receiving: u32,
    /// Packets a second that the path is thought to carry.
    pub(super) capacity: u32,
}

/// Slow start, then additive increase and multiplicative decrease of the rate.
#[derive(Debug)]
pub(super) struct FileCc {
    slow_start: bool,
    window: f64,
    max_window: f64,
    /// Microseconds between packets.
    period: f64,
    last_decrease: f64,
    rate_changed: i64,
    /// Something was lost since the rate was raised.
    lost: bool,
    receiving: f64,
    rtt: f64,
    /// Bytes of a full packet.
    packet: f64,
    congestion: Congestion,
}

/// What goes on since the last packet that was sent when the rate was lowered.
#[derive(Debug, Default)]
struct Congestion {
    /// Its index: later losses are of another congestion.
    last_sent: u64,
    naks: u32,
    average_naks: f64,
    decreases: u32,
    /// Every so many loss reports lower the rate again.
    every: u32,
}

impl FileCc {
    pub(super) fn new(max_window: u32, mss: usize) -> Self {
        Self {
            slow_start: true,
            window: INITIAL_WINDOW,
            max_window: f64::from(max_window),
            period: INITIAL_PERIOD,
            last_decrease: INITIAL_PERIOD,
            rate_changed: 0,
            lost: false,
            receiving: 0.0,
            rtt: 100_000.0,
            packet: mss as f64,
            congestion: Congestion { every: 1, ..Congestion::default() },
        }
    }

    /// Packets in flight.
    pub(super) fn window(&self) -> usize {
        // Between 16 and 25 600.
        self.window.clamp(INITIAL_WINDOW, self.max_window.max(INITIAL_WINDOW)) as usize
    }

    /// Microseconds until the next packet.
    pub(super) fn interval(&self) -> i64 {
        self.period.clamp(0.0, MAX_PERIOD) as i64
    }

    pub(super) fn handle_ack(&mut self, now: i64, report: Report) {
        let weighted = |old: f64, new: u32| {
            if old > 0.0 { (old * 7.0 + f64::from(new)) / 8.0 } else { f64::from(new) }
        };
        if report.receiving > 0 {
            self.receiving = weighted(self.receiving, report.receiving);
        }
        self.rtt = micros(report.rtt) as f64;
        if now - self.rate_changed < RC_INTERVAL {
            return;
        }
        self.rate_changed = now;
        if self.slow_start {
            self.window += report.acked as f64;
            if self.window > self.max_window {
                self.end_slow_start();
            }
            return;
        }
        self.window = self.receiving * (self.rtt + RC_INTERVAL as f64) / 1_000_000.0 + INITIAL_WINDOW;
        if std::mem::take(&mut self.lost) {
            return;
        }
        self.increase(f64::from(report.capacity));
    }

    /// The more of the capacity is left, the larger the step.
    fn increase(&mut self, capacity: f64) {
        let by_loss = 2.0 * 1_000_000.0 / self.last_decrease;
        let capacity = capacity.min(by_loss);
        let mut spare = capacity - 1_000_000.0 / self.period;
        if self.period > self.last_decrease && capacity / 9.0 < spare {
            spare = capacity / 9.0;
        }
        let least = 1.0 / self.packet;
        let increase = if spare <= 0.0 {
            least
        } else {
            (10_f64.powf((spare * self.packet * 8.0).log10().ceil()) * 0.000_001_5 / self.packet).max(least)
        };
        let interval = RC_INTERVAL as f64;
        self.period = (self.period * interval) / (self.period * increase + interval);
    }

    fn end_slow_start(&mut self) {
        self.slow_start = false;
        self.period = if self.receiving > 0.0 {
            1_000_000.0 / self.receiving
        } else {
            (self.rtt + RC_INTERVAL as f64) / self.window
        };
    }

    /// The peer misses packets, the last of them with index `lost`; `sent` is the last that was sent. `random` of 0 to 1.
    pub(super) fn handle_loss(&mut self, lost: u64, sent: u64, random: f64) {
        if self.slow_start {
            self.end_slow_start();
        }
        self.lost = true;
        let c = &mut self.congestion;
        if lost > c.last_sent {
            self.last_decrease = self.period;
            self.period *= DECREASE;
            c.average_naks = c.average_naks * 0.97 + f64::from(c.naks) * 0.03;
            c.naks = 1;
            c.decreases = 1;
            c.last_sent = sent;
            // At random, so that flows that share a path do not all slow down together.
            c.every = (1.0 + c.average_naks * random).round().clamp(1.0, 1_000.0) as u32;
            return;
        }
        c.naks = c.naks.saturating_add(1);
        if c.decreases <= MAX_DECREASES && c.naks.is_multiple_of(c.every) {
            c.decreases += 1;
            c.last_sent = sent;
            self.period *= DECREASE;
        }
        self.period = self.period.min(MAX_PERIOD);
    }

    /// Nothing was acknowledged for too long.
    pub(super) fn handle_timeout(&mut self) {
        if self.slow_start {
            self.end_slow_start();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: Report =
        Report { acked: 100, rtt: Duration::from_millis(50), receiving: 5_000, capacity: 10_000 };

    #[test]
    fn slow_start_opens_the_window_by_what_is_acknowledged() {
        let mut cc = FileCc::new(25_600, 1_500);
        assert_eq!((cc.window(), cc.interval()), (16, 1));
        cc.handle_ack(5_000, REPORT);
        assert_eq!(cc.window(), 16, "not more often than every 10 ms");
        cc.handle_ack(10_000, REPORT);
        assert_eq!(cc.window(), 116);
    }

    #[test]
    fn a_loss_ends_it_at_the_rate_that_arrives() {
        let mut cc = FileCc::new(25_600, 1_500);
        cc.handle_ack(10_000, REPORT);
        cc.handle_loss(10, 20, 0.5);
        assert_eq!(cc.interval(), 206, "5 000 packets a second, and 3 % less");
        cc.handle_ack(20_000, REPORT);
        assert_eq!(cc.window(), 5_000 * 60 / 1_000 + 16);
    }

    #[test]
    fn the_rate_falls_with_losses_and_rises_without() {
        let mut cc = FileCc::new(25_600, 1_500);
        cc.handle_ack(10_000, REPORT);
        (0..10).for_each(|n| cc.handle_loss(n * 100, n * 100 + 50, 0.5));
        let slow = cc.interval();
        assert!(slow > 250, "{slow}");
        (2..200).for_each(|n| cc.handle_ack(n * 10_000, REPORT));
        assert!(cc.interval() < slow, "{} after {slow}", cc.interval());
    }

    #[test]
    fn nothing_makes_it_stop_for_good() {
        let mut cc = FileCc::new(25_600, 1_500);
        (0..100_000).for_each(|n| cc.handle_loss(n, n, 0.9));
        assert!(cc.interval() <= 1_000_000 && cc.window() >= 16);
        cc.handle_ack(10_000, Report { receiving: 0, capacity: 0, ..REPORT });
        cc.handle_timeout();
        assert!(cc.interval() <= 1_000_000);
    }
}
