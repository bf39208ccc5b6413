//! `detr-bench`: measures time and memory of models, training and single operations, beside PyTorch and others where
//! asked for. `cargo xtask bench` builds and runs it; it is no part of what users install.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for a terminal

mod all;
mod augment;
mod backward;
mod data;
mod eval;
mod growth;
mod infer;
mod load;
mod matching;
mod msda;
mod photos;
mod random;
mod report;
mod sides;
mod train;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use detr_infer::cli::{self, CliError, Console, LogArgs, print, print_json, read_text};

use report::Report;
use serde_json::Value;
use sides::{Benchmark, Flags, Ours, Work, measure_all};

/// Measure speed and memory
#[derive(Parser)]
#[command(name = "detr-bench", bin_name = "cargo xtask bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    flags: Flags,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Predictions on generated pictures, stage by stage
    Infer(Box<infer::Args>),
    /// Whole steps of training on generated pictures
    Train(Box<train::Args>),
    /// A forward and a backward pass alone, without matching, losses and update
    Backward(Box<backward::Args>),
    /// Loading a checkpoint
    Load(Box<load::Args>),
    /// Multi-scale deformable attention by itself, forward and backward
    Msda(msda::Args),
    /// Measure how fast a data set becomes batches
    Data(Box<data::Args>),
    /// Decoding and augmenting images on one core
    Augment(augment::Args),
    /// Matching queries to objects
    Match(matching::Args),
    /// Scoring detections
    Eval(eval::Args),
    /// All of this in one go, as one table
    All(Box<all::Args>),
    /// Time and memory against resolution, queries, levels and batch
    Growth(Box<growth::Args>),
    /// Print the changes between two results
    Compare {
        /// The earlier results, as JSON
        a: PathBuf,
        /// The later ones
        b: PathBuf,
    },
}

impl Command {
    /// Returns the benchmark, if it is a single one.
    fn benchmark(&self) -> Option<&dyn Benchmark> {
        Some(match self {
            Self::Infer(args) => &**args,
            Self::Train(args) => &**args,
            Self::Backward(args) => &**args,
            Self::Load(args) => &**args,
            Self::Msda(args) => args,
            Self::Data(args) => &**args,
            Self::Augment(args) => args,
            Self::Match(args) => args,
            Self::Eval(args) => args,
            Self::All(_) | Self::Growth(_) | Self::Compare { .. } => return None,
        })
    }
}

fn main() -> ExitCode {
    let Cli { command, flags, log } = Cli::parse();
    cli::log_caught_panics();
    cli::run(&log, |console| {
        if let Some(threads) = flags.threads {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads as usize);
            pool.build_global().map_err(|error| CliError::Failed(error.to_string()))?;
        }
        match &command {
            Command::Compare { a, b } => print(&report::compare(&read(a)?, &read(b)?)),
            Command::All(args) => finish(all::run(args, &flags)?, "all", &flags),
            Command::Growth(args) => growth::run(args, &flags),
            single => run(single, &flags, console),
        }
    })
}

/// Runs a single benchmark: here, or in processes that take turns with its peers.
fn run(command: &Command, flags: &Flags, console: &Console) -> Result<(), CliError> {
    let Some(benchmark) = command.benchmark() else { return Ok(()) };
    let name = std::env::args().nth(1).unwrap_or_default();
    if flags.is_alone() {
        return finish(benchmark.measure(flags, console)?, &name, flags);
    }
    if flags.peer && benchmark.peers(flags).iter().all(Option::is_none) {
        let message = "--peer has no counterpart of this\nhint: it knows recipe: and a preset of the papers, msda, \
                       augment, match and eval";
        return Err(CliError::Usage(message.to_owned()));
    }
    let mut args = without_rounds(std::env::args().skip(1));
    // The peers compute on the CPU unless told otherwise, and so do we beside them.
    let has_backend = matches!(command, Command::Infer(_) | Command::Train(_) | Command::Msda(_));
    if flags.peer && has_backend && !args.iter().any(|arg| arg.starts_with("--backend")) {
        args.extend(["--backend", "flex"].map(str::to_owned));
    }
    let work = Work {
        name: String::new(),
        unit: "",
        ours: Ours::Benchmark(args),
        row: None,
        scaled: None,
    };
    finish(measure_all(&[work], flags, None), &name, flags)
}

/// Takes those flags out of a command line that make a process start others.
fn without_rounds(args: impl Iterator<Item = String>) -> Vec<String> {
    let (mut kept, mut skip) = (Vec::new(), false);
    for arg in args {
        let name = arg.split('=').next().unwrap_or_default();
        let has_value = ["--rounds", "--python", "--peer-option", "--threads"].contains(&name);
        let drop = skip || has_value || ["--peer", "--json", "--save"].contains(&name);
        skip = !skip && has_value && !arg.contains('=');
        if !drop {
            kept.push(arg);
        }
    }
    kept
}

/// Keeps a report and prints it.
fn finish(report: Report, name: &str, flags: &Flags) -> Result<(), CliError> {
    let report = report.dated();
    if flags.save {
        let fact = |key| report.facts.get(key).and_then(Value::as_str).map(str::to_owned);
        let model = fact("model").map(|model| model.trim_start_matches("recipe:").to_owned());
        let words: Vec<String> =
            [Some(name.to_owned()), model, fact("backend")].into_iter().flatten().collect();
        let name = words.join("-").replace(|c: char| !c.is_alphanumeric() && c != '.', "-");
        report.save(&name)?;
    }
    if flags.json { print_json(&report) } else { print(&report.markdown()) }
}

/// Reads results.
fn read(path: &Path) -> Result<Report, CliError> {
    serde_json::from_str(&read_text(path)?).map_err(|error| {
        CliError::Usage(format!(
            "{}: {error}\nhint: take JSON that `cargo xtask bench all --save` wrote",
            path.display()
        ))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn flags_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_measuring_process_gets_the_flags_of_its_benchmark() {
        let line = "infer --peer --model recipe:detr-r50 --rounds 3 --python=py --runs 2 --peer-option --tf32 --json";
        let kept = without_rounds(line.split(' ').map(str::to_owned));
        assert_eq!(kept.join(" "), "infer --model recipe:detr-r50 --runs 2");
    }
}
