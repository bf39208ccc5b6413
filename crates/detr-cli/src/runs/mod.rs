//! `detr runs`: shows the results of the runs of `detr train`. It reads the files that `detr-track` writes and changes nothing;
//! folders that are broken or in use are shown as far as they can be read.

mod checkpoints;
mod compare;
mod folder;
mod list;
mod numbers;
mod settings;
mod show;
mod table;

use clap::Subcommand;
use detr_infer::cli::{CliError, Console};

/// Commands for runs.
#[derive(Subcommand)]
pub(crate) enum RunsCommand {
    /// List the runs in a folder
    List(list::ListArgs),
    /// Show settings, metrics, checkpoints and files of a run
    Show(show::ShowArgs),
    /// Show where runs differ, in settings and in results
    Compare(compare::CompareArgs),
}

pub(crate) fn run(command: &RunsCommand, console: &Console) -> Result<(), CliError> {
    match command {
        RunsCommand::List(args) => list::run(args, console),
        RunsCommand::Show(args) => show::run(args, console),
        RunsCommand::Compare(args) => compare::run(args, console),
    }
}
