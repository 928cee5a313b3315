//! `layers`: every dependency between our packages points downwards (docs/architecture.md).
//!
//! Normal and build dependencies go to a strictly lower layer. Development dependencies may also go to
//! `arcly-testkit`, which itself stands right above the bottom. Packages that are not shipped (benches, fuzz
//! targets, xtask) may look at everything, and nothing may look at them.

use serde_json::Value;

use crate::run::{Result, cargo, no_more, output};

/// Layer of each package; a package that is not here is an error, so that a new one gets its place.
const LAYERS: &[(&str, u32)] = &[
    ("arcly-core", 0),
    ("arcly-codec", 1),
    ("arcly-rtp", 2),
    ("arcly-mux", 2),
    ("arcly-rtmp", 3),
    ("arcly-rtsp", 3),
    ("arcly-srt", 3),
    ("arcly-transcode", 3),
    ("arcly-webrtc", 3),
    ("arcly-stream", 4),
    ("arcly-server", 5),
    ("arcly-benches", UNSHIPPED),
    ("arcly-fuzz", UNSHIPPED),
    ("xtask", UNSHIPPED),
];
const UNSHIPPED: u32 = 9;
const TESTKIT: &str = "arcly-testkit";
/// The testkit makes media and drives machines; it knows the kernel and the codecs, no protocol.
const TESTKIT_USES: &[&str] = &["arcly-core", "arcly-codec"];

pub(crate) fn main(args: &[String]) -> Result {
    no_more(args)?;
    let metadata = output(&mut cargo(&["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    let edges = edges(&metadata);
    let homeless = packages(&metadata).filter(|name| *name != TESTKIT).filter_map(|name| layer(name).err());
    let wrong: Vec<String> = edges.iter().filter_map(|edge| judge(edge).err()).chain(homeless).collect();
    if wrong.is_empty() {
        println!("{} dependencies between our packages, all downwards", edges.len());
        return Ok(());
    }
    Err(format!("dependencies that do not point downwards:\n  {}", wrong.join("\n  ")))
}

/// One dependency of one of our packages on another.
struct Edge {
    from: String,
    to: String,
    dev: bool,
}

/// Every dependency between packages of the workspace.
fn edges(metadata: &Value) -> Vec<Edge> {
    let ours: Vec<&str> = packages(metadata).collect();
    let mut edges = Vec::new();
    for package in list(&metadata["packages"]) {
        for dependency in list(&package["dependencies"]).iter().filter(|d| ours.contains(&name(d))) {
            edges.push(Edge {
                from: name(package).to_owned(),
                to: name(dependency).to_owned(),
                dev: dependency["kind"].as_str() == Some("dev"),
            });
        }
    }
    edges
}

fn packages(metadata: &Value) -> impl Iterator<Item = &str> {
    list(&metadata["packages"]).iter().map(name)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn name(value: &Value) -> &str {
    value["name"].as_str().unwrap_or_default()
}

fn judge(edge: &Edge) -> Result {
    let Edge { from, to, dev } = edge;
    let kind = if *dev { "develops against" } else { "depends on" };
    if from == TESTKIT {
        return if TESTKIT_USES.contains(&to.as_str()) {
            Ok(())
        } else {
            Err(format!("{from} {kind} {to}: the testkit knows only {}", TESTKIT_USES.join(" and ")))
        };
    }
    let from_layer = layer(from)?;
    if to == TESTKIT {
        return if *dev || from_layer == UNSHIPPED {
            Ok(())
        } else {
            Err(format!("{from} {kind} {to}: the testkit is for tests"))
        };
    }
    let to_layer = layer(to)?;
    if to_layer < from_layer {
        return Ok(());
    }
    Err(format!("{from} (layer {from_layer}) {kind} {to} (layer {to_layer})"))
}

fn layer(package: &str) -> Result<u32> {
    let found = LAYERS.iter().find(|(name, _)| *name == package);
    found.map(|(_, layer)| *layer).ok_or_else(|| {
        format!("{package} has no layer: give it its place in xtask/src/layers.rs and docs/architecture.md")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_read_from_metadata_and_judged() {
        let metadata = serde_json::json!({ "packages": [
            { "name": "arcly-core", "dependencies": [{ "name": "bytes", "kind": null }] },
            { "name": "arcly-rtmp", "dependencies": [
                { "name": "arcly-core", "kind": null },
                { "name": "arcly-rtsp", "kind": null },
                { "name": "arcly-testkit", "kind": "dev" },
            ]},
            { "name": "arcly-rtsp", "dependencies": [] },
            { "name": "arcly-testkit", "dependencies": [] },
        ]});
        let edges = edges(&metadata);
        assert_eq!(edges.len(), 3, "dependencies on other people's packages do not count");
        let wrong: Vec<String> = edges.iter().filter_map(|e| judge(e).err()).collect();
        assert_eq!(wrong, ["arcly-rtmp (layer 3) depends on arcly-rtsp (layer 3)"]);
    }

    #[test]
    fn verdicts() {
        let cases: &[(&str, &str, bool, bool)] = &[
            ("arcly-codec", "arcly-core", false, true),
            ("arcly-core", "arcly-codec", false, false),
            ("arcly-core", "arcly-codec", true, false),
            ("arcly-core", "arcly-testkit", true, true),
            ("arcly-core", "arcly-testkit", false, false),
            ("arcly-testkit", "arcly-codec", false, true),
            ("arcly-testkit", "arcly-rtmp", true, false),
            ("arcly-fuzz", "arcly-server", false, true),
            ("arcly-fuzz", "arcly-testkit", false, true),
            ("arcly-server", "xtask", true, false),
            ("arcly-server", "arcly-surprise", false, false),
        ];
        for &(from, to, dev, allowed) in cases {
            let edge = Edge { from: from.into(), to: to.into(), dev };
            assert_eq!(judge(&edge).is_ok(), allowed, "{from} -> {to}, dev {dev}");
        }
    }
}
