//! The files of a run.

pub mod csv_tables;
pub mod environment;
pub mod plots;
pub mod tensorboard;
