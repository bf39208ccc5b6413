//! From mask logits to the pixels of objects in the original image (`PostProcessSegm` of the reference's
//! `models/segmentation.py`).

use burn::tensor::{Tensor, Transaction};
use detr_ops::traffic::{self, DeviceError};
use detr_types::{ImageSize, Mask, Rle};
use rayon::prelude::*;

use super::resample::{Bilinear, bilinear, nearest};

/// Mask logits of some queries of an image on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostMasks {
    /// Height and width of a mask in cells.
    pub size: [usize; 2],
    /// `[K, h, w]`.
    pub logits: Vec<f32>,
}

/// The sizes that a mask goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaskSizes {
    /// The model's input: the image after resizing, with the padding that the masks cover.
    pub padded: ImageSize,
    /// The image after resizing.
    pub processed: ImageSize,
    /// The original image.
    pub original: ImageSize,
}

impl HostMasks {
    /// Reads the masks of several images at once.
    ///
    /// # Errors
    /// A device that fails.
    pub fn read(masks: Vec<Tensor<3>>) -> Result<Vec<Self>, DeviceError> {
        let mut transaction = Transaction::default();
        let mut sizes = Vec::with_capacity(masks.len());
        for masks in masks {
            let [_, h, w] = masks.dims();
            sizes.push([h, w]);
            transaction = transaction.register(masks);
        }
        if sizes.is_empty() {
            return Ok(Vec::new());
        }
        let read = traffic::read_f32(transaction)?;
        Ok(sizes.into_iter().zip(read).map(|(size, logits)| Self { size, logits }).collect())
    }

    /// Returns whether all logits are finite.
    #[must_use]
    pub fn is_finite(&self) -> bool {
        self.logits.iter().all(|logit| logit.is_finite())
    }

    /// Returns the number of masks.
    #[must_use]
    pub fn len(&self) -> usize {
        let [h, w] = self.size;
        self.logits.len().checked_div(h * w).unwrap_or(0)
    }

    /// Returns whether there is no mask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.logits.is_empty()
    }

    /// Returns the pixels whose probability is above one half after bilinear resizing to the padded size. The image's
    /// part of them is resized to the original with the nearest pixel, as in the reference.
    #[must_use]
    pub fn binary(&self, sizes: MaskSizes) -> Vec<Mask> {
        self.map_binary(sizes, |mask| mask)
    }

    /// Returns the run-length codes of [`HostMasks::binary`], without all of these in memory at once.
    #[must_use]
    pub fn codes(&self, sizes: MaskSizes) -> Vec<Rle> {
        self.map_binary(sizes, |mask| mask.to_rle())
    }

    fn map_binary<T: Send>(&self, sizes: MaskSizes, of: impl Fn(Mask) -> T + Sync) -> Vec<T> {
        let [h, w] = self.size;
        let side = |side: u32| side as usize;
        let MaskSizes { padded, processed, original } = sizes;
        let (height, width) = (side(original.height), side(original.width));
        // Only the pixels that the second step picks are computed in the first.
        let all = bilinear(h, side(padded.height));
        let rows = nearest(side(processed.height), height);
        let rows: Vec<_> = rows.into_iter().map(|row| all[row]).collect();
        let all = bilinear(w, side(padded.width));
        let columns = nearest(side(processed.width), width);
        let columns: Vec<_> = columns.into_iter().map(|column| all[column]).collect();
        self.logits
            .par_chunks_exact((h * w).max(1))
            .map(|map| {
                let mut resized = Bilinear::new(map, w, &rows, &columns);
                let (mut bits, mut line) = (Vec::with_capacity(height * width), vec![0.0; width]);
                for row in 0..height {
                    resized.row(row, &mut line);
                    // The logistic function is above one half where its logit is positive.
                    bits.extend(line.iter().map(|&logit| u8::from(logit > 0.0)));
                }
                of(Mask { size: original, bits })
            })
            .collect()
    }
}
