//! What a demuxer puts out and a publisher takes in.

use crate::frame::MediaFrame;
use crate::track::TrackSet;

/// One step of a stream as it comes out of a container or protocol.
#[derive(Clone, Debug, PartialEq)]
pub enum MediaEvent {
    /// From here on these are the tracks; frames that follow belong to them.
    Tracks(TrackSet),
    /// A frame of one of the tracks.
    Frame(MediaFrame),
}
