//! Fuzz targets as plain functions: libFuzzer calls them, and so does `cargo test`.
//!
//! A target is a function `fn(&[u8])` that panics when something is wrong. It stands in the module of the
//! crate that it tests, listed in that module's [`targets!`], and has
//!
//! * `libfuzzer/src/bin/NAME.rs`, the program that `cargo xtask fuzz NAME` runs;
//! * `seeds/NAME/`, valid inputs to start from;
//! * `crashers/NAME/`, inputs that once failed.
//!
//! `cargo test -p arcly-fuzz` runs each target over its seeds, its crashers, every prefix of the short ones,
//! and a fixed sequence of mutations of each, so that the targets are also tests, on any toolchain.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod codec;
pub mod core;
pub mod flv;
pub mod fmp4;
pub mod hls;
pub mod replay;
pub mod rtmp;
pub mod rtp;
pub mod rtsp;
pub mod srt;
pub mod srt_session;
pub mod transcode;
pub mod ts;
pub mod video;
pub mod webrtc;

/// The parts of an input that stands for a sequence: each is two bytes of length, big endian, and as many
/// bytes, or as many as there are.
pub fn parts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let (len, tail) = rest.split_first_chunk::<2>()?;
        let len = tail.len().min(u16::from_be_bytes(*len).into());
        let (part, after) = tail.split_at(len);
        rest = after;
        Some(part)
    })
}

/// Makes each named function of the module a replayed target: `targets!(wire_reader, stream_key);`.
#[macro_export]
macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        #[cfg(test)]
        mod replayed {
            $(
                #[test]
                fn $name() {
                    $crate::replay::replay(stringify!($name), super::$name);
                }
            )*
        }
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    /// Names in a folder below this package, without extension.
    fn names(folder: &str) -> BTreeSet<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let stem = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        fs::read_dir(path).into_iter().flatten().flatten().map(|entry| stem(&entry.path())).collect()
    }

    #[test]
    fn every_fuzzer_has_a_replayed_target_and_seeds() {
        let fuzzers = names("libfuzzer/src/bin");
        assert_eq!(fuzzers, names("seeds"), "left: fuzzers, right: folders of seeds");
        let mut listed = BTreeSet::new();
        for module in names("src") {
            let text =
                fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/{module}.rs")));
            let text = text.unwrap_or_default();
            for list in text.split("\ncrate::targets!(").skip(1) {
                let list = list.split(')').next().unwrap_or_default();
                listed.extend(
                    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()),
                );
            }
        }
        assert_eq!(fuzzers, listed, "left: fuzzers, right: functions in targets!");
        let orphans: Vec<String> = names("crashers").difference(&fuzzers).cloned().collect();
        assert!(orphans.is_empty(), "crashers of no target: {orphans:?}");
    }
}
