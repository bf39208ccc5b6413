//! `detr models convert`: any model to our own folder of `model.safetensors` and `model.json`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use detr_infer::backend::catch_device;
use detr_infer::cli::{CliError, Console, LoadArgs, host_device, open_model, read_text};
use detr_types::{Category, ClassTable};

/// Flags of `detr models convert`.
#[derive(Args)]
pub(crate) struct ConvertArgs {
    /// A .pth or .safetensors file, a model folder, a remote name, or recipe:PRESET
    #[arg(value_name = "IN")]
    input: OsString,

    /// Folder to write
    #[arg(value_name = "OUT")]
    output: PathBuf,

    #[command(flatten)]
    load: LoadArgs,

    /// Text file of class names: line n, from 0, names label n; an empty line leaves it unused
    #[arg(long, value_name = "FILE")]
    class_names: Option<PathBuf>,

    /// Write into a folder that is not empty
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: &ConvertArgs, console: &Console) -> Result<(), CliError> {
    check_output(&args.output, args.force)?;
    let classes = args.class_names.as_deref().map(read_class_names).transpose()?;
    let mut checkpoint = open_model(&args.input, &args.load, console, host_device)?;
    if let Some(classes) = classes {
        let (slots, expected) = (classes.len(), checkpoint.config()?.num_classes());
        if slots != expected {
            return Err(CliError::Usage(format!(
                "--class-names has {slots} lines, but the model has {expected} labels\n\
                 hint: one line per label, an empty one for each label that is unused"
            )));
        }
        checkpoint.set_classes(classes)?;
    }
    let device = host_device()?;
    let card = catch_device(|| checkpoint.save(&args.output, &device))??;
    console.note(&format!(
        "wrote {} tensors, {} bytes, sha256 {} to {}",
        checkpoint.listed().len(),
        card.weights.bytes,
        card.weights.sha256,
        args.output.display()
    ));
    Ok(())
}

/// Refuses to write over files of the user, unless forced.
fn check_output(folder: &Path, force: bool) -> Result<(), CliError> {
    let usage = |reason: &str| Err(CliError::Usage(format!("{}: {reason}", folder.display())));
    if folder.exists() && !folder.is_dir() {
        return usage("is a file\nhint: OUT is a folder");
    }
    let empty = folder.read_dir().map_or(true, |mut entries| entries.next().is_none());
    if !empty && !force {
        return usage("the folder is not empty\nhint: --force writes into it");
    }
    Ok(())
}

fn read_class_names(path: &Path) -> Result<ClassTable, CliError> {
    let text = read_text(path)?;
    let lines = text.trim_start_matches('\u{feff}').lines();
    let names: Vec<&str> = lines.map(str::trim).collect();
    let categories = names.iter().enumerate().zip(0..).filter(|((_, name), _)| !name.is_empty());
    let categories = categories
        .map(|((label, name), id)| Category { label, id, name: (*name).to_owned(), is_thing: true })
        .collect();
    ClassTable::new(names.len(), categories)
        .map_err(|error| CliError::Usage(format!("--class-names {}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_line_is_an_unused_label() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("names.txt");
        std::fs::write(&path, "\u{feff}\ncat\r\n\n traffic light \n").unwrap();
        let classes = read_class_names(&path).unwrap();
        let names: Vec<_> = (0..4).map(|i| classes.get(i).map(|c| c.name.as_str())).collect();
        assert_eq!(names, [None, Some("cat"), None, Some("traffic light")]);
        assert_eq!(classes.len(), 4);
        std::fs::write(&path, "").unwrap();
        assert!(read_class_names(&path).unwrap_err().to_string().contains("names.txt"));
    }

    #[test]
    fn only_an_empty_folder_is_written_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        assert!(check_output(folder.path(), false).is_ok());
        assert!(check_output(&folder.path().join("new"), false).is_ok());
        std::fs::write(&file, "").unwrap();
        assert_eq!(check_output(folder.path(), false).unwrap_err().exit_code(), 2);
        assert!(check_output(folder.path(), true).is_ok());
        assert_eq!(check_output(&file, true).unwrap_err().exit_code(), 2);
    }
}
