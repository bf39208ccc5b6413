//! Data sets made of a seed, number for number as in `benches/peers/coco_eval_pycocotools.py`:
//! what is changed here is changed there. All arithmetic is on integers; coordinates are quarters
//! of a pixel, so that their floats are exact.

#![allow(
    dead_code, // each user has its own half
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss, // small numbers
    clippy::unwrap_used // the sets are consistent
)]

use detr_eval::{
    Category, EvalDetection, GroundTruth, ImageTruth, IouKind, Mask, Results, TruthObject,
};
use detr_types::{ImageSize, Xywh};

/// Ground truth with results for it.
pub(crate) struct Set {
    pub(crate) truth: GroundTruth,
    pub(crate) results: Results,
}

/// The splitmix64 generator.
struct Stream(u64);

impl Stream {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 33) % bound as u64) as i64
    }

    fn score(&mut self) -> f64 {
        // Often one of few values, so that ties occur.
        let steps = if self.below(2) == 0 { 64 } else { 1 << 20 };
        self.below(steps) as f64 / steps as f64
    }
}

/// A box in quarters of a pixel.
#[derive(Clone, Copy)]
struct Quarters {
    x: i64,
    y: i64,
    w: i64,
    h: i64,
}

impl Quarters {
    /// Draws a small, medium or large box inside the image.
    fn random(stream: &mut Stream, size: ImageSize) -> Self {
        let (low, high) = [(4, 32), (32, 96), (96, 200)][stream.below(3) as usize];
        let side = |stream: &mut Stream, limit: u32| {
            (4 * low + stream.below(4 * (high - low))).min(4 * i64::from(limit))
        };
        let (w, h) = (side(stream, size.width), side(stream, size.height));
        let x = stream.below(4 * i64::from(size.width) - w + 1);
        let y = stream.below(4 * i64::from(size.height) - h + 1);
        Self { x, y, w, h }
    }

    /// Returns the box, moved and resized by up to an eighth of its sides.
    fn shaken(self, stream: &mut Stream) -> Self {
        let mut shake = |side: i64| stream.below(2 * (side / 8) + 1) - side / 8;
        let (x, y) = (self.x + shake(self.w), self.y + shake(self.h));
        let (w, h) = (self.w + shake(self.w), self.h + shake(self.h));
        Self { x, y, w, h }
    }

    fn pixels(self) -> Xywh<f64> {
        [self.x, self.y, self.w, self.h].map(|quarters| quarters as f64 / 4.0).into()
    }

    /// Returns the outline of the box with the corners moved inwards, and sometimes one more
    /// inside, which may cross itself.
    fn polygons(self, stream: &mut Stream) -> Mask {
        let mut outline = Vec::new();
        for (right, bottom) in [(false, false), (true, false), (true, true), (false, true)] {
            let (dx, dy) = (stream.below(self.w / 6 + 1), stream.below(self.h / 6 + 1));
            let x = self.x + if right { self.w - dx } else { dx };
            let y = self.y + if bottom { self.h - dy } else { dy };
            outline.extend([x as f64 / 4.0, y as f64 / 4.0]);
        }
        let mut polygons = vec![outline];
        if stream.below(4) == 0 {
            let mut inside = Vec::new();
            for _ in 0..3 + stream.below(4) {
                let (dx, dy) = (stream.below(self.w + 1), stream.below(self.h + 1));
                inside.extend([(self.x + dx) as f64 / 4.0, (self.y + dy) as f64 / 4.0]);
            }
            polygons.push(inside);
        }
        Mask::Polygons(polygons)
    }

    /// Returns the whole pixels of the box in the image, with a corner cut off.
    fn runs(self, stream: &mut Stream, size: ImageSize) -> Mask {
        let (width, height) = (i64::from(size.width), i64::from(size.height));
        let cut = stream.below(5);
        let (left, top) = (self.x >> 2, self.y >> 2);
        let (right, bottom) = (left + (self.w >> 2).max(1), top + (self.h >> 2).max(1));
        let mut counts: Vec<u32> = Vec::new();
        let mut background = 0;
        for x in 0..width {
            let start = if x < left { bottom } else { top + (x - left) * cut / 16 };
            let (start, end) = (start.clamp(0, height), bottom.clamp(0, height));
            if x >= right || start >= end {
                background += height;
                continue;
            }
            counts.extend([(background + start) as u32, (end - start) as u32]);
            background = height - end;
        }
        counts.push(background as u32);
        Mask::Runs { size, counts: joined(&counts) }
    }
}

/// Removes empty runs of background between two runs.
fn joined(counts: &[u32]) -> Vec<u32> {
    let mut joined: Vec<u32> = Vec::new();
    let mut index = 0;
    while index < counts.len() {
        if index > 0 && index % 2 == 0 && counts[index] == 0 && index + 1 < counts.len() {
            *joined.last_mut().unwrap() += counts[index + 1];
            index += 2;
        } else {
            joined.push(counts[index]);
            index += 1;
        }
    }
    joined
}

/// The sizes that a generated set is drawn with.
struct Plan {
    images: i64,
    classes: i64,
    /// More objects than this are in no image.
    objects: i64,
    size: Option<ImageSize>,
    /// Detections of every image, or as many as come.
    detections: Option<usize>,
    iou: IouKind,
}

/// Draws a small set for parity.
pub(crate) fn random_set(seed: u64, iou: IouKind) -> Set {
    let kind = if iou == IouKind::Segm { 2 } else { 1 };
    let mut stream = Stream(seed.wrapping_mul(1_000_003).wrapping_add(kind));
    let images = 1 + stream.below(6);
    let classes = 1 + stream.below(5);
    let crowded = if seed.is_multiple_of(50) { Some(130) } else { None };
    let plan = Plan { images, classes, objects: 6, size: None, detections: crowded, iou };
    draw(&mut stream, &plan)
}

/// Draws a large set of boxes for timing: 80 classes, up to 14 objects in an image of 640x480.
pub(crate) fn large_set(images: i64, detections: usize) -> Set {
    let size = Some(ImageSize::new(480, 640));
    let iou = IouKind::Bbox;
    let detections = Some(detections);
    draw(&mut Stream(7), &Plan { images, classes: 80, objects: 14, size, detections, iou })
}

fn draw(stream: &mut Stream, plan: &Plan) -> Set {
    let class_ids: Vec<i64> = (0..plan.classes).map(|k| 7 * k + 1 + stream.below(7)).collect();
    let category = |&id: &i64| Category { id, name: format!("class {id}") };
    let categories = class_ids.iter().map(category).collect();
    let class = |stream: &mut Stream| class_ids[stream.below(plan.classes) as usize];
    let mut images = Vec::new();
    let mut results = Results::default();
    let mut annotation = 0;
    for index in 0..plan.images {
        let image_id = 10 * index + 1 + stream.below(10);
        let size = plan.size.unwrap_or_else(|| {
            let mut side = || match plan.iou {
                IouKind::Bbox => 200 + stream.below(400) as u32,
                IouKind::Segm => 40 + stream.below(120) as u32,
            };
            ImageSize::new(side(), side())
        });
        let mut objects = Vec::new();
        let mut places = Vec::new();
        for _ in 0..stream.below(plan.objects + 1) {
            let place = Quarters::random(stream, size);
            let category_id = class(stream);
            let iscrowd = stream.below(8) == 0;
            let area = place.pixels().area() * (4 + stream.below(5)) as f64 / 8.0;
            let mask = (plan.iou == IouKind::Segm)
                .then(|| if iscrowd { place.runs(stream, size) } else { place.polygons(stream) });
            annotation += 1;
            objects.push(TruthObject {
                id: annotation,
                category_id,
                bbox: place.pixels(),
                area: Some(area),
                iscrowd,
                mask,
            });
            places.push((place, category_id));
        }
        images.push(ImageTruth { id: image_id, size: Some(size), objects });

        let mut found = Vec::new();
        for &(place, category_id) in &places {
            for _ in 0..stream.below(4) {
                let place = place.shaken(stream);
                let other = stream.below(8) == 0;
                found.push((place, if other { class(stream) } else { category_id }));
            }
        }
        let more = stream.below(6) as usize + usize::from(index == 0);
        let total = plan.detections.unwrap_or(found.len() + more);
        found.truncate(total);
        // The crowds of crowded small sets are of one class, to meet the limit of 100.
        let crowd_class = class(stream);
        while found.len() < total {
            let of_crowd = plan.size.is_none() && plan.detections.is_some();
            let place = Quarters::random(stream, size);
            found.push((place, if of_crowd { crowd_class } else { class(stream) }));
        }
        let detected = found.into_iter().map(|(place, category_id)| {
            let score = stream.score();
            let mask = (plan.iou == IouKind::Segm).then(|| place.runs(stream, size));
            let bbox = mask.is_none().then(|| place.pixels());
            EvalDetection { category_id, score, bbox, mask }
        });
        results.images.insert(image_id, detected.collect());
    }
    Set { truth: GroundTruth::new(images, categories).unwrap(), results }
}
