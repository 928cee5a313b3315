//! Tags of a real stream, each frame of which carries a number that survives every remux.

use arcly_codec::flv::{Muxer, MuxerOptions, TagKind};
use arcly_core::{MediaFrame, Timestamp, TrackId, TrackSet};
use arcly_testkit::media::Source;
use bytes::{Bytes, BytesMut};

/// An SEI message `user_data_unregistered` begins with a UUID; so does the sound of these tests.
const MARK: &[u8; 16] = b"arcly-test-mark:";
const DIGITS: usize = 8;
/// Bytes of a mark, with the one before it that tells pictures from sound.
pub const MARK_LEN: usize = 1 + MARK.len() + DIGITS;

/// The first mark from `from` on in bytes of any protocol: where it ends, and which it is.
pub fn mark_at(bytes: &[u8], from: usize) -> Option<(usize, TagKind, u32)> {
    let mut from = from;
    loop {
        let at = find(bytes, MARK, from)?;
        from = at + MARK.len();
        let digits = std::str::from_utf8(bytes.get(from..from + DIGITS)?).ok()?;
        let number = u32::from_str_radix(digits, 16).ok()?;
        // Before it is the SEI message's size, or the end of an audio tag's header.
        match at.checked_sub(1).map(|before| usize::from(bytes[before])) {
            Some(before) if before == MARK.len() + DIGITS => {
                return Some((from + DIGITS, TagKind::Video, number));
            }
            Some(_) => return Some((from + DIGITS, TagKind::Audio, number)),
            None => {}
        }
    }
}

/// Where `needle` is in `bytes`, from `from` on.
pub fn find(bytes: &[u8], needle: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let rest = bytes.get(from..)?;
        let at = from + rest.iter().position(|byte| *byte == needle[0])?;
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// A tag, as RTMP messages and FLV files carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlvTag {
    pub kind: TagKind,
    pub timestamp: u32,
    pub body: Bytes,
}

impl FlvTag {
    /// The number of the frame that it carries, if it carries a marked one.
    pub fn mark(&self) -> Option<u32> {
        let at = self.body.windows(MARK.len()).take(64).position(|w| w == MARK)? + MARK.len();
        let digits = std::str::from_utf8(self.body.get(at..at + DIGITS)?).ok()?;
        u32::from_str_radix(digits, 16).ok()
    }

    /// The tag as bytes of an FLV file, with the size that follows it.
    pub fn to_file(&self) -> Vec<u8> {
        let len = u32::try_from(self.body.len()).unwrap();
        let mut out = vec![self.kind.type_id()];
        out.extend(&len.to_be_bytes()[1..]);
        out.extend(&self.timestamp.to_be_bytes()[1..]);
        out.extend([self.timestamp.to_be_bytes()[0], 0, 0, 0]);
        out.extend_from_slice(&self.body);
        out.extend((len + 11).to_be_bytes());
        out
    }
}

/// The beginning of an FLV file with sound and pictures.
pub const FILE_HEADER: [u8; 13] = *b"FLV\x01\x05\0\0\0\x09\0\0\0\0";

/// An endless stream as tags: metadata, sequence headers, then numbered frames in DTS order.
pub struct Feed {
    source: Source,
    muxer: Muxer,
    tracks: TrackSet,
    /// The numbers that come next: pictures, sounds.
    next: (u32, u32),
}

impl Feed {
    /// H.264 with B-frames at 25 fps and AAC.
    pub fn new() -> Self {
        Self::of(Source::h264_aac())
    }

    pub fn of(source: Source) -> Self {
        let tracks = source.tracks();
        let mut muxer = Muxer::new(MuxerOptions::default());
        muxer.tracks(&tracks, Timestamp::ZERO);
        Self { source, muxer, tracks, next: (0, 0) }
    }

    /// The tags that have to come first.
    pub fn headers(&mut self) -> Vec<FlvTag> {
        self.muxer.tracks(&self.tracks, Timestamp::ZERO).iter().map(flv_tag).collect()
    }

    /// The frames of this much more time.
    pub fn millis(&mut self, ms: i64) -> Vec<FlvTag> {
        let first = self.frame();
        let end = first.timestamp + u32::try_from(ms).unwrap();
        let mut tags = vec![first];
        while let Some(last) = tags.last()
            && last.timestamp < end
        {
            tags.push(self.frame());
        }
        tags
    }

    /// The number of the next picture.
    pub const fn next_picture(&self) -> u32 {
        self.next.0
    }

    /// The next frame.
    pub fn frame(&mut self) -> FlvTag {
        let frame = self.source.next().expect("endless");
        let frame = self.mark(frame);
        flv_tag(&self.muxer.frame(&frame).expect("a track of this stream"))
    }

    fn mark(&mut self, mut frame: MediaFrame) -> MediaFrame {
        let mut marked = BytesMut::new();
        if frame.track == TrackId::VIDEO {
            // One SEI NAL unit: type, size, UUID, digits, stop bit.
            let size = MARK.len() + DIGITS;
            marked.extend_from_slice(&u32::try_from(size + 4).unwrap().to_be_bytes());
            marked.extend_from_slice(&[6, 5, u8::try_from(size).unwrap()]);
            put_mark(&mut marked, &mut self.next.0);
            marked.extend_from_slice(&[0x80]);
        } else {
            put_mark(&mut marked, &mut self.next.1);
        }
        marked.extend_from_slice(&frame.payload);
        frame.payload = marked.freeze();
        frame
    }
}

fn put_mark(out: &mut BytesMut, next: &mut u32) {
    out.extend_from_slice(MARK);
    out.extend_from_slice(format!("{next:0DIGITS$x}").as_bytes());
    *next += 1;
}

fn flv_tag(tag: &arcly_codec::flv::Tag) -> FlvTag {
    let body = [&tag.header[..], &tag.payload].concat().into();
    FlvTag { kind: tag.kind, timestamp: tag.timestamp_ms, body }
}

/// Whether the numbers of frames that were received go up by one from the first on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sequence {
    next: [Option<u32>; 2],
    /// Frames that came.
    pub received: u32,
    /// Frames that should have come in between.
    pub lost: u32,
    /// Frames that came again, or too late.
    pub repeated: u32,
}

impl Sequence {
    /// Takes note of a tag; returns its number.
    pub fn note(&mut self, tag: &FlvTag) -> Option<u32> {
        let number = tag.mark()?;
        self.note_number(tag.kind, number);
        Some(number)
    }

    /// The same of a frame of which nothing else is known.
    pub fn note_number(&mut self, kind: TagKind, number: u32) {
        let next = &mut self.next[usize::from(kind == TagKind::Audio)];
        match next.map(|expected| number.checked_sub(expected)) {
            Some(None) => self.repeated += 1,
            Some(Some(missing)) => self.lost += missing,
            None => {}
        }
        *next = Some(next.map_or(number + 1, |expected| expected.max(number + 1)));
        self.received += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_and_a_repeated_frame_are_noticed() {
        let mut feed = Feed::new();
        assert!(feed.headers().iter().all(|tag| tag.mark().is_none()));
        let frames = feed.millis(1_000);
        assert!(frames.iter().all(|tag| tag.mark().is_some()));
        let mut sequence = Sequence::default();
        frames.iter().enumerate().filter(|(n, _)| *n != 20).for_each(|(_, tag)| _ = sequence.note(tag));
        sequence.note(&frames[10]);
        assert_eq!((sequence.lost, sequence.repeated), (1, 1));
        for tag in &frames {
            let mark = mark_at(&tag.body, 0).map(|(_, kind, number)| (kind, number));
            assert_eq!(mark, tag.mark().map(|number| (tag.kind, number)));
        }
    }
}
