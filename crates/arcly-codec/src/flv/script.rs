//! Script data: `onMetaData`, `colorInfo`, and messages of other names.

use std::sync::Arc;

use arcly_core::codec::{ColorInfo, FrameRate, HdrMetadata};
use arcly_core::wire::{DecodeResult, Reader};
use arcly_core::{CodecId, MetaValue, Metadata, Track, TrackKind, TrackSet};
use bytes::Bytes;

use super::codec::{TagClass, class_of, sound_of, video};
use crate::amf0::{self, Object, Value};
use crate::elementary::Color;

/// What a script tag says.
#[derive(Debug, PartialEq)]
pub(super) enum Script {
    /// The stream's metadata.
    Metadata(Metadata),
    /// No metadata any more.
    Clear,
    /// A message of another name, as it is to be passed on.
    Message(Bytes),
    /// A notice between server and player that is no part of the stream.
    Ignored,
}

/// Takes a script tag apart. RTMP publishers put `@setDataFrame` in front of what is to be kept.
pub(super) fn decode(body: &Bytes) -> DecodeResult<Script> {
    let mut r = Reader::new(body);
    let closed = |error: arcly_core::wire::DecodeError| error.in_closed_unit(0);
    let mut message = body.clone();
    let mut name = Value::decode(&mut r).map_err(closed)?;
    if name.as_str() == Some("@clearDataFrame") {
        return Ok(Script::Clear);
    }
    if name.as_str() == Some("@setDataFrame") {
        message = body.slice(r.position()..);
        name = Value::decode(&mut r).map_err(closed)?;
    }
    let values = amf0::decode_all(&message)?;
    match name.as_str() {
        Some("onMetaData") => {
            let object = values.iter().find_map(Value::as_object);
            Ok(Script::Metadata(object.map(Object::to_metadata).unwrap_or_default()))
        }
        Some("|RtmpSampleAccess" | "onStatus" | "onFI") => Ok(Script::Ignored),
        Some(_) => Ok(Script::Message(message)),
        None => Err(Reader::new(body).malformed("script name")),
    }
}

/// The number of that name.
pub(super) fn number(metadata: &Metadata, name: &str) -> Option<f64> {
    match metadata.get(name) {
        Some(MetaValue::Number(n)) if n.is_finite() && *n > 0.0 => Some(*n),
        _ => None,
    }
}

/// A frame rate as a fraction: whole, of the 1000/1001 family, or in thousandths.
pub(super) fn frame_rate(fps: f64) -> Option<FrameRate> {
    if !(0.01..=1_000.0).contains(&fps) {
        return None;
    }
    let whole = whole(fps.round());
    if (fps - f64::from(whole)).abs() < 0.001 {
        return FrameRate::new(whole, 1);
    }
    let ntsc = f64::from(whole) * 1_000.0 / 1_001.0;
    if (fps - ntsc).abs() < 0.005 {
        return FrameRate::new(whole.saturating_mul(1_000), 1_001);
    }
    FrameRate::new(self::whole((fps * 1_000.0).round()), 1_000)
}

/// A number as an integer, cut at the ends.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, NaN gives 0")]
pub(super) const fn whole(number: f64) -> u32 {
    number as u32
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, NaN gives 0")]
const fn whole_u16(number: f64) -> u16 {
    number as u16
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates, NaN gives 0")]
const fn whole_u8(number: f64) -> u8 {
    number as u8
}

/// Decodes the metadata packet of a video tag; `None` when it says nothing about colour.
pub(super) fn decode_color(body: &[u8]) -> DecodeResult<Option<Color>> {
    let values = amf0::decode_all(body)?;
    let mut values = values.iter();
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        if name.as_str() == Some("colorInfo") {
            return Ok(Some(value.as_object().map(color).unwrap_or_default()));
        }
    }
    Ok(None)
}

fn color(object: &Object) -> Color {
    let part = |name| object.get(name).and_then(Value::as_object);
    Color { info: part("colorConfig").and_then(color_config), hdr: hdr(part("hdrMdcv"), part("hdrCll")) }
}

fn color_config(config: &Object) -> Option<ColorInfo> {
    let code = |name| config.number(name).map(whole_u8);
    let (primaries, transfer, matrix) =
        (code("colorPrimaries"), code("transferCharacteristics"), code("matrixCoefficients"));
    primaries.or(transfer).or(matrix)?;
    // 2 is "unspecified" in all three tables.
    let or_unspecified = |code: Option<u8>| code.unwrap_or(2);
    Some(ColorInfo {
        primaries: or_unspecified(primaries),
        transfer: or_unspecified(transfer),
        matrix: or_unspecified(matrix),
        full_range: false,
    })
}

fn hdr(mastering: Option<&Object>, light: Option<&Object>) -> Option<HdrMetadata> {
    let number = |object: Option<&Object>, name| object.and_then(|object| object.number(name));
    let point = |x, y| {
        let coordinate = |name| number(mastering, name).map_or(0, |n| whole_u16((n * 50_000.0).round()));
        [coordinate(x), coordinate(y)]
    };
    let luminance = |name| number(mastering, name).map_or(0, |n| whole((n * 10_000.0).round()));
    let level = |name| number(light, name).map_or(0, |n| whole_u16(n.round()));
    let hdr = HdrMetadata {
        primaries: [point("redX", "redY"), point("greenX", "greenY"), point("blueX", "blueY")],
        white_point: point("whitePointX", "whitePointY"),
        max_luminance: luminance("maxLuminance"),
        min_luminance: luminance("minLuminance"),
        max_cll: level("maxCLL"),
        max_fall: level("maxFall"),
    };
    (hdr != HdrMetadata::default()).then_some(hdr)
}

/// The metadata packet that says what is known about colour.
pub(super) fn encode_color(info: Option<ColorInfo>, hdr: Option<HdrMetadata>, bit_depth: u8) -> Vec<u8> {
    let mut object = Object::new();
    if let Some(info) = info {
        let mut config = Object::new();
        if bit_depth > 0 {
            config = config.with("bitDepth", f64::from(bit_depth));
        }
        let config = config
            .with("colorPrimaries", f64::from(info.primaries))
            .with("transferCharacteristics", f64::from(info.transfer))
            .with("matrixCoefficients", f64::from(info.matrix));
        object = object.with("colorConfig", config);
    }
    if let Some(hdr) = hdr {
        if hdr.max_cll != 0 || hdr.max_fall != 0 {
            let light = Object::new().with("maxFall", f64::from(hdr.max_fall));
            object = object.with("hdrCll", light.with("maxCLL", f64::from(hdr.max_cll)));
        }
        object = object.with("hdrMdcv", mastering_display(&hdr));
    }
    amf0::encode_all(&["colorInfo".into(), object.into()])
}

fn mastering_display(hdr: &HdrMetadata) -> Object {
    let [red, green, blue] = hdr.primaries;
    let points = [("red", red), ("green", green), ("blue", blue), ("whitePoint", hdr.white_point)];
    let mut object = Object::new();
    for (name, [x, y]) in points {
        object = object.with(&format!("{name}X"), f64::from(x) / 50_000.0);
        object = object.with(&format!("{name}Y"), f64::from(y) / 50_000.0);
    }
    object
        .with("maxLuminance", f64::from(hdr.max_luminance) / 10_000.0)
        .with("minLuminance", f64::from(hdr.min_luminance) / 10_000.0)
}

/// Properties of `onMetaData` that describe a file that this is not, or that are written anew.
const REWRITTEN: &[&str] = &[
    "filesize",
    "keyframes",
    "hasKeyframes",
    "canSeekToEnd",
    "width",
    "height",
    "framerate",
    "videocodecid",
    "videodatarate",
    "audiocodecid",
    "audiosamplerate",
    "audiosamplesize",
    "audiochannels",
    "stereo",
    "audiodatarate",
];

/// The values of an `onMetaData` tag: what is known of the first tracks, then what the publisher said.
pub(super) fn on_meta_data(tracks: &TrackSet, encoder: Option<&Arc<str>>) -> Value {
    let mut properties: Vec<(Arc<str>, Value)> = Vec::new();
    let mut put = |name: &str, value: Value| properties.push((name.into(), value));
    if let Some(track) = tracks.first(TrackKind::Video) {
        video_properties(track, &mut put);
    }
    if let Some(track) = tracks.first(TrackKind::Audio) {
        audio_properties(track, &mut put);
    }
    let said = &tracks.metadata.entries;
    let kept = said.iter().filter(|(name, _)| !REWRITTEN.contains(&&**name));
    properties.extend(kept.map(|(name, value)| (Arc::clone(name), value.into())));
    if let Some(encoder) = encoder.filter(|_| tracks.metadata.get("encoder").is_none()) {
        properties.push(("encoder".into(), Arc::clone(encoder).into()));
    }
    Value::EcmaArray(Object(properties))
}

fn video_properties(track: &Track, put: &mut impl FnMut(&str, Value)) {
    if let Some(params) = track.video() {
        if params.width > 0 && params.height > 0 {
            put("width", params.width.into());
            put("height", params.height.into());
        }
        if let Some(rate) = params.frame_rate {
            put("framerate", rate.as_f64().into());
        }
    }
    if let Some(bps) = track.bitrate_bps {
        put("videodatarate", (f64::from(bps) / 1_000.0).into());
    }
    if let Some(id) = codec_number(track.codec, video_number(track.codec)) {
        put("videocodecid", id);
    }
}

fn audio_properties(track: &Track, put: &mut impl FnMut(&str, Value)) {
    if let Some(params) = track.audio().filter(|params| params.sample_rate > 0) {
        put("audiosamplerate", params.sample_rate.into());
        put("audiosamplesize", Value::Number(f64::from(params.bits_per_sample.max(16))));
        put("stereo", (params.channels > 1).into());
        put("audiochannels", Value::Number(f64::from(params.channels)));
    }
    if let Some(bps) = track.bitrate_bps {
        put("audiodatarate", (f64::from(bps) / 1_000.0).into());
    }
    if let Some(id) = codec_number(track.codec, sound_of(track.codec)) {
        put("audiocodecid", id);
    }
}

const fn video_number(codec: CodecId) -> Option<u8> {
    if matches!(codec, CodecId::H264) { Some(video::AVC) } else { None }
}

/// The legacy number, or the FourCC as a number.
fn codec_number(codec: CodecId, legacy: Option<u8>) -> Option<Value> {
    match class_of(codec, true)? {
        TagClass::Legacy => legacy.map(|id| Value::Number(f64::from(id))),
        TagClass::Enhanced(tag) => Some(u32::from_be_bytes(tag.0).into()),
    }
}
