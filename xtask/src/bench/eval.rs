//! `cargo xtask bench eval`: scores a large generated set, and with `--peer` lets pycocotools do the
//! same; their numbers must agree to the last bit.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{self, ExitCode};

use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};

use super::{commit, date, measure, save, threads};
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images of the set
    #[arg(long, default_value_t = 5000)]
    images: u32,
    /// Detections in each
    #[arg(long, default_value_t = 100)]
    detections: u32,
    /// Measured runs per round
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// Rounds: with --peer, ours and theirs take turns
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Threads [default: as many as the machine has]; pycocotools has one
    #[arg(long)]
    threads: Option<usize>,
    /// Measure pycocotools too (needs a Python with it)
    #[arg(long)]
    peer: bool,
    /// The Python of --peer
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Print JSON instead of a few lines
    #[arg(long)]
    json: bool,
    /// Keep the JSON under benches/results/
    #[arg(long)]
    save: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = threads(args.threads);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=args.rounds.max(1) {
        eprintln!("round {round} of {}: detr", args.rounds.max(1));
        ours.push(measure(&mut our_command(args, threads))?);
        if args.peer {
            eprintln!("round {round} of {}: pycocotools", args.rounds.max(1));
            theirs.push(measure(&mut peer_command(args)).map_err(without_peer)?);
        }
    }
    let results = combine(&ours, &theirs, threads)?;
    if args.save {
        let path = save("eval", &results)?;
        eprintln!("saved {}", path.display());
    }
    let mut out = std::io::stdout().lock();
    if args.json {
        writeln!(out, "{results:#}")?;
    } else {
        write!(out, "{}", text(&results))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What to tell where the peer does not run.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn without_peer(error: anyhow::Error) -> anyhow::Error {
    anyhow!(
        "pycocotools could not be measured: {error:#}\nhint: --python PATH names a Python that has pycocotools"
    )
}

fn our_command(args: &Args, threads: usize) -> process::Command {
    let mut command = shell::cargo();
    command.args(["run", "--release", "--quiet", "--manifest-path"]);
    command.arg(shell::root().join("Cargo.toml"));
    command.args(["-p", "detr-eval", "--example", "bench_eval", "--"]);
    command.args([args.images, args.detections, args.runs.max(1)].map(|n| n.to_string()));
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command
}

fn peer_command(args: &Args) -> process::Command {
    let mut command = process::Command::new(&args.python);
    command.arg(shell::root().join("benches/peers/coco_eval_pycocotools.py")).arg("time");
    command.args([args.images, args.detections].map(|n| n.to_string()));
    command
}

fn combine(ours: &[Value], theirs: &[Value], threads: usize) -> anyhow::Result<Value> {
    for other in ours.iter().chain(theirs) {
        for field in ["images", "objects", "detections", "stats"] {
            ensure!(other[field] == ours[0][field], "the two sides differ in {field}");
        }
    }
    let median = median(ours).context("the measurement of detr lacks numbers")?;
    let peer = if theirs.is_empty() {
        Value::Null
    } else {
        json!(self::median(theirs).context("the measurement of pycocotools lacks numbers")?)
    };
    Ok(json!({
        "date": date(std::time::SystemTime::now()),
        "commit": commit(),
        "images": ours[0]["images"],
        "objects": ours[0]["objects"],
        "detections": ours[0]["detections"],
        "threads": threads,
        "median_s": median,
        "peer_median_s": peer,
        "times_faster_than_peer": peer.as_f64().map(|peer| peer / median),
        "rounds": { "detr": ours, "peer": theirs },
    }))
}

/// The median of all runs of all rounds.
fn median(rounds: &[Value]) -> Option<f64> {
    let mut seconds = Vec::new();
    for round in rounds {
        for value in round["seconds"].as_array()? {
            seconds.push(value.as_f64()?);
        }
    }
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

fn text(results: &Value) -> String {
    let number = |name: &str| results[name].as_f64().unwrap_or_default();
    let mut text = format!(
        "{} images, {} objects, {} detections\ndetr         {:8.3} s with {} threads\n",
        results["images"],
        results["objects"],
        results["detections"],
        number("median_s"),
        results["threads"]
    );
    if !results["peer_median_s"].is_null() {
        let _ = write!(
            text,
            "pycocotools  {:8.3} s, the same numbers to the last bit\ndetr is {:.1} times faster\n",
            number("peer_median_s"),
            number("times_faster_than_peer")
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_disagree_are_no_comparison() {
        let side = |ap: f64, seconds: &[f64]| json!({"stats": [ap], "seconds": seconds});
        let both = combine(&[side(0.5, &[3.0, 1.0, 2.0])], &[side(0.5, &[40.0])], 2).unwrap();
        assert_eq!(both["times_faster_than_peer"], json!(20.0));
        assert!(text(&both).contains("20.0 times faster"));
        assert!(combine(&[side(0.5, &[1.0])], &[side(0.25, &[40.0])], 2).is_err());
        assert!(combine(&[json!({"stats": []})], &[], 2).is_err());
    }
}
