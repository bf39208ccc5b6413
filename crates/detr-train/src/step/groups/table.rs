//! The table of parameter groups.

use std::fmt;

/// The name of the group of all parameters that no pattern matches.
pub(super) const REST: &str = "rest";

/// A row of the table of groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupRow {
    /// The name of the group.
    pub name: String,
    /// The number of tensors.
    pub tensors: usize,
    /// The number of elements in the tensors.
    pub parameters: usize,
    /// The learning rate before the schedule; `None` if the group is frozen.
    pub lr: Option<f64>,
    /// The weight decay; `None` if the group is frozen.
    pub weight_decay: Option<f64>,
}

/// The groups of a model as a table for people.
#[derive(Clone, Copy, Debug)]
pub struct GroupTable<'a>(pub(super) &'a [GroupRow]);

impl GroupRow {
    /// Makes a row without tensors. `rates` are the learning rate and the weight decay; a group is frozen if there are
    /// none, or if the learning rate is 0.
    pub(super) fn new(name: &str, rates: Option<(f64, f64)>) -> Self {
        let rates = rates.filter(|&(lr, _)| lr > 0.0);
        let (lr, weight_decay) = rates.unzip();
        Self { name: name.to_owned(), tensors: 0, parameters: 0, lr, weight_decay }
    }
}

impl<'a> GroupTable<'a> {
    /// Returns the rows. The row `frozen` has the parameters that the settings freeze, the row `buffers` those that no
    /// training changes.
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

/// Writes a rate as people do: `2e-4 * 0.1` is not quite `2e-5`.
fn short(rate: f64) -> String {
    format!("{:e}", format!("{rate:.5e}").parse().unwrap_or(rate))
}
