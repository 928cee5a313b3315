//! The multivariant playlist: which renditions there are, and what they need of a player.

use std::sync::Arc;

use arcly_core::{Track, TrackKind};

use super::text::{Text, Writer, quoted};
use super::{File, VERSION};
use crate::live::{Init, View};

/// The one group of sounds.
const GROUP: &str = "audio";
/// `transfer_characteristics` of HDR (ISO/IEC 23091-2).
const PQ: u8 = 16;
const HLG: u8 = 18;

/// A rendition that can be played.
#[derive(Clone, Debug)]
pub struct Rendition {
    /// What it lists.
    pub view: Arc<View>,
    /// What its newest segment needs.
    pub init: Arc<Init>,
}

impl Rendition {
    /// A rendition, if there is anything in it.
    #[must_use]
    pub fn new(view: Arc<View>) -> Option<Self> {
        let init = Arc::clone(view.newest_init()?);
        Some(Self { view, init })
    }

    fn track(&self) -> &Track {
        &self.init.track
    }

    fn file(&self) -> File {
        File::Media(self.track().kind(), self.view.track)
    }
}

/// The multivariant playlist of these renditions: a variant for each video track, with the sounds as a group, or for the
/// first sound when there is no picture.
#[must_use]
pub fn multivariant(renditions: &[Rendition]) -> Text {
    // A track that has left is no choice any more; a stream that has ended is, as long as its end can be watched.
    let over = renditions.iter().all(|one| one.view.ended);
    let of =
        |kind| renditions.iter().filter(move |one| one.track().kind() == kind && (over || !one.view.ended));
    let (video, audio): (Vec<_>, Vec<_>) = (of(TrackKind::Video).collect(), of(TrackKind::Audio).collect());
    let mut out = Writer::new(1_024);
    out.put(format_args!("#EXTM3U\n#EXT-X-VERSION:{VERSION}\n"));
    if renditions.iter().all(|one| one.view.independent) {
        out.put(format_args!("#EXT-X-INDEPENDENT-SEGMENTS\n"));
    }
    let grouped = !video.is_empty() || audio.len() > 1;
    if grouped {
        put_group(&mut out, &audio);
    }
    let group = if grouped { audio.as_slice() } else { &[] };
    let variants = if video.is_empty() { audio.get(..1).unwrap_or_default() } else { &video };
    for variant in variants {
        put_variant(&mut out, variant, group);
    }
    out.finish()
}

/// Names within a group differ (4.4.6.1.1).
fn put_group(out: &mut Writer, audio: &[&Rendition]) {
    let mut names: Vec<String> = Vec::new();
    for (at, one) in audio.iter().enumerate() {
        let track = one.track();
        let given = track.label.as_deref().or(track.language.as_deref()).map(quoted);
        let mut name = given
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| format!("Audio {}", at.saturating_add(1)));
        if names.contains(&name) {
            name = format!("{name} ({})", at.saturating_add(1));
        }
        out.put(format_args!("#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{GROUP}\",NAME=\"{name}\","));
        if let Some(language) = track.language.as_deref() {
            out.put(format_args!("LANGUAGE=\"{}\",", quoted(language)));
        }
        let default = if at == 0 { "YES" } else { "NO" };
        out.put(format_args!("DEFAULT={default},AUTOSELECT=YES,"));
        if let Some(channels) = track.audio().map(|audio| audio.channels).filter(|count| *count > 0) {
            out.put(format_args!("CHANNELS=\"{channels}\","));
        }
        out.put(format_args!("URI=\""));
        out.uri(one.file());
        out.put(format_args!("\"\n"));
        names.push(name);
    }
}

fn put_variant(out: &mut Writer, variant: &Rendition, group: &[&Rendition]) {
    let (mut peak, mut average) = variant.view.bandwidth();
    let others = group.iter().filter(|one| one.view.track != variant.view.track);
    let rates: Vec<_> = others.map(|one| one.view.bandwidth()).collect();
    peak = peak.saturating_add(rates.iter().map(|rate| rate.0).max().unwrap_or_default());
    average = average.saturating_add(rates.iter().map(|rate| rate.1).max().unwrap_or_default());
    out.put(format_args!("#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", peak.max(1), average.max(1)));
    // Every format of the group counts (4.4.6.1.1); one that has no name makes the whole attribute untrue.
    let mut codecs: Vec<Option<&str>> = Vec::new();
    for one in [variant].into_iter().chain(group.iter().copied()) {
        let name = one.init.codecs.as_deref();
        if !codecs.contains(&name) {
            codecs.push(name);
        }
    }
    if let Some(codecs) = codecs.into_iter().collect::<Option<Vec<_>>>() {
        out.put(format_args!(",CODECS=\"{}\"", codecs.join(",")));
    }
    if let Some(video) = variant.track().video() {
        if video.width > 0 && video.height > 0 {
            out.put(format_args!(",RESOLUTION={}x{}", video.width, video.height));
        }
        if let Some(rate) = frame_rate(variant) {
            out.put(format_args!(",FRAME-RATE={rate:.3}"));
        }
        let range = match video.color.map(|color| color.transfer) {
            Some(PQ) => "PQ",
            Some(HLG) => "HLG",
            _ => "SDR",
        };
        out.put(format_args!(",VIDEO-RANGE={range}"));
    }
    if !group.is_empty() {
        out.put(format_args!(",AUDIO=\"{GROUP}\""));
    }
    out.put(format_args!("\n"));
    out.uri(variant.file());
    out.put(format_args!("\n"));
}

/// What the track declares, if its frames agree within a fiftieth.
fn frame_rate(rendition: &Rendition) -> Option<f64> {
    let declared = rendition.track().video()?.frame_rate.map(|rate| rate.as_f64());
    match (declared, rendition.view.frame_rate()) {
        (Some(declared), Some(measured)) if (declared - measured).abs() <= declared / 50.0 => Some(declared),
        (declared, measured) => measured.or(declared),
    }
}
