//! What `cargo xtask bench all` measures: names, commands, and where the numbers are in what they print.

use serde_json::Value;

use super::Args;
use super::work::{Measurement, Ours};
use crate::bench::data::jpegs;
use crate::bench::rounds::median_of;
use crate::bench::{PEER_MODELS, Size};
use crate::shell;

/// Models of the comparison: every kind of them with ResNet-50.
const MODELS: [&str; 5] = [
    "detr-r50",
    "detr-r50-dc5",
    "deformable-detr-r50-single-scale",
    "deformable-detr-r50",
    "deformable-detr-r50-two-stage",
];
/// The small one, which is trained on CPUs, and its input there.
const TINY: &str = "deformable-detr-tiny";
const TINY_SIZE: Size = Size { height: 480, width: 640 };
/// For `--quick`.
const QUICK_SIZE: Size = Size { height: 128, width: 160 };

/// How much is measured.
pub(super) struct Plan {
    quick: bool,
    backend: String,
    dtypes: Vec<String>,
    sizes: Vec<Size>,
    /// In rising order.
    batches: Vec<usize>,
    runs: usize,
    /// More arguments of the models' scripts.
    peer_options: Vec<String>,
    pub(super) threads: usize,
}

/// A model at work.
#[derive(Clone, Copy)]
struct Case<'a> {
    model: &'a str,
    size: Size,
    dtype: &'a str,
    batch: usize,
}

impl Plan {
    pub(super) fn new(args: &Args, threads: usize) -> Self {
        let quick = args.quick;
        let mut batches = if quick { vec![1] } else { args.batches.clone() };
        batches.sort_unstable();
        Self {
            quick,
            backend: args.backend.clone(),
            dtypes: if quick { vec!["f32".to_owned()] } else { args.dtypes.clone() },
            sizes: if quick { vec![QUICK_SIZE] } else { args.sizes.clone() },
            batches,
            runs: if quick { 1 } else { args.runs },
            peer_options: args.flags.peer_options.clone(),
            threads,
        }
    }

    /// Everything, or what has this in its name.
    pub(super) fn measurements(&self, only: &str) -> Vec<Measurement> {
        let mut all = Vec::new();
        let models: &[&str] = if self.quick { &[TINY] } else { &MODELS };
        for dtype in &self.dtypes {
            for &size in &self.sizes {
                for model in models {
                    self.batches(&mut all, "infer", Case { model, size, dtype, batch: 1 });
                }
            }
            let tiny = if self.quick { QUICK_SIZE } else { TINY_SIZE };
            self.batches(&mut all, "train", Case { model: TINY, size: tiny, dtype, batch: 1 });
            if let (false, Some(&size)) = (self.quick, self.sizes.first()) {
                for model in MODELS {
                    self.batches(&mut all, "train", Case { model, size, dtype, batch: 1 });
                }
            }
        }
        all.extend(self.dtypes.iter().map(|dtype| self.msda(dtype)));
        all.extend([self.data(), self.matching(), self.eval(), self.cold_start()]);
        all.push(binary_size());
        all.retain(|measurement| measurement.name.contains(only));
        all
    }

    fn batches(&self, all: &mut Vec<Measurement>, what: &'static str, case: Case<'_>) {
        for &batch in &self.batches {
            all.push(self.model(what, Case { batch, ..case }));
        }
    }

    /// `detr bench infer` or `train`.
    fn model(&self, what: &'static str, case: Case<'_>) -> Measurement {
        let Case { model, size, dtype, batch } = case;
        let name = |batch: usize| format!("{what} {model} {size} {dtype} batch {batch}");
        let warmup = if self.quick { "0" } else { "1" };
        let (runs, batches) = (self.runs.to_string(), batch.to_string());
        let common =
            ["--batch-size", &batches, "--dtype", dtype, "--runs", &runs, "--warmup", warmup];
        let mut ours = vec!["bench".to_owned(), what.to_owned(), "--json".to_owned()];
        ours.extend(["--model".to_owned(), format!("recipe:{model}")]);
        ours.extend(["--size".to_owned(), size.to_string()]);
        ours.extend(["--backend", &self.backend].map(str::to_owned));
        ours.extend(common.map(str::to_owned));
        let mut theirs = vec!["--model".to_owned(), model.to_owned()];
        theirs.extend(["--height".to_owned(), size.height.to_string()]);
        theirs.extend(["--width".to_owned(), size.width.to_string()]);
        theirs.extend(common.map(str::to_owned));
        theirs.extend(self.peer_device());
        // It infers, and its CPU knows no bfloat16.
        let onnx = (what == "infer" && dtype != "bf16").then(|| {
            let cache = shell::root().join("target/bench/onnx").display().to_string();
            let more = ["--cache".to_owned(), cache];
            ("detr_onnx.py", theirs.iter().cloned().chain(more).collect())
        });
        theirs.extend(self.peer_options.iter().cloned());
        let script = if what == "train" { "train_torch.py" } else { "detr_torch.py" };
        Measurement {
            name: name(batch),
            unit: "ms",
            ours: Ours::Program("detr", ours),
            onnx,
            theirs: PEER_MODELS.contains(&model).then_some((script, theirs)),
            read: if what == "train" { step_ms } else { model_ms },
            scaled: (batch > 1).then(|| (name(1), batch)),
        }
    }

    fn peer_device(&self) -> Vec<String> {
        let device = if self.backend == "cuda" { "cuda" } else { "cpu" };
        ["--threads", &self.threads.to_string(), "--device", device].map(str::to_owned).into()
    }

    fn msda(&self, dtype: &str) -> Measurement {
        let (runs, warmup, only) =
            if self.quick { ("1", "0", "decoder, near") } else { ("9", "2", "") };
        let common = ["--dtype", dtype, "--only", only, "--runs", runs, "--warmup", warmup]
            .map(str::to_owned);
        let mut ours =
            ["bench", "msda", "--json", "--backend", &self.backend].map(str::to_owned).to_vec();
        ours.extend(common.clone());
        let mut theirs = common.to_vec();
        theirs.extend(self.peer_device());
        Measurement {
            name: format!("msda {dtype}"),
            unit: "ms",
            ours: Ours::Program("detr", ours),
            theirs: Some(("msda_torch.py", theirs)),
            onnx: None,
            read: msda_ms,
            scaled: None,
        }
    }

    /// Of pictures that are generated before anything is measured.
    fn data(&self) -> Measurement {
        let seconds = if self.quick { "0.5" } else { "8" };
        let mut args = vec!["--seconds".to_owned(), seconds.to_owned()];
        args.extend(photos());
        Measurement {
            name: "data, one image on one core".to_owned(),
            unit: "ms",
            ours: Ours::Program("bench_data", args.clone()),
            theirs: Some(("data_torchvision.py", args)),
            onnx: None,
            read: |printed| {
                let rate = printed["images_per_second"].as_f64().filter(|&rate| rate > 0.0);
                rate.map(|rate| (String::new(), 1000.0 / rate)).into_iter().collect()
            },
            scaled: None,
        }
    }

    /// The peer reads the costs that ours wrote.
    fn matching(&self) -> Measurement {
        let costs = shell::root().join("target/bench/costs.safetensors").display().to_string();
        let runs = if self.quick { "1" } else { "9" }.to_owned();
        Measurement {
            name: "match".to_owned(),
            unit: "ms",
            ours: Ours::Program("bench_match", vec![runs.clone(), costs.clone()]),
            theirs: Some(("match_scipy.py", vec![costs, runs])),
            onnx: None,
            read: assign_ms,
            scaled: None,
        }
    }

    fn eval(&self) -> Measurement {
        let [images, detections, runs] =
            if self.quick { ["50", "10", "1"] } else { ["5000", "100", "5"] };
        let sizes = [images, detections].map(str::to_owned);
        let ours = sizes.iter().cloned().chain([runs.to_owned()]).collect();
        Measurement {
            name: format!("eval of {images} images, {detections} detections each"),
            unit: "s",
            ours: Ours::Program("bench_eval", ours),
            theirs: Some((
                "coco_eval_pycocotools.py",
                ["time".to_owned()].into_iter().chain(sizes).collect(),
            )),
            onnx: None,
            read: |printed| whole(median_of([printed], |printed| &printed["seconds"])),
            scaled: None,
        }
    }

    fn cold_start(&self) -> Measurement {
        let assets = shell::root().join("assets");
        let args = vec![
            "--backend".to_owned(),
            self.backend.clone(),
            "--model".to_owned(),
            assets.join("shapes").display().to_string(),
            assets.join("shapes.png").display().to_string(),
        ];
        Measurement {
            name: "start of detr-infer with the demo model, to the first box".to_owned(),
            unit: "ms",
            ours: Ours::FirstLine("detr-infer", args, if self.quick { 1 } else { 5 }),
            theirs: None,
            onnx: None,
            read: |printed| whole(median_of([printed], |printed| &printed["ms"])),
            scaled: None,
        }
    }
}

fn binary_size() -> Measurement {
    Measurement {
        name: "size of detr-infer".to_owned(),
        unit: "MB",
        ours: Ours::Bytes("detr-infer"),
        theirs: None,
        onnx: None,
        read: |printed| whole(printed["bytes"].as_f64().map(|bytes| bytes / 1e6)),
        scaled: None,
    }
}

/// Where the generated pictures are; the example `photos` makes so many.
pub(super) fn photo_folder() -> std::path::PathBuf {
    shell::root().join("target/bench/photos")
}

fn photos() -> Vec<String> {
    let files = jpegs(&photo_folder()).unwrap_or_default();
    files.iter().map(|file| file.display().to_string()).collect()
}

fn whole(number: Option<f64>) -> Vec<(String, f64)> {
    number.map(|number| (String::new(), number)).into_iter().collect()
}

/// Backbone and transformer: what both sides run.
fn model_ms(printed: &Value) -> Vec<(String, f64)> {
    let stage = |name: &str| printed["stages_ms"][name]["median"].as_f64();
    let in_parts = || stage("backbone").zip(stage("transformer")).map(|(a, b)| a + b);
    whole(stage("model").or_else(in_parts))
}

fn step_ms(printed: &Value) -> Vec<(String, f64)> {
    whole(printed["stages_ms"]["total"]["median"].as_f64())
}

fn msda_ms(printed: &Value) -> Vec<(String, f64)> {
    let cases = printed["cases"].as_array().into_iter().flatten();
    let passes = cases.flat_map(|case| {
        ["forward", "forward_backward"].into_iter().filter_map(move |pass| {
            let ms = case[pass]["ms"]["median"].as_f64()?;
            Some((format!("{}, {}", case["name"].as_str()?, pass.replace('_', " and ")), ms))
        })
    });
    passes.collect()
}

fn assign_ms(printed: &Value) -> Vec<(String, f64)> {
    let cases = printed["cases"].as_array().into_iter().flatten();
    let cases = cases.filter_map(|case| {
        Some((case["name"].as_str()?.to_owned(), median_of([case], |case| &case["assign_ms"])?))
    });
    cases.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn plan(line: &str) -> Plan {
        let words = std::iter::once("all").chain(line.split_whitespace());
        Plan::new(&Line::try_parse_from(words).unwrap().args, 2)
    }

    #[test]
    fn names_are_unique_and_batches_know_their_single_image() {
        let all = plan("--dtypes f32,bf16").measurements("");
        let mut names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
        for measurement in &all {
            let one = measurement.scaled.as_ref().map(|(one, _)| one.as_str());
            assert!(one.is_none_or(|one| names.contains(&one)), "{}", measurement.name);
        }
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
        // Two precisions; five models in two sizes and three batches, six trained in three.
        assert_eq!(before, 2 * (5 * 2 * 3 + 6 * 3 + 1) + 5);
    }

    #[test]
    fn a_part_can_be_asked_for_and_quick_takes_one_of_each() {
        let some = plan("").measurements("train deformable-detr-tiny 480x640 f32 batch 4");
        assert_eq!(some.len(), 1);
        let Ours::Program("detr", args) = &some[0].ours else { panic!("a program") };
        let start = "bench train --json --model recipe:deformable-detr-tiny --size 480x640 ";
        assert!(args.join(" ").starts_with(start), "{args:?}");
        let (script, args) = some[0].theirs.as_ref().unwrap();
        assert_eq!(*script, "train_torch.py");
        assert!(args.join(" ").contains("--height 480 --width 640 --batch-size 4 --dtype f32"));
        assert!(some[0].onnx.is_none(), "ONNX Runtime does not train");
        let quick = plan("--quick").measurements("");
        assert_eq!(quick.len(), 2 + 1 + 5);
        let (script, args) = quick[0].onnx.as_ref().unwrap();
        assert_eq!(*script, "detr_onnx.py");
        assert!(args.join(" ").starts_with("--model deformable-detr-tiny --height 128 "));
        assert!(plan("").measurements("no such thing").is_empty());
    }

    #[test]
    fn numbers_are_where_the_programs_print_them() {
        let stage = |median: f64| json!({ "median": median });
        let printed = json!({ "stages_ms": { "backbone": stage(1.0), "transformer": stage(2.0),
            "total": stage(9.0) } });
        assert_eq!(model_ms(&printed), [(String::new(), 3.0)]);
        let compiled = json!({ "stages_ms": { "model": stage(2.5), "total": stage(9.0) } });
        assert_eq!(model_ms(&compiled), [(String::new(), 2.5)]);
        assert_eq!(step_ms(&printed), [(String::new(), 9.0)]);
        assert!(model_ms(&json!({ "error": "x" })).is_empty());
        let ms = json!({ "ms": { "median": 5.0 } });
        let printed = json!({ "cases": [{ "name": "a", "forward": ms, "forward_backward": ms }] });
        let names: Vec<String> = msda_ms(&printed).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["a, forward", "a, forward and backward"]);
        let printed = json!({ "cases": [{ "name": "a", "assign_ms": [3.0, 1.0, 2.0] }] });
        assert_eq!(assign_ms(&printed), [("a".to_owned(), 2.0)]);
    }
}
