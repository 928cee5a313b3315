//! Data tracks and data channels: a track is a channel, a frame is a message.
//!
//! | | |
//! |---|---|
//! | label | what the track is called; or the name of its codec |
//! | protocol | the codec: `klv`, `scte35`, `id3`, `amf`, or the four characters of one that is carried without being understood |
//! | time | none on the wire: a message is of when it arrives |
//!
//! [`Inlets`] makes tracks of a publisher's channels, [`Outlets`] channels of a stream's tracks.

mod inlets;
mod outlets;

use arcly_core::{CodecId, FourCc, Track, TrackKind};

pub(super) use inlets::Inlets;
pub use inlets::{DATA_WAIT, MAX_MESSAGE_BYTES_PER_SECOND, MAX_MESSAGES_PER_SECOND};
pub use outlets::MAX_WAITING_MESSAGES;
pub(super) use outlets::Outlets;

/// What a channel carries that does not say.
const UNNAMED: CodecId = CodecId::Other(TrackKind::Data, FourCc(*b"data"));

/// The codec of a channel: by its protocol, else by its label.
fn codec_of(label: &str, protocol: &str) -> CodecId {
    known(protocol).or_else(|| tag(protocol)).or_else(|| known(label)).unwrap_or(UNNAMED)
}

fn known(name: &str) -> Option<CodecId> {
    let names = [
        ("klv", CodecId::Klv),
        ("smpte336m", CodecId::Klv),
        ("scte35", CodecId::Scte35),
        ("id3", CodecId::Id3),
        ("amf", CodecId::Amf),
    ];
    names.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, codec)| codec)
}

/// Four characters that anything can print.
fn tag(name: &str) -> Option<CodecId> {
    let tag = FourCc(name.as_bytes().try_into().ok()?);
    tag.0.iter().all(u8::is_ascii_graphic).then_some(CodecId::Other(TrackKind::Data, tag))
}

/// The label and the protocol of a track's channel.
fn names_of(track: &Track) -> (String, String) {
    let protocol = track.codec.to_string();
    (track.label.as_deref().unwrap_or(&protocol).to_owned(), protocol)
}

#[cfg(test)]
mod tests {
    use arcly_core::{CodecConfig, TrackId};

    use super::*;

    #[test]
    fn a_codec_is_known_by_the_protocol_and_else_by_the_label() {
        let other = |tag: &[u8; 4]| CodecId::Other(TrackKind::Data, FourCc(*tag));
        let cases = [
            (("", "klv"), CodecId::Klv),
            (("telemetry", "SMPTE336M"), CodecId::Klv),
            (("KLV", ""), CodecId::Klv),
            (("klv", "id3"), CodecId::Id3),
            (("klv", "json"), other(b"json")),
            (("splices", "scte35"), CodecId::Scte35),
            (("", "amf"), CodecId::Amf),
            (("chat", ""), UNNAMED),
            (("chat", "a protocol"), UNNAMED),
            (("chat", "é\u{7f}x"), UNNAMED),
        ];
        for ((label, protocol), codec) in cases {
            assert_eq!(codec_of(label, protocol), codec, "{label} {protocol}");
        }
    }

    #[test]
    fn what_a_channel_is_called_says_what_the_track_was() {
        for codec in [CodecId::Klv, CodecId::Scte35, CodecId::Id3, CodecId::Amf, UNNAMED] {
            let mut track = Track::new(TrackId::DATA, codec, CodecConfig::None);
            let (label, protocol) = names_of(&track);
            assert_eq!((&label, codec_of("", &protocol)), (&protocol, codec));
            track.label = Some("camera".into());
            assert_eq!(names_of(&track).0, "camera");
        }
    }
}
