//! What stands in the place of encryption where it is not built: nothing that could be made.

use super::super::window::Segment;

/// How segments are encrypted; there is none without the feature `encryption`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encryption {}

/// A key; there is none without the feature `encryption`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {}

impl Key {
    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u64 {
        match *self {}
    }

    /// The key.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 16] {
        match *self {}
    }
}

/// Encrypts segments.
#[derive(Debug)]
pub(in crate::live) enum Sealer {}

impl Sealer {
    pub(in crate::live) const fn new(how: Encryption) -> Self {
        match how {}
    }

    pub(in crate::live) const fn seal(&mut self, _segment: &mut Segment) {
        match *self {}
    }
}
