//! Targets over `arcly-core`.

use arcly_core::StreamKey;
use arcly_core::wire::Reader;

crate::targets!(wire_reader, stream_key);

/// A sequence of reads, chosen by the input, keeps the cursor's invariants: it never passes the end, a
/// failed read does not move it, and what was read plus what remains is what there was.
pub fn wire_reader(data: &[u8]) {
    let Some((&program_len, rest)) = data.split_first() else { return };
    let (program, buf) = rest.split_at(rest.len().min(program_len.into()));
    let mut reader = Reader::new(buf);
    for &step in program {
        let before = reader.position();
        let len = usize::from(step >> 4);
        let result = match step & 0x0F {
            0 => reader.u8("u8").map(drop),
            1 => reader.u16("u16").map(drop),
            2 => reader.u24("u24").map(|v| assert!(v < 1 << 24)),
            3 => reader.i24("i24").map(|v| assert!((-(1 << 23)..1 << 23).contains(&v))),
            4 => reader.u32("u32").map(drop),
            5 => reader.u64("u64").map(drop),
            6 => reader.f64("f64").map(drop),
            7 => reader.bytes(len, "bytes").map(|b| assert_eq!(b.len(), len)),
            8 => reader.sub(len, "sub").map(|s| assert_eq!(s.remaining(), len)),
            9 => reader.skip(len, "skip"),
            10 => reader.bytes(usize::MAX, "all").map(drop),
            11 => reader.finish("unit"),
            _ => reader.u32_le("u32_le").map(drop),
        };
        assert_eq!(reader.position() + reader.remaining(), buf.len());
        if result.is_err() {
            assert_eq!(reader.position(), before, "a failed read moves nothing");
        }
    }
    assert_eq!(reader.rest(), &buf[reader.position()..]);
}

/// A name that is accepted stays what it is through every form it takes.
pub fn stream_key(data: &[u8]) {
    let Ok(name) = std::str::from_utf8(data) else { return };
    let Ok(key) = StreamKey::parse(name) else { return };
    assert!(key.as_str().len() <= 255 && key.as_str().is_ascii());
    assert!(key.as_str().split('/').all(|segment| !matches!(segment, "" | "." | "..")));
    assert_eq!(StreamKey::parse(key.as_str()).as_ref(), Ok(&key));
    assert_eq!(StreamKey::from_parts(key.app(), key.stream()).as_ref(), Ok(&key));
}
