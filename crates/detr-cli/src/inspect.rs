//! `detr models inspect`: what a model file or folder is, without building the model.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write;

use clap::Args;
use detr_infer::cli::{
    CliError, Console, LoadArgs, escaped, host_device, open_model, print, print_json,
};
use detr_model::weights::{Architecture, CARD_FILE, Checkpoint, ElementType, Provenance};
use detr_types::{ClassTable, PreprocessSpec};
use serde::Serialize;

/// Flags of `detr models inspect`.
#[derive(Args)]
pub(crate) struct InspectArgs {
    /// A .pth or .safetensors file, a model folder, a remote name, or recipe:PRESET
    #[arg(value_name = "PATH|NAME")]
    model: OsString,

    #[command(flatten)]
    load: LoadArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,

    /// List the tensors with their types and shapes
    #[arg(long)]
    tensors: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    path: String,
    format: &'static str,
    /// Not a detector, only the first part of one.
    backbone_only: bool,
    architecture: &'a Architecture,
    /// Numbers in all tensors, buffers of frozen norms included.
    parameters: usize,
    tensors: usize,
    /// Names of an artifact, which repeats tensors that layers share as the reference does.
    names: usize,
    /// Tensors by element type.
    dtypes: BTreeMap<&'static str, usize>,
    classes: Option<&'a ClassTable>,
    preprocess: &'a PreprocessSpec,
    sha256: Option<String>,
    provenance: Option<&'a Provenance>,
    notes: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_list: Option<Vec<Tensor<'a>>>,
}

#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
}

pub(crate) fn run(args: &InspectArgs, console: &Console) -> Result<(), CliError> {
    let checkpoint = open_model(&args.model, &args.load, console, host_device)?;
    let report = report(&checkpoint, args.tensors);
    check_hash(&checkpoint, &report)?;
    if args.json { print_json(&report) } else { print(&escaped(&text(&report)?)) }
}

/// Checks that the weights of an artifact are those that its card describes.
fn check_hash(checkpoint: &Checkpoint, report: &Report<'_>) -> Result<(), CliError> {
    let (Some(card), Some(found)) = (&checkpoint.card, &report.sha256) else { return Ok(()) };
    let stated = &card.weights.sha256;
    if found == stated {
        return Ok(());
    }
    let path = checkpoint.weights_file().unwrap_or(&checkpoint.path);
    Err(CliError::Model(format!(
        "{}: its SHA-256 is {found}, but {CARD_FILE} says {stated}\n\
         hint: the file is damaged or was replaced; convert or copy the model again",
        path.display()
    )))
}

fn report(checkpoint: &Checkpoint, with_tensors: bool) -> Report<'_> {
    let mut dtypes = BTreeMap::new();
    for (_, tensor) in checkpoint.state.iter() {
        *dtypes.entry(dtype_name(tensor.dtype)).or_insert(0) += 1;
    }
    let tensor_list = with_tensors.then(|| {
        let tensors = checkpoint.state.iter();
        tensors
            .map(|(name, tensor)| Tensor {
                name,
                dtype: dtype_name(tensor.dtype),
                shape: &tensor.shape,
            })
            .collect()
    });
    Report {
        path: checkpoint.path.display().to_string(),
        format: checkpoint.format.name(),
        backbone_only: checkpoint.architecture.model().is_none(),
        architecture: &checkpoint.architecture,
        parameters: checkpoint.state.elements(),
        tensors: checkpoint.state.len(),
        names: checkpoint.listed().len(),
        dtypes,
        classes: checkpoint.classes.as_ref(),
        preprocess: &checkpoint.preprocess,
        sha256: checkpoint.sha256(),
        provenance: checkpoint.card.as_ref().map(|card| &card.provenance),
        notes: &checkpoint.notes,
        tensor_list,
    }
}

fn text(report: &Report<'_>) -> Result<String, CliError> {
    let mut text = String::new();
    let mut row = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<12} {value}");
    };
    row("path", &report.path);
    row("format", report.format);
    if report.backbone_only {
        row("use", "a backbone alone: it detects nothing, but training can start from it");
    }
    if let Some(from) = report.provenance {
        row("made from", &format!("{} ({})", from.source, from.source_format));
    }
    row("sha256", report.sha256.as_deref().unwrap_or("none, made in memory"));
    let dtypes: Vec<String> =
        report.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}")).collect();
    let shared = if report.names == report.tensors {
        String::new()
    } else {
        format!(", under {} names in PyTorch", report.names)
    };
    row("tensors", &format!("{} ({}){shared}", report.tensors, dtypes.join(", ")));
    row("parameters", &format!("{} (with the buffers of frozen norms)", report.parameters));
    if let Some(classes) = report.classes {
        let names: Vec<&str> = classes.categories().map(|class| class.name.as_str()).collect();
        let first = names.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let more = if names.len() > 5 { ", ..." } else { "" };
        row("classes", &format!("{} in {} slots: {first}{more}", names.len(), classes.len()));
    }
    let spec = report.preprocess;
    row("images", &spec.to_string());
    row("normalise", &format!("mean {:?}, std {:?}", spec.mean, spec.std));
    for note in report.notes {
        row("note", note);
    }
    let toml = toml::to_string(report.architecture)
        .map_err(|error| CliError::Failed(format!("architecture: {error}")))?;
    let reads = if report.backbone_only { "" } else { ", as --arch reads it" };
    let _ = writeln!(text, "\n# architecture{reads}\n{}", toml.trim_end());
    if let Some(tensors) = &report.tensor_list {
        text.push('\n');
        for tensor in tensors {
            let _ = writeln!(text, "{:<4} {} {:?}", tensor.dtype, tensor.name, tensor.shape);
        }
    }
    Ok(text)
}

const fn dtype_name(dtype: ElementType) -> &'static str {
    match dtype {
        ElementType::Bool => "bool",
        ElementType::U8 => "u8",
        ElementType::I8 => "i8",
        ElementType::I16 => "i16",
        ElementType::I32 => "i32",
        ElementType::I64 => "i64",
        ElementType::F16 => "f16",
        ElementType::BF16 => "bf16",
        ElementType::F32 => "f32",
        ElementType::F64 => "f64",
    }
}
