//! The results of `cargo xtask bench all` in Markdown.

use std::fmt::Write;

use serde_json::Value;

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
    out += "| | unit | detr | peer | ratio | detr MB | peer MB | ratio |\n|---|---|---|---|---|---|---|---|\n";
    let mut notes = Vec::new();
    for row in results["rows"].as_array().into_iter().flatten() {
        let name = word(&row["name"]);
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} | {} | {} | {} | {} |",
            word(&row["unit"]),
            figure(&row["detr"]),
            figure(&row["peer"]),
            ratio(&row["ratio"]),
            whole(&row["detr_memory_mb"]),
            whole(&row["peer_memory_mb"]),
            ratio(&row["memory_ratio"]),
        );
        for (side, key) in [("detr", "detr_error"), ("peer", "peer_error")] {
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
        let results = json!({
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
        assert!(text.contains("a processor with 2 threads, 8 GB") && text.contains("torch 9.9"));
    }
}
