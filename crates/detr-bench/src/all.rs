//! `cargo xtask bench all`: everything that is measured, in one go. What cannot be measured says why, and the rest
//! goes on.

use detr_cli::Size;
use detr_infer::cli::CliError;
use detr_types::ImageSize;
use serde_json::json;

use crate::report::{Report, root};
use crate::sides::{Flags, Ours, Work, measure_all, total_memory_mb};

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
const TINY_SIZE: ImageSize = ImageSize::new(480, 640);
/// For `--quick`.
const QUICK_SIZE: ImageSize = ImageSize::new(128, 160);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The smallest of everything, once: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only what has this in its name, such as infer, train, two-stage or 640x640
    #[arg(long, default_value = "")]
    only: String,
    /// Backend; its cargo feature is turned on
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Precisions of models, with commas between them: f32, f16, bf16
    #[arg(long, default_value = "f32", value_delimiter = ',')]
    dtypes: Vec<String>,
    /// Heights x widths, with commas between them; training has the first
    #[arg(long, default_value = "800x1066,640x640", value_delimiter = ',')]
    sizes: Vec<Size>,
    /// Images at once, with commas between them
    #[arg(long, default_value = "1,4,8", value_delimiter = ',')]
    batches: Vec<usize>,
    /// Leave out batches that would need more than this, going by one image [default: three quarters of
    /// the machine's memory]
    #[arg(long, value_name = "MB")]
    memory_limit: Option<f64>,
}

pub(crate) fn run(args: &Args, flags: &Flags) -> Result<Report, CliError> {
    let mut works = works(args, flags);
    let first = works.first().map_or(String::new(), |work| work.name.clone());
    works.retain(|work| work.name.contains(&args.only));
    if works.is_empty() {
        return Err(CliError::Usage(format!(
            "nothing has `{}` in its name\nhint: names are such as `{first}`",
            args.only
        )));
    }
    let limit = args.memory_limit.or_else(|| Some(total_memory_mb()? * 0.75));
    let rounds = if args.quick { Some(1) } else { flags.rounds };
    let mut report = measure_all(&works, &Flags { rounds, ..flags.clone() }, limit);
    report.facts.insert("quick".to_owned(), json!(args.quick));
    Ok(report)
}

/// Returns all work, batches in rising order.
fn works(args: &Args, flags: &Flags) -> Vec<Work> {
    let quick = args.quick;
    let mut all = Vec::new();
    let dtypes = if quick { vec!["f32".to_owned()] } else { args.dtypes.clone() };
    let sizes: Vec<ImageSize> =
        if quick { vec![QUICK_SIZE] } else { args.sizes.iter().map(|size| size.0).collect() };
    let models: &[&str] = if quick { &[TINY] } else { &MODELS };
    for dtype in &dtypes {
        for &size in &sizes {
            for model in models {
                batches(&mut all, args, flags, ["infer", model, dtype], size);
            }
        }
        let tiny = if quick { QUICK_SIZE } else { TINY_SIZE };
        batches(&mut all, args, flags, ["train", TINY, dtype], tiny);
        if let (false, Some(&size)) = (quick, sizes.first()) {
            for model in MODELS {
                batches(&mut all, args, flags, ["train", model, dtype], size);
            }
        }
    }
    for dtype in &dtypes {
        let line = format!("msda --backend {} --dtype {dtype}", args.backend);
        let mut words = split(&line);
        if quick {
            words.extend(split("--runs 1 --warmup 0 --only"));
            words.push("decoder, near".to_owned());
        }
        all.push(work(&format!("msda {dtype}"), "ms", words, None));
    }
    let quickly = |quick_flags: &str, full: &str| split(if quick { quick_flags } else { full });
    all.push(work(
        "data, one image on one core",
        "ms",
        quickly("augment --seconds 0.5 --count 1", "augment --seconds 8"),
        Some("image"),
    ));
    all.push(work("match", "ms", quickly("match --runs 1 --only detr_10", "match"), None));
    let [images, detections] = if quick { [50, 10] } else { [5000, 100] };
    let line = format!("eval --images {images} --detections {detections}");
    let runs = if quick { " --runs 1" } else { "" };
    all.push(work(
        &format!("eval of {images} images, {detections} detections each"),
        "s",
        split(&(line + runs)),
        Some("scoring"),
    ));
    let assets = root().join("assets");
    let mut start = split(&format!("--backend {} --model", args.backend));
    start.push(assets.join("shapes").display().to_string());
    start.push(assets.join("shapes.png").display().to_string());
    all.push(Work {
        ours: Ours::FirstLine(start, if quick { 1 } else { 5 }),
        ..work("start of detr-infer with the demo model, to the first box", "ms", Vec::new(), None)
    });
    all.push(Work { ours: Ours::Bytes, ..work("size of detr-infer", "MB", Vec::new(), None) });
    all
}

/// Adds a model at work on every number of images.
fn batches(
    all: &mut Vec<Work>,
    args: &Args,
    flags: &Flags,
    [what, model, dtype]: [&str; 3],
    size: ImageSize,
) {
    let mut batches = if args.quick { vec![1] } else { args.batches.clone() };
    batches.sort_unstable();
    let [runs, warmup] = if args.quick { [1, 0] } else { [flags.runs.unwrap_or(3), 1] };
    let size = format!("{}x{}", size.height, size.width);
    for batch in batches {
        let name = |batch: usize| format!("{what} {model} {size} {dtype} batch {batch}");
        let line = format!(
            "{what} --model recipe:{model} --size {size} --backend {} --batch-size {batch} --dtype {dtype} \
             --runs {runs} --warmup {warmup}",
            args.backend
        );
        let row = if what == "infer" { "model" } else { "total" };
        let scaled = (batch > 1).then(|| (name(1), batch));
        all.push(Work { scaled, ..work(&name(batch), "ms", split(&line), Some(row)) });
    }
}

fn work(name: &str, unit: &'static str, args: Vec<String>, row: Option<&'static str>) -> Work {
    Work { name: name.to_owned(), unit, ours: Ours::Benchmark(args), row, scaled: None }
}

fn split(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::{Cli, Command};

    fn planned(line: &str) -> Vec<Work> {
        let words = ["detr-bench", "all"].into_iter().chain(line.split_whitespace());
        let Cli { command: Command::All(args), flags, .. } = Cli::try_parse_from(words).unwrap()
        else {
            panic!("another command")
        };
        works(&args, &flags)
    }

    #[test]
    fn names_are_unique_and_batches_know_their_single_image() {
        let all = planned("--dtypes f32,bf16");
        let mut names: Vec<&str> = all.iter().map(|work| work.name.as_str()).collect();
        for work in &all {
            let one = work.scaled.as_ref().map(|(one, _)| one.as_str());
            assert!(one.is_none_or(|one| names.contains(&one)), "{}", work.name);
        }
        let before = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), before);
        // Two precisions; five models in two sizes and three batches, six trained in three.
        assert_eq!(before, 2 * (5 * 2 * 3 + 6 * 3 + 1) + 5);
    }

    #[test]
    fn every_benchmark_is_one_of_this_program_and_knows_its_peers() {
        for work in planned("").iter().chain(&planned("--quick")) {
            let Ours::Benchmark(args) = &work.ours else { continue };
            let words = std::iter::once("detr-bench").chain(args.iter().map(String::as_str));
            let cli = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}"));
            let [peer, onnx] = cli.command.benchmark().unwrap().peers(&cli.flags);
            assert!(peer.is_some(), "{}", work.name);
            assert_eq!(onnx.is_some(), work.name.starts_with("infer"), "{}", work.name);
        }
        let name = "train deformable-detr-tiny 480x640 f32 batch 4";
        let all = planned("");
        let Ours::Benchmark(args) = &all.iter().find(|work| work.name == name).unwrap().ours else {
            panic!("a benchmark")
        };
        let words = std::iter::once("detr-bench").chain(args.iter().map(String::as_str));
        let cli = Cli::try_parse_from(words).unwrap();
        let [Some((script, args)), None] = cli.command.benchmark().unwrap().peers(&cli.flags)
        else {
            panic!("PyTorch trains, ONNX Runtime does not")
        };
        assert_eq!(script, "train_torch.py");
        let args = args.join(" ");
        assert!(args.contains("--height 480 --width 640 --batch-size 4 --dtype f32"), "{args}");
    }
}
