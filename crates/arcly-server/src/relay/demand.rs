//! Which streams can be pulled when somebody asks for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arcly_core::subscriber::ReaderState;
use arcly_core::{OnDemand, Stream, StreamKey};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long a reader waits for a pull that begins: less than what any protocol gives its peers to set themselves up.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// The pulls of a server, by the stream that they publish: what its engine asks for streams that are not there.
#[derive(Debug, Default)]
pub(crate) struct Demand(Mutex<HashMap<StreamKey, Vec<Pull>>>);

#[derive(Debug)]
struct Pull {
    relay: u64,
    on_demand: bool,
    wanted: Arc<Notify>,
}

impl Demand {
    /// Somebody who asks for `key` from now on wakes `wanted`, and waits if the relay is on demand.
    pub(super) fn add(&self, key: StreamKey, relay: u64, on_demand: bool, wanted: Arc<Notify>) {
        self.0.lock().entry(key).or_default().push(Pull { relay, on_demand, wanted });
    }

    pub(super) fn remove(&self, key: &StreamKey, relay: u64) {
        let mut pulls = self.0.lock();
        let Some(of_key) = pulls.get_mut(key) else { return };
        of_key.retain(|pull| pull.relay != relay);
        if of_key.is_empty() {
            pulls.remove(key);
        }
    }
}

impl OnDemand for Demand {
    fn patience(&self, key: &StreamKey) -> Option<Duration> {
        let on_demand = |pulls: &Vec<Pull>| pulls.iter().any(|pull| pull.on_demand);
        self.0.lock().get(key).is_some_and(on_demand).then_some(PATIENCE)
    }

    fn wanted(&self, key: &StreamKey) {
        self.0.lock().get(key).into_iter().flatten().for_each(|pull| pull.wanted.notify_one());
    }
}

/// Whether somebody wants the stream. What is recorded by itself must not keep a source busy that nobody watches.
pub(super) fn is_wanted(stream: &Stream) -> bool {
    stream.is_wanted(|reader: &ReaderState| reader.client.protocol != "record")
}
