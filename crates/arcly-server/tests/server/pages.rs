//! Pages for people, as the server makes them; `tests/page` has what they do in a browser.

use crate::client::{get, start};

#[test]
fn the_player_lists_the_addresses_of_those_protocols_that_are_on() {
    let arcly = start(&["serve", "--rtsp", "127.0.0.1:0", "--srt", "127.0.0.1:0"]);
    let page = get(arcly.addr("http"), "/live/cam", "GET", "").text();
    for (name, protocol, behind) in [
        ("RTMP", "rtmp", "/live/cam"),
        ("RTSP", "rtsp", "/live/cam"),
        ("SRT", "srt", "?streamid=read:live/cam"),
    ] {
        let port = arcly.addr(protocol).port();
        let address = format!("{protocol}://<span data-host>this-server</span>:{port}{behind}");
        assert!(
            page.contains(&format!("<dt>{name}</dt><dd><code>{address}</code></dd>")),
            "{address}:\n{page}"
        );
    }
    assert!(page.contains("<dt hidden>WebRTC (WHEP)</dt><dd hidden>"), "{page}");

    let without = start(&["serve"]);
    let page = get(without.addr("http"), "/live/cam", "GET", "").text();
    for name in ["RTSP", "SRT"] {
        assert!(page.contains(&format!("<dt hidden>{name}</dt><dd hidden>")), "{page}");
    }
    assert!(
        page.contains("<dt>RTMP</dt>") && !page.contains("_PORT}") && !page.contains("_HIDDEN}"),
        "{page}"
    );
}
