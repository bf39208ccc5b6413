//! Gradients of a batch in parts. What losses are divided by is that of the whole batch, so k micro-batches
//! give the gradients of the batch that they make together, as long as images are padded alike: the
//! backbone sees the padding.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{FloatDType, Gradients, Tensor};
use detr_loss::{LossName, Losses, Targets, WholeBatch};
use detr_model::weights::{StateDict, official_layout};
use detr_model::{Model, NestedTensor};

use crate::groups::Groups;

/// Images that go through the model together.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    /// The images.
    pub images: NestedTensor,
    /// What is to be found on them.
    pub targets: Targets,
}

/// Gradients and losses of the micro-batches of a step, on the device.
#[derive(Clone, Debug)]
pub struct Accumulated {
    /// Flat, f32, in the order of the parameters; none where there is none.
    pub(crate) gradients: Vec<Option<Tensor<1>>>,
    names: Vec<LossName>,
    /// Total and named numbers of every micro-batch.
    pub(crate) values: Vec<Tensor<1>>,
    /// Images and matched objects of every micro-batch.
    weights: Vec<[f64; 2]>,
}

impl Accumulated {
    pub(crate) fn new(groups: &Groups) -> Self {
        Self {
            gradients: vec![None; groups.slots().len()],
            names: Vec::new(),
            values: Vec::new(),
            weights: Vec::new(),
        }
    }

    /// Adds a micro-batch.
    pub(crate) fn add(
        &mut self,
        model: &Model,
        losses: &Losses,
        targets: &Targets,
        queries: usize,
    ) {
        let mut flat = Flat { gradients: losses.total.backward(), found: Vec::new() };
        model.visit(&mut flat);
        for (sum, gradient) in self.gradients.iter_mut().zip(flat.found) {
            *sum = match (sum.take(), gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
        self.names = losses.names().to_vec();
        self.values.push(losses.stacked());
        let WholeBatch { objects, .. } = WholeBatch::new([targets]);
        let matched: usize = objects.iter().map(|&n| n.min(queries)).sum();
        #[allow(clippy::cast_precision_loss)] // of a batch
        self.weights.push([objects.len() as f64, matched as f64]);
    }

    /// Multiplies all gradients, to undo a scale of the losses or to take a mean over ranks.
    pub fn scale(&mut self, factor: f64) {
        self.map(|gradient| gradient * factor);
    }

    /// Replaces every gradient, in place where the device can.
    pub(crate) fn map(&mut self, f: impl Fn(Tensor<1>) -> Tensor<1>) {
        for gradient in &mut self.gradients {
            *gradient = gradient.take().map(&f);
        }
    }

    /// The gradients by official name, in a checkpoint's layout. One read-back.
    ///
    /// # Errors
    /// The device failed; the message is Burn's.
    pub fn read(&self, groups: &Groups) -> Result<StateDict, String> {
        let slots = groups.slots().iter().zip(&self.gradients);
        official_layout(slots.filter_map(|(slot, gradient)| {
            let parameter = &slot.parameter;
            let (name, shape) = (parameter.name.clone(), parameter.shape.clone());
            Some((name, shape, parameter.transposed, gradient.clone()?))
        }))
    }

    /// The batch's weighted loss and named numbers, of those read for every micro-batch.
    pub(crate) fn combine(&self, read: &[f32]) -> (f32, Vec<(LossName, f32)>) {
        let rows: Vec<&[f32]> = read.chunks_exact(1 + self.names.len()).collect();
        let total: f32 = rows.iter().map(|row| row[0]).sum();
        let mean = |column: usize, by: usize| {
            let weight: f64 = self.weights.iter().map(|weights| weights[by]).sum();
            let parts = rows.iter().zip(&self.weights);
            let sum: f64 = parts.map(|(row, w)| f64::from(row[column]) * w[by]).sum();
            // Without any object, each part says what the batch would.
            let first = rows.first().map_or(0.0, |row| row[column]);
            #[allow(clippy::cast_possible_truncation)] // logged numbers
            if weight > 0.0 { (sum / weight) as f32 } else { first }
        };
        let named = self.names.iter().enumerate().map(|(i, name)| {
            let value = match name.kind {
                "cardinality_error" => mean(i + 1, 0),
                "class_error" => mean(i + 1, 1),
                _ => rows.iter().map(|row| row[i + 1]).sum(),
            };
            (name.clone(), value)
        });
        (total, named.collect())
    }
}

/// Takes gradients out, in the order of the parameters.
struct Flat {
    gradients: Gradients,
    found: Vec<Option<Tensor<1>>>,
}

impl ModuleVisitor for Flat {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let gradient = param.val().grad_remove(&mut self.gradients);
        self.found.push(gradient.map(|gradient| {
            let elements = gradient.shape().num_elements();
            gradient.reshape([elements]).cast(FloatDType::F32)
        }));
    }
}
