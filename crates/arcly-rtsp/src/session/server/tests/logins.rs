//! Who is let in, and who is not.

use super::*;

/// The owner knows one login, and says no to anything else.
fn decide(test: &mut Test, request: Request) -> Response {
    let request = test.request(request);
    let now = test.now();
    let _ = test.session.handle_input(now, &request.to_bytes());
    let mut response = None;
    loop {
        match test.session.poll_output() {
            Output::Transmit(bytes) => {
                test.decoder.push(&bytes);
                if let Some(Item::Response(came)) = test.decoder.poll().unwrap() {
                    response = Some(came);
                }
            }
            Output::Event(ServerEvent::Open { proof, .. }) => {
                let proves = |proof: &Proof| proof.authorization.proves(proof.method.as_str(), "right");
                if proof.as_ref().is_some_and(proves) {
                    test.session.opened_play(now, Arc::new(Source::h264_aac().tracks()), 5);
                } else {
                    test.session.reject(now, CloseReason::Unauthorized);
                }
            }
            Output::Event(_) => {}
            Output::Wait(_) => return response.expect("an answer"),
        }
    }
}

fn login(test: &mut Test, password: &str, kept: Option<&str>) -> Response {
    let asked = decide(test, Request::new(Method::Describe, URL));
    assert_eq!(asked.status, Status::UNAUTHORIZED);
    let offered = match kept {
        Some(kept) => challenges([kept]).unwrap(),
        None => challenges(asked.headers.all("WWW-Authenticate")).unwrap(),
    };
    let mut answers = Answers::new(Login::new("ann", password), [1; 16]);
    assert!(answers.take(&offered));
    let shown = answers.answer("DESCRIBE", URL).unwrap();
    decide(test, Request::new(Method::Describe, URL).with("Authorization", shown))
}

#[test]
fn t39_logins_by_every_scheme() {
    let mut test = Test::new();
    let asked = decide(&mut test, Request::new(Method::Describe, URL));
    let offered: Vec<String> = asked.headers.all("WWW-Authenticate").map(str::to_owned).collect();
    assert_eq!(offered.len(), 3, "{offered:?}");
    for (at, offer) in offered.iter().enumerate() {
        // The nonce is the client's own: that of another connection would not do.
        let mut test = Test::new();
        let fresh = decide(&mut test, Request::new(Method::Describe, URL));
        let own = fresh.headers.all("WWW-Authenticate").nth(at).unwrap().to_owned();
        assert_eq!(login(&mut test, "wrong", Some(&own)).status, Status::UNAUTHORIZED, "{offer}");
        assert_eq!(login(&mut test, "right", Some(&own)).status, Status::OK, "{offer}");
        assert_eq!(test.session.closed(), None);
    }
}

#[test]
fn t39_a_nonce_of_somebody_else_or_of_long_ago_is_answered_with_a_fresh_one() {
    let mut test = Test::new();
    let asked = decide(&mut test, Request::new(Method::Describe, URL));
    let mine = asked.headers.all("WWW-Authenticate").next().unwrap().to_owned();
    let mut other = Test::new();
    other.session.access.random = [1; 16];
    let refused = login(&mut other, "right", Some(&mine));
    assert_eq!(refused.status, Status::UNAUTHORIZED);
    assert!(!refused.headers.get("WWW-Authenticate").unwrap().contains("stale"));
    // Old nonces of one's own are stale, and cost no login.
    let mut test = Test::new();
    let asked = decide(&mut test, Request::new(Method::Describe, URL));
    let mine = asked.headers.all("WWW-Authenticate").next().unwrap().to_owned();
    test.clock.advance(Duration::from_secs(301));
    let stale = login(&mut test, "right", Some(&mine));
    assert!(stale.headers.get("WWW-Authenticate").unwrap().contains("stale=true"));
    assert_eq!(test.session.refused_logins, 0);
}

#[test]
fn t39_eight_wrong_logins_are_enough() {
    let mut test = Test::new();
    for n in 1..=8 {
        assert_eq!(login(&mut test, "wrong", None).status, Status::UNAUTHORIZED);
        assert_eq!(test.session.closed().is_some(), n == 8, "{n}");
    }
    assert_eq!(test.session.closed(), Some(CloseReason::Unauthorized));
}

#[test]
fn refusals_are_answered_and_end_the_connection() {
    let cases = [
        (CloseReason::NotFound, 404),
        (CloseReason::Forbidden, 403),
        (CloseReason::Conflict, 409),
        (CloseReason::Overloaded, 503),
        (CloseReason::Shutdown, 503),
    ];
    for (reason, status) in cases {
        let mut test = Test::new();
        let request = test.request(Request::new(Method::Describe, URL));
        let now = test.now();
        test.session.handle_input(now, &request.to_bytes()).unwrap();
        assert!(matches!(test.session.poll_output(), Output::Event(ServerEvent::Open { .. })));
        assert!(test.session.is_undecided());
        test.session.reject(now, reason);
        let Some(Item::Response(response)) = test.drain().pop() else { panic!("no answer") };
        assert_eq!((response.status.0, test.session.closed()), (status, Some(reason)));
    }
}
