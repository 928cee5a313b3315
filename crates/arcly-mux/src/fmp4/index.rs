//! Sample tables: where everything is in a finished file.

use bytes::BufMut;

use super::fragment::Sample;
use super::wire::put_full_box;

/// `sample_is_non_sync_sample`.
const NON_SYNC: u32 = 1 << 16;

/// Values and how many of them in a row.
#[derive(Clone, Debug, Default)]
struct Runs<T>(Vec<(u32, T)>);

impl<T: PartialEq + Copy> Runs<T> {
    fn push(&mut self, value: T) {
        match self.0.last_mut() {
            Some((count, last)) if *last == value => *count = count.saturating_add(1),
            _ => self.0.push((1, value)),
        }
    }
}

/// The samples of one track in a file, as `stbl` lists them.
#[derive(Clone, Debug, Default)]
pub(super) struct SampleIndex {
    durations: Runs<u32>,
    offsets: Runs<i32>,
    sizes: Vec<u32>,
    /// Numbers of the samples at which decoding may start, from 1 on.
    syncs: Vec<u32>,
    /// Where each chunk begins, and how many samples it has.
    chunks: Vec<(u64, u32)>,
    /// When the first sample is decoded and the last one ends, in ticks of the fragments.
    pub(super) first: Option<u64>,
    pub(super) end: u64,
    /// When the earliest sample is shown.
    pub(super) shown: Option<i64>,
}

impl SampleIndex {
    /// Begins a chunk at `place` in the file, whose first sample is decoded at `at`. Time that has passed since the end of
    /// the last one belongs to the last sample.
    pub(super) fn begin_chunk(&mut self, place: u64, at: u64) {
        self.chunks.push((place, 0));
        match self.first {
            None => self.first = Some(at),
            Some(_) => self.stretch(at.saturating_sub(self.end)),
        }
        self.end = self.end.max(at);
    }

    /// Makes the last sample longer.
    fn stretch(&mut self, ticks: u64) {
        let Some((count, last)) = self.durations.0.last_mut().filter(|_| ticks > 0) else { return };
        let longer = last.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX));
        *count = count.saturating_sub(1);
        if *count == 0 {
            self.durations.0.pop();
        }
        self.durations.push(longer);
    }

    pub(super) fn push(&mut self, sample: &Sample) {
        let at = i64::try_from(self.end).unwrap_or(i64::MAX).saturating_add(sample.offset.into());
        self.shown = Some(self.shown.map_or(at, |shown| shown.min(at)));
        self.durations.push(sample.duration);
        self.offsets.push(sample.offset);
        self.sizes.push(sample.size);
        if sample.flags & NON_SYNC == 0 {
            self.syncs.push(u32::try_from(self.sizes.len()).unwrap_or(u32::MAX));
        }
        if let Some((_, count)) = self.chunks.last_mut() {
            *count = count.saturating_add(1);
        }
        self.end = self.end.saturating_add(sample.duration.into());
    }

    pub(super) const fn len(&self) -> usize {
        self.sizes.len()
    }

    /// How long all samples are together, in ticks.
    pub(super) fn duration(&self) -> u64 {
        self.end.saturating_sub(self.first.unwrap_or(self.end))
    }

    /// `stts`, `ctts`, `stss`, `stsz`, `stsc`, and `stco` or `co64`.
    pub(super) fn tables(&self) -> Vec<u8> {
        let mut out = Vec::new();
        put_table(&mut out, b"stts", 0, &self.durations.0, |out, (count, duration)| {
            out.put_u32(*count);
            out.put_u32(*duration);
        });
        if self.offsets.0.iter().any(|(_, offset)| *offset != 0) {
            let signed = self.offsets.0.iter().any(|(_, offset)| *offset < 0);
            put_table(&mut out, b"ctts", u8::from(signed), &self.offsets.0, |out, (count, offset)| {
                out.put_u32(*count);
                out.put_i32(*offset);
            });
        }
        if self.syncs.len() < self.sizes.len() {
            put_table(&mut out, b"stss", 0, &self.syncs, |out, number| out.put_u32(*number));
        }
        put_full_box(&mut out, b"stsz", (0, 0), |out| {
            out.put_u32(0);
            put_rows(out, &self.sizes, |out, size| out.put_u32(*size));
        });
        self.put_chunks(&mut out);
        out
    }

    fn put_chunks(&self, out: &mut Vec<u8>) {
        let (mut rows, mut last) = (Vec::new(), None);
        for ((_, samples), number) in self.chunks.iter().zip(1_u32..) {
            if last != Some(samples) {
                rows.push((number, *samples));
                last = Some(samples);
            }
        }
        put_table(out, b"stsc", 0, &rows, |out, (number, samples)| {
            out.put_u32(*number);
            out.put_u32(*samples);
            out.put_u32(1); // sample_description_index
        });
        let near: Option<Vec<u32>> =
            self.chunks.iter().map(|(place, _)| u32::try_from(*place).ok()).collect();
        match near {
            Some(near) => put_table(out, b"stco", 0, &near, |out, place| out.put_u32(*place)),
            None => put_table(out, b"co64", 0, &self.chunks, |out, (place, _)| out.put_u64(*place)),
        }
    }
}

fn put_table<T>(
    out: &mut Vec<u8>,
    kind: &[u8; 4],
    version: u8,
    rows: &[T],
    put: impl FnMut(&mut Vec<u8>, &T),
) {
    put_full_box(out, kind, (version, 0), |out| put_rows(out, rows, put));
}

fn put_rows<T>(out: &mut Vec<u8>, rows: &[T], mut put: impl FnMut(&mut Vec<u8>, &T)) {
    out.put_u32(u32::try_from(rows.len()).unwrap_or(u32::MAX));
    rows.iter().for_each(|row| put(out, row));
}
