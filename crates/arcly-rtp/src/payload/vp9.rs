//! VP9 (RFC 9628). The spatial layers of a picture become a superframe (VP9 Bitstream, annex B), all but the highest of them hidden.

use arcly_codec::TemporalLayers;
use arcly_codec::vpx::{MAX_FRAMES, Vp9Layers, put_superframe_index};
use arcly_core::FrameFlags;
use arcly_core::wire::{DecodeResult, Reader};
use bytes::BytesMut;
use smallvec::SmallVec;

use super::assembly::Assembly;
use super::{PacketSink, Payload, Unit};

/// `I`: a picture identifier.
const PICTURE_ID: u8 = 0x80;
/// `P`: the picture refers to others.
const PREDICTED: u8 = 0x40;
/// `L`: layer indices.
const LAYERS: u8 = 0x20;
/// `F`: references are spelled out.
const FLEXIBLE: u8 = 0x10;
/// `B`: the start of a frame.
const START: u8 = 0x08;
/// `E`: the end of one.
const END: u8 = 0x04;
/// `V`: a scalability structure.
const STRUCTURE: u8 = 0x02;
/// `U`: no picture of a higher layer behind this one refers to one before it.
const SWITCH_UP: u8 = 0x10;
/// Bytes of the descriptor that is written.
const DESCRIPTOR: usize = 1;

#[derive(Debug, Default)]
pub(super) struct Depacketizer {
    assembly: Assembly,
    /// Where the frames of the picture end.
    ends: SmallVec<[usize; MAX_FRAMES]>,
    layers: TemporalLayers,
    /// What has to be known of frames before to hide others.
    shown: Vp9Layers,
}

struct Descriptor<'a> {
    flags: u8,
    /// The temporal layer, and whether higher ones can be gone over to behind the picture.
    temporal: Option<(u8, bool)>,
    spatial: u8,
    body: &'a [u8],
}

impl Descriptor<'_> {
    /// True at the start of a picture.
    const fn starts(&self) -> bool {
        self.flags & START != 0 && self.spatial == 0
    }
}

impl Depacketizer {
    pub(super) fn held(&self) -> usize {
        self.assembly.held()
    }

    pub(super) fn lost(&mut self) {
        self.layers.lost();
        self.assembly.lost();
    }

    pub(super) fn push(&mut self, payload: &Payload, out: &mut Vec<Unit>) -> DecodeResult<()> {
        let descriptor = descriptor(&payload.data).map_err(|error| error.in_closed_unit(0));
        if self.assembly.ends_before(payload.ticks) {
            self.finish(out);
        }
        if let Some(found) = descriptor.as_ref().ok().filter(|found| found.starts()) {
            let layer = found.temporal.map(|(id, up)| self.layers.with_switch_up(id, up));
            self.assembly.set_flags(layer.unwrap_or_default());
        }
        let body = descriptor.as_ref().map(|found| (found.starts(), found.body));
        let ends = descriptor.as_ref().is_ok_and(|found| found.flags & END != 0);
        // The end of the picture is dealt with here, behind its last frame.
        let open = Payload { marker: false, ..payload.clone() };
        let taken = self.assembly.push(&open, body.map_err(|error| *error), out);
        if ends && self.ends.len() < MAX_FRAMES {
            self.ends.push(self.assembly.held());
        }
        if payload.marker {
            self.finish(out);
        }
        taken
    }

    /// Ends the picture. Over RTP each of its layers is shown, and in a superframe the highest only.
    fn finish(&mut self, out: &mut Vec<Unit>) {
        let ends = core::mem::take(&mut self.ends);
        if self.assembly.is_whole() {
            let data = self.assembly.data();
            if ends.len() > 1 {
                *data = superframe(data, &ends, &mut self.shown);
                self.assembly.add_flags(FrameFlags::SPATIAL_LAYERS);
            } else {
                self.shown.follow(data);
            }
        }
        self.assembly.complete(out);
    }
}

/// The frames that end there, all but the last of which are hidden, and where they are behind them.
fn superframe(data: &[u8], ends: &[usize], layers: &mut Vp9Layers) -> BytesMut {
    /// What a hidden frame may be longer, and the index has for each.
    const GROWTH: usize = 5;
    let room = ends.len().saturating_mul(GROWTH).saturating_add(2);
    let mut out = BytesMut::with_capacity(data.len().saturating_add(room));
    let mut start = 0_usize;
    let mut places = SmallVec::<[usize; MAX_FRAMES]>::new();
    for (place, end) in ends.iter().enumerate() {
        let is_highest = place.saturating_add(1) == ends.len();
        layers.put(data.get(start..*end).unwrap_or_default(), is_highest, &mut out);
        places.push(out.len());
        start = *end;
    }
    put_superframe_index(&places, &mut out);
    out
}

fn descriptor(data: &[u8]) -> DecodeResult<Descriptor<'_>> {
    let mut r = Reader::new(data);
    let flags = r.u8("vp9 descriptor")?;
    if flags & PICTURE_ID != 0 && r.u8("vp9 picture id")? & 0x80 != 0 {
        r.u8("vp9 picture id")?;
    }
    let (mut temporal, mut spatial) = (None, 0);
    if flags & LAYERS != 0 {
        let layers = r.u8("vp9 layers")?;
        temporal = Some((layers >> 5, layers & SWITCH_UP != 0));
        spatial = layers >> 1 & 7;
        if flags & FLEXIBLE == 0 {
            r.u8("vp9 tl0picidx")?;
        }
    }
    if flags & (FLEXIBLE | PREDICTED) == FLEXIBLE | PREDICTED {
        // Each says whether another follows; there are three at most.
        for _ in 0..3 {
            if r.u8("vp9 p_diff")? & 1 == 0 {
                break;
            }
        }
    }
    if flags & STRUCTURE != 0 {
        structure(&mut r)?;
    }
    if r.is_empty() {
        return Err(r.malformed("vp9 payload"));
    }
    Ok(Descriptor { flags, temporal, spatial, body: r.rest() })
}

fn structure(r: &mut Reader<'_>) -> DecodeResult<()> {
    let first = r.u8("vp9 structure")?;
    if first & 0x10 != 0 {
        let layers = usize::from(first >> 5).saturating_add(1);
        r.skip(layers.saturating_mul(4), "vp9 layer sizes")?;
    }
    if first & 0x08 != 0 {
        for _ in 0..r.u8("vp9 pictures")? {
            let references = usize::from(r.u8("vp9 picture")? >> 2 & 3);
            r.skip(references, "vp9 references")?;
        }
    }
    Ok(())
}

/// Packets of a picture, which number it as little as those of VP8 do.
pub(super) fn packetize(data: &[u8], key: bool, room: usize, sink: &mut dyn PacketSink) {
    let mut pieces = data.chunks(room.saturating_sub(DESCRIPTOR).max(1)).peekable();
    let mut flags = START | if key { 0 } else { PREDICTED };
    while let Some(piece) = pieces.next() {
        let last = pieces.peek().is_none();
        let end = if last { END } else { 0 };
        sink.packet(last, 0, &[&[flags | end], piece]);
        flags &= !START;
    }
}
