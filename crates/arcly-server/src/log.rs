//! Log lines: text or JSON on stderr, with UTC time to the millisecond.

use core::fmt;
use std::io::IsTerminal as _;
use std::time::SystemTime;

use arcly_core::wall::Rfc3339;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use crate::config::{ConfigError, LogConfig, LogFormat};

/// Starts logging; the first call in a process counts.
///
/// # Errors
/// The filter cannot be understood.
pub fn init(config: &LogConfig) -> Result<(), ConfigError> {
    let filter = EnvFilter::builder()
        .parse(&config.filter)
        .map_err(|error| ConfigError::new(format!("log.filter: `{}`: {error}", config.filter)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_timer(Utc)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// RFC 3339 in UTC with milliseconds.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", Rfc3339(SystemTime::now()))
    }
}
