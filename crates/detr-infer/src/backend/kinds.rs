//! The words for backends and precisions, and the device that they lead to.

use std::fmt;

use burn::tensor::Device;
use clap::ValueEnum;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use detr_types::Precision;

/// A backend, which runs the model on a kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// The best of the others that works on this machine.
    Auto,
    /// NVIDIA GPUs.
    Cuda,
    /// Apple GPUs.
    Metal,
    /// Any GPU with Vulkan, kernels in SPIR-V.
    Vulkan,
    /// Any GPU with Vulkan, Metal or DX12, kernels in WGSL.
    Wgpu,
    /// The CPU.
    Flex,
    /// The CPU; deprecated in favour of flex.
    Ndarray,
}

/// A device that works.
#[derive(Clone, Debug)]
pub struct SelectedDevice {
    /// The backend, never `Auto`.
    pub backend: Backend,
    /// The device.
    pub device: Device,
    /// The backend and the name of the device, for people.
    pub name: String,
    /// The backend and the adapter, the same in every run on this machine.
    pub id: String,
    /// The driver and its version, where they are known.
    pub driver: Option<String>,
    /// Whether it is an OpenGL adapter.
    pub opengl: bool,
}

/// The work that a device is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Predictions.
    Prediction,
    /// Training, which needs all that predictions need, and more.
    Training,
}

impl Purpose {
    /// Returns the word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prediction => "prediction",
            Self::Training => "training",
        }
    }
}

/// The facts that `detr devices` prints about one device.
#[derive(Clone, Debug, serde::Serialize)]
pub struct DeviceInfo {
    /// The word for `--backend`.
    pub backend: String,
    /// The number for `--device`.
    pub index: usize,
    /// The name of the adapter.
    pub name: String,
    /// Whether it is a program that imitates a GPU.
    pub software: bool,
    /// The graphics API that reaches it: `vulkan`, `metal`, `dx12` or `gl`; none where there is none.
    pub api: Option<String>,
    /// Whether that is OpenGL, whose drivers often compute wrongly: `auto` never takes such a device, and training
    /// on it needs a passed self-test.
    pub opengl: bool,
    /// The driver and its version, where they are known.
    pub driver: Option<String>,
    /// The precisions it computes in.
    pub precisions: Vec<String>,
}

impl Backend {
    /// All concrete backends, the best first.
    pub const ALL: [Self; 6] =
        [Self::Cuda, Self::Metal, Self::Vulkan, Self::Wgpu, Self::Flex, Self::Ndarray];

    /// Returns whether the program was built with this backend.
    #[must_use]
    pub const fn is_compiled(self) -> bool {
        match self {
            Self::Auto => true,
            Self::Cuda => cfg!(feature = "cuda"),
            Self::Metal => cfg!(feature = "metal"),
            Self::Vulkan => cfg!(feature = "vulkan"),
            Self::Wgpu => cfg!(feature = "wgpu"),
            Self::Flex => cfg!(feature = "flex"),
            Self::Ndarray => cfg!(feature = "ndarray"),
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// Reads the word after `--dtype`.
#[must_use]
pub fn precision_parser() -> impl TypedValueParser<Value = Precision> {
    let word = |precision: Precision, help| PossibleValue::new(precision.name()).help(help);
    PossibleValuesParser::new([
        word(Precision::F32, "Single precision"),
        word(Precision::F16, "Half precision"),
        word(Precision::Bf16, "Brain float"),
    ])
    .try_map(|word| word.parse::<Precision>())
}
