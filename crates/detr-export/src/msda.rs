//! Multi-scale deformable attention in ONNX, which has no operator for it, in three ways. All take any number of images
//! and follow the definition of [`detr_ops::msda`](fn@detr_ops::msda).

use crate::array::{Array, Dim, Element, ValueType, Values, signed};
use crate::graph::{Attribute, Graph};

/// The form in which deformable attention is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MsdaLowering {
    /// Reads cells by index (`GatherND`). Right in every engine.
    #[default]
    Gather,
    /// Reads cells with `GridSample`, once for each level. Some versions of `TensorRT` compile it wrongly.
    GridSample,
    /// One node of `TensorRT`'s plugin, as NVIDIA TAO writes it; only `TensorRT` runs it.
    Plugin,
}

/// The operator of `TensorRT`'s plugin, and the set that TAO's exporter puts it in.
pub(crate) const PLUGIN: &str = "MultiscaleDeformableAttnPlugin_TRT";
pub(crate) const PLUGIN_DOMAIN: &str = "nvidia";

/// Far enough from every point that its weight is zero.
const NEVER: f32 = 1e6;

/// A call of the operation. Values are named as in the graph.
pub(crate) struct Call<'a> {
    /// `[B, S, M, D]`.
    pub(crate) value: &'a str,
    /// L pairs of height and width.
    pub(crate) levels: &'a [[usize; 2]],
    /// `[B, Q, M, L, P, 2]`, (x, y).
    pub(crate) locations: &'a str,
    /// `[B, Q, M, L, P]`.
    pub(crate) weights: &'a str,
    /// `[B, Q, M * D]`.
    pub(crate) output: Vec<Dim>,
}

/// The lengths of the axes of a call.
struct Sizes {
    /// B.
    b: Dim,
    q: Dim,
    m: Dim,
    d: Dim,
    l: Dim,
    p: Dim,
    /// B * M.
    bm: Dim,
    /// L * P.
    points: Dim,
}

impl Sizes {
    fn of(graph: &Graph, call: &Call<'_>) -> Self {
        let [b, _, m, d] = graph.dims(call.value)[..] else { unreachable!("checked by msda") };
        let [_, q, _, l, p, _] = graph.dims(call.locations)[..] else {
            unreachable!("checked by msda")
        };
        let times = |a: Dim, b: Dim| a.times(b).unwrap_or(Dim::Fixed(0));
        Self { b, q, m, d, l, p, bm: times(b, m), points: times(l, p) }
    }
}

/// Adds the nodes of a call and returns its output.
pub(crate) fn lower(graph: &mut Graph, call: &Call<'_>, how: MsdaLowering) -> String {
    let sizes = Sizes::of(graph, call);
    match how {
        MsdaLowering::Gather => gather(graph, call, &sizes),
        MsdaLowering::GridSample => grid_sample(graph, call, &sizes),
        MsdaLowering::Plugin => plugin(graph, call),
    }
}

/// Numbers of every level, to be broadcast over points: `[L, 1, n]` of n numbers each.
#[allow(clippy::cast_precision_loss)] // sides of feature maps and tokens of an image are exact in f32
fn of_levels<const N: usize>(
    graph: &mut Graph,
    levels: &[[usize; 2]],
    numbers: impl Fn(usize, [usize; 2]) -> [f32; N],
) -> String {
    let values: Vec<f32> =
        levels.iter().enumerate().flat_map(|(level, &size)| numbers(level, size)).collect();
    graph.constant(Array::f32(values, &[levels.len(), 1, N]))
}

/// Reads cells by index. The bilinear weight of a cell is `max(0, 1 - |distance|)` along each axis. The pair of cells
/// along an axis is moved inside the map, where that formula still gives every cell its weight and a cell that is not next to the point zero,
/// so nothing has to be masked.
#[allow(clippy::cast_precision_loss)] // sides of feature maps and tokens of an image are exact in f32
fn gather(graph: &mut Graph, call: &Call<'_>, sizes: &Sizes) -> String {
    let &Sizes { b, q, m, d, l, p, points, .. } = sizes;
    let levels = call.levels;
    let starts: Vec<usize> = levels
        .iter()
        .scan(0, |start, [h, w]| Some(std::mem::replace(start, *start + h * w)))
        .collect();
    let times = |a: Dim, b: Dim| a.times(b).unwrap_or(Dim::Fixed(0));

    // Places in cells, and the first cell of each pair.
    let locations = graph.transpose(call.locations, &[0, 2, 1, 3, 4, 5]);
    let side = of_levels(graph, levels, |_, [h, w]| [w as f32, h as f32]);
    let half = graph.constant(Array::scalar(0.5));
    let place = graph.binary("Mul", &locations, &side);
    let place = graph.binary("Sub", &place, &half);
    let zero = graph.constant(Array::scalar(0.0));
    let last = of_levels(graph, levels, |_, [h, w]| [w, h].map(|n| n.saturating_sub(2) as f32));
    let cell = graph.keep("Floor", &[&place], Vec::new());
    let cell = graph.binary("Max", &cell, &zero);
    let cell = graph.binary("Min", &cell, &last);

    // Weights of both cells of a pair; an axis of one cell has no second.
    let one = graph.constant(Array::scalar(1.0));
    let step =
        of_levels(graph, levels, |_, [h, w]| [w, h].map(|n| if n > 1 { 1.0 } else { NEVER }));
    let near = graph.binary("Sub", &place, &cell);
    let far = graph.binary("Sub", &near, &step);
    let [near, far] = [near, far].map(|distance| {
        let distance = graph.keep("Abs", &[&distance], Vec::new());
        let weight = graph.binary("Sub", &one, &distance);
        graph.keep("Relu", &[&weight], Vec::new())
    });
    let grid = vec![b, m, q, l, p];
    let part = |graph: &mut Graph, pair: &str, index: usize| {
        let index =
            graph.constant(Array { dims: vec![], values: Values::I64(vec![signed(index)]) });
        let output = ValueType { element: Element::F32, dims: grid.clone() };
        graph.node("Gather", &[pair, &index], vec![("axis", Attribute::Int(-1))], output)
    };
    let columns = [part(graph, &near, 0), part(graph, &far, 0)];
    let rows = [part(graph, &near, 1), part(graph, &far, 1)];

    // The index of the first cell among all tokens.
    let (x, y) = (part(graph, &cell, 0), part(graph, &cell, 1));
    let of_points = |graph: &mut Graph, numbers: Vec<f32>| {
        graph.constant(Array::f32(numbers, &[levels.len(), 1]))
    };
    let width = of_points(graph, levels.iter().map(|&[_, w]| w as f32).collect());
    let start = of_points(graph, starts.iter().map(|&start| start as f32).collect());
    let index = graph.binary("Mul", &y, &width);
    let index = graph.binary("Add", &index, &x);
    let index = graph.binary("Add", &index, &start);
    let index = graph.cast(&index, Element::I64);

    let weights = graph.transpose(call.weights, &[0, 2, 1, 3, 4]);
    let tokens = graph.transpose(call.value, &[0, 2, 1, 3]);
    let mut sum: Option<String> = None;
    for (down, row) in rows.iter().enumerate() {
        let weight = graph.binary("Mul", &weights, row);
        for (right, column) in columns.iter().enumerate() {
            let weight = graph.binary("Mul", &weight, column);
            let weight = graph.reshape(&weight, vec![b, m, q, Dim::Fixed(1), points]);
            let offsets: Vec<i64> = levels
                .iter()
                .map(|&[h, w]| signed(down.min(h - 1) * w + right.min(w - 1)))
                .collect();
            let index = if offsets.iter().all(|&offset| offset == 0) {
                index.clone()
            } else {
                let offsets = graph
                    .constant(Array { dims: vec![levels.len(), 1], values: Values::I64(offsets) });
                graph.binary("Add", &index, &offsets)
            };
            let all = times(q, points);
            let index = graph.reshape(&index, vec![b, m, all, Dim::Fixed(1)]);
            let read = ValueType { element: Element::F32, dims: vec![b, m, all, d] };
            let batch = vec![("batch_dims", Attribute::Int(2))];
            let read = graph.node("GatherND", &[&tokens, &index], batch, read);
            let read = graph.reshape(&read, vec![b, m, q, points, d]);
            let product =
                ValueType { element: Element::F32, dims: vec![b, m, q, Dim::Fixed(1), d] };
            let read = graph.node("MatMul", &[&weight, &read], Vec::new(), product);
            sum = Some(match sum {
                Some(sum) => graph.binary("Add", &sum, &read),
                None => read,
            });
        }
    }
    let sum = graph.reshape(&sum.unwrap_or_default(), vec![b, m, q, d]);
    let sum = graph.transpose(&sum, &[0, 2, 1, 3]);
    graph.reshape(&sum, call.output.clone())
}

/// Writes the reference's own formula (`ms_deform_attn_core_pytorch`): one sampling for each level.
fn grid_sample(graph: &mut Graph, call: &Call<'_>, sizes: &Sizes) -> String {
    let &Sizes { b, q, m, d, l, p, bm, points } = sizes;
    let float = |dims: Vec<Dim>| ValueType { element: Element::F32, dims };
    let two = graph.constant(Array::scalar(2.0));
    let one = graph.constant(Array::scalar(1.0));
    let grid = graph.binary("Mul", call.locations, &two);
    let grid = graph.binary("Sub", &grid, &one);
    let grid = graph.transpose(&grid, &[0, 2, 3, 1, 4, 5]);
    // Channels before tokens, and images and heads together.
    let value = graph.transpose(call.value, &[0, 2, 3, 1]);
    // "bilinear" was renamed in version 20.
    let mode = if graph.opset >= 20 { "linear" } else { "bilinear" };
    let mut start = 0;
    let mut parts = Vec::new();
    for (level, &[h, w]) in call.levels.iter().enumerate() {
        let cells = Dim::Fixed(h * w);
        let whole = call.levels.len() == 1;
        let cut = (!whole).then_some([start, start + h * w, 1]);
        let map = graph.slice(&value, &[None, None, None, cut], float(vec![b, m, d, cells]));
        let map = graph.reshape(&map, vec![bm, d, Dim::Fixed(h), Dim::Fixed(w)]);
        let cut = (!whole).then_some([level, level + 1, 1]);
        let places = vec![b, m, Dim::Fixed(1), q, p, Dim::Fixed(2)];
        let places = graph.slice(&grid, &[None, None, cut, None, None, None], float(places));
        let places = graph.reshape(&places, vec![bm, q, p, Dim::Fixed(2)]);
        let attributes = vec![
            ("align_corners", Attribute::Int(0)),
            ("mode", Attribute::Text(mode.to_owned())),
            ("padding_mode", Attribute::Text("zeros".to_owned())),
        ];
        parts.push(graph.node(
            "GridSample",
            &[&map, &places],
            attributes,
            float(vec![bm, d, q, p]),
        ));
        start += h * w;
    }
    debug_assert_eq!(l, Dim::Fixed(parts.len()));
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let read = graph.concat(&parts, 3, float(vec![bm, d, q, points]));
    let weights = graph.transpose(call.weights, &[0, 2, 1, 3, 4]);
    let weights = graph.reshape(&weights, vec![bm, Dim::Fixed(1), q, points]);
    let read = graph.binary("Mul", &read, &weights);
    let sum = graph.reduce("ReduceSum", &read, &[3]);
    let channels = m.times(d).unwrap_or(Dim::Fixed(0));
    let sum = graph.reshape(&sum, vec![b, channels, q]);
    graph.transpose(&sum, &[0, 2, 1])
}

/// Writes the node of TAO's exporter (`deformable_detr/utils/onnx_export.py` of `nvidia_tao_pytorch`): the plugin with
/// its three attributes, and sizes and starts of the levels as 32-bit constants.
fn plugin(graph: &mut Graph, call: &Call<'_>) -> String {
    let small = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let shapes: Vec<i32> = call.levels.as_flattened().iter().map(|&side| small(side)).collect();
    let starts: Vec<i32> = call
        .levels
        .iter()
        .scan(0, |start, [h, w]| Some(small(std::mem::replace(start, *start + h * w))))
        .collect();
    let l = call.levels.len();
    let shapes = graph.constant(Array { dims: vec![l, 2], values: Values::I32(shapes) });
    let starts = graph.constant(Array { dims: vec![l], values: Values::I32(starts) });
    let attributes = vec![
        ("name", Attribute::Text(PLUGIN.to_owned())),
        ("version", Attribute::Text("1".to_owned())),
        ("namespace", Attribute::Text(String::new())),
    ];
    let output = ValueType { element: Element::F32, dims: call.output.clone() };
    let inputs = [call.value, &shapes, &starts, call.locations, call.weights];
    graph.foreign_node(PLUGIN_DOMAIN, PLUGIN, &inputs, attributes, output)
}
