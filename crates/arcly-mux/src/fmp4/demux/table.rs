//! The sample tables of a plain file, read as they are needed.

use std::sync::Arc;

use arcly_core::Timescale;
use arcly_core::codec::FrameRate;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::Bytes;

use super::Sample;
use crate::fmp4::wire::{boxes, closed, full_box};

/// Rows of one size behind a count.
#[derive(Clone, Debug, Default)]
struct Table {
    rows: Bytes,
    width: usize,
}

impl Table {
    /// Reads the count, and takes as many rows as it says.
    fn decode(body: &Bytes, r: &mut Reader<'_>, width: usize, what: &'static str) -> DecodeResult<Self> {
        let count = usize::try_from(r.u32(what)?).unwrap_or(usize::MAX);
        let rows = r.bytes(count.saturating_mul(width), what)?;
        Ok(Self { rows: body.slice_ref(rows), width })
    }

    fn len(&self) -> usize {
        self.rows.len().checked_div(self.width).unwrap_or_default()
    }

    fn row(&self, index: usize) -> Option<Reader<'_>> {
        let from = index.checked_mul(self.width)?;
        self.rows.get(from..from.checked_add(self.width)?).map(Reader::new)
    }

    /// Two columns of four bytes.
    fn pair(&self, index: usize) -> Option<(u32, u32)> {
        let mut row = self.row(index)?;
        Some((row.u32("row").ok()?, row.u32("row").ok()?))
    }
}

/// `stbl`, without the sample description.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    /// `stts`: count, delta.
    times: Table,
    /// `ctts`: count, offset.
    offsets: Table,
    /// `stsc`: first chunk, samples per chunk, description.
    chunks: Table,
    /// `stsz`; of no rows when all have the same size.
    sizes: Table,
    same_size: u32,
    /// Samples of the same size.
    count: usize,
    /// `stco` or `co64`.
    places: Table,
    /// `sdtp`: a byte each.
    dependencies: Bytes,
}

impl Tables {
    pub(super) fn decode(stbl: &Bytes) -> DecodeResult<Self> {
        let mut tables = Self::default();
        for child in boxes(stbl) {
            let (kind, body) = child?;
            closed(&body, |r| tables.child(kind, &body, r))?;
        }
        if tables.len() > 0 && (tables.times.len() == 0 || tables.chunks.len() == 0) {
            return Err(DecodeError::Malformed { what: "sample tables", offset: 0 });
        }
        Ok(tables)
    }

    fn child(&mut self, kind: [u8; 4], body: &Bytes, r: &mut Reader<'_>) -> DecodeResult<()> {
        match &kind {
            b"stts" | b"ctts" | b"stsc" | b"stsz" | b"stco" | b"co64" | b"sdtp" => full_box(r, "version")?,
            b"stz2" => return Err(r.malformed("stz2")),
            _ => return Ok(()),
        };
        match &kind {
            b"stts" => self.times = Table::decode(body, r, 8, "stts")?,
            b"ctts" => self.offsets = Table::decode(body, r, 8, "ctts")?,
            b"stsc" => self.chunks = Table::decode(body, r, 12, "stsc")?,
            b"stco" => self.places = Table::decode(body, r, 4, "stco")?,
            b"co64" => self.places = Table::decode(body, r, 8, "co64")?,
            b"sdtp" => self.dependencies = body.slice_ref(r.rest()),
            _ => {
                self.same_size = r.u32("stsz")?;
                if self.same_size == 0 {
                    self.sizes = Table::decode(body, r, 4, "stsz")?;
                } else {
                    self.count = usize::try_from(r.u32("stsz")?).unwrap_or(usize::MAX);
                }
            }
        }
        Ok(())
    }

    /// How many samples there are.
    pub(super) fn len(&self) -> usize {
        self.sizes.len().max(self.count)
    }

    /// The lowest composition offset, when that is below zero: by so much decode times have to move so that nothing is
    /// shown before it is decoded.
    pub(super) fn lowest_offset(&self) -> i64 {
        let offsets = (0..self.offsets.len()).filter_map(|index| self.offsets.pair(index));
        offsets.map(|(_, offset)| i64::from(signed(offset))).min().unwrap_or_default().min(0)
    }

    /// The frame rate, when all samples but the last one last the same.
    pub(super) fn frame_rate(&self, timescale: Timescale) -> Option<FrameRate> {
        let (_, delta) = self.times.pair(0)?;
        let constant = match self.times.len() {
            1 => true,
            2 => self.times.pair(1).is_some_and(|(count, _)| count == 1),
            _ => false,
        };
        reduced(timescale.get(), delta).filter(|_| constant)
    }
}

/// A rate in lowest terms.
pub(super) fn reduced(num: u32, den: u32) -> Option<FrameRate> {
    let (mut a, mut b) = (num, den);
    while let Some(rest) = a.checked_rem(b) {
        (a, b) = (b, rest);
    }
    FrameRate::new(num.checked_div(a)?, den.checked_div(a)?)
}

/// Version 0 has unsigned offsets, and is used with signed ones all the same.
const fn signed(offset: u32) -> i32 {
    i32::from_be_bytes(offset.to_be_bytes())
}

/// A place in the tables: the next sample.
#[derive(Clone, Debug)]
pub(super) struct Cursor {
    tables: Arc<Tables>,
    index: usize,
    next: Option<Sample>,
    /// Row of `stts`, and how many samples of it are left.
    time: (usize, u32),
    delta: u32,
    offset: (usize, u32),
    composition: i32,
    /// The chunk to come, the row of `stsc`, and how many samples of the chunk at hand are left.
    chunk: usize,
    chunk_row: usize,
    left: u32,
    place: u64,
    dts: i64,
}

impl Cursor {
    pub(super) fn new(tables: Arc<Tables>) -> Self {
        let mut cursor = Self {
            tables,
            index: 0,
            next: None,
            time: (0, 0),
            delta: 0,
            offset: (0, 0),
            composition: 0,
            chunk: 0,
            chunk_row: 0,
            left: 0,
            place: 0,
            dts: 0,
        };
        cursor.next = cursor.load();
        cursor
    }

    pub(super) const fn peek(&self) -> Option<&Sample> {
        self.next.as_ref()
    }

    pub(super) fn advance(&mut self) {
        self.next = self.load();
    }

    /// Reads a sample's row of each table. Tables that end early end the track.
    fn load(&mut self) -> Option<Sample> {
        if self.index >= self.tables.len() {
            return None;
        }
        let size = match self.tables.same_size {
            0 => self.tables.sizes.row(self.index)?.u32("stsz").ok()?,
            same => same,
        };
        self.enter_chunk()?;
        self.step_time();
        self.step_offset();
        let disposable = self.tables.dependencies.get(self.index).is_some_and(|byte| (byte >> 2) & 3 == 2);
        let sample = Sample {
            offset: self.place,
            size,
            dts: self.dts,
            composition: self.composition,
            duration: self.delta,
            disposable,
        };
        self.index = self.index.saturating_add(1);
        self.left = self.left.saturating_sub(1);
        self.place = self.place.saturating_add(size.into());
        self.dts = self.dts.saturating_add(self.delta.into());
        Some(sample)
    }

    fn enter_chunk(&mut self) -> Option<()> {
        while self.left == 0 {
            let mut place = self.tables.places.row(self.chunk)?;
            let wide = place.remaining() == 8;
            self.place = if wide { place.u64("co64").ok()? } else { place.u32("stco").ok()?.into() };
            self.chunk = self.chunk.saturating_add(1);
            let begins = |row: usize| {
                let (first, _) = self.tables.chunks.pair(row)?;
                usize::try_from(first).ok()
            };
            let next = self.chunk_row.saturating_add(1);
            if begins(next).is_some_and(|first| first <= self.chunk) {
                self.chunk_row = next;
            }
            self.left = self.tables.chunks.pair(self.chunk_row)?.1;
        }
        Some(())
    }

    fn step_time(&mut self) {
        while self.time.1 == 0 {
            // Samples beyond the table last as long as the last one in it.
            let Some((count, delta)) = self.tables.times.pair(self.time.0) else { return };
            self.time = (self.time.0.saturating_add(1), count);
            self.delta = delta;
        }
        self.time.1 = self.time.1.saturating_sub(1);
    }

    fn step_offset(&mut self) {
        while self.offset.1 == 0 {
            let Some((count, offset)) = self.tables.offsets.pair(self.offset.0) else {
                self.composition = 0;
                return;
            };
            self.offset = (self.offset.0.saturating_add(1), count);
            self.composition = signed(offset);
        }
        self.offset.1 = self.offset.1.saturating_sub(1);
    }
}
