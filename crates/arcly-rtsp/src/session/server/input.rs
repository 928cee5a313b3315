//! What comes over the connection, item by item.

use std::time::{Duration, Instant};

use super::{Agreed, Intent, Presentation, ServerEvent, ServerSession, State};
use crate::error::SessionError;
use crate::wire::{Frame, Item, Protocol, Request, Response, Status};

/// Over which requests are counted.
const WINDOW: Duration = Duration::from_secs(10);

/// What a client requires that wants to be heard (ONVIF Streaming §5.3).
pub(super) const BACK_CHANNEL: &str = "www.onvif.org/ver20/backchannel";

/// What a request requires.
pub(super) fn options(request: &Request) -> impl Iterator<Item = &str> {
    let all = request.headers.all("Require").chain(request.headers.all("Proxy-Require"));
    all.flat_map(|options| options.split(',')).map(str::trim)
}

/// Why a request is not granted.
pub(super) enum Refusal {
    /// It has no place here, and the session goes on.
    Status(Status),
    /// The session is over.
    Fatal(SessionError),
}

impl<E: Into<SessionError>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Fatal(error.into())
    }
}

impl ServerSession {
    /// Takes what is there, up to a request that the owner has to decide about.
    pub(super) fn advance(&mut self, now: Instant) -> Result<(), SessionError> {
        while self.pending.is_none() && self.closed.is_none() {
            match self.decoder.poll() {
                Ok(None) => break,
                Ok(Some(Item::Request(request))) => {
                    self.heard = now;
                    self.spoken = true;
                    self.count_request(now)?;
                    self.handle_request(now, request);
                }
                // Of requests of our own that nothing depends on.
                Ok(Some(Item::Response(_))) => {
                    self.heard = now;
                    self.count_request(now)?;
                }
                Ok(Some(Item::Frame(frame))) => {
                    self.heard = now;
                    self.handle_frame(frame)?;
                }
                Err(error) => return Err(self.broken(error.into())),
            }
        }
        Ok(())
    }

    /// Answers what cannot be read to its end, as far as it is known what it is.
    fn broken(&mut self, error: SessionError) -> SessionError {
        // Whoever has not said anything in this protocol is not answered in it.
        if self.spoken || self.decoder.pending_cseq().is_some() {
            let mut response = Response::new(error.status());
            if let Some(cseq) = self.decoder.pending_cseq() {
                response = response.with("CSeq", cseq);
            }
            self.respond(&response.with("Server", &self.config.agent));
        }
        self.fail(error)
    }

    fn count_request(&mut self, now: Instant) -> Result<(), SessionError> {
        let (since, count) = self.requests;
        self.requests = if now.saturating_duration_since(since) >= WINDOW {
            (now, 1)
        } else {
            (since, count.saturating_add(1))
        };
        let limit = self.config.limits.requests_per_10s;
        if self.requests.1 > limit {
            return Err(self.fail(SessionError::Limit { what: "requests", limit: limit.into() }));
        }
        Ok(())
    }

    pub(super) fn handle_request(&mut self, now: Instant, request: Request) {
        if self.agent.is_none() {
            self.agent = request.headers.get("User-Agent").map(Into::into);
        }
        match self.dispatch(now, &request) {
            Ok(()) => {}
            Err(Refusal::Status(status)) => {
                let mut response = self.answer(&request, status);
                if status == Status::OPTION_NOT_SUPPORTED {
                    let unknown = options(&request).filter(|option| !self.knows(option));
                    response =
                        unknown.fold(response, |response, option| response.with("Unsupported", option));
                }
                if status == Status::METHOD_NOT_ALLOWED || status == Status::NOT_IMPLEMENTED {
                    response = response.with("Public", super::request::PUBLIC);
                }
                self.respond(&response);
            }
            Err(Refusal::Fatal(error)) => {
                let response = self.answer(&request, error.status());
                self.respond(&response);
                self.fail(error);
            }
        }
    }

    fn dispatch(&mut self, now: Instant, request: &Request) -> Result<(), Refusal> {
        let version = request.version;
        if version.protocol != Protocol::Rtsp {
            return Err(SessionError::Unexpected { what: "HTTP request" }.into());
        }
        if version.major != 1 {
            return Err(SessionError::Version(version.major, version.minor).into());
        }
        if request.cseq().is_none() {
            return Err(SessionError::Unexpected { what: "request without CSeq" }.into());
        }
        if !options(request).all(|option| self.knows(option)) {
            return Err(Refusal::Status(Status::OPTION_NOT_SUPPORTED));
        }
        self.handle_method(now, request)
    }

    /// Whether that is done here, of what a client may require.
    fn knows(&self, option: &str) -> bool {
        option.eq_ignore_ascii_case(BACK_CHANNEL) && self.config.back_channel.is_some()
    }

    fn handle_frame(&mut self, Frame { channel, payload }: Frame) -> Result<(), SessionError> {
        let presentation = self.presentation.as_ref();
        let found = presentation.into_iter().flat_map(|presentation| presentation.agreed()).find_map(
            |(medium, _, agreed)| match agreed {
                Agreed::Tcp(rtp, _) if rtp == channel => Some((medium, false)),
                Agreed::Tcp(_, rtcp) if rtcp == channel => Some((medium, true)),
                _ => None,
            },
        );
        let recording = self.state == State::Recording;
        let publishes = presentation.is_some_and(|presentation| presentation.intent == Intent::Publish);
        let talks = |medium: usize| {
            let is_back_channel = |p: &Presentation| p.media.get(medium).is_some_and(|m| m.is_back_channel);
            self.state == State::Playing && presentation.is_some_and(is_back_channel)
        };
        match found {
            Some((medium, control)) if control || recording || talks(medium) => {
                self.stray_frames = 0;
                self.events.push_back(ServerEvent::Packet { medium, control, packet: payload });
            }
            // On the way when recording paused, or before it began.
            Some(_) if publishes => {}
            _ => {
                self.stray_frames = self.stray_frames.saturating_add(1);
                if self.stray_frames >= self.config.limits.stray_frames {
                    return Err(self.fail(SessionError::Unexpected { what: "frames on unknown channels" }));
                }
            }
        }
        Ok(())
    }
}
