//! The primitives that the ring and the wait set stand on; `tests/loom.rs` puts loom's in their place.

pub(crate) use std::sync::Arc;
pub(crate) use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// A mutex that cannot be poisoned.
#[derive(Debug, Default)]
pub(crate) struct Lock<T>(parking_lot::Mutex<T>);

impl<T> Lock<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(parking_lot::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> impl core::ops::DerefMut<Target = T> + '_ {
        self.0.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<impl core::ops::DerefMut<Target = T> + '_> {
        self.0.try_lock()
    }
}

/// A place for one shared value, replaced and read without locks.
#[derive(Debug)]
pub(crate) struct Cell<T>(arc_swap::ArcSwapOption<T>);

impl<T> Cell<T> {
    pub(crate) fn empty() -> Self {
        Self(arc_swap::ArcSwapOption::const_empty())
    }

    pub(crate) fn set(&self, value: Option<Arc<T>>) {
        self.0.store(value);
    }

    pub(crate) fn get(&self) -> Option<Arc<T>> {
        self.0.load_full()
    }
}
