//! Targets over RTP, RTCP, payload formats and SDP.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use arcly_core::{MediaEvent, Timescale, TrackId};
use arcly_rtp::media::{Event, LaneSpec, MediaReceiver, MediaReceiverOptions};
use arcly_rtp::payload::{AuSizes, Depacketizer, Encoding, MAX_UNIT_BYTES, Payload};
use arcly_rtp::sdp::{Format, Redundancy, SessionDescription};
use arcly_rtp::session::{Delivery, MAX_WAIT, Receiver, Recovery};
use arcly_rtp::wire::rtcp::{RtcpPacket, compound};
use arcly_rtp::wire::{Header, MAX_RED_BLOCKS, Red, RtpPacket};
use bytes::{Bytes, BytesMut};

crate::targets!(rtp_packet, rtcp_compound, rtp_receiver, rtp_payload, rtp_media, rtp_red, sdp_session);

/// A packet that decodes encodes to the same, but for what padding holds.
pub fn rtp_packet(data: &[u8]) {
    let Ok(packet) = RtpPacket::decode(&Bytes::copy_from_slice(data)) else { return };
    let mut out = BytesMut::new();
    packet.encode(&mut out);
    assert_eq!(out.len(), data.len());
    assert_eq!(RtpPacket::decode(&out.freeze()).as_ref(), Ok(&packet));
    let elements = packet.extension.iter().flat_map(|extension| extension.elements());
    assert!(elements.map(|(_, value)| value.len()).sum::<usize>() <= data.len());
}

/// What decodes of a compound packet encodes to the same.
pub fn rtcp_compound(data: &[u8]) {
    let packets: Vec<RtcpPacket> = compound(&Bytes::copy_from_slice(data)).map_while(Result::ok).collect();
    let mut out = BytesMut::new();
    packets.iter().for_each(|packet| packet.encode(&mut out));
    let again: Vec<RtcpPacket> = compound(&out.freeze()).map_while(Result::ok).collect();
    assert_eq!(again, packets);
}

/// A sequence of packets, each with how many milliseconds it comes after the one before.
pub fn rtp_receiver(data: &[u8]) {
    let mut now = Instant::now();
    let mut receiver = Receiver::new(Timescale::MPEG, &[96, 97], MAX_WAIT);
    let mut numbers: Option<u16> = None;
    for part in crate::parts(data) {
        let Some((later, datagram)) = part.split_first() else { continue };
        now += Duration::from_millis(u64::from(*later));
        if let Ok(packet) = RtpPacket::decode(&Bytes::copy_from_slice(datagram)) {
            receiver.handle_packet(now, packet);
        }
        receiver.handle_timeout(now);
        while let Some(delivery) = receiver.poll() {
            match delivery {
                Delivery::Packet(packet) => {
                    let sequence = packet.header.sequence;
                    assert!(numbers.is_none_or(|expected| expected == sequence), "in order, gaps are said");
                    numbers = Some(sequence.wrapping_add(1));
                }
                Delivery::Lost(lost) => {
                    let lost = u16::try_from(lost).expect("no more than a jump");
                    numbers = numbers.map(|number| number.wrapping_add(lost));
                }
                Delivery::Restart => numbers = None,
            }
        }
        assert!(receiver.deadline().is_none_or(|deadline| deadline > now));
        _ = (receiver.report(now), receiver.nack(1), receiver.drift());
    }
}

/// The first byte chooses the format; the rest is payloads, each behind a byte of flags.
pub fn rtp_payload(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let encoding = match choice % 13 {
        0 => Encoding::H264,
        1 => Encoding::H265,
        2 => Encoding::Av1,
        3 => Encoding::Vp8,
        4 => Encoding::Vp9,
        5 => Encoding::Opus,
        6 => Encoding::Mpeg4Generic(AuSizes::HBR),
        7 => Encoding::Latm(None),
        8 => Encoding::Latm(Some(Bytes::new())),
        9 => Encoding::MpegAudio,
        10 => Encoding::Ac3,
        11 => Encoding::Klv,
        _ => Encoding::Mp2t,
    };
    let mut depacketizer = Depacketizer::new(&encoding, 90_000, 1_024);
    let (mut ticks, mut units) = (0, Vec::new());
    for part in crate::parts(rest) {
        let Some((flags, payload)) = part.split_first() else { continue };
        if flags & 2 != 0 {
            depacketizer.lost();
        }
        ticks += i64::from(flags >> 2 & 3) * 3_000;
        let payload = Payload { ticks, marker: flags & 1 != 0, data: Bytes::copy_from_slice(payload) };
        _ = depacketizer.push(&payload, &mut units);
        assert!(depacketizer.held() <= 2 * MAX_UNIT_BYTES);
    }
    depacketizer.flush(&mut units);
    assert!(units.iter().all(|unit| !unit.data.is_empty()));
}

/// What `rtp_media` receives: pictures, sounds with their configuration, samples.
const MEDIA: &str = "m=video 0 RTP/AVP 96 45\na=rtpmap:96 H264/90000\na=rtpmap:45 AV1/90000\n\
    m=audio 0 RTP/AVP 97\na=rtpmap:97 MPEG4-GENERIC/48000/2\na=fmtp:97 config=1190\nm=audio 0 RTP/AVP 0\n";

/// A sequence of datagrams, each behind two bytes: which lane and whether it is a report, and how many milliseconds it comes after
/// the one before. Tracks come first, and decode times never run backwards.
pub fn rtp_media(data: &[u8]) {
    let session: SessionDescription = MEDIA.parse().expect("our own");
    let lanes = session.media.iter().zip(0..).map(|(media, track)| LaneSpec {
        track: TrackId::new(track).expect("small"),
        formats: Format::offered(media).expect("known"),
    });
    let mut receiver = MediaReceiver::new(lanes.collect(), MediaReceiverOptions::default());
    let (mut now, mut last, mut tracks) = (Instant::now(), [None; 3], 0);
    for part in crate::parts(data) {
        let Some(([what, later], datagram)) = part.split_first_chunk() else { continue };
        now += Duration::from_millis(u64::from(*later) * 4);
        let datagram = Bytes::copy_from_slice(datagram);
        let lane = usize::from(what & 3);
        if what & 4 != 0 {
            receiver.handle_rtcp(now, lane, &datagram);
        } else if receiver.handle_rtp(now, lane, &datagram).is_err() {
            return;
        }
        receiver.handle_timeout(now);
        while let Some(event) = receiver.poll_event() {
            match event {
                Event::Media(MediaEvent::Tracks(set)) => tracks = set.len(),
                Event::Media(MediaEvent::Frame(frame)) => {
                    assert!(tracks > 0 && !frame.payload.is_empty() && frame.pts >= frame.dts);
                    let last = &mut last[frame.track.index()];
                    assert!(last.is_none_or(|last| last <= frame.dts), "decode times do not decrease");
                    *last = Some(frame.dts);
                }
                _ => {}
            }
        }
        assert!(receiver.deadline().is_none_or(|deadline| deadline > now));
    }
}

/// A sequence of payloads with redundancy, each behind how much further its number and its timestamp are than the one's before. One that decodes
/// encodes to the same, and what is recovered is of numbers that have not come.
pub fn rtp_red(data: &[u8]) {
    let mut recovery = Recovery::new(Redundancy { payload_type: 63, of: 111 });
    let (mut header, mut seen) = (Header { payload_type: 63, ..Header::default() }, BTreeSet::new());
    for part in crate::parts(data) {
        let Some(([number, ticks], payload)) = part.split_first_chunk() else { continue };
        header.sequence = header.sequence.wrapping_add((*number).into());
        header.timestamp = header.timestamp.wrapping_add(u32::from(*ticks) * 120);
        if let Ok(red) = Red::decode(payload) {
            let mut out = BytesMut::new();
            red.encode(&mut out);
            assert_eq!(out, payload);
        }
        let packet = RtpPacket { header, payload: Bytes::copy_from_slice(payload), ..RtpPacket::default() };
        let Ok(out) = recovery.handle_packet(packet) else { continue };
        let (own, recovered) = out.split_last().expect("the packet itself");
        assert!(recovered.len() <= MAX_RED_BLOCKS && own.header.sequence == header.sequence);
        seen.insert(header.sequence);
        for packet in recovered {
            assert!(!packet.payload.is_empty() && packet.header.payload_type == 111);
            // Numbers begin again in a long input.
            assert!(seen.insert(packet.header.sequence) || seen.len() > 1_000, "it has come");
        }
    }
}

/// A description that is read is written, and read again as the same.
pub fn sdp_session(data: &[u8]) {
    let Ok(session) = String::from_utf8_lossy(data).parse::<SessionDescription>() else { return };
    for media in &session.media {
        _ = Redundancy::offered(media);
        for format in Format::offered(media).unwrap_or_default() {
            assert!(format.payload_type < 128);
            _ = (format.codec(), format.samples_per_frame(), session.address(media));
        }
    }
    let again: SessionDescription = session.to_string().parse().expect("what was written");
    assert_eq!(again.to_string(), session.to_string());
}
