//! The flags that choose a data set, which all commands that read one share.

use std::path::{Path, PathBuf};

use clap::Args;
use detr_data::dataset::{
    ClassMap, DatasetSpec, Occurrences, Problem, ReadReport, Severity, SourceSpec,
};
use detr_data::formats::{Accept, DatasetError, Format, ReadOptions, detect};
use detr_data::{Dataset, DecodeOptions};
use detr_infer::cli::{CliError, Console, read_text};
use detr_types::in_plain_words;

/// The flags that set how data sets are read.
#[derive(Args, Clone, Debug, Default)]
pub struct ReadArgs {
    /// Format, where looking does not tell: coco, coco-panoptic, kitti, yolo or voc
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,

    /// Folder of the images, where it is not one of the usual ones
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,

    /// Split, where a folder holds several: train, val, test ...
    #[arg(long, value_name = "NAME")]
    split: Option<String>,

    /// Rename a class; two of one name merge; may be repeated
    #[arg(long, value_name = "OLD=NEW", value_parser = renaming)]
    map: Vec<(String, String)>,

    /// Only these classes, by new name; comma separated, may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    keep: Vec<String>,

    /// Not these classes, by new name; comma separated, may be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    drop: Vec<String>,

    /// Read files that lie outside of the data set's folder: behind links, or under absolute names
    #[arg(long)]
    follow_symlinks: bool,
}

/// The flag that turns images upright; commands that run a model have it among their own.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct UprightArgs {
    /// Turn images upright by their EXIF orientation
    #[arg(long)]
    pub apply_exif: bool,
}

impl UprightArgs {
    /// Returns the options of decoding an image.
    #[must_use]
    pub fn decoding(self) -> DecodeOptions {
        DecodeOptions { apply_exif: self.apply_exif, ..DecodeOptions::default() }
    }
}

impl ReadArgs {
    /// Reads the data sets at these paths as one. A path that ends in `.toml` is a list of sources.
    ///
    /// # Errors
    /// [`CliError::Usage`] for flags and lists, [`CliError::Data`] for what they lead to.
    pub fn load(
        &self,
        paths: &[PathBuf],
        accept: Accept,
        UprightArgs { apply_exif }: UprightArgs,
    ) -> Result<Dataset, CliError> {
        self.read(paths, &ReadOptions { accept, apply_exif, ..ReadOptions::default() })
    }

    /// Loads a data set without its image files, whose names may be missing.
    ///
    /// # Errors
    /// Those of [`load`](Self::load).
    pub(crate) fn load_annotations(
        &self,
        paths: &[PathBuf],
        accept: Accept,
        UprightArgs { apply_exif }: UprightArgs,
    ) -> Result<Dataset, CliError> {
        let options = ReadOptions { accept, apply_exif, ..ReadOptions::default() };
        self.read(paths, &ReadOptions { check_files: false, file_names: false, ..options })
    }

    /// Returns the same flags for panoptic data.
    pub(crate) fn as_panoptic(&self) -> Self {
        Self { format: Some(Format::CocoPanoptic), ..self.clone() }
    }

    /// Finds the panoptic JSON file that a path means, whose ids count as they are.
    ///
    /// # Errors
    /// [`CliError::Usage`] for flags that would change ids, several paths, and another format; [`CliError::Data`] where
    /// there is no such file.
    pub(crate) fn panoptic_file(&self, paths: &[PathBuf]) -> Result<PathBuf, CliError> {
        let usage = |text: &str| Err(CliError::Usage(text.to_owned()));
        if !(self.map.is_empty() && self.keep.is_empty() && self.drop.is_empty()) {
            return usage(
                "--map, --keep and --drop: panoptic files are compared as they are\nhint: leave them out",
            );
        }
        if self.format.is_some_and(|format| format != Format::CocoPanoptic) {
            return usage(
                "--format: panoptic data are wanted\nhint: --format coco-panoptic, or leave it out",
            );
        }
        let [path] = paths else {
            return usage(
                "--data: panoptic files are compared one by one\nhint: give one data set",
            );
        };
        let options = ReadOptions {
            format: Some(Format::CocoPanoptic),
            split: self.split.clone(),
            allow_outside: self.follow_symlinks,
            ..ReadOptions::default()
        };
        Ok(detect(path, &options).map_err(unreadable)?.path)
    }

    fn read(&self, paths: &[PathBuf], options: &ReadOptions) -> Result<Dataset, CliError> {
        let options = ReadOptions {
            format: self.format,
            images: self.images.clone(),
            split: self.split.clone(),
            allow_outside: self.follow_symlinks,
            ..options.clone()
        };
        let mut datasets = Vec::with_capacity(paths.len());
        for path in paths {
            let (spec, base) = spec(path)?;
            datasets.push(spec.load(&base, &options).map_err(unreadable)?);
        }
        let all = detr_data::dataset::concatenate(datasets);
        let classes = ClassMap {
            map: self.map.iter().cloned().collect(),
            keep: self.keep.clone(),
            drop: self.drop.clone(),
        };
        classes.apply(all).map_err(unreadable)
    }

    /// Refuses data whose ids are not those of its files: another tool knows only those.
    ///
    /// # Errors
    /// [`CliError::Usage`] with the reason.
    pub(crate) fn refuse_other_ids(&self, dataset: &Dataset) -> Result<(), CliError> {
        let reason = [Problem::RenumberedImage, Problem::RenumberedCategory]
            .into_iter()
            .find(|&problem| dataset.report.count(problem) > 0)
            .map(|problem| format!("{} x {problem}", dataset.report.count(problem)))
            .or_else(|| (!self.map.is_empty()).then(|| "--map may change ids".to_owned()));
        let Some(reason) = reason else { return Ok(()) };
        Err(CliError::Usage(format!(
            "the ids of the results may not be those of the data: {reason}\n\
             hint: score the results with the data set that they were made for, as it is"
        )))
    }
}

/// Returns the sources that a path stands for, and the folder that their paths start from.
fn spec(path: &Path) -> Result<(DatasetSpec, PathBuf), CliError> {
    if path.extension().is_none_or(|extension| extension != "toml") {
        let source = SourceSpec {
            path: path.to_owned(),
            images: None,
            split: None,
            format: None,
            follow_symlinks: false,
        };
        let classes = ClassMap::default();
        return Ok((DatasetSpec { sources: vec![source], classes }, PathBuf::new()));
    }
    let spec: DatasetSpec = toml::from_str(&read_text(path)?).map_err(|error| {
        CliError::Usage(format!(
            "{}: {}\nhint: a list of [[sources]] with `path`, and perhaps [classes]",
            path.display(),
            in_plain_words(error.to_string().trim_end())
        ))
    })?;
    if spec.sources.is_empty() {
        return Err(CliError::Usage(format!(
            "{}: no sources\nhint: add [[sources]] with a `path`",
            path.display()
        )));
    }
    Ok((spec, path.parent().map(Path::to_owned).unwrap_or_default()))
}

/// Chooses the exit code for data that cannot be read; wrong names of classes are wrong flags, and
/// an empty data set is read well, but there is nothing to do.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
pub(crate) fn unreadable(error: DatasetError) -> CliError {
    let mut message = error.to_string();
    if !message.contains("hint: ") {
        message += match error {
            DatasetError::Syntax { .. } => "\nhint: correct the file at that line, or make it anew",
            DatasetError::Io { .. } => "\nhint: check the path and who may read it",
            _ => "\nhint: `detr data check` takes a file or folder of annotations",
        };
    }
    match error {
        DatasetError::Class { .. } | DatasetError::ClassTable(_) => CliError::Usage(message),
        DatasetError::Refused { report, .. } if only_empty(&report) => CliError::Failed(message),
        _ => CliError::Data(message),
    }
}

fn only_empty(report: &ReadReport) -> bool {
    let fatal = |problem: &&Problem| problem.severity() == Severity::Fatal;
    report.problems.keys().filter(fatal).eq([&Problem::NoImages])
}

/// Says what of a data set is not used.
pub(crate) fn note_left_out(dataset: &Dataset, console: &Console) {
    for note in left_out(dataset) {
        console.note(&format!("note: {note}"));
    }
}

/// Returns a sentence for each kind of problem that leaves a part of a data set out.
pub(crate) fn left_out(dataset: &Dataset) -> Vec<String> {
    let problems = &dataset.report.problems;
    let sentence = |(problem, found): (&Problem, &Occurrences)| {
        let more = if found.first.len() < found.count { ", ..." } else { "" };
        format!("{} x {problem}: {}{more}", found.count, found.first.join(", "))
    };
    problems.iter().filter(|(p, _)| p.severity() >= Severity::Error).map(sentence).collect()
}

fn renaming(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => {
            Ok((old.to_owned(), new.to_owned()))
        }
        _ => Err("expected OLD=NEW".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sources_reads_what_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name)
        };
        write(
            "a.json",
            r#"{"images": [{"id": 1, "file_name": "1.png", "width": 9, "height": 9}],
                "annotations": [], "categories": [{"id": 1, "name": "cat"}]}"#,
        );
        let list = write(
            "data.toml",
            "[[sources]]\npath = \"a.json\"\n[classes]\nmap = { cat = \"animal\" }\n",
        );
        let read = ReadArgs::default();
        let upright = UprightArgs::default();
        let dataset = read.load(&[list], Accept::Everything, upright).unwrap();
        assert_eq!(dataset.categories[0].name, "animal");
        for (text, part) in [
            ("sources = []", "no sources"),
            ("[[sources]]\npth = \"a\"", "pth"),
            ("[[sources]]\npath = \"missing.json\"", "missing.json"),
            ("[[sources]]\npath = \"a.json\"\n[classes]\ndrop = [\"dog\"]", "\"dog\""),
        ] {
            let list = write("bad.toml", text);
            let error = read.load(&[list], Accept::Everything, upright).unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
