//! What protocols have counted, at one moment: of all their sessions, and of each.

use std::sync::Arc;

use arcly_core::{ClientInfo, StreamKey};
use serde_json::Value;

use crate::server::Server;
use crate::{srt, webrtc};

/// The figures of SRT and WebRTC at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) srt: srt::Figures,
    pub(crate) webrtc: webrtc::Figures,
}

impl Figures {
    /// Those of a server.
    pub(crate) async fn of(server: &Arc<Server>) -> Self {
        Self { srt: srt::Figures::of(server).await, webrtc: webrtc::Figures::of(server) }
    }

    /// Adds what was counted of a publisher or a reader to what the API shows of it, under the name of its protocol: null when
    /// nobody there carries that stream any more. Readers have a number, publishers have none.
    pub(crate) fn describe(
        &self,
        shown: &mut Value,
        client: &ClientInfo,
        key: &StreamKey,
        reader: Option<u64>,
    ) {
        match (client.protocol, reader) {
            ("srt", _) => shown["srt"] = self.srt.of_peer(client.remote, key, reader.is_none()),
            (webrtc::PROTOCOL, Some(reader)) => shown[webrtc::PROTOCOL] = self.webrtc.of_reader(reader),
            (webrtc::PROTOCOL, None) => {
                shown[webrtc::PROTOCOL] = self.webrtc.of_publisher(client.remote, key);
            }
            _ => {}
        }
    }
}
