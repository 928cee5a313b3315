//! `GET /metrics`: counters copied out of the running server when somebody asks, at no cost in between.
//!
//! | asked for | answered |
//! |---|---|
//! | `application/openmetrics-text` in `Accept` | OpenMetrics 1.0 |
//! | anything else | Prometheus text 0.0.4 |
//!
//! Labels take values only from this code (protocols, reasons), never from a peer: stream names are not labels, so
//! that nobody can make the number of series grow.

use core::fmt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use arcly_core::StreamState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode_eof;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::figures::Figures;
use crate::log::lost_lines;
use crate::process;
use crate::server::Server;
use crate::stats::panics;
use crate::{srt, webrtc};

/// Content type of Prometheus text.
pub(super) const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Content type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything, as OpenMetrics.
pub(super) fn openmetrics(server: &Arc<Server>, figures: Figures) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Moment { server: Arc::clone(server), figures }));
    let mut text = String::new();
    prometheus_client::encoding::text::encode_registry(&mut text, &registry)?;
    encode_eof(&mut text)?;
    Ok(text)
}

/// OpenMetrics text as Prometheus text: a counter's family has the name of its sample, and what the older format
/// does not know is left out.
pub(super) fn to_prometheus(openmetrics: &str) -> String {
    let counters: Vec<&str> = openmetrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter"))
        .collect();
    let mut text = String::with_capacity(openmetrics.len() + openmetrics.len() / 8);
    for line in openmetrics.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match comment {
            Some(("UNIT", _)) => continue,
            Some((kind @ ("HELP" | "TYPE"), rest)) => {
                let (name, what) = rest.split_once(' ').unwrap_or((rest, ""));
                let suffix = if counters.contains(&name) { "_total" } else { "" };
                text.push_str(&format!("# {kind} {name}{suffix} {what}"));
            }
            _ if line == "# EOF" => continue,
            _ => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// A server, and what had to be asked for before.
#[derive(Debug)]
struct Moment {
    server: Arc<Server>,
    figures: Figures,
}

/// Writes families one after the other.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let counter = ConstCounter::new(value);
        counter.encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn gauge_of_float(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let gauge = ConstGauge::new(value);
        gauge.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }

    fn counters<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: &BTreeMap<[String; N], u64>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (key, value) in values {
            let counter = ConstCounter::new(*value);
            counter.encode(family.encode_family(&pairs(&labels, key))?)?;
        }
        Ok(())
    }

    fn gauges<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; N],
        values: &BTreeMap<[String; N], u64>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (key, value) in values {
            let gauge = ConstGauge::new(i64::try_from(*value).unwrap_or(i64::MAX));
            gauge.encode(family.encode_family(&pairs(&labels, key))?)?;
        }
        Ok(())
    }
}

fn pairs(labels: &[&str], values: &[String]) -> Vec<(String, String)> {
    labels.iter().map(|label| (*label).to_owned()).zip(values.iter().cloned()).collect()
}

impl Collector for Moment {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { server, figures } = self;
        let mut families = Families(encoder);
        server.encode_streams(&mut families)?;
        server.encode_sessions(&mut families)?;
        encode_srt(&figures.srt, &mut families)?;
        encode_webrtc(&figures.webrtc, &mut families)?;
        server.encode_hls(&mut families)?;
        server.encode_recordings(&mut families)?;
        server.encode_transcoding(&mut families)?;
        server.encode_process(&mut families)
    }
}

fn encode_srt(srt: &srt::Figures, families: &mut Families<'_>) -> fmt::Result {
    families.gauge("arcly_srt_connections", "SRT connections that carry a stream", srt.connections())?;
    families.gauge_of_float(
        "arcly_srt_longest_rtt_seconds",
        "The longest round trip of an SRT connection (msRTT)",
        srt.longest_rtt(),
    )?;
    for (name, help, value) in srt.buffers() {
        families.gauge(&format!("arcly_srt_{name}"), help, value)?;
    }
    for (name, help, value) in srt.totals() {
        families.counter(&format!("arcly_srt_{name}"), help, value)?;
    }
    families.counters(
        "arcly_srt_ignored_datagrams",
        "Datagrams on the SRT port that were passed over",
        ["reason"],
        &srt.ignored(),
    )
}

fn encode_webrtc(webrtc: &webrtc::Figures, families: &mut Families<'_>) -> fmt::Result {
    families.gauge("arcly_webrtc_sessions", "WebRTC sessions, connected or not", webrtc.sessions())?;
    families.gauge_of_float(
        "arcly_webrtc_longest_rtt_seconds",
        "The longest round trip to a WebRTC peer",
        webrtc.longest_rtt(),
    )?;
    families.gauge_of_float(
        "arcly_webrtc_worst_loss_ratio",
        "The largest part of the packets of a WebRTC session that were lost in its last second",
        webrtc.worst_loss(),
    )?;
    for (name, help, value) in webrtc.totals() {
        families.counter(&format!("arcly_webrtc_{name}"), help, value)?;
    }
    Ok(())
}

impl Server {
    fn encode_streams(&self, families: &mut Families<'_>) -> fmt::Result {
        let streams = self.engine().streams();
        let mut states: BTreeMap<[String; 1], u64> =
            ["waiting", "live", "grace"].into_iter().map(|state| ([state.to_owned()], 0)).collect();
        let mut sessions: BTreeMap<[String; 2], u64> = BTreeMap::new();
        let (mut log_bytes, mut log_items) = (0, 0);
        for stream in &streams {
            let info = stream.info();
            if !matches!(info.state, StreamState::Ended(_)) {
                *states.entry([info.state.as_str().to_owned()]).or_default() += 1;
            }
            log_bytes += info.log.bytes;
            log_items += info.log.items;
            for publisher in &info.publishers {
                *sessions.entry([publisher.client.protocol.to_owned(), "publish".to_owned()]).or_default() +=
                    1;
            }
            for reader in stream.readers() {
                *sessions.entry([reader.client.protocol.to_owned(), "play".to_owned()]).or_default() += 1;
            }
        }
        let totals = self.stats().totals(&streams);
        families.gauges("arcly_streams", "Streams by state", ["state"], &states)?;
        families.gauges(
            "arcly_sessions",
            "Publishers and readers by protocol",
            ["protocol", "role"],
            &sessions,
        )?;
        families.gauge("arcly_log_bytes", "Bytes of media kept for readers", log_bytes)?;
        families.gauge("arcly_log_frames", "Frames kept for readers", log_items)?;
        families.counter("arcly_ingest_bytes", "Payload bytes published", totals.bytes_in)?;
        families.counter("arcly_ingest_frames", "Frames published", totals.frames_in)?;
        families.counter("arcly_egress_bytes", "Bytes handed to readers", totals.bytes_out)?;
        self.encode_egress(families)
    }

    fn encode_egress(&self, families: &mut Families<'_>) -> fmt::Result {
        let stats = self.egress().stats();
        families.counter("arcly_egress_writes", "Writes to readers' sockets", stats.writes)?;
        families.counter("arcly_egress_wakes", "Times that egress workers were woken", stats.wakes)?;
        families.counter("arcly_egress_batches", "Runs of bytes that readers share", stats.batches)?;
        families.counter("arcly_egress_batched_messages", "Messages in them", stats.packets)?;
        families.gauge(
            "arcly_egress_widened",
            "How often the busiest worker has doubled its ticks; 0 when it keeps up",
            u64::from(stats.widened),
        )
    }

    fn encode_sessions(&self, families: &mut Families<'_>) -> fmt::Result {
        let stats = self.stats();
        let closed = stats.closed();
        families.counters(
            "arcly_sessions_closed",
            "Sessions and connections that ended, by reason",
            ["protocol", "reason"],
            &closed,
        )?;
        families.counters(
            "arcly_frames_skipped",
            "Frames that slow readers missed",
            ["reason"],
            &stats.skipped(),
        )?;
        families.gauge("arcly_http_connections", "Open HTTP connections", self.http_connections())?;
        if let Some(certificate) = self.certificate() {
            families.gauge(
                "arcly_tls_certificate_expiry_timestamp_seconds",
                "When the TLS certificate in use expires, Unix time",
                u64::try_from(certificate.expires()).unwrap_or(0),
            )?;
            families.counter(
                "arcly_tls_certificate_rejected",
                "Times that the certificate's files held none that could be used",
                certificate.rejected(),
            )?;
        }
        families.counter(
            "arcly_log_lines_lost",
            "Log lines that were not written because stderr took them too slowly",
            lost_lines(),
        )?;
        let dropped = self.datagram_counters();
        families.counter(
            "arcly_rtsp_foreign_datagrams",
            "Datagrams for RTSP that came from where no session is",
            dropped.bad_source,
        )?;
        families.counter(
            "arcly_rtsp_overrun_datagrams",
            "Datagrams that a session of RTSP did not look at in time",
            dropped.overrun,
        )?;
        families.counter("arcly_panics", "Tasks that panicked; always a bug", panics())
    }

    fn encode_hls(&self, families: &mut Families<'_>) -> fmt::Result {
        let Some(stats) = self.hls().map(arcly_mux::hls::http::Hls::stats) else { return Ok(()) };
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        families.gauge("arcly_hls_streams", "Streams that are muxed for HLS", count(stats.streams))?;
        families.gauge("arcly_hls_sessions", "HLS clients", count(stats.sessions))?;
        families.gauge("arcly_hls_bytes", "Bytes of HLS segments kept", count(stats.bytes))?;
        families.gauge("arcly_hls_waiting", "HLS requests that wait for what comes next", stats.waiting)?;
        families.counter("arcly_hls_playlist_versions", "Versions of HLS playlists", stats.versions)?;
        families.counter("arcly_hls_playlists_rendered", "HLS playlists rendered", stats.rendered)?;
        families.counter("arcly_hls_playlist_requests", "HLS playlists asked for", stats.playlist_requests)
    }

    fn encode_recordings(&self, families: &mut Families<'_>) -> fmt::Result {
        let recorded = self.stats().recorded();
        families.gauge("arcly_recordings", "Streams that are being recorded", self.recording_count())?;
        families.counter("arcly_recorded_files", "Recordings that are complete", recorded.files)?;
        families.counter("arcly_recorded_bytes", "Bytes of complete recordings", recorded.bytes)?;
        families.counters(
            "arcly_recording_failures",
            "Recordings that failed, by reason; what fails again for the same reason counts once",
            ["reason"],
            &recorded.failures,
        )
    }

    fn encode_transcoding(&self, families: &mut Families<'_>) -> fmt::Result {
        let usage = self.engine().transcoding();
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        families.gauge("arcly_renditions", "Streams with other sound", count(usage.renditions))?;
        families.gauge("arcly_transcoders", "Tracks that are being transcoded", count(usage.sessions))?;
        families.counter("arcly_transcoded_frames", "Frames made by transcoding", usage.frames_out)?;
        families.counter(
            "arcly_transcode_failures",
            "Frames that could not be transcoded, and are silent",
            usage.failed,
        )?;
        families.seconds(
            "arcly_transcode_seconds",
            "Time that threads have spent on transcoding",
            usage.busy.as_secs_f64(),
        )
    }

    fn encode_process(&self, families: &mut Families<'_>) -> fmt::Result {
        let build = [(["version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()], 1)];
        let build: BTreeMap<[String; 1], u64> =
            build.into_iter().map(|([_, version], one)| ([version], one)).collect();
        families.gauges("arcly_build_info", "The version that runs", ["version"], &build)?;
        let started = self.started_at().duration_since(UNIX_EPOCH).unwrap_or_default();
        families.gauge(
            "process_start_time_seconds",
            "When the process began, Unix time",
            started.as_secs(),
        )?;
        // Without a runtime there is nobody to ask, and nothing that runs.
        let tasks =
            tokio::runtime::Handle::try_current().map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        families.gauge(
            "arcly_tasks",
            "Tasks that are alive, those of the server itself included",
            tasks as u64,
        )?;
        let Some(usage) = process::usage() else { return Ok(()) };
        families.seconds("process_cpu_seconds", "User and system time", usage.cpu.as_secs_f64())?;
        families.gauge("process_resident_memory_bytes", "Resident memory", usage.resident_bytes)?;
        families.gauge("process_open_fds", "Open file descriptors", usage.open_fds)?;
        families.gauge("process_max_fds", "File descriptors that may be open", usage.max_fds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_keep_their_suffix_in_the_older_format() {
        let openmetrics = "# HELP arcly_x Things.\n# TYPE arcly_x counter\n# UNIT arcly_x bytes\narcly_x_total{a=\"b\"} 1\n\
                           # HELP arcly_y More.\n# TYPE arcly_y gauge\narcly_y 2\n# EOF\n";
        let expect = "# HELP arcly_x_total Things.\n# TYPE arcly_x_total counter\narcly_x_total{a=\"b\"} 1\n\
                      # HELP arcly_y More.\n# TYPE arcly_y gauge\narcly_y 2\n";
        assert_eq!(to_prometheus(openmetrics), expect);
    }

    #[test]
    fn h26_label_values_are_escaped() {
        #[derive(Debug)]
        struct Hostile;
        impl Collector for Hostile {
            fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
                let values = BTreeMap::from([(["\"}\nevil 1\n\\".to_owned()], 1)]);
                Families(encoder).counters("arcly_x", "Things", ["name"], &values)
            }
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Hostile));
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &registry).unwrap();
        assert!(!text.lines().any(|line| line.starts_with("evil")), "{text}");
    }
}
