//! TensorBoard's event files.

pub mod events;
pub mod means;
