//! Training: the parts against numbers by hand, what a step promises, and runs of the binary.

mod burn_loop;
mod devices;
mod frozen;
mod listeners;
mod masks;
mod memory;
mod parts;
mod precision;
mod ranks;
mod resume;
mod small;
mod start;
mod steps;
mod stops;
mod trouble;
mod validation;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use detr_loss::{Target, Targets};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::{Checkpoint, StateDict, read_parameters, recipe_image, recipe_value};
use detr_model::{Model, ModelConfig};
use detr_train::{MicroBatch, Outcome, StepConfig, StepReport, Trainer};

/// Side of the images.
const SIDE: usize = 64;

/// Describes a DETR that is as small as `deformable-detr-tiny`.
fn detr() -> ModelConfig {
    let ModelConfig::Detr(mut config) = ModelConfig::preset("detr-r18").unwrap() else {
        unreachable!()
    };
    let deformable = ModelConfig::preset("deformable-detr-tiny").unwrap();
    let ModelConfig::DeformableDetr(tiny) = deformable else { unreachable!() };
    config.backbone = tiny.backbone;
    (config.hidden_dim, config.nheads, config.dim_feedforward) = (64, 4, 128);
    (config.enc_layers, config.dec_layers, config.num_queries) = (1, 2, 20);
    (config.num_classes, config.dropout) = (5, 0.0);
    ModelConfig::Detr(config)
}

fn deformable() -> ModelConfig {
    let preset = ModelConfig::preset("deformable-detr-tiny").unwrap();
    let ModelConfig::DeformableDetr(mut config) = preset else { unreachable!() };
    (config.num_classes, config.num_queries) = (5, 20);
    ModelConfig::DeformableDetr(config)
}

fn model(config: &ModelConfig) -> Model {
    let device = Device::flex().autodiff();
    Checkpoint::recipe(config, 7, &device).load(&device, FloatDType::F32).unwrap()
}

fn trainer(config: &ModelConfig, change: impl FnOnce(&mut StepConfig)) -> Trainer {
    let mut settings = StepConfig::for_model(config);
    change(&mut settings);
    Trainer::new(model(config), &settings).unwrap()
}

/// Makes a batch as [`batch_on`] does, on the CPU.
fn batch(seed: u64, objects: &[usize]) -> MicroBatch {
    batch_on(&Device::flex().autodiff(), seed, objects)
}

/// Makes recipe images with these many objects each.
#[allow(clippy::cast_possible_truncation)] // any numbers will do
fn batch_on(device: &Device, seed: u64, objects: &[usize]) -> MicroBatch {
    let pixels: Vec<f32> =
        (0..objects.len() as u64).flat_map(|i| recipe_image(seed + i, SIDE, SIDE)).collect();
    let pixels = TensorData::new(pixels, [objects.len(), 3, SIDE, SIDE]);
    let targets = objects.iter().zip(0..).map(|(&n, image)| {
        let number = |i: usize| recipe_value("box", seed + image, i as u64) as f32;
        Target {
            labels: (0..n).map(|i| i % 5).collect(),
            boxes: (0..n)
                .map(|i| {
                    let side = |k: usize| [0.5, 0.5, 0.3, 0.3][k] + 0.15 * number(4 * i + k);
                    std::array::from_fn(side).into()
                })
                .collect(),
            masks: None,
        }
    });
    let targets = Targets::new(targets.collect(), 5, device).unwrap();
    let images = NestedTensor { pixels: Tensor::from_data(pixels, device), padding: Padding::None };
    MicroBatch { images, targets }
}

fn parameters(trainer: &Trainer) -> StateDict {
    read_parameters(trainer.model()).unwrap()
}

fn updated(outcome: Outcome) -> StepReport {
    match outcome {
        Outcome::Updated(report) => report,
        Outcome::Skipped(reason) => panic!("{reason}"),
        Outcome::Overflowed { .. } => panic!("the loss scale of f16"),
    }
}

/// Returns whether two state dicts have the same bits under the same names.
fn same(a: &StateDict, b: &StateDict) -> bool {
    a.len() == b.len()
        && a.iter().zip(b.iter()).all(|((name, one), (other, two))| {
            name == other && one.shape == two.shape && one.bytes().unwrap() == two.bytes().unwrap()
        })
}

/// Replaces one element of a parameter.
struct Poke {
    /// Position of the parameter.
    at: usize,
    next: usize,
    value: f32,
}

impl ModuleMapper for Poke {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.next += 1;
        if self.next - 1 != self.at {
            return param;
        }
        param.map(|tensor| {
            let (shape, device) = (tensor.dims(), tensor.device());
            let mut values: Vec<f32> = tensor.into_data().try_into_vec().unwrap();
            values[0] = self.value;
            Tensor::from_data(TensorData::new(values, shape), &device).require_grad()
        })
    }
}

/// Replaces one element of a parameter of a model.
fn poked(model: Model, name: &str, value: f32) -> Model {
    let names = detr_model::weights::named_parameters(&model);
    let at = names.iter().position(|parameter| parameter.name == name).unwrap();
    model.map(&mut Poke { at, next: 0, value })
}
