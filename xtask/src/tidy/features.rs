//! The rule that every program of the workspace compiles its dependencies with the features that
//! `cargo test --workspace` compiles them with, so that a target folder holds each of them once.
//!
//! Cargo decides what to compile as a graph of units: a target of a package with its features, its
//! profile and the units it is built from. Two commands share a unit if all of these are equal.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde::Deserialize;

use super::Violation;
use crate::shell;

/// Packages that people build by themselves.
const PROGRAMS: [&str; 5] = ["detr-infer", "detr-cli", "detr", "detr-bench", "xtask"];

/// The manifest in which features are made equal.
const PLACE: &str = "crates/workspace-hack/Cargo.toml";

/// The part of cargo's unit graph that decides whether two units are the same.
#[derive(Deserialize)]
struct UnitGraph {
    units: Vec<Unit>,
}

#[derive(Deserialize)]
struct Unit {
    pkg_id: String,
    target: Target,
    mode: String,
    features: Vec<String>,
    profile: serde_json::Map<String, serde_json::Value>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

#[derive(Deserialize)]
struct Dependency {
    index: usize,
}

/// Everything that makes a unit what it is, as text.
type Identity = String;

impl UnitGraph {
    /// Asks cargo what a command would compile.
    fn of(command: &[&str]) -> anyhow::Result<Self> {
        let mut cargo = shell::cargo();
        cargo.args(command).args(["--unit-graph", "-Z", "unstable-options"]);
        // The graph is not a stable feature of cargo, but `rust-toolchain.toml` pins the version that prints it.
        cargo.env("RUSTC_BOOTSTRAP", "1").current_dir(shell::root());
        serde_json::from_str(&shell::output(&mut cargo)?)
            .with_context(|| format!("the unit graph of `cargo {}`", command.join(" ")))
    }

    /// Returns the identity of every unit, which contains those of its dependencies.
    fn identities(&self) -> Vec<Identity> {
        let mut known = vec![None; self.units.len()];
        (0..self.units.len()).map(|index| self.identity(index, &mut known)).collect()
    }

    fn identity(&self, index: usize, known: &mut Vec<Option<Identity>>) -> Identity {
        if let Some(identity) = &known[index] {
            return identity.clone();
        }
        let unit = &self.units[index];
        let mut built_from: Vec<Identity> = unit
            .dependencies
            .iter()
            .map(|dependency| self.identity(dependency.index, known))
            .collect();
        built_from.sort();
        let mut profile = unit.profile.clone();
        profile.remove("name"); // `dev` and `test` with equal settings share what they compile
        let features: BTreeSet<_> = unit.features.iter().collect();
        let Target { name, kind } = &unit.target;
        let text = format!(
            "{} {name} {kind:?} {} {features:?} {profile:?} {built_from:?}",
            unit.pkg_id, unit.mode
        );
        let identity = format!("{:016x}", fingerprint(&text));
        known[index] = Some(identity.clone());
        identity
    }
}

/// Returns FNV-1a's 64-bit hash of a text, which keeps identities short.
fn fingerprint(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Compares the dependencies of every program with those of the tests.
pub(super) fn check() -> anyhow::Result<Vec<Violation>> {
    let tests = UnitGraph::of(&["test", "--workspace"])?;
    let mut violations = Vec::new();
    for program in PROGRAMS {
        let graph = UnitGraph::of(&["build", "-p", program])?;
        violations.extend(differences(&tests, &graph).into_iter().map(|difference| Violation {
            path: PLACE.into(),
            line: 1,
            reason: format!("`cargo build -p {program}` {difference}"),
        }));
    }
    Ok(violations)
}

/// Describes the dependencies that a program compiles anew after the tests. Those that differ only
/// because something below them does are left out.
fn differences(tests: &UnitGraph, program: &UnitGraph) -> Vec<String> {
    let shared: BTreeSet<Identity> = tests.identities().into_iter().collect();
    let identities = program.identities();
    let differs = |index: usize| !shared.contains(&identities[index]);
    let found: BTreeMap<String, String> = program
        .units
        .iter()
        .enumerate()
        .filter(|(index, unit)| unit.is_library_from_registry() && differs(*index))
        .filter(|(_, unit)| {
            // A package's own build script differs with it.
            let is_cause =
                |below: usize| differs(below) && program.units[below].pkg_id != unit.pkg_id;
            !unit.dependencies.iter().any(|below| is_cause(below.index))
        })
        .map(|(_, unit)| (unit.pkg_id.clone(), unit.difference(&tests.units)))
        .collect();
    found.into_values().collect()
}

impl Unit {
    fn is_library_from_registry(&self) -> bool {
        let is_library =
            self.target.kind.iter().any(|kind| kind.ends_with("lib") || kind == "proc-macro");
        self.pkg_id.starts_with("registry+") && is_library && self.mode == "build"
    }

    /// Says how this unit differs from the most similar one of the tests, and how to mend it.
    fn difference(&self, tests: &[Unit]) -> String {
        let package = self.pkg_id.rsplit('#').next().unwrap_or(&self.pkg_id).replace('@', " ");
        let missing = tests
            .iter()
            .filter(|unit| unit.pkg_id == self.pkg_id && unit.target.kind == self.target.kind)
            .map(|unit| {
                let lacks = |feature: &&String| !self.features.contains(feature);
                unit.features.iter().filter(lacks).map(String::as_str).collect::<Vec<_>>()
            })
            .min_by_key(Vec::len);
        match missing {
            None => format!("compiles {package}, which `cargo test --workspace` does not"),
            Some(missing) if missing.is_empty() => format!(
                "compiles {package} with features or settings that `cargo test --workspace` does not use"
            ),
            Some(missing) => format!(
                "compiles {package} without the features {missing:?} of `cargo test --workspace`, and \
                 with it all that depends on it a second time; ask for them here, under \
                 `[dependencies]`, or `[build-dependencies]` if procedural macros use it"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a graph of libraries: package, features, and the positions of its dependencies.
    fn graph(units: &[(&str, &[&str], &[usize])]) -> UnitGraph {
        let units: Vec<_> = units
            .iter()
            .map(|(package, features, dependencies)| {
                serde_json::json!({
                    "pkg_id": format!("registry+index#{package}@1.0.0"),
                    "target": {"name": package, "kind": ["lib"]},
                    "mode": "build", "features": features, "profile": {"name": "dev"},
                    "dependencies": dependencies.iter().map(|index| serde_json::json!({"index": index})).collect::<Vec<_>>(),
                })
            })
            .collect();
        serde_json::from_value(serde_json::json!({ "units": units })).unwrap()
    }

    #[test]
    fn equal_features_in_any_order_are_shared() {
        let tests = graph(&[("top", &[], &[1]), ("log", &["std", "alloc"], &[])]);
        let program = graph(&[("log", &["alloc", "std"], &[]), ("top", &[], &[0])]);
        assert!(differences(&tests, &program).is_empty());
    }

    #[test]
    fn only_the_cause_of_a_difference_is_named() {
        let tests = graph(&[("top", &[], &[1]), ("log", &["std", "alloc"], &[])]);
        let program = graph(&[("top", &[], &[1]), ("log", &["std"], &[])]);
        let found = differences(&tests, &program);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("log 1.0.0 without the features [\"alloc\"]"), "{found:?}");
    }

    #[test]
    fn a_package_that_differs_together_with_its_build_script_is_named() {
        let with_script = |features: &[&str]| {
            let mut graph = graph(&[("rustix", features, &[1]), ("rustix", features, &[])]);
            graph.units[1].target.kind = vec!["custom-build".into()];
            graph
        };
        let found = differences(&with_script(&["fs", "stdio"]), &with_script(&["fs"]));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("without the features [\"stdio\"]"), "{found:?}");
    }

    #[test]
    fn a_dependency_that_the_tests_lack_is_named() {
        let found = differences(&graph(&[]), &graph(&[("extra", &[], &[])]));
        assert_eq!(found, ["compiles extra 1.0.0, which `cargo test --workspace` does not"]);
    }
}
