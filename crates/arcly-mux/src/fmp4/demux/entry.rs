//! Sample entries to tracks.

use arcly_codec::elementary::{AudioStream, Color, VideoStream};
use arcly_codec::{ac3, esds, flac, opus};
use arcly_core::codec::{AudioParams, ColorInfo, HdrMetadata, PcmConfig};
use arcly_core::wire::{DecodeResult, Reader};
use arcly_core::{CodecConfig, CodecId, Track, TrackId};
use bytes::Bytes;

use crate::fmp4::wire::{boxes, closed, find, require};

/// Bytes of a VisualSampleEntry before its boxes.
const VISUAL_LEN: usize = 78;

/// What turns samples into frames.
#[allow(clippy::large_enum_variant, reason = "a file has a handful of them")]
#[derive(Debug)]
pub(super) enum Stream {
    Video(VideoStream, (u16, u16)),
    Audio(AudioStream, Option<PcmConfig>),
}

/// A sample entry: what decodes its samples, and the bit rate that it declares.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stream: Stream,
    pub(super) bitrate: Option<u32>,
}

impl Stream {
    pub(super) const fn take_changed(&mut self) -> bool {
        match self {
            Self::Video(stream, _) => stream.take_changed(),
            Self::Audio(stream, _) => stream.take_changed(),
        }
    }

    /// The track as it is known now; the entry's picture size where the bitstream does not say.
    pub(super) fn track(&self, id: TrackId) -> Option<Track> {
        match self {
            Self::Video(stream, (width, height)) => {
                let mut track = stream.track(id)?;
                let params = track.video().copied().filter(|params| params.width == 0 || params.height == 0);
                if let Some(mut params) = params {
                    (params.width, params.height) = ((*width).into(), (*height).into());
                    track = track.with_video(params);
                }
                Some(track)
            }
            Self::Audio(stream, _) => stream.track(id),
        }
    }

    pub(super) const fn is_video(&self) -> bool {
        matches!(self, Self::Video(..))
    }
}

/// The first sample entry of `stsd` that can be decoded; `None` when there is none.
pub(super) fn decode(stsd: &Bytes, handler: [u8; 4]) -> DecodeResult<Option<Entry>> {
    let entries = stsd.slice(8.min(stsd.len())..);
    for child in boxes(&entries) {
        let (kind, body) = child?;
        let entry = match &handler {
            b"vide" => visual(kind, &body)?,
            b"soun" => audio(kind, &body)?,
            _ => None,
        };
        if entry.is_some() {
            return Ok(entry);
        }
    }
    Ok(None)
}

fn visual(kind: [u8; 4], body: &Bytes) -> DecodeResult<Option<Entry>> {
    let (codec, record) = match &kind {
        b"avc1" | b"avc3" | b"dva1" | b"dvav" => (CodecId::H264, b"avcC"),
        b"hvc1" | b"hev1" | b"dvh1" | b"dvhe" => (CodecId::H265, b"hvcC"),
        b"vvc1" | b"vvi1" => (CodecId::H266, b"vvcC"),
        b"av01" | b"dav1" => (CodecId::Av1, b"av1C"),
        b"vp09" => (CodecId::Vp9, b"vpcC"),
        b"vp08" => (CodecId::Vp8, b"vpcC"),
        _ => return Ok(None),
    };
    let size = closed(body, |r| {
        r.skip(24, "sample entry")?;
        Ok((r.u16("width")?, r.u16("height")?))
    })?;
    let children = body.slice(VISUAL_LEN.min(body.len())..);
    let mut stream = VideoStream::new(codec);
    let record = require(&children, record, "decoder configuration")?;
    // vvcC alone is a full box whose version is not part of the record.
    let skip = if codec == CodecId::H266 { 4 } else { 0 };
    stream.set_record(&record.slice(skip.min(record.len())..))?;
    stream.set_color(codec, color(&children)?);
    Ok(Some(Entry { stream: Stream::Video(stream, size), bitrate: bitrate(&children)? }))
}

fn color(children: &Bytes) -> DecodeResult<Color> {
    let mut color = Color::default();
    let (mut display, mut light) = (None, None);
    for child in boxes(children) {
        let (kind, body) = child?;
        match &kind {
            b"colr" => color.info = closed(&body, color_info)?,
            b"mdcv" => display = Some(closed(&body, mastering_display)?),
            b"clli" => light = Some(closed(&body, |r| Ok((r.u16("clli")?, r.u16("clli")?)))?),
            _ => {}
        }
    }
    if display.is_some() || light.is_some() {
        let mut hdr: HdrMetadata = display.unwrap_or_default();
        (hdr.max_cll, hdr.max_fall) = light.unwrap_or_default();
        color.hdr = Some(hdr);
    }
    Ok(color)
}

fn color_info(r: &mut Reader<'_>) -> DecodeResult<Option<ColorInfo>> {
    let kind: [u8; 4] = r.array("colr")?;
    if !matches!(&kind, b"nclx" | b"nclc") {
        return Ok(None);
    }
    let mut code = || r.u16("colr").map(|code| u8::try_from(code).unwrap_or(2));
    let (primaries, transfer, matrix) = (code()?, code()?, code()?);
    let full_range = &kind == b"nclx" && r.u8("colr")? & 0x80 != 0;
    Ok(Some(ColorInfo { primaries, transfer, matrix, full_range }))
}

fn mastering_display(r: &mut Reader<'_>) -> DecodeResult<HdrMetadata> {
    let mut point = || Ok([r.u16("mdcv")?, r.u16("mdcv")?]);
    let (green, blue, red, white_point) = (point()?, point()?, point()?, point()?);
    Ok(HdrMetadata {
        primaries: [red, green, blue],
        white_point,
        max_luminance: r.u32("mdcv")?,
        min_luminance: r.u32("mdcv")?,
        ..HdrMetadata::default()
    })
}

fn bitrate(children: &Bytes) -> DecodeResult<Option<u32>> {
    let Some(btrt) = find(children, b"btrt")? else { return Ok(None) };
    let average = closed(&btrt, |r| {
        r.skip(8, "btrt")?;
        r.u32("btrt")
    })?;
    Ok(Some(average).filter(|&average| average > 0))
}

/// What an AudioSampleEntry says, and the boxes within.
struct Sound {
    channels: u16,
    bits: u16,
    rate: u16,
    children: Bytes,
}

impl Sound {
    fn decode(body: &Bytes) -> DecodeResult<Self> {
        closed(body, |r| {
            r.skip(8, "sample entry")?;
            let version = r.u16("sample entry version")?;
            r.skip(6, "sample entry")?;
            let (channels, bits) = (r.u16("channelcount")?, r.u16("samplesize")?);
            r.skip(4, "sample entry")?;
            let rate = r.u16("samplerate")?;
            r.skip(2, "samplerate")?;
            // QuickTime has more, which says nothing that the codec's own record does not.
            let more = match version {
                1 => 16,
                2 => 36,
                _ => 0,
            };
            r.skip(more, "sample entry")?;
            Ok(Self { channels, bits, rate, children: body.slice_ref(r.rest()) })
        })
    }

    fn params(&self) -> AudioParams {
        AudioParams {
            sample_rate: self.rate.into(),
            channels: u8::try_from(self.channels).unwrap_or_default(),
            ..AudioParams::default()
        }
    }
}

fn audio(kind: [u8; 4], body: &Bytes) -> DecodeResult<Option<Entry>> {
    let codec = match &kind {
        b"mp4a" => CodecId::Aac,
        b".mp3" => CodecId::Mp3,
        b"Opus" => CodecId::Opus,
        b"fLaC" => CodecId::Flac,
        b"ac-3" => CodecId::Ac3,
        b"ec-3" => CodecId::Eac3,
        b"alaw" => CodecId::Pcma,
        b"ulaw" => CodecId::Pcmu,
        _ => return Ok(None),
    };
    let sound = Sound::decode(body)?;
    let children = &sound.children;
    let mut bitrate = bitrate(children)?;
    let stream = match codec {
        CodecId::Aac => match mpeg4_audio(&sound)? {
            Some((stream, declared)) => {
                bitrate = bitrate.or(declared);
                stream
            }
            None => return Ok(None),
        },
        CodecId::Mp3 => mpeg_audio(&sound),
        _ => configured(codec, &sound)?,
    };
    let pcm = matches!(codec, CodecId::Pcma | CodecId::Pcmu).then(|| PcmConfig {
        sample_rate: sound.rate.into(),
        channels: sound.params().channels,
        bits_per_sample: u8::try_from(sound.bits).unwrap_or_default(),
    });
    Ok(Some(Entry { stream: Stream::Audio(stream, pcm), bitrate }))
}

/// Codecs with a box of their own.
fn configured(codec: CodecId, sound: &Sound) -> DecodeResult<AudioStream> {
    let mut stream = AudioStream::new(codec);
    let record = |kind| require(&sound.children, kind, "decoder configuration");
    match codec {
        CodecId::Opus => {
            let config = opus::decode_dops(&record(b"dOps")?)?;
            let params = opus::audio_params(&config);
            stream.set(CodecConfig::Opus(config), params);
        }
        CodecId::Flac => {
            let config = flac::decode_dfla(&record(b"dfLa")?)?;
            let params = flac::audio_params(&config);
            stream.set(CodecConfig::Flac(config), params);
        }
        CodecId::Ac3 | CodecId::Eac3 => {
            let config = match codec {
                CodecId::Ac3 => ac3::decode_dac3(&record(b"dac3")?)?,
                _ => ac3::decode_dec3(&record(b"dec3")?)?,
            };
            let params = ac3::audio_params(&config);
            stream.set(CodecConfig::Ac3(config), params);
        }
        _ => {}
    }
    Ok(stream)
}

/// MPEG-1/2 audio, whose frames say the rest.
fn mpeg_audio(sound: &Sound) -> AudioStream {
    let mut stream = AudioStream::new(CodecId::Mp3);
    let mut params = sound.params();
    params.samples_per_frame = Some(if params.sample_rate < 32_000 { 576 } else { 1_152 });
    stream.set(CodecConfig::None, params);
    stream
}

/// What an `esds` box says, and its average bit rate.
fn mpeg4_audio(sound: &Sound) -> DecodeResult<Option<(AudioStream, Option<u32>)>> {
    // QuickTime puts it one level deeper.
    let wave = find(&sound.children, b"wave")?;
    let esds = require(wave.as_ref().unwrap_or(&sound.children), b"esds", "esds")?;
    let descriptor = esds::EsDescriptor::decode(&esds.slice(4.min(esds.len())..))?;
    let bitrate = Some(descriptor.avg_bitrate).filter(|&bitrate| bitrate > 0);
    let stream = match descriptor.object_type {
        esds::object_type::AAC | 0x66..=esds::object_type::AAC_MPEG2_LC | 0x68 => {
            let mut stream = AudioStream::new(CodecId::Aac);
            stream.set_record(&descriptor.specific)?;
            stream
        }
        esds::object_type::MP3 | esds::object_type::MP3_MPEG2 => mpeg_audio(sound),
        0xA5 => AudioStream::new(CodecId::Ac3),
        0xA6 => AudioStream::new(CodecId::Eac3),
        _ => return Ok(None),
    };
    Ok(Some((stream, bitrate)))
}
