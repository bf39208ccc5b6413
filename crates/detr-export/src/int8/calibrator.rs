//! Finds the ranges of all values that INT8 rounds, by computing the file on pictures.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::histogram::{CalibrationMethod, Histogram};
use super::{ActivationRanges, rounded_values};
use crate::array::Values;
use crate::{Evaluator, ExportError, OnnxFile, OnnxGraph};

/// The values of a graph on pictures, counted.
pub struct Calibrator {
    evaluator: Evaluator,
    histograms: BTreeMap<String, Histogram>,
}

impl Calibrator {
    /// Prepares a graph and its file, which is computed on `device`.
    ///
    /// # Errors
    /// The errors of [`Evaluator::new`].
    pub fn new(graph: &OnnxGraph, file: &OnnxFile, device: &Device) -> Result<Self, ExportError> {
        let names = rounded_values(&graph.0).into_iter();
        Ok(Self {
            evaluator: Evaluator::new(&file.bytes, device)?,
            histograms: names.map(|name| (name, Histogram::new())).collect(),
        })
    }

    /// Counts the values that pictures give; `pixels` are the input of so many images.
    ///
    /// # Errors
    /// The errors of [`Evaluator::run`].
    ///
    /// # Panics
    /// If the device fails at work, as every operation of Burn does.
    pub fn observe(&mut self, pixels: Vec<f32>, images: usize) -> Result<(), ExportError> {
        let histograms = &mut self.histograms;
        self.evaluator.run_watched(pixels, images, &mut |name, array| {
            if let (Some(histogram), Values::F32(values)) =
                (histograms.get_mut(name), &array.values)
            {
                histogram.observe(values);
            }
        })?;
        Ok(())
    }

    /// Returns the range of every value.
    #[must_use]
    pub fn ranges(&self, method: CalibrationMethod) -> ActivationRanges {
        self.histograms
            .iter()
            .map(|(name, histogram)| (name.clone(), histogram.range(method)))
            .collect()
    }
}
