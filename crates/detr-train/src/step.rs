//! One step of training (`train_one_epoch` of the references' `engine.py`): forward, match, losses,
//! backward, clip, update, average. A number that is not finite stops the step before anything changes,
//! the loss scale of f16 excepted.

use std::fmt;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{DType, Device, GradientCheckpointingStrategy, Tensor, Transaction};
use detr_loss::{MatchError, Predictions, SetCriterion, WholeBatch};
use detr_model::weights::named_parameters;
use detr_model::{Model, traffic};

use crate::accumulate::{Accumulated, MicroBatch};
use crate::clip::{GradientNorm, clip_coefficient};
use crate::config::StepConfig;
use crate::ema::Ema;
use crate::fault::{self, Site};
use crate::groups::{Groups, GroupsError};
use crate::optimizer::Optimizer;
use crate::outcome::{NonFinite, Outcome, Place, StepError, StepReport};
use crate::precision::{LossScale, Precision};
use crate::ranks::{AllReduce, Alone, whole_batch};
use crate::run::RunError;
use crate::segments::{Segments, random_bits, seed};

/// A model in training, and all that changes with it.
#[derive(Clone, Debug)]
pub struct Trainer {
    model: Model,
    groups: Groups,
    optimizer: Optimizer,
    ema: Option<Ema>,
    criterion: SetCriterion,
    /// 0 for no clipping.
    clip_max_norm: f64,
    precision: Precision,
    /// Whether activations are computed again.
    recompute: bool,
    /// Of f16.
    loss_scale: Option<LossScale>,
}

impl Trainer {
    /// Prepares a model that is on a device with autodiff.
    ///
    /// # Errors
    /// Settings that cannot work, or that do not fit the model.
    pub fn new(model: Model, config: &StepConfig) -> Result<Self, GroupsError> {
        config.validate()?;
        config.precision.check(&model)?;
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
            loss_scale: config.precision.loss_scale(),
            model,
            groups,
        })
    }

    /// The model as it is now.
    #[must_use]
    pub const fn model(&self) -> &Model {
        &self.model
    }

    /// Which parameters are trained, and how.
    #[must_use]
    pub const fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The optimizer, to be saved.
    #[must_use]
    pub const fn optimizer(&self) -> &Optimizer {
        &self.optimizer
    }

    /// The moving average, if there is one.
    #[must_use]
    pub const fn ema(&self) -> Option<&Ema> {
        self.ema.as_ref()
    }

    /// What the losses are multiplied with, in f16; to be saved.
    #[must_use]
    pub const fn loss_scale(&self) -> Option<LossScale> {
        self.loss_scale
    }

    /// Goes on with a loss scale that was saved; of no effect but in f16.
    pub fn set_loss_scale(&mut self, saved: LossScale) {
        self.loss_scale = self.loss_scale.map(|_| saved);
    }

    /// Goes on with an optimizer and an average that were saved.
    pub fn resume(&mut self, optimizer: Optimizer, ema: Option<Ema>) {
        self.optimizer = optimizer;
        self.ema = ema;
    }

    /// The same on another device, without the average, which one rank keeps.
    pub(crate) fn on(&self, config: &StepConfig, device: &Device) -> Result<Self, RunError> {
        let state = self.optimizer.state(&self.groups).map_err(RunError::Device)?;
        let config = StepConfig { ema: None, ..config.clone() };
        let mut trainer =
            Self::new(self.model.clone().fork(&config.device(device.clone())), &config)?;
        trainer.optimizer = Optimizer::resume(config.optimizer, &trainer.groups, &state, device)?;
        trainer.loss_scale = self.loss_scale;
        Ok(trainer)
    }

    /// For tests of what becomes of a broken parameter.
    pub(crate) fn break_parameters(&mut self) {
        self.model = fault::broken(self.model.clone());
    }

    /// A step on the batch that the micro-batches make together, which go through the model one after the
    /// other. `factor` is the schedule's, on the learning rates of all groups.
    ///
    /// # Errors
    /// No images, or a device that fails. What is not finite is an [`Outcome`].
    pub fn step(
        &mut self,
        micro_batches: Vec<MicroBatch>,
        factor: f64,
    ) -> Result<Outcome, StepError> {
        self.step_together(micro_batches, factor, &Alone)
    }

    /// A step on the batch that the micro-batches of all ranks make together. All ranks have the same
    /// outcome, but for the reason of a step that is skipped.
    ///
    /// # Errors
    /// As [`Trainer::step`]; ranks that lose each other.
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

    /// The first half of a step: gradients of a batch. Changes nothing.
    ///
    /// # Errors
    /// As [`Trainer::step`]; inside, a cost that is not finite.
    pub fn gradients(
        &self,
        micro_batches: Vec<MicroBatch>,
    ) -> Result<Result<Accumulated, NonFinite>, StepError> {
        let whole = WholeBatch::new(micro_batches.iter().map(|micro| &micro.targets));
        self.gradients_of_part(micro_batches, &whole)
    }

    fn gradients_of_part(
        &self,
        micro_batches: Vec<MicroBatch>,
        whole: &WholeBatch,
    ) -> Result<Result<Accumulated, NonFinite>, StepError> {
        if micro_batches.iter().any(|micro| micro.targets.images().is_empty())
            || micro_batches.is_empty()
        {
            return Err(StepError::NoImages);
        }
        let scale = self.loss_scale.map(|scale| scale.scale);
        let mut accumulated = Accumulated::new(&self.groups);
        let mut images_before = 0;
        for MicroBatch { images, targets } in micro_batches {
            let pixels = images.pixels.clone();
            // A copy's casts are part of the graph, which the backward pass takes apart.
            let copy = self.precision.compute_copy(&self.model);
            let (mut output, segments) = if self.recompute {
                let seed = if copy.encoder_drops() {
                    Some(seed(&read(random_bits(&pixels.device()))?))
                } else {
                    None
                };
                let (output, segments) = Segments::forward(&copy, images, seed);
                (output, Some(segments))
            } else {
                (copy.forward(images), None)
            };
            if fault::now(Site::Cost) {
                output.pred_boxes = output.pred_boxes * f32::NAN;
            }
            let queries = output.pred_logits.dims()[2];
            let predictions = Predictions::from(output);
            let matches = match self.criterion.matches(&predictions, &targets) {
                Ok(matches) => matches,
                Err(MatchError::Device(message)) => return Err(StepError::Device(message)),
                Err(error) => {
                    let origin = self.origin(&pixels)?;
                    return Ok(Err(NonFinite::Cost { error, origin }.after(images_before)));
                }
            };
            images_before += targets.images().len();
            let losses = self.criterion.losses_of_part(&predictions, &targets, &matches, whole);
            drop(predictions);
            accumulated.add_losses(&losses, &targets, queries);
            let total = match scale {
                Some(scale) => losses.total * scale,
                None => losses.total,
            };
            let gradients = total.backward();
            let mut add = |gradients| accumulated.add_gradients(&self.model, gradients);
            match segments {
                Some(segments) => segments.backward(&copy, gradients, add),
                None => add(gradients),
            }
        }
        if let Some(scale) = scale {
            accumulated.scale(1.0 / scale);
        }
        if fault::now(Site::Gradient) {
            accumulated.map(|gradient| gradient * f32::NAN);
        }
        Ok(Ok(accumulated))
    }

    /// The second half of a step: reads all numbers, and changes the model if they are finite.
    ///
    /// # Errors
    /// A device that fails.
    pub fn apply(&mut self, accumulated: Accumulated, factor: f64) -> Result<Outcome, StepError> {
        self.apply_together(accumulated, factor, &Alone)
    }

    /// As [`Trainer::apply`], of gradients that are those of all ranks already.
    fn apply_together(
        &mut self,
        mut accumulated: Accumulated,
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

    /// What becomes of a step with numbers that are not finite. Gradients of finite losses may be the
    /// loss scale's fault.
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

    /// What is not finite in a step, if anything is.
    fn check(
        &self,
        accumulated: &Accumulated,
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

    /// The first image or parameter that is not finite. Only called when something is wrong.
    fn origin(&self, pixels: &Tensor<4>) -> Result<Option<Place>, StepError> {
        let [b, c, h, w] = pixels.dims();
        // 0 times a finite number is 0, and NaN times anything else.
        let images = pixels.clone().inner().reshape([b, c * h * w]) * 0.0;
        let images = read(images.sum_dim(1).reshape([b]))?;
        if let Some(image) = images.iter().position(|value| !value.is_finite()) {
            return Ok(Some(Place::Image(image)));
        }
        let mut zeros = Zeros::default();
        self.model.visit(&mut zeros);
        let zeros = read(Tensor::cat(zeros.0, 0))?;
        let broken = zeros.iter().position(|value| !value.is_finite());
        let names = broken.map(|i| named_parameters(&self.model).swap_remove(i).name);
        Ok(names.map(Place::Parameter))
    }
}

/// One read-back.
fn read(tensor: Tensor<1>) -> Result<Vec<f32>, StepError> {
    let failed = |error: &dyn fmt::Debug| StepError::Device(format!("{error:?}"));
    let read = traffic::read(Transaction::default().register(tensor.detach()));
    let data = read.map_err(|error| failed(&error))?.pop();
    let data = data.ok_or_else(|| failed(&"no numbers"))?;
    data.convert_dtype(DType::F32).try_into_vec::<f32>().map_err(|error| failed(&error))
}

/// A 0 for every parameter that is finite.
#[derive(Default)]
struct Zeros(Vec<Tensor<1>>);

impl ModuleVisitor for Zeros {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push((param.val().inner() * 0.0).sum());
    }
}
