//! Tells the observers and the event bus what happens.

use std::sync::Arc;

use crate::contract::observe::{EngineEvent, EventBus, EventReceiver, Observer};

pub(crate) struct Events {
    observers: Vec<Arc<dyn Observer>>,
    bus: EventBus,
}

impl Events {
    pub(crate) fn new(observers: Vec<Arc<dyn Observer>>) -> Self {
        Self { observers, bus: EventBus::default() }
    }

    pub(crate) fn subscribe(&self) -> EventReceiver {
        self.bus.subscribe()
    }

    pub(crate) fn emit(&self, event: EngineEvent) {
        self.observers.iter().for_each(|observer| observer.on_event(&event));
        self.bus.send(event);
    }
}

impl Observer for Events {
    fn on_event(&self, event: &EngineEvent) {
        self.emit(event.clone());
    }
}
