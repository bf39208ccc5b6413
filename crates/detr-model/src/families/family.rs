//! The seam between the families of models and all that loads, trains, measures and runs them.

use std::fmt;
use std::path::Path;

use burn::tensor::{Device, Tensor};
use detr_types::PreprocessSpec;

use super::hugging_face::HuggingFaceNames;
use super::recipe::TrainingRecipe;
use crate::backbone::{BackboneConfig, Features};
use crate::config::ConfigError;
use crate::encoding::Encoding;
use crate::flops::{BackboneFlops, Flops};
use crate::nested::NestedTensor;
use crate::output::{DetrOutput, MaskFeatures};
use crate::postprocess::ScoreActivation;
use crate::weights::{SharedHeads, StateDict, TrainingArgs, WeightsError};

/// Facts that were published with the weights of a model and stand in no tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Published {
    /// The name of the preset.
    pub(crate) name: &'static str,
    /// The names of the labels, from 0.
    pub(crate) classes: &'static [&'static str],
    /// The way in which images become input.
    pub(crate) preprocess: PreprocessSpec,
}

/// A family of models, implemented by its configuration.
pub(crate) trait Family: fmt::Debug {
    /// The model that the configuration describes.
    type Model
    where
        Self: Sized;

    /// Returns the word after `kind` in a configuration: the name of the family's variant in kebab
    /// case.
    fn kind() -> &'static str
    where
        Self: Sized;

    /// Returns the names and texts of the family's presets in `configs/models/`.
    fn presets() -> &'static [(&'static str, &'static str)]
    where
        Self: Sized;

    /// Finds the configuration that tensors with official names belong to. `None` if they are of another
    /// family; otherwise the configuration, or what is wrong with the tensors.
    fn infer(state: &StateDict, args: TrainingArgs) -> Option<Result<Self, String>>
    where
        Self: Sized;

    /// Returns the names that Hugging Face's transformers have for the family and its tensors, if they
    /// have it.
    fn hugging_face() -> Option<HuggingFaceNames>
    where
        Self: Sized,
    {
        None
    }

    /// Reads the configuration from a folder of Hugging Face's transformers whose tensors have official
    /// names already; returns the tensors with what the folder leaves out.
    ///
    /// # Errors
    /// Tensors of another model, or settings that contradict them.
    fn read_hugging_face(
        folder: &Path,
        state: StateDict,
        args: TrainingArgs,
    ) -> Result<(Self, StateDict), WeightsError>
    where
        Self: Sized,
    {
        let config = Self::infer_from_folder(folder, &state, args)?;
        Ok((config, state))
    }

    /// Finds the configuration that the tensors of such a folder belong to.
    ///
    /// # Errors
    /// Tensors of another model.
    fn infer_from_folder(
        folder: &Path,
        state: &StateDict,
        args: TrainingArgs,
    ) -> Result<Self, WeightsError>
    where
        Self: Sized,
    {
        let class = Self::hugging_face().map_or("", |names| names.class);
        let unknown = || Err(format!("the weights of {class} were not found"));
        Self::infer(state, args)
            .unwrap_or_else(unknown)
            .map_err(|reason| WeightsError::NotAModel { path: folder.to_owned(), reason })
    }

    /// Makes a model with the reference's initialisation. Parameters are made when first read, so a
    /// checkpoint loaded right away costs no random numbers.
    fn init(&self, device: &Device) -> Self::Model
    where
        Self: Sized;

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or two that contradict each other.
    fn validate(&self) -> Result<(), ConfigError>;

    /// Returns the number of labels of the class head, without the no-object class.
    fn num_classes(&self) -> usize;

    /// Returns the numbers of labels and of queries, to be replaced.
    fn sizes_mut(&mut self) -> (&mut usize, &mut usize);

    /// Returns whether the model makes masks.
    fn has_masks(&self) -> bool {
        false
    }

    /// Returns the beginnings of the names of all parameters outside the mask head.
    fn detector_parts(&self) -> Vec<&'static str> {
        vec![
            "backbone.",
            "transformer.",
            "input_proj.",
            "query_embed.",
            "class_embed.",
            "bbox_embed.",
        ]
    }

    /// Returns the number of attention heads.
    fn nheads(&self) -> usize;

    /// Returns the backbone.
    fn backbone(&self) -> &BackboneConfig;

    /// Makes the last stage of the backbone dilate, where such models were published; returns whether it
    /// does now.
    fn dilate(&mut self) -> bool {
        false
    }

    /// Returns the beginning of the names of the backbone's tensors.
    fn backbone_prefix(&self) -> &'static str {
        "backbone.0.body."
    }

    /// Returns the function that turns logits into scores.
    fn activation(&self) -> ScoreActivation;

    /// Returns the largest side of an input image in pixels, where a table of positions sets one.
    fn max_image_side(&self) -> Option<u32> {
        None
    }

    /// Returns whether the model can tell the padding of a batch from its images.
    fn knows_padding(&self) -> bool {
        true
    }

    /// Counts the multiply-adds of a forward pass on one image.
    fn flops(&self, backbone: &BackboneFlops) -> Flops;

    /// Returns the numbers that the reference trains the family with.
    fn training_recipe(&self) -> TrainingRecipe;

    /// Heads that the reference lists more than once in its checkpoints, if there are any.
    fn shared_heads(&self) -> Option<SharedHeads> {
        None
    }

    /// Describes the model in a few words, with an article.
    fn describe(&self) -> String;

    /// Returns what was published with weights of exactly these sizes and stands in no tensor, where that differs
    /// from the rest of the family.
    fn published(&self) -> Option<Published> {
        None
    }

    /// Lists what was assumed when the configuration was inferred, because no tensor shows it and the file
    /// does not say it elsewhere.
    fn assumptions(&self, args: TrainingArgs) -> Vec<String> {
        if args.nheads.is_some() {
            return Vec::new();
        }
        let heads = self.nheads();
        vec![format!("{heads} attention heads assumed (no tensor shows their number)")]
    }
}

/// A model of a family.
pub(crate) trait Network {
    /// Runs the backbone.
    fn extract(&self, input: NestedTensor) -> Features;

    /// Runs everything after the backbone.
    fn predict(&self, features: Features) -> DetrOutput;

    /// Returns the mask logits of some queries of an image, `[K, H/4, W/4]`; `None` without a mask head or queries.
    fn masks(
        &self,
        _features: &MaskFeatures,
        _image: usize,
        _queries: &[usize],
    ) -> Option<Tensor<3>> {
        None
    }

    /// Returns the mask logits of some queries of an image in each of the last layers of the decoder. `queries` has a list
    /// for each, at most [`MaskFeatures::layers`].
    fn masks_of_layers(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[Vec<usize>],
    ) -> Vec<Option<Tensor<3>>> {
        queries.iter().map(|queries| self.masks(features, image, queries)).collect()
    }

    /// Returns the mask logits of all queries of all images, `[B, Q, H/4, W/4]`; `None` without a mask head.
    fn batch_masks(&self, _features: &MaskFeatures) -> Option<Tensor<4>> {
        None
    }

    /// Prepares the encoder's input, for activation checkpointing; `None` if the model always runs as a
    /// whole.
    fn tokenize(&self, _features: Features) -> Option<Encoding> {
        None
    }

    /// Returns the number of encoder layers that [`Network::encode`] knows.
    fn encoder_layers(&self) -> usize {
        0
    }

    /// Returns whether a layer of the encoder drops activations at random.
    fn encoder_drops(&self) -> bool {
        false
    }

    /// Runs one layer of the encoder.
    ///
    /// # Shapes
    /// - output `[B, S, D]`
    fn encode(&self, _layer: usize, encoding: &Encoding) -> Tensor<3> {
        encoding.tokens()
    }

    /// Turns tokens that went through all layers of the encoder into predictions; `None` if the model
    /// always runs as a whole.
    fn decode(&self, _encoding: Encoding) -> Option<DetrOutput> {
        None
    }
}
