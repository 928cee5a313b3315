use std::time::{Duration, UNIX_EPOCH};

use arcly_core::codec::{AudioParams, PcmConfig};
use arcly_core::{
    CodecConfig, CodecId, FrameFlags, MediaFrame, TimeDelta, Timescale, Timestamp, Track, TrackId, TrackKind,
    TrackSet,
};
use arcly_testkit::media::Source;

use super::*;

fn video_of(tracks: &TrackSet) -> Mp4Track {
    Mp4Track::new(tracks.first(TrackKind::Video).expect("video"), 1).expect("H.264")
}

fn h264(seconds: u32) -> (Fragmenter, Vec<MediaFrame>) {
    let source = Source::h264();
    let track = video_of(&source.tracks());
    (Fragmenter::new([track], Timestamp::ZERO), source.seconds(seconds))
}

fn find<'a>(bytes: &'a [u8], kind: &[u8; 4]) -> Option<&'a [u8]> {
    let at = bytes.windows(4).position(|window| window == kind)?;
    Some(&bytes[at + 4..])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[test]
fn a_fragment_shares_the_payloads_of_its_frames() {
    let (mut fragmenter, frames) = h264(1);
    let run = Run { frames: &frames, end: Timestamp::from_millis(1_000) };
    let fragment = fragmenter.chunk(run, &Prefix::default()).expect("a fragment");
    assert_eq!(fragment.chunks().len(), 1 + frames.len());
    for (chunk, frame) in fragment.chunks()[1..].iter().zip(&frames) {
        assert_eq!(chunk.as_ptr(), frame.payload.as_ptr());
    }
    let whole = fragment.to_bytes();
    assert_eq!((whole.len(), fragment.ticks().clone()), (fragment.len(), 0..90_000));
    // The run's media begins where its data offset says.
    let header = &fragment.chunks()[0];
    let trun = find(header, b"trun").expect("trun");
    assert_eq!(u32_at(trun, 4), 25);
    assert_eq!(u32_at(trun, 8) as usize, header.len());
    assert_eq!(&whole[header.len()..][..frames[0].payload.len()], &frames[0].payload);
}

#[test]
fn what_samples_have_in_common_is_said_once() {
    let (mut fragmenter, frames) = h264(1);
    // A keyframe and a reference picture: sizes and offsets differ, flags only at the first.
    let run = Run { frames: &frames[..2], end: frames[2].dts };
    let fragment = fragmenter.chunk(run, &Prefix::default()).expect("a fragment");
    let tfhd = find(&fragment.chunks()[0], b"tfhd").expect("tfhd");
    assert_eq!(u32_at(tfhd, 0), 0x02_0028, "duration and flags; offsets from moof");
    assert_eq!((u32_at(tfhd, 8), u32_at(tfhd, 12)), (3_600, 0x0101_0000));
    let trun = find(&fragment.chunks()[0], b"trun").expect("trun");
    assert_eq!(u32_at(trun, 0), 0x0100_0A05, "version 1; data offset, first flags, sizes, offsets");
    assert_eq!(u32_at(trun, 12), 0x0200_0000);
    // B-pictures are disposable.
    assert_eq!(fragment::sample_flags(frames[2].flags), 0x0181_0000);
    assert_eq!(fragment::sample_flags(FrameFlags::LEADING), 0x0501_0000);
}

#[test]
fn m29_offsets_and_times_at_their_ends() {
    let (mut fragmenter, frames) = h264(1);
    let at = Timestamp::from_millis(10_000);
    let scale = Timescale::MPEG;
    for ticks in [-(1 << 23), -1, 0, 1, (1 << 23) - 1, i64::from(i32::MIN), i64::from(i32::MAX), i64::MIN / 2]
    {
        let frame = MediaFrame::new(TrackId::VIDEO, at, frames[0].payload.clone());
        let frame = frame.with_pts(at + TimeDelta::from_ticks(ticks, scale));
        // Equal decode times, a thousand of them, last for nothing.
        let run = vec![frame; 1_000];
        let fragment =
            fragmenter.chunk(Run { frames: &run, end: at }, &Prefix::default()).expect("a fragment");
        let trun = find(&fragment.chunks()[0], b"trun").expect("trun");
        let offset = if ticks == 0 { 0 } else { u32_at(trun, 12) as i32 };
        assert_eq!(i64::from(offset), ticks.max(i32::MIN.into()), "{ticks}");
        assert_eq!(*fragment.ticks(), 900_000..900_000);
    }
}

#[test]
fn decode_times_need_64_bits_and_do_not_pass_zero() {
    let (mut fragmenter, frames) = h264(1);
    let late = Timestamp::from_ticks(1 << 40, Timescale::MPEG);
    let frame = MediaFrame::new(TrackId::VIDEO, late, frames[0].payload.clone());
    let run = Run { frames: &[frame], end: late + TimeDelta::from_millis(40) };
    let fragment = fragmenter.chunk(run, &Prefix::default()).expect("a fragment");
    let tfdt = find(&fragment.chunks()[0], b"tfdt").expect("tfdt");
    assert_eq!((u32_at(tfdt, 0), u32_at(tfdt, 4), u32_at(tfdt, 8)), (1 << 24, 1 << 8, 0));
    let early = MediaFrame::new(TrackId::VIDEO, Timestamp(-1_000), frames[0].payload.clone());
    let run = Run { frames: &[early], end: Timestamp::from_millis(40) };
    assert_eq!(*fragmenter.chunk(run, &Prefix::default()).expect("a fragment").ticks(), 0..3_600);
}

#[test]
fn sound_rounded_to_milliseconds_lasts_1024_ticks_again() {
    let scale = Timescale::of(44_100);
    let params = AudioParams { sample_rate: 44_100, channels: 2, ..AudioParams::default() };
    let track = Track::new(TrackId::AUDIO, CodecId::Mp3, CodecConfig::None).with_audio(params);
    let mut fragmenter = Fragmenter::new([Mp4Track::new(&track, 1).expect("MP3")], Timestamp::ZERO);
    let frame = |n: i64| {
        let exact = Timestamp::from_ticks(n * 1_024, scale);
        // Every rounding that transports do, and an hour of it.
        let ms = if n % 2 == 0 { exact.to_millis() } else { exact.0 / 705_600 };
        MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(ms), vec![0; 4].into())
            .with_duration(TimeDelta::from_units(1_024, scale))
    };
    let frames: Vec<_> = (0..155_040).map(frame).collect();
    for (n, part) in frames.windows(11).step_by(10).enumerate() {
        let run = Run { frames: &part[..10], end: part[10].dts };
        let fragment = fragmenter.chunk(run, &Prefix::default()).expect("a fragment");
        let begin = n as u64 * 10_240;
        assert_eq!(*fragment.ticks(), begin..begin + 10_240);
        let tfhd = find(&fragment.chunks()[0], b"tfhd").expect("tfhd");
        assert_eq!(u32_at(tfhd, 8), 1_024, "one duration for all");
    }
    // A gap stays one.
    let after = MediaFrame::new(TrackId::AUDIO, Timestamp::from_millis(4_000_000), vec![0; 4].into());
    let end = after.dts + TimeDelta::from_units(1_024, scale);
    let fragment = fragmenter.chunk(Run { frames: &[after], end }, &Prefix::default()).expect("a fragment");
    assert_eq!(*fragment.ticks(), 176_400_000..176_401_024);
}

#[test]
fn what_stands_before_a_fragment() {
    let (mut fragmenter, frames) = h264(1);
    let event = EventMessage {
        scheme: "urn:scte:scte35:2013:bin",
        value: "",
        timescale: 90_000,
        presentation_time: 1,
        duration: u32::MAX,
        id: 7,
        data: &[0xFC, 0x30],
    };
    let time = ProducerTime {
        track: TrackId::VIDEO,
        media_time: 3,
        time: UNIX_EPOCH + Duration::from_millis(1_500),
        clock: ProducerClock::Captured,
    };
    let prefix =
        Prefix { segment_type: Some(SegmentType::Segment), producer_time: Some(time), events: &[event] };
    let run = Run { frames: &frames[..1], end: frames[1].dts };
    let header = fragmenter.chunk(run, &prefix).expect("a fragment").chunks()[0].clone();
    let kinds = [b"styp", b"prft", b"emsg", b"moof", b"mdat"];
    let mut at = 0;
    for kind in kinds {
        assert_eq!(&header[at + 4..at + 8], kind);
        at += u32_at(&header, at) as usize;
    }
    let prft = find(&header, b"prft").expect("prft");
    assert_eq!((u32_at(prft, 0), u32_at(prft, 4)), (1 << 24 | 24, 1));
    assert_eq!((u32_at(prft, 8), u32_at(prft, 12)), (2_208_988_801, 1 << 31));
    let index = segment_index(
        fragmenter.tracks().next().expect("a track"),
        Timestamp::from_millis(1_000),
        Timestamp::ZERO,
        &[IndexEntry { size: 100, duration: 90_000 }],
    );
    assert_eq!(u32_at(&index, 0) as usize, index.len());
    assert_eq!((u32_at(&index, 16), u32_at(&index, 24)), (90_000, 90_000));
}

#[test]
fn what_cannot_be_written_is_said() {
    let (mut fragmenter, frames) = h264(1);
    let none: &[MediaFrame] = &[];
    let end = Timestamp::ZERO;
    let prefix = Prefix::default();
    let empty = fragmenter.chunk(Run { frames: none, end }, &prefix);
    assert_eq!(empty, Err(MuxError::Empty));
    assert_eq!(fragmenter.fragment::<MediaFrame>(&[], &prefix), Err(MuxError::Empty));
    let stray = [MediaFrame::new(TrackId::DATA, end, frames[0].payload.clone())];
    let unknown = fragmenter.chunk(Run { frames: &stray, end }, &prefix);
    assert_eq!(unknown, Err(MuxError::UnknownTrack(TrackId::DATA)));
    let many = vec![frames[0].clone(); MAX_SAMPLES_PER_RUN + 1];
    let large = fragmenter.chunk(Run { frames: &many, end }, &prefix);
    assert_eq!(large, Err(MuxError::TooLarge { what: "samples_per_run", limit: 19_200 }));
    for (codec, config, expect) in [
        (CodecId::Amf, CodecConfig::None, MuxError::Unsupported(CodecId::Amf)),
        (CodecId::G722, CodecConfig::Pcm(PcmConfig::default()), MuxError::Unsupported(CodecId::G722)),
        (CodecId::H264, CodecConfig::None, MuxError::WithoutConfig(TrackId::VIDEO)),
    ] {
        let track = Track::new(TrackId::VIDEO, codec, config);
        assert_eq!(Mp4Track::new(&track, 1).map(|_| ()), Err(expect));
    }
}

#[test]
fn a_language_is_said_in_both_ways() {
    let mut track = Source::aac().tracks().first(TrackKind::Audio).expect("audio").clone();
    track.language = Some("de-AT".into());
    track.label = Some("Kommentar".into());
    let init = init_segment(&[Mp4Track::new(&track, 2).expect("AAC")], InitOptions::default());
    let mdhd = find(&init, b"mdhd").expect("mdhd");
    let code = u16::from_be_bytes([mdhd[32], mdhd[33]]);
    assert_eq!(code, 4 << 10 | 5 << 5 | 21, "deu");
    assert!(find(&init, b"elng").expect("elng")[4..].starts_with(b"de-AT\0"));
    assert!(find(&init, b"hdlr").expect("hdlr")[24..].starts_with(b"Kommentar\0"));
}

#[test]
fn the_end_of_a_run_by_rule() {
    let source = Source::h264_aac();
    let tracks = source.tracks();
    let track = video_of(&tracks);
    let at = Timestamp::from_millis;
    let frame = |ms| MediaFrame::new(TrackId::VIDEO, at(ms), vec![0].into());
    let last = frame(100).with_duration(TimeDelta::from_millis(7));
    assert_eq!(track.expected_end(&[frame(0), last]), at(107), "its own duration");
    assert_eq!(track.expected_end(&[frame(0), frame(100)]), at(140), "the frame rate");
    let mut unknown = tracks.first(TrackKind::Video).expect("video").clone();
    unknown = unknown.with_video(arcly_core::codec::VideoParams::default());
    let track = Mp4Track::new(&unknown, 1).expect("H.264");
    assert_eq!(track.expected_end(&[frame(0), frame(100)]), at(200), "the one before");
    assert_eq!(track.expected_end(&[frame(100)]), at(140), "nothing is known");
}

/// What a reader of the stream gets from now on.
fn read_stream(reader: &mut arcly_core::DerivedSubscriber<Packetizer>, writer: &mut Writer) -> Vec<u8> {
    let mut file = Vec::new();
    let unlimited = arcly_core::log::Budget::UNLIMITED;
    let read = reader.read(unlimited, |read| writer.write(&read, |bytes| file.extend_from_slice(&bytes)));
    read.expect("the stream is there");
    file
}

fn parse(file: &[u8]) -> Vec<MediaFrame> {
    let mut reader = Reader::new();
    reader.push(file).expect("our own file");
    reader.finish().expect("our own file");
    let events = std::iter::from_fn(|| reader.poll_event());
    events
        .filter_map(|event| match event {
            arcly_core::MediaEvent::Frame(frame) => Some(frame),
            arcly_core::MediaEvent::Tracks(_) => None,
        })
        .collect()
}

#[tokio::test]
async fn readers_of_a_stream_share_its_fragments_and_begin_at_zero() {
    use arcly_core::{
        Engine, PlayRequest, PlaybackRegistry as _, PublishRegistry as _, PublishRequest, StreamKey,
    };
    let (engine, key) = (Engine::builder().build(), StreamKey::new("live", "cam"));
    let mut publisher = engine.publish(PublishRequest::internal(key.clone(), "test")).await.unwrap();
    let source = Source::h264_aac();
    publisher.set_tracks(source.tracks()).unwrap();
    let frames = source.clone().seconds(3);
    for frame in frames.iter().cloned() {
        publisher.publish(frame).unwrap();
    }
    let play = || engine.subscribe(PlayRequest::internal(key.clone(), "test"));
    let mut reader = play().await.unwrap().into_derived(0, Packetizer::new);
    let mut writer = Writer::new();
    let file = read_stream(&mut reader, &mut writer);
    let got = parse(&file);
    // From the last keyframe on, which is shown when the file begins, but for what B-pictures need.
    let first = &frames[frames.len() - got.len()];
    assert!(first.is_keyframe() && got[0].dts == Timestamp::ZERO);
    let shift = first.dts - Timestamp::ZERO;
    for (got, sent) in got.iter().zip(&frames[frames.len() - got.len()..]) {
        assert_eq!((got.dts + shift, got.pts + shift), (sent.dts, sent.pts));
        assert_eq!((&got.payload, got.flags), (&sent.payload, sent.flags));
    }
    // The same tracks again go on; others end the file.
    let mut tracks = source.tracks();
    publisher.set_tracks(tracks.clone()).unwrap();
    publisher.publish(source.clone().starting_at(Timestamp::from_millis(3_000)).next().unwrap()).unwrap();
    assert_eq!(parse(&[&file[..], &read_stream(&mut reader, &mut writer)].concat()).len(), got.len() + 1);
    assert!(!writer.is_complete());
    tracks.remove(TrackId::AUDIO);
    publisher.set_tracks(tracks).unwrap();
    publisher.publish(source.starting_at(Timestamp::from_millis(3_040)).next().unwrap()).unwrap();
    assert!(read_stream(&mut reader, &mut writer).is_empty() && writer.is_complete());
}
