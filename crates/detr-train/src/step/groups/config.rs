//! The settings of parameter groups, and those of the references.

use detr_model::ModelConfig;
use detr_model::families::{LearningRate, ParameterGroup, TrainingRecipe};
use detr_types::RangeError;
use detr_types::range::{not_negative, require};
use serde::{Deserialize, Serialize};

use super::table::{GroupRow, REST};

/// Learning rates, weight decay and frozen parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupsConfig {
    /// The learning rate of the parameters in no group.
    pub lr: f64,
    /// The weight decay, of norms and biases too.
    pub weight_decay: f64,
    /// Patterns of the parameters that are not trained.
    #[serde(default)]
    pub frozen: Vec<String>,
    /// Parameters with rates of their own. A parameter is in the first group that matches.
    #[serde(default)]
    pub groups: Vec<GroupConfig>,
}

/// A group of parameters. A learning rate of 0 freezes it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupConfig {
    /// The name in tables and logs.
    pub name: String,
    /// Parts of the parameters' names, any of which is enough.
    pub patterns: Vec<String>,
    /// The learning rate; without it, that of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr: Option<f64>,
    /// The learning rate as a factor on that of the rest, instead of `lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lr_factor: Option<f64>,
    /// The weight decay; without it, that of the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
}

impl GroupsConfig {
    /// Returns the groups that the reference of an architecture trains with; the learning rates belong to its batch size.
    #[must_use]
    pub fn for_model(model: &ModelConfig) -> Self {
        let TrainingRecipe { lr, weight_decay, frozen, groups } = model.training_recipe();
        let groups = groups.into_iter().map(|group| {
            let ParameterGroup { name, patterns, rate } = group;
            let (lr, lr_factor) = match rate {
                LearningRate::Absolute(lr) => (Some(lr), None),
                LearningRate::Factor(factor) => (None, Some(factor)),
            };
            let patterns = patterns.into_iter().map(str::to_owned).collect();
            GroupConfig { name: name.to_owned(), patterns, lr, lr_factor, weight_decay: None }
        });
        Self { lr, weight_decay, frozen, groups: groups.collect() }
    }

    /// Refuses numbers that cannot work; `field` is the path to these settings.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self, field: &str) -> Result<(), RangeError> {
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

    /// Makes a row of the table, for a group or the rest.
    pub(super) fn row(&self, group: Option<&GroupConfig>) -> GroupRow {
        let Some(group) = group else {
            return GroupRow::new(REST, Some((self.lr, self.weight_decay)));
        };
        let lr = group.lr.or(group.lr_factor.map(|factor| factor * self.lr)).unwrap_or(self.lr);
        let weight_decay = group.weight_decay.unwrap_or(self.weight_decay);
        GroupRow::new(&group.name, Some((lr, weight_decay)))
    }
}
