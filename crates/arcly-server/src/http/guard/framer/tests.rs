use proptest::prelude::*;

use super::*;

/// Feeds `input` in pieces of `step` bytes; what came out and whether the framer is between requests.
fn run(input: &[u8], step: usize) -> Result<(Vec<u8>, bool), Violation> {
    let mut framer = Framer::new();
    let mut out = BytesMut::new();
    for piece in input.chunks(step) {
        framer.feed(piece, &mut out)?;
    }
    Ok((out.to_vec(), framer.is_idle()))
}

fn request(fields: &str) -> Vec<u8> {
    format!("POST /live/a.flv HTTP/1.1\r\nHost: h\r\n{fields}\r\n").into_bytes()
}

#[test]
fn good_requests_pass_as_they_are() {
    let chunked = request("Transfer-Encoding: chunked\r\n");
    let cases: &[&[u8]] = &[
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: [::1]:8080\r\nX-Empty:\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n\r\nGET /b HTTP/1.1\r\nHost: h\r\n\r\n",
        &[&request("Content-Length: 3\r\n")[..], b"abc", &request("")].concat(),
        &[&chunked[..], b"3\r\nabc\r\n0\r\n\r\n", &request("")].concat(),
        &[&chunked[..], b"a;x=\"y\"\r\n0123456789\r\n000\r\nTrailer: 1\r\n\r\n"].concat(),
    ];
    for input in cases {
        for step in [1, 7, input.len()] {
            assert_eq!(
                run(input, step),
                Ok((input.to_vec(), true)),
                "{:?}",
                input.escape_ascii().to_string()
            );
        }
    }
}

#[test]
fn one_empty_line_before_a_request_is_dropped() {
    let plain = request("");
    assert_eq!(run(&[b"\r\n", &plain[..]].concat(), 1), Ok((plain.clone(), true)));
    assert!(run(&[b"\r\n\r\n", &plain[..]].concat(), 1).is_err());
}

#[test]
fn upgraded_connections_pass_untouched() {
    let ws = [&request("Connection: Upgrade\r\nUpgrade: websocket\r\n")[..], b"\n\0\xFF"].concat();
    assert_eq!(run(&ws, 1).map(|(out, _)| out), Ok(ws));
    let h2 = [H2_PREFACE, b"SM\r\n\r\n\0\0\0\x04"].concat();
    assert_eq!(run(&h2, 1).map(|(out, _)| out), Ok(h2));
}

#[test]
fn h06_and_h29_requests_that_proxies_could_read_otherwise() {
    let chunked = String::from_utf8(request("Transfer-Encoding: chunked\r\n")).unwrap();
    let cases = [
        request("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
        request("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
        request("Content-Length: 3\r\nContent-Length: 3\r\n"),
        request("Content-Length: 3, 3\r\n"),
        request("Content-Length: +3\r\n"),
        request("Content-Length: 99999999999999999999999\r\n"),
        request("Transfer-Encoding: gzip, chunked\r\n"),
        request("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        request("Transfer-Encoding : chunked\r\n"),
        request("Content-Length : 3\r\n"),
        request("X: a\r\n b\r\n"),
        request("X: a\n"),
        request("X: a\rb\r\n"),
        request("X: a\0\r\n"),
        request("no colon\r\n"),
        request(": no name\r\n"),
        request("Host: i\r\n"),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "h".repeat(8_192)).into_bytes(),
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\nHost: h\n\n".to_vec(),
        b"GET / HTTP/3.0\r\nHost: h\r\n\r\n".to_vec(),
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec(),
        b"GET /\r\n\r\n".to_vec(),
        format!("{chunked}FFFFFFFFFFFFFFFF\r\n").into_bytes(),
        format!("{chunked}-1\r\n").into_bytes(),
        format!("{chunked}\r\n").into_bytes(),
        format!("{chunked}3\nabc\r\n").into_bytes(),
        format!("{chunked}3 \r\nabc\r\n").into_bytes(),
        format!("{chunked}3\r\nabcd\r\n").into_bytes(),
        format!("{chunked}0\r\nA: b\n\r\n").into_bytes(),
    ];
    for input in cases {
        for step in [1, input.len()] {
            let got = run(&input, step).expect_err(&input.escape_ascii().to_string());
            assert_eq!((got.status, got.reason), (400, CloseReason::Malformed), "{}", input.escape_ascii());
        }
    }
}

#[test]
fn h02_heads_are_bounded_to_the_byte() {
    let base = request("X: \r\n").len();
    let of_length = |total: usize| request(&format!("X: {}\r\n", "a".repeat(total - base)));
    assert!(run(&of_length(MAX_HEAD), 1_000).is_ok());
    let over = run(&of_length(MAX_HEAD + 1), 1_000).unwrap_err();
    assert_eq!((over.status, over.reason), (431, CloseReason::Limit("head")));
    assert!(run(&request(&"A: b\r\n".repeat(MAX_FIELDS - 1)), 1_000).is_ok());
    let over = run(&request(&"A: b\r\n".repeat(MAX_FIELDS)), 1_000).unwrap_err();
    assert_eq!((over.status, over.reason), (431, CloseReason::Limit("headers")));
}

#[test]
fn lines_of_chunked_bodies_are_bounded() {
    let chunked = |body: String| [request("Transfer-Encoding: chunked\r\n"), body.into_bytes()].concat();
    let long = run(&chunked(format!("1;{}\r\na\r\n", "x".repeat(300))), 64).unwrap_err();
    assert_eq!((long.reason, long.in_head), (CloseReason::Limit("chunk_extension"), false));
    let long = run(&chunked(format!("0\r\nA: {}\r\n\r\n", "x".repeat(2_000))), 64).unwrap_err();
    assert_eq!(long.reason, CloseReason::Limit("trailers"));
}

proptest! {
    #[test]
    fn the_size_of_pieces_changes_nothing(input in prop::collection::vec(any::<u8>(), 0..200), head in 0..4_usize, step in 1..9_usize) {
        let heads = ["", "Content-Length: 40\r\n", "Transfer-Encoding: chunked\r\n", "Upgrade: x\r\n"];
        let input = [request(heads[head]), input].concat();
        prop_assert_eq!(run(&input, step), run(&input, input.len()));
    }
}
