//! Growth as a picture: for every axis the time, the memory and the operations, all as multiples of the
//! first point, so that what grows faster than the operations is above their line.

use std::fmt::Write;

use serde_json::Value;

/// What is drawn, and its colour.
const LINES: [(&str, &str, &str); 3] = [
    ("ms", "time", "#c0392b"),
    ("peak_memory_mb", "memory", "#2471a3"),
    ("gflop", "operations", "#7f8c8d"),
];
/// Of one axis, in pixels.
const WIDTH: f64 = 260.0;
const HEIGHT: f64 = 200.0;
const MARGIN: f64 = 44.0;

pub(super) fn svg(results: &Value) -> String {
    let groups = groups(results);
    let width = (WIDTH + MARGIN) * 4.0 + MARGIN;
    let rows = groups.len().div_ceil(4).max(1);
    #[allow(clippy::cast_precision_loss)] // a few rows
    let height = (HEIGHT + 2.0 * MARGIN) * rows as f64 + MARGIN;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, rows) in groups.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)] // a few charts
        let (column, line) = ((index % 4) as f64, (index / 4) as f64);
        let x = MARGIN + column * (WIDTH + MARGIN);
        let y = MARGIN + line * (HEIGHT + 2.0 * MARGIN);
        // Writing to a string cannot fail.
        let _ = writeln!(out, "<g transform=\"translate({x} {y})\">\n{}</g>", chart(rows));
    }
    for (index, (_, name, colour)) in LINES.iter().enumerate() {
        #[allow(clippy::cast_precision_loss)] // three
        let x = MARGIN + 90.0 * index as f64;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"18\" fill=\"{colour}\">{name}</text>");
    }
    out + "</svg>\n"
}

/// Rows of the same measurement and axis, that have numbers.
fn groups(results: &Value) -> Vec<Vec<&Value>> {
    let mut groups: Vec<Vec<&Value>> = Vec::new();
    let rows = results["rows"].as_array().into_iter().flatten();
    for row in rows.filter(|row| row["ms"].is_number()) {
        match groups.last_mut() {
            Some(group) if group[0]["of"] == row["of"] && group[0]["axis"] == row["axis"] => {
                group.push(row);
            }
            _ => groups.push(vec![row]),
        }
    }
    groups
}

/// One axis.
fn chart(rows: &[&Value]) -> String {
    let times = |row: &Value, key: &str| {
        let (now, then) = (row[key].as_f64()?, rows[0][key].as_f64().filter(|&then| then > 0.0)?);
        Some(now / then)
    };
    let all = rows.iter().flat_map(|row| LINES.iter().filter_map(|(key, ..)| times(row, key)));
    let most = all.fold(1.0, f64::max) * 1.05;
    let last = rows.iter().filter_map(|row| row["x"].as_f64()).fold(0.0, f64::max).max(1e-9);
    let place = |row: &Value, times: f64| {
        (row["x"].as_f64().unwrap_or(0.0) / last * WIDTH, HEIGHT * (1.0 - times / most))
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut out = format!(
        "<path d=\"M0 0V{HEIGHT}H{WIDTH}\" fill=\"none\" stroke=\"black\"/>\n<text x=\"4\" y=\"-6\">{}: {} \
         (times the first, up to {:.1})</text>\n",
        text(&rows[0]["of"]),
        text(&rows[0]["axis"]),
        most / 1.05,
    );
    for (key, _, colour) in LINES {
        let points: Vec<String> = rows
            .iter()
            .filter_map(|row| {
                let (x, y) = place(row, times(row, key)?);
                Some(format!("{x:.1},{y:.1}"))
            })
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            points.join(" ")
        );
    }
    for (index, row) in rows.iter().enumerate() {
        let label = text(&row["at"]);
        // Long ones in two lines, or neighbours overlap.
        let lower = label.len() > 4 && index % 2 == 1;
        let (x, y) = (place(row, 0.0).0, HEIGHT + if lower { 26.0 } else { 14.0 });
        let _ = writeln!(
            out,
            "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" font-size=\"9\">{label}</text>"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_axis_has_its_lines() {
        let row = |axis: &str, x: f64, ms: Option<f64>| json!({ "of": "infer", "axis": axis, "at": "here", "x": x, "ms": ms, "gflop": 2.0 });
        let results = json!({ "rows": [
            row("batch", 1.0, Some(4.0)), row("batch", 2.0, Some(8.0)), row("batch", 4.0, None),
            row("levels", 1.0, Some(5.0)),
        ]});
        let text = svg(&results);
        assert_eq!(text.matches("<polyline").count(), 2 * 3, "{text}");
        // Half way at the first point, at the end at the last, which is twice as much.
        assert!(text.contains("points=\"130.0,104.8 260.0,9.5\""), "{text}");
        assert!(text.starts_with("<svg ") && text.ends_with("</svg>\n"));
        assert!(svg(&json!({ "rows": [] })).ends_with("</svg>\n"));
    }
}
