//! The sums that ranks exchange in a step, if several train one model together. Each takes a part of the batch;
//! losses are divided by counts of the whole batch and gradients are summed, so that all ranks make the
//! update that one would make of all images. (The references average the gradients of losses that are
//! divided by the mean count, which comes to the same, but for the weights of DETR's classification,
//! which they count per rank.) An implementation of [`AllReduce`] decides how numbers travel; this crate
//! starts no processes.

use burn::tensor::Tensor;
use detr_loss::WholeBatch;

use super::outcome::StepError;

/// A way to sum over ranks. All ranks call the same functions in the same order, and get the same results.
pub trait AllReduce {
    /// Returns the number of ranks, and the number of this rank, from 0.
    fn ranks(&self) -> (usize, usize);

    /// Replaces numbers by their sums.
    ///
    /// # Errors
    /// A rank is gone. An implementation must not wait for it forever.
    fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), StepError>;

    /// Returns the sums of tensors. All ranks have the same number of tensors in the same shapes.
    ///
    /// # Errors
    /// The same as those of [`AllReduce::sum_numbers`].
    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError>;
}

/// A rank that has no others beside it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleRank;

impl AllReduce for SingleRank {
    fn ranks(&self) -> (usize, usize) {
        (1, 0)
    }

    fn sum_numbers(&self, _numbers: &mut [f64]) -> Result<(), StepError> {
        Ok(())
    }

    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError> {
        Ok(tensors)
    }
}

/// Returns the counts of the batch that the parts of all ranks make together, in the order of the ranks.
#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)] // counts
pub(crate) fn whole_batch(
    own: WholeBatch,
    all: &(impl AllReduce + ?Sized),
) -> Result<WholeBatch, StepError> {
    let (ranks, rank) = all.ranks();
    if ranks == 1 {
        return Ok(own);
    }
    let mut images = vec![0.0; ranks];
    images[rank] = own.objects.len() as f64;
    all.sum_numbers(&mut images)?;
    let count = |images: &[f64]| images.iter().sum::<f64>() as usize;
    let mut objects = vec![0.0; count(&images)];
    for (place, &n) in objects[count(&images[..rank])..].iter_mut().zip(&own.objects) {
        *place = n as f64;
    }
    all.sum_numbers(&mut objects)?;
    let num_boxes = objects.iter().sum();
    Ok(WholeBatch { num_boxes, objects: objects.into_iter().map(|n| n as usize).collect() })
}
