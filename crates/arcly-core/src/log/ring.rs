//! A ring of numbered, shared values with one writer and any number of readers.
//!
//! Values are numbered from 0 for ever; number `n` lives in slot `n % capacity` until the writer clears it or
//! writes the next value of that slot. A reader holds a number and nothing else, so that it can neither block the
//! writer nor keep a value alive; what it finds at its number is that very value or nothing.

use core::mem::ManuallyDrop;

use super::sync::{Arc, AtomicU64, Cell, Ordering};

/// A value and its number.
#[derive(Debug)]
pub(crate) struct Node<V> {
    pub(crate) seq: u64,
    pub(crate) value: V,
}

#[derive(Debug)]
pub(crate) struct Ring<V> {
    /// Emptied, and not dropped: dropping a cell looks for readers on every thread, which is dear for thousands of empty
    /// ones, and a server in which hundreds of streams end at once would stand still meanwhile.
    slots: Box<[ManuallyDrop<Cell<Node<V>>>]>,
    /// The number that the next value gets. Stored after the slot, so that whoever sees it finds the value.
    head: AtomicU64,
    /// The lowest number that may still be there.
    tail: AtomicU64,
}

impl<V> Ring<V> {
    /// A ring for at least `capacity` values (the next power of two).
    pub(crate) fn new(capacity: usize) -> Self {
        let slots =
            (0..capacity.max(1).next_power_of_two()).map(|_| ManuallyDrop::new(Cell::empty())).collect();
        Self { slots, head: AtomicU64::new(0), tail: AtomicU64::new(0) }
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.slots.len() as u64
    }

    /// The number that the next value gets.
    pub(crate) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    /// The lowest number that may still be there.
    pub(crate) fn tail(&self) -> u64 {
        self.tail.load(Ordering::Acquire)
    }

    fn slot(&self, seq: u64) -> Option<&Cell<Node<V>>> {
        // The capacity is a power of two, and fits `usize` because the slots exist.
        self.slots.get((seq & (self.capacity() - 1)) as usize).map(|slot| &**slot)
    }

    /// Appends a value. Only the one writer calls this.
    pub(crate) fn push(&self, value: V) -> u64 {
        let seq = self.head.load(Ordering::Relaxed);
        if seq - self.tail.load(Ordering::Relaxed) >= self.capacity() {
            self.clear_to(seq + 1 - self.capacity());
        }
        if let Some(slot) = self.slot(seq) {
            slot.set(Some(Arc::new(Node { seq, value })));
        }
        self.head.store(seq + 1, Ordering::Release);
        seq
    }

    /// Forgets every value below `tail`. Only the one writer calls this.
    pub(crate) fn clear_to(&self, tail: u64) {
        let from = self.tail.load(Ordering::Relaxed);
        let to = tail.min(self.head.load(Ordering::Relaxed));
        if to <= from {
            return;
        }
        self.tail.store(to, Ordering::Release);
        for seq in from..to {
            if let Some(slot) = self.slot(seq) {
                slot.set(None);
            }
        }
    }

    /// The value of that number, if it is there.
    pub(crate) fn get(&self, seq: u64) -> Option<Arc<Node<V>>> {
        self.slot(seq)?.get().filter(|node| node.seq == seq)
    }
}

impl<V> Drop for Ring<V> {
    fn drop(&mut self) {
        self.clear_to(self.head());
    }
}
