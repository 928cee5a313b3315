//! Tracks, and the versioned set of them that a stream carries.

use core::fmt;
use std::sync::Arc;

use crate::codec::{AudioParams, CodecConfig, CodecId, TrackKind, VideoParams};

/// Tracks that one stream may have; also what bounds a cursor's per-track state.
pub const MAX_TRACKS: usize = 64;

/// A track's number within its stream: stable as long as the track lives, below [`MAX_TRACKS`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackId(u8);

impl TrackId {
    /// Where publishers with one video track put it.
    pub const VIDEO: Self = Self(0);
    /// Where publishers with one audio track put it.
    pub const AUDIO: Self = Self(1);
    /// Where publishers with one data track put it.
    pub const DATA: Self = Self(2);

    /// A track number, `None` from [`MAX_TRACKS`] on.
    #[must_use]
    pub const fn new(index: u8) -> Option<Self> {
        if (index as usize) < MAX_TRACKS { Some(Self(index)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TrackId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A small set of tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrackMask(u64);

impl TrackMask {
    /// No track.
    pub const NONE: Self = Self(0);
    /// Every track.
    pub const ALL: Self = Self(u64::MAX);

    /// True when `track` is in the set.
    #[must_use]
    pub const fn contains(self, track: TrackId) -> bool {
        self.0 & (1 << track.0) != 0
    }

    /// Adds `track`.
    pub const fn insert(&mut self, track: TrackId) {
        self.0 |= 1 << track.0;
    }

    /// Removes `track`.
    pub const fn remove(&mut self, track: TrackId) {
        self.0 &= !(1 << track.0);
    }

    /// True when nothing is in the set.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// True when everything in `other` is in the set too.
    #[must_use]
    pub const fn is_superset(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// What is in the set and not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The tracks in the set, by ascending id.
    pub fn iter(self) -> impl Iterator<Item = TrackId> {
        (0..MAX_TRACKS as u8).map(TrackId).filter(move |&track| self.contains(track))
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The same as a number: the bit of each track.
    #[must_use]
    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl FromIterator<TrackId> for TrackMask {
    fn from_iter<I: IntoIterator<Item = TrackId>>(tracks: I) -> Self {
        let mut mask = Self::NONE;
        tracks.into_iter().for_each(|track| mask.insert(track));
        mask
    }
}

/// What is true of a track whatever its codec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrackParams {
    /// Picture size, rate and colour.
    Video(VideoParams),
    /// Sample rate and channels.
    Audio(AudioParams),
    /// Nothing.
    Data,
}

/// One elementary stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Track {
    /// Its number within the stream.
    pub id: TrackId,
    /// Its codec.
    pub codec: CodecId,
    /// What its decoder needs before the first frame.
    pub config: CodecConfig,
    /// What is true of it whatever its codec.
    pub params: TrackParams,
    /// Language, RFC 5646 (`en`, `de-AT`).
    pub language: Option<Arc<str>>,
    /// A name for people ("Commentary").
    pub label: Option<Arc<str>>,
    /// Declared bitrate in bits per second.
    pub bitrate_bps: Option<u32>,
}

impl Track {
    /// A track without optional properties; `params` starts out empty, of the codec's kind.
    #[must_use]
    pub fn new(id: TrackId, codec: CodecId, config: CodecConfig) -> Self {
        let params = match codec.kind() {
            TrackKind::Video => TrackParams::Video(VideoParams::default()),
            TrackKind::Audio => TrackParams::Audio(AudioParams::default()),
            TrackKind::Data => TrackParams::Data,
        };
        Self { id, codec, config, params, language: None, label: None, bitrate_bps: None }
    }

    /// The same track with video parameters.
    #[must_use]
    pub const fn with_video(mut self, params: VideoParams) -> Self {
        self.params = TrackParams::Video(params);
        self
    }

    /// The same track with audio parameters.
    #[must_use]
    pub const fn with_audio(mut self, params: AudioParams) -> Self {
        self.params = TrackParams::Audio(params);
        self
    }

    /// Video, audio or data.
    #[must_use]
    pub const fn kind(&self) -> TrackKind {
        self.codec.kind()
    }

    /// Video parameters, when it is video.
    #[must_use]
    pub const fn video(&self) -> Option<&VideoParams> {
        match &self.params {
            TrackParams::Video(params) => Some(params),
            _ => None,
        }
    }

    /// Audio parameters, when it is audio.
    #[must_use]
    pub const fn audio(&self) -> Option<&AudioParams> {
        match &self.params {
            TrackParams::Audio(params) => Some(params),
            _ => None,
        }
    }
}

/// A value in a stream's metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetaValue {
    /// A number.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    Text(Arc<str>),
    /// Milliseconds since 1970, UTC.
    Date(f64),
    /// Named values.
    Object(Vec<(Arc<str>, Self)>),
    /// Values in order.
    List(Vec<Self>),
    /// Nothing.
    Null,
}

/// What a publisher says about its stream as a whole (RTMP `onMetaData`), in its own order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    /// Names and values.
    pub entries: Vec<(Arc<str>, MetaValue)>,
}

impl Metadata {
    /// The first value of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&MetaValue> {
        self.entries.iter().find(|(key, _)| &**key == name).map(|(_, value)| value)
    }
}

/// The tracks of a stream, and its metadata, at one point of its log.
///
/// A set is immutable. A change in mid-stream is a new set with a higher version, and an entry in the log
/// before the first frame that needs it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrackSet {
    /// Rises by one with every change; assigned by the stream.
    pub version: u32,
    tracks: Vec<Track>,
    /// What the publisher says about the stream as a whole.
    pub metadata: Arc<Metadata>,
}

impl TrackSet {
    /// A set of tracks, sorted by id; of several with one id the last counts.
    #[must_use]
    pub fn new(tracks: impl IntoIterator<Item = Track>) -> Self {
        let mut set = Self::default();
        tracks.into_iter().for_each(|track| set.insert(track));
        set
    }

    /// Adds a track, or replaces the one of the same id.
    pub fn insert(&mut self, track: Track) {
        match self.tracks.binary_search_by_key(&track.id, |t| t.id) {
            Ok(at) => {
                if let Some(slot) = self.tracks.get_mut(at) {
                    *slot = track;
                }
            }
            Err(at) => self.tracks.insert(at, track),
        }
    }

    /// Removes a track.
    pub fn remove(&mut self, id: TrackId) -> Option<Track> {
        let at = self.tracks.binary_search_by_key(&id, |t| t.id).ok()?;
        Some(self.tracks.remove(at))
    }

    /// The track of that id.
    #[must_use]
    pub fn get(&self, id: TrackId) -> Option<&Track> {
        let at = self.tracks.binary_search_by_key(&id, |t| t.id).ok()?;
        self.tracks.get(at)
    }

    /// The tracks by ascending id.
    pub fn iter(&self) -> core::slice::Iter<'_, Track> {
        self.tracks.iter()
    }

    /// How many tracks there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.tracks.len()
    }

    /// True when there is no track.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// The first track of a kind: for video, the one whose keyframes are the stream's join points.
    #[must_use]
    pub fn first(&self, kind: TrackKind) -> Option<&Track> {
        self.tracks.iter().find(|t| t.kind() == kind)
    }

    /// True when both describe the same tracks and metadata, whatever their versions.
    #[must_use]
    pub fn same_content(&self, other: &Self) -> bool {
        self.tracks == other.tracks && self.metadata == other.metadata
    }
}

impl<'a> IntoIterator for &'a TrackSet {
    type Item = &'a Track;
    type IntoIter = core::slice::Iter<'a, Track>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
