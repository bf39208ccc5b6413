//! The work that is asked of a device: kernels that are launched, and times that the host waits to
//! read.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::{DType, Device, TensorData, Transaction};

/// A device that failed. It must not be used afterwards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device failed: {message}")]
pub struct DeviceError {
    /// The message of Burn.
    pub message: String,
}

impl DeviceError {
    /// Makes an error of one of Burn's.
    #[must_use]
    pub fn new(error: &dyn Debug) -> Self {
        Self { message: format!("{error:?}") }
    }
}

/// The number of reads of the whole process.
static READS: AtomicUsize = AtomicUsize::new(0);

/// Reads tensors. All reads go through here, so that [`watch`] counts them.
///
/// # Errors
/// The device failed, now or in an operation before.
pub fn read(tensors: Transaction) -> Result<Vec<TensorData>, DeviceError> {
    READS.fetch_add(1, Ordering::Relaxed);
    tensors.try_execute().map_err(|error| DeviceError::new(&error))
}

/// Reads tensors of any floating point type as f32, each row by row.
///
/// # Errors
/// The errors of [`read`].
pub fn read_f32(tensors: Transaction) -> Result<Vec<Vec<f32>>, DeviceError> {
    let vector = |data: TensorData| data.convert_dtype(DType::F32).try_into_vec::<f32>();
    let vectors = read(tensors)?.into_iter().map(vector);
    vectors.collect::<Result<_, _>>().map_err(|error| DeviceError::new(&error))
}

/// Waits until a device has done all its work.
///
/// # Errors
/// The errors of [`read`].
pub fn wait(device: &Device) -> Result<(), DeviceError> {
    device.sync().map_err(|error| DeviceError::new(&error))
}

/// Counts of the work that was asked of devices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Calls of [`read`].
    pub reads: usize,
    /// The number of launches of each kernel by name; empty on the CPU.
    pub launches: BTreeMap<String, usize>,
}

impl Traffic {
    /// Returns the number of all launches.
    #[must_use]
    pub fn launched(&self) -> usize {
        self.launches.values().sum()
    }
}

/// Counts what the whole process asks of devices while `work` runs.
pub fn watch<T>(work: impl FnOnce() -> T) -> (T, Traffic) {
    let before = READS.load(Ordering::Relaxed);
    let (done, launches) = launches::watch(work);
    (done, Traffic { reads: READS.load(Ordering::Relaxed) - before, launches })
}

#[cfg(feature = "cube")]
mod launches {
    use std::collections::BTreeMap;
    use std::sync::{Arc, Mutex, PoisonError};

    use cubecl::logging::{LaunchObservation, LaunchObserver};

    #[derive(Default)]
    struct Counts(Mutex<BTreeMap<&'static str, usize>>);

    impl LaunchObserver for Counts {
        fn launched(&self, kernel: &'static str) {
            let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *counts.entry(kernel).or_default() += 1;
        }
    }

    pub(super) fn watch<T>(work: impl FnOnce() -> T) -> (T, BTreeMap<String, usize>) {
        let counts = Arc::new(Counts::default());
        let observation = LaunchObservation::new(counts.clone());
        let done = work();
        drop(observation);
        let counts = std::mem::take(&mut *counts.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut launches = BTreeMap::new();
        for (kernel, count) in counts {
            *launches.entry(short(kernel)).or_default() += count;
        }
        (done, launches)
    }

    /// Returns a type's name without its path and parameters.
    fn short(kernel: &str) -> String {
        let bare = kernel.split('<').next().unwrap_or(kernel);
        bare.rsplit("::").next().unwrap_or(bare).to_owned()
    }
}

#[cfg(not(feature = "cube"))]
mod launches {
    use std::collections::BTreeMap;

    pub(super) fn watch<T>(work: impl FnOnce() -> T) -> (T, BTreeMap<String, usize>) {
        (work(), BTreeMap::new())
    }
}
