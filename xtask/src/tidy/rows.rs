//! Which test stands for which row of the bad-input and fault catalogues.
//!
//! A test claims a row by its name: `r06_…`, `h02_…`, `m11_…`, `f21_…`. A claim of a row that does not exist
//! is a typing error, and found.

use std::collections::BTreeMap;

use super::File;
use crate::run::Result;

/// Rows by letter: RTMP, RTSP with RTP and RTCP, HTTP, media parsers, faults. Rows of protocols that are not here yet join with them.
const CATALOGUE: &[(char, &str, &[&str])] = &[
    (
        'r',
        "RTMP",
        &[
            "01", "02", "03", "04", "05", "05b", "06", "08", "09", "10", "12", "13", "14", "15", "16", "17",
            "18", "21", "22", "24", "25", "26", "27", "28", "29", "30", "31", "32", "34", "35", "36", "37",
            "39", "40", "41", "42", "43", "44", "45", "46", "47",
        ],
    ),
    (
        't',
        "RTSP, RTP, RTCP",
        &[
            "01", "02", "03", "04", "05", "06", "07", "09", "10", "11", "12", "13", "14", "15", "16", "17",
            "18", "20", "21", "22", "23", "24", "25", "26", "28", "29", "30", "31", "32", "33", "34", "36",
            "37", "38", "39", "40", "42", "43", "44",
        ],
    ),
    (
        'h',
        "HTTP",
        &[
            "01", "02", "03", "05", "06", "07", "08", "10", "11", "12", "13", "14", "15", "16", "17", "18",
            "19", "20", "21", "23", "24", "26", "27", "28", "29",
        ],
    ),
    (
        'm',
        "media parsers",
        &[
            "01", "02", "03", "05", "06", "08", "09", "10", "11", "12", "13", "15", "16", "17", "18", "19",
            "21", "22", "23", "24", "25", "27", "29", "30", "31", "32", "33", "34",
        ],
    ),
    (
        'f',
        "faults",
        &[
            "01", "02", "03", "04", "05", "06", "10", "11", "12", "13", "14", "15", "16", "17", "18", "20",
            "21", "22", "23", "24", "25", "26", "27", "30", "31", "32", "33", "34", "35", "36", "40", "41",
            "42", "43", "44", "45", "46", "47", "48", "50", "51", "52", "53", "54", "55", "56", "57", "58",
            "59", "60", "61", "62",
        ],
    ),
];

type Claims = BTreeMap<String, Vec<String>>;

/// Claims of rows that are in no catalogue.
pub(super) fn check(files: &[File]) -> Vec<String> {
    let unknown = claims(files).into_iter().filter(|(id, _)| !is_known(id));
    unknown
        .map(|(id, tests)| format!("{}: there is no row {}", tests.join(", "), id.to_uppercase()))
        .collect()
}

/// Prints every row with the tests that claim it.
pub(super) fn print(files: &[File]) -> Result {
    let claims = claims(files);
    for (letter, name, rows) in CATALOGUE {
        let ids: Vec<String> = rows.iter().map(|row| format!("{letter}{row}")).collect();
        let claimed = ids.iter().filter(|id| claims.contains_key(*id)).count();
        println!("\n{name}: {claimed} of {} rows have a test", ids.len());
        for id in ids {
            let tests = claims.get(&id).map_or_else(|| "-".to_owned(), |tests| tests.join("\n       "));
            println!("  {:<4} {tests}", id.to_uppercase());
        }
    }
    Ok(())
}

fn is_known(id: &str) -> bool {
    CATALOGUE.iter().any(|(letter, _, rows)| id.strip_prefix(*letter).is_some_and(|row| rows.contains(&row)))
}

/// Row ids and the tests that claim them, as `path::name`.
fn claims(files: &[File]) -> Claims {
    let mut claims = Claims::new();
    for file in files.iter().filter(|f| f.is_rust() && f.path.starts_with("crates/")) {
        let mut is_test = false;
        for line in file.text.lines().map(str::trim) {
            if line.starts_with("#[") && line.contains("test") {
                is_test = true;
            }
            let Some(name) = function(line) else { continue };
            for id in ids(name).filter(|_| is_test) {
                claims.entry(id).or_default().push(format!("{}::{name}", file.path));
            }
            is_test = false;
        }
    }
    claims
}

/// The name in a line that begins a function.
fn function(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ")?;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    rest.get(..end)
}

/// The row ids that a name begins with: `r12_r13_…` claims two.
fn ids(name: &str) -> impl Iterator<Item = String> + '_ {
    let is_id = |part: &&str| {
        let letter = part.chars().next().is_some_and(|c| CATALOGUE.iter().any(|(l, ..)| *l == c));
        let digits = part.get(1..3).is_some_and(|d| d.bytes().all(|b| b.is_ascii_digit()));
        letter && digits && matches!(part.len(), 3 | 4)
    };
    name.split('_').take_while(is_id).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_claims_rows_by_its_name() {
        let text = "#[tokio::test]\nasync fn r12_r13_first_chunk() {}\n#[test]\nfn m11_cut() {}\nfn r01_not_a_test() {}\n#[test]\nfn r99_x() {}";
        let files = [File { path: "crates/a/tests/x.rs".into(), text: text.into() }];
        let claimed = claims(&files);
        assert_eq!(claimed.keys().collect::<Vec<_>>(), ["m11", "r12", "r13", "r99"]);
        assert_eq!(check(&files).len(), 1, "R99 is in no catalogue");
    }
}
