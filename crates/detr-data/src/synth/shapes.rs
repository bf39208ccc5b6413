//! The shapes: polygons around the origin with a radius of one, turned, scaled and moved.

use std::f64::consts::TAU;
use std::ops::RangeInclusive;

use detr_types::ImageSize;
use serde::{Deserialize, Serialize};

use super::random::Random;

/// A class of generated objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// A circle, as a polygon of 32 corners.
    Circle,
    /// A square, turned by any angle.
    Square,
    /// An equilateral triangle.
    Triangle,
    /// A star of five points.
    Star,
    /// A cross of two bars.
    Cross,
    /// A bar, four times as long as wide.
    Bar,
}

impl Shape {
    /// Every shape.
    pub const ALL: [Self; 6] =
        [Self::Circle, Self::Square, Self::Triangle, Self::Star, Self::Cross, Self::Bar];

    /// Returns its name, which is that of its category.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Star => "star",
            Self::Cross => "cross",
            Self::Bar => "bar",
        }
    }

    /// Corners inside the unit circle.
    fn corners(self) -> Vec<[f64; 2]> {
        match self {
            Self::Circle => regular(32, |_| 1.0),
            Self::Square => regular(4, |_| 1.0),
            Self::Triangle => regular(3, |_| 1.0),
            Self::Star => regular(10, |corner| if corner % 2 == 0 { 1.0 } else { 0.45 }),
            Self::Bar => vec![[-0.97, -0.24], [0.97, -0.24], [0.97, 0.24], [-0.97, 0.24]],
            Self::Cross => {
                let (long, short) = (0.95, 0.3);
                let arm = [[short, short], [short, long], [-short, long]];
                // Each arm is the one before, turned by a quarter.
                (0..4).flat_map(|quarter| arm.map(|point| quarter_turns(point, quarter))).collect()
            }
        }
    }
}

/// Lists points on circles around the origin, at equal angles.
fn regular(count: u32, radius: impl Fn(u32) -> f64) -> Vec<[f64; 2]> {
    let point = |corner: u32| {
        let (sin, cos) = (TAU * f64::from(corner) / f64::from(count)).sin_cos();
        [radius(corner) * cos, radius(corner) * sin]
    };
    (0..count).map(point).collect()
}

fn quarter_turns([x, y]: [f64; 2], quarters: u32) -> [f64; 2] {
    match quarters % 4 {
        0 => [x, y],
        1 => [-y, x],
        2 => [-x, -y],
        _ => [y, -x],
    }
}

/// Places a polygon `x1, y1, ...` somewhere inside the image.
pub(super) fn place(
    shape: Shape,
    size: ImageSize,
    scale: &RangeInclusive<f64>,
    random: &mut Random,
) -> Vec<f64> {
    let (height, width) = (f64::from(size.height), f64::from(size.width));
    let short = height.min(width);
    let radius =
        (0.5 * short * random.between(*scale.start(), *scale.end())).min(0.5 * short - 0.01);
    let (sin, cos) = random.between(0.0, TAU).sin_cos();
    let x = random.between(radius, width - radius);
    let y = random.between(radius, height - radius);
    let turned = |[u, v]: [f64; 2]| [cos * u - sin * v, sin * u + cos * v];
    let points = shape.corners().into_iter().map(turned);
    points
        .flat_map(|[u, v]| {
            [(x + radius * u).clamp(0.0, width), (y + radius * v).clamp(0.0, height)].map(round)
        })
        .collect()
}

/// Rounds to two decimals, as in COCO's files; differences between platforms in the last bit of a
/// sine end here.
pub(super) fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
