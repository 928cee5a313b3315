//! The containers that files are read from and written to.

use std::path::Path;

use arcly_codec::flv::{Muxer, MuxerOptions, put_file_header, put_tag};
use arcly_core::{MediaEvent, Timestamp, TrackKind, TrackSet};
use arcly_mux::{flv, fmp4, ts};
use bytes::{Bytes, BytesMut};

/// What a file is, by the ending of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Container {
    /// `.flv`
    Flv,
    /// `.ts`
    Ts,
    /// `.mp4`
    Mp4,
}

impl Container {
    /// The container of a file of that name; `None` when this build has none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "flv" => Some(Self::Flv),
            "ts" => Some(Self::Ts),
            "mp4" => Some(Self::Mp4),
            _ => None,
        }
    }

    /// Its name, for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Flv => "FLV",
            Self::Ts => "MPEG-TS",
            Self::Mp4 => "MP4",
        }
    }
}

/// Takes a container apart, in pieces.
#[allow(clippy::large_enum_variant, reason = "there is one for each file")]
pub(crate) enum Reader {
    Flv(flv::Reader),
    Ts(ts::Demuxer),
    Mp4(fmp4::Reader),
}

impl Reader {
    pub(crate) fn new(container: Container) -> Self {
        match container {
            Container::Flv => Self::Flv(flv::Reader::new()),
            Container::Ts => Self::Ts(ts::Demuxer::default()),
            Container::Mp4 => Self::Mp4(fmp4::Reader::new()),
        }
    }

    /// Takes the next piece; an error says what it is not.
    pub(crate) fn push(&mut self, data: &[u8]) -> Result<(), String> {
        match self {
            Self::Flv(reader) => reader.push(data).map_err(|error| error.to_string()),
            Self::Ts(demuxer) => demuxer.push(data).map_err(|error| error.to_string()),
            Self::Mp4(reader) => reader.push(data).map_err(|error| error.to_string()),
        }
    }

    /// Nothing follows.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        match self {
            Self::Flv(_) => Ok(()),
            Self::Ts(demuxer) => demuxer.finish().map_err(|error| error.to_string()),
            Self::Mp4(reader) => reader.finish().map_err(|error| error.to_string()),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<MediaEvent> {
        match self {
            Self::Flv(reader) => reader.poll_event(),
            Self::Ts(demuxer) => demuxer.poll_event(),
            Self::Mp4(reader) => reader.poll_event(),
        }
    }
}

/// Makes a file of events.
#[allow(clippy::large_enum_variant, reason = "there is one for each file")]
pub(crate) enum Writer {
    Flv { muxer: Muxer, begun: bool, last: Timestamp },
    Ts(ts::Muxer),
    Mp4 { tracks: TrackSet, file: Option<fmp4::FileWriter>, pieces: Vec<Bytes> },
}

impl Writer {
    pub(crate) fn new(container: Container) -> Self {
        match container {
            Container::Flv => {
                let muxer = Muxer::new(MuxerOptions::default());
                Self::Flv { muxer, begun: false, last: Timestamp::ZERO }
            }
            Container::Ts => Self::Ts(ts::Muxer::new()),
            Container::Mp4 => Self::Mp4 { tracks: TrackSet::default(), file: None, pieces: Vec::new() },
        }
    }

    /// Appends what the file has for an event; an error says why it can have no more.
    pub(crate) fn write(&mut self, event: &MediaEvent, out: &mut BytesMut) -> Result<(), String> {
        match (self, event) {
            (Self::Ts(muxer), MediaEvent::Tracks(tracks)) => muxer.set_tracks(tracks),
            (Self::Ts(muxer), MediaEvent::Frame(frame)) => muxer.frame(frame, out),
            (Self::Flv { muxer, begun, last }, MediaEvent::Tracks(tracks)) => {
                if !core::mem::replace(begun, true) {
                    put_flv_header(tracks, out);
                }
                muxer.tracks(tracks, *last).iter().for_each(|tag| put_tag(out, tag));
            }
            (Self::Flv { muxer, last, .. }, MediaEvent::Frame(frame)) => {
                *last = (*last).max(frame.dts);
                muxer.frame(frame).iter().for_each(|tag| put_tag(out, tag));
            }
            (Self::Mp4 { tracks, file, .. }, MediaEvent::Tracks(set)) => {
                if file.as_ref().is_some_and(|file| !file.accepts(set)) {
                    return Err("the stream's codecs change here, and a file of MP4 has one of each".into());
                }
                *tracks = set.clone();
            }
            (Self::Mp4 { tracks, file, pieces }, MediaEvent::Frame(frame)) => {
                let file = match file {
                    Some(file) => file,
                    None => {
                        let new = fmp4::FileWriter::new(tracks, fmp4::FileOptions::default());
                        file.insert(new.map_err(|error| error.to_string())?)
                    }
                };
                let written = file.push(frame, pieces).map_err(|error| error.to_string());
                pieces.drain(..).for_each(|piece| out.extend_from_slice(&piece));
                return written;
            }
        }
        Ok(())
    }

    /// Ends the file: what is to be appended, and what has to be replaced once that is written.
    pub(crate) fn finish(self, out: &mut BytesMut) -> Result<Option<fmp4::Patch>, String> {
        let Self::Mp4 { file: Some(file), mut pieces, .. } = self else { return Ok(None) };
        let patch = file.finish(&mut pieces).map_err(|error| error.to_string())?;
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        Ok(patch)
    }
}

fn put_flv_header(tracks: &TrackSet, out: &mut BytesMut) {
    let has = |kind| tracks.first(kind).is_some();
    put_file_header(out, has(TrackKind::Audio), has(TrackKind::Video));
}
