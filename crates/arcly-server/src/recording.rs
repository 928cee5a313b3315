//! Recordings as configured: where they are, which streams are recorded by themselves, and how much is kept.

use std::path::PathBuf;
use std::sync::Arc;

use arcly_core::contract::auth::NameRule;
use arcly_core::contract::storage::{FsStorage, StorageError};
use arcly_mux::record::{Format, Index, Keep, NameTemplate, RecordOptions, Recorder, Recordings};

use crate::config::{Config, ConfigError, RecordConfig, RecordFormat};
use crate::server::Server;

impl RecordConfig {
    /// How files are written.
    ///
    /// # Errors
    /// The name template is none.
    pub(crate) fn options(&self) -> Result<RecordOptions, ConfigError> {
        let wrong = |error| ConfigError::new(format!("record.name: `{}`: {error}", self.name));
        let mut options = RecordOptions::default();
        options.format = match self.format {
            RecordFormat::Mp4 => Format::Mp4,
            RecordFormat::Ts => Format::Ts,
            RecordFormat::Flv => Format::Flv,
        };
        options.name = self.name.parse::<NameTemplate>().map_err(wrong)?;
        options.segment_duration = self.segment.0;
        options.segment_bytes = self.segment_size.0;
        options.part_duration = self.part.0;
        Ok(options)
    }

    /// The streams that are recorded by themselves.
    ///
    /// # Errors
    /// A rule is none.
    pub(crate) fn rules(&self) -> Result<Vec<NameRule>, ConfigError> {
        let wrong = |rule, error| ConfigError::new(format!("record.streams: `{rule}`: {error}"));
        self.streams.iter().map(|rule| NameRule::parse(rule).map_err(|error| wrong(rule, error))).collect()
    }

    fn keep(&self) -> Keep {
        let age = (!self.keep.0.is_zero()).then_some(self.keep.0);
        Keep { age, bytes: (self.keep_size.0 > 0).then_some(self.keep_size.0) }
    }
}

/// Where recordings are: below the data directory, unless the configuration says another place.
fn folder(config: &Config) -> PathBuf {
    config.data_dir.join(&config.record.dir)
}

/// Begins to record, if anything is to be recorded by itself or there are recordings from before.
pub(crate) async fn start(server: Arc<Server>) {
    let config = server.config();
    if config.record.streams.is_empty() && !folder(&config).is_dir() {
        return;
    }
    if let Err(error) = server.recordings().await {
        tracing::error!(folder = %folder(&config).display(), %error, "nothing is recorded");
    }
}

/// Opens the folder, and records what is to be recorded by itself until the server goes down.
pub(crate) async fn open(server: &Arc<Server>) -> Result<Arc<Recordings>, StorageError> {
    let config = server.config();
    let record = &config.record;
    // Checked when the configuration was.
    let (options, rules) = (record.options().unwrap_or_default(), record.rules().unwrap_or_default());
    let storage = FsStorage::open(folder(&config)).await?;
    let index = Index::open(Arc::new(storage), &options.name).await?;
    let recorder = Recorder::new(server.context(), index, options);
    let recordings = Recordings::new(recorder, record.keep(), server.shutdown());
    let (running, engine, events) =
        (Arc::clone(&recordings), Arc::clone(server.engine()), server.engine().events());
    server.tasks().spawn(async move {
        let streams = || engine.streams().iter().map(|stream| stream.key().clone()).collect();
        running.run(events, streams, |key| rules.iter().any(|rule| rule.covers(key))).await;
    });
    Ok(recordings)
}
