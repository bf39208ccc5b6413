//! The operations in the graph.

use burn::backend::Autodiff;
use burn::backend::TensorMetadata;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::tensor::Shape;

use super::ConvOptions;
use super::extension::DenseOps;

#[derive(Debug)]
struct ConvBackward;

/// The tensors that the backward pass of a convolution reads again. Parents are x, weight and bias,
/// and a residual where there is one.
#[derive(Clone, Debug)]
struct ConvState<T> {
    x: NodeId,
    weight: NodeId,
    /// The output, where a `ReLU` has to be undone.
    output: Option<T>,
    options: ConvOptions,
}

impl<B: DenseOps, const N: usize> Backward<B, N> for ConvBackward {
    type State = ConvState<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, N>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let ConvState { x, weight, output, options } = ops.state;
        let grad = match output {
            Some(output) => B::relu_backward(output, grad),
            None => grad,
        };
        let mut parents = ops.parents.into_iter();
        let [of_x, of_weight, of_bias, of_residual] =
            std::array::from_fn(|_| parents.next().flatten());
        let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
        let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
        if let Some(node) = of_bias {
            let channels = grad.shape()[1];
            let sums =
                [0, 2, 3].into_iter().fold(grad.clone(), |sum, dim| B::float_sum_dim(sum, dim));
            grads.register::<B>(node.id, B::float_reshape(sums, Shape::new([channels])));
        }
        if let Some(node) = of_weight {
            let found = B::dense_conv2d_weight(x.clone(), weight.clone(), grad.clone(), options);
            grads.register::<B>(node.id, found);
        }
        if let Some(node) = of_x {
            let found = B::dense_conv2d_input(x, weight, grad.clone(), options);
            grads.register::<B>(node.id, found);
        }
        if let Some(node) = of_residual {
            grads.register::<B>(node.id, grad);
        }
    }
}

#[derive(Debug)]
struct LinearBackward;

/// The tensors that the backward pass of a linear layer reads again. Parents are x, weight and
/// bias.
#[derive(Clone, Debug)]
struct LinearState<T> {
    x: NodeId,
    weight: NodeId,
    output: Option<T>,
}

impl<B: DenseOps> Backward<B, 3> for LinearBackward {
    type State = LinearState<FloatTensor<B>>;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let LinearState { x, weight, output } = ops.state;
        let grad = match output {
            Some(output) => B::relu_backward(output, grad),
            None => grad,
        };
        let [of_x, of_weight, of_bias] = ops.parents;
        if let Some(node) = of_bias {
            grads.register::<B>(node.id, B::linear_bias_backward(grad.clone()));
        }
        if let Some(node) = of_weight {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(x);
            grads.register::<B>(node.id, B::linear_weight_backward(x, grad.clone()));
        }
        if let Some(node) = of_x {
            let weight: FloatTensor<B> = checkpointer.retrieve_node_output(weight);
            grads.register::<B>(node.id, B::linear_x_backward(weight, grad));
        }
    }
}

#[derive(Debug)]
struct MaxPoolBackward;

impl<B: DenseOps> Backward<B, 1> for MaxPoolBackward {
    type State = NodeId;

    fn backward(
        self,
        ops: Ops<Self::State, 1>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let x: FloatTensor<B> = checkpointer.retrieve_node_output(ops.state);
            grads.register::<B>(node.id, B::dense_max_pool_input(x, grad));
        }
    }
}

/// A convolution in the graph, with these parents.
macro_rules! conv2d {
    ($forward:path, [$x:ident, $weight:ident $(, $more:ident)*], $options:ident) => {{
        let parents = [$x.node(), $weight.node() $(, $more.node())*];
        match ConvBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let (x, weight) = (prep.checkpoint(&$x), prep.checkpoint(&$weight));
                let output = $forward(
                    $x.into_primitive(),
                    $weight.into_primitive(),
                    $($more.into_primitive(),)*
                    $options,
                );
                let kept = $options.relu.then(|| output.clone());
                prep.finish(ConvState { x, weight, output: kept, options: $options }, output)
            }
            OpsKind::UnTracked(prep) => prep.finish($forward(
                $x.into_primitive(),
                $weight.into_primitive(),
                $($more.into_primitive(),)*
                $options,
            )),
        }
    }};
}

impl<B: DenseOps, C: CheckpointStrategy> DenseOps for Autodiff<B, C> {
    fn dense_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self> {
        conv2d!(B::dense_conv2d, [x, weight, bias], options)
    }

    fn dense_conv2d_residual(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        residual: FloatTensor<Self>,
        options: ConvOptions,
    ) -> FloatTensor<Self> {
        conv2d!(B::dense_conv2d_residual, [x, weight, bias, residual], options)
    }

    fn dense_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        relu: bool,
    ) -> FloatTensor<Self> {
        let parents = [x.node(), weight.node(), bias.node()];
        match LinearBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let (of_x, of_weight) = (prep.checkpoint(&x), prep.checkpoint(&weight));
                let output = B::dense_linear(
                    x.into_primitive(),
                    weight.into_primitive(),
                    bias.into_primitive(),
                    relu,
                );
                let kept = relu.then(|| output.clone());
                prep.finish(LinearState { x: of_x, weight: of_weight, output: kept }, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::dense_linear(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                relu,
            )),
        }
    }

    fn dense_max_pool(x: FloatTensor<Self>) -> FloatTensor<Self> {
        match MaxPoolBackward.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let of_x = prep.checkpoint(&x);
                prep.finish(of_x, B::dense_max_pool(x.into_primitive()))
            }
            OpsKind::UnTracked(prep) => prep.finish(B::dense_max_pool(x.into_primitive())),
        }
    }

    /// # Panics
    ///
    /// Always, as the three that follow: [`super::attention`] is not for the graph, and gradients have no
    /// gradient.
    fn dense_attention(
        _query: FloatTensor<Self>,
        _key: FloatTensor<Self>,
        _value: FloatTensor<Self>,
        _bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        panic!("fused attention has no gradient")
    }

    fn dense_max_pool_input(_x: FloatTensor<Self>, _grad: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("a maximum has no second derivative")
    }

    fn dense_conv2d_input(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _options: ConvOptions,
    ) -> FloatTensor<Self> {
        panic!("a convolution has no second derivative")
    }

    fn dense_conv2d_weight(
        _x: FloatTensor<Self>,
        _weight: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _options: ConvOptions,
    ) -> FloatTensor<Self> {
        panic!("a convolution has no second derivative")
    }
}
