//! Publishers, and players that are heard: their packets, and what they are told about them.

use core::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use arcly_core::contract::auth::Credentials;
use arcly_core::{CloseReason, PublishRequest, Publisher, Result, clock};
use arcly_rtp::session::MAX_WAIT;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Decision, datagram_media};
use crate::media::Ingest;
use crate::server::datagrams::{Datagram, Inbox};
use crate::server::random;
use crate::session::{Agreed, Intent, Target};
use crate::wire::PortPair;

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Unpin + Send,
    W: AsyncWrite + Unpin + Send + 'static,
{
    /// Reports to the publisher, and requests for keyframes.
    pub(super) fn send_control(&mut self, now: Instant) {
        let Some(ingest) = &mut self.ingest else { return };
        for (medium, packet) in ingest.control(now) {
            if self.session.send_control(medium, packet.clone()) {
                continue;
            }
            let agreed =
                self.session.presentation().and_then(|presentation| presentation.media.get(medium)?.agreed);
            if let (Some(Agreed::Udp(ports)), Some((sockets, _))) = (agreed, &self.shared.ports) {
                let port = self.inbox.as_ref().and_then(|inbox| inbox.control_port(medium));
                let to = SocketAddr::new(self.remote.ip(), port.unwrap_or(ports.rtcp));
                sockets.sockets().send_control(to, &packet);
            }
        }
    }

    pub(super) fn request_publish(&mut self, target: &Target, credentials: Credentials) {
        let request = PublishRequest::new(target.key.clone(), self.client(), credentials)
            .via(self.session.via().clone());
        let registry = Arc::clone(&self.shared.context.publish);
        self.decision = Some(Box::pin(async move { Decision::Publish(registry.publish(request).await) }));
    }

    pub(super) fn publish_decided(&mut self, now: Instant, result: Result<Publisher>) {
        match result {
            Ok(publisher) => {
                tracing::info!(peer = %self.remote, stream = %publisher.key(), "publishing");
                self.publisher = Some(publisher);
                self.session.opened_publish(now);
            }
            Err(error) => self.refuse(now, &error),
        }
    }

    pub(super) fn begin_record(&mut self, now: Instant) {
        let Some(presentation) = self.session.presentation() else { return };
        let Some(publisher) = self.publisher.take() else { return };
        let media = datagram_media(presentation.agreed().map(|(at, _, agreed)| (at, agreed)));
        let ssrc = u32::from_be_bytes(random().unwrap_or_default());
        self.ingest = Some(Box::new(Ingest::new(publisher, presentation, ssrc)));
        self.open_inbox(&media);
        self.session.keep_alive(now);
    }

    /// Hears what a player has to say, where that was agreed on.
    pub(super) fn begin_talk(&mut self, now: Instant) {
        let Some(presentation) = self.session.presentation() else { return };
        if !presentation.agreed().any(|(_, medium, _)| medium.is_back_channel) {
            return;
        }
        let Some(publisher) = self.publisher.take() else { return };
        let ssrc = u32::from_be_bytes(random().unwrap_or_default());
        self.ingest = Some(Box::new(Ingest::new(publisher, presentation, ssrc)));
        self.session.keep_alive(now);
    }

    /// Takes the datagrams of these media from now on.
    pub(super) fn open_inbox(&mut self, media: &[(usize, PortPair)]) {
        let Some((ports, _)) = self.shared.ports.as_ref().filter(|_| !media.is_empty()) else { return };
        self.inbox = None;
        self.inbox = Inbox::open(ports, self.remote.ip(), media);
        if self.inbox.is_none() {
            self.error.get_or_insert_with(|| "another session has these ports of the client".to_owned());
            self.session.end(CloseReason::Conflict);
        }
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, datagram: &Datagram) {
        // What opens a hole in a firewall counts as well.
        self.session.keep_alive(now);
        self.heard = now;
        self.handle_media(now, datagram);
    }

    pub(super) fn handle_media(&mut self, now: Instant, Datagram { medium, control, packet }: &Datagram) {
        let Some(ingest) = &mut self.ingest else { return };
        let result = ingest.handle_packet(now, *medium, *control, packet);
        self.ingested(result.map_err(|error| (error.reason(), error.to_string())));
    }

    pub(super) fn ingested(&mut self, result: core::result::Result<(), (CloseReason, String)>) {
        if let Err((reason, error)) = result {
            self.error.get_or_insert(error);
            self.unpublish(reason);
        }
    }

    pub(super) fn unpublish(&mut self, reason: CloseReason) {
        (self.publisher, self.ingest) = (None, None);
        if self.session.presentation().is_some_and(|presentation| presentation.intent == Intent::Play) {
            // Who is not heard any more may go on listening.
            tracing::info!(peer = %self.remote, %reason, "not heard any more");
            return;
        }
        self.inbox = None;
        self.session.end(reason);
    }

    /// The last datagrams of a publisher that has stopped and hung up.
    pub(super) async fn take_what_is_in_flight(&mut self) {
        let (Some(until), Some(inbox), Some(ingest)) = (self.stopped, &mut self.inbox, &mut self.ingest)
        else {
            return;
        };
        let mut sleep = core::pin::pin!(tokio::time::sleep_until(until.into()));
        loop {
            let next = poll_fn(|cx| match inbox.poll_recv(cx) {
                Poll::Ready(datagram) => Poll::Ready(Some(datagram)),
                Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
            });
            let Some(Datagram { medium, control, packet }) = next.await else { break };
            if ingest.handle_packet(clock::now(), medium, control, &packet).is_err() {
                return;
            }
        }
        // What is missing now does not come any more.
        let _ = ingest.handle_timeout(clock::now() + MAX_WAIT);
    }
}
