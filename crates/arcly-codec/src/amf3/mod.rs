//! AMF3, the value format that ActionScript 3 programs send instead of AMF0.
//!
//! | document | section | here |
//! |---|---|---|
//! | AMF 3 file format (amf-file-format-spec) | §1.3 U29, UTF-8-vr | [`Value::Integer`], string table |
//! | the same | §3.2–3.16 types | [`Value`] |
//!
//! Guarantees: those of [`crate::amf0`], whose limits hold for an AMF3 value inside an AMF0 message as well.
//! Strings of the reference table are shared, not copied, so a reference costs nothing.
//!
//! Tolerated: text that is not UTF-8 (see [`crate::amf0`]).
//!
//! Not done: references to *values* are kept as [`Value::Reference`], because resolving them lets a short
//! message stand for an exponentially large value. Externalizable classes (§3.12) have a private format;
//! only Flex's wrappers of one value (`ArrayCollection`, `ObjectProxy`) are known. Encoding uses no
//! reference tables: it is always valid, and arcly sends AMF3 only in answer to AMF3.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod decode;
mod encode;
#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
mod tests;

use std::sync::Arc;

use arcly_core::wire::{DecodeResult, Reader};

use crate::amf0::Budget;

pub(crate) use decode::decode_within;

mod marker {
    pub(super) const UNDEFINED: u8 = 0x00;
    pub(super) const NULL: u8 = 0x01;
    pub(super) const FALSE: u8 = 0x02;
    pub(super) const TRUE: u8 = 0x03;
    pub(super) const INTEGER: u8 = 0x04;
    pub(super) const DOUBLE: u8 = 0x05;
    pub(super) const STRING: u8 = 0x06;
    pub(super) const XML_DOCUMENT: u8 = 0x07;
    pub(super) const DATE: u8 = 0x08;
    pub(super) const ARRAY: u8 = 0x09;
    pub(super) const OBJECT: u8 = 0x0A;
    pub(super) const XML: u8 = 0x0B;
    pub(super) const BYTE_ARRAY: u8 = 0x0C;
    pub(super) const VECTOR_INT: u8 = 0x0D;
    pub(super) const VECTOR_UINT: u8 = 0x0E;
    pub(super) const VECTOR_DOUBLE: u8 = 0x0F;
    pub(super) const VECTOR_OBJECT: u8 = 0x10;
    pub(super) const DICTIONARY: u8 = 0x11;
}

/// Smallest number that [`Value::Integer`] carries: 29 bits, two's complement.
pub const MIN_INTEGER: i32 = -(1 << 28);
/// Largest number that [`Value::Integer`] carries.
pub const MAX_INTEGER: i32 = (1 << 28) - 1;

/// An AMF3 value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// Undefined.
    Undefined,
    /// Null.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number of 29 bits; one that does not fit is written as a double.
    Integer(i32),
    /// A double.
    Double(f64),
    /// Text.
    String(Arc<str>),
    /// A legacy XML document as text.
    XmlDocument(Arc<str>),
    /// An E4X document as text.
    Xml(Arc<str>),
    /// Milliseconds since 1970, UTC.
    Date(f64),
    /// An array.
    Array(Box<Array>),
    /// An object.
    Object(Box<Object>),
    /// Bytes.
    ByteArray(Vec<u8>),
    /// A typed vector.
    Vector(Box<Vector>),
    /// Keys that may be any value.
    Dictionary(Box<Dictionary>),
    /// The number of an earlier complex value of the same message; not resolved.
    Reference(u32),
}

/// An AMF3 array: values by name and values in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array {
    /// Named values.
    pub named: Vec<(Arc<str>, Value)>,
    /// Values in order.
    pub dense: Vec<Value>,
}

/// An AMF3 object; its class says which properties are sealed, the rest are dynamic.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object {
    /// Class name; empty for an anonymous object.
    pub class: Arc<str>,
    /// Sealed properties come first: this many of `properties`.
    pub sealed: usize,
    /// Properties in the order of the wire.
    pub properties: Vec<(Arc<str>, Value)>,
    /// The value that a known externalizable class wraps; `properties` is then empty.
    pub wrapped: Option<Value>,
}

/// A typed vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Vector {
    /// The length cannot change.
    pub fixed: bool,
    /// Its elements.
    pub items: Items,
}

/// A map whose keys may be any value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dictionary {
    /// Keys do not keep their objects alive.
    pub weak: bool,
    /// Keys and values.
    pub entries: Vec<(Value, Value)>,
}

/// The elements of a typed vector.
#[derive(Clone, Debug, PartialEq)]
pub enum Items {
    /// `Vector.<int>`.
    Int(Vec<i32>),
    /// `Vector.<uint>`.
    Uint(Vec<u32>),
    /// `Vector.<Number>`.
    Double(Vec<f64>),
    /// A vector of the named class.
    Object(Arc<str>, Vec<Value>),
}

impl Value {
    /// Decodes one value with reference tables of its own; fewer bytes than it needs are
    /// [`Incomplete`](arcly_core::wire::DecodeError::Incomplete).
    pub fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        decode_within(r, &mut Budget::new())
    }

    /// The number, when it is one.
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Integer(n) => Some(f64::from(*n)),
            Self::Double(n) => Some(*n),
            _ => None,
        }
    }

    /// The truth value, when it is one.
    #[must_use]
    pub const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The text, when it is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::Xml(text) | Self::XmlDocument(text) => Some(text),
            _ => None,
        }
    }
}
