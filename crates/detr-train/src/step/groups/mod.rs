//! Parameter groups: which parameters are trained, at what rate and decay (`param_dicts` of the
//! references' `main.py`). A pattern is a part of a parameter's name in a checkpoint.

mod config;

use std::fmt;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use detr_model::Model;
use detr_model::weights::{NamedParameter, named_parameters};

use crate::step::config::ConfigError;
use crate::step::precision::PrecisionError;
pub use config::{GroupConfig, GroupsConfig};

/// Name of the group of all parameters that no pattern matches.
const REST: &str = "rest";

/// Why a model cannot be trained as the settings say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupsError {
    /// A number that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A precision that does not work here.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// A pattern without a parameter.
    #[error(
        "{field}: `{pattern}` matches no parameter{shadowed}\nhint: a pattern is a part of a name in a checkpoint, such as `{example}`"
    )]
    Unmatched {
        /// Path of the pattern.
        field: String,
        /// The pattern.
        pattern: String,
        /// What took the parameters that it would match.
        shadowed: String,
        /// A name of the model.
        example: String,
    },
    /// A model that cannot be trained where it is.
    #[error(
        "no parameter of the model gets gradients\nhint: make the model on a device with autodiff, and not as an inference copy"
    )]
    NoGradients,
    /// Activation checkpointing on a device without it.
    #[error(
        "activation_checkpointing is on, but the model's device keeps all activations\nhint: make the model on `StepConfig::device`"
    )]
    NoCheckpointing,
    /// Everything is frozen.
    #[error("no parameter is trained\nhint: raise a learning rate, or shorten `frozen`")]
    NothingTrained,
}

/// A parameter, and how it is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Slot {
    /// The parameter.
    pub parameter: NamedParameter,
    /// Learning rate before the schedule; none if it is not trained.
    pub lr: Option<f64>,
    /// Weight decay.
    pub weight_decay: f64,
    /// Row of the table.
    row: usize,
}

/// All parameters of a model, in the order of a traversal.
#[derive(Clone, Debug, PartialEq)]
pub struct Groups {
    slots: Vec<Slot>,
    rows: Vec<GroupRow>,
}

/// A line of the table of groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// Name of the group.
    pub name: String,
    /// How many tensors.
    pub tensors: usize,
    /// How many numbers in them.
    pub parameters: usize,
    /// Learning rate before the schedule; none if frozen.
    pub lr: Option<f64>,
    /// Weight decay; none if frozen.
    pub weight_decay: Option<f64>,
}

/// The groups of a model, to be printed.
#[derive(Clone, Copy, Debug)]
pub struct GroupTable<'a>(&'a [GroupRow]);

impl Groups {
    /// Sorts the parameters of a model into groups.
    ///
    /// # Errors
    /// A model without gradients, settings that cannot work, patterns that match nothing, or nothing left
    /// to train.
    pub fn new(model: &Model, config: &GroupsConfig) -> Result<Self, GroupsError> {
        const FIELD: &str = "parameters";
        config.validate(FIELD)?;
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
        let slots: Vec<Slot> = parameters
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
                Slot { parameter, lr, weight_decay: weight_decay.unwrap_or(0.0), row }
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
                let found = |slot: &Slot| {
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

    /// Every parameter, in the order of a traversal of the model.
    #[must_use]
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The groups, to be printed.
    #[must_use]
    pub fn table(&self) -> GroupTable<'_> {
        GroupTable(&self.rows)
    }

    /// The model with gradients for what is trained, and for nothing else.
    pub(crate) fn freeze(&self, model: Model) -> Model {
        model.map(&mut Freezer(self.slots.iter()))
    }
}

impl GroupRow {
    fn new(name: &str, numbers: Option<(f64, f64)>) -> Self {
        let numbers = numbers.filter(|&(lr, _)| lr > 0.0);
        let (lr, weight_decay) = numbers.unzip();
        Self { name: name.to_owned(), tensors: 0, parameters: 0, lr, weight_decay }
    }
}

impl<'a> GroupTable<'a> {
    /// Its lines; "frozen" are parameters that `frozen` names, "buffers" what no training changes.
    #[must_use]
    pub const fn rows(&self) -> &'a [GroupRow] {
        self.0
    }
}

impl fmt::Display for GroupTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.0.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).max(5);
        writeln!(f, "{:width$}  tensors  parameters       lr  weight decay", "group")?;
        for row in self.0 {
            let GroupRow { name, tensors, parameters, lr, weight_decay } = row;
            write!(f, "{name:width$}  {tensors:>7}  {parameters:>10}")?;
            match (lr, weight_decay) {
                (Some(lr), Some(decay)) => {
                    writeln!(f, "  {:>7}  {:>12}", short(*lr), short(*decay))?;
                }
                _ => writeln!(f, "  {:>7}  {:>12}", "frozen", "-")?,
            }
        }
        Ok(())
    }
}

/// A rate as people write it: `2e-4 * 0.1` is not quite `2e-5`.
fn short(rate: f64) -> String {
    format!("{:e}", format!("{rate:.5e}").parse().unwrap_or(rate))
}

struct Freezer<'a>(std::slice::Iter<'a, Slot>);

impl ModuleMapper for Freezer<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.0.next() {
            Some(slot) => param.set_require_grad(slot.lr.is_some()),
            None => param,
        }
    }
}
