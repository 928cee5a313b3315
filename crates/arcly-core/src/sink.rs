//! Where frames go: recorders, muxers, other servers.

use async_trait::async_trait;

use crate::close::CloseReason;
use crate::error::Result;
use crate::frame::MediaFrame;
use crate::log::Read;

/// A taker of frames, fed by [`Subscriber::drive_to`](crate::Subscriber::drive_to).
#[async_trait]
pub trait FrameSink: Send {
    /// Takes what was read since the last call, in order; never empty. One call for a whole batch, so that a sink
    /// that writes can write once. While it waits, the reader's place in the log stays where it is.
    ///
    /// # Errors
    /// The sink cannot go on; it is finished and dropped.
    async fn write(&mut self, batch: &[Read<MediaFrame>]) -> Result<()>;

    /// There will be nothing more, for that reason. Called exactly once.
    ///
    /// # Errors
    /// What was written could not be completed.
    async fn finish(&mut self, reason: CloseReason) -> Result<()> {
        let _ = reason;
        Ok(())
    }
}
