//! `cargo xtask bench train`: `detr bench train`, and whole steps of transformers' models in PyTorch beside
//! it where asked for.

use std::process::{self, ExitCode};

use super::rounds::{Flags, Peer};
use super::{
    Size, at_least_one, build, cargo, combine, file_name, parse_size, peer_model, threads,
};
use crate::bench::report::{TRAINING, table};

pub(super) const PEER: Peer =
    Peer { name: "PyTorch", script: "train_torch.py", needs: "torch, transformers and scipy" };

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model: recipe:PRESET, a file, a folder or a name
    #[arg(long, default_value = "recipe:deformable-detr-tiny")]
    model: String,
    /// Height x width of the input
    #[arg(long, default_value = "480x640", value_parser = parse_size)]
    size: Size,
    /// Images in a step
    #[arg(long, default_value_t = 2, value_parser = at_least_one)]
    batch_size: usize,
    /// Objects on every image
    #[arg(long, default_value_t = 7)]
    objects: usize,
    /// Backend; its cargo feature is turned on
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Precision: f32, f16, bf16
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Measured steps per round
    #[arg(long, default_value_t = 5, value_parser = at_least_one)]
    runs: usize,
    /// Steps before them that are not counted
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Threads on the CPU [default: as many as the machine has]
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = threads(args.threads);
    let peer_model = if args.flags.peer { peer_model(&args.model)? } else { "" };
    build(&args.backend)?;
    let rounds = args.flags.measure(
        &PEER,
        |_| our_command(args, threads),
        |command| peer_arguments(command, args, peer_model, threads),
    )?;
    let name = format!("train-{}-{}", file_name(&args.model), args.backend);
    args.flags.finish(&name, combine(&TRAINING, &rounds)?, |results| table(&TRAINING, results))
}

fn our_command(args: &Args, threads: usize) -> process::Command {
    let mut command = cargo("run", &args.backend);
    command.args(["--quiet", "--", "bench", "train", "--json", "--model", &args.model]);
    command.args(["--size", &args.size.to_string(), "--objects", &args.objects.to_string()]);
    command.args(["--backend", &args.backend, "--dtype", &args.dtype]);
    command.args(["--batch-size", &args.batch_size.to_string()]);
    command.args(["--runs", &args.runs.to_string(), "--warmup", &args.warmup.to_string()]);
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command
}

fn peer_arguments(command: &mut process::Command, args: &Args, model: &str, threads: usize) {
    command.args(["--model", model, "--objects", &args.objects.to_string()]);
    command.args(["--height", &args.size.height.to_string()]);
    command.args(["--width", &args.size.width.to_string()]);
    command.args(["--batch-size", &args.batch_size.to_string(), "--dtype", &args.dtype]);
    command.args(["--runs", &args.runs.to_string(), "--warmup", &args.warmup.to_string()]);
    command.args(["--threads", &threads.to_string()]);
    command.args(["--device", if args.backend == "cuda" { "cuda" } else { "cpu" }]);
    command.args(&args.flags.peer_options);
}
