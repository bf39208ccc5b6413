//! Gathering, scattering with addition, sorting and the largest few.

use burn::tensor::FloatDType;

use super::values::{
    LAYOUTS, Layout, countable, distinct, indices, lines, matrix, places, unlines,
};
use super::{Extent, Need, OperationError, Test, TestedOperation};

const GATHER: TestedOperation = TestedOperation::exact("gather", Need::Prediction);
const SELECT: TestedOperation = TestedOperation::exact("select", Need::Prediction);
const SCATTER: TestedOperation = TestedOperation::exact("scatter-add", Need::Training);
const SELECT_ADD: TestedOperation = TestedOperation::exact("select-add", Need::Training);
const SORT: TestedOperation = TestedOperation::exact("sort", Need::Nothing);
const TOP_K: TestedOperation = TestedOperation::exact("top-k", Need::Nothing);

pub(super) fn run(test: &mut Test<'_>) -> Result<(), OperationError> {
    for layout in LAYOUTS {
        // The class of every query, and the boxes of the best tokens of a picture.
        gather(test, [7_200, 92], 1, [7_200, 1], layout)?;
        gather(test, [22_223, 4], 0, [300, 4], layout)?;
        select(test, [7_200, 64], 0, 4_096, layout)?;
        scatter(test, [7_200, 92], 1, [7_200, 2], layout)?;
        scatter(test, [2_000, 16], 0, [9_000, 16], layout)?;
        select_add(test, [2_000, 64], 0, 9_000, layout)?;
    }
    let k = if test.extent == Extent::Full { 100 } else { 10 };
    sort(test, [6, 9_100], 1, Layout::Contiguous)?;
    sort(test, [9_100, 6], 0, Layout::Transposed)?;
    top_k(test, [8, 8_191], k, 1, Layout::Contiguous)?;
    top_k(test, [8_191, 8], k, 0, Layout::Transposed)?;
    Ok(())
}

fn describe(shape: [usize; 2], axis: usize, layout: Layout) -> String {
    let layout = format!("{layout:?}").to_lowercase();
    format!("{}x{}, axis {axis}, {layout}", shape[0], shape[1])
}

/// Returns the place that (row, column) of a matrix of indices reads or writes.
fn target(index: usize, [row, column]: [usize; 2], axis: usize, columns: usize) -> usize {
    if axis == 0 { index * columns + column } else { row * columns + index }
}

fn gather(
    test: &mut Test<'_>,
    shape: [usize; 2],
    axis: usize,
    wanted: [usize; 2],
    layout: Layout,
) -> Result<(), OperationError> {
    let call = describe(shape, axis, layout);
    let numbers = distinct(shape[0] * shape[1]);
    let at = places(wanted[0] * wanted[1], shape[axis], 41);
    let expected: Vec<f64> = (at.iter().enumerate())
        .map(|(i, &index)| numbers[target(index, [i / wanted[1], i % wanted[1]], axis, shape[1])])
        .collect();
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let found = test.operations.gather(x, axis, indices(&at, wanted, test.device));
    test.compare(GATHER, &call, Some(found), &expected)
}

fn select(
    test: &mut Test<'_>,
    shape: [usize; 2],
    axis: usize,
    count: usize,
    layout: Layout,
) -> Result<(), OperationError> {
    let call = describe(shape, axis, layout);
    let numbers = distinct(shape[0] * shape[1]);
    let at = places(count, shape[axis], 42);
    let rows = lines(&numbers, shape, 1 - axis);
    let chosen: Vec<Vec<f64>> = at.iter().map(|&index| rows[index].clone()).collect();
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let found = test.operations.select(x, axis, indices(&at, [count], test.device));
    test.compare(SELECT, &call, Some(found), &unlines(&chosen, 1 - axis))
}

fn scatter(
    test: &mut Test<'_>,
    shape: [usize; 2],
    axis: usize,
    given: [usize; 2],
    layout: Layout,
) -> Result<(), OperationError> {
    let call = describe(shape, axis, layout);
    let mut expected = countable(shape[0] * shape[1], 43);
    let x = matrix(&expected, shape, layout, test.device, FloatDType::F32);
    let at = places(given[0] * given[1], shape[axis], 44);
    let added = countable(given[0] * given[1], 45);
    for (i, (&index, number)) in at.iter().zip(&added).enumerate() {
        expected[target(index, [i / given[1], i % given[1]], axis, shape[1])] += number;
    }
    let values = matrix(&added, given, layout, test.device, FloatDType::F32);
    let at = indices(&at, given, test.device);
    let found = test.operations.scatter_add(x, axis, at, values);
    test.compare(SCATTER, &call, Some(found), &expected)
}

fn select_add(
    test: &mut Test<'_>,
    shape: [usize; 2],
    axis: usize,
    count: usize,
    layout: Layout,
) -> Result<(), OperationError> {
    let call = describe(shape, axis, layout);
    let numbers = countable(shape[0] * shape[1], 46);
    let mut given = shape;
    given[axis] = count;
    let added = countable(given[0] * given[1], 47);
    let at = places(count, shape[axis], 48);
    let mut rows = lines(&numbers, shape, 1 - axis);
    for (&index, line) in at.iter().zip(lines(&added, given, 1 - axis)) {
        for (sum, number) in rows[index].iter_mut().zip(line) {
            *sum += number;
        }
    }
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let values = matrix(&added, given, layout, test.device, FloatDType::F32);
    let at = indices(&at, [count], test.device);
    let found = test.operations.select_add(x, axis, at, values);
    test.compare(SELECT_ADD, &call, Some(found), &unlines(&rows, 1 - axis))
}

/// Returns the elements of every line, the smallest first, and their places.
fn ordered(numbers: &[f64], shape: [usize; 2], axis: usize) -> [Vec<Vec<f64>>; 2] {
    let sorted = lines(numbers, shape, axis).into_iter().map(|line| {
        let mut order: Vec<usize> = (0..line.len()).collect();
        order.sort_by(|&a, &b| line[a].total_cmp(&line[b]));
        let values: Vec<f64> = order.iter().map(|&i| line[i]).collect();
        #[allow(clippy::cast_precision_loss)] // a place
        let places: Vec<f64> = order.iter().map(|&i| i as f64).collect();
        (values, places)
    });
    let (values, places) = sorted.unzip();
    [values, places]
}

fn sort(
    test: &mut Test<'_>,
    shape: [usize; 2],
    axis: usize,
    layout: Layout,
) -> Result<(), OperationError> {
    let call = describe(shape, axis, layout);
    let numbers = distinct(shape[0] * shape[1]);
    let [values, at] = ordered(&numbers, shape, axis).map(|lines| unlines(&lines, axis));
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let (found, found_at) = test.operations.sort(x, axis);
    test.compare(SORT, &call, Some(found), &values)?;
    let found_at = SORT.read_int(&call, found_at)?;
    test.note(SORT, &call, super::error(&found_at, &at));
    Ok(())
}

fn top_k(
    test: &mut Test<'_>,
    shape: [usize; 2],
    k: usize,
    axis: usize,
    layout: Layout,
) -> Result<(), OperationError> {
    let call = describe(shape, axis, layout);
    let numbers = distinct(shape[0] * shape[1]);
    let [values, at] = ordered(&numbers, shape, axis).map(|lines| {
        let largest: Vec<Vec<f64>> =
            lines.into_iter().map(|line| line.into_iter().rev().take(k).collect()).collect();
        unlines(&largest, axis)
    });
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let (found, found_at) = test.operations.top_k(x, k, axis);
    test.compare(TOP_K, &call, Some(found), &values)?;
    let found_at = TOP_K.read_int(&call, found_at)?;
    test.note(TOP_K, &call, super::error(&found_at, &at));
    Ok(())
}
