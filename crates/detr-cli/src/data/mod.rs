//! `detr data`: look at data sets, convert them, and make them. One file per command.

mod augmentation;
mod check;
mod convert;
mod preview;
mod shard;
mod source;
mod stats;
mod synth;

use clap::Subcommand;
use detr_data::formats::DatasetError;
use detr_infer::cli::{CliError, Console};

pub use augmentation::AugmentationArgs;
pub use source::{ReadArgs, UprightArgs};
pub(crate) use source::{left_out, note_left_out, unreadable};

/// Subcommands of `detr data`.
#[derive(Subcommand)]
pub(crate) enum DataCommand {
    /// Find what is wrong with a data set, before training does
    Check(check::CheckArgs),
    /// Count classes, objects and sizes
    Stats(stats::StatsArgs),
    /// Write a data set in another format
    Convert(convert::ConvertArgs),
    /// Split annotations into balanced shards
    Shard(shard::ShardArgs),
    /// Draw what training will see: augmented images with their boxes
    Preview(preview::PreviewArgs),
    /// Generate a data set of coloured shapes
    Synth(synth::SynthArgs),
}

pub(crate) fn run(command: &DataCommand, console: &Console) -> Result<(), CliError> {
    match command {
        DataCommand::Check(args) => check::run(args, console),
        DataCommand::Stats(args) => stats::run(args, console),
        DataCommand::Convert(args) => convert::run(args, console),
        DataCommand::Shard(args) => shard::run(args, console),
        DataCommand::Preview(args) => preview::run(args, console),
        DataCommand::Synth(args) => synth::run(args, console),
    }
}

/// Turns an error of writing into a failure of the work, whatever the file system says.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn not_written(error: DatasetError) -> CliError {
    CliError::Failed(error.to_string())
}
