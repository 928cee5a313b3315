//! `arcly probe`: what is in a stream.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arcly_core::log::{LagPolicy, Read};
use arcly_core::qos::TrackQos;
use arcly_core::{
    Engine, FrameFlags, MediaEvent, MediaFrame, PlayRequest, PlaybackRegistry as _, StreamError, StreamKey,
    Timestamp, Track, TrackId, TrackKind, TrackSet,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::relay::{self, Endpoint};

/// How long a stream has to begin.
const BEGIN: Duration = Duration::from_secs(10);

/// What was found in a stream.
#[derive(Clone, Debug)]
pub struct Report {
    tracks: Arc<TrackSet>,
    figures: BTreeMap<TrackId, Figures>,
}

/// What was counted of one track.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    frames: u64,
    bytes: u64,
    keyframes: u64,
    span: Option<(Timestamp, Timestamp)>,
    last_keyframe: Option<Timestamp>,
    gop_ms: Option<i64>,
}

impl Figures {
    fn take(&mut self, frame: &MediaFrame) {
        self.frames += 1;
        self.bytes += frame.payload.len() as u64;
        let first = self.span.map_or(frame.dts, |(first, _)| first);
        self.span = Some((first, frame.dts));
        if frame.flags.contains(FrameFlags::KEYFRAME) {
            self.keyframes += 1;
            if let Some(last) = self.last_keyframe.replace(frame.dts) {
                self.gop_ms = Some((frame.dts - last).to_millis());
            }
        }
    }

    /// Seconds of media: from the first frame to the end of the last.
    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn seconds(&self) -> f64 {
        let Some((first, last)) = self.span else { return 0.0 };
        let steps = self.frames.saturating_sub(1).max(1) as f64;
        (last - first).as_secs_f64() * (1.0 + 1.0 / steps)
    }

    #[allow(clippy::cast_precision_loss, reason = "figures for people")]
    fn per_second(&self, count: u64) -> Option<f64> {
        let seconds = self.seconds();
        (seconds > 0.0).then(|| count as f64 / seconds)
    }
}

/// Looks at a stream for `time`, or at a whole file.
///
/// # Errors
/// It cannot be read, or holds nothing.
pub async fn probe(from: &Endpoint, time: Duration) -> Result<Report, StreamError> {
    let mut report = Report { tracks: Arc::default(), figures: BTreeMap::new() };
    match from {
        Endpoint::File(path) => {
            let mut source = relay::FileSource::open(path).await?;
            while let Some(event) = source.next().await? {
                report.take(event);
            }
        }
        from => report.watch(from, time).await?,
    }
    if report.tracks.is_empty() {
        return Err(StreamError::protocol("nothing came that can be decoded"));
    }
    Ok(report)
}

impl Report {
    /// Pulls a live stream into an engine of its own, and reads it there.
    async fn watch(&mut self, from: &Endpoint, time: Duration) -> Result<(), StreamError> {
        let engine = Engine::builder().build();
        let (key, stop) = (StreamKey::new("probe", "stream"), CancellationToken::new());
        let _stop_when_done = stop.clone().drop_guard();
        let pulling = relay::pull(&engine, from, &[], key.clone(), &stop);
        let reading = async {
            let request = PlayRequest::internal(key, "probe").wait(BEGIN).lag(LagPolicy::PATIENT);
            let mut reader = engine.subscribe(request).await?.into_frames();
            let mut until = Instant::now() + BEGIN;
            loop {
                let next = tokio::time::timeout_at(until.into(), reader.next()).await;
                let Ok(next) = next else { return Ok(()) };
                match next? {
                    None => return Ok(()),
                    Some(Read::Context(tracks)) => {
                        if self.tracks.is_empty() {
                            until = Instant::now() + time;
                        }
                        self.tracks = tracks;
                    }
                    Some(Read::Item(frame)) => self.figures.entry(frame.track).or_default().take(&frame),
                    Some(Read::Skipped(_)) => {}
                }
            }
        };
        tokio::pin!(pulling, reading);
        tokio::select! {
            read = &mut reading => read,
            pulled = &mut pulling => {
                pulled?;
                // The source has ended; what it left is read to the end.
                engine.drain();
                reading.await
            }
        }
    }

    fn take(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::Tracks(tracks) => self.tracks = Arc::new(tracks),
            MediaEvent::Frame(frame) => self.figures.entry(frame.track).or_default().take(&frame),
        }
    }

    /// The report for machines.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let tracks: Vec<Value> = self.tracks.iter().map(|track| self.track_json(track)).collect();
        let bitrate: f64 = self.figures.values().filter_map(|f| f.per_second(f.bytes * 8)).sum();
        json!({ "tracks": tracks, "bitrate_bps": bitrate.round() })
    }

    fn track_json(&self, track: &Track) -> Value {
        let mut shown = crate::http::describe_track(track, None::<&TrackQos>);
        let figures = self.figures.get(&track.id).copied().unwrap_or_default();
        if let Some(object) = shown.as_object_mut() {
            object.insert("frames".into(), figures.frames.into());
            object.insert("seconds".into(), round(figures.seconds()).into());
            object.insert("bitrate_bps".into(), figures.per_second(figures.bytes * 8).map(f64::round).into());
            if track.kind() == TrackKind::Video {
                object.insert("fps".into(), figures.per_second(figures.frames).map(round).into());
                object.insert("keyframes".into(), figures.keyframes.into());
                object.insert("keyframe_interval_seconds".into(), figures.gop_ms.map(seconds_of).into());
            }
        }
        shown
    }

    fn line(&self, f: &mut fmt::Formatter<'_>, track: &Track) -> fmt::Result {
        let figures = self.figures.get(&track.id).copied().unwrap_or_default();
        let string = arcly_codec::codec_string::codec_string(track);
        write!(f, "#{} {} {}", track.id, track.kind().as_str(), track.codec)?;
        string.map_or(Ok(()), |string| write!(f, " ({string})"))?;
        if let Some(video) = track.video() {
            write!(f, ", {}x{}", video.width, video.height)?;
            figures.per_second(figures.frames).map_or(Ok(()), |fps| write!(f, ", {fps:.2} fps"))?;
        }
        if let Some(audio) = track.audio() {
            write!(f, ", {} Hz, {} channels", audio.sample_rate, audio.channels)?;
        }
        figures
            .per_second(figures.bytes * 8)
            .map_or(Ok(()), |bps| write!(f, ", {:.0} kb/s", bps / 1_000.0))?;
        match figures.gop_ms.filter(|_| track.kind() == TrackKind::Video) {
            Some(ms) => write!(f, ", key frame every {:.2} s", seconds_of(ms)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, track) in self.tracks.iter().enumerate() {
            if at > 0 {
                writeln!(f)?;
            }
            self.line(f, track)?;
        }
        Ok(())
    }
}

fn round(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn seconds_of(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}
