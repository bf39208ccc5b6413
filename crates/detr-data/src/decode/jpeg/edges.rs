//! Chroma at the right and bottom edge.
//!
//! Repairs the edges of chroma that has half the resolution: libjpeg interpolates towards a
//! repetition of the last sample; zune-jpeg interpolates towards the block's padding, whose content
//! is arbitrary. That shows in the last column of an even width and the last row of an even height,
//! unless they end with a block. The stored sample is recovered from the two pixels before it.

use detr_types::ImageSize;

/// Edges whose chroma has to be repaired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Edges {
    pub(super) right: bool,
    pub(super) bottom: bool,
}

impl Edges {
    /// Finds the edges from the sampling factors (horizontal, vertical) of Y, Cb and Cr.
    pub(super) fn of(size: ImageSize, [y, cb, cr]: [(u8, u8); 3]) -> Self {
        // Blocks of chroma are 8 samples, 16 pixels, and a length below 4 has no two samples.
        let cut =
            |length: u32| length >= 4 && length.is_multiple_of(2) && !length.is_multiple_of(16);
        Self {
            right: (y.0, cb.0, cr.0) == (2, 1, 1) && cut(size.width),
            bottom: (y.1, cb.1, cr.1) == (2, 1, 1) && cut(size.height),
        }
    }

    pub(super) fn any(self) -> bool {
        self.right || self.bottom
    }

    /// Repairs interleaved `YCbCr` of an image `width` wide.
    pub(super) fn repair(self, pixels: &mut [u8], width: u32) {
        let pixels = pixels.as_chunks_mut::<3>().0;
        let width = width as usize;
        if self.bottom {
            let (rest, last) = pixels.split_at_mut(pixels.len().saturating_sub(width));
            let (rest, near) = rest.split_at(rest.len().saturating_sub(width));
            let far = &rest[rest.len().saturating_sub(width)..];
            for ((last, near), far) in last.iter_mut().zip(near).zip(far) {
                repeat_sample(last, *near, *far);
            }
        }
        if self.right {
            for row in pixels.chunks_exact_mut(width) {
                if let [.., far, near, last] = row {
                    repeat_sample(last, *near, *far);
                }
            }
        }
    }
}

/// Sets the chroma of `last` to `a`, given `near = (3a + b) / 4` and `far = (3b + a) / 4`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped
fn repeat_sample(last: &mut [u8; 3], near: [u8; 3], far: [u8; 3]) {
    for channel in [1, 2] {
        let sample = (3 * i32::from(near[channel]) - i32::from(far[channel]) + 1) / 2;
        last[channel] = sample.clamp(0, 255) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_edges_inside_a_block_of_halved_chroma_are_repaired() {
        let halved = [(2, 2), (1, 1), (1, 1)];
        let edges = |width, height| Edges::of(ImageSize::new(height, width), halved);
        assert_eq!(edges(70, 48), Edges { right: true, bottom: false });
        assert_eq!(edges(64, 50), Edges { right: false, bottom: true });
        assert!(!edges(71, 49).any(), "the last pixel of an odd length looks inwards");
        assert!(!edges(2, 2).any());
        assert!(!Edges::of(ImageSize::new(50, 70), [(1, 1); 3]).any());
    }

    #[test]
    fn the_last_sample_is_recovered() {
        let edges = Edges { right: true, bottom: true };
        // Samples 40 and 120 of a 4x4 image, interpolated; 9 stands for what padding made of it.
        let row = [40, 60, 100, 9].map(|v| [1, v, v]);
        let mut pixels: Vec<u8> = row.repeat(4).into_flattened();
        edges.repair(&mut pixels, 4);
        for row in pixels.as_chunks::<12>().0 {
            assert_eq!(row[9..], [1, 120, 120]);
        }
    }
}
