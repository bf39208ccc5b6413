//! A generated detection data set: coloured shapes on a noisy background, with their outlines, as
//! COCO annotations. Small models learn it in minutes, and every number in it is known exactly.
//!
//! An image is a pure function of the seed and its number, so the same options give the same bytes
//! whatever the number of threads, and a longer data set starts with the shorter one.

mod draw;
mod panoptic;
mod random;
mod shapes;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use detr_types::fs::atomic_write;
use detr_types::range::{in_range, require};
use detr_types::{ImageSize, Limits, RangeError, Xywh};
use image::{ImageFormat, RgbImage};
use rayon::prelude::*;

use random::Random;
pub use shapes::Shape;

use crate::dataset::{Category, Dataset, ImageRecord, ObjectRecord, ReadReport};
use crate::formats::{DatasetError, write_coco_json};
use crate::segmentation::{Rle, Segmentation};

/// The options of a generated data set.
#[derive(Clone, Debug)]
pub struct SynthOptions {
    /// Number of images.
    pub images: usize,
    /// Their size.
    pub size: ImageSize,
    /// Number of objects wanted per image; fewer where no room is left.
    pub objects: RangeInclusive<u32>,
    /// Diameter of the objects, as part of the short side of the image.
    pub scale: RangeInclusive<f64>,
    /// Largest part of a box that another box may cover.
    pub overlap: f64,
    /// The classes, with ids from 1 in this order.
    pub shapes: Vec<Shape>,
    /// Everything random comes from it.
    pub seed: u64,
    /// Name of the split; use another seed for each.
    pub split: String,
    /// Whether panoptic annotations are written, too: a segment for every object, and the background as stuff.
    pub panoptic: bool,
}

impl Default for SynthOptions {
    fn default() -> Self {
        Self {
            images: 100,
            size: ImageSize::new(240, 320),
            objects: 1..=8,
            scale: 0.1..=0.4,
            overlap: 0.3,
            shapes: Shape::ALL.to_vec(),
            seed: 0,
            split: "train".to_owned(),
            panoptic: false,
        }
    }
}

/// Why nothing can be generated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SynthError {
    /// An option out of range.
    #[error(transparent)]
    Option(#[from] RangeError),
    /// A file that cannot be written.
    #[error(transparent)]
    Write(#[from] DatasetError),
}

impl SynthOptions {
    fn validate(&self) -> Result<(), RangeError> {
        let (size, side) = (self.size, 16..=16_384);
        let ok = side.contains(&size.height) && side.contains(&size.width);
        require(ok, "size", size, "sides of 16 to 16384 pixels")?;
        let ok = size.pixels() <= Limits::default().pixels;
        require(ok, "size", size, "no more pixels than the limit of images")?;
        let (low, high) = (*self.scale.start(), *self.scale.end());
        let ok = low > 0.0 && low <= high && high <= 1.0;
        let scale = format!("{low} to {high}");
        require(ok, "scale", scale, "parts of the short side, above 0 and at most 1")?;
        in_range("overlap", self.overlap, 0.0..=1.0)?;
        let ok = !self.objects.is_empty() && *self.objects.end() <= 10_000;
        require(ok, "objects", format!("{:?}", self.objects), "a range up to 10000")?;
        require(self.images <= 100_000_000, "images", self.images, "at most 100000000")?;
        require(!self.shapes.is_empty(), "shapes", "empty", "at least one")
    }
}

/// Writes `SPLIT/000000000001.png` and so on, then `annotations/instances_SPLIT.json`; panoptic annotations go to
/// `annotations/panoptic_SPLIT.json` and the folder named like it.
///
/// # Errors
/// Options out of range, files that cannot be written.
pub fn synthesize(
    folder: &Path,
    options: &SynthOptions,
    progress: Option<&(dyn Fn(usize, usize) + Sync)>,
) -> Result<Dataset, SynthError> {
    options.validate()?;
    let is_name = crate::formats::safe_join(folder, &options.split).is_ok();
    require(is_name, "split", &options.split, "a name")?;
    let done = AtomicUsize::new(0);
    let one = |index: usize| {
        let (image, mut record) = scene(options, index);
        record.path = folder.join(&options.split).join(&record.file_name);
        let mut bytes = Cursor::new(Vec::new());
        image
            .write_to(&mut bytes, ImageFormat::Png)
            .map_err(std::io::Error::other)
            .and_then(|()| atomic_write(&record.path, |file| file.write_all(bytes.get_ref())))
            .map_err(DatasetError::io(&record.path))?;
        if let Some(progress) = progress {
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, options.images);
        }
        Ok(record)
    };
    let mut images =
        (0..options.images).into_par_iter().map(one).collect::<Result<Vec<_>, DatasetError>>()?;
    let objects = images.iter_mut().flat_map(|image| &mut image.objects);
    objects.zip(1..).for_each(|(object, id)| object.id = id);
    let categories = categories(options);
    let path = folder.join(format!("annotations/instances_{}.json", options.split));
    write_coco_json(&path, &images, &categories)?;
    if options.panoptic {
        panoptic::write(folder, options, &images)?;
    }
    let report = ReadReport {
        sources: vec![format!("synthetic, seed {}", options.seed)],
        problems: BTreeMap::new(),
    };
    Ok(Dataset { images, categories, report })
}

/// Returns the categories of a generated data set.
#[must_use]
pub fn categories(options: &SynthOptions) -> Vec<Category> {
    let category = |(shape, id): (&Shape, i64)| Category {
        id,
        name: shape.name().to_owned(),
        supercategory: Some("shape".to_owned()),
        is_thing: true,
    };
    options.shapes.iter().zip(1..).map(category).collect()
}

/// Draws one image and its objects, whose ids count from 1. The path is the file's name.
#[must_use]
#[allow(clippy::cast_possible_wrap)] // numbers of images
pub fn scene(options: &SynthOptions, index: usize) -> (RgbImage, ImageRecord) {
    let mut random = Random::new(options.seed, index);
    let size = options.size;
    let mut image = draw::background(size, &mut random);
    let wanted = random.integer(*options.objects.start(), *options.objects.end());
    let mut objects: Vec<ObjectRecord> = Vec::new();
    // An image may be too full for what was wanted.
    for _ in 0..wanted.saturating_mul(20) {
        if objects.len() == wanted as usize {
            break;
        }
        let kind =
            random.integer(0, u32::try_from(options.shapes.len()).unwrap_or(1).saturating_sub(1));
        let Some(&shape) = options.shapes.get(kind as usize) else { break };
        let polygon = shapes::place(shape, size, &options.scale, &mut random);
        let colour = draw::colour(&mut random);
        let bbox = around(&polygon);
        let outline = Segmentation::Polygons(vec![polygon]);
        if objects.iter().any(|other| covered(bbox, other.bbox) > options.overlap) {
            continue;
        }
        let Ok(mask) = outline.to_rle(size) else { continue };
        if mask.area() == 0 {
            continue;
        }
        draw::paint(&mut image, &mask, colour);
        objects.push(object(objects.len() as i64 + 1, i64::from(kind) + 1, bbox, &mask, outline));
    }
    let file_name = format!("{:012}.png", index + 1);
    let path = file_name.clone().into();
    let record = ImageRecord { id: index as i64 + 1, path, file_name, size: Some(size), objects };
    (image, record)
}

#[allow(clippy::cast_precision_loss)] // pixels
fn object(
    id: i64,
    category_id: i64,
    bbox: Xywh<f64>,
    mask: &Rle,
    outline: Segmentation,
) -> ObjectRecord {
    let area = mask.area() as f64;
    ObjectRecord { id, category_id, bbox, area, iscrowd: false, segmentation: Some(outline) }
}

/// Returns the box around a polygon, with two decimals like its points.
fn around(polygon: &[f64]) -> Xywh<f64> {
    let points = polygon.as_chunks::<2>().0;
    let low = |axis: usize| points.iter().map(|p| p[axis]).fold(f64::INFINITY, f64::min);
    let high = |axis: usize| points.iter().map(|p| p[axis]).fold(f64::NEG_INFINITY, f64::max);
    let (x, y) = (low(0), low(1));
    Xywh { x, y, w: shapes::round(high(0) - x), h: shapes::round(high(1) - y) }
}

/// Returns the larger of two fractions: the part of each box that lies in the other.
fn covered(a: Xywh<f64>, b: Xywh<f64>) -> f64 {
    let w = ((a.x + a.w).min(b.x + b.w) - a.x.max(b.x)).max(0.0);
    let h = ((a.y + a.h).min(b.y + b.h) - a.y.max(b.y)).max(0.0);
    w * h / a.area().min(b.area())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::{ReadOptions, read};

    fn options() -> SynthOptions {
        SynthOptions {
            images: 6,
            size: ImageSize::new(96, 128),
            seed: 7,
            ..SynthOptions::default()
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let folders = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let more = SynthOptions { images: 9, ..options() };
        synthesize(folders[0].path(), &options(), None).unwrap();
        synthesize(folders[1].path(), &more, None).unwrap();
        for index in 0..6 {
            let name = format!("train/{:012}.png", index + 1);
            let bytes =
                folders.each_ref().map(|folder| std::fs::read(folder.path().join(&name)).unwrap());
            assert_eq!(bytes[0], bytes[1], "{name}");
        }
        let other = SynthOptions { seed: 8, ..options() };
        assert_ne!(scene(&options(), 0).0, scene(&other, 0).0);
        assert_ne!(scene(&options(), 0).0, scene(&options(), 1).0);
    }

    #[test]
    fn what_is_written_is_read_again_without_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let made = synthesize(folder.path(), &options(), None).unwrap();
        let found = read(folder.path(), &ReadOptions::default()).unwrap();
        assert!(found.images == made.images);
        assert_eq!(found.categories, made.categories);
        assert!(found.report.problems.is_empty(), "{:?}", found.report);
        assert!(made.object_count() >= 6);
    }

    #[test]
    fn objects_lie_inside_and_do_not_hide_each_other() {
        let options = SynthOptions { objects: 30..=30, overlap: 0.2, ..options() };
        for index in 0..20 {
            let objects = scene(&options, index).1.objects;
            for (at, object) in objects.iter().enumerate() {
                let [x1, y1, x2, y2] = object.bbox.to_xyxy().to_array();
                assert!(x1 >= 0.0 && y1 >= 0.0 && x2 <= 128.001 && y2 <= 96.001, "{object:?}");
                assert!(objects[..at].iter().all(|other| covered(other.bbox, object.bbox) <= 0.2));
            }
        }
    }

    #[test]
    fn absurd_options_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for options in [
            SynthOptions { size: ImageSize::new(0, 10), ..options() },
            SynthOptions { scale: 0.5..=f64::NAN, ..options() },
            SynthOptions { overlap: -1.0, ..options() },
            SynthOptions { shapes: Vec::new(), ..options() },
            SynthOptions { split: "../x".to_owned(), ..options() },
        ] {
            assert!(matches!(
                synthesize(folder.path(), &options, None),
                Err(SynthError::Option { .. })
            ));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
