//! `--panoptic`: a segment for every pixel instead of objects.

use std::ops::ControlFlow;

use detr_data::RgbImage;
use detr_types::{ImageSize, Panoptic, counted};
use serde_json::json;

use super::output::{Pictures, Printer, refuse_to_replace_panoptic};
use super::stream::{Stream, make_predictor};
use super::timings::Timings;
use super::{CliError, Console, PredictArgs, open_model};
use crate::backend::SelectedDevice;
use crate::palette::Palette;
use crate::sources::Source;
use crate::writers::{ImageIds, OutputFormat, PanopticWriter};
use crate::{
    ImageFault, PanopticOptions, PredictError, PredictOptions, Predictor, StageTimes,
    check_panoptic,
};

/// The reference's threshold.
const THRESHOLD: f32 = 0.85;
/// The most segments that a line lists.
const LISTED: usize = 8;

/// Gives every pixel of all images a segment. An image that fails is reported and the rest goes on, unless
/// `--strict`.
pub(super) fn predict_panoptic(
    args: &PredictArgs,
    console: &Console,
    sources: &[Source],
    selected: &SelectedDevice,
) -> Result<(), CliError> {
    refuse_flags(args)?;
    let device = selected.device.clone();
    let checkpoint = open_model(&args.model, &args.load, console, || Ok(device))?;
    check_panoptic(&checkpoint.config()?)
        .map_err(|error| CliError::Usage(format!("--panoptic: {error}")))?;
    let options = PredictOptions::default();
    let predictor = make_predictor(&checkpoint, selected, &args.device, &args.images, options)?;
    drop(checkpoint);
    let mut job = Job::new(args, console, sources, &predictor)?;
    let stream =
        Stream { predictor: &predictor, console, images: &args.images, strict: args.strict };
    let mut timings = Timings::default();
    let outcome = stream.read(sources, &mut timings, |images, timings| {
        let (mut done, mut times) = (0, StageTimes::default());
        let run = || {
            for (index, image) in images {
                let found = image.map(|image| (job.predict(&image), image));
                let flow = match found {
                    Ok((Ok((found, spent)), image)) => {
                        times += spent;
                        done += 1;
                        job.deliver(index, &image, &found)?
                    }
                    Ok((Err(PredictError::Image { fault, .. }), _)) | Err(fault) => {
                        job.fail(index, &fault)?
                    }
                    Ok((Err(error), _)) => return Err(error.into()),
                };
                console.advance(1);
                if flow.is_break() {
                    break;
                }
            }
            Ok(())
        };
        let outcome = run();
        timings.set(done, times);
        outcome
    });
    job.finish(outcome, &timings)
}

/// Refuses flags that mean nothing for segments.
fn refuse_flags(args: &PredictArgs) -> Result<(), CliError> {
    let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
    if !args.classes.is_empty() {
        return usage(
            "--classes: --panoptic gives every pixel to the best of all classes\nhint: leave --classes out",
        );
    }
    if args.max_detections != PredictOptions::default().max_detections {
        return usage(
            "--max-detections: --panoptic keeps as many segments as there are\nhint: leave --max-detections out",
        );
    }
    if args.masks {
        return usage(
            "--masks: --panoptic has one map of ids in place of masks\nhint: leave --masks out, or give --format panoptic",
        );
    }
    if args.images.batch_size != 1 {
        return usage(
            "--batch-size: --panoptic takes images one by one\nhint: leave --batch-size out",
        );
    }
    match args.format {
        None | Some(OutputFormat::Panoptic) => Ok(()),
        Some(format) => Err(CliError::Usage(format!(
            "--format {format}: it holds objects, and --panoptic gives segments\nhint: --format panoptic, or leave \
             --panoptic out"
        ))),
    }
}

/// The state of one run: where its results go, and the results so far.
struct Job<'a> {
    args: &'a PredictArgs,
    console: &'a Console,
    predictor: &'a Predictor,
    options: PanopticOptions,
    names: Vec<String>,
    printer: Printer<'a>,
    writer: Option<PanopticWriter>,
    pictures: Option<Pictures>,
    failed: usize,
}

impl<'a> Job<'a> {
    fn new(
        args: &'a PredictArgs,
        console: &'a Console,
        sources: &[Source],
        predictor: &'a Predictor,
    ) -> Result<Self, CliError> {
        let palette: Palette = args.color.iter().cloned().collect();
        palette.check(predictor.classes())?;
        let names: Vec<String> = sources.iter().map(Source::name).collect();
        let pictures = match &args.save {
            Some(folder) => Some(Pictures::new(folder, sources, palette, console)?),
            None => None,
        };
        let writer = match &args.output {
            Some(folder) => {
                refuse_to_replace_panoptic(folder, sources)?;
                Some(PanopticWriter::create(folder, &names, predictor.classes())?)
            }
            None => None,
        };
        if writer.as_ref().is_some_and(|writer| writer.image_ids() == ImageIds::Positions) {
            console.note(
                "note: not all file names are distinct numbers, so image ids are positions from 1",
            );
        }
        let options = PanopticOptions {
            threshold: args.threshold.unwrap_or(THRESHOLD),
            reference_ids: args.reference_ids,
        };
        let printer = Printer::new(args, console);
        Ok(Self { args, console, predictor, options, names, printer, writer, pictures, failed: 0 })
    }

    fn predict(&self, image: &RgbImage) -> Result<(Panoptic, StageTimes), PredictError> {
        self.predictor.predict_panoptic_timed(image, self.options)
    }

    fn deliver(
        &mut self,
        index: usize,
        image: &RgbImage,
        found: &Panoptic,
    ) -> Result<ControlFlow<()>, CliError> {
        let (name, ImageSize { height, width }) = (&self.names[index], found.size);
        let value =
            json!({"file": name, "width": width, "height": height, "segments": found.segments});
        self.printer.value(&line(name, found), &value)?;
        if let Some(writer) = &mut self.writer {
            writer.write(name, found)?;
        }
        if let Some(pictures) = &self.pictures {
            pictures.save_panoptic(index, image, found)?;
        }
        Ok(self.flow())
    }

    fn fail(&mut self, index: usize, fault: &ImageFault) -> Result<ControlFlow<()>, CliError> {
        self.failed += 1;
        let (name, message) = (&self.names[index], fault.to_string());
        self.printer.failure(name, &message)?;
        let report = format!("{}: {message}", name.replace(char::is_control, "?"));
        if self.args.strict || self.names.len() == 1 {
            return Err(CliError::Failed(report));
        }
        self.console.error(&report);
        Ok(self.flow())
    }

    /// Ends the run when no output has a reader.
    fn flow(&self) -> ControlFlow<()> {
        let unread = self.printer.is_closed() && self.writer.is_none() && self.pictures.is_none();
        if unread { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    /// Completes what was begun. After an error only stdout is, so that it stays valid JSON.
    fn finish(mut self, outcome: Result<(), CliError>, timings: &Timings) -> Result<(), CliError> {
        self.printer.finish(&timings.json())?;
        outcome?;
        if let (Some(writer), Some(folder)) = (self.writer, &self.args.output) {
            writer.finish()?;
            self.console.note(&format!("segments: {}", folder.join("panoptic.json").display()));
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

/// Writes one line about an image for the terminal: the largest segments first, and how much of the image
/// they are.
fn line(name: &str, found: &Panoptic) -> String {
    let ImageSize { height, width } = found.size;
    let mut segments: Vec<_> = found.segments.iter().collect();
    segments.sort_by_key(|segment| std::cmp::Reverse(segment.area));
    let count = segments.len();
    let pixels = found.size.pixels().max(1);
    let listed: Vec<String> = segments
        .iter()
        .take(LISTED)
        .map(|segment| format!("{} {}%", segment.name, (100 * segment.area + pixels / 2) / pixels))
        .collect();
    let more =
        if count > LISTED { format!(", and {} more", count - LISTED) } else { String::new() };
    let noun = if count == 1 { "segment" } else { "segments" };
    let colon = if count == 0 { "" } else { ": " };
    let text = format!("{name} {width}x{height}: {count} {noun}{colon}{}{more}", listed.join(", "));
    text.replace(char::is_control, "?")
}
