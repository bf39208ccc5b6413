use super::operators;
use crate::array::{Array, Values};
use crate::graph::Attribute;

type Attributes<'a> = &'a [(&'static str, Attribute)];

fn floats(array: Option<Array>) -> Vec<f32> {
    match array.unwrap().values {
        Values::F32(values) => values,
        other => panic!("{other:?}"),
    }
}

fn run(op: &str, inputs: &[&Array], attributes: Attributes<'_>) -> Vec<f32> {
    floats(operators::evaluate(op, inputs, attributes))
}

fn ramp(dims: &[usize]) -> Array {
    let total = u16::try_from(dims.iter().product::<usize>()).unwrap();
    Array::f32((0..total).map(f32::from).collect(), dims)
}

#[test]
fn rows_are_read_by_index() {
    let x = ramp(&[2, 3, 2]);
    let chosen = Array { dims: vec![2, 2, 1], values: Values::I64(vec![2, 0, 1, 1]) };
    let batch = [("batch_dims", Attribute::Int(1))];
    let read = run("GatherND", &[&x, &chosen], &batch);
    assert_eq!(read, [4.0, 5.0, 0.0, 1.0, 8.0, 9.0, 8.0, 9.0]);
    let chosen = Array { dims: vec![1, 2], values: Values::I64(vec![1, 0]) };
    let axis = [("axis", Attribute::Int(0))];
    assert_eq!(run("GatherElements", &[&ramp(&[2, 2]), &chosen], &axis), [2.0, 1.0]);
    assert_eq!(run("Tile", &[&ramp(&[1, 2]), &Array::i64s([2, 1])], &[]), [0.0, 1.0, 0.0, 1.0]);
}

#[test]
fn maps_are_read_between_cells_and_are_zero_outside() {
    let map = ramp(&[1, 1, 2, 2]);
    // The middle, the centre of the first cell, the corner of the map, and a place outside.
    let places = vec![0.0, 0.0, -0.5, -0.5, 1.0, 1.0, 3.0, 0.0];
    let read = run("GridSample", &[&map, &Array::f32(places, &[1, 1, 4, 2])], &[]);
    assert_eq!(read, [1.5, 0.0, 0.75, 0.0]);
}

#[test]
fn whole_numbers_are_rounded_to_even_and_kept_in_range() {
    let zero = Array { dims: vec![], values: Values::I8(vec![0]) };
    let x = Array::f32(vec![0.25, 0.75, -0.75, 100.0, -100.0], &[5]);
    let quantized = operators::evaluate("QuantizeLinear", &[&x, &Array::scalar(0.5), &zero], &[]);
    assert_eq!(quantized.unwrap().values, Values::I8(vec![0, 2, -2, 127, -128]));
    let whole = Array { dims: vec![2, 2], values: Values::I8(vec![1, 2, 3, 4]) };
    let scales = Array::f32(vec![0.5, 2.0], &[2]);
    for (axis, expected) in [(0, [0.5, 1.0, 6.0, 8.0]), (1, [0.5, 4.0, 1.5, 8.0])] {
        let axis = [("axis", Attribute::Int(axis))];
        assert_eq!(run("DequantizeLinear", &[&whole, &scales, &zero], &axis), expected);
    }
}

#[test]
fn rows_are_normalised_and_ordered() {
    let x = Array::f32(vec![1.0, 3.0, 3.0, 0.0], &[1, 4]);
    let chosen = operators::evaluate("TopK", &[&x, &Array::i64s([3])], &[]).unwrap();
    assert_eq!(chosen, Array { dims: vec![1, 3], values: Values::I64(vec![1, 2, 0]) });
    let axis = [("axis", Attribute::Int(1))];
    let largest = operators::evaluate("ArgMax", &[&x], &axis).unwrap();
    assert_eq!(largest, Array { dims: vec![1, 1], values: Values::I64(vec![1]) });
    let axis = [("axis", Attribute::Int(0))];
    let odds = run("Softmax", &[&Array::f32(vec![0.0, 5.0, 0.0, 5.0], &[2, 2])], &axis);
    assert_eq!(odds, [0.5; 4]);
    let epsilon = [("epsilon", Attribute::Float(0.0))];
    let scale = Array::f32(vec![1.0, 2.0], &[2]);
    let normal = run("LayerNormalization", &[&ramp(&[1, 2]), &scale, &scale], &epsilon);
    assert_eq!(normal, [0.0, 4.0]);
}
