//! Operators that are computed on the host, and that models never apply to constants alone.

use std::cmp::Ordering;

use half::f16;

use crate::array::{Array, Values};
use crate::graph::{Attribute, attribute_int};

/// Computes an operator; `None` if it is not one of this file.
pub(super) fn evaluate(
    op: &str,
    inputs: &[&Array],
    attributes: &[(&'static str, Attribute)],
) -> Option<Array> {
    let axis_of = |x: &Array| axis(attribute_int(attributes, "axis")?, x.dims.len());
    match (op, inputs) {
        ("Identity", [x]) => Some((*x).clone()),
        ("Shape", [x]) => {
            let at = |name: &str| usize::try_from(attribute_int(attributes, name)?).ok();
            let dims = x.dims.get(at("start")?..at("end")?)?;
            Some(Array::i64s(dims.iter().map(|&len| crate::array::signed(len))))
        }
        ("Pow", [x, exponent]) => {
            let (Values::F32(values), Values::F32(exponent)) = (&x.values, &exponent.values) else {
                return None;
            };
            let &[exponent] = exponent.as_slice() else { return None };
            Some(Array::f32(values.iter().map(|value| value.powf(exponent)).collect(), &x.dims))
        }
        ("Mod", [x, divisor]) => {
            let (Values::I64(values), &[divisor]) = (&x.values, divisor.as_i64()?) else {
                return None;
            };
            let values = values.iter().map(|value| value.checked_rem_euclid(divisor));
            Some(Array {
                dims: x.dims.clone(),
                values: Values::I64(values.collect::<Option<_>>()?),
            })
        }
        ("Equal", [a, b]) => {
            let values = match (&a.values, &b.values) {
                (Values::F32(a), Values::F32(b)) if b.len() == 1 => {
                    a.iter().map(|value| value.total_cmp(&b[0]).is_eq()).collect()
                }
                (Values::I64(a), Values::I64(b)) if b.len() == 1 => {
                    a.iter().map(|value| *value == b[0]).collect()
                }
                _ => return None,
            };
            Some(Array { dims: a.dims.clone(), values: Values::Bool(values) })
        }
        ("Softmax", [x]) => softmax(x, axis_of(x)?),
        ("LayerNormalization", [x, scale, shift @ ..]) => {
            let epsilon = attributes.iter().find_map(|(name, value)| match value {
                Attribute::Float(value) if *name == "epsilon" => Some(*value),
                _ => None,
            });
            layer_norm(x, scale, shift.first().copied(), epsilon?)
        }
        ("ArgMax", [x]) => arg_max(x, axis_of(x)?),
        ("TopK", [x, k]) => top_k(x, usize::try_from(*k.as_i64()?.first()?).ok()?),
        ("Tile", [x, times]) => tile(x, times.as_i64()?),
        ("GatherElements", [x, indices]) => gather_elements(x, indices, axis_of(x)?),
        ("GatherND", [x, indices]) => {
            gather_nd(x, indices, usize::try_from(attribute_int(attributes, "batch_dims")?).ok()?)
        }
        // Negative axes are the models' last ones.
        ("Gather", [x, indices]) => {
            let axis = crate::array::signed(axis_of(x)?);
            crate::fold::evaluate(op, &[x, indices], &[("axis", Attribute::Int(axis))])
        }
        ("GridSample", [x, grid]) => grid_sample(x, grid),
        // All zero points are zero.
        ("QuantizeLinear", [x, scale, _]) => quantize(x, scale),
        ("DequantizeLinear", [x, scale, _]) => {
            dequantize(x, scale, attribute_int(attributes, "axis"))
        }
        _ => None,
    }
}

/// Returns an axis by its number, which counts from the end if it is negative.
fn axis(number: i64, rank: usize) -> Option<usize> {
    let number = if number < 0 { number + crate::array::signed(rank) } else { number };
    usize::try_from(number).ok().filter(|&axis| axis < rank)
}

/// Returns any numbers as f32.
#[allow(clippy::cast_precision_loss)] // labels and pixels
pub(super) fn as_floats(array: &Array) -> Option<Vec<f32>> {
    Some(match &array.values {
        Values::F32(values) => values.clone(),
        Values::F16(_) => return None,
        Values::I64(values) => values.iter().map(|&value| value as f32).collect(),
        Values::I32(values) => values.iter().map(|&value| value as f32).collect(),
        Values::I8(values) => values.iter().map(|&value| f32::from(value)).collect(),
        Values::Bool(values) => values.iter().map(|&value| f32::from(u8::from(value))).collect(),
    })
}

/// Rounds numbers to half precision.
pub(super) fn to_half(mut array: Array) -> Array {
    if let Values::F32(values) = &mut array.values {
        for value in values {
            *value = f16::from_f32(*value).to_f32();
        }
    }
    array
}

fn floats(array: &Array) -> Option<&[f32]> {
    match &array.values {
        Values::F32(values) => Some(values),
        _ => None,
    }
}

fn indices(array: &Array) -> Option<Vec<usize>> {
    array.as_i64()?.iter().map(|&index| usize::try_from(index).ok()).collect()
}

/// Elements before an axis, along it and behind it.
fn around(dims: &[usize], axis: usize) -> [usize; 3] {
    [dims[..axis].iter().product(), dims[axis], dims[axis + 1..].iter().product()]
}

fn softmax(x: &Array, axis: usize) -> Option<Array> {
    let mut values = floats(x)?.to_vec();
    let [outer, len, inner] = around(&x.dims, axis);
    for block in values.chunks_exact_mut((len * inner).max(1)).take(outer) {
        for offset in 0..inner {
            let places = || (offset..len * inner).step_by(inner);
            let most = places().map(|place| block[place]).fold(f32::NEG_INFINITY, f32::max);
            let mut sum = 0.0;
            for place in places() {
                block[place] = (block[place] - most).exp();
                sum += block[place];
            }
            for place in places() {
                block[place] /= sum;
            }
        }
    }
    Some(Array::f32(values, &x.dims))
}

#[allow(clippy::cast_precision_loss)] // widths of layers
fn layer_norm(x: &Array, scale: &Array, shift: Option<&Array>, epsilon: f32) -> Option<Array> {
    let (scale, width) = (floats(scale)?, *x.dims.last()?);
    let shift = match shift {
        Some(shift) => floats(shift)?.to_vec(),
        None => vec![0.0; width],
    };
    let mut values = floats(x)?.to_vec();
    for row in values.chunks_exact_mut(width) {
        let mean = row.iter().sum::<f32>() / width as f32;
        let square = row.iter().map(|value| (value - mean).powi(2)).sum::<f32>();
        let deviation = (square / width as f32 + epsilon).sqrt();
        for ((value, scale), shift) in row.iter_mut().zip(scale).zip(&shift) {
            *value = (*value - mean) / deviation * scale + shift;
        }
    }
    Some(Array::f32(values, &x.dims))
}

fn arg_max(x: &Array, axis: usize) -> Option<Array> {
    let values = floats(x)?;
    let [outer, len, inner] = around(&x.dims, axis);
    let mut places = Vec::with_capacity(outer * inner);
    for row in 0..outer * inner {
        let from = row / inner * len * inner + row % inner;
        let largest = (0..len)
            .reduce(|a, b| if values[from + b * inner] > values[from + a * inner] { b } else { a });
        places.push(crate::array::signed(largest?));
    }
    let mut dims = x.dims.clone();
    dims[axis] = 1;
    Some(Array { dims, values: Values::I64(places) })
}

/// Returns the indices of the k largest elements of every row, largest first, and the first of equal ones first.
fn top_k(x: &Array, k: usize) -> Option<Array> {
    let (values, width) = (floats(x)?, *x.dims.last()?);
    let mut chosen = Vec::new();
    for row in values.chunks_exact(width) {
        let mut order: Vec<usize> = (0..width).collect();
        order.sort_by(|&a, &b| row[b].partial_cmp(&row[a]).unwrap_or(Ordering::Equal));
        chosen.extend(order.iter().take(k).map(|&place| crate::array::signed(place)));
    }
    let mut dims = x.dims.clone();
    *dims.last_mut()? = k;
    Some(Array { dims, values: Values::I64(chosen) })
}

fn tile(x: &Array, times: &[i64]) -> Option<Array> {
    let mut result = x.clone();
    for (axis, &times) in times.iter().enumerate() {
        let times = usize::try_from(times).ok()?;
        let [outer, len, inner] = around(&result.dims, axis);
        let block = len * inner;
        let places =
            (0..outer).flat_map(|row| (0..times).flat_map(move |_| row * block..(row + 1) * block));
        let values = result.values.pick(places);
        result.dims[axis] *= times;
        result.values = values;
    }
    Some(result)
}

fn gather_elements(x: &Array, chosen: &Array, axis: usize) -> Option<Array> {
    let picked = indices(chosen)?;
    let [_, own, inner] = around(&x.dims, axis);
    let [_, len, chosen_inner] = around(&chosen.dims, axis);
    if inner != chosen_inner || picked.iter().any(|&index| index >= own) {
        return None;
    }
    let places = picked.iter().enumerate().map(|(at, &index)| {
        let (row, offset) = (at / (len * inner), at % inner);
        (row * own + index) * inner + offset
    });
    Some(Array { dims: chosen.dims.clone(), values: x.values.pick(places) })
}

/// Returns rows of `[batch.., S, ..]` by indices `[batch.., N, 1]`.
fn gather_nd(x: &Array, chosen: &Array, batch: usize) -> Option<Array> {
    let picked = indices(chosen)?;
    let (Some((&1, own)), Some(&len)) = (chosen.dims.split_last(), x.dims.get(batch)) else {
        return None;
    };
    let row: usize = x.dims[batch + 1..].iter().product();
    let each: usize = own[batch..].iter().product();
    if picked.iter().any(|&index| index >= len) {
        return None;
    }
    let values = floats(x)?;
    let mut read = Vec::with_capacity(picked.len() * row);
    for (at, index) in picked.iter().enumerate() {
        let from = (at / each * len + index) * row;
        read.extend_from_slice(&values[from..from + row]);
    }
    Some(Array::f32(read, &[own, &x.dims[batch + 1..]].concat()))
}

/// Reads maps `[N, C, H, W]` at places `[N, h, w, 2]`, (x, y) from -1 to 1, bilinearly; cells outside are zero.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // sides of maps
fn grid_sample(x: &Array, grid: &Array) -> Option<Array> {
    let (&[n, c, h, w], &[_, rows, columns, 2]) = (x.dims.as_slice(), grid.dims.as_slice()) else {
        return None;
    };
    let (maps, places) = (floats(x)?, floats(grid)?);
    let cells = rows * columns;
    let mut read = vec![0.0; n * c * cells];
    for (at, place) in places.as_chunks::<2>().0.iter().enumerate() {
        let (image, cell) = (at / cells, at % cells);
        let [px, py] = [(place[0], w), (place[1], h)]
            .map(|(place, side)| ((place + 1.0) * side as f32 - 1.0) / 2.0);
        let (left, top) = (px.floor(), py.floor());
        for (dy, dx) in [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (1.0, 1.0)] {
            let (column, row) = (left + dx, top + dy);
            let weight = (1.0 - (px - column).abs()) * (1.0 - (py - row).abs());
            #[allow(clippy::cast_sign_loss)] // not below zero
            let inside = |place: f32, side: usize| {
                (place >= 0.0 && place < side as f32).then_some(place as usize)
            };
            let (Some(column), Some(row)) = (inside(column, w), inside(row, h)) else { continue };
            for channel in 0..c {
                let map = image * c + channel;
                read[map * cells + cell] += weight * maps[(map * h + row) * w + column];
            }
        }
    }
    Some(Array::f32(read, &[n, c, rows, columns]))
}

/// Divides by one scale and rounds to the nearest whole number, to the even one of two, from -128 to 127.
#[allow(clippy::cast_possible_truncation)] // clamped to i8
fn quantize(x: &Array, scale: &Array) -> Option<Array> {
    let (values, &[scale]) = (floats(x)?, floats(scale)?) else { return None };
    let round = |value: &f32| (value / scale).round_ties_even().clamp(-128.0, 127.0) as i8;
    Some(Array { dims: x.dims.clone(), values: Values::I8(values.iter().map(round).collect()) })
}

/// Multiplies by one scale, or by one for every index of an axis.
fn dequantize(x: &Array, scale: &Array, number: Option<i64>) -> Option<Array> {
    let (Values::I8(values), scales) = (&x.values, floats(scale)?) else { return None };
    let inner = if scales.len() == 1 {
        1
    } else {
        let [_, len, inner] = around(&x.dims, axis(number?, x.dims.len())?);
        if len != scales.len() {
            return None;
        }
        inner
    };
    let scaled = values
        .iter()
        .enumerate()
        .map(|(at, &value)| f32::from(value) * scales[at / inner % scales.len()]);
    Some(Array::f32(scaled.collect(), &x.dims))
}
