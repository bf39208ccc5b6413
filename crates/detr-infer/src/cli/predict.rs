//! `detr-infer` and `detr predict`: images through a model, results out.

use std::ops::ControlFlow;
use std::path::Path;

use detr_data::RgbImage;
use detr_types::{Detection, ImageSize, counted};

use super::output::{Pictures, Printer, check_output};
use super::panoptic::predict_panoptic;
use super::stream::{Stream, StreamResult, make_predictor};
use super::timings::Timings;
use super::{CliError, Console, PredictArgs, open_model_sized};
use crate::palette::Palette;
use crate::sources::{Source, expand_sources_counted};
use crate::writers::{ImageIds, ImageResult, OutputFormat, ResultWriter};
use crate::{PredictError, PredictOptions, Predictor};

/// Detects objects in all images that the arguments stand for. An image that fails is reported and
/// the rest goes on, unless `--strict`.
///
/// # Errors
/// Arguments, model or device that cannot be used, results that cannot be written, or
/// [`CliError::Failed`] when an image failed.
pub fn predict(args: &PredictArgs, console: &Console) -> Result<(), CliError> {
    let (sources, duplicates) = expand_sources_counted(&args.sources)?;
    if duplicates > 0 {
        console.note(&format!("note: images given twice are taken once ({duplicates} left out)"));
    }
    check_flags(args)?;
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    if is_panoptic(args) {
        return predict_panoptic(args, console, &sources, &selected);
    }
    let device = selected.device.clone();
    let own_size = args.images.sets_size();
    let checkpoint = open_model_sized(&args.model, &args.load, own_size, console, || Ok(device))?;
    if args.masks && !checkpoint.config()?.has_masks() {
        return Err(CliError::Usage(format!("--masks: {}", PredictError::NoMasks)));
    }
    let shown = args.save.is_some() || args.format == Some(OutputFormat::Coco);
    let options = PredictOptions {
        masks: args.masks || shown,
        threshold: args.threshold.unwrap_or(PredictOptions::default().threshold),
        max_detections: args.max_detections,
        classes: args.classes.clone(),
    };
    let predictor = make_predictor(&checkpoint, &selected, &args.device, &args.images, options)?;
    drop(checkpoint);

    let mut job = Job::new(args, console, &sources, &predictor)?;
    let stream =
        Stream { predictor: &predictor, console, images: &args.images, strict: args.strict };
    let mut timings = Timings::default();
    let outcome = stream.run(&sources, &mut timings, |index, found| job.take(index, found));
    job.finish(outcome, &timings)
}

/// Returns whether segments are wanted and not objects.
fn is_panoptic(args: &PredictArgs) -> bool {
    args.panoptic || args.format == Some(OutputFormat::Panoptic)
}

/// Refuses flags that would be without effect.
fn check_flags(args: &PredictArgs) -> Result<(), CliError> {
    if args.reference_ids && !is_panoptic(args) {
        let text = "--reference-ids: only --panoptic and --format panoptic number segments";
        return Err(CliError::Usage(text.to_owned()));
    }
    if args.masks && !args.json && !args.jsonl && !is_panoptic(args) {
        let text = "--masks: the lines for people have no masks\nhint: give --json or --jsonl; --save draws masks and \
                    --format coco writes them without --masks";
        return Err(CliError::Usage(text.to_owned()));
    }
    Ok(())
}

/// The state of one run: where its results go, and the results so far.
struct Job<'a> {
    args: &'a PredictArgs,
    console: &'a Console,
    names: Vec<String>,
    printer: Printer<'a>,
    writer: Option<ResultWriter>,
    pictures: Option<Pictures>,
    failed: usize,
}

impl<'a> Job<'a> {
    /// Refuses everything that can be refused before the first image.
    fn new(
        args: &'a PredictArgs,
        console: &'a Console,
        sources: &[Source],
        predictor: &Predictor,
    ) -> Result<Self, CliError> {
        let palette: Palette = args.color.iter().cloned().collect();
        palette.check(predictor.classes())?;
        let names: Vec<String> = sources.iter().map(Source::name).collect();
        let pictures = match &args.save {
            Some(folder) => Some(Pictures::new(folder, sources, palette, console)?),
            None => None,
        };
        let writer = match (args.format, &args.output) {
            (Some(format), Some(path)) => {
                check_output(format, path, sources)?;
                let files: Vec<&Path> = sources.iter().map(Source::path).collect();
                Some(ResultWriter::create(format, path, &files, predictor.classes())?)
            }
            _ => None,
        };
        if args.format == Some(OutputFormat::Coco)
            && writer.as_ref().is_some_and(|writer| writer.image_ids() == ImageIds::Positions)
        {
            console.note(
                "note: not all file names are distinct numbers, so image ids are positions from 1",
            );
        }
        let printer = Printer::new(args, console);
        Ok(Self { args, console, names, printer, writer, pictures, failed: 0 })
    }

    /// Takes the result of an image, and ends the run when no output has a reader.
    fn take(&mut self, index: usize, found: StreamResult) -> Result<ControlFlow<()>, CliError> {
        match found {
            Ok((image, detections)) => self.deliver(index, image, detections)?,
            Err(fault) => self.fail(index, &fault.to_string())?,
        }
        let unread = self.printer.is_closed() && self.writer.is_none() && self.pictures.is_none();
        Ok(if unread { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    fn deliver(
        &mut self,
        index: usize,
        image: RgbImage,
        detections: Vec<Detection>,
    ) -> Result<(), CliError> {
        let size = ImageSize::new(image.height(), image.width());
        let mut result = ImageResult { file: self.names[index].clone(), size, detections };
        if self.args.masks {
            self.printer.result(&result)?;
        } else {
            // Masks that were made for other outputs are long.
            let masks: Vec<_> = result.detections.iter_mut().map(|d| d.mask.take()).collect();
            self.printer.result(&result)?;
            for (detection, mask) in result.detections.iter_mut().zip(masks) {
                detection.mask = mask;
            }
        }
        if let Some(writer) = &mut self.writer {
            writer.write(&result)?;
        }
        if let Some(pictures) = &self.pictures {
            pictures.save(index, image, &result.detections)?;
        }
        Ok(())
    }

    fn fail(&mut self, index: usize, message: &str) -> Result<(), CliError> {
        self.failed += 1;
        let name = &self.names[index];
        self.printer.failure(name, message)?;
        let report = format!("{}: {message}", name.replace(char::is_control, "?"));
        if self.args.strict || self.names.len() == 1 {
            return Err(CliError::Failed(report));
        }
        self.console.error(&report);
        Ok(())
    }

    /// Completes what was begun. After an error only stdout is, so that it stays valid JSON.
    fn finish(mut self, outcome: Result<(), CliError>, timings: &Timings) -> Result<(), CliError> {
        self.printer.finish(&timings.json())?;
        outcome?;
        if let (Some(writer), Some(path)) = (self.writer, &self.args.output) {
            let written = writer.finish()?;
            let objects = counted(written.detections, "object");
            let images = counted(written.images, "image");
            self.console.note(&format!("{objects} in {images}: {}", path.display()));
            if written.outside > 0 {
                let boxes = counted(written.outside, "box");
                self.console.note(&format!("note: {boxes} outside their image left out"));
            }
        }
        if self.args.timings && !self.printer.holds_timings() {
            self.console.say(&timings.table());
        }
        if self.failed > 0 {
            let (failed, all) = (self.failed, counted(self.names.len(), "image"));
            return Err(CliError::Failed(format!("{failed} of {all} failed")));
        }
        Ok(())
    }
}
