//! Every interleaving of one writer and its readers, in small: the ring and the wait set under loom.
//!
//! The two modules are compiled a second time here, on loom's primitives, so that no other crate needs to know about
//! loom. The slot, which is an `ArcSwapOption` in the product, is a lock here: what is checked is the order of the
//! stores around it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the modules are compiled whole, and used in part")]

mod sync {
    pub(crate) use loom::sync::Arc;
    pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    #[derive(Debug, Default)]
    pub(crate) struct Lock<T>(loom::sync::Mutex<T>);

    impl<T> Lock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }
        pub(crate) fn lock(&self) -> impl core::ops::DerefMut<Target = T> + '_ {
            self.0.lock().unwrap()
        }
        pub(crate) fn try_lock(&self) -> Option<impl core::ops::DerefMut<Target = T> + '_> {
            self.0.try_lock().ok()
        }
    }

    #[derive(Debug)]
    pub(crate) struct Cell<T>(loom::sync::Mutex<Option<Arc<T>>>);

    impl<T> Cell<T> {
        pub(crate) fn empty() -> Self {
            Self(loom::sync::Mutex::new(None))
        }
        pub(crate) fn set(&self, value: Option<Arc<T>>) {
            *self.0.lock().unwrap() = value;
        }
        pub(crate) fn get(&self) -> Option<Arc<T>> {
            self.0.lock().unwrap().clone()
        }
    }
}

#[path = "../src/log/ring.rs"]
mod ring;
#[path = "../src/log/wake.rs"]
mod wake;

use std::sync::atomic::{AtomicUsize as Count, Ordering as StdOrdering};
use std::task::{Wake, Waker};

use loom::thread;
use ring::Ring;
use sync::Arc;
use wake::WaitSet;

/// Counts how often it is woken; outside of loom's model on purpose.
#[derive(Default)]
struct Woken(Count);

impl Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.fetch_add(1, StdOrdering::SeqCst);
    }
}

#[test]
fn a_reader_sees_every_value_in_order_or_learns_that_it_is_gone() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(2));
        let writer = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || (0..3u64).for_each(|value| assert_eq!(ring.push(value * 10), value)))
        };
        let head = ring.head();
        let mut next = 0;
        while next < head {
            match ring.get(next) {
                Some(node) => {
                    assert_eq!((node.seq, node.value), (next, next * 10), "the value of that number")
                }
                // Only what was overwritten may be missing, and only values below the tail are.
                None => assert!(next < ring.tail() || ring.head() > next + 2, "lost {next}"),
            }
            next += 1;
        }
        writer.join().unwrap();
        assert_eq!(ring.get(2).map(|node| node.value), Some(20));
        assert_eq!(ring.get(1).map(|node| node.value), Some(10));
        assert!(ring.get(0).is_none());
    });
}

#[test]
fn a_wake_up_is_never_lost() {
    loom::model(|| {
        let ring = Arc::new(Ring::new(4));
        let waits = Arc::new(WaitSet::new());
        let writer = {
            let (ring, waits) = (Arc::clone(&ring), Arc::clone(&waits));
            thread::spawn(move || {
                ring.push(1u8);
                waits.notify();
            })
        };
        let woken = std::sync::Arc::new(Woken::default());
        let waker = Waker::from(std::sync::Arc::clone(&woken));
        let key = waits.enter();
        waits.register(&key, &waker);
        let seen = ring.head() > 0;
        writer.join().unwrap();
        let woken = woken.0.load(StdOrdering::SeqCst) > 0;
        assert!(seen || woken, "registered before the value came, and not woken by it");
        waits.leave(&key);
    });
}

#[test]
fn whoever_holds_the_lock_wakes_in_the_notifiers_place() {
    loom::model(|| {
        let waits = Arc::new(WaitSet::new());
        let woken = std::sync::Arc::new(Woken::default());
        let key = waits.enter();
        waits.register(&key, &Waker::from(std::sync::Arc::clone(&woken)));
        let other = {
            let waits = Arc::clone(&waits);
            // Another reader that comes and goes holds the lock at every moment it can.
            thread::spawn(move || {
                let key = waits.enter();
                waits.leave(&key);
            })
        };
        waits.notify();
        other.join().unwrap();
        assert_eq!(woken.0.load(StdOrdering::SeqCst), 1, "woken exactly once");
        waits.leave(&key);
    });
}
