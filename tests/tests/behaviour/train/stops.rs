//! Runs that are stopped: by signals, while they compute or save, and twice. They go on as if nothing had
//! been.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use detr_types::env;

use super::small::{LONG, STEPS, Small, checkpoints, steps_of, wait_until};

/// Returns the number of random stops that were asked for.
fn stops(few: usize) -> usize {
    std::env::var(env::DETR_TEST_STOPS).map_or(few, |stops| stops.parse().unwrap())
}

/// Checks the learning rates of a run, from settings that stand in `small.rs`: a warm-up of four steps to
/// 5e-4, and half of that after eight.
fn check_rates(small: &Small, run: &str) {
    let rates = small.rates(run);
    for (step, expected) in [(1, 1e-4), (2, 2e-4), (4, 4e-4), (5, 5e-4), (8, 5e-4), (9, 2.5e-4)] {
        let found = rates[&step].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-12, "step {step}: {found} is not {expected}");
    }
    assert_eq!(rates.values().next_back(), Some(&rates[&9]));
}

#[cfg(unix)]
#[test]
fn a_run_that_was_stopped_anywhere_comes_to_the_same_bits() {
    let small = Small::new();
    let all = stops(4);
    // The second kind has momentum instead of means, and signals come between the batches of a step, too.
    let sgd = ["train.accumulate=2", "train.optimizer.kind=sgd"];
    let kinds = [("adamw", &[][..], STEPS), ("sgd", &sgd[..], STEPS / 2)];
    let kinds = kinds.map(|(name, settings, per_epoch)| {
        let epochs = if all > 4 { 60 / per_epoch } else { 2 };
        let length = format!("train.epochs={epochs}");
        let settings = [settings, &[&length, "run.checkpoint_every=5"]].concat();
        small.train(name, &settings).run().expect(0);
        let steps = epochs * per_epoch;
        assert_eq!(small.images(name).len(), steps);
        check_rates(&small, name);
        (name, settings.into_iter().map(str::to_owned).collect::<Vec<_>>(), steps)
    });
    let signals = ["INT", "KILL", "TERM", "KILL", "USR1", "KILL"];
    for stop in 0..all {
        let (whole, settings, steps) = &kinds[stop / 2 % 2];
        let signal = signals[stop % signals.len()];
        // Spread over the run, at the ends of epochs too.
        let step = 1 + (stop * 7 + 4) % (steps - 4);
        let run = format!("stopped-{stop}");
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let mut running = small.train(&run, &settings).start();
        small.wait_for(&run, &mut running, step as u64);
        running.signal(signal);
        let (code, stderr) = running.end();
        if signal == "KILL" {
            assert_eq!(code, None, "{stderr}");
        } else {
            assert_eq!(code, Some(0), "{signal}: {stderr}");
            assert!(stderr.contains("interrupted; --resume"), "{signal}: {stderr}");
        }
        let resumed = small.resume(&run).run().expect(0);
        assert!(resumed.stderr.contains("goes on after step"), "{}", resumed.stderr);
        let same = small.learned(&run, *steps) == small.learned(whole, *steps);
        assert!(same, "{whole} stopped at step {step} by {signal}");
        assert_eq!(small.images(&run), small.images(whole));
        assert_eq!(small.rates(&run), small.rates(whole));
    }
}

/// Returns whether something in the folder of checkpoints is not complete.
fn half_written(run: &Path) -> bool {
    let entries = fs::read_dir(run.join("checkpoints")).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| [".step-", ".detr-"].iter().any(|start| name.starts_with(start)))
}

#[cfg(unix)]
#[test]
fn a_run_that_is_killed_while_it_saves_always_has_a_checkpoint() {
    let small = Small::new();
    let kills = stops(4);
    // Every kill costs two or three steps; an epoch has twelve.
    let all = format!("train.epochs={}", 2 + kills / 3);
    let mut running = small.train("killed", &[&all, "run.checkpoint_every=1"]).start();
    small.wait_for("killed", &mut running, 2);
    let folder = small.path("killed");
    let (mut reached, mut torn) = (2, 0);
    for kill in 0..kills {
        // Most kills come while the run saves, from its beginning to after its end; some while it computes.
        if kill % 4 < 3 {
            wait_until("a save", &mut running, || half_written(&folder));
        } else {
            small.wait_for("killed", &mut running, reached + 1);
        }
        std::thread::sleep(Duration::from_millis(kill as u64 * 37 % 61));
        running.signal("KILL");
        let (code, stderr) = running.end();
        assert_eq!(code, None, "the run was over before kill {kill}: {stderr}");
        torn += usize::from(half_written(&folder));
        let saved = steps_of(&small.events("killed", "saved")).into_iter().max().unwrap();
        running = small.resume("killed").start();
        let resumed = || steps_of(&small.events("killed", "resumed"));
        wait_until("a checkpoint", &mut running, || resumed().len() > kill);
        reached = resumed()[kill];
        assert!(reached >= saved, "went on after step {reached}, step {saved} was saved");
    }
    println!("{kills} kills, {torn} of them while a checkpoint was written");
    if std::env::var_os(env::DETR_TEST_STOPS).is_some() {
        assert!(torn > 0, "no kill came while a checkpoint was written");
    }
    running.signal("INT");
    assert_eq!(running.end().0, Some(0));
    // To an end that a run without kills comes to, too.
    let saved = steps_of(&small.events("killed", "saved")).into_iter().max().unwrap();
    let epochs = usize::try_from(saved).unwrap() / STEPS + 1;
    let all = format!("train.epochs={epochs}");
    small.resume("killed").args(["--set", &all]).run().expect(0);
    small.train("whole", &[&all]).run().expect(0);
    assert!(small.learned("killed", epochs * STEPS) == small.learned("whole", epochs * STEPS));
    let left = checkpoints(&folder);
    assert!(left.iter().all(|name| !name.starts_with('.')), "{left:?}");
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
    // All 24 images in one step: after the first signal it has a while to go, and then a checkpoint to write.
    let settings = ["train.accumulate=2", "data.loader.batch_size=12", "train.epochs=500"];
    let mut running = small.train("run", &settings).start();
    small.wait_for("run", &mut running, 1);
    let start = Instant::now();
    while running.runs() {
        assert!(start.elapsed() < LONG, "signals do not end the run");
        running.signal("INT");
        std::thread::sleep(Duration::from_millis(2));
    }
    let (code, stderr) = running.end();
    assert_eq!(code, Some(130), "{stderr}");
}
