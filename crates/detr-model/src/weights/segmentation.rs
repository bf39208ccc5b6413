//! The names of a DETR inside a model of masks. The reference's `DETRsegm` wraps a DETR, whose tensors are called
//! `detr.*` in its checkpoints; our module has them beside the mask head's, so that a detector's weights fit. The
//! prefix is dropped when a file is opened, and written again.

use super::StateDict;
use crate::families::ModelConfig;

/// The prefix of the names of the wrapped model.
const WRAPPED: &str = "detr.";
/// The prefixes of the mask head's own tensors.
pub(super) const HEAD: [&str; 2] = ["bbox_attention.", "mask_head."];

/// Drops the prefix, unless another tensor has the name without it.
pub(super) fn unwrap(state: StateDict) -> StateDict {
    let names: std::collections::HashSet<String> =
        state.iter().map(|(name, _)| name.to_owned()).collect();
    state.rename(|name| {
        let inner = name.strip_prefix(WRAPPED).filter(|inner| !names.contains(*inner));
        Some(inner.unwrap_or(name).to_owned())
    })
}

/// Returns the name that the reference has for a tensor of a model.
pub(super) fn wrapped_name(name: &str, config: &ModelConfig) -> String {
    let wraps = config.has_masks() && matches!(config, ModelConfig::Detr(_));
    if !wraps || HEAD.iter().any(|own| name.starts_with(own)) {
        return name.to_owned();
    }
    format!("{WRAPPED}{name}")
}

/// Puts the prefix before the names of a model with masks.
pub(super) fn wrap(state: StateDict, config: &ModelConfig) -> StateDict {
    state.rename(|name| Some(wrapped_name(name, config)))
}

#[cfg(test)]
mod tests {
    use super::super::StoredTensor;
    use super::*;

    #[test]
    fn only_the_detector_is_wrapped_and_no_tensor_is_lost() {
        let config = ModelConfig::preset("detr-r50-panoptic").unwrap();
        let ours = ["class_embed.bias", "mask_head.gn1.bias", "bbox_attention.q_linear.bias"];
        let mut state = StateDict::default();
        for (i, name) in (0u8..).zip(ours) {
            state.insert(name, StoredTensor::from_f32(&[f32::from(i)], vec![1]));
        }
        let names =
            |state: &StateDict| state.iter().map(|(name, _)| name.to_owned()).collect::<Vec<_>>();
        let theirs = wrap(state.clone(), &config);
        let expected =
            ["bbox_attention.q_linear.bias", "detr.class_embed.bias", "mask_head.gn1.bias"];
        assert_eq!(names(&theirs), expected);
        assert_eq!(names(&unwrap(theirs.clone())), names(&state));
        // Both names of one tensor stay, so that one of them is reported.
        let mut both = theirs;
        both.insert("class_embed.bias", StoredTensor::from_f32(&[9.0], vec![1]));
        assert_eq!(unwrap(both.clone()).len(), both.len());
        let detector = ModelConfig::preset("detr-r50").unwrap();
        assert_eq!(names(&wrap(state.clone(), &detector)), names(&state));
    }
}
