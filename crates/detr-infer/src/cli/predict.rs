//! `detr-infer` and `detr predict`: images through a model, results out.

use std::time::Instant;

use detr_data::{DecodeOptions, RgbImage};
use detr_model::weights::Checkpoint;
use detr_types::{Detection, ImageSize, Limits, PreprocessSpec};

use super::output::{Pictures, Printer, check_output};
use super::reader::{Decoded, decode_ahead};
use super::timings::Timings;
use super::{CliError, Console, PredictArgs, open_model};
use crate::backend::Selected;
use crate::palette::Palette;
use crate::sources::{Source, expand_sources_counted};
use crate::writers::{ImageIds, ImageResult, OutputFormat, ResultWriter};
use crate::{PredictError, PredictOptions, Predictor};

/// From this many images on, a bar shows the progress.
const BAR_FROM: usize = 4;
/// So many batches' worth of images are looked at together, to find more of equal size,
const BATCHES_AT_ONCE: usize = 4;
/// or fewer, once their pixels take so many bytes.
const BYTES_AT_ONCE: usize = 256 << 20;

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
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = selected.device.clone();
    let checkpoint = open_model(&args.model, &args.load, console, || Ok(device))?;
    let predictor = make_predictor(args, &checkpoint, &selected)?;
    drop(checkpoint);

    let mut job = Job::new(args, console, &sources, &predictor)?;
    if sources.len() >= BAR_FROM {
        console
            .start_bar(Some(sources.len() as u64), "{bar:30} {pos}/{len} images {per_sec} {eta}");
    }
    let limits = Limits { pixels: args.max_pixels, ..Limits::default() };
    let options = DecodeOptions { limits, apply_exif: args.apply_exif };
    let ahead = 2 * args.batch_size as usize + 1;
    let start = Instant::now();
    let outcome = decode_ahead(&sources, &options, ahead, |images| job.process(images));
    job.timings.wall = start.elapsed();
    console.end_bar();
    job.finish(outcome)
}

fn make_predictor(
    args: &PredictArgs,
    checkpoint: &Checkpoint,
    selected: &Selected,
) -> Result<Predictor, CliError> {
    let spec = sized(checkpoint.preprocess, args)?;
    let options = PredictOptions {
        threshold: args.threshold,
        max_detections: args.max_detections,
        classes: args.classes.clone(),
    };
    let start = Instant::now();
    let predictor = Predictor::new(checkpoint, selected, args.device.dtype)?
        .with_options(options)?
        .with_preprocess(spec)?;
    tracing::info!("model ready after {:.2?}", start.elapsed());
    Ok(predictor)
}

/// The model's image size with that of the flags.
fn sized(card: PreprocessSpec, args: &PredictArgs) -> Result<PreprocessSpec, CliError> {
    let shortest_edge = args.size.unwrap_or(card.shortest_edge);
    let longest_edge = args.max_size.unwrap_or(card.longest_edge);
    if args.size.is_some_and(|size| size > longest_edge) {
        let whose = if args.max_size.is_some() { "--max-size" } else { "the model's longest side" };
        return Err(CliError::Usage(format!(
            "--size {shortest_edge} is larger than {whose} ({longest_edge})\n\
             hint: give a larger --max-size too"
        )));
    }
    Ok(PreprocessSpec { shortest_edge, longest_edge, ..card })
}

/// One run: where its results go, and what came of it so far.
struct Job<'a> {
    args: &'a PredictArgs,
    console: &'a Console,
    predictor: &'a Predictor,
    names: Vec<String>,
    printer: Printer<'a>,
    writer: Option<ResultWriter>,
    pictures: Option<Pictures>,
    timings: Timings,
    failed: usize,
}

/// An image and its position among the sources, or why there is none.
type Pending = (usize, Result<RgbImage, String>);
/// What was found in an image, or why nothing could be.
type Outcome = Result<Vec<Detection>, String>;

impl<'a> Job<'a> {
    /// Everything that can be refused is refused here, before the first image.
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
        let writer = match (args.format, &args.output) {
            (Some(format), Some(path)) => {
                check_output(format, path, sources)?;
                Some(ResultWriter::create(format, path, &names, predictor.classes())?)
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
        Ok(Self {
            args,
            console,
            predictor,
            names,
            printer,
            writer,
            pictures,
            timings: Timings::default(),
            failed: 0,
        })
    }

    fn process(&mut self, images: impl Iterator<Item = Decoded>) -> Result<(), CliError> {
        let batch_size = self.args.batch_size as usize;
        let most = if batch_size == 1 { 1 } else { BATCHES_AT_ONCE * batch_size };
        let mut pending: Vec<Pending> = Vec::new();
        let (mut good, mut bytes) = (0, 0);
        for (index, decoded) in images.enumerate() {
            self.timings.decode += decoded.time;
            if let Ok(image) = &decoded.image {
                good += 1;
                bytes += image.as_raw().len();
            }
            let stop = decoded.image.is_err() && self.args.strict;
            pending.push((index, decoded.image));
            if stop || good == most || (good >= batch_size && bytes >= BYTES_AT_ONCE) {
                self.flush(std::mem::take(&mut pending))?;
                (good, bytes) = (0, 0);
            }
            if self.printer.is_closed() && self.writer.is_none() && self.pictures.is_none() {
                return Ok(());
            }
        }
        self.flush(pending)
    }

    /// Detects in the good images, batch by batch, and hands on all results in their order.
    fn flush(&mut self, pending: Vec<Pending>) -> Result<(), CliError> {
        let images: Vec<&RgbImage> = pending.iter().filter_map(|(_, i)| i.as_ref().ok()).collect();
        let spec = self.predictor.preprocess();
        let sizes = images.iter().map(|i| spec.target_size(ImageSize::new(i.height(), i.width())));
        let mut detected: Vec<Outcome> = images.iter().map(|_| Ok(Vec::new())).collect();
        let most = self.args.batch_size as usize;
        for batch in batches(sizes, most, self.predictor.mixes_sizes()) {
            let members: Vec<&RgbImage> = batch.iter().map(|&index| images[index]).collect();
            for (index, outcome) in batch.into_iter().zip(self.detect(&members)?) {
                detected[index] = outcome;
            }
        }
        let mut detected = detected.into_iter();
        for (index, image) in pending {
            let outcome = image.and_then(|image| {
                let detections = detected.next().unwrap_or_else(|| Ok(Vec::new()))?;
                Ok((image, detections))
            });
            match outcome {
                Ok((image, detections)) => self.deliver(index, image, detections)?,
                Err(message) => self.fail(index, &message)?,
            }
            self.console.advance(1);
        }
        Ok(())
    }

    /// One outcome per image: an image that cannot be used does not take its batch down.
    fn detect(&mut self, images: &[&RgbImage]) -> Result<Vec<Outcome>, CliError> {
        let mut outcomes: Vec<Outcome> = images.iter().map(|_| Ok(Vec::new())).collect();
        let mut left: Vec<usize> = (0..images.len()).collect();
        while !left.is_empty() {
            let batch: Vec<&RgbImage> = left.iter().map(|&index| images[index]).collect();
            let error = match self.predictor.predict_timed(&batch) {
                Ok((detections, times)) => {
                    self.timings.add(batch.len(), times);
                    for (index, detections) in left.drain(..).zip(detections) {
                        outcomes[index] = Ok(detections);
                    }
                    break;
                }
                Err(error) => error,
            };
            match error {
                PredictError::Image { index, .. }
                | PredictError::TooLarge { index, .. }
                | PredictError::NonFinite { index } => {
                    // Users know the image by its name, not by its place in a batch.
                    let message = error.to_string();
                    let prefix = format!("image {index}: ");
                    let message = message.strip_prefix(&prefix).unwrap_or(&message);
                    outcomes[left.remove(index)] = Err(message.to_owned());
                }
                PredictError::Backend(_) => return Err(error.into()),
            }
        }
        Ok(outcomes)
    }

    fn deliver(
        &mut self,
        index: usize,
        image: RgbImage,
        detections: Vec<Detection>,
    ) -> Result<(), CliError> {
        let size = ImageSize::new(image.height(), image.width());
        let result = ImageResult { file: self.names[index].clone(), size, detections };
        self.printer.result(&result)?;
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
    fn finish(mut self, outcome: Result<(), CliError>) -> Result<(), CliError> {
        self.printer.finish(&self.timings.json())?;
        outcome?;
        if let (Some(writer), Some(path)) = (self.writer, &self.args.output) {
            let written = writer.finish()?;
            let (objects, images) = (written.detections, written.images);
            self.console.note(&format!("{objects} objects in {images} images: {}", path.display()));
            if written.outside > 0 {
                let outside = written.outside;
                self.console.note(&format!("note: {outside} boxes outside their image left out"));
            }
        }
        if self.args.timings && !self.printer.holds_timings() {
            self.console.say(&self.timings.table());
        }
        if self.failed > 0 {
            let (failed, all) = (self.failed, self.names.len());
            return Err(CliError::Failed(format!("{failed} of {all} images failed")));
        }
        Ok(())
    }
}

/// Positions of images for one batch each, at most so many together: of equal size or, if sizes may
/// be mixed, of similar ones, so that little is padded.
fn batches(sizes: impl Iterator<Item = ImageSize>, most: usize, mix: bool) -> Vec<Vec<usize>> {
    let mut order: Vec<(ImageSize, usize)> = sizes.zip(0..).collect();
    order.sort_by_key(|&(size, index)| (size.height, size.width, index));
    let together = |a: &(ImageSize, usize), b: &(ImageSize, usize)| mix || a.0 == b.0;
    let mut batches: Vec<Vec<usize>> = order
        .chunk_by(together)
        .flat_map(|group| group.chunks(most))
        .map(|batch| batch.iter().map(|&(_, index)| index).collect())
        .collect();
    batches.sort_unstable();
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_images_of_one_size_or_of_similar_ones() {
        let sizes = [1, 2, 1, 1, 2, 3, 1].map(|height| ImageSize::new(height, 5));
        let batches = |most, mix| batches(sizes.into_iter(), most, mix);
        assert_eq!(batches(2, false), [vec![0, 2], vec![1, 4], vec![3, 6], vec![5]]);
        assert_eq!(batches(1, false).len(), 7);
        assert_eq!(batches(3, true), [vec![0, 2, 3], vec![5], vec![6, 1, 4]]);
    }
}
