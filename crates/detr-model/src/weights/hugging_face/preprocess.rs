//! `preprocessor_config.json` of a Hugging Face folder: how images become input.

use std::path::Path;

use detr_types::PreprocessSpec;
use serde::Deserialize;

use super::super::WeightsError;
use super::super::folder::read_json;

#[derive(Deserialize)]
struct Preprocessor {
    #[serde(default)]
    size: Option<SizeField>,
    #[serde(default)]
    max_size: Option<u32>,
    #[serde(default)]
    image_mean: Option<[f32; 3]>,
    #[serde(default)]
    image_std: Option<[f32; 3]>,
    #[serde(default)]
    do_resize: Option<bool>,
    #[serde(default)]
    do_rescale: Option<bool>,
    #[serde(default)]
    do_normalize: Option<bool>,
    #[serde(default)]
    rescale_factor: Option<f64>,
}

/// Old files give the short side alone.
#[derive(Deserialize)]
#[serde(untagged)]
enum SizeField {
    Short(u32),
    Edges { shortest_edge: u32, longest_edge: u32 },
}

/// What the folder says, or the published models' settings if it says nothing.
pub(super) fn preprocessing(folder: &Path) -> Result<PreprocessSpec, WeightsError> {
    let path = folder.join("preprocessor_config.json");
    if !path.exists() {
        return Ok(PreprocessSpec::default());
    }
    let file: Preprocessor = read_json(&path)?;
    check_steps(&file, &path)?;
    let mut spec = PreprocessSpec::default();
    match file.size {
        Some(SizeField::Short(short)) => spec.shortest_edge = short,
        Some(SizeField::Edges { shortest_edge, longest_edge }) => {
            (spec.shortest_edge, spec.longest_edge) = (shortest_edge, longest_edge);
        }
        None => {}
    }
    spec.longest_edge = file.max_size.unwrap_or(spec.longest_edge);
    spec.mean = file.image_mean.unwrap_or(spec.mean);
    spec.std = file.image_std.unwrap_or(spec.std);
    spec.validate().map_err(|error| WeightsError::config(&path, error))?;
    Ok(spec)
}

/// Refuses an image processor that leaves out one of the steps we always take, or takes another.
fn check_steps(file: &Preprocessor, path: &Path) -> Result<(), WeightsError> {
    /// Bytes to `[0, 1]`.
    const FACTOR: f64 = 1.0 / 255.0;
    for (field, value) in [
        ("do_resize", file.do_resize),
        ("do_rescale", file.do_rescale),
        ("do_normalize", file.do_normalize),
    ] {
        if value == Some(false) {
            return Err(WeightsError::config(
                path,
                format_args!("{field} is false, expected true"),
            ));
        }
    }
    match file.rescale_factor {
        // NaN is no JSON.
        Some(factor) if (factor - FACTOR).abs() > 1e-6 => Err(WeightsError::config(
            path,
            format_args!("rescale_factor is {factor}, expected 1/255 ({FACTOR:.7})"),
        )),
        _ => Ok(()),
    }
}
