//! Group 09: post-processing of crafted outputs.

use detr_model::postprocess::{HostOutput, RawDetection};

use crate::backends::Bench;
use crate::case::{Case, Failures, index};
use crate::detr::{post_process, target_sizes};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    #[allow(clippy::cast_possible_truncation)] // written as f32
    let floats =
        |name: &str| -> Vec<f32> { case.tensors[name].values.iter().map(|&v| v as f32).collect() };
    let host = HostOutput {
        queries: case.number("Q"),
        columns: case.number("C"),
        logits: floats("logits"),
        boxes: floats("boxes"),
    };
    failures.used("logits");
    failures.used("boxes");
    let sizes = target_sizes(case.config("sizes_hw"));
    // The case says whose post-processing it is in its settings, or else in the first word about it.
    let described = case.json["what"].as_str().and_then(|what| what.split(' ').next());
    let answers = match case.config("which").as_str().or(described) {
        Some("detr") => host.detr(&sizes),
        Some("def" | "deformable") => {
            as_in_case(case, host.deformable(&sizes, answers_each(case, "out"), |_| true), "out")
        }
        _ => return Failures::unhandled(),
    };
    post_process(case, bench.slack, &mut failures, answers, "out");
    failures
}

/// Returns the number of answers that the case has for each image.
pub fn answers_each(case: &Case, prefix: &str) -> usize {
    case.shape(&format!("{prefix}.scores")).expect("scores")[1]
}

/// Answers in the order of the case, where equal scores stand in no particular one, and nearly equal
/// ones in either. Scores are compared place by place afterwards, so nothing else can have moved.
pub fn as_in_case(
    case: &Case,
    mut answers: Vec<Vec<RawDetection>>,
    prefix: &str,
) -> Vec<Vec<RawDetection>> {
    const PIXELS: f64 = 0.01;
    let most = answers.first().map_or(1, Vec::len).max(1);
    let labels = &case.tensors[&format!("{prefix}.labels")].values;
    let boxes = case.tensors[&format!("{prefix}.boxes")].values.as_chunks::<4>().0;
    let expected: Vec<_> = labels.iter().map(|&label| index(label)).zip(boxes).collect();
    for (answers, expected) in answers.iter_mut().zip(expected.chunks(most)) {
        for (i, &(label, bbox)) in expected.iter().enumerate() {
            let same = |a: &RawDetection| {
                let found = [a.bbox.x1, a.bbox.y1, a.bbox.x2, a.bbox.y2].map(f64::from);
                let near = found.iter().zip(bbox).all(|(a, b)| (a - b).abs() < PIXELS);
                a.label == label && near
            };
            if let Some(j) = (i..most).find(|&j| same(&answers[j])) {
                answers.swap(i, j);
            }
        }
    }
    answers
}
