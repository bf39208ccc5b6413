//! `detr train` from outside: a run that is stopped, killed or starved goes on as if nothing had been.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use detr_types::env;
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Run, Running, detr, root};

/// Steps in an epoch of the small data set.
const STEPS: usize = 12;

/// A small data set with settings, and a folder for runs.
struct Small(TempDir);

impl Small {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (count, seed, split) in [("24", "1", "train"), ("4", "2", "val")] {
            let synth = ["data", "synth", "shapes", "--size", "64x80", "--objects", "1-4"];
            let synth = detr(synth).args(["--scale", "0.2-0.5", "--count", count, "--seed", seed]);
            synth.args(["--split", split]).inside(folder.path()).run().expect(0);
        }
        let settings = r#"
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
        "#;
        fs::write(folder.path().join("small.toml"), settings).unwrap();
        // With dropout, so that what a run draws at random counts, too.
        let tiny =
            fs::read_to_string(root().join("configs/models/deformable-detr-tiny.toml")).unwrap();
        let dropout = tiny.replacen("dropout = 0.0", "dropout = 0.1", 1);
        assert_ne!(dropout, tiny);
        fs::write(folder.path().join("tiny.toml"), dropout).unwrap();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A new run with these settings beside the usual ones.
    fn train(&self, run: &str, settings: &[&str]) -> Run {
        let config = self.path("small.toml");
        let command = detr(["train", "--backend", "flex"]).arg("--config").arg(config);
        let command = command.arg("--output").arg(self.path(run));
        settings.iter().fold(command, |command, setting| command.args(["--set", *setting]))
    }

    fn resume(&self, run: &str) -> Run {
        detr(["train", "--backend", "flex", "--resume", "--output"]).arg(self.path(run))
    }

    /// The bytes that a run has learned: model, average and optimizer of its last checkpoint.
    fn learned(&self, run: &str, step: usize) -> Vec<Vec<u8>> {
        let folder = self.path(run).join(format!("checkpoints/step-{step}"));
        let files = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
        files.map(|file| fs::read(folder.join(file)).unwrap()).to_vec()
    }

    fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Ids of the images of every step; a step that was done twice counts as it was last done.
    fn images(&self, run: &str) -> BTreeMap<u64, Value> {
        let rows = self.metrics(run);
        let rows = rows.iter().filter(|row| row.get("loss").is_some());
        rows.map(|row| (row["step"].as_u64().unwrap(), row["images"].clone())).collect()
    }

    /// Waits until a run that was started has done so many steps.
    fn wait_for(&self, run: &str, running: &mut Running, step: u64) {
        let start = Instant::now();
        let done = || self.images(run).keys().max().is_some_and(|&done| done >= step);
        while running.runs() && !done() {
            assert!(start.elapsed() < Duration::from_mins(2), "{run} does not get to {step}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// How many random stops were asked for.
fn stops(few: usize) -> usize {
    std::env::var(env::DETR_TEST_STOPS).map_or(few, |stops| stops.parse().unwrap())
}

fn checkpoints(run: &Path) -> Vec<String> {
    let entries = fs::read_dir(run.join("checkpoints")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[cfg(unix)]
#[test]
fn a_run_that_was_stopped_anywhere_comes_to_the_same_bits() {
    let small = Small::new();
    let epochs = if stops(2) > 2 { 5 } else { 2 };
    let all = format!("train.epochs={epochs}");
    small.train("whole", &[&all]).run().expect(0);
    let steps = epochs * STEPS;
    let (learned, images) = (small.learned("whole", steps), small.images("whole"));
    assert_eq!(images.len(), steps);
    for stop in 0..stops(2) {
        // Spread over the run, at the ends of epochs too.
        let step = 1 + (stop * 7 + 4) % (steps - 2);
        let (run, kill) = (format!("stopped-{stop}"), stop % 2 == 1);
        let mut running = small.train(&run, &[&all, "run.checkpoint_every=5"]).start();
        small.wait_for(&run, &mut running, step as u64);
        running.signal(if kill { "KILL" } else { "INT" });
        let (code, stderr) = running.end();
        if kill {
            assert_eq!(code, None, "{stderr}");
        } else {
            assert_eq!(code, Some(0), "{stderr}");
            assert!(stderr.contains("interrupted; --resume"), "{stderr}");
        }
        let resumed = small.resume(&run).run().expect(0);
        assert!(resumed.stderr.contains("goes on after step"), "{}", resumed.stderr);
        assert!(small.learned(&run, steps) == learned, "stopped at step {step}, killed: {kill}");
        assert_eq!(small.images(&run), images);
    }
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_while_it_saves_always_has_a_checkpoint() {
    let small = Small::new();
    small.train("whole", &[]).run().expect(0);
    let mut running = small.train("killed", &["run.checkpoint_every=1"]).start();
    small.wait_for("killed", &mut running, 2);
    let mut reached = 1;
    for kill in 0..stops(3) {
        // Saving takes about as long as a step: the moments fall into both.
        std::thread::sleep(Duration::from_millis(37 * (kill as u64 * 13 % 29)));
        running.signal("KILL");
        running.end();
        running = small.resume("killed").start();
        let start = Instant::now();
        let step = loop {
            let rows = small.metrics("killed");
            let resumed = rows.iter().filter(|row| row["event"] == "resumed");
            let resumed = resumed.filter_map(|row| row["step"].as_u64());
            let resumed: Vec<u64> = resumed.collect();
            if resumed.len() > kill {
                break resumed[kill];
            }
            assert!(running.runs() && start.elapsed() < Duration::from_mins(2), "no checkpoint");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(step >= reached, "went on after step {step}, was at {reached}");
        reached = step;
    }
    let (code, stderr) = running.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(small.learned("killed", 2 * STEPS) == small.learned("whole", 2 * STEPS));
    let left = checkpoints(&small.path("killed"));
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
}

#[test]
fn numbers_that_are_not_finite_end_a_run_with_a_dump() {
    let small = Small::new();
    let sites = [
        ("image", "pixels of image"),
        ("weight", "transformer."),
        ("cost", "costs: image 0, query 0"),
        ("gradient", "gradient of "),
    ];
    for (site, tensor) in sites {
        let run = small.train(site, &[]).env(env::DETR_FAULT, format!("{site}:7")).run().expect(5);
        assert!(run.ends_with_hint(), "{}", run.stderr);
        let dump = fs::read(small.path(site).join("divergence.json")).unwrap();
        let dump: Value = serde_json::from_slice(&dump).unwrap();
        let steps = dump["steps"].as_array().unwrap();
        let numbers: Vec<u64> = steps.iter().map(|step| step["step"].as_u64().unwrap()).collect();
        assert_eq!(numbers, [7, 8, 9, 10, 11]);
        assert!(steps[0]["tensor"].as_str().unwrap().starts_with(tensor), "{dump}");
        assert_eq!(steps[0]["images"].as_array().unwrap().len(), 2);
        assert_eq!(steps[0]["lr"], 5e-4);
        assert_eq!(steps[0]["grad_norm"] == "NaN", site == "gradient", "{dump}");
    }
}

#[cfg(unix)]
#[test]
fn a_folder_has_one_run_at_a_time() {
    let small = Small::new();
    let mut running = small.train("run", &["train.epochs=50"]).start();
    small.wait_for("run", &mut running, 1);
    for second in [small.train("run", &[]), small.resume("run")] {
        let second = second.run().expect(2);
        assert!(second.stderr.contains("trains in this folder"), "{}", second.stderr);
        assert!(second.ends_with_hint());
    }
    // A terminal that goes away is no reason to stop; a batch system's signal is.
    running.signal("HUP");
    let at = *small.images("run").keys().max().unwrap();
    small.wait_for("run", &mut running, at + 2);
    running.signal("USR1");
    assert_eq!(running.end().0, Some(0));
    let again = small.train("run", &[]).run().expect(2);
    assert!(again.stderr.contains("a run is there"), "{}", again.stderr);
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_a_run_at_once() {
    let small = Small::new();
    // One step of many batches, so that the second signal comes before it is done.
    let settings = ["train.accumulate=200", "data.loader.batch_size=12", "train.epochs=500"];
    let running = small.train("run", &settings).start();
    while !small.path("run").join("config.toml").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    std::thread::sleep(Duration::from_millis(500));
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(300));
    running.signal("INT");
    let (code, stderr) = running.end();
    assert_eq!(code, Some(130), "{stderr}");
}

#[test]
fn checkpoints_that_do_not_count_are_passed_over_or_refused() {
    let small = Small::new();
    small.train("run", &[]).run().expect(0);
    let manifest =
        |step: usize| small.path("run").join(format!("checkpoints/step-{step}/MANIFEST.json"));
    let text = fs::read_to_string(manifest(2 * STEPS)).unwrap();
    let newer = text.replacen("\"version\": 1", "\"version\": 9", 1);
    assert_ne!(newer, text);
    fs::write(manifest(2 * STEPS), &newer).unwrap();
    let passed = small.resume("run").run().expect(0);
    assert!(passed.stderr.contains("is of version 9, this program reads up to 1"), "{passed:?}");
    assert!(passed.stderr.contains(&format!("goes on after step {STEPS}")), "{passed:?}");

    for step in [STEPS, 2 * STEPS] {
        fs::write(manifest(step), &newer).unwrap();
    }
    let refused = small.resume("run").run().expect(3);
    assert!(refused.stderr.contains("version 9"), "{}", refused.stderr);
    assert!(refused.ends_with_hint());
}

/// A limit on the size of files stands for a full disk: writes fail in the middle.
#[cfg(unix)]
#[test]
fn a_full_disk_costs_checkpoints_and_not_the_run() {
    let small = Small::new();
    small.train("run", &["train.epochs=1", "run.keep=1"]).run().expect(0);
    let before = small.learned("run", STEPS);
    let resumed = small.resume("run").args(["--set", "train.epochs=2"]);
    let full =
        resumed.args(["--set", "run.checkpoint_every=6"]).with_file_limit(64).run().expect(1);
    assert!(full.stderr.contains("not written, the run goes on: "), "{}", full.stderr);
    assert!(full.stderr.contains("could not be written"), "{}", full.stderr);
    assert!(full.ends_with_hint());
    assert_eq!(small.images("run").len(), 2 * STEPS);
    assert!(small.learned("run", STEPS) == before);
    let left = checkpoints(&small.path("run"));
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
    // With space again, it goes on from there.
    small.resume("run").args(["--set", "train.epochs=2"]).run().expect(0);
    small.learned("run", 2 * STEPS);
}

#[test]
fn a_device_that_fails_ends_a_run_with_its_batch_and_the_checkpoints_stay() {
    let small = Small::new();
    let run = small.train("run", &[]).env(env::DETR_FAULT, "device:15").run().expect(4);
    let said = "step 15 on 2 images of 80x64: out of memory on purpose";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    assert!(run.ends_with_hint(), "{}", run.stderr);
    let resumed = small.resume("run").run().expect(0);
    assert!(resumed.stderr.contains("goes on after step 12"), "{}", resumed.stderr);
}

#[test]
fn two_devices_learn_what_one_does_from_their_batches_together() {
    let small = Small::new();
    let settings = ["model.arch=deformable-detr-tiny", "train.epochs=1"];
    small.train("two", &settings).args(["--device", "0,0"]).run().expect(0);
    let settings = [&settings[..], &["train.accumulate=2"]].concat();
    small.train("one", &settings).run().expect(0);
    assert_eq!(small.images("two"), small.images("one"));
    let read = |run: &str| small.learned(run, STEPS / 2).swap_remove(0);
    let (one, two) = (read("one"), read("two"));
    let [one, two] = [&one, &two].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for (name, expected) in one.iter() {
        let values = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let found = values(two.tensor(name).unwrap().data());
        for (a, b) in values(expected.data()).into_iter().zip(found) {
            assert!((a - b).abs() <= 1e-5, "{name}: {a} and {b}");
        }
    }
}

#[test]
fn nobody_needs_to_read_what_a_run_prints() {
    let small = Small::new();
    small.train("run", &["train.epochs=1"]).closed_stdout().run();
    assert!(small.path("run/model/model.safetensors").is_file());
}
