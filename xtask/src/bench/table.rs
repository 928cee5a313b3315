//! Lines of results, and the table that people read.

use std::fmt::Write as _;

use serde_json::Value;

use crate::run::Result;

/// One measurement.
pub(super) struct Row {
    subject: String,
    case: String,
    value: f64,
    unit: String,
    floor: Option<(f64, String)>,
    ratio: Option<f64>,
    target: Option<f64>,
    target_ratio: Option<f64>,
    /// By how much of itself a count may grow against an earlier one.
    tolerance: Option<f64>,
    more_is_better: bool,
    pub(super) json: Value,
}

impl Row {
    pub(super) fn parse(subject: &str, line: &str) -> Result<Self> {
        let mut json: Value = serde_json::from_str(line).map_err(|e| format!("{subject}: {e}: {line}"))?;
        let text = |name: &str| json[name].as_str().map(str::to_owned);
        let number = |name: &str| json[name].as_f64();
        let missing = |name: &str| format!("{subject}: no {name}: {line}");
        let value = number("value").ok_or_else(|| missing("value"))?;
        let floor = number("floor").map(|floor| (floor, text("floor_name").unwrap_or_default()));
        let row = Self {
            subject: subject.to_owned(),
            case: text("case").ok_or_else(|| missing("case"))?,
            value,
            unit: text("unit").ok_or_else(|| missing("unit"))?,
            ratio: number("ratio").or_else(|| floor.as_ref().map(|(floor, _)| value / floor)),
            floor,
            target: number("target"),
            target_ratio: number("target_ratio"),
            tolerance: number("tolerance"),
            more_is_better: json["more_is_better"].as_bool().unwrap_or(false),
            json: Value::Null,
        };
        json["subject"] = subject.into();
        Ok(Self { json, ..row })
    }

    fn is_same(&self, other: &Self) -> bool {
        other.subject == self.subject && other.case == self.case
    }

    /// Both bounds, where there are two, have to hold.
    fn verdict(&self) -> &'static str {
        let bounds = [(Some(self.value), self.target), (self.ratio, self.target_ratio)];
        let mut bounds = bounds.into_iter().filter_map(|(value, bound)| Some((value?, bound?))).peekable();
        if bounds.peek().is_none() {
            return "";
        }
        let holds = |(value, bound): (f64, f64)| {
            value == bound || self.more_is_better == (value > bound) && !value.is_nan()
        };
        if bounds.all(holds) { "met" } else { "MISSED" }
    }

    fn targets(&self) -> String {
        let sign = if self.more_is_better { ">=" } else { "<=" };
        let value = self.target.map(|target| format!("{sign} {}", short(target)));
        let ratio = self.target_ratio.map(|target| format!("{sign} {} x", short(target)));
        value.into_iter().chain(ratio).collect::<Vec<_>>().join(", ")
    }

    fn cells(&self, before: &[Self]) -> [String; 9] {
        let floor = self.floor.as_ref().map(|(floor, name)| format!("{} {name}", short(*floor)));
        let earlier = before.iter().find(|row| self.is_same(row));
        let change = earlier.map(|earlier| format!("{:+.1} %", (self.value / earlier.value - 1.0) * 100.0));
        [
            self.subject.clone(),
            self.case.clone(),
            short(self.value),
            self.unit.clone(),
            self.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            floor.unwrap_or_default(),
            self.targets(),
            self.verdict().to_owned(),
            change.unwrap_or_default(),
        ]
    }
}

/// The counts that have grown by more than they may, each as a sentence.
pub(super) fn grown(rows: &[Row], before: &[Row]) -> Vec<String> {
    let judge = |row: &Row| {
        let earlier = before.iter().find(|earlier| row.is_same(earlier))?;
        let bound = earlier.value * (1.0 + row.tolerance?);
        let (case, now, then) = (&row.case, row.value, earlier.value);
        (now > bound).then(|| format!("{}/{case}: {now} after {then}", row.subject))
    };
    rows.iter().filter_map(judge).collect()
}

/// Everything as a table, beside earlier results if there are any.
pub(super) fn table(rows: &[Row], before: Option<(&str, &[Row])>) -> String {
    let name = before.map_or("", |(name, _)| name);
    let head = ["subject", "case", "value", "unit", "x floor", "floor", "target", "", name];
    let before = before.map_or(&[][..], |(_, rows)| rows);
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(|row| row.cells(before)));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut text = String::new();
    for line in &lines {
        for (cell, width) in line.iter().zip(&widths) {
            // Writing to a string does not fail.
            let _ = write!(text, "{cell:<width$}  ");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    text
}

fn short(value: f64) -> String {
    if value.fract() == 0.0 || value >= 1_000.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Row {
        Row::parse("fanout", line).expect(line)
    }

    fn words(line: &str) -> Vec<&str> {
        line.split_whitespace().collect()
    }

    #[test]
    fn rows_become_a_table_with_ratios_and_verdicts() {
        let fast = r#"{"case":"1000 cursors","value":60,"unit":"ns","floor":600,"floor_name":"broadcast","target":80}"#;
        let slow = r#"{"case":"encode","value":1.5,"unit":"GB/s","target":2,"more_is_better":true}"#;
        let play = r#"{"case":"play","value":0.3,"unit":"s","floor":0.2,"floor_name":"rawfan","ratio":1.1,"target_ratio":1.15}"#;
        let now = [parse(fast), parse(slow), parse(play), parse(&play.replace("1.1,", "1.2,"))];
        let earlier = [parse(&fast.replace("\"value\":60", "\"value\":50"))];
        let text = table(&now, Some(("main", &earlier)));
        let lines: Vec<Vec<&str>> = text.lines().map(words).collect();
        assert_eq!(lines[1], words("fanout 1000 cursors 60 ns 0.10 600 broadcast <= 80 met +20.0 %"));
        assert_eq!(lines[2], words("fanout encode 1.50 GB/s >= 2 MISSED"));
        assert_eq!(lines[3], words("fanout play 0.30 s 1.10 0.20 rawfan <= 1.15 x met"));
        assert_eq!(lines[4], words("fanout play 0.30 s 1.20 0.20 rawfan <= 1.15 x MISSED"));
        assert!(Row::parse("x", "{}").is_err());
    }

    #[test]
    fn counts_may_grow_within_their_tolerance() {
        let line = |value: u32| format!(r#"{{"case":"decode","value":{value},"unit":"i","tolerance":0.02}}"#);
        let before = [parse(&line(1_000))];
        assert!(grown(&[parse(&line(1_020))], &before).is_empty());
        assert!(grown(&[parse(&line(500))], &before).is_empty());
        assert_eq!(grown(&[parse(&line(1_021))], &before), ["fanout/decode: 1021 after 1000"]);
        assert!(grown(&[parse(&line(9_999).replace("decode", "new"))], &before).is_empty());
    }
}
