//! The files of a Hugging Face folder that hold its weights: one, or several with an index; safetensors, or the
//! `.bin` files of PyTorch that older versions of transformers wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde_json::Value;

use super::super::file::{map_file, read_tensors};
use super::super::folder::{described, read_json};
use super::super::{StateDict, WEIGHTS_FILE, WeightsError};

/// The names that transformers saves weights under, in the order in which it looks for them.
const NAMES: [&str; 4] = [
    WEIGHTS_FILE,
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
];
/// Shards shown in a message.
const SHOWN: usize = 5;

/// The weights of a folder.
#[derive(Debug)]
pub(in crate::weights) struct Weights {
    /// Tensors under the names of transformers.
    pub(in crate::weights) state: StateDict,
    /// The mapped files.
    pub(in crate::weights) files: Vec<(PathBuf, Arc<Mmap>)>,
}

/// Reads the weights of a folder.
pub(in crate::weights) fn read(folder: &Path) -> Result<Weights, WeightsError> {
    let path = NAMES.iter().map(|name| folder.join(name)).find(|path| path.exists());
    let path = path.ok_or_else(|| missing(folder))?;
    if path.extension().is_some_and(|extension| extension == "json") {
        return read_shards(folder, &path);
    }
    let map = map_file(&path)?;
    let state = read_tensors(&path, &map)?;
    Ok(Weights { state, files: vec![(path, map)] })
}

/// Reads the shards that an index names, each tensor from the file that it says.
fn read_shards(folder: &Path, index: &Path) -> Result<Weights, WeightsError> {
    let places = places(index)?;
    let shards: BTreeSet<&str> = places.values().map(String::as_str).collect();
    let absent: Vec<&str> =
        shards.iter().copied().filter(|shard| !folder.join(shard).exists()).collect();
    if !absent.is_empty() {
        return Err(WeightsError::config(
            index,
            format_args!(
                "names {} files, of which {} are not there: {}\nhint: fetch them into the folder, too",
                shards.len(),
                absent.len(),
                cut(&absent)
            ),
        ));
    }
    let mut weights = Weights { state: StateDict::default(), files: Vec::new() };
    for shard in shards {
        let path = folder.join(shard);
        let map = map_file(&path)?;
        let state = read_tensors(&path, &map)?;
        let expected = places.iter().filter(|(_, place)| *place == shard).map(|(name, _)| name);
        let lost: Vec<&str> =
            expected.map(String::as_str).filter(|name| state.get(name).is_none()).collect();
        if !lost.is_empty() {
            return Err(WeightsError::config(
                &path,
                format_args!(
                    "lacks {} tensors that {} places there: {}\nhint: the files are not of one \
                     model; fetch the folder again",
                    lost.len(),
                    index.file_name().unwrap_or_default().to_string_lossy(),
                    cut(&lost)
                ),
            ));
        }
        for (name, tensor) in state.iter() {
            // A copy that the index does not mean is passed over.
            if places.get(name).is_none_or(|place| place == shard) {
                weights.state.insert(name, tensor.clone());
            }
        }
        weights.files.push((path, map));
    }
    Ok(weights)
}

/// Returns the file of every tensor, as an index says.
fn places(index: &Path) -> Result<BTreeMap<String, String>, WeightsError> {
    let json: Value = read_json(index)?;
    let refuse = |reason: String| {
        WeightsError::config(index, format_args!("{reason}\nhint: fetch or save the index again"))
    };
    let map = json.get("weight_map").and_then(Value::as_object).ok_or_else(|| {
        let found = json.get("weight_map").map_or("missing".to_owned(), described);
        refuse(format!("weight_map is {found}, expected a table of tensors and their files"))
    })?;
    if map.is_empty() {
        return Err(refuse("weight_map names no tensors".to_owned()));
    }
    map.iter()
        .map(|(name, place)| {
            let file = place.as_str().ok_or_else(|| {
                refuse(format!("weight_map: `{name}` is {}, expected a file name", described(place)))
            })?;
            let is_plain = Path::new(file).file_name().is_some_and(|last| last == file);
            if !is_plain || file.contains('\\') {
                return Err(refuse(format!(
                    "weight_map: `{name}` is in `{file}`, expected the name of a file in the same folder"
                )));
            }
            Ok((name.clone(), file.to_owned()))
        })
        .collect()
}

/// Says what is there in place of weights, and what to do with it.
fn missing(folder: &Path) -> WeightsError {
    let mut names: Vec<String> = folder.read_dir().map_or_else(
        |_| Vec::new(),
        |entries| entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect(),
    );
    names.sort();
    let with = |wanted: &dyn Fn(&str) -> bool| -> Vec<&str> {
        names.iter().map(String::as_str).filter(|name| wanted(name)).collect()
    };
    let shards = with(&|name| name.contains("-of-0"));
    let others = with(&|name| {
        [".h5", ".msgpack", ".onnx", ".ot", ".gguf"].iter().any(|end| name.ends_with(end))
    });
    let runs = with(&|name| name.starts_with("checkpoint-"));
    let (found, hint) = if !shards.is_empty() {
        let hint = "the index (.index.json) says which tensors are where; fetch it, too";
        (format!("there are parts of weights without their index: {}", cut(&shards)), hint)
    } else if !others.is_empty() {
        let hint = "these formats are not read; save the model again with PyTorch or safetensors";
        (format!("there is {}", cut(&others)), hint)
    } else if !runs.is_empty() {
        let hint = "name one of these folders";
        (format!("there are checkpoints of a training: {}", cut(&runs)), hint)
    } else {
        (format!("none of {} is there", NAMES.join(", ")), "fetch or copy the weights, too")
    };
    WeightsError::config(
        folder,
        format_args!("no {WEIGHTS_FILE} beside config.json; {found}\nhint: {hint}"),
    )
}

/// Lists names, at most five of them.
fn cut(names: &[&str]) -> String {
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}
