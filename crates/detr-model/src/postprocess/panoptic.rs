//! From masks to one segment for every pixel (`PostProcessPanoptic` of the reference's `models/segmentation.py`).

use detr_types::ImageSize;
use rayon::prelude::*;

use super::masks::{HostMasks, MaskSizes};
use super::resample::{Bilinear, Tap, bilinear, pillow_nearest};
use super::softmax_best;

/// The largest number of pixels of a segment that is dropped.
const SMALL: u64 = 4;

/// A query that was kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeptQuery {
    /// Its position among the queries.
    pub query: usize,
    /// Its class.
    pub label: usize,
    /// The class's probability.
    pub score: f32,
}

/// A segment of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    /// The class.
    pub label: usize,
    /// The probability of the class, of the first query where several were merged.
    pub score: f32,
    /// The number of pixels in the original image.
    pub area: u64,
}

/// A segment for every pixel of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct Segments {
    /// Size of the original image.
    pub size: ImageSize,
    /// Position in `segments` for every pixel, row-major `[H, W]`; all 0 where there are no segments.
    pub of_pixel: Vec<u32>,
    /// The segments; some kind of stuff may be there twice after small segments were dropped, as in the reference.
    pub segments: Vec<Segment>,
}

impl Segments {
    /// Gives every pixel to one of the kept queries. `masks` are those of `kept`, in their order; `is_stuff` says which
    /// labels have no instances, so that all their segments are one.
    ///
    /// The masks are resized to the size of the image after resizing, of which every pixel goes to the largest logit;
    /// the result is resized to the original with Pillow's nearest pixel. Segments of at most four pixels are dropped,
    /// and the rest share the pixels anew, until there are none. As in the reference, segments of one stuff class are
    /// merged only before any is dropped; a merged one is then empty, and dropped.
    #[must_use]
    pub fn new(
        masks: &HostMasks,
        kept: &[KeptQuery],
        sizes: MaskSizes,
        is_stuff: impl Fn(usize) -> bool,
    ) -> Self {
        let MaskSizes { processed, original, .. } = sizes;
        let sides = |size: ImageSize| [size.height as usize, size.width as usize];
        let ([h, w], [height, width], [oh, ow]) = (masks.size, sides(processed), sides(original));
        // Only the pixels that the last step picks are computed.
        let pick = |taps: &[Tap], picks: Vec<usize>| -> Vec<Tap> {
            picks.into_iter().map(|place| taps[place]).collect()
        };
        let rows = pick(&bilinear(h, height), pillow_nearest(height, oh));
        let columns = pick(&bilinear(w, width), pillow_nearest(width, ow));
        let mut left: Vec<usize> = (0..kept.len()).collect();
        let mut dedup = true;
        loop {
            let of_pixel = argmax(masks, &left, &rows, &columns);
            let merged: Vec<u32> = (0..left.len())
                .map(|i| {
                    let label = kept[left[i]].label;
                    let first = left.iter().position(|&other| kept[other].label == label);
                    let first = first.filter(|_| dedup && is_stuff(label)).unwrap_or(i);
                    u32::try_from(first).unwrap_or(u32::MAX)
                })
                .collect();
            let of_pixel: Vec<u32> = of_pixel
                .into_iter()
                .map(|i| merged.get(i as usize).copied().unwrap_or(0))
                .collect();
            let mut areas = vec![0u64; left.len()];
            for &i in &of_pixel {
                if let Some(area) = areas.get_mut(i as usize) {
                    *area += 1;
                }
            }
            if areas.iter().all(|&area| area > SMALL) {
                let segments = left
                    .iter()
                    .zip(areas)
                    .map(|(&i, area)| {
                        let KeptQuery { label, score, .. } = kept[i];
                        Segment { label, score, area }
                    })
                    .collect();
                return Self { size: original, of_pixel, segments };
            }
            let mut areas = areas.into_iter();
            left.retain(|_| areas.next().is_some_and(|area| area > SMALL));
            dedup = false;
        }
    }

    /// Returns the id of every pixel's segment: from 1, since evaluation takes 0 for void.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        let first = u32::from(!self.segments.is_empty());
        self.of_pixel.iter().map(|&i| i + first).collect()
    }
}

/// Returns the position in `left` of the mask with the largest logit, for every pixel; the first wins a tie. All 0
/// without masks.
fn argmax(masks: &HostMasks, left: &[usize], rows: &[Tap], columns: &[Tap]) -> Vec<u32> {
    let [h, w] = masks.size;
    let (height, width) = (rows.len(), columns.len());
    let mut of_pixel = vec![0u32; height * width];
    // Blocks of rows, so that a thread's best logits stay in its cache.
    let block = (1 << 14_usize) / width.max(1) + 1;
    of_pixel.par_chunks_mut((block * width).max(1)).enumerate().for_each(|(at, of_pixel)| {
        let first = at * block;
        let mut best = vec![f32::NEG_INFINITY; of_pixel.len()];
        let mut line = vec![0.0; width];
        for (i, &mask) in (0u32..).zip(left) {
            let map = &masks.logits[mask * h * w..][..h * w];
            let mut resized = Bilinear::new(map, w, rows, columns);
            let lines = best.chunks_exact_mut(width).zip(of_pixel.chunks_exact_mut(width));
            for (row, (best, of_pixel)) in lines.enumerate() {
                resized.row(first + row, &mut line);
                for ((best, of_pixel), &logit) in best.iter_mut().zip(of_pixel).zip(&line) {
                    if logit > *best {
                        (*best, *of_pixel) = (logit, i);
                    }
                }
            }
        }
    });
    of_pixel
}

/// Returns the queries whose best class, "no object" included, is a class with a probability above `threshold`.
///
/// # Shapes
/// - `logits` `[Q, C + 1]`, row-major with `columns` numbers in a row
pub(super) fn kept(logits: &[f32], columns: usize, threshold: f32) -> Vec<KeptQuery> {
    logits
        .chunks_exact(columns.max(1))
        .enumerate()
        .filter_map(|(query, logits)| {
            let (label, score) = softmax_best(logits, logits.len());
            (label + 1 < columns && score > threshold).then_some(KeptQuery { query, label, score })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments(labels: &[usize], logits: Vec<f32>) -> Segments {
        let kept: Vec<_> = (0..)
            .zip(labels)
            .map(|(query, &label)| KeptQuery { query, label, score: 0.9 })
            .collect();
        let size = ImageSize::new(4, 5);
        let sizes = MaskSizes { padded: size, processed: size, original: size };
        let masks = HostMasks { size: [4, 5], logits };
        Segments::new(&masks, &kept, sizes, |label| label >= 10)
    }

    /// Masks `[4, 5]` that are 1 in some columns and -1 elsewhere.
    fn columns(wanted: &[&[usize]]) -> Vec<f32> {
        let value =
            |columns: &[usize], at: usize| if columns.contains(&(at % 5)) { 1.0 } else { -1.0 };
        wanted.iter().flat_map(|columns| (0..20).map(|at| value(columns, at))).collect()
    }

    #[test]
    fn every_pixel_goes_to_one_segment_and_stuff_is_merged_until_something_is_dropped() {
        // Columns 0 and 1, 2 and 3, 4: the last has only four pixels and goes to the first that ties.
        let found = segments(&[1, 2, 3], columns(&[&[0, 1], &[2, 3], &[4]]));
        let areas: Vec<u64> = found.segments.iter().map(|segment| segment.area).collect();
        assert_eq!(areas, [12, 8]);
        assert_eq!(found.of_pixel[..5], [0, 0, 1, 1, 0]);
        assert_eq!(found.ids()[..5], [1, 1, 2, 2, 1]);
        // Two segments of one stuff class: the second is merged away, so empty, so dropped; its pixels are shared anew.
        let found = segments(&[1, 10, 10], columns(&[&[0, 1], &[2], &[3, 4]]));
        assert_eq!(found.segments.len(), 1);
        assert_eq!(found.of_pixel, [0; 20]);
        assert_eq!(found.segments[0].area, 20);
    }

    #[test]
    fn nothing_kept_leaves_every_pixel_void() {
        let found = segments(&[], Vec::new());
        assert!(found.segments.is_empty());
        assert_eq!(found.ids(), [0; 20]);
    }
}
