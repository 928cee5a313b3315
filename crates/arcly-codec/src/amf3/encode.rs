use bytes::BufMut;

use super::{Items, MAX_INTEGER, MIN_INTEGER, Object, Value, marker};

/// The largest length that 28 bits can say.
const MAX_LEN: usize = (1 << 28) - 1;

impl Value {
    /// Appends the value, without use of reference tables. An unresolved [`Value::Reference`] has nothing to
    /// refer to and is written as undefined.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Undefined | Self::Reference(_) => out.put_u8(marker::UNDEFINED),
            Self::Null => out.put_u8(marker::NULL),
            Self::Bool(false) => out.put_u8(marker::FALSE),
            Self::Bool(true) => out.put_u8(marker::TRUE),
            Self::Integer(n) if (MIN_INTEGER..=MAX_INTEGER).contains(n) => {
                out.put_u8(marker::INTEGER);
                put_u29(out, n.cast_unsigned() & 0x1FFF_FFFF);
            }
            Self::Integer(n) => put_f64(out, marker::DOUBLE, f64::from(*n)),
            Self::Double(n) => put_f64(out, marker::DOUBLE, *n),
            Self::String(text) => put_bytes(out, marker::STRING, text.as_bytes()),
            Self::XmlDocument(text) => put_bytes(out, marker::XML_DOCUMENT, text.as_bytes()),
            Self::Xml(text) => put_bytes(out, marker::XML, text.as_bytes()),
            Self::ByteArray(bytes) => put_bytes(out, marker::BYTE_ARRAY, bytes),
            Self::Date(ms) => {
                out.put_slice(&[marker::DATE, 1]);
                out.put_f64(*ms);
            }
            container => container.encode_container(out),
        }
    }

    fn encode_container(&self, out: &mut impl BufMut) {
        match self {
            Self::Array(array) => {
                out.put_u8(marker::ARRAY);
                put_len(out, array.dense.len());
                put_named(out, &array.named);
                array.dense.iter().for_each(|value| value.encode(out));
            }
            Self::Object(object) => object.encode(out),
            Self::Vector(vector) => vector.items.encode(out, vector.fixed),
            Self::Dictionary(dictionary) => {
                out.put_u8(marker::DICTIONARY);
                put_len(out, dictionary.entries.len());
                out.put_u8(u8::from(dictionary.weak));
                for (key, value) in &dictionary.entries {
                    key.encode(out);
                    value.encode(out);
                }
            }
            _ => {}
        }
    }
}

impl Object {
    fn encode(&self, out: &mut impl BufMut) {
        out.put_u8(marker::OBJECT);
        if let Some(wrapped) = &self.wrapped {
            put_u29(out, 0b0111);
            put_string(out, &self.class);
            wrapped.encode(out);
            return;
        }
        let (sealed, dynamic) = self.properties.split_at(self.sealed.min(self.properties.len()));
        // One form for all: traits inline, dynamic, so that the rest of the properties may follow.
        put_u29(out, (u29_len(sealed.len()) << 4) & 0x1FFF_FFFF | 0b1011);
        put_string(out, &self.class);
        sealed.iter().for_each(|(key, _)| put_string(out, key));
        sealed.iter().for_each(|(_, value)| value.encode(out));
        put_named(out, dynamic);
    }
}

impl Items {
    fn encode(&self, out: &mut impl BufMut, fixed: bool) {
        let (marker, len) = match self {
            Self::Int(items) => (marker::VECTOR_INT, items.len()),
            Self::Uint(items) => (marker::VECTOR_UINT, items.len()),
            Self::Double(items) => (marker::VECTOR_DOUBLE, items.len()),
            Self::Object(_, items) => (marker::VECTOR_OBJECT, items.len()),
        };
        out.put_u8(marker);
        put_len(out, len);
        out.put_u8(u8::from(fixed));
        match self {
            Self::Int(items) => items.iter().for_each(|n| out.put_i32(*n)),
            Self::Uint(items) => items.iter().for_each(|n| out.put_u32(*n)),
            Self::Double(items) => items.iter().for_each(|n| out.put_f64(*n)),
            Self::Object(class, items) => {
                put_string(out, class);
                items.iter().for_each(|value| value.encode(out));
            }
        }
    }
}

fn put_named(out: &mut impl BufMut, named: &[(std::sync::Arc<str>, Value)]) {
    // An empty name would end the list early.
    for (key, value) in named.iter().filter(|(key, _)| !key.is_empty()) {
        put_string(out, key);
        value.encode(out);
    }
    put_string(out, "");
}

fn put_f64(out: &mut impl BufMut, marker: u8, value: f64) {
    out.put_u8(marker);
    out.put_f64(value);
}

fn put_bytes(out: &mut impl BufMut, marker: u8, bytes: &[u8]) {
    out.put_u8(marker);
    put_len(out, bytes.len());
    out.put_slice(bytes.get(..bytes.len().min(MAX_LEN)).unwrap_or_default());
}

fn put_string(out: &mut impl BufMut, text: &str) {
    put_len(out, text.len());
    out.put_slice(text.as_bytes());
}

fn u29_len(len: usize) -> u32 {
    u32::try_from(len.min(MAX_LEN)).unwrap_or_default()
}

fn put_len(out: &mut impl BufMut, len: usize) {
    put_u29(out, u29_len(len) << 1 | 1);
}

#[allow(clippy::cast_possible_truncation, reason = "each byte is masked to what it carries")]
fn put_u29(out: &mut impl BufMut, n: u32) {
    let seven = |shift: u32| (n >> shift) as u8 & 0x7F;
    match n {
        0..0x80 => out.put_u8(seven(0)),
        0x80..0x4000 => out.put_slice(&[seven(7) | 0x80, seven(0)]),
        0x4000..0x20_0000 => out.put_slice(&[seven(14) | 0x80, seven(7) | 0x80, seven(0)]),
        _ => out.put_slice(&[seven(22) | 0x80, seven(15) | 0x80, seven(8) | 0x80, n as u8]),
    }
}
