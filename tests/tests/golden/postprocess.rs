//! Group 09: post-processing of crafted outputs.

use detr_model::postprocess::HostOutput;
use detr_types::ImageSize;

use crate::backends::Bench;
use crate::case::{Case, Failures};
use crate::detr::post_process;

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    if case.name != "detr" {
        return Failures::unhandled();
    }
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
    let sizes: Vec<ImageSize> = case
        .config("sizes_hw")
        .as_array()
        .expect("sizes")
        .iter()
        .map(|size| serde_json::from_value::<[u32; 2]>(size.clone()).expect("height and width"))
        .map(|[height, width]| ImageSize { height, width })
        .collect();
    post_process(case, bench.slack, &mut failures, &host, &sizes, "out");
    failures
}
