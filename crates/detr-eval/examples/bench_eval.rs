//! Times the evaluation of a large generated set, to be held against
//! `benches/peers/coco_eval_pycocotools.py time`, which scores the same one.
//!
//! `cargo run --release -p detr-eval --example bench_eval [IMAGES] [DETECTIONS]`

#![allow(clippy::print_stdout)] // its output

#[path = "../tests/generated/mod.rs"]
mod generated;

use std::sync::Arc;
use std::time::Instant;

use detr_eval::{EvalError, EvalOptions, Evaluator};

fn main() -> Result<(), EvalError> {
    let mut arguments = std::env::args().skip(1);
    let mut number =
        |default| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (images, detections) = (number(5000), number(100));
    let set = generated::large_set(i64::try_from(images).unwrap_or(i64::MAX), detections);
    let truth = Arc::new(set.truth);
    for _ in 0..3 {
        let results = set.results.clone();
        let start = Instant::now();
        let mut evaluator = Evaluator::new(truth.clone(), EvalOptions::default())?;
        evaluator.add_results(results)?;
        let metrics = evaluator.finish()?;
        let seconds = start.elapsed().as_secs_f64();
        let counts = metrics.counts;
        println!(
            "detr-eval: {} images, {} objects, {} detections: {seconds:.3} s",
            counts.images, counts.objects, counts.detections
        );
        println!("AP {} AR {}", metrics.summary.ap, metrics.summary.ar);
    }
    Ok(())
}
