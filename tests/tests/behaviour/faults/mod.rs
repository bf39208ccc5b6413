//! Bad input of every kind through the real binaries: each case must end in the stated exit code
//! with a message that names what is wrong, without a panic (`support` sees to that), a hang, or a
//! file under a final name. The cases are rows of tables; `support` makes their bytes.

mod datasets;
mod flags;
mod folders;
mod images;
mod weights;

use std::path::Path;

use tempfile::TempDir;

use crate::support::images::{picture, png};
use crate::support::{Outcome, Run, detr_infer, folder_with, names_in};

#[test]
fn the_tables_hold_hundreds_of_cases() {
    let counts = [
        images::bad().len() + images::damaged().len() + images::odd().len(),
        weights::bad().len() + weights::good().len(),
        folders::hugging_face().len() + folders::artifacts().len(),
        flags::REFUSED.len() + flags::ACCEPTED.len(),
        datasets::count(),
    ];
    assert!(counts.iter().sum::<usize>() >= 300 && datasets::count() >= 140, "{counts:?}");
    assert!(counts.iter().all(|&count| count >= 10), "{counts:?}");
}

/// Makes a folder with one good picture.
fn folder() -> TempDir {
    folder_with([("good.png", png(picture(1, 60, 40)))])
}

/// Runs this model on the good picture and asks for an output file.
fn with_model(folder: &Path, model: impl AsRef<std::ffi::OsStr>) -> Run {
    let args = ["good.png", "--format", "csv", "--output", "o.csv", "--save", "drawn", "--model"];
    detr_infer(args).arg(model).quick().inside(folder)
}

/// Fails the test unless a run was refused with this code and message, and left nothing.
fn check_refused(what: &str, folder: &Path, outcome: &Outcome, code: i32, message: &str) {
    assert_eq!(outcome.code, code, "{what}: {}", outcome.stderr);
    assert!(outcome.stderr.contains(message), "{what}: no `{message}` in {}", outcome.stderr);
    assert!(outcome.stderr.contains("error: "), "{what}: {}", outcome.stderr);
    assert_eq!(outcome.stdout, "", "{what}");
    let made = names_in(folder);
    let left = made.iter().filter(|name| *name == "o.csv" || name.contains(".detr-")).count();
    assert_eq!(left, 0, "{what}: {made:?}");
    let drawn = folder.join("drawn");
    assert!(!drawn.exists() || names_in(&drawn).is_empty(), "{what}");
}
