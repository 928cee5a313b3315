//! The multivariant playlist: which renditions there are, and what they need of a player.

use std::sync::Arc;

use arcly_core::{Track, TrackKind};

use super::text::{Text, Writer, quoted};
use super::{File, TS_VERSION, VERSION};
use crate::live::{Container, Init, View};

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
        match self.view.container {
            Container::Cmaf => File::Media(self.track().kind(), self.view.track),
            Container::Ts => File::TsMedia(self.track().kind(), self.view.track),
        }
    }

    /// The sound that is in the same media as the pictures.
    fn sound(&self) -> Option<&Track> {
        self.init.beside.iter().find(|track| track.kind() == TrackKind::Audio)
    }
}

/// The multivariant playlist of these renditions: a variant for each video track, with the sounds as a group, or for the
/// first sound when there is no picture.
#[must_use]
pub fn multivariant(renditions: &[Rendition]) -> Text {
    let (video, audio) = choices(renditions);
    let mut out = head(VERSION, renditions);
    let grouped = !video.is_empty() || audio.len() > 1;
    let sounds: Vec<_> =
        audio.iter().map(|one| Sound { track: one.track(), file: Some(one.file()) }).collect();
    if grouped {
        put_group(&mut out, &sounds);
    }
    let group = if grouped { audio.as_slice() } else { &[] };
    let variants = if video.is_empty() { audio.get(..1).unwrap_or_default() } else { &video };
    for variant in variants {
        put_variant(&mut out, variant, group, !group.is_empty());
    }
    out.finish()
}

/// The same of programmes in MPEG-TS: a variant for each video track, which has the first sound in it, and further sounds as a
/// group with that one.
#[must_use]
pub fn ts_multivariant(renditions: &[Rendition]) -> Text {
    let (video, audio) = choices(renditions);
    let mut out = head(TS_VERSION, renditions);
    let muxed = video.iter().find_map(|one| one.sound());
    let others = audio.iter().map(|one| Sound { track: one.track(), file: Some(one.file()) });
    let sounds: Vec<_> = match muxed {
        Some(track) => core::iter::once(Sound { track, file: None }).chain(others).collect(),
        None => others.collect(),
    };
    let grouped = sounds.len() > 1;
    if grouped {
        put_group(&mut out, &sounds);
    }
    let group = if grouped { audio.as_slice() } else { &[] };
    let variants = if video.is_empty() { audio.get(..1).unwrap_or_default() } else { &video };
    for variant in variants {
        put_variant(&mut out, variant, group, grouped);
    }
    out.finish()
}

/// Pictures and sounds that can be chosen.
fn choices(renditions: &[Rendition]) -> (Vec<&Rendition>, Vec<&Rendition>) {
    // A track that has left is no choice any more; a stream that has ended is, as long as its end can be watched.
    let over = renditions.iter().all(|one| one.view.ended);
    let of =
        |kind| renditions.iter().filter(move |one| one.track().kind() == kind && (over || !one.view.ended));
    (of(TrackKind::Video).collect(), of(TrackKind::Audio).collect())
}

fn head(version: u32, renditions: &[Rendition]) -> Writer {
    let mut out = Writer::new(1_024);
    out.put(format_args!("#EXTM3U\n#EXT-X-VERSION:{version}\n"));
    if renditions.iter().all(|one| one.view.independent) {
        out.put(format_args!("#EXT-X-INDEPENDENT-SEGMENTS\n"));
    }
    out
}

/// A sound of a group; without a file it is in the variants themselves.
struct Sound<'a> {
    track: &'a Track,
    file: Option<File>,
}

/// Names within a group differ (4.4.6.1.1).
fn put_group(out: &mut Writer, sounds: &[Sound<'_>]) {
    let mut names: Vec<String> = Vec::new();
    for (at, Sound { track, file }) in sounds.iter().enumerate() {
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
        out.put(format_args!("DEFAULT={default},AUTOSELECT=YES"));
        if let Some(channels) = track.audio().map(|audio| audio.channels).filter(|count| *count > 0) {
            out.put(format_args!(",CHANNELS=\"{channels}\""));
        }
        if let Some(file) = file {
            out.put(format_args!(",URI=\""));
            out.uri(*file);
            out.put(format_args!("\""));
        }
        out.put(format_args!("\n"));
        names.push(name);
    }
}

fn put_variant(out: &mut Writer, variant: &Rendition, group: &[&Rendition], grouped: bool) {
    let (mut peak, mut average) = variant.view.bandwidth();
    let others = group.iter().filter(|one| one.view.track != variant.view.track);
    let rates: Vec<_> = others.map(|one| one.view.bandwidth()).collect();
    peak = peak.saturating_add(rates.iter().map(|rate| rate.0).max().unwrap_or_default());
    average = average.saturating_add(rates.iter().map(|rate| rate.1).max().unwrap_or_default());
    out.put(format_args!("#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", peak.max(1), average.max(1)));
    // Every format of the group counts (4.4.6.1.1); one that has no name makes the whole attribute untrue.
    let mut codecs: Vec<Option<&str>> = Vec::new();
    for one in [variant].into_iter().chain(group.iter().copied()) {
        let names = one.init.codecs.as_deref();
        let names: Vec<_> = names.map_or_else(|| vec![None], |names| names.split(',').map(Some).collect());
        codecs.extend(names.into_iter().filter(|name| !codecs.contains(name)).collect::<Vec<_>>());
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
    if grouped {
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
