//! The table of operations: what each operation that Burn records is in ONNX. An operation that has no line here is an
//! error that names it.

use std::collections::HashMap;

use burn::backend::capture::TensorId;
use burn::tensor::{BoolStore, DType, Slice, TensorData};
use burn_ir::{
    ActivationOperationIr as Activation, BaseOperationIr as Base, BoolOperationIr, CustomOpIr,
    FloatOperationIr as Float, IntOperationIr, IrVisitorMut, ModuleOperationIr as ModuleOp,
    NumericOperationIr as Numeric, OperationIr, ScalarIr, TensorIr, TensorStatus,
};
use detr_ops::record;

use crate::array::{Array, Dim, Element, ValueType, Values, signed};
use crate::capture::Trace;
use crate::graph::{Attribute, Attributes, Graph};
use crate::{ExportError, MsdaLowering, msda};

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
    let mut table = Table {
        graph: Graph::new(opset, INPUT, input_type),
        names: HashMap::from([(first.input, INPUT.to_owned())]),
        traces: [first, second],
        msda,
    };
    for pair in first.operations.iter().zip(&second.operations) {
        if !matches!(pair.0, OperationIr::Init(_)) {
            table.operation(pair.0, pair.1)?;
        }
    }
    for (name, id) in &first.outputs {
        let value = table.names.get(id).cloned().unwrap_or_default();
        table.graph.output(&value, name);
    }
    table.graph.finish();
    Ok(table.graph)
}

fn input_type(first: &Trace, second: &Trace) -> Result<ValueType, ExportError> {
    let missing = || ExportError::Capture { reason: "the input has no shape".to_owned() };
    let shape = |trace: &Trace| trace.values.get(&trace.input).map(|data| data.shape().to_vec());
    let (a, b) = (shape(first).ok_or_else(missing)?, shape(second).ok_or_else(missing)?);
    let dims = a.iter().zip(&b).map(|(&a, &b)| Dim::of_pair(a, b)).collect::<Option<Vec<_>>>();
    Ok(ValueType { element: Element::F32, dims: dims.ok_or_else(missing)? })
}

struct Table<'a> {
    graph: Graph,
    /// Values of the graph by the identifiers of the first recording.
    names: HashMap<TensorId, String>,
    traces: [&'a Trace; 2],
    msda: MsdaLowering,
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

/// The name of an operation, from its text: `NumericFloat(F32, Add(BinaryOpIr {..` is `Add`.
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

fn element(dtype: DType) -> Option<Element> {
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

impl Table<'_> {
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

    fn name(&self, tensor: &TensorIr) -> String {
        self.names.get(&tensor.id).cloned().unwrap_or_default()
    }

    /// A number as a constant of the type of a value.
    #[allow(clippy::cast_possible_truncation)] // the precision of the model
    fn scalar(&mut self, scalar: ScalarIr, like: &str) -> Option<String> {
        let values = match self.graph.types[like].element {
            Element::F32 => Values::F32(vec![scalar.elem::<f64>() as f32]),
            Element::I64 => Values::I64(vec![scalar.elem()]),
            Element::I32 => Values::I32(vec![scalar.elem()]),
            Element::Bool => Values::Bool(vec![scalar.elem()]),
            Element::F16 | Element::I8 => return None,
        };
        Some(self.graph.constant(Array { dims: Vec::new(), values }))
    }

    fn unary(&mut self, op: &'static str, x: &TensorIr) -> Option<String> {
        let x = self.name(x);
        Some(self.graph.keep(op, &[&x], Vec::new()))
    }

    fn binary(&mut self, op: &'static str, a: &TensorIr, b: &TensorIr) -> Option<String> {
        let (a, b) = (self.name(a), self.name(b));
        Some(self.graph.binary(op, &a, &b))
    }

    fn with_scalar(&mut self, op: &'static str, x: &TensorIr, scalar: ScalarIr) -> Option<String> {
        let x = self.name(x);
        let scalar = self.scalar(scalar, &x)?;
        Some(self.graph.binary(op, &x, &scalar))
    }

    fn compare(&mut self, op: &'static str, a: &str, b: &str, output: ValueType) -> String {
        self.graph.node(op, &[a, b], Vec::new(), output)
    }

    fn base(&mut self, base: &Base, second: &OperationIr, output: ValueType) -> Option<String> {
        match base {
            Base::Reshape(shape) => {
                let x = self.name(&shape.input);
                Some(self.graph.reshape(&x, output.dims))
            }
            Base::Expand(shape) => {
                let x = self.name(&shape.input);
                Some(self.graph.expand(&x, output.dims))
            }
            Base::Permute(permute) => {
                let x = self.name(&permute.input);
                Some(self.graph.transpose(&x, &permute.axes))
            }
            Base::SwapDims(swap) => {
                let x = self.name(&swap.input);
                let mut perm: Vec<usize> = (0..output.dims.len()).collect();
                perm.swap(swap.dim1, swap.dim2);
                Some(self.graph.transpose(&x, &perm))
            }
            Base::Cat(cat) => {
                let parts: Vec<String> = cat.tensors.iter().map(|part| self.name(part)).collect();
                let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
                Some(self.graph.concat(&parts, cat.dim, output))
            }
            Base::Slice(slice) => {
                let other = match second {
                    OperationIr::BaseFloat(Base::Slice(other))
                    | OperationIr::BaseInt(Base::Slice(other))
                    | OperationIr::BaseBool(Base::Slice(other)) => other,
                    _ => return None,
                };
                let x = self.name(&slice.tensor);
                let (a, b) = (&slice.tensor.shape, &other.tensor.shape);
                let mut ranges = Vec::new();
                for (axis, (one, two)) in slice.ranges.iter().zip(&other.ranges).enumerate() {
                    let (one, two) = (range(*one, a[axis])?, range(*two, b[axis])?);
                    let whole = one == [0, a[axis], 1] && two == [0, b[axis], 1];
                    if !whole && one != two {
                        return None;
                    }
                    ranges.push((!whole).then_some(one));
                }
                Some(self.graph.slice(&x, &ranges, output))
            }
            Base::Select(select) => {
                let (x, indices) = (self.name(&select.tensor), self.name(&select.indices));
                let axis = vec![("axis", Attribute::Int(signed(select.dim)))];
                Some(self.graph.node("Gather", &[&x, &indices], axis, output))
            }
            Base::Gather(gather) => {
                let (x, indices) = (self.name(&gather.tensor), self.name(&gather.indices));
                let axis = vec![("axis", Attribute::Int(signed(gather.dim)))];
                Some(self.graph.node("GatherElements", &[&x, &indices], axis, output))
            }
            Base::MaskFill(fill) => {
                let (x, mask) = (self.name(&fill.tensor), self.name(&fill.mask));
                let value = self.scalar(fill.value, &x)?;
                Some(self.graph.node("Where", &[&mask, &value, &x], Vec::new(), output))
            }
            Base::MaskWhere(choice) => {
                let (x, mask) = (self.name(&choice.tensor), self.name(&choice.mask));
                let value = self.name(&choice.value);
                Some(self.graph.node("Where", &[&mask, &value, &x], Vec::new(), output))
            }
            Base::RepeatDim(repeat) => {
                let x = self.name(&repeat.tensor);
                let times = (0..output.dims.len()).map(|axis| match axis == repeat.dim {
                    true => signed(repeat.times),
                    false => 1,
                });
                let times = self.graph.i64s(times);
                Some(self.graph.node("Tile", &[&x, &times], Vec::new(), output))
            }
            Base::Cast(cast) => {
                let x = self.name(&cast.input);
                Some(self.graph.cast(&x, output.element))
            }
            Base::Ones(_) => self.full(ScalarIr::Int(1), output),
            Base::Zeros(_) => self.full(ScalarIr::Int(0), output),
            Base::Equal(pair) => {
                let (a, b) = (self.name(&pair.lhs), self.name(&pair.rhs));
                Some(self.compare("Equal", &a, &b, output))
            }
            Base::EqualElem(pair) => {
                let x = self.name(&pair.lhs);
                let scalar = self.scalar(pair.rhs, &x)?;
                Some(self.compare("Equal", &x, &scalar, output))
            }
            Base::AnyDim(any) => {
                let x = self.name(&any.input);
                let numbers = self.graph.cast(&x, Element::F32);
                let largest = self.graph.reduce("ReduceMax", &numbers, &[any.axis]);
                Some(self.graph.cast(&largest, Element::Bool))
            }
            _ => None,
        }
    }

    /// A tensor with the same number everywhere.
    #[allow(clippy::cast_possible_truncation)] // the precision of the model
    fn full(&mut self, value: ScalarIr, output: ValueType) -> Option<String> {
        let values = match output.element {
            Element::F32 => Values::F32(vec![value.elem::<f64>() as f32]),
            Element::I64 => Values::I64(vec![value.elem()]),
            _ => return None,
        };
        let shape = self.graph.shape(&output.dims);
        let value = Attribute::Array(Array { dims: vec![1], values });
        Some(self.graph.node("ConstantOfShape", &[&shape], vec![("value", value)], output))
    }

    fn numeric(&mut self, numeric: &Numeric, output: ValueType) -> Option<String> {
        match numeric {
            Numeric::Add(pair) => self.binary("Add", &pair.lhs, &pair.rhs),
            Numeric::Sub(pair) => self.binary("Sub", &pair.lhs, &pair.rhs),
            Numeric::Mul(pair) => self.binary("Mul", &pair.lhs, &pair.rhs),
            Numeric::Div(pair) => self.binary("Div", &pair.lhs, &pair.rhs),
            Numeric::AddScalar(pair) => self.with_scalar("Add", &pair.lhs, pair.rhs),
            Numeric::SubScalar(pair) => self.with_scalar("Sub", &pair.lhs, pair.rhs),
            Numeric::MulScalar(pair) => self.with_scalar("Mul", &pair.lhs, pair.rhs),
            Numeric::DivScalar(pair) => self.with_scalar("Div", &pair.lhs, pair.rhs),
            Numeric::RemScalar(pair) if output.element == Element::I64 => {
                self.with_scalar("Mod", &pair.lhs, pair.rhs)
            }
            Numeric::PowiScalar(pair) => {
                if pair.rhs.elem::<f64>() == 2.0 {
                    return self.binary("Mul", &pair.lhs, &pair.lhs);
                }
                self.with_scalar("Pow", &pair.lhs, pair.rhs)
            }
            Numeric::Neg(one) => self.unary("Neg", &one.input),
            Numeric::Abs(one) => self.unary("Abs", &one.input),
            Numeric::Full(full) => self.full(full.value, output),
            Numeric::SumDim(sum) => {
                let x = self.name(&sum.input);
                Some(self.graph.reduce("ReduceSum", &x, &[sum.axis]))
            }
            Numeric::SumDims(sum) => {
                let x = self.name(&sum.input);
                Some(self.graph.reduce("ReduceSum", &x, &sum.axes))
            }
            Numeric::MeanDim(mean) => {
                let x = self.name(&mean.input);
                Some(self.graph.reduce("ReduceMean", &x, &[mean.axis]))
            }
            Numeric::MaxDim(max) => {
                let x = self.name(&max.input);
                Some(self.graph.reduce("ReduceMax", &x, &[max.axis]))
            }
            Numeric::CumSum(sum) => {
                let x = self.name(&sum.input);
                let axis = self.graph.i64s([signed(sum.axis)]);
                let axis = self.graph.reshape(&axis, Vec::new());
                Some(self.graph.keep("CumSum", &[&x, &axis], Vec::new()))
            }
            Numeric::Clamp(clamp) => {
                let x = self.name(&clamp.tensor);
                let (low, high) = (self.scalar(clamp.min, &x)?, self.scalar(clamp.max, &x)?);
                Some(self.graph.keep("Clip", &[&x, &low, &high], Vec::new()))
            }
            Numeric::ClampMin(clamp) => self.with_scalar("Max", &clamp.lhs, clamp.rhs),
            Numeric::ClampMax(clamp) => self.with_scalar("Min", &clamp.lhs, clamp.rhs),
            Numeric::Greater(pair) => self.comparison("Greater", &pair.lhs, &pair.rhs, output),
            Numeric::GreaterEqual(pair) => {
                self.comparison("GreaterOrEqual", &pair.lhs, &pair.rhs, output)
            }
            Numeric::Lower(pair) => self.comparison("Less", &pair.lhs, &pair.rhs, output),
            Numeric::LowerEqual(pair) => {
                self.comparison("LessOrEqual", &pair.lhs, &pair.rhs, output)
            }
            Numeric::GreaterElem(pair) => self.threshold("Greater", &pair.lhs, pair.rhs, output),
            Numeric::GreaterEqualElem(pair) => {
                self.threshold("GreaterOrEqual", &pair.lhs, pair.rhs, output)
            }
            Numeric::LowerElem(pair) => self.threshold("Less", &pair.lhs, pair.rhs, output),
            Numeric::LowerEqualElem(pair) => {
                self.threshold("LessOrEqual", &pair.lhs, pair.rhs, output)
            }
            _ => None,
        }
    }

    fn comparison(
        &mut self,
        op: &'static str,
        a: &TensorIr,
        b: &TensorIr,
        output: ValueType,
    ) -> Option<String> {
        let (a, b) = (self.name(a), self.name(b));
        Some(self.compare(op, &a, &b, output))
    }

    fn threshold(
        &mut self,
        op: &'static str,
        x: &TensorIr,
        scalar: ScalarIr,
        output: ValueType,
    ) -> Option<String> {
        let x = self.name(x);
        let scalar = self.scalar(scalar, &x)?;
        Some(self.compare(op, &x, &scalar, output))
    }

    fn float(&mut self, float: &Float, output: ValueType) -> Option<String> {
        match float {
            Float::Exp(one) => self.unary("Exp", &one.input),
            Float::Log(one) => self.unary("Log", &one.input),
            Float::Sqrt(one) => self.unary("Sqrt", &one.input),
            Float::Sin(one) => self.unary("Sin", &one.input),
            Float::Cos(one) => self.unary("Cos", &one.input),
            Float::Floor(one) => self.unary("Floor", &one.input),
            Float::Recip(one) => self.unary("Reciprocal", &one.input),
            Float::PowfScalar(pair) => self.with_scalar("Pow", &pair.lhs, pair.rhs),
            Float::IntoInt(cast) => {
                let x = self.name(&cast.input);
                Some(self.graph.cast(&x, output.element))
            }
            Float::Matmul(product) => {
                let (a, b) = (self.name(&product.lhs), self.name(&product.rhs));
                Some(self.product(&a, &b, output))
            }
            _ => None,
        }
    }

    /// A product of matrices. A constant on the right is a matrix, whatever axes of length 1 Burn put before it.
    fn product(&mut self, a: &str, b: &str, output: ValueType) -> String {
        let own = self.graph.dims(b);
        let (batch, matrix) = own.split_at(own.len().saturating_sub(2));
        let is_constant = self.graph.constants.contains_key(b);
        let b = if is_constant && batch.iter().all(|&dim| dim == Dim::Fixed(1)) {
            self.graph.reshape(b, matrix.to_vec())
        } else {
            b.to_owned()
        };
        self.graph.node("MatMul", &[a, &b], Vec::new(), output)
    }

    fn bool(&mut self, operation: &BoolOperationIr) -> Option<String> {
        match operation {
            BoolOperationIr::Not(one) => self.unary("Not", &one.input),
            BoolOperationIr::And(pair) => self.binary("And", &pair.lhs, &pair.rhs),
            BoolOperationIr::Or(pair) => self.binary("Or", &pair.lhs, &pair.rhs),
            BoolOperationIr::IntoFloat(cast) | BoolOperationIr::IntoInt(cast) => {
                let x = self.name(&cast.input);
                let to = element(cast.out.dtype)?;
                Some(self.graph.cast(&x, to))
            }
            BoolOperationIr::Xor(_) => None,
        }
    }

    fn activation(&mut self, activation: &Activation) -> Option<String> {
        match activation {
            Activation::Relu(one) => self.unary("Relu", &one.input),
            Activation::Sigmoid(one) => self.unary("Sigmoid", &one.input),
            Activation::Softmax(softmax) => {
                let x = self.name(&softmax.input);
                let axis = vec![("axis", Attribute::Int(signed(softmax.axis)))];
                Some(self.graph.keep("Softmax", &[&x], axis))
            }
            _ => None,
        }
    }

    fn module(&mut self, module: &ModuleOp, output: ValueType) -> Option<String> {
        match module {
            ModuleOp::Conv2d(conv) => {
                let x = self.name(&conv.x);
                let options = &conv.options;
                let [top, left] = options.padding;
                let pads = [top.0, left.0, top.1, left.1];
                let kernel = [conv.weight.shape[2], conv.weight.shape[3]];
                // Burn takes every second cell before a convolution of single cells, instead of moving it by two.
                let plain = kernel == [1, 1] && options.stride == [1, 1] && pads == [0; 4];
                let (x, strides) = match self.graph.every_nth_cell(&x).filter(|_| plain) {
                    Some((before, strides)) => (before, strides),
                    None => (x, options.stride),
                };
                let mut inputs = vec![x, self.name(&conv.weight)];
                inputs.extend(conv.bias.as_ref().map(|bias| self.name(bias)));
                let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
                let attributes = vec![
                    ("dilations", ints(options.dilation)),
                    ("group", Attribute::Int(signed(options.groups))),
                    ("kernel_shape", ints(kernel)),
                    ("pads", ints(pads)),
                    ("strides", ints(strides)),
                ];
                Some(self.graph.node("Conv", &inputs, attributes, output))
            }
            ModuleOp::MaxPool2d(pool) => {
                let x = self.name(&pool.x);
                let [top, left] = pool.padding;
                let attributes = vec![
                    ("ceil_mode", Attribute::Int(pool.ceil_mode.into())),
                    ("dilations", ints(pool.dilation)),
                    ("kernel_shape", ints(pool.kernel_size)),
                    ("pads", ints([top, left, top, left])),
                    ("strides", ints(pool.stride)),
                ];
                Some(self.graph.node("MaxPool", &[&x], attributes, output))
            }
            ModuleOp::Linear(linear) => {
                let (x, weight) = (self.name(&linear.x), self.name(&linear.weight));
                let product = self.product(&x, &weight, output);
                let Some(bias) = &linear.bias else { return Some(product) };
                let bias = self.name(bias);
                Some(self.graph.binary("Add", &product, &bias))
            }
            ModuleOp::LayerNorm(norm) => {
                let x = self.name(&norm.input);
                let gamma = self.name(&norm.gamma);
                let beta = norm.beta.as_ref().map(|beta| self.name(beta));
                Some(self.layer_norm(&x, &gamma, beta.as_deref(), norm.epsilon))
            }
            _ => None,
        }
    }

    /// Layer normalisation over the last axis: an operator since version 17, and its formula before.
    #[allow(clippy::cast_possible_truncation)] // the precision of the model
    fn layer_norm(
        &mut self,
        x: &str,
        gamma: &str,
        beta: Option<&str>,
        epsilon: ScalarIr,
    ) -> String {
        let graph = &mut self.graph;
        let epsilon = epsilon.elem::<f64>() as f32;
        if graph.opset >= 17 {
            let inputs: Vec<&str> = [x, gamma].into_iter().chain(beta).collect();
            let attributes =
                vec![("axis", Attribute::Int(-1)), ("epsilon", Attribute::Float(epsilon))];
            return graph.keep("LayerNormalization", &inputs, attributes);
        }
        let axis = graph.dims(x).len() - 1;
        let mean = graph.reduce("ReduceMean", x, &[axis]);
        let centred = graph.binary("Sub", x, &mean);
        let square = graph.binary("Mul", &centred, &centred);
        let variance = graph.reduce("ReduceMean", &square, &[axis]);
        let epsilon = graph.constant(Array::scalar(epsilon));
        let variance = graph.binary("Add", &variance, &epsilon);
        let deviation = graph.keep("Sqrt", &[&variance], Attributes::new());
        let normalised = graph.binary("Div", &centred, &deviation);
        let scaled = graph.binary("Mul", &normalised, gamma);
        match beta {
            Some(beta) => graph.binary("Add", &scaled, beta),
            None => scaled,
        }
    }

    fn custom(&mut self, custom: &CustomOpIr, output: ValueType) -> Option<String> {
        let inputs: Vec<String> = custom.inputs.iter().map(|input| self.name(input)).collect();
        let sizes: Vec<usize> =
            custom.scalars.iter().map(|size| size.elem::<u64>() as usize).collect();
        match (custom.id.as_str(), &inputs[..]) {
            (record::MSDA, [value, locations, weights]) => {
                let call = msda::Call {
                    value,
                    levels: sizes.as_chunks::<2>().0,
                    locations,
                    weights,
                    output: output.dims,
                };
                Some(msda::lower(&mut self.graph, &call, self.msda))
            }
            (record::LINEAR, [x, weight, bias @ ..]) => {
                let product = self.product(x, weight, output);
                Some(match bias {
                    [bias] => self.graph.binary("Add", &product, bias),
                    _ => product,
                })
            }
            (record::TOP_K, [scores]) => {
                let k = self.graph.i64s([signed(*sizes.first()?)]);
                Some(self.graph.top_k_indices(scores, &k, output))
            }
            _ => None,
        }
    }
}

/// A slice as start, end and step; `None` if it goes backwards.
fn range(slice: Slice, len: usize) -> Option<[usize; 3]> {
    let at = |index: isize| match usize::try_from(index) {
        Ok(index) => Some(index.min(len)),
        Err(_) => len.checked_sub(index.unsigned_abs()),
    };
    let end = slice.end.map_or(Some(len), at)?;
    Some([at(slice.start)?, end, usize::try_from(slice.step).ok()?])
}

fn ints<const N: usize>(values: [usize; N]) -> Attribute {
    Attribute::Ints(values.into_iter().map(signed).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn_ir::{ScalarOpIr, SliceOpIr, UnaryOpIr};

    use super::*;

    fn tensor(id: u64, dims: &[usize]) -> TensorIr {
        TensorIr::uninit(TensorId::new(id), dims.into(), DType::F32)
    }

    /// A recording of one operation on `[images, 4]`.
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

    /// The graph of an operation, recorded for two and for three images.
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
