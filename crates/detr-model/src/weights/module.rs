//! Between Burn modules and official tensor names. A module's path is the official name, except
//! that Burn calls layer norm's parameters gamma and beta, stores a linear weight transposed, and
//! puts the variant of an enum into the path.

use std::collections::HashMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{DType, FloatDType, Tensor, TensorData};
use rayon::prelude::*;

use super::{Mismatch, StateDict, WeightsError};

/// Lists the official names and shapes of a module's tensors, in the order of its fields.
#[must_use]
pub fn expected_tensors<M: Module>(module: &M) -> Vec<(String, Vec<usize>)> {
    collect_slots(module).into_iter().map(|slot| (slot.name, slot.shape)).collect()
}

/// Fills every parameter of a module from a state dict, in the given precision.
///
/// # Errors
/// Missing, unexpected or misshapen tensors, tensors that are not floating point or not finite,
/// and files that cannot be read. `path` names the file in messages.
pub fn load_into<M: Module>(
    module: M,
    state: &StateDict,
    dtype: FloatDType,
    path: &Path,
) -> Result<M, WeightsError> {
    let slots = collect_slots(&module);
    let mismatch = compare(&slots, state);
    if !mismatch.is_empty() {
        return Err(WeightsError::Mismatch { path: path.to_owned(), mismatch, hint: None });
    }
    let read: Vec<(String, Result<SlotValue, WeightsError>)> = slots
        .into_par_iter()
        .map(|slot| {
            let loaded = read_slot(&slot, state, dtype, path);
            (slot.name, loaded)
        })
        .collect();
    let mut values = HashMap::with_capacity(read.len());
    let mut broken = Vec::new();
    for (name, loaded) in read {
        match loaded? {
            SlotValue::Finite(data) => {
                values.insert(name, data);
            }
            SlotValue::NonFinite => broken.push(name),
        }
    }
    if !broken.is_empty() {
        return Err(WeightsError::NonFinite { path: path.to_owned(), names: broken });
    }
    Ok(module.map(&mut Filler { path: ModulePath::default(), values, dtype: dtype.into() }))
}

/// Casts every parameter of a module to another precision.
///
/// # Errors
/// Numbers that f16 would turn into infinity; a tensor is named as in a checkpoint.
pub(super) fn cast_to<M: Module>(
    module: M,
    dtype: FloatDType,
    path: &Path,
) -> Result<M, WeightsError> {
    match dtype {
        FloatDType::F32 => return Ok(module),
        FloatDType::F16 => {
            let mut peaks = Peaks::default();
            module.visit(&mut peaks);
            let names = peaks.beyond(half::f16::MAX.to_f32());
            if !names.is_empty() {
                return Err(WeightsError::BeyondHalf { path: path.to_owned(), names });
            }
        }
        _ => {}
    }
    Ok(module.map(&mut Caster(dtype)))
}

enum SlotValue {
    Finite(TensorData),
    NonFinite,
}

fn read_slot(
    slot: &Slot,
    state: &StateDict,
    dtype: FloatDType,
    path: &Path,
) -> Result<SlotValue, WeightsError> {
    let missing = || WeightsError::corrupt(path, format_args!("{} vanished", slot.name));
    let stored = state.get(&slot.name).ok_or_else(missing)?;
    if !stored.dtype.is_float() {
        return Err(WeightsError::corrupt(
            path,
            format_args!(
                "{} has element type {:?}, expected floating point",
                slot.name, stored.dtype
            ),
        ));
    }
    let mut values = stored
        .to_f32()
        .map_err(|error| WeightsError::corrupt(path, format_args!("{}: {error}", slot.name)))?;
    if values.len() != stored.elements() {
        let (found, expected) = (values.len(), stored.elements());
        return Err(WeightsError::corrupt(
            path,
            format_args!("{}: {found} of {expected} elements", slot.name),
        ));
    }
    if !all_finite(&values) {
        return Ok(SlotValue::NonFinite);
    }
    let mut shape = slot.shape.clone();
    if slot.transposed {
        values = transpose(&values, shape[0], shape[1]);
        shape.swap(0, 1);
    }
    let data = TensorData::new(values, shape);
    Ok(SlotValue::Finite(match dtype {
        FloatDType::F32 => data,
        other => data.convert_dtype(other.into()),
    }))
}

/// Returns whether no element is NaN or infinite. A branch-free fold over blocks, so it vectorises.
fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values.chunks(4096).all(|block| {
        block.iter().fold(true, |finite, v| finite & (v.to_bits() & EXPONENT != EXPONENT))
    })
}

/// `[rows, columns]` to `[columns, rows]`, in tiles that stay in the cache.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for row in (0..rows).step_by(TILE) {
        for column in (0..columns).step_by(TILE) {
            for c in column..(column + TILE).min(columns) {
                let target = &mut out[c * rows..(c + 1) * rows];
                for r in row..(row + TILE).min(rows) {
                    target[r] = values[r * columns + c];
                }
            }
        }
    }
    out
}

/// A parameter and what it is called in a checkpoint.
struct Slot {
    name: String,
    /// In the checkpoint's layout.
    shape: Vec<usize>,
    /// Whether Burn stores it the other way round.
    transposed: bool,
}

fn collect_slots<M: Module>(module: &M) -> Vec<Slot> {
    let mut collector = Collector::default();
    module.visit(&mut collector);
    collector.slots
}

fn compare(slots: &[Slot], state: &StateDict) -> Mismatch {
    let mut mismatch = Mismatch::default();
    let mut known = std::collections::HashSet::new();
    for slot in slots {
        known.insert(slot.name.as_str());
        match state.get(&slot.name) {
            None => mismatch.missing.push(slot.name.clone()),
            Some(stored) if stored.shape != slot.shape => {
                mismatch.shapes.push((slot.name.clone(), slot.shape.clone(), stored.shape.clone()));
            }
            Some(_) => {}
        }
    }
    mismatch.unexpected = state
        .iter()
        .map(|(name, _)| name)
        .filter(|name| !known.contains(name))
        .map(str::to_owned)
        .collect();
    mismatch
}

/// The current place of a traversal, in official names.
#[derive(Default)]
pub(super) struct ModulePath {
    /// Field and the type it belongs to.
    stack: Vec<(String, String)>,
}

impl ModulePath {
    pub(super) fn enter(&mut self, name: &str, container: &str) {
        self.stack.push((name.to_owned(), container.to_owned()));
    }

    pub(super) fn exit(&mut self) {
        self.stack.pop();
    }

    fn owner(&self) -> &str {
        self.stack.last().map_or("", |(_, container)| container)
    }

    pub(super) fn name(&self) -> String {
        let mut name = String::new();
        for (field, container) in &self.stack {
            if container.starts_with("Enum:") {
                continue;
            }
            if !name.is_empty() {
                name.push('.');
            }
            name.push_str(match (container.as_str(), field.as_str()) {
                ("Struct:LayerNorm" | "Struct:GroupNorm", "gamma") => "weight",
                ("Struct:LayerNorm" | "Struct:GroupNorm", "beta") => "bias",
                (_, field) => field,
            });
        }
        name
    }

    /// Returns whether the parameter here is a linear layer's weight, which Burn stores `[in,
    /// out]`.
    pub(super) fn is_linear_weight(&self) -> bool {
        self.owner() == "Struct:Linear"
            && self.stack.last().is_some_and(|(field, _)| field == "weight")
    }
}

#[derive(Default)]
struct Collector {
    path: ModulePath,
    slots: Vec<Slot>,
}

impl ModuleVisitor for Collector {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut shape = param.lazy_shape().to_vec();
        let transposed = self.path.is_linear_weight();
        if transposed {
            shape.reverse();
        }
        self.slots.push(Slot { name: self.path.name(), shape, transposed });
    }
}

/// The largest magnitude of every parameter, kept on the device so that all are read at once.
#[derive(Default)]
struct Peaks {
    path: ModulePath,
    names: Vec<String>,
    values: Vec<Tensor<1>>,
}

impl Peaks {
    /// Returns the names of the parameters that pass the limit.
    fn beyond(self, limit: f32) -> Vec<String> {
        if self.values.is_empty() {
            return Vec::new();
        }
        let values = Tensor::cat(self.values, 0).into_data().convert::<f32>();
        let values = values.iter::<f32>();
        self.names
            .into_iter()
            .zip(values)
            .filter(|(_, peak)| *peak > limit)
            .map(|(n, _)| n)
            .collect()
    }
}

impl ModuleVisitor for Peaks {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.names.push(self.path.name());
        self.values.push(detr_ops::reduce::max(param.val().abs()));
    }
}

struct Caster(FloatDType);

impl ModuleMapper for Caster {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor.cast(self.0))
    }
}

struct Filler {
    path: ModulePath,
    values: HashMap<String, TensorData>,
    dtype: DType,
}

impl ModuleMapper for Filler {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.exit();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.values.remove(&self.path.name()) {
            Some(data) => {
                let tensor = Tensor::from_data(data, (&param.lazy_device(), self.dtype));
                let id = param.id;
                param.transform_for_load(tensor, id)
            }
            None => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transposing_swaps_rows_and_columns() {
        let values: Vec<f32> = (0u16..37 * 41).map(f32::from).collect();
        let turned = transpose(&values, 37, 41);
        for r in 0..37 {
            for c in 0..41 {
                assert_eq!(turned[c * 37 + r].to_bits(), values[r * 41 + c].to_bits());
            }
        }
    }

    #[test]
    fn a_single_bad_number_is_found() {
        let mut values = vec![f32::MAX; 10_000];
        assert!(all_finite(&values));
        values[9_999] = f32::NEG_INFINITY;
        assert!(!all_finite(&values));
        values[9_999] = f32::NAN;
        assert!(!all_finite(&values));
    }
}
