//! `/api/v1/streams`.

use std::sync::Arc;

use arcly_codec::codec_string::codec_string;
use arcly_core::publisher::PublisherState;
use arcly_core::qos::TrackQos;
use arcly_core::{CloseReason, StreamInfo, StreamKey, Track, TrackKind};
use axum::Json;
use axum::extract::{OriginalUri, State};
use axum::response::{IntoResponse as _, Response};
use http::{StatusCode, Uri};
use serde_json::{Map, Value, json};

use super::api::{done, time};
use super::problem::Problem;
use crate::figures::Figures;
use crate::server::Server;

/// What comes before a stream's name.
const PREFIX: &str = "/api/v1/streams/";

pub(super) async fn list(State(server): State<Arc<Server>>) -> Json<Value> {
    let figures = Figures::of(&server).await;
    let items: Vec<Value> = server.engine().infos().iter().map(|info| describe(info, &figures)).collect();
    Json(json!({ "items": items }))
}

pub(super) async fn one(State(server): State<Arc<Server>>, OriginalUri(uri): OriginalUri) -> Response {
    match find(&server, &uri) {
        Ok(info) => Json(describe(&info, &Figures::of(&server).await)).into_response(),
        Err(problem) => problem.into_response(),
    }
}

pub(super) async fn disconnect(State(server): State<Arc<Server>>, OriginalUri(uri): OriginalUri) -> Response {
    match find(&server, &uri) {
        Ok(info) if info.publishers.is_empty() => {
            Problem::new(StatusCode::CONFLICT, format!("nobody publishes `{}` at the moment", info.key))
                .into_response()
        }
        Ok(info) => {
            info.publishers.iter().for_each(|publisher| publisher.revoke(CloseReason::Shutdown));
            done()
        }
        Err(problem) => problem.into_response(),
    }
}

/// The name stands in the path as it is, for names need no escapes: what is escaped is no name here either.
fn find(server: &Server, uri: &Uri) -> Result<StreamInfo, Problem> {
    let path = uri.path().strip_prefix(PREFIX).unwrap_or_default();
    let key = StreamKey::parse(path)
        .map_err(|error| Problem::new(StatusCode::NOT_FOUND, format!("not the name of a stream: {error}")))?;
    server.engine().stream(&key).map(|stream| stream.info()).ok_or_else(|| Problem::no_stream(&key))
}

/// A stream as the API shows it.
fn describe(info: &StreamInfo, figures: &Figures) -> Value {
    let describe_publisher = |publisher| describe_publisher(publisher, &info.key, figures);
    let publisher = info.publishers.first().map(|publisher| describe_publisher(publisher));
    json!({
        "path": info.key.as_str(),
        "state": info.state.as_str(),
        "since": time(info.since),
        "publisher": publisher,
        "standby": info.publishers.get(1..).unwrap_or_default().iter().map(|p| describe_publisher(p)).collect::<Vec<_>>(),
        "tracks": measured_tracks(info),
        "readers": info.readers,
        "waiting": info.waiting,
        "bytes_in": info.bytes_in,
        "bytes_out": info.bytes_out,
        "frames_in": info.frames_in,
        "bitrate_bps": info.qos.iter().map(|(_, qos)| qos.bitrate_bps).sum::<u64>(),
        "log": { "frames": info.log.items, "bytes": info.log.bytes },
    })
}

fn describe_publisher(publisher: &PublisherState, key: &StreamKey, figures: &Figures) -> Value {
    let mut shown = json!({
        "protocol": publisher.client.protocol,
        "remote": publisher.client.remote.map(|remote| remote.to_string()),
        "since": time(publisher.since),
        "frames": publisher.frames(),
        "bytes": publisher.bytes(),
        "frames_dropped": publisher.dropped(),
    });
    figures.describe(&mut shown, &publisher.client, key, None);
    shown
}

fn measured_tracks(info: &StreamInfo) -> Vec<Value> {
    let qos_of = |id| info.qos.iter().find(|(track, _)| *track == id).map(|(_, qos)| qos);
    info.tracks.iter().map(|track| describe_track(track, qos_of(track.id))).collect()
}

/// A track as the API and `arcly probe` show it; what is unknown is left out.
pub(crate) fn describe_track(track: &Track, qos: Option<&TrackQos>) -> Value {
    let mut shown = Map::new();
    let mut put = |name: &str, value: Value| {
        if !matches!(&value, Value::Null) && value != json!(0) {
            shown.insert(name.to_owned(), value);
        }
    };
    put("codec", track.codec.to_string().into());
    put("kind", track.kind().as_str().into());
    put("codec_string", codec_string(track).into());
    if let Some(video) = track.video() {
        put("width", video.width.into());
        put("height", video.height.into());
        put("frame_rate", video.frame_rate.map(|rate| rate.as_f64()).into());
        put("bit_depth", video.bit_depth.into());
    }
    if let Some(audio) = track.audio() {
        put("sample_rate", audio.sample_rate.into());
        put("channels", audio.channels.into());
    }
    put("language", track.language.as_deref().into());
    put("label", track.label.as_deref().into());
    put("declared_bitrate_bps", track.bitrate_bps.into());
    if let Some(qos) = qos {
        put("frames", qos.frames.into());
        put("bitrate_bps", qos.bitrate_bps.into());
        put("fps", ((qos.fps * 1_000.0).round() / 1_000.0).into());
        let is_video = track.kind() == TrackKind::Video;
        let gop = qos.last_gop.filter(|_| is_video);
        put("gop_frames", gop.map(|gop| gop.frames).into());
        put("gop_milliseconds", gop.map(|gop| gop.duration.to_millis()).into());
        put("jitter_milliseconds", qos.jitter.to_millis().into());
        put("clamped", qos.clamped.into());
        put("discontinuities", qos.discontinuities.into());
    }
    shown.insert("id".to_owned(), track.id.index().into());
    Value::Object(shown)
}
