//! Commands (RTMP 1.0, 7.2), and the ones that only encoders and servers in the field know.
//!
//! [`Invoke`] is any command as it is on the wire. [`Request`] is what clients send, [`Response`] what servers
//! send, typed. Fields that are missing at the end of a command have their defaults, because encoders leave
//! them out; a name that is not text is an empty one, which the session refuses.

use std::sync::Arc;

use arcly_codec::amf0::{self, Object, Value};
use arcly_core::via::{self, Via};
use arcly_core::wire::{DecodeError, DecodeResult};

use super::capability::Capabilities;
use super::message::MessageType;

/// A command: name, transaction, and whatever follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Invoke {
    /// `connect`, `_result`, `onStatus`, …
    pub name: Arc<str>,
    /// Ties a result to its request; 0 where none is expected.
    pub transaction: f64,
    /// The command object, mostly null.
    pub object: Value,
    /// The rest.
    pub arguments: Vec<Value>,
}

impl Invoke {
    /// A command without a command object.
    #[must_use]
    pub fn new(name: &str, transaction: f64, arguments: Vec<Value>) -> Self {
        Self { name: name.into(), transaction, object: Value::Null, arguments }
    }

    /// Decodes the body of a command message, AMF0 or AMF3 (which is AMF0 after one byte).
    ///
    /// # Errors
    /// The values are malformed or over a limit, or the first is not a name.
    pub fn decode(kind: MessageType, payload: &[u8]) -> DecodeResult<Self> {
        let mut values = amf0::decode_all(amf_body(kind, payload))?.into_iter();
        let Some(Value::String(name)) = values.next() else {
            return Err(DecodeError::Malformed { what: "command name", offset: 0 });
        };
        let transaction = values.next().and_then(|v| v.as_number()).unwrap_or_default();
        let object = values.next().unwrap_or(Value::Null);
        Ok(Self { name, transaction, object, arguments: values.collect() })
    }

    /// The body of an AMF0 command message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        Value::String(Arc::clone(&self.name)).encode(&mut out);
        Value::Number(self.transaction).encode(&mut out);
        self.object.encode(&mut out);
        self.arguments.iter().for_each(|value| value.encode(&mut out));
        out
    }

    fn text(&self, index: usize) -> Arc<str> {
        match self.arguments.get(index) {
            Some(Value::String(text)) => Arc::clone(text),
            other => other.and_then(Value::as_str).unwrap_or_default().into(),
        }
    }

    fn number(&self, index: usize) -> Option<f64> {
        self.arguments.get(index).and_then(Value::as_number)
    }

    fn truth(&self, index: usize) -> Option<bool> {
        self.arguments.get(index).and_then(Value::as_bool)
    }
}

/// The AMF0 values of a message of an AMF3 type follow a byte that selects the format.
#[must_use]
pub fn amf_body(kind: MessageType, payload: &[u8]) -> &[u8] {
    match (kind, payload) {
        (MessageType::CommandAmf3 | MessageType::DataAmf3, [0, rest @ ..]) => rest,
        _ => payload,
    }
}

/// What a client says about itself in `connect`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Connect {
    /// The application; may have several segments, and a query.
    pub app: Arc<str>,
    /// The URL of the application.
    pub tc_url: Arc<str>,
    /// The program, such as `FMLE/3.0 (compatible; Lavf59.27.100)`.
    pub flash_ver: Arc<str>,
    /// `nonprivate` from encoders.
    pub kind: Option<Arc<str>>,
    /// 0 or 3, the AMF version that commands use.
    pub object_encoding: f64,
    /// What the client can do.
    pub capabilities: Capabilities,
    /// Of a relay: where the stream that it publishes has come through, or the streams that it feeds with what it
    /// plays. Servers that do not know the property ignore it.
    pub via: Via,
}

impl Connect {
    fn decode(object: &Object) -> Self {
        let text = |key: &str| Arc::<str>::from(object.str(key).unwrap_or_default());
        Self {
            app: text("app"),
            tc_url: text("tcUrl"),
            flash_ver: text("flashVer"),
            kind: object.str("type").map(Arc::from),
            object_encoding: object.number("objectEncoding").unwrap_or_default(),
            capabilities: Capabilities::decode(object),
            via: object.str(via::PROPERTY).map(Via::decode).unwrap_or_default(),
        }
    }

    fn encode(&self) -> Object {
        let mut object = Object::new().with("app", Arc::clone(&self.app));
        if let Some(kind) = &self.kind {
            object = object.with("type", Arc::clone(kind));
        }
        object = object.with("flashVer", Arc::clone(&self.flash_ver)).with("tcUrl", Arc::clone(&self.tc_url));
        if self.object_encoding != 0.0 {
            object = object.with("objectEncoding", self.object_encoding);
        }
        self.capabilities.encode(&mut object);
        if !self.via.is_empty() {
            object = object.with(via::PROPERTY, self.via.to_string().as_str());
        }
        object
    }
}

/// What a client asks for.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Request {
    /// `connect`.
    Connect(Box<Connect>),
    /// `createStream`.
    CreateStream,
    /// `publish`: the name, and `live`, `record` or `append`.
    Publish {
        /// The stream's name, perhaps with a query.
        name: Arc<str>,
        /// How it is to be stored, which is not the client's to decide.
        kind: Arc<str>,
    },
    /// `play`.
    Play {
        /// The stream's name, perhaps with a query.
        name: Arc<str>,
        /// Seconds; −1 live only, −2 live or recorded.
        start: f64,
    },
    /// `play2`, which nobody sends any more; the name in its parameters.
    Play2 {
        /// The stream's name.
        name: Arc<str>,
    },
    /// `deleteStream`: the id.
    DeleteStream(u32),
    /// `closeStream`: the stream that carries the command.
    CloseStream,
    /// `pause`: true to pause, false to go on.
    Pause {
        /// Pause, or resume.
        pause: bool,
        /// Where, in milliseconds.
        ms: f64,
    },
    /// `seek`, in milliseconds.
    Seek(f64),
    /// `receiveAudio`.
    ReceiveAudio(bool),
    /// `receiveVideo`.
    ReceiveVideo(bool),
    /// `releaseStream`: forget a publisher of that name.
    ReleaseStream(Arc<str>),
    /// `FCPublish`: a publish of that name is about to come.
    FcPublish(Arc<str>),
    /// `FCUnpublish`: the publish is over.
    FcUnpublish(Arc<str>),
    /// `FCSubscribe`: a play of that name is about to come.
    FcSubscribe(Arc<str>),
    /// `FCUnsubscribe`.
    FcUnsubscribe(Arc<str>),
    /// `getStreamLength`, in seconds; 0 for live streams.
    GetStreamLength(Arc<str>),
    /// `_checkbw`, `checkBandwidth`.
    CheckBandwidth,
    /// `_result`, `_error`, `onStatus` and other answers that clients have no business sending but do.
    Answer,
    /// Anything else.
    Other(Arc<str>),
}

impl Request {
    /// What a command asks for; never fails, because missing fields have defaults.
    #[must_use]
    pub fn decode(invoke: &Invoke) -> Self {
        match &*invoke.name {
            "connect" => {
                Self::Connect(Box::new(invoke.object.as_object().map(Connect::decode).unwrap_or_default()))
            }
            "createStream" => Self::CreateStream,
            "publish" => Self::Publish { name: invoke.text(0), kind: invoke.text(1) },
            "play" => Self::Play { name: invoke.text(0), start: invoke.number(1).unwrap_or(-2.0) },
            "play2" => {
                let parameters = invoke.arguments.first().and_then(Value::as_object);
                Self::Play2 { name: parameters.and_then(|p| p.str("streamName")).unwrap_or_default().into() }
            }
            "deleteStream" => Self::DeleteStream(invoke.number(0).map_or(0, stream_id)),
            "closeStream" => Self::CloseStream,
            "pause" | "pauseRaw" => Self::Pause {
                pause: invoke.truth(0).unwrap_or(true),
                ms: invoke.number(1).unwrap_or_default(),
            },
            "seek" => Self::Seek(invoke.number(0).unwrap_or_default()),
            "receiveAudio" => Self::ReceiveAudio(invoke.truth(0).unwrap_or(true)),
            "receiveVideo" => Self::ReceiveVideo(invoke.truth(0).unwrap_or(true)),
            "releaseStream" => Self::ReleaseStream(invoke.text(0)),
            "FCPublish" => Self::FcPublish(invoke.text(0)),
            "FCUnpublish" => Self::FcUnpublish(invoke.text(0)),
            "FCSubscribe" => Self::FcSubscribe(invoke.text(0)),
            "FCUnsubscribe" => Self::FcUnsubscribe(invoke.text(0)),
            "getStreamLength" => Self::GetStreamLength(invoke.text(0)),
            "_checkbw" | "checkBandwidth" => Self::CheckBandwidth,
            "_result" | "_error" | "onStatus" | "onBWDone" => Self::Answer,
            _ => Self::Other(Arc::clone(&invoke.name)),
        }
    }

    /// The command that asks for it.
    #[must_use]
    pub fn encode(&self, transaction: f64) -> Invoke {
        let text = |name: &Arc<str>| vec![Value::String(Arc::clone(name))];
        let (name, arguments) = match self {
            Self::Connect(connect) => {
                let object = Value::Object(connect.encode());
                return Invoke { name: "connect".into(), transaction, object, arguments: Vec::new() };
            }
            Self::CreateStream => ("createStream", vec![]),
            Self::Publish { name, kind } => {
                ("publish", vec![Value::String(Arc::clone(name)), Value::String(Arc::clone(kind))])
            }
            Self::Play { name, start } => ("play", vec![Value::String(Arc::clone(name)), (*start).into()]),
            Self::Play2 { name } => {
                ("play2", vec![Value::Object(Object::new().with("streamName", Arc::clone(name)))])
            }
            Self::DeleteStream(id) => ("deleteStream", vec![(*id).into()]),
            Self::CloseStream => ("closeStream", vec![]),
            Self::Pause { pause, ms } => ("pause", vec![(*pause).into(), (*ms).into()]),
            Self::Seek(ms) => ("seek", vec![(*ms).into()]),
            Self::ReceiveAudio(on) => ("receiveAudio", vec![(*on).into()]),
            Self::ReceiveVideo(on) => ("receiveVideo", vec![(*on).into()]),
            Self::ReleaseStream(name) => ("releaseStream", text(name)),
            Self::FcPublish(name) => ("FCPublish", text(name)),
            Self::FcUnpublish(name) => ("FCUnpublish", text(name)),
            Self::FcSubscribe(name) => ("FCSubscribe", text(name)),
            Self::FcUnsubscribe(name) => ("FCUnsubscribe", text(name)),
            Self::GetStreamLength(name) => ("getStreamLength", text(name)),
            Self::CheckBandwidth => ("_checkbw", vec![]),
            Self::Answer => ("_result", vec![]),
            Self::Other(name) => return Invoke::new(name, transaction, vec![]),
        };
        Invoke::new(name, transaction, arguments)
    }
}

/// A message stream id that AMF carries as a double; what is not one becomes 0, the connection itself.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and NaN becomes 0"
)]
#[must_use]
pub fn stream_id(number: f64) -> u32 {
    number as u32
}

/// An information object: what became of something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// `status`, `warning` or `error`.
    pub level: Arc<str>,
    /// `NetStream.Publish.Start` and the like.
    pub code: Arc<str>,
    /// For people.
    pub description: Arc<str>,
}

impl Status {
    /// Good news.
    #[must_use]
    pub fn good(code: &str, description: &str) -> Self {
        Self { level: "status".into(), code: code.into(), description: description.into() }
    }

    /// Bad news.
    #[must_use]
    pub fn bad(code: &str, description: &str) -> Self {
        Self { level: "error".into(), code: code.into(), description: description.into() }
    }

    /// True for bad news.
    #[must_use]
    pub fn is_error(&self) -> bool {
        &*self.level == "error"
    }

    fn decode(object: &Object) -> Self {
        let text = |key: &str| Arc::<str>::from(object.str(key).unwrap_or_default());
        Self { level: text("level"), code: text("code"), description: text("description") }
    }

    /// The information object.
    #[must_use]
    pub fn encode(&self) -> Object {
        Object::new()
            .with("level", Arc::clone(&self.level))
            .with("code", Arc::clone(&self.code))
            .with("description", Arc::clone(&self.description))
    }
}

/// What a server answers or reports.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Response {
    /// `_result`.
    Result {
        /// The transaction of the request.
        transaction: f64,
        /// The properties, of `connect`; null otherwise.
        properties: Value,
        /// The result.
        value: Value,
    },
    /// `_error`.
    Error {
        /// The transaction of the request.
        transaction: f64,
        /// What went wrong.
        status: Status,
    },
    /// `onStatus`.
    Status {
        /// What happened.
        status: Status,
        /// The whole information object, with whatever else it says (`tcUrl` of a reconnect request).
        info: Object,
    },
    /// `onBWDone`, `onFCPublish`, `close` and the rest.
    Other(Arc<str>),
}

impl Response {
    /// What a command from a server says.
    #[must_use]
    pub fn decode(invoke: Invoke) -> Self {
        let info = invoke.arguments.iter().find_map(Value::as_object);
        match &*invoke.name {
            "_result" => Self::Result {
                transaction: invoke.transaction,
                properties: invoke.object,
                value: invoke.arguments.into_iter().next().unwrap_or(Value::Null),
            },
            // Some servers put the information object where the command object belongs.
            "_error" => Self::Error {
                transaction: invoke.transaction,
                status: info.or(invoke.object.as_object()).map_or_else(unexplained, Status::decode),
            },
            "onStatus" => {
                let info = info.cloned().unwrap_or_default();
                Self::Status { status: Status::decode(&info), info }
            }
            _ => Self::Other(invoke.name),
        }
    }

    /// The command that says it.
    #[must_use]
    pub fn encode(self) -> Invoke {
        match self {
            Self::Result { transaction, properties, value } => {
                Invoke { name: "_result".into(), transaction, object: properties, arguments: vec![value] }
            }
            Self::Error { transaction, status } => {
                Invoke::new("_error", transaction, vec![Value::Object(status.encode())])
            }
            Self::Status { info, .. } => Invoke::new("onStatus", 0.0, vec![Value::Object(info)]),
            Self::Other(name) => Invoke::new(&name, 0.0, vec![]),
        }
    }

    /// `onStatus` with nothing but the status in it.
    #[must_use]
    pub fn status(status: Status) -> Self {
        let info = status.encode();
        Self::Status { status, info }
    }
}

fn unexplained() -> Status {
    Status::bad("", "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ChunkDecoder, ChunkLimits, Message};

    fn first_message(wire: &[u8]) -> Message {
        ChunkDecoder::new(ChunkLimits::default()).decode(&mut &wire[..]).unwrap().unwrap()
    }

    fn captured_connect(wire: &[u8]) -> Connect {
        let message = first_message(wire);
        let invoke = Invoke::decode(message.kind, &message.payload).unwrap();
        assert_eq!(invoke.transaction, 1.0);
        match Request::decode(&invoke) {
            Request::Connect(connect) => *connect,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn connects_of_real_programs() {
        let connect = captured_connect(include_bytes!("../../tests/captures/ffmpeg_5.1.9_connect.bin"));
        assert_eq!((&*connect.app, connect.kind.as_deref()), ("live", Some("nonprivate")));
        assert_eq!(&*connect.flash_ver, "FMLE/3.0 (compatible; Lavf59.27.100)");
        assert!(connect.capabilities.is_legacy());
        let connect = captured_connect(include_bytes!("../../tests/captures/ffmpeg_9.0.2_play_connect.bin"));
        assert_eq!(&*connect.tc_url, "rtmp://127.0.0.1:19350/live");
        let accepts = |fourcc: &[u8; 4]| connect.capabilities.accepts(arcly_core::FourCc(*fourcc));
        assert!(accepts(b"hvc1") && accepts(b"av01") && accepts(b"vp09") && accepts(b"Opus"));
        assert!(!accepts(b"vvc1"));
        let connect = captured_connect(include_bytes!("../../tests/captures/rtmpdump_2.4_connect.bin"));
        assert_eq!((&*connect.flash_ver, connect.kind), ("LNX 10,0,32,18", None));
        let connect = captured_connect(include_bytes!("../../tests/captures/gst_1.22_rtmp2sink_connect.bin"));
        assert_eq!(&*connect.app, "live");
    }

    fn requests() -> Vec<Request> {
        let name = || Arc::<str>::from("cam?token=x");
        let connect = Connect {
            app: "live".into(),
            tc_url: "rtmp://h/live".into(),
            object_encoding: 3.0,
            via: Via::decode("00000000000000ff,0123456789abcdef"),
            ..Connect::default()
        };
        vec![
            Request::Connect(Box::new(connect)),
            Request::CreateStream,
            Request::Publish { name: name(), kind: "live".into() },
            Request::Play { name: name(), start: -1.0 },
            Request::Play2 { name: name() },
            Request::DeleteStream(7),
            Request::CloseStream,
            Request::Pause { pause: false, ms: 3.0 },
            Request::Seek(1_000.0),
            Request::ReceiveAudio(false),
            Request::ReceiveVideo(true),
            Request::ReleaseStream(name()),
            Request::FcPublish(name()),
            Request::FcUnpublish(name()),
            Request::FcSubscribe(name()),
            Request::FcUnsubscribe(name()),
            Request::GetStreamLength(name()),
            Request::CheckBandwidth,
            Request::Answer,
            Request::Other("setPlaylist".into()),
        ]
    }

    #[test]
    fn requests_round_trip_and_no_prefix_panics() {
        for request in requests() {
            let body = request.encode(4.0).encode();
            for (kind, payload) in [
                (MessageType::CommandAmf0, body.clone()),
                (MessageType::CommandAmf3, [&[0][..], &body].concat()),
            ] {
                let invoke = Invoke::decode(kind, &payload).unwrap();
                assert_eq!((Request::decode(&invoke), invoke.transaction), (request.clone(), 4.0));
            }
            for end in 0..body.len() {
                let _ = Invoke::decode(MessageType::CommandAmf0, &body[..end]).map(|i| Request::decode(&i));
            }
        }
    }

    #[test]
    fn responses_round_trip() {
        let status = Status::bad("NetStream.Publish.BadName", "no");
        let cases = [
            Response::Result { transaction: 2.0, properties: Value::Null, value: Value::Number(1.0) },
            Response::Error { transaction: 1.0, status: status.clone() },
            Response::status(status),
            Response::Other("onBWDone".into()),
        ];
        for response in cases {
            let body = response.clone().encode().encode();
            assert_eq!(Response::decode(Invoke::decode(MessageType::CommandAmf0, &body).unwrap()), response);
        }
    }

    #[test]
    fn stream_ids_out_of_range_are_the_connection() {
        for (number, id) in [(1.0, 1), (0.0, 0), (-1.0, 0), (f64::NAN, 0), (1e300, u32::MAX)] {
            assert_eq!(stream_id(number), id);
        }
    }
}
