//! What an embedder may replace: object-safe traits with permissive defaults.
//!
//! | contract | decides | default |
//! |---|---|---|
//! | [`auth::StreamAuthenticator`] | who may publish, play, call the API | [`auth::AllowAll`] |
//! | [`observe::Observer`] | who is told what happens | [`observe::NoObserver`] |
//! | [`audit::AuditSink`] | where decisions are kept | [`audit::NoAudit`] |
//! | [`health::HealthCheck`] | whether this server is ready | it is |
//! | [`storage::StorageBackend`] | where recordings are kept | [`storage::FsStorage`] |
//! | [`transcode::Transcoder`] | which tracks can be made from others | [`transcode::NoTranscoder`] |
//! | [`cluster::ClusterRelay`] | which server of several has a stream | [`cluster::SingleNode`] |
//!
//! The traits of the control plane are asynchronous; nothing of them is called per frame. Every
//! `async fn` here may be cancelled by dropping its future; what that leaves behind is said at the method.

pub mod audit;
pub mod auth;
pub mod cluster;
pub mod health;
pub mod observe;
pub mod storage;
pub mod transcode;
