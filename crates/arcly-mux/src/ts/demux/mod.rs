//! A transport stream, in pieces, to media.

mod assembler;
mod audio;
mod clock;
mod data;
mod mpeg2;
mod outbox;
mod stream;
mod sync;
mod tables;
#[cfg(test)]
#[allow(clippy::arithmetic_side_effects, clippy::type_complexity, reason = "tests choose their numbers")]
mod tests;
mod unit;
mod video;

use arcly_core::wire::{DecodeError, DecodeResult};
use arcly_core::{MediaEvent, MediaFrame};

use self::clock::Clock;
use self::outbox::Outbox;
use self::stream::Stream;
use self::sync::Sync;
use self::tables::{Pids, Role, Tables};
use self::unit::Unit;
use self::video::Output;
use super::packet::{PACKET_LEN, Packet};
use super::psi::Pmt;

pub use assembler::MAX_PES_BYTES;
pub use sync::MAX_GARBAGE;

/// Bytes that all streams of a demuxer hold together while their access units are put together.
pub const MAX_HELD_BYTES: usize = 16 << 20;
/// Bytes of packets without a program that can be played, after which there is none.
pub const MAX_WITHOUT_PROGRAM: u64 = 16 << 20;

/// What a demuxer is to look for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DemuxerOptions {
    /// `program_number` of the program to play; `None` for the first that has anything to play.
    pub program: Option<u16>,
}

/// What was tolerated so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Times that packets were lost, by what the continuity counters say.
    pub gaps: u64,
    /// Packets that came twice.
    pub repeated: u64,
    /// Packets with an error flag, a scrambled payload or a header that lies.
    pub bad_packets: u64,
    /// Sections with a wrong checksum, length or content.
    pub bad_sections: u64,
    /// PES packets with a header that lies.
    pub bad_pes: u64,
    /// PES packets and access units that went on beyond [`MAX_PES_BYTES`], dropped.
    pub oversized: u64,
    /// Access units that were dropped, or had parameter sets that could not be understood.
    pub bad_access_units: u64,
    /// Frames that were dropped because no time was known for them.
    pub without_time: u64,
    /// Frames that were dropped because the configuration of their track was not known yet.
    pub without_config: u64,
    /// PES packets whose decode time contradicts their presentation time.
    pub clamped: u64,
    /// Times that sync was lost.
    pub sync_losses: u64,
}

/// Turns a transport stream into tracks and frames as it comes in, in pieces of any size.
///
/// A [`MediaEvent::Tracks`] comes before the first frame that needs it. At the start it waits until every stream of the
/// program has shown what it is, though not longer than a second of media, so that a stream begins with all its tracks.
///
/// What is held: at most [`MAX_HELD_BYTES`] of unfinished access units, a second of media (or 4 MiB) at the start, and what
/// [`poll_event`](Self::poll_event) has not fetched yet.
///
/// ```
/// use arcly_mux::ts::{Demuxer, DemuxerOptions};
///
/// let mut demuxer = Demuxer::new(DemuxerOptions::default());
/// demuxer.push(&[0x47; 188])?;
/// demuxer.finish()?;
/// assert_eq!(demuxer.poll_event(), None, "no program");
/// assert!(demuxer.push(&vec![0; 2 << 20]).is_err(), "no transport stream");
/// # Ok::<(), arcly_core::wire::DecodeError>(())
/// ```
pub struct Demuxer {
    options: DemuxerOptions,
    sync: Sync,
    pids: Pids,
    tables: Tables,
    /// `program_number` of the program that is played.
    program: Option<u16>,
    streams: Vec<Stream>,
    clock: Clock,
    outbox: Outbox,
    counters: Counters,
    /// Bytes of packets so far.
    bytes: u64,
    /// Bytes that streams hold.
    held: usize,
    units: Vec<Unit>,
    /// Why the stream cannot go on.
    refused: Option<DecodeError>,
}

impl core::fmt::Debug for Demuxer {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Demuxer({:?}, {} streams, {:?})", self.program, self.streams.len(), self.counters)
    }
}

impl Default for Demuxer {
    fn default() -> Self {
        Self::new(DemuxerOptions::default())
    }
}

impl Demuxer {
    /// A demuxer that has seen nothing.
    #[must_use]
    pub fn new(options: DemuxerOptions) -> Self {
        Self {
            options,
            sync: Sync::default(),
            pids: Pids::new(),
            tables: Tables::new(),
            program: None,
            streams: Vec::new(),
            clock: Clock::default(),
            outbox: Outbox::default(),
            counters: Counters::default(),
            bytes: 0,
            held: 0,
            units: Vec::new(),
            refused: None,
        }
    }

    /// Takes more of the stream.
    ///
    /// # Errors
    /// There has been no transport stream for [`MAX_GARBAGE`], or no program in it for [`MAX_WITHOUT_PROGRAM`]; or a picture
    /// is whole and larger than an access unit may be. An error is final; what came before it is still given out.
    pub fn push(&mut self, data: &[u8]) -> DecodeResult<()> {
        let data = self.sync.complete(data);
        self.drain(false)?;
        let run = self.sync.packets_of(data);
        self.packets(run)?;
        self.sync.push(data.get(run.len()..).unwrap_or_default());
        self.drain(false)
    }

    /// Ends the stream: what waited for more comes out as it is.
    ///
    /// # Errors
    /// As [`push`](Self::push).
    pub fn finish(&mut self) -> DecodeResult<()> {
        self.drain(true)?;
        for index in 0..self.streams.len() {
            self.with_stream(index, Stream::finish);
        }
        self.outbox.release(&self.streams);
        self.refused.map_or(Ok(()), Err)
    }

    /// The next event; `None` until more was pushed.
    pub fn poll_event(&mut self) -> Option<MediaEvent> {
        self.outbox.poll()
    }

    /// What was tolerated so far.
    #[must_use]
    pub const fn counters(&self) -> Counters {
        Counters { sync_losses: self.sync.losses(), ..self.counters }
    }

    /// `program_number` of the program that is played.
    #[must_use]
    pub const fn program(&self) -> Option<u16> {
        self.program
    }

    /// `program_number`s of all programs of the stream, as far as they are looked at.
    pub fn programs(&self) -> impl Iterator<Item = u16> {
        self.tables.programs()
    }

    /// Bytes of an incomplete packet and of unfinished access units.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.sync.buffered().saturating_add(self.held)
    }

    fn drain(&mut self, last: bool) -> DecodeResult<()> {
        while let Some(run) = self.sync.next_run(last)? {
            self.packets(&run)?;
        }
        Ok(())
    }

    fn packets(&mut self, run: &[u8]) -> DecodeResult<()> {
        for packet in run.chunks_exact(PACKET_LEN) {
            if let Some(packet) = packet.first_chunk() {
                self.packet(packet);
            }
            if let Some(error) = self.refused {
                return Err(error);
            }
        }
        if self.program.is_none() && self.bytes > MAX_WITHOUT_PROGRAM {
            let offset = usize::try_from(self.bytes).unwrap_or(usize::MAX);
            return Err(DecodeError::Malformed { what: "transport stream without program", offset });
        }
        Ok(())
    }

    fn packet(&mut self, bytes: &[u8; PACKET_LEN]) {
        self.bytes = self.bytes.saturating_add(PACKET_LEN as u64);
        let Ok(packet) = Packet::decode(bytes) else { return count(&mut self.counters.bad_packets) };
        let role = self.pids.role(packet.pid);
        if role == Role::None {
            return;
        }
        if packet.error || packet.scrambled {
            return count(&mut self.counters.bad_packets);
        }
        if let (Some(pcr), true) = (packet.adaptation.pcr, self.tables.is_clock(packet.pid)) {
            self.clock.reference(pcr);
        }
        match role {
            Role::None | Role::Clock => {}
            Role::Pat => {
                if self.tables.pat(&packet, self.clock.instant(self.bytes), &mut self.counters) {
                    self.programs_changed();
                }
            }
            Role::Pmt(index) => {
                let at = self.clock.instant(self.bytes);
                for pmt in self.tables.pmt(index, &packet, at, &mut self.counters) {
                    self.map(pmt);
                }
            }
            Role::Stream(index) => {
                self.with_stream(index, |stream, clock, out| stream.packet(&packet, clock, out))
            }
        }
    }

    /// Lets a stream do something, and takes what comes of it.
    fn with_stream(&mut self, index: usize, act: impl FnOnce(&mut Stream, &mut Clock, &mut Output<'_>)) {
        let Some(stream) = self.streams.get_mut(index) else { return };
        let before = stream.held();
        let (units, counters, refused) = (&mut self.units, &mut self.counters, &mut self.refused);
        act(stream, &mut self.clock, &mut Output { units, counters, refused });
        self.held = self.held.saturating_sub(before).saturating_add(stream.held());
        if self.held > MAX_HELD_BYTES {
            count(&mut self.counters.oversized);
            self.held = self.held.saturating_sub(stream.held());
            stream.discard();
        }
        let id = stream.id();
        if !self.units.is_empty() {
            self.outbox.refresh(index, &mut self.streams);
        }
        for unit in self.units.drain(..) {
            self.outbox.frame(frame(id, unit), &self.streams);
        }
    }

    /// Programs have come or gone.
    fn programs_changed(&mut self) {
        if self.program.is_some_and(|program| self.tables.programs().all(|number| number != program)) {
            self.program = None;
            self.replace_streams(&Pmt::default());
        }
        self.route();
    }

    /// A program consists of other streams than before.
    fn map(&mut self, pmt: Pmt) {
        if self.options.program.is_some_and(|wanted| wanted != pmt.program) {
            return;
        }
        match self.program {
            None if Stream::any(&pmt) => self.program = Some(pmt.program),
            Some(program) if program == pmt.program => {}
            _ => return,
        }
        let changes_codec = self.streams.iter().any(|stream| stream.changes_with(&pmt));
        if changes_codec && !self.tables.may_change_codec(self.clock.instant(self.bytes)) {
            // Its next repetition is looked at again.
            return self.tables.forget(pmt.program);
        }
        self.tables.set_clock(pmt.pcr_pid);
        self.replace_streams(&pmt);
        self.route();
    }

    fn replace_streams(&mut self, pmt: &Pmt) {
        for index in 0..self.streams.len() {
            if self.streams.get(index).is_some_and(|stream| !stream.stays_in(pmt)) {
                self.with_stream(index, Stream::finish);
            }
        }
        self.outbox.before_change(&self.streams);
        let mut kept = core::mem::take(&mut self.streams);
        kept.retain_mut(|stream| stream.adopt(pmt));
        for info in &pmt.streams {
            if kept.iter().all(|stream| stream.pid() != info.pid)
                && let Some(stream) = Stream::new(info, &kept)
            {
                kept.push(stream);
            }
        }
        self.streams = kept;
        self.held = self.streams.iter().fold(0, |held, stream| held.saturating_add(stream.held()));
        self.outbox.changed(&self.streams);
    }

    fn route(&mut self) {
        let streams = self.streams.iter().map(Stream::pid);
        self.pids.route(&self.tables, streams);
    }
}

fn frame(track: arcly_core::TrackId, unit: Unit) -> MediaFrame {
    let Unit { stamp, duration, mut flags, payload } = unit;
    flags.set(arcly_core::FrameFlags::CLAMPED, stamp.clamped);
    MediaFrame::new(track, stamp.dts, payload).with_pts(stamp.pts).with_duration(duration).with_flags(flags)
}

const fn count(counter: &mut u64) {
    *counter = counter.saturating_add(1);
}
