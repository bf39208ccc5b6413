//! Detections drawn into their image: a frame in the colour of the class, its name and score on a plate, and
//! below them the object's mask where it has one; and panoptic predictions.
//!
//! Line width and text height follow the short side of the image, so a picture looks alike at
//! every resolution. Everything is clipped to the image; nothing is decoded here, and no file is written.

mod comparison;
mod layout;
mod masks;
mod panoptic;
mod text;

use std::io::{self, Write};

use detr_types::{Detection, Xyxy};
use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, Rgb, RgbImage};

pub use self::comparison::draw_comparison;
use self::layout::{Layout, Rect};
use self::masks::draw_masks;
pub use self::panoptic::draw_panoptic;
use self::text::Font;
use crate::palette::Palette;

/// Writes a picture as a PNG, quickly rather than small.
///
/// # Errors
/// A writer that fails.
pub fn encode_png(writer: impl Write, image: &RgbImage) -> io::Result<()> {
    PngEncoder::new_with_quality(writer, CompressionType::Fast, FilterType::Adaptive)
        .write_image(image.as_raw(), image.width(), image.height(), ExtendedColorType::Rgb8)
        .map_err(io::Error::other)
}

/// Sizes of what is drawn, in pixels.
struct Style {
    /// Width of a frame's line.
    line: i64,
    /// Width of the dark seam on both sides of the line.
    seam: i64,
    /// The text, unless the image is too small for any.
    font: Option<Font>,
    /// Space left and right of a text.
    padding: u32,
}

impl Style {
    fn new(width: u32, height: u32) -> Self {
        let short = width.min(height);
        let line = i64::from((short + 120) / 240).clamp(1, 24);
        let font = Font::new((short / 40).clamp(Font::MIN_HEIGHT, 160));
        // A label hides more than it tells if three lines of text fill the image.
        let font = (short >= 3 * font.height()).then_some(font);
        let padding = font.map_or(0, |font| font.height() / 6);
        Self { line, seam: (line + 3) / 4, font, padding }
    }

    /// Returns the text of a plate: as much of `full` as fits into the image.
    fn label(
        &self,
        detection: &Detection,
        full: String,
        image_width: u32,
    ) -> Option<(Font, String)> {
        let font = self.font?;
        let room = font.fitting(image_width.saturating_sub(2 * self.padding));
        if full.chars().count() <= room {
            return Some((font, full));
        }
        if detection.name.chars().count() <= room {
            return Some((font, detection.name.clone()));
        }
        let beginning: String = detection.name.chars().take(room.checked_sub(2)?).collect();
        (beginning.chars().count() >= 2).then(|| (font, beginning + ".."))
    }
}

/// One detection that is visible in the image.
struct Item {
    frame: Rect,
    color: Rgb<u8>,
    label: Option<(Font, String, Rect)>,
}

/// Draws the frames and labels of all detections, the strongest on top.
///
/// Boxes are in pixels of this image. What lies outside is clipped away; a box that lies outside
/// altogether, is inverted or has a NaN is left out. A name is shortened where the image is too
/// narrow for it. Labels for which there is no room are left out, those of the weakest first;
/// images lower than three lines of text get frames only.
pub fn draw_detections(image: &mut RgbImage, detections: &[Detection], palette: &Palette) {
    draw(image, detections, palette, |found| format!("{} {:.2}", found.name, found.score));
}

/// Draws what is known to be in an image as [`draw_detections`] does what was found: names without
/// scores.
pub fn draw_truth(image: &mut RgbImage, objects: &[Detection], palette: &Palette) {
    draw(image, objects, palette, |object| object.name.clone());
}

fn draw(
    image: &mut RgbImage,
    detections: &[Detection],
    palette: &Palette,
    words: impl Fn(&Detection) -> String,
) {
    let (width, height) = image.dimensions();
    let style = Style::new(width, height);
    let mut strongest_first: Vec<&Detection> = detections.iter().collect();
    strongest_first.sort_by(|a, b| strength(b).total_cmp(&strength(a)));

    draw_masks(image, &strongest_first, palette, style.line);
    // The strongest choose their places first, but are painted last.
    let mut layout = Layout::new(width, height);
    let mut items = Vec::with_capacity(detections.len());
    for detection in strongest_first {
        let Some(frame) = visible(detection.bbox, width, height) else { continue };
        let label = style.label(detection, words(detection), width).and_then(|(font, text)| {
            let plate_width = i64::from(font.width(&text) + 2 * style.padding);
            let plate = layout.place(frame, plate_width, i64::from(font.height()))?;
            Some((font, text, plate))
        });
        items.push(Item { frame, color: palette.color(detection), label });
    }
    for item in items.iter().rev() {
        draw_frame(image, item, &style);
    }
    for item in items.iter().rev() {
        draw_label(image, item, &style);
    }
}

/// Returns the score, with NaN as the weakest.
fn strength(detection: &Detection) -> f32 {
    if detection.score.is_nan() { f32::NEG_INFINITY } else { detection.score }
}

/// Returns the pixels of a box that lie inside the image, at least one in each direction; infinite
/// edges end at the border.
#[allow(clippy::cast_possible_truncation)] // clamped to the image
fn visible(bbox: Xyxy, width: u32, height: u32) -> Option<Rect> {
    let span = |low: f32, high: f32, side: u32| {
        let side = f64::from(side);
        let (low, high) = (f64::from(low), f64::from(high));
        // The condition is such that a NaN fails.
        if !(low <= high && low < side && high > 0.0) {
            return None;
        }
        let low = low.clamp(0.0, side).floor();
        let high = high.clamp(0.0, side).ceil().max(low + 1.0);
        Some((low as i64, high as i64))
    };
    let (x0, x1) = span(bbox.x1, bbox.x2, width)?;
    let (y0, y1) = span(bbox.y1, bbox.y2, height)?;
    Some(Rect { x0, y0, x1, y1 })
}

/// Draws a frame just inside the box, between two dark seams that set it off from any background.
fn draw_frame(image: &mut RgbImage, item: &Item, style: &Style) {
    let short = item.frame.width().min(item.frame.height());
    // A small object must stay visible between its lines.
    let line = style.line.min(short / 8).max(1);
    let seam = style.seam.min(line);
    draw_ring(image, item.frame.inset(-seam), seam, Rgb([0, 0, 0]), 90);
    if short > 4 * (line + seam) {
        draw_ring(image, item.frame.inset(line), seam, Rgb([0, 0, 0]), 90);
    }
    draw_ring(image, item.frame, line, item.color, 255);
}

/// Draws the outermost `line` pixels of a rectangle.
fn draw_ring(image: &mut RgbImage, outer: Rect, line: i64, color: Rgb<u8>, alpha: u8) {
    let inner = outer.inset(line);
    if inner.width() <= 0 || inner.height() <= 0 {
        return fill(image, outer, color, alpha);
    }
    fill(image, Rect { y1: inner.y0, ..outer }, color, alpha);
    fill(image, Rect { y0: inner.y1, ..outer }, color, alpha);
    fill(image, Rect { x1: inner.x0, y0: inner.y0, y1: inner.y1, ..outer }, color, alpha);
    fill(image, Rect { x0: inner.x1, y0: inner.y0, y1: inner.y1, ..outer }, color, alpha);
}

fn draw_label(image: &mut RgbImage, item: &Item, style: &Style) {
    let Some((font, text, plate)) = &item.label else { return };
    fill(image, *plate, item.color, 255);
    // Keeps plates of one colour apart.
    draw_ring(image, *plate, style.seam, Rgb([0, 0, 0]), 60);
    let left = plate.x0 + i64::from(style.padding);
    write(image, *font, text, left, plate.y0, ink_on(item.color));
}

/// Writes a text with its top left corner at a place.
fn write(image: &mut RgbImage, font: Font, text: &str, left: i64, top: i64, ink: Rgb<u8>) {
    font.render(text, |x, y, coverage| {
        blend(image, left + i64::from(x), top + i64::from(y), ink, coverage);
    });
}

/// Returns black or white, whichever has the higher contrast by the definition of WCAG 2.
fn ink_on(Rgb(color): Rgb<u8>) -> Rgb<u8> {
    let [r, g, b] = color.map(|value| {
        let value = f32::from(value) / 255.0;
        if value <= 0.040_45 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
    });
    let luminance = 0.2126 * r + 0.7152 * g + 0.0722 * b;
    // At this luminance black and white have the same contrast ratio.
    if luminance > 0.179 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) }
}

fn fill(image: &mut RgbImage, area: Rect, color: Rgb<u8>, alpha: u8) {
    let (width, height) = image.dimensions();
    for y in area.y0.max(0)..area.y1.min(i64::from(height)) {
        for x in area.x0.max(0)..area.x1.min(i64::from(width)) {
            blend(image, x, y, color, alpha);
        }
    }
}

/// Mixes a colour into one pixel; `alpha` 255 replaces it. Pixels outside are ignored.
fn blend(image: &mut RgbImage, x: i64, y: i64, color: Rgb<u8>, alpha: u8) {
    let (Ok(x), Ok(y)) = (u32::try_from(x), u32::try_from(y)) else { return };
    let Some(pixel) = image.get_pixel_mut_checked(x, y) else { return };
    let alpha = u16::from(alpha);
    for (old, new) in pixel.0.iter_mut().zip(color.0) {
        let mixed = (u16::from(*old) * (255 - alpha) + u16::from(new) * alpha + 127) / 255;
        *old = u8::try_from(mixed).unwrap_or(u8::MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detection(name: &str, score: f32, [x1, y1, x2, y2]: [f32; 4]) -> Detection {
        let bbox = Xyxy { x1, y1, x2, y2 };
        Detection { label: 1, category_id: 1, name: name.to_owned(), score, bbox, mask: None }
    }

    fn palette() -> Palette {
        ["a=red", "b=blue"].iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn no_size_and_no_box_makes_it_panic() {
        let odd = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -5.0, 0.0, 7.5, 3.0e38, -3.0e38];
        let mut detections = Vec::new();
        for x1 in odd {
            for y1 in odd {
                detections.push(detection("a \u{1F980}", x1, [x1, y1, y1, x1]));
                detections.push(detection("", y1, [x1, 1.0, y1, 20.0]));
                detections.push(detection("a very long name of a class", 0.5, [x1, x1, y1, y1]));
            }
        }
        for (width, height) in
            [(0, 0), (0, 5), (1, 1), (2, 3), (32, 32), (48, 48), (100, 80), (3000, 20), (20, 900)]
        {
            draw_detections(&mut RgbImage::new(width, height), &detections, &palette());
        }
    }

    #[test]
    fn the_stronger_box_lies_on_top_whatever_the_order() {
        let corners = [10.0, 10.0, 30.0, 30.0];
        let (strong, weak) = (detection("a", 0.9, corners), detection("b", 0.2, corners));
        for order in [[strong.clone(), weak.clone()], [weak, strong]] {
            let mut image = RgbImage::new(40, 40);
            draw_detections(&mut image, &order, &palette());
            assert_eq!(image.get_pixel(20, 10), &Rgb([255, 0, 0]));
            assert_eq!(image.get_pixel(20, 20), &Rgb([0, 0, 0]), "the inside is untouched");
        }
    }

    #[test]
    fn boxes_that_cannot_be_seen_leave_the_image_alone() {
        let blank = RgbImage::from_pixel(200, 100, Rgb([9, 9, 9]));
        for corners in [
            [-50.0, 10.0, 0.0, 20.0],
            [200.0, 10.0, 300.0, 20.0],
            [30.0, 10.0, 20.0, 40.0],
            [30.0, f32::NAN, 40.0, 40.0],
        ] {
            let mut image = blank.clone();
            draw_detections(&mut image, &[detection("a", 0.9, corners)], &palette());
            assert_eq!(image, blank, "{corners:?}");
        }
        let mut image = blank.clone();
        let everything = [f32::NEG_INFINITY, -3.0e38, f32::INFINITY, 1000.0];
        draw_detections(&mut image, &[detection("a", 0.9, everything)], &palette());
        assert_eq!(image.get_pixel(199, 99), &Rgb([255, 0, 0]));
    }

    #[test]
    fn line_and_text_grow_with_the_image() {
        let sizes = [(100, 80), (640, 480), (1920, 1080), (4000, 3000), (10_000, 10_000)];
        let styles = sizes.map(|(width, height)| {
            let style = Style::new(width, height);
            (style.line, style.font.map(Font::height))
        });
        let text = |height| Some(height);
        assert_eq!(
            styles,
            [(1, text(16)), (2, text(16)), (5, text(24)), (13, text(75)), (24, text(160))]
        );
    }

    #[test]
    fn ink_contrasts_with_its_plate() {
        for (color, ink) in [
            ([255, 255, 0], [0, 0, 0]),
            ([0, 0, 255], [255, 255, 255]),
            ([255, 255, 255], [0, 0, 0]),
            ([0, 0, 0], [255, 255, 255]),
            ([128, 0, 0], [255, 255, 255]),
        ] {
            assert_eq!(ink_on(Rgb(color)), Rgb(ink), "on {color:?}");
        }
    }
}
