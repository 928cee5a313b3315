//! What a connection publishes.

use std::sync::Arc;
use std::time::Instant;

use arcly_core::{CloseReason, PublishRequest, Publisher, Result, StreamError};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Connection, Decision, Publishing, Sink};
use crate::io::{PUBLISHER_SEND_BUFFER, SendBuffer};
use crate::media::Ingest;
use crate::server::pace::Park;
use crate::session::{StreamId, Target};

impl<R, W> Connection<R, W>
where
    R: AsyncRead + Park<W> + Unpin + Send,
    W: AsyncWrite + SendBuffer + Unpin + Send + 'static,
{
    pub(super) fn request_publish(&mut self, stream: StreamId, target: &Target) {
        let request = PublishRequest::new(target.key.clone(), self.client(), self.credentials(target))
            .via(self.session.client().via.clone());
        let registry = Arc::clone(&self.shared.context.publish);
        self.undecided = self.undecided.saturating_add(1);
        let decision = async move { Decision::Publish(stream, registry.publish(request).await) };
        self.decisions.push((stream, Box::pin(decision)));
    }

    pub(super) fn publish_decided(&mut self, now: Instant, stream: StreamId, result: Result<Publisher>) {
        self.undecided = self.undecided.saturating_sub(1);
        match result {
            Ok(publisher) => {
                tracing::info!(peer = %self.remote, stream = %publisher.key(), "publishing");
                let member = self.shared.publishers.join();
                self.publishing.push(Publishing { stream, ingest: Ingest::new(publisher), member });
                if let Sink::Own(writer) = &self.sink
                    && self.playing.is_empty()
                {
                    writer.set_send_buffer(PUBLISHER_SEND_BUFFER);
                }
                self.session.accept_publish(now, stream);
            }
            Err(error) => self.refuse(stream, &error),
        }
    }

    pub(super) fn unpublish(&mut self, stream: StreamId, reason: CloseReason, description: &str) {
        self.publishing.retain(|own| own.stream != stream);
        if reason == CloseReason::Shutdown {
            self.session.end_publish(stream, reason);
        } else {
            self.session.reject(stream, reason, description);
        }
    }

    pub(super) fn refuse(&mut self, stream: StreamId, error: &StreamError) {
        self.error.get_or_insert_with(|| error.to_string());
        self.session.reject(stream, error.reason(), &error.to_string());
    }
}
