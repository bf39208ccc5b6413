//! Floating point operations of a forward pass, counted from the configuration. A multiply-add is two
//! operations; papers often count it as one, and so give half.
//!
//! Counted are convolutions, linear layers, the two matrix products of an attention, and the sampling of
//! deformable attention: four corners and a weight, so five multiply-adds per number sampled. Not counted is
//! what has few operations per number: biases, normalisations, activations, softmax, sums with residuals and
//! positions, and post-processing.

use detr_types::ImageSize;
use serde::Serialize;

use crate::config::{
    Block, DeformableDetrConfig, DetrConfig, DetrDemoConfig, ModelConfig, ResNetConfig,
};

/// How operations are counted, for people.
pub const CONVENTION: &str = "a multiply-add is two operations; convolutions, linear layers, attention and \
     sampling; without biases, normalisations, activations and softmax";

/// Operations by part of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flops {
    /// ResNet.
    pub backbone: u64,
    /// From the backbone's maps to the transformer's width, and coarser levels.
    pub projection: u64,
    /// Encoder layers.
    pub encoder: u64,
    /// Decoder layers, with what makes their queries.
    pub decoder: u64,
    /// Class and box heads of all layers.
    pub heads: u64,
}

impl Flops {
    /// Operations on a batch of images that all have this size, padding included.
    #[must_use]
    pub fn count(config: &ModelConfig, batch: u32, size: ImageSize) -> Self {
        let maps = maps(config.backbone(), [u64::from(size.height), u64::from(size.width)]);
        let multiply_adds = match config {
            ModelConfig::Detr(config) => detr(config, &maps),
            ModelConfig::DetrDemo(config) => demo(config, &maps),
            ModelConfig::DeformableDetr(config) => deformable(config, &maps),
        };
        let Self { backbone, projection, encoder, decoder, heads } = multiply_adds;
        let [backbone, projection, encoder, decoder, heads] =
            [backbone, projection, encoder, decoder, heads].map(|n| n * 2 * u64::from(batch));
        Self { backbone, projection, encoder, decoder, heads }
    }

    /// All parts together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.backbone + self.projection + self.encoder + self.decoder + self.heads
    }
}

/// What a ResNet makes of an image.
struct Maps {
    /// Multiply-adds.
    cost: u64,
    /// Height and width of C2 to C5.
    sizes: [[u64; 2]; 4],
    /// Channels of C2 to C5.
    channels: [u64; 4],
}

fn maps(config: &ResNetConfig, image: [u64; 2]) -> Maps {
    let stem = halved(image);
    let mut size = halved(stem);
    let mut inputs = config.stem as u64;
    let mut cost = cells(stem) * 3 * 49 * inputs;
    let mut sizes = [[0; 2]; 4];
    let mut channels = [0; 4];
    for stage in 0..4 {
        let (width, outputs) = (config.widths[stage] as u64, config.out_channels(stage) as u64);
        for block in 0..config.depths[stage] {
            let before = size;
            let strides = block == 0 && stage > 0 && !(config.dilation && stage == 3);
            size = if strides { halved(size) } else { size };
            let (before, after) = (cells(before), cells(size));
            cost += match config.block {
                Block::Basic => after * 9 * width * (inputs + width),
                // The first convolution is before the stride.
                Block::Bottleneck => {
                    before * inputs * width + after * width * (9 * width + outputs)
                }
            };
            if strides || inputs != outputs {
                cost += after * inputs * outputs;
            }
            inputs = outputs;
        }
        (sizes[stage], channels[stage]) = (size, outputs);
    }
    Maps { cost, sizes, channels }
}

fn detr(config: &DetrConfig, maps: &Maps) -> Flops {
    let [d, q, f] = [config.hidden_dim, config.num_queries, config.dim_feedforward].map(wide);
    let [encoders, decoders] = [config.enc_layers, config.dec_layers].map(wide);
    let s = cells(maps.sizes[3]);
    let decoder_width = config.dec_dim_feedforward.map_or(f, wide);
    Flops {
        backbone: maps.cost,
        projection: s * maps.channels[3] * d,
        encoder: encoders * (attention(s, s, d) + feed_forward(s, d, f)),
        decoder: decoders
            * (attention(q, q, d) + attention(q, s, d) + feed_forward(q, d, decoder_width)),
        heads: decoders * heads(q, d, wide(config.num_classes) + 1),
    }
}

fn demo(config: &DetrDemoConfig, maps: &Maps) -> Flops {
    let [d, q, f] = [config.hidden_dim, config.num_queries, config.dim_feedforward].map(wide);
    let s = cells(maps.sizes[3]);
    Flops {
        backbone: maps.cost,
        projection: s * maps.channels[3] * d,
        encoder: wide(config.enc_layers) * (attention(s, s, d) + feed_forward(s, d, f)),
        decoder: wide(config.dec_layers)
            * (attention(q, q, d) + attention(q, s, d) + feed_forward(q, d, f)),
        // Linear, of the last layer alone.
        heads: q * d * (wide(config.num_classes) + 1 + 4),
    }
}

fn deformable(config: &DeformableDetrConfig, maps: &Maps) -> Flops {
    let [d, f, classes] = [config.hidden_dim, config.dim_feedforward, config.num_classes].map(wide);
    let [encoders, decoders] = [config.enc_layers, config.dec_layers].map(wide);
    let levels = config.num_feature_levels;
    let stages = levels.min(3);
    let (mut projection, mut s) = (0, 0);
    let (mut size, mut inputs) = (maps.sizes[3], maps.channels[3]);
    for level in 0..levels {
        if level < stages {
            let stage = 4 - stages + level;
            projection += cells(maps.sizes[stage]) * maps.channels[stage] * d;
            s += cells(maps.sizes[stage]);
        } else {
            size = halved(size);
            projection += cells(size) * 9 * inputs * d;
            s += cells(size);
            inputs = d;
        }
    }
    // Queries that exist: a small image may have fewer tokens than it should propose.
    let q =
        if config.two_stage { wide(config.num_queries).min(s) } else { wide(config.num_queries) };
    let places = |points: usize| wide(config.nheads * levels * points);
    // Offsets of two coordinates, and weights; five multiply-adds per head's channels and place.
    let sampling = |queries: u64, points: usize| {
        queries * (3 * d * places(points) + 5 * (d / wide(config.nheads)) * places(points))
    };
    // Values, output, and the rest.
    let deformable =
        |queries: u64, points: usize| s * d * d + queries * d * d + sampling(queries, points);
    let decoder_width = config.dec_dim_feedforward.map_or(f, wide);
    let makes_queries = if config.two_stage { s * d * d + q * 4 * d * d } else { q * 2 * d };
    let proposals = if config.two_stage { heads(s, d, classes) } else { 0 };
    Flops {
        backbone: maps.cost,
        projection,
        encoder: encoders * (deformable(s, config.enc_n_points) + feed_forward(s, d, f)),
        decoder: makes_queries
            + decoders
                * (attention(q, q, d)
                    + deformable(q, config.dec_n_points)
                    + feed_forward(q, d, decoder_width)),
        heads: decoders * heads(q, d, classes) + proposals,
    }
}

/// Queries, keys and values, scores, sums of values, output.
const fn attention(q: u64, s: u64, d: u64) -> u64 {
    (2 * q + 2 * s) * d * d + 2 * q * s * d
}

const fn feed_forward(tokens: u64, d: u64, width: u64) -> u64 {
    2 * tokens * d * width
}

/// One class head, and a box head of three layers.
const fn heads(tokens: u64, d: u64, classes: u64) -> u64 {
    tokens * d * (classes + 2 * d + 4)
}

/// After a stride of 2, padded so that no cell is lost.
const fn halved([height, width]: [u64; 2]) -> [u64; 2] {
    [height.div_ceil(2), width.div_ceil(2)]
}

const fn cells([height, width]: [u64; 2]) -> u64 {
    height * width
}

const fn wide(n: usize) -> u64 {
    n as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny_backbone(block: Block) -> ResNetConfig {
        ResNetConfig { block, depths: [1; 4], stem: 2, widths: [2, 3, 5, 7], dilation: false }
    }

    #[test]
    fn a_small_detr_costs_what_it_does_by_hand() {
        let config = ModelConfig::Detr(DetrConfig {
            num_classes: 2,
            num_queries: 3,
            hidden_dim: 4,
            nheads: 2,
            enc_layers: 1,
            dec_layers: 2,
            dim_feedforward: 5,
            dec_dim_feedforward: None,
            dropout: 0.0,
            pre_norm: false,
            position_embedding: crate::config::PositionKind::Sine,
            backbone: tiny_backbone(Block::Basic),
        });
        // 33 x 64 gives 17 x 32, then 9 x 16, 5 x 8, 3 x 4 and 2 x 2.
        let flops = Flops::count(&config, 1, ImageSize::new(33, 64));
        let stem = 17 * 32 * 147 * 2;
        let stages =
            144 * (36 + 36) + 40 * (54 + 81 + 6) + 12 * (135 + 225 + 15) + 4 * (315 + 441 + 35);
        let attention = 4 * 4 * 16 + 2 * 16 * 4;
        let decoder = (4 * 3 * 16 + 2 * 9 * 4) + (14 * 16 + 2 * 12 * 4) + 2 * 3 * 20;
        let expected = Flops {
            backbone: 2 * (stem + stages),
            projection: 2 * 4 * 7 * 4,
            encoder: 2 * (attention + 2 * 4 * 20),
            decoder: 2 * 2 * decoder,
            heads: 2 * 2 * (3 * 4 * 3 + 3 * (16 + 16 + 16)),
        };
        assert_eq!(flops, expected);
        let batch = Flops::count(&config, 5, ImageSize::new(33, 64));
        assert_eq!(batch.total(), 5 * expected.total());
    }

    /// Tables 1 of both papers, in 10^9 multiply-adds, means over the first 100 images of val2017, which are
    /// about as large as 800x1066.
    #[test]
    fn published_models_cost_about_what_their_papers_say() {
        for (preset, published) in [
            ("detr-r50", 86.0),
            ("detr-r50-dc5", 187.0),
            ("detr-r101", 152.0),
            ("detr-r101-dc5", 253.0),
            ("deformable-detr-r50-single-scale", 78.0),
            ("deformable-detr-r50-single-scale-dc5", 128.0),
            ("deformable-detr-r50", 173.0),
        ] {
            let config = ModelConfig::preset(preset).unwrap();
            let total = Flops::count(&config, 1, ImageSize::new(800, 1066)).total();
            #[allow(clippy::cast_precision_loss)] // of some 10^11
            let counted = total as f64 / 2e9;
            let ratio = counted / published;
            assert!((0.9..1.1).contains(&ratio), "{preset}: {counted} for {published}");
        }
    }
}
