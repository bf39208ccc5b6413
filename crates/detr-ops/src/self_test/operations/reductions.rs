//! Reductions: sums, means, largest elements and their places, along one axis and over all, and cumulative sums.

use burn::tensor::{FloatDType, Tensor};

use super::values::{LAYOUTS, Layout, countable, distinct, lines, matrix, unlines};
use crate::reduce::MOST;

use super::{Extent, Need, OperationError, Test, TestedOperation};

/// The rounding of one division, and of its reciprocal.
const DIVISION: f64 = 2.0 / (1 << 23) as f64;

const SUM_ALL: TestedOperation = TestedOperation::exact("sum over all", Need::Training);
const MEAN_ALL: TestedOperation =
    TestedOperation::rounded("mean over all", Need::Nothing, DIVISION);
const MAX_ALL: TestedOperation = TestedOperation::exact("maximum over all", Need::Nothing);

/// The operations along an axis.
struct AxisReduction {
    sum: TestedOperation,
    mean: TestedOperation,
    max: TestedOperation,
    argmax: TestedOperation,
}

/// Axes of at most [`MOST`] elements, which these programs keep to.
const ALONG: AxisReduction = AxisReduction {
    sum: TestedOperation::exact("sum along an axis", Need::Prediction),
    mean: TestedOperation::rounded("mean along an axis", Need::Prediction, DIVISION),
    max: TestedOperation::exact("maximum along an axis", Need::Prediction),
    argmax: TestedOperation::exact("argmax along an axis", Need::Training),
};
/// Longer axes.
const ALONG_LONG: AxisReduction = AxisReduction {
    sum: TestedOperation::exact("sum along a long axis", Need::Nothing),
    mean: TestedOperation::rounded("mean along a long axis", Need::Nothing, DIVISION),
    max: TestedOperation::exact("maximum along a long axis", Need::Nothing),
    argmax: TestedOperation::exact("argmax along a long axis", Need::Nothing),
};

const CUMSUM: TestedOperation = TestedOperation::exact("cumulative sum", Need::Prediction);

pub(super) fn run(test: &mut Test<'_>) -> Result<(), OperationError> {
    // Losses of 6 layers, 4 images and 300 queries with 91 classes; the weights of a 3x3 convolution of 512
    // channels; a row that no vector divides; one element more than 16 bits count.
    let mut shapes = vec![[4_608, 512], [1, 262_147], [1, 65_537]];
    if test.extent == Extent::Full {
        // The features of two pictures.
        shapes.push([44_446, 256]);
    }
    for layout in LAYOUTS {
        over_all(test, [7_200, 91], layout)?;
    }
    for shape in shapes {
        over_all(test, shape, Layout::Contiguous)?;
    }
    // Queries and classes of all images.
    for layout in LAYOUTS {
        along(test, &ALONG, [24, 27_300], 0, layout)?;
        along(test, &ALONG, [24, 27_300], 1, layout)?;
    }
    // The longest step.
    along(test, &ALONG, [8, MOST], 1, Layout::Contiguous)?;
    along(test, &ALONG, [MOST, 8], 0, Layout::Contiguous)?;
    along(test, &ALONG_LONG, [3, 262_147], 1, Layout::Contiguous)?;
    along(test, &ALONG_LONG, [262_147, 3], 0, Layout::Contiguous)?;
    along(test, &ALONG_LONG, [3, 262_147], 1, Layout::Transposed)?;
    for layout in LAYOUTS {
        cumsum(test, [40, 1_333], 1, layout)?;
        cumsum(test, [1_333, 40], 0, layout)?;
    }
    Ok(())
}

fn describe(shape: [usize; 2], layout: Layout) -> String {
    format!("{}x{}, {}", shape[0], shape[1], format!("{layout:?}").to_lowercase())
}

fn over_all(test: &mut Test<'_>, shape: [usize; 2], layout: Layout) -> Result<(), OperationError> {
    let call = describe(shape, layout);
    let count = shape[0] * shape[1];
    let numbers = countable(count, 11);
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let sum: f64 = numbers.iter().sum();
    test.compare(SUM_ALL, &call, Some(test.operations.sum(x.clone())), &[sum])?;
    #[allow(clippy::cast_precision_loss)] // some millions
    let mean = sum / count as f64;
    test.compare(MEAN_ALL, &call, Some(test.operations.mean(x)), &[mean])?;
    // The largest element is the last: the one that is left out most easily.
    let mut numbers = numbers;
    numbers[count - 1] = 1e6;
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    test.compare(MAX_ALL, &call, Some(test.operations.max(x)), &[1e6])
}

fn along(
    test: &mut Test<'_>,
    subjects: &AxisReduction,
    shape: [usize; 2],
    axis: usize,
    layout: Layout,
) -> Result<(), OperationError> {
    let call = format!("{}, axis {axis}", describe(shape, layout));
    let length = shape[axis];
    let numbers: Vec<f64> = {
        // Each line is countable by itself.
        let lines: Vec<Vec<f64>> =
            (0..shape[1 - axis]).map(|line| countable(length, 21 + line as u64)).collect();
        unlines(&lines, axis)
    };
    let upload = |numbers: &[f64]| matrix(numbers, shape, layout, test.device, FloatDType::F32);
    let x: Tensor<2> = upload(&numbers);
    let sums: Vec<f64> =
        lines(&numbers, shape, axis).iter().map(|line| line.iter().sum()).collect();
    #[allow(clippy::cast_precision_loss)] // some thousands
    let means: Vec<f64> = sums.iter().map(|sum| sum / length as f64).collect();
    let found = test.operations.sum_dim(x.clone(), axis);
    let mean = test.operations.mean_dim(x, axis);
    // The largest is the last in the first line, the first in the second, and so on.
    let mut ordered = lines(&distinct(length * shape[1 - axis]), shape, axis);
    let mut places = Vec::with_capacity(ordered.len());
    for (line, numbers) in ordered.iter_mut().enumerate() {
        let place = [length - 1, 0, length / 2, 65_535.min(length - 1), line % length][line % 5];
        numbers[place] = f64::from(1 << 23);
        #[allow(clippy::cast_precision_loss)] // a place
        places.push(place as f64);
    }
    let peaks = vec![f64::from(1 << 23); places.len()];
    let x = upload(&unlines(&ordered, axis));
    let max = test.operations.max_dim(x.clone(), axis);
    let argmax = test.operations.argmax(x, axis);
    test.compare(subjects.sum, &call, Some(found), &sums)?;
    test.compare(subjects.mean, &call, Some(mean), &means)?;
    test.compare(subjects.max, &call, Some(max), &peaks)?;
    let argmax = subjects.argmax.read_int(&call, argmax)?;
    test.note(subjects.argmax, &call, super::error(&argmax, &places));
    Ok(())
}

fn cumsum(
    test: &mut Test<'_>,
    shape: [usize; 2],
    axis: usize,
    layout: Layout,
) -> Result<(), OperationError> {
    let call = format!("{}, axis {axis}", describe(shape, layout));
    let numbers = countable(shape[0] * shape[1], 31);
    let x = matrix(&numbers, shape, layout, test.device, FloatDType::F32);
    let mut expected = lines(&numbers, shape, axis);
    for line in &mut expected {
        let mut sum = 0.0;
        for number in line {
            sum += *number;
            *number = sum;
        }
    }
    let found = test.operations.cumsum(x, axis);
    test.compare(CUMSUM, &call, Some(found), &unlines(&expected, axis))
}
