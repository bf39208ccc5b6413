//! `detr eval --iou panoptic`: the segments of a model, or of results of any tool, against a panoptic data set.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use detr_data::dataset::Problem;
use detr_data::formats::Accept;
use detr_data::{Dataset, ImageRecord};
use detr_eval::{PanopticFiles, PanopticMetrics, panoptic_quality};
use detr_infer::cli::{
    CliError, Console, Stream, Timings, escaped, make_predictor, open_model_sized, print,
    print_json,
};
use detr_infer::sources::Source;
use detr_infer::writers::{ImageIds, PanopticWriter};
use detr_infer::{PanopticOptions, PredictError, PredictOptions, StageTimes, check_panoptic};
use detr_types::fs::atomic_write;
use detr_types::{Panoptic, counted};
use detr_validate::CategoryMap;

use super::report::Report;
use super::{EvalArgs, note_data, unusable};
use crate::classes::{Renaming, shared_classes};
use crate::data::UprightArgs;

/// Compares segments and prints their quality.
pub(super) fn run(args: &EvalArgs, console: &Console) -> Result<(), CliError> {
    refuse_flags(args)?;
    let truth = PanopticFiles::of(&args.read.panoptic_file(&args.data)?);
    let report = Report::new(args.output.as_deref())?;
    let (metrics, failed) = match (&args.results, &args.model) {
        (Some(path), _) => {
            let json = if path.is_dir() { path.join("panoptic.json") } else { path.clone() };
            (panoptic_quality(&truth, &PanopticFiles::of(&json)).map_err(unusable)?, 0)
        }
        (None, Some(name)) => {
            let scratch = tempfile::tempdir()
                .map_err(|error| CliError::Failed(format!("no folder for segments: {error}")))?;
            let folder = args.output.clone().unwrap_or_else(|| scratch.path().to_owned());
            let failed = predict(name, args, &folder, console)?;
            let found = PanopticFiles::of(&folder.join("panoptic.json"));
            (panoptic_quality(&truth, &found).map_err(unusable)?, failed)
        }
        (None, None) => {
            return Err(CliError::Usage(
                "nothing to score\nhint: give --model or --results".to_owned(),
            ));
        }
    };
    if let Some(folder) = report.folder() {
        write(folder, &metrics)?;
        console.note(&format!("written to {}", folder.display()));
    }
    if args.json {
        print_json(&metrics)?;
    } else {
        print(&escaped(&metrics.report(args.per_class)))?;
    }
    if failed > 0 {
        return Err(CliError::Failed(format!(
            "{failed} of {} failed and count as images without segments",
            counted(metrics.images, "image")
        )));
    }
    Ok(())
}

/// Refuses flags that mean nothing for segments.
fn refuse_flags(args: &EvalArgs) -> Result<(), CliError> {
    let refused = [
        ("--max-detections", args.max_detections != [1, 10, 100], "all segments count"),
        ("--confusion", args.confusion.is_some(), "segments are counted, not detections"),
        (
            "--threshold",
            args.threshold.is_some() && args.results.is_some(),
            "the segments of a file are those of its pixels",
        ),
    ];
    match refused.into_iter().find(|(_, is_set, _)| *is_set) {
        Some((flag, _, reason)) => Err(CliError::Usage(format!(
            "{flag}: with --iou panoptic {reason}\nhint: leave {flag} out"
        ))),
        None => Ok(()),
    }
}

/// Runs a model over the images of the data and writes its segments; returns the number of images that failed.
fn predict(
    name: &OsStr,
    args: &EvalArgs,
    folder: &Path,
    console: &Console,
) -> Result<usize, CliError> {
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = selected.device.clone();
    let own_size = args.image.sets_size();
    let checkpoint = open_model_sized(name, &args.load, own_size, console, || Ok(device))?;
    check_panoptic(&checkpoint.config()?)
        .map_err(|error| CliError::Usage(format!("--iou panoptic: {error}")))?;
    let upright = UprightArgs { apply_exif: args.image.apply_exif };
    let dataset = args.read.as_panoptic().load(&args.data, Accept::Errors, upright)?;
    note_data(&dataset, console);
    refuse_without_images(&dataset)?;
    let options = PredictOptions::default();
    let predictor = make_predictor(&checkpoint, &selected, &args.device, &args.image, options)?;
    drop(checkpoint);
    let (categories, notes) =
        shared_classes(predictor.classes(), &dataset.categories, Renaming::Flag)?;
    for note in notes {
        console.note(&format!("note: {note}"));
    }
    let file = |image: &ImageRecord| format!("{:012}.png", image.id);
    let names: Vec<String> = dataset.images.iter().map(file).collect();
    let mut writer = PanopticWriter::create(folder, &names, predictor.classes())?;
    if writer.image_ids() == ImageIds::Positions {
        return Err(CliError::Data(
            "the data set has an image id below 0, which no file of segments can be named after\n\
             hint: give the images ids from 1"
                .to_owned(),
        ));
    }
    let options = match args.threshold {
        #[allow(clippy::cast_possible_truncation)] // a probability
        Some(threshold) => {
            PanopticOptions { threshold: threshold as f32, ..PanopticOptions::default() }
        }
        None => PanopticOptions::default(),
    };
    let sources: Vec<Source> =
        dataset.images.iter().map(|image| Source::File(image.path.clone())).collect();
    let stream =
        Stream { predictor: &predictor, console, images: &args.image, strict: args.strict };
    let mut timings = Timings::default();
    let mut failed = 0;
    stream.read(&sources, &mut timings, |images, timings| {
        let (mut done, mut times) = (0, StageTimes::default());
        for (index, image) in images {
            let record = &dataset.images[index];
            let found = match image {
                Ok(image) => predictor.predict_panoptic_timed(&image, options),
                Err(fault) => Err(PredictError::Image { index: 0, fault }),
            };
            let found = match found {
                Ok((found, spent)) => {
                    times += spent;
                    done += 1;
                    of_the_data(found, &categories)
                }
                Err(PredictError::Image { fault, .. }) => {
                    failed += 1;
                    let message =
                        format!("image {}: {}: {fault}", record.id, record.path.display());
                    if args.strict {
                        return Err(CliError::Failed(message));
                    }
                    console.error(&message);
                    void(record)?
                }
                Err(error) => return Err(error.into()),
            };
            writer.write(&names[index], &found)?;
            console.advance(1);
        }
        timings.set(done, times);
        Ok(())
    })?;
    writer.finish()?;
    console.note(&format!("{} on {}", timings.throughput(), selected.name));
    Ok(failed)
}

/// Gives segments the ids of the categories of the data. Those of other classes become void.
fn of_the_data(mut found: Panoptic, categories: &CategoryMap) -> Panoptic {
    let (known, unknown): (Vec<_>, Vec<_>) = found
        .segments
        .into_iter()
        .map(|segment| (categories.category(segment.label), segment))
        .partition(|(category, _)| category.is_some());
    let gone: Vec<u32> = unknown.into_iter().map(|(_, segment)| segment.id).collect();
    for id in found.ids.iter_mut().filter(|id| gone.contains(id)) {
        *id = 0;
    }
    let named = known.into_iter().filter_map(|(category, mut segment)| {
        segment.category_id = category?;
        Some(segment)
    });
    found.segments = named.collect();
    found
}

/// Returns the prediction for an image that could not be used: void everywhere.
fn void(image: &ImageRecord) -> Result<Panoptic, CliError> {
    let size = image.size.ok_or_else(|| {
        CliError::Data(format!("image {} has no size in the annotations", image.id))
    })?;
    let pixels = usize::try_from(size.pixels()).unwrap_or(0);
    Ok(Panoptic { size, ids: vec![0; pixels], segments: Vec::new() })
}

fn refuse_without_images(dataset: &Dataset) -> Result<(), CliError> {
    let missing = dataset.report.count(Problem::MissingFile);
    if dataset.images.is_empty() || missing < dataset.images.len() {
        return Ok(());
    }
    Err(CliError::Data(format!(
        "none of the {} image files is there\nhint: --images DIR says where they are",
        dataset.images.len()
    )))
}

fn write(folder: &Path, metrics: &PanopticMetrics) -> Result<(), CliError> {
    let json = serde_json::to_string_pretty(metrics).unwrap_or_default() + "\n";
    for (name, text) in [("metrics.json", json), ("table.txt", metrics.report(true))] {
        let path: PathBuf = folder.join(name);
        atomic_write(&path, |file| file.write_all(text.as_bytes())).map_err(|error| {
            CliError::Failed(format!("cannot write {}: {error}", path.display()))
        })?;
    }
    Ok(())
}
