//! Parameter groups: which parameters are trained, at what rate and decay (`param_dicts` of the
//! references' `main.py`). A pattern is a part of a parameter's name in a checkpoint.

mod config;
mod table;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use detr_model::Model;
use detr_model::weights::{NamedParameter, named_parameters};
use detr_types::RangeError;

use crate::step::precision::PrecisionError;
use crate::step::usual_values::with_usual_values;
pub use config::{GroupConfig, GroupsConfig};
pub use table::{GroupRow, GroupTable};

/// Why a model cannot be trained as the settings say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupsError {
    /// A setting has a number that cannot work.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The model cannot be trained in the precision.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// A pattern matches no parameter.
    #[error(
        "{field}: `{pattern}` matches no parameter{shadowed}\nhint: a pattern is a part of a name in a checkpoint, such as `{example}`"
    )]
    Unmatched {
        /// The path of the pattern.
        field: String,
        /// The pattern.
        pattern: String,
        /// The group that took the parameters that it would match, as a part of the message; perhaps empty.
        shadowed: String,
        /// The name of a parameter of the model.
        example: String,
    },
    /// The model cannot be trained where it is.
    #[error(
        "no parameter of the model gets gradients\nhint: make the model on a device with autodiff, and not as an inference copy"
    )]
    NoGradients,
    /// The settings ask for activation checkpointing, and the model's device does without it.
    #[error(
        "activation_checkpointing is on, but the model's device keeps all activations\nhint: make the model on `StepConfig::device`"
    )]
    NoCheckpointing,
    /// All parameters are frozen.
    #[error("no parameter is trained\nhint: raise a learning rate, or shorten `frozen`")]
    NothingTrained,
}

/// A parameter, with its learning rate and decay.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterSlot {
    /// The parameter.
    pub parameter: NamedParameter,
    /// The learning rate before the schedule; `None` if the parameter is not trained.
    pub lr: Option<f64>,
    /// The weight decay.
    pub weight_decay: f64,
    /// The row of the table.
    row: usize,
}

/// All parameters of a model, in the order in which Burn visits them.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    slots: Vec<ParameterSlot>,
    rows: Vec<GroupRow>,
}

impl Groups {
    /// Sorts the parameters of a model into groups.
    ///
    /// # Errors
    /// The model has no gradients, a setting cannot work, a pattern matches nothing, or nothing is left to train.
    pub fn new(model: &Model, config: &GroupsConfig) -> Result<Self, GroupsError> {
        const FIELD: &str = "parameters";
        config.validate(FIELD).map_err(with_usual_values)?;
        let parameters = named_parameters(model);
        if parameters.iter().all(|parameter| !parameter.trained) {
            return Err(GroupsError::NoGradients);
        }
        let frozen_row = config.groups.len() + 1;
        let mut rows: Vec<GroupRow> = config.groups.iter().map(|g| config.row(Some(g))).collect();
        rows.push(config.row(None));
        rows.extend(["frozen", "buffers"].map(|name| GroupRow::new(name, None)));

        let matches =
            |pattern: &String, parameter: &NamedParameter| parameter.name.contains(pattern);
        let group_of = |parameter: &NamedParameter| {
            config.groups.iter().position(|g| g.patterns.iter().any(|p| matches(p, parameter)))
        };
        let slots: Vec<ParameterSlot> = parameters
            .into_iter()
            .map(|parameter| {
                let group = group_of(&parameter).unwrap_or(config.groups.len());
                let row = if !parameter.trained {
                    frozen_row + 1
                } else if config.frozen.iter().any(|p| matches(p, &parameter)) {
                    frozen_row
                } else {
                    group
                };
                let GroupRow { lr, weight_decay, .. } = rows[row];
                ParameterSlot { parameter, lr, weight_decay: weight_decay.unwrap_or(0.0), row }
            })
            .collect();
        for slot in &slots {
            rows[slot.row].tensors += 1;
            rows[slot.row].parameters += slot.parameter.shape.iter().product::<usize>();
        }

        let unmatched = |field: String, pattern: &String| {
            let example = slots.first().map_or("", |slot| &slot.parameter.name).to_owned();
            let taken = slots.iter().find(|slot| matches(pattern, &slot.parameter));
            let shadowed = taken.map_or(String::new(), |slot| {
                let by = &rows[slot.row].name;
                format!(" that is left: `{}` is in `{by}`", slot.parameter.name)
            });
            Err(GroupsError::Unmatched { field, pattern: pattern.clone(), shadowed, example })
        };
        for pattern in &config.frozen {
            if !slots.iter().any(|slot| matches(pattern, &slot.parameter)) {
                return unmatched(format!("{FIELD}.frozen"), pattern);
            }
        }
        for (i, group) in config.groups.iter().enumerate() {
            for pattern in &group.patterns {
                let found = |slot: &ParameterSlot| {
                    [i, frozen_row].contains(&slot.row) && matches(pattern, &slot.parameter)
                };
                if !slots.iter().any(found) {
                    return unmatched(format!("{FIELD}.groups[{i}] ({})", group.name), pattern);
                }
            }
        }
        if slots.iter().all(|slot| slot.lr.is_none()) {
            return Err(GroupsError::NothingTrained);
        }
        rows.retain(|row| row.tensors > 0);
        Ok(Self { slots, rows })
    }

    /// Returns all parameters, in the order in which Burn visits them.
    #[must_use]
    pub fn slots(&self) -> &[ParameterSlot] {
        &self.slots
    }

    /// Returns the groups as a table for people.
    #[must_use]
    pub fn table(&self) -> GroupTable<'_> {
        GroupTable(&self.rows)
    }

    /// Turns gradients on for the parameters that are trained, and off for all others.
    pub(crate) fn freeze(&self, model: Model) -> Model {
        model.map(&mut Freezer(self.slots.iter()))
    }
}

/// Turns the gradients of every parameter on or off.
struct Freezer<'a>(std::slice::Iter<'a, ParameterSlot>);

impl ModuleMapper for Freezer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.next() {
            Some(slot) => param.set_require_grad(slot.lr.is_some()),
            None => param,
        }
    }
}
