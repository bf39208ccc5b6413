//! The way of a batch from the loader to the device.

use burn::tensor::Device;
use detr_data::Batch;
use detr_detect::{PaddingRule, upload};
use detr_loss::{Target, TargetError, Targets};

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
        masks: None,
    };
    let targets = batch.targets.iter().map(target).collect();
    Ok(MicroBatch {
        targets: Targets::new(targets, classes, device)?,
        images: upload(batch.images, PaddingRule::Mask, device),
    })
}
