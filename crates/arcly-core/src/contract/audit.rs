//! Who was allowed or refused what: a record for each decision, for those who have to keep one.

use core::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use super::auth::Action;
use crate::close::CloseReason;
use crate::key::StreamKey;
use crate::registry::ClientInfo;

/// What somebody tried to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AuditAction {
    /// Publish, play or call the API.
    Access(Action),
    /// End somebody's session.
    Disconnect,
    /// Start or stop a relay.
    Relay,
    /// Change the configuration.
    Configure,
}

impl fmt::Display for AuditAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Access(action) => action.as_str(),
            Self::Disconnect => "disconnect",
            Self::Relay => "relay",
            Self::Configure => "configure",
        })
    }
}

/// One decision. Holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditRecord {
    /// When.
    pub at: SystemTime,
    /// Who asked.
    pub client: ClientInfo,
    /// Who that proved to be, when they did ([`Grant::subject`](super::auth::Grant::subject)).
    pub subject: Option<Arc<str>>,
    /// For what.
    pub action: AuditAction,
    /// With which stream, when it was about one.
    pub key: Option<StreamKey>,
    /// `Ok` when it was allowed, else why not.
    pub outcome: Result<(), CloseReason>,
}

impl AuditRecord {
    /// A decision made now.
    #[must_use]
    pub fn new(
        client: ClientInfo,
        action: AuditAction,
        key: Option<StreamKey>,
        outcome: Result<(), CloseReason>,
    ) -> Self {
        Self { at: SystemTime::now(), client, subject: None, action, key, outcome }
    }

    /// The same, about `subject`.
    #[must_use]
    pub fn by(mut self, subject: Option<Arc<str>>) -> Self {
        self.subject = subject;
        self
    }
}

/// Keeps audit records.
///
/// Called on the path of the decision: an implementation that writes to a disk or a network hands the record to
/// a task of its own through a bounded queue, and decides itself what happens when that is full.
///
/// ```
/// use arcly_core::contract::audit::{AuditAction, AuditRecord, AuditSink, TracingAudit};
/// use arcly_core::contract::auth::Action;
/// use arcly_core::{ClientInfo, CloseReason, StreamKey};
///
/// let key = Some(StreamKey::new("live", "cam"));
/// let action = AuditAction::Access(Action::Publish);
/// TracingAudit.record(&AuditRecord::new(ClientInfo::internal("relay"), action, key, Err(CloseReason::Unauthorized)));
/// ```
pub trait AuditSink: Send + Sync {
    /// Keeps one record. Returns at once.
    fn record(&self, record: &AuditRecord);
}

/// Keeps nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoAudit;

impl AuditSink for NoAudit {
    fn record(&self, _: &AuditRecord) {}
}

/// Writes each record to the log, with target `arcly::audit`, at level `info` when allowed and `warn` when refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct TracingAudit;

impl AuditSink for TracingAudit {
    fn record(&self, record: &AuditRecord) {
        let AuditRecord { client, subject, action, key, outcome, .. } = record;
        let subject = subject.as_deref().unwrap_or_default();
        let stream = key.as_ref().map(StreamKey::as_str).unwrap_or_default();
        match outcome {
            Ok(()) => tracing::info!(target: "arcly::audit", %client, subject, %action, stream, "allowed"),
            Err(reason) => {
                tracing::warn!(target: "arcly::audit", %client, subject, %action, stream, %reason, "refused")
            }
        }
    }
}
