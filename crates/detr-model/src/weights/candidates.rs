//! The model among the tensors of a file. Training programs put weights under keys of their own (`state_dict`,
//! `model_state_dict`, `ema`), and wrappers put a word before every name (`module.`, `model.`, `net.`). What
//! stands before the names of a known model is found here, whatever it is, and left out.

use std::collections::BTreeSet;
use std::path::Path;

use super::training_args::TrainingArgs;
use super::{StateDict, WeightsError, official_names};
use crate::backbone::BackboneConfig;
use crate::families::ModelConfig;

/// Tensors that a model has once: one of them ends every prefix worth trying.
const MARKERS: [Marker; 7] = [
    Marker { name: "input_proj.weight", kind: Kind::Official },
    Marker { name: "input_proj.0.0.weight", kind: Kind::Official },
    Marker { name: "class_embed.weight", kind: Kind::Official },
    Marker { name: "linear_class.weight", kind: Kind::Official },
    Marker { name: "model.input_projection.weight", kind: Kind::HuggingFace },
    Marker { name: "model.input_proj.0.0.weight", kind: Kind::HuggingFace },
    Marker { name: "layer1.0.conv1.weight", kind: Kind::Backbone },
];

/// Keys that hold the model in files of the reference and of most programs; no message names them.
const USUAL: [&str; 2] = ["model.", "state_dict."];
/// Keys of models in the order in which they are preferred; others come after them.
const PREFERRED: [&str; 7] =
    ["", "model.", "state_dict.", "model_state_dict.", "model_state.", "net.", "module."];
/// Words of weights that are an average of others, or follow them.
const AVERAGES: [&str; 6] = ["ema", "swa", "average", "averaged", "teacher", "avg"];
/// Names shown in a note.
const SHOWN: usize = 5;

struct Marker {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// The names of the reference.
    Official,
    /// The names of transformers.
    HuggingFace,
    /// A ResNet of torchvision, alone.
    Backbone,
}

/// A file whose tensors are known by name, and read by the prefix of their names.
pub(super) trait Source {
    /// Returns the names of all tensors.
    fn names(&self) -> Vec<&str>;

    /// Reads the tensors whose names start with a prefix, without it.
    fn state(&self, prefix: &str) -> Result<StateDict, WeightsError>;

    /// Returns the longest beginning of a prefix that is a path of keys in the file, and not part of the
    /// tensors' names.
    fn keys<'a>(&self, prefix: &'a str) -> &'a str;
}

/// The tensors of a model, under official names.
pub(super) struct ModelTensors {
    pub(super) state: StateDict,
    /// The notes about tensors that were left out or chosen.
    pub(super) notes: Vec<String>,
}

impl From<StateDict> for ModelTensors {
    fn from(state: StateDict) -> Self {
        Self { state, notes: Vec::new() }
    }
}

struct Candidate {
    prefix: String,
    kind: Kind,
    state: StateDict,
    is_whole: bool,
}

/// Finds the tensors of a model; `None` if no prefix leads to one.
pub(super) fn find(
    path: &Path,
    source: &impl Source,
    args: TrainingArgs,
) -> Result<Option<ModelTensors>, WeightsError> {
    let names = source.names();
    let mut candidates = Vec::new();
    for (kind, prefix) in prefixes(&names) {
        // A detector's own backbone is no candidate beside it, and a part of another network none at all.
        if kind == Kind::Backbone && (!candidates.is_empty() || !share(&names, prefix)) {
            continue;
        }
        let state = source.state(prefix)?;
        let state = match kind {
            Kind::HuggingFace => {
                official_names(&state).map_err(|reason| WeightsError::corrupt(path, reason))?
            }
            Kind::Official | Kind::Backbone => state,
        };
        let is_whole = match kind {
            Kind::Backbone => BackboneConfig::infer(&state, "", false).is_some(),
            _ => match ModelConfig::infer(&state, args) {
                Some(config) => config.is_ok(),
                None => continue,
            },
        };
        candidates.push(Candidate { prefix: prefix.to_owned(), kind, state, is_whole });
    }
    if candidates.iter().any(|candidate| candidate.is_whole) {
        candidates.retain(|candidate| candidate.is_whole);
    }
    candidates.sort_by_key(|candidate| rank(&candidate.prefix));
    candidates.dedup_by(|a, b| a.prefix == b.prefix);
    let found: Vec<String> = candidates.iter().map(|candidate| quoted(&candidate.prefix)).collect();
    let Some(taken) = candidates.into_iter().next() else { return Ok(None) };
    let mut notes = Vec::new();
    if found.len() > 1 {
        notes.push(format!(
            "the file holds {} models ({}), of which {} is taken",
            found.len(),
            cut(&found),
            found[0]
        ));
    }
    notes.extend(note_on_prefix(source, &names, &taken.prefix, found.len() > 1));
    if taken.kind == Kind::HuggingFace {
        notes.push(
            "the names are those of Hugging Face's transformers; without its config.json, classes and \
             image sizes are assumed"
                .to_owned(),
        );
    }
    Ok(Some(ModelTensors { state: taken.state, notes }))
}

/// Prefixes before markers, with the kind of the marker, the backbones last.
fn prefixes<'a>(names: &[&'a str]) -> BTreeSet<(Kind, &'a str)> {
    let mut found = BTreeSet::new();
    for &name in names {
        for marker in &MARKERS {
            let prefix = name.strip_suffix(marker.name);
            if let Some(prefix) = prefix.filter(|prefix| is_prefix(prefix)) {
                found.insert((marker.kind, prefix));
            }
        }
    }
    found
}

/// Returns whether a text is made of words and numbers with a dot after each. A single letter is no word:
/// what stands behind it is another program's own scheme of names.
fn is_prefix(text: &str) -> bool {
    let is_word = |word: &str| word.len() > 1 || word.bytes().all(|byte| byte.is_ascii_digit());
    text.is_empty() || text.strip_suffix('.').is_some_and(|words| words.split('.').all(is_word))
}

/// Returns whether all names start with a prefix.
fn share(names: &[&str], prefix: &str) -> bool {
    names.iter().all(|name| name.starts_with(prefix))
}

/// Ranks a prefix among others: averages come last, since the same file has the trained weights.
fn rank(prefix: &str) -> (bool, usize, String) {
    let averaged = prefix.split(['.', '_']).any(|word| AVERAGES.contains(&word));
    let usual = PREFERRED.iter().position(|known| *known == prefix);
    (averaged, usual.unwrap_or(PREFERRED.len()), prefix.to_owned())
}

/// Tells of a prefix that is left out, and of tensors that stand beside it.
fn note_on_prefix(
    source: &impl Source,
    names: &[&str],
    prefix: &str,
    is_told: bool,
) -> Option<String> {
    let keys = source.keys(prefix);
    let word = &prefix[keys.len()..];
    if word.is_empty() {
        let is_new = !prefix.is_empty() && !USUAL.contains(&prefix) && !is_told;
        return is_new.then(|| format!("the weights are those under {}", quoted(prefix)));
    }
    let beside: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with(keys) && !name.starts_with(prefix))
        .map(|name| format!("`{name}`"))
        .collect();
    let rest = match beside.len() {
        0 => String::new(),
        count => format!("; tensors without it are not read ({count}): {}", cut(&beside)),
    };
    Some(format!("the prefix `{word}` of the names is left out{rest}"))
}

/// Quotes a prefix as people write it.
fn quoted(prefix: &str) -> String {
    match prefix.strip_suffix('.') {
        Some(prefix) => format!("`{prefix}`"),
        None => "the one without a prefix".to_owned(),
    }
}

/// Lists names, at most five of them.
fn cut(names: &[String]) -> String {
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => shown,
        Some(more) => format!("{shown} and {more} more"),
    }
}

/// A safetensors file has names and no keys.
impl Source for StateDict {
    fn names(&self) -> Vec<&str> {
        self.iter().map(|(name, _)| name).collect()
    }

    fn state(&self, prefix: &str) -> Result<StateDict, WeightsError> {
        Ok(self.clone().rename(|name| name.strip_prefix(prefix).map(str::to_owned)))
    }

    fn keys<'a>(&self, _prefix: &'a str) -> &'a str {
        ""
    }
}
