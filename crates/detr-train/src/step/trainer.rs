//! One step of training (`train_one_epoch` of the references' `engine.py`): forward, match, losses,
//! backward, clip, update, average. A number that is not finite stops the step before anything changes,
//! the loss scale of f16 excepted.

use burn::module::Module;
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};
use detr_loss::{MatchError, Predictions, SetCriterion, WholeBatch};
use detr_model::Model;
use detr_types::Precision;

use super::accumulate::{AccumulatedGradients, MicroBatch};
use super::activation_checkpointing::{CheckpointedBlocks, random_bits, seed};
use super::clip::{GradientNorm, clip_coefficient};
use super::config::StepConfig;
use super::ema::Ema;
use super::groups::{Groups, GroupsError};
use super::non_finite::{non_finite_input, read};
use super::optimizer::Optimizer;
use super::outcome::{NonFinite, Outcome, StepError, StepReport};
use super::precision::{LossScale, check_precision, compute_copy};
use super::ranks::{AllReduce, SingleRank, whole_batch};

/// A model in training, with its optimizer and its moving average.
#[derive(Clone, Debug)]
pub struct Trainer {
    model: Model,
    groups: Groups,
    optimizer: Optimizer,
    ema: Option<Ema>,
    criterion: SetCriterion,
    /// The largest norm of all gradients together; 0 for no clipping.
    clip_max_norm: f64,
    precision: Precision,
    /// Whether activations are computed again in the backward pass.
    recompute: bool,
    /// The loss scale of f16.
    loss_scale: Option<LossScale>,
}

impl Trainer {
    /// Prepares a model that is on a device with autodiff.
    ///
    /// # Errors
    /// The settings cannot work, or do not fit the model.
    pub fn new(model: Model, config: &StepConfig) -> Result<Self, GroupsError> {
        config.validate()?;
        check_precision(config.precision, &model)?;
        let groups = Groups::new(&model, &config.parameters)?;
        let recomputes = |device: &Device| {
            device.gradient_checkpointing_strategy()
                == Some(GradientCheckpointingStrategy::Balanced)
        };
        if config.activation_checkpointing && !model.devices().iter().all(recomputes) {
            return Err(GroupsError::NoCheckpointing);
        }
        let model = groups.freeze(model);
        Ok(Self {
            optimizer: Optimizer::new(config.optimizer, &groups),
            ema: config.ema.map(|ema| Ema::new(&model, ema)),
            criterion: config.criterion,
            clip_max_norm: config.clip_max_norm,
            precision: config.precision,
            recompute: config.activation_checkpointing,
            loss_scale: LossScale::of(config.precision),
            model,
            groups,
        })
    }

    /// Returns the model as it is now.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Returns the parameters with their learning rates and decays.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Returns the optimizer, to be saved.
    #[must_use]
    pub const fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// Returns the moving average, if there is one.
    #[must_use]
    pub const fn ema(&self) -> Option<&Ema> {
        self.ema.as_ref()
    }

    /// Returns the loss scale of f16, to be saved.
    #[must_use]
    pub const fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    /// Goes on with a loss scale that was saved. In another precision than f16 it does nothing.
    pub fn set_loss_scale(&mut self, saved: LossScale) {
        self.loss_scale = self.loss_scale.map(|_| saved);
    }

    /// Goes on with an optimizer and an average that were saved.
    pub fn resume(&mut self, optimizer: Optimizer, ema: Option<Ema>) {
        self.optimizer = optimizer;
        self.ema = ema;
    }

    /// Makes a step on the batch that the micro-batches make together. They go through the model one after the
    /// other. `factor` is the schedule's factor on the learning rates of all groups.
    ///
    /// # Errors
    /// There are no images, or the device fails. A number that is not finite is an [`Outcome`].
    pub fn step(
        &mut self,
        micro_batches: Vec<MicroBatch>,
        factor: f64,
    ) -> Result<Outcome, StepError> {
        self.step_together(micro_batches, factor, &SingleRank)
    }

    /// Makes a step on the batch that the micro-batches of all ranks make together. All ranks have the same
    /// outcome, but for the reason of a step that is skipped.
    ///
    /// # Errors
    /// The same as those of [`Trainer::step`], or the ranks lose each other.
    pub fn step_together(
        &mut self,
        micro_batches: Vec<MicroBatch>,
        factor: f64,
        all: &(impl AllReduce + ?Sized),
    ) -> Result<Outcome, StepError> {
        let whole = whole_batch(WholeBatch::new(micro_batches.iter().map(|m| &m.targets)), all)?;
        let found = self.gradients_of_part(micro_batches, &whole)?;
        let mut failed = [f64::from(u8::from(found.is_err()))];
        all.sum_numbers(&mut failed)?;
        let mut accumulated = match found {
            Ok(accumulated) if failed[0] == 0.0 => accumulated,
            Ok(_) => return Ok(Outcome::Skipped(NonFinite::OtherRank)),
            Err(non_finite) => return Ok(Outcome::Skipped(non_finite)),
        };
        accumulated.reduce(all)?;
        self.apply_together(accumulated, factor, all)
    }

    /// Makes the first half of a step: computes the gradients of a batch, and changes nothing.
    ///
    /// # Errors
    /// The same as those of [`Trainer::step`]. The inner error is a cost of the matching that is not finite.
    pub fn gradients(
        &self,
        micro_batches: Vec<MicroBatch>,
    ) -> Result<Result<AccumulatedGradients, NonFinite>, StepError> {
        let whole = WholeBatch::new(micro_batches.iter().map(|micro| &micro.targets));
        self.gradients_of_part(micro_batches, &whole)
    }

    fn gradients_of_part(
        &self,
        micro_batches: Vec<MicroBatch>,
        whole: &WholeBatch,
    ) -> Result<Result<AccumulatedGradients, NonFinite>, StepError> {
        if micro_batches.iter().any(|micro| micro.targets.images().is_empty())
            || micro_batches.is_empty()
        {
            return Err(StepError::NoImages);
        }
        let scale = self.loss_scale.map(|scale| scale.scale);
        let mut accumulated = AccumulatedGradients::new(&self.groups);
        let mut images_before = 0;
        for MicroBatch { images, targets } in micro_batches {
            let pixels = images.pixels.clone();
            // A copy's casts are part of the graph, which the backward pass takes apart.
            let copy = compute_copy(self.precision, &self.model);
            let (mut output, blocks) = if self.recompute {
                let seed = if copy.encoder_drops() {
                    Some(seed(&read(random_bits(&pixels.device()))?))
                } else {
                    None
                };
                let (output, blocks) = CheckpointedBlocks::forward(&copy, images, seed);
                (output, Some(blocks))
            } else {
                (copy.forward(images), None)
            };
            let queries = output.pred_logits.dims()[2];
            let features = output.mask_features.take();
            let mut predictions = Predictions::from(output);
            let matches = match self.criterion.matches(&predictions, &targets) {
                Ok(matches) => matches,
                Err(MatchError::Device(error)) => return Err(error.into()),
                Err(error) => {
                    let origin = non_finite_input(&self.model, &pixels)?;
                    return Ok(Err(NonFinite::Cost { error, origin }.after(images_before)));
                }
            };
            images_before += targets.images().len();
            if let Some(features) = features {
                predictions.add_masks(&copy, &features, &matches, &targets);
            }
            let losses = self.criterion.losses_of_part(&predictions, &targets, &matches, whole);
            drop(predictions);
            accumulated.add_losses(&losses, &targets, queries);
            let total = match scale {
                Some(scale) => losses.total * scale,
                None => losses.total,
            };
            let gradients = total.backward();
            let mut add = |gradients| accumulated.add_gradients(&self.model, gradients);
            match blocks {
                Some(blocks) => blocks.backward(&copy, gradients, add),
                None => add(gradients),
            }
        }
        if let Some(scale) = scale {
            accumulated.scale(1.0 / scale);
        }
        Ok(Ok(accumulated))
    }

    /// Makes the second half of a step: reads all numbers, and changes the model if they are finite.
    ///
    /// # Errors
    /// The device fails.
    pub fn apply(
        &mut self,
        accumulated: AccumulatedGradients,
        factor: f64,
    ) -> Result<Outcome, StepError> {
        self.apply_together(accumulated, factor, &SingleRank)
    }

    /// Does the same as [`Trainer::apply`] for gradients that are already summed over all ranks.
    fn apply_together(
        &mut self,
        mut accumulated: AccumulatedGradients,
        factor: f64,
        all: &(impl AllReduce + ?Sized),
    ) -> Result<Outcome, StepError> {
        let norms = GradientNorm::of(accumulated.gradients.iter().flatten());
        let mut numbers = accumulated.values.clone();
        numbers.extend(norms.iter().map(|norms| norms.total.clone()));
        let mut numbers = read(Tensor::cat(numbers, 0))?;
        let grad_norm = if norms.is_some() { numbers.pop().unwrap_or(0.0) } else { 0.0 };
        let mut sums = accumulated.sums(&numbers);
        all.sum_numbers(&mut sums)?;
        let (loss, losses) = accumulated.report(&sums);
        let report = StepReport { loss, losses, grad_norm };
        if let Some(non_finite) = self.check(&accumulated, norms.as_ref(), &report)? {
            return Ok(self.not_finite(non_finite));
        }
        if let Some(scale) = &mut self.loss_scale {
            scale.succeeded();
        }
        if let Some(norms) = norms
            && self.clip_max_norm > 0.0
        {
            let coefficient = clip_coefficient(norms.total, self.clip_max_norm);
            accumulated.map(|gradient| gradient * coefficient.clone());
        }
        let gradients = accumulated.gradients;
        self.model = self.optimizer.step(self.model.clone(), &self.groups, gradients, factor);
        if let Some(ema) = &mut self.ema {
            ema.update(&self.model);
        }
        Ok(Outcome::Updated(report))
    }

    /// Returns the outcome of a step with a number that is not finite. If it is a gradient, the loss scale may have been
    /// too large, and is lowered.
    fn not_finite(&mut self, found: NonFinite) -> Outcome {
        let lowered = matches!(found, NonFinite::Gradient { .. })
            && self.loss_scale.as_mut().is_some_and(LossScale::overflowed);
        match (found, self.loss_scale) {
            (NonFinite::Gradient { report, .. }, Some(LossScale { scale, .. })) if lowered => {
                Outcome::Overflowed { scale, report }
            }
            (found, _) => Outcome::Skipped(found),
        }
    }

    /// Returns the first number of a step that is not finite, or `None` if all are.
    fn check(
        &self,
        accumulated: &AccumulatedGradients,
        norms: Option<&GradientNorm>,
        report: &StepReport,
    ) -> Result<Option<NonFinite>, StepError> {
        if !report.loss.is_finite() {
            let first = report.losses.iter().find(|(_, value)| !value.is_finite());
            let (name, value) = match first {
                Some((name, value)) => (Some(name.clone()), *value),
                None => (None, report.loss),
            };
            return Ok(Some(NonFinite::Loss { name, value, losses: report.losses.clone() }));
        }
        let Some(norms) = norms.filter(|_| !report.grad_norm.is_finite()) else { return Ok(None) };
        let each = read(norms.each.clone())?;
        let slots = self.groups.slots().iter().zip(&accumulated.gradients);
        let slots = slots.filter(|(_, gradient)| gradient.is_some()).map(|(slot, _)| slot);
        let first = slots.zip(each).find(|(_, norm)| !norm.is_finite());
        let parameter = first.map(|(slot, _)| slot.parameter.name.clone());
        let (norm, report) = (report.grad_norm, report.clone());
        Ok(Some(NonFinite::Gradient { parameter, norm, report }))
    }
}
