use bytes::BufMut;

use super::{Object, Value, marker};

impl Value {
    /// Appends the value.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Number(number) => tagged_f64(out, marker::NUMBER, *number),
            Self::Bool(truth) => {
                out.put_u8(marker::BOOLEAN);
                out.put_u8(u8::from(*truth));
            }
            Self::String(text) => encode_string(out, text),
            Self::XmlDocument(text) => {
                out.put_u8(marker::XML_DOCUMENT);
                long(out, text);
            }
            Self::Object(object) => {
                out.put_u8(marker::OBJECT);
                object.encode(out);
            }
            Self::TypedObject(class, object) => {
                out.put_u8(marker::TYPED_OBJECT);
                short(out, class);
                object.encode(out);
            }
            Self::EcmaArray(object) => {
                out.put_u8(marker::ECMA_ARRAY);
                out.put_u32(count(object.0.len()));
                object.encode(out);
            }
            Self::StrictArray(values) => {
                out.put_u8(marker::STRICT_ARRAY);
                out.put_u32(count(values.len()));
                values.iter().for_each(|value| value.encode(out));
            }
            Self::Date(ms) => {
                tagged_f64(out, marker::DATE, *ms);
                out.put_i16(0);
            }
            Self::Reference(number) => {
                out.put_u8(marker::REFERENCE);
                out.put_u16(*number);
            }
            Self::Null => out.put_u8(marker::NULL),
            Self::Undefined => out.put_u8(marker::UNDEFINED),
            Self::Unsupported => out.put_u8(marker::UNSUPPORTED),
            Self::AvmPlus(value) => {
                out.put_u8(marker::AVM_PLUS);
                value.encode(out);
            }
        }
    }
}

impl Object {
    /// Appends the properties and the end marker, without a marker in front.
    fn encode(&self, out: &mut impl BufMut) {
        for (key, value) in self {
            short(out, key);
            value.encode(out);
        }
        out.put_slice(&[0, 0, marker::OBJECT_END]);
    }
}

fn tagged_f64(out: &mut impl BufMut, marker: u8, value: f64) {
    out.put_u8(marker);
    out.put_f64(value);
}

fn encode_string(out: &mut impl BufMut, text: &str) {
    if u16::try_from(text.len()).is_ok() {
        out.put_u8(marker::STRING);
        short(out, text);
    } else {
        out.put_u8(marker::LONG_STRING);
        long(out, text);
    }
}

/// Text with a 16-bit length. Longer text is cut at a character: only keys and class names of our own
/// making come here, and a cut name is better than a message that nobody can read.
fn short(out: &mut impl BufMut, text: &str) {
    let mut cut = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(cut) {
        cut = cut.saturating_sub(1);
    }
    let bytes = text.as_bytes().get(..cut).unwrap_or_default();
    out.put_u16(u16::try_from(bytes.len()).unwrap_or(u16::MAX));
    out.put_slice(bytes);
}

fn long(out: &mut impl BufMut, text: &str) {
    let bytes = text.as_bytes().get(..count(text.len()) as usize).unwrap_or_default();
    out.put_u32(count(bytes.len()));
    out.put_slice(bytes);
}

fn count(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
