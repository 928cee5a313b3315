//! A playlist as text, which everybody who asks for it shares.

use core::fmt;
use std::sync::OnceLock;

use bytes::Bytes;

/// The text of a playlist, and where the URIs in it end.
///
/// What identifies a client in the URL of a playlist (`?token=…`) has to stand in the URIs within it too, as players do
/// not carry it over. So that the text is rendered once nevertheless, it remembers the places.
#[derive(Clone, Debug, Default)]
pub struct Text {
    text: Bytes,
    uri_ends: Vec<usize>,
    gzip: OnceLock<Bytes>,
}

impl Text {
    /// As it is for clients without a query.
    #[must_use]
    pub const fn plain(&self) -> &Bytes {
        &self.text
    }

    /// The same, compressed by `compress` for the first who asks.
    pub fn gzip(&self, compress: impl FnOnce(&[u8]) -> Bytes) -> Bytes {
        self.gzip.get_or_init(|| compress(&self.text)).clone()
    }

    /// The text with `?query` behind every URI.
    #[must_use]
    pub fn with_query(&self, query: &str) -> Bytes {
        let room = query.len().saturating_add(1).saturating_mul(self.uri_ends.len());
        let mut out = Vec::with_capacity(self.text.len().saturating_add(room));
        let mut from = 0;
        for end in &self.uri_ends {
            out.extend_from_slice(self.text.get(from..*end).unwrap_or_default());
            out.push(b'?');
            out.extend_from_slice(query.as_bytes());
            from = *end;
        }
        out.extend_from_slice(self.text.get(from..).unwrap_or_default());
        out.into()
    }
}

/// Writes a [`Text`].
#[derive(Debug, Default)]
pub(super) struct Writer {
    out: String,
    uri_ends: Vec<usize>,
}

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        Self { out: String::with_capacity(capacity), uri_ends: Vec::new() }
    }

    /// A piece of a line, or a whole one with its end.
    pub(super) fn put(&mut self, piece: fmt::Arguments<'_>) {
        let written = fmt::Write::write_fmt(&mut self.out, piece);
        debug_assert!(written.is_ok(), "a string takes everything");
    }

    /// A URI.
    pub(super) fn uri(&mut self, file: super::File) {
        self.put(format_args!("{file}"));
        self.uri_ends.push(self.out.len());
    }

    pub(super) fn finish(self) -> Text {
        Text { text: self.out.into(), uri_ends: self.uri_ends, gzip: OnceLock::new() }
    }
}

/// The inside of a quoted-string (4.2): no quotes and no line ends, nor anything else that controls.
pub(super) fn quoted(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() && *c != '"').collect()
}
