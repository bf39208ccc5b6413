//! Data sets: broken text, records, boxes, outlines, paths and image files, in every format, through
//! `detr data check`.

mod coco;
mod files;
mod others;

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::images::{picture, png};
use crate::support::{Outcome, detr};

/// A data set, what `detr data check` makes of it, and what it says.
pub(super) struct Case {
    name: String,
    /// Files beside `a.png`, a good picture of 60 x 40 pixels.
    files: Vec<(&'static str, Vec<u8>)>,
    /// The path that is checked.
    path: &'static str,
    code: i32,
    message: &'static str,
}

/// Returns the number of data sets that are tried.
pub(super) fn count() -> usize {
    coco::cases().len() + others::cases().len() + files::cases().len()
}

/// Runs every case and collects what is wrong with any.
fn check_all(cases: &[Case]) {
    let mut wrong = Vec::new();
    for case in cases {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), png(picture(1, 60, 40))).unwrap();
        for (name, bytes) in &case.files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let outcome = look(folder.path(), case.path);
        let said = outcome.stdout.clone() + &outcome.stderr;
        if outcome.code != case.code || !said.contains(case.message) {
            let (name, code, message) = (&case.name, case.code, case.message);
            wrong
                .push(format!("{name}: expected {code} and `{message}`\n{}\n{said}", outcome.code));
        }
        let hint = said.contains("hint: ") || said.contains("nothing found");
        if outcome.code != 0 && !hint {
            wrong.push(format!("{}: no hint\n{said}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

fn look(folder: &Path, path: &str) -> Outcome {
    let outcome = detr(["data", "check", path]).inside(folder).run();
    if let Some(peak) = outcome.peak_bytes {
        assert!(peak < 512 << 20, "{path}: {peak} bytes at the peak");
    }
    outcome
}

/// Returns the kinds of problems that `detr data check --json` finds in the folder.
fn kinds(folder: &Path, path: &str) -> Vec<(String, u64)> {
    let report = detr(["data", "check", "--json", path]).inside(folder).run().json();
    let findings = report["findings"].as_array().unwrap().iter();
    let kind = |finding: &Value| {
        (finding["kind"].as_str().unwrap().to_owned(), finding["count"].as_u64().unwrap())
    };
    findings.map(kind).collect()
}
