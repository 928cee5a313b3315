//! `ftyp` and `moov`.

use arcly_codec::language;
use arcly_core::{TimeDelta, Timescale, TrackKind};
use bytes::{BufMut, Bytes};

use super::wire::{put_box, put_full_box, put_text, put_zeros};
use super::{Mp4Track, entry};

/// Ticks per second of the times that belong to no track, where there are none.
const MOVIE_TIMESCALE: Timescale = Timescale::of(1_000);
/// A rate or a volume of one, and the unity matrix, in 16.16, 8.8 and 2.30.
const ONE: u32 = 1 << 16;
const MATRIX: [u32; 9] = [ONE, 0, 0, 0, ONE, 0, 0, 0, 1 << 30];
/// Enabled, and used in the presentation.
const TRACK_FLAGS: u32 = 3;

/// What an initialisation segment says beyond its tracks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InitOptions {
    /// Where on the fragments' timeline presentation begins: players show what is there at their time 0. `None` leaves the
    /// timeline as it is, as segments of HLS and DASH need it.
    pub start: Option<TimeDelta>,
    /// Write the brands of CMAF, which allows one track only.
    pub cmaf: bool,
}

/// The initialisation segment (a CMAF header, for one track): `ftyp` and `moov`, without samples.
#[must_use]
pub fn init_segment(tracks: &[Mp4Track], options: InitOptions) -> Bytes {
    let mut out = Vec::with_capacity(1_024);
    put_ftyp(&mut out, tracks, options.cmaf);
    put_box(&mut out, b"moov", |out| {
        put_movie_header(out, tracks, (MOVIE_TIMESCALE, 0));
        for track in tracks {
            // From there on, as long as there is media.
            let edit =
                options.start.map(|start| Edit { duration: 0, media_time: start.to_ticks(track.timescale) });
            put_track(out, track, &TrackBody { edits: edit.as_slice(), ..TrackBody::default() });
        }
        put_box(out, b"mvex", |out| tracks.iter().for_each(|track| put_defaults(out, track)));
    });
    out.into()
}

pub(super) fn put_ftyp(out: &mut Vec<u8>, tracks: &[Mp4Track], cmaf: bool) {
    put_box(out, b"ftyp", |out| {
        out.put_slice(if cmaf { b"cmfc" } else { b"iso6" });
        out.put_u32(0); // minor_version
        out.put_slice(b"iso6");
        out.put_slice(if cmaf { b"cmfc" } else { b"mp41" });
        if tracks.iter().any(|track| &track.entry.get(4..8).unwrap_or_default() == b"av01") {
            out.put_slice(b"av01");
        }
    });
}

/// An entry of an edit list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edit {
    /// In ticks of the movie; zero in files whose fragments are still to come.
    pub(super) duration: u64,
    /// What is shown then, in ticks of the track; -1 for nothing.
    pub(super) media_time: i64,
}

/// What differs between a track that is described and one whose samples are listed.
#[derive(Default)]
pub(super) struct TrackBody<'a> {
    /// What of the media is shown, one edit after the other.
    pub(super) edits: &'a [Edit],
    /// In ticks of the movie.
    pub(super) presentation: u64,
    /// In ticks of the track.
    pub(super) media: u64,
    /// `stts` to `stco`; empty ones when there is none.
    pub(super) tables: Option<&'a [u8]>,
}

pub(super) fn put_movie_header(
    out: &mut Vec<u8>,
    tracks: &[Mp4Track],
    (timescale, duration): (Timescale, u64),
) {
    let next = tracks.iter().map(|track| track.number).max().unwrap_or_default().saturating_add(1);
    put_full_box(out, b"mvhd", (1, 0), |out| {
        put_zeros(out, 16); // creation and modification time: not known
        out.put_u32(timescale.get());
        out.put_u64(duration);
        out.put_u32(ONE); // rate
        out.put_u16(1 << 8); // volume
        put_zeros(out, 10);
        MATRIX.iter().for_each(|&value| out.put_u32(value));
        put_zeros(out, 24);
        out.put_u32(next);
    });
}

pub(super) fn put_track(out: &mut Vec<u8>, track: &Mp4Track, body: &TrackBody<'_>) {
    put_box(out, b"trak", |out| {
        put_track_header(out, track, body.presentation);
        if !body.edits.is_empty() {
            put_edit_list(out, body.edits);
        }
        put_box(out, b"mdia", |out| {
            put_media_header(out, track, body.media);
            put_handler(out, track);
            put_box(out, b"minf", |out| {
                match track.track.kind() {
                    TrackKind::Video => put_full_box(out, b"vmhd", (0, 1), |out| put_zeros(out, 8)),
                    _ => put_full_box(out, b"smhd", (0, 0), |out| put_zeros(out, 4)),
                }
                put_data_information(out);
                put_box(out, b"stbl", |out| {
                    entry::put_description(out, &track.entry);
                    match body.tables {
                        Some(tables) => out.put_slice(tables),
                        None => put_empty_tables(out),
                    }
                });
            });
        });
    });
}

fn put_track_header(out: &mut Vec<u8>, track: &Mp4Track, duration: u64) {
    let video = track.track.video().copied().unwrap_or_default();
    let is_audio = track.track.kind() == TrackKind::Audio;
    put_full_box(out, b"tkhd", (1, TRACK_FLAGS), |out| {
        put_zeros(out, 16);
        out.put_u32(track.number);
        put_zeros(out, 4);
        out.put_u64(duration);
        put_zeros(out, 8);
        out.put_u16(0); // layer
        // Tracks of one group are alternatives: languages, not voices of one choir.
        out.put_u16(u16::from(is_audio));
        out.put_u16(if is_audio { 1 << 8 } else { 0 });
        put_zeros(out, 2);
        MATRIX.iter().for_each(|&value| out.put_u32(value));
        for pixels in [video.width, video.height] {
            out.put_u16(u16::try_from(pixels).unwrap_or(u16::MAX));
            out.put_u16(0);
        }
    });
}

fn put_edit_list(out: &mut Vec<u8>, edits: &[Edit]) {
    put_box(out, b"edts", |out| {
        put_full_box(out, b"elst", (1, 0), |out| {
            out.put_u32(u32::try_from(edits.len()).unwrap_or(u32::MAX));
            for edit in edits {
                out.put_u64(edit.duration);
                out.put_i64(edit.media_time);
                out.put_u32(ONE);
            }
        });
    });
}

fn put_media_header(out: &mut Vec<u8>, track: &Mp4Track, duration: u64) {
    let tag = track.track.language.as_deref();
    let code = tag.and_then(language::to_iso639_2).unwrap_or(language::UNDETERMINED);
    // Three letters of five bits each.
    let packed = code.iter().fold(0_u16, |bits, letter| (bits << 5) | u16::from(letter & 0x1F));
    put_full_box(out, b"mdhd", (1, 0), |out| {
        put_zeros(out, 16);
        out.put_u32(track.timescale.get());
        out.put_u64(duration);
        out.put_u16(packed);
        out.put_u16(0);
    });
    if let Some(tag) = tag {
        // All of the tag, where three letters say less.
        put_full_box(out, b"elng", (0, 0), |out| put_text(out, tag));
    }
}

fn put_handler(out: &mut Vec<u8>, track: &Mp4Track) {
    let (kind, name) = match track.track.kind() {
        TrackKind::Video => (b"vide", "VideoHandler"),
        _ => (b"soun", "SoundHandler"),
    };
    put_full_box(out, b"hdlr", (0, 0), |out| {
        out.put_u32(0);
        out.put_slice(kind);
        put_zeros(out, 12);
        put_text(out, track.track.label.as_deref().unwrap_or(name));
    });
}

/// The media is in this file.
fn put_data_information(out: &mut Vec<u8>) {
    put_box(out, b"dinf", |out| {
        put_full_box(out, b"dref", (0, 0), |out| {
            out.put_u32(1);
            put_full_box(out, b"url ", (0, 1), |_| {});
        });
    });
}

fn put_empty_tables(out: &mut Vec<u8>) {
    for (kind, zeros) in [(b"stts", 4), (b"stsc", 4), (b"stsz", 8), (b"stco", 4)] {
        put_full_box(out, kind, (0, 0), |out| put_zeros(out, zeros));
    }
}

/// Samples of a fragment that says nothing else use the first sample entry; everything else each fragment says itself.
fn put_defaults(out: &mut Vec<u8>, track: &Mp4Track) {
    put_full_box(out, b"trex", (0, 0), |out| {
        out.put_u32(track.number);
        out.put_u32(1);
        put_zeros(out, 12);
    });
}
