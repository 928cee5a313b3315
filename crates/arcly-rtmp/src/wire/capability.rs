//! What a side of a connection can do beyond the RTMP of 2009 (Enhanced RTMP v2, "Enhancing NetConnection
//! connect Command").
//!
//! A client announces in `connect`, the server in its `_result`, with the same properties. Who announces
//! nothing is a legacy peer, and gets legacy codecs only.

use std::sync::Arc;

use arcly_codec::amf0::{Object, Value};
use arcly_core::FourCc;
use bitflags::bitflags;

/// FourCCs that are looked at in one announcement; there are about a dozen.
const MAX_FOURCCS: usize = 64;

bitflags! {
    /// What can be done with a codec (`videoFourCcInfoMap`, `audioFourCcInfoMap`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CodecCaps: u8 {
        /// It can be decoded.
        const DECODE = 1;
        /// It can be encoded.
        const ENCODE = 2;
        /// It can be passed on.
        const FORWARD = 4;
    }

    /// Extensions (`capsEx`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct CapsEx: u8 {
        /// `NetConnection.Connect.ReconnectRequest` is understood.
        const RECONNECT = 1;
        /// Several tracks in one stream.
        const MULTITRACK = 2;
        /// ModEx packets.
        const MODEX = 4;
        /// The nanosecond offset in a ModEx packet.
        const NANOSECOND_OFFSET = 8;
    }
}

/// An announcement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What can be done with which video codec.
    pub video: CodecMap,
    /// What can be done with which audio codec.
    pub audio: CodecMap,
    /// Extensions.
    pub extensions: CapsEx,
}

/// Codecs by FourCC, and perhaps all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CodecMap {
    entries: Vec<(FourCc, CodecCaps)>,
    any: CodecCaps,
}

impl CodecMap {
    /// A map in which every one of `fourccs` has the same capabilities.
    #[must_use]
    pub fn of(fourccs: &[FourCc], caps: CodecCaps) -> Self {
        Self { entries: fourccs.iter().map(|&fourcc| (fourcc, caps)).collect(), any: CodecCaps::empty() }
    }

    /// What can be done with a codec; empty when nobody said so.
    #[must_use]
    pub fn get(&self, fourcc: FourCc) -> CodecCaps {
        let named = self.entries.iter().find(|(known, _)| *known == fourcc);
        named.map_or(CodecCaps::empty(), |(_, caps)| *caps).union(self.any)
    }

    /// True when nothing was announced.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.any.is_empty()
    }

    fn add(&mut self, name: &str, caps: CodecCaps) {
        if name == "*" {
            self.any |= caps;
        } else if let Ok(fourcc) = <[u8; 4]>::try_from(name.as_bytes()) {
            let room = self.entries.len() < MAX_FOURCCS;
            match self.entries.iter_mut().find(|(known, _)| known.0 == fourcc) {
                Some((_, known)) => *known |= caps,
                None if room => self.entries.push((FourCc(fourcc), caps)),
                None => {}
            }
        }
    }

    fn decode(&mut self, map: Option<&Value>) {
        for (name, caps) in map.and_then(Value::as_object).into_iter().flatten() {
            let bits = caps.as_number().map_or(0, low_bits);
            self.add(name, CodecCaps::from_bits_truncate(bits));
        }
    }

    fn encode(&self) -> Option<Value> {
        let any = (!self.any.is_empty()).then(|| (Arc::from("*"), self.any));
        let entries = self.entries.iter().map(|(fourcc, caps)| (Arc::from(name(*fourcc).as_str()), *caps));
        let map: Object =
            any.into_iter().chain(entries).map(|(name, caps)| (name, u32::from(caps.bits()))).collect();
        (!map.0.is_empty()).then_some(Value::Object(map))
    }
}

/// A bit field that AMF carries as a double; anything that is not a small number is no bits.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and NaN becomes 0"
)]
fn low_bits(number: f64) -> u8 {
    (number as u32 & 0xFF) as u8
}

fn name(fourcc: FourCc) -> String {
    String::from_utf8_lossy(&fourcc.0).into_owned()
}

impl Capabilities {
    /// Whatever of an announcement is in `properties`: the command object of `connect`, or the properties of its
    /// `_result`.
    #[must_use]
    pub fn decode(properties: &Object) -> Self {
        let mut this = Self::default();
        this.video.decode(properties.get("videoFourCcInfoMap"));
        this.audio.decode(properties.get("audioFourCcInfoMap"));
        // The list of Enhanced RTMP v1 does not tell video from audio, and says no more than "supported".
        if let Some(Value::StrictArray(list)) = properties.get("fourCcList") {
            for fourcc in list.iter().filter_map(Value::as_str) {
                this.video.add(fourcc, CodecCaps::DECODE);
                this.audio.add(fourcc, CodecCaps::DECODE);
            }
        }
        this.extensions = CapsEx::from_bits_truncate(properties.number("capsEx").map_or(0, low_bits));
        this
    }

    /// Adds the announcement to the properties of a `connect` or of its `_result`.
    pub fn encode(&self, properties: &mut Object) {
        let all = self.video.entries.iter().chain(&self.audio.entries);
        let list: Vec<Value> = all.map(|(fourcc, _)| Value::from(name(*fourcc))).collect();
        let mut add = |name: &str, value: Value| properties.0.push((name.into(), value));
        if !list.is_empty() {
            add("fourCcList", Value::StrictArray(list));
        }
        for (name, map) in [("videoFourCcInfoMap", &self.video), ("audioFourCcInfoMap", &self.audio)] {
            if let Some(map) = map.encode() {
                add(name, map);
            }
        }
        if !self.extensions.is_empty() {
            add("capsEx", Value::from(u32::from(self.extensions.bits())));
        }
    }

    /// True when this side announced nothing.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        self.video.is_empty() && self.audio.is_empty()
    }

    /// True when a stream with this codec may be sent here.
    #[must_use]
    pub fn accepts(&self, fourcc: FourCc) -> bool {
        let wanted = CodecCaps::DECODE.union(CodecCaps::FORWARD);
        self.video.get(fourcc).union(self.audio.get(fourcc)).intersects(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_maps_and_wildcards() {
        let list = |names: &[&str]| {
            let values = names.iter().map(|&n| Value::from(n)).collect::<Vec<_>>();
            Object::new().with("fourCcList", Value::StrictArray(values))
        };
        let map =
            |name: &str, bits: f64| Object::new().with("videoFourCcInfoMap", Object::new().with(name, bits));
        let cases: &[(Object, &[u8; 4], bool)] = &[
            (Object::new(), b"hvc1", false),
            (list(&["av01", "hvc1"]), b"hvc1", true),
            (list(&["av01", "hvc1"]), b"vp09", false),
            (list(&["*"]), b"vp09", true),
            (list(&["hevc_long", ""]), b"hvc1", false),
            (map("hvc1", 1.0), b"hvc1", true),
            (map("hvc1", 2.0), b"hvc1", false),
            (map("hvc1", 4.0), b"hvc1", true),
            (map("hvc1", f64::NAN), b"hvc1", false),
            (map("*", 4.0), b"av01", true),
        ];
        for (object, fourcc, expect) in cases {
            assert_eq!(Capabilities::decode(object).accepts(FourCc(**fourcc)), *expect, "{object:?}");
        }
    }

    #[test]
    fn round_trip() {
        let ours = Capabilities {
            video: CodecMap::of(
                &[FourCc(*b"hvc1"), FourCc(*b"av01")],
                CodecCaps::DECODE | CodecCaps::FORWARD,
            ),
            audio: CodecMap::of(
                &[FourCc(*b"Opus"), FourCc(*b".mp3")],
                CodecCaps::DECODE | CodecCaps::FORWARD,
            ),
            extensions: CapsEx::RECONNECT | CapsEx::MODEX,
        };
        let mut object = Object::new();
        ours.encode(&mut object);
        let back = Capabilities::decode(&object);
        assert_eq!(back.extensions, ours.extensions);
        for fourcc in [b"hvc1", b"av01", b"Opus", b".mp3"] {
            assert!(back.accepts(FourCc(*fourcc)));
        }
        assert!(!back.accepts(FourCc(*b"vp09")) && !back.is_legacy());
        assert!(Capabilities::decode(&Object::new()).is_legacy());
    }

    #[test]
    fn a_hostile_list_is_cut() {
        let names = (0..1_000_u32).map(|i| Value::from(format!("{i:04}"))).collect::<Vec<_>>();
        let caps = Capabilities::decode(&Object::new().with("fourCcList", Value::StrictArray(names)));
        assert_eq!(caps.video.entries.len(), MAX_FOURCCS);
    }
}
