use super::*;
use crate::wire::message::{Method, Protocol};

fn decoder() -> Decoder {
    let mut decoder = Decoder::new(MessageLimits::default());
    decoder.allow_frames(true);
    decoder
}

fn all(bytes: &[u8]) -> DecodeResult<Vec<Item>> {
    let mut decoder = decoder();
    decoder.push(bytes);
    let mut items = Vec::new();
    while let Some(item) = decoder.poll()? {
        items.push(item);
    }
    Ok(items)
}

fn request(bytes: &[u8]) -> Request {
    match all(bytes).unwrap().remove(0) {
        Item::Request(request) => request,
        other => panic!("{other:?}"),
    }
}

/// RFC 2326 §10.2.
const DESCRIBE: &[u8] = b"DESCRIBE rtsp://server.example.com/fizzle/foo RTSP/1.0\r\n\
    CSeq: 312\r\n\
    Accept: application/sdp, application/rtsl, application/mheg\r\n\r\n";
/// RFC 2326 §10.4.
const SETUP_ANSWER: &[u8] = b"RTSP/1.0 200 OK\r\n\
    CSeq: 302\r\n\
    Date: 23 Jan 1997 15:35:06 GMT\r\n\
    Session: 47112344\r\n\
    Transport: RTP/AVP;unicast;\r\n  client_port=4588-4589;server_port=6256-6257\r\n\r\n";
/// RFC 2326 §10.9.
const SET_PARAMETER: &[u8] = b"SET_PARAMETER rtsp://example.com/fizzle/foo RTSP/1.0\r\n\
    CSeq: 421\r\n\
    Content-length: 20\r\n\
    Content-type: text/parameters\r\n\r\n\
    barparam: barstuff\r\n";

#[test]
fn rfc_2326_10_2_describe() {
    let request = request(DESCRIBE);
    assert_eq!(request.method, Method::Describe);
    assert_eq!(request.uri, "rtsp://server.example.com/fizzle/foo");
    assert_eq!((request.version, request.cseq()), (Version::RTSP_1_0, Some(312)));
    assert_eq!(request.headers.get("ACCEPT"), Some("application/sdp, application/rtsl, application/mheg"));
    assert!(request.body.is_empty());
}

#[test]
fn rfc_2326_10_4_a_response_with_a_folded_header() {
    let Item::Response(response) = all(SETUP_ANSWER).unwrap().remove(0) else { panic!("a response") };
    assert_eq!((response.status, &*response.reason, response.cseq()), (Status::OK, "OK", Some(302)));
    let transport = response.headers.get("transport");
    assert_eq!(transport, Some("RTP/AVP;unicast; client_port=4588-4589;server_port=6256-6257"));
}

#[test]
fn rfc_2326_10_9_a_body() {
    let request = request(SET_PARAMETER);
    assert_eq!(request.method, Method::SetParameter);
    assert_eq!(request.body[..], b"barparam: barstuff\r\n"[..]);
}

#[test]
fn rfc_2326_10_12_frames_stand_between_messages() {
    let bytes = [b"$\x00\x00\x03abc", DESCRIBE, b"$\x01\x00\x00\r\n", SET_PARAMETER].concat();
    let items = all(&bytes).unwrap();
    assert_eq!(items.len(), 4);
    assert_eq!(items[0], Item::Frame(Frame { channel: 0, payload: Bytes::from_static(b"abc") }));
    assert_eq!(items[2], Item::Frame(Frame { channel: 1, payload: Bytes::new() }));
    assert!(matches!(&items[3], Item::Request(request) if request.cseq() == Some(421)));
}

#[test]
fn in_whatever_pieces_it_arrives() {
    let bytes = [SETUP_ANSWER, b"$\x07\x00\x02\r\n\r\n\r\n", SET_PARAMETER].concat();
    let whole = all(&bytes).unwrap();
    assert_eq!(whole.len(), 3);
    for size in 1..bytes.len() {
        let (mut decoder, mut items) = (decoder(), Vec::new());
        for piece in bytes.chunks(size) {
            decoder.push(piece);
            while let Some(item) = decoder.poll().unwrap() {
                items.push(item);
            }
        }
        assert_eq!(items, whole, "in pieces of {size}");
        assert_eq!(decoder.buffered(), 0);
    }
}

#[test]
fn every_prefix_waits_for_the_rest() {
    for message in [DESCRIBE, SETUP_ANSWER, SET_PARAMETER, b"$\x00\x00\x03abc"] {
        for end in 0..message.len() {
            assert_eq!(all(&message[..end]).unwrap(), [], "{end}");
        }
    }
}

#[test]
fn what_is_written_is_read_back() {
    let mut sent = Request::new(Method::Announce, "rtsp://h/live/cam").with("CSeq", 7);
    sent = sent.with("User-Agent", "arcly").with_body("application/sdp", "v=0\r\n");
    let got = request(&sent.to_bytes());
    assert_eq!((&got.method, &got.uri, &got.body), (&sent.method, &sent.uri, &sent.body));
    assert_eq!(got.headers.get("Content-Length"), Some("5"));
    let response = Response::new(Status::SESSION_NOT_FOUND).with("CSeq", 8);
    let items = all(&response.to_bytes()).unwrap();
    assert_eq!(items, [Item::Response(response)]);
}

#[test]
fn nothing_that_is_written_breaks_its_line() {
    let request = Request::new(Method::Options, "rtsp://h/a\r\nX: y").with("A\r\nB", "c\r\n\r\nd\0e");
    assert_eq!(request.to_bytes()[..], b"OPTIONS rtsp://h/aX: y RTSP/1.0\r\nAB: cde\r\n\r\n"[..]);
}

#[test]
fn http_heads_are_of_the_same_kind() {
    let request = request(b"GET /live/cam HTTP/1.1\r\nx-sessioncookie: 1\r\n\r\n");
    assert_eq!(request.method, Method::Other("GET".into()));
    assert_eq!(request.version.protocol, Protocol::Http);
}

#[test]
fn what_is_tolerated() {
    let cases: &[(&[u8], &str)] = &[
        (b"\r\n\r\nOPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n", "empty lines before it"),
        (b"OPTIONS * RTSP/1.0\nCSeq: 1\n\n", "LF alone"),
        (b"OPTIONS  *  RTSP/1.0 \r\nCSeq :1\r\n\r\n", "blanks"),
        (
            b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
            "twice the same",
        ),
        (b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: \xFF\xFE\r\n\r\n", "no UTF-8"),
        (b"OPTIONS * RTSP/1.0\r\ncseq:\t 1\r\n\r\n", "case and tabs"),
    ];
    for (bytes, why) in cases {
        assert_eq!(request(bytes).cseq(), Some(1), "{why}");
    }
}

#[test]
fn t03_t04_t06_t09_what_cannot_be_a_message() {
    let with = |lines: &str| format!("OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n{lines}\r\n\r\n").into_bytes();
    let cases: &[(Vec<u8>, &'static str)] = &[
        (with("Content-Length: -1"), "content-length"),
        (with("Content-Length: 9223372036854775808"), "content-length"),
        (with("Content-Length: +1"), "content-length"),
        (with("Content-Length: 1\r\nContent-Length: 2"), "content-length"),
        (with("no colon"), "header"),
        (with(": no name"), "header name"),
        (with("a b: c"), "header name"),
        (with("X: a\x01b"), "header"),
        (b"OPTIONS *\r\n\r\n".to_vec(), "request line"),
        (b"OPTIONS * RTSP/1.0 x\r\n\r\n".to_vec(), "request line"),
        (b"OPTIONS * RTSP/x\r\n\r\n".to_vec(), "version"),
        (b"OPTIONS * GOPHER/1.0\r\n\r\n".to_vec(), "version"),
        (b"OPT(IONS) * RTSP/1.0\r\n\r\n".to_vec(), "method"),
        (b"RTSP/1.0 20 OK\r\n\r\n".to_vec(), "status"),
        (b"RTSP/1.0 1000 OK\r\n\r\n".to_vec(), "status"),
        (b"OPTIONS * RTSP/1.0\r\n folded\r\n\r\n".to_vec(), "folded header"),
        (b"\x00".to_vec(), "start line"),
        (b"OPTIONS \xC3\xA4".to_vec(), "start line"),
    ];
    for (bytes, what) in cases {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(all(bytes), Err(malformed(what)), "{shown}");
    }
    // A version that exists, in which nobody speaks: the session answers it.
    assert_eq!(request(b"OPTIONS * RTSP/9.9\r\n\r\n").version.major, 9);
}

#[test]
fn t01_t02_t05_limits_hold_at_n_and_not_at_one_more() {
    let limits = MessageLimits::default();
    let line = |len: usize| format!("OPTIONS {} RTSP/1.0", "a".repeat(len - 17));
    let header = |len: usize| format!("X: {}", "a".repeat(len - 3));
    let many = |count: usize| "A: b\r\n".repeat(count);
    // The start line is 18 bytes of the head.
    let head = |len: usize| {
        let full = (len - 18) / limits.header_line;
        let lines: String = (0..full).map(|_| header(limits.header_line) + "\r\n").collect();
        format!("OPTIONS * RTSP/1.0\r\n{lines}{}\r\n", header((len - 18) % limits.header_line))
    };
    let body = |len: usize| format!("Content-Length: {len}\r\n");
    type Case<'a> = (&'static str, usize, &'a dyn Fn(usize) -> String);
    let cases: &[Case<'_>] = &[
        ("request_line", limits.start_line, &|n| line(n) + "\r\n"),
        ("header_line", limits.header_line, &|n| line(20) + "\r\n" + &header(n) + "\r\n"),
        ("headers", limits.headers, &|n| line(20) + "\r\n" + &many(n)),
        ("head", limits.head, &head),
        ("body", limits.body, &|n| line(20) + "\r\n" + &body(n)),
    ];
    for (what, limit, text) in cases {
        let bytes = |n: usize| [text(n).as_bytes(), b"\r\n", &*vec![b'x'; limits.body]].concat();
        let (mut decoder, mut early) = (decoder(), decoder());
        decoder.push(&bytes(*limit));
        assert!(matches!(decoder.poll(), Ok(Some(Item::Request(_)))), "{what} at {limit}");
        early.push(text(limit + 1).as_bytes());
        early.push(b"\r\n");
        assert_eq!(early.poll(), Err(exceeded(what, *limit)), "{what} at {}", limit + 1);
    }
}

#[test]
fn t01_a_line_without_end_is_given_up_at_its_limit() {
    let mut decoder = decoder();
    let mut taken = 0;
    let error = loop {
        decoder.push(&[b'A'; 100]);
        taken += 100;
        if let Err(error) = decoder.poll() {
            break error;
        }
    };
    assert_eq!(error, exceeded("request_line", 4_096));
    assert!(taken <= 4_300, "{taken}");
}

#[test]
fn t10_noise_is_given_up_at_once() {
    let mut rng = arcly_testkit::rng::Rng::new(10);
    for _ in 0..100 {
        let noise = rng.bytes(4_096);
        let mut decoder = Decoder::new(MessageLimits::default());
        decoder.push(&noise);
        assert!(matches!(decoder.poll(), Err(DecodeError::Malformed { .. })));
    }
}

#[test]
fn t11_a_frame_before_setup_is_refused_by_its_first_byte() {
    let mut decoder = Decoder::new(MessageLimits::default());
    decoder.push(b"$");
    assert_eq!(decoder.poll(), Err(malformed("interleaved frame before setup")));
}

#[test]
fn the_number_of_a_request_that_is_not_whole_is_known() {
    let mut decoder = decoder();
    decoder.push(b"ANNOUNCE * RTSP/1.0\r\nCSeq: 9\r\nContent-Length: 4294967295\r\n\r\nabc");
    assert_eq!(decoder.poll(), Err(exceeded("body", 128 << 10)));
    assert_eq!(decoder.pending_cseq(), Some(9));
}
