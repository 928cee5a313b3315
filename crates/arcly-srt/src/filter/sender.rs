//! The sending end of a filter.

use std::collections::VecDeque;

use super::FecLayout;
use super::group::{GroupKind, Parity};
use crate::wire::{DataHeader, DataPacket, MsgNumber, SeqNumber};

/// Makes packets of parity out of the packets that are sent.
#[derive(Debug)]
pub struct FecSender {
    layout: FecLayout,
    row: Group,
    /// One for each column; none when there are rows alone.
    columns: Vec<Group>,
    ready: VecDeque<DataPacket>,
}

#[derive(Debug)]
struct Group {
    /// The first packet.
    base: SeqNumber,
    /// How many have been taken in.
    collected: u16,
    parity: Parity,
}

impl FecSender {
    /// For a connection whose first packet is `initial_seq`.
    #[must_use]
    pub fn new(layout: FecLayout, initial_seq: SeqNumber) -> Self {
        let group =
            |offset| Group { base: initial_seq.plus(offset), collected: 0, parity: Parity::default() };
        let columns = if layout.has_columns() { layout.columns() } else { 0 };
        let columns = (0..columns).map(|column| group(layout.column_offset(column))).collect();
        Self { layout, row: group(0), columns, ready: VecDeque::new() }
    }

    /// Takes a packet that is sent for the first time, its payload as it is sent. Numbers are to rise; a group that misses
    /// some is left out.
    pub fn handle_packet(&mut self, header: &DataHeader, payload: &[u8]) {
        let Ok(past) = u32::try_from(self.row.base.distance_to(header.seq)) else { return };
        let width = u32::from(self.layout.columns());
        self.row.advance(past, width);
        let column = past.checked_rem(width).unwrap_or_default();
        self.column(column, header, payload);
        self.row.add(header, payload);
        if self.row.collected == self.layout.columns() && self.layout.has_rows() {
            let packet = self.row.packet(GroupKind::Row, header);
            self.ready.push_back(packet);
        }
    }

    fn column(&mut self, column: u32, header: &DataHeader, payload: &[u8]) {
        let matrix = self.layout.matrix();
        let Some((index, group)) = u16::try_from(column)
            .ok()
            .and_then(|index| Some((index, self.columns.get_mut(usize::from(index))?)))
        else {
            return;
        };
        // The first packets of a staircase are above the first of their column, and in no column.
        let Ok(past) = u32::try_from(group.base.distance_to(header.seq)) else { return };
        group.advance(past, matrix);
        group.add(header, payload);
        if group.collected == self.layout.rows() {
            let packet = group.packet(GroupKind::Column(index), header);
            self.ready.push_back(packet);
        }
    }

    /// A packet to be sent next. Its destination is to be filled in; its number is that of the last packet that was sent,
    /// and it is not repeated when it is lost.
    pub fn poll_packet(&mut self) -> Option<DataPacket> {
        self.ready.pop_front()
    }
}

impl Group {
    /// Goes on to the group that a packet is in which is `past` packets behind the first of this one, when each group of
    /// its kind begins `step` packets behind the one before.
    fn advance(&mut self, past: u32, step: u32) {
        let groups = past.checked_div(step).unwrap_or_default();
        if groups > 0 {
            self.base = self.base.plus(groups.saturating_mul(step));
            self.collected = 0;
            self.parity = Parity::default();
        }
    }

    fn add(&mut self, header: &DataHeader, payload: &[u8]) {
        self.parity.add(header, payload);
        self.collected = self.collected.saturating_add(1);
    }

    /// Goes behind the packet with the header `last`, and names its key as libsrt does, though nothing in it is sealed but
    /// what it was made of.
    fn packet(&self, kind: GroupKind, last: &DataHeader) -> DataPacket {
        let timestamp = self.parity.timestamp();
        let header = DataHeader { timestamp, key: last.key, ..DataHeader::new(last.seq, MsgNumber::CONTROL) };
        DataPacket { header, payload: self.parity.encode(kind) }
    }
}
