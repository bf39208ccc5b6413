//! Weights for a model that is to be trained on: those of a whole model of other classes or queries, or of
//! a backbone alone. What the checkpoint does not have starts untrained, and is named.

use burn::module::Module;
use burn::tensor::{Device, FloatDType};

use super::super::{
    Mismatch, StateDict, WeightsError, expected_tensors, load_into, read_parameters,
};
use super::{Architecture, Checkpoint, Format};
use crate::families::{Model, ModelConfig};

/// A part of a model whose size follows from the data, so that it may differ from a checkpoint's.
struct Part {
    title: &'static str,
    unit: &'static str,
    /// The prefixes of the names of its tensors.
    names: [&'static str; 2],
}

const PARTS: [Part; 2] = [
    Part { title: "class head", unit: "outputs", names: ["class_embed.", "linear_class."] },
    Part { title: "query embedding", unit: "queries", names: ["query_embed.", "query_pos"] },
];

/// A filled model, notes, and the parts of other sizes than in the checkpoint, with both sizes.
type TransferResult = (Model, Vec<String>, Vec<(&'static Part, [usize; 2])>);

/// The prefixes of the mask head's tensors.
const MASKS: [&str; 2] = super::super::segmentation::HEAD;

impl Checkpoint {
    /// Builds a model and fills it from a checkpoint of the same architecture, or from one without the mask head, which
    /// then starts untrained. A class head for another
    /// number of classes, and the embeddings of another number of queries, start untrained; the notes
    /// say so.
    ///
    /// # Errors
    /// Other tensors that do not fit, or anything that [`Checkpoint::load`] refuses.
    pub fn load_as(
        &self,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<(Model, Vec<String>), WeightsError> {
        self.load_and_list(config, device).map(|(model, notes, _)| (model, notes))
    }

    /// Does the same as [`Checkpoint::load_as`] for a model of which only the mask head will be trained, so that nothing
    /// else may start untrained.
    ///
    /// # Errors
    /// A class head or query embeddings of another size, or anything that [`Checkpoint::load_as`] refuses.
    pub fn load_frozen(
        &self,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<(Model, Vec<String>), WeightsError> {
        let (model, notes, replaced) = self.load_and_list(config, device)?;
        let Some((Part { title, unit, .. }, [old, new])) = replaced.first() else {
            return Ok((model, notes));
        };
        Err(WeightsError::config(
            &self.path,
            format_args!(
                "the {title} of the checkpoint has {old} {unit}, the model's {new}, and frozen weights learn nothing\n\
                 hint: freeze a detector that was trained on the classes of these data, with as many queries"
            ),
        ))
    }

    /// Builds a model and fills it; returns the parts that start untrained as well, with the sizes in the checkpoint
    /// and in the model.
    fn load_and_list(
        &self,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<TransferResult, WeightsError> {
        let mut notes = self.check_heads(config)?;
        let fresh = config.init(device);
        let mut state = self.state.clone();
        let mut replaced: Vec<(&'static Part, [usize; 2])> = Vec::new();
        let mut untrained = StateDict::default();
        // A detector that masks are to be added to has nothing of their head.
        let of_masks = |name: &str| MASKS.iter().any(|own| name.starts_with(own));
        if config.has_masks() && !state.iter().any(|(name, _)| of_masks(name)) {
            untrained = self.read_back(&fresh)?;
            for (name, tensor) in untrained.iter().filter(|(name, _)| of_masks(name)) {
                state.insert(name, tensor.clone());
            }
            notes.push(
                "the mask head is not loaded but starts untrained: the checkpoint has none".into(),
            );
        }
        for (name, shape) in expected_tensors(&fresh) {
            let Some(theirs) = state.shape(&name).map(<[usize]>::to_vec) else { continue };
            if theirs == shape {
                continue;
            }
            let part = PARTS.iter().find(|part| part.names.iter().any(|own| name.starts_with(own)));
            match (part, theirs.split_first(), shape.split_first()) {
                (Some(part), Some((&old, old_rest)), Some((&new, rest))) if old_rest == rest => {
                    if !replaced.iter().any(|(known, _)| known.title == part.title) {
                        replaced.push((part, [old, new]));
                    }
                    if untrained.is_empty() {
                        untrained = self.read_back(&fresh)?;
                    }
                    if let Some(tensor) = untrained.get(&name) {
                        state.insert(name, tensor.clone());
                    }
                }
                // This case is reported when the part is filled.
                _ => {}
            }
        }
        for (Part { title, unit, .. }, [old, new]) in &replaced {
            notes.push(format!(
                "the {title} is not loaded but starts untrained: the checkpoint's has {old} {unit}, \
                 the model's {new}"
            ));
        }
        Ok((self.fill_from(fresh, &state)?, notes, replaced))
    }

    /// Builds a model and fills its backbone from a checkpoint of a backbone, or of a detector. All else
    /// starts untrained.
    ///
    /// # Errors
    /// Tensors of the backbone that do not fit, or anything that [`Checkpoint::load`] refuses.
    pub fn load_backbone_of(
        &self,
        config: &ModelConfig,
        device: &Device,
    ) -> Result<(Model, Vec<String>), WeightsError> {
        let ours = Architecture::from(config.clone()).backbone_prefix();
        let theirs = self.architecture.backbone_prefix();
        let fresh = config.init(device);
        let found = self.state.clone().rename(|name| {
            let name = name.strip_prefix(theirs)?;
            Some(format!("{ours}{name}"))
        });
        // The learned positions of a detector are its own.
        let mut state = self
            .read_back(&fresh)?
            .rename(|name| (!name.starts_with(ours)).then(|| name.to_owned()));
        let tensors = found.len();
        for (name, tensor) in found.iter() {
            state.insert(name, tensor.clone());
        }
        let model = self.fill_from(fresh, &state)?;
        let note = format!(
            "{tensors} tensors of the backbone are loaded; the transformer and the heads start untrained"
        );
        Ok((model, vec![note]))
    }

    /// Compares the number of attention heads, which no tensor shows, with the number that the
    /// checkpoint states.
    fn check_heads(&self, config: &ModelConfig) -> Result<Vec<String>, WeightsError> {
        if !matches!(self.format, Format::Artifact | Format::HuggingFace) {
            return Ok(Vec::new());
        }
        let theirs = self.config()?;
        if theirs.nheads() != config.nheads() {
            let (theirs, ours) = (theirs.nheads(), config.nheads());
            return Err(WeightsError::config(
                &self.path,
                format_args!(
                    "the checkpoint has {theirs} attention heads, the model {ours}\nhint: start \
                     from a checkpoint of the same architecture, or choose its architecture"
                ),
            ));
        }
        let [old, new] = [&theirs, config].map(|config| config.backbone().is_dilated());
        let words = |dilated| if dilated { "dilated" } else { "not dilated" };
        let note = format!(
            "the checkpoint's last stage is {}, the model's {}: the weights are the same",
            words(old),
            words(new)
        );
        Ok(if old == new { Vec::new() } else { vec![note] })
    }

    fn read_back(&self, model: &Model) -> Result<StateDict, WeightsError> {
        read_parameters(model).map_err(|error| WeightsError::config(&self.path, error.message))
    }

    fn fill_from<M: Module>(&self, model: M, state: &StateDict) -> Result<M, WeightsError> {
        let hint = || {
            let looks =
                self.looks_like.as_ref().map(|kind| format!("the tensors look like {kind}; "));
            let looks = looks.unwrap_or_default();
            Some(
                format!("{looks}the checkpoint has to be of the architecture that is trained")
                    .into(),
            )
        };
        let (hash, model) = rayon::join(
            || self.check_hash(),
            || load_into(model, state, FloatDType::F32, &self.path),
        );
        hash?;
        match model {
            Ok(_) if !self.missing_copies.is_empty() => Err(self.explain(Mismatch::default())),
            Err(WeightsError::Mismatch { path, mismatch, .. }) => {
                Err(WeightsError::Mismatch { path, mismatch, hint: hint() })
            }
            other => other,
        }
    }
}
