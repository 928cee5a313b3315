//! AMF0, the value format of RTMP commands and FLV script data.
//!
//! | document | section | here |
//! |---|---|---|
//! | AMF 0 file format (amf0-file-format-specification) | §2.2–2.17 types | [`Value`] |
//! | the same | §2.18 avmplus-object-marker | [`Value::AvmPlus`] into [`crate::amf3`] |
//!
//! Guarantees: no panic; nesting of at most [`MAX_DEPTH`] containers, at most [`MAX_NODES`] values in one
//! message, keys of at most [`MAX_KEY`] bytes; a declared count never sizes an allocation; the stack at the
//! depth limit stays below 64 KiB (`r14_*` in the tests runs on such a stack).
//!
//! Tolerated: text that is not UTF-8 has the offending bytes replaced with U+FFFD, because encoders put the
//! local code page into `onMetaData` (and no stream name may contain U+FFFD, so such a *name* is refused
//! further up); the count of an ECMA array may be too small, because encoders write 0 or an estimate.
//!
//! Not done: references (§2.9) are kept as [`Value::Reference`] and not resolved. No RTMP program sends
//! them, and resolving them lets a short message stand for an exponentially large value.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

mod encode;
mod meta;
#[cfg(test)]
#[allow(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "tests"
)]
mod tests;

use std::sync::Arc;

use arcly_core::wire::{DecodeError, DecodeResult, Reader};

use crate::amf3;

/// Containers that may be nested inside each other.
pub const MAX_DEPTH: u8 = 32;
/// Values in one message, members and elements included.
pub const MAX_NODES: u16 = 4_096;
/// Bytes of a property name.
pub const MAX_KEY: usize = 1_024;

pub(crate) mod marker {
    pub(crate) const NUMBER: u8 = 0x00;
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const STRING: u8 = 0x02;
    pub(crate) const OBJECT: u8 = 0x03;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const UNDEFINED: u8 = 0x06;
    pub(crate) const REFERENCE: u8 = 0x07;
    pub(crate) const ECMA_ARRAY: u8 = 0x08;
    pub(crate) const OBJECT_END: u8 = 0x09;
    pub(crate) const STRICT_ARRAY: u8 = 0x0A;
    pub(crate) const DATE: u8 = 0x0B;
    pub(crate) const LONG_STRING: u8 = 0x0C;
    pub(crate) const UNSUPPORTED: u8 = 0x0D;
    pub(crate) const XML_DOCUMENT: u8 = 0x0F;
    pub(crate) const TYPED_OBJECT: u8 = 0x10;
    pub(crate) const AVM_PLUS: u8 = 0x11;
}

/// An AMF0 value.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// A double.
    Number(f64),
    /// A truth value.
    Bool(bool),
    /// Text; a short or long string on the wire, by its length.
    String(Arc<str>),
    /// An anonymous object.
    Object(Object),
    /// Null.
    Null,
    /// Undefined.
    Undefined,
    /// The number of an earlier complex value of the same message; not resolved.
    Reference(u16),
    /// An associative array: on the wire it differs from an object by its marker and a count.
    EcmaArray(Object),
    /// Values in order.
    StrictArray(Vec<Self>),
    /// Milliseconds since 1970, UTC. The time zone field is reserved and written as 0.
    Date(f64),
    /// "A type that cannot be serialised".
    Unsupported,
    /// An XML document as text.
    XmlDocument(Arc<str>),
    /// An object with a class name.
    TypedObject(Arc<str>, Object),
    /// A value in AMF3.
    AvmPlus(Box<amf3::Value>),
}

/// Named values in the order of the wire; of several with one name the first counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Object(pub Vec<(Arc<str>, Value)>);

impl Object {
    /// An object without properties.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The same object with one more property: `Object::new().with("level", "status")`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.push((key.into(), value.into()));
        self
    }

    /// The property of that name.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(name, _)| &**name == key).map(|(_, value)| value)
    }

    /// The text of that property, when it is text.
    #[must_use]
    pub fn str(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    /// The number of that property, when it is a number.
    #[must_use]
    pub fn number(&self, key: &str) -> Option<f64> {
        self.get(key).and_then(Value::as_number)
    }

    /// The properties in order.
    pub fn iter(&self) -> core::slice::Iter<'_, (Arc<str>, Value)> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Object {
    type Item = &'a (Arc<str>, Value);
    type IntoIter = core::slice::Iter<'a, (Arc<str>, Value)>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K: Into<Arc<str>>, V: Into<Value>> FromIterator<(K, V)> for Object {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(properties: I) -> Self {
        Self(properties.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

impl Value {
    /// Decodes one value; fewer bytes than it needs are [`DecodeError::Incomplete`].
    pub fn decode(r: &mut Reader<'_>) -> DecodeResult<Self> {
        Decoder { budget: Budget::new() }.value(r)
    }

    /// The number, when it is one (in AMF3 too).
    #[must_use]
    pub fn as_number(&self) -> Option<f64> {
        match self {
            Self::Number(n) => Some(*n),
            Self::AvmPlus(value) => value.as_number(),
            _ => None,
        }
    }

    /// The truth value, when it is one (in AMF3 too).
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(b) => Some(*b),
            Self::AvmPlus(value) => value.as_bool(),
            _ => None,
        }
    }

    /// The text, when it is text (in AMF3 too).
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) | Self::XmlDocument(text) => Some(text),
            Self::AvmPlus(value) => value.as_str(),
            _ => None,
        }
    }

    /// The properties, when it has some by name: object, ECMA array, typed object.
    #[must_use]
    pub const fn as_object(&self) -> Option<&Object> {
        match self {
            Self::Object(object) | Self::EcmaArray(object) | Self::TypedObject(_, object) => Some(object),
            _ => None,
        }
    }

    /// True for null and undefined.
    #[must_use]
    pub fn is_null(&self) -> bool {
        match self {
            Self::Null | Self::Undefined => true,
            Self::AvmPlus(value) => matches!(**value, amf3::Value::Null | amf3::Value::Undefined),
            _ => false,
        }
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(f64::from(number))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text.into())
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::String(text)
    }
}

impl From<Object> for Value {
    fn from(object: Object) -> Self {
        Self::Object(object)
    }
}

impl From<Vec<Self>> for Value {
    fn from(values: Vec<Self>) -> Self {
        Self::StrictArray(values)
    }
}

/// Decodes all values of a message body. The body is a closed unit: a value that runs over its end is
/// malformed. The node limit holds for the message as a whole.
pub fn decode_all(body: &[u8]) -> DecodeResult<Vec<Value>> {
    let mut r = Reader::new(body);
    let mut decoder = Decoder { budget: Budget::new() };
    let mut values = Vec::new();
    while !r.is_empty() {
        values.push(decoder.value(&mut r).map_err(|e| e.in_closed_unit(r.position()))?);
    }
    Ok(values)
}

/// Encodes values one after the other, as the body of a command or data message.
pub fn encode_all(values: &[Value]) -> Vec<u8> {
    let mut out = Vec::new();
    values.iter().for_each(|value| value.encode(&mut out));
    out
}

/// What one message may still use of the limits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    depth: u8,
    nodes: u16,
}

impl Budget {
    pub(crate) const fn new() -> Self {
        Self { depth: MAX_DEPTH, nodes: MAX_NODES }
    }

    /// Accounts for one more value.
    pub(crate) fn node(&mut self) -> DecodeResult<()> {
        let error = DecodeError::LimitExceeded { what: "amf_nodes", limit: u64::from(MAX_NODES) };
        self.nodes = self.nodes.checked_sub(1).ok_or(error)?;
        Ok(())
    }

    /// Enters a container; each `enter` has its `leave`.
    pub(crate) fn enter(&mut self) -> DecodeResult<()> {
        let error = DecodeError::LimitExceeded { what: "amf_depth", limit: u64::from(MAX_DEPTH) };
        self.depth = self.depth.checked_sub(1).ok_or(error)?;
        Ok(())
    }

    pub(crate) const fn leave(&mut self) {
        self.depth = self.depth.saturating_add(1);
    }
}

/// Fails when `count` things of at least one byte each cannot be in what is left.
pub(crate) fn plausible_count(r: &Reader<'_>, count: usize, what: &'static str) -> DecodeResult<()> {
    match count.checked_sub(r.remaining()) {
        None | Some(0) => Ok(()),
        Some(needed) => Err(DecodeError::Incomplete { what, needed }),
    }
}

pub(crate) fn text(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes).into()
}

struct Decoder {
    budget: Budget,
}

impl Decoder {
    fn value(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        self.budget.node()?;
        let at = *r;
        match r.u8("amf0 marker")? {
            marker::OBJECT => self.object(r).map(Value::Object),
            marker::ECMA_ARRAY => self.ecma_array(r),
            marker::STRICT_ARRAY => self.strict_array(r),
            marker::TYPED_OBJECT => self.typed_object(r),
            marker::AVM_PLUS => self.avm_plus(r),
            scalar => Self::scalar(scalar, r, at),
        }
    }

    fn scalar(marker: u8, r: &mut Reader<'_>, at: Reader<'_>) -> DecodeResult<Value> {
        Ok(match marker {
            marker::NUMBER => Value::Number(r.f64("amf0 number")?),
            marker::BOOLEAN => Value::Bool(r.u8("amf0 boolean")? != 0),
            marker::STRING => Value::String(Self::string(r)?),
            marker::LONG_STRING => Value::String(Self::long_string(r)?),
            marker::XML_DOCUMENT => Value::XmlDocument(Self::long_string(r)?),
            marker::NULL => Value::Null,
            marker::UNDEFINED => Value::Undefined,
            marker::UNSUPPORTED => Value::Unsupported,
            marker::REFERENCE => Value::Reference(r.u16("amf0 reference")?),
            marker::DATE => {
                let ms = r.f64("amf0 date")?;
                r.skip(2, "amf0 time zone")?;
                Value::Date(ms)
            }
            _ => return Err(at.malformed("amf0 marker")),
        })
    }

    fn string(r: &mut Reader<'_>) -> DecodeResult<Arc<str>> {
        let len = r.u16("amf0 string length")?;
        r.bytes(usize::from(len), "amf0 string").map(text)
    }

    fn long_string(r: &mut Reader<'_>) -> DecodeResult<Arc<str>> {
        let len = r.u32("amf0 long string length")?;
        r.bytes(usize::try_from(len).unwrap_or(usize::MAX), "amf0 long string").map(text)
    }

    /// A property name; `None` at the end of the object.
    fn key(r: &mut Reader<'_>) -> DecodeResult<Option<Arc<str>>> {
        let len = usize::from(r.u16("amf0 key length")?);
        if len > MAX_KEY {
            return Err(DecodeError::LimitExceeded { what: "amf_key", limit: MAX_KEY as u64 });
        }
        let name = r.bytes(len, "amf0 key")?;
        if name.is_empty() && r.peek() == Some(marker::OBJECT_END) {
            r.skip(1, "amf0 object end")?;
            return Ok(None);
        }
        Ok(Some(text(name)))
    }

    fn object(&mut self, r: &mut Reader<'_>) -> DecodeResult<Object> {
        self.budget.enter()?;
        let mut properties = Vec::new();
        while let Some(key) = Self::key(r)? {
            properties.push((key, self.value(r)?));
        }
        self.budget.leave();
        Ok(Object(properties))
    }

    fn ecma_array(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        let count = r.u32("amf0 array count")?;
        plausible_count(r, usize::try_from(count).unwrap_or(usize::MAX), "amf0 array")?;
        self.object(r).map(Value::EcmaArray)
    }

    fn strict_array(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        let count = r.u32("amf0 array count")?;
        plausible_count(r, usize::try_from(count).unwrap_or(usize::MAX), "amf0 array")?;
        self.budget.enter()?;
        let mut values = Vec::new();
        for _ in 0..count {
            values.push(self.value(r)?);
        }
        self.budget.leave();
        Ok(Value::StrictArray(values))
    }

    fn typed_object(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        let class = Self::string(r)?;
        Ok(Value::TypedObject(class, self.object(r)?))
    }

    fn avm_plus(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        amf3::decode_within(r, &mut self.budget).map(|value| Value::AvmPlus(Box::new(value)))
    }
}
