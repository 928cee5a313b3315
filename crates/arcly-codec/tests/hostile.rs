//! Rows M08, M09 and M34 of the bad inputs: what is long, and what is cut or flipped anywhere.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]

mod support;

use std::fmt::Debug;
use std::time::{Duration, Instant};

use arcly_codec::nal::{self, Framing, LengthSize, MAX_NALS_PER_ACCESS_UNIT};
use arcly_codec::{av1, h264, h265, h266, sei, vpx};
use arcly_core::FrameFlags;
use bytes::Bytes;
use support::Capture;

const CANONICAL: Framing = Framing::Length(LengthSize::Four);

/// Far above what linear time needs even unoptimised on a loaded machine; quadratic time over three million
/// bytes would take hours.
const LINEAR: Duration = Duration::from_secs(60);

#[test]
fn m08_a_million_emulation_prevention_bytes() {
    let started = Instant::now();
    let unit = [0, 0, 3].repeat(1_000_000);
    let rbsp = nal::unescape(&unit);
    assert_eq!(rbsp.len(), 2_000_000);
    assert!(rbsp.iter().all(|&byte| byte == 0));
    assert_eq!(nal::escape(&rbsp), unit);
    assert_eq!(sei::messages(&unit).count(), sei::MAX_MESSAGES, "messages of no size are bounded");
    assert!(started.elapsed() < LINEAR);
}

#[test]
fn m09_a_million_start_codes() {
    let started = Instant::now();
    let bare = Bytes::from([0, 0, 1].repeat(1_000_000));
    let unit = h264::Parser::new().push(&bare, Framing::AnnexB).unwrap();
    assert_eq!((unit.has_picture(), unit.counts.empty), (false, 1_000_000));

    let slices = Bytes::from([0, 0, 1, 0x41].repeat(1_000_000));
    let unit = h264::Parser::new().push(&slices, Framing::AnnexB).unwrap();
    assert_eq!(unit.counts.slices, MAX_NALS_PER_ACCESS_UNIT);
    assert_eq!(unit.counts.excess, 1, "the rest is not looked at");
    assert!(unit.flags.contains(FrameFlags::CORRUPT));
    assert_eq!(unit.payload.len(), MAX_NALS_PER_ACCESS_UNIT * 5);

    let mixed =
        Bytes::from_static(&[0, 0, 1, 0, 0, 0, 1, 6, 1, 0, 0x80, 0, 0, 0, 1, 0, 0, 1, 0x41, 0x9A, 0, 0, 0]);
    let unit = h264::Parser::new().push(&mixed, Framing::AnnexB).unwrap();
    assert_eq!(unit.payload, [0, 0, 0, 4, 6, 1, 0, 0x80, 0, 0, 0, 2, 0x41, 0x9A][..]);
    assert_eq!((unit.counts.slices, unit.counts.other, unit.counts.empty), (1, 1, 2));
    assert!(started.elapsed() < LINEAR);
}

#[test]
fn m10_lengths_of_zero_and_of_four_gibibytes() {
    for (data, ok) in [(&[0, 0, 0, 0][..], true), (&[0xFF; 9], false), (&[0, 0, 0, 9, 0x65], false)] {
        let data = Bytes::copy_from_slice(data);
        assert_eq!(
            h264::Parser::new().push(&data, CANONICAL).map(|unit| unit.has_picture()).ok(),
            ok.then_some(false)
        );
        assert_eq!(h265::Parser::new().push(&data, CANONICAL).is_ok(), ok);
        assert_eq!(h266::Parser::new().push(&data, CANONICAL).is_ok(), ok);
    }
}

/// Runs `decode` twice on every prefix of `valid`, and on every change of one byte if `valid` is short.
fn sweep<T: Debug + PartialEq>(name: &str, valid: &Bytes, decode: impl Fn(Bytes) -> T) {
    let twice = |data: Bytes, what: &dyn Fn() -> String| {
        assert_eq!(decode(data.clone()), decode(data), "{name}: {} is not deterministic", what());
    };
    for len in 0..valid.len() {
        twice(valid.slice(..len), &|| format!("cut at {len}"));
    }
    if valid.len() > 512 {
        return;
    }
    let mut flipped = valid.to_vec();
    for at in 0..flipped.len() {
        for change in 1..=255 {
            flipped[at] ^= change;
            twice(Bytes::copy_from_slice(&flipped), &|| format!("byte {at} ^ {change}"));
            flipped[at] ^= change;
        }
    }
}

/// The last samples of a capture: small ones, so that every byte of them is flipped.
fn small_samples(capture: &Capture) -> impl Iterator<Item = &Bytes> {
    capture.samples.iter().map(|sample| &sample.data).filter(|data| data.len() < 100).take(2)
}

#[test]
fn m34_truncation_and_flips_of_h264() {
    for name in ["ffmpeg_5.1_x264_pyramid", "ffmpeg_5.1_x264_interlaced_422"] {
        let capture = Capture::load(name);
        let config = h264::decode_config(&capture.record).unwrap();
        sweep(name, &capture.record, |data| h264::decode_config(&data));
        sweep(name, &config.sps[0], |data| h264::Sps::decode(&data));
        sweep(name, &config.pps[0], |data| h264::Pps::decode(&data));
        let parser = h264::Parser::with_config(config).unwrap();
        for sample in
            capture.samples.first().map(|sample| &sample.data).into_iter().chain(small_samples(&capture))
        {
            sweep(name, sample, |data| parser.clone().push(&data, CANONICAL));
        }
    }
}

#[test]
fn m34_truncation_and_flips_of_h265() {
    let name = "ffmpeg_5.1_x265_open_gop";
    let capture = Capture::load(name);
    let config = h265::decode_config(&capture.record).unwrap();
    sweep(name, &capture.record, |data| h265::decode_config(&data));
    sweep(name, &config.vps[0], |data| h265::Vps::decode(&data));
    sweep(name, &config.sps[0], |data| h265::Sps::decode(&data));
    sweep(name, &config.pps[0], |data| h265::Pps::decode(&data));
    let parser = h265::Parser::with_config(config).unwrap();
    for sample in small_samples(&capture) {
        sweep(name, sample, |data| parser.clone().push(&data, CANONICAL));
    }
}

#[test]
fn m34_truncation_and_flips_of_h266() {
    let capture = Capture::load("ffmpeg_9.0_vvenc");
    let config = h266::decode_config(&capture.record).unwrap();
    sweep("record", &capture.record, |data| h266::decode_config(&data));
    sweep("sps", &config.sps[0], |data| h266::Sps::decode(&data));
}

#[test]
fn m34_truncation_and_flips_of_av1_and_vpx() {
    let capture = Capture::load("ffmpeg_5.1_aom_10bit");
    sweep("av1 record", &capture.record, |data| av1::decode_config(&data));
    let parser = av1::Parser::with_config(av1::decode_config(&capture.record).unwrap()).unwrap();
    for sample in small_samples(&capture) {
        sweep("av1", sample, |data| parser.clone().push(&data));
    }
    for name in ["ffmpeg_5.1_vp9", "ffmpeg_5.1_vp9_profile3"] {
        let capture = Capture::load(name);
        let header = capture.samples[0].data.slice(..16);
        sweep(name, &header, |data| vpx::Vp9Frame::decode(&data));
    }
    sweep("vp8", &Capture::load("ffmpeg_5.1_vp8").samples[0].data.slice(..10), |data| {
        vpx::Vp8Frame::decode(&data)
    });
    let record = Bytes::from_static(&[1, 0, 0, 0, 0, 0x0A, 0x82, 2, 2, 2, 0, 0]);
    sweep("vpcC", &record, |data| vpx::decode_config(&data));
}
