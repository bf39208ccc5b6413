//! The request to stop a run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A request to stop a run, shared by the loop and whoever may stop it, such as a handler of signals. The loop
/// looks at it before every step and after every batch of a validation, saves a checkpoint and ends.
#[derive(Clone, Debug, Default)]
pub struct StopFlag(Arc<AtomicBool>);

impl StopFlag {
    /// Makes a flag that is not raised.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks the run to stop. There is no way back.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Returns whether someone asked the run to stop.
    #[must_use]
    pub fn should_stop(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
