//! The machine and the version of Burn, for the reports of measurements.

pub(crate) use detr_track::machine::{cpu_name, peak_memory_mb};
pub(crate) use detr_train::BURN_VERSION as BURN;
