//! The rules, one function each.

use super::{File, is_comment};

/// Files longer than this are named, not refused.
pub(super) const LONG_FILE: usize = 700;

/// What may stand at the top level, and why.
const TOP_LEVEL: &[(&str, &str)] = &[
    (".cargo", "the `cargo xtask` alias"),
    (".ci", "what the build machine runs"),
    (".gitignore", "build output"),
    ("CHANGELOG.md", "people look for it here"),
    ("CONTRIBUTING.md", "people look for it here"),
    ("Cargo.lock", "the binary is built from known versions"),
    ("Cargo.toml", "the workspace"),
    ("LICENSE-APACHE", "people and tools look for it here"),
    ("LICENSE-MIT", "people and tools look for it here"),
    ("README.md", "the front page"),
    ("benches", "one package of benchmarks over all crates"),
    ("clippy.toml", "clippy reads it here"),
    ("crates", "the product"),
    ("docs", "architecture, testing, decisions"),
    ("fuzz", "fuzz targets over all crates, their seeds and crashers"),
    ("rustfmt.toml", "rustfmt reads it here"),
    ("xtask", "this program"),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] =
    &["common", "define", "defines", "helper", "helpers", "manager", "misc", "util", "utils"];

/// A sans-IO room: bytes in, bytes out, time as an argument.
const PURE_ROOMS: &[&str] = &["/src/wire/", "/src/session/"];
const NOT_IN_PURE_ROOMS: &[&str] = &["tokio", "Instant::now", "SystemTime::now", ".await", "thread::spawn"];

// Written in two halves, so that this file does not find itself.
const UNFINISHED: &[&str] =
    &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME"), concat!("XX", "X:")];
const BARE_IGNORE: &str = concat!("#[ign", "ore]");

/// Package indexes and mirrors: which one a build uses is the machine's business.
const REGISTRY_HOSTS: &[&str] = &[
    concat!("registry.npmjs", ".org"),
    concat!("registry.yarnpkg", ".com"),
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("files.pythonhosted", ".org"),
    concat!("deb.debian", ".org"),
    concat!("security.debian", ".org"),
];

/// Findings in one file.
pub(super) fn check_file(file: &File) -> Vec<String> {
    let mut found = names(file);
    found.extend(registry_hosts(file));
    if file.is_rust() {
        found.extend(pure_rooms(file));
        found.extend(unfinished(file));
        found.extend(reasons(file));
        found.extend(crate_attributes(file));
    }
    found
}

/// Findings about the repository as a whole.
pub(super) fn check_tree(files: &[File]) -> Vec<String> {
    let mut seen = Vec::new();
    for file in files {
        let top = file.path.split('/').next().unwrap_or_default();
        if !seen.contains(&top) && !TOP_LEVEL.iter().any(|(name, _)| *name == top) {
            seen.push(top);
        }
    }
    let say =
        |top| format!("{top}: nothing new at the top level without a reason in xtask/src/tidy/rules.rs");
    seen.into_iter().map(say).collect()
}

fn names(file: &File) -> Vec<String> {
    if !file.is_rust() {
        return Vec::new();
    }
    let parts = file.path.split('/').map(|part| part.strip_suffix(".rs").unwrap_or(part));
    let empty = parts.filter(|part| EMPTY_NAMES.contains(part));
    empty.map(|part| format!("{}: `{part}` says nothing; name it after what is inside", file.path)).collect()
}

fn registry_hosts(file: &File) -> Vec<String> {
    // What other people wrote stays as they wrote it.
    if file.path.contains("/vendor/") {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (n, line) in file.text.lines().enumerate() {
        if let Some(host) = REGISTRY_HOSTS.iter().find(|host| line.contains(**host)) {
            found.push(format!("{}:{}: names the package host {host}", file.path, n + 1));
        }
    }
    found
}

fn pure_rooms(file: &File) -> Vec<String> {
    let room = |room: &&&str| {
        file.path.contains(**room) || file.path.ends_with(&format!("{}.rs", room.trim_end_matches('/')))
    };
    let Some(room) = PURE_ROOMS.iter().find(room) else { return Vec::new() };
    let mut found = Vec::new();
    for (n, line) in file.code() {
        if let Some(what) = NOT_IN_PURE_ROOMS.iter().find(|what| line.contains(**what)) {
            let room = room.trim_matches('/').trim_start_matches("src/");
            found.push(format!("{}:{n}: {what} inside {room}/, which is sans-IO", file.path));
        }
    }
    found
}

fn unfinished(file: &File) -> Vec<String> {
    let mut found = Vec::new();
    for (n, line) in file.text.lines().enumerate() {
        if let Some(what) = UNFINISHED.iter().find(|what| line.contains(**what)) {
            found.push(format!("{}:{}: {what} is unfinished work", file.path, n + 1));
        }
        if line.contains(BARE_IGNORE) {
            found.push(format!("{}:{}: an ignored test says why: #[ignore = \"…\"]", file.path, n + 1));
        }
    }
    found
}

/// Every `allow` and `expect` attribute says why. The compiler has the same rule, as a warning; this one
/// also sees code behind features and for other platforms.
fn reasons(file: &File) -> Vec<String> {
    let lines: Vec<&str> = file.text.lines().collect();
    let mut found = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let opens = ["#[allow(", "#![allow(", "#[expect(", "#![expect("].iter().any(|a| line.contains(a));
        if !opens || is_comment(line) || line.contains("\"#") {
            continue;
        }
        let attribute = lines.iter().skip(n).take(8);
        let mut ended = false;
        let text: String =
            attribute.take_while(|l| !std::mem::replace(&mut ended, l.contains(")]"))).copied().collect();
        if !text.contains("reason") {
            found.push(format!("{}:{}: an allow says why: reason = \"…\"", file.path, n + 1));
        }
    }
    found
}

fn crate_attributes(file: &File) -> Vec<String> {
    let is_library = file.path.starts_with("crates/") && file.path.ends_with("/src/lib.rs");
    if !is_library || file.path.matches('/').count() != 3 {
        return Vec::new();
    }
    let missing =
        ["#![forbid(unsafe_code)]", "#![deny(missing_docs)]"].into_iter().filter(|a| !file.text.contains(a));
    missing.map(|attribute| format!("{}: no {attribute}", file.path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str, text: &str) -> Vec<String> {
        check_file(&File { path: path.into(), text: text.into() })
    }

    #[test]
    fn each_rule_finds_its_case_and_leaves_the_neighbour_alone() {
        let cases: &[(&str, &str, usize)] = &[
            ("crates/a/src/wire/chunk.rs", "use tokio::io;", 1),
            ("crates/a/src/wire/chunk.rs", "// tokio is not used here", 0),
            ("crates/a/src/wire.rs", "let t = Instant::now();", 1),
            ("crates/a/src/session/mod.rs", "x.await;\n#[cfg(test)]\nmod tests { use tokio; }", 1),
            ("crates/a/src/session/tests.rs", "Instant::now()", 0),
            ("crates/a/src/server.rs", "x.await; Instant::now()", 0),
            ("crates/a/src/x.rs", concat!("todo", "!()"), 1),
            ("crates/a/src/x.rs", concat!("#[ign", "ore]"), 1),
            ("crates/a/src/x.rs", "#[ignore = \"needs a disk\"]", 0),
            ("crates/a/src/x.rs", concat!("#[all", "ow(dead_code)]"), 1),
            ("crates/a/src/x.rs", concat!("#[all", "ow(dead_code, reason = \"x\")]"), 0),
            ("crates/a/src/x.rs", concat!("#[all", "ow(\n  dead_code,\n  reason = \"x\"\n)]"), 0),
            ("crates/a/src/x.rs", concat!("#[all", "ow(dead_code)]\nlet reason = 1;"), 1),
            ("crates/a/src/utils.rs", "", 1),
            ("crates/a/src/common/x.rs", "", 1),
            ("crates/a/src/lib.rs", "", 2),
            ("crates/a/src/lib.rs", "#![forbid(unsafe_code)]\n#![deny(missing_docs)]", 0),
            ("docs/x.md", concat!("https://registry.npmjs", ".org/"), 1),
            ("crates/a/assets/vendor/x.js", concat!("https://registry.npmjs", ".org/"), 0),
        ];
        for (path, text, expect) in cases {
            let found = check(path, text);
            assert_eq!(found.len(), *expect, "{path}: {text:?}: {found:?}");
        }
    }

    #[test]
    fn the_top_level_is_closed() {
        let file = |path: &str| File { path: path.into(), text: String::new() };
        assert_eq!(check_tree(&[file("crates/a/b.rs"), file("README.md")]), [""; 0]);
        assert_eq!(check_tree(&[file("scripts/a"), file("scripts/b")]).len(), 1);
    }
}
