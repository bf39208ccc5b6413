//! Pictures of a validation: what the model found, on the left with scores, beside what is there.

use std::collections::BTreeSet;
use std::path::Path;

use detr_data::{DecodeOptions, ImageError, ImageRecord, RgbImage, read_image, resize_bilinear};
use detr_infer::cli::{CliError, write_png};
use detr_infer::draw::{draw_detections, draw_truth};
use detr_infer::palette::Palette;
use detr_types::{ClassTable, Detection, ImageSize, Xywh, Xyxy};

/// Short side that smaller images are enlarged to, so that names can be read.
const SHORT: f32 = 320.0;
/// Long side that larger images are shrunk to: they are many.
const LONG: f32 = 1000.0;
/// Pixels between the two pictures.
const GAP: u32 = 6;

/// An image of the validation.
pub(crate) struct Sample {
    /// Name of the picture, without its ending.
    pub(crate) name: String,
    /// The image, in the pixels of the boxes.
    pub(crate) image: RgbImage,
    /// What the model found.
    pub(crate) found: Vec<Detection>,
    /// What is there, crowds left out.
    pub(crate) truth: Vec<Detection>,
}

impl Sample {
    /// Of an image of a data set: reads its file, and its objects as classes of the model.
    ///
    /// # Errors
    /// An image that cannot be read.
    pub(crate) fn read(
        record: &ImageRecord,
        classes: &ClassTable,
        found: Vec<Detection>,
    ) -> Result<Self, ImageError> {
        let image = read_image(&record.path, &DecodeOptions::default())?;
        let stem = record.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = format!("{}-{stem}", record.id);
        Ok(Self { name, image, found, truth: truth(record, classes) })
    }

    /// Both pictures as one.
    pub(crate) fn draw(&self, palette: &Palette) -> RgbImage {
        let (width, height) = self.image.dimensions();
        let (shown, factor) = fitting(ImageSize::new(height, width));
        let mut left = resize_bilinear(&self.image, shown);
        let mut right = left.clone();
        draw_detections(&mut left, &scaled(self.found.iter(), factor), palette);
        draw_truth(&mut right, &scaled(self.truth.iter(), factor), palette);
        let (width, height) = left.dimensions();
        let mut both = RgbImage::new(2 * width + GAP, height);
        for (from, picture) in [(0, left), (width + GAP, right)] {
            for (x, y, pixel) in picture.enumerate_pixels() {
                both.put_pixel(from + x, y, *pixel);
            }
        }
        both
    }
}

/// A size that people like to look at, and how much larger it is.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
fn fitting(size: ImageSize) -> (ImageSize, f32) {
    let (height, width) = (size.height.max(1) as f32, size.width.max(1) as f32);
    let enlarged = (SHORT / height.min(width)).clamp(1.0, 8.0);
    let factor = enlarged.min(LONG / height.max(width));
    let side = |side: f32| (side * factor).round().max(1.0) as u32;
    (ImageSize::new(side(height), side(width)), factor)
}

/// The objects of an image by the labels of the model; those of classes that it lacks are left out.
#[allow(clippy::cast_possible_truncation)] // pixels
fn truth(record: &ImageRecord, classes: &ClassTable) -> Vec<Detection> {
    let categories: Vec<_> = (0..classes.len()).filter_map(|label| classes.get(label)).collect();
    let object = |object: &detr_data::ObjectRecord| {
        let category = categories.iter().find(|category| category.id == object.category_id)?;
        let [x, y, w, h] = object.bbox.map(|side| side as f32);
        Some(Detection {
            label: category.label,
            category_id: category.id,
            name: category.name.clone(),
            score: 1.0,
            bbox: Xywh { x, y, w, h }.to_xyxy(),
        })
    };
    record.objects.iter().filter(|object| !object.iscrowd).filter_map(object).collect()
}

fn scaled<'a>(objects: impl Iterator<Item = &'a Detection>, by: f32) -> Vec<Detection> {
    let scale = |b: Xyxy| Xyxy { x1: b.x1 * by, y1: b.y1 * by, x2: b.x2 * by, y2: b.y2 * by };
    objects.map(|object| Detection { bbox: scale(object.bbox), ..object.clone() }).collect()
}

/// Writes the pictures to a folder; of equal names, the later get a number.
///
/// # Errors
/// The first that cannot be written.
pub(super) fn write(folder: &Path, samples: &[Sample]) -> Result<(), CliError> {
    let (palette, mut taken) = (Palette::default(), BTreeSet::new());
    for (index, sample) in samples.iter().enumerate() {
        let mut name: String = sample.name.chars().map(harmless).take(100).collect();
        if !taken.insert(name.clone()) {
            name = format!("{name}-{index}");
        }
        write_png(&folder.join(format!("{name}.png")), &sample.draw(&palette))?;
    }
    Ok(())
}

/// What may stand in the name of a file everywhere.
fn harmless(letter: char) -> char {
    if letter.is_alphanumeric() || "-_.".contains(letter) { letter } else { '_' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_left_and_what_is_there_right() {
        let detection = |label, score, x1: f32| Detection {
            label,
            category_id: 1,
            name: "thing".to_owned(),
            score,
            bbox: Xyxy { x1, y1: 10.0, x2: x1 + 30.0, y2: 60.0 },
        };
        let sample = Sample {
            name: "../a".to_owned(),
            image: RgbImage::new(100, 80),
            found: vec![detection(0, 0.9, 10.0)],
            truth: vec![detection(1, 1.0, 60.0)],
        };
        let drawn = sample.draw(&Palette::default());
        // Four times as large.
        assert_eq!(drawn.dimensions(), (2 * 400 + GAP, 320));
        let lit = |x: u32, y: u32| drawn.get_pixel(x, y).0 != [0, 0, 0];
        assert!(lit(40, 200) && !lit(240, 200));
        assert!(!lit(406 + 40, 200) && lit(406 + 240, 200));
        let sizes =
            [(2000, 1000), (10, 1000), (1, 1)].map(|(h, w)| fitting(ImageSize::new(h, w)).0);
        assert_eq!(sizes.map(|size| (size.height, size.width)), [(1000, 500), (10, 1000), (8, 8)]);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &[sample]).unwrap();
        assert!(folder.path().join(".._a.png").is_file());
    }
}
