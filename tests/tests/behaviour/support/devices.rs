//! The devices of backends, where there are any: a test that goes without one says so.

use std::io::Write as _;

use burn::tensor::Device;
use detr_infer::backend::{Backend, Precision, select};
use detr_types::env;

/// Returns the first device of a backend, or `None` where it is not compiled in or, for wgpu, not there or
/// without the precision. With `DETR_REQUIRE_WGPU` wgpu has to be there.
pub(crate) fn device(backend: Backend, precision: Precision) -> Option<Device> {
    if !backend.is_compiled() {
        return None;
    }
    match select(backend, 0, precision) {
        Ok(selected) => Some(selected.device),
        Err(error) => {
            let required = backend == Backend::Wgpu && precision == Precision::F32;
            assert!(!(required && env::is_on(env::DETR_REQUIRE_WGPU)), "{error}");
            skipped(&error.to_string());
            None
        }
    }
}

/// Says what was not tested. (Not with `println!`, which is not shown where a test passes.)
pub(crate) fn skipped(what: &str) {
    let _ = writeln!(std::io::stderr(), "skipped: {what}");
}
