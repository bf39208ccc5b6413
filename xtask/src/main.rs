//! Chores of the workspace: `cargo xtask check | tidy | infer | train | bench`, one module each.
//!
//! This program starts other programs and reads source text. It is not part of what users install,
//! and it never depends on Burn, so that it compiles in seconds.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

mod check;
mod programs;
mod shell;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", about = "Chores of the workspace")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// All that CI checks: invariants, format, lints, tests, the cuda feature; licences and spelling
    /// where cargo-deny and typos are installed
    Check(check::Args),
    /// The invariants of ARCHITECTURE.md, as checks of the sources
    Tidy,
    /// Run detr-infer, built with the features that its --backend needs
    Infer(programs::Args),
    /// Run detr train, built with the features that its --backend needs
    Train(programs::Args),
    /// Run detr-bench, built with the features that its --backend needs
    Bench(programs::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Check(args) => check::run(&args),
        Command::Tidy => tidy::run(),
        Command::Infer(args) => programs::infer(&args),
        Command::Train(args) => programs::train(&args),
        Command::Bench(args) => programs::bench(&args),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
