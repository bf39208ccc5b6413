//! `detr models`: its subcommands, of which `list` and `pull` are short enough to live here.

use std::fmt::Write;

use clap::{Args, Subcommand};
use detr_infer::cli::{self, CliError, Console, HubProgress, LoadArgs, print, print_json};
use detr_infer::hub::parse_remote_name;
use detr_model::ModelConfig;
use serde::Serialize;

use crate::{convert, inspect};

/// Subcommands of `detr models`.
#[derive(Subcommand)]
pub(crate) enum ModelsCommand {
    /// Print what a model file or folder is
    Inspect(inspect::InspectArgs),
    /// Turn any model into a folder with model.safetensors and model.json
    Convert(convert::ConvertArgs),
    /// Download a model into the Hugging Face cache, and print its folder
    Pull(PullArgs),
    /// List the built-in architectures, and the published weights for them
    List(ListArgs),
}

/// Flags of `detr models pull`.
#[derive(Args)]
pub(crate) struct PullArgs {
    /// OWNER/NAME or OWNER/NAME@REVISION, such as facebook/detr-resnet-50
    name: String,

    /// Never use the network; only look into the cache
    #[arg(long)]
    offline: bool,
}

/// Flags of `detr models list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Weights on the Hugging Face hub by those who published the architecture.
const PUBLISHED: [(&str, &str); 11] = [
    ("detr-r50", "facebook/detr-resnet-50"),
    ("detr-r50-dc5", "facebook/detr-resnet-50-dc5"),
    ("detr-r101", "facebook/detr-resnet-101"),
    ("detr-r101-dc5", "facebook/detr-resnet-101-dc5"),
    ("table-transformer-detection", "microsoft/table-transformer-detection"),
    ("table-transformer-structure", "microsoft/table-transformer-structure-recognition"),
    ("deformable-detr-r50", "SenseTime/deformable-detr"),
    ("deformable-detr-r50-refine", "SenseTime/deformable-detr-with-box-refine"),
    ("deformable-detr-r50-two-stage", "SenseTime/deformable-detr-with-box-refine-two-stage"),
    ("deformable-detr-r50-single-scale", "SenseTime/deformable-detr-single-scale"),
    ("deformable-detr-r50-single-scale-dc5", "SenseTime/deformable-detr-single-scale-dc5"),
];

pub(crate) fn run(command: &ModelsCommand, console: &Console) -> Result<(), CliError> {
    match command {
        ModelsCommand::Inspect(args) => inspect::run(args, console),
        ModelsCommand::Convert(args) => convert::run(args, console),
        ModelsCommand::Pull(args) => pull(args, console),
        ModelsCommand::List(args) => list(args),
    }
}

fn pull(args: &PullArgs, console: &Console) -> Result<(), CliError> {
    let (repo, revision) = parse_remote_name(&args.name)?;
    let hub = cli::hub(&LoadArgs { arch: None, offline: args.offline })?;
    if hub.cached(repo, revision)?.is_some() {
        console.note("already in the cache");
    }
    let folder = hub.fetch(repo, revision, &HubProgress(console))?;
    print(&format!("{}\n", folder.display()))
}

#[derive(Serialize)]
struct Preset {
    name: &'static str,
    weights: Option<&'static str>,
    architecture: ModelConfig,
}

fn list(args: &ListArgs) -> Result<(), CliError> {
    let mut presets = Vec::new();
    for name in ModelConfig::presets() {
        let weights = PUBLISHED.iter().find(|(preset, _)| *preset == name).map(|(_, at)| *at);
        presets.push(Preset { name, weights, architecture: ModelConfig::preset(name)? });
    }
    if args.json {
        return print_json(&presets);
    }
    let width = presets.iter().map(|preset| preset.name.len()).max().unwrap_or(0);
    let recipe_width = "recipe:".len() + width;
    let mut text =
        format!("{:<width$} {:<recipe_width$} {}\n", "preset", "untrained", "published weights");
    for preset in presets {
        let recipe = format!("recipe:{}", preset.name);
        let weights = preset.weights.unwrap_or("-");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{:<width$} {recipe:<recipe_width$} {weights}", preset.name);
    }
    print(&text)
}
