use std::time::{Duration, Instant};

use super::*;

const RFC_2617: &str = r#"Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    uri="/dir/index.html", qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1",
    opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
/// The example of RFC 2069 §2.4 with the response of its erratum: without `qop`.
const RFC_2069: &str = r#"Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
    uri="/dir/index.html", response="1949323746fe6a43ef61f9606e7febea""#;
const RFC_7616_MD5: &str = r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5,
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth, response="8ca523f5e9506fed4657c9700eebdbec",
    opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;
const RFC_7616_SHA256: &str = r#"Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=SHA-256,
    nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001,
    cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth,
    response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
    opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS""#;

fn authorization(text: &str) -> Authorization {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn rfc_2617_3_5_and_rfc_7616_3_9_1() {
    let cases = [
        (RFC_2617, "Circle Of Life"),
        (RFC_2069, "CircleOfLife"),
        (RFC_7616_MD5, "Circle of Life"),
        (RFC_7616_SHA256, "Circle of Life"),
    ];
    for (text, password) in cases {
        let answer = authorization(text);
        assert_eq!(answer.user(), "Mufasa");
        assert!(answer.proves("GET", password), "{text}");
        assert!(!answer.proves("GET", "circle of life") && !answer.proves("PLAY", password), "{text}");
        assert_eq!(authorization(&answer.to_string()), answer, "as it is written");
        let Authorization::Digest(digest) = &answer else { panic!("{text}") };
        assert_eq!(digest.counted.as_ref().map(|(_, count)| *count), text.contains("nc=").then_some(1));
    }
}

#[test]
fn rfc_7617_2_basic() {
    let answer = authorization("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert_eq!(answer, Authorization::Basic(Login::new("Aladdin", "open sesame")));
    assert_eq!(answer.to_string(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
    assert!(answer.proves("PLAY", "open sesame") && !answer.proves("PLAY", "open sesam"));
    // A colon in the password, none at all, UTF-8, and padding that was forgotten.
    assert!(authorization("basic YTpiOmM=").proves("", "b:c"));
    assert!(authorization("BASIC dGVzdDoxMjPCow").proves("", "123\u{a3}"));
    for text in ["Basic", "Basic ", "Basic YWJj", "Basic !!!!", "Basic /w==", "Bearer abc", ""] {
        assert!(text.parse::<Authorization>().is_err(), "{text}");
    }
}

#[test]
fn t39_answers_that_cannot_be_right() {
    let long = format!(r#"Digest username="{}", nonce="n", uri="u", response="r""#, "x".repeat(64 << 10));
    let many = format!("Digest {}", "a=b,".repeat(100));
    let cases = [
        r#"Digest username="u", realm="r", nonce="n", uri="u""#,
        r#"Digest username="u", realm="r", uri="u", response="r""#,
        r#"Digest username="u", nonce="n", uri="u", response="r", qop=auth"#,
        r#"Digest username="u", nonce="n", uri="u", response="r", qop=auth, nc=zz"#,
        r#"Digest username="u", nonce="n", uri="u", response="r", qop=auth-int, nc=1"#,
        r#"Digest username="u", nonce="n", uri="u", response="r", algorithm=SHA-512-256"#,
        r#"Digest username="u", Basic realm="r""#,
        "Digest =",
        &long,
        &many,
    ];
    for text in cases {
        assert!(text.parse::<Authorization>().is_err(), "{text}");
    }
}

#[test]
fn challenges_of_servers_and_cameras() {
    let basic = |realm: &str| Challenge::Basic { realm: realm.to_owned() };
    let digest = |realm: &str, nonce: &str| {
        let (realm, nonce) = (realm.to_owned(), nonce.to_owned());
        DigestChallenge { realm, nonce, ..DigestChallenge::default() }
    };
    let cases: Vec<(&[&str], Vec<Challenge>)> = vec![
        (&[r#"Basic realm="cam""#], vec![basic("cam")]),
        (&["Basic"], vec![basic("")]),
        (&["basic realm=IP Camera(12345)"], vec![basic("IP Camera(12345)")]),
        (
            &[r#"Digest realm="IP Camera",nonce="4dfb",stale="FALSE""#, r#"Basic realm="IP Camera""#],
            vec![Challenge::Digest(digest("IP Camera", "4dfb")), basic("IP Camera")],
        ),
        (
            &[
                r#"Basic realm="a, \"b\"", Digest realm = "c" , nonce = "d", qop="auth-int, auth", stale=true"#,
            ],
            vec![
                Challenge::Digest(DigestChallenge { qop: true, stale: true, ..digest("c", "d") }),
                basic("a, \"b\""),
            ],
        ),
        (
            &[
                r#"Digest realm="r", nonce="1""#,
                r#"Digest realm="r", nonce="2", algorithm="sha-256", opaque="o""#,
            ],
            vec![
                Challenge::Digest(DigestChallenge {
                    algorithm: Algorithm::Sha256,
                    opaque: Some("o".to_owned()),
                    ..digest("r", "2")
                }),
                Challenge::Digest(digest("r", "1")),
            ],
        ),
        // The last quote was forgotten; nothing to answer to; an algorithm that is not known; integrity alone; another scheme.
        (&[r#"Digest realm="r", nonce="abc"#], vec![Challenge::Digest(digest("r", "abc"))]),
        (&[r#"Digest realm="r""#, r#"Basic realm="r""#], vec![basic("r")]),
        (&[r#"Digest realm="r", nonce="n", algorithm=SHA-512-256"#], vec![]),
        (&[r#"Digest realm="r", nonce="n", qop="auth-int""#], vec![]),
        (&[r#"Negotiate, NTLM, Bearer realm="r""#], vec![]),
        (&[""], vec![]),
    ];
    for (headers, expect) in cases {
        assert_eq!(challenges(headers.iter().copied()).unwrap(), expect, "{headers:?}");
    }
    assert!(challenges(["=x"]).is_err());
    assert!(challenges(["x, ".repeat(1_000).as_str()]).is_err());
    assert_eq!(challenges(["Basic realm=r"; 100]).unwrap().len(), MAX_CHALLENGES);
}

#[test]
fn what_is_asked_for_is_answered() {
    let login = Login::new("admin", "pa\"ss: w\\ord");
    let mut answers = Answers::new(login, [7; 16]);
    assert!(answers.answer("OPTIONS", "rtsp://h/").is_none() && !answers.take(&[]));
    let every = [Algorithm::Md5, Algorithm::Md5Sess, Algorithm::Sha256, Algorithm::Sha256Sess];
    for (algorithm, qop) in every.into_iter().flat_map(|algorithm| [(algorithm, false), (algorithm, true)]) {
        let (realm, nonce, opaque) = ("the \"cam\"".to_owned(), "5".to_owned(), Some(String::new()));
        let asked = DigestChallenge { realm, nonce, opaque, algorithm, stale: false, qop };
        let asked = challenges([Challenge::Digest(asked).to_string().as_str()]).unwrap();
        assert!(answers.take(&asked));
        for count in 1..=3 {
            let answer = answers.answer("DESCRIBE", "rtsp://h/a?b=c").unwrap();
            let sent = authorization(&answer.to_string());
            assert!(sent.proves("DESCRIBE", "pa\"ss: w\\ord"), "{sent}");
            assert!(!sent.proves("DESCRIBE", "pass") && !sent.proves("PLAY", "pa\"ss: w\\ord"));
            let Authorization::Digest(digest) = sent else { panic!("{algorithm}") };
            assert_eq!(digest.counted.map(|(_, count)| count), qop.then_some(count));
            assert_eq!((&*digest.uri, digest.opaque), ("rtsp://h/a?b=c", Some(String::new())));
        }
    }
    assert!(answers.take(&[Challenge::Basic { realm: String::new() }]));
    assert!(answers.answer("PLAY", "x").unwrap().proves("PLAY", "pa\"ss: w\\ord"));
    assert!(!format!("{answers:?} {:?}", answers.answer("PLAY", "x")).contains("ord"));
}

#[test]
fn t39_nonces_age_and_belong_to_one_connection() {
    let start = Instant::now();
    let after = |secs| start + Duration::from_secs(secs);
    let nonces = Nonces::new(&[1; 32], start).with_lifetime(Duration::from_secs(60));
    let nonce = nonces.issue(after(10), b"1");
    assert_eq!(nonces.check(after(10), b"1", &nonce), Freshness::Fresh);
    assert_eq!(nonces.check(after(69), b"1", &nonce), Freshness::Fresh);
    assert_eq!(nonces.check(after(70), b"1", &nonce), Freshness::Stale);
    assert_eq!(nonces.check(after(10), b"2", &nonce), Freshness::Foreign);
    assert_eq!(Nonces::new(&[2; 32], start).check(after(10), b"1", &nonce), Freshness::Foreign);
    let shorter = &nonce[..nonce.len() - 2];
    let other = nonce.replacen(&nonce[15..16], if &nonce[15..16] == "f" { "e" } else { "f" }, 1);
    for forged in ["", "0", "0000000000000001", shorter, &other, &format!("{nonce}00"), &"é".repeat(40)] {
        assert_eq!(nonces.check(after(10), b"1", forged), Freshness::Foreign, "{forged}");
    }
    assert_ne!(nonces.issue(after(11), b"1"), nonce);
}
