use std::sync::Arc;

use arcly_core::wire::{DecodeError, DecodeResult, Reader};

use super::{Array, Dictionary, Items, MAX_INTEGER, Object, Value, Vector, marker};
use crate::amf0::{Budget, MAX_KEY, plausible_count, text};

/// Externalizable classes whose body is one value.
const WRAPPERS: &[&str] =
    &["flex.messaging.io.ArrayCollection", "flex.messaging.io.ArrayList", "flex.messaging.io.ObjectProxy"];

/// Decodes one value against what the message may still use of its limits.
pub(crate) fn decode_within(r: &mut Reader<'_>, budget: &mut Budget) -> DecodeResult<Value> {
    Decoder { budget, strings: Vec::new(), traits: Vec::new(), complex: 0 }.value(r)
}

struct Traits {
    class: Arc<str>,
    dynamic: bool,
    externalizable: bool,
    members: Vec<Arc<str>>,
}

struct Decoder<'b> {
    budget: &'b mut Budget,
    strings: Vec<Arc<str>>,
    traits: Vec<Arc<Traits>>,
    /// Complex values so far, for checking references.
    complex: u32,
}

/// The first field of most types: its low bit tells a reference from a value.
enum Head {
    Reference(u32),
    /// The remaining 28 bits: a length, or flags.
    Inline(u32),
}

impl Decoder<'_> {
    /// One value. Kept apart from [`Self::scalar`], so that nesting costs little stack.
    fn value(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        self.budget.node()?;
        match r.peek() {
            Some(
                marker::ARRAY
                | marker::OBJECT
                | marker::VECTOR_INT..=marker::VECTOR_OBJECT
                | marker::DICTIONARY,
            ) => self.container(r),
            _ => self.scalar(r),
        }
    }

    fn scalar(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        let at = *r;
        match r.u8("amf3 marker")? {
            marker::UNDEFINED => Ok(Value::Undefined),
            marker::NULL => Ok(Value::Null),
            marker::FALSE => Ok(Value::Bool(false)),
            marker::TRUE => Ok(Value::Bool(true)),
            marker::INTEGER => u29(r).map(|n| Value::Integer(sign_extend(n))),
            marker::DOUBLE => r.f64("amf3 double").map(Value::Double),
            marker::STRING => self.string(r).map(Value::String),
            marker @ (marker::XML_DOCUMENT | marker::DATE | marker::XML | marker::BYTE_ARRAY) => {
                match self.head(r)? {
                    Head::Reference(number) => Ok(Value::Reference(number)),
                    Head::Inline(head) => Self::blob(marker, head, r),
                }
            }
            _ => Err(at.malformed("amf3 marker")),
        }
    }

    fn blob(marker: u8, head: u32, r: &mut Reader<'_>) -> DecodeResult<Value> {
        match marker {
            marker::DATE => r.f64("amf3 date").map(Value::Date),
            marker::XML_DOCUMENT => bytes(r, head).map(|b| Value::XmlDocument(text(b))),
            marker::XML => bytes(r, head).map(|b| Value::Xml(text(b))),
            _ => bytes(r, head).map(|b| Value::ByteArray(b.to_vec())),
        }
    }

    fn container(&mut self, r: &mut Reader<'_>) -> DecodeResult<Value> {
        let marker = r.u8("amf3 marker")?;
        let head = match self.head(r)? {
            Head::Reference(number) => return Ok(Value::Reference(number)),
            Head::Inline(head) => head,
        };
        self.budget.enter()?;
        let value = match marker {
            marker::ARRAY => self.array(r, head),
            marker::OBJECT => self.object(r, head),
            marker::DICTIONARY => self.dictionary(r, head),
            _ => self.vector(marker, r, head),
        };
        self.budget.leave();
        value
    }

    fn head(&mut self, r: &mut Reader<'_>) -> DecodeResult<Head> {
        let at = *r;
        let head = u29(r)?;
        if head & 1 == 1 {
            self.complex = self.complex.saturating_add(1);
            return Ok(Head::Inline(head >> 1));
        }
        if head >> 1 >= self.complex {
            return Err(at.malformed("amf3 reference"));
        }
        Ok(Head::Reference(head >> 1))
    }

    /// UTF-8-vr: the empty string is never put into the table (§1.3.2).
    fn string(&mut self, r: &mut Reader<'_>) -> DecodeResult<Arc<str>> {
        let at = *r;
        let head = u29(r)?;
        if head & 1 == 0 {
            let known = self.strings.get(usize_of(head >> 1));
            return known.map(Arc::clone).ok_or_else(|| at.malformed("amf3 string reference"));
        }
        let value = text(bytes(r, head >> 1)?);
        if !value.is_empty() {
            self.strings.push(Arc::clone(&value));
        }
        Ok(value)
    }

    fn key(&mut self, r: &mut Reader<'_>) -> DecodeResult<Arc<str>> {
        let key = self.string(r)?;
        // Three bytes of U+FFFD may stand for one received byte, so the bound is on what is kept.
        if key.len() > MAX_KEY {
            return Err(DecodeError::LimitExceeded { what: "amf_key", limit: MAX_KEY as u64 });
        }
        Ok(key)
    }

    /// Named values up to the one with an empty name, which ends them.
    fn named(&mut self, r: &mut Reader<'_>, into: &mut Vec<(Arc<str>, Value)>) -> DecodeResult<()> {
        loop {
            let key = self.key(r)?;
            if key.is_empty() {
                return Ok(());
            }
            into.push((key, self.value(r)?));
        }
    }

    fn values(&mut self, r: &mut Reader<'_>, count: u32, into: &mut Vec<Value>) -> DecodeResult<()> {
        plausible_count(r, usize_of(count), "amf3 elements")?;
        for _ in 0..count {
            into.push(self.value(r)?);
        }
        Ok(())
    }

    fn array(&mut self, r: &mut Reader<'_>, count: u32) -> DecodeResult<Value> {
        let mut array = Box::<Array>::default();
        self.named(r, &mut array.named)?;
        self.values(r, count, &mut array.dense)?;
        Ok(Value::Array(array))
    }

    fn object(&mut self, r: &mut Reader<'_>, head: u32) -> DecodeResult<Value> {
        let traits = self.traits(r, head)?;
        let mut object = Box::<Object>::default();
        object.class = Arc::clone(&traits.class);
        if traits.externalizable {
            if !WRAPPERS.contains(&&*traits.class) {
                return Err(r.malformed("amf3 externalizable class"));
            }
            object.wrapped = Some(self.value(r)?);
            return Ok(Value::Object(object));
        }
        for member in &traits.members {
            object.properties.push((Arc::clone(member), self.value(r)?));
        }
        object.sealed = object.properties.len();
        if traits.dynamic {
            self.named(r, &mut object.properties)?;
        }
        Ok(Value::Object(object))
    }

    /// U29O-traits, U29O-traits-ref and U29O-traits-ext (§3.12), without the bit that [`Self::head`] took.
    fn traits(&mut self, r: &mut Reader<'_>, head: u32) -> DecodeResult<Arc<Traits>> {
        if head & 1 == 0 {
            let known = self.traits.get(usize_of(head >> 1));
            return known.map(Arc::clone).ok_or_else(|| r.malformed("amf3 traits reference"));
        }
        let (externalizable, dynamic) = (head & 2 != 0, head & 4 != 0);
        let class = self.key(r)?;
        let count = if externalizable { 0 } else { head >> 3 };
        plausible_count(r, usize_of(count), "amf3 members")?;
        let mut members = Vec::new();
        for _ in 0..count {
            self.budget.node()?;
            members.push(self.key(r)?);
        }
        let traits = Arc::new(Traits { class, dynamic, externalizable, members });
        self.traits.push(Arc::clone(&traits));
        Ok(traits)
    }

    fn vector(&mut self, marker: u8, r: &mut Reader<'_>, count: u32) -> DecodeResult<Value> {
        let fixed = r.u8("amf3 vector fixed")? != 0;
        let items = match marker {
            marker::VECTOR_INT => Items::Int(numbers(r, count, |r| r.i32("amf3 vector"))?),
            marker::VECTOR_UINT => Items::Uint(numbers(r, count, |r| r.u32("amf3 vector"))?),
            marker::VECTOR_DOUBLE => Items::Double(numbers(r, count, |r| r.f64("amf3 vector"))?),
            _ => {
                let (class, mut items) = (self.key(r)?, Vec::new());
                self.values(r, count, &mut items)?;
                Items::Object(class, items)
            }
        };
        Ok(Value::Vector(Box::new(Vector { fixed, items })))
    }

    fn dictionary(&mut self, r: &mut Reader<'_>, count: u32) -> DecodeResult<Value> {
        let mut dictionary = Box::<Dictionary>::default();
        dictionary.weak = r.u8("amf3 dictionary weak")? != 0;
        plausible_count(r, usize_of(count).saturating_mul(2), "amf3 dictionary")?;
        for _ in 0..count {
            let key = self.value(r)?;
            dictionary.entries.push((key, self.value(r)?));
        }
        Ok(Value::Dictionary(dictionary))
    }
}

fn usize_of(n: u32) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn bytes<'a>(r: &mut Reader<'a>, len: u32) -> DecodeResult<&'a [u8]> {
    r.bytes(usize_of(len), "amf3 bytes")
}

/// Plain numbers; they are not nodes, as the message itself is as large as they are.
fn numbers<T>(
    r: &mut Reader<'_>,
    count: u32,
    mut one: impl FnMut(&mut Reader<'_>) -> DecodeResult<T>,
) -> DecodeResult<Vec<T>> {
    plausible_count(r, usize_of(count).saturating_mul(size_of::<T>()), "amf3 vector")?;
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(one(r)?);
    }
    Ok(numbers)
}

/// Seven bits in each of up to three bytes, eight in the fourth (§1.3.1).
fn u29(r: &mut Reader<'_>) -> DecodeResult<u32> {
    let mut value = 0u32;
    for _ in 0..3 {
        let byte = r.u8("amf3 u29")?;
        value = (value << 7) | u32::from(byte & 0x7F);
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Ok((value << 8) | u32::from(r.u8("amf3 u29")?))
}

const fn sign_extend(n: u32) -> i32 {
    let n = n.cast_signed();
    if n > MAX_INTEGER { n.wrapping_sub(1 << 29) } else { n }
}
