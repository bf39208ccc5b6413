//! One tensor under several names. The reference's Deformable DETR lists heads that all layers share
//! once per layer, and heads that refine boxes a second time under `transformer.decoder`. Our module
//! has every tensor once, so copies that are equal are merged when a file is opened, and written out
//! again for those who load our files with PyTorch.

use std::collections::{BTreeMap, HashSet};
use std::io;

use super::{StateDict, StoredTensor};

/// Facts of a model that decide how often its heads are listed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SharedHeads {
    /// Layers of the decoder.
    pub(crate) dec_layers: usize,
    /// Whether every layer has heads of its own, which the decoder lists once more.
    pub(crate) with_box_refine: bool,
    /// Whether the decoder lists class heads, too.
    pub(crate) two_stage: bool,
}

/// The prefix of the second name of a head.
const DECODER: &str = "transformer.decoder.";

/// A state dict that has every tensor once, under our module's name.
#[derive(Default)]
pub(super) struct MergedState {
    pub(super) state: StateDict,
    /// Names that are missing although there are other copies of the same tensor.
    pub(super) missing: Vec<String>,
}

/// Why copies cannot be merged.
pub(super) enum MergeError {
    /// The numbers under these two names differ.
    Differ(String, String),
    /// The tensor of that name cannot be read.
    Unreadable(String, io::Error),
}

/// Drops the copies of every tensor. A file may have all of a kind of heads once or all of them in
/// every place: formats that may not repeat tensors leave the copies out.
pub(super) fn merge(state: &StateDict, heads: &SharedHeads) -> Result<MergedState, MergeError> {
    let mut found: BTreeMap<String, Vec<(&str, &StoredTensor)>> = BTreeMap::new();
    for (name, tensor) in state.iter() {
        found.entry(our_name(name, heads)).or_default().push((name, tensor));
    }
    let mut merged = MergedState::default();
    let repeated: HashSet<&str> = found
        .iter()
        .filter(|(_, copies)| copies.len() > 1)
        .filter_map(|(name, _)| head(name).map(|(family, ..)| family))
        .collect();
    for (name, copies) in &found {
        let (first, tensor) = copies[0];
        for &(second, copy) in &copies[1..] {
            match tensor.same_bits(copy) {
                Ok(true) => {}
                Ok(false) => return Err(MergeError::Differ(first.to_owned(), second.to_owned())),
                Err(error) => return Err(MergeError::Unreadable(second.to_owned(), error)),
            }
        }
        if head(name).is_some_and(|(family, ..)| repeated.contains(family)) {
            let names = names_of(name, heads).into_iter();
            merged.missing.extend(names.filter(|name| state.get(name).is_none()));
        }
        merged.state.insert(name.as_str(), tensor.clone());
    }
    Ok(merged)
}

/// Repeats every tensor under all names that the reference lists it under.
pub(super) fn spread(state: &StateDict, heads: &SharedHeads) -> StateDict {
    let mut out = StateDict::default();
    for (ours, tensor) in state.iter() {
        for name in names_of(ours, heads) {
            out.insert(name, tensor.clone());
        }
    }
    out
}

/// Returns the name that our module has for a tensor; names that are no copy stay.
fn our_name(name: &str, heads: &SharedHeads) -> String {
    let Some((family, index, rest)) = head(name.strip_prefix(DECODER).unwrap_or(name)) else {
        return name.to_owned();
    };
    let index = if heads.with_box_refine { index } else { "0" };
    let ours = format!("{family}.{index}.{rest}");
    let is_copy = names_of(&ours, heads).iter().any(|copy| copy == name);
    if is_copy { ours } else { name.to_owned() }
}

/// Lists all names under which the reference has the tensor that our module calls `ours`.
fn names_of(ours: &str, heads: &SharedHeads) -> Vec<String> {
    match head(ours) {
        Some((family, "0", rest)) if !heads.with_box_refine => {
            (0..heads.dec_layers).map(|layer| format!("{family}.{layer}.{rest}")).collect()
        }
        // The decoder needs classes only to rank the proposals of a first stage.
        Some((family, ..))
            if heads.with_box_refine && (heads.two_stage || family == "bbox_embed") =>
        {
            vec![ours.to_owned(), format!("{DECODER}{ours}")]
        }
        _ => vec![ours.to_owned()],
    }
}

/// Splits `class_embed.3.weight` and its like into family, index and rest.
fn head(name: &str) -> Option<(&str, &str, &str)> {
    let (family, rest) = name.split_once('.')?;
    let (index, rest) = rest.split_once('.')?;
    matches!(family, "class_embed" | "bbox_embed").then_some((family, index, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::ModelConfig;

    fn preset(name: &str) -> SharedHeads {
        ModelConfig::preset(name).unwrap().shared_heads().unwrap()
    }

    fn state(names: &[(&str, f32)]) -> StateDict {
        let mut state = StateDict::default();
        for (name, value) in names {
            state.insert(*name, StoredTensor::from_f32(&[*value], vec![1]));
        }
        state
    }

    #[test]
    fn heads_are_listed_as_the_reference_lists_them() {
        for (model, name, count, last) in [
            ("", "class_embed.0.bias", 6, "class_embed.5.bias"),
            ("", "bbox_embed.0.layers.2.bias", 6, "bbox_embed.5.layers.2.bias"),
            ("", "input_proj.0.0.bias", 1, "input_proj.0.0.bias"),
            ("-refine", "class_embed.3.bias", 1, "class_embed.3.bias"),
            (
                "-refine",
                "bbox_embed.3.layers.0.bias",
                2,
                "transformer.decoder.bbox_embed.3.layers.0.bias",
            ),
            ("-two-stage", "class_embed.6.bias", 2, "transformer.decoder.class_embed.6.bias"),
        ] {
            let config = preset(&format!("deformable-detr-r50{model}"));
            let names = names_of(name, &config);
            assert_eq!((names.len(), names.last().unwrap().as_str()), (count, last));
            assert!(names.iter().all(|copy| our_name(copy, &config) == name), "{name}");
        }
    }

    #[test]
    fn one_copy_is_enough_but_some_of_them_are_not() {
        let config = preset("deformable-detr-r50");
        let once = merge(&state(&[("class_embed.4.bias", 1.0)]), &config).ok().unwrap();
        assert!(once.missing.is_empty() && once.state.get("class_embed.0.bias").is_some());
        let some = state(&[("class_embed.0.bias", 1.0), ("class_embed.4.bias", 1.0)]);
        let some = merge(&some, &config).ok().unwrap();
        assert_eq!(some.missing.len(), 4, "{:?}", some.missing);
        let names = ["class_embed.0.weight", "class_embed.1.weight", "class_embed.0.bias"];
        let half = merge(&state(&names.map(|name| (name, 1.0))), &config).ok().unwrap();
        assert!(half.missing.contains(&"class_embed.1.bias".to_owned()), "{:?}", half.missing);
        // A seventh layer is no copy but does not belong to the model.
        let more = merge(&state(&[("class_embed.6.bias", 1.0)]), &config).ok().unwrap();
        assert!(more.state.get("class_embed.6.bias").is_some());
        let other = state(&[("class_embed.0.bias", 1.0), ("class_embed.4.bias", 1.5)]);
        let Err(MergeError::Differ(first, second)) = merge(&other, &config) else { panic!() };
        assert_eq!([first, second], ["class_embed.0.bias", "class_embed.4.bias"]);
    }
}
