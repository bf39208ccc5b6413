//! How fast a run goes, and what it says of its steps and validations.

use std::collections::VecDeque;

use crate::clock::span;
use crate::records::{StepRow, ValidationRow};
use crate::machine;

/// Steps of which the pace is the mean.
const RECENT: usize = 100;

/// Steps since the last line, and the pace of the recent ones.
#[derive(Debug, Default)]
pub struct Pace {
    /// Seconds of recent steps, and of these the waiting.
    recent: VecDeque<(f64, f64)>,
    /// Steps since the last line, and the sum of their losses.
    since: (u32, f64),
    /// Seconds of the validations, and their number.
    validations: (f64, u32),
}

/// What a line is about beside the step itself.
pub struct Place {
    pub steps: u64,
    pub epochs: u64,
    /// Validations that are still to come.
    pub validations: u64,
    /// AP of the last validation.
    pub ap: Option<f64>,
}

impl Pace {
    pub fn add(&mut self, row: &StepRow) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((row.seconds, row.waited));
        self.since.0 += 1;
        self.since.1 += row.loss;
    }

    pub fn add_validation(&mut self, seconds: f64) {
        self.validations.0 += seconds;
        self.validations.1 += 1;
    }

    /// Seconds that are left, by the recent steps and all validations.
    #[allow(clippy::cast_precision_loss)] // far below 2^53
    pub fn eta(&self, step: u64, place: &Place) -> Option<f64> {
        let (seconds, _) = self.step()?;
        let (spent, count) = self.validations;
        let validation = if count == 0 { 0.0 } else { spent / f64::from(count) };
        let left = place.steps.saturating_sub(step) as f64;
        Some(left * seconds + place.validations as f64 * validation)
    }

    /// Means of a step: seconds, and of these the waiting.
    #[allow(clippy::cast_precision_loss)] // at most 100
    fn step(&self) -> Option<(f64, f64)> {
        let count = self.recent.len() as f64;
        let (all, waited) = self.recent.iter().fold((0.0, 0.0), |(a, w), s| (a + s.0, w + s.1));
        (count > 0.0).then(|| (all / count, waited / count))
    }

    /// A line about the steps since the last one, which it ends.
    pub fn line(&mut self, row: &StepRow, place: &Place) -> String {
        let (count, sum) = std::mem::take(&mut self.since);
        let loss = if count == 0 { row.loss } else { sum / f64::from(count) };
        self.words(row, loss, place)
    }

    /// The same of the last step alone, which ends nothing.
    pub fn glance(&self, row: &StepRow, place: &Place) -> String {
        self.words(row, row.loss, place)
    }

    /// What matters most comes first: a narrow terminal cuts off the end.
    fn words(&self, row: &StepRow, loss: f64, place: &Place) -> String {
        let (seconds, waited) = self.step().unwrap_or((row.seconds, row.waited));
        let eta = self.eta(row.step, place).map_or_else(|| "-".to_owned(), span);
        let ap = place.ap.map_or_else(String::new, |ap| format!(", AP {ap:.3}"));
        let waiting = 100.0 * waited / seconds.max(1e-9);
        let memory = machine::resident_memory_mb();
        let memory = memory.map_or_else(String::new, |mb| format!(", {mb:.0} MB"));
        let StepRow { step, epoch, lr, .. } = row;
        let Place { steps, epochs, .. } = place;
        format!(
            "epoch {epoch}/{epochs} step {step}/{steps}, ETA {eta}: loss {loss:.4}{ap}, lr {lr:.1e}, \
             {seconds:.3} s/step, waiting {waiting:.0}%{memory}"
        )
    }
}

/// The twelve numbers of a validation in two lines.
pub fn numbers(row: &ValidationRow) -> [String; 2] {
    let number = |value: f64| if value < 0.0 { "-".to_owned() } else { format!("{value:.3}") };
    let [ap, ap50, ap75, ap_s, ap_m, ap_l, few, some, ar, ar_s, ar_m, ar_l] =
        row.metrics.summary.values().map(number);
    let raw = row.without_ema.as_ref().map(|raw| number(raw.summary.ap));
    let raw = raw.map_or_else(String::new, |raw| format!(" (without EMA {raw})"));
    let star = if row.best { "; the best so far" } else { "" };
    let epoch = row.epoch;
    [
        format!(
            "epoch {epoch}: AP {ap}{raw}, AP50 {ap50}, AP75 {ap75}; \
             small {ap_s}, medium {ap_m}, large {ap_l}{star}"
        ),
        format!(
            "  AR of 1, 10, 100: {few}, {some}, {ar}; small {ar_s}, medium {ar_m}, large {ar_l}"
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_about_the_steps_since_the_last_one() {
        let mut pace = Pace::default();
        let place = Place { steps: 10, epochs: 2, validations: 2, ap: Some(0.25) };
        let row = |step, loss| StepRow {
            step,
            epoch: 1,
            loss,
            lr: 1e-4,
            seconds: 2.0,
            waited: 0.5,
            ..StepRow::default()
        };
        pace.add(&row(1, 3.0));
        pace.add(&row(2, 1.0));
        pace.add_validation(30.0);
        assert!(pace.glance(&row(2, 1.0), &place).contains("loss 1.0000"));
        let line = pace.line(&row(2, 1.0), &place);
        assert!(
            line.contains(": loss 2.0000, AP 0.250, lr 1.0e-4, 2.000 s/step, waiting 25%"),
            "{line}"
        );
        // 8 steps of 2 s, and 2 validations of 30.
        assert!(line.starts_with("epoch 1/2 step 2/10, ETA 1m16s:"), "{line}");
        assert!(pace.line(&row(3, 9.0), &place).contains("loss 9.0000"));
    }
}
