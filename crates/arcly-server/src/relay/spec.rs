//! What a relay is to be, checked as far as that goes without trying.

use std::time::Duration;

use super::Endpoint;
use crate::config::RelayConfig;

/// How long a pull that is on demand goes on without readers, unless it is configured.
const CLOSE_AFTER: Duration = Duration::from_secs(10);

/// What a relay is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelaySpec {
    /// Where it reads.
    pub from: Endpoint,
    /// Where it writes.
    pub to: Endpoint,
    /// It pulls only while somebody reads its stream, and so long after; `None` for always.
    pub close_after: Option<Duration>,
}

/// A key of a relay's configuration, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {why}")]
pub struct WrongSpec {
    /// The key.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl RelaySpec {
    /// Checks a relay of the configuration, or of the API.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn new(config: &RelayConfig) -> Result<Self, WrongSpec> {
        let wrong = |key| move |why| WrongSpec { key, why };
        let from = Endpoint::parse_remote(&config.from).map_err(wrong("from"))?;
        let to = Endpoint::parse_remote(&config.to).map_err(wrong("to"))?;
        Endpoint::check_pair(&from, &to).map_err(wrong("to"))?;
        if config.on_demand && !matches!(to, Endpoint::Stream(_)) {
            return Err(wrong("on_demand")("only what is pulled can be on demand".into()));
        }
        if config.close_after.is_some() && !config.on_demand {
            return Err(wrong("close_after")("only with on_demand = true; others are never closed".into()));
        }
        let close_after = config.close_after.map_or(CLOSE_AFTER, |span| span.0);
        Ok(Self { from, to, close_after: config.on_demand.then_some(close_after) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Span;

    #[test]
    fn what_can_be_on_demand() {
        let spec = |from: &str, to: &str, on_demand, close_after: Option<u64>| {
            let close_after = close_after.map(Span::secs);
            let config = RelayConfig { from: from.into(), to: to.into(), on_demand, close_after };
            RelaySpec::new(&config).map(|spec| spec.close_after).map_err(|wrong| wrong.key)
        };
        let (url, secs) = ("rtmp://h/live/a", Duration::from_secs);
        assert_eq!(spec(url, "live/a", false, None), Ok(None));
        assert_eq!(spec(url, "live/a", true, None), Ok(Some(secs(10))));
        assert_eq!(spec(url, "live/a", true, Some(0)), Ok(Some(secs(0))));
        assert_eq!(spec("live/b", "live/a", true, Some(3)), Ok(Some(secs(3))));
        assert_eq!(spec(url, "live/a", false, Some(3)), Err("close_after"));
        assert_eq!(spec("live/a", url, true, None), Err("on_demand"));
        assert_eq!(spec("gopher://h/a", "live/a", true, None), Err("from"));
        assert_eq!(spec(url, url, true, None), Err("to"));
    }
}
