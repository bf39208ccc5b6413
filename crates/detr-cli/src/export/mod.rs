//! `detr export`: a model as an ONNX file.

mod check;
mod int8;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use burn::tensor::FloatDType;
use clap::{Args, ValueEnum};
use detr_export::{
    Batch, ExportError, ExportOptions, MsdaLowering, Normalisation, OnnxFile, OnnxGraph, Reference,
    deepstream,
};
use detr_infer::backend::catch_device;
use detr_infer::cli::{CliError, Console, LoadArgs, host_device, open_model, print};
use detr_model::postprocess::ScoreActivation;
use detr_model::weights::Checkpoint;
use detr_types::fs::atomic_write;
use detr_types::{ClassTable, ImageSize};

/// Flags of `detr export`.
#[derive(Args)]
#[allow(clippy::struct_excessive_bools)] // flags
pub(crate) struct ExportArgs {
    /// A .pth or .safetensors file, a model folder, a remote name, or recipe:PRESET
    #[arg(value_name = "MODEL")]
    model: OsString,

    #[command(flatten)]
    load: LoadArgs,

    /// File to write
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,

    /// Write over a file that exists
    #[arg(long)]
    force: bool,

    /// Images of a call; -1 for any number
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    batch_size: i64,

    /// Height of the images in pixels; by default what the model resizes a square to
    #[arg(long, value_name = "PIXELS")]
    height: Option<u32>,

    /// Width of the images in pixels; by default what the model resizes a square to
    #[arg(long, value_name = "PIXELS")]
    width: Option<u32>,

    /// Version of ONNX's operators, 16 to 20
    #[arg(long, value_name = "VERSION", default_value_t = 17)]
    opset: i64,

    /// The form in which deformable attention is written
    #[arg(long, value_enum, default_value_t = Msda::Gather)]
    msda: Msda,

    /// Append scores, labels and boxes in pixels of the input
    #[arg(long)]
    with_postprocess: bool,

    /// Take RGB from 0 to 255 and normalise in the graph
    #[arg(long)]
    normalise_in_graph: bool,

    /// Compute convolutions and products of matrices in half precision; the file is half as large
    #[arg(long)]
    fp16: bool,

    #[command(flatten)]
    int8: int8::Int8Args,

    /// Compute the written file and compare its outputs with the model's, before it gets its name
    #[arg(long)]
    check: bool,

    /// Write labels.txt and the configuration for DeepStream beside the model
    #[arg(long)]
    deepstream: bool,
}

/// The words after `--msda`.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Msda {
    /// By index, right in every engine
    Gather,
    /// GridSample, in fewer nodes; some versions of TensorRT compile it wrongly
    GridSample,
    /// One node of TensorRT's plugin; only TensorRT runs it
    Plugin,
}

impl From<Msda> for MsdaLowering {
    fn from(word: Msda) -> Self {
        match word {
            Msda::Gather => Self::Gather,
            Msda::GridSample => Self::GridSample,
            Msda::Plugin => Self::Plugin,
        }
    }
}

/// The names that TAO gives the files of `DeepStream`.
const LABELS: &str = "labels.txt";
const CONFIG: &str = "nvdsinfer_config.yaml";

pub(crate) fn run(args: &ExportArgs, console: &Console) -> Result<(), CliError> {
    let batch = Batch::from_number(args.batch_size).map_err(|error| usage(&error))?;
    let command = with_ending(&args.output, ".trtexec.txt");
    check_output(&args.output, args.force)?;
    let mut beside = vec![command.clone()];
    if args.deepstream {
        beside.extend([LABELS, CONFIG].map(|name| args.output.with_file_name(name)));
    }
    for path in &beside {
        check_output(path, args.force)?;
    }
    let checkpoint = open_model(&args.model, &args.load, console, host_device)?;
    let options = ExportOptions {
        batch,
        opset: args.opset,
        msda: args.msda.into(),
        postprocess: args.with_postprocess,
        fp16: args.fp16,
        normalise: args.normalise_in_graph.then(|| normalisation(&checkpoint)),
        ..ExportOptions::new(size(args, &checkpoint)?)
    };
    let texts =
        if args.deepstream { deepstream_files(args, &checkpoint, &options)? } else { vec![] };
    let calibration = int8::Calibration::open(&args.int8, &args.output, args.force, &checkpoint)?;
    let made = make(args, &checkpoint, &options, calibration, console)?;
    write(&args.output, &made.file.bytes)?;
    write(&command, deepstream::trtexec(&file_name(&args.output), &options).as_bytes())?;
    for (name, text) in texts {
        write(&args.output.with_file_name(name), text.as_bytes())?;
    }
    for line in &made.checks {
        console.note(line);
    }
    console.note(&summary(&made.file, &args.output));
    print(&made.table)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), CliError> {
    atomic_write(path, |writer| writer.write_all(bytes))
        .map_err(|error| CliError::Failed(format!("{}: {error}", path.display())))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Returns the files of `DeepStream` by name. Its parser for TAO's models takes sigmoids of all classes.
fn deepstream_files(
    args: &ExportArgs,
    checkpoint: &Checkpoint,
    options: &ExportOptions,
) -> Result<Vec<(&'static str, String)>, CliError> {
    let config = checkpoint.config()?;
    if config.activation() == ScoreActivation::Softmax {
        return Err(CliError::Usage(
            "--deepstream: the scores of this model are a softmax, and TAO's parser takes sigmoids\n\
             hint: export without --deepstream and parse pred_logits in the application, or take a Deformable DETR"
                .to_owned(),
        ));
    }
    let classes =
        checkpoint.classes.clone().unwrap_or_else(|| ClassTable::numbered(config.num_classes()));
    let normalisation = (!args.normalise_in_graph).then(|| normalisation(checkpoint));
    let name = file_name(&args.output);
    let text =
        deepstream::nvdsinfer_config(&name, LABELS, classes.len(), options.size, normalisation);
    Ok(vec![(LABELS, deepstream::labels(&classes)), (CONFIG, text)])
}

const fn normalisation(checkpoint: &Checkpoint) -> Normalisation {
    Normalisation { mean: checkpoint.preprocess.mean, std: checkpoint.preprocess.std }
}

/// A file, and what there is to say about it.
struct Made {
    file: OnnxFile,
    /// The table of the layers of an INT8 file.
    table: String,
    checks: Vec<String>,
}

fn make(
    args: &ExportArgs,
    checkpoint: &Checkpoint,
    options: &ExportOptions,
    calibration: Option<int8::Calibration>,
    console: &Console,
) -> Result<Made, CliError> {
    let config = checkpoint.config()?;
    let device = host_device()?;
    catch_device(|| {
        let model = checkpoint.load_for_inference(&device, FloatDType::F32)?;
        let graph = OnnxGraph::record(&model, &config, options, &device).map_err(refused)?;
        let whole = graph.file().map_err(refused)?;
        let (file, table) = match calibration {
            Some(calibration) => calibration.quantise(graph, &whole, options, &device, console)?,
            None => (whole, String::new()),
        };
        let mut checks = Vec::new();
        if args.check {
            let reference = Reference { model: &model, options, device: &device };
            checks = check::check(&reference, &file, !args.fp16 && !args.int8.int8)?;
        }
        Ok(Made { file, table, checks })
    })?
}

/// Returns the error of the command: flags that cannot work, or work that failed.
fn refused(error: ExportError) -> CliError {
    match error {
        ExportError::Opset { .. } | ExportError::Batch { .. } | ExportError::Size { .. } => {
            usage(&error)
        }
        error => CliError::Failed(error.to_string()),
    }
}

fn usage(error: &ExportError) -> CliError {
    CliError::Usage(error.to_string())
}

/// Nothing of the user's is written over by accident.
fn check_output(path: &Path, force: bool) -> Result<(), CliError> {
    let usage = |reason: &str| Err(CliError::Usage(format!("{}: {reason}", path.display())));
    if path.is_dir() {
        return usage("is a folder\nhint: name the file to write, such as model.onnx");
    }
    if path.exists() && !force {
        return usage("the file exists\nhint: --force writes over it");
    }
    Ok(())
}

/// Returns the size of the images: that of the flags, or else the one that the model's own resizing makes of a
/// square image.
fn size(args: &ExportArgs, checkpoint: &Checkpoint) -> Result<ImageSize, CliError> {
    let spec = &checkpoint.preprocess;
    let own = spec.target_size(ImageSize::new(spec.shortest_edge, spec.shortest_edge));
    match (args.height, args.width) {
        (Some(height), Some(width)) => Ok(ImageSize::new(height, width)),
        (None, None) => Ok(own),
        _ => Err(CliError::Usage(
            "--height and --width go together\nhint: give both, or neither".to_owned(),
        )),
    }
}

fn summary(file: &OnnxFile, path: &Path) -> String {
    let nodes: usize = file.nodes.values().sum();
    let ports = |ports: &[detr_export::Port]| {
        let ports = ports.iter().map(|port| format!("{} [{}]", port.name, port.dims.join(", ")));
        ports.collect::<Vec<_>>().join(", ")
    };
    format!(
        "wrote {nodes} nodes and {} parameters, {} bytes, to {}\ninput {}; outputs {}",
        file.parameters,
        file.bytes.len(),
        path.display(),
        ports(std::slice::from_ref(&file.input)),
        ports(&file.outputs),
    )
}
