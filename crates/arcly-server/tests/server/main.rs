//! `arcly` as people and programs meet it: the command line, HTTP, and the way down.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api;
mod bodies;
mod cli;
mod client;
mod drain;
mod http_flv;
mod pages;
mod recordings;
mod relay;
mod reload;
mod tls;
