//! Sample entries: what a decoder is told of a track before its first sample.

use arcly_codec::{aac, ac3, av1, esds, flac, h264, h265, h266, opus, vpx};
use arcly_core::codec::{AudioParams, ColorInfo, HdrMetadata, VideoParams};
use arcly_core::{CodecConfig, CodecId, Track};
use bytes::{BufMut, Bytes};

use super::MuxError;
use super::wire::{put_box, put_full_box, put_zeros};

/// The sample entry of a track, with its box header.
pub(super) fn encode(track: &Track) -> Result<Bytes, MuxError> {
    let mut out = Vec::with_capacity(256);
    match (track.codec, &track.config) {
        (CodecId::H264, CodecConfig::Avc(config)) => {
            visual(&mut out, track, b"avc1", (b"avcC", &h264::encode_config(config)));
        }
        (CodecId::H265, CodecConfig::Hevc(config)) => {
            visual(&mut out, track, b"hvc1", (b"hvcC", &h265::encode_config(config)));
        }
        (CodecId::H266, CodecConfig::Vvc(config)) => {
            // A full box (ISO/IEC 14496-15 11.2.5): version and flags before the record.
            let record = [&[0; 4], &h266::encode_config(config)[..]].concat();
            visual(&mut out, track, b"vvc1", (b"vvcC", &record));
        }
        (CodecId::Av1, CodecConfig::Av1(config)) => {
            visual(&mut out, track, b"av01", (b"av1C", &av1::encode_config(config)));
        }
        (CodecId::Vp9, CodecConfig::Vpx(config)) => {
            visual(&mut out, track, b"vp09", (b"vpcC", &vpx::encode_config(config)));
        }
        (CodecId::Vp8, CodecConfig::Vpx(config)) => {
            visual(&mut out, track, b"vp08", (b"vpcC", &vpx::encode_config(config)));
        }
        (CodecId::Aac, CodecConfig::Aac(config)) => {
            let esds = audio_descriptor(track, esds::object_type::AAC, aac::encode_config(config));
            audio(&mut out, track, b"mp4a", Some((b"esds", &esds)));
        }
        (CodecId::Mp3 | CodecId::Mp2, _) => {
            let esds = audio_descriptor(track, mpeg_object_type(track), Bytes::new());
            audio(&mut out, track, b"mp4a", Some((b"esds", &esds)));
        }
        (CodecId::Opus, CodecConfig::Opus(config)) => {
            audio(&mut out, track, b"Opus", Some((b"dOps", &opus::encode_dops(config))));
        }
        (CodecId::Flac, CodecConfig::Flac(config)) => {
            audio(&mut out, track, b"fLaC", Some((b"dfLa", &flac::encode_dfla(config))));
        }
        (CodecId::Ac3, CodecConfig::Ac3(config)) => {
            audio(&mut out, track, b"ac-3", Some((b"dac3", &ac3::encode_dac3(config))));
        }
        (CodecId::Eac3, CodecConfig::Ac3(config)) => {
            audio(&mut out, track, b"ec-3", Some((b"dec3", &ac3::encode_dec3(config))));
        }
        (CodecId::Pcma, _) => audio(&mut out, track, b"alaw", None),
        (CodecId::Pcmu, _) => audio(&mut out, track, b"ulaw", None),
        (codec, _) if has_entry(codec) => return Err(MuxError::WithoutConfig(track.id)),
        (codec, _) => return Err(MuxError::Unsupported(codec)),
    }
    Ok(out.into())
}

/// True for codecs that can be carried at all.
const fn has_entry(codec: CodecId) -> bool {
    matches!(
        codec,
        CodecId::H264
            | CodecId::H265
            | CodecId::H266
            | CodecId::Av1
            | CodecId::Vp8
            | CodecId::Vp9
            | CodecId::Aac
            | CodecId::Opus
            | CodecId::Flac
            | CodecId::Ac3
            | CodecId::Eac3
    )
}

/// MPEG-1 audio, or that of MPEG-2 with its half sample rates.
pub(super) fn mpeg_object_type(track: &Track) -> u8 {
    match track.audio() {
        Some(params) if (1..32_000).contains(&params.sample_rate) => esds::object_type::MP3_MPEG2,
        _ => esds::object_type::MP3,
    }
}

/// The body of an `esds` box.
fn audio_descriptor(track: &Track, object_type: u8, specific: Bytes) -> Vec<u8> {
    let bitrate = track.bitrate_bps.unwrap_or_default();
    let descriptor = esds::EsDescriptor {
        object_type,
        stream_type: esds::STREAM_TYPE_AUDIO,
        max_bitrate: bitrate,
        avg_bitrate: bitrate,
        specific,
        ..esds::EsDescriptor::default()
    };
    [&[0; 4], &descriptor.encode()[..]].concat()
}

/// VisualSampleEntry (ISO/IEC 14496-12 12.1.3).
fn visual(out: &mut Vec<u8>, track: &Track, kind: &[u8; 4], (config_kind, config): (&[u8; 4], &[u8])) {
    let params = track.video().copied().unwrap_or_default();
    put_box(out, kind, |out| {
        put_entry_start(out);
        put_zeros(out, 16);
        out.put_u16(u16::try_from(params.width).unwrap_or(u16::MAX));
        out.put_u16(u16::try_from(params.height).unwrap_or(u16::MAX));
        const DPI_72: u32 = 72 << 16;
        out.put_u32(DPI_72);
        out.put_u32(DPI_72);
        out.put_u32(0);
        out.put_u16(1); // frame_count
        put_zeros(out, 32); // compressorname
        out.put_u16(24); // depth: colour without alpha
        out.put_i16(-1);
        put_box(out, config_kind, |out| out.put_slice(config));
        put_picture_boxes(out, &params);
        put_bitrate(out, track);
    });
}

fn put_picture_boxes(out: &mut Vec<u8>, params: &VideoParams) {
    if let Some(ColorInfo { primaries, transfer, matrix, full_range }) = params.color {
        put_box(out, b"colr", |out| {
            out.put_slice(b"nclx");
            [primaries, transfer, matrix].into_iter().for_each(|code| out.put_u16(code.into()));
            out.put_u8(u8::from(full_range) << 7);
        });
    }
    let Some(hdr) = params.hdr else { return };
    if hdr.max_luminance != 0 {
        put_box(out, b"mdcv", |out| put_mastering_display(out, &hdr));
    }
    if hdr.max_cll != 0 || hdr.max_fall != 0 {
        put_box(out, b"clli", |out| {
            out.put_u16(hdr.max_cll);
            out.put_u16(hdr.max_fall);
        });
    }
}

fn put_mastering_display(out: &mut Vec<u8>, hdr: &HdrMetadata) {
    // In the order of the SEI message: green, blue, red.
    let [red, green, blue] = hdr.primaries;
    for [x, y] in [green, blue, red, hdr.white_point] {
        out.put_u16(x);
        out.put_u16(y);
    }
    out.put_u32(hdr.max_luminance);
    out.put_u32(hdr.min_luminance);
}

/// AudioSampleEntry (ISO/IEC 14496-12 12.2.3).
fn audio(out: &mut Vec<u8>, track: &Track, kind: &[u8; 4], config: Option<(&[u8; 4], &[u8])>) {
    let AudioParams { sample_rate, channels, bits_per_sample, .. } =
        track.audio().copied().unwrap_or_default();
    put_box(out, kind, |out| {
        put_entry_start(out);
        put_zeros(out, 8);
        out.put_u16(channels.into());
        out.put_u16(if bits_per_sample == 0 { 16 } else { bits_per_sample.into() });
        put_zeros(out, 4);
        // 16.16; a rate that does not fit is said by the codec's own box.
        out.put_u16(u16::try_from(sample_rate).unwrap_or_default());
        out.put_u16(0);
        if let Some((kind, config)) = config {
            put_box(out, kind, |out| out.put_slice(config));
        }
        put_bitrate(out, track);
    });
}

fn put_entry_start(out: &mut Vec<u8>) {
    put_zeros(out, 6);
    out.put_u16(1); // data_reference_index
}

fn put_bitrate(out: &mut Vec<u8>, track: &Track) {
    if let Some(bitrate) = track.bitrate_bps.filter(|&bitrate| bitrate > 0) {
        put_box(out, b"btrt", |out| {
            out.put_u32(0); // bufferSizeDB is not known
            out.put_u32(bitrate);
            out.put_u32(bitrate);
        });
    }
}

/// The `stsd` box around a sample entry.
pub(super) fn put_description(out: &mut Vec<u8>, entry: &[u8]) {
    put_full_box(out, b"stsd", (0, 0), |out| {
        out.put_u32(1);
        out.put_slice(entry);
    });
}
