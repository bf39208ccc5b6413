//! `cargo xtask bench eval`: scores a large generated set, and with `--peer` lets pycocotools do the
//! same; their numbers must agree to the last bit.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::rounds::{Flags, Peer, Rounds, example, median_of};
use super::{at_least_one, threads};

const PEER: Peer =
    Peer { name: "pycocotools", script: "coco_eval_pycocotools.py", needs: "pycocotools" };

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images of the set
    #[arg(long, default_value_t = 5000)]
    images: u32,
    /// Detections in each
    #[arg(long, default_value_t = 100)]
    detections: u32,
    /// Measured runs per round
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Threads [default: as many as the machine has]; pycocotools has one
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = threads(args.threads);
    let ours = |_| {
        let mut command = example("detr-eval", "bench_eval");
        command.args([args.images, args.detections, args.runs].map(|n| n.to_string()));
        command.env("RAYON_NUM_THREADS", threads.to_string());
        command
    };
    let rounds = args.flags.measure(&PEER, ours, |command| {
        command.arg("time").args([args.images, args.detections].map(|n| n.to_string()));
    })?;
    args.flags.finish("eval", combine(&rounds, threads)?, text)
}

fn combine(rounds: &Rounds, threads: usize) -> anyhow::Result<Value> {
    let Rounds { ours, theirs } = rounds;
    for other in ours.iter().chain(theirs) {
        for field in ["images", "objects", "detections", "stats"] {
            ensure!(other[field] == ours[0][field], "the two sides differ in {field}");
        }
    }
    let seconds = |round: &[Value]| median_of(round, |round| &round["seconds"]);
    let median = seconds(ours).context("the measurement of detr lacks numbers")?;
    let peer = (!theirs.is_empty())
        .then(|| seconds(theirs).context("the measurement of pycocotools lacks numbers"))
        .transpose()?;
    Ok(json!({
        "images": ours[0]["images"],
        "objects": ours[0]["objects"],
        "detections": ours[0]["detections"],
        "threads": threads,
        "median_s": median,
        "peer_median_s": peer,
        "times_faster_than_peer": peer.map(|peer| peer / median),
        "rounds": { "detr": ours, "peer": theirs },
    }))
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
        let combined = |ours, theirs| combine(&Rounds { ours: vec![ours], theirs }, 2);
        let both = combined(side(0.5, &[3.0, 1.0, 2.0]), vec![side(0.5, &[40.0])]).unwrap();
        assert_eq!(both["times_faster_than_peer"], json!(20.0));
        assert!(text(&both).contains("20.0 times faster"));
        assert!(combined(side(0.5, &[1.0]), vec![side(0.25, &[40.0])]).is_err());
        assert!(combined(json!({"stats": []}), vec![]).is_err());
    }
}
