use core::fmt::Write as _;

use arcly_rtp::sdp::{MediaDescription, Redundancy, SessionDescription};

/// Puts redundancy (RFC 2198) behind the other formats of its medium, but where the offer that is answered has it in front: browsers send all
/// sound twice where it comes first, and without it where it comes last, and are understood either way.
pub(crate) fn red_last(text: &str, offer: Option<&str>) -> String {
    let description: SessionDescription = text.parse().unwrap_or_default();
    let offer: SessionDescription = offer.and_then(|offer| offer.parse().ok()).unwrap_or_default();
    let is_preferred = |at: usize| offer.media.get(at).is_some_and(prefers_red);
    let mut media = description.media.iter().enumerate();
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let medium = if line.starts_with("m=") { media.next() } else { None };
        let red =
            medium.filter(|(at, _)| !is_preferred(*at)).and_then(|(_, medium)| Redundancy::offered(medium));
        _ = match red {
            Some(red) => write!(out, "{}\r\n", with_last(line, &red.payload_type.to_string())),
            None => write!(out, "{line}\r\n"),
        };
    }
    out
}

/// True when redundancy is in front of what it repeats.
fn prefers_red(medium: &MediaDescription) -> bool {
    let place = |payload_type: u8| medium.formats.iter().position(|of| of.parse() == Ok(payload_type));
    Redundancy::offered(medium).is_some_and(|red| place(red.payload_type) < place(red.of))
}

/// An `m=` line whose last format is that one: kind, port and protocol are no formats.
fn with_last(line: &str, format: &str) -> String {
    let words = line.split(' ').enumerate();
    let others = words.filter(|(at, word)| *at < 3 || *word != format).map(|(_, word)| word);
    others.chain([format]).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(formats: &str) -> String {
        format!(
            "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=video 9 UDP/TLS/RTP/SAVPF 63 96\r\na=rtpmap:96 VP8/90000\r\n\
             m=audio 9 UDP/TLS/RTP/SAVPF {formats}\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:9 G722/8000\r\n\
             a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\n"
        )
    }

    #[test]
    fn redundancy_comes_last_unless_the_offer_has_it_first() {
        let (first, last) = (description("63 111 9"), description("111 9 63"));
        assert_eq!(red_last(&first, None), last);
        assert_eq!(red_last(&first, Some(&last)), last);
        assert_eq!(red_last(&first, Some(&first)), first);
        let none = first.replace("red/", "telephone-event/");
        assert_eq!(red_last(&none, None), none);
        let middle = description("9 63 111");
        assert_eq!(red_last(&first, Some(&middle)), first);
        assert_eq!(red_last("v=0\r\nm=audio\r\n", Some("")), "v=0\r\nm=audio\r\n");
    }
}
