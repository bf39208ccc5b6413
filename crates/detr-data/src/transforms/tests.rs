//! Transforms as a whole: what stays true for every draw, and how draws are distributed.

#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)] // small

use proptest::prelude::*;

use super::*;
use crate::resize::Region;

/// Makes an image with boxes, and masks that are the boxes' pixels.
fn sample(width: u32, height: u32, boxes: &[(f32, f32, f32, f32)]) -> Sample {
    let size = ImageSize::new(height, width);
    let image = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb([(x * 7 + y * 3) as u8, (x * y) as u8, (x + y) as u8])
    });
    let (w, h) = (width as f32, height as f32);
    let objects = boxes.iter().enumerate().map(|(label, &(x, y, bw, bh))| {
        let bbox = Xyxy { x1: x * w, y1: y * h, x2: (x + bw * (1.0 - x)) * w, y2: 0.0 };
        let bbox = Xyxy { y2: (y + bh * (1.0 - y)) * h, ..bbox };
        let inside = |x: u32, y: u32| {
            let (x, y) = (x as f32, y as f32);
            x >= bbox.x1 && x < bbox.x2 && y >= bbox.y1 && y < bbox.y2
        };
        let bits = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let bits = bits.map(|(x, y)| u8::from(inside(x, y))).collect();
        Object { bbox, label, area: bbox.area(), iscrowd: false, mask: Some(Mask { size, bits }) }
    });
    let objects = objects.collect();
    Sample { image_id: 1, original_size: size, has_masks: true, image, objects }
}

fn boxes() -> impl Strategy<Value = Vec<(f32, f32, f32, f32)>> {
    prop::collection::vec((0.0f32..0.9, 0.0f32..0.9, 0.05f32..1.0, 0.05f32..1.0), 0..6)
}

#[track_caller]
fn check_consistent(sample: &Sample) {
    let size = sample.size();
    for object in &sample.objects {
        let Xyxy { x1, y1, x2, y2 } = object.bbox;
        assert!(0.0 <= x1 && x1 < x2 && x2 <= size.width as f32 * 1.000_01, "{object:?}");
        assert!(0.0 <= y1 && y1 < y2 && y2 <= size.height as f32 * 1.000_01, "{object:?}");
        let mask = object.mask.as_ref().unwrap();
        assert_eq!((mask.size, mask.bits.len() as u64), (size, size.pixels()));
    }
}

proptest! {
    #[test]
    fn flipping_twice_is_the_identity(w in 1u32..40, h in 1u32..40, boxes in boxes()) {
        let original = sample(w, h, &boxes);
        let mut flipped = original.clone();
        flipped.flip_horizontally();
        check_consistent(&flipped);
        flipped.flip_horizontally();
        prop_assert_eq!(&flipped.image, &original.image);
        for (a, b) in flipped.objects.iter().zip(&original.objects) {
            prop_assert!((a.bbox.x1 - b.bbox.x1).abs() < 1e-5 && (a.bbox.x2 - b.bbox.x2).abs() < 1e-5);
            prop_assert_eq!(&a.mask, &b.mask);
        }
    }

    #[test]
    fn every_transform_keeps_boxes_inside(
        w in 1u32..90, h in 1u32..90, boxes in boxes(), seed in 0u64..1000
    ) {
        let list = small_augmentation();
        let mut sample = sample(w, h, &boxes);
        let mut dice = SampleRng::new(seed, 0, Purpose::Sample(1));
        for transform in &list.transforms {
            transform.apply(&mut sample, &mut dice);
            check_consistent(&sample);
        }
    }

    #[test]
    fn masks_go_where_their_boxes_go(
        w in 30u32..120, h in 30u32..120, boxes in boxes(), seed in 0u64..1000
    ) {
        let mut original = sample(w, h, &boxes);
        let mut dice = SampleRng::new(seed, 0, Purpose::Sample(1));
        for transform in &small_augmentation().transforms {
            // Every transform starts from masks that fill their boxes.
            let mut sample = original.clone();
            fill_boxes(&mut sample);
            transform.apply(&mut sample, &mut dice);
            for object in &sample.objects {
                let Xyxy { x1, y1, x2, y2 } = object.bbox;
                let code = object.mask.as_ref().unwrap().to_rle();
                // A pixel; of two resizes with a crop between them, the first one's pixel may have grown.
                let twice = matches!(transform, Transform::TwoBranchResize(_));
                let bound = if twice { 4.0 } else { 1.01 };
                // A thinner object may lie between the pixels that a resize picks.
                if x2 - x1 < bound || y2 - y1 < bound {
                    continue;
                }
                prop_assert!(code.area() > 0, "{transform:?} loses {:?}", object.bbox);
                let found = code.bbox().to_f32();
                for (found, expected) in [
                    (found.x, x1), (found.y, y1), (found.x + found.w, x2), (found.y + found.h, y2),
                ] {
                    prop_assert!((found - expected).abs() <= bound, "{transform:?}: {found} {expected}");
                }
            }
            original = sample;
        }
    }

    #[test]
    fn resize_and_crop_equal_the_two_steps(
        w in 1u32..60, h in 1u32..60, to in (1u32..80, 1u32..80),
        at in (0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0, 0.0f64..1.0), boxes in boxes()
    ) {
        let size = ImageSize::new(to.0, to.1);
        let part = |side: u32, share: f64| (f64::from(side) * share) as u32;
        let (height, width) = (1 + part(to.0 - 1, at.0), 1 + part(to.1 - 1, at.1));
        let (top, left) = (part(to.0 - height, at.2), part(to.1 - width, at.3));
        let region = Region { top, left, size: ImageSize::new(height, width) };
        let mut fused = sample(w, h, &boxes);
        let mut steps = fused.clone();
        fused.resize_and_crop(size, Some(region));
        steps.resize(size);
        steps.crop(region);
        prop_assert_eq!(fused, steps);
    }
}

/// Moves boxes to whole pixels, and gives every object the mask that fills its box.
fn fill_boxes(sample: &mut Sample) {
    let size = sample.size();
    for object in &mut sample.objects {
        let Xyxy { x1, y1, x2, y2 } = object.bbox;
        let whole = |low: f32, high: f32, side: u32| {
            let low = low.round().min(side as f32 - 1.0);
            (low, high.round().clamp(low + 1.0, side as f32))
        };
        let ((x1, x2), (y1, y2)) = (whole(x1, x2, size.width), whole(y1, y2, size.height));
        object.bbox = Xyxy { x1, y1, x2, y2 };
        let inside = |(x, y): (u32, u32)| {
            let (x, y) = (x as f32, y as f32);
            u8::from(x >= x1 && x < x2 && y >= y1 && y < y2)
        };
        let pixels = (0..size.height).flat_map(|y| (0..size.width).map(move |x| (x, y)));
        object.mask = Some(Mask { size, bits: pixels.map(inside).collect() });
    }
}

/// Makes an augmentation of every transform, with sizes for small images.
fn small_augmentation() -> Augmentation {
    toml::from_str(
        r"
        transforms = [
            { color_jitter = {} },
            { horizontal_flip = {} },
            { random_size_crop = { min_size = 20, max_size = 60 } },
            { random_resize = { short_sides = [24, 40], max_size = 70 } },
            { two_branch_resize = { short_sides = [30, 50], max_size = 80, crop_short_sides = [25, 35], crop_min = 20, crop_max = 33 } },
            { large_scale_jitter = { height = 64, width = 48 } },
            { fixed_padding = { height = 64, width = 48 } },
            { center_crop = { height = 30, width = 50 } },
        ]
        ",
    )
    .unwrap()
}

#[test]
fn configurations_round_trip_and_mistakes_are_named() {
    let list = small_augmentation();
    assert!(list.validate().is_ok());
    let text = toml::to_string(&list).unwrap();
    assert_eq!(toml::from_str::<Augmentation>(&text).unwrap(), list);
    for (line, message) in [
        ("{ horizontal_flip = { q = 0.5 } }", "unknown field `q`"),
        ("{ vertical_flip = {} }", "unknown variant `vertical_flip`"),
        ("{ center_crop = { height = 3 } }", "missing field `width`"),
    ] {
        let text = format!("transforms = [{line}]");
        let error = toml::from_str::<Augmentation>(&text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    for (line, message) in [
        ("{ horizontal_flip = { p = 1.5 } }", "horizontal_flip.p is 1.5, expected 0 to 1"),
        ("{ horizontal_flip = { p = nan } }", "horizontal_flip.p is NaN"),
        ("{ random_resize = { short_sides = [] } }", "random_resize.short_sides is empty"),
        ("{ random_resize = { short_sides = [0] } }", "random_resize.short_sides is 0"),
        ("{ two_branch_resize = { crop_max = 10 } }", "two_branch_resize.crop_max is 10"),
        ("{ large_scale_jitter = { max_scale = inf } }", "large_scale_jitter.max_scale is inf"),
        ("{ color_jitter = { hue = 0.6 } }", "color_jitter.hue is 0.6"),
    ] {
        let list: Augmentation = toml::from_str(&format!("transforms = [{line}]")).unwrap();
        let error = list.validate().unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}

/// Returns the chi-square of counts against equal probabilities, per degree of freedom: about 1 for
/// a fair draw, with 60 or more degrees below 1.6 in all but one of a thousand.
fn chi_square(counts: &[u32]) -> f64 {
    let expected = f64::from(counts.iter().sum::<u32>()) / counts.len() as f64;
    let sum: f64 = counts.iter().map(|&count| (f64::from(count) - expected).powi(2)).sum();
    sum / expected / (counts.len() - 1) as f64
}

#[test]
fn the_two_branches_have_the_references_distributions() {
    let crop = RandomSizeCrop::default();
    let branches = TwoBranchResize::default();
    // A landscape image at short side 500: widths of the crop 384..=600, heights 384..=500.
    let size = ImageSize::new(500, 750);
    let (mut widths, mut heights) = ([0; 217], [0; 117]);
    let (mut plain, mut flips) = (0_u32, 0_u32);
    let (mut lefts, draws) = ([0; 100], 60_000);
    for id in 0..draws {
        let mut dice = SampleRng::new(3, 1, Purpose::Sample(id));
        flips += u32::from(dice.chance(0.5));
        plain += u32::from(dice.chance(branches.p));
        let region = crop.draw(size, &mut dice);
        assert_eq!(region.within(size), region);
        widths[region.size.width as usize - 384] += 1;
        heights[region.size.height as usize - 384] += 1;
        let fixed = RandomSizeCrop { min_size: 400, max_size: 400 };
        lefts[fixed.draw(ImageSize::new(450, 499), &mut dice).left as usize] += 1;
    }
    assert!(chi_square(&widths) < 1.4, "{}", chi_square(&widths));
    assert!(chi_square(&heights) < 1.5, "{}", chi_square(&heights));
    assert!(chi_square(&lefts) < 1.6, "{}", chi_square(&lefts));
    // Half of the draws, within four standard deviations.
    for half in [plain, flips] {
        assert!((f64::from(half) - 30_000.0).abs() < 4.0 * 122.5, "{half}");
    }
}

#[test]
fn short_sides_are_drawn_evenly_and_follow_the_size_rules() {
    let mut counts = [0; 11];
    let resize = RandomResize::default();
    for id in 0..11_000 {
        let mut dice = SampleRng::new(5, 0, Purpose::Sample(id));
        let size = draw(&resize, ImageSize::new(480, 640), &mut dice);
        assert_eq!(size.width, (f64::from(size.height) * 640.0 / 480.0) as u32);
        counts[(size.height as usize - 480) / 32] += 1;
    }
    assert!(chi_square(&counts) < 2.9, "{counts:?}");
    // The longest side wins: a long image never exceeds it.
    for id in 0..50 {
        let mut dice = SampleRng::new(5, 0, Purpose::Sample(id));
        assert!(draw(&resize, ImageSize::new(300, 1200), &mut dice).width <= 1333);
    }
}

/// Draws the size that a transform gives a tiny stand-in for an image of that size.
fn draw(resize: &RandomResize, size: ImageSize, dice: &mut SampleRng) -> ImageSize {
    super::resizing::draw_size(size, &resize.short_sides, resize.max_size, dice).unwrap()
}

#[test]
fn small_images_and_empty_ones_pass_the_training_augmentation() {
    for (w, h) in [(1, 1), (1, 10_000), (300, 2), (383, 383)] {
        for id in 0..6 {
            let mut sample = sample(w, h, &[(0.0, 0.0, 1.0, 1.0)]);
            let mut dice = SampleRng::new(9, 0, Purpose::Sample(id));
            Augmentation::training().apply(&mut sample, &mut dice);
            assert!(sample.size().pixels() > 0, "{w}x{h}");
            // The short side is rounded first, so that the long side may end above its cap.
            assert!(sample.size().width.max(sample.size().height) <= 1350, "{w}x{h}");
        }
    }
}
