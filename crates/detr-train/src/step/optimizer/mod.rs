//! `AdamW` (Loshchilov and Hutter 2019) and SGD with momentum, with the numbers of `torch.optim`. Burn's own
//! are not used: their state is keyed by numbers that differ in every process, is restored on the default
//! device, and has the parameter's precision. Ours has the names of a checkpoint, stays on the device of the
//! parameters, and is f32.

mod rule;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_model::weights::{StateDict, StoredTensor, official_layout};
use detr_model::{DeviceError, Model};

use crate::step::groups::{Groups, ParameterSlot};
pub use rule::OptimizerConfig;
use rule::{ParameterState, STEP};

/// A rule of the update, and its state for every parameter.
#[derive(Clone, Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    /// The state by the position of the parameter; `None` before its first gradient.
    state: Vec<Option<ParameterState>>,
}

/// Why saved numbers are not the state of this optimizer and model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// A tensor belongs to no trained parameter, or to another optimizer.
    #[error(
        "optimizer state: `{0}` belongs to no parameter that is trained\nhint: resume with the model, optimizer and groups that the state was saved with"
    )]
    Unexpected(String),
    /// A part of a parameter's state is missing.
    #[error(
        "optimizer state: `{0}` is missing\nhint: the file is incomplete; resume from an earlier checkpoint"
    )]
    Missing(String),
    /// A tensor has another shape.
    #[error(
        "optimizer state: `{name}` has shape {found:?}, expected {expected:?}\nhint: resume with the model that the state was saved with"
    )]
    Shape {
        /// The name of the tensor.
        name: String,
        /// The shape of the tensor.
        found: Vec<usize>,
        /// The shape of the parameter.
        expected: Vec<usize>,
    },
    /// A tensor cannot be read.
    #[error("optimizer state: `{name}`: {reason}")]
    Unreadable {
        /// The name of the tensor.
        name: String,
        /// The reason.
        reason: String,
    },
}

impl Optimizer {
    /// Makes an optimizer that has not seen a gradient.
    #[must_use]
    pub fn new(config: OptimizerConfig, groups: &Groups) -> Self {
        Self { config, state: vec![None; groups.slots().len()] }
    }

    /// Returns the model after an update. `gradients` are flattened and in the order of the groups' slots; a parameter
    /// without a gradient stays as it is. `factor` multiplies the learning rate of every group.
    #[must_use]
    pub fn step(
        &mut self,
        model: Model,
        groups: &Groups,
        gradients: Vec<Option<Tensor<1>>>,
        factor: f64,
    ) -> Model {
        let parts = groups.slots().iter().zip(self.state.iter_mut()).zip(gradients);
        let parts = parts.map(|((slot, state), gradient)| (slot, state, gradient)).collect();
        model.map(&mut Updater { config: self.config, parts, next: 0, factor })
    }

    /// Reads the state by the names of a checkpoint's parameters: `NAME.step`, `NAME.exp_avg` and so on, in the
    /// layout of the checkpoint. All of it is read at once.
    ///
    /// # Errors
    /// The device fails.
    pub fn state(&self, groups: &Groups) -> Result<StateDict, DeviceError> {
        let mut tensors = Vec::new();
        let mut steps = Vec::new();
        for (slot, state) in groups.slots().iter().zip(&self.state) {
            let Some(ParameterState { step, first, second }) = state else { continue };
            let parameter = &slot.parameter;
            let kept = [Some(first), second.as_ref()].into_iter().flatten();
            for (kind, tensor) in self.config.kept().iter().zip(kept) {
                let name = format!("{}.{kind}", parameter.name);
                tensors.push((name, parameter.shape.clone(), parameter.transposed, tensor.clone()));
            }
            // PyTorch stores it as f32, too, which is exact up to 16 million updates.
            #[allow(clippy::cast_precision_loss)]
            steps.push((format!("{}.{STEP}", parameter.name), *step as f32));
        }
        let mut state = official_layout(tensors)?;
        for (name, step) in steps {
            state.insert(name, StoredTensor::from_f32(&[step], Vec::new()));
        }
        Ok(state)
    }

    /// Makes an optimizer with a saved state.
    ///
    /// # Errors
    /// The state is that of another model, optimizer or choice of groups, or cannot be read.
    pub fn resume(
        config: OptimizerConfig,
        groups: &Groups,
        saved: &StateDict,
        device: &Device,
    ) -> Result<Self, StateError> {
        let device = device.clone().inner();
        let mut optimizer = Self::new(config, groups);
        let mut used = 0;
        for (slot, state) in groups.slots().iter().zip(&mut optimizer.state) {
            let name = |kind: &str| format!("{}.{kind}", slot.parameter.name);
            if slot.lr.is_none() || saved.get(&name(STEP)).is_none() {
                continue;
            }
            let step = read(saved, name(STEP), &[])?[0];
            let mut kept = Vec::new();
            for kind in config.kept() {
                let values = read(saved, name(kind), &slot.parameter.shape)?;
                kept.push(flat(values, slot, &device));
            }
            used += 1 + kept.len();
            let mut kept = kept.into_iter();
            let Some(first) = kept.next() else { continue };
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a count
            let step = step as u64;
            *state = Some(ParameterState { step, first, second: kept.next() });
        }
        if used < saved.len() {
            return Err(optimizer.stranger(groups, saved));
        }
        Ok(optimizer)
    }

    /// Says what is wrong with a saved state of which not all was used.
    fn stranger(&self, groups: &Groups, saved: &StateDict) -> StateError {
        let slot = |name: &str| {
            let mut slots = groups.slots().iter().zip(&self.state);
            slots.find(|(slot, _)| slot.lr.is_some() && slot.parameter.name == name)
        };
        for (name, _) in saved.iter() {
            let Some((owner, kind)) = name.rsplit_once('.') else {
                return StateError::Unexpected(name.to_owned());
            };
            match slot(owner) {
                Some((_, state)) if kind == STEP || self.config.kept().contains(&kind) => {
                    if state.is_none() {
                        return StateError::Missing(format!("{owner}.{STEP}"));
                    }
                }
                _ => return StateError::Unexpected(name.to_owned()),
            }
        }
        StateError::Unexpected(String::new())
    }
}

/// Reads a saved tensor that has to be there.
fn read(saved: &StateDict, name: String, expected: &[usize]) -> Result<Vec<f32>, StateError> {
    let Some(tensor) = saved.get(&name) else { return Err(StateError::Missing(name)) };
    if tensor.shape != expected {
        let (found, expected) = (tensor.shape.clone(), expected.to_vec());
        return Err(StateError::Shape { name, found, expected });
    }
    let values = match tensor.to_f32() {
        Ok(values) => values,
        Err(error) => return Err(StateError::Unreadable { name, reason: error.to_string() }),
    };
    if values.len() != tensor.elements() {
        let reason = format!("{} of {} elements", values.len(), tensor.elements());
        return Err(StateError::Unreadable { name, reason });
    }
    Ok(values)
}

/// Turns numbers in a checkpoint's layout into Burn's layout of the parameter, flattened.
fn flat(values: Vec<f32>, slot: &ParameterSlot, device: &Device) -> Tensor<1> {
    let elements = values.len();
    let tensor = Tensor::<1>::from_data(TensorData::new(values, [elements]), (device, DType::F32));
    match (slot.parameter.transposed, &slot.parameter.shape[..]) {
        (true, &[rows, columns]) => tensor.reshape([rows, columns]).transpose().reshape([elements]),
        _ => tensor,
    }
}

/// Updates the parameters of a model in order.
struct Updater<'a> {
    config: OptimizerConfig,
    parts: Vec<(&'a ParameterSlot, &'a mut Option<ParameterState>, Option<Tensor<1>>)>,
    /// The position of the next parameter.
    next: usize,
    factor: f64,
}

impl ModuleMapper for Updater<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let part = self.parts.get_mut(self.next);
        self.next += 1;
        let Some((slot, state, gradient)) = part else { return param };
        let (Some(lr), Some(gradient)) = (slot.lr, gradient.take()) else { return param };
        let rates = [lr * self.factor, slot.weight_decay];
        param.map(|tensor| {
            let (shape, dtype) = (tensor.dims(), tensor.dtype());
            let checkpointing = tensor.gradient_checkpointing_strategy();
            let elements = tensor.shape().num_elements();
            let value = tensor.inner().reshape([elements]).cast(FloatDType::F32);
            let (value, kept) = self.config.update(value, gradient, state.take(), rates);
            **state = Some(kept);
            let tensor = value.cast(FloatDType::from(dtype)).reshape(shape).autodiff();
            let tensor = match checkpointing {
                Some(strategy) => tensor.with_gradient_checkpointing_strategy(strategy),
                None => tensor,
            };
            tensor.require_grad()
        })
    }
}
