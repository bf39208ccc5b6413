//! A golden case: its files, and the comparison with what the code computed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::{Bool, DType, Device, FloatDType, Tensor, TensorData};
use detr_model::nested::{NestedTensor, Padding};
use detr_model::weights::{
    StateDict, expected_tensors, load_into, recipe_image, recipe_state_dict,
};
use detr_types::env;
use libtest_mimic::Failed;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

/// The pages that list tensors use this relative tolerance on top of the absolute one.
const RTOL: f64 = 1e-4;

/// A case as stored.
pub struct Case {
    /// Folder of the group.
    pub folder: PathBuf,
    /// Name of the case.
    pub name: String,
    /// The json file.
    pub json: Value,
    /// Numbers by name.
    pub tensors: BTreeMap<String, Stored>,
}

/// Numbers of a case, whatever their type.
pub struct Stored {
    /// Shape.
    pub shape: Vec<usize>,
    /// Elements; every type used is exact in f64, except i64 beyond 2^53.
    pub values: Vec<f64>,
}

/// The comparisons of a case, and the differences found.
#[derive(Default)]
pub struct Failures {
    seen: BTreeSet<String>,
    lines: Vec<String>,
    excess: f64,
    /// The group has a runner, but not for this case.
    pub unhandled: bool,
}

/// Finds every case below a folder: `GROUP/NAME.json`, or checkpoints with expected tensors.
pub fn discover(folder: &Path) -> Vec<PathBuf> {
    let mut cases = Vec::new();
    let mut pending = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = pending.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.flatten().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && (depth == 0 || name == "names") {
                pending.push((path, depth + 1));
            } else if depth > 0
                && (has_extension(&path, "json") || name.ends_with(".expected.safetensors"))
            {
                cases.push(path);
            }
        }
    }
    cases.sort();
    cases
}

/// Returns whether a file has that extension, whatever its case.
pub fn has_extension(path: &Path, expected: &str) -> bool {
    path.extension().is_some_and(|found| found.eq_ignore_ascii_case(expected))
}

/// Returns the group and name of a case file.
pub fn names(path: &Path) -> (String, String) {
    let text =
        |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let parent = path.parent().unwrap_or(path);
    let name = text(path.file_name()).replace(".json", "").replace(".safetensors", "");
    match text(parent.file_name()).as_str() {
        "names" => (text(parent.parent().and_then(Path::file_name)), format!("names.{name}")),
        group => (group.to_owned(), name),
    }
}

/// Returns whether a case says that it is small enough for a software GPU in every run of the
/// tests.
pub fn is_quick(path: &Path) -> bool {
    let text = std::fs::read(path).unwrap_or_default();
    has_extension(path, "json")
        && serde_json::from_slice::<Value>(&text).is_ok_and(|json| json["quick"] == true)
}

impl Case {
    /// Reads a case.
    pub fn load(path: &Path) -> Result<Self, Failed> {
        let (_, name) = names(path);
        let json = match has_extension(path, "json") {
            true => serde_json::from_slice(&std::fs::read(path)?)?,
            false => Value::Null,
        };
        let tensors = path.with_extension("safetensors");
        let tensors = if tensors.exists() { read_tensors(&tensors)? } else { BTreeMap::new() };
        let folder = path.parent().unwrap_or(path).to_owned();
        Ok(Self { folder, name, json, tensors })
    }

    /// Returns a setting of the case.
    pub fn config(&self, key: &str) -> &Value {
        &self.json["config"][key]
    }

    /// Returns a setting that is a number.
    pub fn number(&self, key: &str) -> usize {
        usize::try_from(self.config(key).as_u64().unwrap_or_else(|| panic!("config.{key}")))
            .expect("a size")
    }

    /// Loads the recipe weights of the case into a module; `prefix` stands before its names there.
    pub fn recipe_weights<M: Module>(&self, module: M, prefix: &str) -> M {
        let state = self.recipe_state(&module, prefix);
        self.load_weights(module, &state)
    }

    /// Returns the recipe weights of a module, by its own names.
    pub fn recipe_state<M: Module>(&self, module: &M, prefix: &str) -> StateDict {
        let seed = self.number("weight_seed") as u64;
        let expected: Vec<_> = expected_tensors(module)
            .into_iter()
            .map(|(name, shape)| (format!("{prefix}{name}"), shape))
            .collect();
        recipe_state_dict(&expected, seed)
            .rename(|name| name.strip_prefix(prefix).map(str::to_owned))
    }

    /// Loads weights that are made for a module into it.
    pub fn load_weights<M: Module>(&self, module: M, state: &StateDict) -> M {
        load_into(module, state, FloatDType::F32, &self.folder).expect("recipe weights fit")
    }

    /// Pads the case's recipe images to a batch.
    pub fn images(&self, device: &Device) -> NestedTensor {
        let list = |key: &str| self.config(key).as_array().expect("a list").clone();
        let seeds: Vec<u64> = list("image_seeds").iter().filter_map(Value::as_u64).collect();
        let sizes: Vec<[usize; 2]> = list("sizes")
            .iter()
            .map(|size| serde_json::from_value(size.clone()).expect("height and width"))
            .collect();
        batch(&seeds, &sizes, device)
    }

    /// Returns the tolerance of a tensor on the CPU; exact if the case states none.
    pub fn atol(&self, tensor: &str) -> f64 {
        self.json["tensors"][tensor]["atol"].as_f64().unwrap_or(0.0)
    }

    /// Returns whether the case has numbers of that name, all or a sample of them.
    pub fn has(&self, tensor: &str) -> bool {
        self.shape(tensor).is_some()
    }

    /// Returns the shape of a tensor of the case, whether it has all its numbers or a sample of
    /// them.
    pub fn shape(&self, tensor: &str) -> Option<Vec<usize>> {
        let whole = self.tensors.get(tensor).map(|stored| stored.shape.clone());
        whole.or_else(|| {
            let sides = &self.tensors.get(&format!("{tensor}.shape"))?.values;
            Some(sides.iter().map(|&side| index(side)).collect())
        })
    }

    /// Returns the names of the tensors that start with a prefix, without it.
    pub fn after<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.tensors.keys().filter_map(move |name| name.strip_prefix(prefix))
    }

    /// Returns whether the case says how exact a tensor must be.
    pub fn states_atol(&self, tensor: &str) -> bool {
        self.json["tensors"][tensor]["atol"].is_f64()
    }
}

/// Pads recipe images at right and bottom to a common size.
pub fn batch(seeds: &[u64], sizes: &[[usize; 2]], device: &Device) -> NestedTensor {
    let height = sizes.iter().map(|size| size[0]).max().unwrap_or(0);
    let width = sizes.iter().map(|size| size[1]).max().unwrap_or(0);
    let mut pixels = Vec::with_capacity(seeds.len() * 3 * height * width);
    let mut mask = Vec::with_capacity(seeds.len() * height * width);
    for (&seed, &[h, w]) in seeds.iter().zip(sizes) {
        let image = recipe_image(seed, h, w);
        for plane in image.chunks_exact(h * w) {
            for row in plane.chunks_exact(w) {
                pixels.extend_from_slice(row);
                pixels.extend(std::iter::repeat_n(0.0, width - w));
            }
            pixels.extend(std::iter::repeat_n(0.0, (height - h) * width));
        }
        for y in 0..height {
            mask.extend((0..width).map(|x| y >= h || x >= w));
        }
    }
    let b = seeds.len();
    let padded = mask.contains(&true);
    let mask = || Tensor::<3, Bool>::from_data(TensorData::new(mask, [b, height, width]), device);
    let padding = if padded { Padding::Mask(mask()) } else { Padding::None };
    let pixels = TensorData::new(pixels, [b, 3, height, width]);
    NestedTensor { pixels: Tensor::from_data(pixels, (device, DType::F32)), padding }
}

impl Failures {
    /// Compares a float tensor with the case's tensor of that name.
    pub fn tensor<const D: usize>(
        &mut self,
        case: &Case,
        slack: f64,
        name: &str,
        found: Tensor<D>,
    ) {
        let shape = found.dims().to_vec();
        let values: Vec<f32> =
            found.into_data().convert_dtype(DType::F32).try_into_vec().expect("f32 data");
        let values: Vec<f64> = values.into_iter().map(f64::from).collect();
        self.values(case, slack, name, &shape, &values);
    }

    /// Compares a mask, true = 1; `None` stands for all false.
    pub fn mask<const D: usize>(
        &mut self,
        case: &Case,
        name: &str,
        found: Option<Tensor<D, Bool>>,
    ) {
        let Some(found) = found else {
            let Some(shape) = case.shape(name) else { return };
            let zeros = vec![0.0; shape.iter().product()];
            return self.values(case, 1.0, name, &shape, &zeros);
        };
        let shape = found.dims().to_vec();
        let values: Vec<f64> =
            found.into_data().iter::<bool>().map(|set| f64::from(u8::from(set))).collect();
        self.values(case, 1.0, name, &shape, &values);
    }

    /// Compares numbers, stored in full or sampled, and their statistics.
    pub fn values(&mut self, case: &Case, slack: f64, name: &str, shape: &[usize], found: &[f64]) {
        let atol = case.atol(name) * slack;
        self.values_within(case, atol, name, shape, found);
    }

    /// Compares as [`Failures::values`] does, with an absolute tolerance of the caller's.
    pub fn values_within(
        &mut self,
        case: &Case,
        atol: f64,
        name: &str,
        shape: &[usize],
        found: &[f64],
    ) {
        // The others are the same numbers with all digits of the f64 run.
        for suffix in ["", "_f64", "_ref_f64", ".ref_f64"] {
            self.stored(case, atol, &format!("{name}{suffix}"), shape, found);
        }
    }

    fn stored(&mut self, case: &Case, atol: f64, name: &str, shape: &[usize], found: &[f64]) {
        let rtol = if atol > 0.0 { RTOL } else { 0.0 };
        if let Some(stored) = case.tensors.get(name) {
            self.seen.insert(name.to_owned());
            if stored.shape != shape {
                return self.fail(format!("{name}: shape {shape:?}, expected {:?}", stored.shape));
            }
            return self.close(name, found, &stored.values, |_| atol, rtol);
        }
        let part = |suffix: &str| case.tensors.get(&format!("{name}.{suffix}"));
        // Cases keep what they like; whatever they do keep and no runner asks for fails at the end.
        let (Some(idx), Some(val), Some(dims)) = (part("idx"), part("val"), part("shape")) else {
            return;
        };
        for suffix in ["idx", "val", "shape", "stats"] {
            self.seen.insert(format!("{name}.{suffix}"));
        }
        let dims: Vec<usize> = dims.values.iter().map(|&side| index(side)).collect();
        if dims != shape {
            return self.fail(format!("{name}: shape {shape:?}, expected {dims:?}"));
        }
        let picked: Vec<f64> = idx.values.iter().map(|&i| found[index(i)]).collect();
        self.close(name, &picked, &val.values, |_| atol, rtol);
        if let Some(stats) = part("stats") {
            let count = found.len() as f64;
            // Mean, deviation, minimum, maximum; then sums over all elements.
            let tolerance = |i: usize| if i < 4 { atol } else { count * atol };
            let label = format!("{name}.stats");
            self.close(&label, &statistics(found), &stats.values, tolerance, rtol.max(1e-6));
        }
    }

    /// Returns the result of a runner that does not know the case.
    pub fn unhandled() -> Self {
        Self { unhandled: true, ..Self::default() }
    }

    /// Marks a tensor as an input, or as compared by the caller.
    pub fn used(&mut self, name: &str) {
        self.seen.insert(name.to_owned());
    }

    /// Notes a difference.
    pub fn fail(&mut self, line: String) {
        self.excess += 1.0;
        self.lines.push(line);
    }

    /// Returns the number of differences that were noted.
    pub fn count(&self) -> usize {
        self.lines.len()
    }

    /// Returns the differences that were noted.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// Returns the sum of all differences that were noted, each in multiples of what was allowed.
    pub fn excess(&self) -> f64 {
        self.excess
    }

    /// Compares one element of a tensor of the case, without marking it as compared.
    pub fn element(&mut self, case: &Case, slack: f64, name: &str, at: usize, found: f64) {
        let Some(stored) = case.tensors.get(name) else { return };
        let Some(&expected) = stored.values.get(at) else {
            return self.fail(format!("{name}: nothing to compare element {at} with"));
        };
        let (label, atol) = (format!("{name}[{at}]"), case.atol(name) * slack);
        self.close(&label, &[found], &[expected], |_| atol, RTOL);
    }

    /// Notes a difference unless the condition holds.
    pub fn check(&mut self, ok: bool, line: impl FnOnce() -> String) {
        if !ok {
            self.fail(line());
        }
    }

    /// Succeeds only if nothing differs and every tensor of the case was compared or an input.
    pub fn into_result(mut self, case: &Case) -> Result<(), Failed> {
        if !case.tensors.is_empty() && self.seen.is_empty() {
            self.lines.push("none of the case's tensors was compared".to_owned());
        }
        for name in case.tensors.keys() {
            if !self.seen.contains(name) {
                self.lines.push(format!("{name}: not compared by the runner of this group"));
            }
        }
        if self.lines.is_empty() { Ok(()) } else { Err(self.lines.join("\n").into()) }
    }

    fn close(
        &mut self,
        name: &str,
        found: &[f64],
        expected: &[f64],
        atol: impl Fn(usize) -> f64,
        rtol: f64,
    ) {
        let mut worst: Option<(f64, usize)> = None;
        let mut count = 0;
        let mut largest = 0f64;
        for (i, (&a, &b)) in found.iter().zip(expected).enumerate() {
            if (a.is_nan() && b.is_nan()) || a.total_cmp(&b).is_eq() {
                continue;
            }
            let difference = (a - b).abs();
            largest = largest.max(difference);
            let allowed = atol(i) + rtol * b.abs();
            let excess = difference - allowed;
            if excess.is_nan() || excess > 0.0 {
                count += 1;
                self.excess += (difference / allowed).min(1e6);
                if worst.is_none_or(|(worst, _)| excess > worst || excess.is_nan()) {
                    worst = Some((excess, i));
                }
            }
        }
        if env::is_on(env::DETR_GOLDEN_VERBOSE) {
            eprintln!("{name}: largest difference {largest:.3e}, atol {:.3e}", atol(0));
        }
        if let Some((_, i)) = worst {
            self.fail(format!(
                "{name}: {count} of {} differ; worst at {i}: {} expected {} (difference {:.3e}, atol {:.3e})",
                found.len(), found[i], expected[i], (found[i] - expected[i]).abs(), atol(i)
            ));
        }
    }
}

/// Returns a stored index or side.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // written as integers
pub fn index(value: f64) -> usize {
    value as usize
}

#[allow(clippy::cast_precision_loss)] // counts are small
fn statistics(values: &[f64]) -> Vec<f64> {
    let n = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let mean = sum / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
    let min = values.iter().copied().fold(f64::INFINITY, f64::min);
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    vec![mean, variance.sqrt(), min, max, values.iter().map(|v| v.abs()).sum(), sum]
}

/// Reads all tensors of a safetensors file.
pub fn read_tensors(path: &Path) -> Result<BTreeMap<String, Stored>, Failed> {
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let values = decode(view.data(), view.dtype());
        let values = values.ok_or_else(|| Failed::from(format!("{name}: {:?}", view.dtype())))?;
        tensors.insert(name, Stored { shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}

#[allow(clippy::cast_precision_loss)] // integers in the cases are small
fn decode(bytes: &[u8], dtype: Dtype) -> Option<Vec<f64>> {
    fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
        bytes.as_chunks::<N>().0.iter().map(|chunk| f(*chunk)).collect()
    }
    Some(match dtype {
        Dtype::BOOL | Dtype::U8 => each::<1>(bytes, |[b]| f64::from(b)),
        Dtype::I32 => each::<4>(bytes, |b| f64::from(i32::from_le_bytes(b))),
        Dtype::I64 => each::<8>(bytes, |b| i64::from_le_bytes(b) as f64),
        Dtype::F16 => each::<2>(bytes, |b| half::f16::from_le_bytes(b).to_f64()),
        Dtype::BF16 => each::<2>(bytes, |b| half::bf16::from_le_bytes(b).to_f64()),
        Dtype::F32 => each::<4>(bytes, |b| f64::from(f32::from_le_bytes(b))),
        Dtype::F64 => each::<8>(bytes, f64::from_le_bytes),
        _ => return None,
    })
}
