//! Captures: what real encoders put out, and what ffprobe says of it.
#![allow(clippy::unwrap_used, reason = "in a test that is an assertion")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;

/// One packet of a capture.
pub struct Sample {
    pub pts: i64,
    pub dts: i64,
    pub key: bool,
    pub data: Bytes,
}

/// An elementary stream as it lies in an MP4 file, with its codec record.
pub struct Capture {
    pub record: Bytes,
    pub samples: Vec<Sample>,
    /// ffprobe's stream entries.
    pub stream: HashMap<String, String>,
}

impl Capture {
    pub fn load(name: &str) -> Self {
        let path = |suffix| {
            Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures").join(format!("{name}.{suffix}"))
        };
        let mut data = Bytes::from(std::fs::read(path("bin")).unwrap());
        let record = std::fs::read(path("record.bin")).unwrap_or_default().into();
        let (mut samples, mut stream) = (Vec::new(), HashMap::new());
        for line in std::fs::read_to_string(path("csv")).unwrap().lines() {
            if let Some((key, value)) = line.strip_prefix("# ").and_then(|entry| entry.split_once('=')) {
                stream.insert(key.to_owned(), value.to_owned());
                continue;
            }
            let fields: Vec<_> = line.split(',').collect();
            let [pts, dts, size, flags, ..] = fields[..] else { panic!("{name}: {line}") };
            samples.push(Sample {
                pts: pts.parse().unwrap(),
                dts: dts.parse().unwrap(),
                key: flags.contains('K'),
                data: data.split_to(size.parse().unwrap()),
            });
        }
        assert!(data.is_empty() && !samples.is_empty(), "{name}: sizes add up");
        Self { record, samples, stream }
    }

    pub fn entry(&self, key: &str) -> &str {
        self.stream.get(key).map_or("", String::as_str)
    }

    pub fn size(&self) -> (u32, u32) {
        (self.entry("width").parse().unwrap(), self.entry("height").parse().unwrap())
    }
}
