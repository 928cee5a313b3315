//! The chain from frames of one codec to frames of another.

use std::collections::VecDeque;
use std::time::Duration;

use arcly_core::contract::transcode::{TranscodeError, TranscodeSession};
use arcly_core::time::WallTime;
use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track};

use crate::SAMPLE_RATE;
use crate::clock::{self, Fit, SampleClock};
use crate::codec::{AudioDecoder, AudioEncoder, CodecError};
use crate::pcm::{Format, Mixer};
use crate::resample::{Resampler, Synchronous};

const RATE: Timescale = Timescale::of(SAMPLE_RATE);

/// What is between a decoder and an encoder for as long as what is decoded stays the same and has no long gap.
struct Stage {
    format: Format,
    mixer: Mixer,
    clock: SampleClock,
    /// `None` where nothing has to change.
    resampler: Option<Box<dyn Resampler>>,
    /// Samples of each channel that the encoder has had.
    encoded: i64,
    /// The next frame that comes out is the first after a break.
    breaks: bool,
}

/// Makes one track of another: frames in, frames out, in the order of their time.
///
/// See the [crate's documentation](crate) for what is guaranteed.
pub struct AudioTranscoder {
    decoder: Box<dyn AudioDecoder>,
    encoder: Box<dyn AudioEncoder>,
    track: Track,
    channels: usize,
    stage: Option<Stage>,
    /// What a decoder has made of a frame, what the mixer has made of that, and what waits to be encoded: less than a frame.
    decoded: Vec<f32>,
    mixed: Vec<f32>,
    waiting: Vec<f32>,
    out: VecDeque<MediaFrame>,
    /// No frame that comes out is earlier: the first frame's time, then the end of the last one that came out.
    floor: Option<Timestamp>,
    /// When some instant of the source was in the world.
    wall: Option<(Timestamp, WallTime)>,
}

impl core::fmt::Debug for AudioTranscoder {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("AudioTranscoder").field("track", &self.track).finish_non_exhaustive()
    }
}

impl AudioTranscoder {
    /// A chain that makes `track`, which has so many `channels` (one or two), of what `decoder` decodes.
    #[must_use]
    pub fn new(
        track: Track,
        channels: usize,
        decoder: Box<dyn AudioDecoder>,
        encoder: Box<dyn AudioEncoder>,
    ) -> Self {
        Self {
            decoder,
            encoder,
            track,
            channels,
            stage: None,
            decoded: Vec::new(),
            mixed: Vec::new(),
            waiting: Vec::new(),
            out: VecDeque::new(),
            floor: None,
            wall: None,
        }
    }

    fn handle(&mut self, frame: &MediaFrame) -> Result<(), CodecError> {
        self.floor.get_or_insert(frame.pts);
        if let Some(wall) = frame.wall {
            self.wall = Some((frame.pts, wall));
        }
        self.decoded.clear();
        let format = self.decoder.decode(&frame.payload, &mut self.decoded)?;
        let breaks = frame.flags.contains(FrameFlags::DISCONTINUITY);
        let mut stage = match self.stage.take() {
            Some(stage) if stage.format == format && !breaks => stage,
            before => self.restart(before, &format, frame.pts, breaks)?,
        };
        let mut fit = stage.clock.fit(frame.pts);
        if fit == Fit::Restart {
            stage = self.restart(Some(stage), &format, frame.pts, true)?;
            fit = Fit::Exact;
        }
        let result = self.pass(&mut stage, fit);
        self.stage = Some(stage);
        result
    }

    /// Empties what there was, and begins at `pts`.
    fn restart(
        &mut self,
        before: Option<Stage>,
        format: &Format,
        pts: Timestamp,
        breaks: bool,
    ) -> Result<Stage, CodecError> {
        if let Some(mut before) = before {
            self.flush(&mut before)?;
        }
        let unknown = || CodecError::new("resampler", &format_args!("{} Hz", format.sample_rate));
        let rate = Timescale::new(format.sample_rate).ok_or_else(unknown)?;
        let resampler: Option<Box<dyn Resampler>> = if format.sample_rate == SAMPLE_RATE {
            None
        } else {
            Some(Box::new(Synchronous::new(format.sample_rate, SAMPLE_RATE, self.channels)?))
        };
        Ok(Stage {
            mixer: Mixer::new(&format.speakers, self.channels),
            format: format.clone(),
            clock: SampleClock::new(pts, rate),
            resampler,
            encoded: 0,
            breaks,
        })
    }

    /// Passes on what was decoded, made fit for its time.
    fn pass(&mut self, stage: &mut Stage, fit: Fit) -> Result<(), CodecError> {
        self.mixed.clear();
        stage.mixer.mix(&self.decoded, &mut self.mixed);
        match fit {
            Fit::Fill(samples) => {
                self.mixed.splice(..0, core::iter::repeat_n(0.0, samples.saturating_mul(self.channels)));
            }
            // What is more than this frame the next ones say anew.
            Fit::Cut(samples) => {
                let cut = samples.saturating_mul(self.channels).min(self.mixed.len());
                self.mixed.drain(..cut);
            }
            Fit::Stretch => clock::stretch(&mut self.mixed, self.channels, true),
            Fit::Squeeze => clock::stretch(&mut self.mixed, self.channels, false),
            Fit::Exact | Fit::Restart => {}
        }
        stage.clock.advance(self.mixed.len() / self.channels);
        match &mut stage.resampler {
            Some(resampler) => resampler.process(&self.mixed, &mut self.waiting)?,
            None => self.waiting.append(&mut self.mixed),
        }
        self.encode(stage)
    }

    /// Encodes what waits, as long as it fills frames.
    fn encode(&mut self, stage: &mut Stage) -> Result<(), CodecError> {
        let size = self.encoder.frame_len().saturating_mul(self.channels).max(1);
        let waiting = core::mem::take(&mut self.waiting);
        let frames = waiting.chunks_exact(size);
        self.waiting.extend_from_slice(frames.remainder());
        for samples in frames {
            let begin = stage.encoded.saturating_sub(signed(self.encoder.delay()));
            stage.encoded = stage.encoded.saturating_add(signed(self.encoder.frame_len()));
            let payload = self.encoder.encode(samples)?;
            let pts = stage.clock.anchor() + TimeDelta::from_units(begin, RATE);
            if self.floor.is_some_and(|floor| pts < floor) {
                continue;
            }
            let mut frame = MediaFrame::new(self.track.id, pts, payload);
            frame.duration = TimeDelta::from_units(signed(self.encoder.frame_len()), RATE);
            frame.flags = FrameFlags::KEYFRAME;
            if core::mem::take(&mut stage.breaks) {
                frame.flags |= FrameFlags::DISCONTINUITY;
            }
            frame.wall = self.wall.and_then(|(at, wall)| moved(wall, pts - at));
            self.floor = Some(pts + frame.duration);
            self.out.push_back(frame);
        }
        Ok(())
    }

    /// Encodes what is left, with silence behind it.
    fn flush(&mut self, stage: &mut Stage) -> Result<(), CodecError> {
        if let Some(resampler) = &mut stage.resampler {
            resampler.finish(&mut self.waiting)?;
        }
        let (delay, frame) = (self.encoder.delay(), self.encoder.frame_len());
        let len = self.waiting.len() / self.channels.max(1) + delay;
        self.waiting.resize(len.next_multiple_of(frame.max(1)) * self.channels, 0.0);
        self.encode(stage)
    }
}

fn signed(samples: usize) -> i64 {
    i64::try_from(samples).unwrap_or(i64::MAX)
}

/// A wall-clock time so much later, or earlier.
fn moved(wall: WallTime, by: TimeDelta) -> Option<WallTime> {
    let distance: Duration = by.abs().to_duration();
    let time =
        if by < TimeDelta::ZERO { wall.time.checked_sub(distance) } else { wall.time.checked_add(distance) };
    time.map(|time| WallTime { time, ..wall })
}

impl TranscodeSession for AudioTranscoder {
    fn track(&self) -> Option<&Track> {
        Some(&self.track)
    }

    fn put(&mut self, frame: &MediaFrame) -> Result<(), TranscodeError> {
        self.handle(frame).map_err(|error| TranscodeError::Frame(error.to_string().into()))
    }

    fn take(&mut self) -> Option<MediaFrame> {
        self.out.pop_front()
    }

    fn finish(&mut self) {
        if let Some(mut stage) = self.stage.take() {
            // What cannot be encoded any more is missing at the very end.
            let _: Result<(), CodecError> = self.flush(&mut stage);
        }
    }
}
