//! The graphics API and the driver behind a device, which Burn does not tell.

use std::sync::{Mutex, PoisonError};

use super::Backend;
use super::quiet::without_desktop_messages;

/// The graphics API and the driver behind a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Adapter {
    /// `vulkan`, `metal`, `dx12` or `gl`; none where no graphics API is in between.
    pub(super) api: Option<String>,
    /// The driver and its version, where they are known.
    pub(super) driver: Option<String>,
}

impl Adapter {
    pub(super) fn is_opengl(&self) -> bool {
        self.api.as_deref() == Some("gl")
    }

    /// Returns the adapter behind the device of a backend that has this name.
    #[cfg_attr(not(feature = "wgpu"), allow(unused_variables))]
    pub(super) fn behind(backend: Backend, name: &str) -> Self {
        match backend {
            Backend::Cuda => Self { api: None, driver: nvidia_driver() },
            #[cfg(feature = "wgpu")]
            Backend::Metal | Backend::Vulkan | Backend::Wgpu => {
                guarded(|| through_graphics(backend, name))
            }
            _ => Self::default(),
        }
    }
}

/// Runs work that loads drivers or asks them for devices. Vulkan's loader crashes where threads do so at a time.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> T {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    without_desktop_messages(work)
}

/// Returns the version of NVIDIA's kernel driver.
fn nvidia_driver() -> Option<String> {
    let text = std::fs::read_to_string("/proc/driver/nvidia/version").ok()?;
    text.lines().next().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Asks the graphics API that the backend uses for its adapters, and takes those of this name. There may be several,
/// all with one driver, as a rule.
#[cfg(feature = "wgpu")]
fn through_graphics(backend: Backend, name: &str) -> Adapter {
    use burn::backend::wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
    use burn::backend::wgpu::wgpu;

    let api = match backend {
        Backend::Metal => wgpu::Backend::Metal,
        Backend::Vulkan => wgpu::Backend::Vulkan,
        _ => AutoGraphicsApi::backend(),
    };
    let descriptor = wgpu::InstanceDescriptor {
        backends: api.into(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor);
    let adapters = ready(instance.enumerate_adapters(api.into())).unwrap_or_default();
    let mut drivers: Vec<String> = adapters
        .iter()
        .map(wgpu::Adapter::get_info)
        .filter(|info| info.name == name)
        .map(|info| format!("{} {}", info.driver, info.driver_info).trim().to_owned())
        .filter(|driver| !driver.is_empty())
        .collect();
    drivers.sort();
    drivers.dedup();
    let driver = if drivers.is_empty() { None } else { Some(drivers.join(" / ")) };
    Adapter { api: Some(api.to_str().to_owned()), driver }
}

/// Returns the result of a future that waits for nothing, as those of native drivers do.
#[cfg(feature = "wgpu")]
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    use std::task::{Context, Poll, Waker};

    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
