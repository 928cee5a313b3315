//! What clients of HLS say: names of files, and queries.

use arcly_mux::hls::{Directives, File};

crate::targets!(hls_request);

/// A path and a query, apart by the first `?`: a name that is understood is written in one way only, and what is put
/// behind URIs can neither end a line nor a quoted string.
pub fn hls_request(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (path, query) = text.split_once('?').map_or((&*text, None), |(path, query)| (path, Some(query)));
    if let Some((stream, file)) = File::split(path) {
        assert_eq!(format!("{stream}/{file}"), path);
    }
    let _ = Directives::from_query(query);
    let kept = Directives::strip(query.unwrap_or_default());
    assert!(!kept.contains(['"', '\r', '\n', ' ']) && !kept.contains("&_HLS_"), "{kept}");
    assert_eq!(Directives::strip(&kept), kept);
}
