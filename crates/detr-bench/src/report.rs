//! The report of every benchmark: facts about what was measured on which machine, and rows of numbers. Other programs
//! read it as JSON, people read it as a table in Markdown.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use detr_infer::cli::CliError;
use detr_track::machine::{cpu_name, peak_memory_mb};
use detr_train::BURN_VERSION;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A report of a benchmark.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The facts, by name.
    #[serde(flatten)]
    pub(crate) facts: Map<String, Value>,
    /// The measurements.
    pub(crate) rows: Vec<Row>,
}

/// A measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    /// The name for people; no two rows of a report have the same.
    pub(crate) name: String,
    /// The unit of its times, rates or sizes.
    pub(crate) unit: String,
    /// The numbers, by the names of [`COLUMNS`], and reasons why a number is missing.
    #[serde(flatten)]
    pub(crate) numbers: Map<String, Value>,
}

/// The kinds of numbers in a table.
#[derive(Clone, Copy)]
enum Show {
    /// Three or more digits that count.
    Figure,
    /// A whole number.
    Whole,
    /// Two decimals.
    Ratio,
}

/// The columns of a table in their order, with their titles. A table has those that any row has.
const COLUMNS: [(&str, &str, Show); 21] = [
    ("median", "median", Show::Figure),
    ("min", "min", Show::Figure),
    ("p95", "p95", Show::Figure),
    ("p99", "p99", Show::Figure),
    ("mb", "MB moved", Show::Figure),
    ("gb_s", "GB/s", Show::Figure),
    ("reference", "tensor operations", Show::Figure),
    ("detr", "detr", Show::Figure),
    ("peer", "peer", Show::Figure),
    ("ratio", "ratio", Show::Ratio),
    ("onnx", "ONNX Runtime", Show::Figure),
    ("onnx_ratio", "ratio", Show::Ratio),
    ("detr_memory_mb", "detr MB", Show::Whole),
    ("peer_memory_mb", "peer MB", Show::Whole),
    ("memory_ratio", "ratio", Show::Ratio),
    ("onnx_memory_mb", "ONNX Runtime MB", Show::Whole),
    ("onnx_memory_ratio", "ratio", Show::Ratio),
    ("gflop", "GFLOP", Show::Figure),
    ("times_time", "time x", Show::Ratio),
    ("times_memory", "memory x", Show::Ratio),
    ("times_operations", "operations x", Show::Ratio),
];

impl Row {
    pub(crate) fn new(name: impl Into<String>, unit: &str) -> Self {
        Self { name: name.into(), unit: unit.to_owned(), numbers: Map::new() }
    }

    /// Returns the row of some runs: the smallest value, the median, and the smallest values that 95 and 99 of 100 do
    /// not exceed.
    pub(crate) fn of_runs(name: impl Into<String>, unit: &str, mut runs: Vec<f64>) -> Self {
        runs.sort_by(f64::total_cmp);
        let at = |index: usize| runs.get(index).copied();
        let of_hundred = |share: usize| at((share * runs.len()).div_ceil(100).max(1) - 1);
        let mut row = Self::new(name, unit);
        row.set("median", median(runs.clone()));
        row.set("min", at(0));
        row.set("p95", of_hundred(95));
        row.set("p99", of_hundred(99));
        row
    }

    /// Returns a number.
    pub(crate) fn get(&self, key: &str) -> Option<f64> {
        self.numbers.get(key)?.as_f64()
    }

    /// Sets a number, if there is one.
    pub(crate) fn set(&mut self, key: &str, number: Option<f64>) {
        if let Some(number) = number {
            self.numbers.insert(key.to_owned(), json!(number));
        }
    }
}

impl Report {
    /// Makes a report with facts, and with those about this machine and program.
    pub(crate) fn new(facts: Value, rows: Vec<Row>) -> Self {
        let mut report = Self { facts: Map::new(), rows };
        report.add(facts);
        report.add(json!({
            "peak_memory_mb": peak_memory_mb(),
            "cpu": cpu_name(),
            "threads": rayon::current_num_threads(),
            "version": env!("CARGO_PKG_VERSION"),
            "burn": BURN_VERSION,
        }));
        report
    }

    fn add(&mut self, facts: Value) {
        if let Value::Object(facts) = facts {
            self.facts.extend(facts);
        }
    }

    /// Returns the row of a name.
    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name)
    }

    /// Puts the date and the commit in front.
    pub(crate) fn dated(mut self) -> Self {
        let now = humantime::format_rfc3339(std::time::SystemTime::now()).to_string();
        let mut facts = Map::new();
        facts.insert("date".to_owned(), json!(now.get(..10)));
        facts.insert("commit".to_owned(), json!(commit()));
        facts.append(&mut self.facts);
        Self { facts, ..self }
    }

    /// Writes the report for people.
    pub(crate) fn markdown(&self) -> String {
        let facts: Vec<String> = self.facts.iter().filter_map(|(n, v)| fact(n, v)).collect();
        let mut out = facts.join(", ");
        // Writing to a string cannot fail.
        let _ = write!(out, "\n\n| | unit |");
        let shown =
            |(key, ..): &&(&str, &str, Show)| self.rows.iter().any(|row| row.get(key).is_some());
        let columns: Vec<_> = COLUMNS.iter().filter(shown).collect();
        for (_, title, _) in &columns {
            let _ = write!(out, " {title} |");
        }
        let _ = writeln!(out, "\n|---|---|{}", "---|".repeat(columns.len()));
        let mut notes = Vec::new();
        for row in &self.rows {
            let _ = write!(out, "| {} | {} |", row.name, row.unit);
            for (key, _, show) in &columns {
                let _ = write!(out, " {} |", shown_as(row.get(key), *show));
            }
            out.push('\n');
            for (side, key) in
                [("detr", "detr_error"), ("peer", "peer_error"), ("ONNX Runtime", "onnx_error")]
            {
                if let Some(error) = row.numbers.get(key).and_then(Value::as_str) {
                    notes.push(format!("- {}, {side}: {}\n", row.name, error.replace('\n', "; ")));
                }
            }
        }
        if !notes.is_empty() {
            out += "\nWithout a figure:\n\n";
            out += &notes.concat();
        }
        out
    }

    /// Writes the report to `benches/results/DATE-NAME.json`, and as Markdown beside it; a number is added rather than
    /// a file replaced. Returns the path without its ending.
    pub(crate) fn save(&self, name: &str) -> Result<PathBuf, CliError> {
        let folder = root().join("benches/results");
        let date = self.facts.get("date").and_then(Value::as_str).unwrap_or_default();
        let free = (1..).map(|number: u32| match number {
            1 => folder.join(format!("{date}-{name}")),
            _ => folder.join(format!("{date}-{name}-{number}")),
        });
        let mut free = free.filter(|stem| !stem.with_extension("json").exists());
        let stem = free.next().unwrap_or(folder);
        save_text(&stem.with_extension("json"), &format!("{:#}\n", json!(self)))?;
        save_text(&stem.with_extension("md"), &self.markdown())?;
        Ok(stem)
    }
}

/// Writes a fact in words. Long ones are for programs only.
fn fact(name: &str, value: &Value) -> Option<String> {
    let name = name.replace('_', " ");
    match value {
        Value::Null | Value::Array(_) => None,
        Value::String(text) => Some(format!("{name} {text}")),
        Value::Number(number) if number.is_f64() => {
            Some(format!("{name} {}", shown_as(number.as_f64(), Show::Figure)))
        }
        Value::Object(inside) => {
            let mut inside: Vec<(&String, &Value)> = inside.iter().collect();
            // The kernels of a GPU: the most frequent first.
            inside.sort_by_key(|(_, value)| std::cmp::Reverse(value.as_u64()));
            let more = inside.len().saturating_sub(8);
            let mut words: Vec<String> =
                inside.into_iter().take(8).filter_map(|(name, value)| fact(name, value)).collect();
            if more > 0 {
                words.push(format!("and {more} more"));
            }
            (!words.is_empty()).then(|| format!("{name} ({})", words.join(", ")))
        }
        other => Some(format!("{name} {other}")),
    }
}

fn shown_as(number: Option<f64>, show: Show) -> String {
    let Some(number) = number else { return "-".to_owned() };
    match (show, number.abs()) {
        (Show::Whole, _) => format!("{number:.0}"),
        (Show::Ratio, _) => format!("{number:.2}"),
        (Show::Figure, size) if size >= 100.0 => format!("{number:.0}"),
        (Show::Figure, size) if size >= 10.0 => format!("{number:.1}"),
        (Show::Figure, size) if size >= 0.1 => format!("{number:.2}"),
        (Show::Figure, _) => format!("{number:.4}"),
    }
}

/// Returns the table of what changed between two reports.
pub(crate) fn compare(a: &Report, b: &Report) -> String {
    let about = |side: &str, report: &Report| {
        let word = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("?").to_owned();
        let fact = |key: &str| word(report.facts.get(key));
        let cpu = report.facts.get("cpu").or(report.facts.get("hardware").map(|all| &all["cpu"]));
        format!(
            "{side}: {}, commit {}, {}, backend {}\n",
            fact("date"),
            fact("commit"),
            word(cpu),
            fact("backend")
        )
    };
    let mut out = about("A", a) + &about("B", b);
    out += "\nRatios are B over A; that of the peer tells how far the machine was the same.\n\n\
            | | unit | A | B | ratio | A MB | B MB | ratio | peer |\n|---|---|---|---|---|---|---|---|---|\n";
    let mut only = String::new();
    let mut before: Vec<&Row> = a.rows.iter().collect();
    before.sort_by(|a, b| a.name.cmp(&b.name));
    for before in before {
        let name = &before.name;
        // Writing to a string cannot fail.
        let Some(after) = b.row(name) else {
            let _ = writeln!(only, "- {name}: only in A");
            continue;
        };
        let change = |key: &str| shown_as(over(after.get(key), before.get(key)), Show::Ratio);
        let [detr, mb] = ["detr", "detr_memory_mb"];
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} | {} |",
            before.unit,
            shown_as(before.get(detr), Show::Figure),
            shown_as(after.get(detr), Show::Figure),
            change(detr),
            shown_as(before.get(mb), Show::Whole),
            shown_as(after.get(mb), Show::Whole),
            change(mb),
            change("peer"),
        );
    }
    for row in b.rows.iter().filter(|row| a.row(&row.name).is_none()) {
        let _ = writeln!(only, "- {}: only in B", row.name);
    }
    if only.is_empty() { out } else { format!("{out}\n{only}") }
}

/// Returns one number over another, where both are there.
pub(crate) fn over(above: Option<f64>, below: Option<f64>) -> Option<f64> {
    Some(above? / below.filter(|&below| below > 0.0)?)
}

/// Returns the number in the middle, or between the two there.
pub(crate) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().checked_sub(1)?;
    Some(f64::midpoint(numbers[last / 2], numbers[numbers.len() / 2]))
}

/// Returns a time in milliseconds.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Returns the folder of the workspace that this program was built from.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new("."))
}

/// Writes a text, and tells where.
pub(crate) fn save_text(path: &Path, text: &str) -> Result<(), CliError> {
    detr_infer::cli::write_text(path, text)?;
    eprintln!("saved {}", path.display());
    Ok(())
}

/// Returns the commit that was measured, where git knows it.
fn commit() -> Option<String> {
    let mut git = std::process::Command::new("git");
    let output = git.args(["describe", "--always", "--dirty"]).current_dir(root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spreads_of_few_runs() {
        let of = |runs: &[f64]| {
            let row = Row::of_runs("a", "ms", runs.to_vec());
            json!(["min", "median", "p95", "p99"].map(|key| row.get(key)))
        };
        assert_eq!(of(&[3.0]), json!([3.0, 3.0, 3.0, 3.0]));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), json!([1.0, 3.0, 9.0, 9.0]));
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(of(&hundred), json!([1.0, 50.5, 95.0, 99.0]));
        assert!(Row::of_runs("a", "ms", Vec::new()).numbers.is_empty());
    }

    #[test]
    fn the_table_has_the_columns_that_rows_have_and_says_what_is_missing() {
        let report: Report = serde_json::from_value(json!({
            "hardware": { "cpu": "a processor", "threads": 2 }, "hashes": ["0"], "seconds": 1.234,
            "rows": [
                { "name": "a", "unit": "ms", "detr": 1234.56, "peer": 0.5, "ratio": 2469.12,
                  "detr_memory_mb": 99.6 },
                { "name": "b", "unit": "ms", "peer_error": "no torch\nhint: pip" },
            ],
        }))
        .unwrap();
        let text = report.markdown();
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("hardware (threads 2, cpu a processor), seconds 1.23"), "{text}");
        assert!(has("| | unit | detr | peer | ratio | detr MB |"), "{text}");
        assert!(has("| a | ms | 1235 | 0.50 | 2469.12 | 100 |"), "{text}");
        assert!(has("| b | ms | - | - | - | - |"), "{text}");
        assert!(has("- b, peer: no torch; hint: pip"), "{text}");
    }

    #[test]
    fn rows_are_compared_by_name() {
        let report = |names: &[&str], ms: Option<f64>| -> Report {
            let rows: Vec<Value> = names
                .iter()
                .map(|name| json!({ "name": name, "unit": "ms", "detr": ms, "detr_memory_mb": 10.0 }))
                .collect();
            serde_json::from_value(json!({ "date": "2026-01-02", "rows": rows })).unwrap()
        };
        let text = compare(&report(&["b", "a"], Some(4.0)), &report(&["b", "c"], Some(2.0)));
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("| b | ms | 4.00 | 2.00 | 0.50 | 10 | 10 | 1.00 | - |"), "{text}");
        assert!(has("- a: only in A") && has("- c: only in B"), "{text}");
        let text = compare(&report(&["a"], Some(0.0)), &report(&["a"], None));
        assert!(text.contains("| a | ms | 0.0000 | - | - | 10 | 10 | 1.00 | - |"), "{text}");
    }

    #[test]
    fn results_of_former_versions_are_compared() {
        let path = root().join("benches/results/2026-11-22-all-flex.json");
        let old: Report = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let text = compare(&old, &old);
        assert!(text.lines().filter(|line| line.contains(" | 1.00 | ")).count() > 20, "{text}");
    }
}
