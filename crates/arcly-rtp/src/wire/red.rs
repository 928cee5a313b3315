use arcly_core::wire::{DecodeError, DecodeResult, Reader};
use bytes::{BufMut, BytesMut};
use smallvec::SmallVec;

/// Redundant blocks of one payload: senders repeat one frame or two, and a header of four bytes could claim hundreds.
pub const MAX_RED_BLOCKS: usize = 16;
/// The most that a redundant block can be before the packet's timestamp, in ticks: 14 bits.
pub const MAX_RED_OFFSET: u16 = (1 << 14) - 1;
/// The most bytes that a redundant block can have: 10 bits.
pub const MAX_RED_BLOCK_BYTES: usize = (1 << 10) - 1;

/// `F`: another block header follows this one.
const FOLLOWS: u8 = 0x80;
const OFFSET_SHIFT: u32 = 10;

/// Something that was sent before, once more (RFC 2198 §3).
///
/// ```text
///    0                   1                    2                   3
///    0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///   |1|   block PT  |  timestamp offset         |   block length    |
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedBlock<'a> {
    payload_type: u8,
    offset: u16,
    data: &'a [u8],
}

impl<'a> RedBlock<'a> {
    /// A block of what was sent `offset` ticks before the packet. `None` when a header cannot say that: see [`MAX_RED_OFFSET`],
    /// [`MAX_RED_BLOCK_BYTES`], and 127 for the payload type.
    #[must_use]
    pub fn new(payload_type: u8, offset: u32, data: &'a [u8]) -> Option<Self> {
        let offset = u16::try_from(offset).ok().filter(|offset| *offset <= MAX_RED_OFFSET)?;
        let fits = payload_type < FOLLOWS && data.len() <= MAX_RED_BLOCK_BYTES;
        fits.then_some(Self { payload_type, offset, data })
    }

    /// The payload type of what is in it, at most 127.
    #[must_use]
    pub const fn payload_type(&self) -> u8 {
        self.payload_type
    }

    /// How far its timestamp is before the packet's, in ticks, at most [`MAX_RED_OFFSET`].
    #[must_use]
    pub const fn offset(&self) -> u16 {
        self.offset
    }

    /// Its bytes, at most [`MAX_RED_BLOCK_BYTES`].
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Bytes that it takes with its header.
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        self.data.len().saturating_add(4)
    }

    fn header(&self) -> [u8; 4] {
        let len = u32::try_from(self.data.len()).unwrap_or_default();
        let [_, a, b, c] = (u32::from(self.offset) << OFFSET_SHIFT | len).to_be_bytes();
        [FOLLOWS | self.payload_type, a, b, c]
    }
}

/// A payload with redundancy (RFC 2198 §3): what is new, and before it what was in packets before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Red<'a> {
    /// What is repeated, oldest first, at most [`MAX_RED_BLOCKS`].
    pub redundant: SmallVec<[RedBlock<'a>; 2]>,
    /// The payload type of what is new, at most 127.
    pub payload_type: u8,
    /// What is new: all that is left of the payload.
    pub data: &'a [u8],
}

impl<'a> Red<'a> {
    /// Decodes a payload.
    ///
    /// # Errors
    /// It ends before its headers do, or before the last redundant block, or has more than [`MAX_RED_BLOCKS`] of them.
    pub fn decode(payload: &'a [u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(payload);
        let mut blocks: SmallVec<[(u8, u16, usize); 2]> = SmallVec::new();
        let payload_type = loop {
            let first = r.u8("red header")?;
            if first & FOLLOWS == 0 {
                break first;
            }
            if blocks.len() >= MAX_RED_BLOCKS {
                return Err(DecodeError::LimitExceeded { what: "red_blocks", limit: MAX_RED_BLOCKS as u64 });
            }
            let [a, b, c] = r.array("red block header")?;
            let offset = u16::from_be_bytes([a, b]) >> 2;
            blocks.push((first & !FOLLOWS, offset, usize::from(u16::from_be_bytes([b & 3, c]))));
        };
        let mut red = Self { payload_type, ..Self::default() };
        for (payload_type, offset, len) in blocks {
            red.redundant.push(RedBlock { payload_type, offset, data: r.bytes(len, "red block")? });
        }
        red.data = r.rest();
        Ok(red)
    }

    /// Bytes that [`encode`](Self::encode) appends.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        let blocks = self.redundant.iter().take(MAX_RED_BLOCKS).map(RedBlock::encoded_len);
        blocks.fold(self.data.len().saturating_add(1), usize::saturating_add)
    }

    /// Appends the payload. Of more than [`MAX_RED_BLOCKS`] redundant blocks the first count.
    pub fn encode(&self, out: &mut BytesMut) {
        out.reserve(self.encoded_len());
        let blocks = || self.redundant.iter().take(MAX_RED_BLOCKS);
        blocks().for_each(|block| out.put_slice(&block.header()));
        out.put_u8(self.payload_type & !FOLLOWS);
        blocks().for_each(|block| out.put_slice(block.data));
        out.put_slice(self.data);
    }
}
