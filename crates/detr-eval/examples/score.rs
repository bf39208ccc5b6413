//! Scores a results file: the tables, and last the twelve numbers in full.
//!
//! `cargo run --release -p detr-eval --example score GROUND_TRUTH RESULTS [bbox|segm] [SVG]`
//!
//! `benches/peers/coco_eval_pycocotools.py compare` holds it against pycocotools.

#![allow(clippy::print_stdout)] // its output

use std::sync::Arc;

use detr_eval::{
    EvalError, EvalOptions, Evaluator, IouKind, curves_svg, read_ground_truth, read_results,
};

fn main() -> Result<(), EvalError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [truth, results, rest @ ..] = arguments.as_slice() else {
        println!("score GROUND_TRUTH RESULTS [bbox|segm] [SVG]");
        return Ok(());
    };
    let masks = rest.first().is_some_and(|kind| kind == "segm");
    let iou = if masks { IouKind::Segm } else { IouKind::Bbox };
    let truth = Arc::new(read_ground_truth(truth.as_ref(), iou)?);
    let mut evaluator = Evaluator::new(truth, EvalOptions { iou, ..EvalOptions::default() })?;
    evaluator.add_results(read_results(results.as_ref(), iou)?)?;
    let metrics = evaluator.finish()?;
    println!("{metrics}\n{}", metrics.class_table());
    if let Some(path) = rest.get(1) {
        let svg = curves_svg(&metrics.curves[0], "Precision and recall");
        detr_types::fs::atomic_write(path.as_ref(), |file| file.write_all(svg.as_bytes()))?;
    }
    println!("{:?}", metrics.summary.values());
    Ok(())
}
