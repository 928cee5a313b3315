//! Players that want to be heard.

use super::*;

const TALK: &str = "www.onvif.org/ver20/backchannel";

fn intercom() -> Test {
    Test::with(SessionConfig { back_channel: Some("talk".to_owned()), ..SessionConfig::default() })
}

#[test]
fn who_requires_a_back_channel_is_described_one_and_heard_while_playing() {
    let mut test = intercom();
    let described = test.ask(Request::new(Method::Describe, URL).with("Require", TALK));
    let sdp: arcly_rtp::sdp::SessionDescription = str::from_utf8(&described.body).unwrap().parse().unwrap();
    let back = sdp.media.last().unwrap();
    assert_eq!((sdp.media.len(), back.kind.as_str(), back.attribute("sendonly")), (3, "audio", Some("")));
    assert_eq!((back.formats.join(" ").as_str(), back.attribute("control")), ("0 8", Some("trackID=2")));
    assert!(sdp.media[..2].iter().all(|medium| medium.attribute("sendonly").is_none()));
    test.events.clear();
    assert_eq!(test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP;interleaved=0-1").status.0, 200);
    assert_eq!(test.setup(&format!("{URL}/trackID=2"), "RTP/AVP/TCP;interleaved=4-5").status.0, 200);
    let Some(ServerEvent::Open { intent: Intent::Publish, target, .. }) = test.events.pop() else { panic!() };
    assert_eq!(target.key.as_str(), "live/cam/talk");
    // Before it plays nobody listens.
    let frame =
        |channel, payload: &'static [u8]| Frame { channel, payload: Bytes::from_static(payload) }.to_bytes();
    test.raw(&frame(4, b"early"));
    assert!(test.events.is_empty());
    let play = test.ask(Request::new(Method::Play, URL).with("Require", TALK));
    assert_eq!(play.headers.get("RTP-Info").unwrap().matches("url=").count(), 1, "of what is sent to it");
    test.events.clear();
    test.raw(&[frame(4, b"word"), frame(5, b"report"), frame(0, b"not ours")].concat());
    let packet =
        |control, packet| ServerEvent::Packet { medium: 2, control, packet: Bytes::from_static(packet) };
    assert_eq!(test.events, [packet(false, b"word"), packet(true, b"report")]);
}

#[test]
fn who_may_not_talk_may_listen() {
    let mut test = intercom();
    assert_eq!(test.ask(Request::new(Method::Describe, URL).with("Require", TALK)).status.0, 200);
    let setup = Request::new(Method::Setup, format!("{URL}/trackID=2"));
    let setup = test.request(setup.with("Transport", "RTP/AVP/TCP;interleaved=4-5"));
    let now = test.now();
    test.session.handle_input(now, &setup.to_bytes()).unwrap();
    assert!(matches!(test.session.poll_output(), Output::Event(ServerEvent::Open { .. })));
    test.session.reject(now, CloseReason::Conflict);
    let items = test.drain();
    assert!(
        matches!(&items[..], [Item::Response(response)] if response.status == Status::CONFLICT),
        "{items:?}"
    );
    assert_eq!(test.session.closed(), None);
    assert_eq!(test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP;interleaved=0-1").status.0, 200);
    assert_eq!(test.status(Method::Play, URL), 200);
    // One alone may talk and not listen.
    let mut test = intercom();
    assert_eq!(test.ask(Request::new(Method::Describe, URL).with("Require", TALK)).status.0, 200);
    assert_eq!(test.setup(&format!("{URL}/trackID=2"), "RTP/AVP/TCP;interleaved=4-5").status.0, 200);
    assert_eq!(test.status(Method::Play, URL), 200);
}

#[test]
fn what_is_required_and_not_known_is_named() {
    let unsupported = |test: &mut Test, required: &str| {
        let answer = test.ask(Request::new(Method::Describe, URL).with("Require", required));
        assert_eq!(answer.status, Status::OPTION_NOT_SUPPORTED, "{required}");
        answer.headers.all("Unsupported").map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(unsupported(&mut Test::new(), TALK), [TALK], "there is none unless it is configured");
    assert_eq!(unsupported(&mut intercom(), &format!("{TALK}, play.basic")), ["play.basic"]);
    let mut test = intercom();
    let plain = test.ask(Request::new(Method::Describe, URL));
    assert!(
        !str::from_utf8(&plain.body).unwrap().contains("sendonly"),
        "nobody is described what it did not ask for"
    );
    let after = test.ask(Request::new(Method::Describe, URL).with("Require", TALK));
    assert!(str::from_utf8(&after.body).unwrap().contains("sendonly"));
}
