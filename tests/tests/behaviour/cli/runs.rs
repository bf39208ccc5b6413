//! `detr runs`: lists, details and comparisons of run folders, whole and broken ones.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::detr;

/// COCO's numbers with this AP.
fn metrics(ap: f64) -> Value {
    let names = [
        "ap",
        "ap50",
        "ap75",
        "ap_small",
        "ap_medium",
        "ap_large",
        "ar_few",
        "ar_some",
        "ar",
        "ar_small",
        "ar_medium",
        "ar_large",
    ];
    names
        .into_iter()
        .map(|name| (name.to_owned(), json!(ap)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// `metrics.jsonl` of two epochs of three steps.
fn lines(aps: [f64; 2]) -> String {
    let mut rows = Vec::new();
    for step in 1..=6_u32 {
        let (epoch, loss) = (step.div_ceil(3), 9.0 - f64::from(step));
        rows.push(json!({ "event": "step", "step": step, "epoch": epoch, "loss": loss, "lr": 1e-4,
                          "losses": { "loss_ce": loss / 2.0 } }));
        if step % 3 == 0 {
            let ap = aps[usize::from(step == 6)];
            rows.push(json!({ "event": "validated", "step": step, "epoch": epoch, "best": true,
                              "metrics": metrics(ap) }));
        }
    }
    rows.iter().map(|row| row.to_string() + "\n").collect()
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// Makes a folder with the runs `a` and `deep/b`, which differ in learning rate and AP.
pub(crate) fn two_runs() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, lr, aps) in [("a", 1e-4, [0.5, 0.25]), ("deep/b", 2e-4, [0.125, 0.75])] {
        let run = folder.path().join(name);
        let config = format!("[model]\narch = \"detr-r50\"\n[train]\nepochs = 2\nlr = {lr}\n");
        write(&run, "config.toml", &config);
        write(&run, "environment.json", "{ \"device\": \"flex\" }");
        write(&run, "metrics.jsonl", &lines(aps));
        let best = aps[0].max(aps[1]);
        let status = json!({ "state": "finished", "step": 6, "steps": 6, "epoch": 2, "epochs": 2,
                             "loss": 3.0, "ap": aps[1], "seconds": 75.0, "model": "detr-r50",
                             "best": { "ap": best, "step": 3, "epoch": 1 }, "config": "c.toml" });
        write(&run, "status.json", &status.to_string());
    }
    folder
}

fn list(folder: &TempDir) -> Value {
    detr(["runs", "list", ".", "--json"]).inside(folder.path()).run().expect(0).json()
}

/// Returns the words of the line that begins with `name`.
#[track_caller]
fn words<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).split_whitespace().collect()
}

#[test]
fn runs_are_listed_at_any_depth_for_people_and_programs() {
    let folder = two_runs();
    let outcome = detr(["runs", "list", "."]).inside(folder.path()).run().expect(0);
    assert_eq!(outcome.stderr, "");
    let list = list(&folder);
    assert_eq!((&list[1]["run"], &list[1]["best_ap"]), (&json!("deep/b"), &json!(0.75)));
    assert_eq!((&list[0]["last_ap"], &list[0]["problems"]), (&json!(0.25), &json!([])));
    // A run itself, and a folder without any.
    let one = detr(["runs", "list", "a", "--json"]).inside(folder.path()).run().expect(0).json();
    assert_eq!(one.as_array().unwrap().len(), 1);
    let empty = tempfile::tempdir().unwrap();
    let none = detr(["runs", "list", "."]).inside(empty.path()).run().expect(0);
    assert!(none.stdout.starts_with("run") && none.stderr.contains("no runs in ."));
    let missing = detr(["runs", "list"]).inside(empty.path()).run().expect(3);
    assert!(missing.stderr.contains("hint: "), "{}", missing.stderr);
}

#[test]
fn a_run_is_shown_with_settings_numbers_checkpoints_and_files() {
    let folder = two_runs();
    let run = folder.path().join("a");
    // The manifest of a file of three bytes, "abc".
    let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let files = json!([{ "name": "model", "bytes": 3, "sha256": hash }]);
    for (step, content) in [(3, "abc"), (4, "ab"), (5, "xyz")] {
        let checkpoint = run.join(format!("checkpoints/step-{step}"));
        write(&checkpoint, "model", content);
        let manifest = json!({ "version": 1, "step": step, "files": files });
        write(&checkpoint, "MANIFEST.json", &manifest.to_string());
    }
    write(&run, "checkpoints/step-6/model", "abc");
    write(&run, "checkpoints/best", "step-3\n");

    let shown = detr(["runs", "show", "a"]).inside(folder.path()).run().expect(0).stdout;
    assert_eq!(words(&shown, "train.lr"), ["train.lr", "=", "0.0001"]);
    assert_eq!(words(&shown, "best")[..4], ["best", "1", "3", "0.500"]);
    assert_eq!(words(&shown, "last")[..4], ["last", "2", "6", "0.250"]);
    assert_eq!(words(&shown, "step-3")[3..], ["best", "whole"]);
    assert!(words(&shown, "step-4").ends_with(&["2", "bytes", "instead", "of", "3"]));
    assert_eq!(words(&shown, "step-5")[3..], ["whole"]);
    assert!(words(&shown, "step-6").contains(&"MANIFEST.json"));
    assert_eq!(words(&shown, "checkpoints/")[0], "checkpoints/");

    let args = ["runs", "show", "a", "--json", "--verify"];
    let shown = detr(args).inside(folder.path()).run().expect(0).json();
    let problems = shown["checkpoints"].as_array().unwrap();
    let problems: Vec<bool> = problems.iter().map(|one| one["problem"].is_string()).collect();
    assert_eq!(problems, [false, true, true, true]);
    assert_eq!(shown["settings"]["train"]["epochs"], 2);
    assert_eq!(shown["best"]["metrics"]["ap"], 0.5);
    assert_eq!(shown["environment"]["device"], "flex");
}

#[test]
fn what_is_no_run_is_refused() {
    let folder = two_runs();
    for args in [&["show", "."][..], &["show", "nowhere"], &["compare", "a", "deep"]] {
        let run = detr(["runs"]).args(args).inside(folder.path());
        let error = run.run().expect(3).stderr;
        assert!(error.contains("hint: `detr runs list DIR`"), "{error}");
    }
    detr(["runs", "compare", "a"]).inside(folder.path()).run().expect(2);
}

#[test]
fn runs_are_compared_by_settings_and_numbers() {
    let folder = two_runs();
    let compare = |more: &[&str]| {
        let run = detr(["runs", "compare", "a", "deep/b"]).args(more).inside(folder.path());
        run.run().expect(0)
    };
    let json = compare(&["--json", "--svg", "out/curves.svg"]).json();
    assert_eq!(json["settings"], json!({ "train.lr": ["0.0001", "0.0002"] }));
    assert_eq!(json["runs"][0]["best"]["metrics"]["ap"], 0.5);
    let svg = fs::read_to_string(folder.path().join("out/curves.svg")).unwrap();
    assert_eq!(svg.matches("<polyline").count(), 4);
}

#[test]
fn broken_folders_are_listed_with_what_is_wrong() {
    let folder = two_runs();
    let (a, b) = (folder.path().join("a"), folder.path().join("deep/b"));
    // The first run was killed in the middle of a line, and the rest of its files is damaged in
    // other ways.
    write(&a, "metrics.jsonl", &(lines([0.5, 0.25]) + "{\"event\":\"step\",\"st"));
    fs::remove_file(a.join("status.json")).unwrap();
    write(&b, "status.json", "{ \"state\": \"run");
    write(&b, "config.toml", "[train\n");
    fs::remove_file(b.join("metrics.jsonl")).unwrap();
    fs::create_dir_all(folder.path().join("empty/checkpoints")).unwrap();
    write(folder.path(), "odd/metrics.jsonl", "\u{1b}[2J\nnull\n[]\n{\"step\": 1e99}\n");

    let list = list(&folder);
    let runs = list.as_array().unwrap();
    assert_eq!(runs.len(), 4);
    let problems = |run: usize| runs[run]["problems"].to_string();
    assert!(runs.iter().all(|run| run["state"] == "unknown"));
    // The metrics state what the status lacks.
    assert_eq!((&runs[0]["step"], &runs[0]["best_ap"]), (&json!(6), &json!(0.5)));
    assert_eq!((&runs[0]["epochs"], &runs[0]["model"]), (&json!(2), &json!("detr-r50")));
    for missing in ["status.json is missing", "metrics.jsonl has a line that cannot be read"] {
        assert!(problems(0).contains(missing), "{}", problems(0));
    }
    for missing in ["status.json cannot be read", "config.toml cannot", "metrics.jsonl is missing"]
    {
        assert!(problems(1).contains(missing), "{}", problems(1));
    }
    for name in ["a", "deep/b", "empty", "odd"] {
        for args in [&["show", name][..], &["show", name, "--json"], &["compare", name, "a"]] {
            detr(["runs"]).args(args).inside(folder.path()).run().expect(0);
        }
    }
    let text = detr(["runs", "list", "."]).inside(folder.path()).run().expect(0);
    assert!(text.stderr.contains("a: status.json is missing"), "{}", text.stderr);
}

/// A number that no process can have: Linux gives at most 2^22.
#[cfg(target_os = "linux")]
#[test]
fn a_run_whose_process_is_gone_has_died() {
    let folder = two_runs();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let status = |host: &str| {
        json!({ "state": "running", "pid": 4_200_000, "host": host, "updated_unix": 0.0 })
            .to_string()
    };
    write(&folder.path().join("a"), "status.json", &status(host.trim()));
    write(&folder.path().join("deep/b"), "status.json", &status("another"));
    let list = list(&folder);
    assert_eq!((&list[0]["state"], &list[1]["state"]), (&json!("died"), &json!("silent")));
}
