//! Flags: every number out of its range, names that do not exist, and outputs that cannot be.

use crate::support::{detr, detr_bench, detr_infer, golden, names_in};

use super::{check_refused, folder, with_model};

/// Arguments after `detr-infer good.png --model ... QUICK`, the exit code, and a part of the message.
pub(super) const REFUSED: [(&[&str], i32, &str); 69] = [
    (&["--threshold", "nan"], 2, "from 0 to 1"),
    (&["--threshold", "inf"], 2, "from 0 to 1"),
    (&["--threshold=-0.1"], 2, "from 0 to 1"),
    (&["--threshold", "1.1"], 2, "from 0 to 1"),
    (&["--threshold", "1e400"], 2, "from 0 to 1"),
    (&["--threshold", "high"], 2, "from 0 to 1"),
    (&["--max-detections=-1"], 2, "--max-detections"),
    (&["--max-detections", "nan"], 2, "--max-detections"),
    (&["--max-detections", "inf"], 2, "--max-detections"),
    (&["--max-detections", "18446744073709551616"], 2, "--max-detections"),
    (&["--batch-size", "0"], 2, "--batch-size"),
    (&["--batch-size=-1"], 2, "--batch-size"),
    (&["--batch-size", "1025"], 2, "--batch-size"),
    (&["--batch-size", "nan"], 2, "--batch-size"),
    (&["--batch-size", "inf"], 2, "--batch-size"),
    (&["--batch-size", "1.5"], 2, "--batch-size"),
    (&["--size", "0"], 2, "--size"),
    (&["--size=-1"], 2, "--size"),
    (&["--size", "nan"], 2, "--size"),
    (&["--size", "inf"], 2, "--size"),
    (&["--size", "16385"], 2, "--size"),
    (&["--size", "99999999999999999999"], 2, "--size"),
    (&["--size", "500"], 2, "larger than --max-size"),
    (&["--max-size", "0"], 2, "--max-size"),
    (&["--max-size=-1"], 2, "--max-size"),
    (&["--max-size", "nan"], 2, "--max-size"),
    (&["--max-size", "inf"], 2, "--max-size"),
    (&["--max-size", "16385"], 2, "--max-size"),
    (&["--max-size", "10"], 2, "larger than --max-size"),
    (&["--max-pixels", "0"], 2, "--max-pixels"),
    (&["--max-pixels=-1"], 2, "--max-pixels"),
    (&["--max-pixels", "nan"], 2, "--max-pixels"),
    (&["--max-pixels", "inf"], 2, "--max-pixels"),
    (&["--max-pixels", "18446744073709551616"], 2, "--max-pixels"),
    (&["--max-pixels", "1"], 1, "more than the limit of 1"),
    (&["--device=-1"], 2, "--device"),
    (&["--device", "nan"], 2, "--device"),
    (&["--device", "inf"], 2, "--device"),
    (&["--device", "99"], 4, "no device 99"),
    (&["--device", "18446744073709551615"], 4, "no device"),
    (&["--backend", "auto", "--device", "99"], 4, "no device 99"),
    (&["--backend", "tpu"], 2, "--backend"),
    (&["--dtype", "f8"], 2, "--dtype"),
    (&["--json", "--jsonl"], 2, "--jsonl"),
    (&["--quiet", "--verbose"], 2, "--verbose"),
    (&["--format", "coco"], 2, "--output"),
    (&["--output", "x.json"], 2, "--format"),
    (&["--format", "voc", "--output", "x"], 2, "voc"),
    (&["--format", "coco", "--output", "sub"], 2, "it is a folder"),
    (&["--format", "csv", "--output", "sub"], 2, "it is a folder"),
    (&["--format", "csv", "--output", "./good.png"], 2, "would replace the image itself"),
    (&["--format", "kitti", "--output", "file"], 2, "it is a file"),
    (&["--format", "yolo", "--output", "file"], 2, "it is a file"),
    (&["--format", "coco", "--output", "file/x.json"], 1, "cannot write file/x.json"),
    (&["--format", "kitti", "--output", "file/x"], 1, "cannot write file/x"),
    (&["--save", "file"], 2, "it is not a folder"),
    (&["--save", "file/x"], 1, "cannot write file/x"),
    (&["--color", "person"], 2, "person"),
    (&["--color", "person=mauvish"], 2, "mauvish"),
    (&["--color", "person=#12345"], 2, "#12345"),
    (&["--color", "persn=red", "--save", "new"], 2, "no class `persn`"),
    (&["--color", "person=red"], 2, "--save"),
    (&["--classes", "persn"], 2, "did you mean `person`?"),
    (&["--classes", ""], 2, "no class ``"),
    (&["--arch", "detr-r51"], 2, "the presets are"),
    (&["--arch", "file"], 2, "file"),
    (&["--arch", "sub"], 2, "no preset"),
    (&["--no-such-flag"], 2, "--no-such-flag"),
    (&["--thresold", "0.5"], 2, "--threshold"),
];

/// Extremes that are fine.
pub(super) const ACCEPTED: [&[&str]; 10] = [
    &["--threshold", "0"],
    &["--threshold", "1"],
    &["--max-detections", "0"],
    &["--max-detections", "18446744073709551615"],
    &["--batch-size", "1024"],
    &["--size", "1"],
    &["--size", "1", "--max-size", "1"],
    &["--max-pixels", "18446744073709551615"],
    &["--classes", "person,car", "--classes", "dog"],
    &["--format", "csv", "--output", "new/folders/o.csv"],
];

/// Models that do not exist, and names that must reach neither disk nor network.
const MODELS: [(&str, i32, &str); 21] = [
    ("missing.pth", 3, "no such file or folder"),
    ("good.pn", 3, "did you mean `good.png`?"),
    ("detr-r50", 3, "did you mean `recipe:detr-r50`?"),
    ("", 3, "no model ``"),
    ("../../x", 3, "it contains `..`"),
    ("..", 3, "neither model.json nor config.json"),
    ("a/../b", 3, "it contains `..`"),
    ("a%2e%2e/b", 3, "only letters"),
    ("%252e%252e/b", 3, "only letters"),
    ("..%2f..%2fx", 3, "it contains `..`"),
    ("a\\b", 3, "only letters"),
    ("a/b/c", 3, "more than one `/`"),
    ("a/b@../c", 3, "it contains `..`"),
    ("https://example.org/a", 3, "only letters"),
    ("a/b\n", 3, "only letters"),
    ("-a/b", 2, "-a"),
    ("recipe:", 2, "the presets are"),
    ("recipe:detr-r51", 2, "the presets are"),
    ("recipe:detr-r18@-1", 2, "seed `-1`"),
    ("recipe:detr-r18@nan", 2, "seed `nan`"),
    ("recipe:detr-r18@99999999999999999999", 2, "seed"),
];

fn run(args: &[&str], folder: &std::path::Path) -> crate::support::Outcome {
    // A flag that is given again replaces the one before.
    let base = [("--size", "64"), ("--max-size", "96"), ("--backend", "flex")];
    let unused = base.iter().filter(|(name, _)| !args.iter().any(|arg| arg.starts_with(name)));
    let base: Vec<&str> = unused.flat_map(|(name, value)| [*name, *value]).collect();
    let run = detr_infer(["good.png", "--model"]).arg(golden("detr_tiny_zip.pth"));
    run.args(base).args(args).inside(folder).run()
}

#[test]
fn flags_that_cannot_be_are_refused() {
    let folder = folder();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    std::fs::write(folder.path().join("file"), "not = a model").unwrap();
    for (args, code, message) in REFUSED {
        let outcome = run(args, folder.path());
        check_refused(&args.join(" "), folder.path(), &outcome, code, message);
        assert_eq!(names_in(folder.path()), ["file", "good.png", "sub"], "{args:?}");
        assert_eq!(names_in(&folder.path().join("sub")), [""; 0], "{args:?}");
    }
}

#[test]
fn extreme_flags_that_can_be_are_accepted() {
    let folder = folder();
    for args in ACCEPTED {
        let outcome = run(args, folder.path());
        assert_eq!(outcome.code, 0, "{args:?}: {}", outcome.stderr);
        assert_eq!(outcome.stdout.lines().count(), 1, "{args:?}");
    }
    assert!(folder.path().join("new/folders/o.csv").is_file());
}

#[test]
fn names_that_are_no_models_are_refused() {
    let folder = folder();
    for (name, code, message) in MODELS {
        // Should a name get that far, nothing answers there.
        let run = with_model(folder.path(), name).env("HF_ENDPOINT", "http://127.0.0.1:9");
        let outcome = run.run();
        check_refused(name, folder.path(), &outcome, code, message);
        if code == 3 {
            assert!(outcome.ends_with_hint(), "{name}: {}", outcome.stderr);
            let outcome = detr(["models", "pull", name]).env("HF_ENDPOINT", "http://127.0.0.1:9");
            assert_ne!(outcome.run().code, 0, "{name}");
        }
    }
    assert!(names_in(folder.path()).iter().all(|name| name == "good.png" || name == "drawn"));
}

#[test]
fn addresses_of_hubs_are_checked() {
    let folder = folder();
    for (address, message) in [
        ("ftp://127.0.0.1", "no usable hub address"),
        ("nonsense", "no usable hub address"),
        ("http://user:secret@127.0.0.1:9", "no usable hub address"),
        ("http://127.0.0.1:9", "127.0.0.1:9"),
    ] {
        let run = with_model(folder.path(), "a/b").env("HF_ENDPOINT", address);
        let outcome = run.run();
        check_refused(address, folder.path(), &outcome, 3, message);
        assert!(outcome.ends_with_hint(), "{}", outcome.stderr);
        assert!(!outcome.stderr.contains("secret"), "{}", outcome.stderr);
    }
}

#[test]
fn the_larger_program_refuses_too() {
    let model = golden("detr_tiny_zip.pth").display().to_string();
    let bench = ["infer", "--backend", "flex", "--model", &model];
    for (args, code) in [
        (&[][..], 2),
        (&["predict"], 2),
        (&["fly"], 2),
        (&["models"], 2),
        (&["models", "inspect", "missing.pth"], 3),
        (&["models", "convert", "missing.pth", "out"], 3),
        (&["models", "convert", &model], 2),
        (&["models", "convert", &model, &model], 2),
        (&["models", "convert", &model, "out", "--class-names", "missing.txt"], 2),
        (&["models", "pull", "detr-r50"], 3),
    ] {
        let outcome = detr(args).run();
        assert_eq!(outcome.code, code, "{args:?}: {}", outcome.stderr);
    }
    for (args, code) in [
        (&[][..], 2),
        (&["msda", "--backend", "flex", "--only", "nothing"], 2),
        (&["match", "--only", "nothing"], 2),
        (&["train", "--objects", "many"], 2),
        (&["train", "--model", "missing.pth"], 3),
        (&["train", "--model", "recipe:detr-demo", "--peer"], 2),
        (&["all", "--only", "nothing"], 2),
        (&["growth", "--model", "nothing"], 2),
        (&["compare", "missing.json", "missing.json"], 2),
    ] {
        let outcome = detr_bench(args).run();
        assert_eq!(outcome.code, code, "{args:?}: {}", outcome.stderr);
    }
    for args in [
        ["--size", "0x0"],
        ["--size", "nanx1"],
        ["--size", "99999x99999"],
        ["--batch-size", "0"],
        ["--runs", "0"],
        ["--runs", "nan"],
    ] {
        let outcome = detr_bench(bench).args(args).run();
        assert_eq!(outcome.code, 2, "{args:?}: {}", outcome.stderr);
    }
}

/// Root may write anywhere, so there the test shows nothing.
#[cfg(unix)]
#[test]
fn a_folder_that_may_not_be_written_is_an_error() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o555)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_ok() {
        return;
    }
    for args in [
        ["--format", "csv", "--output", "locked/o.csv"],
        ["--format", "kitti", "--output", "locked/new"],
    ] {
        let outcome = run(&args, folder.path());
        check_refused(args[1], folder.path(), &outcome, 1, "cannot write locked/");
    }
}
