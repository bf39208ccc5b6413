//! COCO's panoptic format: a PNG of segment ids for every image, and one JSON file about the segments.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use detr_types::fs::{PendingFile, atomic_write};
use detr_types::{CategoryId, ClassTable, Panoptic};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder};
use serde::Serialize;

use super::error::WriteError;
use super::naming::Naming;
use super::output_format::OutputFormat;
use crate::text::shown;

/// Name of the JSON file, and without its ending of the folder of PNGs, as COCO's evaluation looks for them.
const NAME: &str = "panoptic";

/// Writes panoptic predictions of many images: `panoptic.json` and `panoptic/STEM.png` in a folder. A pixel's id is
/// `R + 256 G + 65536 B`. The PNGs appear one by one, the JSON file at [`finish`](Self::finish).
pub struct PanopticWriter {
    folder: PathBuf,
    naming: Naming,
    pending: PendingFile,
    any: bool,
}

#[derive(Serialize)]
struct Category<'a> {
    id: CategoryId,
    name: &'a str,
    isthing: u8,
}

#[derive(Serialize)]
struct Annotation<'a> {
    image_id: u64,
    file_name: &'a str,
    segments_info: Vec<SegmentInfo>,
}

#[derive(Serialize)]
struct SegmentInfo {
    id: u32,
    category_id: CategoryId,
    area: u64,
    bbox: [u64; 4],
    iscrowd: u8,
    score: f32,
}

impl PanopticWriter {
    /// Prepares the output for these images; see [`ResultWriter::create`](super::ResultWriter::create).
    ///
    /// # Errors
    /// Two images of one stem, or an output that cannot be written.
    pub fn create(
        folder: &Path,
        files: &[String],
        classes: &ClassTable,
    ) -> Result<Self, WriteError> {
        let format = OutputFormat::Panoptic;
        if folder.exists() && !folder.is_dir() {
            return Err(WriteError::Kind { path: folder.to_owned(), format });
        }
        let naming = Naming::new(files, format)?;
        let pictures = folder.join(NAME);
        std::fs::create_dir_all(&pictures)
            .map_err(|error| WriteError::Io { path: pictures, error })?;
        let path = json_path(folder);
        let io_error = |error| WriteError::Io { path: path.clone(), error };
        let mut pending = PendingFile::create(&path).map_err(io_error)?;
        let categories: Vec<Category<'_>> = classes
            .categories()
            .map(|class| Category {
                id: class.id,
                name: &class.name,
                isthing: u8::from(class.is_thing),
            })
            .collect();
        let categories = serde_json::to_string(&categories).unwrap_or_default();
        let head = format!("{{\"categories\": {categories},\n\"annotations\": [");
        pending.write_all(head.as_bytes()).map_err(io_error)?;
        Ok(Self { folder: folder.to_owned(), naming, pending, any: false })
    }

    /// Returns where the image ids come from.
    #[must_use]
    pub fn image_ids(&self) -> super::ImageIds {
        self.naming.ids
    }

    /// Adds the prediction of an image.
    ///
    /// # Errors
    /// An image that was not announced or is given twice, or an output that cannot be written.
    pub fn write(&mut self, file: &str, found: &Panoptic) -> Result<(), WriteError> {
        let (image_id, stem) = self.naming.take(file)?;
        let mut file_name = stem.to_owned();
        file_name.push(".png");
        let path = self.folder.join(NAME).join(&file_name);
        let file_name = shown(Path::new(&file_name));
        let pixels: Vec<u8> = found
            .ids
            .iter()
            .flat_map(|id| {
                let [r, g, b, _] = id.to_le_bytes();
                [r, g, b]
            })
            .collect();
        atomic_write(&path, |file| {
            PngEncoder::new_with_quality(file, CompressionType::Fast, FilterType::Adaptive)
                .write_image(&pixels, found.size.width, found.size.height, ExtendedColorType::Rgb8)
                .map_err(io::Error::other)
        })
        .map_err(|error| WriteError::Io { path, error })?;
        let segments_info = found
            .segments
            .iter()
            .map(|segment| SegmentInfo {
                id: segment.id,
                category_id: segment.category_id,
                area: segment.area,
                bbox: whole(found.bbox(segment.id)),
                iscrowd: 0,
                score: segment.score,
            })
            .collect();
        let annotation = Annotation { image_id, file_name: &file_name, segments_info };
        let text = serde_json::to_string(&annotation).unwrap_or_default();
        let comma = if std::mem::replace(&mut self.any, true) { ",\n" } else { "\n" };
        self.pending
            .write_all(format!("{comma}{text}").as_bytes())
            .map_err(|error| WriteError::Io { path: json_path(&self.folder), error })
    }

    /// Completes the JSON file and puts it in place.
    ///
    /// # Errors
    /// An output that cannot be written; an older file of that name is then left as it was.
    pub fn finish(mut self) -> Result<(), WriteError> {
        let path = json_path(&self.folder);
        self.pending
            .write_all(b"\n]}\n")
            .and_then(|()| self.pending.persist())
            .map_err(|error| WriteError::Io { path, error })
    }
}

fn json_path(folder: &Path) -> PathBuf {
    folder.join(format!("{NAME}.json"))
}

/// Rounds a box to whole pixels.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // sides of an image
fn whole(bbox: detr_types::Xywh<f64>) -> [u64; 4] {
    [bbox.x, bbox.y, bbox.w, bbox.h].map(|side| side as u64)
}

#[cfg(test)]
mod tests {
    use detr_types::{ImageSize, PanopticSegment};

    use super::*;

    #[test]
    fn png_and_json_agree() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["a/7.jpg".to_owned(), "b/9.jpg".to_owned()];
        let classes = ClassTable::coco_panoptic();
        let mut writer = PanopticWriter::create(folder.path(), &files, &classes).unwrap();
        let segment = PanopticSegment {
            id: 300,
            label: 92,
            category_id: 92,
            name: "banner".into(),
            is_thing: false,
            score: 0.5,
            area: 2,
        };
        let found = Panoptic {
            size: ImageSize::new(2, 3),
            ids: vec![0, 300, 0, 0, 300, 0],
            segments: vec![segment],
        };
        writer.write(&files[0], &found).unwrap();
        assert!(!folder.path().join("panoptic.json").exists());
        let nothing = Panoptic { ids: vec![0; 6], segments: Vec::new(), ..found };
        writer.write(&files[1], &nothing).unwrap();
        assert!(writer.write(&files[1], &nothing).is_err(), "twice");
        writer.finish().unwrap();
        let json = std::fs::read(folder.path().join("panoptic.json")).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(json["categories"].as_array().unwrap().len(), 133);
        let first = &json["annotations"][0];
        assert_eq!((&first["image_id"], &first["file_name"]), (&7.into(), &"7.png".into()));
        let info = &first["segments_info"][0];
        assert_eq!(info["bbox"], serde_json::json!([1, 0, 1, 2]));
        assert_eq!((&info["id"], &info["category_id"]), (&300.into(), &92.into()));
        assert!(json["annotations"][1]["segments_info"].as_array().unwrap().is_empty());
        let png = image::open(folder.path().join("panoptic/7.png")).unwrap().into_rgb8();
        assert_eq!(png.get_pixel(1, 1).0, [44, 1, 0]);
    }
}
