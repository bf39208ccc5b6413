//! Backbones: from pixels to the feature maps C2 to C5. A backbone is a folder here with its
//! configuration, which implements [`BackboneFamily`], and its network; and a line in the list below.

mod families;
mod features;
mod frozen_batch_norm;
pub mod resnet;

use burn::module::Module;
use burn::tensor::Device;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::config::ConfigError;
use crate::flops::BackboneFlops;
use crate::nested::NestedTensor;
use crate::weights::StateDict;
pub(crate) use families::BackboneFamily;
use families::TaggedConfig;
pub use features::{FeatureMap, Features};
pub use frozen_batch_norm::FrozenBatchNorm;
use resnet::{ResNet, ResNetConfig};

/// The kind of a backbone whose configuration does not say it, as in files that were written when there was
/// only one.
const DEFAULT_KIND: &str = "resnet";

/// Makes the configuration, the network and the functions of all backbones from their list.
macro_rules! backbones {
    ($($(#[$doc:meta])+ $name:ident($config:ident)),+ $(,)?) => {
        /// The configuration of a backbone.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum BackboneConfig {
            $($(#[$doc])+ $name($config)),+
        }

        /// A backbone.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)] // one for each model
        #[non_exhaustive]
        pub enum Backbone {
            $($(#[$doc])+ $name($name)),+
        }

        impl BackboneConfig {
            /// Returns the words after `kind`.
            pub(crate) fn kinds() -> impl Iterator<Item = &'static str> {
                [$(<$config as BackboneFamily>::kind()),+].into_iter()
            }

            /// Returns what is particular to the backbone's family.
            pub(crate) fn family(&self) -> &dyn BackboneFamily {
                match self {
                    $(Self::$name(config) => config),+
                }
            }

            fn family_mut(&mut self) -> &mut dyn BackboneFamily {
                match self {
                    $(Self::$name(config) => config),+
                }
            }

            /// Makes a freshly initialised backbone.
            #[must_use]
            pub fn init(&self, device: &Device) -> Backbone {
                match self {
                    $(Self::$name(config) => Backbone::$name($name::new(config, device))),+
                }
            }

            /// Finds the backbone whose tensors have names that start with `prefix`, if there is one.
            pub(crate) fn infer(state: &StateDict, prefix: &str, dilation: bool) -> Option<Self> {
                $(if let Some(config) = <$config>::infer(state, prefix, dilation) {
                    return Some(Self::$name(config));
                })+
                None
            }

            /// Reads a configuration of this kind.
            fn read(kind: &str, value: serde_json::Value) -> Result<Self, String> {
                $(if kind == <$config as BackboneFamily>::kind() {
                    return families::read(value).map(Self::$name);
                })+
                let kinds: Vec<_> = Self::kinds().map(|kind| format!("`{kind}`")).collect();
                Err(format!("kind is `{kind}`, expected {}", kinds.join(" or ")))
            }

            /// Serializes the configuration with its kind, which is left out if it is the default
            /// and `always` is false.
            pub(crate) fn serialize_tagged<S: Serializer>(
                &self,
                serializer: S,
                always: bool,
            ) -> Result<S::Ok, S::Error> {
                match self {
                    $(Self::$name(config) => {
                        let kind = <$config as BackboneFamily>::kind();
                        if always || kind != DEFAULT_KIND {
                            TaggedConfig { kind, config }.serialize(serializer)
                        } else {
                            config.serialize(serializer)
                        }
                    }),+
                }
            }
        }

        impl Backbone {
            /// Computes the four feature maps C2 to C5.
            ///
            /// # Shapes
            /// - input `[B, 3, H, W]`
            /// - outputs `[B, C, H/4, W/4]` to `[B, C, H/32, W/32]`, rounded up; C5 is as large as C4 if
            ///   dilated
            #[must_use]
            pub fn forward(&self, input: &NestedTensor) -> [FeatureMap; 4] {
                match self {
                    $(Self::$name(network) => network.forward(input)),+
                }
            }

            /// Returns the same function for inference, with frozen normalisations folded into the
            /// layers before them.
            #[must_use]
            pub fn fold(self) -> Self {
                match self {
                    $(Self::$name(network) => Self::$name(network.fold())),+
                }
            }
        }

        $(impl From<$config> for BackboneConfig {
            fn from(config: $config) -> Self {
                Self::$name(config)
            }
        })+
    };
}

// The list of all backbones: variant and network, and configuration.
backbones! {
    /// ResNet (He et al. 2016).
    ResNet(ResNetConfig),
}

impl BackboneConfig {
    /// Returns the number of channels of a feature map, 0 for C2 to 3 for C5.
    #[must_use]
    pub fn out_channels(&self, stage: usize) -> usize {
        self.family().out_channels(stage)
    }

    /// Pixels per cell of C2 to C5.
    #[must_use]
    pub fn strides(&self) -> [u32; 4] {
        self.family().strides()
    }

    /// Returns whether the last stage dilates instead of striding (DC5).
    #[must_use]
    pub fn is_dilated(&self) -> bool {
        self.family().is_dilated()
    }

    /// Makes the last stage dilate instead of striding; returns whether it does now.
    pub(crate) fn dilate(&mut self) -> bool {
        self.family_mut().dilate()
    }

    /// Returns the names of the modules that are never trained, within the backbone: the stem and the
    /// first stage.
    #[must_use]
    pub fn frozen(&self) -> &'static [&'static str] {
        self.family().frozen()
    }

    /// Counts the multiply-adds for an image of this height and width.
    pub(crate) fn flops(&self, image: [u64; 2]) -> BackboneFlops {
        self.family().flops(image)
    }

    /// Refuses what cannot be built.
    ///
    /// # Errors
    /// The first field out of range, or some that contradict each other.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.family().validate()
    }
}

impl Serialize for BackboneConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.serialize_tagged(serializer, false)
    }
}

impl<'de> Deserialize<'de> for BackboneConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (kind, value) = families::untag(serde_json::Value::deserialize(deserializer)?)
            .map_err(serde::de::Error::custom)?;
        let kind = kind.unwrap_or_else(|| DEFAULT_KIND.to_owned());
        Self::read(&kind, value).map_err(serde::de::Error::custom)
    }
}

/// The wrapper that gives the backbone's tensors their `body.` prefix in checkpoints (`BackboneBase` of
/// the reference's `models/backbone.py`).
#[derive(Module, Debug)]
pub struct BackboneBase {
    /// The network.
    pub body: Backbone,
}
