//! Runs in trouble: numbers that are not finite, checkpoints that are broken or cannot be written, a device
//! that fails, and nobody who listens.

use std::fs;

use serde_json::Value;

use super::small::{STEPS, Small, checkpoints, steps_of, wait_until};

#[test]
fn numbers_that_are_not_finite_end_a_run_with_a_dump() {
    let small = Small::new();
    let epoch = ["train.epochs=1"];
    small.train("good", &epoch).run().expect(0);
    let images = small.images("good");
    let sites = [
        ("image", "pixels of image"),
        ("weight", "transformer."),
        ("cost", "costs: image 0, query 0"),
        ("gradient", "gradient of "),
    ];
    for (site, tensor) in sites {
        let run = small.train_with_faults(&format!("{site}:7"), site, &epoch);
        let run = run.run().expect(5);
        assert!(run.ends_with_hint(), "{}", run.stderr);
        let dump = fs::read(small.path(site).join("divergence.json")).unwrap();
        let dump: Value = serde_json::from_slice(&dump).unwrap();
        let steps = dump["steps"].as_array().unwrap();
        assert_eq!(steps_of(steps), [7, 8, 9, 10, 11]);
        for (step, number) in steps.iter().zip(7..) {
            assert_eq!(step["images"], images[&number], "{site}, step {number}");
        }
        assert!(steps[0]["tensor"].as_str().unwrap().starts_with(tensor), "{dump}");
        assert_eq!(steps[0]["lr"], 5e-4);
        assert_eq!(steps[0]["grad_norm"] == "NaN", site == "gradient", "{dump}");
    }
    // The checkpoint is sound where the weights were: without the fault it goes on.
    let resumed = small.resume("gradient").run().expect(0);
    assert!(resumed.stderr.contains("goes on after step 11"), "{}", resumed.stderr);
    assert_eq!(small.images("gradient").keys().max(), Some(&12));
}

#[test]
fn a_run_ends_only_when_five_steps_in_a_row_are_not_finite() {
    let small = Small::new();
    small.train("good", &["train.epochs=1"]).run().expect(0);
    let faults = "gradient:2-5,gradient:7-8";
    small.train_with_faults(faults, "run", &["train.epochs=1"]).run().expect(0);
    let skipped = small.events("run", "skipped");
    assert_eq!(steps_of(&skipped), [2, 3, 4, 5, 7, 8]);
    let (good, mut found) = (small.images("good"), small.images("run"));
    assert!(found.keys().eq(&[1, 6, 9, 10, 11, 12]), "{found:?}");
    // Every image has its step, skipped or not.
    found.extend(skipped.iter().map(|row| (row["step"].as_u64().unwrap(), row["images"].clone())));
    assert_eq!(found, good);
}

#[test]
fn checkpoints_that_do_not_count_are_passed_over_or_refused() {
    let small = Small::new();
    small.train("run", &[]).run().expect(0);
    let manifest = |step: usize| small.checkpoint("run", step).join("MANIFEST.json");
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
    // The run goes on from there once there is space again, and its checkpoint is written.
    small.resume("run").args(["--set", "train.epochs=2"]).run().expect(0);
    assert!(small.checkpoint("run", 2 * STEPS).join("MANIFEST.json").is_file());
}

/// A file where the folder of checkpoints should be: nobody can write there, not even root.
#[test]
fn a_run_ends_when_three_checkpoints_in_a_row_cannot_be_written() {
    let small = Small::new();
    fs::create_dir(small.path("run")).unwrap();
    fs::write(small.path("run/checkpoints"), "in the way").unwrap();
    let ended = small.train("run", &["run.checkpoint_every=2"]).run().expect(1);
    assert!(ended.stderr.contains("could not be written, 3 times in a row"), "{}", ended.stderr);
    assert!(ended.ends_with_hint(), "{}", ended.stderr);
    assert_eq!(steps_of(&small.events("run", "not_saved")), [2, 4, 6]);
    assert_eq!(small.images("run").len(), 6);
    assert_eq!(fs::read(small.path("run/checkpoints")).unwrap(), b"in the way");
}

#[cfg(unix)]
#[test]
fn a_run_saves_again_when_the_folder_of_checkpoints_is_back() {
    let small = Small::new();
    // A checkpoint at the end of every epoch, all of them kept: three may fail, which takes a while.
    let mut running = small.train("run", &["train.epochs=100", "run.keep=100"]).start();
    let count = |kind: &str| small.events("run", kind).len();
    wait_until("a checkpoint", &mut running, || count("saved") > 0);
    let [folder, away] = ["run/checkpoints", "run/away"].map(|name| small.path(name));
    fs::rename(&folder, &away).unwrap();
    fs::write(&folder, "in the way").unwrap();
    let learned = || {
        let files = ["model.safetensors", "ema.safetensors", "optimizer.safetensors"];
        files.map(|file| fs::read(away.join(format!("step-{STEPS}")).join(file)).unwrap())
    };
    let before = learned();
    wait_until("a checkpoint that fails", &mut running, || count("not_saved") > 0);
    let saved = count("saved");
    fs::remove_file(&folder).unwrap();
    fs::rename(&away, &folder).unwrap();
    wait_until("another checkpoint", &mut running, || count("saved") > saved);
    running.signal("INT");
    let (code, stderr) = running.end();
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("not written, the run goes on: "), "{stderr}");
    assert!(small.learned("run", STEPS) == before, "an old checkpoint was touched");
    let last = steps_of(&small.events("run", "saved")).into_iter().max().unwrap();
    let epochs = format!("train.epochs={}", last / STEPS as u64 + 1);
    let resumed = small.resume("run").args(["--set", &epochs]).run().expect(0);
    assert!(resumed.stderr.contains(&format!("goes on after step {last}")), "{}", resumed.stderr);
}

#[test]
fn a_device_that_fails_ends_a_run_with_its_batch_and_the_checkpoints_stay() {
    let small = Small::new();
    let run = small.train_with_faults("device:15", "run", &[]).run().expect(4);
    let said = "step 15 on 2 images of 80x64: out of memory on purpose";
    assert!(run.stderr.contains(said), "{}", run.stderr);
    assert!(run.ends_with_hint(), "{}", run.stderr);
    let resumed = small.resume("run").run().expect(0);
    assert!(resumed.stderr.contains("goes on after step 12"), "{}", resumed.stderr);
}

#[test]
fn nobody_needs_to_read_what_a_run_says() {
    let small = Small::new();
    let settings = ["train.epochs=1"];
    small.train("unread", &settings).closed_stdout().run().expect(0);
    small.train("unheard", &settings).closed_stderr().run().expect(0);
    assert_eq!(small.images("unheard"), small.images("unread"));
    for run in ["unread", "unheard"] {
        assert!(small.path(run).join("model/model.safetensors").is_file(), "{run}");
    }
}
