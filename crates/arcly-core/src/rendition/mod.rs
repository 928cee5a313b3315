//! Renditions: a stream with other sound, for readers that cannot take what was published.
//!
//! ```text
//!   publisher ─► feed of the stream ─┬────────────────────────────────► readers that take its sound as it is
//!                                    └─► pump ─► feed of a rendition ─► readers that do not
//!                                          └─► sessions of a Transcoder, on the blocking pool
//! ```
//!
//! A reader says what sound it can take ([`PlayRequest::audio`](crate::PlayRequest)); where the engine has a
//! [`Transcoder`] that can make the first of those codecs, and only then, [`Stream::feed_for`](crate::Stream::feed_for)
//! gives it a rendition. There is one for each stream and codec, made for the first reader, shared by all, and ended when
//! nobody has read it for [`LINGER`]. In a rendition every track is where it was in the log: pictures pass as they are,
//! their payload shared, and sound comes in the order in which it was published.
//!
//! Coding runs on tokio's blocking pool, on as many threads at a time as the machine has cores, and never on the threads
//! that serve sockets. A rendition takes what is new in its stream a batch at a time, so that what it cannot do in time
//! stays in the stream's log: it holds no queue, falls behind alone, and goes on at a keyframe when the log has forgotten
//! what came next. A session that fails leaves its track silent, one that panics ends its rendition; neither reaches the
//! publisher or readers of anything else.
//!
//! A reader that comes before the stream's sound is known, in its first seconds, reads the rendition as well: until a track turns up that has to
//! be made, everything passes as it is. A reader of the stream's own feed stays there: when its publisher goes over to a
//! codec that it cannot take, it is as if there were no renditions, until it comes again.

mod mill;
mod pump;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::codec::{CodecId, TrackKind};
use crate::contract::transcode::{TranscodeTarget, Transcoder};
use crate::feed::Feed;
use crate::log::{LogUsage, Retention};
use crate::time::{TimeDelta, Timestamp};
use crate::track::{Track, TrackSet};

/// How long a rendition is kept that nobody reads.
pub const LINGER: Duration = Duration::from_secs(10);

/// How long a stream that has no sound may still turn out to have some: publishers announce it with its first frame.
const YOUTH: TimeDelta = TimeDelta::from_millis(3_000);

/// Sound that readers can take, the best first; `None` is any.
pub type AudioChoice = Option<&'static [CodecId]>;

/// Sound that players of RTMP can take, unless they say that they can take more.
pub const RTMP_AUDIO: AudioChoice = Some(&[CodecId::Aac, CodecId::Mp3, CodecId::Speex]);
/// Sound that players of FLV over HTTP and WebSockets can take, which cannot say what they know: Enhanced FLV's.
pub const FLV_AUDIO: AudioChoice = Some(&[
    CodecId::Aac,
    CodecId::Opus,
    CodecId::Mp3,
    CodecId::Speex,
    CodecId::Flac,
    CodecId::Ac3,
    CodecId::Eac3,
]);
/// Sound that players of MPEG-TS can take, over HTTP, UDP and SRT.
pub const TS_AUDIO: AudioChoice =
    Some(&[CodecId::Aac, CodecId::Mp2, CodecId::Mp3, CodecId::Ac3, CodecId::Eac3]);
/// Sound that players of HLS and DASH can take, Safari among them.
pub const HLS_AUDIO: AudioChoice =
    Some(&[CodecId::Aac, CodecId::Mp3, CodecId::Ac3, CodecId::Eac3, CodecId::Flac]);
/// Sound that every peer of WebRTC can take (RFC 7874 §3), and G.722.
pub const WEBRTC_AUDIO: AudioChoice = Some(&[CodecId::Opus, CodecId::Pcmu, CodecId::Pcma, CodecId::G722]);
/// Sound that browsers can take in a fragmented MP4.
pub const MP4_AUDIO: AudioChoice =
    Some(&[CodecId::Aac, CodecId::Opus, CodecId::Mp3, CodecId::Ac3, CodecId::Eac3, CodecId::Flac]);

/// What the `audio=` parameter of a URL's query asks for: `opus`, `aac`, or `any` for the sound as it was published.
/// `None` when it asks for nothing.
///
/// ```
/// use arcly_core::{CodecId, rendition::audio_from_query};
///
/// assert_eq!(audio_from_query("token=1&audio=opus"), Some(Some(&[CodecId::Opus][..])));
/// assert_eq!(audio_from_query("audio=any"), Some(None));
/// assert_eq!(audio_from_query("token=1"), None);
/// ```
#[must_use]
pub fn audio_from_query(query: &str) -> Option<AudioChoice> {
    let value = query.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix("audio="))?;
    match value {
        "aac" => Some(Some(&[CodecId::Aac])),
        "opus" => Some(Some(&[CodecId::Opus])),
        "any" => Some(None),
        _ => None,
    }
}

/// A picture of a rendition, for the API.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RenditionInfo {
    /// The codec of its sound.
    pub audio: CodecId,
    /// The tracks in force.
    pub tracks: Arc<TrackSet>,
    /// What its log holds. Payloads of pictures are the stream's, and are counted here all the same.
    pub log: LogUsage,
}

/// What renditions cost at the moment, and have cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TranscodeUsage {
    /// Renditions.
    pub renditions: usize,
    /// Tracks that are being made.
    pub sessions: usize,
    /// Frames put into sessions so far.
    pub frames_in: u64,
    /// Frames taken out of them.
    pub frames_out: u64,
    /// Frames that could not be coded.
    pub failed: u64,
    /// Time spent coding.
    pub busy: Duration,
}

#[derive(Debug, Default)]
struct Counters {
    renditions: AtomicUsize,
    sessions: AtomicUsize,
    frames_in: AtomicU64,
    frames_out: AtomicU64,
    failed: AtomicU64,
    busy_micros: AtomicU64,
}

/// What makes the renditions of an engine.
pub(crate) struct Workshop {
    transcoder: Option<Arc<dyn Transcoder>>,
    permits: Arc<Semaphore>,
    linger: Duration,
    counters: Counters,
}

impl Workshop {
    pub(crate) fn new(transcoder: Option<Arc<dyn Transcoder>>, linger: Duration) -> Arc<Self> {
        let cores = std::thread::available_parallelism().map_or(1, core::num::NonZero::get);
        let permits = Arc::new(Semaphore::new(cores));
        Arc::new(Self { transcoder, permits, linger, counters: Counters::default() })
    }

    pub(crate) fn usage(&self) -> TranscodeUsage {
        let counters = &self.counters;
        TranscodeUsage {
            renditions: counters.renditions.load(Ordering::Relaxed),
            sessions: counters.sessions.load(Ordering::Relaxed),
            frames_in: counters.frames_in.load(Ordering::Relaxed),
            frames_out: counters.frames_out.load(Ordering::Relaxed),
            failed: counters.failed.load(Ordering::Relaxed),
            busy: Duration::from_micros(counters.busy_micros.load(Ordering::Relaxed)),
        }
    }
}

/// A rendition, and since when nobody reads it.
struct Kept {
    feed: Arc<Feed>,
    idle_since: Option<Instant>,
}

/// A rendition that a reader needs.
enum Wanted {
    There(Arc<Feed>),
    ToMake(CodecId),
}

/// The renditions of one stream.
pub(crate) struct Renditions {
    workshop: Arc<Workshop>,
    kept: Mutex<HashMap<CodecId, Kept>>,
}

impl Renditions {
    pub(crate) fn new(workshop: Arc<Workshop>) -> Self {
        Self { workshop, kept: Mutex::default() }
    }

    /// The rendition of `source` that a reader needs which takes `audio`, if it needs one and there is a way to make it.
    pub(crate) fn feed_for(
        &self,
        source: &Arc<Feed>,
        audio: AudioChoice,
        retention: Retention,
    ) -> Option<Arc<Feed>> {
        let transcoder = self.workshop.transcoder.as_ref()?;
        let mut kept = self.kept.lock();
        let codec = match wanted(&kept, source, audio, &**transcoder)? {
            Wanted::There(feed) => return Some(feed),
            Wanted::ToMake(codec) => codec,
        };
        let runtime = Handle::try_current().ok()?;
        let (feed, writer) = Feed::new(retention);
        let pump =
            pump::Pump::new(&self.workshop, source, (&feed, writer), mill::Mill::new(transcoder, codec));
        runtime.spawn(pump.run());
        kept.insert(codec, Kept { feed: Arc::clone(&feed), idle_since: None });
        Some(feed)
    }

    /// The tracks of that rendition, if there is to be one: none as long as it is to be made.
    pub(crate) fn tracks_for(&self, source: &Feed, audio: AudioChoice) -> Option<Arc<TrackSet>> {
        let transcoder = self.workshop.transcoder.as_ref()?;
        match wanted(&self.kept.lock(), source, audio, &**transcoder)? {
            Wanted::There(feed) => Some(feed.tracks()),
            Wanted::ToMake(_) => Some(Arc::default()),
        }
    }

    /// Lets go of renditions that nobody has read for a while, and of those that have ended.
    pub(crate) fn maintain(&self, now: Instant) {
        let linger = self.workshop.linger;
        self.kept.lock().retain(|_, kept| {
            if Arc::strong_count(&kept.feed) > 1 {
                kept.idle_since = None;
                return true;
            }
            let since = *kept.idle_since.get_or_insert(now);
            kept.feed.log().closed().is_none() && now.saturating_duration_since(since) < linger
        });
    }

    /// A picture of each.
    pub(crate) fn infos(&self) -> Vec<RenditionInfo> {
        let info = |(codec, kept): (&CodecId, &Kept)| RenditionInfo {
            audio: *codec,
            tracks: kept.feed.tracks(),
            log: kept.feed.log().usage(),
        };
        let mut infos: Vec<_> = self.kept.lock().iter().map(info).collect();
        infos.sort_by_key(|info| info.audio);
        infos
    }

    /// What their formats hold.
    pub(crate) fn formats(&self) -> Vec<LogUsage> {
        self.kept.lock().values().flat_map(|kept| kept.feed.formats()).collect()
    }
}

/// The track that is made of `source`.
const fn target(source: &Track, codec: CodecId) -> TranscodeTarget {
    TranscodeTarget::new(source.id, codec)
}

/// True for tracks that a rendition in `codec` makes anew.
fn is_made(track: &Track, transcoder: &dyn Transcoder, codec: CodecId) -> bool {
    track.kind() == TrackKind::Audio
        && track.codec != codec
        && transcoder.supports(track, &target(track, codec))
}

/// True for readers that can take what publishers send, with rare exceptions: a rendition that they were put into ahead of the
/// sound would be made for others too, in one codec.
fn takes_the_usual(accepted: &[CodecId]) -> bool {
    [CodecId::Aac, CodecId::Opus].iter().all(|codec| accepted.contains(codec))
}

/// True when a stream may still say that it has sound.
fn is_young(source: &Feed) -> bool {
    let silent = source.tracks().first(TrackKind::Audio).is_none();
    silent && source.log().last().is_none_or(|last| last.dts - Timestamp::ZERO < YOUTH)
}

/// What a reader of `source` needs which takes `audio`; `None` when that is the source itself.
fn wanted(
    kept: &HashMap<CodecId, Kept>,
    source: &Feed,
    audio: AudioChoice,
    transcoder: &dyn Transcoder,
) -> Option<Wanted> {
    let accepted = audio?;
    let codec = *accepted.first()?;
    if let Some(there) = kept.get(&codec).filter(|there| there.feed.log().closed().is_none()) {
        return Some(Wanted::There(Arc::clone(&there.feed)));
    }
    let may_need = !takes_the_usual(accepted) && is_young(source);
    let needs = may_need || needs_rendition(&source.tracks(), accepted, transcoder, codec);
    needs.then_some(Wanted::ToMake(codec))
}

/// True when a track has to be made for a reader.
fn needs_rendition(
    tracks: &TrackSet,
    accepted: &[CodecId],
    transcoder: &dyn Transcoder,
    codec: CodecId,
) -> bool {
    tracks.iter().any(|track| !accepted.contains(&track.codec) && is_made(track, transcoder, codec))
}
