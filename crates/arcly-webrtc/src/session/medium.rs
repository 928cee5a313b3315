use arcly_core::TrackKind;
use arcly_rtp::sdp::{Format, MediaDescription, Redundancy, SessionDescription};
use str0m::media::Mid;

use super::layers::MAX_LAYERS;

/// One medium of the answer.
#[derive(Clone, Debug)]
pub struct Medium {
    pub(super) mid: Mid,
    /// Video or audio; or data, which is all data channels together.
    pub kind: TrackKind,
    /// This side sends it.
    pub sends: bool,
    /// The peer sends it.
    pub receives: bool,
    /// The formats that are agreed on, the peer's favourite first.
    pub formats: Vec<Format>,
    /// Redundancy that is agreed on for one of them.
    pub redundancy: Option<Redundancy>,
    /// The layers that the peer sends of it (simulcast, RFC 8853), worst first as it names them; empty when it is one.
    pub layers: Vec<String>,
    /// All that the answer says of it.
    pub description: MediaDescription,
}

impl Medium {
    /// True when the peer reports which packets arrive when (transport-wide congestion control).
    pub(super) fn reports_arrival(&self) -> bool {
        let feedback = self.description.attributes.iter().filter(|attribute| attribute.name == "rtcp-fb");
        let mut values = feedback.filter_map(|attribute| attribute.value.as_deref());
        values.any(|value| value.ends_with("transport-cc"))
    }
}

/// The media of an answer of our own.
pub(super) fn media(answer: &str) -> Vec<Medium> {
    let description: SessionDescription = answer.parse().unwrap_or_default();
    let medium = |description: MediaDescription| {
        let has = |name| description.attribute(name).is_some();
        let (sends, receives) = (has("sendonly"), has("recvonly"));
        Medium {
            mid: Mid::from(description.attribute("mid").unwrap_or_default()),
            kind: match &*description.kind {
                "video" => TrackKind::Video,
                "application" => TrackKind::Data,
                _ => TrackKind::Audio,
            },
            sends: sends && description.port != 0,
            receives: receives && description.port != 0,
            formats: Format::offered(&description).unwrap_or_default(),
            redundancy: Redundancy::offered(&description),
            layers: layers(&description),
            description,
        }
    };
    description.media.into_iter().map(medium).collect()
}

/// The layers that an answer takes of a medium (RFC 8853 §5.1).
fn layers(description: &MediaDescription) -> Vec<String> {
    let names = description.attribute("simulcast").and_then(|value| value.trim().strip_prefix("recv "));
    let names =
        names.into_iter().flat_map(|names| names.split_whitespace().next().unwrap_or_default().split(';'));
    // One that is paused for now, and alternatives to it, are one layer.
    let first = |name: &str| name.split(',').next().unwrap_or_default().trim_start_matches('~').to_owned();
    names.map(first).filter(|name| !name.is_empty()).take(MAX_LAYERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_names_the_layers_that_it_takes() {
        let of = |attribute: &str| {
            let answer = format!(
                "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n\
                 a=recvonly\r\na=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 transport-cc\r\n{attribute}\r\n"
            );
            let media = media(&answer);
            assert!(media[0].receives && media[0].reports_arrival());
            media[0].layers.clone()
        };
        assert_eq!(of("a=simulcast:recv q;h;f"), ["q", "h", "f"]);
        assert_eq!(of("a=simulcast:recv ~q;h,x;f send a"), ["q", "h", "f"]);
        assert_eq!(of("a=simulcast:send q;h"), [""; 0]);
        assert_eq!(of("a=simulcast:recv a;b;c;d;e;f").len(), MAX_LAYERS);
        assert_eq!(of("a=sendonly2"), [""; 0]);
    }
}
