use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::*;

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER_KEY: &[u8] = b"another key, another key, anothe";
const NOW: u64 = 1_800_000_000;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn tokens() -> HmacTokenAuthenticator {
    let auth = HmacTokenAuthenticator::new();
    auth.with_key("a", KEY).and_then(|auth| auth.with_key("b", OTHER_KEY)).expect("good keys")
}

fn name(text: &str) -> NameRule {
    NameRule::parse(text).expect("a good rule")
}

fn publish(rule: &str) -> Claims {
    Claims::new(ActionSet::PUBLISH, name(rule))
}

fn signed(kid: &str, key: &[u8], claims: &Claims) -> String {
    mint(kid, key, claims).expect("good claims")
}

fn check(auth: &HmacTokenAuthenticator, token: &str, expect: Result<(), AuthError>, what: &str) {
    let got = auth.verify(token, Action::Publish, &StreamKey::new("live", "cam"), at(NOW));
    assert_eq!(got.map(drop), expect, "{what}");
}

#[test]
fn h16_tokens() {
    use AuthError::{Forbidden, Unauthorized};
    let auth = tokens();
    let cases = [
        ("exact", "a", KEY, publish("live/cam"), Ok(())),
        ("second key", "b", OTHER_KEY, publish("live/cam"), Ok(())),
        ("prefix", "a", KEY, publish("live/*"), Ok(())),
        ("any", "a", KEY, publish("*"), Ok(())),
        (
            "several actions",
            "a",
            KEY,
            Claims::new(ActionSet::PLAY.and(Action::Publish), name("live/cam")),
            Ok(()),
        ),
        ("window", "a", KEY, publish("live/cam").from(at(NOW)).until(at(NOW + 1)), Ok(())),
        ("expired", "a", KEY, publish("live/cam").until(at(NOW - 1)), Err(Unauthorized)),
        ("expires now", "a", KEY, publish("live/cam").until(at(NOW)), Err(Unauthorized)),
        ("nbf in future", "a", KEY, publish("live/cam").from(at(NOW + 1)), Err(Unauthorized)),
        (
            "exp beyond the clock",
            "a",
            KEY,
            Claims { expires: Some(u64::MAX), ..publish("live/cam") },
            Err(Unauthorized),
        ),
        ("other stream", "a", KEY, publish("live/cam2"), Err(Forbidden)),
        ("other app", "a", KEY, publish("liv/*"), Err(Forbidden)),
        ("below", "a", KEY, publish("live/cam/*"), Err(Forbidden)),
        ("play used to publish", "a", KEY, Claims::new(ActionSet::PLAY, name("live/cam")), Err(Forbidden)),
        ("wrong kid", "c", KEY, publish("live/cam"), Err(Unauthorized)),
        ("key of another kid", "b", KEY, publish("live/cam"), Err(Unauthorized)),
    ];
    for (what, kid, key, claims, expect) in cases {
        check(&auth, &signed(kid, key, &claims), expect, what);
    }
}

#[test]
fn h16_the_session_ends_with_the_token() {
    let token = signed("a", KEY, &publish("live/cam").until(at(NOW + 60)));
    let grant =
        tokens().verify(&token, Action::Publish, &StreamKey::new("live", "cam"), at(NOW)).expect("valid");
    assert_eq!(grant, Grant::unlimited().until(at(NOW + 60)).to("a"));
    assert!(!grant.is_expired(at(NOW + 59)));
    assert!(grant.is_expired(at(NOW + 60)));
}

#[test]
fn h16_junk_is_unauthorized() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    let auth = tokens();
    let good = signed("a", KEY, &publish("live/cam"));
    check(&auth, &good, Ok(()), "the token that is spoilt below");
    for end in 0..good.len() {
        check(&auth, &good[..end], Err(AuthError::Unauthorized), "truncated");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let spoilt = String::from_utf8(bytes).expect("ASCII");
        check(&auth, &spoilt, Err(AuthError::Unauthorized), "one character changed");
    }
    let encode = |text: &str| Base64UrlUnpadded::encode_string(text.as_bytes());
    let (claims, tag) = good.split_once('.').expect("two parts");
    let junk = [
        "eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.".to_owned(),
        format!("{claims}."),
        format!("{claims}.{tag}.{tag}"),
        format!(".{tag}"),
        format!("{good}="),
        format!("{good} "),
        encode("v1;kid=a;act=publish;name=live/cam;alg=none"),
        "A".repeat(64 * 1024),
        "é".repeat(100),
        "\0".to_owned(),
    ];
    for token in junk {
        check(&auth, &token, Err(AuthError::Unauthorized), &token);
    }
}

#[test]
fn h16_signed_claims_in_another_form_are_refused() {
    use base64ct::{Base64UrlUnpadded, Encoding};
    use hmac::{Hmac, KeyInit, Mac};
    let auth = tokens();
    let sign = |text: &str| {
        let claims = Base64UrlUnpadded::encode_string(text.as_bytes());
        let mac =
            Hmac::<sha2::Sha256>::new_from_slice(KEY).expect("any length").chain_update(claims.as_bytes());
        format!("{claims}.{}", Base64UrlUnpadded::encode_string(&mac.finalize().into_bytes()))
    };
    check(&auth, &sign("v1;kid=a;act=publish;name=live/cam"), Ok(()), "the form");
    for text in [
        "v2;kid=a;act=publish;name=live/cam",
        "v1;act=publish;kid=a;name=live/cam",
        "v1;kid=a;act=publish;name=live/cam;exp=",
        "v1;kid=a;act=publish;name=live/cam;exp=-1",
        "v1;kid=a;act=publish;name=live/cam;exp=9999999999;exp=9999999999",
        "v1;kid=a;act=publish;name=live/cam;exp=9999999999;nbf=0",
        "v1;kid=a;act=publish;name=live/cam;alg=none",
        "v1;kid=a;act=everything;name=live/cam",
        "v1;kid=a;act=;name=live/cam",
        "v1;kid=a;act=publish;name=../*",
        "v1;kid=a;act=publish;name=live/cam;once=n",
        "v1;kid=a;act=publish",
        "v1;",
        "",
    ] {
        check(&auth, &sign(text), Err(AuthError::Unauthorized), text);
    }
}

#[test]
fn h16_one_time_tokens_are_good_for_one_yes() {
    let auth = tokens();
    let once =
        |nonce: &str, seconds| signed("a", KEY, &publish("live/cam").until(at(NOW + seconds)).once(nonce));
    let token = once("n1", 60);
    let elsewhere = auth.verify(&token, Action::Publish, &StreamKey::new("live", "x"), at(NOW));
    assert_eq!(elsewhere, Err(AuthError::Forbidden));
    check(&auth, &token, Ok(()), "a refusal does not spend it");
    check(&auth, &token, Err(AuthError::Unauthorized), "replayed");
    check(&auth, &once("n2", 60), Ok(()), "another nonce");
    check(&auth, &once("n3", 3_601), Err(AuthError::Unauthorized), "longer than it can be remembered");
    let without_end = Claims { once: Some("n".into()), ..publish("live/cam") };
    assert_eq!(mint("a", KEY, &without_end), Err(RuleError::Value("exp")));
}

#[test]
fn h16_spent_tokens_are_remembered_until_they_expire_and_within_a_bound() {
    let mut used = token::UsedTokens::default();
    let tag = |n: usize| {
        let mut tag = [0; 32];
        tag[..8].copy_from_slice(&n.to_be_bytes());
        tag
    };
    for n in 0..MAX_USED_TOKENS {
        assert_eq!(used.spend(NOW, NOW + 10, tag(n)), Ok(()));
    }
    assert_eq!(used.spend(NOW, NOW + 10, tag(0)), Err(AuthError::Unauthorized));
    assert_eq!(used.spend(NOW, NOW + 10, tag(MAX_USED_TOKENS)), Err(AuthError::Unavailable), "never yes");
    assert_eq!(used.spend(NOW + 10, NOW + 20, tag(MAX_USED_TOKENS)), Ok(()), "the others have expired");
}

#[test]
fn keys_that_cannot_be_configured() {
    let with = |kid: &str, key: &[u8]| HmacTokenAuthenticator::new().with_key(kid, key).map(drop);
    assert_eq!(with("a", b"too short"), Err(RuleError::Value("key")));
    for kid in ["", "a;b", "a b", &"a".repeat(33)] {
        assert_eq!(with(kid, KEY), Err(RuleError::Value("kid")), "{kid}");
    }
    let many = (0..17).try_fold(HmacTokenAuthenticator::new(), |auth, n| auth.with_key(&n.to_string(), KEY));
    assert_eq!(many.map(drop), Err(RuleError::TooMany("keys", MAX_KEYS)));
}

#[tokio::test]
async fn tokens_are_found_wherever_a_protocol_puts_them() {
    let token = signed("a", KEY, &publish("live/cam"));
    let plain = || Credentials::new("rtmp");
    let cases = [
        (plain().with_token(&token), Ok(())),
        (plain().with_query(format!("x=1&token={token}&y")), Ok(())),
        (plain().with_login("user", &token), Ok(())),
        (plain().with_query("token="), Err(AuthError::Unauthorized)),
        (plain(), Err(AuthError::Unauthorized)),
    ];
    for (credentials, expect) in cases {
        let request = AuthRequest::new(Action::Publish, StreamKey::new("live", "cam"), credentials);
        assert_eq!(tokens().authenticate(&request).await.map(drop), expect, "{request:?}");
    }
}

#[test]
fn h18_debug_shows_no_secret() {
    let credentials =
        Credentials::new("rtmp").with_login("ann", "s3cret").with_token("t0ken").with_query("token=qu3ry");
    let request = AuthRequest::new(Action::Play, StreamKey::new("live", "cam"), credentials);
    let users =
        StaticUsers::new().with_user("ann", "s3cret", ActionSet::ALL, NameRule::ANY).expect("a good rule");
    let shown = format!("{request:?} {:?} {users:?}", tokens());
    assert!(shown.contains("ann") && shown.contains("live/cam"));
    for secret in ["s3cret", "t0ken", "qu3ry", "0123456789abcdef"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[test]
fn name_rules() {
    let cases = [
        ("*", "any/thing", true),
        ("live/cam", "live/cam", true),
        ("live/cam", "live/cam2", false),
        ("live/cam", "live/cam/x", false),
        ("cam", "live/cam", true),
        ("live/*", "live/a/b", true),
        ("live/*", "live2/a", false),
        ("live/site/*", "live/site/a", true),
        ("live/site/*", "live/site2/a", false),
        ("live/site/*", "live/site", false),
    ];
    for (rule, key, covers) in cases {
        let rule = name(rule);
        assert_eq!(rule.covers(&StreamKey::parse(key).expect("a good name")), covers, "{rule} {key}");
        assert_eq!(rule.to_string().parse(), Ok(rule));
    }
    for text in ["", "/*", "../*", "live*", "live/**", "**", "/"] {
        assert!(NameRule::parse(text).is_err(), "{text}");
    }
}

fn users() -> StaticUsers {
    StaticUsers::new()
        .with_user("studio", "right", ActionSet::PUBLISH, name("live/*"))
        .and_then(|users| users.with_user("studio", "right", ActionSet::PLAY, name("vod/one")))
        .and_then(|users| users.with_anonymous(ActionSet::PLAY, name("live/*")))
        .expect("good rules")
}

#[tokio::test]
async fn static_users() {
    use Action::{Api, Play, Publish};
    use AuthError::{Forbidden, Unauthorized};
    let long = "x".repeat(64 * 1024);
    let cases = [
        (Publish, "live/cam", Some(("studio", "right")), Ok(())),
        (Play, "vod/one", Some(("studio", "right")), Ok(())),
        (Play, "live/cam", Some(("studio", "right")), Ok(())),
        (Play, "live/cam", None, Ok(())),
        (Publish, "vod/one", Some(("studio", "right")), Err(Forbidden)),
        (Api, "live/cam", Some(("studio", "right")), Err(Forbidden)),
        (Publish, "live/cam", Some(("studio", "wrong")), Err(Unauthorized)),
        (Publish, "live/cam", Some(("studio", "")), Err(Unauthorized)),
        (Publish, "live/cam", Some(("nobody", "right")), Err(Unauthorized)),
        (Publish, "live/cam", Some((&*long, "right")), Err(Unauthorized)),
        (Publish, "live/cam", Some(("studio", &*long)), Err(Unauthorized)),
        (Publish, "live/cam", None, Err(Unauthorized)),
        (Play, "live/cam", Some(("studio", "wrong")), Err(Unauthorized)),
    ];
    for (action, key, login, expect) in cases {
        let credentials = login
            .map_or_else(|| Credentials::new("rtmp"), |(u, p)| Credentials::new("rtmp").with_login(u, p));
        let request = AuthRequest::new(action, StreamKey::parse(key).expect("a good name"), credentials);
        assert_eq!(users().authenticate(&request).await.map(drop), expect, "{action} {key}");
    }
    let in_query = Credentials::new("rtmp").with_query("user=studio&pass=right");
    let request = AuthRequest::new(Publish, StreamKey::new("live", "cam"), in_query);
    assert_eq!(users().authenticate(&request).await, Ok(Grant::unlimited().to("studio")));
}

async fn login(
    auth: &impl StreamAuthenticator,
    address: [u8; 4],
    password: &str,
) -> (Result<(), AuthError>, Duration) {
    let credentials =
        Credentials::new("rtmp").with_login("studio", password).with_remote((address, 1).into());
    let request = AuthRequest::new(Action::Publish, StreamKey::new("live", "cam"), credentials);
    let started = tokio::time::Instant::now();
    let answer = auth.authenticate(&request).await.map(drop);
    (answer, started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn h20_an_address_that_fails_five_times_waits() {
    let auth = Throttled::new(users());
    let wrong = Err(AuthError::Unauthorized);
    for _ in 0..5 {
        assert_eq!(login(&auth, [10, 0, 0, 1], "wrong").await, (wrong, Duration::ZERO));
    }
    for _ in 0..3 {
        assert_eq!(login(&auth, [10, 0, 0, 1], "wrong").await, (wrong, Duration::from_secs(1)));
    }
    assert_eq!(login(&auth, [10, 0, 0, 1], "right").await, (Ok(()), Duration::from_secs(1)));
    assert_eq!(login(&auth, [10, 0, 0, 2], "right").await, (Ok(()), Duration::ZERO), "others do not wait");
    tokio::time::advance(Duration::from_secs(60)).await;
    assert_eq!(
        login(&auth, [10, 0, 0, 1], "wrong").await,
        (wrong, Duration::ZERO),
        "forgotten after a minute"
    );
}

#[tokio::test(start_paused = true)]
async fn h20_a_thousand_at_once_wait_and_sixteen_are_examined() {
    use futures_util::future::join_all;
    let auth = Throttled::new(users());
    for _ in 0..5 {
        assert!(login(&auth, [10, 0, 0, 1], "wrong").await.0.is_err());
    }
    let answers = join_all((0..1_000).map(|_| login(&auth, [10, 0, 0, 1], "right"))).await;
    assert!(answers.iter().all(|(_, waited)| *waited >= Duration::from_secs(1)));
    assert_eq!(answers.iter().filter(|(answer, _)| answer.is_ok()).count(), 16);
    assert_eq!(login(&auth, [10, 0, 0, 1], "right").await.0, Ok(()), "the places are free again");
}

#[tokio::test(start_paused = true)]
async fn h20_a_peer_that_shows_nothing_is_only_asked_for_credentials() {
    let auth = Throttled::new(users());
    for _ in 0..20 {
        let request = AuthRequest::new(
            Action::Publish,
            StreamKey::new("live", "cam"),
            Credentials::new("rtmp").with_remote(([10, 0, 0, 1], 1).into()),
        );
        assert_eq!(auth.authenticate(&request).await, Err(AuthError::Unauthorized));
    }
    assert_eq!(login(&auth, [10, 0, 0, 1], "right").await, (Ok(()), Duration::ZERO));
}

#[test]
fn h20_the_table_and_the_waiting_are_bounded() {
    let throttle = LoginThrottle::new();
    let start = Instant::now();
    let address = |n: u32| IpAddr::V4(Ipv4Addr::from_bits(n));
    for n in 0..5_000 {
        for _ in 0..5 {
            throttle.failed(start + Duration::from_millis(n.into()), address(n));
        }
    }
    assert_eq!(throttle.len(), 4_096);
    let now = start + Duration::from_secs(10);
    assert_eq!(throttle.admit(now, address(0)).delay, Duration::ZERO, "the oldest made room");
    let mut waiting: Vec<_> = (0..4_096).map(|_| throttle.admit(now, address(4_999))).collect();
    assert!(waiting.iter().all(|admission| admission.delay == Duration::from_secs(1)));
    let refused = throttle.admit(now, address(4_998));
    assert_eq!((refused.delay, refused.examine), (Duration::ZERO, false));
    waiting.truncate(4_095);
    assert!(throttle.admit(now, address(4_998)).examine);
}

#[test]
fn h20_one_network_is_one_address() {
    let throttle = LoginThrottle::new();
    let now = Instant::now();
    let pairs = [("2001:db8::1", "2001:db8::ffff"), ("::ffff:192.0.2.1", "192.0.2.1")];
    for (failing, same) in
        pairs.map(|(a, b)| (a.parse().expect("an address"), b.parse().expect("an address")))
    {
        (0..5).for_each(|_| throttle.failed(now, failing));
        assert_eq!(throttle.admit(now, same).delay, Duration::from_secs(1));
    }
    let other = "2001:db8:0:1::1".parse().expect("an address");
    assert_eq!(throttle.admit(now, other).delay, Duration::ZERO);
}

#[tokio::test]
async fn a_password_is_proved_without_showing_it() {
    let users = StaticUsers::new()
        .with_user("ann", "right", ActionSet::PLAY, NameRule::parse("live/*").unwrap())
        .unwrap();
    let ask = async |user: &'static str, knows: &'static str, action| {
        let proof = LoginProof::new(user, move |password| password == knows);
        let credentials = Credentials::new("rtsp").with_proof(proof);
        assert!(!credentials.is_anonymous());
        assert!(knows.is_empty() || !format!("{credentials:?}").contains(knows));
        users.authenticate(&AuthRequest::new(action, StreamKey::new("live", "cam"), credentials)).await
    };
    assert_eq!(ask("ann", "right", Action::Play).await.unwrap().subject.as_deref(), Some("ann"));
    assert_eq!(ask("ann", "right", Action::Publish).await, Err(AuthError::Forbidden));
    assert_eq!(ask("ann", "wrong", Action::Play).await, Err(AuthError::Unauthorized));
    assert_eq!(ask("bob", "right", Action::Play).await, Err(AuthError::Unauthorized));
    assert_eq!(ask("bob", "", Action::Play).await, Err(AuthError::Unauthorized), "nobody has no password");
}
