//! Tests the effects of validations with the shipped model, which has learned already, so that two
//! steps are enough for a high AP.

use std::fs;

use safetensors::SafeTensors;

use super::small::{Small, checkpoints, steps_of};
use crate::support::detr;

/// Returns the step that `best` or `last` points to.
fn pointed(small: &Small, run: &str, name: &str) -> String {
    let text = fs::read_to_string(small.path(run).join("checkpoints").join(name)).unwrap();
    text.trim_end().to_owned()
}

#[test]
fn a_run_ends_when_ap_is_as_high_as_asked_and_its_model_is_the_average() {
    let small = Small::shipped();
    let ended = small.train("run", &["run.stop_at_ap=0.6"]).run().expect(0);
    assert!(ended.stderr.contains("AP is as high as was asked for"), "{}", ended.stderr);
    assert_eq!(ended.stdout.trim_end(), small.path("run/model").display().to_string());
    let validated = small.events("run", "validated");
    let [row] = &validated[..] else { panic!("{validated:?}") };
    assert!(row["metrics"]["ap"].as_f64().unwrap() >= 0.6, "{row}");
    assert!(row["without_ema"]["ap"].as_f64().unwrap() >= 0.6, "{row}");
    assert!(row["step"] == 2 && row["best"] == true, "{row}");
    assert_eq!(pointed(&small, "run", "best"), "step-2");

    let [model, average, _] = &small.learned("run", 2)[..] else { unreachable!() };
    assert!(model != average);
    let kept = fs::read(small.path("run/model/model.safetensors")).unwrap();
    let [kept, average] = [&kept, average].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for (name, tensor) in kept.iter() {
        // Official files have the heads a second time, as the decoder's.
        let copied = name.strip_prefix("transformer.decoder.");
        let name = copied.filter(|name| name.contains("_embed.")).unwrap_or(name);
        assert!(average.tensor(name).unwrap().data() == tensor.data(), "{name}");
    }
    assert!(average.names().iter().all(|name| kept.tensor(name).is_ok()));
}

#[test]
fn the_logged_ap_of_the_best_model_is_that_of_eval_to_the_last_bit() {
    let small = Small::shipped();
    // Pictures of three sizes, so that batches would be padded if sizes were mixed.
    let mut sources = Vec::new();
    for (size, seed, split) in [("200x240", "5", "a"), ("256x192", "6", "b"), ("150x320", "7", "c")]
    {
        small.draw(&["--size", size, "--objects", "1-6"], "4", seed, split);
        sources.push(format!("{{ path = \"shapes\", split = \"{split}\" }}"));
    }
    let sources = format!("sources = [{}]", sources.join(", "));
    fs::write(small.path("val.toml"), &sources).unwrap();
    let val = format!("data.val={{ {sources} }}");
    small.train("run", &["train.epochs=1", "train.lr=1e-5", &val]).run().expect(0);
    let validated = small.events("run", "validated");
    let [row] = &validated[..] else { panic!("{validated:?}") };
    let ap = row["metrics"]["ap"].as_f64().unwrap();
    assert!(ap > 0.1 && ap < 0.99, "{row}");

    let eval =
        detr(["eval", "--backend", "flex", "--json", "--model"]).arg(small.path("run/model"));
    let eval = eval.arg("--data").arg(small.path("val.toml")).run().expect(0).json();
    assert_eq!(eval["summary"], row["metrics"]);
}

#[test]
fn the_best_and_the_last_checkpoint_are_kept() {
    let small = Small::shipped();
    small.train("run", &["run.validate_every=2", "run.keep=1"]).run().expect(0);
    let validated = small.events("run", "validated");
    assert_eq!(steps_of(&validated), [4, 8]);
    let best = validated.iter().rfind(|row| row["best"] == true).unwrap();
    let (best, last) = (format!("step-{}", best["step"]), "step-8");
    assert_eq!(pointed(&small, "run", "best"), best);
    assert_eq!(pointed(&small, "run", "last"), last);
    let mut expected = vec!["best", "last", &best, last];
    expected.dedup();
    assert_eq!(checkpoints(&small.path("run")), expected);
}

#[test]
fn a_run_that_gets_no_better_ends_early_and_remembers_how_long_it_did_not() {
    let small = Small::shipped();
    // AP stays what it is.
    let settings = ["train.lr=1e-12", "train.lr_backbone=1e-12", "train.early_stopping.patience=2"];
    let ended = small.train("run", &settings).run().expect(0);
    assert!(ended.stderr.contains("stopped early"), "{}", ended.stderr);
    assert_eq!(steps_of(&small.events("run", "validated")), [2, 4, 6]);
    // More patience lets it go on, and does not begin to count again.
    let longer = ["train.epochs=20", "train.early_stopping.patience=3"];
    let resumed = small.resume("run").args(longer.iter().flat_map(|set| ["--set", *set]));
    let ended = resumed.run().expect(0);
    assert!(ended.stderr.contains("stopped early"), "{}", ended.stderr);
    assert_eq!(steps_of(&small.events("run", "validated")), [2, 4, 6, 8]);
}

#[test]
fn a_dry_run_prints_what_a_run_needs_and_leaves_nothing() {
    let small = Small::shipped();
    let before = crate::support::names_in(&small.path(""));
    let printed = small.train("run", &[]).arg("--dry-run").run().expect(0).stdout;
    let line = |name: &str| {
        let found = printed.lines().find_map(|line| line.strip_prefix(name));
        found.unwrap_or_else(|| panic!("no {name}:\n{printed}")).trim()
    };
    let batch = line("batch ");
    assert!(batch.starts_with("4 images of ") && batch.contains("the largest of 2,"), "{printed}");
    for name in ["loss", "gradient norm"] {
        assert!(line(name).parse::<f64>().unwrap() > 0.0, "{printed}");
    }
    assert!(line("step ").ends_with(" s") && line("memory").contains("MB"), "{printed}");
    // Four epochs of two steps.
    assert!(line("whole run").starts_with("8 steps"), "{printed}");
    assert_eq!(crate::support::names_in(&small.path("")), before);
}

#[test]
fn overfitting_sees_the_same_images_in_every_step() {
    let small = Small::shipped();
    let run = small.train("run", &["train.epochs=2"]).args(["--overfit", "2"]).run().expect(0);
    assert!(run.stderr.contains("learning from 2 images alone"), "{}", run.stderr);
    let images: Vec<Vec<i64>> = small
        .images("run")
        .values()
        .map(|ids| {
            let mut ids: Vec<i64> = serde_json::from_value(ids.clone()).unwrap();
            ids.sort_unstable();
            ids
        })
        .collect();
    assert_eq!(images.len(), 2);
    assert!(images[0].len() == 2 && images[0][0] != images[0][1], "{images:?}");
    assert_eq!(images[0], images[1]);
    // The run validates on these images: one step an epoch.
    assert_eq!(steps_of(&small.events("run", "validated")), [1, 2]);
}
