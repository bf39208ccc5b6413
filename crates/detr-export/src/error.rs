//! The reasons for which an export is refused.

/// A model or a setting that no file can be made of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// A version of ONNX's operators that is not written.
    #[error("opset {found}: expected {} to {}\nhint: TensorRT 8.6 and later, and ONNX Runtime 1.12 and later, read opset 17", crate::OPSETS.start(), crate::OPSETS.end())]
    Opset {
        /// The version that was asked for.
        found: i64,
    },
    /// A batch without images.
    #[error("a batch of {found} images: expected at least 1, or -1 for any number")]
    Batch {
        /// The number of images.
        found: i64,
    },
    /// An image size that the model cannot take.
    #[error("images of {height}x{width}: {reason}")]
    Size {
        /// Height in pixels.
        height: u32,
        /// Width in pixels.
        width: u32,
        /// The fault.
        reason: String,
    },
    /// An operation of the model that has no line in the table of operators.
    #[error(
        "operation {operation} has no ONNX counterpart in this program\nhint: this is a fault of the program; please report it with the name of the model"
    )]
    Operation {
        /// The operation by Burn's name.
        operation: String,
    },
    /// An operation that changes with the number of images in more than its shapes.
    #[error(
        "operation {operation} depends on the number of images\nhint: export with a fixed --batch-size"
    )]
    BatchDependent {
        /// The operation by Burn's name.
        operation: String,
    },
    /// The model could not be recorded.
    #[error("the model cannot be recorded: {reason}")]
    Capture {
        /// The message of Burn.
        reason: String,
    },
    /// A file that protobuf cannot hold.
    #[error(
        "the file would have {bytes} bytes, and ONNX files end at {}\nhint: export a smaller image size, where fewer positions are stored, or --fp16",
        crate::MAX_BYTES
    )]
    TooLarge {
        /// The bytes of the file.
        bytes: usize,
    },
    /// Ranges of activations that belong to another graph.
    #[error(
        "the ranges of activations are those of another model\nhint: calibrate again, with the model and flags of this export"
    )]
    Ranges,
    /// The file is not what was meant; nothing is written then.
    #[error(
        "the exported graph contradicts itself: {reason}\nhint: this is a fault of the program; please report it with the name of the model"
    )]
    Check {
        /// The node or value, and what is wrong with it.
        reason: String,
    },
}
