//! Refuses values that fit their types and still cannot work, as far as can be told without model and data.

use std::borrow::Cow;
use std::fmt::Display;

use detr_loss::Classification;
use detr_model::ModelConfig;
use detr_types::range::{not_negative, require, zero_to_one};
use detr_types::{PreprocessSpec, RangeError};

use super::{DataSettings, ModelSettings, TrainConfig, TrainSettings};
use crate::step::{Schedule, Unit, with_usual_values};

/// Refuses the first value that cannot work.
pub(super) fn check(config: &TrainConfig) -> Result<(), RangeError> {
    check_model(&config.model)?;
    check_data(&config.data)?;
    // The usual hint is to leave a key out, and hardly any key of model and data can be.
    check_train(&config.train).and_then(|()| check_run(config)).map_err(with_usual_values)
}

fn check_model(model: &ModelSettings) -> Result<(), RangeError> {
    let texts = [
        ("model.arch", Some(&model.arch)),
        ("model.init", model.init.as_ref()),
        ("model.backbone", model.backbone.as_ref()),
        ("model.frozen_weights", model.frozen_weights.as_ref()),
    ];
    for (key, text) in texts {
        let blank = text.is_some_and(|text| text.trim().is_empty());
        require(!blank, key, "empty", "a name or a path")?;
    }
    require(model.num_queries != Some(0), "model.num_queries", 0, "1 or more")?;
    if model.init.is_some() && model.backbone.is_some() {
        let hint = "a checkpoint of a whole model has its backbone, too; leave model.backbone out";
        return refuse("model.backbone", "set beside model.init", "one of the two", hint);
    }
    if model.frozen_weights.is_some() && (model.init.is_some() || model.backbone.is_some()) {
        let other = if model.init.is_some() { "model.init" } else { "model.backbone" };
        let hint = format!("the frozen weights are what the model starts from; leave {other} out");
        let found = format!("set beside {other}");
        return refuse("model.frozen_weights", found, "one of the two", hint);
    }
    Ok(())
}

fn check_data(data: &DataSettings) -> Result<(), RangeError> {
    for (key, spec) in [("train", Some(&data.train)), ("val", data.val.as_ref())] {
        let Some(spec) = spec else { continue };
        let key = format!("data.{key}.sources");
        require(!spec.sources.is_empty(), &key, "empty", "at least one source")?;
        for (i, source) in spec.sources.iter().enumerate() {
            let empty = source.path.as_os_str().is_empty();
            require(!empty, format!("{key}[{i}].path"), "empty", "a file or folder")?;
        }
    }
    data.loader.validate().map_err(|error| error.below("data.loader"))?;
    if data.loader.seed != 0 {
        let hint = "train.seed is the seed of the order, too";
        return refuse("data.loader.seed", data.loader.seed, "nothing here", hint);
    }
    let PreprocessSpec { mean, std, .. } = data.preprocess;
    data.preprocess.validate().map_err(|error| RangeError::from(error).below("data.preprocess"))?;
    let augmentation = &data.augmentation;
    PreprocessSpec::check_statistics(augmentation.mean, augmentation.std)
        .map_err(|error| error.below("data.augmentation"))?;
    for (i, transform) in augmentation.transforms.iter().enumerate() {
        let place = format!("data.augmentation.transforms[{i}]");
        transform.validate().map_err(|error| error.below(place))?;
    }
    let found = format!("{:?}, {:?}", augmentation.mean, augmentation.std);
    let expected = "mean and std of data.preprocess, which validation and the model use";
    let same = (augmentation.mean, augmentation.std) == (mean, std);
    require(same, "data.augmentation.mean", found, expected)
}

fn check_train(train: &TrainSettings) -> Result<(), RangeError> {
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
        return refuse("train.lr_backbone", lr, "train.groups with one named backbone", hint);
    }
    let place = "train.criterion.classification";
    match train.criterion.map(|criterion| criterion.classification) {
        Some(Classification::Softmax { eos_coef }) => {
            not_negative(format!("{place}.softmax.eos_coef"), eos_coef)?;
        }
        Some(Classification::Focal { alpha }) => {
            zero_to_one(format!("{place}.focal.alpha"), alpha)?;
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
        RangeError { field: format!("train{dot}{field}"), ..error }
    })?;
    train.schedule.validate("train.schedule")?;
    check_course(train)
}

/// Refuses a drop of the learning rate, or the end of a warm-up, that comes after the last epoch.
fn check_course(train: &TrainSettings) -> Result<(), RangeError> {
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
            return refuse(&format!("train.schedule.course.{key}"), last, expected, hint);
        }
    }
    match schedule.warmup {
        Some(warmup) if warmup.per == Unit::Epoch && warmup.length >= epochs => {
            let hint = "the warm-up would never end; per = \"step\" counts steps";
            refuse("train.schedule.warmup.length", warmup.length, expected, hint)
        }
        _ => Ok(()),
    }
}

fn check_run(config: &TrainConfig) -> Result<(), RangeError> {
    let TrainConfig { data, train, run, .. } = config;
    for (key, value) in [
        ("run.validate_every", run.validate_every),
        ("run.keep", run.keep as u64),
        ("run.log_every", run.log_every),
        ("run.max_skipped", run.max_skipped.into()),
    ] {
        require(value > 0, key, value, "1 or more")?;
    }
    zero_to_one("run.threshold", run.threshold)?;
    let keys = [("run.max_detections", Some(run.max_detections)), ("run.overfit", run.overfit)];
    for (key, value) in keys {
        require(value != Some(0), key, 0, "1 or more")?;
    }
    zero_to_one("run.stop_at_ap", run.stop_at_ap.unwrap_or_default())?;
    let validates = data.val.is_some() || run.overfit.is_some();
    for (key, is) in [
        ("train.early_stopping", train.early_stopping.is_some()),
        ("run.stop_at_ap", run.stop_at_ap.is_some()),
    ] {
        if is && !validates {
            let hint = format!("add data.val, or leave {key} out");
            return refuse(key, "set", "data to validate on, too", hint);
        }
    }
    Ok(())
}

fn refuse(
    key: &str,
    found: impl Display,
    expected: impl Into<Cow<'static, str>>,
    hint: impl Into<Cow<'static, str>>,
) -> Result<(), RangeError> {
    Err(RangeError::new(key, found, expected).with_hint(hint))
}
