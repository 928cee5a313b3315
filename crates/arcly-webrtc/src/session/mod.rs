//! One peer as a state machine: time is an argument, and whoever owns it owns the socket.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 8445 | §2.5 lite implementations, §7.3 answering checks; §2.4 full ones, for what is offered here | [`Transport`] |
//! | RFC 7675 | §5.1 consent | [`Transport`]: who sends no checks for [`Timeouts::consent`] is gone |
//! | RFC 8829, RFC 9143 | offers and answers, one transport for all media | [`Transport::answer`], [`Offering`] |
//! | RFC 9725 | WHIP | [`WhipSession`] |
//! | draft-ietf-wish-whep-03 | WHEP | [`WhepSession`] |
//! | RFC 4585, RFC 4588, RFC 5104 | NACK, RTX, PLI, FIR | by str0m; who asks for keyframes and when, and what repairs may cost, here |
//! | RFC 2198 | sound that is repeated while packets get lost, and found again | [`LOSSES`], [`WhipSession`] |
//! | draft-holmer-rmcat-transport-wide-cc-extensions | what a viewer's link carries | by str0m; what is left out for it, here |
//! | RFC 6464 | how loud a publisher's sound is | [`Published::Level`] |
//! | RFC 8831, RFC 8832 | data channels, by str0m; what they carry, and what a peer may make them hold, here | [`Channel`], [`Transport::open_channel`] |
//! | RFC 8853 | simulcast: layers of a publisher's pictures | [`Medium::layers`]; which of them a viewer is sent: [`WhepSession`] |
//!
//! ```text
//!   datagrams ──► Transport (ICE, DTLS, SRTP, RTCP: str0m) ──► packets ──► WhipSession ──► MediaEvent
//!   datagrams ◄── Transport ◄── packets ◄── WhepSession ◄── RtpFrame, the same for all viewers
//! ```
//!
//! Which machine it is depends on who sends, and not on who has offered: a client that pulls has a [`WhipSession`], and one that pushes
//! a [`WhepSession`].
//!
//! Each machine is fed by one `handle_*` call at a time and then asked with `poll_output` until it says [`Output::Wait`].
//!
//! **A link that is too narrow.** Pictures that wait for it longer than [`LATE`] have those left out that no other refers to, and the
//! temporal layers from the highest on, which come back one by one where pictures say that it is possible; longer than
//! [`TOO_LATE`], all up to a keyframe. What waits is bounded by that, and is not the viewer's delay. Of a stream in several layers a
//! viewer is sent the best that its link carries, and another one from a keyframe on.
//!
//! Before that a picture in spatial layers (VP9) becomes smaller, and larger again at a keyframe.
//!
//! Guarantees: no datagram but a check that knows the session's password makes an address count; what comes from elsewhere is
//! dropped before DTLS and SRTP see it. Checks are answered and never sent, so that no peer can make this side send anything to
//! an address that has not asked itself; but for those of a transport that was offered here, which go to the candidates of the answer.
//! Data that nobody has agreed on are dropped before DTLS sees them; of those that are, at most [`MAX_UNDELIVERED_BYTES`] come of which
//! there is no message. Repairs cost at most [`REPAIR_PERCENT`] of what is sent the first time. At most [`MAX_SOURCES`] addresses of a peer are known,
//! and [`MAX_FORGOTTEN`] whose connections are closed are remembered.

mod channels;
mod ladder;
mod layers;
mod medium;
mod offering;
mod redundancy;
mod spatial;
mod stats;
mod temporal;
mod thinning;
mod transport;
mod whep;
mod whip;

#[cfg(test)]
mod tests;

pub use channels::{DATA_WAIT, MAX_MESSAGE_BYTES_PER_SECOND, MAX_MESSAGES_PER_SECOND, MAX_WAITING_MESSAGES};
pub use layers::{LAYER_LABEL, MAX_LAYERS, MIN_STAY};
pub use medium::Medium;
pub use offering::{Offering, Wish};
pub use redundancy::{CALM, LOSSES};
pub use stats::{LayerCount, REPAIR_BURST, REPAIR_PERCENT, SentLayer, SessionStats};
pub use thinning::{CATCH_UP, LATE, PATIENCE, TOO_LATE};
pub use transport::{
    Channel, Event, Identity, KEYFRAME_INTERVAL, MAX_CHANNELS, MAX_FORGOTTEN, MAX_LABEL_BYTES,
    MAX_MESSAGE_BYTES, MAX_SOURCES, MAX_UNDELIVERED_BYTES, MAX_WAITING_BYTES, MESSAGE_LIFETIME, Outgoing,
    Output, Timeouts, Transport,
};
pub use whep::{NoCommonCodec, Viewed, WhepSession};
pub use whip::{Published, WhipSession};
