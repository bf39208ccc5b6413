//! `detr train`: reads settings from a file and from flags, makes the folder of the run, trains, and reports the
//! progress.

mod console;
mod control;
mod dry_run;
mod notes;
mod parts;
mod recorder;

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use burn::tensor::Device;
use clap::Args;
use detr_infer::backend::{self, Backend, BackendError, Precision, Purpose, catch_device};
use detr_infer::cli::{CliError, Console, print, read_text, write_text};
use detr_track::{SETTINGS_FILE, flatten};
use detr_train::{
    Checkpoints, Dashboard, End, Event, RunError, SampleSource, StepError, StopFlag, TrainConfig,
    TrainLoop, ValidateError, Watch, begin, run_info,
};

use parts::RunParts;
use recorder::recorder;

use crate::WrapTrainer;

/// Flags of `detr train`.
#[derive(Args)]
pub(crate) struct TrainArgs {
    /// Settings: a TOML file such as those in configs/train/; with --resume, those of the run
    #[arg(long, value_name = "FILE.toml", required_unless_present = "resume")]
    config: Option<PathBuf>,

    /// Another value for a setting, as in train.lr=1e-4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,

    /// Folder of the run; without it a new one in runs/, named as the settings
    #[arg(long, value_name = "DIR", required_unless_present = "config")]
    output: Option<PathBuf>,

    /// Go on from the newest checkpoint in the folder
    #[arg(long, requires = "output")]
    resume: bool,

    /// Learn from N images alone and validate on them: a check of model, data and settings
    #[arg(long, value_name = "N")]
    overfit: Option<usize>,

    /// Build everything, run the largest batch, print parameters, memory and time, and stop
    #[arg(long, conflicts_with = "resume")]
    dry_run: bool,

    /// Show Burn's dashboard in the terminal
    #[arg(long)]
    tui: bool,

    /// The backend to compute with
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,

    /// Number of the device, where a backend has several; several share every step, as in 0,1
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "0")]
    device: Vec<usize>,
}

pub(crate) fn run(
    args: &TrainArgs,
    wrap: WrapTrainer<'_>,
    console: &Console,
) -> Result<(), CliError> {
    if args.tui && !std::io::stdout().is_terminal() {
        return Err(CliError::Usage(
            "--tui needs a terminal\nhint: leave it out, progress is printed line by line"
                .to_owned(),
        ));
    }
    // The dashboard has the screen for itself.
    let console = &if args.tui { console.only_errors() } else { console.clone() };
    let (config, base) = settings(args)?;
    let (devices, name) = devices(args, config.train.precision, console)?;
    if args.dry_run {
        return guarded(|| {
            let built = parts::build(&config, &base, devices, PathBuf::new(), false, console)?;
            dry_run::run(&config, built, console)
        });
    }
    let (folder, made) = folder(args)?;
    let lock = control::lock(&folder)?;
    if folder.join(SETTINGS_FILE).exists() && !args.resume {
        return Err(CliError::Usage(format!(
            "--output {}: a run is there\nhint: --resume goes on with it, or give another folder",
            folder.display()
        )));
    }
    let checkpoints = Checkpoints::new(folder.join("checkpoints"));
    checkpoints.sweep();
    // A folder of checkpoints of which none is usable is refused later, before anything is written.
    let goes_on = args.resume && checkpoints.newest() != (None, Vec::new());
    let build = || parts::build(&config, &base, devices, folder.clone(), goes_on, console);
    let RunParts { parts, start, val, notes } = match guarded(build) {
        Ok(built) => built,
        Err(error) => {
            // Nothing began here.
            if made {
                drop(std::fs::remove_dir_all(&folder));
            }
            return Err(error);
        }
    };
    let complete = parts::complete(&config, &base, &parts.model)?;
    let text = toml::to_string(&complete).map_err(|error| CliError::Failed(error.to_string()))?;
    // The files of a run that is resumed are replaced only after its checkpoint was found to fit.
    if !goes_on {
        write_text(&folder.join(SETTINGS_FILE), &text)?;
    }

    let stop = StopFlag::new();
    control::catch_signals(&stop)?;
    let mut info = run_info(&config, &parts, &file(args)?, &name);
    info.settings = flatten(&toml::Table::try_from(&complete).unwrap_or_default());
    let classes = parts.classes.clone();
    let samples = val.map(|dataset| SampleSource { dataset, classes });
    let recorder =
        Rc::new(RefCell::new(recorder(info, samples, parts::decoding(&config), console)));
    notes.log(recorder.borrow_mut().tracker());
    let batch = Rc::new(RefCell::new(String::new()));
    let mut records = {
        let (recorder, batch) = (recorder.clone(), batch.clone());
        let file = folder.join(SETTINGS_FILE);
        move |event: Event<'_>| {
            let mut recorder = recorder.borrow_mut();
            match &event {
                Event::Begins { step, batch: size } => {
                    *batch.borrow_mut() = format!("step {step} on {size}: ");
                }
                Event::Saved(_) | Event::Validated { .. } => batch.borrow_mut().clear(),
                Event::Validating(..) => "validation: ".clone_into(&mut batch.borrow_mut()),
                Event::Resumed { .. } => {
                    if let Err(error) = write_text(&file, &text) {
                        recorder.tracker().warn(&error.to_string());
                    }
                }
                _ => {}
            }
            recorder.event(event);
        }
    };
    let train = || {
        // It closes with the run, so that messages about the end find the terminal as it was.
        let mut dashboard = args.tui.then(|| Dashboard::open(&stop));
        let mut watchers: Vec<&mut dyn Watch> = vec![&mut records];
        watchers.extend(dashboard.as_mut().map(|dashboard| dashboard as &mut dyn Watch));
        let (trainer, progress) =
            begin(&config, &parts, start, args.resume, &mut watchers).map_err(to_cli)?;
        let epochs = config.train.epochs;
        if args.resume && progress.epoch >= epochs {
            recorder.borrow_mut().tracker().note(&format!(
                "train.epochs = {epochs} is reached, so there is nothing left to do\n\
                 hint: --set train.epochs={} goes on",
                epochs + 1
            ));
        }
        let train_loop = TrainLoop::new(config, parts, wrap(trainer), progress);
        train_loop.fit(&stop, &mut watchers).map_err(to_cli)
    };
    let ended = guarded(train).map_err(|error| match error {
        CliError::Device(message) => CliError::Device(format!("{}{message}", batch.borrow())),
        other => other,
    });
    let mut recorder = recorder.borrow_mut();
    if let Ok(End::Interrupted) = ended {
        recorder.tracker().note("interrupted; --resume goes on from the checkpoint");
    }
    recorder.finish(ended.as_ref().copied().map_err(|error| error as _));
    drop(lock);
    match ended? {
        End::Interrupted => Ok(()),
        _ => print(&format!("{}\n", folder.join("model").display())),
    }
}

/// Selects the devices that train, at least one, and returns them with their names. Losses and parameters are in
/// f32 whatever the rest of the model computes in, `precision`, so that the self-test must refuse neither.
fn devices(
    args: &TrainArgs,
    precision: Precision,
    console: &Console,
) -> Result<(Vec<Device>, String), CliError> {
    let (mut devices, mut names) = (Vec::new(), Vec::new());
    for &index in &args.device {
        let selected = backend::select_for(Purpose::Training, args.backend, index, Precision::F32)?;
        if precision != Precision::F32 {
            backend::check(&selected, Purpose::Training, index, precision)?;
        }
        console.note(&format!("using {}", selected.name));
        devices.push(selected.device);
        names.push(selected.name);
    }
    Ok((devices, names.join(" + ")))
}

/// Returns the error of a device that failed, with what helps against the usual reason.
fn device_failed(message: &str) -> CliError {
    CliError::Device(format!(
        "{message}\nhint: if memory ran out, halve data.loader.batch_size and double train.accumulate, \
         or set train.activation_checkpointing"
    ))
}

/// Runs work in which a device may fail.
fn guarded<T>(work: impl FnOnce() -> Result<T, CliError>) -> Result<T, CliError> {
    let failed = |error| match error {
        BackendError::Failed { message } => device_failed(&message),
        other => other.into(),
    };
    catch_device(work).map_err(failed).flatten()
}

/// Chooses the exit code of every error.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn to_cli(error: RunError) -> CliError {
    let text = error.to_string();
    match error {
        RunError::Diverged { .. } => CliError::Diverged(text),
        RunError::Groups(_) | RunError::Devices(_) => CliError::Usage(text),
        RunError::Step { error: StepError::Device(error), .. }
        | RunError::Validate(ValidateError::Device(error))
        | RunError::Device(error) => device_failed(&error.message),
        RunError::Loader(_)
        | RunError::Target(_)
        | RunError::Step { error: StepError::Target(_), .. }
        | RunError::Validate(_) => CliError::Data(text),
        RunError::State(_) | RunError::Weights(_) | RunError::Checkpoint { .. } => {
            CliError::Model(text)
        }
        _ => CliError::Failed(text),
    }
}

/// Returns the file of settings.
fn file(args: &TrainArgs) -> Result<PathBuf, CliError> {
    match (&args.config, &args.output) {
        (Some(path), _) => Ok(path.clone()),
        (None, Some(output)) => Ok(output.join(SETTINGS_FILE)),
        (None, None) => Err(CliError::Usage("--config is missing".to_owned())),
    }
}

/// Reads the settings, and returns them with the folder that relative paths in them start at.
fn settings(args: &TrainArgs) -> Result<(TrainConfig, PathBuf), CliError> {
    let path = file(args)?;
    let base = path.parent().unwrap_or(Path::new("")).to_owned();
    let text = read_text(&path)?;
    let overfit = args.overfit.map(|count| format!("run.overfit={count}"));
    let flags: Vec<String> = args.set.iter().cloned().chain(overfit).collect();
    let config = TrainConfig::load(&path, &text, &flags)
        .map_err(|error| CliError::Usage(error.to_string()))?;
    Ok((config, base))
}

/// Chooses the folder that was asked for, or the first of `runs/NAME`, `runs/NAME-2`, ... that does not
/// exist; returns it and whether it was made now.
fn folder(args: &TrainArgs) -> Result<(PathBuf, bool), CliError> {
    let folder = match (&args.output, &args.config) {
        (Some(output), _) => output.clone(),
        (None, Some(config)) => {
            let name = config.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let named = |n: u32| Path::new("runs").join(format!("{name}-{n}"));
            let first = Path::new("runs").join(&name);
            std::iter::once(first)
                .chain((2..=u32::MAX).map(named))
                .find(|path| !path.exists())
                .unwrap_or_default()
        }
        (None, None) => PathBuf::new(),
    };
    let made = !folder.exists();
    std::fs::create_dir_all(&folder).map_err(|error| {
        CliError::Failed(format!(
            "cannot make {}: {error}\nhint: give --output a folder that can be written",
            folder.display()
        ))
    })?;
    Ok((folder, made))
}
