//! `detr`: one program for all work with DETR models; one file per command. What `detr-infer` does
//! too, and messages and exit codes, are in `detr_infer::cli`. This is a library only so that tests can run
//! the program with a trainer of their own.

mod classes;
mod convert;
mod data;
mod devices;
mod eval;
mod export;
mod inspect;
mod models;
#[cfg(feature = "otel")]
mod otel;
mod runs;
mod self_test;
#[cfg(feature = "serve")]
mod serve;
mod size;
mod train;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use detr_infer::cli::{self, LogArgs, PredictArgs};
use detr_train::{Trainer, TrainingStep};

// For the benchmarks, which take the same flags.
pub use data::{AugmentationArgs, ReadArgs, UprightArgs};
pub use size::Size;

/// Detect objects with DETR models, and work with their files
#[derive(Parser)]
#[command(name = "detr", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Detect objects in pictures
    Predict(Box<PredictArgs>),
    /// Score a model, or the results of any tool, with COCO's metrics
    Eval(Box<eval::EvalArgs>),
    /// Write a model as an ONNX file, for other engines
    Export(Box<export::ExportArgs>),
    /// Detect objects in the pictures of clients, over the network
    #[cfg(feature = "serve")]
    Serve(Box<serve::ServeArgs>),
    /// Train a model
    Train(Box<train::TrainArgs>),
    /// List, show and compare runs of the training
    #[command(subcommand)]
    Runs(runs::RunsCommand),
    /// List what this machine can compute on
    Devices(devices::DevicesArgs),
    /// Check that a device computes what the CPU does
    SelfTest(self_test::SelfTestArgs),
    /// Convert, inspect, fetch and list models
    #[command(subcommand)]
    Models(models::ModelsCommand),
    /// Check, count, convert, preview and generate data sets
    #[command(subcommand)]
    Data(data::DataCommand),
}

/// A way to put a wrapper around the trainer of `detr train`, or to leave it as it is.
pub type WrapTrainer<'a> = &'a dyn Fn(Trainer) -> Box<dyn TrainingStep>;

/// Runs the program with these arguments, of which the first is its name, and returns its exit code. The trainer of
/// `detr train` makes its steps in the wrapper.
pub fn main(args: impl IntoIterator<Item = OsString>, wrap: WrapTrainer<'_>) -> ExitCode {
    let args = Args::parse_from(args);
    cli::log_caught_panics();
    cli::run(&args.log, |console| match &args.command {
        Command::Predict(args) => cli::predict(args, console),
        Command::Eval(args) => eval::run(args, console),
        Command::Export(args) => export::run(args, console),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args, console),
        Command::Train(args) => train::run(args, wrap, console),
        Command::Runs(command) => runs::run(command, console),
        Command::Devices(args) => devices::run(args),
        Command::SelfTest(args) => self_test::run(args, console),
        Command::Models(command) => models::run(command, console),
        Command::Data(command) => data::run(command, console),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn flags_do_not_contradict_each_other() {
        super::Args::command().debug_assert();
    }
}
