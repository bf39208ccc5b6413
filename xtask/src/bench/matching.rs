//! `cargo xtask bench match`: the matching of a training step on the CPU, and with `--peer` scipy on
//! the same costs; both must find the same least sums.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use super::rounds::{Flags, Peer, Rounds, example, median_of};
use super::{at_least_one, threads};
use crate::shell;

const PEER: Peer = Peer { name: "scipy", script: "match_scipy.py", needs: "numpy and scipy" };

/// Ours are sums of costs in steps of 2^-20: either side of a pair may be half a step off.
const STEP: f64 = 1.0 / (1 << 20) as f64;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Measured runs per round
    #[arg(long, default_value_t = 9, value_parser = at_least_one)]
    runs: usize,
    /// Threads [default: as many as the machine has]; scipy has one
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = threads(args.threads);
    let (runs, costs) =
        (args.runs.to_string(), shell::root().join("target/bench/costs.safetensors"));
    let ours = |_| {
        let mut command = example("detr-loss", "bench_match");
        command.arg(&runs).arg(&costs);
        command.env("RAYON_NUM_THREADS", threads.to_string());
        command
    };
    let rounds = args.flags.measure(&PEER, ours, |command| {
        command.arg(&costs).arg(&runs);
    })?;
    args.flags.finish("match-flex", combine(rounds)?, text)
}

fn combine(mut rounds: Rounds) -> anyhow::Result<Value> {
    let first = rounds.ours.first().context("nothing was measured")?.clone();
    let mut cases = Vec::new();
    for case in first["cases"].as_array().context("the measurement of detr lacks cases")? {
        let name = case["name"].as_str().unwrap_or_default();
        same_sums(case, &rounds)?;
        let mut result = Map::new();
        result.insert("name".to_owned(), json!(name));
        for (key, side, field) in [
            ("costs_ms", &rounds.ours, "costs_ms"),
            ("assign_ms", &rounds.ours, "assign_ms"),
            ("peer_assign_ms", &rounds.theirs, "assign_ms"),
        ] {
            let median = median_of(side, |round| &named(round, name)[field]);
            ensure!(side.is_empty() || median.is_some(), "{name}: a side lacks {field}");
            result.insert(key.to_owned(), json!(median));
        }
        let times = |result: &Map<String, Value>| {
            Some(result["peer_assign_ms"].as_f64()? / result["assign_ms"].as_f64()?)
        };
        result.insert("times_faster_than_peer".to_owned(), json!(times(&result)));
        cases.push(Value::Object(result));
    }
    // They have been compared, and are long.
    for round in rounds.ours.iter_mut().chain(&mut rounds.theirs) {
        for case in round["cases"].as_array_mut().into_iter().flatten() {
            case.as_object_mut().and_then(|case| case.remove("totals"));
        }
    }
    Ok(json!({
        "layers": first["layers"],
        "batch": first["batch"],
        "queries": first["queries"],
        "threads": first["threads"],
        "cases": cases,
        "rounds": { "detr": rounds.ours, "peer": rounds.theirs },
    }))
}

/// The case of that name in a round.
fn named<'a>(round: &'a Value, name: &str) -> &'a Value {
    let mut cases = round["cases"].as_array().into_iter().flatten();
    cases.find(|case| case["name"] == name).unwrap_or(&Value::Null)
}

/// Every round of every side has the sums of this case.
fn same_sums(case: &Value, rounds: &Rounds) -> anyhow::Result<()> {
    let name = case["name"].as_str().unwrap_or_default();
    let bound = STEP * case["objects"].as_f64().context("a count of objects")?;
    let sums = |case: &Value| -> Option<Vec<f64>> {
        case["totals"].as_array()?.iter().map(Value::as_f64).collect()
    };
    let expected = sums(case).with_context(|| format!("{name}: no sums of costs"))?;
    for round in rounds.ours.iter().chain(&rounds.theirs) {
        let found =
            sums(named(round, name)).with_context(|| format!("{name}: no sums of costs"))?;
        ensure!(
            found.len() == expected.len(),
            "{name}: {} problems, not {}",
            found.len(),
            expected.len()
        );
        for (problem, (found, expected)) in found.iter().zip(&expected).enumerate() {
            ensure!(
                (found - expected).abs() <= bound,
                "{name}, problem {problem}: least sums of costs {expected} and {found} differ by more than {bound:e}"
            );
        }
    }
    Ok(())
}

fn text(results: &Value) -> String {
    let mut text = format!(
        "{} layers, batch {}, {} queries; {} threads, medians of {} rounds in ms\n",
        results["layers"],
        results["batch"],
        results["queries"],
        results["threads"],
        results["rounds"]["detr"].as_array().map_or(0, Vec::len)
    );
    let number = |number: &Value| {
        number.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.2}"))
    };
    let columns = ["costs", "assignment", "scipy", "times faster"];
    let _ = write!(text, "{:<28}", ""); // writing to a string cannot fail
    for column in columns {
        let _ = write!(text, "{column:>14}");
    }
    text.push('\n');
    for case in results["cases"].as_array().into_iter().flatten() {
        let _ = write!(text, "{:<28}", case["name"].as_str().unwrap_or_default());
        for key in ["costs_ms", "assign_ms", "peer_assign_ms", "times_faster_than_peer"] {
            let _ = write!(text, "{:>14}", number(&case[key]));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(assign: f64, total: f64) -> Value {
        json!({"cases": [{
            "name": "a", "objects": 10, "costs_ms": [1.0], "assign_ms": [assign], "totals": [total],
        }]})
    }

    #[test]
    fn other_sums_are_no_comparison() {
        let combined = |total| {
            combine(Rounds { ours: vec![round(2.0, -3.0)], theirs: vec![round(8.0, total)] })
        };
        let both = combined(-3.0 + 4.0 * STEP).unwrap();
        assert_eq!(both["cases"][0]["times_faster_than_peer"], json!(4.0));
        assert!(both["rounds"]["detr"][0]["cases"][0].get("totals").is_none());
        assert!(combined(-3.0 + 40.0 * STEP).unwrap_err().to_string().contains("problem 0"));
        assert!(combine(Rounds { ours: vec![json!({})], theirs: vec![] }).is_err());
    }
}
