//! `RTP-Info`: which packet of each medium comes first, and which timestamp all media have in common.
//!
//! | document | section | here |
//! |---|---|---|
//! | RFC 2326 | §12.33 `url=…;seq=…;rtptime=…` | [`RtpInfo`], as it is written |
//! | RFC 7826 | §18.45 `url="…" ssrc=…:seq=…;rtptime=…` | [`RtpInfo`], read too |
//!
//! Guarantees: no panic; at most [`MAX_STREAMS`] media.
//!
//! Tolerated: values out of range (left out, as if they were not said), commas and semicolons inside of a URL, URLs without a host, a comma
//! at the end, parameters in any order, and parameters that are not known.

use core::fmt;
use core::str::FromStr;

use arcly_core::wire::DecodeError;
use arcly_rtp::sdp::MAX_MEDIA;

/// Media of one header that are looked at: as many as a description may have.
pub const MAX_STREAMS: usize = MAX_MEDIA;

/// The value of `RTP-Info`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RtpInfo {
    /// The media in order.
    pub streams: Vec<StreamInfo>,
}

/// What is said of one medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its control URL, as the server says it.
    pub url: String,
    /// Its source.
    pub ssrc: Option<u32>,
    /// The sequence number of the first packet.
    pub sequence: Option<u16>,
    /// The RTP timestamp of the moment that the range begins with.
    pub timestamp: Option<u32>,
}

impl FromStr for RtpInfo {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let mut streams: Vec<StreamInfo> = Vec::new();
        for part in parts(text) {
            if streams.len() >= MAX_STREAMS {
                return Err(DecodeError::LimitExceeded { what: "rtp_info", limit: MAX_STREAMS as u64 });
            }
            streams.push(StreamInfo::decode(part)?);
        }
        Ok(Self { streams })
    }
}

/// Cuts at the commas that a URL follows.
fn parts(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text.trim();
    core::iter::from_fn(move || {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        if rest.is_empty() {
            return None;
        }
        let begins = |at: &usize| {
            rest.get(at.saturating_add(1)..).is_some_and(|after| strip(after.trim_start(), "url").is_some())
        };
        let end = rest.match_indices(',').map(|(at, _)| at).find(begins).unwrap_or(rest.len());
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part.trim_end_matches([',', ' ']))
    })
}

/// What stands behind `name=`.
fn strip<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (found, value) = text.split_once('=')?;
    found.trim().eq_ignore_ascii_case(name).then(|| value.trim())
}

impl StreamInfo {
    fn decode(text: &str) -> Result<Self, DecodeError> {
        let malformed = DecodeError::Malformed { what: "rtp-info", offset: 0 };
        let value = strip(text, "url").ok_or(malformed)?;
        let (url, parameters) = match value.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(malformed)?,
            None => {
                // A URL may have a semicolon in it.
                let known = |(at, _): &(usize, &str)| {
                    let after = value.get(at.saturating_add(1)..).unwrap_or_default();
                    ["seq", "rtptime", "ssrc"].iter().any(|name| strip(after, name).is_some())
                };
                let end = value.match_indices(';').find(known).map_or(value.len(), |(at, _)| at);
                value.split_at(end)
            }
        };
        let mut info = Self { url: url.trim_end_matches([';', ' ']).to_owned(), ..Self::default() };
        for parameter in parameters.split([';', ':']) {
            if let Some(value) = strip(parameter, "seq") {
                info.sequence = value.parse().ok();
            } else if let Some(value) = strip(parameter, "rtptime") {
                info.timestamp = value.parse().ok();
            } else if let Some(value) = strip(parameter, "ssrc") {
                info.ssrc = u32::from_str_radix(value, 16).ok();
            }
        }
        Ok(info)
    }
}

impl fmt::Display for RtpInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, stream) in self.streams.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            stream.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for StreamInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "url={}", self.url)?;
        self.sequence.iter().try_for_each(|sequence| write!(f, ";seq={sequence}"))?;
        self.timestamp.iter().try_for_each(|timestamp| write!(f, ";rtptime={timestamp}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(url: &str, sequence: Option<u16>, timestamp: Option<u32>) -> StreamInfo {
        StreamInfo { url: url.to_owned(), ssrc: None, sequence, timestamp }
    }

    #[test]
    fn what_servers_write() {
        let cases: Vec<(&str, Vec<StreamInfo>)> = vec![
            (
                // RFC 2326 §12.33.
                "url=rtsp://foo.com/bar.avi/streamid=0;seq=45102,url=rtsp://foo.com/bar.avi/streamid=1;seq=30211",
                vec![
                    info("rtsp://foo.com/bar.avi/streamid=0", Some(45_102), None),
                    info("rtsp://foo.com/bar.avi/streamid=1", Some(30_211), None),
                ],
            ),
            (
                "url=trackID=0;rtptime=4294967295;seq=65535, url=trackID=1;seq=1;rtptime=2,",
                vec![info("trackID=0", Some(65_535), Some(u32::MAX)), info("trackID=1", Some(1), Some(2))],
            ),
            (
                // RFC 7826 §18.45.
                "url=\"rtsp://example.com/bar.avi/streamid=0\" ssrc=0A13C760:seq=45102;rtptime=12345678",
                vec![StreamInfo {
                    ssrc: Some(0x0A13_C760),
                    ..info("rtsp://example.com/bar.avi/streamid=0", Some(45_102), Some(12_345_678))
                }],
            ),
            (
                "url=rtsp://h/a,b;c=1?x=1;y=2;seq=1;foo;rtptime=3",
                vec![info("rtsp://h/a,b;c=1?x=1;y=2", Some(1), Some(3))],
            ),
            // Out of range, negative, and not there at all.
            ("url=a;seq=65536;rtptime=-1", vec![info("a", None, None)]),
            ("URL = a ; SEQ = 1 ; RTPTIME = 2", vec![info("a", Some(1), Some(2))]),
            ("url=rtsp://h/a;", vec![info("rtsp://h/a", None, None)]),
            ("", vec![]),
            (" , ", vec![]),
        ];
        for (text, streams) in cases {
            let expect = RtpInfo { streams };
            assert_eq!(text.parse(), Ok(expect.clone()), "{text}");
            if expect.streams.iter().all(|stream| stream.ssrc.is_none()) {
                assert_eq!(expect.to_string().parse(), Ok(expect), "{text}");
            }
        }
    }

    #[test]
    fn what_is_none() {
        for text in ["seq=1;rtptime=2", "x", "url", "url=\"rtsp://h", ";", "trackID=1;seq=1"] {
            assert!(text.parse::<RtpInfo>().is_err(), "{text}");
        }
        let many = "url=a;seq=1,".repeat(MAX_STREAMS + 1);
        assert!(matches!(many.parse::<RtpInfo>(), Err(DecodeError::LimitExceeded { .. })));
    }
}
