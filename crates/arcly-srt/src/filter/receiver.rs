//! The receiving end of a filter.

use std::collections::{BTreeMap, VecDeque};

use super::group::{GroupKind, Parity, group_of};
use super::{ArqLevel, FecLayout};
use crate::wire::{DataHeader, DataPacket, MsgNumber, SeqNumber, SeqRange};

/// Makes up for lost packets, and says which ones it cannot make up for.
///
/// Positions count packets from the connection's first, and do not wrap. A packet at position *p* is in row *p / columns*,
/// and in column *p mod columns*, where it is in the group that began last.
#[derive(Debug)]
pub struct FecReceiver {
    layout: FecLayout,
    /// The newest packet, and its position.
    newest: (SeqNumber, i64),
    /// The newest message, from which the number of a lost one is counted.
    message: Option<(i64, DataHeader)>,
    /// Which packets are there, from position [`start`](Self::start) on.
    cells: VecDeque<bool>,
    start: i64,
    rows: BTreeMap<i64, Group>,
    /// By the position of their first packet.
    columns: BTreeMap<i64, Group>,
    /// Up to here it is decided which packets are not coming back.
    judged: i64,
    recovered: VecDeque<DataPacket>,
    losses: VecDeque<SeqRange>,
}

/// A row or a column, as far as it has come.
#[derive(Debug, Default)]
struct Group {
    collected: u16,
    /// The filter's packet has come.
    has_parity: bool,
    parity: Parity,
}

/// A group's name: its kind, and the position of its first packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupId {
    Row(i64),
    Column(i64),
}

impl FecReceiver {
    /// For a peer whose first packet is `initial_seq`.
    #[must_use]
    pub fn new(layout: FecLayout, initial_seq: SeqNumber) -> Self {
        Self {
            layout,
            newest: (initial_seq.previous(), -1),
            message: None,
            cells: VecDeque::new(),
            start: 0,
            rows: BTreeMap::new(),
            columns: BTreeMap::new(),
            judged: 0,
            recovered: VecDeque::new(),
            losses: VecDeque::new(),
        }
    }

    /// Takes a packet as it came: data, repeated data, or the filter's own ([`MsgNumber::CONTROL`]), which is of no use to
    /// anybody else.
    pub fn handle_packet(&mut self, packet: &DataPacket) {
        let Some(position) = self.position(packet.header.seq) else { return };
        self.advance(packet.header.seq, position);
        if packet.header.message == MsgNumber::CONTROL {
            self.parity(position, packet);
        } else if self.message.is_none_or(|(newest, _)| newest < position) {
            self.message = Some((position, packet.header));
            self.data(position, &packet.header, &packet.payload);
        } else {
            self.data(position, &packet.header, &packet.payload);
        }
        self.judge();
        self.forget();
    }

    /// A packet that was lost. It is marked as repeated.
    pub fn poll_recovered(&mut self) -> Option<DataPacket> {
        self.recovered.pop_front()
    }

    /// Packets to ask the peer for, with [`ArqLevel::OnRequest`]: the filter has given them up. They may still come.
    pub fn poll_loss(&mut self) -> Option<SeqRange> {
        self.losses.pop_front()
    }

    fn width(&self) -> i64 {
        self.layout.columns().into()
    }

    fn matrix(&self) -> i64 {
        self.layout.matrix().into()
    }

    /// Packets that are remembered: those of a column that helps a row that helps a column, and late ones.
    fn memory(&self) -> i64 {
        self.matrix().saturating_add(self.width()).saturating_mul(2)
    }

    /// `None` for what is not remembered any more.
    fn position(&self, seq: SeqNumber) -> Option<i64> {
        let position = self.newest.1.saturating_add(self.newest.0.distance_to(seq).into());
        Some(position).filter(|position| *position >= self.start)
    }

    fn seq(&self, position: i64) -> SeqNumber {
        let back = self.newest.1.saturating_sub(position);
        let (near, distance) = (self.newest.0, u32::try_from(back.unsigned_abs()).unwrap_or_default());
        if back < 0 { near.plus(distance) } else { near.minus(distance) }
    }

    /// Makes room up to a position. After a jump over everything that is remembered it begins anew, and gives up what is
    /// between.
    fn advance(&mut self, seq: SeqNumber, position: i64) {
        let ahead = position.saturating_sub(self.newest.1);
        if ahead <= 0 {
            return;
        }
        if ahead > self.memory() {
            let lost = SeqRange::new(self.newest.0.next(), seq.previous());
            self.lose(lost);
            self.cells.clear();
            self.rows.clear();
            self.columns.clear();
            (self.start, self.judged) = (position, position);
        }
        self.newest = (seq, position);
        let len = position.saturating_sub(self.start).saturating_add(1);
        self.cells.resize(usize::try_from(len).unwrap_or_default().max(self.cells.len()), false);
    }

    fn has(&self, position: i64) -> bool {
        self.cell(position).and_then(|cell| self.cells.get(cell)).copied().unwrap_or(false)
    }

    fn cell(&self, position: i64) -> Option<usize> {
        usize::try_from(position.saturating_sub(self.start)).ok()
    }

    /// The groups that a packet is in.
    fn groups(&self, position: i64) -> impl Iterator<Item = GroupId> + use<> {
        let row = self.layout.has_rows().then(|| GroupId::Row(self.row_start(position)));
        row.into_iter().chain(self.column_start(position).map(GroupId::Column))
    }

    fn row_start(&self, position: i64) -> i64 {
        position.saturating_sub(position.checked_rem(self.width()).unwrap_or_default())
    }

    /// Where the group of its column begins that a packet is in; `None` when there are no columns, and above the first of a
    /// staircase.
    fn column_start(&self, position: i64) -> Option<i64> {
        if !self.layout.has_columns() {
            return None;
        }
        let column = u16::try_from(position.checked_rem(self.width())?).ok()?;
        let past = position.saturating_sub(self.layout.column_offset(column).into());
        (past >= 0).then(|| position.saturating_sub(past.checked_rem(self.matrix()).unwrap_or_default()))
    }

    /// The positions of a group's packets.
    fn members(&self, id: GroupId) -> impl Iterator<Item = i64> + use<> {
        let (start, step, count) = match id {
            GroupId::Row(start) => (start, 1, self.layout.columns()),
            GroupId::Column(start) => (start, self.width(), self.layout.rows()),
        };
        (0..i64::from(count)).map(move |n| start.saturating_add(step.saturating_mul(n)))
    }

    fn size(&self, id: GroupId) -> u16 {
        match id {
            GroupId::Row(_) => self.layout.columns(),
            GroupId::Column(_) => self.layout.rows(),
        }
    }

    fn group(&mut self, id: GroupId) -> &mut Group {
        match id {
            GroupId::Row(start) => self.rows.entry(start).or_default(),
            GroupId::Column(start) => self.columns.entry(start).or_default(),
        }
    }

    fn data(&mut self, position: i64, header: &DataHeader, payload: &[u8]) {
        let Some(cell) = self.cell(position).and_then(|cell| self.cells.get_mut(cell)) else { return };
        if core::mem::replace(cell, true) {
            return;
        }
        for id in self.groups(position) {
            let group = self.group(id);
            group.collected = group.collected.saturating_add(1);
            group.parity.add(header, payload);
        }
        for id in self.groups(position) {
            self.recover(id);
        }
    }

    /// The filter's packet comes behind the last of its group, and has its number.
    fn parity(&mut self, last: i64, packet: &DataPacket) {
        let id = match group_of(packet, self.layout.columns()) {
            Some(GroupKind::Row) if self.layout.has_rows() => GroupId::Row(self.row_start(last)),
            Some(GroupKind::Column(column)) if last.checked_rem(self.width()) == Some(column.into()) => {
                match self.column_start(last) {
                    Some(start) => GroupId::Column(start),
                    None => return,
                }
            }
            _ => return,
        };
        let complete = self.members(id).last() == Some(last) && self.members(id).next() >= Some(self.start);
        let group = self.group(id);
        if complete && !group.has_parity && group.parity.add_parity(packet) {
            group.has_parity = true;
            self.recover(id);
        }
    }

    /// When all but one are there, the parity is that one: it then helps the other group that it is in, and so on.
    fn recover(&mut self, id: GroupId) {
        let size = self.size(id);
        let group = self.group(id);
        if !group.has_parity || group.collected.saturating_add(1) != size {
            return;
        }
        let Some((timestamp, key, payload)) = group.parity.missing() else { return };
        let Some(position) = self.members(id).find(|position| !self.has(*position)) else { return };
        let Some(header) = self.header(position) else { return };
        let header = DataHeader { timestamp, key, ..header };
        self.data(position, &header, &payload);
        self.recovered.push_back(DataPacket { header, payload });
    }

    /// A lost packet's header, by the newest that has come: messages are of one packet each.
    fn header(&self, position: i64) -> Option<DataHeader> {
        let (newest, header) = self.message?;
        let distance = i32::try_from(position.saturating_sub(newest)).ok()?;
        let message = header.message.offset(distance);
        let seq = self.seq(position);
        Some(DataHeader { seq, message, retransmitted: true, ..header })
    }

    /// Gives up what its last group has not brought back, once packets have come that are sent behind that group's parity.
    fn judge(&mut self) {
        if self.layout.arq() != ArqLevel::OnRequest {
            return;
        }
        // What comes a little out of order is waited for.
        let patience = self.width().checked_div(3).unwrap_or_default().saturating_add(1);
        while self.judged.saturating_add(patience) <= self.newest.1 {
            let last = self.judged;
            self.judged = self.judged.saturating_add(1);
            let column = self.column_start(last).map(GroupId::Column);
            if let Some(id) = column.filter(|id| self.members(*id).last() == Some(last)) {
                self.give_up(self.members(id));
            }
            let row = GroupId::Row(self.row_start(last));
            if self.members(row).last() == Some(last) {
                let outside = self.members(row).filter(|position| self.column_start(*position).is_none());
                let outside: Vec<i64> = outside.collect();
                self.give_up(outside.into_iter());
            }
        }
    }

    fn give_up(&mut self, members: impl Iterator<Item = i64>) {
        let missing: Vec<i64> =
            members.filter(|position| *position >= self.start && !self.has(*position)).collect();
        for run in missing.chunk_by(|a, b| a.saturating_add(1) == *b) {
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                self.lose(SeqRange::new(self.seq(*first), self.seq(*last)));
            }
        }
    }

    fn lose(&mut self, range: Option<SeqRange>) {
        if self.layout.arq() == ArqLevel::OnRequest {
            self.losses.extend(range);
        }
    }

    /// Forgets what is too old.
    fn forget(&mut self) {
        let start = self.newest.1.saturating_sub(self.memory());
        while self.start < start && self.cells.pop_front().is_some() {
            self.start = self.start.saturating_add(1);
        }
        // A group without its first packets cannot bring anything back.
        self.rows = self.rows.split_off(&self.start);
        self.columns = self.columns.split_off(&self.start);
    }
}
