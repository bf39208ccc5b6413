//! Precisions as Burn knows them.

use burn::tensor::FloatDType;
use detr_types::Precision;

/// Returns Burn's type of a precision.
#[must_use]
pub const fn float_dtype(precision: Precision) -> FloatDType {
    match precision {
        Precision::F32 => FloatDType::F32,
        Precision::Bf16 => FloatDType::BF16,
        Precision::F16 => FloatDType::F16,
    }
}
