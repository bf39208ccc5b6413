//! What TensorBoard hears of steps: means over the steps between two lines of the console, because a
//! value of every step would make files of gigabytes.

use crate::records::StepRow;

/// Sums of what steps say, by tag.
#[derive(Debug, Default)]
pub struct Scalars(Vec<(String, f64, u32)>);

impl Scalars {
    /// Adds a step; numbers that are not finite are left out.
    pub fn add(&mut self, row: &StepRow) {
        let own = [
            ("train/loss", row.loss),
            ("train/lr", row.lr),
            ("train/grad_norm", row.grad_norm),
            ("time/step_seconds", row.seconds),
            ("time/waited_seconds", row.waited),
        ];
        let own = own.map(|(tag, value)| (tag.to_owned(), value));
        let losses = row.losses.iter().map(|(name, value)| (format!("losses/{name}"), *value));
        for (tag, value) in own.into_iter().chain(losses).filter(|(_, value)| value.is_finite()) {
            match self.0.iter_mut().find(|(of, ..)| *of == tag) {
                Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1),
                None => self.0.push((tag, value, 1)),
            }
        }
    }

    /// Means since the last time.
    pub fn take(&mut self) -> Vec<(String, f64)> {
        let sums = std::mem::take(&mut self.0).into_iter();
        sums.map(|(tag, sum, count)| (tag, sum / f64::from(count))).collect()
    }
}
