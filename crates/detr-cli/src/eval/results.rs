//! Reads the results of any tool in COCO's JSON and scores them, and writes those of a model.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use detr_eval::{
    EvalDetection, EvalError, EvalOptions, Evaluator, GroundTruth, Metrics, read_results,
    suspected_form,
};
use detr_infer::cli::{CliError, Console};
use detr_types::Xywh;
use detr_types::fs::PendingFile;
use serde::Serialize;

use super::unusable;

/// Scores a file of results.
///
/// # Errors
/// A file that cannot be read, or results that do not belong to the ground truth.
pub(super) fn score(
    path: &Path,
    truth: Arc<GroundTruth>,
    options: EvalOptions,
    console: &Console,
) -> Result<Metrics, CliError> {
    let results = read_results(path, options.iou).map_err(unusable)?;
    if let Some(form) = suspected_form(&results, &truth) {
        console.warn(&format!(
            "the boxes of the results should be left, top, width and height in pixels, but {form}"
        ));
    }
    let mut evaluator = Evaluator::new(truth, options).map_err(unusable)?;
    evaluator.add_results(results).map_err(|error| match error {
        EvalError::File { .. } => unusable(error),
        error => CliError::Data(format!("{}: {error}", path.display())),
    })?;
    let metrics = evaluator.finish().map_err(unusable)?;
    let counts = &metrics.counts;
    if counts.unknown_category > 0 && counts.detections == 0 {
        console.warn("no detection counts, because the data have none of their category ids");
    }
    Ok(metrics)
}

/// A file of results that is being written. Numbers are written in full, so that the file has the
/// same score as the detections.
pub(super) struct ResultsFile {
    file: PendingFile,
    path: PathBuf,
    any: bool,
}

#[derive(Serialize)]
struct Entry {
    image_id: i64,
    category_id: i64,
    bbox: Option<[f64; 4]>,
    score: f64,
}

impl ResultsFile {
    /// Starts a file.
    ///
    /// # Errors
    /// A path that cannot be written.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        let mut file = PendingFile::create(path).map_err(|error| cannot_write(path, &error))?;
        file.write_all(b"[").map_err(|error| cannot_write(path, &error))?;
        Ok(Self { file, path: path.to_owned(), any: false })
    }

    /// Adds the detections of an image.
    ///
    /// # Errors
    /// The error of the disk, such as one that is full.
    pub(super) fn add(&mut self, image_id: i64, found: &[EvalDetection]) -> Result<(), CliError> {
        for &EvalDetection { category_id, score, bbox, .. } in found {
            let bbox = bbox.map(Xywh::to_array);
            let entry = Entry { image_id, category_id, bbox, score };
            let start: &[u8] = if self.any { b",\n" } else { b"\n" };
            self.any = true;
            self.file
                .write_all(start)
                .and_then(|()| serde_json::to_writer(&mut self.file, &entry).map_err(Into::into))
                .map_err(|error| cannot_write(&self.path, &error))?;
        }
        Ok(())
    }

    /// Completes the file and puts it in place.
    ///
    /// # Errors
    /// The error of the disk, such as one that is full.
    pub(super) fn finish(mut self) -> Result<(), CliError> {
        let path = self.path;
        self.file
            .write_all(b"\n]\n")
            .and_then(|()| self.file.persist())
            .map_err(|error| cannot_write(&path, &error))
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> CliError {
    CliError::Failed(format!("cannot write {}: {error}", path.display()))
}
