//! The outputs of an exported file beside those of the model that it was made of.

use burn::tensor::{DType, Device, Tensor, TensorData, Transaction};
use detr_model::nested::Padding;
use detr_model::{Model, NestedTensor};
use detr_ops::traffic::read_f32;
use detr_types::ImageSize;

use crate::{Evaluator, ExportError, ExportOptions, Normalisation, OutputValues};

/// A model that files are compared with.
pub struct Reference<'a> {
    /// The model.
    pub model: &'a Model,
    /// The settings that the file was made with.
    pub options: &'a ExportOptions,
    /// The model's device.
    pub device: &'a Device,
}

/// The largest difference of an output.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The name of the output.
    pub name: String,
    /// The largest absolute difference; not a number if either is none somewhere.
    pub largest: f32,
}

/// Makes an input of so many images, from 0 to 255 or, without normalisation in the graph, from -2 to 2. It looks like
/// noise and is always the same.
#[must_use]
pub fn noise(images: usize, size: ImageSize, options: &ExportOptions) -> Vec<f32> {
    let total = images * 3 * (size.height as usize) * (size.width as usize);
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / f32::from(u16::MAX)
    };
    let pixels = (0..total).map(|_| next());
    match options.normalise {
        Some(_) => pixels.map(|pixel| (pixel * 255.0).round()).collect(),
        None => pixels.map(|pixel| pixel * 4.0 - 2.0).collect(),
    }
}

impl Reference<'_> {
    /// Compares the outputs of the model with those of its file, for the same input of so many images: `pred_logits`,
    /// `pred_boxes`, and `pred_masks` where the model has them.
    ///
    /// # Errors
    /// A device that failed, and the errors of [`Evaluator::run`].
    ///
    /// # Panics
    /// If the device fails at work, as every operation of Burn does.
    pub fn compare(
        &self,
        file: &Evaluator,
        pixels: &[f32],
        images: usize,
    ) -> Result<Vec<Difference>, ExportError> {
        let found = file.run(pixels.to_vec(), images)?;
        let expected = self.outputs(pixels.to_vec(), images)?;
        let difference = |expected: OutputValues| {
            let output = found.iter().find(|output| output.name == expected.name);
            let output = output.filter(|output| output.values.len() == expected.values.len());
            let output = output.ok_or_else(|| ExportError::Check {
                reason: format!("{}: the model has other lengths", expected.name),
            })?;
            let pairs = output.values.iter().zip(&expected.values);
            let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
            let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, larger);
            Ok(Difference { name: expected.name, largest })
        };
        expected.into_iter().map(difference).collect()
    }

    /// Returns the outputs of the model.
    ///
    /// # Errors
    /// A device that failed.
    fn outputs(
        &self,
        mut pixels: Vec<f32>,
        images: usize,
    ) -> Result<Vec<OutputValues>, ExportError> {
        let ImageSize { height, width } = self.options.size;
        let (height, width) = (height as usize, width as usize);
        if let Some(Normalisation { mean, std }) = self.options.normalise {
            for (index, plane) in pixels.chunks_exact_mut(height * width).enumerate() {
                let channel = index % 3;
                for pixel in plane {
                    *pixel = (*pixel / 255.0 - mean[channel]) / std[channel];
                }
            }
        }
        let shape = [images, 3, height, width];
        let pixels = Tensor::from_data(TensorData::new(pixels, shape), (self.device, DType::F32));
        let output = self.model.forward(NestedTensor { pixels, padding: Padding::None });
        let last = output.pred_logits.dims()[0] - 1;
        let of_last = |x: Tensor<4>| x.slice_dim(0, last..=last).squeeze_dim::<3>(0);
        let mut outputs = vec![
            values("pred_logits", of_last(output.pred_logits))?,
            values("pred_boxes", of_last(output.pred_boxes))?,
        ];
        let masks =
            output.mask_features.as_ref().and_then(|features| self.model.batch_masks(features));
        if let Some(masks) = masks {
            outputs.push(values("pred_masks", masks)?);
        }
        Ok(outputs)
    }
}

fn values<const D: usize>(name: &str, x: Tensor<D>) -> Result<OutputValues, ExportError> {
    let dims = x.dims().to_vec();
    let failed = |reason: String| ExportError::Check { reason };
    let read = read_f32(Transaction::default().register(x));
    let mut read = read.map_err(|error| failed(error.to_string()))?;
    let values = read.pop().ok_or_else(|| failed(format!("{name} was not read")))?;
    Ok(OutputValues { name: name.to_owned(), dims, values })
}
