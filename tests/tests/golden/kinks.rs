//! Units at the kink of their `ReLU`: before it they are zero to within roundings, so that rounding decides
//! whether a gradient passes them. A walk over every `ReLU` that gradients pass, in the backbone, the
//! transformer and the box heads, which repeats the forward pass part by part and looks at the sums.

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::{Bool, Device, Tensor, TensorData};
use detr_model::backbone::resnet::{ResNet, ResidualBlock};
use detr_model::backbone::{Backbone, FeatureMap, FrozenBatchNorm};
use detr_model::families::deformable_detr::ms_deform_attn::Tokens;
use detr_model::families::deformable_detr::{DeformableDetrTrace, LevelTrace};
use detr_model::families::detr::transformer::Memory;
use detr_model::nn::{Conv2d, Linear, Mlp};
use detr_model::{DeformableDetr, Detr, Model, NestedTensor};
use detr_ops::dense::has_kernel;

use crate::deformable::padded_tokens;

/// Within how many roundings of zero a sum is at its kink. A rounding is the f32 epsilon times the sum of the
/// magnitudes of all terms; sums in another order, of inputs that were rounded before, differ by about one.
pub const ROUNDINGS: f32 = 4.0;

/// A unit at its kink.
#[derive(Clone, Debug)]
pub struct Kink {
    /// Official name of the bias that is added before the `ReLU`.
    pub bias: String,
    /// Its place in the bias.
    pub channel: usize,
    /// The sum before the `ReLU`.
    pub value: f32,
    /// Sum of the magnitudes of its terms.
    pub terms: f32,
}

/// A change of a bias before training starts.
#[derive(Clone, Debug)]
pub struct Nudge {
    /// Official name of the bias.
    pub bias: String,
    /// Its place in the bias.
    pub channel: usize,
    /// The values that are added.
    pub by: f32,
}

impl Kink {
    /// Returns the size of a rounding of the sum.
    pub fn rounding(&self) -> f32 {
        f32::EPSILON * self.terms
    }

    /// Returns the distance of the sum from zero, in roundings.
    pub fn distance(&self) -> f32 {
        self.value.abs() / self.rounding()
    }

    /// Returns the nudge that puts the unit on the other side.
    pub fn across(&self) -> Nudge {
        let by = -(self.value + (0.5 * self.rounding()).copysign(self.value));
        Nudge { bias: self.bias.clone(), channel: self.channel, by }
    }
}

/// Finds all units at their kink, the nearest first. `model` and `images` are those of training, with autodiff, so that
/// the sums are those of training to the bit.
pub fn find(model: &Model, images: &NestedTensor) -> Vec<Kink> {
    let mut walk = Walk::default();
    match model {
        Model::Detr(model) => walk.detr(model, images),
        Model::DeformableDetr(model) => walk.deformable_detr(model, images),
        _ => {}
    }
    walk.found.sort_by(|a, b| a.distance().total_cmp(&b.distance()));
    walk.found
}

/// A forward pass, and what was found on its way.
#[derive(Default)]
struct Walk {
    found: Vec<Kink>,
}

impl Walk {
    /// Looks at sums whose channels are on `axis`.
    fn look<const D: usize>(&mut self, bias: &str, axis: usize, sums: Tensor<D>, terms: Tensor<D>) {
        let shape = sums.dims();
        let after: usize = shape[axis + 1..].iter().product();
        let read = |t: Tensor<D>| t.into_data().try_into_vec::<f32>().expect("f32 data");
        for (at, (value, terms)) in read(sums).into_iter().zip(read(terms)).enumerate() {
            let channel = at / after % shape[axis];
            let kink = Kink { bias: bias.to_owned(), channel, value, terms };
            if terms > 0.0 && kink.distance() <= ROUNDINGS {
                self.found.push(kink);
            }
        }
    }

    fn linear<const D: usize>(&mut self, name: &str, layer: &Linear, x: &Tensor<D>) {
        let mut magnitudes = layer.valid();
        magnitudes.weight = magnitudes.weight.map(Tensor::abs);
        magnitudes.bias = magnitudes.bias.map(|bias| bias.map(Tensor::abs));
        let terms = magnitudes.forward(x.clone().inner().abs());
        self.look(&format!("{name}.bias"), D - 1, layer.forward(x.clone()), terms);
    }

    fn mlp<const D: usize>(&mut self, name: &str, mlp: &Mlp, mut x: Tensor<D>) {
        let (_, hidden) = mlp.layers.split_last().expect("layers");
        for (i, layer) in hidden.iter().enumerate() {
            self.linear(&format!("{name}.layers.{i}"), layer, &x);
            x = layer.forward_relu(x);
        }
    }

    /// Visits the stages that are trained; behind the frozen ones there is nothing that a gradient could
    /// reach. Where convolutions have a kernel of ours, training folds the normalisations into them.
    fn backbone(&mut self, body: &Backbone, maps: &[FeatureMap; 4]) {
        let Backbone::ResNet(body) = body else { return };
        let body = body.valid();
        let body = if has_kernel(&maps[0].map) { body.fold() } else { body };
        let ResNet { layer2, layer3, layer4, .. } = &body;
        for (stage, blocks) in [layer2, layer3, layer4].into_iter().enumerate() {
            let mut x = maps[stage].map.clone().inner();
            for (i, block) in blocks.iter().enumerate() {
                let y = block.forward(FeatureMap { map: x.clone(), extent: None }).map;
                let name = format!("backbone.0.body.layer{}.{i}", stage + 2);
                self.block(&name, block, x, y.dims());
                x = y;
            }
        }
    }

    fn block(&mut self, name: &str, block: &ResidualBlock, x: Tensor<4>, output: [usize; 4]) {
        let shortcut = match &block.downsample {
            Some((conv, bn)) => {
                let step = if x.dims()[2..] == output[2..] { 1 } else { 2 };
                let every = |t: Tensor<4>, axis: usize| {
                    let places: Vec<i32> = (0..t.dims()[axis])
                        .step_by(step)
                        .filter_map(|i| i.try_into().ok())
                        .collect();
                    let places = Tensor::from_ints(places.as_slice(), &t.device());
                    t.select(axis, places)
                };
                let y = conv.forward(every(every(x.clone(), 2), 3));
                match bn {
                    Some(bn) => bn.forward(y),
                    None => y,
                }
            }
            None => x.clone(),
        };
        let mut layers = vec![(&block.conv1, &block.bn1), (&block.conv2, &block.bn2)];
        layers.extend(block.conv3.as_ref().map(|conv| (conv, &block.bn3)));
        let last = layers.len() - 1;
        let mut x = x;
        for (i, (conv, bn)) in layers.into_iter().enumerate() {
            let residual = (i == last).then_some(&shortcut);
            let bias = format!("{name}.bn{}.bias", i + 1);
            x = self.convolution(&bias, conv, bn.as_ref(), &x, residual);
        }
    }

    /// Looks at a convolution with its normalisation and the sum with a residual; returns them after the `ReLU`.
    fn convolution(
        &mut self,
        bias: &str,
        conv: &Conv2d,
        bn: Option<&FrozenBatchNorm>,
        x: &Tensor<4>,
        residual: Option<&Tensor<4>>,
    ) -> Tensor<4> {
        let mut magnitudes = conv.clone();
        magnitudes.weight = magnitudes.weight.map(Tensor::abs);
        magnitudes.bias = magnitudes.bias.map(|bias| bias.map(Tensor::abs));
        let mut terms = magnitudes.forward(x.clone().abs());
        let mut sums = conv.forward(x.clone());
        if let Some(bn) = bn {
            let shift = bn.forward(sums.zeros_like());
            let scale = bn.forward(sums.ones_like()) - shift.clone();
            terms = terms * scale.abs() + shift.abs();
            sums = bn.forward(sums);
        }
        if let Some(residual) = residual {
            sums = sums + residual.clone();
            terms = terms + residual.clone().abs();
        }
        self.look(bias, 1, sums.clone(), terms);
        relu(sums)
    }

    fn detr(&mut self, model: &Detr, images: &NestedTensor) {
        let features = model.extract(images.clone());
        self.backbone(&model.backbone.0.body, &features.maps);
        let trace = model.transform(features);
        let position = to_tokens(trace.position);
        let mask = trace.mask.map(|mask| mask.flatten::<2>(1, 2));
        let pre_norm = model.transformer.encoder.norm.is_some();
        let mut x = to_tokens(trace.projected);
        for (i, layer) in model.transformer.encoder.layers.iter().enumerate() {
            let input = if pre_norm { layer.norm1.forward(x.clone()) } else { x.clone() };
            let qk = input.clone() + position.clone();
            let y = x + layer.self_attn.forward(qk.clone(), qk, input, mask.as_ref());
            let norm = if pre_norm { &layer.norm2 } else { &layer.norm1 };
            let name = format!("transformer.encoder.layers.{i}.linear1");
            self.linear(&name, &layer.linear1, &norm.forward(y));
            x = trace.encoder_layers[i].clone();
        }

        let keys = trace.memory.clone() + position.clone();
        let memory =
            Memory { tokens: trace.memory.clone(), mask: mask.clone(), position: Some(position) };
        let query = model.query_embed.weight.val().unsqueeze::<3>();
        let [_, q, d] = query.dims();
        let mut x = Tensor::zeros([trace.memory.dims()[0], q, d], &query.device());
        for (i, layer) in model.transformer.decoder.layers.iter().enumerate() {
            let input = if pre_norm { layer.norm1.forward(x.clone()) } else { x.clone() };
            let qk = input.clone() + query.clone();
            let y = x.clone() + layer.self_attn.forward(qk.clone(), qk, input, None);
            let (y, input) = match pre_norm {
                true => (y.clone(), layer.norm2.forward(y)),
                false => (layer.norm1.forward(y.clone()), layer.norm1.forward(y)),
            };
            let values = trace.memory.clone();
            let attention = &layer.multihead_attn;
            let y =
                y + attention.forward(input + query.clone(), keys.clone(), values, mask.as_ref());
            let norm = if pre_norm { &layer.norm3 } else { &layer.norm2 };
            let name = format!("transformer.decoder.layers.{i}.linear1");
            self.linear(&name, &layer.linear1, &norm.forward(y));
            x = layer.forward(x, &memory, Some(&query));
        }
        self.mlp("bbox_embed", &model.bbox_embed, trace.hidden);
    }

    fn deformable_detr(&mut self, model: &DeformableDetr, images: &NestedTensor) {
        let features = model.extract(images.clone());
        self.backbone(&model.backbone.0.body, &features.maps);
        let trace = model.transform(features);
        let embeddings = model.transformer.level_embed.val();
        let positions = trace.levels.iter().enumerate().map(|(i, level)| {
            let [b, ..] = level.projected.dims();
            let [_, d, h, w] = level.position.dims();
            let embedding = embeddings.clone().slice_dim(0, i..=i).unsqueeze::<3>();
            to_tokens(level.position.clone().expand([b, d, h, w])) + embedding
        });
        let position = Tensor::cat(positions.collect(), 1);
        let projected = trace.levels.iter().map(|level| to_tokens(level.projected.clone()));
        let mut tokens = Tokens {
            values: Tensor::cat(projected.collect(), 1),
            mask: padded_tokens(&trace.levels),
            levels: trace.levels.iter().map(size).collect(),
        };
        let grid = Grid::new(&trace.levels);
        let references = grid.references(&tokens.values.device());
        for (i, layer) in model.transformer.encoder.layers.iter().enumerate() {
            let x = tokens.values.clone();
            let query = x.clone() + position.clone();
            let y = x + layer.self_attn.forward(query, references.clone(), &tokens);
            let name = format!("transformer.encoder.layers.{i}.linear1");
            self.linear(&name, &layer.linear1, &layer.norm1.forward(y));
            tokens.values = trace.encoder_layers[i].clone();
        }
        self.deformable_decoder(model, &trace, &tokens, &grid);
    }

    fn deformable_decoder(
        &mut self,
        model: &DeformableDetr,
        trace: &DeformableDetrTrace,
        memory: &Tokens,
        grid: &Grid,
    ) {
        let [b, _, d] = memory.values.dims();
        let (position, mut x) = queries(model, trace, b);
        let ratios = grid.ratios(&memory.values.device());
        let mut reference = trace.init_reference.clone();
        let heads = model.bbox_embed.len();
        for (i, layer) in model.transformer.decoder.layers.iter().enumerate() {
            let [rb, q, coordinates] = reference.dims();
            let [vb, l, _] = ratios.dims();
            let scale = Tensor::cat(vec![ratios.clone(); coordinates / 2], 2);
            let places =
                reference.reshape([rb, q, 1, coordinates]) * scale.reshape([vb, 1, l, coordinates]);
            let qk = x.clone() + position.clone();
            let y = x.clone() + layer.self_attn.forward(qk.clone(), qk, x, None);
            let y = layer.norm2.forward(y);
            let query = y.clone() + position.clone();
            let y = y + layer.cross_attn.forward(query, places, memory);
            let name = format!("transformer.decoder.layers.{i}.linear1");
            self.linear(&name, &layer.linear1, &layer.norm1.forward(y));
            x = trace.hidden.clone().slice_dim(0, i..=i).squeeze_dim::<3>(0);
            // All layers share one head if boxes are not refined.
            let head = i.min(heads - 1);
            self.mlp(&format!("bbox_embed.{head}"), &model.bbox_embed[head], x.clone());
            reference = trace.inter_references[i].clone();
        }
        let transformer = &model.transformer;
        if let (Some(linear), Some(norm), Some(encoder)) =
            (&transformer.enc_output, &transformer.enc_output_norm, &trace.output.enc_outputs)
        {
            // The box is exactly 1, and the token nothing, if nothing is proposed.
            let [_, s, _] = memory.values.dims();
            let nothing = encoder.pred_boxes.clone().min_dim(2).greater_equal_elem(1.0);
            let tokens = memory.values.clone().mask_fill(nothing.expand([b, s, d]), 0.0);
            let tokens = norm.forward(linear.forward(tokens));
            self.mlp(&format!("bbox_embed.{}", heads - 1), &model.bbox_embed[heads - 1], tokens);
        }
    }
}

/// Positions and contents of the queries, learned or from the proposals.
fn queries(
    model: &DeformableDetr,
    trace: &DeformableDetrTrace,
    b: usize,
) -> (Tensor<3>, Tensor<3>) {
    let transformer = &model.transformer;
    let both = match (&model.query_embed, &transformer.pos_trans, &transformer.pos_trans_norm) {
        (None, Some(linear), Some(norm)) => {
            let reference = trace.init_reference.clone();
            let [b, q, _] = reference.dims();
            let width = linear.weight.dims()[0] / 4;
            #[allow(clippy::cast_precision_loss)] // a few channels
            let divisors: Vec<f32> =
                (0..width / 2).map(|i| 10_000f32.powf(2.0 * i as f32 / width as f32)).collect();
            let divisors = TensorData::new(divisors, [1, 1, 1, width / 2]);
            let divisors = Tensor::<4>::from_data(divisors, &reference.device());
            let angle = reference * (2.0 * std::f64::consts::PI);
            let angle = angle.reshape([b, q, 4, 1]) / divisors;
            let codes = Tensor::stack::<5>(vec![angle.clone().sin(), angle.cos()], 4);
            norm.forward(linear.forward(codes.reshape([b, q, 4 * width])))
        }
        (embedding, ..) => {
            let weight = embedding.as_ref().map(|embedding| Param::val(&embedding.weight));
            let weight = weight.expect("queries of one kind").unsqueeze::<3>();
            let [_, q, width] = weight.dims();
            weight.expand([b, q, width])
        }
    };
    let d = both.dims()[2] / 2;
    (both.clone().slice_dim(2, 0..d), both.slice_dim(2, d..2 * d))
}

fn to_tokens(map: Tensor<4>) -> Tensor<3> {
    map.flatten::<3>(2, 3).swap_dims(1, 2)
}

fn size(level: &LevelTrace) -> [usize; 2] {
    let [_, _, h, w] = level.projected.dims();
    [h, w]
}

/// The levels of a batch, and which part of each is no padding.
struct Grid {
    levels: Vec<[usize; 2]>,
    /// Share of the width and of the height, by image and level.
    ratios: Vec<Vec<[f32; 2]>>,
}

impl Grid {
    #[allow(clippy::cast_precision_loss)] // sides are small
    fn new(levels: &[LevelTrace]) -> Self {
        let b = levels[0].projected.dims()[0];
        let mut ratios = vec![Vec::new(); b];
        for level in levels {
            let [h, w] = size(level);
            let mask: Vec<bool> = match &level.mask {
                Some(mask) => Tensor::<3, Bool>::into_data(mask.clone()).iter::<bool>().collect(),
                None => vec![false; b * h * w],
            };
            for (ratios, mask) in ratios.iter_mut().zip(mask.chunks_exact(h * w)) {
                let columns = mask[..w].iter().filter(|padding| !**padding).count();
                let rows = mask.iter().step_by(w).filter(|padding| !**padding).count();
                ratios.push([columns as f32 / w as f32, rows as f32 / h as f32]);
            }
        }
        Self { levels: levels.iter().map(size).collect(), ratios }
    }

    fn ratios(&self, device: &Device) -> Tensor<3> {
        let values: Vec<f32> = self.ratios.iter().flatten().flatten().copied().collect();
        let shape = [self.ratios.len(), self.levels.len(), 2];
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// Returns the place of every token on every level, `[B, S, L, 2]`.
    #[allow(clippy::cast_precision_loss)] // sides are small
    fn references(&self, device: &Device) -> Tensor<4> {
        let mut values = Vec::new();
        for ratios in &self.ratios {
            for (&[h, w], own) in self.levels.iter().zip(ratios) {
                for (y, x) in (0..h).flat_map(|y| (0..w).map(move |x| (y, x))) {
                    let x = (x as f32 + 0.5) / (own[0] * w as f32);
                    let y = (y as f32 + 0.5) / (own[1] * h as f32);
                    values.extend(ratios.iter().flat_map(|ratio| [x * ratio[0], y * ratio[1]]));
                }
            }
        }
        let s = self.levels.iter().map(|[h, w]| h * w).sum();
        let shape = [self.ratios.len(), s, self.levels.len(), 2];
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}
