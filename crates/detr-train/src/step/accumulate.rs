//! The gradients of a batch that goes through the model in micro-batches. Losses are divided by counts of the whole
//! batch, so k micro-batches give the gradients of the batch that they make together, as long as images are padded
//! alike: the backbone sees the padding.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Gradients, Tensor};
use detr_loss::{LossName, Losses, Targets, WholeBatch};
use detr_model::weights::{StateDict, official_layout};
use detr_model::{DeviceError, Model, NestedTensor};

use super::groups::Groups;
use super::outcome::StepError;
use super::ranks::AllReduce;

/// Images that go through the model together.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    /// The images.
    pub images: NestedTensor,
    /// The objects on them.
    pub targets: Targets,
}

/// The sums of the gradients of the micro-batches of a step, and their losses, on the device.
#[derive(Clone, Debug)]
pub struct AccumulatedGradients {
    /// One flattened f32 gradient per parameter; `None` if the parameter has no gradient.
    pub(crate) gradients: Vec<Option<Tensor<1>>>,
    names: Vec<LossName>,
    /// The weighted loss and the named numbers of every micro-batch, `[1 + names]`.
    pub(crate) values: Vec<Tensor<1>>,
    /// The numbers of images and of matched objects of every micro-batch.
    weights: Vec<[f64; 2]>,
}

impl AccumulatedGradients {
    /// Begins without gradients.
    pub(crate) fn new(groups: &Groups) -> Self {
        Self {
            gradients: vec![None; groups.slots().len()],
            names: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Adds the gradients of a micro-batch, or of a part of the model.
    pub(crate) fn add_gradients(&mut self, model: &Model, gradients: Gradients) {
        let mut collector = GradientCollector { gradients, found: Vec::new() };
        model.visit(&mut collector);
        for (sum, gradient) in self.gradients.iter_mut().zip(collector.found) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
    }

    /// Adds the losses of a micro-batch.
    pub(crate) fn add_losses(&mut self, losses: &Losses, targets: &Targets, queries: usize) {
        self.names = losses.names().to_vec();
        self.values.push(losses.stacked());
        let WholeBatch { objects, .. } = WholeBatch::new([targets]);
        let matched: usize = objects.iter().map(|&n| n.min(queries)).sum();
        #[allow(clippy::cast_precision_loss)] // of a batch
        self.weights.push([objects.len() as f64, matched as f64]);
    }

    /// Multiplies all gradients, to undo a scale of the losses.
    pub fn scale(&mut self, factor: f64) {
        self.map(|gradient| gradient * factor);
    }

    /// Replaces the gradients by their sums over all ranks.
    pub(crate) fn reduce(&mut self, all: &(impl AllReduce + ?Sized)) -> Result<(), StepError> {
        let own = self.gradients.iter().flatten().cloned().collect();
        let mut sums = all.sum_tensors(own)?.into_iter();
        for gradient in self.gradients.iter_mut().filter(|gradient| gradient.is_some()) {
            *gradient = sums.next();
        }
        Ok(())
    }

    /// Replaces every gradient, in place where the device can.
    pub(crate) fn map(&mut self, f: impl Fn(Tensor<1>) -> Tensor<1>) {
        for gradient in &mut self.gradients {
            *gradient = gradient.take().map(&f);
        }
    }

    /// Reads the gradients by official name, in a checkpoint's layout, all at once.
    ///
    /// # Errors
    /// The device fails.
    pub fn read(&self, groups: &Groups) -> Result<StateDict, DeviceError> {
        let slots = groups.slots().iter().zip(&self.gradients);
        official_layout(slots.filter_map(|(slot, gradient)| {
            let parameter = &slot.parameter;
            let (name, shape) = (parameter.name.clone(), parameter.shape.clone());
            Some((name, shape, parameter.transposed, gradient.clone()?))
        }))
    }

    /// Sums the numbers that were read for every micro-batch: the weighted loss, then the named numbers, then the
    /// counts of images and of matched objects. Numbers that are means come multiplied by their count.
    pub(crate) fn sums(&self, read: &[f32]) -> Vec<f64> {
        let width = 1 + self.names.len();
        let mut sums = vec![0.0; width + 2];
        for (row, weights) in read.chunks_exact(width).zip(&self.weights) {
            for (i, &value) in row.iter().enumerate() {
                let weight = self.averaged_by(i).map_or(1.0, |by| weights[by]);
                sums[i] += f64::from(value) * weight;
            }
            for (by, weight) in weights.iter().enumerate() {
                sums[width + by] += weight;
            }
        }
        sums
    }

    /// Returns the weighted loss and the named numbers of the batch from the sums that [`Self::sums`] makes.
    #[allow(clippy::cast_possible_truncation)] // logged numbers
    pub(crate) fn report(&self, sums: &[f64]) -> (f32, Vec<(LossName, f32)>) {
        let weights = &sums[1 + self.names.len()..];
        let named = self.names.iter().enumerate().map(|(i, name)| {
            let value = match self.averaged_by(i + 1) {
                None => sums[i + 1],
                Some(by) if weights[by] > 0.0 => sums[i + 1] / weights[by],
                // The criterion says 100 per cent where there is no object.
                Some(_) => 100.0,
            };
            (name.clone(), value as f32)
        });
        (sums[0] as f32, named.collect())
    }

    /// Returns the position of the count that a column is a mean over, or `None` if it is a sum.
    fn averaged_by(&self, column: usize) -> Option<usize> {
        match self.names.get(column.checked_sub(1)?)?.kind {
            "cardinality_error" => Some(0),
            "class_error" => Some(1),
            _ => None,
        }
    }
}

/// Takes the gradients of all parameters out, flattened, in the order of the parameters.
struct GradientCollector {
    gradients: Gradients,
    found: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for GradientCollector {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(&mut self.gradients);
        self.found.push(gradient.map(|gradient| {
            let elements = gradient.shape().num_elements();
            gradient.reshape([elements]).cast(FloatDType::F32)
        }));
    }
}
