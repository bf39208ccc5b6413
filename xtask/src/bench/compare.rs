//! `cargo xtask bench compare A B`: what changed between two results of `cargo xtask bench all`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use serde_json::Value;

use super::all::{figure, ratio, whole, word};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Results of `bench all`: the earlier ones
    a: PathBuf,
    /// The later ones
    b: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let text = compare(&read(&args.a)?, &read(&args.b)?);
    write!(std::io::stdout().lock(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> anyhow::Result<Value> {
    let shown = path.display();
    let text = std::fs::read_to_string(path).with_context(|| shown.to_string())?;
    let results: Value = serde_json::from_str(&text).with_context(|| shown.to_string())?;
    anyhow::ensure!(
        results["rows"].is_array(),
        "{shown}: there are no rows in it\nhint: take JSON that `cargo xtask bench all --save` wrote"
    );
    Ok(results)
}

/// Rows by name, in the order of the names.
fn rows(results: &Value) -> BTreeMap<&str, &Value> {
    let rows = results["rows"].as_array().into_iter().flatten();
    rows.filter_map(|row| Some((row["name"].as_str()?, row))).collect()
}

fn compare(a: &Value, b: &Value) -> String {
    let about = |side: &str, results: &Value| {
        format!(
            "{side}: {}, commit {}, {}, backend {}\n",
            word(&results["date"]),
            word(&results["commit"]),
            word(&results["hardware"]["cpu"]),
            word(&results["backend"])
        )
    };
    let mut out = about("A", a) + &about("B", b);
    let (a, b) = (rows(a), rows(b));
    let mut only = String::new();
    out += "\nRatios are B over A; that of the peer tells how far the machine was the same.\n\n";
    out += "| | unit | A | B | ratio | A MB | B MB | ratio | peer |\n|---|---|---|---|---|---|---|---|---|\n";
    for (name, before) in &a {
        let Some(after) = b.get(name) else {
            let _ = writeln!(only, "- {name}: only in A");
            continue;
        };
        let change = |key: &str| quotient(&after[key], &before[key]);
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            word(&before["unit"]),
            figure(&before["detr"]),
            figure(&after["detr"]),
            ratio(&change("detr")),
            whole(&before["detr_memory_mb"]),
            whole(&after["detr_memory_mb"]),
            ratio(&change("detr_memory_mb")),
            ratio(&change("peer")),
        );
    }
    for name in b.keys().filter(|name| !a.contains_key(*name)) {
        let _ = writeln!(only, "- {name}: only in B");
    }
    if only.is_empty() { out } else { format!("{out}\n{only}") }
}

/// One number over another, where both are there.
fn quotient(above: &Value, below: &Value) -> Value {
    let below = below.as_f64().filter(|&below| below > 0.0);
    above.as_f64().zip(below).map(|(above, below)| above / below).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn results(names: &[&str], ms: f64) -> Value {
        let rows: Vec<Value> = names
            .iter()
            .map(|name| json!({ "name": name, "unit": "ms", "detr": ms, "detr_memory_mb": 10.0 * ms }))
            .collect();
        json!({ "date": "2026-01-02", "commit": "abc", "rows": rows })
    }

    #[test]
    fn rows_are_compared_by_name() {
        let text = compare(&results(&["a", "b"], 4.0), &results(&["b", "c"], 2.0));
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("| b | ms | 4.00 | 2.00 | 0.50 | 40 | 20 | 0.50 | - |"), "{text}");
        assert!(has("- a: only in A") && has("- c: only in B"), "{text}");
    }

    #[test]
    fn numbers_that_are_missing_make_no_ratio() {
        let mut b = results(&["a"], 1.0);
        b["rows"][0]["detr"] = Value::Null;
        let text = compare(&results(&["a"], 0.0), &b);
        assert!(text.contains("| a | ms | 0.0000 | - | - | 0 | 10 | - | - |"), "{text}");
    }
}
