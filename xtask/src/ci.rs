//! `ci`: every check that the build machine makes, the quick ones first.

use serde_json::Value;

use crate::run::{Result, cargo, flag, no_more, output, run, step};
use crate::{layers, test, tidy};

pub(crate) fn main(args: &[String]) -> Result {
    let mut args = args.to_vec();
    let no_test = flag(&mut args, "--no-test");
    no_more(&args)?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"];
    // With every feature, as docs.rs builds them: links lead to modules that a feature switches on.
    let doc = ["doc", "--workspace", "--all-features", "--no-deps", "--quiet"];
    // A step that fails does not hide what the later ones would say.
    let mut failed = Vec::new();
    let mut check = |name, f: &dyn Fn() -> Result| failed.extend(step(name, f).err());
    check("fmt", &|| run(&mut cargo(&["fmt", "--all", "--check"])));
    check("layers", &|| layers::main(&[]));
    check("tidy", &|| tidy::main(&[]));
    check("clippy", &|| run(&mut cargo(&clippy)));
    check("rustdoc", &|| run(cargo(&doc).env("RUSTDOCFLAGS", "-D warnings")));
    check("features", &features);
    if !no_test {
        check("test", &|| test::main(&["--ci".to_owned()]));
    }
    if failed.is_empty() { Ok(()) } else { Err(failed.join("\nerror: ")) }
}

/// Each library crate compiles with no feature, and with each of its features alone.
fn features() -> Result {
    let metadata = output(&mut cargo(&["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|e| format!("cargo metadata: {e}"))?;
    for (package, features) in featured_libraries(&metadata) {
        let none = std::iter::once("");
        for feature in none.chain(features.iter().map(String::as_str)) {
            // Clippy takes `-D warnings` without making cargo build the dependencies a second time.
            let only =
                ["clippy", "--quiet", "--package", &package, "--no-default-features", "--features", feature];
            run(cargo(&only).args(["--", "-D", "warnings"]))
                .map_err(|e| format!("{package} with feature {feature:?} alone: {e}"))?;
        }
    }
    Ok(())
}

/// Library packages that have features, with them.
fn featured_libraries(metadata: &Value) -> Vec<(String, Vec<String>)> {
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_library = |package: &&Value| {
        let targets = package["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        targets.iter().any(|target| target["kind"][0] == "lib")
    };
    let name_and_features = |package: &Value| {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let features = package["features"].as_object().map(|f| f.keys().cloned().collect::<Vec<_>>());
        (name, features.unwrap_or_default())
    };
    let libraries = packages.iter().filter(is_library).map(name_and_features);
    libraries.filter(|(_, features)| !features.is_empty()).collect()
}
