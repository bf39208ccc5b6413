//! The model as Burn's training knows one: a step of training and one of validation on a batch. The loop
//! here has a step of its own ([`Trainer`](crate::Trainer): clipping, averages, what is not finite); these
//! are the ones that Burn's own loops call.

use burn::module::Module;
use burn::tensor::Tensor;
use burn_optim::GradientsParams;
use burn_train::{InferenceStep, TrainOutput, TrainStep};
use detr_loss::{MatchError, Predictions, SetCriterion};
use detr_model::Model;

use crate::accumulate::MicroBatch;
use crate::numbers::Numbers;

/// A model and what it learns by.
#[derive(Module, Debug)]
pub struct Learned {
    /// The model.
    pub model: Model,
    #[module(skip)]
    criterion: SetCriterion,
}

impl Learned {
    /// A model that learns by a criterion.
    #[must_use]
    pub const fn new(model: Model, criterion: SetCriterion) -> Self {
        Self { model, criterion }
    }

    /// Weighted sum of the losses of a batch by itself.
    fn loss(&self, batch: MicroBatch) -> Result<Tensor<1>, MatchError> {
        let MicroBatch { images, targets } = batch;
        let predictions = Predictions::from(self.model.forward(images));
        let matches = self.criterion.matches(&predictions, &targets)?;
        let num_boxes = detr_loss::WholeBatch::new([&targets]).num_boxes;
        Ok(self.criterion.losses(&predictions, &targets, &matches, num_boxes).total)
    }
}

/// Without gradients where the costs of the matching are not finite; the loss is NaN then.
impl TrainStep for Learned {
    type Input = MicroBatch;
    type Output = Numbers;

    fn step(&self, batch: MicroBatch) -> TrainOutput<Numbers> {
        match self.loss(batch) {
            Ok(loss) => {
                let number = Numbers::loss(&loss);
                TrainOutput::new(self, loss.backward(), number)
            }
            Err(_) => TrainOutput {
                grads: GradientsParams::new(),
                item: Numbers::of([(Numbers::LOSS, f64::NAN)]),
            },
        }
    }
}

impl InferenceStep for Learned {
    type Input = MicroBatch;
    type Output = Numbers;

    fn step(&self, batch: MicroBatch) -> Numbers {
        match self.loss(batch) {
            Ok(loss) => Numbers::loss(&loss),
            Err(_) => Numbers::of([(Numbers::LOSS, f64::NAN)]),
        }
    }
}
