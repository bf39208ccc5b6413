//! The crate `detr` as other programs use it: a package outside of this workspace.

use crate::support::{cargo, profile_flags, root, target};

/// Only what the README shows to users, in a thread.
const MAIN: &str = r#"
use std::sync::Arc;

use detr::{Backend, Checkpoint, Detection, ModelConfig, PredictOptions, Precision, Predictor, RgbImage};

mod tracking;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|argument| argument == "--track") {
        tracking::count_steps();
        return Ok(());
    }
    let selected = detr::backend::select(Backend::Auto, 0, Precision::F32)?;
    let checkpoint = match std::env::args().nth(1) {
        Some(path) => Checkpoint::open(path.as_ref(), None)?,
        None => Checkpoint::recipe(&ModelConfig::preset("detr-r18")?, 0, &selected.device),
    };
    let options = PredictOptions { threshold: 0.5, ..PredictOptions::default() };
    let predictor = Predictor::new(&checkpoint, &selected, Precision::F32)?.with_options(options)?;
    let predictor = Arc::new(predictor);
    let shared = Arc::clone(&predictor);
    let thread = std::thread::spawn(move || shared.predict(&RgbImage::new(64, 48)));
    let detections: Vec<Detection> = thread.join().map_err(|_| "the thread died")??;
    for detection in detections {
        println!("{} {} {:?}", detection.name, detection.score, detection.bbox);
    }
    Ok(())
}
"#;

/// A tracker of another tool, as one file: a sink that counts, through the public trait alone.
const TRACKING: &str = r#"
use std::cell::RefCell;
use std::rc::Rc;

use detr::track::{
    Delivery, Event, RunContext, RunEnd, RunInfo, Sink, SinkResult, StepRecord, Tracker,
};

#[derive(Default)]
struct Counts {
    runs: Vec<String>,
    steps: u64,
    losses: Vec<(u64, f64)>,
    checkpoints: usize,
    ends: Vec<RunEnd>,
}

struct CountingSink(Rc<RefCell<Counts>>);

impl Sink for CountingSink {
    fn begin(&mut self, run: &RunContext) -> SinkResult {
        let learning_rate = &run.info().settings["train.lr"];
        self.0.borrow_mut().runs.push(format!("{} {learning_rate}", run.info().name));
        Ok(Delivery::Written)
    }

    fn step(&mut self, step: &StepRecord, run: &RunContext) -> SinkResult {
        let mut counts = self.0.borrow_mut();
        counts.steps += 1;
        if run.is_logged(step.step) {
            counts.losses.push((step.step, step.loss));
        }
        Ok(Delivery::Written)
    }

    fn event(&mut self, event: &Event, _: &RunContext) -> SinkResult {
        if let Event::Saved { .. } = event {
            self.0.borrow_mut().checkpoints += 1;
        }
        Ok(Delivery::Written)
    }

    fn finish(&mut self, end: &RunEnd, _: &RunContext) -> SinkResult {
        self.0.borrow_mut().ends.push(end.clone());
        Ok(Delivery::Written)
    }
}

pub fn count_steps() {
    let counts = Rc::new(RefCell::new(Counts::default()));
    let info = RunInfo {
        name: "toy".to_owned(),
        folder: "runs/toy".into(),
        steps: 5,
        epochs: 1,
        log_every: 2,
        settings: [("train.lr".to_owned(), "0.0001".to_owned())].into(),
        ..RunInfo::default()
    };
    let mut tracker = Tracker::new(info, vec![Box::new(CountingSink(Rc::clone(&counts)))]);
    for (step, loss) in [(1, 5.0), (2, 4.0), (3, 3.0), (4, 2.0), (5, 1.0)] {
        tracker.step(&StepRecord { step, epoch: 1, loss, ..StepRecord::default() });
    }
    tracker.event(&Event::Saved { path: "runs/toy/checkpoints/step-5".into() });
    tracker.finish(&RunEnd::Finished);
    let counts = counts.borrow();
    assert_eq!(counts.runs, ["toy 0.0001"]);
    assert_eq!(counts.steps, 5);
    assert_eq!(counts.losses, [(2, 4.0), (4, 2.0), (5, 1.0)]);
    assert_eq!(counts.checkpoints, 1);
    assert_eq!(counts.ends, [RunEnd::Finished]);
}
"#;

#[test]
fn an_outside_crate_builds_against_the_facade_and_tracks_runs_its_own_way() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let facade = root().join("crates/detr");
    // The settings of this workspace, so that what it has built already is not built again.
    let workspace = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let profiles = workspace.find("[profile.").map_or("", |at| &workspace[at..]);
    let profiles = profiles
        .split("\n\n")
        // A profile for a package that is a member here, and a path over there.
        .filter(|part| !part.contains("package.detr"))
        .collect::<Vec<_>>()
        .join("\n\n");
    let manifest = format!(
        "[package]\nname = \"outside\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n\n\
         [dependencies]\ndetr = {{ path = {facade:?} }}\n\n\
         {profiles}"
    );
    std::fs::create_dir(at("src")).unwrap();
    std::fs::write(at("Cargo.toml"), manifest).unwrap();
    std::fs::write(at("src/main.rs"), MAIN).unwrap();
    std::fs::write(at("src/tracking.rs"), TRACKING).unwrap();
    std::fs::copy(root().join("Cargo.lock"), at("Cargo.lock")).unwrap();
    // Default features and the target folder of this test: every dependency is compiled already.
    let mut build = cargo();
    build.args(["build", "--quiet", "--offline", "--manifest-path"]).arg(at("Cargo.toml"));
    build.arg("--target-dir").arg(target().0).args(profile_flags());
    let output = build.output().expect("cargo starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let program = target().1.join(format!("outside{}", std::env::consts::EXE_SUFFIX));
    let mut run = std::process::Command::new(program);
    let output = run.arg("--track").current_dir(folder.path()).output().expect("it was built");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
