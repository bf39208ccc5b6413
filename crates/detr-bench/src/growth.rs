//! `cargo xtask bench growth`: how time and memory grow with resolution, queries, levels and batch, beside the
//! operations that the model itself asks for. What grows faster than those is ours to explain.

use detr_eval::{Chart, ChartLine, charts_svg};
use detr_infer::cli::{CliError, print, print_json, read_text, write_text};
use detr_types::ImageSize;
use serde_json::json;

use crate::report::{over, root, save_text};
use crate::sides::{Flags, Ours, Work, measure_all};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Preset that is changed along one axis after the other
    #[arg(long, default_value = "deformable-detr-r50")]
    model: String,
    /// The kinds of work to measure, with commas between: infer, train
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
}

/// A point on an axis.
#[derive(Clone, Debug, PartialEq)]
struct Point {
    axis: String,
    /// The place on the axis, for people and for the chart.
    at: String,
    x: f64,
    size: ImageSize,
    batch: u32,
    /// The key of the preset that is changed, and its value.
    changed: Option<(&'static str, u32)>,
}

const START: ImageSize = ImageSize::new(608, 810);
const QUICK: ImageSize = ImageSize::new(96, 128);

/// Inputs of 3:4 with these longer sides.
const SIDES: [u32; 6] = [480, 640, 800, 960, 1120, 1333];

/// The kinds of numbers that a chart shows, and their multiples of the first point.
const LINES: [(&str, &str, &str); 3] = [
    ("detr", "times_time", "time"),
    ("detr_memory_mb", "times_memory", "memory"),
    ("gflop", "times_operations", "operations"),
];

pub(crate) fn run(args: &Args, flags: &Flags) -> Result<(), CliError> {
    let path = root().join("configs/models").join(format!("{}.toml", args.model));
    let preset = read_text(&path).map_err(|_| {
        let model = &args.model;
        CliError::Usage(format!(
            "no preset `{model}`\nhint: the presets are the files of configs/models/"
        ))
    })?;
    let points: Vec<Point> = args.axes.iter().flat_map(|axis| points(axis, args.quick)).collect();
    let mut works = Vec::new();
    for of in &args.of {
        for point in &points {
            works.push(work(args, flags, of, point, &preset)?);
        }
    }
    let rounds = Some(flags.rounds.unwrap_or(1));
    let flags = Flags { peer: false, rounds, ..flags.clone() };
    let mut report = measure_all(&works, &flags, None);
    // Multiples of the first point of every axis.
    let mut first = 0;
    for index in 0..report.rows.len() {
        if points[index % points.len()].axis != points[first % points.len()].axis
            || index % points.len() == 0
        {
            first = index;
        }
        let start = report.rows[first].clone();
        let row = &mut report.rows[index];
        for (key, times, _) in LINES {
            row.set(times, over(row.get(key), start.get(key)));
        }
    }
    report.facts.insert("model".to_owned(), json!(args.model));
    report.facts.insert("dtype".to_owned(), json!(args.dtype));
    report.facts.insert("quick".to_owned(), json!(args.quick));
    let report = report.dated();
    if flags.save {
        let mut charts: Vec<Chart> = Vec::new();
        for (index, row) in report.rows.iter().enumerate() {
            let point = &points[index % points.len()];
            let title = format!("{}: {}", args.of[index / points.len()], point.axis);
            if charts.last().is_none_or(|chart| chart.title != title) {
                let lines =
                    LINES.map(|(.., name)| ChartLine { name: name.to_owned(), points: Vec::new() });
                charts.push(Chart::new(&title, &point.axis, "times the first point", lines.into()));
            }
            let lines = charts.last_mut().into_iter().flat_map(|chart| &mut chart.lines);
            for (line, (_, times, _)) in lines.zip(LINES) {
                line.points.push([point.x, row.get(times).unwrap_or(f64::NAN)]);
            }
        }
        let stem = report.save(&format!("growth-{}-{}", args.model, args.backend))?;
        save_text(&stem.with_extension("svg"), &charts_svg(&charts))?;
    }
    if flags.json { print_json(&report) } else { print(&report.markdown()) }
}

/// Returns the points of an axis.
fn points(axis: &str, quick: bool) -> Vec<Point> {
    let start = if quick { QUICK } else { START };
    let point = |at: String, x: f64| Point {
        axis: axis.to_owned(),
        at,
        x,
        size: start,
        batch: 1,
        changed: None,
    };
    let number = |n: u32| point(n.to_string(), f64::from(n));
    let key = |key: &'static str| move |n: u32| Point { changed: Some((key, n)), ..number(n) };
    let mut all: Vec<Point> = match axis {
        "queries" => [100, 300, 500, 700, 900].map(key("num_queries")).into(),
        "levels" => [1, 2, 3, 4, 5].map(key("num_feature_levels")).into(),
        "batch" => [1, 2, 4, 8].map(|n| Point { batch: n, ..number(n) }).into(),
        _ => SIDES
            .map(|width| {
                let width = if quick { width / 5 } else { width };
                let size = ImageSize::new(width * 3 / 4, width);
                let pixels = f64::from(size.height * size.width) / 1e6;
                Point { size, ..point(format!("{}x{width}", size.height), pixels) }
            })
            .into(),
    };
    all.truncate(if quick { 2 } else { all.len() });
    all
}

/// Returns the work at a point, and writes its model.
fn work(
    args: &Args,
    flags: &Flags,
    of: &str,
    point: &Point,
    preset: &str,
) -> Result<Work, CliError> {
    let folder = root().join("target/bench/growth");
    let path = folder.join(format!("{}-{}-{}.toml", args.model, point.axis, point.at));
    write_text(&path, &changed(preset, point).map_err(CliError::Usage)?)?;
    let [runs, warmup] = if args.quick { [1, 0] } else { [flags.runs.unwrap_or(3), 1] };
    let ImageSize { height, width } = point.size;
    let line = format!(
        "{of} --size {height}x{width} --batch-size {} --backend {} --dtype {} --runs {runs} --warmup {warmup} --model",
        point.batch, args.backend, args.dtype
    );
    let mut words: Vec<String> = line.split(' ').map(str::to_owned).collect();
    words.push(format!("recipe:{}", path.display()));
    Ok(Work {
        name: format!("{of}, {} {}", point.axis, point.at),
        unit: "ms",
        ours: Ours::Benchmark(words),
        row: Some("total"),
        scaled: None,
    })
}

/// Returns the preset with another value for the key of a point.
fn changed(preset: &str, point: &Point) -> Result<String, String> {
    let Some((key, value)) = point.changed else { return Ok(preset.to_owned()) };
    let mut lines: Vec<String> = preset.lines().map(str::to_owned).collect();
    let is_key = |line: &&mut String| line.split('=').next().is_some_and(|k| k.trim() == key);
    *lines.iter_mut().find(is_key).ok_or(format!("the model has no {key}"))? =
        format!("{key} = {value}");
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_change_one_thing_at_a_time() {
        for axis in ["size", "queries", "levels", "batch"] {
            let all = points(axis, false);
            assert!(all.len() >= 4 && points(axis, true).len() == 2, "{axis}");
            for point in &all {
                let changed = [point.size != START, point.batch != 1, point.changed.is_some()];
                let count = changed.into_iter().filter(|&changed| changed).count();
                assert!(count <= 1, "{point:?}");
            }
            assert!(all.windows(2).all(|pair| pair[0].x < pair[1].x), "{axis}");
        }
    }

    #[test]
    fn presets_are_changed_by_key() {
        let preset = |name: &str| {
            std::fs::read_to_string(root().join(format!("configs/models/{name}.toml"))).unwrap()
        };
        let point = &points("levels", false)[1];
        let deformable = preset("deformable-detr-r50");
        let text = changed(&deformable, point).unwrap();
        assert_eq!(text.lines().filter(|line| *line == "num_feature_levels = 2").count(), 1);
        assert_eq!(text.lines().count(), deformable.lines().count());
        let error = changed(&preset("detr-r50"), point).unwrap_err();
        assert!(error.contains("no num_feature_levels"), "{error}");
    }
}
