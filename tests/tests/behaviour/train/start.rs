//! The start of a run: nothing, a backbone, or a checkpoint whose sizes are not those of the data.

use std::path::Path;

use burn::tensor::Device;
use detr_model::ModelConfig;
use detr_model::weights::{Checkpoint, StateDict, read_parameters, tensors_to_bytes};
use detr_train::{InitialModel, ModelSettings, StartError, start};
use detr_types::ClassTable;
use tempfile::TempDir;

use super::{deformable, detr};
use crate::support::golden;

/// Makes a folder with recipe weights of a model as `model.safetensors`.
fn saved(config: &ModelConfig) -> (TempDir, StateDict) {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = Checkpoint::recipe(config, 3, &Device::flex());
    let bytes = tensors_to_bytes(&checkpoint.listed()).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    (folder, checkpoint.state)
}

fn settings(change: impl FnOnce(&mut ModelSettings)) -> ModelSettings {
    let arch = "deformable-detr-tiny".to_owned();
    let mut settings =
        ModelSettings { arch, num_queries: None, init: None, backbone: None, frozen_weights: None };
    change(&mut settings);
    settings
}

fn from(
    config: &ModelConfig,
    folder: &Path,
    change: impl FnOnce(&mut ModelSettings),
) -> Result<InitialModel, StartError> {
    let classes = ClassTable::numbered(config.num_classes());
    start(&settings(change), folder, config, &classes, &Device::flex().autodiff())
}

fn init(settings: &mut ModelSettings) {
    settings.init = Some("model.safetensors".to_owned());
}

/// Returns the names of the tensors that are not those of the checkpoint.
fn changed(started: &InitialModel, state: &StateDict) -> Vec<String> {
    let found = read_parameters(&started.model).unwrap();
    let differs = |name: &&str| {
        let values = |state: &StateDict| state.get(name).map(|tensor| tensor.to_f32().unwrap());
        values(&found) != values(state)
    };
    found.iter().map(|(name, _)| name).filter(differs).map(str::to_owned).collect()
}

#[test]
fn a_head_of_other_classes_and_queries_start_anew_and_all_else_is_loaded() {
    for config in [detr(), deformable()] {
        let (folder, state) = saved(&config);
        let same = from(&config, folder.path(), init).unwrap();
        assert_eq!(changed(&same, &state), Vec::<String>::new());
        assert_eq!(same.notes.len(), 1, "{:?}", same.notes);

        let other = config.clone().with_sizes(7, Some(13));
        let started = from(&other, folder.path(), init).unwrap();
        let names = changed(&started, &state);
        let expected =
            |name: &String| name.starts_with("class_embed.") || name.starts_with("query_embed.");
        assert!(names.iter().all(expected) && names.len() >= 3, "{names:?}");
        let notes = started.notes.join("\n");
        for part in ["class head is not loaded", "has 20 queries, the model's 13"] {
            assert!(notes.contains(part), "{notes}");
        }
        let found = read_parameters(&started.model).unwrap();
        assert_eq!(found.shape("query_embed.weight").unwrap()[0], 13);
        if let ModelConfig::DeformableDetr(_) = config {
            // The bias is that of the reference's initialisation: a hundredth of all scores are
            // objects.
            let bias = found.get("class_embed.0.bias").unwrap().to_f32().unwrap();
            assert_eq!(bias.len(), 7);
            assert!(bias.iter().all(|bias| (bias + 99f32.ln()).abs() < 1e-5), "{bias:?}");
        }
    }
}

#[test]
fn a_backbone_of_torchvision_fills_the_backbone_alone() {
    let file = golden("torchvision_resnet18_narrow_zip.pth");
    let narrow = Checkpoint::open(&file, None).unwrap();
    let detr_model::weights::Architecture::Backbone(backbone) = narrow.architecture.clone() else {
        panic!("a backbone")
    };
    let (ModelConfig::Detr(mut a), ModelConfig::DeformableDetr(mut b)) = (detr(), deformable())
    else {
        unreachable!()
    };
    (a.backbone, b.backbone) = (backbone.clone(), backbone);
    let expected = narrow.state.rename(|name| Some(format!("backbone.0.body.{name}")));
    let name = file.display().to_string();
    for config in [ModelConfig::Detr(a), ModelConfig::DeformableDetr(b)] {
        let started = from(&config, Path::new("nowhere"), |settings| {
            settings.backbone = Some(name.clone());
        });
        let started = started.unwrap();
        let names = changed(&started, &expected);
        assert!(names.iter().all(|name| !name.starts_with("backbone.0.body.")), "{names:?}");
        let all = read_parameters(&started.model).unwrap().len();
        assert_eq!(all - names.len(), expected.len());
        let notes = started.notes.join("\n");
        assert!(notes.contains("heads start untrained"), "{notes}");
    }
    // Another backbone.
    let settings = |settings: &mut ModelSettings| settings.backbone = Some(name.clone());
    let error = from(&deformable(), Path::new(""), settings).unwrap_err().to_string();
    assert!(error.contains("do not fit") && error.contains("\nhint: "), "{error}");
}

#[test]
fn other_architectures_are_refused_with_the_reason() {
    let (folder, _) = saved(&detr());
    let error = from(&deformable(), folder.path(), init).unwrap_err().to_string();
    for part in
        ["do not fit the model", "missing:", "hint: the tensors look like a DETR of width 64"]
    {
        assert!(error.contains(part), "{error}");
    }
    let alone = golden("torchvision_resnet18_narrow_zip.pth").display().to_string();
    for (name, part) in [
        (alone.as_str(), "holds a backbone alone\nhint: model.backbone"),
        ("facebook/detr-resnet-50", "hint: `detr models pull facebook/detr-resnet-50`"),
        ("missing.pth", "there is no `"),
    ] {
        let settings = |settings: &mut ModelSettings| settings.init = Some(name.to_owned());
        let error = from(&deformable(), folder.path(), settings).unwrap_err().to_string();
        assert!(error.contains(part) && error.contains("\nhint: "), "{error}");
    }
}

#[test]
fn heads_that_no_tensor_shows_are_compared_where_a_folder_states_them() {
    let config = deformable();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let mut checkpoint = Checkpoint::recipe(&config, 3, &Device::flex());
    checkpoint.set_classes(ClassTable::numbered(5)).unwrap();
    checkpoint.save(&model, &Device::flex()).unwrap();
    let init = |settings: &mut ModelSettings| settings.init = Some("model".to_owned());
    let started = from(&config, folder.path(), init).unwrap();
    assert_eq!(changed(&started, &checkpoint.state), Vec::<String>::new());

    let ModelConfig::DeformableDetr(mut other) = config else { unreachable!() };
    (other.nheads, other.enc_n_points, other.dec_n_points) = (8, 2, 2);
    let other = ModelConfig::DeformableDetr(other);
    let error = from(&other, folder.path(), init).unwrap_err().to_string();
    assert!(error.contains("has 4 attention heads, the model 8"), "{error}");
}
