//! Targets over MPEG-TS.

use arcly_core::track::TrackMask;
use arcly_core::wire::DecodeError;
use arcly_core::{MediaEvent, MediaFrame};
use arcly_mux::scte35::SpliceInfo;
use arcly_mux::ts::descriptor::descriptors;
use arcly_mux::ts::packet::{PACKET_LEN, Packet};
use arcly_mux::ts::pes::PesHeader;
use arcly_mux::ts::psi::{Pat, Pmt};
use arcly_mux::ts::section::{MAX_TABLE_BYTES, Section, SectionAssembler};
use arcly_mux::ts::{Demuxer, MAX_HELD_BYTES, Muxer};
use bytes::BytesMut;

crate::targets!(splice_info, ts_demuxer, ts_tables);

/// A splice message: times have 33 bits, and what was cut off is told from what is wrong.
pub fn splice_info(data: &[u8]) {
    let Ok(info) = SpliceInfo::decode(data) else { return };
    assert!(info.time.is_none_or(|time| time < 1 << 33));
    assert!(
        info.events.iter().all(|event| event.kind & 1 == 0 && event.duration.is_none_or(|one| one.0 >= 0))
    );
    assert!(info.events.len() <= data.len() / 11 + 1, "no more events than bytes for them");
    // The length is the second field: nothing behind it is read.
    let mut longer = data.to_vec();
    longer.push(0xFF);
    assert_eq!(SpliceInfo::decode(&longer), Ok(info));
}

/// A stream in one piece and in small ones gives the same; frames belong to tracks that were announced, are not shown
/// before they are decoded, and can be muxed again.
pub fn ts_demuxer(data: &[u8]) {
    let whole = demux(data, data.len().max(1));
    assert_eq!(whole, demux(data, 61));
}

fn demux(data: &[u8], piece: usize) -> (Vec<MediaEvent>, Option<DecodeError>) {
    let (mut demuxer, mut checker, mut events) = (Demuxer::default(), Checker::default(), Vec::new());
    let mut failed = None;
    for piece in data.chunks(piece) {
        failed = demuxer.push(piece).err();
        if failed.is_some() {
            break;
        }
    }
    if failed.is_none() {
        failed = demuxer.finish().err();
    }
    while let Some(event) = demuxer.poll_event() {
        checker.event(&event);
        events.push(event);
    }
    assert!(demuxer.buffered() <= MAX_HELD_BYTES + 4 * PACKET_LEN);
    (events, failed)
}

#[derive(Default)]
struct Checker {
    known: TrackMask,
    muxer: Muxer,
}

impl Checker {
    fn event(&mut self, event: &MediaEvent) {
        match event {
            MediaEvent::Tracks(set) => {
                self.known = set.iter().map(|track| track.id).collect();
                self.muxer.set_tracks(set);
            }
            MediaEvent::Frame(frame) => self.frame(frame),
        }
    }

    fn frame(&mut self, frame: &MediaFrame) {
        assert!(self.known.contains(frame.track), "of a track that was announced");
        assert!(frame.pts >= frame.dts && !frame.payload.is_empty());
        let mut out = BytesMut::new();
        self.muxer.frame(frame, &mut out);
        for packet in out.chunks(PACKET_LEN) {
            let packet = Packet::decode(packet.try_into().expect("whole packets")).expect("our own");
            assert!(!packet.error && !packet.scrambled);
        }
    }
}

/// Bytes as packets of sections, as a section, as descriptors and as a PES packet: what decodes encodes to the same.
pub fn ts_tables(data: &[u8]) {
    let mut assembler = SectionAssembler::new(MAX_TABLE_BYTES);
    for payload in data.chunks(184) {
        let start = payload.first().is_some_and(|first| first & 1 == 0);
        let _ = assembler.push(payload, start, table);
    }
    table(data);
    assert!(descriptors(data).count() <= data.len());
    if let Ok((header, payload)) = PesHeader::decode(data) {
        assert!(payload.len() < data.len() && header.pts.is_none_or(|pts| pts < 1 << 33));
    }
}

fn table(bytes: &[u8]) {
    let Ok(section) = Section::decode(bytes) else { return };
    let mut out = BytesMut::new();
    if let Ok(pat) = Pat::decode(&section) {
        pat.encode(&mut out);
        assert_eq!(Section::decode(&out).and_then(|section| Pat::decode(&section)), Ok(pat));
    }
    out.clear();
    if let Ok(pmt) = Pmt::decode(&section) {
        pmt.encode(&mut out);
        assert_eq!(Section::decode(&out).and_then(|section| Pmt::decode(&section)), Ok(pmt));
    }
}
