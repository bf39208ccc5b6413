//! The table of operations: what each operation that Burn records is in ONNX. An operation that has no line here is an
//! error that names it.

use burn::tensor::Slice;
use burn_ir::{
    ActivationOperationIr as Activation, BaseOperationIr as Base, BoolOperationIr, CustomOpIr,
    FloatOperationIr as Float, ModuleOperationIr as ModuleOp, NumericOperationIr as Numeric,
    OperationIr, ScalarIr, TensorIr,
};
use detr_ops::record;

use crate::array::{Array, Dim, Element, ValueType, Values, signed};
use crate::graph::{Attribute, Attributes};
use crate::lowering::{Lowering, element};
use crate::msda;

impl Lowering<'_> {
    /// Operations on tensors of any kind.
    pub(crate) fn base(
        &mut self,
        base: &Base,
        second: &OperationIr,
        output: ValueType,
    ) -> Option<String> {
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
                let (OperationIr::BaseFloat(Base::Slice(other))
                | OperationIr::BaseInt(Base::Slice(other))
                | OperationIr::BaseBool(Base::Slice(other))) = second
                else {
                    return None;
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
                let times = (0..output.dims.len())
                    .map(|axis| if axis == repeat.dim { signed(repeat.times) } else { 1 });
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

    /// Makes a tensor with the same number everywhere.
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

    /// Operations on numbers.
    pub(crate) fn numeric(&mut self, numeric: &Numeric, output: ValueType) -> Option<String> {
        match numeric {
            Numeric::Add(pair) => Some(self.binary("Add", &pair.lhs, &pair.rhs)),
            Numeric::Sub(pair) => Some(self.binary("Sub", &pair.lhs, &pair.rhs)),
            Numeric::Mul(pair) => Some(self.binary("Mul", &pair.lhs, &pair.rhs)),
            Numeric::Div(pair) => Some(self.binary("Div", &pair.lhs, &pair.rhs)),
            Numeric::AddScalar(pair) => self.with_scalar("Add", &pair.lhs, pair.rhs),
            Numeric::SubScalar(pair) => self.with_scalar("Sub", &pair.lhs, pair.rhs),
            Numeric::MulScalar(pair) => self.with_scalar("Mul", &pair.lhs, pair.rhs),
            Numeric::DivScalar(pair) => self.with_scalar("Div", &pair.lhs, pair.rhs),
            Numeric::RemScalar(pair) if output.element == Element::I64 => {
                self.with_scalar("Mod", &pair.lhs, pair.rhs)
            }
            Numeric::PowiScalar(pair) => {
                if pair.rhs.elem::<i64>() == 2 {
                    return Some(self.binary("Mul", &pair.lhs, &pair.lhs));
                }
                self.with_scalar("Pow", &pair.lhs, pair.rhs)
            }
            Numeric::Neg(one) => Some(self.unary("Neg", &one.input)),
            Numeric::Abs(one) => Some(self.unary("Abs", &one.input)),
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
            Numeric::Greater(pair) => {
                Some(self.comparison("Greater", &pair.lhs, &pair.rhs, output))
            }
            Numeric::GreaterEqual(pair) => {
                Some(self.comparison("GreaterOrEqual", &pair.lhs, &pair.rhs, output))
            }
            Numeric::Lower(pair) => Some(self.comparison("Less", &pair.lhs, &pair.rhs, output)),
            Numeric::LowerEqual(pair) => {
                Some(self.comparison("LessOrEqual", &pair.lhs, &pair.rhs, output))
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
    ) -> String {
        let (a, b) = (self.name(a), self.name(b));
        self.compare(op, &a, &b, output)
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

    /// Operations on floating-point numbers.
    pub(crate) fn float(&mut self, float: &Float, output: ValueType) -> Option<String> {
        match float {
            Float::Exp(one) => Some(self.unary("Exp", &one.input)),
            Float::Log(one) => Some(self.unary("Log", &one.input)),
            Float::Sqrt(one) => Some(self.unary("Sqrt", &one.input)),
            Float::Sin(one) => Some(self.unary("Sin", &one.input)),
            Float::Cos(one) => Some(self.unary("Cos", &one.input)),
            Float::Floor(one) => Some(self.unary("Floor", &one.input)),
            Float::Recip(one) => Some(self.unary("Reciprocal", &one.input)),
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

    /// Multiplies matrices. A constant on the right is a matrix, whatever axes of length 1 Burn put before it.
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

    /// Operations on truth values.
    pub(crate) fn bool(&mut self, operation: &BoolOperationIr) -> Option<String> {
        match operation {
            BoolOperationIr::Not(one) => Some(self.unary("Not", &one.input)),
            BoolOperationIr::And(pair) => Some(self.binary("And", &pair.lhs, &pair.rhs)),
            BoolOperationIr::Or(pair) => Some(self.binary("Or", &pair.lhs, &pair.rhs)),
            BoolOperationIr::IntoFloat(cast) | BoolOperationIr::IntoInt(cast) => {
                let x = self.name(&cast.input);
                let to = element(cast.out.dtype)?;
                Some(self.graph.cast(&x, to))
            }
            BoolOperationIr::Xor(_) => None,
        }
    }

    /// Activation functions.
    pub(crate) fn activation(&mut self, activation: &Activation) -> Option<String> {
        match activation {
            Activation::Relu(one) => Some(self.unary("Relu", &one.input)),
            Activation::Sigmoid(one) => Some(self.unary("Sigmoid", &one.input)),
            Activation::Softmax(softmax) => {
                let x = self.name(&softmax.input);
                let axis = vec![("axis", Attribute::Int(signed(softmax.axis)))];
                Some(self.graph.keep("Softmax", &[&x], axis))
            }
            _ => None,
        }
    }

    /// Layers.
    pub(crate) fn module(&mut self, module: &ModuleOp, output: ValueType) -> Option<String> {
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

    /// Operations of our own (`detr_ops::record`).
    pub(crate) fn custom(&mut self, custom: &CustomOpIr, output: ValueType) -> Option<String> {
        let inputs: Vec<String> = custom.inputs.iter().map(|input| self.name(input)).collect();
        let sizes: Result<Vec<usize>, _> =
            custom.scalars.iter().map(|size| usize::try_from(size.elem::<u64>())).collect();
        let sizes = sizes.ok()?;
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

/// Returns a slice as start, end and step; `None` if it goes backwards.
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
