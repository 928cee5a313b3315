//! A bounded queue of log lines, and the thread that writes them.
//!
//! Whoever logs never waits for whoever reads the log: a pipe that nobody empties would stop the runtime's threads one after
//! the other, and every stream with them. A line that finds no room is counted, and the number is logged once there is room.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tracing_subscriber::fmt::MakeWriter;

/// Bytes of lines that wait to be written: some thousands of lines, which is what a burst of disconnections makes.
pub(super) const MAX_WAITING: usize = 1 << 20;
/// What the thread keeps of its buffer after a burst.
const KEPT: usize = 64 << 10;

#[derive(Debug, Default)]
struct State {
    /// Whole lines.
    waiting: Vec<u8>,
    /// Lines that found no room since this was last said.
    unsaid: u64,
    /// The thread has taken lines and not written them yet.
    is_writing: bool,
}

/// Lines on their way to where they are read.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// There are lines.
    filled: Condvar,
    /// All lines are written.
    emptied: Condvar,
    lost: AtomicU64,
}

impl Queue {
    /// Starts the thread, which lasts as long as the process.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let writer = Arc::clone(&queue);
        std::thread::Builder::new().name("log".into()).spawn(move || writer.run(out))?;
        Ok(queue)
    }

    /// Puts a line into the queue, if there is room for it. Never waits for `out`.
    fn push(&self, line: &[u8]) {
        let mut state = self.state.lock();
        if state.waiting.len().saturating_add(line.len()) > MAX_WAITING {
            state.unsaid += 1;
            drop(state);
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let is_first = state.waiting.is_empty();
        state.waiting.extend_from_slice(line);
        drop(state);
        if is_first {
            self.filled.notify_one();
        }
    }

    /// Lines that found no room so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, or `limit` is over. True when it is.
    pub(super) fn flush(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        let mut state = self.state.lock();
        while state.is_writing || !state.waiting.is_empty() {
            if self.emptied.wait_until(&mut state, end).timed_out() {
                return false;
            }
        }
        true
    }

    fn run(&self, mut out: impl Write) {
        let mut lines = Vec::new();
        loop {
            let lost = self.take(&mut lines);
            // Where it cannot be written to there is nobody to be told.
            let _ = out.write_all(&lines).and_then(|()| out.flush());
            lines.clear();
            lines.shrink_to(KEPT);
            if lost > 0 {
                tracing::warn!(lost, "log lines were lost: they came faster than they were read");
            }
        }
    }

    /// Waits for lines, and takes them all. Returns how many were lost besides.
    fn take(&self, lines: &mut Vec<u8>) -> u64 {
        let mut state = self.state.lock();
        state.is_writing = false;
        while state.waiting.is_empty() {
            self.emptied.notify_all();
            self.filled.wait(&mut state);
        }
        state.is_writing = true;
        core::mem::swap(lines, &mut state.waiting);
        core::mem::take(&mut state.unsaid)
    }
}

/// What a subscriber formats its lines into.
#[derive(Clone, Debug)]
pub(super) struct Lines(pub(super) Arc<Queue>);

/// One line, which comes in one write.
#[derive(Debug)]
pub(super) struct Line<'a>(&'a Queue);

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;
    fn make_writer(&'a self) -> Line<'a> {
        Line(&self.0)
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.push(line);
        Ok(line.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    /// A pipe that takes a write whenever the test says so, and shows what it took.
    struct Pipe {
        gate: mpsc::Receiver<()>,
        taken: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Open for good once the test has let go of its end.
            let _ = self.gate.recv();
            let _ = self.taken.send(bytes.to_vec());
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_pipe_that_nobody_reads_costs_lines_and_no_time() {
        let (open, gate) = mpsc::channel();
        let (taken, seen) = mpsc::channel();
        let queue = Queue::start(Pipe { gate, taken }).unwrap();
        let lines = Lines(Arc::clone(&queue));
        let log = |text: &str| Write::write_all(&mut lines.make_writer(), text.as_bytes()).unwrap();
        log("first\n");
        // The thread has it, and stands at the gate.
        while !queue.state.lock().is_writing {
            std::thread::yield_now();
        }
        let line = format!("{}\n", "x".repeat(1_023));
        let fit = MAX_WAITING / line.len();
        (0..fit + 10).for_each(|_| log(&line));
        assert_eq!(queue.lost(), 10);
        assert!(!queue.flush(Duration::from_millis(1)), "it is not written yet");
        drop(open);
        assert!(queue.flush(SOON));
        let all: Vec<u8> = seen.try_iter().flatten().collect();
        assert!(all.starts_with(b"first\n"));
        assert_eq!(all.len(), b"first\n".len() + fit * line.len(), "what found room is written, in order");
        assert_eq!(queue.state.lock().unsaid, 0, "and what did not was said");
    }

    #[test]
    fn a_line_is_written_without_another_behind_it() {
        let (open, gate) = mpsc::channel();
        let (taken, seen) = mpsc::channel();
        let queue = Queue::start(Pipe { gate, taken }).unwrap();
        drop(open);
        for text in ["one\n", "two\n"] {
            Lines(Arc::clone(&queue)).make_writer().write_all(text.as_bytes()).unwrap();
            assert_eq!(seen.recv_timeout(SOON).unwrap(), text.as_bytes());
        }
        assert!(queue.flush(SOON));
    }
}
