//! Results on disk: COCO results, KITTI and YOLO label files, CSV; and the line that a terminal
//! shows for an image.
//!
//! Results are written as they come and not kept in memory. Every file appears under its name
//! only when it is complete. What is drawn or served is not here.

mod error;
mod formats;
mod image_result;
mod json;
mod naming;
mod output_format;
mod panoptic;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use detr_types::fs::{PendingFile, atomic_write, check_replaceable};
use detr_types::{ClassTable, Detection, counted};

pub use self::error::WriteError;
pub use self::image_result::ImageResult;
pub(crate) use self::json::{ARRAY_COMMA, ARRAY_END, ARRAY_START};
pub use self::json::{array_json, failure_json, result_json};
pub use self::naming::ImageIds;
use self::naming::Naming;
pub use self::output_format::OutputFormat;
pub use self::panoptic::PanopticWriter;

/// Most objects that [`human_line`] lists.
const LISTED: usize = 8;

/// The summary of a finished [`ResultWriter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteSummary {
    /// Number of images.
    pub images: usize,
    /// Number of objects.
    pub detections: usize,
    /// Objects that lie outside their image and that KITTI and YOLO files cannot hold.
    pub outside: usize,
}

/// Writes the results of many images in one format, one after the other.
///
/// A file of COCO results or CSV appears at [`finish`](Self::finish) and replaces an older one;
/// without it nothing is left behind. A folder is filled file by file, each complete at once, an
/// empty one for an image without objects; files already there under other names stay.
pub struct ResultWriter {
    format: OutputFormat,
    path: PathBuf,
    naming: Naming,
    /// The one file, for the formats that have one.
    pending: Option<PendingFile>,
    written: WriteSummary,
}

impl ResultWriter {
    /// Prepares the output for these images, which are known before the first result so that
    /// image ids and file names are settled: give all of them, in order. [`ImageResult::file`] is
    /// [`Source::name`](crate::sources::Source::name) of each.
    ///
    /// # Errors
    /// Two images that need the same label file (of equal stem, in different folders or with
    /// different extensions), or an output that cannot be written.
    pub fn create(
        format: OutputFormat,
        path: &Path,
        files: &[impl AsRef<Path>],
        classes: &ClassTable,
    ) -> Result<Self, WriteError> {
        if format == OutputFormat::Panoptic {
            return Err(WriteError::NotObjects);
        }
        if path.exists() && path.is_dir() != format.is_folder() {
            return Err(WriteError::Kind { path: path.to_owned(), format });
        }
        if !format.is_folder() && check_replaceable(path).is_err() {
            return Err(WriteError::NotAFile { path: path.to_owned() });
        }
        let naming = Naming::new(files, format)?;
        let io_error = |error| WriteError::Io { path: path.to_owned(), error };
        let mut pending = None;
        if format.is_folder() {
            std::fs::create_dir_all(path).map_err(io_error)?;
            if format == OutputFormat::Yolo {
                let list = path.join("classes.txt");
                atomic_write(&list, |w| w.write_all(formats::yolo_classes(classes).as_bytes()))
                    .map_err(|error| WriteError::Io { path: list, error })?;
            }
        } else {
            let mut file = PendingFile::create(path).map_err(io_error)?;
            let head = if format == OutputFormat::Coco { "[" } else { formats::CSV_HEADER };
            file.write_all(head.as_bytes()).map_err(io_error)?;
            pending = Some(file);
        }
        let written = WriteSummary::default();
        Ok(Self { format, path: path.to_owned(), naming, pending, written })
    }

    /// Returns the origin of the image ids in COCO results. [`ImageIds::Positions`] deserves a hint
    /// to the user: such results cannot be evaluated against the annotations of a data set.
    #[must_use]
    pub fn image_ids(&self) -> ImageIds {
        self.naming.ids
    }

    /// Adds the result of an image.
    ///
    /// # Errors
    /// An image not announced or given twice, a number that is not finite, or an output that
    /// cannot be written. An image refused for its numbers leaves nothing in the output.
    pub fn write(&mut self, result: &ImageResult) -> Result<(), WriteError> {
        let finite = |d: &Detection| {
            [d.score, d.bbox.x1, d.bbox.y1, d.bbox.x2, d.bbox.y2].into_iter().all(f32::is_finite)
        };
        if let Some(index) = result.detections.iter().position(|d| !finite(d)) {
            let name = result.detections[index].name.clone();
            return Err(WriteError::NotFinite { file: result.file.clone(), index, name });
        }
        let (image_id, stem) = self.naming.take(&result.file)?;
        let mut text = String::new();
        let mut outside = 0;
        for detection in &result.detections {
            match self.format {
                OutputFormat::Coco => {
                    let any = self.written.detections > 0 || !text.is_empty();
                    text.push_str(if any { ",\n" } else { "\n" });
                    text.push_str(&formats::coco_object(&result.file, image_id, detection));
                }
                OutputFormat::Csv => formats::csv_row(&mut text, result, detection),
                OutputFormat::Kitti | OutputFormat::Yolo | OutputFormat::Panoptic => {
                    let Some(bbox) = formats::clipped(detection.bbox, result.size) else {
                        outside += 1;
                        continue;
                    };
                    if self.format == OutputFormat::Kitti {
                        formats::kitti_line(&mut text, detection, bbox);
                    } else {
                        formats::yolo_line(&mut text, detection, bbox, result.size);
                    }
                }
            }
        }
        if let Some(file) = &mut self.pending {
            file.write_all(text.as_bytes())
                .map_err(|error| WriteError::Io { path: self.path.clone(), error })?;
        } else {
            let mut name = stem.to_owned();
            name.push(".txt");
            let path = self.path.join(name);
            atomic_write(&path, |w| w.write_all(text.as_bytes()))
                .map_err(|error| WriteError::Io { path, error })?;
        }
        self.written.images += 1;
        self.written.detections += result.detections.len() - outside;
        self.written.outside += outside;
        Ok(())
    }

    /// Completes the output and puts it in place.
    ///
    /// # Errors
    /// An output that cannot be written; an older file of that name is then left as it was.
    pub fn finish(self) -> Result<WriteSummary, WriteError> {
        if let Some(mut file) = self.pending {
            let tail = match (self.format, self.written.detections) {
                (OutputFormat::Coco, 0) => "]\n",
                (OutputFormat::Coco, _) => "\n]\n",
                _ => "",
            };
            file.write_all(tail.as_bytes())
                .and_then(|()| file.persist())
                .map_err(|error| WriteError::Io { path: self.path, error })?;
        }
        Ok(self.written)
    }
}

/// Writes one line about an image for the terminal, such as `street.jpg 640x480: 3 objects: person
/// 0.98, car 0.91, car 0.72`: the strongest first, and `+12 more` after eight. Control characters
/// in names become `?`.
#[must_use]
pub fn human_line(result: &ImageResult) -> String {
    let mut sorted: Vec<&Detection> = result.detections.iter().collect();
    sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
    let count = match sorted.len() {
        0 => "no objects".to_owned(),
        count => counted(count, "object"),
    };
    let mut line = format!("{} {}: {count}", result.file, result.size);
    for (position, detection) in sorted.iter().take(LISTED).enumerate() {
        let separator = if position == 0 { ": " } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(line, "{separator}{} {:.2}", detection.name, detection.score);
    }
    if sorted.len() > LISTED {
        let _ = write!(line, ", +{} more", sorted.len() - LISTED);
    }
    line.replace(char::is_control, "?")
}

#[cfg(test)]
mod tests;
