use std::io;

use super::clip::Frame;

/// One end of a protocol, without its socket: bytes in, bytes and frames out.
///
/// This is what a protocol needs to take part in the scenarios. It has to be cheap, as one thread drives a thousand of
/// them, and it has to see every frame, as that is how losses are counted.
pub trait Peer: Send {
    /// Puts what is said first into `out`.
    fn open(&mut self, out: &mut Vec<u8>);

    /// Takes what the server has sent. Answers go into `out`, what arrived to `frames`.
    ///
    /// # Errors
    /// The server refuses, or sends what cannot be.
    fn receive(&mut self, bytes: &[u8], out: &mut Vec<u8>, frames: &mut dyn FnMut(Frame)) -> io::Result<()>;
}
