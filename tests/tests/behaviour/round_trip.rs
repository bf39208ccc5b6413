//! From any checkpoint to our artifact and back: bit for bit.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType};
use detr_model::ModelConfig;
use detr_model::weights::{
    CARD_FILE, Checkpoint, Format, StateDict, WEIGHTS_FILE, read_state_dict,
};

fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/13_checkpoints").join(file)
}

fn check_same(file: &str, found: &StateDict, expected: &StateDict) {
    assert_eq!(found.len(), expected.len(), "{file}");
    for (name, tensor) in expected.iter() {
        let found = found.get(name).unwrap_or_else(|| panic!("{file}: {name} is missing"));
        assert_eq!(found.shape, tensor.shape, "{file}: {name}");
        assert_eq!(found.bytes().unwrap(), tensor.bytes().unwrap(), "{file}: {name}");
    }
}

#[test]
fn every_layout_becomes_an_artifact_with_the_same_bits() {
    let device = Device::flex();
    for file in [
        "detr_tiny_zip.pth",
        "detr_tiny_legacy.pth",
        "detr_tiny_hub_zip.pth",
        "hf_detr_tiny",
        "hf_detr_tiny_bottleneck",
        "torchvision_resnet18_narrow_legacy.pth",
        "deformable_tiny_zip.pth",
        "deformable_tiny_legacy.pth",
        "deformable_tiny_refine_hub_zip.pth",
        "deformable_tiny_refine_hub_legacy.pth",
        "hf_deformable_detr_tiny",
        "hf_deformable_detr_tiny_refine",
        "hf_deformable_detr_tiny_two_stage",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let original = Checkpoint::open(&golden(file), None).unwrap();
        let card = original.save(folder.path(), &device).unwrap();
        assert_eq!(card.provenance.source, file);

        let artifact = Checkpoint::open(folder.path(), None).unwrap();
        assert_eq!(artifact.format, Format::Artifact, "{file}");
        assert_eq!(artifact.architecture, original.architecture, "{file}");
        assert_eq!(artifact.classes, original.classes, "{file}");
        check_same(file, &artifact.state, &original.state);
        // PyTorch users load the safetensors file by itself.
        let plain = read_state_dict(&folder.path().join(WEIGHTS_FILE)).unwrap();
        check_same(file, &plain, &original.listed());
        if file.starts_with("de") {
            // Every name that the official file has, heads in several places included.
            check_same(file, &plain, &read_state_dict(&golden(file)).unwrap());
        }
        if artifact.config().is_ok() {
            artifact.load(&device, FloatDType::F32).unwrap();
        } else {
            artifact.load_backbone(&device, FloatDType::F32).unwrap();
        }
    }
}

#[test]
fn an_official_file_and_its_safetensors_twin_are_the_same_model() {
    let pth = Checkpoint::open(&golden("detr_tiny_zip.pth"), None).unwrap();
    let folder = tempfile::tempdir().unwrap();
    pth.save(folder.path(), &Device::flex()).unwrap();
    // A file beside its card would be read as the folder.
    let file = folder.path().join("twin.safetensors");
    std::fs::rename(folder.path().join(WEIGHTS_FILE), &file).unwrap();
    std::fs::remove_file(folder.path().join("model.json")).unwrap();
    let ModelConfig::Detr(config) = pth.config().unwrap() else { unreachable!() };
    let twin = Checkpoint::open(&file, Some(&ModelConfig::Detr(config))).unwrap();
    assert_eq!(twin.format, Format::Safetensors);
    assert_eq!(twin.architecture, pth.architecture);
}

#[test]
fn a_flipped_bit_an_old_card_and_a_newer_format_are_noticed() {
    let device = Device::flex();
    let folder = tempfile::tempdir().unwrap();
    let original = Checkpoint::open(&golden("detr_tiny_zip.pth"), None).unwrap();
    original.save(folder.path(), &device).unwrap();

    let weights = folder.path().join(WEIGHTS_FILE);
    let mut bytes = std::fs::read(&weights).unwrap();
    let last = bytes.len() - 3;
    bytes[last] ^= 1;
    std::fs::write(&weights, &bytes).unwrap();
    let artifact = Checkpoint::open(folder.path(), None).unwrap();
    let error = artifact.load(&device, FloatDType::F32).unwrap_err().to_string();
    assert!(error.contains("SHA-256"), "{error}");

    let card = folder.path().join(CARD_FILE);
    let text = std::fs::read_to_string(&card).unwrap();
    let newer = text.replace("\"format_version\": 1", "\"format_version\": 99");
    std::fs::write(&card, newer).unwrap();
    let error = Checkpoint::open(folder.path(), None).unwrap_err().to_string();
    assert!(error.contains("format version 99"), "{error}");
}
