//! Settings that cannot be used, from the command line: exit code 2 before anything is made.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{Outcome, detr};

const GOOD: &str = "\
[model]
arch = \"deformable-detr-tiny\"
[data]
train = { sources = [{ path = \"shapes\", split = \"train\" }] }
[train]
epochs = 2
lr = 1e-4
";

/// Writes settings under a name that is hard to handle.
fn with(text: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("set tings")).unwrap();
    std::fs::write(folder.path().join("set tings/größe 1.toml"), text).unwrap();
    folder
}

fn train(folder: &Path, flags: &[&str]) -> Outcome {
    let args = ["train", "--config", "set tings/größe 1.toml", "--output", "run"];
    detr(args).args(["--backend", "flex"]).args(flags).inside(folder).run()
}

fn check(text: &str, flags: &[&str], code: i32, parts: &[&str]) {
    let folder = with(text);
    let outcome = train(folder.path(), flags).expect(code);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{}\nexpected {part}", outcome.stderr);
    }
    assert!(outcome.stderr.lines().last().unwrap().starts_with("hint: "), "{}", outcome.stderr);
    assert_eq!(outcome.stdout, "");
    assert!(!folder.path().join("run").exists(), "a folder was left behind");
}

#[test]
fn mistakes_in_the_file_name_file_line_and_key() {
    for (from, to, message) in [
        ("lr = 1e-4", "lrr = 1e-4", ":7:1: unknown key `train.lrr`; did you mean `train.lr`?"),
        ("lr = 1e-4", "lr = \"fast\"", ":7:6: train.lr is \"fast\", expected a number"),
        ("lr = 1e-4", "lr = nan", ":7:6: train.lr is NaN"),
        ("lr = 1e-4", "lr = inf", ":7:6: train.lr is inf"),
        ("lr = 1e-4", "lr = -1e-4", ":7:6: train.lr is -0.0001"),
        ("lr = 1e-4", "schedule = { course = { kind = \"step\", every = 200 } }", ":7:48:"),
        ("epochs = 2", "epochs = 0", ":6:10: train.epochs is 0"),
        ("\"deformable-detr-tiny\"", "\"\"", ":2:8: model.arch is empty"),
        ("[train]", "[train]\naccumulate = 0", ":6:14: train.accumulate is 0"),
        ("[train]", "loader = { batch_size = 0 }\n[train]", "data.loader.batch_size is 0"),
        ("[train]", "[train", ":5:"),
    ] {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from}");
        let place = format!("error: set tings/größe 1.toml{message}");
        let named = if message.starts_with(':') { place.as_str() } else { message };
        check(&text, &[], 2, &[named]);
        // The same on Windows.
        check(&format!("\u{feff}{}", text.replace('\n', "\r\n")), &[], 2, &[named]);
    }
}

#[test]
fn mistakes_in_flags_name_the_flag() {
    for (flag, message) in [
        ("train.lrr=1", "unknown key `train.lrr`; did you mean `train.lr`?"),
        ("train.lr=fast", "train.lr is \"fast\", expected a number"),
        ("train.epochs=-1", "train.epochs is -1"),
        ("train.lr", "expected KEY=VALUE"),
        ("data.train.sources.3.path=x", "`data.train.sources` is a list of 1"),
    ] {
        check(GOOD, &["--set", flag], 2, &[&format!("error: --set {flag}: {message}")]);
    }
    check(GOOD, &["--overfit", "0"], 2, &["run.overfit is 0"]);
}

#[test]
fn weights_of_another_architecture_are_refused_before_a_run_begins() {
    let folder = with(GOOD);
    let shapes = ["data", "synth", "shapes", "--count", "4", "--size", "32x32", "--seed", "1"];
    detr(shapes).inside(&folder.path().join("set tings")).run().expect(0);
    let name = crate::support::golden("detr_tiny_zip.pth").display().to_string();
    let set = format!("model.init={name}");
    let outcome = train(folder.path(), &["--set", &set]).expect(3);
    for part in ["do not fit the model", "hint: the tensors look like a DETR"] {
        assert!(outcome.stderr.contains(part), "{}", outcome.stderr);
    }
    assert!(!folder.path().join("run").exists(), "a folder was left behind");
    let outcome = train(folder.path(), &["--set", "model.init=facebook/detr-resnet-50"]).expect(3);
    assert!(outcome.stderr.contains("hint: `detr models pull facebook/detr-resnet-50`"));
    assert!(!folder.path().join("run").exists(), "a folder was left behind");
}
