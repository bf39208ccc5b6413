//! What ranks that train one model together have to agree on in a step. Each takes a part of the batch;
//! losses are divided by counts of the whole batch and gradients are summed, so that all ranks make the
//! update that one would make of all images. (The references average the gradients of losses that are
//! divided by the mean count, which comes to the same, but for the weights of DETR's classification,
//! which they count per rank.) How numbers travel is the business of whoever implements [`AllReduce`];
//! this crate starts no processes.

use burn::tensor::Tensor;
use detr_loss::WholeBatch;

use super::outcome::StepError;

/// Sums over ranks. All ranks call the same functions in the same order, and get the same results.
pub trait AllReduce {
    /// How many ranks there are, and the number of this one, from 0.
    fn ranks(&self) -> (usize, usize);

    /// Replaces numbers by their sums.
    ///
    /// # Errors
    /// A rank that is gone; an implementation must not wait for it forever.
    fn sum_numbers(&self, numbers: &mut [f64]) -> Result<(), StepError>;

    /// The sums of tensors, of which all ranks have as many in the same shapes.
    ///
    /// # Errors
    /// As [`AllReduce::sum_numbers`].
    fn sum_tensors(&self, tensors: Vec<Tensor<1>>) -> Result<Vec<Tensor<1>>, StepError>;
}

/// The only rank.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl AllReduce for Alone {
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

/// The batch that the parts of all ranks make together, in the order of the ranks.
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
