//! What a splice message (SCTE 35) says about breaks.
//!
//! | document | section | here |
//! |---|---|---|
//! | ANSI/SCTE 35 | 9.6 `splice_info_section` | [`SpliceInfo::decode`] |
//! | | 9.7.3 `splice_insert`, 9.7.4 `time_signal`, 9.8.1 `splice_time`, 9.8.2 `break_duration` | the same |
//! | | 10.3.3 `segmentation_descriptor` | [`Event`] |
//!
//! Messages travel through arcly as they are, as frames of a data track. Only what tells where a break begins and ends is
//! read here: an encrypted message, and commands that are about something else, say nothing of that. Checksums are those of
//! the transport, which checks them.
//!
//! Never panics, allocates nothing but the list of events, which is bounded by the 4 KiB of a section.
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::cast_possible_truncation)]

use arcly_core::wire::{DecodeResult, Reader};
use arcly_core::{TimeDelta, Timescale};

/// `table_id` of a splice message.
const TABLE: u8 = 0xFC;
const SPLICE_INSERT: u8 = 0x05;
const TIME_SIGNAL: u8 = 0x06;
const SEGMENTATION: u8 = 0x02;
const CUEI: u32 = u32::from_be_bytes(*b"CUEI");
/// Times have 33 bits.
const TIME: u64 = (1 << 33) - 1;

/// A message, as far as it is about breaks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpliceInfo {
    /// When it applies, on the 33-bit clock of 90 kHz of the stream that it came in; `None`: at once.
    pub time: Option<u64>,
    /// What happens then.
    pub events: Vec<Event>,
}

/// A break that begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Which break: the same when it begins and when it ends.
    pub id: u32,
    /// `segmentation_type_id` of the beginning of such breaks; 0 for `splice_insert`.
    pub kind: u8,
    /// True at the beginning.
    pub out: bool,
    /// How long it is.
    pub duration: Option<TimeDelta>,
    /// It ends by itself after that.
    pub auto_return: bool,
}

impl SpliceInfo {
    /// Reads a `splice_info_section`.
    ///
    /// # Errors
    /// It is no such section, or does not hold what it says.
    pub fn decode(section: &[u8]) -> DecodeResult<Self> {
        let mut r = Reader::new(section);
        if r.u8("splice table_id")? != TABLE {
            return Err(r.malformed("splice table_id"));
        }
        let length = usize::from(r.u16("splice section_length")? & 0x0FFF);
        let mut r = r.sub(length, "splice section")?;
        r.u8("splice protocol_version")?;
        let flags = r.u8("splice encryption flags")?;
        let adjustment = u64::from(flags & 1) << 32 | u64::from(r.u32("splice pts_adjustment")?);
        r.skip(1, "splice cw_index")?;
        r.skip(3, "splice tier")?;
        if flags & 0x80 != 0 {
            return Ok(Self::default());
        }
        let mut found = Self::default();
        match r.u8("splice_command_type")? {
            SPLICE_INSERT => found.insert(&mut r)?,
            TIME_SIGNAL => {
                found.time = splice_time(&mut r)?;
                found.descriptors(&mut r)?;
            }
            _ => {}
        }
        found.time = found.time.map(|time| time.wrapping_add(adjustment) & TIME);
        Ok(found)
    }

    fn insert(&mut self, r: &mut Reader<'_>) -> DecodeResult<()> {
        let id = r.u32("splice_event_id")?;
        if r.u8("splice_event_cancel_indicator")? & 0x80 != 0 {
            return Ok(());
        }
        let flags = r.u8("splice_insert flags")?;
        let [out, program, timed, immediate] = [7, 6, 5, 4].map(|bit| flags >> bit & 1 == 1);
        if program && !immediate {
            self.time = splice_time(r)?;
        }
        if !program {
            for _ in 0..r.u8("component_count")? {
                r.skip(1, "component_tag")?;
                // Components are spliced together, or nearly.
                let time = if immediate { None } else { splice_time(r)? };
                self.time = self.time.or(time);
            }
        }
        let (auto_return, duration) = if timed { break_duration(r)? } else { (false, None) };
        self.events.push(Event { id, kind: 0, out, duration, auto_return });
        Ok(())
    }

    fn descriptors(&mut self, r: &mut Reader<'_>) -> DecodeResult<()> {
        let length = usize::from(r.u16("descriptor_loop_length")?);
        let mut descriptors = r.sub(length, "splice descriptors")?;
        while !descriptors.is_empty() {
            let tag = descriptors.u8("splice_descriptor_tag")?;
            let length = usize::from(descriptors.u8("descriptor_length")?);
            let mut body = descriptors.sub(length, "splice descriptor")?;
            if tag == SEGMENTATION && body.u32("descriptor identifier")? == CUEI {
                self.events.extend(segmentation(&mut body)?);
            }
        }
        Ok(())
    }
}

/// Types of segments that are breaks: each begins with an even type, and ends with the odd one behind it.
const fn is_break(kind: u8) -> bool {
    matches!(kind, 0x22 | 0x23 | 0x30..=0x3B | 0x44..=0x47)
}

fn segmentation(r: &mut Reader<'_>) -> DecodeResult<Option<Event>> {
    let id = r.u32("segmentation_event_id")?;
    if r.u8("segmentation_event_cancel_indicator")? & 0x80 != 0 {
        return Ok(None);
    }
    let flags = r.u8("segmentation flags")?;
    if flags & 0x80 == 0 {
        let components = usize::from(r.u8("segmentation component_count")?);
        r.skip(components.saturating_mul(6), "segmentation components")?;
    }
    let duration = if flags & 0x40 != 0 {
        let high = u64::from(r.u8("segmentation_duration")?);
        Some(ticks(high << 32 | u64::from(r.u32("segmentation_duration")?)))
    } else {
        None
    };
    r.skip(1, "segmentation_upid_type")?;
    let upid = usize::from(r.u8("segmentation_upid_length")?);
    r.skip(upid, "segmentation_upid")?;
    let kind = r.u8("segmentation_type_id")?;
    let event = Event { id, kind: kind & !1, out: kind & 1 == 0, duration, auto_return: false };
    Ok(is_break(kind).then_some(event))
}

fn splice_time(r: &mut Reader<'_>) -> DecodeResult<Option<u64>> {
    let first = r.u8("splice_time")?;
    if first & 0x80 == 0 {
        return Ok(None);
    }
    Ok(Some(u64::from(first & 1) << 32 | u64::from(r.u32("pts_time")?)))
}

fn break_duration(r: &mut Reader<'_>) -> DecodeResult<(bool, Option<TimeDelta>)> {
    let first = r.u8("break_duration")?;
    let duration = u64::from(first & 1) << 32 | u64::from(r.u32("break duration")?);
    Ok((first & 0x80 != 0, Some(ticks(duration))))
}

/// 40 bits at most.
fn ticks(count: u64) -> TimeDelta {
    TimeDelta::from_ticks(i64::try_from(count).unwrap_or(i64::MAX), Timescale::MPEG)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test that fails panics")]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal digits");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    /// The examples of ANSI/SCTE 35 section 14.
    const TIME_SIGNAL_START: &str = "FC3034000000000000FFFFF00506FE72BD0050001E021C435545494800008E7FCF0001A599B00808000000002CA0A18A3402009AC9D17E";
    const INSERT: &str = "FC302F000000000000FFFFF014054800008F7FEFFE7369C02EFE0052CCF500000000000A0008435545490000013562DBA30A";
    const PLACEMENT_END: &str = "FC302F000000000000FFFFF00506FEAEBFFF640019021743554549480000087F9F0808000000002CA56CF5350000951DB0A8";

    #[test]
    fn scte_35_section_14_examples() {
        let one = |hex| SpliceInfo::decode(&bytes(hex)).expect("an example");
        let ticks = |count| Some(TimeDelta::from_ticks(count, Timescale::MPEG));
        let event = |id, kind, out, duration, auto_return| Event { id, kind, out, duration, auto_return };
        assert_eq!(
            one(TIME_SIGNAL_START),
            SpliceInfo {
                time: Some(0x72BD_0050),
                events: vec![event(0x4800_008E, 0x34, true, ticks(0x01A5_99B0), false)],
            }
        );
        assert_eq!(
            one(INSERT),
            SpliceInfo {
                time: Some(0x7369_C02E),
                events: vec![event(0x4800_008F, 0, true, ticks(0x0052_CCF5), true)],
            }
        );
        assert_eq!(
            one(PLACEMENT_END),
            SpliceInfo {
                time: Some(0xAEBF_FF64),
                events: vec![event(0x4800_0008, 0x34, false, None, false)]
            }
        );
    }

    #[test]
    fn adjustments_wrap() {
        let mut section = bytes(TIME_SIGNAL_START);
        section[4..9].copy_from_slice(&[1, 0xFF, 0xFF, 0xFF, 0xFF]);
        let found = SpliceInfo::decode(&section).expect("an example");
        assert_eq!(found.time, Some(0x72BD_004F));
    }

    #[test]
    fn encrypted_messages_and_other_commands_say_nothing() {
        let mut encrypted = bytes(INSERT);
        encrypted[4] |= 0x80;
        assert_eq!(SpliceInfo::decode(&encrypted), Ok(SpliceInfo::default()));
        let mut null = bytes(INSERT);
        null[13] = 0;
        assert_eq!(SpliceInfo::decode(&null), Ok(SpliceInfo::default()));
        let mut cancelled = bytes(INSERT);
        cancelled[18] |= 0x80;
        assert_eq!(SpliceInfo::decode(&cancelled), Ok(SpliceInfo::default()));
    }

    #[test]
    fn whatever_is_cut_off_is_incomplete_and_nothing_panics() {
        for example in [TIME_SIGNAL_START, INSERT, PLACEMENT_END] {
            let whole = bytes(example);
            for len in 0..whole.len() {
                let error = SpliceInfo::decode(&whole[..len]).expect_err("a part of it");
                assert!(error.is_incomplete(), "{len}: {error:?}");
            }
            for at in 0..whole.len() {
                for value in [0, 0x7F, 0x80, 0xFF] {
                    let mut wrong = whole.clone();
                    wrong[at] = value;
                    let _ = SpliceInfo::decode(&wrong);
                }
            }
        }
    }
}
