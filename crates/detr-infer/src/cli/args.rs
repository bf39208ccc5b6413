//! The flags of `detr-infer` and `detr predict`, and those shared with other commands.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;
use detr_data::DecodeOptions;
use detr_types::{ImageSize, Limits, PreprocessSpec, ResizeRule};

use super::CliError;
use crate::backend::{self, Backend, Precision, SelectedDevice};
use crate::palette::ColorOverride;
use crate::writers::OutputFormat;

/// The model that runs when none is named: no file, no network, and it says that it is untrained.
pub const DEFAULT_MODEL: &str = "recipe:detr-r18";

/// The flags of a prediction: the input, the model and the output.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a flag of its own
pub struct PredictArgs {
    /// Images: files, folders, globs, @list.txt (one path a line), or - for stdin
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<OsString>,

    /// Model: a .pth or .safetensors file, a model folder, a name such as
    /// facebook/detr-resnet-50, or recipe:PRESET[@SEED] for untrained weights
    #[arg(long, value_name = "PATH|NAME", default_value = DEFAULT_MODEL)]
    pub model: OsString,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub load: LoadArgs,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub device: DeviceArgs,

    /// Least score of a detection, 0 to 1 [default: 0.5, with --panoptic 0.85]
    #[arg(long, value_name = "SCORE", value_parser = score)]
    pub threshold: Option<f32>,

    /// Most detections per image; the best are kept
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub max_detections: usize,

    /// Only these classes; comma separated, may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub classes: Vec<String>,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub images: ImageArgs,

    /// Give every pixel to a segment, a thing or some kind of stuff, instead of finding objects; needs a model with a
    /// mask head
    #[arg(long)]
    pub panoptic: bool,

    /// Number segments from 0, as the reference does, and not from 1; evaluation takes 0 for void
    #[arg(long)]
    pub reference_ids: bool,

    /// Put the masks of objects into --json and --jsonl, run-length encoded as COCO's
    #[arg(long)]
    pub masks: bool,

    /// Print one JSON array of all results
    #[arg(long, conflicts_with = "jsonl")]
    pub json: bool,

    /// Print one JSON object per image and line
    #[arg(long)]
    pub jsonl: bool,

    /// Write results to --output in this format
    #[arg(long, requires = "output", value_enum)]
    pub format: Option<OutputFormat>,

    /// File (coco, csv) or folder (kitti, yolo, panoptic) for --format
    #[arg(long, value_name = "PATH", requires = "format")]
    pub output: Option<PathBuf>,

    /// Write annotated pictures (PNG) to this folder
    #[arg(long, value_name = "DIR")]
    pub save: Option<PathBuf>,

    /// Colour of a class in the pictures of --save: a name, #rgb or #rrggbb; may be repeated
    #[arg(long, value_name = "NAME=COLOR", requires = "save")]
    pub color: Vec<ColorOverride>,

    /// Print the time spent on decoding, resizing, backbone, transformer and post-processing
    #[arg(long)]
    pub timings: bool,

    /// Stop at the first image that fails
    #[arg(long)]
    pub strict: bool,
}

/// The flags that set how images are decoded, resized and put into batches.
#[derive(Args, Clone, Debug)]
pub struct ImageArgs {
    /// Most images per batch; on a CPU, only images that are resized to one size share one
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub batch_size: u32,

    /// Resize images to this short side, in pixels [default: the model card's]
    #[arg(long, value_name = "PIXELS", value_parser = edge())]
    pub size: Option<u32>,

    /// Keep the long side at most this, in pixels [default: the model card's]
    #[arg(long, value_name = "PIXELS", value_parser = edge())]
    pub max_size: Option<u32>,

    /// Turn images upright by their EXIF orientation
    #[arg(long)]
    pub apply_exif: bool,

    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_pixels: u64,
}

impl ImageArgs {
    /// Returns whether the flags set the whole image size, so that the model's does not matter.
    #[must_use]
    pub const fn sets_size(&self) -> bool {
        self.size.is_some() && self.max_size.is_some()
    }

    /// Combines the model's image size with that of the flags. A short side makes the rule that of DETR; a long
    /// side alone lowers the sides that the model's own rule has.
    pub(super) fn preprocess(&self, card: PreprocessSpec) -> Result<PreprocessSpec, CliError> {
        match (card.resize, self.size, self.max_size) {
            (_, None, None) => return Ok(card),
            (ResizeRule::LongestEdge {}, None, Some(most)) => {
                return Ok(card.with_longest_edge(most));
            }
            (ResizeRule::Within { height, width }, None, Some(most)) => {
                return Ok(card.within(ImageSize::new(height.min(most), width.min(most))));
            }
            (ResizeRule::Exact { height, width }, None, _)
            | (ResizeRule::Exact { height, width }, _, None) => {
                let size = ImageSize::new(height, width);
                return Err(CliError::Usage(format!(
                    "the model resizes every image to exactly {size}\n\
                     hint: give --size and --max-size together, or neither"
                )));
            }
            _ => {}
        }
        let shortest_edge = self.size.unwrap_or(card.shortest_edge);
        let longest_edge = self.max_size.unwrap_or(card.longest_edge);
        if self.size.is_some_and(|size| size > longest_edge) {
            let whose =
                if self.max_size.is_some() { "--max-size" } else { "the model's longest side" };
            return Err(CliError::Usage(format!(
                "--size {shortest_edge} is larger than {whose} ({longest_edge})\n\
                 hint: give a larger --max-size too"
            )));
        }
        let resize = ResizeRule::ShortestEdge {};
        Ok(PreprocessSpec { shortest_edge, longest_edge, resize, ..card })
    }

    /// Returns the way in which images are decoded, with its limits.
    #[must_use]
    pub fn decoding(&self) -> DecodeOptions {
        let limits = Limits { pixels: self.max_pixels, ..Limits::default() };
        DecodeOptions { limits, apply_exif: self.apply_exif }
    }
}

/// The flags that set how models are found and read.
#[derive(Args, Clone, Debug, Default)]
pub struct LoadArgs {
    /// Architecture of a .pth or .safetensors file, where its tensors do not tell: a preset or a
    /// TOML file
    #[arg(long, value_name = "PRESET|FILE")]
    pub arch: Option<String>,

    /// Never use the network
    #[arg(long)]
    pub offline: bool,
}

/// The flags that choose the device.
#[derive(Args, Clone, Debug)]
pub struct DeviceArgs {
    /// The backend that runs the model
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,

    /// Number of the device, where a backend has several
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub device: usize,

    /// Precision of the computation
    #[arg(long, value_name = "DTYPE", value_parser = backend::precision_parser(), default_value_t = Precision::F32)]
    pub dtype: Precision,
}

impl DeviceArgs {
    /// Opens the device.
    ///
    /// # Errors
    /// [`CliError::Backend`]: see [`backend::select`].
    pub fn select(&self) -> Result<SelectedDevice, CliError> {
        Ok(backend::select(self.backend, self.device, self.dtype)?)
    }
}

fn score(text: &str) -> Result<f32, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

fn edge() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(PreprocessSpec::MAX_EDGE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(size: Option<u32>, max_size: Option<u32>) -> ImageArgs {
        ImageArgs { batch_size: 1, size, max_size, apply_exif: false, max_pixels: 1 }
    }

    #[test]
    fn the_flags_stand_in_for_every_rule() {
        let card = PreprocessSpec::default();
        let exact = card.exactly(ImageSize::new(480, 640));
        let within = card.within(ImageSize::new(480, 640));
        for (card, size, max_size, expected) in [
            (card, Some(600), None, "short side 600, long side at most 1333"),
            (card, None, Some(900), "short side 800, long side at most 900"),
            (exact, None, None, "exactly 640x480"),
            (exact, Some(300), Some(400), "short side 300, long side at most 400"),
            (within, None, Some(500), "as large as fits into 500x480"),
            (within, Some(300), None, "short side 300, long side at most 640"),
            (card.with_longest_edge(800), None, Some(500), "long side 500"),
            (card.with_longest_edge(800), Some(500), None, "short side 500, long side at most 800"),
        ] {
            let found = flags(size, max_size).preprocess(card).unwrap().to_string();
            assert_eq!(found, expected, "{card} {size:?} {max_size:?}");
        }
        for (size, max_size) in [(Some(300), None), (None, Some(300))] {
            let error = flags(size, max_size).preprocess(exact).unwrap_err().to_string();
            assert!(error.contains("exactly 640x480") && error.contains("hint: "), "{error}");
        }
    }
}
