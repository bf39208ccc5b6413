//! From the word after `--backend` to a device.
//!
//! Architecture invariant: this is the only module outside the tests that makes a `Device`.

mod adapters;
mod error;
mod kinds;
mod quiet;

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;
use detr_model::float_dtype;

pub use self::error::BackendError;
pub use self::kinds::{Backend, DeviceInfo, Purpose, SelectedDevice, precision_parser};
pub use detr_types::Precision;

use self::adapters::Adapter;
use crate::verdicts::Verdicts;

/// Opens a device for predictions: [`select_for`].
///
/// # Errors
/// The errors of [`select_for`].
pub fn select(
    backend: Backend,
    index: usize,
    precision: Precision,
) -> Result<SelectedDevice, BackendError> {
    select_for(Purpose::Prediction, backend, index, precision)
}

/// Opens a device, unless its self-test found that it computes wrongly what the work needs. `Auto` takes the first of
/// CUDA, Metal, Vulkan and wgpu that has a real GPU of that number which computes in the precision, but no OpenGL
/// adapter, and the CPU, which is number 0, otherwise.
///
/// # Errors
/// A backend that is not compiled in, a device that does not exist or does not work, a precision it lacks or gets
/// wrong, or training on an OpenGL adapter that did not pass the self-test.
pub fn select_for(
    purpose: Purpose,
    backend: Backend,
    index: usize,
    precision: Precision,
) -> Result<SelectedDevice, BackendError> {
    let verdicts = Verdicts::of_user();
    let refused = |selected: &SelectedDevice| verdicts.refused_for(purpose, selected, precision);
    if backend == Backend::Auto {
        return select_auto(purpose, index, precision, refused);
    }
    let selected = select_untested(backend, index, precision)?;
    check(&selected, purpose, index, precision)?;
    Ok(selected)
}

/// Checks that the self-test of a device that is open does not refuse a further precision for some work.
///
/// # Errors
/// A precision that the device gets wrong, or an OpenGL adapter that did not pass the self-test of training in it.
pub fn check(
    selected: &SelectedDevice,
    purpose: Purpose,
    index: usize,
    precision: Precision,
) -> Result<(), BackendError> {
    let verdicts = Verdicts::of_user();
    let device = selected.name.clone();
    if let Some(found) = verdicts.refused_for(purpose, selected, precision) {
        return Err(BackendError::Refused { device, precision, purpose, found });
    }
    let untested = selected.opengl && !verdicts.passed(purpose, selected, precision);
    if untested && purpose == Purpose::Training {
        let backend = selected.backend;
        return Err(BackendError::Untested { device, backend, index, precision });
    }
    Ok(())
}

/// Opens a device whatever its self-test found: for the self-test.
///
/// # Errors
/// As [`select`].
pub fn select_untested(
    backend: Backend,
    index: usize,
    precision: Precision,
) -> Result<SelectedDevice, BackendError> {
    if backend == Backend::Auto {
        return select_auto(Purpose::Prediction, index, precision, |_| None);
    }
    let selected = select_one(backend, index)?;
    if !supports(&selected.device, precision) {
        return Err(BackendError::Precision { device: selected.name, precision });
    }
    Ok(selected)
}

/// Lists every device of every backend compiled in.
#[must_use]
pub fn list() -> Vec<DeviceInfo> {
    let mut all = Vec::new();
    for backend in Backend::ALL.into_iter().filter(|backend| backend.is_compiled()) {
        for (index, device) in devices(backend).into_iter().enumerate() {
            let Identity { name, software, adapter } = identity(backend, &device);
            let precisions = [Precision::F32, Precision::F16, Precision::Bf16]
                .into_iter()
                .filter(|precision| supports(&device, *precision))
                .map(|precision| precision.to_string())
                .collect();
            all.push(DeviceInfo {
                backend: backend.to_string(),
                index,
                name,
                software,
                opengl: adapter.is_opengl(),
                api: adapter.api,
                driver: adapter.driver,
                precisions,
            });
        }
    }
    all
}

/// Runs work on a device. Burn reports failures of GPUs (memory, lost device) as panics, often at
/// a later operation; here they become an error. The device must not be used after one.
///
/// # Errors
/// The panic's message.
pub fn catch_device<T>(work: impl FnOnce() -> T) -> Result<T, BackendError> {
    catch_panic(work).map_err(|message| BackendError::Failed { message })
}

/// Returns whether a panic on this thread, now, would be caught and become an error: for the panic
/// hook of a program, which need not report it then.
#[must_use]
pub fn catches_panics() -> bool {
    CATCHING.get()
}

thread_local! {
    static CATCHING: Cell<bool> = const { Cell::new(false) };
}

/// Runs some work and returns its result, or the message of its panic: for decoders of images.
///
/// # Errors
/// The panic's message.
pub fn catch_panic<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = CATCHING.replace(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(before);
    result.map_err(|payload| {
        payload
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_else(|| "unknown reason".to_owned())
    })
}

fn select_auto(
    purpose: Purpose,
    index: usize,
    precision: Precision,
    refused: impl Fn(&SelectedDevice) -> Option<String>,
) -> Result<SelectedDevice, BackendError> {
    let (mut imitation, mut lacking, mut wrong, mut most) = (None, None, None, 0);
    let mut opengl = None;
    for backend in Backend::ALL.into_iter().filter(|backend| backend.is_compiled()) {
        let selected = match select_one(backend, index) {
            Ok(selected) => selected,
            Err(BackendError::NoDevice { found, .. }) => {
                most = most.max(found);
                continue;
            }
            Err(_) => continue,
        };
        let software = identity(backend, &selected.device).software;
        if selected.opengl {
            opengl.get_or_insert(BackendError::OnlyOpenGl { device: selected.name, backend });
        } else if !supports(&selected.device, precision) {
            lacking.get_or_insert(selected.name);
        } else if let Some(found) = refused(&selected) {
            tracing::warn!("{} is passed over: its self-test found {found}", selected.name);
            let device = selected.name;
            wrong.get_or_insert(BackendError::Refused { device, precision, purpose, found });
        } else if software {
            // Slower than the CPU backends and no more exact: only if they cannot be had.
            imitation.get_or_insert(selected);
        } else {
            return Ok(selected);
        }
    }
    imitation.ok_or(match (wrong.or(opengl), lacking) {
        (Some(error), _) => error,
        (None, Some(device)) => BackendError::Precision { device, precision },
        (None, None) => BackendError::NoDevice { backend: Backend::Auto, index, found: most },
    })
}

fn select_one(backend: Backend, index: usize) -> Result<SelectedDevice, BackendError> {
    if !backend.is_compiled() {
        return Err(BackendError::NotCompiled { backend });
    }
    let devices = devices(backend);
    let found = devices.len();
    let device =
        devices.into_iter().nth(index).ok_or(BackendError::NoDevice { backend, index, found })?;
    let Identity { name, adapter, .. } = identity(backend, &device);
    let name = format!("{backend} ({name})");
    let id = match backend {
        // The number of threads changes no result.
        Backend::Flex | Backend::Ndarray => backend.to_string(),
        _ => name.clone(),
    };
    let opengl = adapter.is_opengl();
    Ok(SelectedDevice { backend, device, name, id, driver: adapter.driver, opengl })
}

/// Lists the devices of a backend; none if its driver is missing or fails.
fn devices(backend: Backend) -> Vec<Device> {
    catch_device(|| adapters::guarded(|| enumerate(backend))).unwrap_or_default()
}

#[allow(unused_imports)] // depends on the features
fn enumerate(backend: Backend) -> Vec<Device> {
    use burn::tensor::DeviceType;
    match backend {
        #[cfg(feature = "cuda")]
        Backend::Cuda if has_cuda_driver() => {
            Device::enumerate(DeviceType::Cuda).into_iter().collect()
        }
        #[cfg(feature = "metal")]
        Backend::Metal => Device::enumerate(DeviceType::Metal).into_iter().collect(),
        #[cfg(feature = "vulkan")]
        Backend::Vulkan => Device::enumerate(DeviceType::Vulkan).into_iter().collect(),
        #[cfg(feature = "wgpu")]
        Backend::Wgpu => Device::enumerate(DeviceType::Wgpu).into_iter().collect(),
        #[cfg(feature = "flex")]
        Backend::Flex => vec![Device::flex()],
        #[cfg(feature = "ndarray")]
        #[allow(deprecated)] // kept as an opt-in
        Backend::Ndarray => vec![Device::ndarray()],
        _ => Vec::new(),
    }
}

/// Returns whether NVIDIA's driver library is where the dynamic linker looks. Without it, Burn's
/// CUDA runtime panics in a thread of its own at first use.
#[cfg(feature = "cuda")]
fn has_cuda_driver() -> bool {
    const FOLDERS: [&str; 11] = [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu",
        "/usr/lib/aarch64-linux-gnu/tegra",
        "/usr/lib/aarch64-linux-gnu/nvidia",
        "/usr/lib64",
        "/usr/lib64/nvidia",
        "/usr/lib",
        "/usr/lib/wsl/lib",
        "/usr/local/cuda/compat",
        "/usr/local/nvidia/lib64",
        "/run/opengl-driver/lib",
    ];
    if cfg!(windows) {
        let root =
            std::env::var_os(detr_types::env::SYSTEM_ROOT).unwrap_or_else(|| "C:\\Windows".into());
        return std::path::Path::new(&root).join("System32/nvcuda.dll").exists();
    }
    let from_environment = std::env::var_os(detr_types::env::LD_LIBRARY_PATH).unwrap_or_default();
    std::env::split_paths(&from_environment)
        .chain(FOLDERS.iter().map(std::path::PathBuf::from))
        .any(|folder| folder.join("libcuda.so.1").exists())
}

/// The name of a device, and what is behind it.
struct Identity {
    name: String,
    /// Whether it is software that imitates a GPU.
    software: bool,
    adapter: Adapter,
}

fn identity(backend: Backend, device: &Device) -> Identity {
    let (name, software) = match backend {
        Backend::Flex | Backend::Ndarray => {
            (format!("CPU, {} threads", rayon::current_num_threads()), false)
        }
        #[cfg(any(feature = "wgpu", feature = "cuda"))]
        _ => match catch_device(|| adapters::guarded(|| device.identity())) {
            Ok(Some(identity)) => (identity.name, identity.physical.is_none()),
            _ => (format!("{device:?}"), false),
        },
        #[cfg(not(any(feature = "wgpu", feature = "cuda")))]
        _ => (format!("{device:?}"), false),
    };
    let adapter = catch_device(|| Adapter::behind(backend, &name)).unwrap_or_default();
    Identity { name, software, adapter }
}

fn supports(device: &Device, precision: Precision) -> bool {
    precision == Precision::F32
        || catch_device(|| device.supports_dtype(float_dtype(precision))).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panics_of_devices_become_errors_and_are_known_to_be_caught() {
        let mut caught = false;
        let failed = catch_device(|| {
            let inner = catch_device(|| panic!("inner"));
            caught = catches_panics() && inner.is_err();
            panic!("out of memory: {}", 7)
        });
        assert!(failed.unwrap_err().to_string().contains("out of memory: 7"));
        assert!(caught && !catches_panics());
    }

    #[test]
    fn auto_takes_only_a_device_of_that_number() {
        for precision in [Precision::F32, Precision::Bf16] {
            let error = select(Backend::Auto, 1_000, precision).unwrap_err();
            assert!(matches!(error, BackendError::NoDevice { index: 1_000, .. }), "{error}");
        }
        for precision in [Precision::F32, Precision::F16, Precision::Bf16] {
            match select(Backend::Auto, 0, precision) {
                Ok(selected) => assert!(supports(&selected.device, precision)),
                // Some device is there, and none of those there can.
                Err(error) => assert!(
                    matches!(error, BackendError::Precision { .. } | BackendError::Refused { .. }),
                    "{error}"
                ),
            }
        }
    }
}
