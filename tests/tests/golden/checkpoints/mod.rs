//! Group 13: files as PyTorch, torchvision and transformers write them. Tensors bit for bit, then
//! the outputs of the model that was loaded.

mod hugging_face;

use std::cmp::Reverse;

use burn::tensor::{FloatDType, Tensor};
use detr_model::weights::{
    Architecture, Checkpoint, ElementType, StateDict, StoredTensor, expected_tensors,
    read_state_dict,
};
use detr_model::{DeformableDetrConfig, DetrConfig, DetrOutput, ModelConfig};

use crate::backends::Bench;
use crate::case::{Case, Failures, batch};

pub fn run(case: &Case, bench: &Bench) -> Failures {
    let mut failures = Failures::default();
    let files = case.config("files").as_array();
    if let Some(stem) = case.name.strip_suffix(".expected") {
        stored_tensors(case, stem, &mut failures);
    } else if case.json["params"].is_u64() {
        names(case, bench, &mut failures);
    } else if case.config("hw").is_array() {
        torchvision(case, bench, &mut failures);
    } else if files.is_some_and(|files| files.iter().any(|file| file == "config.json")) {
        hugging_face::run(case, bench, &mut failures);
    } else if files.is_some() {
        official(case, bench, &mut failures);
    } else {
        return Failures::unhandled();
    }
    failures
}

/// Lists the `.pth` files of a stem: those that a case names as having these expected tensors, and
/// `STEM_KIND.pth` unless they are those of a longer stem.
fn pth_files(case: &Case, stem: &str) -> Vec<String> {
    let entries = std::fs::read_dir(&case.folder).expect("a folder").flatten();
    let listed: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let expected = format!("{stem}.expected.safetensors");
    let told = listed.iter().filter(|file| file.ends_with(".outputs.json")).flat_map(|file| {
        let text = std::fs::read(case.folder.join(file)).expect("a readable file");
        let json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
        let is_this = json["config"]["expected"] == expected.as_str();
        let files = json["config"]["files"].as_array().filter(|_| is_this).cloned();
        files.unwrap_or_default().into_iter().filter_map(|file| Some(file.as_str()?.to_owned()))
    });
    let told: Vec<String> = told.collect();
    let stems = || listed.iter().filter_map(|file| file.strip_suffix(".expected.safetensors"));
    let starts = |file: &str, stem: &str| {
        let rest = file.strip_prefix(stem).and_then(|rest| rest.strip_suffix(".pth"));
        rest.is_some_and(|rest| rest.starts_with('_'))
    };
    let own = |file: &&String| {
        let longer = |other: &str| other.len() > stem.len() && starts(file, other);
        told.contains(*file) || (starts(file, stem) && !stems().any(longer))
    };
    let mut files: Vec<String> = listed.iter().filter(own).cloned().collect();
    files.sort();
    files
}

/// Checks that every `.pth` of that stem holds exactly the expected tensors.
fn stored_tensors(case: &Case, stem: &str, failures: &mut Failures) {
    let files = pth_files(case, stem);
    for file in &files {
        let state = read_state_dict(&case.folder.join(file)).expect("a readable file");
        failures.check(state.len() == case.tensors.len(), || {
            format!("{file}: {} tensors, expected {}", state.len(), case.tensors.len())
        });
        for (name, stored) in &case.tensors {
            failures.used(name);
            let Some(found) = state.get(name) else {
                failures.fail(format!("{file}: {name} is missing"));
                continue;
            };
            let values = exact(found);
            failures.check(found.shape == stored.shape && values == stored.values, || {
                format!("{file}: {name} differs")
            });
        }
    }
    failures.check(!files.is_empty(), || format!("no .pth file belongs to {stem}"));
}

/// Reads the elements in f64, which holds every stored type exactly.
#[allow(clippy::cast_precision_loss)] // integers in the files are small
fn exact(tensor: &StoredTensor) -> Vec<f64> {
    let bytes = tensor.bytes().expect("readable bytes");
    match tensor.dtype {
        ElementType::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        ElementType::I64 => {
            bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect()
        }
        _ => tensor.to_f32().expect("readable").into_iter().map(f64::from).collect(),
    }
}

/// Checks that the tensors we write for a model are exactly the tensors that are listed, and some preset has them. Hugging Face
/// lists what is shared once, so there it is what we load.
fn names(case: &Case, bench: &Bench, failures: &mut Failures) {
    let mut state = StateDict::default();
    for (name, shape) in case.json["tensors"].as_object().expect("tensors") {
        let shape: Vec<usize> = serde_json::from_value(shape.clone()).expect("a shape");
        let elements = shape.iter().product();
        state.insert(name.as_str(), StoredTensor::from_f32(&vec![0.0; elements], shape));
    }
    let hugging_face = state.iter().any(|(name, _)| name.starts_with("model."));
    if hugging_face {
        state = detr_model::weights::official_names(&state).expect("complete projections");
        // The heads of the decoder are those of the model.
        state = state.rename(|name| {
            let head = name.strip_prefix("transformer.decoder.").filter(|n| n.contains("_embed."));
            Some(head.unwrap_or(name).to_owned())
        });
    }
    let listed: Vec<_> = shapes(&state)
        .into_iter()
        .filter(|(name, _)| !name.ends_with("num_batches_tracked"))
        .collect();
    let published = case.json["params"].as_u64().map(|n| usize::try_from(n).expect("small"));
    let config = nearest_preset(&listed, published, bench);
    let checkpoint = Checkpoint::recipe(&config, 0, &bench.device);
    let written = if hugging_face { checkpoint.state } else { checkpoint.listed() };
    let written = shapes(&written);
    for pair in listed.iter().zip(&written) {
        failures.check(pair.0 == pair.1, || format!("{:?} against {:?}", pair.0, pair.1));
    }
    failures.check(listed.len() == written.len(), || {
        format!("{} tensors listed, {} in our file", listed.len(), written.len())
    });
    let params = parameters(&expected_tensors(&config.init(&bench.device)));
    failures.check(published == Some(params), || format!("{params} parameters, not {published:?}"));
}

/// Finds the preset with that many parameters, or else some, that has the most of the tensors that are
/// listed, and the least that are not.
fn nearest_preset(
    listed: &[(String, Vec<usize>)],
    published: Option<usize>,
    bench: &Bench,
) -> ModelConfig {
    let presets = ModelConfig::presets().map(|name| ModelConfig::preset(name).expect("a preset"));
    let nearest = presets.max_by_key(|config| {
        let expected = expected_tensors(&config.init(&bench.device));
        let alike = expected.iter().filter(|pair| listed.binary_search(pair).is_ok()).count();
        (Some(parameters(&expected)) == published, alike, Reverse(expected.len() - alike))
    });
    nearest.expect("presets")
}

/// Returns the number of elements of all parameters.
fn parameters(expected: &[(String, Vec<usize>)]) -> usize {
    let counted = expected.iter().filter(|(name, _)| !is_buffer(name));
    counted.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// Returns the names and shapes in the order of the names.
fn shapes(state: &StateDict) -> Vec<(String, Vec<usize>)> {
    state.iter().map(|(name, tensor)| (name.to_owned(), tensor.shape.clone())).collect()
}

/// Returns whether a tensor is a buffer: frozen batch norms are buffers in the reference and count
/// as no parameters.
fn is_buffer(name: &str) -> bool {
    name.contains("backbone.0.body")
        && (name.contains(".bn") || name.contains("downsample.1") || name.contains("running_"))
}

fn torchvision(case: &Case, bench: &Bench, failures: &mut Failures) {
    let stem = case.name.trim_end_matches(".outputs");
    let [h, w] = serde_json::from_value(case.config("hw").clone()).expect("height and width");
    let files = pth_files(case, stem);
    failures.check(!files.is_empty(), || format!("no .pth file belongs to {stem}"));
    for kind in files {
        let path = case.folder.join(&kind);
        let checkpoint = Checkpoint::open(&path, None).expect("a readable file");
        let is_backbone = matches!(checkpoint.architecture, Architecture::Backbone(_));
        failures.check(is_backbone, || format!("{kind}: not seen as a backbone"));
        let body = checkpoint.load_backbone(&bench.device, FloatDType::F32).expect("weights fit");
        let seed = case.number("image_seed") as u64;
        let images = batch(&[seed], &[[h, w]], &bench.device);
        for (stage, map) in body.forward(&images).into_iter().enumerate() {
            failures.tensor(case, bench.slack, &format!("layer{}", stage + 1), map.map);
        }
    }
}

fn official(case: &Case, bench: &Bench, failures: &mut Failures) {
    for file in case.config("files").as_array().expect("files") {
        let file = file.as_str().expect("a name");
        let path = case.folder.join(file);
        let mut checkpoint = Checkpoint::open(&path, None).expect("a readable file");
        let inferred = checkpoint.config().expect("a detector");
        let told = with_heads(inferred.clone(), case);
        let bytes = std::fs::read(&path).expect("a readable file");
        if bytes.windows(8).any(|word| word == b"argparse") {
            failures.check(inferred == told, || format!("{file}: {inferred:?}"));
        } else {
            // No argument list in the file, so the number of heads is the user's to say.
            failures.check(!checkpoint.notes.is_empty(), || format!("{file}: heads not noted"));
            checkpoint = Checkpoint::open(&path, Some(&told)).expect("a readable file");
        }
        let model = checkpoint.load(&bench.device, FloatDType::F32).expect("weights fit");
        let output = model.forward(case.images(&bench.device));
        predictions(case, bench, failures, &output, "pred_logits", true);
    }
}

/// Returns the configuration with the settings of a case that no tensor shows.
fn with_heads(config: ModelConfig, case: &Case) -> ModelConfig {
    let nheads = case.number("nheads");
    match config {
        ModelConfig::DeformableDetr(config) => {
            let (enc_n_points, dec_n_points) = (case.number("n_points"), case.number("n_points"));
            let config = DeformableDetrConfig { nheads, enc_n_points, dec_n_points, ..config };
            ModelConfig::DeformableDetr(config)
        }
        ModelConfig::Detr(config) => ModelConfig::Detr(DetrConfig { nheads, ..config }),
        other => other,
    }
}

fn predictions(
    case: &Case,
    bench: &Bench,
    failures: &mut Failures,
    output: &DetrOutput,
    logits: &str,
    auxiliary: bool,
) {
    let layers = output.pred_logits.dims()[0];
    let layer = |t: &Tensor<4>, i: usize| t.clone().slice_dim(0, i..=i).squeeze_dim::<3>(0);
    let first = if auxiliary { 0 } else { layers - 1 };
    for i in first..layers {
        let prefix = if i + 1 == layers { String::new() } else { format!("aux{i}.") };
        failures.tensor(
            case,
            bench.slack,
            &format!("{prefix}{logits}"),
            layer(&output.pred_logits, i),
        );
        failures.tensor(
            case,
            bench.slack,
            &format!("{prefix}pred_boxes"),
            layer(&output.pred_boxes, i),
        );
    }
}
