//! `deploy/`: no container engine and no cluster runs here, so what such files say is held against the repository. What
//! an image copies and builds exists, names, ports, routes and flags agree, and the scripts do what they say.

mod images;
mod manifests;
mod scripts;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::support::{cargo, root};

/// Returns the routes of `detr serve`.
fn routes() -> BTreeSet<String> {
    let description: Value =
        serde_json::from_str(&read("crates/detr-serve/src/openapi.json")).unwrap();
    description["paths"].as_object().unwrap().keys().cloned().collect()
}

/// Returns the files below `deploy/`, and below a folder of it, in the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Returns the files of `deploy/` whose names end so.
fn files_named(ending: &str) -> Vec<PathBuf> {
    let is_named = |path: &PathBuf| path.to_str().unwrap().ends_with(ending);
    let found: Vec<PathBuf> = files(&root().join("deploy")).into_iter().filter(is_named).collect();
    assert!(!found.is_empty(), "no file of deploy/ ends with {ending}");
    found
}

/// Reads a file of the repository.
fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a YAML file of one document.
fn yaml(path: impl AsRef<Path>) -> Value {
    let path = path.as_ref();
    serde_saphyr::from_str(&read(path))
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A package of the workspace.
struct Package {
    features: BTreeSet<String>,
    programs: BTreeSet<String>,
}

/// Asks cargo for the packages of a workspace.
fn metadata(workspace: &Path) -> Value {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"]);
    let output = command.current_dir(workspace).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Returns the packages by their names.
fn packages() -> BTreeMap<String, Package> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let package = |package: &Value| {
        let programs = package["targets"].as_array().unwrap().iter();
        let programs = programs.filter(|target| target["kind"][0] == "bin");
        let features = package["features"].as_object().unwrap().keys().cloned().collect();
        let programs = programs.map(|target| text(&target["name"])).collect();
        (text(&package["name"]), Package { features, programs })
    };
    metadata(root())["packages"].as_array().unwrap().iter().map(package).collect()
}
