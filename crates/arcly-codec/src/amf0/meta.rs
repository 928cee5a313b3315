//! AMF0 values as stream metadata, and back.

use std::sync::Arc;

use arcly_core::{MetaValue, Metadata};

use super::{Object, Value};
use crate::amf3;

impl Object {
    /// The properties as stream metadata.
    #[must_use]
    pub fn to_metadata(&self) -> Metadata {
        Metadata { entries: entries(self) }
    }
}

impl From<&Metadata> for Object {
    fn from(metadata: &Metadata) -> Self {
        object(&metadata.entries)
    }
}

impl From<&Value> for MetaValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::Number(n) => Self::Number(*n),
            Value::Bool(b) => Self::Bool(*b),
            Value::String(text) | Value::XmlDocument(text) => Self::Text(Arc::clone(text)),
            Value::Date(ms) => Self::Date(*ms),
            Value::Object(o) | Value::EcmaArray(o) | Value::TypedObject(_, o) => Self::Object(entries(o)),
            Value::StrictArray(values) => Self::List(values.iter().map(Self::from).collect()),
            Value::AvmPlus(value) => Self::from(&**value),
            Value::Null | Value::Undefined | Value::Unsupported | Value::Reference(_) => Self::Null,
        }
    }
}

impl From<&MetaValue> for Value {
    fn from(value: &MetaValue) -> Self {
        match value {
            MetaValue::Number(n) => Self::Number(*n),
            MetaValue::Bool(b) => Self::Bool(*b),
            MetaValue::Text(text) => Self::String(Arc::clone(text)),
            MetaValue::Date(ms) => Self::Date(*ms),
            MetaValue::Object(properties) => Self::Object(object(properties)),
            MetaValue::List(values) => Self::StrictArray(values.iter().map(Self::from).collect()),
            _ => Self::Null,
        }
    }
}

impl From<&amf3::Value> for MetaValue {
    fn from(value: &amf3::Value) -> Self {
        match value {
            amf3::Value::Bool(b) => Self::Bool(*b),
            amf3::Value::Integer(n) => Self::Number(f64::from(*n)),
            amf3::Value::Double(n) => Self::Number(*n),
            amf3::Value::String(text) | amf3::Value::Xml(text) | amf3::Value::XmlDocument(text) => {
                Self::Text(Arc::clone(text))
            }
            amf3::Value::Date(ms) => Self::Date(*ms),
            amf3::Value::Array(array) if array.named.is_empty() => {
                Self::List(array.dense.iter().map(Self::from).collect())
            }
            amf3::Value::Array(array) => Self::Object(amf3_entries(&array.named)),
            amf3::Value::Object(object) => Self::Object(amf3_entries(&object.properties)),
            _ => Self::Null,
        }
    }
}

fn entries(object: &Object) -> Vec<(Arc<str>, MetaValue)> {
    object.iter().map(|(key, value)| (Arc::clone(key), value.into())).collect()
}

fn object(properties: &[(Arc<str>, MetaValue)]) -> Object {
    Object(properties.iter().map(|(key, value)| (Arc::clone(key), value.into())).collect())
}

fn amf3_entries(properties: &[(Arc<str>, amf3::Value)]) -> Vec<(Arc<str>, MetaValue)> {
    properties.iter().map(|(key, value)| (Arc::clone(key), value.into())).collect()
}
