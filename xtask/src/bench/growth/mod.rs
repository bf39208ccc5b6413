//! `cargo xtask bench growth`: how time and memory grow with resolution, queries, levels and batch, beside the
//! operations that the model itself asks for. What grows faster than those is ours to explain.

mod chart;
mod table;

use std::fmt;
use std::fs;
use std::process::{Command, ExitCode};

use anyhow::Context;
use serde_json::{Value, json};

use super::programs::Programs;
use super::rounds::{Flags, median_of};
use super::{Size, at_least_one, parse, save_text, threads};
use crate::shell;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Preset that is changed along one axis after the other
    #[arg(long, default_value = "deformable-detr-r50")]
    model: String,
    /// What is measured, with commas between: infer, train
    #[arg(long, default_value = "infer,train", value_delimiter = ',', value_parser = ["infer", "train"])]
    of: Vec<String>,
    /// Only these axes, with commas between: size, queries, levels, batch
    #[arg(long, default_value = "size,queries,levels,batch", value_delimiter = ',', value_parser = ["size", "queries", "levels", "batch"])]
    axes: Vec<String>,
    /// Small inputs and two points of every axis: whether it works, not how it grows
    #[arg(long)]
    quick: bool,
    /// Backend; its cargo feature is turned on
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Precision: f32, f16, bf16
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Measured runs of every point and round
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    runs: usize,
    /// Threads on the CPU [default: as many as the machine has]
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    /// Take `detr` from this folder, such as target/release, instead of building it
    #[arg(long, value_name = "DIR")]
    programs: Option<std::path::PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

/// What one measurement has.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    size: Size,
    batch: usize,
    /// Where it differs from the preset.
    queries: Option<usize>,
    levels: Option<usize>,
}

/// A point on an axis.
struct Step<'a> {
    axis: &'a str,
    /// Where on the axis, for people and for the chart.
    at: String,
    x: f64,
    point: Point,
}

impl fmt::Display for Step<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.axis, self.at)
    }
}

const START: Point =
    Point { size: Size { height: 608, width: 810 }, batch: 1, queries: None, levels: None };
const QUICK: Point =
    Point { size: Size { height: 96, width: 128 }, batch: 1, queries: None, levels: None };

/// Inputs of 3:4 with these longer sides.
const SIDES: [u32; 6] = [480, 640, 800, 960, 1120, 1333];

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = threads(args.threads);
    let preset = preset(&args.model)?;
    let steps: Vec<Step<'_>> = args.axes.iter().flat_map(|axis| steps(axis, args.quick)).collect();
    let programs = match &args.programs {
        Some(folder) => Programs::of_folder(folder),
        None => Programs::build_detr(&args.backend)?,
    };
    let rounds = args.flags.rounds_or(1);
    let mut printed: Vec<Vec<anyhow::Result<Value>>> = Vec::new();
    printed.resize_with(args.of.len() * steps.len(), Vec::new);
    for round in 1..=rounds {
        let all = args.of.iter().flat_map(|of| steps.iter().map(move |step| (of, step)));
        for ((of, step), printed) in all.zip(&mut printed) {
            eprintln!("round {round} of {rounds}: {of}, {step}");
            let config = changed(&preset, &step.point);
            printed.push(config.and_then(|config| {
                let model = write(&args.model, step, &config)?;
                let mut command = programs.command("detr")?;
                command.env("RAYON_NUM_THREADS", threads.to_string());
                arguments(&mut command, args, of, &model, step);
                parse(&shell::captured(&mut command)?, &command)
            }));
        }
    }
    let all = args.of.iter().flat_map(|of| steps.iter().map(move |step| (of, step)));
    let rows: Vec<Value> =
        all.zip(&printed).map(|((of, step), printed)| row(of, step, printed)).collect();
    let results = json!({
        "what": "growth",
        "model": args.model,
        "backend": args.backend,
        "dtype": args.dtype,
        "threads": threads,
        "cpu": printed.iter().flatten().flatten().map(|one| &one["cpu"]).next(),
        "rounds": rounds,
        "runs": if args.quick { 1 } else { args.runs },
        "quick": args.quick,
        "rows": rows,
    });
    let name = format!("growth-{}-{}", args.model, args.backend);
    args.flags.finish_with(&name, results, table::markdown, |path, results| {
        save_text(&path.with_extension("md"), &table::markdown(results))?;
        save_text(&path.with_extension("svg"), &chart::svg(results))
    })
}

/// The text of a preset.
fn preset(name: &str) -> anyhow::Result<String> {
    let path = shell::root().join("configs/models").join(format!("{name}.toml"));
    fs::read_to_string(&path).with_context(|| {
        format!("no preset `{name}`\nhint: the presets are the files of configs/models/")
    })
}

fn steps(axis: &str, quick: bool) -> Vec<Step<'_>> {
    let start = if quick { QUICK } else { START };
    let numbers = |full: &[u32]| {
        let take = if quick { 2 } else { full.len() };
        full.iter().take(take).copied().collect::<Vec<_>>()
    };
    let step = |at: u32, point: Point| Step { axis, at: at.to_string(), x: f64::from(at), point };
    let sized = |width: u32| {
        let width = if quick { width / 5 } else { width };
        let size = Size { height: width * 3 / 4, width };
        let pixels = f64::from(size.height * size.width) / 1e6;
        Step { axis, at: size.to_string(), x: pixels, point: Point { size, ..start } }
    };
    let count = |n: u32| n as usize;
    match axis {
        "queries" => numbers(&[100, 300, 500, 700, 900])
            .into_iter()
            .map(|n| step(n, Point { queries: Some(count(n)), ..start }))
            .collect(),
        "levels" => numbers(&[1, 2, 3, 4, 5])
            .into_iter()
            .map(|n| step(n, Point { levels: Some(count(n)), ..start }))
            .collect(),
        "batch" => numbers(&[1, 2, 4, 8])
            .into_iter()
            .map(|n| step(n, Point { batch: count(n), ..start }))
            .collect(),
        _ => numbers(&SIDES).into_iter().map(sized).collect(),
    }
}

/// A preset with other queries and levels.
fn changed(preset: &str, point: &Point) -> anyhow::Result<String> {
    let mut lines: Vec<String> = preset.lines().map(str::to_owned).collect();
    for (key, value) in [("num_queries", point.queries), ("num_feature_levels", point.levels)] {
        let Some(value) = value else { continue };
        let line =
            lines.iter_mut().find(|line| line.split('=').next().is_some_and(|k| k.trim() == key));
        *line.with_context(|| format!("the model has no {key}"))? = format!("{key} = {value}");
    }
    Ok(lines.join("\n") + "\n")
}

/// Where `detr bench` finds the model.
fn write(model: &str, step: &Step<'_>, config: &str) -> anyhow::Result<String> {
    let folder = shell::root().join("target/bench/growth");
    fs::create_dir_all(&folder)?;
    let path = folder.join(format!("{model}-{}-{}.toml", step.axis, step.at));
    fs::write(&path, config).with_context(|| path.display().to_string())?;
    Ok(format!("recipe:{}", path.display()))
}

fn arguments(command: &mut Command, args: &Args, of: &str, model: &str, step: &Step<'_>) {
    command.args(["bench", of, "--json", "--model", model]);
    command.args(["--size", &step.point.size.to_string()]);
    command.args(["--batch-size", &step.point.batch.to_string()]);
    command.args(["--backend", &args.backend, "--dtype", &args.dtype]);
    let (runs, warmup) = if args.quick { (1, "0") } else { (args.runs, "1") };
    command.args(["--runs", &runs.to_string(), "--warmup", warmup]);
}

/// Median time, most memory, and operations of the forward pass.
fn row(of: &str, step: &Step<'_>, printed: &[anyhow::Result<Value>]) -> Value {
    let found: Vec<&Value> = printed.iter().flatten().collect();
    let ms = median_of(found.iter().copied(), |one| &one["stages_ms"]["total"]["median"]);
    let memory = found.iter().filter_map(|one| one["peak_memory_mb"].as_f64()).reduce(f64::max);
    let flops = found.first().and_then(|one| {
        one["total_flops"].as_f64().or_else(|| one["total_forward_flops"].as_f64())
    });
    let error = printed.iter().find_map(|one| one.as_ref().err());
    json!({
        "of": of,
        "axis": step.axis,
        "at": step.at,
        "x": step.x,
        "ms": ms,
        "peak_memory_mb": memory,
        "gflop": flops.map(|flops| flops / 1e9),
        "error": error.map(|error| format!("{error:#}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_one_thing_at_a_time() {
        for axis in ["size", "queries", "levels", "batch"] {
            let all = steps(axis, false);
            assert!(all.len() >= 4 && steps(axis, true).len() == 2, "{axis}");
            for step in &all {
                let Point { size, batch, queries, levels } = step.point;
                let changed =
                    [size != START.size, batch != START.batch, queries.is_some(), levels.is_some()];
                assert!(changed.into_iter().filter(|&changed| changed).count() <= 1, "{step}");
            }
            assert!(all.windows(2).all(|pair| pair[0].x < pair[1].x), "{axis}");
        }
    }

    #[test]
    fn presets_are_changed_by_key() {
        let preset = preset("deformable-detr-r50").unwrap();
        let point = Point { queries: Some(7), levels: Some(2), ..START };
        let text = changed(&preset, &point).unwrap();
        for line in ["num_queries = 7", "num_feature_levels = 2"] {
            assert_eq!(text.lines().filter(|found| *found == line).count(), 1, "{text}");
        }
        assert_eq!(text.lines().count(), preset.lines().count());
        let detr = super::preset("detr-r50").unwrap();
        let error = changed(&detr, &point).unwrap_err().to_string();
        assert!(error.contains("no num_feature_levels"), "{error}");
        assert!(super::preset("detr-r51").unwrap_err().to_string().contains("hint:"));
    }

    #[test]
    fn a_point_that_failed_says_why() {
        let step = &steps("batch", false)[1];
        let good = json!({ "stages_ms": { "total": { "median": 5.0 } }, "peak_memory_mb": 8.0,
            "total_flops": 2e9 });
        let full = row("infer", step, &[Ok(good)]);
        assert_eq!((full["ms"].as_f64(), full["gflop"].as_f64()), (Some(5.0), Some(2.0)));
        let failed = row("infer", step, &[Err(anyhow::anyhow!("no memory"))]);
        assert!(failed["ms"].is_null() && failed["error"] == "no memory");
    }
}
