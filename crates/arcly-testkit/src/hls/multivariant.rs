//! Multivariant playlists.

use std::collections::{BTreeMap, BTreeSet};

use super::parse::{attributes, number, required};

/// A multivariant playlist.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Multivariant {
    /// `EXT-X-STREAM-INF`: attributes, and the URI under `""`.
    pub variants: Vec<BTreeMap<String, String>>,
    /// `EXT-X-MEDIA`.
    pub media: Vec<BTreeMap<String, String>>,
    /// `EXT-X-INDEPENDENT-SEGMENTS`.
    pub independent: bool,
}

impl Multivariant {
    /// The URIs of all media playlists.
    #[must_use]
    pub fn uris(&self) -> Vec<String> {
        let variants = self.variants.iter().filter_map(|one| one.get("").cloned());
        let all: BTreeSet<String> =
            variants.chain(self.media.iter().filter_map(|one| one.get("URI").cloned())).collect();
        all.into_iter().collect()
    }
}

/// Takes a multivariant playlist apart, and checks what must hold of it (4.4.6).
///
/// # Errors
/// The first thing that is wrong.
pub fn check_multivariant(text: &str) -> Result<Multivariant, String> {
    let mut lines = text.lines();
    if lines.next() != Some("#EXTM3U") {
        return Err("the first line is not #EXTM3U".into());
    }
    let mut found = Multivariant::default();
    let mut variant: Option<BTreeMap<String, String>> = None;
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        match name {
            "#EXT-X-VERSION" => drop(number(value)?),
            "#EXT-X-INDEPENDENT-SEGMENTS" => found.independent = true,
            "#EXT-X-MEDIA" => found.media.push(attributes(value)?),
            "#EXT-X-STREAM-INF" => variant = Some(attributes(value)?),
            _ if line.starts_with("#EXT") => {
                return Err(format!("{line}: no tag of a multivariant playlist"));
            }
            _ if line.starts_with('#') => {}
            _ => {
                let mut variant = variant.take().ok_or_else(|| format!("{line}: of no variant"))?;
                variant.insert(String::new(), line.into());
                found.variants.push(variant);
            }
        }
    }
    if variant.is_some() || found.variants.is_empty() {
        return Err("a variant without a URI, or none at all".into());
    }
    found.media.iter().try_for_each(check_media)?;
    check_groups(&found)?;
    found.variants.iter().try_for_each(|variant| check_variant(&found, variant))?;
    Ok(found)
}

fn check_media(media: &BTreeMap<String, String>) -> Result<(), String> {
    for name in ["TYPE", "GROUP-ID", "NAME"] {
        required(media, name)?;
    }
    let yes = |name| media.get(name).is_some_and(|value| value == "YES");
    if yes("DEFAULT") && media.contains_key("AUTOSELECT") && !yes("AUTOSELECT") {
        return Err(format!("{media:?}: a default that is not selected by itself"));
    }
    Ok(())
}

fn check_groups(all: &Multivariant) -> Result<(), String> {
    let (mut names, mut defaults) = (BTreeSet::new(), BTreeSet::new());
    for media in &all.media {
        let group = (media.get("TYPE"), media.get("GROUP-ID"));
        if !names.insert((group, media.get("NAME"))) {
            return Err(format!("{media:?}: the name stands twice in its group"));
        }
        if media.get("DEFAULT").is_some_and(|value| value == "YES") && !defaults.insert(group) {
            return Err(format!("{media:?}: a second default"));
        }
    }
    Ok(())
}

fn check_variant(all: &Multivariant, variant: &BTreeMap<String, String>) -> Result<(), String> {
    let peak = number(&required(variant, "BANDWIDTH")?)?;
    let average = variant.get("AVERAGE-BANDWIDTH").map_or(Ok(0), |value| number(value))?;
    if average > peak {
        return Err(format!("{variant:?}: the average is above the peak"));
    }
    if let Some(group) = variant.get("AUDIO") {
        let members = all.media.iter().filter(|media| media.get("GROUP-ID") == Some(group));
        if members.count() == 0 {
            return Err(format!("{variant:?}: there is no such group"));
        }
    }
    if let Some(size) = variant.get("RESOLUTION") {
        let (width, height) = size.split_once('x').ok_or("RESOLUTION is WIDTHxHEIGHT")?;
        number(width)?;
        number(height)?;
    }
    Ok(())
}
