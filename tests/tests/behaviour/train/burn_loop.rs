//! Burn's own loop can train the models, too, through `ModelWithLoss` and `MicroBatchLoader`.

use std::sync::Arc;

use burn::tensor::Device;
use burn_optim::AdamWConfig;
use burn_train::{Learner, SupervisedTraining};
use detr_data::dataset::Labels;
use detr_data::synth::{SynthOptions, synthesize};
use detr_data::{Augmentation, DatasetSource, Loader, LoaderConfig};
use detr_loss::SetCriterion;
use detr_model::weights::{read_parameters, tensors_to_bytes};
use detr_train::{MicroBatchLoader, ModelWithLoss, ScalarMetric, Scalars, SilentRenderer};
use detr_types::{ImageSize, PreprocessSpec};

use super::{deformable, model};

#[test]
fn burns_loop_trains_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        SynthOptions { images: 4, size: ImageSize::new(64, 64), ..SynthOptions::default() };
    let dataset = synthesize(folder.path(), &options, None).unwrap();
    let classes = dataset.class_table(Labels::Contiguous).unwrap();
    let spec = PreprocessSpec { shortest_edge: 64, longest_edge: 64, ..PreprocessSpec::default() };
    let source =
        DatasetSource::new(Arc::new(dataset), &classes, Augmentation::validation(&spec), 0);
    let config = LoaderConfig { workers: 0, ..LoaderConfig::default() };
    let loader = Loader::new(Arc::new(source.unwrap()), config).unwrap();
    let device = Device::flex().autodiff();
    let batches = Arc::new(MicroBatchLoader::new(Arc::new(loader), classes.len(), device));

    let config = deformable().with_sizes(classes.len(), None);
    let start = model(&config);
    let with_loss = ModelWithLoss::new(start.clone(), SetCriterion::deformable_detr());
    let result = SupervisedTraining::new(folder.path().join("run"), batches.clone(), batches)
        .metrics((ScalarMetric::new(Scalars::LOSS, false),))
        .with_application_logger(None)
        .renderer(Box::new(SilentRenderer))
        .num_epochs(2)
        .launch(Learner::new(with_loss, AdamWConfig::new().init(), 1e-4));
    assert!(result.error.is_none());
    let bytes = |model| tensors_to_bytes(&read_parameters(model).unwrap()).unwrap();
    assert_ne!(bytes(&result.model.model), bytes(&start));
    // Burn's loop has written the validation's loss of its two epochs.
    let losses = std::fs::read_dir(folder.path().join("run/valid")).unwrap();
    assert_eq!(losses.count(), 2);
}
