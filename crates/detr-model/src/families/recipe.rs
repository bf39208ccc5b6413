//! The numbers that the references train their models with, by parameter.

/// Learning rates, weight decay, and what is not trained.
#[derive(Clone, Debug, PartialEq)]
pub struct TrainingRecipe {
    /// Learning rate of the parameters of no group, for the reference's batch size.
    pub lr: f64,
    /// Weight decay, of norms and biases too.
    pub weight_decay: f64,
    /// Parts of the names of parameters that are not trained.
    pub frozen: Vec<String>,
    /// Parameters with a learning rate of their own. The first group that matches counts.
    pub groups: Vec<ParameterGroup>,
}

/// Parameters with a learning rate of their own.
#[derive(Clone, Debug, PartialEq)]
pub struct ParameterGroup {
    /// Name of the group in tables and logs.
    pub name: &'static str,
    /// Parts of the parameters' names, any of which is enough.
    pub patterns: Vec<&'static str>,
    /// Their learning rate.
    pub rate: LearningRate,
}

/// A learning rate by itself, or relative to that of the parameters of no group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LearningRate {
    /// The rate.
    Absolute(f64),
    /// A factor on the rate of the parameters of no group.
    Factor(f64),
}
