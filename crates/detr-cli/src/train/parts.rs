//! Builds the parts of a run from its settings: data, a model with a head for its classes, and
//! loaders.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::Device;
use detr_data::dataset::DatasetSpec;
use detr_data::formats::ReadOptions;
use detr_data::{
    Augmentation, Dataset, DatasetSource, DecodeOptions, Loader, LoaderConfig, TargetCounts,
};
use detr_eval::{EvalOptions, Evaluator, IouKind};
use detr_infer::cli::{CliError, Console, read_text};
use detr_model::{Model, ModelConfig};
use detr_train::{TrainConfig, TrainInputs, ValidationSet};
use detr_types::{ClassTable, counted};
use detr_validate::ground_truth;

use super::notes::{StartNotes, nothing_to_learn, refuse_nothing_to_learn};
use crate::classes::{Renaming, shared_classes};
use crate::data::unreadable;

/// The parts of a run, built from its settings.
pub(super) struct RunParts<'a> {
    pub(super) parts: TrainInputs,
    /// The weights that it starts with.
    pub(super) start: Model,
    /// The data of the validation.
    pub(super) val: Option<Arc<Dataset>>,
    /// The messages about data and weights.
    pub(super) notes: StartNotes<'a>,
}

/// Reads data, makes the model and the loaders. A run that goes on has its weights in its checkpoints; what
/// it began with may be gone.
pub(super) fn build<'a>(
    config: &TrainConfig,
    base: &Path,
    devices: Vec<Device>,
    folder: PathBuf,
    goes_on: bool,
    console: &'a Console,
) -> Result<RunParts<'a>, CliError> {
    let apply_exif = config.data.apply_exif;
    let load = |spec| load(spec, base, apply_exif);
    let mut notes = StartNotes::new(console);
    let mut train = load(&config.data.train)?;
    notes.dataset("data.train", &train);
    let mut val = config.data.val.as_ref().map(load).transpose()?;
    if let Some(val) = &val {
        notes.dataset("data.val", val);
    }
    if train.categories.is_empty() {
        return Err(nothing_to_learn(&train, TargetCounts::default()));
    }
    let classes = train.class_table(config.data.labels).map_err(unreadable)?;
    refuse_nothing_to_learn(&train, &classes)?;
    let mut augmentation = config.data.augmentation.clone();
    if let Some(count) = config.run.overfit {
        train.images.retain(|image| image.objects.iter().any(|object| !object.iscrowd));
        train.images.truncate(count);
        val = Some(train.clone());
        augmentation = Augmentation::validation(&config.data.preprocess);
        notes.say(&format!("learning from {} alone", counted(train.images.len(), "image")));
        refuse_nothing_to_learn(&train, &classes)?;
    }
    if let Some(val) = &val {
        compare_classes(&classes, val, &mut notes)?;
    }
    let model = architecture(config, base, classes.len())?;
    let step = config.step(&model);
    let mut others: Vec<Device> = devices.into_iter().map(|device| step.device(device)).collect();
    let device = others.remove(0);
    device.seed(config.train.seed);
    let start = if goes_on {
        model.init(&device)
    } else {
        let started = detr_train::start(&config.model, base, &model, &classes, &device)
            .map_err(|error| CliError::Model(error.to_string()))?;
        started.notes.iter().for_each(|note| notes.say(note));
        started.model
    };
    let val = val.map(Arc::new);
    let validation =
        val.as_ref().map(|dataset| validation(config, dataset, &classes, &model)).transpose()?;
    if model.has_masks() {
        refuse_without_outlines(&train)?;
    }
    let seed = config.train.seed;
    let source = DatasetSource::new(Arc::new(train), &classes, augmentation, seed)
        .map_err(data)?
        .with_decode(decoding(config))
        .with_masks(model.has_masks())
        .with_cache(config.data.cache_mode, u64::MAX);
    let loader = LoaderConfig { seed, ..config.data.loader.clone() };
    let loader = Arc::new(Loader::new(Arc::new(source), loader).map_err(data)?);
    let preprocess = config.data.preprocess;
    let parts =
        TrainInputs { model, device, others, classes, loader, validation, preprocess, folder };
    Ok(RunParts { parts, start, val, notes })
}

/// Says which classes only the model or only the validation has, which are joined by name as in `detr eval`.
fn compare_classes(
    classes: &ClassTable,
    val: &Dataset,
    notes: &mut StartNotes<'_>,
) -> Result<(), CliError> {
    let (_, differences) = shared_classes(classes, &val.categories, Renaming::Setting)?;
    for note in differences {
        notes.say(&format!("note: data.val: {note}"));
    }
    if !val.images.iter().flat_map(|image| &image.objects).any(|object| !object.iscrowd) {
        notes.warn(
            "data.val: there is no object to be found, so AP is `-` and no model is the best",
        );
    }
    Ok(())
}

/// Completes the settings with everything that they leave to a model, and makes all paths absolute.
pub(super) fn complete(
    config: &TrainConfig,
    base: &Path,
    model: &ModelConfig,
) -> Result<TrainConfig, CliError> {
    let failed = |error| CliError::Failed(format!("the current folder cannot be told: {error}"));
    let mut config = TrainConfig { train: config.resolved(model), ..config.clone() };
    let model = &mut config.model;
    let arch = base.join(&model.arch).is_file().then_some(&mut model.arch);
    let paths = [&mut model.init, &mut model.backbone, &mut model.frozen_weights];
    let paths = paths.into_iter().filter_map(Option::as_mut);
    for name in arch.into_iter().chain(paths) {
        let path = std::path::absolute(base.join(&*name)).map_err(failed)?;
        *name = path.display().to_string();
    }
    config.data.train = config.data.train.absolute(base).map_err(failed)?;
    if let Some(val) = &mut config.data.val {
        *val = val.absolute(base).map_err(failed)?;
    }
    Ok(config)
}

fn validation(
    config: &TrainConfig,
    dataset: &Arc<Dataset>,
    classes: &ClassTable,
    model: &ModelConfig,
) -> Result<ValidationSet, CliError> {
    let truth = ground_truth(dataset, IouKind::Bbox).map_err(data)?;
    let mask_truth = if model.has_masks() {
        refuse_without_outlines(dataset)?;
        let truth = ground_truth(dataset, IouKind::Segm).map_err(data)?;
        // Checked before the first epoch, not after it.
        let options = EvalOptions { iou: IouKind::Segm, ..EvalOptions::default() };
        let truth = Arc::new(truth);
        Evaluator::new(truth.clone(), options).map_err(data)?;
        Some(truth)
    } else {
        None
    };
    let augmentation = Augmentation::validation(&config.data.preprocess);
    let source = DatasetSource::new(dataset.clone(), classes, augmentation, 0)
        .map_err(data)?
        .with_decode(decoding(config))
        .with_cache(config.data.cache_mode, u64::MAX);
    let batch_size = config.data.loader.batch_size;
    Ok(ValidationSet { source: Arc::new(source), truth: Arc::new(truth), mask_truth, batch_size })
}

/// Refuses data whose objects have no outlines: a mask head would learn that there is nothing.
fn refuse_without_outlines(dataset: &Dataset) -> Result<(), CliError> {
    let objects = dataset.images.iter().flat_map(|image| {
        let objects = image.objects.iter().filter(|object| !object.iscrowd);
        objects.map(move |object| (image, object))
    });
    let mut missing = objects.filter(|(_, object)| object.segmentation.is_none());
    let Some((image, object)) = missing.next() else { return Ok(()) };
    let count = 1 + missing.count();
    Err(data(format_args!(
        "{}: object {} has no segmentation, and neither have {} others, but the model has a mask head\n\
         hint: use annotations with polygons or run-length codes, or an architecture without masks",
        image.file_name,
        object.id,
        count - 1
    )))
}

fn data(error: impl std::fmt::Display) -> CliError {
    CliError::Data(error.to_string())
}

fn load(spec: &DatasetSpec, base: &Path, apply_exif: bool) -> Result<Dataset, CliError> {
    let options = ReadOptions { apply_exif, ..ReadOptions::default() };
    spec.load(base, &options).map_err(unreadable)
}

/// Returns the options with which all images of a run are decoded.
pub(super) fn decoding(config: &TrainConfig) -> DecodeOptions {
    DecodeOptions { apply_exif: config.data.apply_exif, ..DecodeOptions::default() }
}

/// Returns the model's architecture with a head for the classes.
fn architecture(
    config: &TrainConfig,
    base: &Path,
    classes: usize,
) -> Result<ModelConfig, CliError> {
    let arch = &config.model.arch;
    let path = base.join(arch);
    let model = if path.is_file() {
        ModelConfig::from_toml(&read_text(&path)?)
            .map_err(|error| CliError::Usage(format!("{}: {error}", path.display())))?
    } else {
        ModelConfig::preset(arch)
            .map_err(|error| CliError::Usage(format!("model.arch: {error}, or a TOML file")))?
    };
    let model = model.with_sizes(classes, config.model.num_queries);
    model.validate()?;
    Ok(model)
}
