//! Tells boxes of results that are written in another form than COCO's left, top, width and height in pixels. Such
//! results score 0, and nothing else says why.

use std::fmt;

use detr_types::{Cxcywh, Xywh, Xyxy};

use crate::results::{EvalDetection, Results};
use crate::truth::{GroundTruth, ImageTruth};

/// A form of boxes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BoxForm {
    /// Left, top, right and bottom in pixels.
    Corners,
    /// The centre, width and height in pixels.
    Centres,
    /// Numbers relative to the size of the image.
    Relative,
}

impl fmt::Display for BoxForm {
    /// Writes what such boxes look like, and what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Corners => {
                "look like corners (left, top, right, bottom): width = right - left, height = bottom - top"
            }
            Self::Centres => {
                "look like centres with width and height: left = x - width / 2, top = y - height / 2"
            }
            Self::Relative => {
                "are all below 1.5 pixels, as if relative to the image: multiply x and width by its width, \
                 y and height by its height"
            }
        })
    }
}

/// Share of boxes that reach over the border, or of objects that are met, from which another form is suspected.
const SUSPICIOUS: f64 = 0.3;
/// Relative numbers end at 1; a little more may be rounding.
const RELATIVE: f64 = 1.5;
/// Overlap from which a box meets an object.
const MEETS: f64 = 0.5;
/// Detections that are looked at; more would tell nothing new.
const LOOKED_AT: usize = 20_000;

/// Returns the form that the boxes of the results seem to have, or none if it is the right one or cannot be told.
#[must_use]
pub fn suspected_form(results: &Results, truth: &GroundTruth) -> Option<BoxForm> {
    let mut tally = FormCounts::default();
    for image in truth.images() {
        if tally.boxes >= LOOKED_AT {
            break;
        }
        if let Some(found) = results.images.get(&image.id) {
            tally.add(image, found);
        }
    }
    tally.verdict()
}

/// The counts.
#[derive(Default)]
struct FormCounts {
    boxes: usize,
    /// Boxes that reach over the border, and would not as corners.
    over: usize,
    /// The largest number of any box, and of any object.
    largest: [f64; 2],
    objects: usize,
    /// Objects that a box meets: as it stands, as corners, as centre and size.
    met: [usize; 3],
}

impl FormCounts {
    fn add(&mut self, image: &ImageTruth, found: &[EvalDetection]) {
        let boxes: Vec<[f64; 4]> =
            found.iter().filter_map(|found| found.bbox).map(Xywh::to_array).collect();
        self.boxes += boxes.len();
        let largest = |numbers: [f64; 4]| numbers.into_iter().map(f64::abs).fold(0.0, f64::max);
        for &numbers in &boxes {
            let [x, y, w, h] = numbers;
            self.largest[0] = self.largest[0].max(largest(numbers));
            if let Some(size) = image.size {
                let (width, height) = (f64::from(size.width), f64::from(size.height));
                let over = x + w > width + 1.0 || y + h > height + 1.0;
                self.over += usize::from(over && w > x && h > y && w <= width && h <= height);
            }
        }
        for object in image.objects.iter().filter(|object| !object.iscrowd) {
            self.largest[1] = self.largest[1].max(largest(object.bbox.to_array()));
            self.objects += 1;
            let object = object.bbox.to_xyxy().to_array();
            let meets = |form: fn([f64; 4]) -> Xyxy<f64>| {
                boxes.iter().any(|&numbers| iou(form(numbers).to_array(), object) >= MEETS)
            };
            let forms: [fn([f64; 4]) -> Xyxy<f64>; 3] =
                [|numbers| Xywh::from(numbers).to_xyxy(), Xyxy::from, corners_of_centre];
            for (met, form) in self.met.iter_mut().zip(forms) {
                *met += usize::from(meets(form));
            }
        }
    }

    #[allow(clippy::cast_precision_loss)] // shares
    fn verdict(&self) -> Option<BoxForm> {
        if self.boxes == 0 {
            return None;
        }
        if self.largest[0] < RELATIVE {
            return (self.largest[1] >= RELATIVE).then_some(BoxForm::Relative);
        }
        let [as_stated, as_corners, as_centres] = self.met;
        // A name that fits as it stands is right, whatever else it might be.
        let explains =
            |met: usize| met > 2 * as_stated && met as f64 >= SUSPICIOUS * self.objects as f64;
        let over = self.over as f64 > SUSPICIOUS * self.boxes as f64;
        if (over && as_corners >= as_stated) || (explains(as_corners) && as_corners >= as_centres) {
            return Some(BoxForm::Corners);
        }
        explains(as_centres).then_some(BoxForm::Centres)
    }
}

fn corners_of_centre(numbers: [f64; 4]) -> Xyxy<f64> {
    let [x, y, w, h] = Cxcywh::from(numbers).to_array();
    Xyxy::from([x - w / 2.0, y - h / 2.0, x + w / 2.0, y + h / 2.0])
}

/// Returns the intersection over union of corners; 0 if a box has no inside.
fn iou(a: [f64; 4], b: [f64; 4]) -> f64 {
    let side = |low: usize, high: usize| (a[high].min(b[high]) - a[low].max(b[low])).max(0.0);
    let area = |c: [f64; 4]| (c[2] - c[0]).max(0.0) * (c[3] - c[1]).max(0.0);
    let common = side(0, 2) * side(1, 3);
    let union = area(a) + area(b) - common;
    if union > 0.0 { common / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use detr_types::ImageSize;

    use super::*;
    use crate::truth::{Category, TruthObject};

    const BOXES: [[f64; 4]; 3] =
        [[100.0, 120.0, 80.0, 60.0], [300.0, 200.0, 120.0, 150.0], [20.0, 30.0, 60.0, 90.0]];

    fn truth(boxes: &[[f64; 4]], size: Option<ImageSize>) -> GroundTruth {
        let object = |(id, &bbox): (i64, &[f64; 4])| TruthObject {
            id,
            category_id: 1,
            bbox: bbox.into(),
            area: None,
            iscrowd: false,
            mask: None,
        };
        let objects = (1..).zip(boxes).map(object).collect();
        let category = Category { id: 1, name: "car".to_owned() };
        GroundTruth::new(vec![ImageTruth { id: 1, size, objects }], vec![category]).unwrap()
    }

    fn results(boxes: impl IntoIterator<Item = [f64; 4]>) -> Results {
        let found = |bbox: [f64; 4]| EvalDetection {
            category_id: 1,
            score: 0.5,
            bbox: Some(bbox.into()),
            mask: None,
        };
        Results { images: [(1, boxes.into_iter().map(found).collect())].into() }
    }

    #[test]
    fn other_forms_are_told_with_and_without_sizes() {
        let size = Some(ImageSize::new(480, 640));
        for size in [size, None] {
            let truth = truth(&BOXES, size);
            let form = |f: fn([f64; 4]) -> [f64; 4]| suspected_form(&results(BOXES.map(f)), &truth);
            assert_eq!(form(|b| b), None);
            assert_eq!(form(|[x, y, w, h]| [x + 3.0, y - 2.0, w, h]), None);
            assert_eq!(form(|[x, y, w, h]| [x, y, x + w, y + h]), Some(BoxForm::Corners));
            let centres = form(|[x, y, w, h]| [x + w / 2.0, y + h / 2.0, w, h]);
            assert_eq!(centres, Some(BoxForm::Centres));
            let relative = form(|[x, y, w, h]| [x / 640.0, y / 480.0, w / 640.0, h / 480.0]);
            assert_eq!(relative, Some(BoxForm::Relative));
            assert_eq!(
                form(|[x, y, w, h]| [x / 640.0, y / 480.0, (x + w) / 640.0, (y + h) / 480.0]),
                Some(BoxForm::Relative)
            );
        }
        // Wrong places explain nothing, and objects may be as small as that.
        let far = truth(&BOXES, size);
        assert_eq!(suspected_form(&results([[500.0, 10.0, 20.0, 20.0]; 9]), &far), None);
        assert_eq!(suspected_form(&results([]), &far), None);
        let tiny = truth(&[[0.0, 0.0, 1.0, 1.0]], size);
        assert_eq!(suspected_form(&results([[0.0, 0.0, 1.0, 1.0]]), &tiny), None);
    }
}
