//! `docs/configuration.md` says what the program does: every key, and its default.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::Config;

const PAGE: &str = include_str!("../../../../docs/configuration.md");
/// A key that nothing has.
const NONE: &str = "no_such_key";

/// The keys that a struct has, as the deserialiser names them when one is wrong; `None` when a value at `path` is no struct.
fn fields(path: &[&str]) -> Option<Vec<String>> {
    let innermost = Value::Table(Table::from_iter([(NONE.to_owned(), Value::Integer(1))]));
    let value = path.iter().rev().fold(innermost, |value, step| match *step {
        "[]" => Value::Array(vec![value]),
        key => Value::Table(Table::from_iter([(key.to_owned(), value)])),
    });
    let error = value.try_into::<Config>().expect_err("there is no such key").message().to_owned();
    let names = error.strip_prefix(&format!("unknown field `{NONE}`, expected "))?;
    Some(names.split('`').skip(1).step_by(2).map(str::to_owned).collect())
}

/// Every key below `path`, as the page writes it.
fn keys(path: &[&str], written: &str, found: &mut Vec<String>) {
    for field in fields(path).expect("a struct") {
        let path = [path, &[field.as_str()]].concat();
        let name = if written.is_empty() { field.clone() } else { format!("{written}.{field}") };
        if fields(&path).is_some_and(|inner| !inner.is_empty()) {
            keys(&path, &name, found);
            continue;
        }
        found.push(name.clone());
        let list = [&path[..], &["[]"]].concat();
        // Of a table by name any name will do.
        let named = [&path[..], &["any"]].concat();
        if fields(&list).is_some() {
            keys(&list, &format!("{name}[]"), found);
        } else if fields(&named).is_some() {
            keys(&named, &format!("{name}.NAME"), found);
        }
    }
}

/// Key and default of each row of the page.
fn rows() -> BTreeMap<String, String> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| {
        // A bar within a code span would need an escape, and no row has one.
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{row}");
        (cells[0].trim_matches('`').to_owned(), cells[2].trim_matches('`').to_owned())
    })
    .collect()
}

/// The default of a key, in a configuration that nobody has written.
fn default_of(key: &str) -> Option<Value> {
    let defaults = Value::Table(Table::try_from(Config::default()).expect("every value has a TOML form"));
    key.replace("NAME", "default").split('.').try_fold(defaults, |value, step| value.get(step).cloned())
}

#[test]
fn every_key_is_on_the_page_with_its_default() {
    let mut keys_of_config = Vec::new();
    keys(&[], "", &mut keys_of_config);
    keys_of_config.sort();
    assert!(keys_of_config.len() > 50 && keys_of_config.contains(&"udp.input[].url".to_owned()));
    let rows = rows();
    let documented: Vec<_> = rows.keys().cloned().collect();
    assert_eq!(keys_of_config, documented, "keys of the program, and of docs/configuration.md");
    for (key, written) in &rows {
        let default = default_of(key).filter(|default| !default.is_table());
        let written = toml::from_str::<Table>(&format!("default = {written}")).ok();
        assert_eq!(
            written.as_ref().and_then(|table| table.get("default")),
            default.as_ref(),
            "the default of {key}"
        );
    }
}
