//! A model with its loss, as Burn's own training loop knows one: a step of training and one of validation on a batch.
//! The loop of this crate has a step of its own, [`Trainer`](crate::Trainer), with clipping, averages and checks of
//! what is not finite.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_optim::GradientsParams;
use burn_train::{InferenceStep, TrainOutput, TrainStep};
use detr_loss::{MatchError, Predictions, SetCriterion};
use detr_model::Model;

use super::metrics::Scalars;
use crate::step::MicroBatch;

/// A model and the criterion that it is trained with.
#[derive(Module, Debug)]
pub struct ModelWithLoss {
    /// The model.
    pub model: Model,
    #[module(skip)]
    criterion: SetCriterion,
}

impl ModelWithLoss {
    /// Puts a model and a criterion together.
    #[must_use]
    pub const fn new(model: Model, criterion: SetCriterion) -> Self {
        Self { model, criterion }
    }

    /// Returns the weighted sum of the losses of a batch, `[1]`.
    fn loss(&self, batch: MicroBatch) -> Result<Tensor<1>, MatchError> {
        let MicroBatch { images, targets } = batch;
        let mut output = self.model.forward(images);
        let features = output.mask_features.take();
        let mut predictions = Predictions::from(output);
        let matches = self.criterion.matches(&predictions, &targets)?;
        if let Some(features) = features {
            predictions.add_masks(&self.model, &features, &matches, &targets);
        }
        let num_boxes = detr_loss::WholeBatch::new([&targets]).num_boxes;
        Ok(self.criterion.losses(&predictions, &targets, &matches, num_boxes).total)
    }
}

/// Returns a loss of NaN and no gradients where the costs of the matching are not finite.
impl TrainStep for ModelWithLoss {
    type Input = MicroBatch;
    type Output = Scalars;

    fn step(&self, batch: MicroBatch) -> TrainOutput<Scalars> {
        match self.loss(batch) {
            Ok(loss) => {
                let scalars = Scalars::loss(&loss);
                TrainOutput::new(self, loss.backward(), scalars)
            }
            Err(_) => TrainOutput {
                grads: GradientsParams::new(),
                item: Scalars::new([(Scalars::LOSS, f64::NAN)]),
            },
        }
    }
}

impl InferenceStep for ModelWithLoss {
    type Input = MicroBatch;
    type Output = Scalars;

    fn step(&self, batch: MicroBatch) -> Scalars {
        match self.loss(batch) {
            Ok(loss) => Scalars::loss(&loss),
            Err(_) => Scalars::new([(Scalars::LOSS, f64::NAN)]),
        }
    }
}
