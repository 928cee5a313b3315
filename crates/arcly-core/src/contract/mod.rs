//! What an embedder may replace: object-safe traits with permissive defaults.
//!
//! | contract | decides | default |
//! |---|---|---|
//! | [`auth::StreamAuthenticator`] | who may publish, play, call the API | [`auth::AllowAll`] |
//! | [`observe::Observer`] | who is told what happens | [`observe::NoObserver`] |
//!
//! The traits of the control plane are asynchronous; nothing of them is called per frame. Every
//! `async fn` here may be cancelled by dropping its future; what that leaves behind is said at the method.

pub mod auth;
pub mod observe;
