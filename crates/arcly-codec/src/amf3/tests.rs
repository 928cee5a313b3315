use arcly_core::wire::DecodeError;
use proptest::prelude::*;

use super::*;

fn decode(bytes: &[u8]) -> DecodeResult<Value> {
    let mut r = Reader::new(bytes);
    let value = Value::decode(&mut r)?;
    r.finish("value")?;
    Ok(value)
}

fn encode(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    value.encode(&mut out);
    out
}

fn dense(bytes: &[u8]) -> Vec<Value> {
    match decode(bytes) {
        Ok(Value::Array(array)) => array.dense,
        other => panic!("{other:?} is not an array"),
    }
}

/// Values and the bytes they are encoded to, by section of the AMF3 specification.
fn cases() -> Vec<(&'static str, Value, Vec<u8>)> {
    let object = Object {
        class: "C".into(),
        sealed: 1,
        properties: vec![("a".into(), Value::Integer(1)), ("b".into(), Value::Null)],
        wrapped: None,
    };
    let wrapped = Object {
        class: "flex.messaging.io.ObjectProxy".into(),
        wrapped: Some(Value::Bool(true)),
        ..Object::default()
    };
    let wrapped_bytes = [&[10, 7, 29 * 2 + 1][..], b"flex.messaging.io.ObjectProxy", &[3]].concat();
    let array = Array { named: vec![("k".into(), Value::Null)], dense: vec![Value::Bool(true)] };
    let vector = |fixed, items| Value::Vector(Box::new(Vector { fixed, items }));
    let dictionary = Dictionary { weak: false, entries: vec![(Value::Integer(1), Value::Null)] };
    vec![
        ("3.2 undefined", Value::Undefined, vec![0]),
        ("3.3 null", Value::Null, vec![1]),
        ("3.4 false", Value::Bool(false), vec![2]),
        ("3.5 true", Value::Bool(true), vec![3]),
        ("3.6 one byte", Value::Integer(0x7F), vec![4, 0x7F]),
        ("3.6 two bytes", Value::Integer(0x80), vec![4, 0x81, 0]),
        ("3.6 three bytes", Value::Integer(0x4000), vec![4, 0x81, 0x80, 0]),
        ("3.6 four bytes", Value::Integer(0x20_0000), vec![4, 0x80, 0xC0, 0x80, 0]),
        ("3.6 largest", Value::Integer(MAX_INTEGER), vec![4, 0xBF, 0xFF, 0xFF, 0xFF]),
        ("3.6 smallest", Value::Integer(MIN_INTEGER), vec![4, 0xC0, 0x80, 0x80, 0]),
        ("3.6 minus one", Value::Integer(-1), vec![4, 0xFF, 0xFF, 0xFF, 0xFF]),
        ("3.7 double", Value::Double(1.0), vec![5, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0]),
        ("3.8 string", Value::String("hi".into()), vec![6, 5, b'h', b'i']),
        ("3.9 XML document", Value::XmlDocument("<a/>".into()), b"\x07\x09<a/>".to_vec()),
        ("3.10 date", Value::Date(1.0), vec![8, 1, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0]),
        ("3.11 array", Value::Array(array.into()), vec![9, 3, 3, b'k', 1, 1, 3]),
        ("3.12 object", Value::Object(object.into()), vec![10, 0x1B, 3, b'C', 3, b'a', 4, 1, 3, b'b', 1, 1]),
        ("3.12 wrapper", Value::Object(wrapped.into()), wrapped_bytes),
        ("3.13 XML", Value::Xml("<a/>".into()), b"\x0B\x09<a/>".to_vec()),
        ("3.14 byte array", Value::ByteArray(vec![1, 2]), vec![12, 5, 1, 2]),
        ("3.15 ints", vector(true, Items::Int(vec![-1])), vec![13, 3, 1, 255, 255, 255, 255]),
        ("3.15 uints", vector(false, Items::Uint(vec![9])), vec![14, 3, 0, 0, 0, 0, 9]),
        (
            "3.15 doubles",
            vector(false, Items::Double(vec![1.0])),
            vec![15, 3, 0, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0],
        ),
        (
            "3.15 objects",
            vector(false, Items::Object("C".into(), vec![Value::Null])),
            vec![16, 3, 0, 3, b'C', 1],
        ),
        ("3.16 dictionary", Value::Dictionary(dictionary.into()), vec![17, 3, 0, 4, 1, 1]),
    ]
}

#[test]
fn every_type_decodes_and_encodes() {
    for (name, value, bytes) in cases() {
        assert_eq!(decode(&bytes).as_ref(), Ok(&value), "{name}");
        assert_eq!(encode(&value), bytes, "{name}");
    }
}

#[test]
fn m34_every_strict_prefix_is_incomplete() {
    for (name, _, bytes) in cases() {
        for cut in 0..bytes.len() {
            let error = decode(&bytes[..cut]).expect_err(name);
            assert!(error.is_incomplete(), "{name} cut at {cut}: {error}");
        }
    }
}

#[test]
fn m34_every_flipped_byte_gives_the_same_answer_twice() {
    for (_, _, bytes) in cases() {
        for at in 0..bytes.len() {
            for flip in 1..=255u8 {
                let mut hostile = bytes.clone();
                hostile[at] ^= flip;
                assert_eq!(format!("{:?}", decode(&hostile)), format!("{:?}", decode(&hostile)));
            }
        }
    }
}

#[test]
fn integers_beyond_29_bits_become_doubles() {
    assert_eq!(decode(&encode(&Value::Integer(MAX_INTEGER + 1))), Ok(Value::Double(268_435_456.0)));
}

#[test]
fn string_references_share_the_text() {
    let dense = dense(&[9, 7, 1, 6, 5, b'h', b'i', 6, 1, 6, 0]);
    assert_eq!(dense, ["hi", "", "hi"].map(|s| Value::String(s.into())));
    assert!(matches!(decode(&[6, 0]), Err(DecodeError::Malformed { what: "amf3 string reference", .. })));
}

#[test]
fn trait_references_repeat_the_class() {
    // Two objects of class C { a }; the second names the traits of the first.
    let dense = dense(&[9, 5, 1, 10, 0x13, 3, b'C', 3, b'a', 4, 1, 10, 1, 4, 2]);
    let object = |n| {
        let properties = vec![("a".into(), Value::Integer(n))];
        Value::Object(Object { class: "C".into(), sealed: 1, properties, wrapped: None }.into())
    };
    assert_eq!(dense, [object(1), object(2)]);
    assert!(matches!(decode(&[10, 1]), Err(DecodeError::Malformed { what: "amf3 traits reference", .. })));
}

#[test]
fn value_references_are_checked_but_not_followed() {
    let dense = dense(&[9, 3, 1, 9, 0]);
    assert_eq!(dense, [Value::Reference(0)], "an array that contains itself");
    assert!(matches!(decode(&[9, 2]), Err(DecodeError::Malformed { what: "amf3 reference", .. })));
}

#[test]
fn private_formats_are_refused() {
    let error = decode(&[10, 7, 3, b'X', 1]).expect_err("unknown externalizable");
    assert!(matches!(error, DecodeError::Malformed { what: "amf3 externalizable class", .. }));
}

#[test]
fn r15_counts_beyond_the_body_allocate_nothing() {
    for bytes in [
        &[9, 0xFF, 0xFF, 0xFF, 0xFF, 1, 1][..],       // array
        &[13, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 1], // vector of int
        &[16, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 1],       // vector of objects
        &[17, 0xFF, 0xFF, 0xFF, 0xFF, 0, 1, 1],       // dictionary
        &[12, 0xFF, 0xFF, 0xFF, 0xFF, 0],             // byte array
        &[10, 0xFF, 0xFF, 0xFF, 0xFB, 1, 3, b'a', 1], // sealed members
    ] {
        let error = decode(bytes).expect_err("a lie");
        assert!(matches!(error, DecodeError::Incomplete { needed, .. } if needed > 1 << 20), "{error}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(value) = decode(&bytes) {
            prop_assert!(decode(&encode(&value)).is_ok());
        }
    }

    #[test]
    fn integers_round_trip(n in MIN_INTEGER..=MAX_INTEGER) {
        prop_assert_eq!(decode(&encode(&Value::Integer(n))), Ok(Value::Integer(n)));
    }
}
