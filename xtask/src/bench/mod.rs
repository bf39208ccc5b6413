//! `cargo xtask bench`: runs the measuring commands of the program itself, and the same work in
//! PyTorch beside them where asked for, turn by turn, so that both see the same noise of the machine.

mod all;
mod compare;
mod data;
mod eval;
mod growth;
mod matching;
mod msda;
mod programs;
mod report;
mod rounds;
mod train;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fmt, fs};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use self::rounds::{Flags, Peer, Rounds};
use crate::{infer, shell};

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Everything below, in one go, as one table
    All(Box<all::Args>),
    /// What changed between two results of `all`
    Compare(compare::Args),
    /// Time and memory against resolution, queries, levels and batch
    Growth(Box<growth::Args>),
    /// Time from picture to detections, stage by stage, and peak memory
    Infer(Box<Args>),
    /// Time of a training step, and peak memory
    Train(Box<train::Args>),
    /// Time of multi-scale deformable attention by itself, forward and backward
    Msda(Box<msda::Args>),
    /// Time of decoding and augmenting images
    Data(data::Args),
    /// Time of matching queries to objects
    Match(matching::Args),
    /// Time of scoring detections
    Eval(eval::Args),
}

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Model: recipe:PRESET, a file, a folder or a name
    #[arg(long, default_value = "recipe:detr-r50")]
    model: String,
    /// Height x width of the input
    #[arg(long, default_value = "800x1066", value_parser = parse_size)]
    size: Size,
    /// Pictures at once
    #[arg(long, default_value_t = 1)]
    batch_size: usize,
    /// Backend; its cargo feature is turned on
    #[arg(long, default_value = "flex")]
    backend: String,
    /// Precision: f32, f16, bf16
    #[arg(long, default_value = "f32")]
    dtype: String,
    /// Measured runs per round
    #[arg(long, default_value_t = 7, value_parser = at_least_one)]
    runs: usize,
    /// Runs before them that are not counted
    #[arg(long, default_value_t = 2)]
    warmup: usize,
    /// Threads on the CPU [default: as many as the machine has]
    #[arg(long, value_parser = at_least_one)]
    threads: Option<usize>,
    #[command(flatten)]
    flags: Flags,
}

/// Height and width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.height, self.width)
    }
}

fn parse_size(text: &str) -> Result<Size, String> {
    let sides = text.split_once('x').map(|(height, width)| (height.parse(), width.parse()));
    match sides {
        Some((Ok(height), Ok(width))) if height > 0 && width > 0 => Ok(Size { height, width }),
        _ => Err("expected HEIGHTxWIDTH, such as 800x1066".to_owned()),
    }
}

pub(crate) fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::All(args) => all::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Growth(args) => growth::run(args),
        Command::Infer(args) => infer(args),
        Command::Train(args) => train::run(args),
        Command::Msda(args) => msda::run(args),
        Command::Data(args) => data::run(args),
        Command::Match(args) => matching::run(args),
        Command::Eval(args) => eval::run(args),
    }
}

/// For counts of which none makes no measurement.
fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("expected a number of at least 1".to_owned()),
    }
}

/// As many as asked for, or as the machine has.
fn threads(asked: Option<usize>) -> usize {
    let all = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    asked.unwrap_or_else(all)
}

fn infer(args: &Args) -> anyhow::Result<ExitCode> {
    let threads = threads(args.threads);
    let peer_model = if args.flags.peer { peer_model(&args.model)? } else { "" };
    build(&args.backend)?;
    let rounds = args.flags.measure(
        &PYTORCH_MODELS,
        |_| our_command(args, threads),
        |command| peer_arguments(command, args, peer_model, threads),
    )?;
    let results = combine(&report::INFERENCE, &rounds)?;
    let name = format!("{}-{}", file_name(&args.model), args.backend);
    args.flags.finish(&name, results, |results| report::table(&report::INFERENCE, results))
}

/// What a model is called in the name of a file.
fn file_name(model: &str) -> String {
    let model = model.trim_start_matches("recipe:").trim_end_matches('/');
    let model = model.rsplit('/').next().unwrap_or(model);
    model.replace(|c: char| !c.is_alphanumeric() && c != '.', "-")
}

const PYTORCH_MODELS: Peer =
    Peer { name: "PyTorch", script: "detr_torch.py", needs: "torch and transformers" };

/// Presets that `benches/peers/detr_torch.py` can build.
const PEER_MODELS: [&str; 10] = [
    "detr-r18",
    "detr-r50",
    "detr-r50-dc5",
    "detr-r101",
    "deformable-detr-r50",
    "deformable-detr-r50-refine",
    "deformable-detr-r50-two-stage",
    "deformable-detr-r50-single-scale",
    "deformable-detr-r50-single-scale-dc5",
    "deformable-detr-tiny",
];

/// The preset of the model that is measured, if the peer has it too.
fn peer_model(model: &str) -> anyhow::Result<&str> {
    let preset = model.strip_prefix("recipe:").map(|rest| rest.split('@').next().unwrap_or(rest));
    match preset {
        Some(preset) if PEER_MODELS.contains(&preset) => Ok(preset),
        _ => bail!(
            "--peer has no counterpart of `{model}`\nhint: it measures recipe: and one of {}",
            PEER_MODELS.join(", ")
        ),
    }
}

fn cargo(verb: &str, backend: &str) -> process::Command {
    let mut command = shell::cargo();
    command.args([verb, "--release", "--manifest-path"]).arg(shell::root().join("Cargo.toml"));
    command.args(["-p", "detr-cli", "--bin", "detr"]);
    command.args(infer::feature_flags(Some(backend)));
    command
}

fn build(backend: &str) -> anyhow::Result<()> {
    let mut command = cargo("build", backend);
    eprintln!("{}", shell::shown(&command));
    // Standard output belongs to the results.
    shell::output(&mut command).map(drop)
}

fn our_command(args: &Args, threads: usize) -> process::Command {
    let mut command = cargo("run", &args.backend);
    command.args(["--quiet", "--", "bench", "infer", "--json", "--model", &args.model]);
    command.args(["--size", &args.size.to_string()]);
    command.args(["--backend", &args.backend, "--dtype", &args.dtype]);
    command.args(["--batch-size", &args.batch_size.to_string()]);
    command.args(["--runs", &args.runs.to_string(), "--warmup", &args.warmup.to_string()]);
    command.env("RAYON_NUM_THREADS", threads.to_string());
    command
}

fn peer_arguments(command: &mut process::Command, args: &Args, model: &str, threads: usize) {
    command.args(["--model", model]);
    command.args(["--height", &args.size.height.to_string()]);
    command.args(["--width", &args.size.width.to_string()]);
    command.args(["--batch-size", &args.batch_size.to_string(), "--dtype", &args.dtype]);
    command.args(["--runs", &args.runs.to_string(), "--warmup", &args.warmup.to_string()]);
    command.args(["--threads", &threads.to_string()]);
    command.args(["--device", if args.backend == "cuda" { "cuda" } else { "cpu" }]);
    command.args(&args.flags.peer_options);
}

/// Runs a command whose output, from its first brace on, is one JSON object.
fn measure(command: &mut process::Command) -> anyhow::Result<Value> {
    parse(&shell::output(command)?, command)
}

/// The JSON in what a command printed.
fn parse(text: &str, command: &process::Command) -> anyhow::Result<Value> {
    let start = text.find('{').unwrap_or(0);
    serde_json::from_str(&text[start..])
        .with_context(|| format!("output of `{}` is not the JSON expected", shell::shown(command)))
}

fn combine(kind: &report::Kind, rounds: &Rounds) -> anyhow::Result<Value> {
    let Rounds { ours, theirs } = rounds;
    let detr = report::merge(kind, ours).context("the measurement of detr lacks numbers")?;
    let peer = if theirs.is_empty() {
        Value::Null
    } else {
        report::merge(kind, theirs).context("the measurement of PyTorch lacks numbers")?
    };
    Ok(json!({
        "ratio": report::ratios(kind, &detr, &peer),
        "detr": detr,
        "peer": peer,
        "rounds": { "detr": ours, "peer": theirs },
    }))
}

/// The commit that was measured, where git knows it.
fn commit() -> Option<String> {
    let mut command = process::Command::new("git");
    command.args(["describe", "--always", "--dirty"]).current_dir(shell::root());
    let output = command.stderr(process::Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// `benches/results/DATE-NAME.json`; a number is added rather than a file replaced.
fn save(name: &str, results: &Value) -> anyhow::Result<PathBuf> {
    let folder = shell::root().join("benches/results");
    fs::create_dir_all(&folder)?;
    let date = results["date"].as_str().unwrap_or_default();
    let stem = format!("{date}-{name}");
    for number in 1.. {
        let suffix = if number == 1 { String::new() } else { format!("-{number}") };
        let path = folder.join(format!("{stem}{suffix}.json"));
        match fs::File::create_new(&path) {
            Ok(mut file) => {
                writeln!(file, "{results:#}")?;
                return Ok(path);
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(path.display().to_string()),
        }
    }
    bail!("no free name for {stem}.json")
}

/// Writes a text.
fn save_text(path: &Path, text: &str) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| path.display().to_string())?;
    eprintln!("saved {}", path.display());
    Ok(())
}

/// Year, month and day in UTC.
fn date(time: SystemTime) -> String {
    let mut days = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 86_400);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn dates_follow_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01"),
            (951_782_400, "2000-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_772_323_200, "2026-03-01"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn the_peer_knows_some_presets_only() {
        assert_eq!(peer_model("recipe:detr-r50@7").unwrap(), "detr-r50");
        let deformable = "recipe:deformable-detr-r50";
        assert_eq!(peer_model(deformable).unwrap(), "deformable-detr-r50");
        for model in
            ["detr-r50.pth", "recipe:detr-r34", "recipe:detr-demo", "facebook/detr-resnet-50"]
        {
            assert!(peer_model(model).unwrap_err().to_string().contains("hint:"), "{model}");
        }
    }
}
