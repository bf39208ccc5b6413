//! Refuses values that fit their types and still cannot work, as far as can be told without model and data.

use std::fmt::Display;

use detr_data::transforms::TransformError;
use detr_data::{LoaderError, Transform};
use detr_loss::Classification;
use detr_model::ModelConfig;
use detr_types::PreprocessSpecError;

use super::{DataSettings, ModelSettings, TrainConfig, TrainSettings};
use crate::step::{ConfigError, Schedule, Unit, not_negative, require};

/// A value that is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedValue {
    /// The dotted key.
    pub(super) key: String,
    pub(super) found: String,
    pub(super) expected: String,
    pub(super) hint: Option<String>,
}

impl From<ConfigError> for RefusedValue {
    fn from(error: ConfigError) -> Self {
        // The usual hint is to leave a key out, and hardly any key of model and data can be.
        let own = ["model.", "data."].iter().any(|table| error.field.starts_with(table));
        let hint = (!own).then(|| error.hint().to_owned());
        let ConfigError { field: key, value: found, expected } = error;
        Self { key, found, expected: expected.to_owned(), hint }
    }
}

/// Refuses the first value that cannot work.
pub(super) fn check(config: &TrainConfig) -> Result<(), RefusedValue> {
    let TrainConfig { model, data, train, run } = config;
    check_model(model)?;
    check_data(data)?;
    check_train(train)?;
    for (key, value) in [
        ("run.validate_every", run.validate_every),
        ("run.keep", run.keep as u64),
        ("run.log_every", run.log_every),
        ("run.max_skipped", run.max_skipped.into()),
    ] {
        require(value > 0, key, value, "1 or more")?;
    }
    let threshold = run.threshold;
    require((0.0..=1.0).contains(&threshold), "run.threshold", threshold, "a number from 0 to 1")?;
    let keys = [("run.max_detections", Some(run.max_detections)), ("run.overfit", run.overfit)];
    for (key, value) in keys {
        require(value != Some(0), key, 0, "1 or more")?;
    }
    let ap = run.stop_at_ap.unwrap_or_default();
    require((0.0..=1.0).contains(&ap), "run.stop_at_ap", ap, "a number from 0 to 1")?;
    let validates = data.val.is_some() || run.overfit.is_some();
    for (key, is) in [
        ("train.early_stopping", train.early_stopping.is_some()),
        ("run.stop_at_ap", run.stop_at_ap.is_some()),
    ] {
        if is && !validates {
            let hint = format!("add data.val, or leave {key} out");
            return refuse(key, "set", "data to validate on, too", Some(&hint));
        }
    }
    Ok(())
}

fn check_model(model: &ModelSettings) -> Result<(), RefusedValue> {
    let texts = [
        ("model.arch", Some(&model.arch)),
        ("model.init", model.init.as_ref()),
        ("model.backbone", model.backbone.as_ref()),
    ];
    for (key, text) in texts {
        let blank = text.is_some_and(|text| text.trim().is_empty());
        require(!blank, key, "empty", "a name or a path")?;
    }
    require(model.num_queries != Some(0), "model.num_queries", 0, "1 or more")?;
    if model.init.is_some() && model.backbone.is_some() {
        let hint = "a checkpoint of a whole model has its backbone, too; leave model.backbone out";
        return refuse("model.backbone", "set beside model.init", "one of the two", Some(hint));
    }
    Ok(())
}

fn check_data(data: &DataSettings) -> Result<(), RefusedValue> {
    for (key, spec) in [("train", Some(&data.train)), ("val", data.val.as_ref())] {
        let Some(spec) = spec else { continue };
        let key = format!("data.{key}.sources");
        require(!spec.sources.is_empty(), &key, "empty", "at least one source")?;
        for (i, source) in spec.sources.iter().enumerate() {
            let empty = source.path.as_os_str().is_empty();
            require(!empty, format!("{key}[{i}].path"), "empty", "a file or folder")?;
        }
    }
    data.loader.validate().map_err(|error| match error {
        LoaderError::Config { field, value, expected } => {
            let key = format!("data.loader.{field}");
            RefusedValue { key, found: value, expected: expected.to_owned(), hint: None }
        }
        other => other_error("data.loader", &other),
    })?;
    if data.loader.seed != 0 {
        let hint = "train.seed is the seed of the order, too";
        return refuse("data.loader.seed", data.loader.seed, "nothing here", Some(hint));
    }
    data.preprocess.validate().map_err(|error| preprocess_error("data.preprocess", &error))?;
    let augmentation = &data.augmentation;
    let place = "data.augmentation";
    augmentation.normalization().validate().map_err(|error| preprocess_error(place, &error))?;
    for (i, transform) in augmentation.transforms.iter().enumerate() {
        transform.validate().map_err(|error| transform_error(i, transform, &error))?;
    }
    let (mean, std) = (data.preprocess.mean, data.preprocess.std);
    if (augmentation.mean, augmentation.std) != (mean, std) {
        let found = format!("{:?}, {:?}", augmentation.mean, augmentation.std);
        let expected = "mean and std of data.preprocess, which validation and the model use";
        return refuse("data.augmentation.mean", found, expected, None);
    }
    Ok(())
}

fn check_train(train: &TrainSettings) -> Result<(), RefusedValue> {
    require(train.epochs > 0, "train.epochs", 0, "1 or more")?;
    require(train.accumulate > 0, "train.accumulate", 0, "1 or more")?;
    if let Some(stopping) = train.early_stopping {
        require(stopping.patience > 0, "train.early_stopping.patience", 0, "1 or more epochs")?;
    }
    not_negative("train.lr_backbone", train.lr_backbone.unwrap_or(0.0))?;
    let has_backbone =
        train.groups.as_ref().is_none_or(|groups| groups.iter().any(|g| g.name == "backbone"));
    if let Some(lr) = train.lr_backbone
        && !has_backbone
    {
        let hint = "name a group `backbone`, or state its lr there";
        return refuse("train.lr_backbone", lr, "train.groups with one named backbone", Some(hint));
    }
    let place = "train.criterion.classification";
    match train.criterion.map(|criterion| criterion.classification) {
        Some(Classification::Softmax { eos_coef }) => {
            not_negative(format!("{place}.softmax.eos_coef"), eos_coef)?;
        }
        Some(Classification::Focal { alpha }) => {
            let ok = (0.0..=1.0).contains(&alpha);
            require(ok, format!("{place}.focal.alpha"), alpha, "a number from 0 to 1")?;
        }
        None => {}
    }
    // A step checks its own settings, which have other names there. Settings that are not stated come from the
    // reference of some model, and work.
    let preset = ModelConfig::presets().next().and_then(|name| ModelConfig::preset(name).ok());
    let step = preset.map_or(Ok(()), |model| train.step(&model).validate());
    step.map_err(|error| {
        let field = error.field.strip_prefix("parameters").unwrap_or(&error.field);
        let dot = if field.starts_with('.') || field.is_empty() { "" } else { "." };
        ConfigError { field: format!("train{dot}{field}"), ..error }
    })?;
    train.schedule.validate("train.schedule")?;
    check_course(train)
}

/// Refuses a drop of the learning rate, or the end of a warm-up, that comes after the last epoch.
fn check_course(train: &TrainSettings) -> Result<(), RefusedValue> {
    let (epochs, schedule) = (train.epochs, &train.schedule);
    let expected = format!("less than train.epochs ({epochs})");
    if schedule.per == Unit::Epoch {
        let (key, last) = match &schedule.course {
            Schedule::Step { every, .. } => ("every", Some(*every)),
            Schedule::MultiStep { milestones, .. } => ("milestones", milestones.last().copied()),
            _ => ("", None),
        };
        if let Some(last) = last.filter(|last| *last >= epochs) {
            let hint =
                "the rate would never drop; train longer, or course = { kind = \"constant\" }";
            return refuse(format!("train.schedule.course.{key}"), last, expected, Some(hint));
        }
    }
    match schedule.warmup {
        Some(warmup) if warmup.per == Unit::Epoch && warmup.length >= epochs => {
            let hint = "the warm-up would never end; per = \"step\" counts steps";
            refuse("train.schedule.warmup.length", warmup.length, expected, Some(hint))
        }
        _ => Ok(()),
    }
}

fn refuse(
    key: impl Into<String>,
    found: impl Display,
    expected: impl Into<String>,
    hint: Option<&str>,
) -> Result<(), RefusedValue> {
    let hint = hint.map(str::to_owned);
    Err(RefusedValue { key: key.into(), found: found.to_string(), expected: expected.into(), hint })
}

fn preprocess_error(place: &str, error: &PreprocessSpecError) -> RefusedValue {
    let (field, found, expected) = match error {
        PreprocessSpecError::Edge { field, value } => {
            ((*field).to_owned(), value.to_string(), "1 to 16384")
        }
        PreprocessSpecError::Statistics { field, channel, value } => {
            let expected = if *field == "std" { "a positive number" } else { "a finite number" };
            (format!("{field}[{channel}]"), value.to_string(), expected)
        }
        PreprocessSpecError::Area { shortest, longest } => {
            let found = format!("{longest} beside shortest_edge {shortest}");
            ("longest_edge".to_owned(), found, "sides that make fewer pixels")
        }
    };
    RefusedValue {
        key: format!("{place}.{field}"),
        found,
        expected: expected.to_owned(),
        hint: None,
    }
}

fn transform_error(index: usize, transform: &Transform, error: &TransformError) -> RefusedValue {
    let place = format!("data.augmentation.transforms[{index}]");
    match error {
        TransformError::Field { transform, field, value, expected } => RefusedValue {
            key: format!("{place}.{transform}.{field}"),
            found: value.clone(),
            expected: (*expected).to_owned(),
            hint: None,
        },
        TransformError::Statistics(_) => other_error(&format!("{place}, {transform:?},"), error),
    }
}

fn other_error(key: &str, error: &dyn Display) -> RefusedValue {
    let (key, found) = (key.to_owned(), error.to_string());
    RefusedValue { key, found, expected: "something else".to_owned(), hint: None }
}
