//! The records of `detr train`: the files of the run's folder, pictures of validations, and the console.

use std::error::Error;
use std::path::Path;

use detr_data::{DecodeOptions, read_image};
use detr_infer::cli::{Console, write_png};
use detr_infer::draw::draw_comparison;
use detr_infer::palette::Palette;
use detr_track::{RunInfo, Sample, SamplePictures, Sink, folder_sinks};
use detr_train::{Recorder, SampleSource};

use super::console::ConsoleSink;

/// Creates the recorder of a run that will train next.
pub(super) fn recorder(
    info: RunInfo,
    samples: Option<SampleSource>,
    decoding: DecodeOptions,
    console: &Console,
) -> Recorder {
    let palette = Palette::default();
    let draw = move |sample: &Sample, path: &Path| draw(sample, path, &decoding, &palette);
    let mut sinks: Vec<Box<dyn Sink>> = folder_sinks(&info.folder);
    sinks.push(Box::new(SamplePictures::new(draw)));
    sinks.push(Box::new(ConsoleSink::new(console)));
    Recorder::new(info, sinks, samples)
}

/// Draws the picture of a sample, unless its image cannot be read.
fn draw(
    sample: &Sample,
    path: &Path,
    decoding: &DecodeOptions,
    palette: &Palette,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Ok(image) = read_image(&sample.file, decoding) else { return Ok(()) };
    let picture = draw_comparison(&image, &sample.detections, &sample.truth, palette);
    Ok(write_png(path, &picture)?)
}
