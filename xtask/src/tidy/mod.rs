//! `tidy`: machine checks of what must be absent, and of what every crate must say.
//!
//! Each rule names the file, the line and what to do. Rules read text, not syntax: a rule that a clever
//! person can get around is good enough here, as nobody has a reason to.

mod rows;
mod rules;

use std::path::Path;
use std::process::Command;

use crate::run::{Result, flag, no_more, output, root};

/// A file of the repository, as text.
struct File {
    /// Relative to the root, with `/`.
    path: String,
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Lines with their numbers, comments left out; up to the tests, which stand last by convention.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_test_file = self.path.contains("/tests/") || self.path.ends_with("/tests.rs");
        let tests = if is_test_file { 0 } else { usize::MAX };
        let code = self.text.lines().enumerate().map(|(n, line)| (n + 1, line)).take(tests);
        code.take_while(|(_, line)| line.trim() != "#[cfg(test)]").filter(|(_, line)| !is_comment(line))
    }
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

pub(crate) fn main(args: &[String]) -> Result {
    let mut args = args.to_vec();
    let rows = flag(&mut args, "--rows");
    no_more(&args)?;
    let files = files()?;
    if rows {
        return rows::print(&files);
    }
    for file in files.iter().filter(|f| f.is_rust()) {
        let lines = file.text.lines().count();
        if lines > rules::LONG_FILE {
            println!(
                "note: {} has {lines} lines; would its reader find the room in a table of contents?",
                file.path
            );
        }
    }
    let mut findings: Vec<String> = files.iter().flat_map(rules::check_file).collect();
    findings.extend(rules::check_tree(&files));
    findings.extend(rows::check(&files));
    if findings.is_empty() {
        println!("{} files, tidy", files.len());
        return Ok(());
    }
    Err(format!("{} untidy places:\n  {}", findings.len(), findings.join("\n  ")))
}

/// Every text file that git tracks or would track; without git, every file outside build output.
fn files() -> Result<Vec<File>> {
    let root = root();
    let mut git = Command::new("git");
    git.current_dir(&root).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let mut paths: Vec<String> = match output(&mut git) {
        Ok(list) => list.split('\0').filter(|path| !path.is_empty()).map(str::to_owned).collect(),
        Err(_) => walk(&root, "")?,
    };
    paths.sort();
    paths.dedup();
    // A file that git lists and nobody can read as text is binary, or deleted and not yet committed.
    let read = |path: String| std::fs::read_to_string(root.join(&path)).ok().map(|text| File { path, text });
    Ok(paths.into_iter().filter_map(read).collect())
}

fn walk(root: &Path, below: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    let dir = root.join(below);
    for entry in std::fs::read_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let entry = entry.map_err(|e| format!("{}: {e}", dir.display()))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [".git", "target", "node_modules", "corpus", "artifacts"].contains(&name.as_str()) {
            continue;
        }
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        if entry.path().is_dir() {
            paths.extend(walk(root, &path)?);
        } else {
            paths.push(path);
        }
    }
    Ok(paths)
}
