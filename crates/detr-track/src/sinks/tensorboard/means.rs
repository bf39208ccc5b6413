//! Means of the numbers of steps between two points in TensorBoard, because a value of every step would make files of
//! gigabytes.

use crate::StepRecord;

/// Sums of the numbers of steps: tag, sum and count.
#[derive(Debug, Default)]
pub(super) struct ScalarMeans(Vec<(String, f64, u32)>);

impl ScalarMeans {
    /// Adds a step; numbers that are not finite are left out.
    pub(super) fn add(&mut self, record: &StepRecord) {
        let own = [
            ("train/loss", record.loss),
            ("train/lr", record.lr),
            ("train/grad_norm", record.grad_norm),
            ("time/step_seconds", record.seconds),
            ("time/waited_seconds", record.waited),
        ];
        let own = own.map(|(tag, value)| (tag.to_owned(), value));
        let losses = record.losses.iter().map(|(name, value)| (format!("losses/{name}"), *value));
        for (tag, value) in own.into_iter().chain(losses).filter(|(_, value)| value.is_finite()) {
            match self.0.iter_mut().find(|(of, ..)| *of == tag) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => self.0.push((tag, value, 1)),
            }
        }
    }

    /// Returns the means since the last call.
    pub(super) fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(&mut self.0).into_iter();
        sums.map(|(tag, sum, count)| (tag, sum / f64::from(count))).collect()
    }
}
