//! `detr data stats`: what a data set consists of, as a table and as charts.

use std::path::PathBuf;

use clap::Args;
use detr_data::doctor::Stats;
use detr_data::formats::Accept;
use detr_infer::cli::{CliError, Console, escaped, print, print_json, write_text};

use super::{ReadArgs, UprightArgs, note_left_out};

/// Flags of `detr data stats`.
#[derive(Args)]
pub(crate) struct StatsArgs {
    /// Data sets, counted as one: files or folders of annotations, or TOML lists of sources
    #[arg(required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    upright: UprightArgs,

    /// Write bar charts of classes, box sizes and objects per image
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &StatsArgs, console: &Console) -> Result<(), CliError> {
    let dataset = args.read.load(&args.data, Accept::Errors, args.upright)?;
    note_left_out(&dataset, console);
    let stats = Stats::of(&dataset);
    if let Some(path) = &args.svg {
        write_text(path, &stats.to_svg())?;
        console.note(&format!("charts: {}", path.display()));
    }
    if args.json { print_json(&stats) } else { print(&escaped(&format!("{stats}\n"))) }
}
