//! The way of a batch from the loader to the device.

use burn::tensor::Device;
use detr_data::Batch;
use detr_detect::{PaddingRule, upload};
use detr_loss::{Target, TargetError, TargetMasks, Targets};

use crate::step::MicroBatch;

/// Puts a batch on a device, for a head of `classes` classes.
///
/// # Errors
/// A label is not one of the head's.
pub fn micro_batch(
    batch: Batch,
    classes: usize,
    device: &Device,
) -> Result<MicroBatch, TargetError> {
    let target = |target: &detr_data::Target| Target {
        labels: target.labels.clone(),
        boxes: target.boxes.clone(),
        masks: target.masks.as_ref().map(|masks| TargetMasks {
            size: [target.size.height as usize, target.size.width as usize],
            bits: masks.iter().flat_map(|mask| mask.bits.iter().copied()).collect(),
        }),
    };
    let targets = batch.targets.iter().map(target).collect();
    Ok(MicroBatch {
        targets: Targets::new(targets, classes, device)?,
        images: upload(batch.images, PaddingRule::Mask, device),
    })
}
