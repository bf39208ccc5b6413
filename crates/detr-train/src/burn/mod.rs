//! The adapter to burn-train: our models in its loop, our batches as its loaders, our numbers as its metrics, and
//! its renderers.

mod learner;
mod loader;
mod metrics;
mod renderer;

pub use learner::Learned;
pub use loader::Batches;
pub(crate) use metrics::Values;
pub use metrics::{Number, Numbers};
pub use renderer::{Silent, dashboard};
