//! The way from the events of the loop to the records of `detr-track`, which knows neither models nor Burn.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use detr_data::{Dataset, ImageRecord};
use detr_track::{
    Event as TrackEvent, RunEnd, RunInfo, Sample, Sink, StepRecord, Tracker, ValidationRecord,
    flatten,
};
use detr_types::{Category, ClassTable, Detection};
use detr_validate::CategoryMap;

use crate::run::{End, Event, Step, TrainInputs, Watch, named};
use crate::settings::TrainConfig;

/// The version of Burn, which does not tell it by itself.
pub const BURN_VERSION: &str = "0.22.1";

/// Returns what is known of a run before its first step. `file` is the file of settings, `device` the name of the
/// device.
#[must_use]
pub fn run_info(config: &TrainConfig, inputs: &TrainInputs, file: &Path, device: &str) -> RunInfo {
    let folder = std::path::absolute(&inputs.folder).unwrap_or_else(|_| inputs.folder.clone());
    let settings = toml::Table::try_from(config).unwrap_or_default();
    RunInfo {
        name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        folder: inputs.folder.clone(),
        steps: inputs.steps_per_epoch(config.train.accumulate) * config.train.epochs,
        epochs: config.train.epochs,
        validate_every: inputs.validation.as_ref().map_or(0, |_| config.run.validate_every),
        log_every: config.run.log_every,
        model: config.model.arch.clone(),
        config: file.display().to_string(),
        device: device.to_owned(),
        seed: config.train.seed,
        burn: BURN_VERSION.to_owned(),
        settings: flatten(&settings),
    }
}

/// The images of a validation and the classes of the model, from which samples are made.
#[derive(Clone, Debug)]
pub struct SampleSource {
    /// The data set of the validation.
    pub dataset: Arc<Dataset>,
    /// The classes of the model.
    pub classes: ClassTable,
}

/// A listener to the loop that records its events.
pub struct Recorder {
    tracker: Tracker,
    samples: Option<SampleSource>,
}

impl Recorder {
    /// Creates the recorder of a run that will train next. Without `samples`, validations have none.
    #[must_use]
    pub fn new(info: RunInfo, sinks: Vec<Box<dyn Sink>>, samples: Option<SampleSource>) -> Self {
        Self { tracker: Tracker::new(info, sinks), samples }
    }

    /// Returns the tracker, to tell the user something.
    pub const fn tracker(&mut self) -> &mut Tracker {
        &mut self.tracker
    }

    /// Ends the records with the result of [`run`](crate::run).
    pub fn finish(&mut self, result: Result<End, &dyn Display>) {
        let tracker = &mut self.tracker;
        match result {
            Ok(End::EarlyStopped) => tracker.note("stopped early: AP does not get better"),
            Ok(End::Reached) => tracker.note("AP is as high as was asked for"),
            Ok(End::Finished | End::Interrupted) | Err(_) => {}
        }
        tracker.finish(&match result {
            Ok(End::Interrupted) => RunEnd::Interrupted,
            Ok(End::Finished | End::EarlyStopped | End::Reached) => RunEnd::Finished,
            Err(error) => RunEnd::Failed { reason: error.to_string() },
        });
    }
}

impl Watch for Recorder {
    fn event(&mut self, event: Event<'_>) {
        let tracker = &mut self.tracker;
        match event {
            Event::Begins { .. } => {}
            Event::Step(step) => {
                tracker.set_total_steps(step.steps);
                tracker.step(&step_record(&step));
            }
            Event::Skipped { at, reason, images } => tracker.event(&TrackEvent::Skipped {
                step: at.step,
                epoch: at.epoch + 1,
                reason: reason.to_string(),
                images: images.to_vec(),
            }),
            Event::Overflowed { at, scale } => {
                tracker.event(&TrackEvent::Overflowed { step: at.step, loss_scale: scale });
            }
            Event::Validating(done, total) => {
                tracker.event(&TrackEvent::ValidationProgress { done, total });
            }
            Event::Validated { at, metrics, masks, without_ema, best, found, bad_images } => {
                let record = ValidationRecord {
                    step: at.step,
                    epoch: at.epoch + 1,
                    metrics: metrics.clone(),
                    masks: masks.map(|masks| masks.summary),
                    without_ema: without_ema.cloned(),
                    best,
                    bad_images,
                };
                let source = self.samples.as_ref();
                tracker.validation(&record, &source.map_or_else(Vec::new, |s| s.samples(found)));
            }
            Event::Resumed { at, passed } => {
                for rejected in passed {
                    let path = rejected.path.display();
                    tracker.warn(&format!("{path} is passed over: {}", rejected.reason));
                }
                tracker.resume(at.step);
            }
            Event::Saved(path) => {
                tracker.event(&TrackEvent::Saved { path: path.to_path_buf() });
            }
            Event::NotSaved(reason) => {
                tracker.event(&TrackEvent::NotSaved { reason: (*reason).to_owned() });
            }
        }
    }
}

fn step_record(step: &Step<'_>) -> StepRecord {
    let Step { at, report, lr, seconds, waited, images, bad_images, .. } = *step;
    StepRecord {
        step: at.step,
        epoch: at.epoch + 1,
        loss: report.loss.into(),
        lr,
        grad_norm: report.grad_norm.into(),
        seconds,
        waited,
        losses: named(&report.losses).map(|(name, value)| (name, value.into())).collect(),
        images: images.to_vec(),
        bad_images,
    }
}

impl SampleSource {
    /// Returns the samples of images, by their ids and the detections on them.
    fn samples(&self, found: &[(i64, Vec<Detection>)]) -> Vec<Sample> {
        let categories = &self.dataset.categories;
        let categories = categories.iter().map(|class| (class.id, class.name.as_str()));
        let map = CategoryMap::new(&self.classes, categories);
        let sample = |(id, detections): &(i64, Vec<Detection>)| {
            let record = self.dataset.image(*id)?;
            let detections = detections.clone();
            let truth = truth(&by_ids_of_the_model(record, &self.classes, &map), &self.classes);
            Some(Sample { image_id: *id, file: record.path.clone(), detections, truth })
        };
        found.iter().filter_map(sample).collect()
    }
}

/// Returns an image whose objects have the category ids of the model. Those of classes that the model lacks are left
/// out.
fn by_ids_of_the_model(
    record: &ImageRecord,
    classes: &ClassTable,
    map: &CategoryMap,
) -> ImageRecord {
    let mut record = record.clone();
    record.objects.retain_mut(|object| {
        let is_same = |class: &&Category| map.category(class.label) == Some(object.category_id);
        let class = classes.categories().find(is_same);
        object.category_id = class.map_or(object.category_id, |class| class.id);
        class.is_some()
    });
    record
}

/// Returns the objects of an image without crowds as detections with a score of 1. Objects of classes that the model
/// lacks are left out.
fn truth(record: &ImageRecord, classes: &ClassTable) -> Vec<Detection> {
    let categories: Vec<_> = (0..classes.len()).filter_map(|label| classes.get(label)).collect();
    let object = |object: &detr_data::ObjectRecord| {
        let category = categories.iter().find(|category| category.id == object.category_id)?;
        Some(Detection {
            label: category.label,
            category_id: category.id,
            name: category.name.clone(),
            score: 1.0,
            bbox: object.bbox.to_f32().to_xyxy(),
            mask: None,
        })
    };
    record.objects.iter().filter(|object| !object.iscrowd).filter_map(object).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use detr_data::ObjectRecord;
    use detr_track::{Delivery, RunContext, SinkResult};

    use super::*;
    use crate::{Progress, StepReport};

    #[test]
    fn the_burn_version_is_the_one_that_is_built() {
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains(&format!("burn = {{ version = \"={BURN_VERSION}\"")));
    }

    /// A sink that keeps what it is given.
    #[derive(Clone, Default)]
    struct Memory {
        steps: Rc<RefCell<Vec<StepRecord>>>,
        events: Rc<RefCell<Vec<TrackEvent>>>,
        ends: Rc<RefCell<Vec<RunEnd>>>,
    }

    impl Sink for Memory {
        fn step(&mut self, step: &StepRecord, _: &RunContext) -> SinkResult {
            self.steps.borrow_mut().push(step.clone());
            Ok(Delivery::Written)
        }

        fn event(&mut self, event: &TrackEvent, _: &RunContext) -> SinkResult {
            self.events.borrow_mut().push(event.clone());
            Ok(Delivery::Written)
        }

        fn finish(&mut self, end: &RunEnd, _: &RunContext) -> SinkResult {
            self.ends.borrow_mut().push(end.clone());
            Ok(Delivery::Written)
        }
    }

    #[test]
    fn events_of_the_loop_become_records() {
        let memory = Memory::default();
        let mut recorder = Recorder::new(RunInfo::default(), vec![Box::new(memory.clone())], None);
        let at = Progress { step: 3, epoch: 1, ..Progress::default() };
        recorder.event(Event::Resumed { at: &at, passed: &[] });
        let at = Progress { step: 4, epoch: 1, ..Progress::default() };
        let report = StepReport { loss: 0.5, losses: Vec::new(), grad_norm: 2.0 };
        recorder.event(Event::Step(Step {
            at: &at,
            steps: 8,
            report: &report,
            lr: 1e-4,
            seconds: 0.25,
            waited: 0.125,
            images: &[7],
            bad_images: 1,
        }));
        recorder.event(Event::Overflowed { at: &at, scale: 128.0 });
        assert_eq!(recorder.tracker().run().info().steps, 8);
        recorder.finish(Ok(End::Reached));
        let expected = StepRecord {
            step: 4,
            epoch: 2,
            loss: 0.5,
            lr: 1e-4,
            grad_norm: 2.0,
            seconds: 0.25,
            waited: 0.125,
            losses: Vec::new(),
            images: vec![7],
            bad_images: 1,
        };
        assert_eq!(*memory.steps.borrow(), [expected]);
        let resumed = TrackEvent::Resumed { step: 3 };
        let overflowed = TrackEvent::Overflowed { step: 4, loss_scale: 128.0 };
        assert_eq!(*memory.events.borrow(), [resumed, overflowed]);
        assert_eq!(*memory.ends.borrow(), [RunEnd::Finished]);
    }

    #[test]
    fn samples_show_objects_of_the_models_classes_without_crowds() {
        let object = |category_id, iscrowd| ObjectRecord {
            id: 1,
            category_id,
            bbox: [10.0, 20.0, 30.0, 40.0].into(),
            area: 1200.0,
            iscrowd,
            segmentation: None,
        };
        let record = ImageRecord {
            id: 5,
            path: "5.png".into(),
            file_name: "5.png".to_owned(),
            size: None,
            objects: vec![object(1, false), object(1, true), object(99, false)],
        };
        let classes = ClassTable::numbered(3);
        let id = classes.get(1).map(|class| class.id);
        assert_eq!(id, Some(1));
        let [found] = &truth(&record, &classes)[..] else { panic!("one object counts") };
        assert_eq!((found.category_id, found.score), (1, 1.0));
        assert_eq!((found.bbox.x1, found.bbox.y2), (10.0, 60.0));
    }
}
