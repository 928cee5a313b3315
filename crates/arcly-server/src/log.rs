//! Log lines: text or JSON on stderr, with UTC time to the millisecond.

use core::fmt;
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use std::time::SystemTime;

use arcly_core::wall::Rfc3339;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Replaces the filter of the process's log, once that was started.
static SET_FILTER: OnceLock<Box<dyn Fn(EnvFilter) + Send + Sync>> = OnceLock::new();

/// Starts logging; the first call in a process counts.
///
/// # Errors
/// The filter cannot be understood.
pub fn init(config: &LogConfig) -> Result<(), ConfigError> {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(parse(config)?)
        .with_timer(Utc)
        .with_writer(std::io::stderr)
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
