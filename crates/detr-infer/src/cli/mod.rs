//! The command line: what the binary `detr-infer` does and `detr predict` does too, and what all
//! commands of `detr` share (errors and exit codes, messages, opening models).
//!
//! Architecture invariant: this is the only module of the crate that writes to stdout and stderr.
//! stdout carries results; progress, notes and errors go to stderr. It never exits: commands
//! return a [`CliError`], and [`run`] turns it into the exit code.

mod args;
mod console;
mod exit;
mod model;
mod output;
mod panoptic;
mod predict;
mod stream;
mod timings;

use std::process::ExitCode;

pub use args::{DEFAULT_MODEL, DeviceArgs, ImageArgs, LoadArgs, PredictArgs};
pub use console::{Console, LogArgs, Progress};
pub use exit::CliError;
pub use model::{HubProgress, host_device, hub, open_model, open_model_sized, read_text};
pub use output::{print, print_json, write_png, write_text};
pub use predict::predict;
pub use stream::{Stream, StreamResult, make_predictor};
pub use timings::Timings;

pub use crate::text::escaped;

/// Runs a command: starts logging, prints its error if there is one, and gives the exit code.
pub fn run(log: &LogArgs, command: impl FnOnce(&Console) -> Result<(), CliError>) -> ExitCode {
    detr_ops::keep_freed_memory();
    let console = Console::new(log);
    console.start_logging(log);
    match command(&console) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            console.error(&error.to_string());
            ExitCode::from(error.exit_code())
        }
    }
}

/// Sets the panic hook for `main` of a binary: panics that are caught and become errors leave a
/// trace in the log only; any other is a bug and says so.
///
/// A failing GPU makes Burn panic in its own threads too, so outside the main thread every panic
/// counts as caught: what was waiting for that thread fails with an error of its own.
pub fn log_caught_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let on_main = std::thread::current().name() == Some("main");
        if on_main && !crate::backend::catches_panics() {
            let console = Console::new(&LogArgs::default());
            console
                .error(&format!("internal error: {panic}\nhint: this is a bug, please report it"));
        } else {
            tracing::debug!("caught: {panic}");
        }
    }));
}
