//! Panoptic quality (Kirillov et al. 2019, <https://arxiv.org/abs/1801.00868>) of predictions in COCO's panoptic format,
//! as `pq_compute` of the original code computes it.
//!
//! A predicted segment matches one of the truth if both have the same category and overlap by more than one half, void
//! left out. PQ is the sum of these overlaps over `TP + FP/2 + FN/2`, SQ their mean, RQ is `TP / (TP + FP/2 + FN/2)`.
//! Averages are over the categories that have a segment on either side.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::EvalError;
use crate::engine::panoptic;

/// A panoptic JSON file, and the folder of its PNG files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PanopticFiles {
    /// The JSON file.
    pub json: PathBuf,
    /// The folder of PNG files.
    pub pictures: PathBuf,
}

impl PanopticFiles {
    /// Returns a JSON file with PNG files in the folder that is named like it, as COCO has them.
    #[must_use]
    pub fn of(json: &Path) -> Self {
        Self { json: json.to_owned(), pictures: json.with_extension("") }
    }
}

/// The panoptic quality of a set of categories, or of one.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PanopticQuality {
    /// Panoptic quality, 0 to 1.
    pub pq: f64,
    /// Segmentation quality, 0 to 1: how well matched segments overlap.
    pub sq: f64,
    /// Recognition quality, 0 to 1: how many segments are matched.
    pub rq: f64,
}

/// The panoptic quality of some categories together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PanopticMean {
    /// The means; `None` if no category has a segment on either side.
    #[serde(flatten)]
    pub quality: Option<PanopticQuality>,
    /// The number of categories that are averaged over.
    pub categories: usize,
}

/// The panoptic quality of one category.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PanopticClass {
    /// Id of the category.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Whether it is countable.
    pub is_thing: bool,
    /// Its quality; `None` if it has no segment on either side.
    #[serde(flatten)]
    pub quality: Option<PanopticQuality>,
    /// Matched segments.
    pub true_positives: u64,
    /// Predicted segments without a match.
    pub false_positives: u64,
    /// Segments of the truth without a match.
    pub false_negatives: u64,
}

/// The panoptic quality of predictions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PanopticMetrics {
    /// Over all categories.
    pub all: PanopticMean,
    /// Over things.
    pub things: PanopticMean,
    /// Over stuff.
    pub stuff: PanopticMean,
    /// Every category of the truth, by ascending id.
    pub classes: Vec<PanopticClass>,
    /// The number of images.
    pub images: usize,
}

/// Compares predictions with the truth. The categories are those of the truth.
///
/// # Errors
/// A file that cannot be read, an image without prediction, a PNG that lacks a segment of its list or has one more, and a
/// category that the truth does not have.
pub fn panoptic_quality(
    truth: &PanopticFiles,
    predictions: &PanopticFiles,
) -> Result<PanopticMetrics, EvalError> {
    panoptic::quality(truth, predictions)
}

impl PanopticMetrics {
    /// Returns a line for every category that has a segment on either side.
    #[must_use]
    pub fn class_table(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for class in self.classes.iter().filter(|class| class.quality.is_some()) {
            text += &line(&class.name, class.quality, "");
        }
        text
    }

    /// Returns the means as text, and the categories if they are wanted.
    #[must_use]
    pub fn report(&self, per_class: bool) -> String {
        let classes = if per_class { format!("\n{}", self.class_table()) } else { String::new() };
        format!("{self}{classes}")
    }
}

const HEAD: &str = "                          PQ      SQ      RQ";

fn line(name: &str, quality: Option<PanopticQuality>, rest: &str) -> String {
    let number = |of: fn(&PanopticQuality) -> f64| {
        quality.as_ref().map_or_else(|| "-".to_owned(), |q| format!("{:.4}", of(q)))
    };
    let (pq, sq, rq) = (number(|q| q.pq), number(|q| q.sq), number(|q| q.rq));
    format!("{name:<20} {pq:>7} {sq:>7} {rq:>7}{rest}\n")
}

impl fmt::Display for PanopticMetrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{HEAD}  categories\n");
        for (name, mean) in [("all", self.all), ("things", self.things), ("stuff", self.stuff)] {
            text += &line(name, mean.quality, &format!("  {:>10}", mean.categories));
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::{Value, json};

    use super::*;

    /// The file that `benches/peers/panoptic_sets.py` writes.
    #[derive(Deserialize)]
    struct Fixture {
        height: u32,
        width: u32,
        sets: Vec<Set>,
    }

    /// Picture and segments of the truth, then those of the prediction.
    type Image = (String, Vec<(char, i64, u8)>, String, Vec<(char, i64)>);

    #[derive(Deserialize)]
    struct Set {
        categories: Vec<(i64, u8)>,
        images: Vec<Image>,
        expected: Value,
    }

    fn id(letter: char) -> u32 {
        if letter == '.' { 0 } else { (u32::from(letter) - 96) * 70_001 % (1 << 24) }
    }

    fn write(folder: &Path, side: &str, sets: &Fixture, set: &Set) -> PanopticFiles {
        let files = PanopticFiles::of(&folder.join(format!("{side}.json")));
        std::fs::create_dir_all(&files.pictures).unwrap();
        let info = |letter: char, category: i64, crowd: u8, picture: &str| {
            let area = picture.chars().filter(|other| *other == letter).count();
            json!({"id": id(letter), "category_id": category, "area": area, "iscrowd": crowd})
        };
        let annotation = |(at, image): (usize, &Image)| {
            let (truth, of_truth, found, of_found) = image;
            let (picture, segments): (&str, Vec<Value>) = if side == "truth" {
                (truth, of_truth.iter().map(|&(l, c, crowd)| info(l, c, crowd, truth)).collect())
            } else {
                (found, of_found.iter().map(|&(l, c)| info(l, c, 0, found)).collect())
            };
            let name = format!("{at}.png");
            let pixels: Vec<u8> =
                picture.chars().flat_map(|letter| id(letter).to_le_bytes()[..3].to_vec()).collect();
            image::save_buffer(
                files.pictures.join(&name),
                &pixels,
                sets.width,
                sets.height,
                image::ColorType::Rgb8,
            )
            .unwrap();
            json!({"image_id": at, "file_name": name, "segments_info": segments})
        };
        let annotations: Vec<Value> = set.images.iter().enumerate().map(annotation).collect();
        let images: Vec<Value> = (0..set.images.len())
            .map(|at| json!({"id": at, "height": sets.height, "width": sets.width, "file_name": "x"}))
            .collect();
        let categories: Vec<Value> = set
            .categories
            .iter()
            .map(|(id, thing)| json!({"id": id, "name": format!("c{id}"), "isthing": thing}))
            .collect();
        let json = json!({"images": images, "annotations": annotations, "categories": categories});
        std::fs::write(&files.json, json.to_string()).unwrap();
        files
    }

    #[track_caller]
    fn check(expected: &Value, found: Option<PanopticQuality>) {
        let found = found.map(|q| [q.pq, q.sq, q.rq]).unwrap_or_default();
        for (at, found) in found.into_iter().enumerate() {
            let expected = expected[at].as_f64().unwrap_or(0.0);
            assert!((expected - found).abs() < 1e-9, "{at}: {expected} {found}");
        }
    }

    #[test]
    fn two_hundred_sets_have_the_quality_of_the_original_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/panoptic_sets.json");
        let sets: Fixture = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(sets.sets.len(), 200);
        let mut matched = 0;
        for set in &sets.sets {
            let folder = tempfile::tempdir().unwrap();
            let truth = write(folder.path(), "truth", &sets, set);
            let found = write(folder.path(), "found", &sets, set);
            let quality = panoptic_quality(&truth, &found).unwrap();
            for (name, mean) in
                [("all", quality.all), ("things", quality.things), ("stuff", quality.stuff)]
            {
                let expected = &set.expected[name];
                check(expected, mean.quality);
                assert_eq!(expected[3].as_u64().unwrap_or(0), mean.categories as u64, "{name}");
                assert_eq!(expected.is_null(), mean.quality.is_none(), "{name}");
            }
            for class in &quality.classes {
                check(&set.expected["classes"][class.id.to_string()], class.quality);
                matched += class.true_positives;
            }
            assert_eq!(quality.images, set.images.len());
        }
        assert!(matched > 200, "{matched}");
    }

    #[test]
    fn files_that_disagree_are_refused_with_file_and_id() {
        let sets = Fixture { height: 2, width: 3, sets: Vec::new() };
        let segment = ('a', 1, 0);
        let base = || Set {
            categories: vec![(1, 1)],
            images: vec![("aa.aa.".into(), vec![segment], "aa.aa.".into(), vec![('a', 1)])],
            expected: Value::Null,
        };
        let error = |change: fn(&mut Set)| {
            let folder = tempfile::tempdir().unwrap();
            let truth = write(folder.path(), "truth", &sets, &base());
            let mut set = base();
            change(&mut set);
            let found = write(folder.path(), "found", &sets, &set);
            panoptic_quality(&truth, &found).unwrap_err().to_string()
        };
        for (change, parts) in [
            ((|set| set.images.clear()) as fn(&mut Set), ["image", "0"]),
            (|set| set.images[0].3.clear(), ["70001", "image 0"]),
            (|set| set.images[0].3.push(('b', 1)), ["140002", "image 0"]),
            (|set| set.images[0].3[0].1 = 9, ["9", "image 0"]),
        ] {
            let text = error(change);
            assert!(text.contains("hint: "), "{text}");
            assert!(text.contains("found.json"), "{text}");
            assert!(parts.iter().all(|part| text.contains(part)), "{parts:?}: {text}");
        }
        let folder = tempfile::tempdir().unwrap();
        let truth = write(folder.path(), "truth", &sets, &base());
        let found = write(folder.path(), "found", &sets, &base());
        std::fs::remove_file(found.pictures.join("0.png")).unwrap();
        let text = panoptic_quality(&truth, &found).unwrap_err().to_string();
        assert!(text.contains("0.png") && text.contains("hint: "), "{text}");
        for (bytes, part) in [(&b"{"[..], "found.json"), (b"{\"annotations\": 3}", "found.json")] {
            std::fs::write(&found.json, bytes).unwrap();
            let text = panoptic_quality(&truth, &found).unwrap_err().to_string();
            assert!(text.contains(part) && text.contains("hint: "), "{text}");
        }
    }
}
