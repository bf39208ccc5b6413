//! The losses of a batch by name, with their weighted sum.

use std::fmt;

use burn::tensor::{DType, Device, Tensor, Transaction};
use detr_model::traffic::{self, DeviceError};

use crate::predictions::Source;

/// The name of a loss, or of a number that is only logged, as the references write it: `loss_ce` for the last
/// layer of the decoder, `loss_ce_0` for its first one, `loss_ce_enc` for the encoder's proposals, `loss_ce_dn`
/// and `loss_ce_dn_0` for the layers of denoising queries.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LossName {
    /// The kind, such as `loss_ce`.
    pub kind: &'static str,
    /// The part of the model whose predictions have this loss.
    pub source: Source,
    /// The layer, or `None` for the last one.
    pub layer: Option<usize>,
}

/// All losses of a batch, on the device.
#[derive(Clone, Debug)]
pub struct Losses {
    /// `[1]`: the weighted sum, which is to be differentiated.
    pub total: Tensor<1>,
    names: Vec<LossName>,
    /// `[1]` each.
    values: Vec<Tensor<1>>,
}

impl fmt::Display for LossName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        f.write_str(match self.source {
            Source::Decoder => "",
            Source::Encoder => "_enc",
            Source::Denoising => "_dn",
        })?;
        self.layer.map_or(Ok(()), |layer| write!(f, "_{layer}"))
    }
}

impl Losses {
    pub(crate) fn new(device: &Device) -> Self {
        let total = Tensor::zeros([1], (device, DType::F32));
        Self { total, names: Vec::new(), values: Vec::new() }
    }

    /// Reads the weighted sum, and every loss and logged number with its name. This is one read-back.
    ///
    /// # Errors
    /// The device fails.
    pub fn read(&self) -> Result<(f32, Vec<(LossName, f32)>), DeviceError> {
        let read = traffic::read_f32(Transaction::default().register(self.stacked()))?;
        let mut numbers = read.into_iter().flatten();
        let total = numbers.next().ok_or_else(|| DeviceError::new(&"no numbers"))?;
        Ok((total, self.names.iter().cloned().zip(numbers).collect()))
    }

    /// Returns the names of the losses and logged numbers, in the order of [`Losses::stacked`].
    #[must_use]
    pub fn names(&self) -> &[LossName] {
        &self.names
    }

    /// Returns the weighted sum followed by every number of [`Losses::names`], for callers who read them
    /// together with something else.
    #[must_use]
    pub fn stacked(&self) -> Tensor<1> {
        Tensor::cat([vec![self.total.clone()], self.values.clone()].concat(), 0).detach()
    }

    /// Adds a loss, which counts with a weight.
    pub(crate) fn add(&mut self, name: LossName, value: Tensor<1>, weight: f64) {
        self.total = self.total.clone() + value.clone() * weight;
        self.log(name, value);
    }

    /// Adds a number that is only logged.
    pub(crate) fn log(&mut self, name: LossName, value: Tensor<1>) {
        self.names.push(name);
        self.values.push(value.detach());
    }
}
