//! Requests and what answers them: one at a time, numbered, and proven where the server asks.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::ClientError;
use crate::wire::authorization::{Answers, Login, challenges};
use crate::wire::{Method, Request, Response, Status};

/// What a server says of its session when it says nothing (RFC 2326 §12.37).
const SESSION_TIMEOUT: Duration = Duration::from_secs(60);
/// The shortest that is believed.
const MIN_SESSION_TIMEOUT: Duration = Duration::from_secs(2);
/// Bytes of a session's name.
const MAX_SESSION: usize = 256;

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    request: Request,
    cseq: u32,
    sent: Instant,
    /// It was asked again with credentials.
    proven: bool,
}

/// What became of a response.
#[derive(Debug)]
pub(super) enum Answer {
    /// It answers the request of that method.
    To(Method, Response),
    /// The request is asked again, in these bytes.
    Again(Bytes),
    /// It answers nothing that is waited for.
    Stray,
}

/// The client's half of a connection's conversation.
#[derive(Debug)]
pub(super) struct Exchange {
    cseq: u32,
    pending: Option<Pending>,
    answers: Option<Answers>,
    agent: String,
    session: Option<String>,
    timeout: Duration,
    /// The number of a request that was not answered in time.
    given_up: Option<u32>,
}

impl Exchange {
    pub(super) fn new(login: Option<&Login>, agent: &str, random: [u8; 16]) -> Self {
        Self {
            cseq: 0,
            pending: None,
            answers: login.map(|login| Answers::new(login.clone(), random)),
            agent: agent.to_owned(),
            session: None,
            timeout: SESSION_TIMEOUT,
            given_up: None,
        }
    }

    /// What the server has asked for.
    pub(super) fn answers(&self) -> Option<Answers> {
        self.answers.clone().filter(Answers::is_asked)
    }

    pub(super) fn set_answers(&mut self, answers: Answers) {
        self.answers = Some(answers);
    }

    /// How long the server keeps the session without hearing of it.
    pub(super) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the request that waits was sent.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.pending.as_ref().map(|pending| pending.sent)
    }

    /// Nothing waits any more: an answer that did not come is not missed.
    pub(super) fn give_up(&mut self) {
        self.given_up = self.pending.take().map(|pending| pending.cseq);
    }

    /// The bytes of a request, which from now on waits for its answer.
    pub(super) fn send(&mut self, now: Instant, request: Request) -> Bytes {
        let mut pending = Pending { request, cseq: 0, sent: now, proven: false };
        let bytes = self.write(now, &mut pending);
        self.pending = Some(pending);
        bytes
    }

    fn write(&mut self, now: Instant, pending: &mut Pending) -> Bytes {
        self.cseq = self.cseq.wrapping_add(1);
        pending.cseq = self.cseq;
        pending.sent = now;
        let request = &pending.request;
        let mut written = Request::new(request.method.clone(), request.uri.clone()).with("CSeq", self.cseq);
        let answer =
            self.answers.as_mut().and_then(|answers| answers.answer(request.method.as_str(), &request.uri));
        if let Some(answer) = answer {
            written = written.with("Authorization", answer);
        }
        written = written.with("User-Agent", &self.agent);
        if let Some(session) = &self.session {
            written = written.with("Session", session);
        }
        for (name, value) in request.headers.iter() {
            written = written.with(name, value);
        }
        written.body.clone_from(&request.body);
        written.to_bytes()
    }

    /// Takes a response.
    pub(super) fn handle(&mut self, now: Instant, response: Response) -> Result<Answer, ClientError> {
        // One request waits at a time, so that whatever comes answers it, whatever its number says; unless it is late.
        let late = response.cseq().is_some_and(|cseq| self.given_up == Some(cseq));
        if response.status == Status::CONTINUE || late {
            return Ok(Answer::Stray);
        }
        let Some(mut pending) = self.pending.take() else { return Ok(Answer::Stray) };
        if response.status == Status::UNAUTHORIZED {
            self.challenge(&response, pending.proven)?;
            pending.proven = true;
            let bytes = self.write(now, &mut pending);
            self.pending = Some(pending);
            return Ok(Answer::Again(bytes));
        }
        self.note_session(&response);
        Ok(Answer::To(pending.request.method, response))
    }

    /// Takes the server's challenge; an error when there is nothing to answer it with, or what there was is wrong.
    fn challenge(&mut self, response: &Response, proven: bool) -> Result<(), ClientError> {
        let offered = challenges(response.headers.all("WWW-Authenticate")).unwrap_or_default();
        let taken = !proven && self.answers.as_mut().is_some_and(|answers| answers.take(&offered));
        if taken { Ok(()) } else { Err(ClientError::Unauthorized) }
    }

    /// `Session: name[;timeout=seconds]`. Servers that name none do without.
    fn note_session(&mut self, response: &Response) {
        let Some(value) = response.headers.get("Session") else { return };
        let mut parts = value.split(';').map(str::trim);
        let Some(name) = parts.next().filter(|name| (1..=MAX_SESSION).contains(&name.len())) else { return };
        self.session = Some(name.to_owned());
        let timeout = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
            let secs = value.trim().parse().ok().filter(|secs| *secs > 0)?;
            name.trim().eq_ignore_ascii_case("timeout").then(|| Duration::from_secs(secs))
        });
        if let Some(timeout) = timeout {
            self.timeout = timeout.max(MIN_SESSION_TIMEOUT);
        }
    }
}
