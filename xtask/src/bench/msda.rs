//! `cargo xtask bench msda`: `detr bench msda`, and PyTorch's `grid_sample` formulation of the same
//! beside it where asked for.

use std::fmt::Write as _;
use std::process::{self, ExitCode};

use anyhow::Context;
use serde_json::{Map, Value, json};

use super::rounds::{Flags, Peer, Rounds, median};
use super::{at_least_one, build, cargo, threads};

const PEER: Peer = Peer { name: "PyTorch", script: "msda_torch.py", needs: "torch" };

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Backend; its cargo feature is turned on
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Precision of values: f32, f16, bf16
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Measured calls of every kind per round
    #[arg(long, default_value_t = 9, value_parser = at_least_one)]
    runs: usize,
    /// Calls before them that are not counted
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Threads on the CPU [default: as many as the machine has]
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    /// Only the cases whose name contains this, such as encoder or near
    #[arg(long, default_value = "")]
    only: String,
    /// Leave out plain tensor operations, which are slow
    #[arg(long)]
    no_reference: bool,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    build(&args.backend)?;
    let threads = threads(args.threads);
    let rounds = args.flags.measure(
        &PEER,
        |round| our_command(args, threads, round == 1),
        |command| peer_arguments(command, args, threads),
    )?;
    args.flags.finish(&format!("msda-{}-{}", args.backend, args.dtype), combine(&rounds)?, table)
}

fn our_command(args: &Args, threads: usize, first: bool) -> process::Command {
    let mut command = cargo("run", &args.backend);
    command.args(["--quiet", "--", "bench", "msda", "--json"]);
    command.args(["--backend", &args.backend, "--dtype", &args.dtype, "--only", &args.only]);
    command.args(["--runs", &args.runs.to_string(), "--warmup", &args.warmup.to_string()]);
    // They are too slow to be measured in every round.
    if first && !args.no_reference {
        command.arg("--reference");
    }
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command
}

fn peer_arguments(command: &mut process::Command, args: &Args, threads: usize) {
    command.args(["--dtype", &args.dtype, "--only", &args.only]);
    command.args(["--runs", &args.runs.to_string(), "--warmup", &args.warmup.to_string()]);
    command.args(["--threads", &threads.to_string()]);
    command.args(["--device", if args.backend == "cuda" { "cuda" } else { "cpu" }]);
}

/// Kinds of calls, as they are called in the JSON and by people.
const PASSES: [(&str, &str); 2] =
    [("forward", "forward"), ("forward_backward", "forward and backward")];

fn combine(rounds: &Rounds) -> anyhow::Result<Value> {
    let Rounds { ours, theirs } = rounds;
    let mut detr = merge(ours).context("the measurement of detr lacks numbers")?;
    let peer = if theirs.is_empty() {
        Value::Null
    } else {
        merge(theirs).context("the measurement of PyTorch lacks numbers")?
    };
    for case in detr["cases"].as_array_mut().into_iter().flatten() {
        let theirs = named(&peer, &case["name"]);
        for (pass, _) in PASSES {
            let case = &mut case[pass];
            let median = case["ms"]["median"].as_f64().context("a median")?;
            let bytes = case["bytes"].as_f64().context("bytes")?;
            case["gb_s"] = json!(bytes / median / 1e6);
            if let Some(theirs) = theirs[pass]["ms"]["median"].as_f64() {
                case["times_faster_than_peer"] = json!(theirs / median);
            }
            if let Some(theirs) = case["reference_ms"]["median"].as_f64() {
                case["times_faster_than_reference"] = json!(theirs / median);
            }
        }
    }
    Ok(json!({
        "detr": detr,
        "peer": peer,
        "rounds": { "detr": ours, "peer": theirs },
    }))
}

/// The case of that name among the results of a program.
fn named(results: &Value, name: &Value) -> Value {
    let mut cases = results["cases"].as_array().into_iter().flatten();
    cases.find(|case| case["name"] == *name).cloned().unwrap_or_default()
}

/// Several rounds as one: the least minimum, the median of the medians, the greatest 95th
/// percentile; the median of the copies. Everything else is taken from the first round.
fn merge(rounds: &[Value]) -> Option<Value> {
    let mut merged = rounds.first()?.clone();
    for case in merged["cases"].as_array_mut()? {
        let cases: Vec<_> = rounds.iter().map(|round| named(round, &case["name"])).collect();
        for (pass, _) in PASSES {
            let numbers = |name: &str| -> Option<Vec<f64>> {
                cases.iter().map(|case| case[pass]["ms"][name].as_f64()).collect()
            };
            let mut ms = Map::new();
            let least = numbers("min")?.into_iter().fold(f64::INFINITY, f64::min);
            ms.insert("min".to_owned(), json!(least));
            ms.insert("median".to_owned(), json!(median(numbers("median")?)?));
            ms.insert("p95".to_owned(), json!(numbers("p95")?.into_iter().fold(0.0, f64::max)));
            case[pass]["ms"] = Value::Object(ms);
        }
    }
    let copies: Option<Vec<f64>> = rounds.iter().map(|round| round["copy_gb_s"].as_f64()).collect();
    if let Some(copy) = copies.and_then(median) {
        merged["copy_gb_s"] = json!(copy);
    }
    merged["rounds"] = json!(rounds.len());
    Some(merged)
}

/// What people read, in Markdown.
fn table(results: &Value) -> String {
    let (detr, peer) = (&results["detr"], &results["peer"]);
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let number = |value: &Value, digits: usize| {
        value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.digits$}"))
    };
    let mut out = format!(
        "Multi-scale deformable attention on {}, {}; {} runs x {} rounds, medians.\n{}, {} threads; detr {}. A copy reaches {} GB/s.\n",
        word(&detr["device"]),
        word(&detr["dtype"]),
        detr["runs"],
        detr["rounds"],
        word(&detr["cpu"]),
        detr["threads"],
        word(&detr["version"]),
        number(&detr["copy_gb_s"], 1),
    );
    if !peer.is_null() {
        let (torch, threads) = (word(&peer["torch"]), &peer["threads"]);
        let _ = writeln!(out, "PyTorch {torch}, grid_sample, {threads} threads.");
        let dtype = word(&detr["dtype"]);
        if dtype != "f32" {
            let _ = writeln!(
                out,
                "grid_sample takes locations in the type of the values: theirs are {dtype}, ours f32."
            );
        }
    }
    out += "\n| | ms | MB | GB/s | tensor operations ms | times faster | PyTorch ms | times faster |\n|---|---|---|---|---|---|---|---|\n";
    for case in detr["cases"].as_array().into_iter().flatten() {
        let peer = named(peer, &case["name"]);
        for (pass, name) in PASSES {
            let (ours, theirs) = (&case[pass], &peer[pass]);
            // Writing to a string cannot fail.
            let _ = writeln!(
                out,
                "| {}: {name} | {} | {} | {} | {} | {} | {} | {} |",
                word(&case["name"]),
                number(&ours["ms"]["median"], 2),
                number(&json!(ours["bytes"].as_f64().map(|bytes| bytes / 1e6)), 1),
                number(&ours["gb_s"], 2),
                number(&ours["reference_ms"]["median"], 1),
                number(&ours["times_faster_than_reference"], 1),
                number(&theirs["ms"]["median"], 1),
                number(&ours["times_faster_than_peer"], 1),
            );
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(ms: f64, bytes: Option<u64>) -> Value {
        let pass = |ms: f64| json!({"ms": {"min": ms - 1.0, "median": ms, "p95": ms + 1.0}, "bytes": bytes});
        let case = json!({"name": "a", "forward": pass(ms), "forward_backward": pass(3.0 * ms)});
        json!({"cases": [case], "runs": 5, "copy_gb_s": ms})
    }

    fn combined<const N: usize, const M: usize>(
        ours: [Value; N],
        theirs: [Value; M],
    ) -> anyhow::Result<Value> {
        combine(&Rounds { ours: ours.into(), theirs: theirs.into() })
    }

    #[test]
    fn rounds_become_one_and_ratios_are_of_medians() {
        let ours = [round(4.0, Some(8_000_000)), round(2.0, None), round(9.0, None)];
        let results = combined(ours, [round(40.0, None)]).unwrap();
        let forward = &results["detr"]["cases"][0]["forward"];
        assert_eq!(forward["ms"], json!({"min": 1.0, "median": 4.0, "p95": 10.0}));
        assert_eq!(forward["gb_s"], json!(2.0));
        assert_eq!(forward["times_faster_than_peer"], json!(10.0));
        assert_eq!(results["detr"]["copy_gb_s"], json!(4.0));
        let text = table(&results);
        let row = "| a: forward | 4.00 | 8.0 | 2.00 | - | - | 40.0 | 10.0 |";
        assert!(text.lines().any(|line| line == row), "{text}");
    }

    #[test]
    fn cases_are_matched_by_name() {
        let ours = round(4.0, Some(8_000_000));
        let mut theirs = round(40.0, None);
        let mut other = round(1.0, None)["cases"][0].clone();
        other["name"] = json!("b");
        theirs["cases"].as_array_mut().unwrap().insert(0, other.clone());
        let results = combined([ours.clone()], [theirs]).unwrap();
        let forward = &results["detr"]["cases"][0]["forward"];
        assert_eq!(forward["times_faster_than_peer"], json!(10.0));
        let stranger = combined([ours.clone()], [json!({ "cases": [other] })]).unwrap();
        let text = table(&stranger);
        assert!(text.contains("| a: forward | 4.00 | 8.0 | 2.00 | - | - | - | - |"), "{text}");
        // A round without one of the cases.
        assert!(combined([ours, json!({ "cases": [] })], []).is_err());
    }

    #[test]
    fn the_table_says_where_precisions_differ() {
        let mut ours = round(4.0, Some(8_000_000));
        for (dtype, said) in [("f32", false), ("f16", true)] {
            ours["dtype"] = json!(dtype);
            let text = table(&combined([ours.clone()], [round(40.0, None)]).unwrap());
            assert_eq!(text.contains("theirs are f16, ours f32"), said, "{text}");
        }
    }

    #[test]
    fn a_program_that_measured_nothing_is_noticed() {
        assert!(combined([json!({"error": "no device"})], []).is_err());
    }
}
