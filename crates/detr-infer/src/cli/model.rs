//! From the word after `--model` to an opened checkpoint.

use std::ffi::OsStr;
use std::path::Path;

use burn::tensor::Device;
use detr_model::ModelConfig;
use detr_model::weights::{CARD_FILE, Checkpoint, OpenOptions};
use detr_types::{Limits, nearest};

use super::{CliError, Console, LoadArgs};
use crate::backend::{self, Backend, Precision, catch_device};
use crate::hub::{Hub, HubError, Progress, parse_remote_name};

/// Opens a model: `recipe:PRESET[@SEED]` makes untrained weights on the spot, an existing path is
/// read, and anything else is the name of a remote model. `device` is asked for where tensors
/// have to be made. Assumptions about the file are printed.
///
/// # Errors
/// A model that does not exist or cannot be used.
pub fn open_model(
    name: impl AsRef<OsStr>,
    load: &LoadArgs,
    console: &Console,
    device: impl FnOnce() -> Result<Device, CliError>,
) -> Result<Checkpoint, CliError> {
    open_model_sized(name, load, false, console, device)
}

/// Opens a model as [`open_model`] does. With `own_size` the command sets the image size, and one of the model that
/// cannot be read is only told.
///
/// # Errors
/// The errors of [`open_model`].
pub fn open_model_sized(
    name: impl AsRef<OsStr>,
    load: &LoadArgs,
    own_size: bool,
    console: &Console,
    device: impl FnOnce() -> Result<Device, CliError>,
) -> Result<Checkpoint, CliError> {
    let path = Path::new(name.as_ref());
    // A name that is no text can only be a path.
    let name = path.to_string_lossy();
    let name = name.as_ref();
    if let Some(recipe) = name.strip_prefix("recipe:") {
        if load.arch.is_some() {
            return Err(CliError::Usage(format!(
                "`{name}` names its architecture\nhint: leave out --arch"
            )));
        }
        let checkpoint = open_recipe(recipe, &device()?)?;
        console.warn(&format!("{name} has untrained weights: its boxes mean nothing"));
        return Ok(checkpoint);
    }
    let arch = load.arch.as_deref().map(architecture).transpose()?;
    let options = OpenOptions { arch: arch.as_ref(), own_size };
    let checkpoint = if path.exists() {
        if arch.is_some() && path.join(CARD_FILE).is_file() {
            return Err(CliError::Usage(format!(
                "{name}: the folder describes its own architecture\nhint: leave out --arch"
            )));
        }
        Checkpoint::open_with(path, options)?
    } else {
        let (repo, revision) = parse_remote_name(name).map_err(|error| neither(name, &error))?;
        let hub = hub(load)?;
        let folder = hub.fetch(repo, revision, &HubProgress(console))?;
        tracing::info!("{name} is in {}", folder.display());
        Checkpoint::open_with(&folder, options)?
    };
    for note in &checkpoint.notes {
        console.note(&format!("note: {note}"));
    }
    Ok(checkpoint)
}

/// Opens the hub that the environment and `--offline` describe.
///
/// # Errors
/// See [`Hub::from_env`].
pub fn hub(load: &LoadArgs) -> Result<Hub, CliError> {
    let hub = Hub::from_env()?;
    let offline = load.offline || hub.is_offline();
    Ok(hub.with_offline(offline))
}

/// Opens a device for work on tensors that needs no speed: the CPU if it is compiled in.
///
/// # Errors
/// No backend works here.
pub fn host_device() -> Result<Device, CliError> {
    [Backend::Flex, Backend::Ndarray]
        .into_iter()
        .find_map(|backend| backend::select(backend, 0, Precision::F32).ok())
        .map_or_else(|| backend::select(Backend::Auto, 0, Precision::F32), Ok)
        .map(|selected| selected.device)
        .map_err(CliError::from)
}

fn open_recipe(recipe: &str, device: &Device) -> Result<Checkpoint, CliError> {
    let (arch, seed) = match recipe.rsplit_once('@') {
        None => (recipe, 0),
        Some((arch, seed)) => {
            let seed = seed.parse().map_err(|_| {
                CliError::Usage(format!("recipe seed `{seed}`: expected a number from 0"))
            })?;
            (arch, seed)
        }
    };
    let config = architecture(arch)?;
    Ok(catch_device(|| Checkpoint::recipe(&config, seed, device))?)
}

/// Reads a preset, or a TOML file like those in `configs/models/`.
fn architecture(text: &str) -> Result<ModelConfig, CliError> {
    let path = Path::new(text);
    if !path.is_file() {
        return ModelConfig::preset(text).map_err(CliError::from);
    }
    ModelConfig::from_toml(&read_text(path)?)
        .map_err(|error| CliError::Usage(format!("{text}: {error}")))
}

/// Reads a small text file that a flag names.
///
/// # Errors
/// [`CliError::Usage`] with the path.
pub fn read_text(path: &Path) -> Result<String, CliError> {
    let usage =
        |reason: &dyn std::fmt::Display| CliError::Usage(format!("{}: {reason}", path.display()));
    let metadata = path.metadata().map_err(|error| usage(&error))?;
    if !metadata.is_file() {
        return Err(usage(&"is not a regular file"));
    }
    let (bytes, limit) = (metadata.len(), Limits::default().json_bytes);
    if bytes > limit {
        return Err(usage(&format_args!("{bytes} bytes, more than the limit of {limit}")));
    }
    std::fs::read_to_string(path).map_err(|error| usage(&error))
}

/// Returns the error for a text that is no path, no preset and no remote name.
fn neither(name: &str, error: &HubError) -> CliError {
    let HubError::Name { name: shown, reason } = error else {
        return CliError::Model(error.to_string());
    };
    let hint = similar(name).map_or_else(
        || {
            "give a path, OWNER/NAME of a model on the Hugging Face hub, or recipe:PRESET for \
             untrained weights"
                .to_owned()
        },
        |near| format!("did you mean `{near}`?"),
    );
    CliError::Model(format!(
        "no model `{shown}`: there is no such file or folder, and it is no name of a remote model \
         ({reason})\nhint: {hint}"
    ))
}

/// Finds a preset, or a file beside the one that does not exist.
fn similar(name: &str) -> Option<String> {
    if let Some(preset) = nearest(name, ModelConfig::presets()) {
        return Some(format!("recipe:{preset}"));
    }
    let path = Path::new(name);
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = parent.unwrap_or(Path::new(".")).read_dir().ok()?;
    let names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let near = nearest(path.file_name()?.to_str()?, names.iter().map(String::as_str))?;
    Some(path.with_file_name(near).display().to_string())
}

/// Tells the user what is downloaded, and how far it is.
#[derive(Debug)]
pub struct HubProgress<'a>(pub &'a Console);

impl Progress for HubProgress<'_> {
    fn announce(&self, url: &str, size: Option<u64>, hash: &str) {
        let size = size.map_or_else(|| "unknown size".to_owned(), |size| format!("{size} bytes"));
        self.0.note(&format!("downloading {url} ({size}, {hash})"));
    }

    fn start(&self, _file: &str, total: Option<u64>) {
        self.0.start_bar(total, "{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta}");
    }

    fn advance(&self, bytes: u64) {
        self.0.advance(bytes);
    }

    fn finish(&self) {
        self.0.end_bar();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LogArgs;

    fn open(name: &str, arch: Option<&str>) -> Result<Checkpoint, CliError> {
        let load = LoadArgs { arch: arch.map(str::to_owned), offline: true };
        let console = Console::new(&LogArgs { quiet: true, verbose: 0 });
        open_model(name, &load, &console, || Err(CliError::Failed("needs a device".into())))
    }

    #[test]
    fn names_that_lead_nowhere_say_what_was_tried() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("weights.pth"), b"").unwrap();
        let typo = folder.path().join("weigths.pth").display().to_string();
        for (name, arch, code, part) in [
            ("detr-r50", None, 3, "did you mean `recipe:detr-r50`?"),
            (typo.as_str(), None, 3, "weights.pth`?"),
            ("no/such/file.pth", None, 3, "no such file or folder"),
            ("recipe:detr-r18", Some("detr-r18"), 2, "leave out --arch"),
            (typo.as_str(), Some("detr-r51"), 2, "the presets are"),
        ] {
            let error = open(name, arch).unwrap_err();
            assert_eq!(error.exit_code(), code, "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
