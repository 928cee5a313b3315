//! Everything over HTTP.
//!
//! ```text
//!   TcpListener ─► Guarded ─► hyper (h1, h2) ─► routes ─┬─ media   *.flv in and out, WebSocket ─► play, Egress
//!                  framing,                              ├─ hls     *.m3u8, *.m4s
//!                  deadlines                             ├─ webrtc  /whip, /whep: offers and answers; media go over UDP
//!                                                        ├─ pages   list of streams, player, assets
//!                                                        ├─ api     /api/v1, loopback or credentials
//!                                                        └─ metrics, health
//! ```

mod access;
mod api;
mod assets;
mod body;
mod connections;
mod guard;
mod hls;
mod listener;
mod media;
mod metrics;
mod openapi;
mod pages;
mod play;
mod problem;
mod readers;
mod recordings;
mod relays;
mod routes;
mod streams;
mod webrtc;
mod ws;

pub(crate) use connections::Connections;
pub(crate) use listener::serve;
pub(crate) use streams::describe_track;
