//! What pages are made of: files in the binary, named with a digest of their contents so that they can be cached for ever.

use std::io::Read as _;
use std::sync::OnceLock;

use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{HeaderMap, HeaderValue, header};

use super::routes::not_found;

/// A file below `/assets`.
struct Asset {
    name: &'static str,
    media_type: &'static str,
    contents: Contents,
}

enum Contents {
    Plain(&'static [u8]),
    /// Compressed, for it is large; decompressed once for whoever cannot.
    Gzip(&'static [u8], OnceLock<Bytes>),
}

static ASSETS: [Asset; 7] = [
    Asset {
        name: "style.css",
        media_type: "text/css; charset=utf-8",
        contents: Contents::Plain(include_bytes!("../../assets/web/style.css")),
    },
    Asset {
        name: "streams.js",
        media_type: "text/javascript; charset=utf-8",
        contents: Contents::Plain(include_bytes!("../../assets/web/streams.js")),
    },
    Asset {
        name: "player.js",
        media_type: "text/javascript; charset=utf-8",
        contents: Contents::Plain(include_bytes!("../../assets/web/player.js")),
    },
    Asset {
        name: "mpegts.js",
        media_type: "text/javascript; charset=utf-8",
        contents: Contents::Gzip(
            include_bytes!("../../assets/web/vendor/mpegts-1.8.2/mpegts.js.gz"),
            OnceLock::new(),
        ),
    },
    Asset {
        name: "hls.js",
        media_type: "text/javascript; charset=utf-8",
        contents: Contents::Gzip(
            include_bytes!("../../assets/web/vendor/hls-1.7.4/hls.js.gz"),
            OnceLock::new(),
        ),
    },
    Asset {
        name: "webrtc.js",
        media_type: "text/javascript; charset=utf-8",
        contents: Contents::Plain(include_bytes!("../../assets/web/webrtc.js")),
    },
    Asset {
        name: "publish.js",
        media_type: "text/javascript; charset=utf-8",
        contents: Contents::Plain(include_bytes!("../../assets/web/publish.js")),
    },
];

impl Asset {
    const fn raw(&self) -> &'static [u8] {
        match &self.contents {
            Contents::Plain(bytes) | Contents::Gzip(bytes, _) => bytes,
        }
    }

    /// FNV-1a: tells versions apart; nothing rests on it.
    fn digest(&self) -> u64 {
        self.raw()
            .iter()
            .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01B3))
    }
}

/// The path of an asset, for pages.
pub(super) fn href(name: &str) -> String {
    let asset =
        ASSETS.iter().find(|asset| asset.name == name).expect("pages name only assets that are there");
    let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    format!("/assets/{stem}.{:016x}.{extension}", asset.digest())
}

pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    let wanted = format!("/assets/{path}");
    let Some(asset) = ASSETS.iter().find(|asset| href(asset.name) == wanted) else {
        return not_found().into_response();
    };
    let accept =
        headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (body, encoding) = match &asset.contents {
        Contents::Plain(bytes) => (Bytes::from_static(bytes), None),
        Contents::Gzip(bytes, _) if accept.contains("gzip") => (Bytes::from_static(bytes), Some("gzip")),
        Contents::Gzip(bytes, plain) => (plain.get_or_init(|| decompress(bytes)).clone(), None),
    };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.media_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if let Some(encoding) = encoding {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

fn decompress(bytes: &[u8]) -> Bytes {
    let mut plain = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut plain).expect("the file was compressed when it was vendored");
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_player_libraries_are_what_they_say() {
        for (asset, version, least) in [(&ASSETS[3], "1.8.2", 200_000), (&ASSETS[4], "1.7.4", 600_000)] {
            let Contents::Gzip(bytes, _) = &asset.contents else { panic!("{} is compressed", asset.name) };
            let text = decompress(bytes);
            assert!(text.len() > least, "{}", asset.name);
            let version = version.as_bytes();
            assert!(text.windows(version.len()).any(|window| window == version), "{}", asset.name);
        }
    }
}
