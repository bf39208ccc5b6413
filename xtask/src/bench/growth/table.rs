//! The results of `cargo xtask bench growth` in Markdown.

use std::fmt::Write;

use serde_json::Value;

use crate::bench::all::{figure, ratio, whole, word};

pub(super) fn markdown(results: &Value) -> String {
    let mut out = format!(
        "# Growth of {}, {}\n\n{}, {} threads, {} on {}, commit {}; {} runs x {} rounds, medians{}.\n\
         The last columns are times the first point of the axis. A step of training is beside the operations of its \
         forward pass.\n",
        word(&results["model"]),
        word(&results["date"]),
        word(&results["cpu"]),
        results["threads"],
        word(&results["dtype"]),
        word(&results["backend"]),
        word(&results["commit"]),
        results["runs"],
        results["rounds"],
        if results["quick"] == true { "; small inputs, no figures to go by" } else { "" },
    );
    let mut first: Option<&Value> = None;
    for row in results["rows"].as_array().into_iter().flatten() {
        let same = |first: &&Value| first["of"] == row["of"] && first["axis"] == row["axis"];
        let start = if let Some(start) = first.filter(same) {
            start
        } else {
            // Writing to a string cannot fail.
            let _ = write!(
                out,
                "\n| {}, {} | ms | MB | GFLOP | time | memory | operations |\n|---|---|---|---|---|---|---|\n",
                word(&row["of"]),
                word(&row["axis"])
            );
            first = Some(row);
            row
        };
        let times = |key: &str| {
            let quotient = row[key].as_f64().zip(start[key].as_f64()).map(|(now, then)| now / then);
            ratio(&quotient.into())
        };
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} | {} | {} |{}",
            word(&row["at"]),
            figure(&row["ms"]),
            whole(&row["peak_memory_mb"]),
            figure(&row["gflop"]),
            times("ms"),
            times("peak_memory_mb"),
            times("gflop"),
            row["error"]
                .as_str()
                .map_or_else(String::new, |error| { format!(" {}", error.replace('\n', "; ")) }),
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_axis_is_a_table_that_starts_at_one() {
        let row = |of: &str, axis: &str, at: &str, ms: f64| json!({ "of": of, "axis": axis, "at": at, "ms": ms, "peak_memory_mb": 10.0 * ms, "gflop": 2.0 });
        let results = json!({ "rows": [
            row("infer", "batch", "1", 4.0), row("infer", "batch", "2", 12.0),
            row("infer", "levels", "1", 5.0), row("train", "levels", "1", 9.0),
        ]});
        let text = markdown(&results);
        assert!(text.contains("| 2 | 12.0 | 120 | 2.00 | 3.00 | 3.00 | 1.00 |\n"), "{text}");
        assert_eq!(text.matches("| GFLOP |").count(), 3, "{text}");
    }
}
