//! `detr-infer`: detects objects in pictures. All it does is in [`detr_infer::cli`].

use std::process::ExitCode;

use clap::Parser;
use detr_infer::cli::{self, LogArgs, PredictArgs};

/// Detect objects in pictures with DETR models
#[derive(Parser)]
#[command(version)]
struct Args {
    #[command(flatten)]
    predict: PredictArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn main() -> ExitCode {
    let args = Args::parse();
    cli::log_caught_panics();
    cli::run(&args.log, |console| cli::predict(&args.predict, console))
}
