//! From two recordings of a model to a graph: finds out which lengths depend on the batch, keeps track of values and
//! constants, and asks the table (`table.rs`) for the nodes of every operation.

use std::collections::HashMap;

use burn::backend::capture::TensorId;
use burn::tensor::{BoolStore, DType, Slice, TensorData};
use burn_ir::{
    IntOperationIr, IrVisitorMut, NumericOperationIr as Numeric, OperationIr, ScalarIr, TensorIr,
    TensorStatus,
};

use crate::array::{Array, Dim, Element, ValueType, Values, signed};
use crate::capture::Trace;
use crate::graph::{Attribute, Graph};
use crate::{ExportError, MsdaLowering};

/// The input of every graph.
pub(crate) const INPUT: &str = "inputs";

/// Makes a graph of two recordings of a model. Where they are of two and of three images, lengths that differ are those
/// that depend on the batch; where they are the same recording, nothing does.
///
/// # Errors
/// An operation that is not in the table, or one that depends on the batch in another way.
pub(crate) fn lower(
    first: &Trace,
    second: &Trace,
    opset: i64,
    msda: MsdaLowering,
) -> Result<Graph, ExportError> {
    if first.operations.len() != second.operations.len() {
        let mut pairs = first.operations.iter().zip(&second.operations);
        let differs = pairs.find(|(a, b)| name_of(a) != name_of(b)).map(|(a, _)| a);
        let operation = differs.or(first.operations.last()).map_or_else(String::new, name_of);
        return Err(ExportError::BatchDependent { operation });
    }
    let input_type = input_type(first, second)?;
    let mut lowering = Lowering {
        graph: Graph::new(opset, INPUT, input_type),
        names: HashMap::from([(first.input, INPUT.to_owned())]),
        traces: [first, second],
        msda,
    };
    for pair in first.operations.iter().zip(&second.operations) {
        if !matches!(pair.0, OperationIr::Init(_)) {
            lowering.operation(pair.0, pair.1)?;
        }
    }
    for (name, id) in &first.outputs {
        let value = lowering.names.get(id).cloned().unwrap_or_default();
        lowering.graph.output(&value, name);
    }
    lowering.graph.finish();
    Ok(lowering.graph)
}

fn input_type(first: &Trace, second: &Trace) -> Result<ValueType, ExportError> {
    let missing = || ExportError::Capture { reason: "the input has no shape".to_owned() };
    let shape = |trace: &Trace| trace.values.get(&trace.input).map(|data| data.shape().to_vec());
    let (a, b) = (shape(first).ok_or_else(missing)?, shape(second).ok_or_else(missing)?);
    let dims = a.iter().zip(&b).map(|(&a, &b)| Dim::of_pair(a, b)).collect::<Option<Vec<_>>>();
    Ok(ValueType { element: Element::F32, dims: dims.ok_or_else(missing)? })
}

/// A graph on its way, and what is known of its recordings.
pub(crate) struct Lowering<'a> {
    pub(crate) graph: Graph,
    /// Values of the graph by the identifiers of the first recording.
    names: HashMap<TensorId, String>,
    traces: [&'a Trace; 2],
    pub(crate) msda: MsdaLowering,
}

/// Blanks what may differ between two recordings: identifiers, shapes and ranges, which are compared one by one.
struct Blank;

impl IrVisitorMut for Blank {
    fn visit_tensor_mut(&mut self, tensor: &mut TensorIr) {
        tensor.id = TensorId::new(0);
        tensor.shape = [0].into();
        tensor.status = TensorStatus::NotInit;
    }

    fn visit_range_mut(&mut self, range: &mut Slice) {
        *range = Slice::full();
    }
}

/// Returns the name of an operation, from its text: `NumericFloat(F32, Add(BinaryOpIr {..` is `Add`.
fn name_of(operation: &OperationIr) -> String {
    if let OperationIr::Custom(custom) = operation {
        return custom.id.clone();
    }
    let text = format!("{operation:?}");
    let head = text.split(" {").next().unwrap_or(&text);
    let mut parts = head.rsplit('(').skip(1);
    let own = parts.next().unwrap_or(head);
    own.rsplit(", ").next().unwrap_or(own).to_owned()
}

/// Returns the type of elements that a value of Burn's has in ONNX.
pub(crate) fn element(dtype: DType) -> Option<Element> {
    match dtype {
        DType::F32 => Some(Element::F32),
        DType::I64 => Some(Element::I64),
        DType::I32 => Some(Element::I32),
        DType::Bool(_) => Some(Element::Bool),
        _ => None,
    }
}

fn array(data: &TensorData) -> Option<Array> {
    let dims = data.shape().to_vec();
    let values = match data.dtype() {
        DType::F32 => Values::F32(data.iter::<f32>().collect()),
        DType::I64 => Values::I64(data.iter::<i64>().collect()),
        DType::I32 => Values::I32(data.iter::<i32>().collect()),
        DType::Bool(BoolStore::Native | BoolStore::U8) => {
            Values::Bool(data.iter::<bool>().collect())
        }
        _ => return None,
    };
    Some(Array { dims, values })
}

impl Lowering<'_> {
    /// Adds the nodes of an operation.
    fn operation(&mut self, first: &OperationIr, second: &OperationIr) -> Result<(), ExportError> {
        let unknown = || ExportError::Operation { operation: name_of(first) };
        let differs = || ExportError::BatchDependent { operation: name_of(first) };
        let [mut a, mut b] = [first.clone(), second.clone()];
        a.visit_mut(&mut Blank);
        b.visit_mut(&mut Blank);
        if a != b {
            return Err(differs());
        }
        for (a, b) in first.inputs().zip(second.inputs()) {
            self.constant(a, b).ok_or_else(differs)?;
        }
        let mut types = Vec::new();
        for (a, b) in first.outputs().zip(second.outputs()) {
            let element = element(a.dtype).ok_or_else(unknown)?;
            let dims: Option<Vec<Dim>> =
                a.shape.iter().zip(b.shape.iter()).map(|(&a, &b)| Dim::of_pair(a, b)).collect();
            types.push(ValueType { element, dims: dims.ok_or_else(differs)? });
        }
        let output = types.first().cloned().ok_or_else(unknown)?;
        let value = match first {
            OperationIr::BaseFloat(base)
            | OperationIr::BaseInt(base)
            | OperationIr::BaseBool(base) => self.base(base, second, output),
            OperationIr::NumericFloat(_, numeric) | OperationIr::NumericInt(_, numeric) => {
                if let Numeric::MaxDimWithIndices(max) = numeric {
                    let x = self.name(&max.tensor);
                    let largest = self.graph.reduce("ReduceMax", &x, &[max.dim]);
                    self.names.insert(max.out.id, largest);
                    let axis = ("axis", Attribute::Int(signed(max.dim)));
                    let attributes = vec![axis, ("keepdims", Attribute::Int(1))];
                    let place = self.graph.node("ArgMax", &[&x], attributes, types.remove(1));
                    self.names.insert(max.out_indices.id, place);
                    return Ok(());
                }
                self.numeric(numeric, output)
            }
            OperationIr::Float(_, float) => self.float(float, output),
            OperationIr::Bool(operation) => self.bool(operation),
            OperationIr::Int(IntOperationIr::IntoFloat(cast)) => {
                let x = self.name(&cast.input);
                Some(self.graph.cast(&x, output.element))
            }
            OperationIr::Activation(activation) => self.activation(activation),
            OperationIr::Module(module) => self.module(module, output),
            OperationIr::Custom(custom) => self.custom(custom, output),
            _ => None,
        };
        let out = first.outputs().next().ok_or_else(unknown)?.id;
        self.names.insert(out, value.ok_or_else(unknown)?);
        Ok(())
    }

    /// Adds a constant that an operation reads, if that is one and not there yet; `None` if the recordings have
    /// different numbers for it.
    fn constant(&mut self, a: &TensorIr, b: &TensorIr) -> Option<()> {
        if self.names.contains_key(&a.id) {
            return Some(());
        }
        let [first, second] = self.traces;
        let data = first.values.get(&a.id)?;
        if second.values.get(&b.id)? != data {
            return None;
        }
        let array = array(data)?;
        let name = match first.parameters.get(&a.id) {
            Some(name) => {
                self.graph.parameter(name, array);
                name.clone()
            }
            None => self.graph.constant(array),
        };
        self.names.insert(a.id, name);
        Some(())
    }

    pub(crate) fn name(&self, tensor: &TensorIr) -> String {
        self.names.get(&tensor.id).cloned().unwrap_or_default()
    }

    /// Returns a number as a constant of the type of a value.
    #[allow(clippy::cast_possible_truncation)] // the precision of the model
    pub(crate) fn scalar(&mut self, scalar: ScalarIr, like: &str) -> Option<String> {
        let values = match self.graph.types[like].element {
            Element::F32 => Values::F32(vec![scalar.elem::<f64>() as f32]),
            Element::I64 => Values::I64(vec![scalar.elem()]),
            Element::I32 => Values::I32(vec![scalar.elem()]),
            Element::Bool => Values::Bool(vec![scalar.elem()]),
            Element::F16 | Element::I8 => return None,
        };
        Some(self.graph.constant(Array { dims: Vec::new(), values }))
    }

    pub(crate) fn unary(&mut self, op: &'static str, x: &TensorIr) -> String {
        let x = self.name(x);
        self.graph.keep(op, &[&x], Vec::new())
    }

    pub(crate) fn binary(&mut self, op: &'static str, a: &TensorIr, b: &TensorIr) -> String {
        let (a, b) = (self.name(a), self.name(b));
        self.graph.binary(op, &a, &b)
    }

    pub(crate) fn with_scalar(
        &mut self,
        op: &'static str,
        x: &TensorIr,
        scalar: ScalarIr,
    ) -> Option<String> {
        let x = self.name(x);
        let scalar = self.scalar(scalar, &x)?;
        Some(self.graph.binary(op, &x, &scalar))
    }

    pub(crate) fn compare(
        &mut self,
        op: &'static str,
        a: &str,
        b: &str,
        output: ValueType,
    ) -> String {
        self.graph.node(op, &[a, b], Vec::new(), output)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn_ir::{
        ActivationOperationIr as Activation, BaseOperationIr as Base, FloatOperationIr as Float,
        ScalarOpIr, SliceOpIr, UnaryOpIr,
    };

    use super::*;

    fn tensor(id: u64, dims: &[usize]) -> TensorIr {
        TensorIr::uninit(TensorId::new(id), dims.into(), DType::F32)
    }

    /// Makes a recording of one operation on `[images, 4]`.
    fn trace(images: usize, operation: OperationIr) -> Trace {
        let zeros = TensorData::zeros::<f32, _>([images, 4]);
        Trace {
            operations: vec![operation],
            values: BTreeMap::from([(TensorId::new(0), zeros)]),
            parameters: HashMap::new(),
            input: TensorId::new(0),
            outputs: vec![("out", TensorId::new(1))],
        }
    }

    /// Makes the graph of an operation, recorded for two and for three images.
    fn lowered(operation: impl Fn(usize) -> OperationIr) -> Result<Graph, ExportError> {
        let [two, three] = [2, 3].map(|images| trace(images, operation(images)));
        lower(&two, &three, 17, MsdaLowering::Gather)
    }

    fn unary(images: usize) -> UnaryOpIr {
        UnaryOpIr { input: tensor(0, &[images, 4]), out: tensor(1, &[images, 4]) }
    }

    fn scaled(images: usize, by: f64) -> OperationIr {
        let (lhs, out) = (tensor(0, &[images, 4]), tensor(1, &[images, 4]));
        let scalar = ScalarOpIr { lhs, rhs: ScalarIr::Float(by), out };
        OperationIr::NumericFloat(DType::F32, Numeric::MulScalar(scalar))
    }

    #[test]
    fn operations_become_operators() {
        let float = |operation: Float| OperationIr::Float(DType::F32, operation);
        for (name, graph) in [
            ("Sqrt", lowered(|images| float(Float::Sqrt(unary(images))))),
            ("Floor", lowered(|images| float(Float::Floor(unary(images))))),
            ("Relu", lowered(|images| OperationIr::Activation(Activation::Relu(unary(images))))),
            ("Mul", lowered(|images| scaled(images, 0.5))),
        ] {
            let graph = graph.unwrap();
            assert_eq!(graph.nodes.len(), 1, "{name}");
            assert_eq!(graph.nodes[0].op, name);
            assert_eq!(graph.nodes[0].output, "out");
            assert_eq!(graph.dims("out"), [Dim::Batch(1), Dim::Fixed(4)]);
        }
    }

    #[test]
    fn an_operation_that_is_not_in_the_table_is_named() {
        let error = lowered(|images| OperationIr::Float(DType::F32, Float::Erf(unary(images))));
        assert_eq!(error.unwrap_err(), ExportError::Operation { operation: "Erf".to_owned() });
    }

    #[test]
    fn what_follows_the_number_of_images_is_refused_unless_it_is_a_shape() {
        let error = lowered(|images| scaled(images, if images == 2 { 0.5 } else { 0.25 }));
        let differs = ExportError::BatchDependent { operation: "MulScalar".to_owned() };
        assert_eq!(error.unwrap_err(), differs);
        // A slice of all images is none; one of the first two is another thing.
        let slice = |images: usize, end: usize| {
            let (tensor, out) = (tensor(0, &[images, 4]), tensor(1, &[end, 2]));
            let ranges =
                vec![Slice::new(0, isize::try_from(end).ok(), 1), Slice::new(1, Some(3), 1)];
            OperationIr::BaseFloat(Base::Slice(SliceOpIr { tensor, ranges, out }))
        };
        let graph = lowered(|images| slice(images, images)).unwrap();
        assert_eq!(graph.dims("out"), [Dim::Batch(1), Dim::Fixed(2)]);
        assert!(lowered(|images| slice(images, images - 1)).is_err());
    }
}
