//! Runs on data so small that they take seconds: generated pictures with settings, a folder for runs, and
//! what the runs left in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Run, Running, detr, detr_with_faults, root};

/// Steps in an epoch of [`Small::new`].
pub(super) const STEPS: usize = 12;

/// Longest wait for what a run does within seconds.
pub(super) const LONG: Duration = Duration::from_mins(3);

/// From scratch, with all that a run remembers: a schedule, an average, dropout, and a random transform.
const SCRATCH: &str = r#"
    [model]
    arch = "tiny.toml"
    num_queries = 10
    [data]
    train = { sources = [{ path = "shapes", split = "train" }] }
    val = { sources = [{ path = "shapes", split = "val" }] }
    preprocess = { shortest_edge = 64, longest_edge = 80 }
    [data.augmentation]
    transforms = [{ horizontal_flip = {} }]
    [data.loader]
    batch_size = 2
    workers = 1
    [train]
    epochs = 2
    seed = 1
    lr = 5e-4
    lr_backbone = 5e-4
    frozen = []
    ema = { decay = 0.9 }
    [train.schedule]
    per = "step"
    course = { kind = "multi-step", milestones = [8], gamma = 0.5 }
    warmup = { length = 4, start_factor = 0.2 }
"#;

/// The model in `assets/`, which hardly learns any more.
const SHIPPED: &str = r#"
    [model]
    arch = "deformable-detr-tiny"
    init = 'SHIPPED'
    [data]
    train = { sources = [{ path = "shapes", split = "train" }] }
    val = { sources = [{ path = "shapes", split = "train" }] }
    preprocess = { shortest_edge = 128, longest_edge = 160 }
    [data.augmentation]
    transforms = [{ random_resize = { short_sides = [128], max_size = 160 } }]
    [data.loader]
    batch_size = 4
    workers = 1
    [train]
    epochs = 4
    seed = 1
    lr = 1e-9
    lr_backbone = 1e-9
    frozen = []
    ema = { decay = 0.9 }
    [run]
    validate_every = 1
"#;

/// Small data with settings, and a folder for runs.
pub(super) struct Small(TempDir);

impl Small {
    /// 24 pictures for training and 4 for validation, 12 steps an epoch, from scratch.
    pub(super) fn new() -> Self {
        let small = Self(tempfile::tempdir().unwrap());
        let sizes = ["--size", "64x80", "--objects", "1-4", "--scale", "0.2-0.5"];
        for (count, seed, split) in [("24", "1", "train"), ("4", "2", "val")] {
            small.draw(&sizes, count, seed, split);
        }
        // The model has dropout, so that the random draws of a run count, too.
        let tiny =
            fs::read_to_string(root().join("configs/models/deformable-detr-tiny.toml")).unwrap();
        let dropout = tiny.replacen("dropout = 0.0", "dropout = 0.1", 1);
        assert_ne!(dropout, tiny);
        fs::write(small.path("tiny.toml"), dropout).unwrap();
        fs::write(small.path("small.toml"), SCRATCH).unwrap();
        small
    }

    /// Prepares the shipped model and eight pictures that it has not seen, for training and validation
    /// alike, two steps an epoch.
    pub(super) fn shipped() -> Self {
        let small = Self(tempfile::tempdir().unwrap());
        let sizes = ["--size", "256x320", "--objects", "1-6", "--scale", "0.15-0.5"];
        small.draw(&sizes, "8", "3", "train");
        let model = root().join("assets/shapes").display().to_string();
        fs::write(small.path("small.toml"), SHIPPED.replacen("SHIPPED", &model, 1)).unwrap();
        small
    }

    pub(super) fn draw(&self, sizes: &[&str], count: &str, seed: &str, split: &str) {
        let synth = detr(["data", "synth", "shapes"]).args(sizes);
        let synth = synth.args(["--count", count, "--seed", seed, "--split", split]);
        synth.inside(self.0.path()).run().expect(0);
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Starts a new run with these settings beside the usual ones.
    pub(super) fn train(&self, run: &str, settings: &[&str]) -> Run {
        self.train_on("flex", run, settings)
    }

    pub(super) fn train_on(&self, backend: &str, run: &str, settings: &[&str]) -> Run {
        self.train_as(detr(["train", "--backend", backend]), run, settings)
    }

    /// Trains as [`Self::train`] does, with a trainer that fails in some steps.
    pub(super) fn train_with_faults(&self, faults: &str, run: &str, settings: &[&str]) -> Run {
        self.train_as(detr_with_faults(faults, ["train", "--backend", "flex"]), run, settings)
    }

    fn train_as(&self, command: Run, run: &str, settings: &[&str]) -> Run {
        let command = command.arg("--config").arg(self.path("small.toml"));
        let command = command.arg("--output").arg(self.path(run));
        settings.iter().fold(command, |command, setting| command.args(["--set", *setting]))
    }

    pub(super) fn resume(&self, run: &str) -> Run {
        detr(["train", "--backend", "flex", "--resume", "--output"]).arg(self.path(run))
    }

    pub(super) fn checkpoint(&self, run: &str, step: usize) -> PathBuf {
        self.path(run).join(format!("checkpoints/step-{step}"))
    }

    /// Reads the bytes that a run has learned: model, average and optimizer of the checkpoint after a step,
    /// which has to be there.
    pub(super) fn learned(&self, run: &str, step: usize) -> Vec<Vec<u8>> {
        let folder = self.checkpoint(run, step);
        let files = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
        let read = |file| fs::read(folder.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        files.map(read).to_vec()
    }

    pub(super) fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Returns the lines of one kind, in order.
    pub(super) fn events(&self, run: &str, kind: &str) -> Vec<Value> {
        self.metrics(run).into_iter().filter(|row| row["event"] == kind).collect()
    }

    /// Returns a field of every step; a step that was done twice counts as it was last done.
    fn of_steps(&self, run: &str, field: &str) -> BTreeMap<u64, Value> {
        let rows = self.events(run, "step").into_iter();
        rows.map(|row| (row["step"].as_u64().unwrap(), row[field].clone())).collect()
    }

    /// Returns the ids of the images of every step.
    pub(super) fn images(&self, run: &str) -> BTreeMap<u64, Value> {
        self.of_steps(run, "images")
    }

    /// Returns the learning rate of every step.
    pub(super) fn rates(&self, run: &str) -> BTreeMap<u64, Value> {
        self.of_steps(run, "lr")
    }

    /// Waits until a run that was started has reached a step.
    pub(super) fn wait_for(&self, run: &str, running: &mut Running, step: u64) {
        let done = || self.images(run).keys().max().is_some_and(|&done| done >= step);
        wait_until(&format!("step {step} of {run}"), running, done);
    }
}

/// Waits for something that a run does on its way.
pub(super) fn wait_until(what: &str, running: &mut Running, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(running.runs(), "the run was over before {what}");
        assert!(start.elapsed() < LONG, "{what} takes too long");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns the numbers of the steps in lines of metrics.
pub(super) fn steps_of(rows: &[Value]) -> Vec<u64> {
    rows.iter().map(|row| row["step"].as_u64().unwrap()).collect()
}

/// Lists the folder of checkpoints.
pub(super) fn checkpoints(run: &Path) -> Vec<String> {
    crate::support::names_in(&run.join("checkpoints"))
}
