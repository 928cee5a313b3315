//! From one sample rate to another, in phase.

use rubato::audioadapter_buffers::direct::InterleavedSlice;
use rubato::{Fft, FixedSync, Resampler as _};

use crate::codec::CodecError;

/// Changes the sample rate of interleaved samples.
pub trait Resampler: Send {
    /// Appends what becomes of `samples`: as many as there is enough input for. The first sample that comes out is at the
    /// instant of the first that went in, and so on for ever: nothing drifts.
    ///
    /// # Errors
    /// The implementation cannot go on.
    fn process(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), CodecError>;

    /// Appends what is still held back, and forgets what was.
    ///
    /// # Errors
    /// The implementation cannot go on.
    fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), CodecError>;
}

/// Samples that are taken at a time, at least: the filter's length, and a third of its delay in 44.1 kHz is 3 ms.
const MIN_BLOCK: usize = 256;

/// A resampler by Fourier transforms of blocks, in the exact ratio of two rates.
pub struct Synchronous {
    fft: Fft<f32>,
    channels: usize,
    /// Less than a block.
    pending: Vec<f32>,
    /// What of the filter's delay is still to be left out, in samples of each channel.
    to_skip: usize,
    /// Samples of each channel that have gone in since the last beginning, and that have come out.
    taken: u64,
    given: u64,
    rates: (u64, u64),
}

impl core::fmt::Debug for Synchronous {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Synchronous").field("rates", &self.rates).finish_non_exhaustive()
    }
}

fn failed(error: impl core::fmt::Display) -> CodecError {
    CodecError::new("resampler", &error)
}

impl Synchronous {
    /// From `from` to `to` samples per second.
    ///
    /// # Errors
    /// A rate or the number of channels is zero, or the ratio takes blocks that are out of proportion.
    pub fn new(from: u32, to: u32, channels: usize) -> Result<Self, CodecError> {
        let (from, to) = (usize::try_from(from).map_err(failed)?, usize::try_from(to).map_err(failed)?);
        if from == 0 || to == 0 || channels == 0 {
            return Err(failed("nothing to resample"));
        }
        let unit = from / gcd(from, to);
        // An even number of units, so that the filter's middle is on a sample on either side.
        let block = unit * 2 * MIN_BLOCK.div_ceil(unit * 2);
        if block > from {
            return Err(failed(format_args!("{from} to {to} Hz")));
        }
        let fft = Fft::new_custom(
            from,
            to,
            block,
            1,
            channels,
            rubato::WindowFunction::BlackmanHarris2,
            FixedSync::Both,
        )
        .map_err(failed)?;
        let to_skip = fft.output_delay();
        let rates = (from as u64, to as u64);
        Ok(Self { fft, channels, pending: Vec::new(), to_skip, taken: 0, given: 0, rates })
    }

    fn block(&mut self, block: &[f32], out: &mut Vec<f32>) -> Result<(), CodecError> {
        let (frames, made) = (self.fft.input_frames_next(), self.fft.output_frames_next());
        let begin = out.len();
        out.resize(begin + made * self.channels, 0.0);
        let space = out.get_mut(begin..).unwrap_or_default();
        let input = InterleavedSlice::new(block, self.channels, frames).map_err(failed)?;
        let mut output = InterleavedSlice::new_mut(space, self.channels, made).map_err(failed)?;
        self.fft.process_into_buffer(&input, &mut output, None).map_err(failed)?;
        let skipped = self.to_skip.min(made);
        self.to_skip -= skipped;
        self.given += (made - skipped) as u64;
        out.drain(begin..begin + skipped * self.channels);
        Ok(())
    }
}

impl Resampler for Synchronous {
    fn process(&mut self, samples: &[f32], out: &mut Vec<f32>) -> Result<(), CodecError> {
        self.taken += (samples.len() / self.channels) as u64;
        self.pending.extend_from_slice(samples);
        let pending = core::mem::take(&mut self.pending);
        let size = self.fft.input_frames_next() * self.channels;
        let blocks = pending.chunks_exact(size);
        self.pending = blocks.remainder().to_vec();
        for block in blocks {
            self.block(block, out)?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<f32>) -> Result<(), CodecError> {
        let wanted = (self.taken * self.rates.1).div_ceil(self.rates.0.max(1));
        let size = self.fft.input_frames_next() * self.channels;
        while self.given < wanted {
            let mut block = core::mem::take(&mut self.pending);
            block.resize(size, 0.0);
            self.block(&block, out)?;
        }
        let excess = usize::try_from(self.given - wanted).unwrap_or(0) * self.channels;
        out.truncate(out.len().saturating_sub(excess));
        self.fft.reset();
        self.pending.clear();
        (self.to_skip, self.taken, self.given) = (self.fft.output_delay(), 0, 0);
        Ok(())
    }
}

const fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone of 1 kHz, of `len` samples at `rate`, louder in the second channel.
    fn tone(rate: u32, len: usize) -> Vec<f32> {
        let at = |n: usize| (core::f64::consts::TAU * 1_000.0 * n as f64 / f64::from(rate)).sin();
        (0..len).flat_map(|n| [0.4 * at(n) as f32, 0.8 * at(n) as f32]).collect()
    }

    #[test]
    fn every_rate_stays_in_phase_to_a_hundredth_of_a_sample() {
        for rate in [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 64_000, 88_200, 96_000] {
            let mut resampler = Synchronous::new(rate, 48_000, 2).expect("a common rate");
            let mut out = Vec::new();
            for piece in tone(rate, rate as usize).chunks(2 * 1_000) {
                resampler.process(piece, &mut out).expect("resampled");
            }
            resampler.finish(&mut out).expect("finished");
            assert_eq!(out.len(), 2 * 48_000, "{rate}: a second is a second");
            let expected = tone(48_000, 48_000);
            // A hundredth of a sample of 1 kHz at 48 kHz is 0.0013 of full scale.
            let worst = out.iter().zip(&expected).skip(4_000).take(80_000).map(|(a, b)| (a - b).abs());
            let worst = worst.fold(0.0, f32::max);
            assert!(worst < 0.0013, "{rate}: {worst}");
        }
    }

    #[test]
    fn it_can_begin_again() {
        let mut resampler = Synchronous::new(44_100, 48_000, 2).expect("a common rate");
        let (mut first, mut second) = (Vec::new(), Vec::new());
        for out in [&mut first, &mut second] {
            resampler.process(&tone(44_100, 5_000), out).expect("resampled");
            resampler.finish(out).expect("finished");
        }
        assert_eq!(first, second);
        assert_eq!(first.len(), 2 * 5_443);
    }

    #[test]
    fn rates_that_nobody_has_are_refused() {
        for (from, channels) in [(0, 2), (48_000, 0), (44_101, 1), (47_999, 1)] {
            assert!(Synchronous::new(from, 48_000, channels).is_err(), "{from}");
        }
    }
}
