//! The rules for manifests and for who depends on whom.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use serde_json::Value;

use super::Violation;
use crate::shell;

/// Packages that must compile without a tensor library.
const WITHOUT_BURN: [&str; 5] = ["detr-types", "detr-data", "detr-eval", "detr-track", "xtask"];

/// Packages and their direct dependencies, by name.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Asks cargo for the graph and checks it.
pub(super) fn check() -> anyhow::Result<Vec<Violation>> {
    let mut command = shell::cargo();
    command.args(["metadata", "--format-version", "1", "--all-features"]);
    command.current_dir(shell::root());
    let metadata: Value =
        serde_json::from_str(&shell::output(&mut command)?).context("output of cargo metadata")?;
    let graph = graph(&metadata).context("cargo metadata has another layout than expected")?;
    let paths =
        WITHOUT_BURN.iter().filter_map(|package| Some((*package, to_burn(&graph, package)?)));
    Ok(paths
        .map(|(package, path)| Violation {
            path: format!(
                "{}/Cargo.toml",
                if package == "xtask" { package.to_owned() } else { format!("crates/{package}") }
            ),
            line: 1,
            reason: format!("{package} must not depend on Burn, but does: {}", path.join(" -> ")),
        })
        .collect())
}

/// Reads the graph; several versions of one package count as one, which is enough here.
fn graph(metadata: &Value) -> Option<Graph> {
    let mut names = BTreeMap::new();
    for package in metadata["packages"].as_array()? {
        names.insert(package["id"].as_str()?, package["name"].as_str()?);
    }
    let mut graph = Graph::new();
    for node in metadata["resolve"]["nodes"].as_array()? {
        let dependencies = graph.entry((*names.get(node["id"].as_str()?)?).to_owned()).or_default();
        for dependency in node["dependencies"].as_array()? {
            dependencies.insert((*names.get(dependency.as_str()?)?).to_owned());
        }
    }
    Some(graph)
}

/// Finds a way from a package to Burn, if there is one.
fn to_burn(graph: &Graph, package: &str) -> Option<Vec<String>> {
    let mut seen = BTreeSet::new();
    let mut open = vec![vec![package.to_owned()]];
    while let Some(path) = open.pop() {
        let last = path.last()?;
        if last == "burn" || last.starts_with("burn-") || last.starts_with("cubecl") {
            return Some(path);
        }
        for next in graph.get(last).into_iter().flatten() {
            if seen.insert(next) {
                open.push(path.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

/// Checks that a package takes the lints of the workspace.
pub(super) fn check_manifest(path: &str, text: &str) -> Option<Violation> {
    let mut lines = text.lines().map(str::trim);
    let is_package = lines.clone().any(|line| line == "[package]");
    let has_lints = lines.any(|line| line == "[lints]")
        && lines.take_while(|line| !line.starts_with('[')).any(|line| line == "workspace = true");
    (is_package && !has_lints).then(|| Violation {
        path: path.to_owned(),
        line: 1,
        reason: "a package takes the lints of the workspace: `[lints]`, `workspace = true`".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_is_found_behind_other_packages() {
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": "detr-data"}, {"id": "2", "name": "middle"},
                {"id": "3", "name": "burn-tensor"}, {"id": "4", "name": "burnt-toast"},
                {"id": "5", "name": "xtask"},
            ],
            "resolve": {"nodes": [
                {"id": "1", "dependencies": ["2"]}, {"id": "2", "dependencies": ["3", "1"]},
                {"id": "3", "dependencies": []}, {"id": "4", "dependencies": []},
                {"id": "5", "dependencies": ["4"]},
            ]},
        });
        let graph = graph(&metadata).unwrap();
        assert_eq!(to_burn(&graph, "detr-data").unwrap(), ["detr-data", "middle", "burn-tensor"]);
        assert_eq!(to_burn(&graph, "xtask"), None);
    }

    #[test]
    fn packages_take_the_workspace_lints() {
        let with = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
        assert_eq!(check_manifest("a/Cargo.toml", with), None);
        assert_eq!(check_manifest("Cargo.toml", "[workspace]\n"), None);
        for without in ["[package]\n", "[package]\n[lints]\n[dependencies]\nworkspace = true\n"] {
            assert!(check_manifest("a/Cargo.toml", without).is_some(), "{without}");
        }
    }
}
