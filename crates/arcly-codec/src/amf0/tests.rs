use arcly_core::{MetaValue, Metadata};
use proptest::prelude::*;

use super::*;

const DEPTH_LIMIT: DecodeError = DecodeError::LimitExceeded { what: "amf_depth", limit: 32 };

fn decode(bytes: &[u8]) -> DecodeResult<Value> {
    let mut r = Reader::new(bytes);
    let value = Value::decode(&mut r)?;
    r.finish("value")?;
    Ok(value)
}

fn encode(value: &Value) -> Vec<u8> {
    encode_all(core::slice::from_ref(value))
}

/// Values and their bytes, by section of the AMF0 specification.
fn cases() -> Vec<(&'static str, Value, Vec<u8>)> {
    let date = [&[0x0B][..], &1.5f64.to_be_bytes(), &[0, 0]].concat();
    let object = Object::new().with("a", true).with("", "x");
    let object_bytes = [&[0, 1, b'a', 1, 1][..], &[0, 0, 2, 0, 1, b'x'], &[0, 0, 9]].concat();
    let long = "x".repeat(70_000);
    vec![
        ("2.2 number", Value::Number(1.0), vec![0, 0x3F, 0xF0, 0, 0, 0, 0, 0, 0]),
        ("2.3 boolean", Value::Bool(true), vec![1, 1]),
        ("2.4 string", "live".into(), b"\x02\0\x04live".to_vec()),
        ("2.4 empty string", "".into(), vec![2, 0, 0]),
        ("2.5 object", object.clone().into(), [&[3][..], &object_bytes].concat()),
        ("2.5 empty object", Object::new().into(), vec![3, 0, 0, 9]),
        ("2.7 null", Value::Null, vec![5]),
        ("2.8 undefined", Value::Undefined, vec![6]),
        ("2.9 reference", Value::Reference(3), vec![7, 0, 3]),
        ("2.10 ECMA array", Value::EcmaArray(object.clone()), [&[8, 0, 0, 0, 2][..], &object_bytes].concat()),
        ("2.12 strict array", vec![Value::Null, true.into()].into(), vec![10, 0, 0, 0, 2, 5, 1, 1]),
        ("2.13 date", Value::Date(1.5), date),
        ("2.14 long string", long.clone().into(), [&[12, 0, 1, 0x11, 0x70][..], long.as_bytes()].concat()),
        ("2.15 unsupported", Value::Unsupported, vec![13]),
        ("2.17 XML", Value::XmlDocument("<a/>".into()), b"\x0F\0\0\0\x04<a/>".to_vec()),
        (
            "2.18 typed object",
            Value::TypedObject("T".into(), object),
            [&[16, 0, 1, b'T'][..], &object_bytes].concat(),
        ),
        ("2.19 AVM+", Value::AvmPlus(Box::new(amf3::Value::Integer(5))), vec![17, 4, 5]),
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
        for cut in (0..bytes.len()).filter(|cut| *cut < 64 || *cut == bytes.len() - 1) {
            let error = decode(&bytes[..cut]).expect_err(name);
            assert!(error.is_incomplete(), "{name} cut at {cut}: {error}");
            if cut > 0 {
                let error = decode_all(&bytes[..cut]).expect_err(name);
                assert!(matches!(error, DecodeError::Malformed { .. }), "{name} cut at {cut}: {error}");
            }
        }
    }
}

#[test]
fn m34_every_flipped_byte_gives_the_same_answer_twice() {
    for (_, _, bytes) in cases().into_iter().filter(|(_, _, bytes)| bytes.len() <= 512) {
        for at in 0..bytes.len() {
            for flip in 1..=255u8 {
                let mut hostile = bytes.clone();
                hostile[at] ^= flip;
                let once = format!("{:?}", decode_all(&hostile));
                assert_eq!(once, format!("{:?}", decode_all(&hostile)));
            }
        }
    }
}

#[test]
fn a_command_is_a_sequence_of_values() {
    let connect = vec![
        "connect".into(),
        1.0.into(),
        Object::new().with("app", "live").with("fpad", false).with("capabilities", 239.0).into(),
    ];
    let decoded = decode_all(&encode_all(&connect)).expect("own encoding");
    assert_eq!(decoded, connect);
    let object = decoded[2].as_object().expect("an object");
    assert_eq!(object.str("app"), Some("live"));
    assert_eq!(object.number("capabilities"), Some(239.0));
    assert_eq!(object.get("fpad").and_then(Value::as_bool), Some(false));
    assert_eq!(object.get("tcUrl"), None);
}

/// `connect`, a number, then `count` objects nested in each other.
fn nested(count: usize) -> Vec<u8> {
    let mut body = encode_all(&["connect".into(), 1.0.into()]);
    body.extend([3, 0, 1, b'a'].repeat(count));
    body
}

fn closed(count: usize) -> Vec<u8> {
    let mut body = nested(count);
    body.push(5);
    body.extend([0, 0, 9].repeat(count));
    body
}

#[test]
fn r14_nesting_ends_at_the_limit_on_a_stack_of_64_kib() {
    let small = std::thread::Builder::new().stack_size(64 * 1024);
    let run = move || {
        assert_eq!(decode_all(&closed(32)).map(|v| v.len()), Ok(3));
        assert_eq!(decode_all(&closed(33)), Err(DEPTH_LIMIT));
        assert_eq!(decode_all(&nested(15_000)), Err(DEPTH_LIMIT), "60 KiB");
        for open in [&[0x0A, 0, 0, 0, 1][..], &[0x08, 0, 0, 0, 0, 0, 1, b'a'], &[0x10, 0, 0, 0, 1, b'a']] {
            assert_eq!(decode_all(&open.repeat(100)), Err(DEPTH_LIMIT));
        }
        let amf3 = [&[0x11][..], &[9, 3, 1].repeat(10_000)].concat();
        assert_eq!(decode_all(&amf3), Err(DEPTH_LIMIT));
        let mixed = [&[0x0A, 0, 0, 0, 1].repeat(20)[..], &[0x11], &[9, 3, 1].repeat(13)].concat();
        assert_eq!(decode_all(&mixed), Err(DEPTH_LIMIT), "AMF3 inside AMF0 counts on");
    };
    small.spawn(run).expect("a thread").join().expect("64 KiB are enough");
}

#[test]
fn r15_strict_array_count_beyond_the_body_is_malformed() {
    let body = [&[0x0A, 0xFF, 0xFF, 0xFF, 0xFF][..], &[0; 9]].concat();
    assert!(matches!(decode_all(&body), Err(DecodeError::Malformed { what: "amf0 array", .. })));
}

#[test]
fn r16_ecma_array_count_beyond_the_body_is_malformed() {
    assert!(matches!(
        decode_all(&[0x08, 0xFF, 0xFF, 0xFF, 0xFF]),
        Err(DecodeError::Malformed { what: "amf0 array", .. })
    ));
    let valid_but_for_the_count = b"\x08\xFF\xFF\xFF\xFF\0\x01a\x05\0\0\x09";
    assert!(matches!(decode_all(valid_but_for_the_count), Err(DecodeError::Malformed { .. })));
    let encoders_that_do_not_count = b"\x08\0\0\0\0\0\x01a\x05\0\0\x09";
    let expected = Value::EcmaArray(Object::new().with("a", Value::Null));
    assert_eq!(decode_all(encoders_that_do_not_count), Ok(vec![expected]));
}

#[test]
fn r17_long_string_overrunning_the_body_is_malformed() {
    assert!(matches!(
        decode_all(b"\x0C\xFF\xFF\xFF\xFFabc"),
        Err(DecodeError::Malformed { what: "amf0 long string", .. })
    ));
}

#[test]
fn r18_string_overrunning_the_body_is_malformed() {
    assert!(matches!(
        decode_all(b"\x02\xFF\xFFabc"),
        Err(DecodeError::Malformed { what: "amf0 string", .. })
    ));
}

#[test]
fn nodes_are_limited_for_the_whole_message() {
    let limit = DecodeError::LimitExceeded { what: "amf_nodes", limit: 4_096 };
    assert_eq!(decode_all(&vec![5; 4_096]).map(|v| v.len()), Ok(4_096));
    assert_eq!(decode_all(&vec![5; 4_097]), Err(limit));
    let array = |n: u32| [&[0x0A][..], &n.to_be_bytes(), &vec![5; n as usize]].concat();
    assert!(decode_all(&array(4_095)).is_ok());
    assert_eq!(decode_all(&array(4_096)), Err(limit));
}

#[test]
fn keys_are_limited() {
    let object = |len: usize| {
        let key = "k".repeat(len);
        encode(&Object::new().with(&key, Value::Null).into())
    };
    assert!(decode(&object(1_024)).is_ok());
    assert_eq!(decode(&object(1_025)), Err(DecodeError::LimitExceeded { what: "amf_key", limit: 1_024 }));
}

#[test]
fn text_that_is_not_utf8_is_marked() {
    assert_eq!(decode(b"\x02\0\x04caf\xE9"), Ok("caf\u{FFFD}".into()));
    assert_eq!(decode(b"\x03\0\x01\xE9\x05\0\0\x09"), Ok(Object::new().with("\u{FFFD}", Value::Null).into()));
}

#[test]
fn unknown_markers_are_malformed() {
    for marker in [4, 9, 14, 18, 0x20, 0xFF] {
        assert_eq!(decode(&[marker, 0, 0]), Err(DecodeError::Malformed { what: "amf0 marker", offset: 0 }));
    }
}

#[test]
fn metadata_keeps_its_order_and_values() {
    let wire = Object::new()
        .with("width", 1920.0)
        .with("stereo", true)
        .with("encoder", "obs")
        .with("tracks", vec![Value::EcmaArray(Object::new().with("id", 1.0)), Value::Undefined]);
    let metadata = wire.to_metadata();
    assert_eq!(metadata.get("width"), Some(&MetaValue::Number(1920.0)));
    let list = MetaValue::List(vec![
        MetaValue::Object(vec![("id".into(), MetaValue::Number(1.0))]),
        MetaValue::Null,
    ]);
    assert_eq!(metadata.get("tracks"), Some(&list));
    assert_eq!(Object::from(&metadata).to_metadata(), metadata);
    assert_eq!(Object::from(&Metadata::default()), Object::new());
}

fn any_value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        any::<i32>().prop_map(|n| Value::Number(f64::from(n))),
        any::<bool>().prop_map(Value::Bool),
        ".{0,20}".prop_map(Value::from),
        Just(Value::Null),
        Just(Value::Undefined),
        any::<u16>().prop_map(Value::Reference),
        any::<i32>().prop_map(|ms| Value::Date(f64::from(ms))),
        any::<i32>().prop_map(|n| {
            let n = n.clamp(amf3::MIN_INTEGER, amf3::MAX_INTEGER);
            Value::AvmPlus(Box::new(amf3::Value::Integer(n)))
        }),
    ];
    scalar.prop_recursive(6, 60, 8, |inner| {
        let object = proptest::collection::vec((".{0,10}", inner.clone()), 0..6)
            .prop_map(|properties| properties.into_iter().collect::<Object>());
        prop_oneof![
            object.clone().prop_map(Value::Object),
            object.clone().prop_map(Value::EcmaArray),
            ("[a-z]{1,8}", object).prop_map(|(class, object)| Value::TypedObject(class.into(), object)),
            proptest::collection::vec(inner, 0..6).prop_map(Value::StrictArray),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(values in proptest::collection::vec(any_value(), 0..4)) {
        prop_assert_eq!(decode_all(&encode_all(&values)), Ok(values));
    }

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(values) = decode_all(&bytes) {
            let again = decode_all(&encode_all(&values));
            prop_assert_eq!(format!("{:?}", again), format!("{:?}", Ok::<_, DecodeError>(values)));
        }
    }
}
