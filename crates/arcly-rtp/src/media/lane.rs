use std::collections::VecDeque;
use std::time::Instant;

use arcly_codec::elementary::{AudioStream, VideoStream};
use arcly_codec::reorder::DtsDeriver;
use arcly_codec::{aac, h264, mpeg_audio, opus};
use arcly_core::codec::{AudioParams, PcmConfig};
use arcly_core::time::{ClockSource, WallTime};
use arcly_core::wire::DecodeResult;
use arcly_core::{CodecConfig, CodecId, FrameFlags, MediaFrame, TimeDelta, Timestamp, Track, TrackId};
use bytes::Bytes;

use super::{LaneCounters, MIN_REQUEST_INTERVAL, MediaReceiverOptions, REASSEMBLY_TIMEOUT};
use crate::payload::{Depacketizer, Payload, Unit};
use crate::sdp::Format;
use crate::session::{Delivery, Received, Receiver};
use crate::wire::RtpPacket;

/// What comes out of a lane.
#[derive(Debug)]
pub(super) enum Output {
    /// The track is another one from here on.
    Track,
    /// A frame on the lane's own time.
    Frame(MediaFrame),
    /// Transport packets.
    TransportStream(Bytes),
}

/// How units become frames.
enum Stream {
    Video(Box<VideoStream>, Box<DtsDeriver<Picture>>),
    Audio(Box<AudioStream>, Option<PcmConfig>),
    Pcm {
        codec: CodecId,
        config: PcmConfig,
        tick: TimeDelta,
        sample: usize,
    },
    MpegAudio,
    Data(CodecId),
    /// Transport packets, which somebody else takes apart.
    Packets,
}

/// A picture that waits for its decode time.
#[derive(Debug)]
struct Picture {
    payload: Bytes,
    flags: FrameFlags,
    wall: Option<WallTime>,
}

/// One medium: its packets, and the track that they carry.
pub(super) struct Lane {
    id: TrackId,
    formats: Vec<Format>,
    format: Format,
    receiver: Receiver,
    depacketizer: Depacketizer,
    stream: Stream,
    track: Option<Track>,
    units: Vec<Unit>,
    out: VecDeque<Output>,
    counters: LaneCounters,
    /// Something that pictures refer to is missing, until the next keyframe.
    broken: bool,
    /// No keyframe has come yet.
    waiting: bool,
    discontinuity: bool,
    requested_at: Option<Instant>,
    first_arrival: Option<Instant>,
    /// Datagrams in a row that were no packets.
    pub(super) bad_in_a_row: u32,
}

impl core::fmt::Debug for Lane {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lane").field("id", &self.id).field("format", &self.format).finish_non_exhaustive()
    }
}

impl Lane {
    /// A lane of at least one format, the first of which is believed to come.
    pub(super) fn new(id: TrackId, formats: Vec<Format>, options: MediaReceiverOptions) -> Option<Self> {
        let format = formats.first()?.clone();
        let payload_types: Vec<u8> = formats.iter().map(|format| format.payload_type).collect();
        let receiver = Receiver::new(format.clock, &payload_types, options.wait);
        let mut lane = Self {
            id,
            receiver: if options.start_hold { receiver.with_start_hold() } else { receiver },
            depacketizer: depacketizer(&format),
            stream: Stream::new(&format),
            formats,
            format,
            track: None,
            units: Vec::new(),
            out: VecDeque::new(),
            counters: LaneCounters::default(),
            broken: true,
            waiting: true,
            discontinuity: false,
            requested_at: None,
            first_arrival: None,
            bad_in_a_row: 0,
        };
        lane.track = lane.stream.track(id);
        Some(lane)
    }

    pub(super) const fn receiver(&mut self) -> &mut Receiver {
        &mut self.receiver
    }

    pub(super) const fn counters(&self) -> LaneCounters {
        let mut counters = self.counters;
        counters.receiver = self.receiver.counters();
        counters
    }

    pub(super) const fn count_bad_packet(&mut self) {
        self.counters.bad_packets = self.counters.bad_packets.saturating_add(1);
        self.bad_in_a_row = self.bad_in_a_row.saturating_add(1);
    }

    /// The track as it is known now.
    pub(super) const fn track(&self) -> Option<&Track> {
        self.track.as_ref()
    }

    pub(super) const fn is_transport_stream(&self) -> bool {
        matches!(self.stream, Stream::Packets)
    }

    /// True while what has come is held for what may come before it.
    pub(super) const fn is_holding(&self) -> bool {
        self.receiver.is_holding()
    }

    pub(super) const fn first_arrival(&self) -> Option<Instant> {
        self.first_arrival
    }

    /// Ticks as the lane's own time.
    pub(super) const fn time(&self, ticks: i64) -> Timestamp {
        Timestamp::from_ticks(ticks, self.format.clock)
    }

    pub(super) fn handle_packet(&mut self, now: Instant, packet: RtpPacket) {
        self.receiver.handle_packet(now, packet);
        self.deliver();
        if self.first_arrival.is_none() {
            self.first_arrival = self.receiver.last_arrival();
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.receiver.handle_timeout(now);
        self.deliver();
        if self.stale().is_some_and(|at| at <= now) {
            self.depacketizer = depacketizer(&self.format);
            self.depacketizer.lost();
            self.lose();
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.receiver.deadline().into_iter().chain(self.stale()).min()
    }

    /// When a unit that is not whole is given up.
    fn stale(&self) -> Option<Instant> {
        let last = self.receiver.last_arrival().filter(|_| self.depacketizer.held() > 0)?;
        last.checked_add(REASSEMBLY_TIMEOUT)
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        self.out.pop_front()
    }

    /// True when the sender should be asked for a keyframe, now.
    pub(super) fn take_request(&mut self, now: Instant) -> bool {
        let due =
            self.requested_at.is_none_or(|at| now.saturating_duration_since(at) >= MIN_REQUEST_INTERVAL);
        let wanted =
            self.broken && due && matches!(self.stream, Stream::Video(..)) && self.first_arrival.is_some();
        if wanted {
            self.requested_at = Some(now);
        }
        wanted
    }

    fn deliver(&mut self) {
        while let Some(delivery) = self.receiver.poll() {
            match delivery {
                Delivery::Packet(packet) => self.packet(packet),
                Delivery::Lost(_) => {
                    self.depacketizer.lost();
                    self.lose();
                }
                Delivery::Restart => self.restart(),
            }
        }
    }

    fn lose(&mut self) {
        self.broken = true;
    }

    fn restart(&mut self) {
        self.depacketizer = depacketizer(&self.format);
        self.discontinuity = true;
        self.lose();
        if let Stream::Video(_, deriver) = &mut self.stream {
            let depth = u8::try_from(deriver.depth()).unwrap_or_default();
            deriver.restart(depth);
        }
        self.drain_deriver();
    }

    fn packet(&mut self, packet: Received) {
        if packet.header.payload_type != self.format.payload_type {
            self.change_format(packet.header.payload_type);
        }
        let payload = Payload { ticks: packet.ticks, marker: packet.header.marker, data: packet.payload };
        let mut units = core::mem::take(&mut self.units);
        if self.depacketizer.push(&payload, &mut units).is_err() {
            self.counters.bad_payloads = self.counters.bad_payloads.saturating_add(1);
            self.lose();
        }
        for unit in units.drain(..) {
            self.unit(unit);
        }
        self.units = units;
    }

    /// Another of the formats that were agreed on.
    fn change_format(&mut self, payload_type: u8) {
        let Some(format) = self.formats.iter().find(|format| format.payload_type == payload_type) else {
            return;
        };
        self.format = format.clone();
        self.depacketizer = depacketizer(&self.format);
        self.stream = Stream::new(&self.format);
        (self.broken, self.waiting, self.discontinuity) = (true, true, true);
        self.refresh();
    }

    fn unit(&mut self, unit: Unit) {
        if unit.corrupt {
            self.counters.damaged = self.counters.damaged.saturating_add(1);
            return self.lose();
        }
        if self.take(unit).is_err() {
            self.counters.bad_units = self.counters.bad_units.saturating_add(1);
            self.lose();
        }
    }

    fn take(&mut self, unit: Unit) -> DecodeResult<()> {
        let pts = self.time(unit.ticks);
        let wall = self.receiver.wall(unit.ticks).map(|time| WallTime { time, source: ClockSource::Sender });
        match &mut self.stream {
            Stream::Video(stream, _) => {
                let picture = stream.frame(&unit.data, false)?;
                if stream.take_changed() {
                    self.refresh();
                }
                if let Some((payload, flags)) = picture {
                    self.picture(pts, Picture { payload, flags: flags | unit.flags, wall });
                }
            }
            Stream::Audio(stream, pcm) => {
                if let Some(config) = self.depacketizer.config() {
                    stream.set(CodecConfig::Aac(config.clone()), aac::audio_params(config));
                }
                let frame = stream.frame(unit.data, *pcm)?;
                if stream.take_changed() {
                    self.refresh();
                }
                if let Some((payload, duration)) = frame {
                    self.sound(pts, duration, payload, wall);
                }
            }
            Stream::Pcm { tick, sample, .. } => {
                let samples = unit.data.len().checked_div(*sample).and_then(|n| i64::try_from(n).ok());
                let duration = TimeDelta(tick.0.saturating_mul(samples.unwrap_or(0)));
                self.sound(pts, duration, unit.data, wall);
            }
            Stream::MpegAudio => {
                let header =
                    mpeg_audio::FrameHeader::decode(&unit.data).map_err(|error| error.in_closed_unit(0))?;
                let track =
                    Track::new(self.id, header.codec(), CodecConfig::None).with_audio(header.audio_params());
                self.set_track(Some(track));
                self.sound(pts, header.duration(), unit.data, wall);
            }
            Stream::Data(_) => self.sound(pts, TimeDelta::ZERO, unit.data, wall),
            Stream::Packets => self.out.push_back(Output::TransportStream(unit.data)),
        }
        Ok(())
    }

    /// A frame of a track without frames that refer to each other.
    fn sound(&mut self, pts: Timestamp, duration: TimeDelta, payload: Bytes, wall: Option<WallTime>) {
        let mut frame = MediaFrame::new(self.id, pts, payload).with_duration(duration);
        frame.wall = wall;
        frame.flags = FrameFlags::KEYFRAME;
        self.broken = false;
        self.emit(frame);
    }

    fn picture(&mut self, pts: Timestamp, mut picture: Picture) {
        let Stream::Video(stream, deriver) = &mut self.stream else { return };
        let key = picture.flags.contains(FrameFlags::KEYFRAME);
        if !stream.is_ready() || (self.waiting && !key) {
            self.counters.before_keyframe = self.counters.before_keyframe.saturating_add(1);
            return;
        }
        picture.flags.set(FrameFlags::DISPOSABLE, !key && picture.flags.contains(FrameFlags::DISPOSABLE));
        (self.waiting, self.broken) = (false, self.broken && !key);
        picture.flags.set(FrameFlags::CORRUPT, self.broken || picture.flags.contains(FrameFlags::CORRUPT));
        deriver.push(pts, picture);
        self.drain_deriver();
    }

    fn drain_deriver(&mut self) {
        while let Stream::Video(_, deriver) = &mut self.stream
            && let Some(derived) = deriver.poll()
        {
            let Picture { payload, mut flags, wall } = derived.item;
            flags.set(FrameFlags::CLAMPED, derived.clamped);
            let mut frame =
                MediaFrame::new(self.id, derived.dts, payload).with_pts(derived.pts).with_flags(flags);
            frame.wall = wall;
            self.emit(frame);
        }
    }

    fn emit(&mut self, mut frame: MediaFrame) {
        if core::mem::take(&mut self.discontinuity) {
            frame.flags |= FrameFlags::DISCONTINUITY;
        }
        self.out.push_back(Output::Frame(frame));
    }

    /// The track may be another one.
    fn refresh(&mut self) {
        let track = self.stream.track(self.id);
        if track.is_some() {
            self.set_track(track);
        }
    }

    fn set_track(&mut self, track: Option<Track>) {
        if self.track == track {
            return;
        }
        if let Stream::Video(_, deriver) = &mut self.stream {
            let depth = track.as_ref().map_or(0, reorder_depth);
            if self.track.is_none() || usize::from(depth) != deriver.depth() {
                deriver.restart(depth);
            }
        }
        // What belongs to the track as it was comes before the change.
        self.drain_deriver();
        self.track = track;
        self.out.push_back(Output::Track);
    }
}

fn depacketizer(format: &Format) -> Depacketizer {
    Depacketizer::new(&format.encoding, format.clock.get(), format.samples_per_frame())
}

/// By how many pictures presentation lags decoding. An H.264 stream that does not say is believed not to reorder, as cameras do
/// not: the standard's default would hold back half a second of pictures. One that reorders all the same is learnt from.
fn reorder_depth(track: &Track) -> u8 {
    if let CodecConfig::Avc(config) = &track.config {
        let sps = config.sps.first().and_then(|sps| h264::Sps::decode(sps).ok());
        return sps.and_then(|sps| sps.max_num_reorder_frames).unwrap_or(0);
    }
    track.video().and_then(|video| video.reorder_depth).unwrap_or(0)
}

impl Stream {
    fn new(format: &Format) -> Self {
        match (format.codec(), &format.config) {
            (
                Some(codec @ (CodecId::H264 | CodecId::H265 | CodecId::Av1 | CodecId::Vp8 | CodecId::Vp9)),
                _,
            ) => {
                let mut stream = VideoStream::new(codec);
                // Parameter sets come in the description as they would in the stream; what is wrong with them is left aside.
                _ = stream.frame(&format.parameter_sets, false);
                _ = stream.take_changed();
                let depth = stream.track(TrackId::VIDEO).as_ref().map_or(0, reorder_depth);
                Self::Video(Box::new(stream), Box::new(DtsDeriver::new(depth)))
            }
            (Some(codec @ (CodecId::G722 | CodecId::PcmBe)), CodecConfig::Pcm(config)) => {
                let bytes = if codec == CodecId::G722 { 1 } else { usize::from(config.bits_per_sample / 8) };
                let sample = bytes.saturating_mul(usize::from(config.channels.max(1)));
                // A byte of G.722 is one tick of its clock, of 8 kHz.
                let tick = TimeDelta::from_units(1, format.clock);
                Self::Pcm { codec, config: *config, tick, sample }
            }
            (Some(CodecId::Mp3), _) => Self::MpegAudio,
            (Some(CodecId::Klv), _) => Self::Data(CodecId::Klv),
            (Some(codec), config) => {
                let mut stream = AudioStream::new(codec);
                let pcm = match config {
                    CodecConfig::Pcm(config) => Some(*config),
                    _ => None,
                };
                match config {
                    CodecConfig::Aac(aac) => stream.set(config.clone(), aac::audio_params(aac)),
                    CodecConfig::Opus(opus) => stream.set(config.clone(), opus::audio_params(opus)),
                    CodecConfig::Pcm(pcm) => stream.set(config.clone(), params(*pcm)),
                    _ => {}
                }
                _ = stream.take_changed();
                Self::Audio(Box::new(stream), pcm)
            }
            (None, _) => Self::Packets,
        }
    }

    fn track(&self, id: TrackId) -> Option<Track> {
        match self {
            Self::Video(stream, _) => stream.track(id),
            Self::Audio(stream, _) => stream.track(id),
            Self::Pcm { codec, config, .. } => {
                Some(Track::new(id, *codec, CodecConfig::Pcm(*config)).with_audio(params(*config)))
            }
            Self::Data(codec) => Some(Track::new(id, *codec, CodecConfig::None)),
            Self::MpegAudio | Self::Packets => None,
        }
    }
}

const fn params(config: PcmConfig) -> AudioParams {
    AudioParams {
        sample_rate: config.sample_rate,
        channels: config.channels,
        bits_per_sample: config.bits_per_sample,
        samples_per_frame: None,
    }
}
