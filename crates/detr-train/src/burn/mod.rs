//! The adapter to burn-train. A listener shows a run of this crate on Burn's dashboard; and Burn's own training loop
//! can train the models of this workspace with the batches of its loaders.

mod dashboard;
mod loader;
mod metrics;
mod model_with_loss;
mod silent_renderer;

pub use dashboard::Dashboard;
pub use loader::MicroBatchLoader;
pub use metrics::{ScalarMetric, Scalars};
pub use model_with_loss::ModelWithLoss;
pub use silent_renderer::SilentRenderer;
