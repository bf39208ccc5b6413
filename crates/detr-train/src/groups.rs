//! Parameter groups: which parameters are trained, at what rate and decay (`param_dicts` of the
//! references' `main.py`). A pattern is a part of a parameter's name in a checkpoint.

use std::fmt;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::Tensor;
use detr_model::weights::{NamedParameter, named_parameters};
use detr_model::{Model, ModelConfig};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, not_negative, require};

/// Name of the group of all parameters that no pattern matches.
const REST: &str = "rest";

/// Learning rates, weight decay, and what is not trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupsConfig {
    /// Learning rate of the parameters of no group.
    pub lr: f64,
    /// Weight decay, of norms and biases too.
    pub weight_decay: f64,
    /// Patterns of the parameters that are not trained.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Parameters with numbers of their own. The first group that matches counts.
    #[serde(default)]
    pub groups: Vec<GroupConfig>,
}

/// A group of parameters. A learning rate of 0 freezes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// What it is called in tables and logs.
    pub name: String,
    /// Parts of the parameters' names, any of which is enough.
    pub patterns: Vec<String>,
    /// Learning rate; without it, that of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// Learning rate as a factor on that of the rest, instead of `lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_factor: Option<f64>,
    /// Weight decay; without it, that of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

/// Why a model's parameters cannot be grouped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupsError {
    /// A number that cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
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

impl GroupsConfig {
    /// What the reference of an architecture trains with, its `lr` and batch size included.
    #[must_use]
    pub fn for_model(model: &ModelConfig) -> Self {
        let texts = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        // Stem and first stage are never trained; frozen norms have no gradients anyway.
        let (frozen, backbone): (&[&str], &str) = match model {
            ModelConfig::DetrDemo(_) => (&["backbone.conv1", "backbone.layer1"], "backbone"),
            // Learned positions are `backbone.1`, and in DETR train at the backbone's rate, too.
            ModelConfig::Detr(_) => {
                (&["backbone.0.body.conv1", "backbone.0.body.layer1"], "backbone")
            }
            ModelConfig::DeformableDetr(_) => {
                (&["backbone.0.body.conv1", "backbone.0.body.layer1"], "backbone.0")
            }
        };
        let backbone = |lr: f64| GroupConfig {
            name: "backbone".to_owned(),
            patterns: texts(&[backbone]),
            lr: Some(lr),
            ..GroupConfig::default()
        };
        let (lr, groups) = match model {
            ModelConfig::Detr(_) | ModelConfig::DetrDemo(_) => (1e-4, vec![backbone(1e-5)]),
            ModelConfig::DeformableDetr(config) => {
                // Two-stage models take their reference points from the encoder.
                let patterns: &[&str] = if config.two_stage {
                    &["sampling_offsets"]
                } else {
                    &["reference_points", "sampling_offsets"]
                };
                let sampling = GroupConfig {
                    name: "sampling".to_owned(),
                    patterns: texts(patterns),
                    lr_factor: Some(0.1),
                    ..GroupConfig::default()
                };
                (2e-4, vec![backbone(2e-5), sampling])
            }
        };
        Self { lr, weight_decay: 1e-4, frozen: texts(frozen), groups }
    }

    /// Refuses numbers that cannot work; `field` is the path to these settings.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn validate(&self, field: &str) -> Result<(), ConfigError> {
        not_negative(format!("{field}.lr"), self.lr)?;
        not_negative(format!("{field}.weight_decay"), self.weight_decay)?;
        for (i, group) in self.groups.iter().enumerate() {
            let place = format!("{field}.groups[{i}] ({})", group.name);
            let named = !group.name.is_empty() && group.name != REST;
            require(named, format!("{place}.name"), &group.name, "a name other than `rest`")?;
            let new = self.groups[..i].iter().all(|other| other.name != group.name);
            require(new, format!("{place}.name"), &group.name, "a name that no other group has")?;
            let some = !group.patterns.is_empty();
            require(some, format!("{place}.patterns"), "[]", "at least one pattern")?;
            let one = group.lr.is_none() || group.lr_factor.is_none();
            require(one, format!("{place}.lr_factor"), "set beside `lr`", "one of the two")?;
            for (name, value) in [
                ("lr", group.lr),
                ("lr_factor", group.lr_factor),
                ("weight_decay", group.weight_decay),
            ] {
                not_negative(format!("{place}.{name}"), value.unwrap_or(0.0))?;
            }
        }
        let patterns = self.groups.iter().flat_map(|group| &group.patterns).chain(&self.frozen);
        let empty = patterns.clone().any(String::is_empty);
        require(!empty, field, "a list with an empty pattern", "parts of parameters' names")
    }
}

impl Groups {
    /// Sorts the parameters of a model into groups.
    ///
    /// # Errors
    /// Settings that cannot work, patterns that match nothing, or nothing left to train.
    pub fn new(model: &Model, config: &GroupsConfig) -> Result<Self, GroupsError> {
        const FIELD: &str = "parameters";
        config.validate(FIELD)?;
        let parameters = named_parameters(model);
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
                let found = |slot: &Slot| slot.row == i && matches(pattern, &slot.parameter);
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

impl GroupsConfig {
    /// A line of the table, for a group or the rest.
    fn row(&self, group: Option<&GroupConfig>) -> GroupRow {
        let Some(group) = group else {
            return GroupRow::new(REST, Some((self.lr, self.weight_decay)));
        };
        let lr = group.lr.or(group.lr_factor.map(|factor| factor * self.lr)).unwrap_or(self.lr);
        let weight_decay = group.weight_decay.unwrap_or(self.weight_decay);
        GroupRow::new(&group.name, Some((lr, weight_decay)))
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
