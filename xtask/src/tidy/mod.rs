//! `cargo xtask tidy`: the invariants of ARCHITECTURE.md as checks of the sources. They read text,
//! not types: enough to catch what happens by accident.

mod dependencies;
mod features;
mod openings;
mod rules;
mod source;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;

use crate::shell;
use openings::Openings;
use source::Source;

/// A place that breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Violation {
    path: String,
    line: usize,
    reason: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.reason)
    }
}

pub(crate) fn run() -> anyhow::Result<ExitCode> {
    let mut violations = dependencies::check()?;
    violations.extend(features::check()?);
    let (mut sources, mut manifests) = (0, 0);
    let mut openings = Openings::default();
    for path in files(shell::root())? {
        let relative = relative(&path);
        let text = fs::read_to_string(&path).with_context(|| relative.clone())?;
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = Source::new(&relative, &text);
            violations.extend(rules::check(&source));
            openings.add(&source);
            violations.extend(layout(&path, &relative));
            sources += 1;
        } else {
            violations.extend(dependencies::check_manifest(&relative, &text));
            manifests += 1;
        }
    }
    violations.extend_from_slice(openings.violations());
    violations.sort();
    for violation in &violations {
        println!("{violation}");
    }
    eprintln!("tidy: {sources} sources, {manifests} manifests, {} violations", violations.len());
    eprintln!("tidy: {}", openings.summary());
    Ok(if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Modules with parts of their own are `name/mod.rs`, never `name.rs` beside a folder.
fn layout(path: &Path, relative: &str) -> Option<Violation> {
    path.with_extension("").is_dir().then(|| Violation {
        path: relative.to_owned(),
        line: 1,
        reason: "a module with a folder is its `mod.rs`: move the file there".to_owned(),
    })
}

/// Lists every source and manifest of the workspace, in order.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                // Build outputs are marked by cargo; other tools hide their folders.
                if !name.starts_with('.') && !path.join("CACHEDIR.TAG").exists() {
                    folders.push(path);
                }
            } else if name.ends_with(".rs") || name == "Cargo.toml" {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Returns a path from the root of the workspace, with `/`.
fn relative(path: &Path) -> String {
    let path = path.strip_prefix(shell::root()).unwrap_or(path);
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
