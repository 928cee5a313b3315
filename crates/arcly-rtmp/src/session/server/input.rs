//! What a client sends, message by message.

use std::time::Instant;

use arcly_codec::amf0::{Object, Value};
use arcly_core::key::NameError;

use super::{Role, ServerEvent, ServerSession, State, Stream, StreamId};
use crate::error::SessionError;
use crate::session::link::Tag;
use crate::session::target::Target;
use crate::wire::aggregate::Aggregate;
use crate::wire::{
    Connect, ControlMessage, Invoke, Message, MessageType, Request, Response, Status, UserControl,
};

impl ServerSession {
    pub(super) fn advance(&mut self, now: Instant, mut input: &[u8]) -> Result<(), SessionError> {
        if let State::Handshake(handshake) = &mut self.state {
            let progress = handshake.advance(&mut input).map_err(|error| self.wire(error))?;
            if let Some(bytes) = progress.transmit {
                self.link.raw(&bytes);
            }
            if progress.done {
                self.state = State::Connecting;
            }
        }
        while !input.is_empty() && !matches!(self.state, State::Closed(_)) {
            let Some(message) = self.link.decode(&mut input).map_err(|error| self.wire(error))? else {
                break;
            };
            self.handle_message(now, message)?;
        }
        self.link.settle(now)
    }

    fn handle_message(&mut self, now: Instant, message: Message) -> Result<(), SessionError> {
        match message.kind {
            MessageType::CommandAmf0 | MessageType::CommandAmf3 => self.handle_command(now, &message),
            MessageType::Audio | MessageType::Video | MessageType::DataAmf0 | MessageType::DataAmf3 => {
                self.handle_tag(message)
            }
            MessageType::Aggregate => {
                for part in Aggregate::new(&message) {
                    self.handle_tag(part.map_err(|error| self.wire(error))?)?;
                }
                Ok(())
            }
            // Shared objects and the like: counted, so that they are no cheaper to send than commands.
            MessageType::Other(_) => self.link.count_command(now),
            kind => {
                let control =
                    ControlMessage::decode(kind, &message.payload).map_err(|error| self.wire(error))?;
                if let Some(control) = control {
                    self.link.handle_control(now, control)?;
                }
                Ok(())
            }
        }
    }

    fn handle_tag(&mut self, message: Message) -> Result<(), SessionError> {
        if !matches!(self.state, State::Ready) {
            return Err(self.unexpected("media before connect"));
        }
        let stream = StreamId(message.stream_id);
        let tag =
            if self.role(stream).is_some_and(Role::takes_tags) { Tag::from_message(message) } else { None };
        if let Some(tag) = tag {
            self.bad_tags = 0;
            self.events.push_back(ServerEvent::Tag { stream, tag });
            return Ok(());
        }
        // Players send the odd data message, and encoders empty audio at the end; a row of them is no stream.
        self.bad_tags = self.bad_tags.saturating_add(1);
        if self.bad_tags > self.link.limits().bad_tags {
            return Err(self.unexpected("media messages without media"));
        }
        Ok(())
    }

    fn handle_command(&mut self, now: Instant, message: &Message) -> Result<(), SessionError> {
        self.link.count_command(now)?;
        let invoke = Invoke::decode(message.kind, &message.payload).map_err(|error| self.wire(error))?;
        let stream = StreamId(message.stream_id);
        match (&self.state, Request::decode(&invoke)) {
            (State::Connecting, Request::Connect(connect)) => {
                self.connect(invoke.transaction, *connect);
                Ok(())
            }
            (State::Connecting, _) => Err(self.unexpected("command before connect")),
            (_, Request::Connect(_)) => Err(self.unexpected("second connect")),
            (_, request) => self.handle_request(now, stream, invoke.transaction, request),
        }
    }

    fn handle_request(
        &mut self,
        now: Instant,
        stream: StreamId,
        transaction: f64,
        request: Request,
    ) -> Result<(), SessionError> {
        match request {
            Request::CreateStream => self.create_stream(transaction)?,
            Request::Publish { name, .. } => self.publish(stream, &name)?,
            Request::Play { name, .. } | Request::Play2 { name } => self.play(now, stream, &name)?,
            Request::DeleteStream(id) => {
                self.stop(now, StreamId(id), "deleted");
                self.streams.retain(|s| s.id != StreamId(id));
            }
            Request::CloseStream => self.stop(now, stream, "closed"),
            Request::Pause { pause, .. } => self.pause(stream, pause),
            Request::Seek(_) if self.role(stream) == Some(Role::Playing) => {
                self.status(stream, Status::bad("NetStream.Seek.Failed", "this stream is live"));
            }
            Request::ReceiveAudio(on) => self.receive(stream, Some(on), None),
            Request::ReceiveVideo(on) => self.receive(stream, None, Some(on)),
            Request::FcPublish(name) => {
                self.acknowledge(transaction, "onFCPublish", "NetStream.Publish.Start", &name)
            }
            Request::FcUnpublish(name) => {
                self.acknowledge(transaction, "onFCUnpublish", "NetStream.Unpublish.Success", &name);
            }
            Request::FcSubscribe(name) => {
                self.acknowledge(transaction, "onFCSubscribe", "NetStream.Play.Start", &name)
            }
            Request::FcUnsubscribe(name) => {
                self.acknowledge(transaction, "onFCUnsubscribe", "NetStream.Play.Stop", &name);
            }
            Request::GetStreamLength(_) => self.result(transaction, Value::Number(0.0)),
            Request::ReleaseStream(_) | Request::CheckBandwidth => self.result(transaction, Value::Undefined),
            // "NetConnection.Call.Failed" is what a client gets for a procedure that is not there (7.2.1.2), when it
            // waits for an answer at all.
            Request::Other(_) if transaction > 0.0 => {
                let status = Status::bad("NetConnection.Call.Failed", "there is no such command");
                self.link.command(0, &Response::Error { transaction, status }.encode());
            }
            _ => {}
        }
        Ok(())
    }

    fn connect(&mut self, transaction: f64, connect: Connect) {
        let window = self.config.window_ack_size;
        self.link.control(ControlMessage::WindowAckSize(window));
        self.link.control(ControlMessage::SetPeerBandwidth { window, limit: 2 });
        self.link.set_chunk_size(self.config.chunk_size);
        let mut properties =
            Object::new().with("fmsVer", "FMS/3,5,7,7009").with("capabilities", 31.0).with("mode", 1.0);
        self.config.capabilities.encode(&mut properties);
        let information = Status::good("NetConnection.Connect.Success", "connected")
            .encode()
            .with("objectEncoding", connect.object_encoding);
        let value = Value::Object(information);
        self.link
            .command(0, &Response::Result { transaction, properties: properties.into(), value }.encode());
        self.client = connect;
        self.state = State::Ready;
    }

    fn create_stream(&mut self, transaction: f64) -> Result<(), SessionError> {
        let limit = self.link.limits().streams;
        if self.streams.len() >= limit {
            let status = Status::bad("NetConnection.Call.Failed", "too many streams");
            self.link.command(0, &Response::Error { transaction, status }.encode());
            return Err(SessionError::Limit { what: "streams", limit: limit as u64 });
        }
        let free = (1..).find(|&id| self.role(StreamId(id)).is_none()).unwrap_or(1);
        self.streams.reserve_exact(1);
        self.streams.push(Stream { id: StreamId(free), role: Role::Idle });
        self.result(transaction, Value::from(free));
        Ok(())
    }

    fn publish(&mut self, stream: StreamId, name: &str) -> Result<(), SessionError> {
        match self.role(stream) {
            Some(Role::Idle) => {}
            Some(_) => return Err(self.unexpected("publish on a stream in use")),
            None => return Err(self.unexpected("publish without createStream")),
        }
        let target = self.target(stream, name, "NetStream.Publish.BadName")?;
        self.set_role(stream, Role::PublishRequested);
        self.events.push_back(ServerEvent::PublishRequest { stream, target });
        Ok(())
    }

    fn play(&mut self, now: Instant, stream: StreamId, name: &str) -> Result<(), SessionError> {
        match self.role(stream) {
            Some(Role::Idle) => {}
            // A playlist: the next item takes the place of the last.
            Some(Role::Playing) => self.stop(now, stream, "replaced"),
            Some(_) => return Err(self.unexpected("play on a stream in use")),
            None => return Err(self.unexpected("play without createStream")),
        }
        let target = self.target(stream, name, "NetStream.Play.Failed")?;
        self.set_role(stream, Role::PlayRequested);
        self.events.push_back(ServerEvent::PlayRequest { stream, target });
        Ok(())
    }

    fn target(&mut self, stream: StreamId, name: &str, code: &str) -> Result<Target, SessionError> {
        Target::new(&self.client.app, &self.client.tc_url, name).map_err(|error: NameError| {
            self.status(stream, Status::bad(code, &error.to_string()));
            SessionError::Name(error)
        })
    }

    /// The client is done with a stream.
    fn stop(&mut self, now: Instant, stream: StreamId, how: &str) {
        match self.role(stream) {
            None | Some(Role::Idle) => return,
            Some(Role::PublishRequested | Role::Publishing) => {
                self.status(stream, Status::good("NetStream.Unpublish.Success", how));
            }
            Some(Role::PlayRequested | Role::Playing) => {
                self.user(UserControl::StreamEof(stream.0));
                self.status(stream, Status::good("NetStream.Play.Stop", how));
            }
        }
        self.set_role(stream, Role::Idle);
        self.events.push_back(ServerEvent::Stopped { stream });
        if !self.any_active() && self.deadline.is_none() {
            self.deadline = Some(now + self.config.timeouts.player_idle);
            self.link.set_idle(now, Some(self.config.timeouts.player_idle));
        }
    }

    fn pause(&mut self, stream: StreamId, paused: bool) {
        if self.role(stream) == Some(Role::Playing) {
            let (code, text) = if paused {
                ("NetStream.Pause.Notify", "paused")
            } else {
                ("NetStream.Unpause.Notify", "going on at the live edge")
            };
            self.status(stream, Status::good(code, text));
            self.events.push_back(ServerEvent::Paused { stream, paused });
        }
    }

    fn receive(&mut self, stream: StreamId, audio: Option<bool>, video: Option<bool>) {
        if self.role(stream) == Some(Role::Playing) {
            self.events.push_back(ServerEvent::Receive { stream, audio, video });
        }
    }

    /// The Flash Media Server's own commands get the result they wait for, and the report that some wait for instead.
    fn acknowledge(&mut self, transaction: f64, name: &str, code: &str, stream: &str) {
        let shown: String = stream.chars().take(64).collect();
        let info = Status::good(code, &shown).encode();
        self.link.command(0, &Invoke::new(name, 0.0, vec![Value::Object(info)]));
        self.result(transaction, Value::Undefined);
    }
}
