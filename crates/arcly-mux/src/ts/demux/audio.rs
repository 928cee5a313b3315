//! Audio: frames out of a byte stream, whatever the PES packets they came in.

use arcly_codec::aac::{self, AdtsHeader, LatmDecoder};
use arcly_codec::{ac3, mpeg_audio, opus};
use arcly_core::codec::{Ac3Config, AudioParams, OpusConfig};
use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use arcly_core::{CodecConfig, CodecId, FrameFlags, TimeDelta, Track, TrackId};
use bytes::{Buf, Bytes, BytesMut};

use super::unit::{Stamp, Stamps, Unit};
use super::video::Output;

/// How frames are told apart.
#[derive(Debug)]
enum Format {
    Adts,
    Latm(Box<LatmDecoder>),
    Mpeg,
    Ac3,
    Opus(OpusConfig),
}

/// One audio stream.
#[derive(Debug)]
pub(super) struct AudioStream {
    format: Format,
    codec: CodecId,
    config: CodecConfig,
    params: Option<AudioParams>,
    pending: BytesMut,
    stamps: Stamps,
    /// The front of what is pending is where a frame begins, as far as is known.
    synced: bool,
    /// Where the next frame is, when no timestamp says it.
    next: Option<Stamp>,
    /// An E-AC-3 frame that dependent ones may follow.
    held: Option<(Stamp, TimeDelta, BytesMut)>,
    changed: bool,
}

/// What the front of the pending bytes is.
enum Front {
    /// A frame of so many bytes.
    Frame(usize),
    /// Not the start of a frame.
    Garbage,
    /// More is needed.
    Open,
}

impl AudioStream {
    pub(super) fn new(codec: CodecId, latm: bool, opus: Option<OpusConfig>) -> Self {
        let mut stream = Self {
            format: match (codec, &opus) {
                (CodecId::Aac, _) if latm => Format::Latm(Box::default()),
                (CodecId::Opus, _) => Format::Opus(opus.clone().unwrap_or_else(|| opus::default_config(2))),
                (CodecId::Ac3 | CodecId::Eac3, _) => Format::Ac3,
                (CodecId::Mp2 | CodecId::Mp3, _) => Format::Mpeg,
                _ => Format::Adts,
            },
            codec,
            config: CodecConfig::None,
            params: None,
            pending: BytesMut::new(),
            stamps: Stamps::default(),
            synced: true,
            next: None,
            held: None,
            changed: false,
        };
        if let Format::Opus(config) = &stream.format {
            let (config, params) = (config.clone(), opus::audio_params(config));
            stream.set(codec, CodecConfig::Opus(config), params);
        }
        stream
    }

    /// Bytes that are held.
    pub(super) fn buffered(&self) -> usize {
        self.pending.len()
    }

    pub(super) const fn take_changed(&mut self) -> bool {
        core::mem::replace(&mut self.changed, false)
    }

    /// The track; `None` until a frame has said what it is.
    pub(super) fn track(&self, id: TrackId) -> Option<Track> {
        Some(Track::new(id, self.codec, self.config.clone()).with_audio(self.params?))
    }

    /// Drops what waits: something of it was lost.
    pub(super) fn discard(&mut self) {
        self.pending = BytesMut::new();
        self.stamps.clear();
        self.synced = false;
        self.held = None;
        self.next = None;
    }

    /// Takes the payload of a PES packet.
    pub(super) fn push(&mut self, payload: BytesMut, stamp: Option<Stamp>, out: &mut Output<'_>) {
        if matches!(self.format, Format::Opus(_)) {
            return self.opus(payload.freeze(), stamp, out);
        }
        if let Some(stamp) = stamp {
            self.stamps.push(self.pending.len(), stamp);
        }
        if self.pending.is_empty() {
            self.pending = payload;
        } else {
            self.pending.extend_from_slice(&payload);
        }
        loop {
            match self.front() {
                Front::Frame(len) => {
                    self.synced = true;
                    let stamp = self.stamps.take_front().or(self.next);
                    let frame = self.take(len);
                    self.frame(frame.freeze(), stamp, out);
                }
                Front::Garbage => {
                    if core::mem::replace(&mut self.synced, false) {
                        out.counters.bad_access_units = out.counters.bad_access_units.saturating_add(1);
                    }
                    let sync = self.sync_byte();
                    let rest = self.pending.get(1..).unwrap_or_default();
                    let skip =
                        memchr::memchr(sync, rest).map_or(self.pending.len(), |at| at.saturating_add(1));
                    self.take(skip);
                }
                Front::Open => break,
            }
        }
        // A frame at the end of its PES packet has no more parts.
        if self.pending.is_empty() {
            self.release(out);
        }
    }

    fn take(&mut self, len: usize) -> BytesMut {
        self.stamps.advance(len);
        self.pending.split_to(len.min(self.pending.len()))
    }

    const fn sync_byte(&self) -> u8 {
        match self.format {
            Format::Latm(_) => 0x56,
            Format::Ac3 => 0x0B,
            _ => 0xFF,
        }
    }

    fn front(&self) -> Front {
        if self.pending.is_empty() {
            return Front::Open;
        }
        let len = match self.frame_len(&self.pending) {
            Ok(len) => len,
            Err(error) if error.is_incomplete() => return Front::Open,
            Err(_) => return Front::Garbage,
        };
        match self.pending.get(len..) {
            None => Front::Open,
            // After garbage a frame is believed when another follows it.
            Some(rest) if !self.synced => match self.frame_len(rest) {
                Ok(_) => Front::Frame(len),
                Err(error) if error.is_incomplete() => Front::Open,
                Err(_) => Front::Garbage,
            },
            Some(_) => Front::Frame(len),
        }
    }

    fn frame_len(&self, data: &[u8]) -> DecodeResult<usize> {
        let len = match self.format {
            Format::Adts => usize::from(AdtsHeader::decode(data)?.frame_len),
            Format::Latm(_) => aac::loas_frame_len(data)?,
            Format::Ac3 => ac3::FrameHeader::decode(data)?.frame_len,
            Format::Mpeg | Format::Opus(_) => mpeg_audio::FrameHeader::decode(data)?.frame_len,
        };
        if len == 0 { Err(DecodeError::Malformed { what: "audio frame length", offset: 0 }) } else { Ok(len) }
    }

    /// A whole frame.
    fn frame(&mut self, data: Bytes, stamp: Option<Stamp>, out: &mut Output<'_>) {
        let result = match &mut self.format {
            Format::Adts => self.adts(data, stamp, out),
            Format::Latm(_) => self.latm(&data, stamp, out),
            Format::Ac3 => self.ac3(data, stamp, out),
            Format::Mpeg | Format::Opus(_) => self.mpeg(data, stamp, out),
        };
        if result.is_err() {
            out.counters.bad_access_units = out.counters.bad_access_units.saturating_add(1);
        }
    }

    fn adts(&mut self, data: Bytes, stamp: Option<Stamp>, out: &mut Output<'_>) -> DecodeResult<()> {
        let header = AdtsHeader::decode(&data)?;
        // Without a checksum in every block, which nobody sends, the blocks of a frame cannot be told apart.
        if header.blocks != 1 {
            return Err(DecodeError::Malformed { what: "adts blocks", offset: 6 });
        }
        let known = matches!(&self.config, CodecConfig::Aac(known) if known.sample_rate == header.sample_rate
            && known.channel_config == header.channel_config && known.object_type == header.object_type);
        if !known {
            let config = header.config();
            let params = aac::audio_params(&config);
            self.set(CodecId::Aac, CodecConfig::Aac(config), params);
        }
        let duration = match &self.config {
            CodecConfig::Aac(config) => aac::frame_duration(config),
            _ => TimeDelta::ZERO,
        };
        self.emit(data.slice(usize::from(header.header_len)..), stamp, duration, out);
        Ok(())
    }

    fn latm(&mut self, data: &[u8], stamp: Option<Stamp>, out: &mut Output<'_>) -> DecodeResult<()> {
        let Format::Latm(decoder) = &mut self.format else { return Ok(()) };
        let units = decoder.decode(data)?;
        // Until the first configuration comes nothing can be made of the frames.
        let Some(config) = decoder.config().cloned() else { return Ok(()) };
        let duration = aac::frame_duration(&config);
        let params = aac::audio_params(&config);
        self.set(CodecId::Aac, CodecConfig::Aac(config), params);
        let mut stamp = stamp;
        for unit in units {
            self.emit(unit, stamp, duration, out);
            stamp = self.next;
        }
        Ok(())
    }

    fn mpeg(&mut self, data: Bytes, stamp: Option<Stamp>, out: &mut Output<'_>) -> DecodeResult<()> {
        let header = mpeg_audio::FrameHeader::decode(&data)?;
        self.set(header.codec(), CodecConfig::None, header.audio_params());
        self.emit(data, stamp, header.duration(), out);
        Ok(())
    }

    fn ac3(&mut self, data: Bytes, stamp: Option<Stamp>, out: &mut Output<'_>) -> DecodeResult<()> {
        let header = ac3::FrameHeader::decode(&data)?;
        if header.dependent {
            if let Some((.., frame)) = &mut self.held {
                frame.extend_from_slice(&data);
            }
            return Ok(());
        }
        self.release(out);
        // With a variable bit rate every frame would be a new configuration.
        let same =
            |known: &Ac3Config| *known == Ac3Config { bit_rate: known.bit_rate, ..header.config.clone() };
        if !matches!(&self.config, CodecConfig::Ac3(known) if same(known)) {
            self.set(header.codec, CodecConfig::Ac3(header.config.clone()), header.audio_params());
        }
        let Some(stamp) = stamp else {
            out.counters.without_time = out.counters.without_time.saturating_add(1);
            return Ok(());
        };
        let duration = header.duration();
        self.next = Some(after(stamp, duration));
        if header.codec == CodecId::Ac3 {
            self.emit(data, Some(stamp), duration, out);
        } else {
            self.held = Some((stamp, duration, BytesMut::from(data)));
        }
        Ok(())
    }

    /// Gives out the E-AC-3 frame that waited for dependent ones.
    fn release(&mut self, out: &mut Output<'_>) {
        if let Some((stamp, duration, data)) = self.held.take() {
            out.units.push(unit(data.freeze(), stamp, duration));
        }
    }

    /// Gives out what waits, as nothing more of it will come.
    pub(super) fn flush(&mut self, out: &mut Output<'_>) {
        self.release(out);
        // The last frame after garbage has no successor to vouch for it.
        if let Front::Open = self.front()
            && let Ok(len) = self.frame_len(&self.pending)
            && self.pending.len() >= len
        {
            let stamp = self.stamps.take_front().or(self.next);
            let frame = self.take(len).freeze();
            self.frame(frame, stamp, out);
            self.release(out);
        }
    }

    /// Opus packets behind their control headers (ETSI TS 102 366 style mapping, as FFmpeg and GStreamer do it).
    fn opus(&mut self, mut data: Bytes, stamp: Option<Stamp>, out: &mut Output<'_>) {
        let mut stamp = stamp.or(self.next);
        while !data.is_empty() {
            let packet = match opus_unit(&mut data) {
                Ok(packet) if opus::packet_samples(&packet).is_ok() => packet,
                _ => {
                    out.counters.bad_access_units = out.counters.bad_access_units.saturating_add(1);
                    return;
                }
            };
            let duration = opus::packet_duration(&packet);
            self.emit(packet, stamp, duration, out);
            stamp = self.next;
        }
    }

    fn emit(&mut self, payload: Bytes, stamp: Option<Stamp>, duration: TimeDelta, out: &mut Output<'_>) {
        let Some(stamp) = stamp else {
            out.counters.without_time = out.counters.without_time.saturating_add(1);
            return;
        };
        self.next = Some(after(stamp, duration));
        if !payload.is_empty() {
            out.units.push(unit(payload, stamp, duration));
        }
    }

    fn set(&mut self, codec: CodecId, config: CodecConfig, params: AudioParams) {
        if self.codec != codec || self.params != Some(params) || self.config != config {
            (self.codec, self.config, self.params, self.changed) = (codec, config, Some(params), true);
        }
    }
}

fn unit(payload: Bytes, stamp: Stamp, duration: TimeDelta) -> Unit {
    Unit { stamp, duration, flags: FrameFlags::KEYFRAME, payload }
}

fn after(stamp: Stamp, duration: TimeDelta) -> Stamp {
    let dts = stamp.dts + duration;
    Stamp { dts, pts: stamp.pts + duration, clamped: false }
}

/// Takes an Opus packet with its control header off the front.
fn opus_unit(data: &mut Bytes) -> DecodeResult<Bytes> {
    let mut r = Reader::new(data);
    let prefix = r.u16("opus control header")?;
    if prefix & 0xFFE0 != 0x7FE0 {
        return Err(DecodeError::Malformed { what: "opus control header", offset: 0 });
    }
    let mut len = 0_usize;
    loop {
        let part = r.u8("opus unit size")?;
        len = len.saturating_add(usize::from(part));
        if part != u8::MAX {
            break;
        }
    }
    // start_trim_flag and end_trim_flag: two bytes each; control_extension_flag: a length and so many bytes.
    for flag in [0x10, 0x08] {
        if prefix & flag != 0 {
            r.u16("opus trim")?;
        }
    }
    if prefix & 0x04 != 0 {
        let extension = r.u8("opus extension")?;
        r.bytes(usize::from(extension), "opus extension")?;
    }
    let start = r.position();
    r.bytes(len, "opus unit")?;
    data.advance(start);
    Ok(data.split_to(len))
}
