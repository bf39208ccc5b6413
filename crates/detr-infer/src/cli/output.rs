//! Results on stdout, and annotated pictures.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{CliError, Console, PredictArgs};
use crate::draw::{draw_detections, draw_panoptic, encode_png};
use crate::palette::Palette;
use crate::sources::Source;
use crate::text::shown;
use crate::writers::{
    ARRAY_COMMA, ARRAY_END, ARRAY_START, ImageResult, OutputFormat, failure_json, human_line,
    result_json,
};
use detr_data::RgbImage;
use detr_types::fs::atomic_write;
use detr_types::{Detection, Panoptic};

/// Prints the output of a command to stdout. A reader that went away, such as `head`, is no error.
///
/// # Errors
/// stdout cannot be written for any other reason.
pub fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(CliError::Failed(format!("cannot write to stdout: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// Prints a value to stdout as indented JSON.
///
/// # Errors
/// Those of [`print()`].
pub fn print_json(value: &impl serde::Serialize) -> Result<(), CliError> {
    let text = serde_json::to_string_pretty(value)
        .map_err(|error| CliError::Failed(format!("cannot be written as JSON: {error}")))?;
    print(&(text + "\n"))
}

/// Layout of the results on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Lines,
    /// An array; inside an object where timings come with it.
    Json {
        object: bool,
    },
    JsonLines,
}

/// Prints results as they come.
pub(super) struct Printer<'a> {
    console: &'a Console,
    mode: Mode,
    any: bool,
    closed: bool,
}

impl<'a> Printer<'a> {
    pub(super) fn new(args: &PredictArgs, console: &'a Console) -> Self {
        let mode = match (args.json, args.jsonl) {
            (true, _) => Mode::Json { object: args.timings },
            (_, true) => Mode::JsonLines,
            _ => Mode::Lines,
        };
        Self { console, mode, any: false, closed: false }
    }

    /// Returns whether the reader of stdout went away.
    pub(super) const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns whether timings belong to the output.
    pub(super) const fn holds_timings(&self) -> bool {
        matches!(self.mode, Mode::Json { object: true })
    }

    pub(super) fn result(&mut self, result: &ImageResult) -> Result<(), CliError> {
        match self.mode {
            Mode::Lines => self.write(&(human_line(result) + "\n")),
            _ => self.object(&result_json(result)),
        }
    }

    /// Prints something else about an image: a line for people, or a value.
    pub(super) fn value(&mut self, line: &str, value: &serde_json::Value) -> Result<(), CliError> {
        match self.mode {
            Mode::Lines => self.write(&format!("{line}\n")),
            _ => self.object(value),
        }
    }

    /// Errors are part of JSON output; people read them on stderr.
    pub(super) fn failure(&mut self, file: &str, message: &str) -> Result<(), CliError> {
        match self.mode {
            Mode::Lines => Ok(()),
            _ => self.object(&failure_json(file, message)),
        }
    }

    /// Closes the JSON array, whatever happened before.
    pub(super) fn finish(&mut self, timings: &serde_json::Value) -> Result<(), CliError> {
        let Mode::Json { object } = self.mode else { return Ok(()) };
        if !self.any {
            self.write(if object { "{\"images\": [" } else { "[" })?;
        }
        let end =
            if object { format!("\n], \"timings\": {timings}}}\n") } else { ARRAY_END.into() };
        self.write(&end)
    }

    fn object(&mut self, value: &serde_json::Value) -> Result<(), CliError> {
        let start = match (self.mode, self.any) {
            (Mode::Json { .. }, true) => ARRAY_COMMA,
            (Mode::Json { object: true }, false) => "{\"images\": [\n",
            (Mode::Json { object: false }, false) => ARRAY_START,
            _ => "",
        };
        let end = if self.mode == Mode::JsonLines { "\n" } else { "" };
        self.any = true;
        self.write(&format!("{start}{value}{end}"))
    }

    fn write(&mut self, text: &str) -> Result<(), CliError> {
        if self.closed {
            return Ok(());
        }
        let written = self.console.suspend(|| {
            let mut stdout = io::stdout();
            stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())
        });
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(())
            }
            Err(error) => Err(CliError::Failed(format!("cannot write to stdout: {error}"))),
        }
    }
}

/// A folder of annotated pictures.
pub(super) struct Pictures {
    /// One path per source.
    paths: Vec<PathBuf>,
    palette: Palette,
}

impl Pictures {
    /// Settles the name of every picture: that of its image with `.png`, numbered where several
    /// images share it.
    ///
    /// # Errors
    /// A folder that cannot be made, or a picture that would replace an image.
    pub(super) fn new(
        folder: &Path,
        sources: &[Source],
        palette: Palette,
        console: &Console,
    ) -> Result<Self, CliError> {
        if folder.exists() && !folder.is_dir() {
            let folder = folder.display();
            return Err(CliError::Usage(format!("--save {folder}: it is not a folder")));
        }
        std::fs::create_dir_all(folder).map_err(|error| cannot_write(folder, &error))?;
        let stems: Vec<OsString> = sources.iter().map(stem).collect();
        let names = distinct(&stems);
        let numbered = names.iter().zip(&stems).filter(|(name, stem)| name != stem).count();
        if numbered > 0 {
            console
                .note(&format!("note: pictures of equal name are numbered ({numbered} of them)"));
        }
        let paths: Vec<PathBuf> =
            names.iter().map(|name| folder.join(with_ending(name, ".png"))).collect();
        refuse_to_replace(sources, &paths, "the annotated picture", "--save another folder")?;
        Ok(Self { paths, palette })
    }

    pub(super) fn save(
        &self,
        index: usize,
        mut image: RgbImage,
        detections: &[Detection],
    ) -> Result<(), CliError> {
        draw_detections(&mut image, detections, &self.palette);
        write_png(&self.paths[index], &image)
    }

    pub(super) fn save_panoptic(
        &self,
        index: usize,
        image: &RgbImage,
        found: &Panoptic,
    ) -> Result<(), CliError> {
        write_png(&self.paths[index], &draw_panoptic(image, found, &self.palette))
    }
}

/// Writes a picture.
///
/// # Errors
/// [`CliError::Failed`] with the path.
pub fn write_png(path: &Path, image: &RgbImage) -> Result<(), CliError> {
    atomic_write(path, |file| encode_png(file, image)).map_err(|error| cannot_write(path, &error))
}

/// Writes a text.
///
/// # Errors
/// [`CliError::Failed`] with the path.
pub fn write_text(path: &Path, text: &str) -> Result<(), CliError> {
    atomic_write(path, |file| file.write_all(text.as_bytes()))
        .map_err(|error| cannot_write(path, &error))
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("cannot write {}: {error}", path.display()))
}

/// Returns the name of an image without its extension, byte by byte.
fn stem(source: &Source) -> OsString {
    source.path().file_stem().unwrap_or(OsStr::new("stdin")).to_owned()
}

/// Appends an ending to a name.
fn with_ending(name: &OsStr, ending: &str) -> OsString {
    let mut name = name.to_owned();
    name.push(ending);
    name
}

/// Makes the stems distinct, the second of a kind as `STEM-2` and so on; case does not make a
/// difference, because it makes none to some file systems.
fn distinct(stems: &[OsString]) -> Vec<OsString> {
    let key = |stem: &OsStr| shown(Path::new(stem)).to_lowercase();
    let stems_in_use: HashSet<String> = stems.iter().map(|stem| key(stem)).collect();
    let mut given = HashSet::new();
    let mut name = |stem: &OsString| {
        let mut name = stem.clone();
        let mut number = 2;
        while !given.insert(key(&name)) {
            name = loop {
                let candidate = with_ending(stem, &format!("-{number}"));
                number += 1;
                if !stems_in_use.contains(&key(&candidate)) {
                    break candidate;
                }
            };
        }
        name
    };
    stems.iter().map(&mut name).collect()
}

/// Refuses results that would be written over an image; nothing is written yet.
pub(super) fn check_output(
    format: OutputFormat,
    output: &Path,
    sources: &[Source],
) -> Result<(), CliError> {
    if !format.is_folder() {
        return refuse_to_replace(
            sources,
            &[output.to_owned()],
            "the file of results",
            "--output another file",
        );
    }
    // Images may be called anything, `street.txt` too.
    if format == OutputFormat::Panoptic {
        return refuse_to_replace_panoptic(output, sources);
    }
    let labels = sources.iter().map(|source| output.join(with_ending(&stem(source), ".txt")));
    let list = (format == OutputFormat::Yolo).then(|| output.join("classes.txt"));
    let paths: Vec<PathBuf> = labels.chain(list).collect();
    refuse_to_replace(sources, &paths, "the file of results", "--output another folder")
}

/// Refuses panoptic results that would be written over an image; nothing is written yet.
pub(super) fn refuse_to_replace_panoptic(
    output: &Path,
    sources: &[Source],
) -> Result<(), CliError> {
    let pictures = sources
        .iter()
        .map(|source| output.join("panoptic").join(with_ending(&stem(source), ".png")));
    let paths: Vec<PathBuf> = pictures.chain([output.join("panoptic.json")]).collect();
    refuse_to_replace(sources, &paths, "the file of results", "--output another folder")
}

/// `what` is at one of the paths, and `instead` is what the user can do.
fn refuse_to_replace(
    sources: &[Source],
    paths: &[PathBuf],
    what: &str,
    instead: &str,
) -> Result<(), CliError> {
    let images: HashSet<PathBuf> = sources
        .iter()
        .filter_map(|source| match source {
            Source::File(path) => path.canonicalize().ok(),
            Source::Stdin => None,
        })
        .collect();
    let replaced =
        paths.iter().find(|path| path.canonicalize().is_ok_and(|path| images.contains(&path)));
    match replaced {
        None => Ok(()),
        Some(path) => Err(CliError::Usage(format!(
            "{what} {} would replace the image itself\nhint: give {instead}",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_equal_stem_get_distinct_names() {
        let stems = ["a", "b", "A", "a", "a-2", "b"].map(OsString::from);
        assert_eq!(distinct(&stems), ["a", "b", "A-3", "a-4", "a-2", "b-2"]);
    }
}
