//! `moov`: the tracks of a file.

use arcly_codec::language;
use arcly_core::codec::FrameRate;
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{TimeDelta, Timescale};
use bytes::Bytes;

use super::entry::{self, Entry};
use super::fragment::Defaults;
use super::table::{Tables, reduced};
use crate::fmp4::wire::{boxes, closed, find, full_box, require};

/// Tracks of one file that are looked at.
const MAX_TRACKS: usize = 64;
/// Names that muxers give when nobody did.
const GENERIC_NAMES: [&str; 3] = ["Handler", "Core Media", "Apple"];

/// A track of a file.
#[derive(Debug)]
pub(super) struct TrackBox {
    pub(super) number: u32,
    pub(super) timescale: Timescale,
    pub(super) language: Option<String>,
    pub(super) label: Option<String>,
    pub(super) entry: Entry,
    pub(super) edit: Edit,
    pub(super) tables: Tables,
    pub(super) defaults: Defaults,
}

impl TrackBox {
    /// The frame rate that the file's own times say.
    pub(super) fn frame_rate(&self) -> Option<FrameRate> {
        match self.tables.len() {
            0 => reduced(self.timescale.get(), self.defaults.duration),
            _ => self.tables.frame_rate(self.timescale),
        }
    }
}

/// Where presentation begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edit {
    /// How long nothing is shown first.
    pub(super) empty: TimeDelta,
    /// The media time that is shown then, in ticks of the track.
    pub(super) media_time: i64,
}

/// Reads a `moov`; tracks that cannot be decoded are left out. True when there are fragments.
pub(super) fn decode(moov: &Bytes) -> DecodeResult<(Vec<TrackBox>, bool)> {
    let mvhd = require(moov, b"mvhd", "mvhd")?;
    let movie_scale = closed(&mvhd, timescale)?;
    let (mut tracks, mut fragmented) = (Vec::new(), false);
    for child in boxes(moov) {
        let (kind, body) = child?;
        if &kind == b"trak" {
            if tracks.len() >= MAX_TRACKS {
                return Err(DecodeError::LimitExceeded { what: "tracks", limit: MAX_TRACKS as u64 });
            }
            tracks.extend(track(&body, movie_scale)?);
        }
    }
    if let Some(mvex) = find(moov, b"mvex")? {
        fragmented = true;
        for child in boxes(&mvex) {
            let (kind, body) = child?;
            if &kind == b"trex" {
                closed(&body, |r| defaults(r, &mut tracks))?;
            }
        }
    }
    Ok((tracks, fragmented))
}

fn track(trak: &Bytes, movie_scale: Timescale) -> DecodeResult<Option<TrackBox>> {
    let tkhd = require(trak, b"tkhd", "tkhd")?;
    let number = closed(&tkhd, |r| {
        skip_times(r)?;
        r.u32("track_ID")
    })?;
    let mdia = require(trak, b"mdia", "mdia")?;
    let hdlr = require(&mdia, b"hdlr", "hdlr")?;
    let (handler, label) = closed(&hdlr, handler)?;
    let mdhd = require(&mdia, b"mdhd", "mdhd")?;
    let (scale, code) = closed(&mdhd, media_header)?;
    let minf = require(&mdia, b"minf", "minf")?;
    let stbl = require(&minf, b"stbl", "stbl")?;
    let stsd = require(&stbl, b"stsd", "stsd")?;
    let Some(entry) = entry::decode(&stsd, handler)? else { return Ok(None) };
    let extended = find(&mdia, b"elng")?.and_then(|body| text(body.get(4..)?));
    Ok(Some(TrackBox {
        number,
        timescale: scale,
        language: extended.or_else(|| language::from_iso639_2(code)),
        label,
        entry,
        edit: edit(trak, movie_scale)?,
        tables: Tables::decode(&stbl)?,
        defaults: Defaults::default(),
    }))
}

/// Version and flags, creation and modification time.
fn skip_times(r: &mut Reader<'_>) -> DecodeResult<u8> {
    let (version, _) = full_box(r, "version")?;
    r.skip(if version == 1 { 16 } else { 8 }, "creation_time")?;
    Ok(version)
}

fn timescale(r: &mut Reader<'_>) -> DecodeResult<Timescale> {
    skip_times(r)?;
    let at = *r;
    Timescale::new(r.u32("timescale")?).ok_or_else(|| at.malformed("timescale"))
}

fn media_header(r: &mut Reader<'_>) -> DecodeResult<(Timescale, [u8; 3])> {
    let version = r.peek();
    let scale = timescale(r)?;
    r.skip(if version == Some(1) { 8 } else { 4 }, "duration")?;
    let packed = r.u16("language")?;
    let letter = |shift: u32| u8::try_from((packed >> shift) & 0x1F).unwrap_or_default() | 0x60;
    Ok((scale, [letter(10), letter(5), letter(0)]))
}

/// The handler's type, and its name when somebody chose it.
fn handler(r: &mut Reader<'_>) -> DecodeResult<([u8; 4], Option<String>)> {
    full_box(r, "hdlr")?;
    r.skip(4, "hdlr")?;
    let kind = r.array("handler_type")?;
    r.skip(12, "hdlr")?;
    let chosen = |name: &String| !GENERIC_NAMES.iter().any(|generic| name.contains(generic));
    Ok((kind, text(r.rest()).filter(chosen)))
}

/// Text up to a zero; `None` when it is empty or none.
fn text(bytes: &[u8]) -> Option<String> {
    let bytes = bytes.split(|&byte| byte == 0).next().filter(|bytes| !bytes.is_empty())?;
    let text = core::str::from_utf8(bytes).ok()?;
    (!text.chars().any(char::is_control)).then(|| text.to_owned())
}

/// The start of the edit list: pauses, and the first edit. Those behind it are not followed.
fn edit(trak: &Bytes, movie_scale: Timescale) -> DecodeResult<Edit> {
    let Some(edts) = find(trak, b"edts")? else { return Ok(Edit::default()) };
    let Some(elst) = find(&edts, b"elst")? else { return Ok(Edit::default()) };
    closed(&elst, |r| {
        let (version, _) = full_box(r, "elst")?;
        let mut edit = Edit::default();
        for _ in 0..r.u32("elst")? {
            let (duration, media_time) = match version {
                1 => (r.u64("elst")?, i64::from_be_bytes(r.array("elst")?)),
                _ => (r.u32("elst")?.into(), r.i32("elst")?.into()),
            };
            r.skip(4, "media_rate")?;
            if media_time != -1 {
                edit.media_time = media_time;
                break;
            }
            edit.empty += TimeDelta::from_ticks(i64::try_from(duration).unwrap_or(i64::MAX), movie_scale);
        }
        Ok(edit)
    })
}

fn defaults(r: &mut Reader<'_>, tracks: &mut [TrackBox]) -> DecodeResult<()> {
    full_box(r, "trex")?;
    let number = r.u32("trex")?;
    r.skip(4, "trex")?;
    let defaults = Defaults { duration: r.u32("trex")?, size: r.u32("trex")?, flags: r.u32("trex")? };
    tracks.iter_mut().filter(|track| track.number == number).for_each(|track| track.defaults = defaults);
    Ok(())
}
