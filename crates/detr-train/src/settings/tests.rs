//! Tests of the settings that are read, and of the messages about those that are not.

use std::path::Path;

use super::{SettingsError, TrainConfig};

/// Settings with a bit of everything.
const GOOD: &str = "\
[model]
arch = 'detr-r50'
[data]
train = { sources = [{ path = 'a' }] }
val = { sources = [{ path = 'b' }] }
[data.augmentation]
transforms = [
    { horizontal_flip = { p = 0.5 } },
    { color_jitter = {} },
]
[data.loader]
batch_size = 2
[train]
epochs = 50
lr = 1e-4
schedule = { course = { kind = 'multi-step', milestones = [40] } }
ema = { decay = 0.999 }
[run]
keep = 2
";

fn load(text: &str, flags: &[&str]) -> Result<TrainConfig, SettingsError> {
    let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
    TrainConfig::load(Path::new("runs/a \u{fc}.toml"), text, &flags)
}

/// Returns the message about the good settings with one text replaced by another.
fn message(from: &str, to: &str) -> String {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from}");
    load(&text, &[]).unwrap_err().to_string()
}

fn check(found: &str, start: &str, hint: &str) {
    assert!(found.starts_with(start), "{found}\nexpected {start}");
    let last = found.lines().last().unwrap();
    assert!(last.starts_with("hint: ") && last.contains(hint), "{found}\nexpected hint {hint}");
}

#[test]
fn unknown_keys_name_their_place_and_the_nearest_key() {
    for (from, to, start, hint) in [
        (
            "lr = 1e-4",
            "lrr = 1e-4",
            "15:1: unknown key `train.lrr`; did you mean `train.lr`?",
            "epochs",
        ),
        (
            "[run]",
            "[rnu]",
            "18:2: unknown key `rnu`; did you mean `run`?",
            "model, data, train, run",
        ),
        (
            "lr = 1e-4",
            "batch_size = 4",
            "15:1: unknown key `train.batch_size`; did you mean `data.loader.batch_size`?",
            "epochs",
        ),
        (
            "milestones = [40]",
            "milestones = [40], gama = 0.5",
            "16:65: unknown key `train.schedule.course.gama`; did you mean `train.schedule.course.gamma`?",
            "milestones",
        ),
        (
            "{ horizontal_flip",
            "{ horizontal_flp",
            "8:7: unknown key `data.augmentation.transforms[0].horizontal_flp`; did you mean `data.augmentation.transforms[0].horizontal_flip`?",
            "color_jitter",
        ),
        (
            "{ p = 0.5 }",
            "{ q = 0.5 }",
            "8:27: unknown key `data.augmentation.transforms[0].horizontal_flip.q`; did you mean",
            "p",
        ),
        (
            "kind = 'multi-step'",
            "kind = 'constant'",
            "16:44: unknown key `train.schedule.course.milestones`",
            "no such key with its other values",
        ),
        ("keep = 2", "keep = 2\nzzz = 3", "20:1: unknown key `run.zzz`\n", "log_every"),
    ] {
        check(&message(from, to), &format!("runs/a \u{fc}.toml:{start}"), hint);
    }
}

#[test]
fn wrong_values_name_their_place_and_what_was_expected() {
    for (from, to, start) in [
        ("lr = 1e-4", "lr = 'x'", "15:6: train.lr is \"x\", expected a number"),
        ("lr = 1e-4", "lr = nan", "15:6: train.lr is NaN, expected a finite number"),
        ("lr = 1e-4", "lr = -inf", "15:6: train.lr is -inf, expected a finite number"),
        ("lr = 1e-4", "lr = -1", "15:6: train.lr is -1, expected a finite number"),
        ("lr = 1e-4", "lr_backbone = inf", "15:15: train.lr_backbone is inf"),
        ("lr = 1e-4", "clip_max_norm = nan", "15:17: train.clip_max_norm is NaN"),
        ("epochs = 50", "epochs = -1", "14:10: train.epochs is -1, expected a whole number"),
        ("epochs = 50", "epochs = 1.5", "14:10: train.epochs is 1.5, expected a whole number"),
        ("epochs = 50\n", "", "13:1: `train.epochs` is missing, expected a whole number"),
        (
            "batch_size = 2",
            "batch_size = 0",
            "12:14: data.loader.batch_size is 0, expected 1 to 65536",
        ),
        ("batch_size = 2", "seed = 3", "12:8: data.loader.seed is 3"),
        (
            "[40]",
            "['x']",
            "16:59: train.schedule.course.milestones is \"x\", expected a whole number",
        ),
        (
            "[40]",
            "[50]",
            "16:59: train.schedule.course.milestones is 50, expected less than train.epochs (50)",
        ),
        (
            "[40]",
            "[40, 10]",
            "16:59: train.schedule.course.milestones is [40, 10], expected rising",
        ),
        (
            "'multi-step', milestones = [40]",
            "'step', every = 200",
            "16:48: train.schedule.course.every is 200",
        ),
        (
            "'multi-step'",
            "'multistep'",
            "16:32: train.schedule.course.kind is \"multistep\", expected one of",
        ),
        ("decay = 0.999", "decay = 1", "17:17: train.ema.decay is 1, expected"),
        (
            "p = 0.5",
            "p = 2",
            "8:31: data.augmentation.transforms[0].horizontal_flip.p is 2, expected 0 to 1",
        ),
        ("p = 0.5", "p = '2'", "8:31: data.augmentation.transforms[0].horizontal_flip.p is \"2\""),
        ("'detr-r50'", "''", "2:8: model.arch is empty"),
        ("path = 'a'", "path = ''", "4:31: data.train.sources[0].path is empty"),
        ("[{ path = 'a' }]", "[]", "4:21: data.train.sources is empty"),
        ("keep = 2", "threshold = 1.5", "19:13: run.threshold is 1.5"),
        ("keep = 2", "max_skipped = 0", "19:15: run.max_skipped is 0"),
        (
            "lr = 1e-4",
            "groups = [{ name = 'a', patterns = ['b'], lr = -1 }]",
            "15:48: train.groups[0] (a).lr is -1",
        ),
        (
            "[run]",
            "[train.criterion]\nclassification = { focal = { alpha = nan } }\naux_loss = true\n\
             cost = { class = 1, bbox = 1, giou = 1 }\n\
             weights = { ce = 1, bbox = 1, giou = 1, mask = 1, dice = 1 }\n[run]",
            "19:38: train.criterion.classification.focal.alpha is NaN, expected a number from 0 to 1",
        ),
        ("[run]", "[run", "18:"),
        ("lr = 1e-4", "lr = 1e-4\nlr = 2e-4", "16:1: duplicate key"),
    ] {
        check(&message(from, to), &format!("runs/a \u{fc}.toml:{start}"), "");
    }
    check(&message("[40]", "[50]"), "runs/", "train longer");
    check(&message("lr = 1e-4", "lr = nan"), "runs/", "DETR trains with 1e-4");
}

#[test]
fn variants_that_are_chosen_wrongly_name_what_there_is() {
    let course = "kind = 'multi-step', milestones = [40]";
    for (from, to, start) in [
        // Two keys have one value; it is the one whose type the value does not fit.
        (
            course,
            "kind = 'step', gamma = 0.5, every = 0.5",
            "16:61: train.schedule.course.every is 0.5, expected a whole number",
        ),
        (
            course,
            "gamma = 1",
            "16:23: `train.schedule.course.kind` is missing, expected \"constant",
        ),
        (
            "ema = { decay = 0.999 }",
            "precision = 16",
            "17:13: train.precision is 16, expected one of \"f32\"",
        ),
        (
            "{ color_jitter = {} }",
            "{ color_jitter = {}, resize = {} }",
            "9:5: data.augmentation.transforms[1] is a table of 2, expected one of \"horizontal_flip\"",
        ),
        (
            "{ color_jitter = {} }",
            "'color_jitter'",
            "9:5: data.augmentation.transforms[1] is a word, expected a table",
        ),
        (
            "[data.loader]",
            "[data.preprocess]\nmean = [1, 2]\n[data.loader]",
            "12:8: data.preprocess.mean is a list of 2, expected a list of 3",
        ),
        (
            "[data.loader]",
            "[data.preprocess]\nresize = { kind = 'longest-edge', width = 8 }\n[data.loader]",
            "12:35: unknown key `data.preprocess.resize.width`",
        ),
    ] {
        check(&message(from, to), &format!("runs/a \u{fc}.toml:{start}"), "");
    }
}

#[test]
fn line_ends_and_byte_order_marks_of_windows_change_nothing() {
    let windows = format!("\u{feff}{}", GOOD.replace('\n', "\r\n"));
    assert_eq!(load(&windows, &[]).unwrap(), load(GOOD, &[]).unwrap());
    let error = load(&windows.replace("lr = 1e-4", "lr = 'x'"), &[]).unwrap_err().to_string();
    assert!(error.contains(".toml:15:6: train.lr"), "{error}");
    let first = load("\u{feff}modl = 1", &[]).unwrap_err().to_string();
    assert!(first.contains(".toml:1:1: unknown key `modl`"), "{first}");
}

#[test]
fn flags_replace_values_and_add_tables() {
    let config = load(
        GOOD,
        &[
            "train.lr=2e-4",
            "model.arch=some/where a.toml",
            "data.augmentation.transforms[0].horizontal_flip.p=0",
            "train.schedule.warmup.length=5",
            "data.train.sources.0.split=train",
            "data.train.classes.map.\"big = truck\"=car",
            "train.frozen=['backbone']",
            "train.early_stopping={ patience = 3 }",
            "train.precision=bf16",
        ],
    )
    .unwrap();
    assert_eq!(config.train.lr, Some(2e-4));
    assert_eq!(config.model.arch, "some/where a.toml");
    assert_eq!(config.train.schedule.warmup.unwrap().length, 5);
    assert_eq!(config.data.train.sources[0].split.as_deref(), Some("train"));
    assert_eq!(config.data.train.classes.map["big = truck"], "car");
    assert_eq!(config.train.frozen.unwrap(), ["backbone"]);
    assert_eq!(config.train.precision, detr_types::Precision::Bf16);
}

#[test]
fn a_rate_for_a_backbone_without_a_group_is_refused() {
    let groups = "train.groups=[{ name = 'x', patterns = ['sampling_offsets'], lr_factor = 0.1 }]";
    let error = load(GOOD, &[groups, "train.lr_backbone=0"]).unwrap_err().to_string();
    assert!(
        error.contains("train.lr_backbone is 0, expected train.groups with one named"),
        "{error}"
    );
    let groups = "train.groups=[{ name = 'backbone', patterns = ['backbone.0'], lr_factor = 0.1 }]";
    let config = load(GOOD, &[groups, "train.lr_backbone=0"]).unwrap();
    let model = detr_model::ModelConfig::preset("deformable-detr-tiny").unwrap();
    let step = config.train.step(&model);
    assert_eq!(
        (step.parameters.groups[0].lr, step.parameters.groups[0].lr_factor),
        (Some(0.0), None)
    );
    // The settings that a run keeps make the same steps.
    assert_eq!(config.train.resolved(&model).step(&model), step);
}

#[test]
fn what_a_flag_spoils_is_blamed_on_the_flag() {
    for (flag, start) in [
        ("train.lrr=1", "unknown key `train.lrr`; did you mean `train.lr`?"),
        ("train.lr=", "train.lr is \"\", expected a number"),
        ("train.lr=fast", "train.lr is \"fast\", expected a number"),
        ("train.lr=nan", "train.lr is NaN"),
        ("run.keep=0", "run.keep is 0"),
        (
            "train.schedule.per=epok",
            "train.schedule.per is \"epok\", expected one of \"epoch\", \"step\"",
        ),
        ("train.schedule.course.milestones=[60]", "train.schedule.course.milestones is 60"),
        ("train.lr.x=1", "`train.lr` is 0.0001, which has no keys"),
        ("data.train.sources.7.path=x", "`data.train.sources` is a list of 1, which has no `7`"),
        ("train.lr", "expected KEY=VALUE"),
        ("=1", "`` is no key"),
        ("tr ain.lr=1", "`tr ain.lr` is no key"),
    ] {
        let found = load(GOOD, &["run.keep=3", flag]).unwrap_err().to_string();
        check(&found, &format!("--set {flag}: {start}"), "");
    }
    // A shorter run than the file's drop: the drop is the file's.
    let found = load(GOOD, &["train.epochs=10"]).unwrap_err().to_string();
    assert!(found.contains(".toml:16:59: train.schedule.course.milestones is 40"), "{found}");
}

#[test]
fn resolved_settings_are_read_as_they_were() {
    let config = load(GOOD, &["train.early_stopping.patience=2"]).unwrap();
    let text = toml::to_string(&config).unwrap();
    assert_eq!(load(&text, &[]).unwrap(), config, "{text}");
}

#[test]
fn the_keys_are_those_of_the_types() {
    let keys = TrainConfig::keys();
    let expected = |name: &str| {
        let key = keys.iter().find(|key| key.name == name);
        key.unwrap_or_else(|| panic!("{name} in {keys:#?}")).expected.clone()
    };
    assert_eq!(expected("train.lr"), "a number");
    assert_eq!(expected("train.groups[].patterns"), "a list: a text in quotes");
    assert_eq!(expected("train.schedule.per"), "\"epoch\", \"step\"");
    assert!(expected("train.schedule.course.kind").contains("\"cosine\""));
    assert_eq!(expected("data.augmentation.transforms[].two_branch_resize.p"), "a number");
    assert_eq!(expected("train.criterion.classification.focal.alpha"), "a number");
    // Every key of resolved settings is one of them.
    let config = load(GOOD, &["train.early_stopping.patience=2"]).unwrap();
    let toml::Value::Table(table) = toml::Value::try_from(config).unwrap() else { panic!() };
    check_known(&toml::Value::Table(table), "", &|name| keys.iter().any(|key| key.name == name));
}

fn check_known(value: &toml::Value, name: &str, known: &dyn Fn(&str) -> bool) {
    match value {
        toml::Value::Table(table) if !known(name) => {
            for (key, value) in table {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                check_known(value, &name, known);
            }
        }
        toml::Value::Array(list) if !known(name) => {
            for value in list {
                check_known(value, &format!("{name}[]"), known);
            }
        }
        _ => assert!(known(name), "{name}"),
    }
}
