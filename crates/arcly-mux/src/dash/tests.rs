use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arcly_core::wall::Rfc3339;
use arcly_core::{FrameFlags, MediaFrame, TimeDelta, Timestamp, TrackSet};
use arcly_testkit::media::Source;
use quick_xml::events::Event;
use quick_xml::reader::Reader;

use super::*;
use crate::live::{Config, Segmenter, View};

const START: Duration = Duration::from_secs(1_800_000_000);

fn segmenter(tracks: &TrackSet) -> Segmenter {
    let mut segmenter = Segmenter::new(Config::default(), Some(TimeDelta::from_millis(1_000)), None);
    segmenter.set_tracks(tracks);
    segmenter
}

fn push(segmenter: &mut Segmenter, frames: impl IntoIterator<Item = MediaFrame>) {
    for frame in frames {
        let wall = UNIX_EPOCH + START + (frame.dts - Timestamp::ZERO).to_duration();
        segmenter.push(wall, &frame);
    }
}

fn views(segmenter: &Segmenter) -> Vec<Arc<View>> {
    let tracks: Vec<_> = segmenter.versions().map(|(track, _)| track).collect();
    tracks.into_iter().filter_map(|track| segmenter.view(track)).map(Arc::new).collect()
}

fn render(views: &[Arc<View>], query: &str) -> String {
    let now = UNIX_EPOCH + START + Duration::from_secs(60);
    let epoch = epoch(views).expect("a segment");
    let manifest = Manifest { views, epoch, now, run: 0xAB, query };
    String::from_utf8(manifest.render().to_vec()).expect("text")
}

/// Every element, with its attributes.
fn elements(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let (mut reader, mut elements) = (Reader::from_str(text), Vec::new());
    loop {
        match reader.read_event().expect("well-formed") {
            Event::Start(element) | Event::Empty(element) => {
                let attributes = element.attributes().map(|attribute| {
                    let attribute = attribute.expect("well-formed");
                    let key: &str = attribute.key.as_ref();
                    (key.to_owned(), attribute.value.into_owned())
                });
                let name: String = element.name().as_ref().to_owned();
                elements.push((name, attributes.collect()));
            }
            Event::Eof => return elements,
            _ => {}
        }
    }
}

fn all<'a>(
    elements: &'a [(String, BTreeMap<String, String>)],
    name: &str,
) -> Vec<&'a BTreeMap<String, String>> {
    elements.iter().filter(|(element, _)| element == name).map(|(_, attributes)| attributes).collect()
}

#[test]
fn what_a_live_stream_is_described_as() {
    let source = Source::h264_aac();
    let mut segmenter = segmenter(&source.tracks());
    push(&mut segmenter, source.seconds(9));
    let views = views(&segmenter);
    let text = render(&views, "");
    let elements = elements(&text);
    let mpd = all(&elements, "MPD")[0];
    assert_eq!((mpd["type"].as_str(), mpd["timeShiftBufferDepth"].as_str()), ("dynamic", "PT30S"));
    // Media came as it was shown: decoded 40 ms earlier.
    assert!(
        mpd["availabilityStartTime"].starts_with("2027-01-15T07:59:59.9")
            || mpd["availabilityStartTime"].starts_with("2027-01-15T08:00:00.0"),
        "{text}"
    );
    let sets = all(&elements, "AdaptationSet");
    assert_eq!((sets.len(), sets[0]["contentType"].as_str()), (2, "video"));
    let representations = all(&elements, "Representation");
    assert_eq!(representations[0]["codecs"], "avc1.64000a");
    assert_eq!(
        (representations[0]["width"].as_str(), representations[0]["frameRate"].as_str()),
        ("64", "25")
    );
    assert_eq!(representations[1]["audioSamplingRate"], "48000");
    let templates = all(&elements, "SegmentTemplate");
    assert_eq!(templates[0]["media"], "video0_ab_seg$Number$.m4s");
    assert_eq!(templates[1]["initialization"], "audio1_ab_init0.m4s");
    // Segments of 2 s, parts of 200 ms: the first part is there 1.7 s earlier than the whole.
    let early: f64 = templates[0]["availabilityTimeOffset"].parse().expect("a number");
    assert!((1.6..1.8).contains(&early) && templates[0]["availabilityTimeComplete"] == "false", "{early}");
    for name in ["UTCTiming", "ProducerReferenceTime", "Latency", "PlaybackRate"] {
        assert!(!all(&elements, name).is_empty(), "{name}");
    }
    // Pictures: four whole segments and the one in the making, all of one length.
    let rows = all(&elements, "S");
    assert_eq!(
        (rows[0]["t"].as_str(), rows[0]["d"].as_str(), rows[0]["r"].as_str()),
        ("3600", "180000", "4")
    );
    // Sound goes on without holes.
    let mut at = rows[1]["t"].parse::<u64>().expect("a number");
    for row in &rows[1..] {
        assert_eq!(row["t"].parse::<u64>().expect("a number"), at);
        let repeated: u64 = row.get("r").map_or(0, |r| r.parse().expect("a number"));
        at += row["d"].parse::<u64>().expect("a number") * (repeated + 1);
    }
}

#[test]
fn tokens_stand_behind_every_uri_and_are_escaped() {
    let source = Source::h264_aac();
    let mut segmenter = segmenter(&source.tracks());
    push(&mut segmenter, source.seconds(5));
    let text = render(&views(&segmenter), "token=a&user=\"b\"");
    assert_eq!(text.matches(".m4s?token=a&amp;user=&quot;b&quot;").count(), 4);
}

#[test]
fn a_publisher_that_returns_begins_a_period() {
    let source = Source::h264_aac();
    let mut segmenter = segmenter(&source.tracks());
    push(&mut segmenter, source.clone().seconds(6));
    let mut again = source.starting_at(Timestamp::from_millis(8_000)).seconds(6);
    again[0] = again[0].clone().with_flags(FrameFlags::DISCONTINUITY);
    push(&mut segmenter, again);
    let views = views(&segmenter);
    let text = render(&views, "");
    let elements = elements(&text);
    let periods = all(&elements, "Period");
    assert_eq!(periods.len(), 2, "{text}");
    assert_ne!(periods[0]["id"], periods[1]["id"]);
    // Where a period starts, and what its media count from, is the same moment.
    for (period, template) in periods.iter().zip(all(&elements, "SegmentTemplate").iter().step_by(2)) {
        let start: f64 = period["start"][2..period["start"].len() - 1].parse().expect("seconds");
        let offset: f64 = template["presentationTimeOffset"].parse().expect("ticks");
        assert!((start - offset / 90_000.0).abs() < 1e-4, "{start} {offset}");
    }
}

#[test]
fn a_stream_that_has_ended_has_a_length() {
    let source = Source::h264_aac();
    let mut segmenter = segmenter(&source.tracks());
    push(&mut segmenter, source.seconds(5));
    segmenter.end();
    let text = render(&views(&segmenter), "");
    let elements = elements(&text);
    let mpd = all(&elements, "MPD")[0];
    assert!(!mpd.contains_key("minimumUpdatePeriod"));
    assert!(mpd["mediaPresentationDuration"].starts_with("PT5."), "{}", mpd["mediaPresentationDuration"]);
}

#[test]
fn the_epoch_stays_as_segments_go() {
    let source = Source::h264_aac();
    let mut segmenter = segmenter(&source.tracks());
    let mut epochs = Vec::new();
    for frame in source.seconds(90) {
        push(&mut segmenter, [frame]);
        epochs.extend(epoch(&views(&segmenter)));
    }
    let difference = |at: &SystemTime| at.duration_since(epochs[0]).unwrap_or_else(|error| error.duration());
    assert!(epochs.iter().all(|at| difference(at) <= Duration::from_millis(1)));
}

#[test]
fn the_producer_reference_time_is_that_of_the_first_segment() {
    let source = Source::h264_aac();
    let mut segmenter = segmenter(&source.tracks());
    push(&mut segmenter, source.seconds(50));
    let views = views(&segmenter);
    let text = render(&views, "");
    let elements = elements(&text);
    for (view, reference) in views.iter().zip(all(&elements, "ProducerReferenceTime")) {
        let media = &view.listed()[0].parts[0].bytes;
        assert_eq!((&media[4..8], reference["inband"].as_str()), (&b"prft"[..], "true"));
        let number = |at: usize| u64::from_be_bytes(media[at..at + 8].try_into().expect("eight bytes"));
        assert_eq!(number(24).to_string(), reference["presentationTime"]);
        let said: Rfc3339 = reference["wallClockTime"].parse().expect("a date");
        let since = said.0.duration_since(UNIX_EPOCH).expect("after 1970");
        let seconds = f64::from(u32::try_from(number(16) >> 32).expect("32 bits")) - 2_208_988_800.0
            + (number(16) & 0xFFFF_FFFF) as f64 / 4_294_967_296.0;
        assert!((seconds - since.as_secs_f64()).abs() < 0.002, "{seconds} {since:?}");
        // The clock of this source starts with its media: what was presented when is known.
        let presented = view.listed()[0].presented - Timestamp::ZERO;
        assert!((since - START).as_secs_f64() - presented.as_secs_f64() < 0.002);
    }
}
