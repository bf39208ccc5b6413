//! The texts that people read, as files in `texts/`: help, tables and errors.
//!
//! A test fails if a text changes. `INSTA_UPDATE=always cargo test -p detr-tests --test behaviour --
//! snapshots` writes the files anew, and the difference is then reviewed like code.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::cli::two_runs;
use crate::support::{Outcome, Run, detr, detr_infer, golden, root};

/// Compares a text with the snapshot of this name.
#[track_caller]
fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("texts");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Returns the commands that a help text lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let list = list.take_while(|line| !line.is_empty());
    let names = list.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// Checks the help of a command and of all commands below it.
fn check_help(path: &[String]) {
    let help = detr(path).arg("--help").run().expect(0);
    assert_eq!(help.stderr, "");
    let name: Vec<&str> = std::iter::once("detr").chain(path.iter().map(String::as_str)).collect();
    check(&format!("help-{}", name.join("-")), &help.stdout);
    for command in commands(&help.stdout) {
        check_help(&[path, &[command]].concat());
    }
}

#[test]
fn help() {
    check("help-detr-infer", &detr_infer(["--help"]).run().expect(0).stdout);
    check_help(&[]);
}

/// Runs commands in a folder, and returns them with what they print and how they end.
fn transcript(folder: &Path, commands: &[&[&str]]) -> String {
    let mut text = String::new();
    for command in commands {
        let run: Run = match command[0] {
            "detr-infer" => detr_infer(&command[1..]),
            _ => detr(&command[1..]),
        };
        // Paths and the number of threads are those of this machine otherwise.
        let run = run.env("HF_HOME", folder.join("cache")).env("RAYON_NUM_THREADS", "2");
        let outcome = run.inside(folder).run();
        let (shown, code) = (command.join(" "), outcome.code);
        let Outcome { stdout, stderr, .. } = outcome;
        write!(text, "$ {shown}\n{stdout}{stderr}[{code}]\n\n").unwrap();
    }
    for (path, name) in [(root(), "ROOT"), (folder, "FOLDER")] {
        text = text.replace(&path.display().to_string(), name);
    }
    text
}

#[test]
fn tables() {
    let runs = two_runs();
    let commands: [&[&str]; 3] = [
        &["detr", "runs", "list", "."],
        &["detr", "runs", "show", "a"],
        &["detr", "runs", "compare", "a", "deep/b"],
    ];
    check("tables-runs", &transcript(runs.path(), &commands));

    let folder = tempfile::tempdir().unwrap();
    let synth = ["data", "synth", "shapes", "--count", "6", "--size", "48x64", "--seed", "3"];
    detr(synth).inside(folder.path()).run().expect(0);
    let broken = r#"{"images": [{"id": 1, "file_name": "missing.png", "width": 64, "height": 48}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 1, "bbox": [60, 10, 9, 9]},
                        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}],
        "categories": [{"id": 1, "name": "star"}]}"#;
    fs::write(folder.path().join("broken.json"), broken).unwrap();
    // The detections are perfect: the boxes of the data set with a score of 1.
    let truth = fs::read(folder.path().join("shapes/annotations/instances_train.json")).unwrap();
    let truth: serde_json::Value = serde_json::from_slice(&truth).unwrap();
    let mut results = truth["annotations"].clone();
    for result in results.as_array_mut().unwrap() {
        result["score"] = 1.into();
    }
    fs::write(folder.path().join("results.json"), results.to_string()).unwrap();
    let commands: [&[&str]; 5] = [
        &["detr", "data", "stats", "shapes"],
        &["detr", "data", "check", "shapes"],
        &["detr", "data", "check", "broken.json"],
        &["detr", "data", "check", "shapes", "--against", "broken.json"],
        &[
            "detr",
            "eval",
            "--results",
            "results.json",
            "--data",
            "shapes",
            "--per-class",
            "--confusion",
            "0.5",
        ],
    ];
    check("tables-data", &transcript(folder.path(), &commands));

    let model = root().join("assets/shapes").display().to_string();
    let commands: [&[&str]; 2] =
        [&["detr", "models", "list"], &["detr", "models", "inspect", &model]];
    check("tables-models", &transcript(folder.path(), &commands));
}

#[test]
fn errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("page.png", "<!DOCTYPE html><html></html>");
    file("cut.json", "{\"images\": [");
    file(
        "other.json",
        "{\"images\": [{\"id\": \"x\", \"file_name\": 5}], \"annotations\": [], \"categories\": []}",
    );
    file("weights.pth", "no weights");
    file("train.toml", "[model]\narch = \"detr-r50\"\n[train]\nepoch = 5\n");
    let tiny = golden("detr_tiny_zip.pth").display().to_string();
    let commands: [&[&str]; 16] = [
        &["detr-infer"],
        &["detr-infer", "nowhere.png"],
        &["detr-infer", "--thresold", "0.5", "page.png"],
        &["detr-infer", "--threshold", "2", "page.png"],
        &["detr-infer", "--backend", "flex", "--device", "9", "page.png"],
        &["detr-infer", "--backend", "flex", "--model", &tiny, "--size", "64", "page.png"],
        &["detr-infer", "--backend", "flex", "--model", &tiny, "--classes", "persn", "page.png"],
        &["detr-infer", "--model", "weights.pth", "page.png"],
        &["detr-infer", "--model", "nobody/nothing", "--offline", "page.png"],
        &["detr-infer", "--model", "recipe:detr-r51", "page.png"],
        &["detr", "data", "check", "nowhere"],
        &["detr", "data", "check", "cut.json"],
        &["detr", "data", "check", "other.json"],
        &["detr", "train", "--config", "train.toml", "--output", "run"],
        &["detr", "train", "--output", "run", "--resume"],
        &["detr", "runs", "show", "."],
    ];
    check("errors", &transcript(folder.path(), &commands));
}
