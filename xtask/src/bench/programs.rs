//! The programs that are measured, built once and then started as they are: what cargo adds to a start is
//! no part of a measurement.

use std::collections::BTreeMap;
use std::env::consts::EXE_SUFFIX;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::{infer, shell};

/// Packages, and the programs and examples of them that are measured.
const PROGRAMS: [(&str, &str, &[&str]); 5] = [
    ("detr-cli", "--bin", &["detr"]),
    ("detr-infer", "--bin", &["detr-infer"]),
    ("detr-data", "--example", &["bench_data", "photos"]),
    ("detr-loss", "--example", &["bench_match"]),
    ("detr-eval", "--example", &["bench_eval"]),
];

/// Where programs are.
pub(super) struct Programs {
    found: BTreeMap<String, PathBuf>,
}

impl Programs {
    /// Builds all that are measured, with optimisation and the features of a backend.
    pub(super) fn build(backend: &str) -> anyhow::Result<Self> {
        let mut found = BTreeMap::new();
        for (package, kind, names) in PROGRAMS {
            found.extend(build(package, kind, names, backend)?);
        }
        Ok(Self { found })
    }

    /// `detr` alone.
    pub(super) fn build_detr(backend: &str) -> anyhow::Result<Self> {
        let (package, kind, names) = PROGRAMS[0];
        Ok(Self { found: build(package, kind, names, backend)? })
    }

    /// Takes those of a folder such as `target/release`; what is not there cannot be measured.
    pub(super) fn of_folder(folder: &Path) -> Self {
        let all = PROGRAMS.iter().flat_map(|(_, kind, names)| {
            let folder = if *kind == "--bin" { folder.to_owned() } else { folder.join("examples") };
            names.iter().map(move |&name| (name, folder.join(format!("{name}{EXE_SUFFIX}"))))
        });
        let there = all.filter(|(_, path)| path.is_file());
        Self { found: there.map(|(name, path)| (name.to_owned(), path)).collect() }
    }

    /// Where one is.
    pub(super) fn path(&self, name: &str) -> anyhow::Result<&Path> {
        let path = self.found.get(name).map(PathBuf::as_path);
        path.with_context(|| format!("there is no program `{name}`"))
    }

    /// A command that runs one.
    pub(super) fn command(&self, name: &str) -> anyhow::Result<Command> {
        Ok(Command::new(self.path(name)?))
    }
}

fn build(
    package: &str,
    kind: &str,
    names: &[&str],
    backend: &str,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut command = shell::cargo();
    command.args(["build", "--release", "--message-format", "json-render-diagnostics"]);
    command.arg("--manifest-path").arg(shell::root().join("Cargo.toml")).args(["-p", package]);
    for name in names {
        command.args([kind, name]);
    }
    if kind == "--bin" {
        command.args(infer::feature_flags(Some(backend)));
    }
    eprintln!("{}", shell::shown(&command));
    let found = executables(&shell::output(&mut command)?);
    match names.iter().find(|name| !found.contains_key(**name)) {
        Some(name) => bail!("cargo built no `{name}`"),
        None => Ok(found),
    }
}

/// Names and paths of the programs that cargo tells of, one object per line.
fn executables(messages: &str) -> BTreeMap<String, PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    messages
        .filter_map(|message| {
            let path = message["executable"].as_str()?;
            Some((message["target"]["name"].as_str()?.to_owned(), PathBuf::from(path)))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_tells() {
        let messages = "{\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"a\"},\"executable\":null}\n\
             {\"reason\":\"compiler-artifact\",\"target\":{\"name\":\"detr\"},\"executable\":\"/t/detr\"}\n\
             {\"reason\":\"build-finished\",\"success\":true}\n";
        let found = executables(messages);
        assert_eq!(found.len(), 1);
        assert_eq!(found["detr"], Path::new("/t/detr"));
        let none = Programs::of_folder(Path::new("no such folder"));
        assert!(none.command("detr").unwrap_err().to_string().contains("no program `detr`"));
    }
}
