//! The XOR of a row's or a column's packets.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::wire::{DataHeader, DataPacket, KeySpec, MAX_PAYLOAD, TimeStamp};

/// Bytes before the payload of a filter's packet: which group, key flags, length.
pub(super) const FEC_HEADER_BYTES: usize = 4;
/// Says that the group is a row, where else the column stands.
pub(super) const ROW: u8 = 0xFF;

/// Which group a filter's packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    Row,
    Column(u16),
}

/// The XOR of packets: of their times, key flags, lengths and payloads, the shorter ones filled up with zeros.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Parity {
    timestamp: u32,
    key: u8,
    length: u16,
    payload: Vec<u8>,
}

impl Parity {
    /// Takes in a packet with a payload of at most [`MAX_PAYLOAD`] bytes; more of it does not count.
    pub(super) fn add(&mut self, header: &DataHeader, payload: &[u8]) {
        let payload = payload.get(..payload.len().min(MAX_PAYLOAD)).unwrap_or_default();
        self.timestamp ^= header.timestamp.value();
        self.key ^= header.key.bits();
        self.length ^= u16::try_from(payload.len()).unwrap_or_default();
        self.add_payload(payload);
    }

    fn add_payload(&mut self, payload: &[u8]) {
        if self.payload.len() < payload.len() {
            self.payload.resize(payload.len(), 0);
        }
        self.payload.iter_mut().zip(payload).for_each(|(to, from)| *to ^= *from);
    }

    /// Takes in a filter's packet; false when it is none.
    pub(super) fn add_parity(&mut self, packet: &DataPacket) -> bool {
        let Some(([_, key, length_high, length_low], payload)) = packet.payload.split_first_chunk() else {
            return false;
        };
        self.timestamp ^= packet.header.timestamp.value();
        self.key ^= key;
        self.length ^= u16::from_be_bytes([*length_high, *length_low]);
        self.add_payload(payload.get(..payload.len().min(MAX_PAYLOAD)).unwrap_or_default());
        true
    }

    /// The payload of the filter's packet.
    pub(super) fn encode(&self, kind: GroupKind) -> Bytes {
        let mut out = BytesMut::with_capacity(self.payload.len().saturating_add(FEC_HEADER_BYTES));
        out.put_u8(match kind {
            GroupKind::Row => ROW,
            GroupKind::Column(column) => u8::try_from(column).unwrap_or(ROW),
        });
        out.put_u8(self.key);
        out.put_u16(self.length);
        out.put_slice(&self.payload);
        out.freeze()
    }

    /// The time, to be sent in the header.
    pub(super) const fn timestamp(&self) -> TimeStamp {
        TimeStamp::new(self.timestamp)
    }

    /// What is missing, once everything else was taken in: its time, key and payload. `None` when that is nothing that was
    /// ever sent.
    pub(super) fn missing(&self) -> Option<(TimeStamp, KeySpec, Bytes)> {
        let key = KeySpec::from_bits(self.key.into()).filter(|key| key.bits() == self.key)?;
        let payload = self.payload.get(..usize::from(self.length))?;
        Some((self.timestamp(), key, Bytes::copy_from_slice(payload)))
    }
}

/// Which group a filter's packet is for; `None` when it is for none.
pub(super) fn group_of(packet: &DataPacket, columns: u16) -> Option<GroupKind> {
    match *packet.payload.get(..FEC_HEADER_BYTES)?.first()? {
        ROW => Some(GroupKind::Row),
        column => Some(u16::from(column)).filter(|column| *column < columns).map(GroupKind::Column),
    }
}
