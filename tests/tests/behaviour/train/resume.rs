//! The checkpoints that `--resume` goes on from, and those that it refuses.

use std::fs;

use super::small::{STEPS, Small};

#[test]
fn a_run_killed_in_its_first_save_begins_again_with_its_model() {
    let small = Small::shipped();
    small.train("whole", &["train.epochs=1"]).run().expect(0);
    let first = |run: &str| small.events(run, "step")[0]["loss"].clone();
    // The folder holds, at that moment, the settings and a checkpoint that is not complete.
    let begun = small.path("begun");
    fs::create_dir_all(begun.join("checkpoints/.step-2.tmp")).unwrap();
    fs::copy(small.path("whole").join("config.toml"), begun.join("config.toml")).unwrap();
    small.resume("begun").run().expect(0);
    assert_eq!(first("begun"), first("whole"));
}

#[test]
fn other_batches_than_those_of_a_run_are_refused_and_its_settings_stay() {
    let small = Small::new();
    small.train("run", &["train.epochs=1"]).run().expect(0);
    let settings = || fs::read_to_string(small.path("run").join("config.toml")).unwrap();
    let before = settings();
    for (setting, message) in [
        ("data.loader.batch_size=4", "an epoch had 12 batches and would have 6 now"),
        ("train.accumulate=2", "a step had 1 batches and would have 2 now"),
    ] {
        let refused = small.resume("run").args(["--set", setting]).run().expect(3);
        assert!(refused.stderr.contains(message), "{}", refused.stderr);
        assert!(refused.stderr.contains("hint: go on with "), "{}", refused.stderr);
        assert_eq!(settings(), before);
    }
    small.resume("run").args(["--set", "train.epochs=2"]).run().expect(0);
    assert_eq!(small.images("run").len(), 2 * STEPS);
    assert!(settings().contains("epochs = 2"), "{}", settings());
}
