//! Listeners hear the events of a run, and one of them stops it.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::Device;
use detr_data::dataset::Labels;
use detr_data::synth::{SynthOptions, synthesize};
use detr_data::{Augmentation, DatasetSource, Loader, LoaderConfig};
use detr_model::{Model, ModelConfig};
use detr_train::{End, Event, Phase, StopFlag, TrainConfig, TrainInputs, Watch, run};
use detr_types::{ImageSize, PreprocessSpec};

use super::model;

/// Two epochs of two steps.
const SETTINGS: &str = "
    [model]
    arch = 'deformable-detr-tiny'
    [data]
    train = { sources = [{ path = 'shapes' }] }
    [data.loader]
    batch_size = 2
    [train]
    epochs = 2
";

/// Prepares a run in a folder, without validation.
fn small_run(folder: &Path) -> (TrainConfig, TrainInputs, Model) {
    let config = TrainConfig::load(Path::new("small.toml"), SETTINGS, &[]).unwrap();
    let options =
        SynthOptions { images: 4, size: ImageSize::new(64, 64), ..SynthOptions::default() };
    let dataset = synthesize(&folder.join("shapes"), &options, None).unwrap();
    let classes = dataset.class_table(Labels::Contiguous).unwrap();
    let preprocess =
        PreprocessSpec { shortest_edge: 64, longest_edge: 64, ..PreprocessSpec::default() };
    let augmentation = Augmentation::validation(&preprocess);
    let source = DatasetSource::new(Arc::new(dataset), &classes, augmentation, 0).unwrap();
    let loader = LoaderConfig { workers: 0, ..config.data.loader.clone() };
    let ModelConfig::DeformableDetr(mut architecture) =
        ModelConfig::preset("deformable-detr-tiny").unwrap()
    else {
        unreachable!()
    };
    (architecture.num_classes, architecture.num_queries) = (classes.len(), 10);
    let architecture = ModelConfig::DeformableDetr(architecture);
    let inputs = TrainInputs {
        model: architecture.clone(),
        device: Device::flex().autodiff(),
        others: Vec::new(),
        classes,
        loader: Arc::new(Loader::new(Arc::new(source), loader).unwrap()),
        validation: None,
        preprocess,
        folder: folder.join("run"),
    };
    (config, inputs, model(&architecture))
}

/// Writes down what it hears, and stops the run in a step.
struct Notes {
    heard: Vec<String>,
    stop: StopFlag,
    last_step: u64,
}

impl Watch for Notes {
    fn event(&mut self, event: Event<'_>) {
        self.heard.push(match event {
            Event::Resumed { at, .. } => format!("goes on after step {}", at.step),
            Event::Begins { step, batch } => format!("step {step} of {batch}"),
            Event::Step(step) => {
                if step.at.step == self.last_step {
                    self.stop.stop();
                }
                format!("step {} of {} is done", step.at.step, step.steps)
            }
            Event::Saved(path) => path.file_name().unwrap().to_string_lossy().into_owned(),
            other => format!("{other:?}"),
        });
    }

    fn phase(&mut self, phase: Phase) {
        self.heard.push(format!("{phase:?}"));
    }
}

/// Runs to its end, or stops in a step. Returns how it ended, and what two listeners heard.
fn heard(folder: &Path, resume: bool, last_step: u64) -> (End, Vec<String>, usize) {
    let (config, inputs, start) = small_run(folder);
    let stop = StopFlag::new();
    let mut notes = Notes { heard: Vec::new(), stop: stop.clone(), last_step };
    let mut events = 0;
    let mut count = |_: Event<'_>| events += 1;
    let mut all: Vec<&mut dyn Watch> = vec![&mut notes, &mut count];
    let end = run(config, inputs, start, resume, &stop, &mut all).unwrap();
    (end, notes.heard, events)
}

#[test]
fn listeners_hear_of_every_step_and_every_boundary_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (end, heard, events) = heard(folder.path(), false, u64::MAX);
    let expected = [
        "RunBegins { epoch: 1, epochs: 2 }",
        "TrainingBegins { epoch: 1, batches: 2 }",
        "step 1 of 2 images of 64x64",
        "step 1 of 4 is done",
        "step 2 of 2 images of 64x64",
        "step 2 of 4 is done",
        "TrainingEnds { epoch: 1 }",
        "EpochEnds { epoch: 1 }",
        "step-2",
        "TrainingBegins { epoch: 2, batches: 2 }",
        "step 3 of 2 images of 64x64",
        "step 3 of 4 is done",
        "step 4 of 2 images of 64x64",
        "step 4 of 4 is done",
        "TrainingEnds { epoch: 2 }",
        "EpochEnds { epoch: 2 }",
        "step-4",
        "RunEnds",
    ];
    assert_eq!(heard, expected);
    assert_eq!((end, events), (End::Finished, 10));
    assert!(folder.path().join("run/model/model.safetensors").is_file());
}

#[test]
fn a_listener_stops_a_run_which_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (end, first, _) = heard(folder.path(), false, 3);
    assert_eq!(end, End::Interrupted);
    assert_eq!(first[first.len() - 3..], ["step 3 of 4 is done", "step-3", "RunEnds"]);
    std::fs::remove_dir_all(folder.path().join("shapes")).unwrap();
    let (end, then, _) = heard(folder.path(), true, u64::MAX);
    assert_eq!(end, End::Finished);
    let expected = [
        "goes on after step 3",
        "RunBegins { epoch: 2, epochs: 2 }",
        "TrainingBegins { epoch: 2, batches: 2 }",
        "step 4 of 2 images of 64x64",
        "step 4 of 4 is done",
        "TrainingEnds { epoch: 2 }",
        "EpochEnds { epoch: 2 }",
        "step-4",
        "RunEnds",
    ];
    assert_eq!(then, expected);
}
