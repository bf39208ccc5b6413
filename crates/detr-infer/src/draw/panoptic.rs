//! A panoptic prediction drawn into its image: every segment tinted in its colour and outlined, and below the image a
//! legend of the classes.

use detr_types::Panoptic;
use image::{Rgb, RgbImage};

use super::{Style, blend, fill, write};
use crate::draw::layout::Rect;
use crate::draw::text::Font;
use crate::palette::Palette;

/// The share of the segment's colour in a pixel, in 1/255.
const TINT: u8 = 140;
/// The colour of the legend.
const PAPER: Rgb<u8> = Rgb([24, 24, 24]);

/// One class in the legend.
struct Entry {
    name: String,
    color: Rgb<u8>,
    segments: usize,
    area: u64,
}

/// Returns the image with all segments drawn, and a legend below it with the classes, largest first, and how much of
/// the image each of them is. Segments of one class have shades of its colour.
#[must_use]
pub fn draw_panoptic(image: &RgbImage, found: &Panoptic, palette: &Palette) -> RgbImage {
    let (width, height) = image.dimensions();
    if (found.size.width, found.size.height) != (width, height) {
        return image.clone();
    }
    let entries = entries(found, palette);
    let style = Style::new(width, height);
    let places = style.font.map(|font| (font, places(&entries, font, style.padding, width)));
    let rows =
        places.as_ref().map_or(0, |(_, places)| places.last().map_or(0, |&(row, _)| row + 1));
    let line_height = style.font.map_or(0, |font| font.height() + 2 * style.padding.max(2));
    let mut picture = RgbImage::from_pixel(width, height + rows * line_height, PAPER);
    image::imageops::replace(&mut picture, image, 0, 0);
    tint(&mut picture, found, palette, style.line);
    if let Some((font, places)) = places {
        let margin = style.padding.max(2);
        for (entry, (row, x)) in entries.iter().zip(places) {
            let y = i64::from(height + row * line_height + margin);
            let x = i64::from(x);
            let side = i64::from(font.height());
            fill(&mut picture, Rect { x0: x, y0: y, x1: x + side, y1: y + side }, entry.color, 255);
            let text = label(entry, font, found.size.pixels(), width);
            write(&mut picture, font, &text, x + side + i64::from(margin), y, Rgb([255, 255, 255]));
        }
    }
    picture
}

/// Tints every pixel of a segment, and fills those beside another segment.
fn tint(picture: &mut RgbImage, found: &Panoptic, palette: &Palette, line: i64) {
    let (width, height) = (found.size.width as usize, found.size.height as usize);
    let segments = found.segments.iter().enumerate();
    let colors: std::collections::HashMap<u32, Rgb<u8>> = segments
        .map(|(index, segment)| {
            let earlier = found.segments[..index].iter();
            let shade = earlier.filter(|other| other.label == segment.label).count();
            let shade = u32::try_from(shade).unwrap_or(u32::MAX);
            let color = palette.class_color(segment.label, &segment.name);
            (segment.id, shaded(color, shade))
        })
        .collect();
    let reach = usize::try_from((line + 1) / 2).unwrap_or(1);
    for y in 0..height {
        for x in 0..width {
            let id = found.ids[y * width + x];
            let Some(&color) = colors.get(&id) else { continue };
            let other = |x: usize, y: usize| found.ids[y * width + x] != id;
            let edge = (1..=reach).any(|step| {
                (x + step < width && other(x + step, y))
                    || (x >= step && other(x - step, y))
                    || (y + step < height && other(x, y + step))
                    || (y >= step && other(x, y - step))
            });
            let alpha = if edge { 255 } else { TINT };
            let (Ok(x), Ok(y)) = (i64::try_from(x), i64::try_from(y)) else { continue };
            blend(picture, x, y, color, alpha);
        }
    }
}

/// Makes a colour lighter or darker, so that instances beside each other can be told apart.
fn shaded(Rgb(color): Rgb<u8>, shade: u32) -> Rgb<u8> {
    let step = u16::try_from(shade.div_ceil(2) % 4).unwrap_or(0) * 40;
    Rgb(color.map(|value| {
        let value = u16::from(value);
        let value = match shade % 2 {
            0 => value - value * step / 255,
            _ => value + (255 - value) * step / 255,
        };
        u8::try_from(value).unwrap_or(u8::MAX)
    }))
}

fn entries(found: &Panoptic, palette: &Palette) -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for segment in &found.segments {
        match entries.iter_mut().find(|entry| entry.name == segment.name) {
            Some(entry) => {
                entry.segments += 1;
                entry.area += segment.area;
            }
            None => entries.push(Entry {
                name: segment.name.clone(),
                color: palette.class_color(segment.label, &segment.name),
                segments: 1,
                area: segment.area,
            }),
        }
    }
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.area));
    entries
}

/// Returns the text beside the colour of a class: as much of it as fits.
fn label(entry: &Entry, font: Font, pixels: u64, width: u32) -> String {
    let percent = (100 * entry.area + pixels / 2).checked_div(pixels).unwrap_or(0);
    let full = match entry.segments {
        1 => format!("{} {percent}%", entry.name),
        count => format!("{count} {} {percent}%", entry.name),
    };
    let room = font.fitting(width.saturating_sub(2 * font.height()));
    full.chars().take(room).collect()
}

/// Returns the rows and left edges of the entries, as many beside each other as fit.
fn places(entries: &[Entry], font: Font, padding: u32, width: u32) -> Vec<(u32, u32)> {
    let gap = font.height();
    let (mut row, mut x) = (0, padding);
    entries
        .iter()
        .map(|entry| {
            // A text of this entry's length; the numbers have at most eight characters.
            let text = font.width(&entry.name) + font.width("00 100% ");
            let needed = font.height() + padding + text;
            if x > padding && x + needed > width {
                (row, x) = (row + 1, padding);
            }
            let place = (row, x);
            x += needed + gap;
            place
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use detr_types::{ImageSize, PanopticSegment};

    #[test]
    fn segments_are_tinted_and_the_legend_lies_below() {
        let segment = |id, label, name: &str, area| PanopticSegment {
            id,
            label,
            category_id: 1,
            name: name.to_owned(),
            is_thing: true,
            score: 0.9,
            area,
        };
        let found = Panoptic {
            size: ImageSize::new(100, 200),
            ids: (0..20_000).map(|at| if at % 200 < 100 { 1 } else { 2 }).collect(),
            segments: vec![segment(1, 0, "sky", 10_000), segment(2, 3, "a", 10_000)],
        };
        let image = RgbImage::new(200, 100);
        let drawn = draw_panoptic(&image, &found, &Palette::default());
        assert_eq!(drawn.width(), 200);
        assert!(drawn.height() > 116);
        assert_ne!(drawn.get_pixel(10, 10), drawn.get_pixel(190, 10));
        let paper = drawn.pixels().skip(20_000).filter(|&&pixel| pixel != PAPER).count();
        assert!(paper > 100, "the legend has something on it");
        // Nothing found: the image as it is.
        let nothing = Panoptic { ids: vec![0; 20_000], segments: Vec::new(), ..found };
        assert_eq!(draw_panoptic(&image, &nothing, &Palette::default()), image);
    }

    #[test]
    fn small_images_and_many_classes_are_no_trouble() {
        for (height, width) in [(0, 0), (1, 1), (60, 20), (20, 300)] {
            let size = ImageSize::new(height, width);
            let segments = (0..40u32)
                .map(|id| PanopticSegment {
                    id,
                    label: id as usize,
                    category_id: 0,
                    name: format!("a long name of class {id}"),
                    is_thing: false,
                    score: 1.0,
                    area: 0,
                })
                .collect();
            let ids = (0..height * width).map(|at| at % 40).collect();
            let image = RgbImage::new(width, height);
            let _ = draw_panoptic(&image, &Panoptic { size, ids, segments }, &Palette::default());
        }
    }
}
