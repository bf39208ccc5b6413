//! The dataset doctor: looks at a data set before training does, and says what is wrong with it, by
//! kind, how often, where first, and what to do.
//!
//! Structure, ids and boxes were counted while reading; here come the files, duplicates, and what
//! matters for DETR: more objects than queries, objects that become too small, classes that cannot
//! be learned.

mod classes;
mod files;
mod options;
mod pictures;
mod stats;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use detr_types::{ImageSize, counted};
use serde::Serialize;

pub use classes::{ClassDifferences, OtherId, compare_classes};
pub use files::common_images;
pub use options::{CheckOptions, FileCheck};
pub use stats::{Bin, CategoryStats, Stats, Summary};

use crate::dataset::{Dataset, Occurrences, Problem, ReadReport, Severity, check_places};
use crate::formats::{Accept, DatasetError, ReadOptions, read};

/// A kind of problem that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of problem.
    pub kind: Problem,
    /// The severity of the problem.
    pub severity: Severity,
    /// The number of times that it was found.
    pub count: usize,
    /// Ids, file names or places of the first five.
    pub first: Vec<String>,
    /// The meaning of the problem, and a remedy.
    pub hint: &'static str,
}

/// Everything that was found, the worst first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// The data sets that were examined.
    pub sources: Vec<String>,
    /// Number of images.
    pub images: usize,
    /// Number of objects.
    pub objects: usize,
    /// Number of categories.
    pub categories: usize,
    /// The problems that were found.
    pub findings: Vec<Finding>,
}

impl Findings {
    /// Returns the finding of one kind, if there is one.
    #[must_use]
    pub fn get(&self, kind: Problem) -> Option<&Finding> {
        self.findings.iter().find(|finding| finding.kind == kind)
    }

    /// Returns the worst severity, or `None` if nothing was found.
    #[must_use]
    pub fn worst(&self) -> Option<Severity> {
        self.findings.first().map(|finding| finding.severity)
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for source in &self.sources {
            writeln!(f, "{source}")?;
        }
        write!(
            f,
            "{}, {}, {}",
            counted(self.images, "image"),
            counted(self.objects, "object"),
            counted(self.categories, "category")
        )?;
        if self.findings.is_empty() {
            return write!(f, "\nnothing found");
        }
        for finding in &self.findings {
            let Finding { kind, severity, count, first, hint } = finding;
            write!(f, "\n{severity:<8}{count:>8}  {kind}")?;
            let more = if first.len() < *count { ", ..." } else { "" };
            write!(f, "\n                  {}{more}", first.join(", "))?;
            write!(f, "\n                  hint: {hint}")?;
        }
        Ok(())
    }
}

/// Reads a data set whatever is wrong with its records, and looks at it.
///
/// # Errors
/// A path that holds no known data set, or a file whose text is broken.
pub fn check_path(
    path: &Path,
    read_options: &ReadOptions,
    options: &CheckOptions<'_>,
) -> Result<Findings, DatasetError> {
    let accept = Accept::Everything;
    let dataset = read(path, &ReadOptions { accept, ..read_options.clone() })?;
    Ok(check(&dataset, options))
}

/// Looks at a data set.
#[must_use]
pub fn check(dataset: &Dataset, options: &CheckOptions<'_>) -> Findings {
    let mut report = dataset.report.clone();
    let sizes = files::check(dataset, options, &mut report);
    // The reader could not check sizes that the annotations do not state.
    let unstated = dataset.images.iter().filter(|image| image.size.is_none());
    check_places(unstated.map(|image| (image, sizes.get(&image.id).copied())), &mut report);
    check_images(dataset, &sizes, options, &mut report);
    check_categories(dataset, options, &mut report);
    let finding = |(kind, found): (Problem, Occurrences)| Finding {
        kind,
        severity: kind.severity(),
        count: found.count,
        first: found.first,
        hint: kind.hint(),
    };
    let mut findings: Vec<Finding> = report.problems.into_iter().map(finding).collect();
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Findings {
        sources: report.sources,
        images: dataset.images.len(),
        objects: dataset.object_count(),
        categories: dataset.categories.len(),
        findings,
    }
}

fn check_images(
    dataset: &Dataset,
    sizes: &HashMap<i64, ImageSize>,
    options: &CheckOptions<'_>,
    report: &mut ReadReport,
) {
    /// A side in pixels at the model's input size.
    const TINY: f64 = 8.0;
    /// Ratio of the sides of an image.
    const EXTREME: f64 = 8.0;
    let mut names = HashSet::new();
    for image in &dataset.images {
        if !names.insert(&image.path) {
            report.add(Problem::DuplicateFileName, &image.file_name);
        }
        if image.objects.is_empty() {
            report.add(Problem::EmptyImage, format_args!("image {}", image.id));
        }
        let objects = image.objects.iter().filter(|object| !object.iscrowd).count();
        if objects > options.queries {
            report.add(Problem::TooManyObjects, format!("image {} has {objects}", image.id));
        }
        let mut boxes = HashSet::new();
        for object in &image.objects {
            let bits = object.bbox.to_array().map(f64::to_bits);
            let key = (object.category_id, bits, object.iscrowd);
            if object.bbox.has_inside() && !boxes.insert(key) {
                report.add(Problem::DuplicateBox, format_args!("annotation {}", object.id));
            }
        }
        let Some(&size) = sizes.get(&image.id) else { continue };
        let (height, width) = (f64::from(size.height), f64::from(size.width));
        if height.max(width) > EXTREME * height.min(width) {
            report.add(Problem::ExtremeAspect, format!("{} is {size}", image.file_name));
        }
        let scale = f64::from(options.input.target_size(size).width) / width;
        for object in image.objects.iter().filter(|object| !object.iscrowd) {
            let bbox = object.bbox;
            if bbox.has_inside() && bbox.area().sqrt() * scale < TINY {
                report.add(Problem::TinyObject, format_args!("annotation {}", object.id));
            }
        }
    }
}

fn check_categories(dataset: &Dataset, options: &CheckOptions<'_>, report: &mut ReadReport) {
    let mut counts: HashMap<i64, usize> = HashMap::new();
    let objects = || dataset.images.iter().flat_map(|image| &image.objects);
    for object in objects().filter(|object| !object.iscrowd) {
        *counts.entry(object.category_id).or_default() += 1;
    }
    let source = || dataset.report.sources.join(", ");
    if !dataset.images.is_empty() {
        if objects().next().is_none() {
            report.add(Problem::NoObjects, source());
        } else if counts.is_empty() {
            report.add(Problem::AllCrowd, source());
        }
    }
    for category in &dataset.categories {
        match counts.get(&category.id).copied().unwrap_or(0) {
            0 => report.add(Problem::UnusedCategory, &category.name),
            count if count < options.rare => {
                report.add(Problem::RareCategory, format!("{} ({count})", category.name));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
