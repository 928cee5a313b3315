use proptest::prelude::*;

use super::super::message::Method;
use super::*;

fn http(method: &str, headers: &[(&str, &str)]) -> Request {
    let request = Request { version: Version::HTTP_1_1, ..Request::new(Method::from(method), "/live/cam") };
    headers.iter().fold(request, |request, (name, value)| request.with(name, value))
}

#[test]
fn what_opens_a_tunnel() {
    let cookie = |text: &str| Cookie(text.into());
    let tunnelled = [("Accept", TUNNELLED), ("x-sessioncookie", "tD9hKgAAfB8ABCftAAAAAw")];
    let expect = cookie("tD9hKgAAfB8ABCftAAAAAw");
    assert_eq!(Opening::of(&http("GET", &tunnelled)), Ok(Opening::Responses(expect.clone())));
    assert_eq!(Opening::of(&http("POST", &tunnelled)), Ok(Opening::Requests(expect)));
    // RFC 6455 §1.3, as ONVIF has it.
    let socket = [
        ("Upgrade", "WebSocket"),
        ("Connection", "keep-alive, Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "chat, rtsp.onvif.org"),
        ("Sec-WebSocket-Version", "13"),
    ];
    let key = "dGhlIHNhbXBsZSBub25jZQ==".to_owned();
    assert_eq!(Opening::of(&http("GET", &socket)), Ok(Opening::WebSocket { key, named: true }));
    let status = |request: &Request| Opening::of(request).unwrap_err().status.0;
    for (without, expect) in [(1, 400), (2, 400), (4, 426)] {
        let mut fields = socket.to_vec();
        fields.remove(without);
        assert_eq!(status(&http("GET", &fields)), expect, "without {:?}", socket[without]);
    }
}

#[test]
fn what_opens_nothing() {
    let long = "c".repeat(MAX_COOKIE + 1);
    let with = |cookie| http("GET", &[("x-sessioncookie", cookie)]);
    assert!(Opening::of(&with(&long[1..])).is_ok());
    let cases = [
        (http("GET", &[]), 400),
        (with(""), 400),
        (with(&long), 400),
        (with("a b"), 400),
        (with("caf\u{e9}"), 400),
        (http("PUT", &[("x-sessioncookie", "c")]), 405),
        (http("GET", &[("Upgrade", "websocket"), ("x-sessioncookie", "c")]), 426),
        (Request::new(Method::from("GET"), "*").with("x-sessioncookie", "c"), 400),
    ];
    for (request, expect) in cases {
        let refusal = Opening::of(&request).unwrap_err();
        assert_eq!(refusal.status.0, expect, "{request:?}");
        let bytes = refusal.to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.starts_with("HTTP/1.1 ") && text.contains("\r\nContent-Length: 0\r\n"), "{text:?}");
    }
}

#[test]
fn answers() {
    assert_eq!(
        tunnelled().to_bytes()[..],
        *b"HTTP/1.1 200 OK\r\nContent-Type: application/x-rtsp-tunnelled\r\nCache-Control: no-store\r\n\
           Connection: close\r\n\r\n"
    );
    assert_eq!(
        switching_protocols("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", true).to_bytes()[..],
        *b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
           Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: rtsp.onvif.org\r\n\r\n"
    );
    assert!(switching_protocols("x", false).headers.get("Sec-WebSocket-Protocol").is_none());
}

/// RFC 4648 §10, and what tunnels make of it.
#[test]
fn base64_in_pieces() {
    let decode = |text: &str| {
        let (mut decoder, mut out) = (Base64Decoder::default(), BytesMut::new());
        decoder.push(text.as_bytes(), &mut out).map(|()| (out, decoder.begun.len()))
    };
    for (text, expect, left) in [
        ("", "", 0),
        ("Zg==", "f", 0),
        ("Zm8=", "fo", 0),
        ("Zm9v", "foo", 0),
        ("Zm9vYg==", "foob", 0),
        ("Zm9vYmFy", "foobar", 0),
        ("Zg==Zm8=Zm9v", "ffofoo", 0),
        ("Zg==\r\nZm9v\r\n", "ffoo", 0),
        ("Zm9vY", "foo", 1),
        ("Zm9vYmE", "foo", 3),
    ] {
        let (out, begun) = decode(text).unwrap();
        assert_eq!((&out[..], begun), (expect.as_bytes(), left), "{text:?}");
    }
    for text in
        ["Zm9*", "====", "Z===", "Z=g=", "Zm9v=Zm9", "Zg==\0\0\0\0", "DESCRIBE rtsp://h/ RTSP/1.0\r\n\r\n"]
    {
        assert_eq!(decode(text), Err(NOT_BASE64), "{text:?}");
    }
}

proptest! {
    #[test]
    fn base64_of_messages_comes_back_however_it_is_cut(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8),
        cuts in prop::collection::vec(1..20_usize, 1..40),
    ) {
        let text: Vec<u8> = messages.iter().flat_map(|message| encode_base64(message)).collect();
        let (mut decoder, mut out) = (Base64Decoder::default(), BytesMut::new());
        let (mut rest, mut cuts) = (&text[..], cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            decoder.push(piece, &mut out).unwrap();
            prop_assert!(decoder.begun.len() < 4);
            rest = behind;
        }
        prop_assert_eq!(&out[..], messages.concat());
    }

    #[test]
    fn anything_is_base64_or_an_error(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let (mut decoder, mut out) = (Base64Decoder::default(), BytesMut::new());
        if decoder.push(&text, &mut out).is_ok() {
            prop_assert!(out.len() <= text.len() * 3 / 4 && decoder.begun.len() < 4);
        }
    }
}
