//! Decides which samples are in which batch: a pure function of the configuration, the seed, the
//! epoch, the number of ranks, and (with buckets) the sizes that the annotations state.
//!
//! All ranks make the same plan and take their part of it, so they need not talk to each other.

use detr_types::ImageSize;

use super::config::LoaderConfig;
use crate::transforms::{Purpose, SampleRng};

/// Plans the batches of one rank in one epoch, as indices of samples.
///
/// Groups of `batch_size` samples for every rank are formed in the epoch's order; a rank takes every
/// `world`-th sample of each group, so that ranks get samples of one bucket at the same time. What
/// remains at the end is left out with `drop_last`; otherwise it is one smaller batch, filled up
/// with the first samples of the order until every rank has the same number.
pub(super) fn plan(
    config: &LoaderConfig,
    epoch: u64,
    samples: usize,
    size: impl Fn(usize) -> Option<ImageSize>,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..samples).collect();
    if config.shuffle {
        SampleRng::new(config.seed, epoch, Purpose::Order).shuffle(&mut order);
    }
    let group = config.batch_size * config.shard.world;
    let mut buckets = vec![Vec::new(); config.buckets.max(1)];
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &index in &order {
        let bucket = &mut buckets[bucket_of(size(index), config.buckets)];
        bucket.push(index);
        if bucket.len() == group {
            groups.push(std::mem::take(bucket));
        }
    }
    // Neighbouring buckets share what is left of them.
    let rest: Vec<usize> = buckets.into_iter().flatten().collect();
    groups.extend(rest.chunks(group).map(<[usize]>::to_vec));
    if let Some(last) = groups.pop_if(|last| last.len() < group)
        && !config.drop_last
    {
        let missing = last.len().next_multiple_of(config.shard.world) - last.len();
        groups.push(last.into_iter().chain(order.iter().cycle().copied().take(missing)).collect());
    }
    groups
        .into_iter()
        .map(|group| {
            group.into_iter().skip(config.shard.rank).step_by(config.shard.world).collect()
        })
        .collect()
}

/// Returns the number of batches that [`plan`] makes, whatever the epoch.
pub(super) fn batches(config: &LoaderConfig, samples: usize) -> usize {
    let group = config.batch_size * config.shard.world;
    if config.drop_last { samples / group } else { samples.div_ceil(group) }
}

/// Returns the bucket by the logarithm of the aspect ratio, from twice as high as wide to twice as
/// wide as high; two buckets are portrait and landscape. After resizing the aspect ratio decides how
/// much of a batch is padding. Images of unknown size count as square.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn bucket_of(size: Option<ImageSize>, buckets: usize) -> usize {
    let size = size.filter(|size| size.pixels() > 0).unwrap_or(ImageSize::new(1, 1));
    let aspect = (f64::from(size.width) / f64::from(size.height)).log2().clamp(-1.0, 1.0);
    let at = aspect.midpoint(1.0) * buckets as f64;
    (at as usize).min(buckets.saturating_sub(1))
}
