//! The errors of choosing and using a device.

use detr_types::Precision;

use super::kinds::{Backend, Purpose};

/// An error of choosing or using a device.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The feature of the backend is off.
    #[error(
        "backend `{backend}` is not compiled in; this program has {}\nhint: {}",
        compiled_names(),
        how_to_add(*backend)
    )]
    NotCompiled {
        /// The backend asked for.
        backend: Backend,
    },
    /// There is no device of that kind, or not that many.
    #[error(
        "backend `{backend}` has no device {index} on this machine ({found} found)\nhint: `detr devices` lists what is here; --backend auto without --device takes what works"
    )]
    NoDevice {
        /// The backend asked for.
        backend: Backend,
        /// The index asked for.
        index: usize,
        /// The number of devices that there are.
        found: usize,
    },
    /// The device lacks the precision.
    #[error("{device} does not compute in {precision}\nhint: use --dtype f32")]
    Precision {
        /// The device.
        device: String,
        /// The precision asked for.
        precision: Precision,
    },
    /// The device computes wrongly in the precision.
    #[error(
        "{device} does not compute correctly in {precision}{}: its self-test found {found}\nhint: use {}another --backend; `detr self-test` tests again, after an update of the driver",
        if *purpose == Purpose::Training { " what training needs" } else { "" },
        match (purpose, precision) {
            (_, Precision::F32) => "",
            (Purpose::Training, _) => "train.precision = \"f32\" or ",
            (Purpose::Prediction, _) => "--dtype f32 or ",
        }
    )]
    Refused {
        /// The device.
        device: String,
        /// The precision asked for.
        precision: Precision,
        /// The work that it was to do.
        purpose: Purpose,
        /// The numbers of the self-test that were out of bounds.
        found: String,
    },
    /// Nothing but an OpenGL adapter is left for `auto`.
    #[error(
        "--backend auto takes no OpenGL adapter, and {device} is the only device here\nhint: install a Vulkan driver, or name the device: --backend {backend}, after `detr self-test --backend {backend}`"
    )]
    OnlyOpenGl {
        /// The device.
        device: String,
        /// The backend that it belongs to.
        backend: Backend,
    },
    /// Training on an OpenGL adapter that was not tested.
    #[error(
        "{device} is an OpenGL adapter: training on one needs a passed self-test in {precision}\nhint: run `detr self-test --backend {backend}{}`; a Vulkan driver, or --backend flex, is safer",
        if *index == 0 { String::new() } else { format!(" --device {index}") }
    )]
    Untested {
        /// The device.
        device: String,
        /// The backend that it belongs to.
        backend: Backend,
        /// The number of the device.
        index: usize,
        /// The precision asked for.
        precision: Precision,
    },
    /// The device failed at work.
    #[error(
        "the device failed: {message}\nhint: if memory ran out, use a smaller --size or --batch-size; --backend flex runs on the CPU"
    )]
    Failed {
        /// The message of the backend.
        message: String,
    },
}

/// Returns the command that adds a backend to the running program, or the name of the feature if it is another
/// program than ours.
fn how_to_add(backend: Backend) -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let package = match program.file_stem().and_then(|stem| stem.to_str()) {
        Some("detr") => "detr-cli",
        Some("detr-infer") => "detr-infer",
        _ => return format!("turn on the feature `{backend}` of detr-infer"),
    };
    format!("cargo run --release -p {package} --features {backend} -- ...")
}

fn compiled_names() -> String {
    let names: Vec<String> = Backend::ALL
        .into_iter()
        .filter(|backend| backend.is_compiled())
        .map(|backend| backend.to_string())
        .collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}
