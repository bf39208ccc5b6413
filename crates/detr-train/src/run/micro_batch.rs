//! A batch of the loader as one that a step trains on.

use burn::tensor::Device;
use detr_data::Batch;
use detr_detect::{PaddingRule, upload};
use detr_loss::{Target, TargetError, Targets};

use crate::step::MicroBatch;

/// Puts a batch on a device.
///
/// # Errors
/// Labels that the head does not have.
pub fn micro_batch(
    batch: Batch,
    classes: usize,
    device: &Device,
) -> Result<MicroBatch, TargetError> {
    let target = |target: &detr_data::Target| Target {
        labels: target.labels.clone(),
        boxes: target.boxes.iter().map(|b| [b.cx, b.cy, b.w, b.h]).collect(),
        masks: None,
    };
    let targets = batch.targets.iter().map(target).collect();
    Ok(MicroBatch {
        targets: Targets::new(targets, classes, device)?,
        images: upload(batch.images, PaddingRule::Mask, device),
    })
}
