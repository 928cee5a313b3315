//! Targets over `arcly-webrtc`.

use arcly_webrtc::WebRtcUrl;
use arcly_webrtc::wire::{
    Answer, BindingRequest, Deframer, DtlsUse, Fragment, Kind, MAX_ANSWER_BYTES, MAX_CANDIDATES,
    MAX_FRAME_BYTES, MAX_OFFER_BYTES, Offer, Role, frame,
};
use bytes::{Bytes, BytesMut};

crate::targets!(webrtc_datagram, webrtc_frames, webrtc_offer, webrtc_answer, webrtc_fragment, webrtc_url);

/// A datagram that is a check says whose, and is none when a byte of it is missing.
pub fn webrtc_datagram(data: &[u8]) {
    let kind = Kind::of(data);
    // What is of no use, or data, is that whatever comes behind it.
    let (of_use, more) = (DtlsUse::of(data), DtlsUse::of(&[data, &[0; 20]].concat()));
    assert!(of_use != DtlsUse::Nothing || more == DtlsUse::Nothing);
    let Ok(request) = BindingRequest::decode(data) else { return };
    assert_eq!(kind, Some(Kind::Stun));
    assert!(!request.local.contains(':') && request.local.len() + request.remote.len() < data.len());
    assert!(BindingRequest::decode(&data[..data.len() - 1]).is_err());
}

/// The datagrams of a connection that comes in these pieces, and whether it could be understood to its end.
fn datagrams<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Bytes>, bool) {
    let (mut deframer, mut out) = (Deframer::default(), Vec::new());
    for piece in pieces {
        deframer.handle_bytes(piece);
        loop {
            match deframer.poll_datagram() {
                Ok(Some(datagram)) => out.push(datagram),
                Ok(None) => break,
                Err(_) => return (out, false),
            }
        }
    }
    (out, true)
}

/// A connection has the same datagrams however it is cut, and again when they are framed anew.
pub fn webrtc_frames(data: &[u8]) {
    let Some((cut, bytes)) = data.split_first() else { return };
    let whole = datagrams(std::iter::once(bytes));
    assert_eq!(datagrams(bytes.chunks(usize::from(*cut).max(1))), whole);
    let mut again = BytesMut::new();
    for datagram in &whole.0 {
        assert!(!datagram.is_empty() && datagram.len() <= MAX_FRAME_BYTES);
        assert!(frame(datagram, &mut again));
    }
    assert_eq!(datagrams(std::iter::once(&*again)), (whole.0, true));
}

/// What is handed on of an offer is an offer with the same credentials, and stays what it is when it is looked over again.
pub fn webrtc_offer(data: &[u8]) {
    for role in [Role::Publisher, Role::Viewer] {
        let Ok(offer) = Offer::decode(role, data) else { continue };
        assert!(offer.as_str().lines().all(|line| !line.starts_with("a=candidate") && line != "a=sendrecv"));
        if offer.as_str().len() > MAX_OFFER_BYTES {
            continue;
        }
        let again = Offer::decode(role, offer.as_str().as_bytes()).expect("it has been looked over");
        assert_eq!(again, offer);
        assert_eq!(offer.restarted(offer.credentials().clone()).credentials(), offer.credentials());
    }
}

/// What is gone by of an answer is an answer with the same candidates, and stays what it is when it is looked over again; of its
/// candidates none is where nothing may be sent.
pub fn webrtc_answer(data: &[u8]) {
    for role in [Role::Publisher, Role::Viewer] {
        let Ok(answer) = Answer::decode(role, data, |ip| !ip.is_loopback()) else { continue };
        let lines = answer.as_str().lines().filter(|line| line.starts_with("a=candidate:"));
        assert_eq!(lines.count(), answer.candidates().len());
        assert!((1..=MAX_CANDIDATES).contains(&answer.candidates().len()));
        assert!(answer.candidates().iter().all(|at| !at.socket.ip().is_loopback() && at.socket.port() != 0));
        assert!(answer.as_str().lines().all(|line| line != "a=sendrecv"));
        if answer.as_str().len() > MAX_ANSWER_BYTES {
            continue;
        }
        let again =
            Answer::decode(role, answer.as_str().as_bytes(), |_| true).expect("it has been looked over");
        assert_eq!(again, answer);
    }
}

/// A URL is shown without its secrets, and leads to the same place when it is read again.
pub fn webrtc_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(url) = text.parse::<WebRtcUrl>() else { return };
    assert!(!url.host().is_empty() && url.port() != 0);
    assert!(url.endpoint().username().is_empty() && url.endpoint().password().is_none());
    let shown: WebRtcUrl = url.to_string().parse().expect("what is shown is a URL");
    assert_eq!((shown.role(), shown.host(), shown.port()), (url.role(), url.host(), url.port()));
    assert_eq!(shown.endpoint().path(), url.endpoint().path());
    assert_eq!((shown.login(), shown.endpoint().query()), (None, None));
}

/// A fragment has few candidates, and its credentials survive.
pub fn webrtc_fragment(data: &[u8]) {
    let Ok(fragment) = Fragment::decode(data) else { return };
    assert!(fragment.candidates <= MAX_CANDIDATES);
    let again = Fragment::decode(fragment.to_string().as_bytes()).expect("it is one of ours");
    assert_eq!((again.credentials, again.is_last), (fragment.credentials, fragment.is_last));
    if let Ok(text) = std::str::from_utf8(data) {
        assert!(Fragment::of_answer(text).lines().filter(|line| line.starts_with("m=")).count() <= 1);
    }
}
