//! The operations of Deformable DETR.

use super::config::DeformableDetrConfig;
use crate::flops::{BackboneFlops, Flops, attention, cells, feed_forward, halved, heads, wide};

/// Counts the multiply-adds of a forward pass on one image.
pub(super) fn count(config: &DeformableDetrConfig, backbone: &BackboneFlops) -> Flops {
    let [d, f, classes] = [config.hidden_dim, config.dim_feedforward, config.num_classes].map(wide);
    let [encoders, decoders] = [config.enc_layers, config.dec_layers].map(wide);
    let levels = config.num_feature_levels;
    let stages = levels.min(3);
    let (mut projection, mut s) = (0, 0);
    let (mut size, mut inputs) = (backbone.sizes[3], backbone.channels[3]);
    for level in 0..levels {
        if level < stages {
            let stage = 4 - stages + level;
            projection += cells(backbone.sizes[stage]) * backbone.channels[stage] * d;
            s += cells(backbone.sizes[stage]);
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
        backbone: backbone.cost,
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
