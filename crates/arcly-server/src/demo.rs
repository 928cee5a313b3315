//! The built-in test stream: a clip that plays for ever.
//!
//! The clip is a closed piece of H.264 and AAC, made by `cargo xtask demo-clip`. Each round begins where the last one
//! ended, so that times go on without a seam, and frames are published when they are due.

use std::sync::Arc;
use std::time::Duration;

use arcly_core::{
    CloseReason, Engine, MediaEvent, MediaFrame, PublishRegistry as _, PublishRequest, Publisher, Result,
    StreamError, StreamKey, TimeDelta, Timestamp, TrackSet,
};
use arcly_mux::flv::Reader;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The clip: FLV, video and audio of the same length.
const CLIP: &[u8] = include_bytes!("../assets/demo.flv");
/// How long to wait before publishing again when somebody else has the name.
const RETRY: Duration = Duration::from_secs(1);

/// The stream that `arcly demo` publishes.
#[must_use]
pub fn key() -> StreamKey {
    StreamKey::new("live", "demo")
}

/// Publishes the test stream as `key` until `shutdown`; gives way to a publisher that takes it over, and comes back.
pub async fn run(engine: Arc<Engine>, key: StreamKey, shutdown: CancellationToken) {
    let clip = match Clip::load(CLIP) {
        Ok(clip) => clip,
        Err(error) => return tracing::error!(%error, "the demo clip cannot be read; this is a bug"),
    };
    shutdown
        .run_until_cancelled(async {
            loop {
                let request = PublishRequest::internal(key.clone(), "demo");
                if let Ok(publisher) = engine.publish(request).await {
                    // Ends only when it is disconnected, or another publisher takes over.
                    let _ = clip.play(publisher).await;
                }
                tokio::time::sleep(RETRY).await;
            }
        })
        .await;
}

/// A clip in memory.
struct Clip {
    tracks: TrackSet,
    frames: Vec<MediaFrame>,
    /// From the first frame of one round to the first of the next.
    length: TimeDelta,
}

impl Clip {
    fn load(file: &[u8]) -> Result<Self> {
        let mut reader = Reader::new();
        reader.push(file).map_err(|error| StreamError::protocol(error.to_string()))?;
        let (mut tracks, mut frames) = (TrackSet::default(), Vec::new());
        while let Some(event) = reader.poll_event() {
            match event {
                MediaEvent::Tracks(set) => tracks = set,
                MediaEvent::Frame(frame) => frames.push(frame),
            }
        }
        frames.sort_by_key(|frame| frame.dts);
        let length = tracks.iter().filter_map(|track| track_length(&frames, track)).max();
        let length = length.filter(|length| *length > TimeDelta::ZERO);
        Ok(Self { tracks, length: length.ok_or(StreamError::Closed(CloseReason::Malformed))?, frames })
    }

    /// Publishes round after round, each frame when it is due.
    async fn play(&self, mut publisher: Publisher) -> Result<()> {
        publisher.set_tracks(self.tracks.clone())?;
        let (began, mut round) = (Instant::now(), TimeDelta::ZERO);
        let first = self.frames.first().map_or(Timestamp::ZERO, |frame| frame.dts);
        loop {
            for frame in &self.frames {
                let due = began + (round + (frame.dts - first)).to_duration();
                tokio::select! {
                    () = tokio::time::sleep_until(due) => {}
                    reason = publisher.revoked() => return Err(StreamError::Closed(reason)),
                }
                publisher.publish(self.shifted(frame, round))?;
            }
            round += self.length;
        }
    }

    fn shifted(&self, frame: &MediaFrame, by: TimeDelta) -> MediaFrame {
        let mut frame = frame.clone();
        frame.dts += by;
        frame.pts += by;
        frame
    }
}

/// From a track's first frame to the end of its last, which is taken to be as long as the one before.
fn track_length(frames: &[MediaFrame], track: &arcly_core::Track) -> Option<TimeDelta> {
    let mut times = frames.iter().filter(|frame| frame.track == track.id).map(|frame| frame.dts);
    let first = times.next()?;
    let (mut before, mut last) = (first, first);
    for dts in times {
        (before, last) = (last, dts);
    }
    Some((last - first) + (last - before))
}

#[cfg(test)]
mod tests {
    use arcly_core::log::Read;
    use arcly_core::{PlayRequest, PlaybackRegistry as _, TrackKind};

    use super::*;

    #[test]
    fn the_clip_has_picture_and_sound_of_the_same_length() {
        let clip = Clip::load(CLIP).unwrap();
        let of = |kind| track_length(&clip.frames, clip.tracks.first(kind).unwrap()).unwrap().to_millis();
        let (video, audio) = (of(TrackKind::Video), of(TrackKind::Audio));
        assert!((video - audio).abs() <= 40, "video {video} ms, audio {audio} ms");
        assert!(
            clip.frames.iter().find(|frame| frame.track == arcly_core::TrackId::VIDEO).unwrap().is_keyframe()
        );
    }

    /// WebRTC has no place for B-frames: a clip without them is played there as smoothly as anywhere, and nothing is said about it.
    #[test]
    fn every_picture_is_shown_in_the_order_in_which_it_is_decoded() {
        let clip = Clip::load(CLIP).unwrap();
        let video = clip.tracks.first(TrackKind::Video).unwrap().id;
        let pictures: Vec<_> = clip.frames.iter().filter(|frame| frame.track == video).collect();
        assert_eq!(pictures.len(), 240);
        for pair in pictures.windows(2) {
            assert!(pair[0].pts < pair[1].pts, "{:?} is shown behind {:?}", pair[0], pair[1]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_follow_one_another_without_a_seam() {
        let engine = Engine::builder().build();
        let shutdown = CancellationToken::new();
        let demo = tokio::spawn(run(Arc::clone(&engine), key(), shutdown.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut reader = engine.subscribe(PlayRequest::internal(key(), "test")).await.unwrap().into_frames();
        let length = Clip::load(CLIP).unwrap().length;
        let (mut last, mut frames) = ([None::<Timestamp>; 2], 0);
        let end = Timestamp::ZERO + length + length + TimeDelta::from_millis(500);
        while last.iter().flatten().max().is_none_or(|at| *at < end) {
            let Some(Read::Item(frame)) = reader.next().await.unwrap() else { continue };
            let slot = &mut last[frame.track.index()];
            if let Some(before) = slot.replace(frame.dts) {
                let step = (frame.dts - before).to_millis();
                assert!((1..=60).contains(&step), "track {} steps {step} ms at {:?}", frame.track, frame.dts);
            }
            assert!(
                !frame.flags.contains(arcly_core::FrameFlags::DISCONTINUITY) || frames < 4,
                "{:?}",
                frame.dts
            );
            frames += 1;
        }
        shutdown.cancel();
        demo.await.unwrap();
    }
}
