//! The content of a data set, in numbers.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use detr_types::Xywh;
use serde::Serialize;

use crate::dataset::Dataset;

/// Areas in pixels below which COCO calls objects small and medium.
const AREAS: [f64; 2] = [32.0 * 32.0, 96.0 * 96.0];

/// Statistics of a data set; crowds are counted apart from objects.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Number of images.
    pub images: usize,
    /// Images without objects.
    pub empty_images: usize,
    /// Number of objects.
    pub objects: usize,
    /// Number of crowds.
    pub crowds: usize,
    /// Objects with an outline.
    pub outlines: usize,
    /// Objects that are small, medium and large by COCO's areas, 32 and 96 pixels squared.
    pub small_medium_large: [usize; 3],
    /// Each category, by id.
    pub categories: Vec<CategoryStats>,
    /// Objects per image.
    pub objects_per_image: Summary,
    /// The number of images for each number of objects.
    pub objects_per_image_bins: Vec<Bin>,
    /// Square roots of the boxes' areas in pixels.
    pub box_side: Summary,
    /// The number of boxes for each range of side lengths, a factor of two each.
    pub box_side_bins: Vec<Bin>,
    /// Width over height of the boxes.
    pub aspect: Summary,
    /// The most frequent image sizes, `WIDTHxHEIGHT`, with the number of images; at most ten.
    pub image_sizes: Vec<(String, usize)>,
}

/// A category in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CategoryStats {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Number of objects.
    pub objects: usize,
    /// Number of images with it.
    pub images: usize,
}

/// A bar of a histogram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bin {
    /// The values it stands for.
    pub label: String,
    /// The number of items in this range.
    pub count: usize,
}

/// Smallest, quartiles and largest of some numbers, and their mean; zeros for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// The smallest.
    pub min: f64,
    /// A quarter is below.
    pub lower: f64,
    /// Half are below.
    pub median: f64,
    /// Three quarters are below.
    pub upper: f64,
    /// The largest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

impl Summary {
    #[allow(clippy::cast_precision_loss)] // counts
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let Some((&min, &max)) = values.first().zip(values.last()) else { return Self::default() };
        let at = |part: usize| values[(values.len() - 1) * part / 4];
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        Self { min, lower: at(1), median: at(2), upper: at(3), max, mean }
    }
}

impl Stats {
    /// Counts the objects of a data set.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // counts
    pub fn of(dataset: &Dataset) -> Self {
        let (mut objects_of, mut images_of) = (HashMap::new(), HashMap::new());
        let (mut sides, mut aspects, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        let (mut crowds, mut outlines, mut thirds) = (0, 0, [0; 3]);
        let mut image_sizes: BTreeMap<String, usize> = BTreeMap::new();
        for image in &dataset.images {
            let (mut present, mut count) = (BTreeSet::new(), 0_usize);
            for object in &image.objects {
                if object.iscrowd {
                    crowds += 1;
                    continue;
                }
                count += 1;
                present.insert(object.category_id);
                *objects_of.entry(object.category_id).or_insert(0) += 1;
                outlines += usize::from(object.segmentation.is_some());
                thirds[AREAS.iter().filter(|limit| object.area >= **limit).count()] += 1;
                let Xywh { w, h, .. } = object.bbox;
                if w > 0.0 && h > 0.0 {
                    sides.push((w * h).sqrt());
                    aspects.push(w / h);
                }
            }
            counts.push(count);
            for id in present {
                *images_of.entry(id).or_insert(0) += 1;
            }
            if let Some(size) = image.size {
                *image_sizes.entry(size.to_string()).or_default() += 1;
            }
        }
        let mut image_sizes: Vec<(String, usize)> = image_sizes.into_iter().collect();
        image_sizes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        image_sizes.truncate(10);
        let categories = dataset.categories.iter().map(|category| CategoryStats {
            id: category.id,
            name: category.name.clone(),
            objects: objects_of.get(&category.id).copied().unwrap_or(0),
            images: images_of.get(&category.id).copied().unwrap_or(0),
        });
        Self {
            images: dataset.images.len(),
            empty_images: counts.iter().filter(|count| **count == 0).count(),
            objects: counts.iter().sum(),
            crowds,
            outlines,
            small_medium_large: thirds,
            categories: categories.collect(),
            objects_per_image_bins: doubling(counts.iter().map(|count| *count as f64)),
            objects_per_image: Summary::of(counts.into_iter().map(|count| count as f64).collect()),
            box_side_bins: doubling(sides.iter().copied()),
            box_side: Summary::of(sides),
            aspect: Summary::of(aspects),
            image_sizes,
        }
    }
}

/// Counts in ranges that double: `0`, `1`, `2-3`, `4-7`, ... up to the largest value.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // not negative, bounded
fn doubling(values: impl Iterator<Item = f64>) -> Vec<Bin> {
    let mut bins: Vec<usize> = Vec::new();
    for value in values {
        let value = value.clamp(0.0, 1e15) as u64;
        let bin = (u64::BITS - value.leading_zeros()) as usize;
        if bins.len() <= bin {
            bins.resize(bin + 1, 0);
        }
        bins[bin] += 1;
    }
    let label = |bin: usize| match bin {
        0 => "0".to_owned(),
        1 => "1".to_owned(),
        _ => format!("{}-{}", 1_u64 << (bin - 1), (1_u64 << bin) - 1),
    };
    bins.into_iter().enumerate().map(|(bin, count)| Bin { label: label(bin), count }).collect()
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [small, medium, large] = self.small_medium_large;
        writeln!(f, "images     {:>9}  ({} without objects)", self.images, self.empty_images)?;
        writeln!(f, "objects    {:>9}  ({} with an outline)", self.objects, self.outlines)?;
        writeln!(f, "crowds     {:>9}", self.crowds)?;
        writeln!(f, "small      {small:>9}  (area below 32 x 32)")?;
        writeln!(f, "medium     {medium:>9}")?;
        writeln!(f, "large      {large:>9}  (area from 96 x 96)")?;
        let columns = ["min", "25 %", "median", "75 %", "max", "mean"];
        write!(f, "\n{:<20}", "")?;
        columns.iter().try_for_each(|column| write!(f, "{column:>10}"))?;
        for (name, s) in [
            ("objects per image", self.objects_per_image),
            ("box side, pixels", self.box_side),
            ("box width / height", self.aspect),
        ] {
            write!(f, "\n{name:<20}")?;
            for value in [s.min, s.lower, s.median, s.upper, s.max, s.mean] {
                write!(f, "{value:>10.2}")?;
            }
        }
        writeln!(f, "\n\n{:>6}  {:<24}{:>10}{:>10}", "id", "category", "objects", "images")?;
        for category in &self.categories {
            let CategoryStats { id, name, objects, images } = category;
            writeln!(f, "{id:>6}  {name:<24}{objects:>10}{images:>10}")?;
        }
        write!(f, "\nimage sizes:")?;
        self.image_sizes.iter().try_for_each(|(size, count)| write!(f, " {size} ({count})"))
    }
}
