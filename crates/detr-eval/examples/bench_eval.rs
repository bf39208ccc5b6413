//! Times the evaluation of a large generated set of boxes, from detections in memory to all
//! numbers, and prints JSON. `cargo xtask bench eval` runs it, with `--peer` beside pycocotools.
//!
//! `cargo run --release -p detr-eval --example bench_eval [IMAGES] [DETECTIONS] [RUNS]`

#![allow(clippy::print_stdout)] // its output

#[path = "../tests/generated/mod.rs"]
mod generated;

use std::sync::Arc;
use std::time::Instant;

use detr_eval::{EvalError, EvalOptions, Evaluator, Metrics};

fn main() -> Result<(), EvalError> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (images, detections, runs): (u32, u32, u32) = (number(5000), number(100), number(5));
    let set = generated::large_set(images.into(), detections as usize);
    let truth = Arc::new(set.truth);
    let mut seconds = Vec::new();
    let mut last: Option<Metrics> = None;
    for _ in 0..runs {
        let results = set.results.clone();
        let start = Instant::now();
        let mut evaluator = Evaluator::new(truth.clone(), EvalOptions::default())?;
        evaluator.add_results(results)?;
        last = Some(evaluator.finish()?);
        seconds.push(start.elapsed().as_secs_f64());
    }
    let Some(metrics) = last else { return Ok(()) };
    println!(
        "{{\"images\": {}, \"objects\": {}, \"detections\": {}, \"seconds\": {seconds:?}, \
         \"stats\": {:?}}}",
        metrics.counts.images,
        metrics.counts.objects,
        metrics.counts.detections,
        metrics.summary.values()
    );
    Ok(())
}
