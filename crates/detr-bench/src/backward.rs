//! `cargo xtask bench backward`: a forward and a backward pass of a model, without matching and losses: the
//! gradient of the sum of all outputs. On a CPU, what it takes in memory bounds the pictures that can
//! be trained on.

use std::time::Instant;

use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use detr_cli::Size;
use detr_infer::backend::catch_device;
use detr_infer::cli::{CliError, Console, open_model};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::recipe_image;
use detr_model::{DeviceError, Model, float_dtype, traffic};

use crate::infer::Input;
use crate::report::{Report, Row, ms};
use crate::sides::{Benchmark, Flags};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    input: Input,
}

impl Benchmark for Args {
    fn measure(&self, flags: &Flags, console: &Console) -> Result<Report, CliError> {
        let [runs, warmup] = [flags.runs.unwrap_or(3), flags.warmup.unwrap_or(1)];
        let input = &self.input;
        let selected = input.select(console)?;
        let device = selected.device.clone().autodiff();
        let checkpoint = open_model(&input.model, &input.load, console, || Ok(device.clone()))?;
        let model = catch_device(|| checkpoint.load(&device, float_dtype(input.device.dtype)))??;
        drop(checkpoint);
        let (mut forward, mut backward) = (Vec::new(), Vec::new());
        for run in 0..warmup.saturating_add(runs) {
            let times = catch_device(|| pass(&model, input, &device))?
                .map_err(|error| CliError::Failed(error.message))?;
            if run >= warmup {
                forward.push(times[0]);
                backward.push(times[1]);
            }
        }
        let rows =
            vec![Row::of_runs("forward", "ms", forward), Row::of_runs("backward", "ms", backward)];
        Ok(Report::new(input.facts(&selected, runs), rows))
    }
}

/// Returns the milliseconds of a forward and of a backward pass.
fn pass(model: &Model, input: &Input, device: &Device) -> Result<[f64; 2], DeviceError> {
    let Size(size) = input.size;
    let [b, h, w] = [input.batch_size, size.height, size.width].map(|side| side as usize);
    let pixels = (1..=u64::from(input.batch_size)).flat_map(|seed| recipe_image(seed, h, w));
    let pixels = TensorData::new(pixels.collect::<Vec<f32>>(), [b, 3, h, w]);
    let pixels: Tensor<4> = Tensor::from_data(pixels, (device, DType::F32));
    let wait = || traffic::wait(device);
    wait()?;
    let start = Instant::now();
    let output = model.forward(NestedTensor { pixels, padding: Padding::None });
    let mut sum = output.pred_logits.cast(FloatDType::F32).sum() + output.pred_boxes.sum();
    if let Some(encoder) = output.enc_outputs {
        sum = sum + encoder.pred_logits.cast(FloatDType::F32).sum() + encoder.pred_boxes.sum();
    }
    wait()?;
    let forward = ms(start.elapsed());
    let start = Instant::now();
    drop(sum.backward());
    wait()?;
    Ok([forward, ms(start.elapsed())])
}
