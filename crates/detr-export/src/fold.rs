//! Evaluates operators on constants, so that positions, slices of weights and the like are in the file as numbers and
//! not as nodes. Only operators that models apply to constants are here; `None` leaves the node in the graph.

use crate::array::{Array, Values, signed};
use crate::graph::{Attribute, attribute_int, attribute_ints};

/// The most multiplications that a product of constants may take here.
const MAX_PRODUCTS: usize = 1 << 26;

/// Evaluates an operator; `None` if it is not among those that are known here.
pub(crate) fn evaluate(
    op: &str,
    inputs: &[&Array],
    attributes: &[(&'static str, Attribute)],
) -> Option<Array> {
    let int = |name: &str| attribute_int(attributes, name);
    match (op, inputs) {
        ("Neg", [x]) => unary(x, |x| -x),
        ("Abs", [x]) => unary(x, f32::abs),
        ("Sqrt", [x]) => unary(x, f32::sqrt),
        ("Exp", [x]) => unary(x, f32::exp),
        ("Log", [x]) => unary(x, f32::ln),
        ("Sin", [x]) => unary(x, f32::sin),
        ("Cos", [x]) => unary(x, f32::cos),
        ("Floor", [x]) => unary(x, f32::floor),
        ("Relu", [x]) => unary(x, |x| x.max(0.0)),
        ("Sigmoid", [x]) => unary(x, |x| 1.0 / (1.0 + (-x).exp())),
        ("Reciprocal", [x]) => unary(x, f32::recip),
        ("Add", [a, b]) => numeric(a, b, |a, b| a + b, i64::wrapping_add),
        ("Sub", [a, b]) => numeric(a, b, |a, b| a - b, i64::wrapping_sub),
        ("Mul", [a, b]) => numeric(a, b, |a, b| a * b, i64::wrapping_mul),
        ("Div", [a, b]) => numeric(a, b, |a, b| a / b, |a, b| a.checked_div(b).unwrap_or(0)),
        ("Max", [a, b]) => numeric(a, b, f32::max, i64::max),
        ("Min", [a, b]) => numeric(a, b, f32::min, i64::min),
        ("Greater", [a, b]) => compare(a, b, |a, b| a > b),
        ("GreaterOrEqual", [a, b]) => compare(a, b, |a, b| a >= b),
        ("Less", [a, b]) => compare(a, b, |a, b| a < b),
        ("LessOrEqual", [a, b]) => compare(a, b, |a, b| a <= b),
        ("And", [a, b]) => logical(a, b, |a, b| a && b),
        ("Or", [a, b]) => logical(a, b, |a, b| a || b),
        ("Not", [x]) => match &x.values {
            Values::Bool(values) => Some(Array {
                dims: x.dims.clone(),
                values: Values::Bool(values.iter().map(|value| !value).collect()),
            }),
            _ => None,
        },
        ("Clip", [x, low, high]) => {
            let low = numeric(x, low, f32::max, i64::max)?;
            numeric(&low, high, f32::min, i64::min)
        }
        ("Cast", [x]) => cast(x, int("to")?),
        ("Reshape", [x, shape]) => reshape(x, shape.as_i64()?),
        ("Expand", [x, shape]) => expand(x, shape.as_i64()?),
        ("ConstantOfShape", [shape]) => constant_of_shape(shape.as_i64()?, attributes),
        ("Transpose", [x]) => transpose(x, attribute_ints(attributes, "perm")?),
        ("Concat", parts) => concat(parts, usize::try_from(int("axis")?).ok()?),
        ("Slice", [x, starts, ends, axes, steps]) => {
            slice(x, starts.as_i64()?, ends.as_i64()?, axes.as_i64()?, steps.as_i64()?)
        }
        ("Gather", [x, indices]) => gather(x, indices, usize::try_from(int("axis")?).ok()?),
        ("Where", [mask, a, b]) => choose(mask, a, b),
        ("CumSum", [x, axis]) => cumulative_sum(x, axis.as_i64()?),
        ("ReduceSum", [x, axes]) => reduce(x, axes.as_i64()?, Reduction::Sum),
        ("ReduceMean", [x, axes]) => reduce(x, axes.as_i64()?, Reduction::Mean),
        ("ReduceMax", [x, axes]) => reduce(x, axes.as_i64()?, Reduction::Max),
        ("ReduceMean", [x]) => reduce(x, attribute_ints(attributes, "axes")?, Reduction::Mean),
        ("ReduceMax", [x]) => reduce(x, attribute_ints(attributes, "axes")?, Reduction::Max),
        ("MatMul", [a, b]) => product(a, b),
        _ => None,
    }
}

/// Steps from one index of an axis to the next, in elements.
fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * dims[axis];
    }
    strides
}

/// Visits the places of a tensor in the order of another one's elements: `steps` has the distance in elements for
/// every axis of `dims`, and is 0 along an axis that is repeated.
fn walk(dims: &[usize], steps: &[isize], start: usize) -> impl Iterator<Item = usize> + use<> {
    let (dims, steps) = (dims.to_vec(), steps.to_vec());
    let total: usize = dims.iter().product();
    let mut index = vec![0; dims.len()];
    let mut place = signed(start);
    (0..total).map(move |_| {
        let here = usize::try_from(place).unwrap_or_default();
        for axis in (0..dims.len()).rev() {
            index[axis] += 1;
            place += steps[axis] as i64;
            if index[axis] < dims[axis] {
                break;
            }
            place -= steps[axis] as i64 * signed(dims[axis]);
            index[axis] = 0;
        }
        here
    })
}

/// Returns the shape of two operands that are broadcast against each other.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| {
        (axis + dims.len()).checked_sub(rank).map_or(1, |axis| dims[axis])
    };
    (0..rank)
        .map(|axis| match (at(a, axis), at(b, axis)) {
            (a, b) if a == b => Some(a),
            (1, n) | (n, 1) => Some(n),
            _ => None,
        })
        .collect()
}

/// Returns the places of an operand in the order of the broadcast result.
fn places(operand: &[usize], dims: &[usize]) -> impl Iterator<Item = usize> + use<> {
    let own = strides(operand);
    let offset = dims.len() - operand.len();
    let steps: Vec<isize> = (0..dims.len())
        .map(|axis| match axis.checked_sub(offset) {
            Some(axis) if operand[axis] != 1 => own[axis].cast_signed(),
            _ => 0,
        })
        .collect();
    walk(dims, &steps, 0)
}

fn unary(x: &Array, f: impl Fn(f32) -> f32) -> Option<Array> {
    match &x.values {
        Values::F32(values) => {
            Some(Array::f32(values.iter().map(|&value| f(value)).collect(), &x.dims))
        }
        _ => None,
    }
}

fn zip<A: Copy, B: Copy, T>(
    (a, a_dims): (&[A], &[usize]),
    (b, b_dims): (&[B], &[usize]),
    dims: &[usize],
    f: impl Fn(A, B) -> T,
) -> Vec<T> {
    // Operands that are there as a whole, once or several times, are read in their order.
    let repeats = |own: &[usize]| {
        let ones = own.iter().take_while(|&&len| len == 1).count();
        dims.ends_with(&own[ones..])
    };
    if !a.is_empty() && !b.is_empty() && repeats(a_dims) && repeats(b_dims) {
        let total = dims.iter().product();
        return a
            .iter()
            .cycle()
            .zip(b.iter().cycle())
            .take(total)
            .map(|(&a, &b)| f(a, b))
            .collect();
    }
    places(a_dims, dims).zip(places(b_dims, dims)).map(|(i, j)| f(a[i], b[j])).collect()
}

fn numeric(
    a: &Array,
    b: &Array,
    float: impl Fn(f32, f32) -> f32,
    int: impl Fn(i64, i64) -> i64,
) -> Option<Array> {
    let dims = broadcast(&a.dims, &b.dims)?;
    let values = match (&a.values, &b.values) {
        (Values::F32(x), Values::F32(y)) => {
            Values::F32(zip((x, &a.dims), (y, &b.dims), &dims, float))
        }
        (Values::I64(x), Values::I64(y)) => {
            Values::I64(zip((x, &a.dims), (y, &b.dims), &dims, int))
        }
        _ => return None,
    };
    Some(Array { dims, values })
}

fn compare(a: &Array, b: &Array, f: impl Fn(f32, f32) -> bool) -> Option<Array> {
    let dims = broadcast(&a.dims, &b.dims)?;
    match (&a.values, &b.values) {
        (Values::F32(x), Values::F32(y)) => {
            let values = Values::Bool(zip((x, &a.dims), (y, &b.dims), &dims, f));
            Some(Array { dims, values })
        }
        _ => None,
    }
}

fn logical(a: &Array, b: &Array, f: impl Fn(bool, bool) -> bool) -> Option<Array> {
    let dims = broadcast(&a.dims, &b.dims)?;
    match (&a.values, &b.values) {
        (Values::Bool(x), Values::Bool(y)) => {
            let values = Values::Bool(zip((x, &a.dims), (y, &b.dims), &dims, f));
            Some(Array { dims, values })
        }
        _ => None,
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // ONNX's Cast rounds, too
fn cast(x: &Array, to: i64) -> Option<Array> {
    let values = match (&x.values, to) {
        (Values::F32(values), 7) => Values::I64(values.iter().map(|&value| value as i64).collect()),
        (Values::F32(values), 9) => {
            Values::Bool(values.iter().map(|&value| value != 0.0).collect())
        }
        (Values::I64(values), 1) => Values::F32(values.iter().map(|&value| value as f32).collect()),
        (Values::I32(values), 7) => Values::I64(values.iter().map(|&value| value.into()).collect()),
        (Values::Bool(values), 1) => {
            Values::F32(values.iter().map(|&value| f32::from(u8::from(value))).collect())
        }
        (Values::Bool(values), 7) => {
            Values::I64(values.iter().map(|&value| value.into()).collect())
        }
        _ => return None,
    };
    Some(Array { dims: x.dims.clone(), values })
}

fn reshape(x: &Array, shape: &[i64]) -> Option<Array> {
    let known: usize = shape.iter().filter_map(|&len| usize::try_from(len).ok()).product();
    let dims = shape
        .iter()
        .map(|&len| usize::try_from(len).or_else(|_| x.values.len().checked_div(known).ok_or(())));
    let dims: Vec<usize> = dims.collect::<Result<_, _>>().ok()?;
    (dims.iter().product::<usize>() == x.values.len())
        .then(|| Array { dims, values: x.values.clone() })
}

fn lengths(shape: &[i64]) -> Option<Vec<usize>> {
    shape.iter().map(|&len| usize::try_from(len).ok()).collect()
}

fn expand(x: &Array, shape: &[i64]) -> Option<Array> {
    let dims = broadcast(&x.dims, &lengths(shape)?)?;
    let values = x.values.pick(places(&x.dims, &dims));
    Some(Array { dims, values })
}

fn constant_of_shape(shape: &[i64], attributes: &[(&'static str, Attribute)]) -> Option<Array> {
    let dims = lengths(shape)?;
    let value = attributes.iter().find_map(|(name, value)| match value {
        Attribute::Array(array) if *name == "value" => Some(array),
        _ => None,
    })?;
    let total = dims.iter().product();
    Some(Array { dims, values: value.values.pick(std::iter::repeat_n(0, total)) })
}

fn transpose(x: &Array, perm: &[i64]) -> Option<Array> {
    let perm = lengths(perm)?;
    let own = strides(&x.dims);
    let dims: Vec<usize> = perm.iter().map(|&axis| x.dims[axis]).collect();
    let steps: Vec<isize> = perm.iter().map(|&axis| own[axis].cast_signed()).collect();
    let values = x.values.pick(walk(&dims, &steps, 0));
    Some(Array { dims, values })
}

/// Takes a row of every part in turn.
fn join<T: Copy>(parts: &[(&[T], usize)], outer: usize) -> Vec<T> {
    let mut joined = Vec::with_capacity(parts.iter().map(|(values, _)| values.len()).sum());
    for row in 0..outer {
        for (values, len) in parts {
            joined.extend_from_slice(&values[row * len..(row + 1) * len]);
        }
    }
    joined
}

fn concat(parts: &[&Array], axis: usize) -> Option<Array> {
    let first = parts.first()?;
    let mut dims = first.dims.clone();
    dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
    let outer: usize = dims[..axis].iter().product();
    macro_rules! joined {
        ($kind:ident) => {{
            let parts: Option<Vec<_>> = parts
                .iter()
                .map(|part| match &part.values {
                    Values::$kind(values) => {
                        Some((values.as_slice(), part.dims[axis..].iter().product::<usize>()))
                    }
                    _ => None,
                })
                .collect();
            Values::$kind(join(&parts?, outer))
        }};
    }
    let values = match &first.values {
        Values::F32(_) => joined!(F32),
        Values::I64(_) => joined!(I64),
        Values::Bool(_) => joined!(Bool),
        _ => return None,
    };
    Some(Array { dims, values })
}

fn slice(x: &Array, starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]) -> Option<Array> {
    let own = strides(&x.dims);
    let mut dims = x.dims.clone();
    let mut walks: Vec<isize> = own.iter().map(|stride| stride.cast_signed()).collect();
    let mut from = 0;
    for (((&start, &end), &axis), &step) in starts.iter().zip(ends).zip(axes).zip(steps) {
        let axis = usize::try_from(axis).ok()?;
        let step = usize::try_from(step).ok().filter(|&step| step > 0)?;
        let start = usize::try_from(start).ok()?;
        let end = usize::try_from(end).ok()?.min(x.dims[axis]);
        dims[axis] = end.checked_sub(start)?.div_ceil(step);
        walks[axis] = (own[axis] * step).cast_signed();
        from += start * own[axis];
    }
    let values = x.values.pick(walk(&dims, &walks, from));
    Some(Array { dims, values })
}

fn gather(x: &Array, indices: &Array, axis: usize) -> Option<Array> {
    let chosen: Vec<usize> = match &indices.values {
        Values::I64(values) => lengths(values)?,
        Values::I32(values) => {
            values.iter().map(|&value| usize::try_from(value).ok()).collect::<Option<_>>()?
        }
        _ => return None,
    };
    let outer: usize = x.dims[..axis].iter().product();
    let inner: usize = x.dims[axis + 1..].iter().product();
    let len = x.dims[axis];
    if chosen.iter().any(|&index| index >= len) {
        return None;
    }
    let places = (0..outer).flat_map(|row| {
        chosen.iter().flat_map(move |&index| {
            let from = (row * len + index) * inner;
            from..from + inner
        })
    });
    let values = x.values.pick(places);
    let dims = [&x.dims[..axis], &indices.dims, &x.dims[axis + 1..]].concat();
    Some(Array { dims, values })
}

fn choose(mask: &Array, a: &Array, b: &Array) -> Option<Array> {
    let dims = broadcast(&broadcast(&mask.dims, &a.dims)?, &b.dims)?;
    let Values::Bool(chosen) = &mask.values else { return None };
    let places = places(&mask.dims, &dims).zip(places(&a.dims, &dims)).zip(places(&b.dims, &dims));
    let values = match (&a.values, &b.values) {
        (Values::F32(x), Values::F32(y)) => {
            Values::F32(places.map(|((m, i), j)| if chosen[m] { x[i] } else { y[j] }).collect())
        }
        (Values::I64(x), Values::I64(y)) => {
            Values::I64(places.map(|((m, i), j)| if chosen[m] { x[i] } else { y[j] }).collect())
        }
        _ => return None,
    };
    Some(Array { dims, values })
}

fn cumulative_sum(x: &Array, axis: &[i64]) -> Option<Array> {
    let &[axis] = axis else { return None };
    let axis = usize::try_from(axis).ok()?;
    let Values::F32(values) = &x.values else { return None };
    let mut values = values.clone();
    let step = strides(&x.dims)[axis];
    for place in 0..values.len() {
        if !(place / step).is_multiple_of(x.dims[axis]) {
            values[place] += values[place - step];
        }
    }
    Some(Array::f32(values, &x.dims))
}

#[derive(Clone, Copy)]
enum Reduction {
    Sum,
    Mean,
    Max,
}

#[allow(clippy::cast_precision_loss)] // lengths of axes
fn reduce(x: &Array, axes: &[i64], reduction: Reduction) -> Option<Array> {
    let Values::F32(values) = &x.values else { return None };
    let axes = lengths(axes)?;
    let mut dims = x.dims.clone();
    for &axis in &axes {
        dims[axis] = 1;
    }
    let total: usize = dims.iter().product();
    let start = if matches!(reduction, Reduction::Max) { f32::NEG_INFINITY } else { 0.0 };
    let mut reduced = vec![start; total];
    for (&value, place) in values.iter().zip(places(&dims, &x.dims)) {
        reduced[place] = match reduction {
            Reduction::Max => reduced[place].max(value),
            Reduction::Sum | Reduction::Mean => reduced[place] + value,
        };
    }
    if matches!(reduction, Reduction::Mean) {
        let count: usize = axes.iter().map(|&axis| x.dims[axis]).product();
        for value in &mut reduced {
            *value /= count as f32;
        }
    }
    Some(Array::f32(reduced, &dims))
}

/// Returns the product of a tensor `[.., I]` with a matrix `[I, O]`.
fn product(a: &Array, b: &Array) -> Option<Array> {
    let (Values::F32(x), Values::F32(y)) = (&a.values, &b.values) else { return None };
    let (&[inputs, outputs], Some((&last, rows))) = (b.dims.as_slice(), a.dims.split_last()) else {
        return None;
    };
    let count: usize = rows.iter().product();
    if last != inputs || count * inputs * outputs > MAX_PRODUCTS {
        return None;
    }
    let mut values = vec![0.0; count * outputs];
    for (row, sums) in x.chunks_exact(inputs).zip(values.chunks_exact_mut(outputs)) {
        for (&factor, weights) in row.iter().zip(y.chunks_exact(outputs)) {
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                *sum += factor * weight;
            }
        }
    }
    let dims = [rows, &[outputs]].concat();
    Some(Array::f32(values, &dims))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(dims: &[usize]) -> Array {
        let total = u16::try_from(dims.iter().product::<usize>()).unwrap();
        Array::f32((0..total).map(f32::from).collect(), dims)
    }

    fn run(op: &str, inputs: &[&Array], attributes: &[(&'static str, Attribute)]) -> Vec<f32> {
        match evaluate(op, inputs, attributes).unwrap().values {
            Values::F32(values) => values,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn axes_are_told_apart() {
        let x = ramp(&[2, 3]);
        let perm = [("perm", Attribute::Ints(vec![1, 0]))];
        assert_eq!(run("Transpose", &[&x], &perm), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let ends =
            [Array::i64s([0, 1]), Array::i64s([2, 3]), Array::i64s([0, 1]), Array::i64s([1, 2])];
        let [starts, ends, axes, steps] = &ends;
        assert_eq!(run("Slice", &[&x, starts, ends, axes, steps], &[]), [1.0, 4.0]);
        assert_eq!(run("CumSum", &[&x, &Array::i64s([0])], &[]), [0.0, 1.0, 2.0, 3.0, 5.0, 7.0]);
        assert_eq!(run("CumSum", &[&x, &Array::i64s([1])], &[]), [0.0, 1.0, 3.0, 3.0, 7.0, 12.0]);
        assert_eq!(run("ReduceSum", &[&x, &Array::i64s([0])], &[]), [3.0, 5.0, 7.0]);
        assert_eq!(run("ReduceMean", &[&x, &Array::i64s([1])], &[]), [1.0, 4.0]);
        let axis = [("axis", Attribute::Int(1))];
        let joined = run("Concat", &[&x, &ramp(&[2, 1])], &axis);
        assert_eq!(joined, [0.0, 1.0, 2.0, 0.0, 3.0, 4.0, 5.0, 1.0]);
        let chosen = run("Gather", &[&x, &Array::i64s([2, 0])], &axis);
        assert_eq!(chosen, [2.0, 0.0, 5.0, 3.0]);
    }

    #[test]
    fn operands_are_broadcast() {
        let column = Array::f32(vec![10.0, 20.0], &[2, 1]);
        let row = Array::f32(vec![1.0, 2.0, 3.0], &[3]);
        assert_eq!(run("Add", &[&column, &row], &[]), [11.0, 12.0, 13.0, 21.0, 22.0, 23.0]);
        let expanded = run("Expand", &[&column, &Array::i64s([1, 3])], &[]);
        assert_eq!(expanded, [10.0, 10.0, 10.0, 20.0, 20.0, 20.0]);
        let mask = Array { dims: vec![3], values: Values::Bool(vec![true, false, true]) };
        assert_eq!(run("Where", &[&mask, &column, &row], &[]), [10.0, 2.0, 10.0, 20.0, 2.0, 20.0]);
        assert!(evaluate("Add", &[&row, &ramp(&[2])], &[]).is_none());
    }

    #[test]
    fn products_are_those_of_rows_and_columns() {
        let product = run("MatMul", &[&ramp(&[1, 2, 3]), &ramp(&[3, 2])], &[]);
        assert_eq!(product, [10.0, 13.0, 28.0, 40.0]);
    }

    #[test]
    fn a_length_of_minus_one_is_worked_out() {
        let reshaped = evaluate("Reshape", &[&ramp(&[2, 6]), &Array::i64s([3, -1])], &[]).unwrap();
        assert_eq!(reshaped.dims, [3, 4]);
        assert!(evaluate("Reshape", &[&ramp(&[5]), &Array::i64s([2, -1])], &[]).is_none());
    }
}
