//! MSDA in the graph: the forward pass remembers its inputs, the backward pass runs one kernel for
//! all three gradients.

use burn::backend::Autodiff;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;

use crate::extension::MsdaOps;
use crate::problem::Options;

#[derive(Debug)]
struct MsdaBackward;

/// The tensors and settings that the backward pass reads again.
#[derive(Clone, Debug)]
struct Inputs {
    value: NodeId,
    locations: NodeId,
    weights: NodeId,
    options: Options,
}

impl<B: MsdaOps> Backward<B, 3> for MsdaBackward {
    type State = Inputs;

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let grad = grads.consume::<B>(&ops.node);
        let inputs = ops.state;
        let (value, locations, weights) = B::msda_backward(
            checkpointer.retrieve_node_output(inputs.value),
            checkpointer.retrieve_node_output(inputs.locations),
            checkpointer.retrieve_node_output(inputs.weights),
            grad,
            inputs.options,
        );
        for (parent, grad) in ops.parents.into_iter().zip([value, locations, weights]) {
            if let Some(node) = parent {
                grads.register::<B>(node.id, grad);
            }
        }
    }
}

impl<B: MsdaOps, C: CheckpointStrategy> MsdaOps for Autodiff<B, C> {
    fn msda_forward(
        value: FloatTensor<Self>,
        locations: FloatTensor<Self>,
        weights: FloatTensor<Self>,
        options: Options,
    ) -> FloatTensor<Self> {
        let parents = [value.node(), locations.node(), weights.node()];
        match MsdaBackward.prepare::<C>(parents).compute_bound().stateful() {
            OpsKind::Tracked(mut prep) => {
                let inputs = Inputs {
                    value: prep.checkpoint(&value),
                    locations: prep.checkpoint(&locations),
                    weights: prep.checkpoint(&weights),
                    options: options.clone(),
                };
                let output = B::msda_forward(
                    value.into_primitive(),
                    locations.into_primitive(),
                    weights.into_primitive(),
                    options,
                );
                prep.finish(inputs, output)
            }
            OpsKind::UnTracked(prep) => prep.finish(B::msda_forward(
                value.into_primitive(),
                locations.into_primitive(),
                weights.into_primitive(),
                options,
            )),
        }
    }

    /// # Panics
    ///
    /// Always: the graph calls the backward kernel of the inner backend, and a gradient of the
    /// gradient does not exist.
    fn msda_backward(
        _value: FloatTensor<Self>,
        _locations: FloatTensor<Self>,
        _weights: FloatTensor<Self>,
        _grad: FloatTensor<Self>,
        _options: Options,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("multi-scale deformable attention has no second derivative")
    }
}
