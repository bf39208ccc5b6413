//! `detr train`: settings from a file and from flags, a run in a folder, and what is told of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Args;
use detr_data::dataset::DatasetSpec;
use detr_data::formats::ReadOptions;
use detr_data::{Augmentation, Dataset, DatasetSource, Loader, LoaderConfig};
use detr_eval::IouKind;
use detr_infer::cli::{CliError, Console, DeviceArgs, print, read_text, write_text};
use detr_model::ModelConfig;
use detr_train::{End, Event, Parts, RunError, TrainConfig, ground_truth, in_order, named};
use serde_json::json;

use crate::data::unreadable;

/// Flags of `detr train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    /// Settings: a TOML file such as those in configs/train/
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,

    /// Another value for a setting, as in train.lr=1e-4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Folder of the run
    #[arg(long, value_name = "DIR")]
    output: PathBuf,

    /// Go on from the newest checkpoint in the folder
    #[arg(long)]
    resume: bool,

    #[command(flatten)]
    device: DeviceArgs,
}

pub(crate) fn run(args: &TrainArgs, console: &Console) -> Result<(), CliError> {
    let config = settings(args)?;
    let started = args.output.join("config.toml").exists();
    if started && !args.resume {
        return Err(CliError::Usage(format!(
            "--output {}: a run is there\nhint: --resume goes on with it, or give another folder",
            args.output.display()
        )));
    }
    let base = args.config.parent().unwrap_or(Path::new("")).to_owned();
    let selected = args.device.select()?;
    console.note(&format!("using {}", selected.name));
    let device = selected.device.clone().autodiff();

    let train = load(&config.data.train, &base)?;
    let classes = train.class_table(config.data.labels).map_err(unreadable)?;
    let model = architecture(&config, classes.len())?;
    device.seed(config.train.seed);
    let started = detr_train::start(&config.model, &base, &model, &classes, &device)
        .map_err(|error| CliError::Model(error.to_string()))?;
    started.notes.iter().for_each(|note| console.note(note));
    let start = started.model;
    let validation = match &config.data.val {
        Some(spec) => Some(load(spec, &base)?),
        None => None,
    };
    let failed = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
    let validation = match validation {
        Some(dataset) => {
            let truth = ground_truth(&dataset, IouKind::Bbox)
                .map_err(|error| CliError::Data(error.to_string()))?;
            let augmentation = Augmentation::validation(&config.data.preprocess);
            let source = DatasetSource::new(Arc::new(dataset), &classes, augmentation, 0)
                .map_err(|error| failed(&error))?;
            let loader = &config.data.loader;
            let loader = in_order(source, loader.workers, loader.batch_size)
                .map_err(|error| failed(&error))?;
            Some((loader, Arc::new(truth)))
        }
        None => None,
    };
    let seed = config.train.seed;
    let source =
        DatasetSource::new(Arc::new(train), &classes, config.data.augmentation.clone(), seed)
            .map_err(|error| failed(&error))?
            .with_cache(config.data.cache_mode, u64::MAX);
    let loader = LoaderConfig { seed, ..config.data.loader.clone() };
    let loader = Loader::new(Arc::new(source), loader).map_err(|error| failed(&error))?;
    let text = toml::to_string(&config).map_err(|error| failed(&error))?;
    write_text(&args.output.join("config.toml"), &text)?;

    let stop = Arc::new(AtomicBool::new(false));
    catch_signals(&stop)?;
    let mut log = Log::open(&args.output, config.run.log_every, console)?;
    let parts = Parts {
        preprocess: config.data.preprocess,
        folder: args.output.clone(),
        model,
        start,
        device,
        classes,
        loader,
        validation,
    };
    let end = detr_train::run(&config, parts, args.resume, &stop, &mut |event| log.write(&event));
    match end {
        Ok(End::Finished) => print(&format!("{}\n", args.output.join("model").display())),
        Ok(End::Interrupted) => {
            console.note("interrupted; --resume goes on from the checkpoint");
            Ok(())
        }
        Err(error @ RunError::Diverged { .. }) => Err(CliError::Diverged(error.to_string())),
        Err(error) => Err(CliError::Failed(error.to_string())),
    }
}

/// The file's settings, with those of the flags.
fn settings(args: &TrainArgs) -> Result<TrainConfig, CliError> {
    let text = read_text(&args.config)?;
    TrainConfig::load(&args.config, &text, &args.set)
        .map_err(|error| CliError::Usage(error.to_string()))
}

fn load(spec: &DatasetSpec, base: &Path) -> Result<Dataset, CliError> {
    spec.load(base, &ReadOptions::default()).map_err(unreadable)
}

/// The model's architecture with a head for the classes.
fn architecture(config: &TrainConfig, classes: usize) -> Result<ModelConfig, CliError> {
    let arch = &config.model.arch;
    let path = Path::new(arch);
    let model = if path.is_file() {
        ModelConfig::from_toml(&read_text(path)?)?
    } else {
        ModelConfig::preset(arch)?
    };
    let model = model.with_sizes(classes, config.model.num_queries);
    model.validate()?;
    Ok(model)
}

/// The first signal asks for a stop, the second one kills.
fn catch_signals(stop: &Arc<AtomicBool>) -> Result<(), CliError> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|error| CliError::Failed(format!("cannot catch signals: {error}")))?;
    }
    Ok(())
}

/// `metrics.jsonl`, and lines for people.
struct Log<'a> {
    file: fs::File,
    every: u64,
    console: &'a Console,
}

impl<'a> Log<'a> {
    fn open(folder: &Path, every: u64, console: &'a Console) -> Result<Self, CliError> {
        let path = folder.join("metrics.jsonl");
        let file = fs::OpenOptions::new().append(true).create(true).open(&path);
        let file = file.map_err(|error| {
            CliError::Failed(format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(Self { file, every, console })
    }

    fn write(&mut self, event: &Event<'_>) {
        let line = match event {
            Event::Step { at, report, lr, seconds: [all, waited] } => {
                if at.step.is_multiple_of(self.every) {
                    self.console.note(&format!(
                        "epoch {} step {}: loss {:.3}, gradient {:.2}, lr {lr:.1e}, {all:.2} s",
                        at.epoch + 1,
                        at.step,
                        report.loss,
                        report.grad_norm
                    ));
                }
                let losses: serde_json::Map<String, serde_json::Value> =
                    named(&report.losses).map(|(name, value)| (name, value.into())).collect();
                json!({ "step": at.step, "epoch": at.epoch, "loss": report.loss, "lr": lr,
                        "grad_norm": report.grad_norm, "seconds": all, "waited": waited,
                        "losses": losses })
            }
            Event::Skipped { at, reason, images } => {
                self.console.warn(&format!("step {} skipped: {reason}", at.step));
                json!({ "step": at.step, "skipped": reason.to_string(), "images": images })
            }
            Event::Validated { at, metrics, best } => {
                let s = &metrics.summary;
                let star = if *best { ", the best so far" } else { "" };
                self.console.note(&format!(
                    "epoch {}: AP {:.3}, AP50 {:.3}, AR {:.3}{star}",
                    at.epoch, s.ap, s.ap50, s.ar
                ));
                json!({ "step": at.step, "epoch": at.epoch, "metrics": s, "best": best })
            }
            Event::Resumed { step, passed } => {
                for one in *passed {
                    let path = one.path.display();
                    self.console.warn(&format!("{path} is passed over: {}", one.reason));
                }
                self.console.note(&format!("goes on after step {step}"));
                json!({ "resumed": step })
            }
            Event::NotSaved(reason) => {
                self.console.warn(&format!("no checkpoint could be written: {reason}"));
                json!({ "not_saved": reason })
            }
            Event::Saved(_) | Event::Validating(_) => return,
        };
        // The log is not worth the run.
        drop(writeln!(self.file, "{line}"));
    }
}
