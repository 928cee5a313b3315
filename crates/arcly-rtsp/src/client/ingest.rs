//! What is pulled, into the engine.

use arcly_core::{MediaEvent, Publisher, Result, StreamError};
use arcly_mux::ts::{Demuxer, DemuxerOptions};

/// Tracks and frames of one presentation. One that carries a transport stream brings its tracks in there.
pub(super) struct Ingest {
    publisher: Publisher,
    transport: Option<Demuxer>,
}

impl Ingest {
    pub(super) const fn new(publisher: Publisher) -> Self {
        Self { publisher, transport: None }
    }

    pub(super) const fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    pub(super) fn media(&mut self, event: MediaEvent) -> Result<()> {
        self.publisher.handle(event)
    }

    /// Takes transport packets.
    pub(super) fn transport_stream(&mut self, data: &[u8]) -> Result<()> {
        let demuxer = self.transport.get_or_insert_with(|| Demuxer::new(DemuxerOptions::default()));
        demuxer.push(data).map_err(StreamError::Decode)?;
        while let Some(event) = demuxer.poll_event() {
            self.publisher.handle(event)?;
        }
        Ok(())
    }
}
