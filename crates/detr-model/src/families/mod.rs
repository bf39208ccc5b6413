//! The families of models. A family is a folder here, with its configuration, which implements
//! [`Family`], and its model, which implements [`Network`]; and a line in the list below. Everything else
//! asks [`ModelConfig`] and [`Model`].

pub mod deformable_detr;
pub mod detr;
pub mod detr_demo;
mod family;
mod hugging_face;
mod recipe;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use detr_types::ImageSize;
use serde::{Deserialize, Serialize};

use crate::backbone::{BackboneConfig, Features};
use crate::config::{ConfigError, keyed};
use crate::encoding::Encoding;
use crate::flops::Flops;
use crate::nested::NestedTensor;
use crate::output::{DetrOutput, MaskFeatures};
use crate::postprocess::ScoreActivation;
use crate::weights::{SharedHeads, StateDict, TrainingArgs, WeightsError};
use deformable_detr::{DeformableDetr, DeformableDetrConfig};
use detr::{Detr, DetrConfig};
use detr_demo::{DetrDemo, DetrDemoConfig};
pub(crate) use family::Published;
use family::{Family, Network};
pub(crate) use hugging_face::HuggingFaceNames;
pub use recipe::{LearningRate, ParameterGroup, TrainingRecipe};

/// Makes the configuration, the model and the functions of all families from their list.
macro_rules! families {
    ($($(#[$doc:meta])+ $name:ident($config:ident)),+ $(,)?) => {
        /// The configuration of a model: what `configs/models/*.toml` and a model card's `architecture`
        /// hold. Every number of a published model lives in its preset, not in code.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        #[non_exhaustive]
        pub enum ModelConfig {
            $($(#[$doc])+ $name($config)),+
        }

        /// A model of any family.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)] // one for each process, moved once
        #[non_exhaustive]
        pub enum Model {
            $($(#[$doc])+ $name($name)),+
        }

        impl ModelConfig {
            /// Makes a freshly initialised model.
            #[must_use]
            pub fn init(&self, device: &Device) -> Model {
                match self {
                    $(Self::$name(config) => Model::$name(config.init(device))),+
                }
            }

            /// Returns what is particular to the model's family.
            fn family(&self) -> &dyn Family {
                match self {
                    $(Self::$name(config) => config),+
                }
            }

            fn family_mut(&mut self) -> &mut dyn Family {
                match self {
                    $(Self::$name(config) => config),+
                }
            }

            /// Returns the names and texts of the presets in `configs/models/`.
            fn preset_texts() -> impl Iterator<Item = (&'static str, &'static str)> {
                [$(<$config as Family>::presets()),+].into_iter().flatten().copied()
            }

            /// Reads a table of this kind.
            fn read(kind: Option<&toml::Value>, table: toml::Table) -> Result<Self, ConfigError> {
                let word = kind.and_then(toml::Value::as_str);
                $(if word == Some(<$config as Family>::kind()) {
                    return keyed(table).map(Self::$name);
                })+
                let kinds = [$(<$config as Family>::kind()),+];
                Err(ConfigError::unknown_kind(kind, &kinds))
            }

            /// Finds the model that tensors with official names belong to: `None` if they are of no known
            /// family; otherwise its configuration, or what is wrong with the tensors.
            pub(crate) fn infer(
                state: &StateDict,
                args: TrainingArgs,
            ) -> Option<Result<Self, String>> {
                $(if let Some(found) = <$config>::infer(state, args) {
                    return Some(found.map(Self::$name));
                })+
                None
            }

            /// Lists the names of the families that Hugging Face's transformers have, too.
            pub(crate) fn hugging_face() -> Vec<HuggingFaceNames> {
                [$(<$config>::hugging_face()),+].into_iter().flatten().collect()
            }

            /// Reads the configuration of a folder of Hugging Face's transformers; `None` if no family has
            /// this `model_type`.
            pub(crate) fn read_hugging_face(
                model_type: &str,
                folder: &Path,
                state: StateDict,
                args: TrainingArgs,
            ) -> Option<Result<(Self, StateDict), WeightsError>> {
                $(if <$config>::hugging_face().is_some_and(|names| names.has(model_type)) {
                    let read = <$config>::read_hugging_face(folder, state, args);
                    return Some(read.map(|(config, state)| (Self::$name(config), state)));
                })+
                None
            }
        }

        impl Model {
            fn network(&self) -> &dyn Network {
                match self {
                    $(Self::$name(model) => model),+
                }
            }

            /// Returns the same function for inference, with batch norms folded into the convolutions
            /// before them.
            #[must_use]
            pub fn fold(self) -> Self {
                match self {
                    $(Self::$name(model) => Self::$name(model.fold())),+
                }
            }
        }

        $(impl From<$config> for ModelConfig {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        })+
    };
}

// The list of all families: variant and model, and configuration.
families! {
    /// DETR (Carion et al. 2020), `models/detr.py`.
    Detr(DetrConfig),
    /// Deformable DETR (Zhu et al. 2021), `models/deformable_detr.py`.
    DeformableDetr(DeformableDetrConfig),
    /// The 50-line demonstration model of the DETR paper's appendix.
    DetrDemo(DetrDemoConfig),
}

impl ModelConfig {
    /// Returns the names of the built-in presets.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        Self::preset_texts().map(|(name, _)| name)
    }

    /// Returns a built-in preset by name.
    ///
    /// # Errors
    /// An unknown name.
    pub fn preset(name: &str) -> Result<Self, ConfigError> {
        let text = Self::preset_texts().find(|(preset, _)| *preset == name);
        let (_, text) = text.ok_or_else(|| {
            let presets = Self::presets().collect::<Vec<_>>().join(", ");
            ConfigError::UnknownPreset { name: name.to_owned(), presets }
        })?;
        Self::from_toml(text)
    }

    /// Reads and checks a TOML text such as those in `configs/models/`.
    ///
    /// # Errors
    /// Bad syntax (with line and column), unknown, missing or mistyped keys, or numbers that cannot
    /// work.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let mut table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError::Syntax(error.to_string()))?;
        // Serde forgets the key of what is wrong inside an enum, so the kind is chosen here.
        let kind = table.remove("kind");
        let config = Self::read(kind.as_ref(), table)?;
        config.validate()?;
        Ok(config)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or two that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.family().validate()
    }

    /// Returns the number of labels of the class head, without the no-object class.
    #[must_use]
    pub fn num_classes(&self) -> usize {
        self.family().num_classes()
    }

    /// Returns whether the model makes masks.
    #[must_use]
    pub fn has_masks(&self) -> bool {
        self.family().has_masks()
    }

    /// Returns the beginnings of the names of all parameters outside the mask head. No name of the mask head contains
    /// one of them.
    #[must_use]
    pub fn detector_parts(&self) -> Vec<&'static str> {
        self.family().detector_parts()
    }

    /// Returns the number of attention heads.
    #[must_use]
    pub fn nheads(&self) -> usize {
        self.family().nheads()
    }

    /// Returns the same architecture for other classes or another number of queries.
    #[must_use]
    pub fn with_sizes(mut self, num_classes: usize, num_queries: Option<usize>) -> Self {
        let (classes, queries) = self.family_mut().sizes_mut();
        *classes = num_classes;
        *queries = num_queries.unwrap_or(*queries);
        self
    }

    /// Returns the backbone.
    #[must_use]
    pub fn backbone(&self) -> &BackboneConfig {
        self.family().backbone()
    }

    /// Makes the last stage of the backbone dilate, where such models were published; returns whether it
    /// does now.
    pub(crate) fn dilate(&mut self) -> bool {
        self.family_mut().dilate()
    }

    /// Returns the beginning of the names of the backbone's tensors.
    pub(crate) fn backbone_prefix(&self) -> &'static str {
        self.family().backbone_prefix()
    }

    /// Returns the function that turns logits into scores.
    #[must_use]
    pub fn activation(&self) -> ScoreActivation {
        self.family().activation()
    }

    /// Returns the largest side of an input image in pixels, where a table of positions sets one.
    #[must_use]
    pub fn max_image_side(&self) -> Option<u32> {
        self.family().max_image_side()
    }

    /// Returns whether the model can tell the padding of a batch from its images.
    #[must_use]
    pub fn knows_padding(&self) -> bool {
        self.family().knows_padding()
    }

    /// Counts the operations on a batch of images that all have this size, padding included.
    #[must_use]
    pub fn flops(&self, batch: u32, size: ImageSize) -> Flops {
        let image = [u64::from(size.height), u64::from(size.width)];
        let multiply_adds = self.family().flops(&self.backbone().flops(image));
        multiply_adds.times(2 * u64::from(batch))
    }

    /// Returns the numbers that the reference trains the model with.
    #[must_use]
    pub fn training_recipe(&self) -> TrainingRecipe {
        self.family().training_recipe()
    }

    /// Heads that the reference lists more than once in its checkpoints, if there are any.
    pub(crate) fn shared_heads(&self) -> Option<SharedHeads> {
        self.family().shared_heads()
    }

    /// Describes the model in a few words, with an article.
    pub(crate) fn describe(&self) -> String {
        self.family().describe()
    }

    /// Returns what was published with weights of exactly these sizes and stands in no tensor, where that is not
    /// COCO's.
    pub(crate) fn published(&self) -> Option<Published> {
        self.family().published()
    }

    /// Lists what was assumed when the configuration was inferred.
    pub(crate) fn assumptions(&self, args: TrainingArgs) -> Vec<String> {
        self.family().assumptions(args)
    }
}

impl Model {
    /// Turns images into predictions. Only two-stage models read anything back to the host on the way.
    ///
    /// # Shapes
    /// - input `[B, 3, H, W]` with its mask
    /// - outputs `[layers, B, Q, C]` (DETR: C + 1) and `[layers, B, Q, 4]`
    #[must_use]
    pub fn forward(&self, input: NestedTensor) -> DetrOutput {
        self.transform(self.extract(input))
    }

    /// Runs the backbone: the first half of [`Model::forward`], for those who time it.
    #[must_use]
    pub fn extract(&self, input: NestedTensor) -> Features {
        self.network().extract(input)
    }

    /// Runs the transformer and the heads: the second half of [`Model::forward`].
    #[must_use]
    pub fn transform(&self, features: Features) -> DetrOutput {
        self.network().predict(features)
    }

    /// Returns the mask logits of some queries of an image; `None` without a mask head or queries. The features are
    /// those of this model's output. Under exact padding a mask is that of the image alone.
    ///
    /// # Shapes
    /// - output `[K, H/4, W/4]`, rounded up; H and W are those of the padded batch, or of the image under exact padding
    #[must_use]
    pub fn masks(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[usize],
    ) -> Option<Tensor<3>> {
        self.network().masks(features, image, queries)
    }

    /// Returns the mask logits of some queries of an image in each of the last layers of the decoder, for training.
    /// `queries` has a list for each of these layers, at most [`MaskFeatures::layers`].
    ///
    /// # Shapes
    /// - output `[K, H/4, W/4]` for each layer; `None` without a mask head or queries
    #[must_use]
    pub fn masks_of_layers(
        &self,
        features: &MaskFeatures,
        image: usize,
        queries: &[Vec<usize>],
    ) -> Vec<Option<Tensor<3>>> {
        self.network().masks_of_layers(features, image, queries)
    }

    /// Returns the mask logits of all queries of all images at once, for exports; `None` without a mask head. It takes
    /// much more memory than [`Model::masks`], and the images must fill the batch.
    ///
    /// # Shapes
    /// - output `[B, Q, H/4, W/4]`, rounded up
    #[must_use]
    pub fn batch_masks(&self, features: &MaskFeatures) -> Option<Tensor<4>> {
        self.network().batch_masks(features)
    }

    /// Prepares the encoder's input, for activation checkpointing; `None` for the demonstration model,
    /// which is small and always runs as a whole, and for models with a mask head, which looks at the backbone's maps.
    #[must_use]
    pub fn tokenize(&self, features: Features) -> Option<Encoding> {
        self.network().tokenize(features)
    }

    /// Returns the number of encoder layers that [`Model::encode`] knows.
    #[must_use]
    pub fn encoder_layers(&self) -> usize {
        self.network().encoder_layers()
    }

    /// Returns whether a layer of the encoder drops activations at random.
    #[must_use]
    pub fn encoder_drops(&self) -> bool {
        self.network().encoder_drops()
    }

    /// Runs one layer of the encoder on an encoding that this model made, and returns the tokens after it.
    ///
    /// # Shapes
    /// - output `[B, S, D]`
    ///
    /// # Panics
    /// There is no such layer, or the encoding is of a model of another family.
    #[must_use]
    pub fn encode(&self, layer: usize, encoding: &Encoding) -> Tensor<3> {
        self.network().encode(layer, encoding)
    }

    /// Turns tokens that went through all layers of the encoder into predictions; `None` where
    /// [`Model::tokenize`] gives `None`.
    ///
    /// # Panics
    /// The encoding is of a model of another family.
    #[must_use]
    pub fn decode(&self, encoding: Encoding) -> Option<DetrOutput> {
        self.network().decode(encoding)
    }
}

#[cfg(test)]
mod tests;
