//! `detr export --check`: the file computed by this program's evaluator of ONNX, beside the model.

use detr_export::{Batch, Difference, Evaluator, OnnxFile, Reference, noise};
use detr_infer::cli::CliError;

use super::refused;

/// The most that logits of classes and masks, and boxes, may differ in a file that rounds nothing.
const LOGITS: f32 = 1e-4;
const BOXES: f32 = 1e-5;

/// Computes a file and its model on noise, and returns what there is to say.
///
/// # Errors
/// The outputs of a file that rounds nothing, which `is_exact` says, are not those of the model; or they are no numbers.
pub(super) fn check(
    reference: &Reference<'_>,
    file: &OnnxFile,
    is_exact: bool,
) -> Result<Vec<String>, CliError> {
    let evaluator = Evaluator::new(&file.bytes, reference.device).map_err(refused)?;
    let batches = match reference.options.batch {
        Batch::Any => vec![1, 2],
        Batch::Fixed(images) => vec![images],
    };
    let mut lines = Vec::new();
    for images in batches {
        let pixels = noise(images, reference.options.size, reference.options);
        let found = reference.compare(&evaluator, &pixels, images).map_err(refused)?;
        let words = found.iter().map(|difference| {
            format!("{} differ by at most {:.1e}", difference.name, difference.largest)
        });
        let words = words.collect::<Vec<_>>().join(", ");
        if let Some(wrong) = found.iter().find(|difference| !is_near(difference, is_exact)) {
            return Err(CliError::Failed(format!(
                "the exported file computes other {} than the model, for {images} images of noise: {words}\n\
                 hint: nothing was written; please report it with the name of the model",
                wrong.name
            )));
        }
        lines.push(format!("checked with {images} images of noise: {words}"));
    }
    Ok(lines)
}

fn is_near(difference: &Difference, is_exact: bool) -> bool {
    let most = if difference.name == "pred_boxes" { BOXES } else { LOGITS };
    if is_exact { difference.largest <= most } else { difference.largest.is_finite() }
}
