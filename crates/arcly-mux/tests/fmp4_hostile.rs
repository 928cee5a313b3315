//! MP4 that lies, is cut short, or is merely unusual.

mod support;

use arcly_core::wire::DecodeError;
use arcly_core::{FrameFlags, MediaEvent, MediaFrame, TimeDelta, Timescale, Timestamp, TrackId};
use arcly_mux::fmp4::{DemuxError, FileOptions, Fragmenter, Prefix, Run};
use arcly_testkit::media::Source;
use proptest::prelude::*;

use support::{demux, fragmented, mp4_tracks, read_mp4, written};

fn file(seconds: u32) -> Vec<u8> {
    let source = Source::h264_aac();
    let tracks = source.tracks();
    fragmented(&tracks, &source.seconds(seconds), TimeDelta::from_millis(500))
}

fn mp4_box(kind: &[u8; 4], body: &[u8]) -> Vec<u8> {
    [&u32::try_from(body.len() + 8).expect("small").to_be_bytes(), kind, body].concat()
}

/// Where the n-th box of a kind begins.
fn position(file: &[u8], kind: &[u8; 4], n: usize) -> usize {
    let found = file.windows(4).enumerate().filter(|(_, window)| window == kind).nth(n);
    found.expect("the box").0 - 4
}

fn frames(events: &[MediaEvent]) -> usize {
    events.iter().filter(|event| matches!(event, MediaEvent::Frame(_))).count()
}

/// What is wrong, or exceeded; a file that comes to its end is `Ok`.
fn outcome(file: &[u8]) -> Result<usize, &'static str> {
    let (events, error) = demux(file);
    match error {
        None => Ok(frames(&events)),
        Some(DemuxError::Decode(
            DecodeError::Malformed { what, .. } | DecodeError::LimitExceeded { what, .. },
        )) => Err(what),
        Some(DemuxError::NoMovie) => Err("no movie"),
        Some(DemuxError::NoTracks) => Err("no tracks"),
        Some(error) => panic!("{error}"),
    }
}

#[test]
fn m25_box_sizes() {
    let good = file(1);
    assert!(outcome(&good).unwrap() > 60);
    let with_size = |kind: &[u8; 4], size: u32| {
        let mut file = good.clone();
        let at = position(&file, kind, 0);
        file[at..at + 4].copy_from_slice(&size.to_be_bytes());
        outcome(&file)
    };
    for size in [2, 7] {
        for kind in [b"ftyp", b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"avcC", b"moof", b"traf", b"trun"]
        {
            assert_eq!(with_size(kind, size), Err("box size"), "{size} of {}", kind.escape_ascii());
        }
    }
    for kind in [b"trak", b"mdia", b"stbl", b"avcC", b"traf", b"trun"] {
        assert_eq!(with_size(kind, 0), Err("box size"), "0 of {}", kind.escape_ascii());
        assert_eq!(with_size(kind, 1 << 24), Err("box"), "beyond its parent: {}", kind.escape_ascii());
    }
    assert_eq!(with_size(b"moov", u32::MAX), Err("moov"));
    assert_eq!(with_size(b"moof", u32::MAX), Err("moof"));
    // A first box that reaches to the end, or beyond it, hides the rest.
    assert_eq!(with_size(b"ftyp", 0), Err("no movie"));
    assert_eq!(with_size(b"ftyp", u32::MAX), Err("no movie"));
    for size in [1 << 63, u64::MAX, 15] {
        let huge = [&1_u32.to_be_bytes()[..], b"free", &u64::to_be_bytes(size)].concat();
        assert_eq!(outcome(&[&good[..], &huge].concat()), Err("box size"), "{size:x}");
    }
    let huge = [&1_u32.to_be_bytes()[..], b"free", &(u64::MAX >> 1).to_be_bytes()].concat();
    assert!(outcome(&[&good[..], &huge].concat()).is_ok(), "a last box beyond the end is cut short");
}

#[test]
fn m25_depth() {
    // 10 000 levels in a box that is not opened, in one that is, and instead of one.
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested = mp4_box(b"udta", &nested);
    }
    let good = file(1);
    let moov = position(&good, b"moov", 0);
    let size = u32::from_be_bytes(good[moov..moov + 4].try_into().unwrap()) as usize;
    let body = [&good[moov + 8..moov + size], &nested[..]].concat();
    let deeper = [&good[..moov], &mp4_box(b"moov", &body), &good[moov + size..]].concat();
    assert_eq!(outcome(&deeper), outcome(&good));
    assert_eq!(outcome(&[&good[..moov], &nested, &good[moov..]].concat()), outcome(&good));
    let mut moovs = Vec::new();
    for _ in 0..10_000 {
        moovs = mp4_box(b"moov", &moovs);
    }
    assert_eq!(outcome(&moovs), Err("mvhd"));
    // Boxes without end: each is looked at once.
    let empty = mp4_box(b"free", &[]).repeat(100_000);
    assert_eq!(outcome(&[&good[..], &empty].concat()), outcome(&good));
}

#[test]
fn m27_samples_outside_their_media() {
    let good = file(1);
    let patched = |kind: &[u8; 4], at: usize, value: &[u8]| {
        let mut file = good.clone();
        let start = position(&file, kind, 0) + 8 + at;
        file[start..start + value.len()].copy_from_slice(value);
        outcome(&file)
    };
    // data_offset: behind the file, before the fragment, within its header.
    for (offset, expect) in [
        (i32::MAX, "sample outside mdat"),
        (-1, "data_offset"),
        (i32::MIN, "data_offset"),
        (8, "sample outside mdat"),
    ] {
        assert_eq!(patched(b"trun", 8, &offset.to_be_bytes()), Err(expect), "{offset}");
    }
    // sample_count: more than a run may have, more than there are.
    assert_eq!(patched(b"trun", 4, &u32::MAX.to_be_bytes()), Err("samples_per_run"));
    assert_eq!(patched(b"trun", 4, &19_201_u32.to_be_bytes()), Err("samples_per_run"));
    assert_eq!(patched(b"trun", 4, &19_200_u32.to_be_bytes()), Err("trun"));
    // tfdt beyond 2^63.
    assert_eq!(patched(b"tfdt", 4, &[0xFF; 8]), Err("tfdt"));
    // The size of the first sample: more than an access unit, and more than the mdat has.
    assert_eq!(patched(b"trun", 12, &u32::MAX.to_be_bytes()), Err("access_unit"));
    assert_eq!(patched(b"trun", 12, &(4_u32 << 20).to_be_bytes()), Err("sample outside mdat"));
    // A timescale of zero.
    assert_eq!(patched(b"mvhd", 20, &[0; 4]), Err("timescale"));
    assert_eq!(patched(b"mdhd", 20, &[0; 4]), Err("timescale"));
}

#[test]
fn m27_a_fragment_of_samples_without_bytes() {
    // Runs of 19 200 samples that cost nothing to say: a fragment has a bound of its own.
    let good = file(1);
    let start = &good[..position(&good, b"moof", 0)];
    let tfhd = mp4_box(b"tfhd", &[0, 2, 0, 0, 0, 0, 0, 1]);
    let trun = mp4_box(b"trun", &[0, 0, 0, 0, 0, 0, 0x4B, 0]);
    for (runs, expect) in [(4, Err("sample outside mdat")), (5, Err("samples_per_fragment"))] {
        let traf = mp4_box(b"traf", &[&tfhd[..], &trun.repeat(runs)].concat());
        let file = [start, &mp4_box(b"moof", &traf), &mp4_box(b"moof", &[])].concat();
        assert_eq!(outcome(&file), expect);
    }
}

#[test]
fn m27_tables_of_a_plain_file_that_lie() {
    let source = Source::h264_aac();
    let (_, good) = written(&source.tracks(), &source.seconds(2), FileOptions::default());
    let all = outcome(&good);
    assert!(all.is_ok_and(|frames| frames > 120));
    // The tables are in the last moov.
    let moov = good.windows(4).rposition(|window| window == b"moov").expect("moov") - 4;
    let patched = |kind: &[u8; 4], at: usize, value: &[u8]| {
        let mut file = good.clone();
        let start = moov + position(&file[moov..], kind, 0) + 12 + at;
        file[start..start + value.len()].copy_from_slice(value);
        outcome(&file)
    };
    let count = u32::MAX.to_be_bytes();
    for kind in [b"stts", b"ctts", b"stsc", b"stco", b"stss"] {
        // More rows than there is room for; FFmpeg's stss is not needed.
        let expect = if kind == b"stss" { all } else { Err(core::str::from_utf8(kind).unwrap()) };
        assert_eq!(patched(kind, 0, &count), expect);
    }
    assert_eq!(patched(b"stsz", 4, &count), Err("stsz"));
    // All of one size, as many as can be said: the chunks end it, or the media does.
    assert!(patched(b"stsz", 0, &[0, 0, 0, 1, 0xFF, 0xFF, 0xFF, 0xFF]).is_ok());
    assert_eq!(patched(b"stsz", 0, &count), Err("access_unit"));
    // A chunk in front of the media, behind it, and beyond the file.
    for place in [0_u32, 8, 1 << 30, u32::MAX] {
        assert_eq!(patched(b"stco", 4, &place.to_be_bytes()), Err("sample outside mdat"), "{place}");
    }
    // No samples in a chunk, and too many.
    for samples in [0_u32, u32::MAX] {
        assert!(patched(b"stsc", 8, &samples.to_be_bytes()).is_ok_and(|frames| frames < 130) || samples > 0);
    }
    // Times that stand still, and that run away.
    assert_eq!(patched(b"stts", 8, &[0; 4]), all);
    assert_eq!(patched(b"stts", 8, &count), all);
}

#[test]
fn m34_cut_at_every_byte() {
    let good = file(1);
    let (all, _) = demux(&good);
    for cut in 0..good.len() {
        let (events, error) = demux(&good[..cut]);
        assert!(matches!(error, None | Some(DemuxError::NoMovie)), "{cut}: {error:?}");
        assert!(all.starts_with(&events), "{cut}: what is whole comes out, and nothing else");
    }
}

#[test]
fn m34_every_byte_of_the_description_flipped() {
    let source = Source::h264_aac();
    let good = fragmented(&source.tracks(), &source.seconds(1)[..3], TimeDelta::from_millis(500));
    let described = position(&good, b"mdat", 0);
    for at in 0..described {
        for bit in 0..8 {
            let mut file = good.clone();
            file[at] ^= 1 << bit;
            let first = demux(&file);
            assert_eq!(first, demux(&file), "{at}: the same every time");
        }
    }
}

/// Access units of random bytes: slices of random sizes with valid headers, sound of any bytes.
fn unit() -> impl Strategy<Value = (bool, bool, u16, u8, Vec<u8>)> {
    (any::<bool>(), any::<bool>(), 0_u16..5_000, 0_u8..6, proptest::collection::vec(any::<u8>(), 1..60))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn m32_what_goes_in_comes_out(units in proptest::collection::vec(unit(), 100), step in 1_i64..2_000) {
        let source = Source::h264_aac();
        let tracks = source.tracks();
        let (mut video_at, mut audio_at) = (Timestamp::ZERO, Timestamp::ZERO);
        let mut frames = Vec::new();
        for (is_video, key, gap, reorder, bytes) in units {
            if is_video || frames.is_empty() {
                let key = key || frames.is_empty();
                // An IDR slice, or a non-reference one.
                let header = if key { 0x65 } else { 0x01 };
                let len = u32::try_from(bytes.len() + 1).unwrap();
                let payload = [&len.to_be_bytes()[..], &[header], &bytes].concat();
                let flags = if key { FrameFlags::KEYFRAME } else { FrameFlags::DISPOSABLE };
                let frame = MediaFrame::new(TrackId::VIDEO, video_at, payload.into());
                let pts = video_at + TimeDelta::from_ticks(i64::from(reorder) * 3_003, Timescale::MPEG);
                frames.push(frame.with_pts(pts).with_flags(flags));
                video_at += TimeDelta::from_ticks(i64::from(gap), Timescale::MPEG);
            } else {
                let samples = TimeDelta::from_units(1_024, Timescale::of(48_000));
                let frame = MediaFrame::new(TrackId::AUDIO, audio_at, bytes.into());
                frames.push(frame.with_flags(FrameFlags::KEYFRAME).with_duration(samples));
                // A gap now and then, which stays as it is.
                audio_at += samples;
                if gap > 4_500 {
                    audio_at += TimeDelta::from_units(i64::from(gap), Timescale::of(48_000));
                }
            }
        }
        frames.sort_by_key(|frame| frame.dts);
        let options = FileOptions { part: TimeDelta::from_millis(step) };
        let (_, finished) = written(&tracks, &frames, options);
        let fragments = fragmented(&tracks, &frames, options.part);
        let read = [read_mp4(&fragments, true, 1_000).1, read_mp4(&finished, false, 1_000).1];
        for (track, read) in tracks.iter().zip(&read).chain(tracks.iter().zip(read.iter().rev())) {
            let of = |frames: &[MediaFrame]| -> Vec<_> {
                let mine = frames.iter().filter(|frame| frame.track == track.id);
                mine.map(|frame| (frame.dts, frame.pts, frame.flags, frame.payload.clone())).collect()
            };
            let (sent, mut got) = (of(&frames), of(read));
            // Presentation begins at zero.
            let first = frames.iter().map(|frame| frame.pts).min().unwrap();
            for (dts, pts, ..) in &mut got {
                (*dts, *pts) = (*dts + (first - Timestamp::ZERO), *pts + (first - Timestamp::ZERO));
            }
            prop_assert_eq!(sent, got);
        }
    }
}

#[test]
fn a_track_of_one_fragment_after_the_other_is_one_stream() {
    // tfdt without end: an hour in the middle, and times beyond 2^32 ticks.
    let source = Source::h264().starting_at(Timestamp::from_millis(1 << 40));
    let tracks = source.tracks();
    let frames = source.seconds(2);
    let mut fragmenter = Fragmenter::new(mp4_tracks(&tracks), Timestamp::ZERO);
    let mut file = arcly_mux::fmp4::init_segment(&mp4_tracks(&tracks), Default::default()).to_vec();
    for (n, frame) in frames.iter().enumerate() {
        let end = frames.get(n + 1).map_or(frame.dts + frame.duration, |next| next.dts);
        let run = Run { frames: std::slice::from_ref(frame), end };
        file.extend_from_slice(&fragmenter.chunk(run, &Prefix::default()).unwrap().to_bytes());
    }
    let (_, read) = read_mp4(&file, true, 333);
    assert_eq!(read, frames);
}
