//! Settings of training as users have them: the recipes that are shipped, what the manual says of every
//! setting, and mistakes on the command line.

mod manual;
mod mistakes;
mod recipes;

use std::path::{Path, PathBuf};

use detr_train::TrainConfig;

use crate::support::root;

/// Lists the recipes, in order.
fn recipes() -> Vec<PathBuf> {
    let entries = root().join("configs/train").read_dir().unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 12, "{files:?}");
    files
}

fn load(path: &Path) -> TrainConfig {
    let text = std::fs::read_to_string(path).unwrap();
    TrainConfig::load(path, &text, &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// Returns the rows of the tables of a manual: the cells, without the outer bars.
fn rows(manual: &str) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(root().join("docs").join(manual)).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let cells = |line: &str| line.split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.map(cells).collect()
}

/// Returns the texts in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}
