//! The images of a command through its model, with a bar that shows the progress.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use detr_data::{DecodeOptions, ImageError, RgbImage, decode_image, read_ahead, read_image};
use detr_detect::{ImageFault, StreamItem, StreamOptions};
use detr_model::weights::Checkpoint;
use detr_types::Detection;

use super::timings::Timings;
use super::{CliError, Console, DeviceArgs, ImageArgs};
use crate::backend::{SelectedDevice, catch_panic};
use crate::sources::Source;
use crate::{PredictOptions, Predictor};

/// From this many images on, a bar shows the progress.
const BAR_FROM: usize = 4;

/// An image and what was found in it, or why nothing could be.
pub type StreamResult = Result<(RgbImage, Vec<Detection>), ImageFault>;

/// Makes a checkpoint ready to detect, with the image size of the flags.
///
/// # Errors
/// Those of [`Predictor`], and sizes that contradict each other.
pub fn make_predictor(
    checkpoint: &Checkpoint,
    selected: &SelectedDevice,
    device: &DeviceArgs,
    images: &ImageArgs,
    options: PredictOptions,
) -> Result<Predictor, CliError> {
    let spec = images.preprocess(checkpoint.preprocess)?;
    let start = Instant::now();
    let predictor = Predictor::new(checkpoint, selected, device.dtype)?
        .with_options(options)?
        .with_preprocess(spec)?;
    tracing::info!("model ready after {:.2?}", start.elapsed());
    Ok(predictor)
}

/// The way of a command's images through a model.
pub struct Stream<'a> {
    /// The model.
    pub predictor: &'a Predictor,
    /// The console that shows the progress.
    pub console: &'a Console,
    /// The flags that set how images are decoded and batched.
    pub images: &'a ImageArgs,
    /// Whether an image that cannot be read is handed on at once, because it will end the run.
    pub strict: bool,
}

impl Stream<'_> {
    /// Hands every image to `deliver`, by its position and in the order of the sources, until that
    /// says to stop. An image that fails does not take its batch down.
    ///
    /// # Errors
    /// A device that fails, or the error of `deliver`. `timings` are those up to there.
    pub fn run(
        &self,
        sources: &[Source],
        timings: &mut Timings,
        mut deliver: impl FnMut(usize, StreamResult) -> Result<ControlFlow<()>, CliError>,
    ) -> Result<(), CliError> {
        self.read(sources, timings, |images, timings| {
            let mut stream = self.predictor.stream(images, self.options());
            let mut run = || {
                for item in stream.by_ref() {
                    let StreamItem { key: index, found } = item?;
                    let flow = deliver(index, found)?;
                    self.console.advance(1);
                    if flow.is_break() {
                        break;
                    }
                }
                Ok(())
            };
            let outcome = run();
            timings.set(stream.images_done(), stream.times());
            outcome
        })
    }

    /// Runs `consume` on the images of the sources by their positions, decoded ahead, and shows a bar
    /// meanwhile.
    ///
    /// # Errors
    /// Returns the error of `consume`.
    pub fn read<T>(
        &self,
        sources: &[Source],
        timings: &mut Timings,
        consume: impl FnOnce(
            &mut dyn Iterator<Item = (usize, Result<RgbImage, ImageFault>)>,
            &mut Timings,
        ) -> Result<T, CliError>,
    ) -> Result<T, CliError> {
        if sources.len() >= BAR_FROM {
            let template = "{bar:20} {pos}/{len} images {per_sec} {eta}";
            self.console.start_bar(Some(sources.len() as u64), template);
        }
        let options = self.images.decoding();
        let ahead = 2 * self.options().batch_size + 1;
        let start = Instant::now();
        let mut decoding = Duration::ZERO;
        let read = |&index: &usize| decode(&sources[index], &options);
        let outcome = read_ahead(0..sources.len(), ahead, read, |images| {
            let mut images = images.map(|read| {
                decoding += read.time;
                (read.key, read.image)
            });
            consume(&mut images, timings)
        });
        (timings.decode, timings.wall) = (decoding, start.elapsed());
        self.console.end_bar();
        outcome
    }

    /// Returns the options by which the flags make batches.
    #[must_use]
    pub const fn options(&self) -> StreamOptions {
        StreamOptions { batch_size: self.images.batch_size as usize, stops_at_fault: self.strict }
    }
}

/// Reads one image. A decoder that panics is a fault of its image.
fn decode(source: &Source, options: &DecodeOptions) -> Result<RgbImage, ImageFault> {
    let read = || match source {
        Source::File(path) => read_image(path, options),
        Source::Stdin => read_stdin(options.limits.file_bytes)
            .map_err(|error| ImageError::Io { error })
            .and_then(|bytes| decode_image(&bytes, options)),
    };
    Ok(catch_panic(read).map_err(ImageFault::Decoder)??)
}

/// Reads at most one byte more than allowed, which is enough to see that it is too much.
fn read_stdin(limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().lock().take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
