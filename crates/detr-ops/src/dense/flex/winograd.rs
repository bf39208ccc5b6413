//! Filters of 3x3 that go over every cell, by Winograd's algorithm F(2x2, 3x3): 16 products where the sum of the
//! definition has 36. Every 2x2 cells of the output are a tile, `Y = A' [(G g G') * (B' d B)] A`, of 4x4 cells `d` of
//! the input and a filter `g`, multiplied number by number; over channels, these are 16 products of matrices (Lavin
//! and Gray, *Fast Algorithms for Convolutional Neural Networks*, 2015, section 4.1). The larger F(4x4, 3x3) needs
//! fewer products still, but rounds ten times as coarsely.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::conv::Epilogue;
use super::geometry::Geometry;
use super::matrix::{View, multiply};
use super::scratch;
use super::{ConvOptions, TASKS};
use crate::cpu::shared::Shared;
use crate::cpu::zeros::zeros;

/// Products of a tile, and numbers along one side of what they are of.
const PRODUCTS: usize = 16;
const SIDE: usize = 4;
/// Tiles that make a product of matrices worth its while; fewer than that are left to the definition.
const TILES: usize = 128;
/// The number of transformed values that all threads work on at once: they stay in the cache that the
/// threads share.
const NUMBERS: usize = 1 << 23;
/// The fewer channels and filters, the more the transformations weigh beside what the products save; a ResNet-50
/// has this many at least, and with fewer it was not measured.
const LEAST: usize = 64;

/// Returns whether this is a convolution for this algorithm.
pub(super) fn suits(geometry: &Geometry) -> bool {
    let options = &geometry.options;
    geometry.kernel == [3, 3]
        && options.stride == [1, 1]
        && options.dilation == [1, 1]
        && geometry.channels.min(geometry.filters) >= LEAST
        && geometry.images * tiles(geometry).iter().product::<usize>() >= TILES
}

/// Computes the output `[B, C', H', W']`.
pub(super) fn forward(
    geometry: &Geometry,
    x: &[f32],
    weight: &[f32],
    after: Epilogue<'_>,
) -> Vec<f32> {
    let Geometry { channels, filters, .. } = *geometry;
    let mut output = zeros(geometry.images * filters * geometry.cells());
    let mut transformed = scratch::lend(PRODUCTS * filters * channels);
    transform_filters(weight, [filters, channels], &mut transformed);
    let work =
        Work { geometry, x, filters: &transformed, after, output: &Shared::new(&mut output) };

    let [tall, wide] = tiles(geometry);
    let rows = geometry.images * tall;
    let block = TILES.div_ceil(wide);
    if rows.div_ceil(block) >= TASKS {
        (0..rows.div_ceil(block)).into_par_iter().for_each(|index| {
            let first = index * block;
            work.alone(&Block { rows: first..(first + block).min(rows), wide });
        });
    } else {
        let chunk = (NUMBERS / (PRODUCTS * (channels + filters) * wide)).max(1);
        for first in (0..rows).step_by(chunk) {
            work.together(&Block { rows: first..(first + chunk).min(rows), wide });
        }
    }
    output
}

/// Computes the gradient of the input `[B, C, H, W]` from that of the output, if this is a convolution for this
/// algorithm: that of the gradient by the filters turned around, with channels and filters exchanged.
pub(super) fn input(geometry: &Geometry, weight: &[f32], grad: &[f32]) -> Option<Vec<f32>> {
    let Geometry { channels, filters, .. } = *geometry;
    let [above, left] = geometry.options.padding.map(|padding| 2usize.checked_sub(padding));
    let options = ConvOptions { padding: [above?, left?], relu: false, ..geometry.options };
    let turned = Geometry {
        channels: filters,
        filters: channels,
        input: geometry.output,
        output: geometry.input,
        options,
        ..*geometry
    };
    if !suits(&turned) {
        return None;
    }
    let mut turned_weight = scratch::lend(weight.len());
    turned_weight.par_chunks_exact_mut(9 * filters).enumerate().for_each(|(channel, out)| {
        for (filter, out) in out.chunks_exact_mut(9).enumerate() {
            let taps = &weight[(filter * channels + channel) * 9..][..9];
            out.iter_mut().zip(taps.iter().rev()).for_each(|(out, tap)| *out = *tap);
        }
    });
    let after = Epilogue { bias: &vec![0.0; channels], residual: None, relu: false };
    Some(forward(&turned, grad, &turned_weight, after))
}

/// Returns the rows and columns of the tiles of an image.
fn tiles(geometry: &Geometry) -> [usize; 2] {
    geometry.output.map(|size| size.div_ceil(2))
}

/// Rows of tiles; they count through all images.
struct Block {
    rows: Range<usize>,
    /// Tiles of a row.
    wide: usize,
}

impl Block {
    fn tiles(&self) -> usize {
        self.rows.len() * self.wide
    }
}

struct Work<'a> {
    geometry: &'a Geometry,
    x: &'a [f32],
    /// `G g G'`: a matrix of filters and channels for each product.
    filters: &'a [f32],
    after: Epilogue<'a>,
    output: &'a Shared<'a>,
}

impl Work<'_> {
    /// Computes a block by one thread.
    fn alone(&self, block: &Block) {
        let Geometry { channels, filters, .. } = *self.geometry;
        let tiles = block.tiles();
        let sizes = [PRODUCTS * channels * tiles, PRODUCTS * filters * tiles];
        scratch::with(sizes, |[inputs, sums]| {
            self.transform(block, 0..channels, &Shared::new(inputs));
            for (product, sums) in sums.chunks_exact_mut(filters * tiles).enumerate() {
                self.multiply(block, product, inputs, sums);
            }
            self.finish(block, 0..filters, sums);
        });
    }

    /// Computes a block by all threads.
    fn together(&self, block: &Block) {
        let Geometry { channels, filters, .. } = *self.geometry;
        let tiles = block.tiles();
        let mut inputs = scratch::lend(PRODUCTS * channels * tiles);
        let mut sums = scratch::lend(PRODUCTS * filters * tiles);
        let shared = Shared::new(&mut inputs);
        parts(channels).for_each(|channels| self.transform(block, channels, &shared));
        sums.par_chunks_exact_mut(filters * tiles).enumerate().for_each(|(product, sums)| {
            self.multiply(block, product, &inputs, sums);
        });
        parts(filters).for_each(|filters| self.finish(block, filters, &sums));
    }

    /// `B' d B` of all tiles of the block: a matrix of channels and tiles for each product.
    fn transform(&self, block: &Block, channels: Range<usize>, inputs: &Shared<'_>) {
        let Self { geometry, x, .. } = *self;
        Arch::new().dispatch(Transform { geometry, x, block, channels, inputs });
    }

    /// Multiplies all tiles, channels and filters for one product: a row for every filter.
    fn multiply(&self, block: &Block, product: usize, inputs: &[f32], sums: &mut [f32]) {
        let Geometry { channels, filters, .. } = *self.geometry;
        let tiles = block.tiles();
        let inputs = View::new(&inputs[product * channels * tiles..], [channels, tiles]);
        let weights = View::new(&self.filters[product * filters * channels..], [filters, channels]);
        multiply(sums, tiles, weights, inputs, false);
    }

    /// Computes cells of the output from the products.
    fn finish(&self, block: &Block, filters: Range<usize>, sums: &[f32]) {
        let Self { geometry, after, output, .. } = *self;
        Arch::new().dispatch(Finish { geometry, after, block, filters, sums, output });
    }
}

/// Divides `all` items among the tasks.
fn parts(all: usize) -> impl IndexedParallelIterator<Item = Range<usize>> {
    let part = all.div_ceil(TASKS);
    (0..all.div_ceil(part)).into_par_iter().map(move |i| i * part..((i + 1) * part).min(all))
}

/// `G g G'` of every filter and channel.
fn transform_filters(weight: &[f32], [filters, channels]: [usize; 2], out: &mut [f32]) {
    let out = &Shared::new(out);
    parts(filters).for_each(|filters_here| {
        for filter in filters_here {
            let weight = &weight[filter * channels * 9..][..channels * 9];
            let first = filter * channels;
            Arch::new().dispatch(TransformFilters {
                weight,
                out,
                first,
                stride: filters * channels,
            });
        }
    });
}

/// Neighbouring channels of a filter.
struct TransformFilters<'a> {
    /// Nine numbers for each.
    weight: &'a [f32],
    out: &'a Shared<'a>,
    /// Place of the first one in each matrix of the output, and the size of a matrix.
    first: usize,
    stride: usize,
}

impl WithSimd for TransformFilters<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        const LANES: usize = 16;
        for (index, weights) in self.weight.chunks(9 * LANES).enumerate() {
            let count = weights.len() / 9;
            let mut taps = [[0f32; LANES]; 9];
            for (lane, weights) in weights.chunks_exact(9).enumerate() {
                for (tap, weight) in taps.iter_mut().zip(weights) {
                    tap[lane] = *weight;
                }
            }
            // First along columns, then along rows.
            let mut half = [[[0f32; LANES]; 3]; SIDE];
            for column in 0..3 {
                let [a, b, c] = [0, 3, 6].map(|row| taps[row + column]);
                let found = quartet(a, b, c);
                for (half, found) in half.iter_mut().zip(found) {
                    half[column] = found;
                }
            }
            for (row, [a, b, c]) in half.into_iter().enumerate() {
                for (column, found) in quartet(a, b, c).into_iter().enumerate() {
                    let place = (row * SIDE + column) * self.stride + self.first + index * LANES;
                    // SAFETY: calls are for different filters.
                    #[allow(unsafe_code)]
                    let out = unsafe { self.out.part(place, count) };
                    out.copy_from_slice(&found[..count]);
                }
            }
        }
    }
}

/// `G` times three numbers.
#[inline(always)]
fn quartet<const N: usize>(a: [f32; N], b: [f32; N], c: [f32; N]) -> [[f32; N]; SIDE] {
    let mut found = [[0f32; N]; SIDE];
    for lane in 0..N {
        let (outer, inner) = (0.5 * (a[lane] + c[lane]), 0.5 * b[lane]);
        found[0][lane] = a[lane];
        found[1][lane] = outer + inner;
        found[2][lane] = outer - inner;
        found[3][lane] = c[lane];
    }
    found
}

struct Transform<'a> {
    geometry: &'a Geometry,
    x: &'a [f32],
    block: &'a Block,
    channels: Range<usize>,
    inputs: &'a Shared<'a>,
}

impl WithSimd for Transform<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, x, block, channels, inputs } = self;
        let (tiles, wide, [tall, _]) = (block.tiles(), block.wide, self::tiles(geometry));
        let [height, width] = geometry.input;
        let [above, left] = geometry.options.padding;
        // Even and odd cells of four lines, one cell more than there are tiles; then of their combinations.
        let cells = wide + 1;
        let mut lines = vec![0f32; 2 * SIDE * cells];
        let mut combined = vec![0f32; 2 * SIDE * cells];
        for channel in channels {
            for (index, row) in block.rows.clone().enumerate() {
                let (image, row) = (row / tall, row % tall);
                let plane = &x[(image * geometry.channels + channel) * height * width..];
                for (line, cells) in lines.chunks_exact_mut(2 * cells).enumerate() {
                    match (2 * row + line).checked_sub(above).filter(|&line| line < height) {
                        Some(line) => split(&plane[line * width..(line + 1) * width], left, cells),
                        None => cells.fill(0.0),
                    }
                }
                let lines: [&[f32]; SIDE] = pieces(&lines, 2 * cells);
                combine(lines, pieces_mut(&mut combined, 2 * cells));
                for (line, combined) in combined.chunks_exact(2 * cells).enumerate() {
                    let (even, odd) = combined.split_at(cells);
                    let out: [&mut [f32]; SIDE] = std::array::from_fn(|column| {
                        let product = line * SIDE + column;
                        let place = (product * geometry.channels + channel) * tiles + index * wide;
                        // SAFETY: calls are for different blocks or channels.
                        #[allow(unsafe_code)]
                        unsafe {
                            inputs.part(place, wide)
                        }
                    });
                    combine([&even[..wide], &odd[..wide], &even[1..], &odd[1..]], out);
                }
            }
        }
    }
}

/// Splits a line that begins with `left` zeros, and ends with as many as it takes, into its even
/// and its odd cells.
#[inline(always)]
fn split(line: &[f32], left: usize, cells: &mut [f32]) {
    let (even, odd) = cells.split_at_mut(cells.len() / 2);
    let width = line.len();
    for (out, parity) in [(even, 0), (odd, 1)] {
        // Out[j] is the cell 2 j + parity - left.
        let begin = left.saturating_sub(parity).div_ceil(2).min(out.len());
        let end = (width + left).saturating_sub(parity).div_ceil(2).clamp(begin, out.len());
        out[..begin].fill(0.0);
        out[end..].fill(0.0);
        if begin < end {
            let from = &line[2 * begin + parity - left..];
            let (pairs, last) = from.as_chunks::<2>();
            let inside = &mut out[begin..end];
            for (out, [cell, _]) in inside.iter_mut().zip(pairs) {
                *out = *cell;
            }
            if let (Some(out), [cell]) = (inside.get_mut(pairs.len()), last) {
                *out = *cell;
            }
        }
    }
}

/// `B'` times four numbers, for many.
#[inline(always)]
fn combine([a, b, c, d]: [&[f32]; SIDE], [p, q, r, s]: [&mut [f32]; SIDE]) {
    let n = p.len();
    let (a, b, c, d) = (&a[..n], &b[..n], &c[..n], &d[..n]);
    let (q, r, s) = (&mut q[..n], &mut r[..n], &mut s[..n]);
    for i in 0..n {
        p[i] = a[i] - c[i];
        q[i] = b[i] + c[i];
        r[i] = c[i] - b[i];
        s[i] = b[i] - d[i];
    }
}

#[inline(always)]
fn pieces(all: &[f32], len: usize) -> [&[f32]; SIDE] {
    std::array::from_fn(|index| &all[index * len..(index + 1) * len])
}

#[inline(always)]
fn pieces_mut(all: &mut [f32], len: usize) -> [&mut [f32]; SIDE] {
    let (a, rest) = all.split_at_mut(len);
    let (b, rest) = rest.split_at_mut(len);
    let (c, d) = rest.split_at_mut(len);
    [a, b, c, d]
}

struct Finish<'a> {
    geometry: &'a Geometry,
    after: Epilogue<'a>,
    block: &'a Block,
    filters: Range<usize>,
    sums: &'a [f32],
    output: &'a Shared<'a>,
}

impl WithSimd for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { geometry, after, block, filters, sums, output } = self;
        let (tiles, wide, [tall, _]) = (block.tiles(), block.wide, self::tiles(geometry));
        let [height, width] = geometry.output;
        let mut half = vec![0f32; 2 * SIDE * wide];
        let mut line = vec![0f32; 2 * wide];
        for filter in filters {
            for (index, row) in block.rows.clone().enumerate() {
                let (image, row) = (row / tall, row % tall);
                // Columns of the products become two numbers each,
                for column in 0..SIDE {
                    let of = |line: usize| {
                        let product = line * SIDE + column;
                        let place = (product * geometry.filters + filter) * tiles + index * wide;
                        &sums[place..place + wide]
                    };
                    let (first, second) = half.split_at_mut(SIDE * wide);
                    let [first, second] =
                        [first, second].map(|half| &mut half[column * wide..][..wide]);
                    let [a, b, c, d] = [0, 1, 2, 3].map(of);
                    for i in 0..wide {
                        first[i] = a[i] + b[i] + c[i];
                        second[i] = b[i] - c[i] - d[i];
                    }
                }
                // and then rows of these.
                for (below, half) in half.chunks_exact(SIDE * wide).enumerate() {
                    let place = 2 * row + below;
                    if place >= height {
                        continue;
                    }
                    let [a, b, c, d] = pieces(half, wide);
                    let (cells, _) = line.as_chunks_mut::<2>();
                    let cells = &mut cells[..wide];
                    for i in 0..wide {
                        cells[i] = [a[i] + b[i] + c[i], b[i] - c[i] - d[i]];
                    }
                    let place = (image * geometry.filters + filter) * height + place;
                    // SAFETY: calls are for different blocks or filters.
                    #[allow(unsafe_code)]
                    let out = unsafe { output.part(place * width, width) };
                    after.apply(filter, place * width, &line[..width], out);
                }
            }
        }
    }
}
