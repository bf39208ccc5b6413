//! The results of `cargo xtask bench all` in Markdown.

use std::fmt::Write;

use serde_json::Value;

type Show = fn(&Value) -> String;

/// What people read. A ratio below 1 is in our favour.
pub(in crate::bench) fn markdown(results: &Value) -> String {
    let (hardware, versions) = (&results["hardware"], &results["versions"]);
    let mut out = format!("# Measurements of {}\n\n", word(&results["date"]));
    let memory = hardware["memory_mb"].as_f64().map(|mb| format!(", {:.0} GB", mb / 1e3));
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "{} with {} threads{}, {}; backend {}{}; commit {}.",
        word(&hardware["cpu"]),
        hardware["threads"],
        memory.unwrap_or_default(),
        word(&hardware["system"]),
        word(&results["backend"]),
        hardware["device"].as_str().map_or_else(String::new, |device| format!(" ({device})")),
        word(&results["commit"]),
    );
    let all = versions.as_object().into_iter().flatten();
    let all: Vec<String> = all.map(|(name, value)| format!("{name} {}", word(value))).collect();
    let _ = writeln!(
        out,
        "{}{}medians of {} rounds{}. A ratio is ours over theirs.\n",
        all.join(", "),
        if all.is_empty() { "" } else { "; " },
        results["rounds"],
        if results["quick"] == true {
            ", the smallest of everything: no figures to go by"
        } else {
            ""
        },
    );
    let rows = || results["rows"].as_array().into_iter().flatten();
    let onnx = rows().any(|row| row["onnx"].is_number());
    let columns: &[(&str, &str, Show)] = &[
        ("detr", "detr", figure),
        ("peer", "peer", figure),
        ("ratio", "ratio", ratio),
        ("ONNX Runtime", "onnx", figure),
        ("ratio", "onnx_ratio", ratio),
        ("detr MB", "detr_memory_mb", whole),
        ("peer MB", "peer_memory_mb", whole),
        ("ratio", "memory_ratio", ratio),
        ("ONNX Runtime MB", "onnx_memory_mb", whole),
        ("ratio", "onnx_memory_ratio", ratio),
    ];
    let columns: Vec<_> =
        columns.iter().filter(|(_, key, _)| onnx || !key.starts_with("onnx")).collect();
    out += "| | unit |";
    for (title, ..) in &columns {
        let _ = write!(out, " {title} |");
    }
    let _ = writeln!(out, "\n|---|---|{}", "---|".repeat(columns.len()));
    let mut notes = Vec::new();
    for row in rows() {
        let name = word(&row["name"]);
        let _ = write!(out, "| {name} | {} |", word(&row["unit"]));
        for (_, key, show) in &columns {
            let _ = write!(out, " {} |", show(&row[*key]));
        }
        out.push('\n');
        let sides =
            [("detr", "detr_error"), ("peer", "peer_error"), ("ONNX Runtime", "onnx_error")];
        for (side, key) in sides {
            if let Some(error) = row[key].as_str() {
                notes.push(format!("- {name}, {side}: {}\n", error.replace('\n', "; ")));
            }
        }
    }
    if !notes.is_empty() {
        notes.dedup();
        out += "\nWithout a figure:\n\n";
        out += &notes.concat();
    }
    out
}

pub(in crate::bench) fn word(value: &Value) -> String {
    match value {
        Value::Null => "?".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Three or more digits that count.
pub(in crate::bench) fn figure(value: &Value) -> String {
    shown(value, |number| match number {
        number if number.abs() >= 100.0 => format!("{number:.0}"),
        number if number.abs() >= 10.0 => format!("{number:.1}"),
        number if number.abs() >= 0.1 => format!("{number:.2}"),
        number => format!("{number:.4}"),
    })
}

pub(in crate::bench) fn whole(value: &Value) -> String {
    shown(value, |number| format!("{number:.0}"))
}

pub(in crate::bench) fn ratio(value: &Value) -> String {
    shown(value, |number| format!("{number:.2}"))
}

fn shown(value: &Value, show: impl Fn(f64) -> String) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), show)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_has_a_line_per_row_and_says_what_is_missing() {
        let mut results = json!({
            "date": "2026-01-02", "commit": "abc", "backend": "flex", "rounds": 3, "quick": false,
            "hardware": { "cpu": "a processor", "threads": 2, "memory_mb": 8000.0, "system": "linux" },
            "versions": { "detr": "0.1.0", "torch": "9.9" },
            "rows": [
                { "name": "a", "unit": "ms", "detr": 1234.56, "peer": 0.5, "ratio": 2469.12,
                  "detr_memory_mb": 99.6, "peer_memory_mb": null, "memory_ratio": null },
                { "name": "b", "unit": "ms", "peer_error": "no torch\nhint: pip" },
            ],
        });
        let text = markdown(&results);
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("| a | ms | 1235 | 0.50 | 2469.12 | 100 | - | - |"), "{text}");
        assert!(has("| b | ms | - | - | - | - | - | - |"), "{text}");
        assert!(has("- b, peer: no torch; hint: pip"), "{text}");
        assert!(!text.contains("ONNX"), "{text}");
        results["rows"][0]["onnx"] = json!(600.0);
        results["rows"][0]["onnx_ratio"] = json!(2.057);
        results["rows"][1]["onnx_error"] = json!("no export");
        let onnx = markdown(&results);
        let line = "| a | ms | 1235 | 0.50 | 2469.12 | 600 | 2.06 | 100 | - | - | - | - |";
        assert!(onnx.lines().any(|found| found == line), "{onnx}");
        assert!(onnx.lines().any(|found| found == "- b, ONNX Runtime: no export"), "{onnx}");
        assert!(text.contains("a processor with 2 threads, 8 GB") && text.contains("torch 9.9"));
    }
}
