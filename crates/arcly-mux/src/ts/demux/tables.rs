//! Program tables as they come in: which packets matter, and how often a table may change.

use arcly_core::wire::DecodeResult;

use super::assembler::{Continuity, Counter};
use super::clock::Instant;
use super::{Counters, count};
use crate::ts::packet::{NULL_PID, PIDS, Packet};
use crate::ts::psi::{MAX_PROGRAMS, PAT_PID, Pat, Pmt};
use crate::ts::section::{MAX_TABLE_BYTES, Section, SectionAssembler};

/// A table is not taken anew before so much media has passed: 100 ms in 90 kHz ticks …
const MIN_TABLE_TICKS: u64 = 9_000;
/// … or so many bytes, for streams whose clock stands still.
const MIN_TABLE_BYTES: u64 = 64 << 10;
/// The codec of a stream is not changed before ten times as much has passed.
const CODEC_FACTOR: u64 = 10;

/// What a packet identifier is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    None,
    Pat,
    /// The map of a program, by its place in the tables.
    Pmt(usize),
    /// A stream, by its place in the demuxer.
    Stream(usize),
    /// Nothing but the program's clock.
    Clock,
}

/// The use of every packet identifier. At most 64 are in use: the PAT, 16 maps, 32 streams and a clock.
pub(super) struct Pids(Box<[u8; PIDS]>);

const NONE: u8 = 0;
const PAT: u8 = 1;
const CLOCK: u8 = 2;
const FIRST_PMT: u8 = 16;
const FIRST_STREAM: u8 = 64;

impl Pids {
    pub(super) fn new() -> Self {
        let mut pids = Self(Box::new([NONE; PIDS]));
        pids.set(PAT_PID, PAT);
        pids
    }

    pub(super) fn role(&self, pid: u16) -> Role {
        match self.0.get(usize::from(pid)).copied().unwrap_or(NONE) {
            NONE => Role::None,
            PAT => Role::Pat,
            CLOCK => Role::Clock,
            code if code < FIRST_STREAM => Role::Pmt(usize::from(code.saturating_sub(FIRST_PMT))),
            code => Role::Stream(usize::from(code.saturating_sub(FIRST_STREAM))),
        }
    }

    /// Routes anew. Streams go before maps that lie about their identifiers.
    pub(super) fn route(&mut self, tables: &Tables, streams: impl Iterator<Item = u16>) {
        self.0.fill(NONE);
        if tables.clock < NULL_PID {
            self.set(tables.clock, CLOCK);
        }
        for (code, map) in (FIRST_PMT..).zip(&tables.maps) {
            self.set(map.pid, code);
        }
        for (code, pid) in (FIRST_STREAM..).zip(streams) {
            self.set(pid, code);
        }
        self.set(PAT_PID, PAT);
    }

    fn set(&mut self, pid: u16, code: u8) {
        if let Some(slot) = self.0.get_mut(usize::from(pid)) {
            *slot = code;
        }
    }
}

/// The last table that was taken, and when.
#[derive(Debug, Default)]
struct Taken {
    bytes: Vec<u8>,
    at: Option<Instant>,
}

impl Taken {
    /// True when `section` is another than the last, and enough has passed since that one.
    fn accepts(&mut self, section: &[u8], now: Instant) -> bool {
        if self.bytes == section || !has_passed(self.at, now, 1) {
            return false;
        }
        self.bytes = section.to_vec();
        self.at = Some(now);
        true
    }
}

fn has_passed(since: Option<Instant>, now: Instant, factor: u64) -> bool {
    since.is_none_or(|since| {
        now.ticks.saturating_sub(since.ticks) >= MIN_TABLE_TICKS.saturating_mul(factor)
            || now.bytes.saturating_sub(since.bytes) >= MIN_TABLE_BYTES.saturating_mul(factor)
    })
}

/// The maps on one packet identifier.
#[derive(Debug)]
struct Map {
    pid: u16,
    assembler: SectionAssembler,
    counter: Counter,
    /// By program: several may share the identifier.
    taken: Vec<(u16, Taken)>,
}

/// The program tables.
#[derive(Debug)]
pub(super) struct Tables {
    assembler: SectionAssembler,
    counter: Counter,
    /// By section number: a table may have several.
    pat: Taken,
    version: Option<u8>,
    /// Program numbers and the identifiers of their maps.
    programs: Vec<(u16, u16)>,
    maps: Vec<Map>,
    clock: u16,
    codec_changed_at: Option<Instant>,
}

impl Tables {
    pub(super) const fn new() -> Self {
        Self {
            assembler: SectionAssembler::new(MAX_TABLE_BYTES),
            counter: Counter::new(),
            pat: Taken { bytes: Vec::new(), at: None },
            version: None,
            programs: Vec::new(),
            maps: Vec::new(),
            clock: NULL_PID,
            codec_changed_at: None,
        }
    }

    pub(super) fn programs(&self) -> impl Iterator<Item = u16> {
        self.programs.iter().map(|(number, _)| *number)
    }

    /// True when the clock of the program that is played is on that identifier.
    pub(super) const fn is_clock(&self, pid: u16) -> bool {
        self.clock == pid
    }

    pub(super) const fn set_clock(&mut self, pid: u16) {
        self.clock = pid;
    }

    /// True when a stream's codec may change now; then that is remembered.
    pub(super) fn may_change_codec(&mut self, now: Instant) -> bool {
        let may = has_passed(self.codec_changed_at, now, CODEC_FACTOR);
        if may {
            self.codec_changed_at = Some(now);
        }
        may
    }

    /// Takes a program's map for new when it comes again.
    pub(super) fn forget(&mut self, program: u16) {
        let taken = self.maps.iter_mut().flat_map(|map| &mut map.taken);
        taken.filter(|(number, _)| *number == program).for_each(|(_, taken)| taken.bytes.clear());
    }

    /// A packet of the association table; true when programs have come or gone.
    pub(super) fn pat(&mut self, packet: &Packet<'_>, now: Instant, counters: &mut Counters) -> bool {
        let mut sections = Vec::new();
        collect(&mut self.assembler, &mut self.counter, packet, counters, &mut sections);
        let mut changed = false;
        for bytes in sections {
            match self.pat_section(&bytes, now) {
                Ok(new) => changed |= new,
                Err(_) => count(&mut counters.bad_sections),
            }
        }
        changed
    }

    fn pat_section(&mut self, bytes: &[u8], now: Instant) -> DecodeResult<bool> {
        let section = Section::decode(bytes)?;
        let pat = Pat::decode(&section)?;
        // Further sections of a long table add to it; they do not wait.
        let adds = self.version == Some(pat.version)
            && pat.programs.iter().any(|(number, _)| self.programs().all(|known| known != *number));
        if !section.current || !(self.pat.accepts(bytes, now) || adds && bytes != self.pat.bytes) {
            return Ok(false);
        }
        let before = self.programs.clone();
        if !adds {
            self.programs.clear();
        }
        self.version = Some(pat.version);
        for (number, pid) in pat.programs {
            if self.programs.len() < MAX_PROGRAMS && self.programs().all(|known| known != number) {
                self.programs.push((number, pid));
            }
        }
        self.maps.retain(|map| self.programs.iter().any(|(_, pid)| *pid == map.pid));
        for (_, pid) in &self.programs {
            if self.maps.iter().all(|map| map.pid != *pid) {
                let assembler = SectionAssembler::new(MAX_TABLE_BYTES);
                self.maps.push(Map { pid: *pid, assembler, counter: Counter::new(), taken: Vec::new() });
            }
        }
        Ok(before != self.programs)
    }

    /// A packet of maps; those that are new.
    pub(super) fn pmt(
        &mut self,
        index: usize,
        packet: &Packet<'_>,
        now: Instant,
        counters: &mut Counters,
    ) -> Vec<Pmt> {
        let Some(map) = self.maps.get_mut(index) else { return Vec::new() };
        let mut sections = Vec::new();
        collect(&mut map.assembler, &mut map.counter, packet, counters, &mut sections);
        let mut found = Vec::new();
        for bytes in sections {
            match map.section(&bytes, &self.programs, now) {
                Ok(pmt) => found.extend(pmt),
                Err(_) => count(&mut counters.bad_sections),
            }
        }
        found
    }
}

impl Map {
    fn section(&mut self, bytes: &[u8], programs: &[(u16, u16)], now: Instant) -> DecodeResult<Option<Pmt>> {
        if self.taken.iter().any(|(_, taken)| taken.bytes == bytes) {
            return Ok(None);
        }
        let section = Section::decode(bytes)?;
        let announced = programs.contains(&(section.extension, self.pid));
        if !section.current || !announced {
            return Ok(None);
        }
        let at = match self.taken.iter().position(|(number, _)| *number == section.extension) {
            Some(at) => at,
            None => {
                self.taken.push((section.extension, Taken::default()));
                self.taken.len().saturating_sub(1)
            }
        };
        let Some((_, taken)) = self.taken.get_mut(at) else { return Ok(None) };
        if !taken.accepts(bytes, now) {
            return Ok(None);
        }
        Pmt::decode(&section).map(Some)
    }
}

/// The sections that are whole with a packet.
fn collect(
    assembler: &mut SectionAssembler,
    counter: &mut Counter,
    packet: &Packet<'_>,
    counters: &mut Counters,
    sections: &mut Vec<Vec<u8>>,
) {
    match counter.check(packet) {
        Continuity::Next => {}
        // A table that comes once more is the same table.
        Continuity::Repeated if !packet.unit_start => return count(&mut counters.repeated),
        Continuity::Repeated => {}
        Continuity::Gap => {
            count(&mut counters.gaps);
            assembler.reset();
        }
    }
    let Some(payload) = packet.payload else { return };
    let pushed = assembler.push(payload, packet.unit_start, |section| sections.push(section.to_vec()));
    if pushed.is_err() {
        count(&mut counters.bad_sections);
    }
}
