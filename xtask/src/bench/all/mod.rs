//! `cargo xtask bench all`: everything that is measured, in one go, ours and the peers' in turns on the same
//! work. What cannot be measured says why, and the rest goes on.

mod plan;
mod table;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::programs::Programs;
use super::rounds::Flags;
use super::{Size, at_least_one, parse_size, save_text, threads};
use crate::shell;
use plan::Plan;
pub(super) use table::{figure, ratio, whole, word};
pub(super) use work::Side;
use work::{Measurement, Reading};

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
    #[arg(long, default_value = "800x1066,640x640", value_delimiter = ',', value_parser = parse_size)]
    sizes: Vec<Size>,
    /// Images at once, with commas between them
    #[arg(long, default_value = "1,4,8", value_delimiter = ',', value_parser = at_least_one)]
    batches: Vec<usize>,
    /// Leave out batches that would need more than this, going by one image [default: three quarters of
    /// the machine's memory]
    #[arg(long, value_name = "MB")]
    memory_limit: Option<f64>,
    /// Measured runs of a model per round
    #[arg(long, default_value_t = 3, value_parser = at_least_one)]
    runs: usize,
    /// Threads on the CPU [default: as many as the machine has]
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    /// Take programs from this folder, such as target/release, instead of building them
    #[arg(long, value_name = "DIR")]
    programs: Option<PathBuf>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(args, threads(args.threads));
    anyhow::ensure!(
        !plan.measurements(&args.only).is_empty(),
        "nothing has `{}` in its name\nhint: names are such as `{}`",
        args.only,
        plan.measurements("").first().map_or("", |first| first.name.as_str())
    );
    let programs = match &args.programs {
        Some(folder) => Programs::of_folder(folder),
        None => Programs::build(&args.backend)?,
    };
    let pictures = make_pictures(&programs);
    let measurements = plan.measurements(&args.only);
    let [peer, onnx] = args.flags.peer_sides();
    let mut sides = [Some(Side::ours(programs, plan.threads)), peer, onnx];
    if let Err(error) = pictures {
        eprintln!("there are no pictures for `data`: {error:#}");
    }
    let limit = args.memory_limit.or_else(|| Some(work::total_memory_mb()? * 0.75));
    let rounds = args.flags.rounds_or(if args.quick || !args.flags.peer { 1 } else { 3 });
    for round in 1..=rounds {
        for (number, measurement) in measurements.iter().enumerate() {
            for side in sides.iter_mut().flatten().filter(|side| side.knows(measurement)) {
                let all = measurements.len();
                let name = &measurement.name;
                eprintln!(
                    "round {round} of {rounds}, {} of {all}: {name}: {}",
                    number + 1,
                    side.name
                );
                side.measure(measurement, limit);
            }
        }
    }
    let results = json!({
        "what": "all",
        "hardware": hardware(sides[0].as_ref(), &plan),
        "versions": versions(&sides),
        "backend": args.backend,
        "rounds": rounds,
        "quick": args.quick,
        "rows": rows(&measurements, &sides),
    });
    let name = format!("all-{}", args.backend);
    args.flags.finish_with(&name, results, table::markdown, |path, results| {
        save_text(&path.with_extension("md"), &table::markdown(results))
    })
}

/// Pictures for the measurement of augmentation.
fn make_pictures(programs: &Programs) -> anyhow::Result<()> {
    let folder = plan::photo_folder();
    std::fs::create_dir_all(&folder)?;
    let mut command = programs.command("photos")?;
    shell::captured(command.arg(folder)).map(drop)
}

/// One row for every number of every measurement, and one for a measurement without any.
fn rows(measurements: &[Measurement], sides: &[Option<Side>; 3]) -> Vec<Value> {
    let mut rows = Vec::new();
    for measurement in measurements {
        let [found, peers, onnx] = sides.each_ref().map(|side| {
            side.as_ref().map_or_else(BTreeMap::new, |side| side.readings(measurement))
        });
        let mut parts: BTreeSet<&str> =
            found.keys().chain(peers.keys()).chain(onnx.keys()).map(String::as_str).collect();
        if parts.is_empty() {
            parts.insert("");
        }
        let [detr_error, peer_error, onnx_error] =
            sides.each_ref().map(|side| side.as_ref()?.error(&measurement.name));
        for part in parts {
            let of = |side: &BTreeMap<String, Reading>| side.get(part).cloned().unwrap_or_default();
            let mut row = row(&of(&found), &of(&peers), &of(&onnx));
            let about = json!({
                "name": if part.is_empty() { measurement.name.clone() } else {
                    format!("{}: {part}", measurement.name)
                },
                "unit": measurement.unit,
                "detr_error": detr_error,
                "peer_error": peer_error,
                "onnx_error": onnx_error,
            });
            if let (Value::Object(row), Value::Object(about)) = (&mut row, about) {
                row.extend(about);
            }
            rows.push(row);
        }
    }
    rows
}

/// The numbers of all sides, and ours over theirs.
fn row(detr: &Reading, peer: &Reading, onnx: &Reading) -> Value {
    let ratio = |ours: Option<f64>, theirs: Option<f64>| {
        Some(ours? / theirs.filter(|&theirs| theirs > 0.0)?)
    };
    json!({
        "detr": detr.value,
        "peer": peer.value,
        "ratio": ratio(detr.value, peer.value),
        "detr_memory_mb": detr.memory_mb,
        "peer_memory_mb": peer.memory_mb,
        "memory_ratio": ratio(detr.memory_mb, peer.memory_mb),
        "peer_gpu_memory_mb": peer.gpu_memory_mb,
        "onnx": onnx.value,
        "onnx_ratio": ratio(detr.value, onnx.value),
        "onnx_memory_mb": onnx.memory_mb,
        "onnx_memory_ratio": ratio(detr.memory_mb, onnx.memory_mb),
        "detr_rounds": detr.rounds,
        "peer_rounds": peer.rounds,
        "onnx_rounds": onnx.rounds,
    })
}

fn hardware(ours: Option<&Side>, plan: &Plan) -> Value {
    let seen = |key: &str| ours.map_or(Value::Null, |side| side.seen(key));
    json!({
        "cpu": seen("cpu"),
        "device": seen("device"),
        "threads": plan.threads,
        "memory_mb": work::total_memory_mb(),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    })
}

fn versions(sides: &[Option<Side>; 3]) -> Value {
    let mut versions = Map::new();
    let [ours, theirs, onnx] = sides;
    for (side, keys) in [
        (ours, &["version", "burn"][..]),
        (theirs, &["python", "torch", "transformers", "torchvision", "scipy", "gpu"][..]),
        (onnx, &["onnxruntime"][..]),
    ] {
        for key in keys {
            let value = side.as_ref().map_or(Value::Null, |side| side.seen(key));
            if !value.is_null() {
                let name = if *key == "version" { "detr" } else { key };
                versions.insert(name.to_owned(), value);
            }
        }
    }
    Value::Object(versions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_ratios_where_both_sides_have_numbers() {
        let of = |value, memory_mb| Reading { value: Some(value), memory_mb, ..Reading::default() };
        let none = Reading::default();
        let both = row(&of(1.0, Some(30.0)), &of(4.0, Some(60.0)), &of(2.0, None));
        assert_eq!(
            (both["ratio"].as_f64(), both["memory_ratio"].as_f64()),
            (Some(0.25), Some(0.5))
        );
        assert_eq!(both["onnx_ratio"].as_f64(), Some(0.5));
        let alone = row(&of(1.0, None), &none, &none);
        assert!(alone["ratio"].is_null() && alone["memory_ratio"].is_null());
        assert!(alone["onnx_ratio"].is_null());
    }

    #[test]
    fn what_could_not_be_measured_has_a_row_with_the_reason() {
        let one = Measurement {
            name: "one".to_owned(),
            unit: "ms",
            ours: work::Ours::Bytes("detr"),
            theirs: Some(("none.py", Vec::new())),
            onnx: Some(("none.py", Vec::new())),
            read: |_| Vec::new(),
            scaled: None,
        };
        let mut ours = Side::ours(Programs::of_folder("nowhere".as_ref()), 1);
        let mut peer = Side::peer("no-such-python".into());
        let mut onnx = Side::onnx("no-such-python".into());
        for side in [&mut ours, &mut peer, &mut onnx] {
            side.measure(&one, None);
        }
        let rows = rows(&[one], &[Some(ours), Some(peer), Some(onnx)]);
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0]["name"], "one");
        assert!(rows[0]["detr"].is_null());
        assert!(rows[0]["detr_error"].as_str().unwrap().contains("no program"));
        for error in ["peer_error", "onnx_error"] {
            assert!(rows[0][error].as_str().unwrap().contains("cannot start"));
        }
    }
}
