//! `full` is full, and there are no default features.

use std::collections::BTreeSet;

#[test]
fn full_has_every_other_feature() {
    let manifest: toml::Table = include_str!("../Cargo.toml").parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    assert!(!features.contains_key("default"));
    let full: BTreeSet<&str> =
        features["full"].as_array().unwrap().iter().map(|f| f.as_str().unwrap()).collect();
    let others: BTreeSet<&str> = features.keys().map(String::as_str).filter(|name| *name != "full").collect();
    assert_eq!(full, others);
}
