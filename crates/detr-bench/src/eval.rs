//! `cargo xtask bench eval`: scores a large generated set of boxes, from detections in memory to all numbers.
//! Pycocotools must find the same numbers, to the last bit.

#[path = "../../detr-eval/tests/generated/mod.rs"]
mod generated;

use std::sync::Arc;
use std::time::Instant;

use detr_eval::{EvalError, EvalOptions, Evaluator, Metrics};
use detr_infer::cli::{CliError, Console};
use serde_json::{Value, json};

use crate::report::{Report, Row};
use crate::sides::{Benchmark, Flags, Script};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Images of the set
    #[arg(long, default_value_t = 5000)]
    pub(crate) images: u32,

    /// Detections in each
    #[arg(long, default_value_t = 100)]
    pub(crate) detections: u32,
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, _console: &Console) -> Result<Report, CliError> {
        let set = generated::large_set(self.images.into(), self.detections as usize);
        let truth = Arc::new(set.truth);
        let once = || -> Result<(f64, Metrics), EvalError> {
            let results = set.results.clone();
            let start = Instant::now();
            let mut evaluator = Evaluator::new(truth.clone(), EvalOptions::default())?;
            evaluator.add_results(results)?;
            let metrics = evaluator.finish()?;
            Ok((start.elapsed().as_secs_f64(), metrics))
        };
        let mut facts = Value::Null;
        let mut seconds = Vec::new();
        for _ in 0..flags.runs.unwrap_or(5) {
            let (time, metrics) = once().map_err(|error| CliError::Failed(error.to_string()))?;
            seconds.push(time);
            facts = json!({
                "images": metrics.counts.images,
                "objects": metrics.counts.objects,
                "detections": metrics.counts.detections,
                "stats": metrics.summary.values(),
            });
        }
        Ok(Report::new(facts, vec![Row::of_runs("scoring", "s", seconds)]))
    }

    fn peers(&self, _flags: &Flags) -> [Option<Script>; 2] {
        let [images, detections] = [self.images, self.detections].map(|n| n.to_string());
        [Some(("coco_eval_pycocotools.py", vec!["time".to_owned(), images, detections])), None]
    }

    fn agree(&self, ours: &Report, theirs: &Value) -> Result<(), String> {
        for field in ["images", "objects", "detections", "stats"] {
            if ours.facts.get(field) != theirs.get(field) {
                return Err(format!("the two sides differ in {field}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_that_disagree_are_no_comparison() {
        let args = Args { images: 1, detections: 1 };
        let facts = |ap: f64| json!({ "images": 1, "objects": 1, "detections": 1, "stats": [ap] });
        let ours = Report::new(facts(0.5), Vec::new());
        assert_eq!(args.agree(&ours, &facts(0.5)), Ok(()));
        assert!(args.agree(&ours, &facts(0.25)).unwrap_err().contains("stats"));
    }
}
