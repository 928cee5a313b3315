//! Log lines: text or JSON on stderr, with UTC time to the millisecond, written by a thread of their own.

mod queue;

use core::fmt;
use std::io::IsTerminal as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use arcly_core::wall::Rfc3339;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::{ConfigError, LogConfig, LogFormat};
use queue::{Lines, Queue};

/// How long the end of the process waits for somebody to read what was logged.
const FLUSH: Duration = Duration::from_secs(1);

/// The process's log, once it was started.
static QUEUE: OnceLock<Arc<Queue>> = OnceLock::new();

/// Replaces the filter of the process's log, once that was started.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Starts logging; the first call in a process counts.
///
/// # Errors
/// The filter cannot be understood, or there is no thread for the log.
pub fn init(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = parse(config)?;
    if QUEUE.get().is_some() {
        return Ok(());
    }
    let queue = Queue::start(std::io::stderr()).map_err(|error| ConfigError::new(format!("log: {error}")))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_writer(Lines(Arc::clone(QUEUE.get_or_init(|| queue))))
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    match config.format {
        LogFormat::Text => {
            let builder = builder.with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _ = SET_FILTER.set(Box::new(move |filter| _ = handle.reload(filter)));
            }
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            if builder.try_init().is_ok() {
                let _ = SET_FILTER.set(Box::new(move |filter| _ = handle.reload(filter)));
            }
        }
    }
    Ok(())
}

/// Waits, for a second at most, until everything that was logged is written: for the end of the process, after which nobody
/// writes it any more.
pub fn flush() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(FLUSH);
    }
}

/// Lines that were not written because stderr takes them too slowly, or not at all.
#[must_use]
pub fn lost_lines() -> u64 {
    QUEUE.get().map_or(0, |queue| queue.lost())
}

/// A filter that was understood and may be put in force.
#[derive(Debug)]
pub(crate) struct Filter(EnvFilter);

impl Filter {
    /// The configured one.
    ///
    /// # Errors
    /// It cannot be understood.
    pub(crate) fn new(config: &LogConfig) -> Result<Self, ConfigError> {
        parse(config).map(Self)
    }

    /// Puts it in force, if this process's log is ours.
    pub(crate) fn apply(self) {
        if let Some(set) = SET_FILTER.get() {
            set(self.0);
        }
    }
}

fn parse(config: &LogConfig) -> Result<EnvFilter, ConfigError> {
    EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|error| ConfigError::new(format!("log.filter: `{}`: {error}", config.filter)))
}

/// RFC 3339 in UTC with milliseconds.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", Rfc3339(SystemTime::now()))
    }
}
