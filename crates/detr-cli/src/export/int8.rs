//! `detr export --int8`: ranges of activations from pictures, kept beside the output, and the table of losses.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::{Args, ValueEnum};
use detr_data::{DecodeOptions, normalize, read_image, resize_bilinear};
use detr_export::int8::{ActivationRanges, CalibrationMethod, Calibrator, LayerLosses, LossMeter};
use detr_export::{Batch, ExportOptions, OnnxFile, OnnxGraph};
use detr_infer::cli::{CliError, Console};
use detr_infer::sources::expand_sources;
use detr_model::weights::Checkpoint;
use detr_types::{ImageSize, PreprocessSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{check_output, refused, with_ending};

/// Flags of `--int8`.
#[allow(clippy::doc_markdown)] // clap prints these comments as they are
#[derive(Args)]
pub(super) struct Int8Args {
    /// Compute convolutions and linear layers in int8, by QuantizeLinear and DequantizeLinear pairs; the file is about
    /// a quarter as large
    #[arg(long, requires = "calibrate", conflicts_with = "fp16")]
    pub(super) int8: bool,

    /// Folder of pictures such as the model will see; their values give the ranges of int8
    #[arg(long, value_name = "FOLDER", requires = "int8")]
    calibrate: Option<PathBuf>,

    /// The rule by which the range of a tensor is chosen
    #[arg(long, value_enum, default_value_t = Method::Entropy, requires = "int8")]
    calibration_method: Method,

    /// Pictures that are used, evenly spread over the folder
    #[arg(long, value_name = "N", default_value_t = 32, requires = "int8", value_parser = clap::value_parser!(u32).range(1..))]
    calibration_images: u32,
}

/// The words after `--calibration-method`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Method {
    /// The largest magnitude
    Minmax,
    /// The magnitude that 99.99 % of the numbers do not exceed
    Percentile,
    /// The magnitude that changes the distribution the least
    Entropy,
}

impl From<Method> for CalibrationMethod {
    fn from(word: Method) -> Self {
        match word {
            Method::Minmax => Self::MinMax,
            Method::Percentile => Self::Percentile,
            Method::Entropy => Self::Entropy,
        }
    }
}

/// Pictures on which layers are compared for the table.
const COMPARED: usize = 4;

/// The version of the file of ranges.
const FORMAT: u32 = 1;

/// Ranges that were found before, and what they were found with.
#[derive(Serialize, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
struct Cache {
    format: u32,
    /// SHA-256 of the file in floating point, with the normalisation of its pictures.
    model: String,
    /// SHA-256 of the names and bytes of the pictures.
    pictures: String,
    images: usize,
    method: String,
    ranges: ActivationRanges,
}

/// The pictures of a calibration, and the file that keeps its ranges.
pub(super) struct Calibration {
    pictures: Vec<PathBuf>,
    method: Method,
    cache: PathBuf,
    /// The contents of that file, if there is one.
    kept: Option<Cache>,
    spec: PreprocessSpec,
}

impl Calibration {
    /// Looks for the pictures and for ranges that were kept; `None` without `--int8`.
    ///
    /// # Errors
    /// A folder without pictures, and a file of somebody else's where the ranges are to be kept.
    pub(super) fn open(
        args: &Int8Args,
        output: &Path,
        force: bool,
        checkpoint: &Checkpoint,
    ) -> Result<Option<Self>, CliError> {
        let Some(folder) = args.calibrate.as_ref().filter(|_| args.int8) else { return Ok(None) };
        if !folder.is_dir() {
            return Err(CliError::Usage(format!(
                "--calibrate {}: there is no such folder\nhint: name a folder of pictures such as the model will see",
                folder.display()
            )));
        }
        let sources = expand_sources(&[folder])?;
        let count = sources.len().min(args.calibration_images as usize);
        let pictures = (0..count).map(|index| sources[index * sources.len() / count].path());
        let pictures = pictures.map(Path::to_owned).collect();
        let cache = with_ending(output, ".calibration.json");
        let kept = std::fs::read(&cache).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        if kept.is_none() {
            check_output(&cache, force)?;
        }
        let spec = checkpoint.preprocess;
        Ok(Some(Self { pictures, method: args.calibration_method, cache, kept, spec }))
    }

    /// Makes the INT8 file of a graph, and the table of what its layers lost.
    ///
    /// # Errors
    /// Pictures that cannot be read, a cache that cannot be written, and the errors of the export.
    pub(super) fn quantise(
        self,
        graph: OnnxGraph,
        whole: &OnnxFile,
        options: &ExportOptions,
        device: &Device,
        console: &Console,
    ) -> Result<(OnnxFile, String), CliError> {
        let ranges = self.ranges(&graph, whole, options, device, console)?;
        let (graph, layers) = graph.quantise(&ranges).map_err(refused)?;
        let file = graph.file().map_err(refused)?;
        let mut meter = LossMeter::new(whole, &file, layers, device).map_err(refused)?;
        let compared = &self.pictures[..self.pictures.len().min(COMPARED)];
        for picture in compared {
            let (pixels, images) = self.input(picture, options)?;
            meter.observe(&pixels, images).map_err(refused)?;
        }
        let table = table(&meter.losses(), compared.len());
        Ok((file, table))
    }

    fn ranges(
        &self,
        graph: &OnnxGraph,
        whole: &OnnxFile,
        options: &ExportOptions,
        device: &Device,
        console: &Console,
    ) -> Result<ActivationRanges, CliError> {
        let mut cache = Cache {
            format: FORMAT,
            model: self.model_key(whole, options),
            pictures: self.pictures_key()?,
            images: self.pictures.len(),
            method: self
                .method
                .to_possible_value()
                .map_or_else(String::new, |value| value.get_name().to_owned()),
            ranges: BTreeMap::new(),
        };
        if let Some(kept) = &self.kept {
            let ranges = std::mem::take(&mut cache.ranges);
            cache.ranges = kept.ranges.clone();
            if *kept == cache && graph.fits(&kept.ranges) {
                console.note(&format!("took the ranges of {}", self.cache.display()));
                return Ok(cache.ranges);
            }
            cache.ranges = ranges;
            console.warn(&format!(
                "{} is of another model, other pictures or another method, and is made anew",
                self.cache.display()
            ));
        }
        let mut calibrator = Calibrator::new(graph, whole, device).map_err(refused)?;
        let bar = console.progress("pictures");
        for (done, picture) in self.pictures.iter().enumerate() {
            let (pixels, images) = self.input(picture, options)?;
            calibrator.observe(pixels, images).map_err(refused)?;
            bar.set(done + 1, self.pictures.len());
        }
        drop(bar);
        cache.ranges = calibrator.ranges(self.method.into());
        let text = serde_json::to_string_pretty(&cache)
            .map_err(|error| CliError::Failed(error.to_string()))?;
        super::write(&self.cache, format!("{text}\n").as_bytes())?;
        Ok(cache.ranges)
    }

    fn model_key(&self, whole: &OnnxFile, options: &ExportOptions) -> String {
        let mut hash = Sha256::new();
        hash.update(&whole.bytes);
        if options.normalise.is_none() {
            hash.update(format!("{:?} {:?}", self.spec.mean, self.spec.std));
        }
        format!("{:x}", hash.finalize())
    }

    fn pictures_key(&self) -> Result<String, CliError> {
        let mut hash = Sha256::new();
        for picture in &self.pictures {
            let bytes = std::fs::read(picture)
                .map_err(|error| CliError::Data(format!("{}: {error}", picture.display())))?;
            let name = picture.file_name().unwrap_or_default().to_string_lossy();
            hash.update(format!("{name} {} ", bytes.len()));
            hash.update(&bytes);
        }
        Ok(format!("{:x}", hash.finalize()))
    }

    /// Reads a picture as the input of the file, as often as a call has images. It is resized to the file's size, as
    /// whoever calls the file does, and normalised as for a prediction.
    fn input(
        &self,
        picture: &Path,
        options: &ExportOptions,
    ) -> Result<(Vec<f32>, usize), CliError> {
        let image = read_image(picture, &DecodeOptions::default())
            .map_err(|error| CliError::Data(error.to_string()))?;
        let ImageSize { height, width } = options.size;
        let image = resize_bilinear(&image, ImageSize::new(height, width));
        let spec = match options.normalise {
            // From 0 to 255.
            Some(_) => PreprocessSpec { mean: [0.0; 3], std: [1.0 / 255.0; 3], ..self.spec },
            None => self.spec,
        };
        let images = match options.batch {
            Batch::Any => 1,
            Batch::Fixed(images) => images,
        };
        Ok((normalize(&image, &spec).repeat(images), images))
    }
}

/// Writes what every layer lost.
fn table(losses: &[LayerLosses], pictures: usize) -> String {
    let width = losses.iter().map(|loss| loss.layer.name.len()).max().unwrap_or(0).max(5);
    let mut text =
        format!("{:width$}  {:>9}  {:>10}  {:>10}\n", "layer", "range", "weights dB", "output dB");
    for LayerLosses { layer, output_sqnr } in losses {
        let range = layer.range.map_or("-".to_owned(), |range| format!("{range:.4}"));
        let _ = writeln!(
            text,
            "{:width$}  {range:>9}  {:>10.1}  {:>10.1}",
            layer.name, layer.weight_sqnr, output_sqnr
        );
    }
    let _ = writeln!(
        text,
        "signal to noise, 10 log10(sum x^2 / sum (x - x')^2), with x' in int8; outputs on {pictures} pictures, with all layers before rounded, too"
    );
    text
}
