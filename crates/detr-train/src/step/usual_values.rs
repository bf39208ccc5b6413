//! The hints at values that work, for settings whose numbers cannot.

use detr_types::RangeError;

/// Adds values that work as a hint, unless the error has one.
pub(crate) fn with_usual_values(error: RangeError) -> RangeError {
    if error.hint.is_some() {
        return error;
    }
    let hint = usual_values(&error.field);
    error.with_hint(hint)
}

/// Returns values that work for a field, which is known by the end of its path.
fn usual_values(field: &str) -> &'static str {
    match field.rsplit('.').next().unwrap_or_default() {
        "lr" => {
            "DETR trains with 1e-4, Deformable DETR with 2e-4, their backbones with a tenth; 0 freezes"
        }
        "lr_factor" => {
            "Deformable DETR's sampling offsets have 0.1; set `lr` or `lr_factor`, not both"
        }
        "weight_decay" => "both references have 1e-4; 0 turns it off",
        "clip_max_norm" => "both references have 0.1; 0 turns clipping off",
        "betas[0]" | "betas[1]" => "AdamW's are 0.9 and 0.999",
        "eps" => "AdamW's is 1e-8",
        "momentum" => "0.9 is usual; 0 turns it off",
        "decay" => "0.9997 and 0.9999 are usual, the larger one for longer training",
        "class" | "bbox" | "giou" | "ce" | "mask" | "dice" => {
            "the references have 1 or 2 for classes, 5 for boxes and 2 for GIoU; 0 turns a term off"
        }
        "gamma" => "0.1 divides the learning rate by ten",
        "milestones" => "for example [40, 50], in the units of `per`",
        "every" => "DETR's rate drops after 200 epochs, Deformable DETR's after 40",
        "length" => "as long as the training for a cosine, some 1000 steps for a warm-up",
        "start_factor" | "min_factor" => "a share of the learning rate, such as 0.001",
        "name" | "patterns" => {
            "a group is { name = \"backbone\", patterns = [\"backbone.0\"], lr = 1e-5 }"
        }
        "epochs" => "DETR trains for 150 to 500 epochs, Deformable DETR for 50",
        "accumulate" => "1 makes a step of every batch",
        "patience" => "10 epochs are usual, the number of validations among them counts",
        "eos_coef" => "DETR's is 0.1",
        "alpha" => "Deformable DETR's is 0.25",
        _ => "leave the key out for its default",
    }
}
