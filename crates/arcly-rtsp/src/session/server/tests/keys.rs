//! Packets that are to be protected.

use super::*;

fn keys(byte: u8) -> Keyring {
    Keyring::new(Box::new([byte; Keyring::RANDOM]), arcly_rtp::wire::NtpTime(1))
}

/// Over a connection that nobody else reads.
fn private() -> Test {
    let mut test = Test::new();
    test.session.set_keys(keys(1));
    test
}

fn key_mgmt(keyring: &Keyring) -> KeyMgmt {
    KeyMgmt { uri: URL.to_owned(), data: keyring.message(0, 9).unwrap().to_base64() }
}

#[test]
fn keys_are_described_where_they_are_asked_for_and_told_when_media_is_set_up() {
    let mut test = private();
    let body = |response: Response| String::from_utf8(response.body.to_vec()).unwrap();
    let sdp: arcly_rtp::sdp::SessionDescription =
        body(test.ask(Request::new(Method::Describe, format!("{URL}?srtp")))).parse().unwrap();
    for (at, medium) in sdp.media.iter().enumerate() {
        let said = KeyMgmt::of_attribute(medium.attribute("key-mgmt").unwrap()).unwrap();
        let message = Message::from_base64(said).unwrap();
        assert_eq!((medium.protocol.as_str(), Some(message.key)), ("RTP/SAVP", keys(1).key(at)));
    }
    let uri = format!("{URL}/trackID=0");
    let setup = Request::new(Method::Setup, &uri).with("Transport", "RTP/SAVP/TCP;unicast;interleaved=0-1");
    let setup = test.ask(setup.with("KeyMgmt", key_mgmt(&keys(7))));
    let transport: Transport = setup.headers.get("Transport").unwrap().parse().unwrap();
    assert_eq!(transport.profile, Profile::Savp);
    let told: KeyMgmt = setup.headers.get("KeyMgmt").unwrap().parse().unwrap();
    let message = Message::from_base64(&told.data).unwrap();
    assert_eq!((told.uri, Some(&message.key)), (uri, keys(1).key(0).as_ref()));
    assert_eq!(message.sessions[0].ssrc, transport.ssrc.unwrap());
    let protection = test.session.presentation().unwrap().media[0].protection.clone().unwrap();
    assert_eq!((Some(protection.ours), protection.theirs.map(|m| m.key)), (keys(1).key(0), keys(7).key(0)));
    assert_eq!(test.status(Method::Play, URL), 200);
    assert_eq!(test.status(Method::Pause, URL), 200);
    assert_eq!(test.status(Method::Play, URL), 200);
    // Who does not ask gets none, and is not told of any.
    let mut test = private();
    let sdp = body(test.ask(Request::new(Method::Describe, URL)));
    assert!(!sdp.contains("key-mgmt") && sdp.contains("RTP/AVP"));
    let setup = test.setup(&format!("{URL}/trackID=0"), "RTP/AVP/TCP;interleaved=0-1");
    assert_eq!((setup.status.0, setup.headers.get("KeyMgmt")), (200, None));
}

#[test]
fn who_protects_with_aes_gcm_is_answered_with_it() {
    let mut test = private();
    let theirs = keys(7).message(0, 9).unwrap().of_suite(Suite::AesGcm);
    let said = KeyMgmt { uri: URL.to_owned(), data: theirs.to_base64() };
    let setup = Request::new(Method::Setup, format!("{URL}/trackID=0"));
    let setup =
        test.ask(setup.with("Transport", "RTP/SAVP/TCP;unicast;interleaved=0-1").with("KeyMgmt", said));
    let told: KeyMgmt = setup.headers.get("KeyMgmt").unwrap().parse().unwrap();
    let ours = keys(1).key(0).unwrap().of_suite(Suite::AesGcm);
    assert_eq!(Message::from_base64(&told.data).unwrap().key, ours);
    let protection = test.session.presentation().unwrap().media[0].protection.clone().unwrap();
    assert_eq!((protection.ours, protection.theirs), (ours, Some(theirs)));
}

#[test]
fn what_is_protected_needs_a_private_connection_and_keys_that_can_be_read() {
    let uri = format!("{URL}/trackID=0");
    let (tcp, udp) = ("RTP/SAVP/TCP;interleaved=0-1", "RTP/SAVP;unicast;client_port=5000-5001");
    // In the clear there are no keys.
    let mut test = Test::new();
    let described = test.ask(Request::new(Method::Describe, format!("{URL}?srtp")));
    assert!(!String::from_utf8(described.body.to_vec()).unwrap().contains("key-mgmt"));
    assert_eq!(test.setup(&uri, tcp).status.0, 461);
    // Beside what nobody else reads no datagrams go in the clear.
    let mut test = private();
    assert_eq!(test.status(Method::Describe, URL), 200);
    assert_eq!(test.setup(&uri, "RTP/AVP;unicast;client_port=5000-5001").status.0, 461);
    assert_eq!(test.setup(&uri, udp).status.0, 200);
    for wrong in
        ["", "prot=mikey", "prot=mikey;data=\"AQ==\"", "prot=other;data=\"AQ==\"", "prot=mikey;data=\"*\""]
    {
        let mut test = private();
        assert_eq!(test.status(Method::Describe, URL), 200);
        let setup = Request::new(Method::Setup, &uri).with("Transport", tcp).with("KeyMgmt", wrong);
        assert_eq!(test.ask(setup).status.0, 463, "{wrong}");
        assert_eq!(test.setup(&uri, tcp).status.0, 200, "the session goes on");
    }
}

#[test]
fn publishers_say_their_keys() {
    let message = keys(7).message(0, 9).unwrap();
    let announce =
        |attribute: &str| format!("v=0\r\nm=audio 0 RTP/SAVP 0\r\na=control:streamid=0\r\n{attribute}");
    let attribute = format!("a=key-mgmt:mikey {}\r\n", message.to_base64());
    let (uri, transport) = (format!("{URL}/streamid=0"), "RTP/SAVP/TCP;interleaved=0-1;mode=record");
    let theirs = |test: &Test| {
        let protection = test.session.presentation().unwrap().media[0].protection.clone().unwrap();
        protection.theirs.unwrap().key
    };
    let announced = |sdp: String| {
        let mut test = private();
        let request = Request::new(Method::Announce, URL).with_body("application/sdp", sdp);
        assert_eq!(test.ask(request).status.0, 200);
        test
    };
    let mut test = announced(announce(&attribute));
    assert_eq!(test.setup(&uri, transport).status.0, 200);
    assert_eq!(theirs(&test), message.key);
    let mut test = announced(announce(""));
    assert_eq!(test.setup(&uri, transport).status.0, 463);
    let setup = Request::new(Method::Setup, &uri).with("Transport", transport);
    assert_eq!(test.ask(setup.with("KeyMgmt", key_mgmt(&keys(8)))).status.0, 200);
    assert_eq!(Some(theirs(&test)), keys(8).key(0));
}
