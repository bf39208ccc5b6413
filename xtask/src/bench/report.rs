//! Measurements put together: several rounds into one, two programs into ratios, all of it into a
//! table.

use std::fmt::Write;

use serde_json::{Map, Value, json};

/// What a measurement is of.
pub(super) struct Kind {
    /// Stages in the order of the work.
    stages: &'static [&'static str],
    /// Those that both sides of a comparison run alike.
    compared: &'static [&'static str],
}

/// `model` is backbone and transformer together: what both sides run, whatever else they count as their
/// total. Theirs leaves out the picture's way into the model.
pub(super) const INFERENCE: Kind = Kind {
    stages: &["resize", "backbone", "transformer", "postprocess", "model", "total"],
    compared: &["backbone", "transformer", "postprocess", "model"],
};

/// A step is the same work on both sides.
pub(super) const TRAINING: Kind =
    Kind { stages: &["gradients", "update", "total"], compared: &["gradients", "update", "total"] };

/// Several rounds as one: the least minimum, the median of the medians, the greatest 95th
/// percentile and peak memory. Everything else is taken from the first round.
pub(super) fn merge(kind: &Kind, rounds: &[Value]) -> Option<Value> {
    let mut merged = rounds.first()?.clone();
    let mut stages = Map::new();
    for &stage in kind.stages {
        let (mut min, mut median, mut p95) = (Vec::new(), Vec::new(), Vec::new());
        for round in rounds {
            let numbers = stage_numbers(round, stage);
            let Some([a, b, c]) = numbers else { continue };
            min.push(a);
            median.push(b);
            p95.push(c);
        }
        median.sort_by(f64::total_cmp);
        let middle = (median.len().saturating_sub(1) / 2, median.len() / 2);
        if let (Some(low), Some(high)) = (median.get(middle.0), median.get(middle.1)) {
            stages.insert(
                stage.to_owned(),
                json!({
                    "min": min.into_iter().fold(f64::INFINITY, f64::min),
                    "median": f64::midpoint(*low, *high),
                    "p95": p95.into_iter().fold(0.0, f64::max),
                }),
            );
        }
    }
    stages.get("total")?;
    let peak = rounds.iter().filter_map(|round| round["peak_memory_mb"].as_f64()).reduce(f64::max);
    merged["stages_ms"] = Value::Object(stages);
    merged["peak_memory_mb"] = json!(peak);
    merged["rounds"] = json!(rounds.len());
    Some(merged)
}

/// Minimum, median and 95th percentile of a stage in one round.
fn stage_numbers(round: &Value, stage: &str) -> Option<[f64; 3]> {
    let number = |stage: &str, name: &str| round["stages_ms"][stage][name].as_f64();
    let in_parts = stage == "model" && round["stages_ms"][stage].is_null();
    let stages: &[&str] = if in_parts { &["backbone", "transformer"] } else { &[stage] };
    let sum = |name: &str| stages.iter().map(|stage| number(stage, name)).sum::<Option<f64>>();
    Some([sum("min")?, sum("median")?, sum("p95")?])
}

/// Our median over theirs, for each stage that both have, and for memory.
pub(super) fn ratios(kind: &Kind, detr: &Value, peer: &Value) -> Value {
    let mut ratios = Map::new();
    for &stage in kind.compared {
        let median = |side: &Value| side["stages_ms"][stage]["median"].as_f64();
        if let (Some(ours), Some(theirs)) = (median(detr), median(peer)) {
            ratios.insert(stage.to_owned(), json!(ours / theirs));
        }
    }
    let memory = |side: &Value| side["peak_memory_mb"].as_f64();
    if let (Some(ours), Some(theirs)) = (memory(detr), memory(peer)) {
        ratios.insert("peak_memory_mb".to_owned(), json!(ours / theirs));
    }
    if ratios.is_empty() { Value::Null } else { Value::Object(ratios) }
}

/// What people read.
pub(super) fn table(kind: &Kind, results: &Value) -> String {
    let (detr, peer) = (&results["detr"], &results["peer"]);
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{}, {}x{} (height x width), batch {}, {} on {}; {} runs x {} rounds",
        word(&detr["model"]),
        detr["height"],
        detr["width"],
        detr["batch_size"],
        word(&detr["dtype"]),
        word(&detr["backend"]),
        detr["runs"],
        detr["rounds"],
    );
    let _ = writeln!(
        out,
        "{}, {} threads; detr {}",
        word(&detr["cpu"]),
        detr["threads"],
        word(&detr["version"])
    );
    if !peer.is_null() {
        let _ = writeln!(
            out,
            "PyTorch {}, transformers {}, attention {}, {} threads",
            word(&peer["torch"]),
            word(&peer["transformers"]),
            word(&peer["attention"]),
            peer["threads"],
        );
    }
    let _ = write!(out, "\n{:<12}{:>10}{:>10}{:>10}", "ms", "median", "min", "p95");
    let _ = writeln!(out, "{}", if peer.is_null() { "" } else { "   PyTorch     ratio" });
    for &stage in kind.stages {
        let numbers = &detr["stages_ms"][stage];
        let _ = write!(out, "{stage:<12}");
        for name in ["median", "min", "p95"] {
            let _ = write!(out, "{:>10}", shown(&numbers[name]));
        }
        let _ = compare(&mut out, &peer["stages_ms"][stage]["median"], &results["ratio"][stage]);
    }
    let _ = write!(out, "{:<12}{:>10}{:>20}", "peak MB", shown(&detr["peak_memory_mb"]), "");
    let _ = compare(&mut out, &peer["peak_memory_mb"], &results["ratio"]["peak_memory_mb"]);
    out
}

fn compare(out: &mut String, theirs: &Value, ratio: &Value) -> std::fmt::Result {
    if theirs.is_null() {
        return writeln!(out);
    }
    let ratio = ratio.as_f64().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
    writeln!(out, "{:>10}{ratio:>10}", shown(theirs))
}

fn shown(number: &Value) -> String {
    number.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(median: f64) -> Value {
        let stage = |scale: f64| json!({"min": median * scale - 1.0, "median": median * scale, "p95": median * scale + 1.0});
        json!({
            "model": "recipe:detr-r50", "backend": "flex", "dtype": "f32", "height": 800,
            "width": 1066, "batch_size": 1, "runs": 7, "peak_memory_mb": median * 10.0,
            "cpu": "a processor", "threads": 2, "version": "0.1.0",
            "stages_ms": {"backbone": stage(1.0), "transformer": stage(2.0), "total": stage(4.0)},
        })
    }

    #[test]
    fn rounds_become_one() {
        let merged = merge(&INFERENCE, &[round(30.0), round(10.0), round(20.0)]).unwrap();
        assert_eq!(
            merged["stages_ms"]["backbone"],
            json!({"min": 9.0, "median": 20.0, "p95": 31.0})
        );
        assert_eq!(merged["stages_ms"]["model"]["median"], json!(60.0));
        assert_eq!(merged["stages_ms"]["resize"], Value::Null);
        assert_eq!(merged["peak_memory_mb"], json!(300.0));
        assert_eq!(merge(&INFERENCE, &[json!({"error": "no torch"})]), None);
    }

    #[test]
    fn the_table_compares_where_both_sides_have_a_number() {
        let (detr, peer) = (
            merge(&INFERENCE, &[round(10.0)]).unwrap(),
            merge(&INFERENCE, &[round(20.0)]).unwrap(),
        );
        let ratio = ratios(&INFERENCE, &detr, &peer);
        assert_eq!(ratio["model"], json!(0.5));
        assert_eq!(ratio.get("total"), None, "totals count different work");
        let text = table(&INFERENCE, &json!({"detr": detr, "peer": peer, "ratio": ratio}));
        let line = text.lines().find(|line| line.starts_with("backbone")).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["backbone", "10.0", "9.0", "11.0", "20.0", "0.50"]);
    }

    #[test]
    fn steps_of_training_are_compared_as_a_whole() {
        let step = |median: f64| {
            let mut step = round(median);
            step["stages_ms"]["gradients"] = step["stages_ms"]["backbone"].clone();
            merge(&TRAINING, &[step]).unwrap()
        };
        let ratio = ratios(&TRAINING, &step(10.0), &step(5.0));
        assert_eq!(ratio["total"], json!(2.0));
        assert_eq!(ratio.get("backbone"), None);
    }
}
