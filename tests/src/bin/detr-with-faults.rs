//! `detr`, with a trainer that fails on purpose. The first argument is a list of faults, all others are those of
//! `detr`: `detr-with-faults image:7 train ...` makes the pixels of step 7 and of all after it NaN, and
//! `image:7-8,device:15` those of two steps, and lets the device fail in step 15. Steps are counted from the start of
//! the process.

use std::ops::RangeInclusive;
use std::process::ExitCode;

use detr_train::{AllReduce, MicroBatch, Outcome, StepError, Trainer, TrainingStep};

/// The part of a step that fails.
#[derive(Clone, Copy, PartialEq)]
enum Site {
    /// The pixels are NaN.
    Image,
    /// All parameters that are trained are NaN.
    Weight,
    /// The pixels are finite, but so large that the costs of the matching are not.
    Cost,
    /// The gradients of all parameters are NaN.
    Gradient,
    /// The device runs out of memory, which Burn reports as a panic.
    Device,
}

/// A fault in some steps.
#[derive(Clone)]
struct Fault {
    site: Site,
    steps: RangeInclusive<u64>,
}

impl Fault {
    /// Reads a fault such as `image:7` or `image:7-8`.
    fn parse(text: &str) -> Option<Self> {
        let (site, steps) = text.split_once(':')?;
        let site = match site {
            "image" => Site::Image,
            "weight" => Site::Weight,
            "cost" => Site::Cost,
            "gradient" => Site::Gradient,
            "device" => Site::Device,
            _ => return None,
        };
        let steps = match steps.split_once('-') {
            Some((first, last)) => first.parse().ok()?..=last.parse().ok()?,
            None => steps.parse().ok()?..=u64::MAX,
        };
        Some(Self { site, steps })
    }
}

/// A trainer with faults.
struct FaultyTrainer {
    trainer: Trainer,
    faults: Vec<Fault>,
    /// The number of the last step.
    step: u64,
}

impl FaultyTrainer {
    fn fails(&self, site: Site) -> bool {
        self.faults.iter().any(|fault| fault.site == site && fault.steps.contains(&self.step))
    }

    fn begins_to_fail(&self, site: Site) -> bool {
        self.faults.iter().any(|fault| fault.site == site && *fault.steps.start() == self.step)
    }
}

impl TrainingStep for FaultyTrainer {
    fn trainer(&self) -> &Trainer {
        &self.trainer
    }

    fn step_together(
        &mut self,
        mut micro_batches: Vec<MicroBatch>,
        factor: f64,
        all: &dyn AllReduce,
    ) -> Result<Outcome, StepError> {
        self.step += 1;
        assert!(!self.fails(Site::Device), "out of memory on purpose");
        for (site, factor) in [(Site::Image, f32::NAN), (Site::Cost, 1e38)] {
            if self.fails(site) {
                for MicroBatch { images, .. } in &mut micro_batches {
                    images.pixels = images.pixels.clone() * factor;
                }
            }
        }
        if self.begins_to_fail(Site::Weight) {
            // A step whose learning rates are NaN.
            self.trainer.step_together(micro_batches.clone(), f64::NAN, all)?;
        }
        if !self.fails(Site::Gradient) {
            return self.trainer.step_together(micro_batches, factor, all);
        }
        match self.trainer.gradients(micro_batches)? {
            Ok(mut gradients) => {
                gradients.scale(f64::NAN);
                self.trainer.apply(gradients, factor)
            }
            Err(reason) => Ok(Outcome::Skipped(reason)),
        }
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args_os();
    let program = args.next();
    let faults = args.next().and_then(|faults| faults.into_string().ok());
    let faults: Option<Vec<Fault>> =
        faults.and_then(|faults| faults.split(',').map(Fault::parse).collect());
    let faults = faults.expect("the first argument is a list of faults");
    detr_cli::main(program.into_iter().chain(args), &|trainer| {
        Box::new(FaultyTrainer { trainer, faults: faults.clone(), step: 0 })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_of_a_site_and_of_steps() {
        let steps = |text| Fault::parse(text).map(|fault| fault.steps);
        assert_eq!(steps("cost:3"), Some(3..=u64::MAX));
        assert_eq!(steps("cost:2-3"), Some(2..=3));
        for wrong in ["cost", "cost:x", "cost:1-", "costs:1"] {
            assert_eq!(steps(wrong), None, "{wrong}");
        }
    }
}
