//! Checks that the manual lists every setting with its values and default, and where the keys of NVIDIA
//! TAO went.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use detr_model::ModelConfig;
use detr_train::TrainConfig;
use serde_json::Value;

use super::{quoted, rows};
use crate::support::detr;

/// The settings that cannot be left out, of every table that there is.
const REQUIRED: &str = "\
[model]
arch = 'detr-r50'
[data]
train = { sources = [{ path = 'a' }] }
val = { sources = [{ path = 'a' }] }
[data.augmentation]
transforms = [
    { horizontal_flip = {} },
    { random_resize = {} },
    { random_size_crop = {} },
    { two_branch_resize = {} },
    { large_scale_jitter = {} },
    { center_crop = { height = 1, width = 1 } },
    { fixed_padding = { height = 1, width = 1 } },
    { color_jitter = {} },
]
[train]
epochs = 100
groups = [{ name = 'a', patterns = ['b'] }]
ema = { decay = 0.5 }
early_stopping = { patience = 1 }
[train.schedule]
warmup = { length = 1 }
[train.criterion]
aux_loss = true
classification = { focal = { alpha = 0.5 } }
cost = { class = 1, bbox = 1, giou = 1 }
weights = { ce = 1, bbox = 1, giou = 1, mask = 1, dice = 1 }
";

/// Other variants of what is an enum.
const VARIANTS: [&str; 6] = [
    "train.schedule.course={ kind = 'step', every = 1 }",
    "train.schedule.course={ kind = 'multi-step', milestones = [1] }",
    "train.schedule.course={ kind = 'cosine', length = 1 }",
    "train.optimizer={ kind = 'sgd' }",
    "train.criterion.classification={ softmax = { eos_coef = 0.5 } }",
    "data.loader.pad_to={ height = 1, width = 1 }",
];

/// Lists the values of all keys, with those that are not stated.
fn values() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for flags in [Vec::new()].into_iter().chain(VARIANTS.map(|flag| vec![flag.to_owned()])) {
        let config = TrainConfig::load(Path::new("a.toml"), REQUIRED, &flags).unwrap();
        // By way of a text: as numbers of 64 bits, those of 32 would have more digits.
        let text = serde_json::to_string(&config).unwrap();
        collect(&serde_json::from_str(&text).unwrap(), "", &mut found);
    }
    found
}

/// Leaves and their values; the first one stays.
fn collect(value: &Value, name: &str, found: &mut BTreeMap<String, String>) {
    found.entry(name.to_owned()).or_insert_with(|| value.to_string());
    match value {
        Value::Object(entries) => {
            for (key, value) in entries {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                collect(value, &name, found);
            }
        }
        Value::Array(list) => list.iter().for_each(|v| collect(v, &format!("{name}[]"), found)),
        _ => {}
    }
}

/// Keys that the text above has to state.
fn required() -> BTreeSet<String> {
    let words =
        ["data.train.sources[].path", "data.val.sources[].path", "model.arch", "train.epochs"];
    let groups = ["train.groups[].name", "train.groups[].patterns", "train.ema.decay"];
    let others = ["train.early_stopping.patience", "train.schedule.warmup.length"];
    let course =
        ["every", "milestones", "length"].map(|key| format!("train.schedule.course.{key}"));
    let sides = ["center_crop", "fixed_padding"].into_iter().flat_map(|transform| {
        ["height", "width"].map(|side| format!("data.augmentation.transforms[].{transform}.{side}"))
    });
    let pad = ["height", "width"].map(|side| format!("data.loader.pad_to.{side}"));
    let keys = TrainConfig::keys().into_iter().map(|key| key.name);
    let criterion = keys.filter(|name| name.starts_with("train.criterion."));
    let plain = words.into_iter().chain(groups).chain(others).map(str::to_owned);
    plain.chain(course).chain(sides).chain(pad).chain(criterion).collect()
}

#[test]
fn every_setting_is_in_the_manual_with_its_values_and_default() {
    let (values, required) = (values(), required());
    let rows = rows("training.md");
    let mut missing = Vec::new();
    // The manual has those of `data.val` under `data.train`.
    for key in TrainConfig::keys().iter().filter(|key| !key.name.starts_with("data.val.")) {
        let name = format!("`{}`", key.name);
        let default = match values.get(&key.name) {
            _ if required.contains(&key.name) => "required",
            Some(value) if value != "null" => value.as_str(),
            _ => "",
        };
        let row = rows.iter().find(|row| row[0] == name);
        let right = row.is_some_and(|row| {
            let stated = row[2].trim_matches('`');
            row.len() == 4
                && row[1].trim_matches('`') == key.expected
                && (default.is_empty() && !stated.is_empty() || stated == default)
                && !row[3].is_empty()
        });
        if !right {
            missing.push(format!("| {name} | {} | {default} | ... |", key.expected));
        }
    }
    assert!(missing.is_empty(), "docs/training.md needs\n{}", missing.join("\n"));
    let known: BTreeSet<String> =
        TrainConfig::keys().iter().map(|key| format!("`{}`", key.name)).collect();
    let tables = ["`model.", "`data.", "`train.", "`run."];
    for row in rows.iter().filter(|row| tables.iter().any(|table| row[0].starts_with(table))) {
        assert!(known.contains(&row[0]), "{} is no setting", row[0]);
    }
}

#[test]
fn every_key_of_tao_leads_to_a_key_or_flag_of_ours() {
    let settings: BTreeSet<String> = TrainConfig::keys().into_iter().map(|key| key.name).collect();
    let tables = |name: &str| {
        let inside =
            |key: &&String| key.strip_prefix(name).is_some_and(|rest| rest.starts_with(['.', '[']));
        settings.iter().any(|key| inside(&key))
    };
    let preset = ModelConfig::preset("deformable-detr-r50-two-stage").unwrap();
    let model = serde_json::to_value(preset).unwrap();
    let mut help: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for row in rows("tao.md").iter().filter(|row| row[0].starts_with('`')) {
        let [theirs, ours, note] = &row[..] else { panic!("{row:?}") };
        assert!(seen.insert(theirs.clone()), "{theirs} is there twice");
        let names = quoted(ours);
        assert!(!names.is_empty() || (ours == "none" && note.len() > 10), "{row:?}");
        for name in names {
            let exists = if let Some(command) = name.strip_prefix("detr ") {
                // `detr train --flag`: the last word is looked for in the help of the others.
                let (command, flag) = command.rsplit_once(' ').unwrap_or((command, ""));
                let text = help.entry(command.to_owned()).or_insert_with(|| {
                    detr(command.split(' ').chain(["--help"])).run().expect(0).stdout
                });
                !flag.starts_with("--")
                    || text.split([' ', '\n', ',']).any(|word| word.trim_end_matches('.') == flag)
            } else if let Some(key) = name.strip_prefix("configs/models: ") {
                !model
                    .pointer(&format!("/{}", key.replace('.', "/")))
                    .unwrap_or(&Value::Null)
                    .is_null()
            } else {
                settings.contains(name) || tables(name)
            };
            assert!(exists, "{theirs}: there is no {name}");
        }
    }
    for (section, expected) in [
        ("model", 27),
        ("dataset", 11),
        ("dataset.augmentation", 11),
        ("train", 18),
        ("train.optim", 11),
        ("evaluate", 10),
        ("inference", 13),
    ] {
        let of = |key: &&String| {
            let key = key.trim_matches('`');
            key.rsplit_once('.').is_some_and(|(parent, _)| parent == section)
        };
        let count = seen.iter().filter(of).count();
        assert_eq!(count, expected, "keys of {section}");
    }
}
