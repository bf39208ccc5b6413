//! COCO panoptic annotations: segments with their boxes from the JSON file, and their pixels from the PNG files.
//! A PNG and its list of segments have to agree, since a segment that is missing on either side would be learned as
//! nothing, or as background.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use detr_types::ImageSize;
use image::Rgb;
use rayon::prelude::*;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::coco::lenient::{Flag, Int, Num};
use super::coco::{self, Place, locate};
use super::paths::DatasetRoot;
use super::{DatasetError, Format, ReadOptions};
use crate::dataset::{Builder, Dataset, ObjectRecord, Problem};
use crate::decode::{DecodeOptions, ImageError, decode_image, read_file};
use crate::segmentation::{Rle, Segmentation};

/// A panoptic data set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Panoptic {
    /// Images with their segments as objects, whose ids are unique per image. They have outlines, unless their PNG is not
    /// there or files are not looked at ([`ReadOptions::check_files`]). Categories that are not things are "stuff".
    pub dataset: Dataset,
    /// PNG of segment ids (`id = R + 256 G + 65536 B`) by image id.
    pub segments: BTreeMap<i64, PathBuf>,
}

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    images: Vec<&'a RawValue>,
    #[serde(borrow)]
    annotations: Vec<&'a RawValue>,
    #[serde(borrow, default)]
    categories: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Annotation<'a> {
    image_id: Int,
    #[serde(borrow)]
    file_name: Cow<'a, str>,
    segments_info: Vec<Segment>,
}

#[derive(Deserialize)]
struct Segment {
    id: Int,
    category_id: Int,
    bbox: [Num; 4],
    area: Num,
    iscrowd: Option<Flag>,
}

/// Returns whether a JSON file holds segments rather than objects.
pub(super) fn is_panoptic(text: &str) -> bool {
    text.contains("\"segments_info\"")
}

/// Reads a file. The PNGs are looked for in `segments`, or in a folder named like the file.
///
/// # Errors
/// A file that is not what it should be.
pub fn read_panoptic(
    path: &Path,
    segments: Option<&Path>,
    options: &ReadOptions,
) -> Result<Panoptic, DatasetError> {
    read(path, &coco::read_text(path, options)?, segments, options)
}

/// Reads the text of a file.
pub(super) fn read(
    path: &Path,
    text: &str,
    segments: Option<&Path>,
    options: &ReadOptions,
) -> Result<Panoptic, DatasetError> {
    let file: File<'_> = coco::parse(path, text)?;
    let place = Place { path, text };
    let mut builder = Builder::new(format!("{} {}", Format::CocoPanoptic, path.display()));
    coco::categories(&mut builder, place, &file.categories);
    coco::add_images(&mut builder, place, &file.images, options)?;
    let beside = path.with_extension("");
    let masks = segments.unwrap_or(&beside);
    let masks = DatasetRoot::new(masks, options.allow_outside, options.check_files)
        .map_err(DatasetError::io(masks))?;
    let mut files = BTreeMap::new();
    let mut pictures = Vec::new();
    for annotation in
        place.records::<Annotation<'_>>("annotations", &file.annotations, &mut builder)
    {
        let image_id = annotation.image_id.0;
        let located = locate(&mut builder, &masks, image_id, &annotation.file_name);
        let path = located.map(|located| located.path);
        if let Some(path) = &path {
            files.insert(image_id, path.clone());
        }
        let path = path.filter(|path| options.check_files && path.is_file());
        let size = builder.size_of(image_id);
        pictures.push((image_id, size, path, annotation.segments_info));
    }
    let bytes = options.limits.file_bytes;
    let read: Vec<Option<Outlines>> = pictures
        .par_iter()
        .map(|(_, size, path, segments)| {
            let ids: Vec<i64> = segments.iter().map(|segment| segment.id.0).collect();
            path.as_ref().map(|path| outlines(path, *size, &ids, bytes))
        })
        .collect();
    for ((image_id, _, path, segments), read) in pictures.into_iter().zip(read) {
        let mut outlines = None;
        match read {
            Some(Ok(found)) => outlines = Some(found.into_iter()),
            Some(Err(problems)) => {
                let name = path.unwrap_or_default();
                let name = name.display();
                for (problem, text) in problems {
                    builder.report.add(problem, format_args!("{name}: {text}"));
                }
            }
            None => {}
        }
        for segment in segments {
            let object = ObjectRecord {
                id: segment.id.0,
                category_id: segment.category_id.0,
                bbox: segment.bbox.map(|value| value.0).into(),
                area: segment.area.0,
                iscrowd: segment.iscrowd.is_some_and(|flag| flag.0),
                segmentation: outlines
                    .as_mut()
                    .and_then(std::iter::Iterator::next)
                    .map(Segmentation::Segment),
            };
            builder.segment(image_id, object);
        }
    }
    Ok(Panoptic { dataset: builder.finish(), segments: files })
}

/// The outlines of the segments of a picture, or what is wrong with it.
type Outlines = Result<Vec<Rle>, Vec<(Problem, String)>>;

/// Reads the pixels of the segments with these ids, in their order.
fn outlines(path: &Path, size: Option<ImageSize>, ids: &[i64], most_bytes: u64) -> Outlines {
    let (size, pixels) =
        picture(path, size, most_bytes).map_err(|text| vec![(Problem::BadSegmentPicture, text)])?;
    let mut wrong = Vec::new();
    let mut runs: BTreeMap<u32, Vec<[u32; 2]>> = BTreeMap::new();
    for &id in ids {
        match u32::try_from(id).ok().filter(|id| (1..1 << 24).contains(id)) {
            None => wrong.push((Problem::BadSegmentId, format!("segment {id}"))),
            Some(key) => {
                if runs.insert(key, Vec::new()).is_some() {
                    wrong.push((Problem::BadSegmentId, format!("segment {id} is listed twice")));
                }
            }
        }
    }
    let mut unlisted = BTreeSet::new();
    for (id, run) in column_runs(&pixels, size) {
        match runs.get_mut(&id) {
            Some(runs) => runs.push(run),
            None if id == 0 => {}
            None => drop(unlisted.insert(id)),
        }
    }
    wrong.extend(unlisted.iter().map(|id| (Problem::UnlistedSegment, format!("id {id}"))));
    let empty = runs.iter().filter(|(_, runs)| runs.is_empty());
    wrong.extend(empty.map(|(id, _)| (Problem::SegmentWithoutPixels, format!("segment {id}"))));
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let code = |id: &i64| u32::try_from(*id).ok().and_then(|id| runs.get(&id));
    Ok(ids.iter().filter_map(code).map(|runs| run_lengths(runs, size)).collect())
}

/// Reads a PNG of ids, row by row. Palettes and 16-bit samples are refused, since it is not said how they would stand for
/// ids.
fn picture(
    path: &Path,
    stated: Option<ImageSize>,
    most_bytes: u64,
) -> Result<(ImageSize, Vec<u32>), String> {
    // The bit depth and the colour type stand behind the size, in the first chunk.
    const DEPTH: usize = 24;
    let bytes = read_file(path, most_bytes).map_err(|error| bare(&error))?;
    if !bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Err("it is no PNG".to_owned());
    }
    match bytes.get(DEPTH..DEPTH + 2) {
        Some([8, 2 | 6]) => {}
        Some([16, _]) => return Err("its samples have 16 bits".to_owned()),
        Some([_, 3]) => return Err("it has a palette".to_owned()),
        Some([_, 0 | 4]) => return Err("it is grey".to_owned()),
        _ => return Err("it is no PNG of 8-bit colours".to_owned()),
    }
    let pixels = decode_image(&bytes, &DecodeOptions::default()).map_err(|error| bare(&error))?;
    let size = ImageSize::new(pixels.height(), pixels.width());
    match stated {
        Some(stated) if stated != size => Err(format!("it is {size}, its image {stated}")),
        _ => {
            let ids = pixels.pixels().map(|&Rgb([r, g, b])| u32::from_le_bytes([r, g, b, 0]));
            Ok((size, ids.collect()))
        }
    }
}

/// Returns the first line of an error, without the path.
fn bare(error: &ImageError) -> String {
    let text = match error {
        ImageError::At { error, .. } => error.to_string(),
        error => error.to_string(),
    };
    text.lines().next().unwrap_or_default().to_owned()
}

/// Walks over the runs of equal ids, column by column: id, and first pixel and length of the run.
fn column_runs(pixels: &[u32], size: ImageSize) -> Vec<(u32, [u32; 2])> {
    let (height, width) = (size.height as usize, size.width as usize);
    let mut runs: Vec<(u32, [u32; 2])> = Vec::new();
    let columns = (0..width).flat_map(|x| (0..height).map(move |y| y * width + x));
    for (at, pixel) in (0u32..).zip(columns) {
        let id = pixels[pixel];
        match runs.last_mut() {
            Some((last, [_, length])) if *last == id => *length += 1,
            _ => runs.push((id, [at, 1])),
        }
    }
    runs
}

/// Makes the run-length code of the runs of one segment.
fn run_lengths(runs: &[[u32; 2]], size: ImageSize) -> Rle {
    let mut counts = Vec::with_capacity(2 * runs.len() + 1);
    let mut at = 0;
    for &[start, length] in runs {
        counts.extend([start - at, length]);
        at = start + length;
    }
    let pixels = u32::try_from(size.pixels()).unwrap_or(u32::MAX);
    if at < pixels {
        counts.push(pixels - at);
    }
    Rle { size, counts }
}
