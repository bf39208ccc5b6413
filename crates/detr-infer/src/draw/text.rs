//! Text of any height from the pre-rendered glyphs of Noto Sans Mono Bold.
//!
//! Up to 32 pixels the glyphs are used in the sizes they come in; above, the largest ones are
//! enlarged and their edges sharpened again. One line, fixed width, no shaping.

use noto_sans_mono_bitmap::{
    FontWeight, RasterHeight, RasterizedChar, get_raster, get_raster_width,
};

const WEIGHT: FontWeight = FontWeight::Bold;

/// The sizes that exist, largest first.
const SIZES: [RasterHeight; 4] =
    [RasterHeight::Size32, RasterHeight::Size24, RasterHeight::Size20, RasterHeight::Size16];

/// The font at one height.
#[derive(Clone, Copy, Debug)]
pub(super) struct Font {
    raster: RasterHeight,
    height: u32,
    advance: u32,
}

impl Font {
    /// The smallest height there is, in pixels.
    pub(super) const MIN_HEIGHT: u32 = 16;

    /// Chooses the font whose lines are at most this high, but at least [`Font::MIN_HEIGHT`].
    #[allow(clippy::cast_possible_truncation)] // rasters are small
    pub(super) fn new(height: u32) -> Self {
        let raster = SIZES
            .into_iter()
            .find(|size| size.val() as u32 <= height)
            .unwrap_or(RasterHeight::Size16);
        let (raster_height, width) = (raster.val() as u32, get_raster_width(WEIGHT, raster) as u32);
        // The sizes between two rasters take the smaller one: only the largest is enlarged.
        let height = if matches!(raster, RasterHeight::Size32) { height } else { raster_height };
        Self { raster, height, advance: width * height / raster_height }
    }

    /// Returns the height of a line in pixels.
    pub(super) fn height(self) -> u32 {
        self.height
    }

    /// Returns the width of a text in pixels.
    pub(super) fn width(self, text: &str) -> u32 {
        u32::try_from(text.chars().count()).unwrap_or(u32::MAX).saturating_mul(self.advance)
    }

    /// Returns the number of characters that fit into this many pixels.
    pub(super) fn fitting(self, pixels: u32) -> usize {
        (pixels / self.advance.max(1)) as usize
    }

    /// Calls `plot(x, y, coverage)` for every pixel of the text that is not blank, relative to
    /// its top left corner.
    pub(super) fn render(self, text: &str, mut plot: impl FnMut(u32, u32, u8)) {
        for (position, character) in (0u32..).zip(text.chars()) {
            let Some(glyph) = self.glyph(character) else { continue };
            let left = position.saturating_mul(self.advance);
            for y in 0..self.height {
                for x in 0..self.advance {
                    let coverage = self.coverage(&glyph, x, y);
                    if coverage > 0 {
                        plot(left.saturating_add(x), y, coverage);
                    }
                }
            }
        }
    }

    /// Returns the glyph of a character, `?` if it has none.
    fn glyph(self, character: char) -> Option<RasterizedChar> {
        get_raster(character, WEIGHT, self.raster).or_else(|| get_raster('?', WEIGHT, self.raster))
    }

    /// Returns the share of a pixel that the glyph covers, in 1/255.
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // glyphs are small
    #[allow(clippy::cast_sign_loss, clippy::cast_precision_loss)]
    fn coverage(self, glyph: &RasterizedChar, x: u32, y: u32) -> u8 {
        let at = |x: i32, y: i32| -> u8 {
            let (Ok(x), Ok(y)) = (usize::try_from(x), usize::try_from(y)) else { return 0 };
            glyph.raster().get(y).and_then(|row| row.get(x)).copied().unwrap_or(0)
        };
        let scale = self.height as f32 / glyph.height().max(1) as f32;
        if scale <= 1.0 {
            return at(x as i32, y as i32);
        }
        let source = |pixel: u32| (pixel as f32 + 0.5) / scale - 0.5;
        let (x, y) = (source(x), source(y));
        let (left, top) = (x.floor(), y.floor());
        let (fx, fy) = (x - left, y - top);
        let (left, top) = (left as i32, top as i32);
        let row = |y: i32| f32::from(at(left, y)) * (1.0 - fx) + f32::from(at(left + 1, y)) * fx;
        let smooth = row(top) * (1.0 - fy) + row(top + 1) * fy;
        // Interpolation made the edge `scale` pixels wide; this makes it one pixel again.
        ((smooth - 127.5) * scale + 127.5).clamp(0.0, 255.0) as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ink_stays_inside_the_line_at_every_height() {
        for height in [0, 1, 16, 17, 20, 31, 32, 33, 75, 160] {
            let font = Font::new(height);
            assert!(font.height() >= Font::MIN_HEIGHT && font.height() <= height.max(16));
            let (mut ink, width) = (0, font.width("Äg|?"));
            font.render("Äg|\u{1F980}", |x, y, _| {
                assert!(x < width && y < font.height());
                ink += 1;
            });
            assert!(ink > 20, "{height}");
        }
    }

    #[test]
    fn characters_without_a_glyph_become_question_marks() {
        let rendered = |text: &str| {
            let mut pixels = Vec::new();
            Font::new(16).render(text, |x, y, coverage| pixels.push((x, y, coverage)));
            pixels
        };
        assert_eq!(rendered("犬\u{7}"), rendered("??"));
        assert_ne!(rendered("é"), rendered("?"));
    }
}
