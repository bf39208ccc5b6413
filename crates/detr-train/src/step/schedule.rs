//! Schedules of the learning rate (`torch.optim.lr_scheduler`): a factor on the rate of every group, as a
//! function of the optimizer steps that are done. A schedule has no state, so nothing of it is in a checkpoint,
//! and a run that resumes needs only its step.

use std::f64::consts::PI;

use detr_types::RangeError;
use detr_types::range::{not_negative, positive, require, zero_to_one};
use serde::{Deserialize, Serialize};

/// A schedule, with a warm-up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The schedule itself.
    #[serde(default)]
    pub course: Schedule,
    /// The unit of its numbers.
    #[serde(default)]
    pub per: Unit,
    /// A warm-up that is multiplied with the schedule and does not shift it: a milestone stays where it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Warmup>,
}

/// The unit that a schedule counts in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// Epochs, within which the rate is constant.
    #[default]
    Epoch,
    /// Steps of the optimizer.
    Step,
}

/// A schedule of the learning rate; `t` is the number of epochs or steps that are done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// A factor of 1, always.
    // A variant without braces would skip unknown keys.
    Constant {},
    /// `gamma^(t / every)` with the exponent rounded down: `StepLR`, the schedule of both references.
    Step {
        /// The distance of the drops.
        every: u64,
        /// The factor of each drop.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// `gamma^n`, where n milestones are reached: `MultiStepLR`.
    MultiStep {
        /// The times at which the rate drops, in order.
        milestones: Vec<u64>,
        /// The factor of each drop.
        #[serde(default = "default_gamma")]
        gamma: f64,
    },
    /// Half a cosine from 1 to `min_factor`, which stays from then on: `CosineAnnealingLR`, but that would rise again.
    Cosine {
        /// The time at which it ends.
        length: u64,
        /// The factor at the end.
        #[serde(default)]
        min_factor: f64,
    },
}

/// A linear rise of the rate to 1: `LinearLR`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warmup {
    /// The time at which 1 is reached.
    pub length: u64,
    /// The unit of the length.
    #[serde(default = "default_warmup_unit")]
    pub per: Unit,
    /// The factor of the first step.
    #[serde(default = "default_start")]
    pub start_factor: f64,
}

const fn default_gamma() -> f64 {
    0.1
}

const fn default_warmup_unit() -> Unit {
    Unit::Step
}

const fn default_start() -> f64 {
    0.001
}

impl ScheduleConfig {
    /// Returns the factor on all learning rates for the step after `step` steps and `epoch` epochs.
    #[must_use]
    pub fn factor(&self, step: u64, epoch: u64) -> f64 {
        let count = |per: Unit| match per {
            Unit::Epoch => epoch,
            Unit::Step => step,
        };
        let warmup = self.warmup.map_or(1.0, |warmup| warmup.factor(count(warmup.per)));
        self.course.factor(count(self.per)) * warmup
    }

    /// Refuses numbers that cannot work; `field` is the path to these settings.
    ///
    /// # Errors
    /// Names the first field that is wrong.
    pub fn validate(&self, field: &str) -> Result<(), RangeError> {
        let course = format!("{field}.course");
        match &self.course {
            Schedule::Constant {} => {}
            Schedule::Step { every, gamma } => {
                require(*every > 0, format!("{course}.every"), every, "1 or more")?;
                not_negative(format!("{course}.gamma"), *gamma)?;
            }
            Schedule::MultiStep { milestones, gamma } => {
                let rising = milestones.is_sorted_by(|a, b| a < b);
                let list = format!("{milestones:?}");
                require(rising, format!("{course}.milestones"), list, "rising numbers")?;
                not_negative(format!("{course}.gamma"), *gamma)?;
            }
            Schedule::Cosine { length, min_factor } => {
                require(*length > 0, format!("{course}.length"), length, "1 or more")?;
                zero_to_one(format!("{course}.min_factor"), *min_factor)?;
            }
        }
        if let Some(warmup) = &self.warmup {
            require(warmup.length > 0, format!("{field}.warmup.length"), 0, "1 or more")?;
            let (name, start) = (format!("{field}.warmup.start_factor"), warmup.start_factor);
            positive(&name, start)?;
            require(start <= 1.0, &name, start, "at most 1")?;
        }
        Ok(())
    }
}

impl Default for Schedule {
    fn default() -> Self {
        Self::Constant {}
    }
}

impl Schedule {
    #[allow(clippy::cast_precision_loss)] // steps are far below 2^52
    fn factor(&self, t: u64) -> f64 {
        let drops = |gamma: f64, count: u64| gamma.powi(i32::try_from(count).unwrap_or(i32::MAX));
        match self {
            Self::Constant {} => 1.0,
            Self::Step { every, gamma } => drops(*gamma, t / (*every).max(1)),
            Self::MultiStep { milestones, gamma } => {
                drops(*gamma, milestones.iter().filter(|&&milestone| t >= milestone).count() as u64)
            }
            Self::Cosine { length, min_factor } => {
                let done = t.min(*length) as f64 / (*length).max(1) as f64;
                min_factor + (1.0 - min_factor) * (1.0 + (PI * done).cos()) / 2.0
            }
        }
    }
}

impl Warmup {
    #[allow(clippy::cast_precision_loss)] // steps are far below 2^52
    fn factor(self, t: u64) -> f64 {
        let done = t.min(self.length) as f64 / self.length.max(1) as f64;
        self.start_factor + (1.0 - self.start_factor) * done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Factors of the steps 0 to 7, three to an epoch.
    fn factors(text: &str) -> Vec<f64> {
        let config: ScheduleConfig = toml::from_str(text).unwrap();
        config.validate("schedule").unwrap();
        (0..8).map(|step| config.factor(step, step / 3)).collect()
    }

    fn check(text: &str, expected: [f64; 8]) {
        for (found, expected) in factors(text).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-12, "{text}: {found} is not {expected}");
        }
    }

    #[test]
    fn schedules_are_those_of_torch() {
        check("", [1.0; 8]);
        check(
            "per = 'step'\ncourse = { kind = 'step', every = 3, gamma = 0.5 }",
            [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25],
        );
        // Epochs 0, 0, 0, 1, 1, 1, 2, 2.
        check("course = { kind = 'step', every = 2 }", [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.1, 0.1]);
        check(
            "per = 'step'\ncourse = { kind = 'multi-step', milestones = [2, 5] }",
            [1.0, 1.0, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01],
        );
        // 0.2 + 0.4 (1 + cos(pi t / 4)), where torch's would rise again after the fourth step.
        let half = 0.2 + 0.4 * (1.0 + 0.5f64.sqrt());
        check(
            "per = 'step'\ncourse = { kind = 'cosine', length = 4, min_factor = 0.2 }",
            [1.0, half, 0.6, 0.8 - half + 0.4, 0.2, 0.2, 0.2, 0.2],
        );
    }

    #[test]
    fn warm_up_multiplies_and_moves_no_milestone() {
        check(
            "warmup = { length = 4, start_factor = 0.5 }",
            [0.5, 0.625, 0.75, 0.875, 1.0, 1.0, 1.0, 1.0],
        );
        check(
            "per = 'step'\ncourse = { kind = 'multi-step', milestones = [2] }\n\
             warmup = { length = 4, start_factor = 0.5 }",
            [0.5, 0.625, 0.075, 0.0875, 0.1, 0.1, 0.1, 0.1],
        );
        check(
            "warmup = { length = 2, per = 'epoch', start_factor = 0.2 }",
            [0.2, 0.2, 0.2, 0.6, 0.6, 0.6, 1.0, 1.0],
        );
    }

    #[test]
    fn schedules_that_make_no_sense_are_refused() {
        for (text, field) in [
            ("course = { kind = 'step', every = 0 }", "schedule.course.every is 0"),
            ("course = { kind = 'multi-step', milestones = [5, 5] }", "schedule.course.milestones"),
            ("course = { kind = 'cosine', length = 3, min_factor = 2.0 }", "schedule.course.min_"),
            ("warmup = { length = 3, start_factor = 1.5 }", "schedule.warmup.start_factor is 1.5"),
        ] {
            let config: ScheduleConfig = toml::from_str(text).unwrap();
            let error = config.validate("schedule").unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(toml::from_str::<ScheduleConfig>("course = { kind = 'step', evry = 1 }").is_err());
    }
}
