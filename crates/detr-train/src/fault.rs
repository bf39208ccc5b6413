//! Faults on purpose, for tests: `DETR_FAULT=image:7` makes the pixels of step 7 and of all after it NaN;
//! likewise `weight`, `cost` and `gradient`. With `device` the step panics as Burn does when a device
//! fails. `image:7-8` are these two steps alone, and several faults are separated by commas. Compiled only
//! with the feature `fault-injection`, which no program turns on.

/// Where the numbers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// Pixels of the batch.
    Image,
    /// A parameter.
    Weight,
    /// Boxes, on their way to the costs of the matching.
    Cost,
    /// Gradients of all parameters.
    Gradient,
    /// The device itself.
    Device,
}

#[cfg(feature = "fault-injection")]
mod hook {
    use std::cell::Cell;

    use burn::module::{Module, ModuleMapper, Param};
    use burn::tensor::Tensor;
    use detr_model::Model;

    use super::Site;

    thread_local! {
        static STEP: Cell<u64> = const { Cell::new(0) };
    }

    pub(crate) fn begin(step: u64) {
        STEP.set(step);
    }

    /// The model with NaN in every parameter.
    pub(crate) fn broken(model: Model) -> Model {
        model.map(&mut Broken)
    }

    struct Broken;

    impl ModuleMapper for Broken {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| {
                let learns = value.is_require_grad();
                let broken = Tensor::from_inner(value.inner() * f32::NAN);
                if learns { broken.require_grad() } else { broken }
            })
        }
    }

    pub(crate) fn now(site: Site) -> bool {
        let Ok(asked) = std::env::var(detr_types::env::DETR_FAULT) else { return false };
        let name = match site {
            Site::Image => "image",
            Site::Weight => "weight",
            Site::Cost => "cost",
            Site::Gradient => "gradient",
            Site::Device => "device",
        };
        asked.split(',').any(|fault| hits(fault, name, STEP.get()).unwrap_or(false))
    }

    /// Whether a fault happens at a place in a step; none if it cannot be read.
    fn hits(fault: &str, place: &str, step: u64) -> Option<bool> {
        let (name, steps) = fault.split_once(':')?;
        let (first, last) = match steps.split_once('-') {
            Some((first, last)) => (first.parse().ok()?, last.parse().ok()?),
            None => (steps.parse().ok()?, u64::MAX),
        };
        Some(name == place && (first..=last).contains(&step))
    }

    #[cfg(test)]
    mod tests {
        use super::hits;

        #[test]
        fn a_fault_is_of_a_place_and_of_steps() {
            for (fault, expected) in [
                ("cost:3", Some([false, false, true, true, true])),
                ("cost:2-3", Some([false, true, true, false, false])),
                ("image:1", Some([false; 5])),
                ("cost", None),
                ("cost:x", None),
                ("cost:1-", None),
            ] {
                let found = [1, 2, 3, 4, 5].map(|step| hits(fault, "cost", step));
                assert_eq!(found, std::array::from_fn(|i| Some(expected?[i])), "{fault}");
            }
        }
    }
}

#[cfg(not(feature = "fault-injection"))]
mod hook {
    use detr_model::Model;

    use super::Site;

    pub(crate) fn broken(model: Model) -> Model {
        model
    }

    pub(crate) const fn begin(_step: u64) {}

    pub(crate) const fn now(_site: Site) -> bool {
        false
    }
}

pub(crate) use hook::{begin, broken, now};
