//! Deformable DETR (Zhu et al. 2021, <https://arxiv.org/abs/2010.04159>), `models/deformable_detr.py`
//! of the reference: single-scale or multi-scale, with iterative box refinement, one-stage or
//! two-stage. Field names are those of the official checkpoints; heads that the reference lists once
//! per layer although they are one are kept once.

use burn::module::Module;
use burn::nn::{Embedding, EmbeddingConfig, GroupNorm};
use burn::tensor::activation::sigmoid;
use burn::tensor::{Bool, DType, Device, FloatDType, Int, Tensor};

use super::super::family::Network;
use super::config::DeformableDetrConfig;
use super::heads::{bbox_heads, class_heads, input_projections};
use super::mask_head::DotProductMaskHead;
use super::ms_deform_attn::Tokens;
use super::proposals::{Proposals, best_tokens, cell_centres, proposal_pos_embed, valid_cells};
use super::transformer::DeformableTransformer;
use crate::backbone::{BackboneBase, FeatureMap, Features};
use crate::box_ops::inverse_sigmoid;
use crate::encoding::Encoding;
use crate::nested::{NestedTensor, Padding, within};
use crate::nn::{Conv2d, Linear, Mlp, group_norm, normalize, to_tokens};
use crate::output::{ABSENT, DetrOutput, EncoderOutput, MaskFeatures};
use crate::position::{PositionEmbedding, PositionEmbeddingSine};

/// The Deformable DETR model.
#[derive(Module, Debug)]
pub struct DeformableDetr {
    /// Encoder, decoder, and what makes queries and their references.
    pub transformer: DeformableTransformer,
    /// Class heads: one for all layers, or with box refinement one per layer; in two-stage models
    /// the last is for the encoder's proposals.
    pub class_embed: Vec<Linear>,
    /// Box heads, as many as class heads.
    pub bbox_embed: Vec<Mlp>,
    /// `[Q, 2D]`: position, then content of the queries; none in two-stage models.
    pub query_embed: Option<Embedding>,
    /// Convolution and normalisation per level, from fine to coarse.
    pub input_proj: Vec<(Conv2d, GroupNorm)>,
    /// Backbone and position encoding, `backbone.0` and `backbone.1` in checkpoints.
    pub backbone: (BackboneBase, PositionEmbedding),
    /// Vectors of pixels and queries whose products are masks; models with masks only.
    pub mask_head: Option<DotProductMaskHead>,
    num_queries: usize,
    /// Whether every layer starts from the boxes of the one before.
    with_box_refine: bool,
}

/// Intermediate results, for inspection and parity tests.
#[derive(Clone, Debug)]
pub struct DeformableDetrTrace {
    /// Per level.
    pub levels: Vec<LevelTrace>,
    /// `[B, S, D]` per encoder layer.
    pub encoder_layers: Vec<Tensor<3>>,
    /// `[B, S, D]`: the encoder's output.
    pub memory: Tensor<3>,
    /// `[layers, B, Q, D]`: the decoder's outputs.
    pub hidden: Tensor<4>,
    /// `[B or 1, Q, 2 or 4]`: where the first layer looks.
    pub init_reference: Tensor<3>,
    /// `[B or 1, Q, 2 or 4]` per layer: where the next one looks.
    pub inter_references: Vec<Tensor<3>>,
    /// `[B, Q]`: tokens whose proposals became queries; two-stage only.
    pub topk_proposals: Option<Tensor<2, Int>>,
    /// The predictions.
    pub output: DetrOutput,
}

/// A feature level as the transformer sees it.
#[derive(Clone, Debug)]
pub struct LevelTrace {
    /// `[B, D, h, w]`: projected features.
    pub projected: Tensor<4>,
    /// `[B, h, w]`, true = padding.
    pub mask: Option<Tensor<3, Bool>>,
    /// `[B or 1, D, h, w]`: position encoding, without the level's embedding.
    pub position: Tensor<4>,
}

/// The feature pyramid of some images, apart from its tokens.
struct Pyramid {
    /// Height and width of every level.
    levels: Vec<[usize; 2]>,
    /// `[B, S]`, true = padding.
    mask: Option<Tensor<2, Bool>>,
    /// The same by level, `[B, h, w]`.
    masks: Option<Vec<Tensor<3, Bool>>>,
    /// `[B or 1, S, L, 2]`: where each token looks on every level.
    references: Tensor<4>,
    /// `[B or 1, L, 2]`: the part of each level that is no padding, (x, y).
    ratios: Tensor<3>,
    /// Whether the padding is exact, so that no query may stand for it.
    exact: bool,
}

/// Queries before the first layer of the decoder.
#[derive(Clone)]
struct Queries {
    /// `[B, Q, D]`.
    target: Tensor<3>,
    /// `[B or 1, Q, D]`.
    position: Tensor<3>,
    /// `[B or 1, Q, 2 or 4]`, f32, in [0, 1].
    reference: Tensor<3>,
    /// `[B, Q]`, true = stands for nothing.
    absent: Option<Tensor<2, Bool>>,
    /// The proposals of the first stage.
    proposals: Option<(EncoderOutput, Tensor<2, Int>)>,
}

impl DeformableDetr {
    /// Makes a model with the reference's initialisation; except for the heads, parameters are made when
    /// first read.
    #[must_use]
    pub fn new(config: &DeformableDetrConfig, device: &Device) -> Self {
        let d = config.hidden_dim;
        Self {
            transformer: DeformableTransformer::new(config, device),
            class_embed: class_heads(config, device),
            bbox_embed: bbox_heads(config, device),
            query_embed: (!config.two_stage)
                .then(|| EmbeddingConfig::new(config.num_queries, 2 * d).init(device)),
            input_proj: input_projections(config, device),
            backbone: (
                BackboneBase { body: config.backbone.init(device) },
                PositionEmbedding::Sine(PositionEmbeddingSine::centred(d / 2)),
            ),
            mask_head: config.masks.then(|| DotProductMaskHead::new(config, device)),
            num_queries: config.num_queries,
            with_box_refine: config.with_box_refine,
        }
    }

    /// Turns images into predictions. Two-stage models read the class scores of the proposals back to the
    /// host on the way; others read nothing.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]` with its mask
    /// - outputs `[layers, B, Q, C]` and `[layers, B, Q, 4]`
    #[must_use]
    pub fn forward(&self, input: NestedTensor) -> DetrOutput {
        self.transform(self.extract(input)).output
    }

    /// Runs the backbone.
    #[must_use]
    pub fn extract(&self, input: NestedTensor) -> Features {
        Features { maps: self.backbone.0.body.forward(&input), padding: input.padding }
    }

    /// Runs everything after the backbone.
    #[must_use]
    pub fn transform(&self, features: Features) -> DeformableDetrTrace {
        let exact = matches!(features.padding, Padding::Sizes(_));
        let maps = self.mask_head.as_ref().map(|_| features.maps.clone());
        let levels = self.levels(features);
        let encoding = self.encoding(&levels, exact);
        let pyramid: &Pyramid = encoding.context();
        let (encoder_layers, memory) = self.transformer.encoder.forward(
            pyramid.tokens(encoding.tokens()),
            &encoding.position(),
            &pyramid.references,
        );
        let (queries, decoded) = self.after_encoder(pyramid, &memory);
        let (enc_outputs, topk_proposals) = queries.proposals.unzip();
        let mask_features =
            maps.map(|maps| self.mask_features(maps, &levels[0], &memory, &decoded.hidden));
        DeformableDetrTrace {
            levels,
            encoder_layers,
            memory: memory.values,
            hidden: Tensor::stack(decoded.hidden, 0),
            init_reference: queries.reference,
            inter_references: decoded.references,
            topk_proposals,
            output: DetrOutput {
                pred_logits: Tensor::stack(decoded.logits, 0),
                pred_boxes: Tensor::stack(decoded.boxes, 0),
                enc_outputs,
                mask_features,
            },
        }
    }

    /// Returns the same function for inference, with batch norms folded into the convolutions before them.
    #[must_use]
    pub fn fold(self) -> Self {
        let (backbone, position) = self.backbone;
        Self { backbone: (BackboneBase { body: backbone.body.fold() }, position), ..self }
    }

    /// Collects what the mask head needs: the finest level of the encoder's output, C2, and the queries of all layers.
    fn mask_features(
        &self,
        maps: [FeatureMap; 4],
        finest: &LevelTrace,
        memory: &Tokens,
        hidden: &[Tensor<3>],
    ) -> MaskFeatures {
        let [h, w] = finest.size();
        let extent = maps[4 - self.input_proj.len().min(3)].extent.clone();
        let [c2, c3, c4, _] = maps;
        let (last, earlier) = hidden.split_last().expect("a decoder has a layer");
        MaskFeatures {
            hidden: last.clone(),
            earlier_layers: Some(earlier.to_vec()),
            memory: memory.values.clone().slice_dim(1, 0..h * w),
            projected: FeatureMap { map: finest.projected.clone(), extent },
            pyramid: [c4, c3, c2],
            mask: finest.mask.clone(),
        }
    }

    fn dtype(&self) -> DType {
        self.transformer.level_embed.val().dtype()
    }

    fn encoding(&self, levels: &[LevelTrace], exact: bool) -> Encoding {
        let sizes: Vec<[usize; 2]> = levels.iter().map(LevelTrace::size).collect();
        let masks: Option<Vec<_>> = levels.iter().map(|level| level.mask.clone()).collect();
        let device = levels[0].projected.device();
        let ratios = valid_ratios(&sizes, masks.as_deref(), &device);
        let Tokens { values, mask, levels: sizes } = join_tokens(levels, &sizes);
        let references = encoder_references(&sizes, &ratios);
        let pyramid = Pyramid { levels: sizes, mask, masks, references, ratios, exact };
        Encoding::new(values, self.join_positions(levels), pyramid)
    }

    fn after_encoder(&self, pyramid: &Pyramid, memory: &Tokens) -> (Queries, DecoderOutput) {
        let queries = match self.query_embed.as_ref() {
            Some(embedding) => self.learned_queries(embedding, memory),
            None => self.proposed_queries(memory, pyramid.masks.as_deref(), pyramid.exact),
        };
        let decoded = self.decode_queries(queries.clone(), memory, &pyramid.ratios);
        (queries, decoded)
    }

    /// Projects the maps of the backbone, and makes the coarser levels from the last of them.
    fn levels(&self, features: Features) -> Vec<LevelTrace> {
        let Features { maps, padding } = features;
        // C5 with one level, C4 and C5 with two, C3 to C5 with more.
        let stages = self.input_proj.len().min(3);
        let mut maps: Vec<FeatureMap> = maps.into_iter().skip(4 - stages).collect();
        let mut levels: Vec<LevelTrace> = Vec::with_capacity(self.input_proj.len());
        for (level, (conv, norm)) in self.input_proj.iter().enumerate() {
            let (projected, extent) = if level < stages {
                let FeatureMap { map, extent } = maps[level].clone();
                (conv.forward(map), extent)
            } else {
                // The first extra level starts from the backbone's map, not from its projection.
                let FeatureMap { map, extent } = maps.pop().expect("a level before this");
                let map = conv.forward(within(map, extent.as_ref()));
                let extent = extent.map(|extent| extent.halved(&map));
                (map, extent)
            };
            let projected = group_norm(norm, projected, extent.as_ref());
            if level >= stages {
                maps.push(FeatureMap { map: projected.clone(), extent: extent.clone() });
            }
            let [_, _, h, w] = projected.dims();
            let mask = padding.of_map(&projected, extent.as_ref());
            let position = self.backbone.1.forward(mask.as_ref(), [h, w], &projected.device());
            levels.push(LevelTrace { projected, mask, position });
        }
        levels
    }

    /// Joins the position encodings with the embeddings of their levels, `[B or 1, S, D]`.
    fn join_positions(&self, levels: &[LevelTrace]) -> Tensor<3> {
        let embeddings = self.transformer.level_embed.val();
        let positions = levels.iter().enumerate().map(|(i, level)| {
            let embedding = embeddings.clone().slice_dim(0, i..=i).unsqueeze::<3>();
            to_tokens(level.position.clone()).cast(embedding.dtype()) + embedding
        });
        Tensor::cat(positions.collect(), 1)
    }

    /// Makes the queries of a one-stage model: learned positions and contents, references from the
    /// positions.
    fn learned_queries(&self, embedding: &Embedding, memory: &Tokens) -> Queries {
        let [b, _, d] = memory.values.dims();
        let embedding = embedding.weight.val().unsqueeze::<3>();
        let q = embedding.dims()[1];
        let position = embedding.clone().slice_dim(2, 0..d);
        let target = embedding.slice_dim(2, d..2 * d).expand([b, q, d]);
        let reference_points =
            self.transformer.reference_points.as_ref().expect("one-stage models have it");
        let reference = reference_points.forward(position.clone()).cast(FloatDType::F32);
        Queries { target, position, reference: sigmoid(reference), absent: None, proposals: None }
    }

    /// Makes the queries of a two-stage model: the best proposals of the encoder, as constants. The
    /// reference lets padding propose nothing, but takes it where better tokens run out; with
    /// `exact`, such queries are absent.
    fn proposed_queries(
        &self,
        memory: &Tokens,
        masks: Option<&[Tensor<3, Bool>]>,
        exact: bool,
    ) -> Queries {
        let [b, s, d] = memory.values.dims();
        let device = memory.values.device();
        let proposals = Proposals::new(&memory.levels, masks, &device);
        let parts = "two-stage models have it";
        let transformer = &self.transformer;
        let enc_output = transformer.enc_output.as_ref().expect(parts);
        let enc_output_norm = transformer.enc_output_norm.as_ref().expect(parts);
        let pos_trans = transformer.pos_trans.as_ref().expect(parts);
        let pos_trans_norm = transformer.pos_trans_norm.as_ref().expect(parts);

        let tokens = memory.values.clone().mask_fill(proposals.invalid.expand([b, s, d]), 0.0);
        let tokens = normalize(enc_output_norm, enc_output.forward(tokens));
        let last = self.class_embed.len() - 1;
        let pred_logits = self.class_embed[last].forward(tokens.clone());
        let delta = self.bbox_embed[last].forward(tokens).cast(FloatDType::F32);
        let coordinates = delta + proposals.logits;

        // The proposals are ranked by the first class, which stands for "an object" here.
        let mut scores = pred_logits.clone().slice_dim(2, 0..1).squeeze_dim::<2>(2);
        let padding = memory.mask.clone().filter(|_| exact);
        if let Some(padding) = &padding {
            scores = scores.mask_fill(padding.clone(), ABSENT);
        }
        let q = self.num_queries.min(s);
        let chosen = best_tokens(scores, q);
        // Padding that was taken because there was nothing else.
        let absent = padding.map(|padding| {
            padding.float().cast(FloatDType::F32).gather(1, chosen.clone()).greater_elem(0.5)
        });
        let rows = chosen.clone().reshape([b, q, 1]).expand([b, q, 4]);
        let coordinates_of_best = coordinates.clone().detach().gather(1, rows);
        let embedding = proposal_pos_embed(coordinates_of_best.clone(), d / 2).cast(self.dtype());
        let queries = normalize(pos_trans_norm, pos_trans.forward(embedding));
        let output = EncoderOutput { pred_logits, pred_boxes: sigmoid(coordinates) };
        Queries {
            position: queries.clone().slice_dim(2, 0..d),
            target: queries.slice_dim(2, d..2 * d),
            reference: sigmoid(coordinates_of_best),
            absent,
            proposals: Some((output, chosen)),
        }
    }

    /// Runs the decoder with its heads.
    fn decode_queries(
        &self,
        queries: Queries,
        memory: &Tokens,
        ratios: &Tensor<3>,
    ) -> DecoderOutput {
        let Queries { mut target, position, mut reference, absent, .. } = queries;
        let mut decoded = DecoderOutput::default();
        for (i, layer) in self.transformer.decoder.layers.iter().enumerate() {
            let places = on_levels(&reference, ratios);
            target = layer.forward(target, &position, absent.as_ref(), places, memory);
            let head = if self.with_box_refine { i } else { 0 };
            let delta = self.bbox_embed[head].forward(target.clone()).cast(FloatDType::F32);
            let boxes = sigmoid(delta + coordinate_logits(&reference));
            if self.with_box_refine {
                // The next layer takes the boxes as they are; no gradient goes through them.
                reference = boxes.clone().detach();
            }
            let logits = self.class_embed[head].forward(target.clone());
            decoded.logits.push(without(logits, absent.as_ref()));
            decoded.boxes.push(boxes);
            decoded.references.push(reference.clone());
            decoded.hidden.push(target.clone());
        }
        decoded
    }
}

impl Network for DeformableDetr {
    fn extract(&self, input: NestedTensor) -> Features {
        Self::extract(self, input)
    }

    fn predict(&self, features: Features) -> DetrOutput {
        self.transform(features).output
    }

    fn masks(&self, features: &MaskFeatures, image: usize, queries: &[usize]) -> Option<Tensor<3>> {
        self.masks_of_layers(features, image, &[queries.to_vec()]).pop().flatten()
    }

    fn masks_of_layers(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[Vec<usize>],
    ) -> Vec<Option<Tensor<3>>> {
        match &self.mask_head {
            Some(head) => head.masks(features, image, queries),
            None => vec![None; queries.len()],
        }
    }

    fn batch_masks(&self, features: &MaskFeatures) -> Option<Tensor<4>> {
        self.mask_head.as_ref().map(|head| head.batch_masks(features))
    }

    fn tokenize(&self, features: Features) -> Option<Encoding> {
        if self.mask_head.is_some() {
            // C2 would have to come along, with its gradient.
            return None;
        }
        let exact = matches!(features.padding, Padding::Sizes(_));
        Some(self.encoding(&self.levels(features), exact))
    }

    fn encoder_layers(&self) -> usize {
        self.transformer.encoder.layers.len()
    }

    fn encoder_drops(&self) -> bool {
        self.transformer.encoder.layers.iter().any(|layer| layer.dropout.prob > 0.0)
    }

    fn encode(&self, layer: usize, encoding: &Encoding) -> Tensor<3> {
        let pyramid: &Pyramid = encoding.context();
        let layer = &self.transformer.encoder.layers[layer];
        let tokens = pyramid.tokens(encoding.tokens());
        layer.forward(&tokens, &encoding.position(), pyramid.references.clone())
    }

    fn decode(&self, encoding: Encoding) -> Option<DetrOutput> {
        let pyramid: &Pyramid = encoding.context();
        let (queries, decoded) = self.after_encoder(pyramid, &pyramid.tokens(encoding.tokens()));
        Some(DetrOutput {
            pred_logits: Tensor::stack(decoded.logits, 0),
            pred_boxes: Tensor::stack(decoded.boxes, 0),
            enc_outputs: queries.proposals.map(|(output, _)| output),
            mask_features: None,
        })
    }
}

impl Pyramid {
    /// Puts tokens `[B, S, D]` onto the levels.
    fn tokens(&self, values: Tensor<3>) -> Tokens {
        Tokens { values, mask: self.mask.clone(), levels: self.levels.clone() }
    }
}

/// Sets the class logits of absent queries to [`ABSENT`].
fn without(logits: Tensor<3>, absent: Option<&Tensor<2, Bool>>) -> Tensor<3> {
    let Some(absent) = absent else { return logits };
    let shape = logits.dims();
    logits.mask_fill(absent.clone().unsqueeze_dim::<3>(2).expand(shape), ABSENT)
}

/// Results of every layer of the decoder.
#[derive(Default)]
struct DecoderOutput {
    logits: Vec<Tensor<3>>,
    boxes: Vec<Tensor<3>>,
    references: Vec<Tensor<3>>,
    hidden: Vec<Tensor<3>>,
}

impl LevelTrace {
    fn size(&self) -> [usize; 2] {
        let [_, _, h, w] = self.projected.dims();
        [h, w]
    }
}

fn join_tokens(levels: &[LevelTrace], sizes: &[[usize; 2]]) -> Tokens {
    let values = levels.iter().map(|level| to_tokens(level.projected.clone())).collect();
    let masks: Option<Vec<_>> =
        levels.iter().map(|level| level.mask.clone().map(|mask| mask.flatten::<2>(1, 2))).collect();
    Tokens {
        values: Tensor::cat(values, 1),
        mask: masks.map(|masks| Tensor::cat(masks, 1)),
        levels: sizes.to_vec(),
    }
}

/// Returns the part of each level that is no padding, (x, y): `[B, L, 2]`, or `[1, L, 2]` without
/// padding.
fn valid_ratios(
    sizes: &[[usize; 2]],
    masks: Option<&[Tensor<3, Bool>]>,
    device: &Device,
) -> Tensor<3> {
    let Some(masks) = masks else {
        return Tensor::ones([1, sizes.len(), 2], (device, DType::F32));
    };
    let ratios =
        masks.iter().zip(sizes).map(|(mask, &size)| valid_cells(mask) / extent(size, device));
    Tensor::stack(ratios.collect(), 1)
}

/// (W, H) as `[1, 2]`.
#[allow(clippy::cast_precision_loss)] // sides of feature maps are small
fn extent([h, w]: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data([[w as f32, h as f32]], (device, DType::F32))
}

/// Returns the centre of every token on every level, `[B or 1, S, L, 2]`.
fn encoder_references(sizes: &[[usize; 2]], ratios: &Tensor<3>) -> Tensor<4> {
    let [b, _, _] = ratios.dims();
    let device = ratios.device();
    let centres = sizes.iter().enumerate().map(|(level, &[h, w])| {
        let valid =
            ratios.clone().slice_dim(1, level..=level) * extent([h, w], &device).unsqueeze();
        cell_centres([h, w], &device).reshape([1, h * w, 2]) / valid
    });
    let centres = Tensor::cat(centres.collect(), 1);
    on_levels(&centres.expand([b, sizes.iter().map(|[h, w]| h * w).sum(), 2]), ratios)
}

/// References relative to the images, `[B or 1, Q, 2 or 4]`, to places relative to the padded levels,
/// `[B or 1, Q, L, 2 or 4]`.
fn on_levels(reference: &Tensor<3>, ratios: &Tensor<3>) -> Tensor<4> {
    let [rb, q, coordinates] = reference.dims();
    let [vb, l, _] = ratios.dims();
    let ratios = match coordinates {
        2 => ratios.clone(),
        _ => Tensor::cat(vec![ratios.clone(), ratios.clone()], 2),
    };
    reference.clone().reshape([rb, q, 1, coordinates]) * ratios.reshape([vb, 1, l, coordinates])
}

/// Returns the logits that a head's answer is added to, `[B or 1, Q, 4]`: a point gives the centre
/// only.
fn coordinate_logits(reference: &Tensor<3>) -> Tensor<3> {
    let logits = inverse_sigmoid(reference.clone());
    match logits.dims() {
        [b, q, 2] => {
            let zeros = Tensor::zeros([b, q, 2], (&logits.device(), DType::F32));
            Tensor::cat(vec![logits, zeros], 2)
        }
        _ => logits,
    }
}
