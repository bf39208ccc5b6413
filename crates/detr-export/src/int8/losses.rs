//! The cost of INT8 for each layer: its output in the rounded file beside that in the whole one, on pictures.

use std::collections::HashMap;

use burn::tensor::Device;

use super::{QuantisedLayer, decibel};
use crate::array::Values;
use crate::{Evaluator, ExportError, OnnxFile};

/// The losses of a layer.
#[derive(Clone, Debug, PartialEq)]
pub struct LayerLosses {
    /// The layer.
    pub layer: QuantisedLayer,
    /// The signal-to-noise ratio of its output in decibel, `10 log10(sum y^2 / sum (y - y')^2)` over all pictures, where
    /// y is the output in the whole file and y' in the rounded one. All layers before it are rounded, too.
    pub output_sqnr: f64,
}

/// Compares the layers of two files.
pub struct LossMeter {
    whole: Evaluator,
    rounded: Evaluator,
    layers: Vec<QuantisedLayer>,
    /// Sums of squares of signal and noise by the value.
    sums: HashMap<String, [f64; 2]>,
}

impl LossMeter {
    /// Prepares both files, which are computed on `device`.
    ///
    /// # Errors
    /// The errors of [`Evaluator::new`].
    pub fn new(
        whole: &OnnxFile,
        rounded: &OnnxFile,
        layers: Vec<QuantisedLayer>,
        device: &Device,
    ) -> Result<Self, ExportError> {
        Ok(Self {
            whole: Evaluator::new(&whole.bytes, device)?,
            rounded: Evaluator::new(&rounded.bytes, device)?,
            sums: layers.iter().map(|layer| (layer.output.clone(), [0.0; 2])).collect(),
            layers,
        })
    }

    /// Adds what pictures show; `pixels` are the input of so many images.
    ///
    /// # Errors
    /// The errors of [`Evaluator::run`].
    ///
    /// # Panics
    /// If the device fails at work, as every operation of Burn does.
    pub fn observe(&mut self, pixels: &[f32], images: usize) -> Result<(), ExportError> {
        let sums = &mut self.sums;
        let mut kept = HashMap::new();
        self.whole.run_watched(pixels.to_vec(), images, &mut |name, array| {
            if let (true, Values::F32(values)) = (sums.contains_key(name), &array.values) {
                kept.insert(name.to_owned(), values.clone());
            }
        })?;
        self.rounded.run_watched(pixels.to_vec(), images, &mut |name, array| {
            if let (Some([signal, noise]), Some(whole), Values::F32(rounded)) =
                (sums.get_mut(name), kept.remove(name), &array.values)
            {
                for (&y, &rounded) in whole.iter().zip(rounded) {
                    *signal += f64::from(y).powi(2);
                    *noise += f64::from(y - rounded).powi(2);
                }
            }
        })?;
        Ok(())
    }

    /// Returns what every layer lost, in the order of the graph.
    #[must_use]
    pub fn losses(self) -> Vec<LayerLosses> {
        let output_sqnr = |layer: &QuantisedLayer| {
            let [signal, noise] = self.sums.get(&layer.output).copied().unwrap_or_default();
            decibel(signal, noise)
        };
        let layers = self.layers.iter();
        layers
            .map(|layer| LayerLosses { layer: layer.clone(), output_sqnr: output_sqnr(layer) })
            .collect()
    }
}
