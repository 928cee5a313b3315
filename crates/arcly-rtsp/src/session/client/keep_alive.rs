//! What keeps a session: a request that the server knows, in time.

use std::time::{Duration, Instant};

use crate::wire::{Headers, Method, Status};

/// The longest time between two requests: what lies between may forget a connection that is idle.
const LONGEST: Duration = Duration::from_secs(30);

/// When, and with what.
#[derive(Debug)]
pub(super) struct KeepAlive {
    method: Method,
    due: Option<Instant>,
}

impl KeepAlive {
    pub(super) const fn new() -> Self {
        // Every server knows it, whatever it says.
        Self { method: Method::Options, due: None }
    }

    /// `Public` (RFC 2326 §12.28): what the server knows. GET_PARAMETER without a body does nothing else (§10.8), while some servers
    /// do not count OPTIONS.
    pub(super) fn note_public(&mut self, headers: &Headers) {
        let known = |method: &Method| {
            let names =
                headers.all("Public").chain(headers.all("Allow")).flat_map(|names| names.split([',', ' ']));
            names.map(str::trim).any(|name| name.eq_ignore_ascii_case(method.as_str()))
        };
        let preferred = [Method::GetParameter, Method::Options, Method::SetParameter];
        if let Some(method) = preferred.into_iter().find(known) {
            self.method = method;
        }
    }

    /// The server may forget the session after `timeout`.
    pub(super) fn start(&mut self, now: Instant, timeout: Duration) {
        self.due = timeout.checked_div(2).and_then(|half| now.checked_add(half.min(LONGEST)));
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// What to ask, if it is time; the next time is later by as much.
    pub(super) fn take(&mut self, now: Instant, timeout: Duration) -> Option<Method> {
        self.due.filter(|due| *due <= now)?;
        self.start(now, timeout);
        Some(self.method.clone())
    }

    /// How the server answered. One that said that it knows a method and does not is asked with another.
    pub(super) fn answered(&mut self, status: Status) {
        if !status.is_success() && self.method != Method::Options {
            self.method = Method::Options;
        }
    }
}
