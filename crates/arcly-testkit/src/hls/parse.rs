//! Media playlists, taken apart.

use std::collections::BTreeMap;

/// Attributes of a tag, quotes taken away.
pub(super) type Attributes = BTreeMap<String, String>;

/// A partial segment.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Its URI.
    pub uri: String,
    /// Seconds.
    pub duration: f64,
    /// `INDEPENDENT=YES`.
    pub independent: bool,
    /// `GAP=YES`.
    pub gap: bool,
}

/// A media segment; the last one of a playlist may have parts only.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Segment {
    /// Its URI; empty as long as it is not complete.
    pub uri: String,
    /// Seconds; 0 as long as it is not complete.
    pub duration: f64,
    /// Parts that are listed.
    pub parts: Vec<Part>,
    /// `EXT-X-DISCONTINUITY` stands before it.
    pub discontinuity: bool,
    /// `EXT-X-GAP`.
    pub gap: bool,
    /// The `EXT-X-MAP` in force; `None` when it stands before what was skipped.
    pub map: Option<String>,
    /// The `EXT-X-KEY` in force: its method and URI; `None` for `METHOD=NONE`.
    pub key: Option<(String, String)>,
    /// `EXT-X-PROGRAM-DATE-TIME`, as it is written.
    pub date: Option<String>,
}

impl Segment {
    /// True once its `EXTINF` is there.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        !self.uri.is_empty()
    }
}

/// A media playlist.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Media {
    /// `EXT-X-VERSION`.
    pub version: u64,
    /// `EXT-X-TARGETDURATION`.
    pub target: u64,
    /// `PART-TARGET`.
    pub part_target: Option<f64>,
    /// `EXT-X-SERVER-CONTROL`.
    pub control: BTreeMap<String, String>,
    /// `EXT-X-MEDIA-SEQUENCE`.
    pub msn: u64,
    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub discontinuity_sequence: u64,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent: bool,
    /// `SKIPPED-SEGMENTS`.
    pub skipped: u64,
    /// Segments, behind those that are skipped; the last may be incomplete.
    pub segments: Vec<Segment>,
    /// `EXT-X-PRELOAD-HINT`: type and URI.
    pub hints: Vec<(String, String)>,
    /// `EXT-X-RENDITION-REPORT`: URI, `LAST-MSN`, `LAST-PART`.
    pub reports: Vec<(String, u64, u64)>,
    /// `EXT-X-DATERANGE`.
    pub date_ranges: Vec<BTreeMap<String, String>>,
    /// `EXT-X-ENDLIST`.
    pub ended: bool,
}

/// Tags that a media playlist has once at most.
const ONCE: [&str; 8] = [
    "EXT-X-VERSION",
    "EXT-X-TARGETDURATION",
    "EXT-X-SERVER-CONTROL",
    "EXT-X-PART-INF",
    "EXT-X-MEDIA-SEQUENCE",
    "EXT-X-DISCONTINUITY-SEQUENCE",
    "EXT-X-SKIP",
    "EXT-X-ENDLIST",
];

impl Media {
    /// Takes a playlist apart.
    ///
    /// # Errors
    /// What is wrong with its form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines();
        if lines.next() != Some("#EXTM3U") {
            return Err("the first line is not #EXTM3U".into());
        }
        let mut parser = Parser::default();
        for line in lines.filter(|line| !line.is_empty()) {
            parser.line(line).map_err(|error| format!("{line}: {error}"))?;
        }
        parser.finish()
    }

    /// The segment that is being made.
    #[must_use]
    pub fn open(&self) -> Option<&Segment> {
        self.segments.last().filter(|last| !last.is_complete())
    }

    /// Complete segments, each with its media sequence number.
    pub fn complete(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.numbered().filter(|(_, segment)| segment.is_complete())
    }

    /// All segments, each with its media sequence number.
    pub fn numbered(&self) -> impl Iterator<Item = (u64, &Segment)> {
        (self.msn + self.skipped..).zip(&self.segments)
    }

    /// Media sequence number and part index of the last part, or of the last segment and none.
    #[must_use]
    pub fn last(&self) -> Option<(u64, Option<u64>)> {
        self.numbered().last().map(|(msn, segment)| (msn, (segment.parts.len() as u64).checked_sub(1)))
    }

    /// Seconds of everything that is listed.
    #[must_use]
    pub fn duration(&self) -> f64 {
        self.segments.iter().map(|one| if one.is_complete() { one.duration } else { sum(&one.parts) }).sum()
    }

    /// The discontinuity sequence number of each segment.
    pub(super) fn discontinuities(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut sequence = self.discontinuity_sequence;
        self.numbered().map(move |(msn, segment)| {
            sequence += u64::from(segment.discontinuity);
            (msn, sequence)
        })
    }
}

/// Seconds of parts.
pub(super) fn sum(parts: &[Part]) -> f64 {
    parts.iter().map(|part| part.duration).sum()
}

#[derive(Default)]
struct Parser {
    media: Media,
    segment: Segment,
    extinf: Option<f64>,
    map: Option<String>,
    key: Option<(String, String)>,
    tagged: bool,
    seen: Vec<&'static str>,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let Some(tag) = line.strip_prefix('#') else { return self.uri(line) };
        if !tag.starts_with("EXT") {
            return Ok(());
        }
        let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
        if let Some(once) = ONCE.iter().find(|once| **once == name) {
            if self.seen.contains(once) {
                return Err("stands twice".into());
            }
            self.seen.push(once);
        }
        match name {
            "EXTINF" => self.extinf = Some(seconds(value.split(',').next().unwrap_or_default())?),
            "EXT-X-PART" => return self.part(&attributes(value)?),
            "EXT-X-DISCONTINUITY" | "EXT-X-KEY" | "EXT-X-MAP" | "EXT-X-PROGRAM-DATE-TIME" | "EXT-X-GAP" => {
                return self.segment_tag(name, value);
            }
            _ => return self.playlist_tag(name, value),
        }
        Ok(())
    }

    fn segment_tag(&mut self, name: &str, value: &str) -> Result<(), String> {
        if name != "EXT-X-GAP" && !self.segment.parts.is_empty() {
            return Err("stands behind the segment's first part".into());
        }
        self.tagged = true;
        match name {
            "EXT-X-DISCONTINUITY" => self.segment.discontinuity = true,
            "EXT-X-KEY" => self.key = key(&attributes(value)?)?,
            // Initialisation segments are encrypted like the rest, and then need a vector (4.4.4.5).
            "EXT-X-MAP" if self.key.is_some() => return Err("an encrypted one without IV".into()),
            "EXT-X-MAP" => self.map = Some(required(&attributes(value)?, "URI")?),
            "EXT-X-PROGRAM-DATE-TIME" => self.segment.date = Some(value.into()),
            _ => self.segment.gap = true,
        }
        Ok(())
    }

    fn playlist_tag(&mut self, name: &str, value: &str) -> Result<(), String> {
        let media = &mut self.media;
        match name {
            "EXT-X-VERSION" => media.version = number(value)?,
            "EXT-X-TARGETDURATION" => media.target = number(value)?,
            "EXT-X-SERVER-CONTROL" => media.control = attributes(value)?,
            "EXT-X-PART-INF" => {
                media.part_target = Some(seconds(&required(&attributes(value)?, "PART-TARGET")?)?);
            }
            "EXT-X-MEDIA-SEQUENCE" => media.msn = number(value)?,
            "EXT-X-DISCONTINUITY-SEQUENCE" => media.discontinuity_sequence = number(value)?,
            "EXT-X-INDEPENDENT-SEGMENTS" => media.independent = true,
            "EXT-X-SKIP" => media.skipped = number(&required(&attributes(value)?, "SKIPPED-SEGMENTS")?)?,
            "EXT-X-PRELOAD-HINT" => {
                let hint = attributes(value)?;
                media.hints.push((required(&hint, "TYPE")?, required(&hint, "URI")?));
            }
            "EXT-X-RENDITION-REPORT" => {
                let report = attributes(value)?;
                let of = |name| number(&required(&report, name)?);
                media.reports.push((required(&report, "URI")?, of("LAST-MSN")?, of("LAST-PART")?));
            }
            "EXT-X-DATERANGE" => media.date_ranges.push(attributes(value)?),
            "EXT-X-ENDLIST" => media.ended = true,
            _ => return Err("is no tag of a live media playlist".into()),
        }
        Ok(())
    }

    fn part(&mut self, part: &Attributes) -> Result<(), String> {
        let yes = |name| match part.get(name).map(String::as_str) {
            None => Ok(false),
            Some("YES") => Ok(true),
            Some(_) => Err(format!("{name} has one value")),
        };
        self.segment.parts.push(Part {
            uri: required(part, "URI")?,
            duration: seconds(&required(part, "DURATION")?)?,
            independent: yes("INDEPENDENT")?,
            gap: yes("GAP")?,
        });
        Ok(())
    }

    fn uri(&mut self, uri: &str) -> Result<(), String> {
        self.segment.duration = self.extinf.take().ok_or("a URI without EXTINF")?;
        self.segment.uri = uri.into();
        self.end_segment();
        Ok(())
    }

    fn end_segment(&mut self) {
        self.segment.map.clone_from(&self.map);
        self.segment.key.clone_from(&self.key);
        self.media.segments.push(std::mem::take(&mut self.segment));
        self.tagged = false;
    }

    fn finish(mut self) -> Result<Media, String> {
        if !self.segment.parts.is_empty() {
            self.end_segment();
        } else if self.tagged || self.extinf.is_some() {
            return Err("the last segment's tags apply to nothing".into());
        }
        if !self.seen.contains(&"EXT-X-TARGETDURATION") {
            return Err("there is no EXT-X-TARGETDURATION".into());
        }
        Ok(self.media)
    }
}

/// The method and the URI of a key (4.4.4.4).
fn key(key: &Attributes) -> Result<Option<(String, String)>, String> {
    match required(key, "METHOD")?.as_str() {
        "NONE" if key.len() == 1 => Ok(None),
        "NONE" => Err("METHOD=NONE stands alone".into()),
        method => Ok(Some((method.into(), required(key, "URI")?))),
    }
}

/// An attribute list (4.2): names once each, quoted strings without quotes or line ends.
pub(super) fn attributes(list: &str) -> Result<Attributes, String> {
    let mut found = Attributes::new();
    let mut rest = list;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("an attribute without a value")?;
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-')
        {
            return Err(format!("`{name}` is no name of an attribute"));
        }
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or("a quote does not end")?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if found.insert(name.into(), value.into()).is_some() {
            return Err(format!("{name} stands twice"));
        }
        rest = match after.strip_prefix(',') {
            Some("") => return Err("a comma at the end".into()),
            Some(more) => more,
            None if after.is_empty() => "",
            None => return Err(format!("`{after}` behind a value")),
        };
    }
    Ok(found)
}

/// An attribute that must be there.
pub(super) fn required(attributes: &Attributes, name: &str) -> Result<String, String> {
    attributes
        .get(name)
        .filter(|value| !value.is_empty())
        .cloned()
        .ok_or_else(|| format!("{name} is missing"))
}

/// A decimal-integer.
pub(super) fn number(text: &str) -> Result<u64, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
        .ok_or_else(|| format!("`{text}` is no decimal integer"))
}

/// A decimal-floating-point.
pub(super) fn seconds(text: &str) -> Result<f64, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') { text.parse().ok() } else { None }
        .ok_or_else(|| format!("`{text}` is no decimal number"))
}
