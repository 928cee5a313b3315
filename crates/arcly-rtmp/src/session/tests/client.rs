//! The client against servers that are not ours.

use super::*;
use crate::wire::UserControl;
use arcly_codec::amf0::{Object, Value};
use arcly_core::Phase;

struct ClientBench {
    now: Instant,
    client: ClientSession,
    sent: Vec<u8>,
    events: Vec<ClientEvent>,
    error: Option<SessionError>,
}

impl ClientBench {
    fn new(intent: Intent) -> Self {
        let now = Instant::now();
        let url = "rtmp://h/live/cam".parse().unwrap();
        let client = ClientSession::new(Arc::default(), url, intent, &entropy(5), now);
        Self { now, client, sent: Vec::new(), events: Vec::new(), error: None }
    }

    /// Through a plain handshake, with `connect` sent.
    fn handshaken(intent: Intent) -> Self {
        let mut bench = Self::new(intent);
        bench.receive(&[&[3][..], &[0; 2 * crate::wire::handshake::PACKET]].concat());
        bench
    }

    fn receive(&mut self, bytes: &[u8]) -> &mut Self {
        if let Err(error) = self.client.handle_input(self.now, bytes) {
            self.error = Some(error);
        }
        self.drain();
        self
    }

    fn message(&mut self, kind: MessageType, stream_id: u32, body: &[u8]) -> &mut Self {
        let mut out = BytesMut::new();
        let header = MessageHeader { csid: ChunkStreamId::COMMAND, timestamp: 0, kind, stream_id };
        encode_message(&mut out, &header, &[body], 128);
        self.receive(&out)
    }

    fn response(&mut self, response: Response) -> &mut Self {
        self.message(MessageType::CommandAmf0, 0, &response.encode().encode())
    }

    fn result(&mut self, transaction: f64, value: Value) -> &mut Self {
        self.response(Response::Result { transaction, properties: Value::Null, value })
    }

    fn drain(&mut self) -> Option<Instant> {
        loop {
            self.client.check_invariants();
            match self.client.poll_output() {
                Output::Transmit(bytes) => self.sent.extend_from_slice(&bytes),
                Output::Event(event) => self.events.push(event),
                Output::Wait(until) => return until,
            }
        }
    }

    /// Names of the commands sent so far.
    fn requests(&self) -> Vec<String> {
        let mut decoder = ChunkDecoder::new(ChunkLimits::default());
        let mut input = &self.sent[1 + 2 * crate::wire::handshake::PACKET..];
        let mut names = Vec::new();
        while let Some(message) = decoder.decode(&mut input).unwrap() {
            match ControlMessage::decode(message.kind, &message.payload).unwrap() {
                Some(ControlMessage::SetChunkSize(size)) => decoder.set_chunk_size(size),
                Some(control) => names.push(format!("{control:?}")),
                None => names.push(Invoke::decode(message.kind, &message.payload).unwrap().name.to_string()),
            }
        }
        names
    }
}

#[test]
fn publishing_says_what_encoders_say() {
    let mut bench = ClientBench::handshaken(Intent::Publish);
    bench.result(1.0, Value::Null);
    assert_eq!(bench.requests(), ["connect", "releaseStream", "FCPublish", "createStream"]);
    // A server that does not know the courtesies.
    for transaction in [2.0, 3.0] {
        bench.response(Response::Error { transaction, status: Status::bad("NetConnection.Call.Failed", "") });
    }
    bench.result(4.0, Value::Number(7.0));
    assert_eq!(bench.requests().last().unwrap(), "publish");
    bench.response(Response::status(Status::good("NetStream.Publish.Start", "")));
    assert_eq!(bench.events.last(), Some(&ClientEvent::Started { stream_id: 7 }));
    assert_eq!(bench.error, None);
    bench.client.finish(CloseReason::PeerClosed);
    bench.drain();
    assert_eq!(bench.requests()[5..], ["FCUnpublish", "deleteStream"]);
}

#[test]
fn rejections_carry_the_servers_words() {
    let denied = || Status::bad("NetConnection.Connect.Rejected", "bad\r\ntoken");
    let mut bench = ClientBench::handshaken(Intent::Publish);
    bench.response(Response::Error { transaction: 1.0, status: denied() });
    assert_eq!(bench.error, Some(SessionError::Rejected("badtoken".into())));
    assert_eq!(bench.error.as_ref().unwrap().to_string(), "rejected by upstream: badtoken");
    let mut bench = ClientBench::handshaken(Intent::Publish);
    bench.result(1.0, Value::Null).result(4.0, Value::Number(1.0));
    bench.response(Response::status(Status::bad("NetStream.Publish.BadName", "")));
    assert_eq!(bench.error, Some(SessionError::Rejected("NetStream.Publish.BadName".into())));
    // The information object in the wrong place.
    let mut bench = ClientBench::handshaken(Intent::Publish);
    let object = Value::Object(Object::new().with("description", "no"));
    let error = Invoke { name: "_error".into(), transaction: 1.0, object, arguments: vec![] };
    bench.message(MessageType::CommandAmf0, 0, &error.encode());
    assert_eq!(bench.error, Some(SessionError::Rejected("no".into())));
}

#[test]
fn the_setup_has_one_deadline() {
    let steps: &[(&str, fn(&mut ClientBench), Phase)] = &[
        ("nothing", |_| {}, Phase::Handshake),
        ("a handshake", |b| _ = b.receive(&[&[3][..], &[0; 3_072]].concat()), Phase::Command),
        (
            "connect",
            |b| _ = b.receive(&[&[3][..], &[0; 3_072]].concat()).result(1.0, Value::Null),
            Phase::Command,
        ),
    ];
    for (name, step, phase) in steps {
        let mut bench = ClientBench::new(Intent::Publish);
        bench.now += secs(5.0);
        step(&mut bench);
        assert_eq!(bench.drain(), Some(bench.now + secs(5.0)), "{name}");
        bench.now += secs(4.999);
        assert_eq!(bench.client.handle_timeout(bench.now), Ok(()));
        bench.now += secs(0.001);
        assert_eq!(bench.client.handle_timeout(bench.now), Err(SessionError::Timeout(*phase)), "{name}");
    }
}

#[test]
fn playing_starts_with_media_and_ends_with_the_stream() {
    let mut bench = ClientBench::handshaken(Intent::Play);
    bench.result(1.0, Value::Null).result(4.0, Value::Number(1.0));
    assert_eq!(bench.requests()[1], "createStream");
    bench.message(MessageType::Video, 1, VIDEO);
    assert!(matches!(
        bench.events[..],
        [ClientEvent::Connected(_), ClientEvent::Started { .. }, ClientEvent::Tag(_)]
    ));
    for end in [UserControl::StreamEof(9), UserControl::StreamEof(1)] {
        let mut out = BytesMut::new();
        ControlMessage::User(end).encode(&mut out);
        bench.receive(&out);
    }
    assert_eq!(bench.error, Some(SessionError::Ended));
}

#[test]
fn a_stream_id_that_is_none_is_refused() {
    for value in [Value::Null, Value::Number(0.0), Value::Number(f64::NAN), Value::Number(-3.0)] {
        let mut bench = ClientBench::handshaken(Intent::Publish);
        bench.result(1.0, Value::Null).result(4.0, value);
        assert!(matches!(bench.error, Some(SessionError::Unexpected { .. })), "{:?}", bench.error);
    }
}

#[test]
fn reconnect_requests_are_handed_on() {
    let mut bench = ClientBench::handshaken(Intent::Publish);
    let status = Status::good("NetConnection.Connect.ReconnectRequest", "maintenance");
    let info = status.encode().with("tcUrl", "rtmp://other/live");
    bench.result(1.0, Value::Null).response(Response::Status { status, info });
    let expect = ClientEvent::ReconnectRequest { tc_url: Some("rtmp://other/live".into()) };
    assert_eq!(bench.events.last(), Some(&expect));
}
