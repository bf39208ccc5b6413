//! Parity with the reference implementations: every `GROUP/CASE.json` below `DETR_GOLDEN_DIR`
//! (default `tests/golden`) is a test per backend. A new case of a known group needs no code; a
//! case of a group without a runner is reported as unhandled.
//!
//! `cargo test --release -p detr-tests --test golden -- [FILTER]`; test names are
//! `BACKEND::GROUP::CASE`. On backends other than flex only the cases that say `"quick": true` run unless
//! `DETR_GOLDEN_ALL=1`. No runner knows a case by its name: whatever tensors a case has are compared, and one
//! that no runner asks for is a failure. Tolerances are those of the case, for f32 on the CPU, times a factor that
//! [`backends`] documents per backend.

#![allow(
    unreachable_pub, // modules of one test program
    clippy::cast_precision_loss, // numbers of the cases are small
    clippy::match_bool,
    clippy::print_stderr // DETR_GOLDEN_VERBOSE
)]

mod backbone;
mod backends;
mod boxes;
mod case;
mod checkpoints;
mod deformable;
mod detr;
mod kinks;
mod losses;
mod msda;
mod polygons;
mod position;
mod postprocess;
mod recipe;
mod segm;
mod train;
mod transforms;

use std::path::{Path, PathBuf};

use detr_types::env;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use backends::Bench;
use case::{Case, Failures};

/// A runner takes the case and the backend, and returns the differences.
type Runner = fn(&Case, &Bench) -> Failures;

/// Group, whether its numbers depend on the backend, and runner.
const GROUPS: [(&str, bool, Runner); 13] = [
    ("00_recipe", false, recipe::run),
    ("01_msda", true, msda::run),
    ("02_position", true, position::run),
    ("03_backbone", true, backbone::run),
    ("04_detr", true, detr::run),
    ("05_deformable", true, deformable::run),
    ("06_segm", true, segm::run),
    ("07_losses", true, losses::run),
    ("08_train", true, train::run),
    ("09_postprocess", false, postprocess::run),
    ("10_boxes", true, boxes::run),
    ("11_transforms", false, transforms::run),
    ("13_checkpoints", true, checkpoints::run),
];

/// Groups that a crate tests by itself: COCO's metrics in `detr-eval`.
const ELSEWHERE: [&str; 1] = ["12_coco"];

fn main() {
    let arguments = Arguments::from_args();
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let given = std::env::var_os(env::DETR_GOLDEN_DIR).map(PathBuf::from);
    let folder = given.clone().unwrap_or(default);
    let all = env::is_on(env::DETR_GOLDEN_ALL);

    let (benches, skipped) = backends::available();
    let mut trials = Vec::new();
    let cases = case::discover(&folder);
    if cases.is_empty() {
        let message = format!("{}: no golden case here", folder.display());
        trials.push(Trial::test("golden::found", move || Err(message.into())));
    }
    for path in cases {
        let (group, name) = case::names(&path);
        if ELSEWHERE.contains(&group.as_str()) {
            if given.is_some() {
                let title = format!("elsewhere::{group}::{name}");
                let reason = "run by `cargo test -p detr-eval`, from the project's own folder";
                let trial = move || Ok(Completion::ignored_with(reason));
                trials.push(Trial::ignorable_test(title, trial));
            }
            continue;
        }
        // In the project's own folder every case must have a runner.
        let own = given.is_none();
        let Some(&(_, on_device, runner)) = GROUPS.iter().find(|(known, ..)| *known == group)
        else {
            let title = format!("unhandled::{group}::{name}");
            trials.push(Trial::ignorable_test(title, move || unhandled(own)));
            continue;
        };
        let quick = on_device && !all && case::is_quick(&path);
        for (index, bench) in benches.iter().enumerate() {
            if index > 0 && (!on_device || !(all || quick)) {
                continue;
            }
            let (bench, path) = (bench.clone(), path.clone());
            let title = format!("{}::{group}::{name}", bench.name);
            trials.push(Trial::ignorable_test(title, move || {
                let case = Case::load(&path)?;
                let failures = runner(&case, &bench);
                if failures.unhandled {
                    return unhandled(own);
                }
                failures.into_result(&case)?;
                Ok(Completion::Completed)
            }));
        }
    }
    trials.extend(benches.first().map(|bench| under_another_name(&folder, bench.clone())));
    trials.extend(benches.first().and_then(|bench| wrong_gradient(&folder, bench.clone())));
    for (backend, reason, must_run) in skipped {
        trials.push(Trial::ignorable_test(format!("{backend}::skipped"), move || match must_run {
            true => Err(reason.into()),
            false => Ok(Completion::ignored_with(reason)),
        }));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// Groups whose cases take no time.
const FAST: [&str; 5] = ["00_recipe", "07_losses", "09_postprocess", "10_boxes", "11_transforms"];

/// Cases are handled by what they hold: under another name they pass as well.
fn under_another_name(folder: &Path, bench: Bench) -> Trial {
    let fast = |path: &PathBuf| FAST.contains(&case::names(path).0.as_str());
    let cases: Vec<PathBuf> = case::discover(folder).into_iter().filter(fast).collect();
    Trial::test("names::no_runner_goes_by_the_name_of_a_case", move || {
        for path in &cases {
            let (group, name) = case::names(path);
            let runner = GROUPS.iter().find(|(known, ..)| *known == group).map(|group| group.2);
            let mut case = Case::load(path)?;
            "another".clone_into(&mut case.name);
            let failures = runner.expect("a runner")(&case, &bench);
            if failures.unhandled {
                return Err(format!("{group}::{name} is unhandled under another name").into());
            }
            failures.into_result(&case)?;
        }
        Ok(())
    })
}

/// The search for units at their kink does not make a wrong gradient pass, not even in the backbone, whose gradients
/// such units change the most.
fn wrong_gradient(folder: &Path, bench: Bench) -> Option<Trial> {
    let of_training = |path: &PathBuf| case::names(path).0 == "08_train";
    let path = case::discover(folder).into_iter().rfind(of_training)?;
    let name = "training::a_wrong_gradient_is_not_put_down_to_a_kink";
    Some(Trial::test(name, move || {
        let mut case = Case::load(&path)?;
        train::spoil(&mut case);
        let result = train::run(&case, &bench).into_result(&case);
        match result.err().and_then(|error| error.message().map(str::to_owned)) {
            Some(message) if message.contains("grad0") && message.contains("no unit") => Ok(()),
            other => Err(format!("the outcome is {other:?}").into()),
        }
    }))
}

/// Completes a case without a runner: as a failure if one is expected, else as a report.
fn unhandled(own: bool) -> Result<Completion, Failed> {
    if own {
        return Err("unhandled: no runner for this case".into());
    }
    Ok(Completion::ignored_with("unhandled: no runner for this case"))
}
