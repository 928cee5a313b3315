//! HTTP-FLV: [`HttpStream`] with FLV in it.
//!
//! A server with many readers may take the subscription out of the body
//! ([`into_subscription`](FlvBody::into_subscription)) and write the stream through
//! [`Egress`](arcly_core::egress::Egress), framed for its connections by [`Framing`].

use arcly_core::derived::Packet;
use arcly_core::log::Read;
use arcly_core::rendition::{AudioChoice, FLV_AUDIO};
use arcly_core::{CloseReason, MediaEvent};
use bytes::Bytes;

pub use crate::http::PUBLISHER_IDLE;
use crate::http::{Container, Failure, HttpStream, Reader as BodyReader, StreamBody};

use super::{Framing, MEDIA_TYPE, Packetizer, Reader, Writer};

/// Plays and publishes FLV over HTTP.
pub type HttpFlv = HttpStream<Flv>;
/// The body of an HTTP-FLV response.
pub type FlvBody = StreamBody<Flv>;

/// FLV as the body of requests and responses.
#[derive(Clone, Copy, Debug)]
pub enum Flv {}

impl Container for Flv {
    const NAME: &'static str = "FLV";
    const AUDIO: AudioChoice = FLV_AUDIO;
    const MEDIA_TYPE: &'static str = MEDIA_TYPE;
    const VARIANT: u64 = Framing::Plain.variant();
    type Packetizer = Packetizer;
    type Writer = Writer;
    type Reader = Reader;

    fn write(writer: &mut Writer, read: &Read<Packet>, send: impl FnMut(Bytes)) {
        writer.write(read, send);
    }
}

impl BodyReader for Reader {
    fn push(&mut self, data: &[u8]) -> Result<(), Failure> {
        Self::push(self, data).map_err(|error| {
            (CloseReason::from(error), format!("this is not FLV that can be published: {error}"))
        })
    }

    fn poll_event(&mut self) -> Option<MediaEvent> {
        Self::poll_event(self)
    }

    fn finish(&mut self) -> Result<(), Failure> {
        if self.buffered() == 0 {
            return Ok(());
        }
        Err((CloseReason::Malformed, "the body ends within a tag".into()))
    }
}

#[cfg(test)]
mod tests;
