//! Activation checkpointing (Chen et al. 2016, <https://arxiv.org/abs/1604.06174>): the backbone, the
//! projections and every layer of the encoder run without keeping anything but what went into them, and
//! once more, one by one and from the last to the first, in the backward pass. So the activations of one
//! such segment are there at a time. Within each, Burn recomputes what is cheap. The decoder runs once: it
//! has a few hundred queries, where the encoder has thousands of tokens.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Device, Distribution, Gradients, Tensor};
use detr_model::backbone::Features;
use detr_model::encoding::Encoding;
use detr_model::{DetrOutput, Model, NestedTensor};

/// What went into the segments, to be run again.
pub(crate) struct Segments {
    images: NestedTensor,
    /// The backbone's maps, as leaves.
    features: Features,
    /// Of the transformer; none if it runs as one.
    encoder: Option<Encoder>,
}

struct Encoder {
    /// What the encoder works on; its position is a leaf.
    encoding: Encoding,
    /// Tokens before every layer, and after the last as a leaf.
    tokens: Vec<Tensor<3>>,
    /// Of the random numbers of the first layer, if there are any.
    seed: Option<u64>,
}

impl Segments {
    /// The model's output, differentiable down to the end of the encoder. A seed is needed where layers
    /// of the encoder drop activations.
    pub(crate) fn forward(
        model: &Model,
        images: NestedTensor,
        seed: Option<u64>,
    ) -> (DetrOutput, Self) {
        let still = model.clone().map(&mut Still);
        let mut plain = images.clone();
        plain.pixels = plain.pixels.inner();
        let mut features = model.valid().extract(plain);
        for map in &mut features.maps {
            map.map = on(&images.pixels, map.map.clone()).require_grad();
        }
        let (output, encoder) = match Encoder::forward(&still, model, &features, seed) {
            Some((output, encoder)) => (output, Some(encoder)),
            None => (model.transform(features.clone()), None),
        };
        (output, Self { images, features, encoder })
    }

    /// The gradients of all segments, of those of what came after them; all are handed on.
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

impl Encoder {
    /// None of a model without such an encoder.
    fn forward(
        still: &Model,
        model: &Model,
        features: &Features,
        seed: Option<u64>,
    ) -> Option<(DetrOutput, Self)> {
        let encoding = still.tokenize(features.clone())?;
        let (mut x, position) = (cut(encoding.tokens()), fresh(encoding.position()));
        let encoding = encoding.with(x.clone(), position.clone());
        let mut tokens = Vec::new();
        for layer in 0..model.encoder_layers() {
            tokens.push(x.clone());
            reseed(&position.device(), seed, layer);
            x = cut(still.encode(layer, &encoding.clone().with(leaf(x), position.clone())));
        }
        let memory = leaf(x);
        tokens.push(memory.clone());
        let encoding = encoding.with(memory, leaf(position));
        let output = model.decode(encoding.clone())?;
        Some((output, Self { encoding, tokens, seed }))
    }

    /// From the end of the encoder to the backbone's maps: the gradients of the projections.
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

/// A number whose derivative by the output is the gradient that is wanted, to the bit; none of a
/// constant.
fn product<const D: usize>(output: Tensor<D>, wanted: Option<Tensor<D>>) -> Option<Tensor<1>> {
    let wanted = wanted.filter(|_| output.is_tracked())?;
    Some((output * wanted).sum())
}

/// Gradients of a sum.
fn backward(parts: impl Iterator<Item = Option<Tensor<1>>>) -> Option<Gradients> {
    parts.flatten().reduce(|sum, part| sum + part).map(|sum| sum.backward())
}

/// The same numbers, at the bottom of a graph of their own.
fn leaf<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    fresh(tensor).require_grad()
}

/// The same numbers without where they came from.
fn fresh<const D: usize>(tensor: Tensor<D>) -> Tensor<D> {
    on(&tensor.clone(), tensor)
}

/// Numbers where another tensor is, with autodiff as it has it.
fn on<const D: usize, const E: usize>(other: &Tensor<E>, tensor: Tensor<D>) -> Tensor<D> {
    let fresh = tensor.inner().autodiff();
    match other.gradient_checkpointing_strategy() {
        Some(strategy) => fresh.with_gradient_checkpointing_strategy(strategy),
        None => fresh,
    }
}

/// The same numbers, and an end to the graph that they come from, which would stay in memory until a
/// backward pass went through it: here is one, of a single number and without gradients of parameters.
fn cut(tensor: Tensor<3>) -> Tensor<3> {
    let kept = fresh(tensor.clone());
    if tensor.is_tracked() {
        drop(tensor.slice([0..1, 0..1, 0..1]).sum().backward());
    }
    kept
}

/// Makes all parameters constants, without a word to dropout.
struct Still;

impl ModuleMapper for Still {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(Tensor::detach)
    }
}

/// `[4]`: numbers of 16 random bits for a [`seed`]. A run that repeats its random numbers repeats these.
pub(crate) fn random_bits(device: &Device) -> Tensor<1> {
    Tensor::random([4], Distribution::Uniform(0.0, 65_536.0), (device, DType::F32))
}

/// The seed of the first layer, of the numbers of [`random_bits`].
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below 2^16
pub(crate) fn seed(bits: &[f32]) -> u64 {
    bits.iter().fold(0, |seed, &number| seed << 16 | number as u64)
}

/// Makes the random numbers of a layer those that it had or will have.
fn reseed(device: &Device, seed: Option<u64>, layer: usize) {
    if let Some(seed) = seed {
        device.seed(seed.wrapping_add(layer as u64));
    }
}
