//! Activation checkpointing (Chen et al. 2016, <https://arxiv.org/abs/1604.06174>): the backbone, the
//! projections and every layer of the encoder keep nothing but their inputs in the forward pass, and run once
//! more, one by one and from the last to the first, in the backward pass. So the activations of only one such
//! block are in memory at a time. Within each, Burn recomputes cheap operations. The decoder runs once: it
//! has a few hundred queries, where the encoder has thousands of tokens.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Gradients, Tensor};
use detr_model::backbone::Features;
use detr_model::encoding::Encoding;
use detr_model::{DetrOutput, Model, NestedTensor};

/// The inputs of all checkpointed blocks of a forward pass, with which the backward pass runs them again.
pub(crate) struct CheckpointedBlocks {
    images: NestedTensor,
    /// The backbone's maps, as leaves of the graph.
    features: Features,
    /// The inputs of the encoder; `None` if the transformer runs as one.
    encoder: Option<EncoderInputs>,
}

/// The inputs of the layers of an encoder.
struct EncoderInputs {
    /// The output of the encoder, as the input of the decoder; its position is a leaf.
    encoding: Encoding,
    /// The tokens before every layer, and those after the last as a leaf.
    tokens: Vec<Tensor<3>>,
    /// The seed of the random numbers of the first layer, if there are any.
    seed: Option<u64>,
}

impl CheckpointedBlocks {
    /// Returns the model's output, differentiable down to the end of the encoder. A seed is needed if layers of the
    /// encoder drop activations.
    pub(crate) fn forward(
        model: &Model,
        images: NestedTensor,
        seed: Option<u64>,
    ) -> (DetrOutput, Self) {
        let detached = model.clone().map(&mut Detacher);
        let mut plain = images.clone();
        plain.pixels = plain.pixels.inner();
        let mut features = model.valid().extract(plain);
        for map in &mut features.maps {
            map.map = on(&images.pixels, map.map.clone()).require_grad();
        }
        let (output, encoder) = match EncoderInputs::forward(&detached, model, &features, seed) {
            Some((output, encoder)) => (output, Some(encoder)),
            None => (model.transform(features.clone()), None),
        };
        (output, Self { images, features, encoder })
    }

    /// Backpropagates through every block, starting from `after`, the gradients of the layers behind them. Passes each
    /// result to `hand_on`.
    pub(crate) fn backward(
        self,
        model: &Model,
        mut after: Gradients,
        mut hand_on: impl FnMut(Gradients),
    ) {
        let Self { images, features, encoder } = self;
        if let Some(encoder) = encoder {
            let Some(before) = encoder.backward(model, &features, after, &mut hand_on) else {
                return;
            };
            after = before;
        }
        let leaves = features.maps.into_iter().map(|map| map.map);
        let wanted: Vec<_> = leaves.map(|leaf| leaf.grad_remove(&mut after)).collect();
        hand_on(after);
        let maps = model.extract(images).maps.into_iter().zip(wanted);
        if let Some(gradients) = backward(maps.map(|(map, wanted)| product(map.map, wanted))) {
            hand_on(gradients);
        }
    }
}

impl EncoderInputs {
    /// Runs the encoder layer by layer, and the decoder. Returns `None` for a model whose encoder cannot run so.
    /// `detached` is the model without gradients.
    fn forward(
        detached: &Model,
        model: &Model,
        features: &Features,
        seed: Option<u64>,
    ) -> Option<(DetrOutput, Self)> {
        let encoding = detached.tokenize(features.clone())?;
        let (mut x, position) = (cut(encoding.tokens()), fresh(encoding.position()));
        let encoding = encoding.with(x.clone(), position.clone());
        let mut tokens = Vec::new();
        for layer in 0..model.encoder_layers() {
            tokens.push(x.clone());
            reseed(&position.device(), seed, layer);
            x = cut(detached.encode(layer, &encoding.clone().with(leaf(x), position.clone())));
        }
        let memory = leaf(x);
        tokens.push(memory.clone());
        let encoding = encoding.with(memory, leaf(position));
        let output = model.decode(encoding.clone())?;
        Some((output, Self { encoding, tokens, seed }))
    }

    /// Backpropagates from the end of the encoder to the backbone's maps. Returns the gradients of the projections, and
    /// of the maps.
    fn backward(
        self,
        model: &Model,
        features: &Features,
        mut after: Gradients,
        hand_on: &mut impl FnMut(Gradients),
    ) -> Option<Gradients> {
        let Self { encoding, mut tokens, seed } = self;
        let position = encoding.position();
        let mut of_position = position.grad_remove(&mut after);
        let mut of_tokens = tokens.pop()?.grad_remove(&mut after);
        hand_on(after);
        for (layer, input) in tokens.into_iter().enumerate().rev() {
            let (input, position) = (leaf(input), leaf(position.clone()));
            reseed(&position.device(), seed, layer);
            let output =
                model.encode(layer, &encoding.clone().with(input.clone(), position.clone()));
            let mut gradients = product(output, of_tokens)?.backward();
            of_tokens = input.grad_remove(&mut gradients);
            of_position = match (of_position, position.grad_remove(&mut gradients)) {
                (Some(sum), Some(more)) => Some(sum + more),
                (sum, more) => sum.or(more),
            };
            hand_on(gradients);
        }
        let again = model.tokenize(features.clone())?;
        let position = product(again.position(), of_position);
        backward([product(again.tokens(), of_tokens), position].into_iter())
    }
}

/// Returns a scalar whose gradient with respect to `output` is exactly `wanted`, or `None` if `output` is a constant.
fn product<const D: usize>(output: Tensor<D>, wanted: Option<Tensor<D>>) -> Option<Tensor<1>> {
    let wanted = wanted.filter(|_| output.is_tracked())?;
    Some((output * wanted).sum())
}

/// Returns the gradients of a sum, or `None` if it has no parts.
fn backward(parts: impl Iterator<Item = Option<Tensor<1>>>) -> Option<Gradients> {
    parts.flatten().reduce(|sum, part| sum + part).map(|sum| sum.backward())
}

/// Returns the same numbers as a leaf of a new graph.
fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    fresh(tensor).require_grad()
}

/// Returns the same numbers without their graph.
fn fresh<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    on(&tensor.clone(), tensor)
}

/// Returns the same numbers without their graph, with autodiff as `other` has it.
fn on<const D: usize, const E: usize>(other: &Tensor<E>, tensor: Tensor<D>) -> Tensor<D> {
    let fresh = tensor.inner().autodiff();
    match other.gradient_checkpointing_strategy() {
        Some(strategy) => fresh.with_gradient_checkpointing_strategy(strategy),
        None => fresh,
    }
}

/// Returns the same numbers without their graph, and frees that graph. It would stay in memory until a backward pass
/// goes through it, so one does: that of a single number, which makes no gradients of parameters.
fn cut(tensor: Tensor<3>) -> Tensor<3> {
    let kept = fresh(tensor.clone());
    if tensor.is_tracked() {
        drop(tensor.slice([0..1, 0..1, 0..1]).sum().backward());
    }
    kept
}

/// Detaches every parameter but keeps dropout in training mode.
struct Detacher;

impl ModuleMapper for Detacher {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(Tensor::detach)
    }
}

/// Draws four numbers of 16 random bits for a [`seed`], `[4]`. A run that repeats its random numbers repeats these.
pub(crate) fn random_bits(device: &Device) -> Tensor<1> {
    Tensor::random([4], Distribution::Uniform(0.0, 65_536.0), (device, DType::F32))
}

/// Makes the seed of the first layer from the numbers of [`random_bits`].
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 2^16
pub(crate) fn seed(bits: &[f32]) -> u64 {
    bits.iter().fold(0, |seed, &number| seed << 16 | number as u64)
}

/// Seeds the device for a layer, so that both of its runs draw the same numbers.
fn reseed(device: &Device, seed: Option<u64>, layer: usize) {
    if let Some(seed) = seed {
        device.seed(seed.wrapping_add(layer as u64));
    }
}
