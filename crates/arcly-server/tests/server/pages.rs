//! Pages for people, as the server makes them; `tests/page` has what they do in a browser.

use arcly_testkit::process::Arcly;

use crate::client::{arcly, get, start};

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

#[test]
fn hls_and_dash_are_listed_where_they_can_be_played() {
    let cases = [
        ([].as_slice(), ["<dt>HLS, LL-HLS</dt><dd><code>", "<dt>DASH, LL-DASH</dt><dd><code>"]),
        (
            &[("ARCLY_HLS__ENABLED", "false")],
            ["<dt hidden>HLS, LL-HLS</dt><dd hidden>", "<dt hidden>DASH, LL-DASH</dt><dd hidden>"],
        ),
        (
            &[("ARCLY_HLS__ENCRYPTION", "aes-128")],
            ["<dt>HLS</dt><dd><code>", "<dt hidden>DASH, LL-DASH</dt><dd hidden>"],
        ),
    ];
    for (variables, listed) in cases {
        let mut command = arcly(&["serve", "--http", "127.0.0.1:0"]);
        let server = Arcly::start(command.envs(variables.iter().copied()));
        let page = get(server.addr("http"), "/live/cam", "GET", "").text();
        for row in listed {
            assert!(page.contains(row), "{variables:?}: {row}:\n{page}");
        }
        assert!(
            page.contains("<dt>HTTP-FLV</dt>") && !page.contains("_HIDDEN}") && !page.contains("_TITLE}"),
            "{page}"
        );
    }
}
