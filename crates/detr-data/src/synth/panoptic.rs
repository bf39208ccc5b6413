//! Panoptic annotations of generated images: every object is a segment, the later one in front, and what is left is the
//! background.

use std::io::Cursor;
use std::path::Path;

use detr_types::fs::atomic_write;
use image::{ImageFormat, Rgb, RgbImage};
use rayon::prelude::*;
use serde_json::{Value, json};

use super::{SynthError, SynthOptions, categories};
use crate::dataset::ImageRecord;
use crate::formats::DatasetError;
use crate::segmentation::{Mask, Rle};

/// The name of the class of all pixels without an object.
const BACKGROUND: &str = "background";

/// Writes the PNGs, then the JSON file.
pub(super) fn write(
    folder: &Path,
    options: &SynthOptions,
    images: &[ImageRecord],
) -> Result<(), SynthError> {
    let json = folder.join(format!("annotations/panoptic_{}.json", options.split));
    let pictures = json.with_extension("");
    let background = categories(options).len() + 1;
    let annotations: Vec<Value> = images
        .par_iter()
        .map(|image| {
            let (picture, segments) = segments(options, image, background);
            let path = pictures.join(&image.file_name);
            let mut bytes = Cursor::new(Vec::new());
            picture
                .write_to(&mut bytes, ImageFormat::Png)
                .map_err(std::io::Error::other)
                .and_then(|()| atomic_write(&path, |file| file.write_all(bytes.get_ref())))
                .map_err(DatasetError::io(&path))?;
            Ok(json!({
                "image_id": image.id,
                "file_name": image.file_name,
                "segments_info": segments,
            }))
        })
        .collect::<Result<_, DatasetError>>()?;
    let (height, width) = (options.size.height, options.size.width);
    let images: Vec<Value> = images
        .iter()
        .map(|image| {
            let name = format!("{}/{}", options.split, image.file_name);
            json!({"id": image.id, "file_name": name, "height": height, "width": width})
        })
        .collect();
    let mut classes: Vec<Value> = categories(options)
        .iter()
        .map(|class| json!({"id": class.id, "name": class.name, "isthing": 1}))
        .collect();
    classes.push(json!({"id": background, "name": BACKGROUND, "isthing": 0}));
    let text = json!({"images": images, "annotations": annotations, "categories": classes});
    atomic_write(&json, |file| file.write_all(text.to_string().as_bytes()))
        .map_err(DatasetError::io(&json))?;
    Ok(())
}

/// Returns the picture of the segments of an image, and their list. An object that others hide has none.
fn segments(
    options: &SynthOptions,
    image: &ImageRecord,
    background: usize,
) -> (RgbImage, Vec<Value>) {
    let (size, width) = (options.size, options.size.width as usize);
    let mut numbers = vec![0u32; usize::try_from(size.pixels()).unwrap_or(0)];
    for (number, object) in (1..).zip(&image.objects) {
        let mask = object.segmentation.as_ref().and_then(|outline| outline.to_mask(size).ok());
        let bits = mask.map(|mask| mask.bits).unwrap_or_default();
        for (pixel, _) in numbers.iter_mut().zip(bits).filter(|(_, bit)| *bit != 0) {
            *pixel = number;
        }
    }
    // Neighbouring numbers are told apart by eye, too.
    let id = |number: u32| (number + 1) * 1_234_577 % (1 << 24);
    let segment = |(number, category): (u32, i64)| {
        let bits = numbers.iter().map(|&other| u8::from(other == number)).collect();
        let code = Rle::from_mask(&Mask { size, bits });
        let area = code.area();
        let bbox = code.bbox().to_array();
        (area > 0).then(|| {
            json!({"id": id(number), "category_id": category, "area": area, "bbox": bbox, "iscrowd": 0})
        })
    };
    let objects = (1..).zip(image.objects.iter().map(|object| object.category_id));
    let background = i64::try_from(background).unwrap_or(i64::MAX);
    let list = objects.chain([(0, background)]).filter_map(segment).collect();
    let picture = RgbImage::from_fn(size.width, size.height, |x, y| {
        let [r, g, b, _] = id(numbers[y as usize * width + x as usize]).to_le_bytes();
        Rgb([r, g, b])
    });
    (picture, list)
}

#[cfg(test)]
mod tests {
    use detr_types::ImageSize;

    use super::super::synthesize;
    use super::*;
    use crate::formats::{Format, ReadOptions, read};

    #[test]
    fn panoptic_annotations_are_read_again_and_share_every_pixel_once() {
        let folder = tempfile::tempdir().unwrap();
        let size = ImageSize::new(64, 80);
        let options =
            SynthOptions { images: 5, size, panoptic: true, seed: 3, ..SynthOptions::default() };
        let made = synthesize(folder.path(), &options, None).unwrap();
        // The folder is still a set of objects to whoever does not ask.
        assert!(read(folder.path(), &ReadOptions::default()).unwrap().images == made.images);
        let panoptic = ReadOptions { format: Some(Format::CocoPanoptic), ..ReadOptions::default() };
        let found = read(folder.path(), &panoptic).unwrap();
        assert!(found.report.problems.is_empty(), "{:?}", found.report);
        assert_eq!(found.categories.len(), made.categories.len() + 1);
        assert!(found.categories.iter().any(|class| !class.is_thing));
        for (image, made) in found.images.iter().zip(&made.images) {
            assert_eq!(image.path, made.path);
            assert_eq!(image.objects.len(), made.objects.len() + 1);
            let area = |object: &crate::ObjectRecord| {
                object.segmentation.as_ref().unwrap().to_mask(size).unwrap().area()
            };
            assert_eq!(image.objects.iter().map(area).sum::<u64>(), size.pixels());
        }
    }
}
