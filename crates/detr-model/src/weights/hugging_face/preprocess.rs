//! `preprocessor_config.json` of a Hugging Face folder: how images become input. `size` has been written in many
//! ways over the years, and every one of them is read as transformers reads it.

use std::path::Path;

use detr_types::{ImageSize, Limits, PreprocessSpec};
use serde_json::{Map, Value};

use super::super::WeightsError;
use super::super::folder::{described, read_json};

/// The long side's limit of an image processor that was given a number alone.
const DEFAULT_MAX_SIZE: u32 = 1333;
/// Someone who knows the size need not repair the file.
const HINT: &str = "correct the file; --size and --max-size of detr-infer and detr eval together stand in \
                    for its size";

/// The settings of a folder for images.
pub(super) struct Preprocessing {
    pub(super) spec: PreprocessSpec,
    /// Why the folder's size is left out, where the user gives another one.
    pub(super) note: Option<String>,
}

/// Returns what the folder says, or `default` if it says nothing. With `own_size`, a size of an unknown form is not an
/// error but a note.
pub(super) fn preprocessing(
    folder: &Path,
    default: PreprocessSpec,
    own_size: bool,
) -> Result<Preprocessing, WeightsError> {
    let path = folder.join("preprocessor_config.json");
    if !path.exists() {
        return Ok(Preprocessing { spec: default, note: None });
    }
    let json: Value = read_json(&path)?;
    let hint = |reason: String, hint: &str| {
        WeightsError::config(&path, format_args!("{reason}\nhint: {hint}"))
    };
    let refused = |reason: String| hint(reason, "correct the file");
    let file = json.as_object().ok_or_else(|| {
        refused(format!("the file is {}, expected a table of settings", described(&json)))
    })?;
    check_steps(file).map_err(refused)?;
    let mut spec = default;
    spec.mean = statistics(file, "image_mean", spec.mean).map_err(refused)?;
    spec.std = statistics(file, "image_std", spec.std).map_err(refused)?;
    spec.validate().map_err(|error| refused(error.to_string()))?;
    match size(file, spec) {
        Ok(spec) => {
            spec.validate().map_err(|error| hint(error.to_string(), HINT))?;
            Ok(Preprocessing { spec, note: None })
        }
        Err(SizeFault::Form(reason)) if own_size => {
            let note = format!("the size in preprocessor_config.json is not used: {reason}");
            Ok(Preprocessing { spec, note: Some(note) })
        }
        Err(SizeFault::Number(reason) | SizeFault::Form(reason)) => Err(hint(reason, HINT)),
    }
}

/// Returns a field that is there and not null.
fn field<'a>(file: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    file.get(name).filter(|value| !value.is_null())
}

/// The reason why a size cannot be used.
enum SizeFault {
    /// A number that is no size: the file is wrong, whatever the user asks for.
    Number(String),
    /// A form that is not known. A size that the user gives can stand in.
    Form(String),
}

/// Reads `size` and `max_size`.
fn size(file: &Map<String, Value>, spec: PreprocessSpec) -> Result<PreprocessSpec, SizeFault> {
    let max_size = field(file, "max_size").map(|value| side("max_size", value)).transpose()?;
    let longest_edge = max_size.unwrap_or(DEFAULT_MAX_SIZE);
    match field(file, "size") {
        // A limit alone goes with the short side of the first image processors.
        None if max_size.is_some() => Ok(shortest(spec, 800, longest_edge)),
        None => Ok(spec),
        Some(Value::Object(sides)) => named_sides(sides, max_size, spec),
        Some(Value::Array(list)) => match list.as_slice() {
            [height, width] => {
                let size = ImageSize::new(side("size[0]", height)?, side("size[1]", width)?);
                Ok(spec.exactly(size))
            }
            _ => Err(SizeFault::Form(format!(
                "size is a list of {}, expected two: height and width",
                list.len()
            ))),
        },
        Some(number @ Value::Number(_)) => Ok(shortest(spec, side("size", number)?, longest_edge)),
        Some(other) => Err(SizeFault::Form(format!(
            "size is {}, expected a number, a list of height and width, or a table of sides",
            described(other)
        ))),
    }
}

/// Reads a table of sides; which ones there are decides on the rule.
fn named_sides(
    sides: &Map<String, Value>,
    max_size: Option<u32>,
    spec: PreprocessSpec,
) -> Result<PreprocessSpec, SizeFault> {
    const KNOWN: [&str; 6] =
        ["shortest_edge", "longest_edge", "height", "width", "max_height", "max_width"];
    let mut found = [None; 6];
    for (name, value) in sides.iter().filter(|(_, value)| !value.is_null()) {
        let Some(at) = KNOWN.iter().position(|known| known == name) else {
            let reason = format!("size.{name} is unknown, expected {FORMS}");
            return Err(SizeFault::Form(reason));
        };
        found[at] = Some(side(name, value)?);
    }
    match found {
        [Some(short), Some(long), None, None, None, None] => {
            Ok(shortest(spec, short, max_size.unwrap_or(long)))
        }
        [Some(short), None, None, None, None, None] => {
            Ok(shortest(spec, short, max_size.unwrap_or_else(|| most_beside(short))))
        }
        [None, Some(long), None, None, None, None] => Ok(spec.with_longest_edge(long)),
        [None, None, Some(height), Some(width), None, None] => {
            Ok(spec.exactly(ImageSize::new(height, width)))
        }
        [None, None, None, None, Some(height), Some(width)] => {
            Ok(spec.within(ImageSize::new(height, width)))
        }
        _ => {
            let names = KNOWN.iter().zip(found).filter(|(_, side)| side.is_some());
            let names: Vec<_> = names.map(|(name, _)| *name).collect();
            let has = if names.is_empty() { "nothing".to_owned() } else { names.join(" and ") };
            Err(SizeFault::Form(format!("size has {has}, expected {FORMS}")))
        }
    }
}

/// The tables that an image processor takes.
const FORMS: &str =
    "shortest_edge, longest_edge or both, height and width, or max_height and max_width";

fn shortest(spec: PreprocessSpec, shortest_edge: u32, longest_edge: u32) -> PreprocessSpec {
    PreprocessSpec { shortest_edge, longest_edge, ..spec }
}

/// Returns the longest side that the program's limits allow beside a short one, for a file that
/// sets none.
fn most_beside(short: u32) -> u32 {
    let most = Limits::default().pixels / u64::from(short.max(1));
    u32::try_from(most).unwrap_or(u32::MAX).min(PreprocessSpec::MAX_EDGE)
}

/// Reads a side: a whole number in any notation. Its range is checked with the rest.
fn side(name: &str, value: &Value) -> Result<u32, SizeFault> {
    let whole = value.as_u64().or_else(|| {
        let number = value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0)?;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        // saturates, and is refused
        Some(number as u64)
    });
    whole.and_then(|whole| u32::try_from(whole).ok()).ok_or_else(|| {
        let most = PreprocessSpec::MAX_EDGE;
        let reason = format!(
            "{name} is {}, expected a whole number of pixels, 1 to {most}",
            described(value)
        );
        if value.is_number() { SizeFault::Number(reason) } else { SizeFault::Form(reason) }
    })
}

/// Reads a mean or standard deviation: a number for every channel, or one for all.
fn statistics(
    file: &Map<String, Value>,
    name: &str,
    default: [f32; 3],
) -> Result<[f32; 3], String> {
    #[allow(clippy::cast_possible_truncation)] // the precision of the pixels
    let number = |value: &Value| value.as_f64().map(|number| number as f32);
    let expected = "expected a number, or a list of three";
    match field(file, name) {
        None => Ok(default),
        Some(Value::Array(list)) if list.len() != 3 => {
            Err(format!("{name} is a list of {}, {expected}", list.len()))
        }
        Some(Value::Array(list)) => {
            let mut channels = [0.0; 3];
            for (index, (channel, value)) in channels.iter_mut().zip(list).enumerate() {
                *channel = number(value).ok_or_else(|| {
                    format!("{name}[{index}] is {}, expected a number", described(value))
                })?;
            }
            Ok(channels)
        }
        Some(value) => number(value)
            .map(|value| [value; 3])
            .ok_or_else(|| format!("{name} is {}, {expected}", described(value))),
    }
}

/// Refuses an image processor that leaves out one of the steps we always take, or takes another.
fn check_steps(file: &Map<String, Value>) -> Result<(), String> {
    /// Bytes to `[0, 1]`.
    const FACTOR: f64 = 1.0 / 255.0;
    for name in ["do_resize", "do_rescale", "do_normalize"] {
        match field(file, name) {
            None | Some(Value::Bool(true)) => {}
            Some(other) => return Err(format!("{name} is {}, expected true", described(other))),
        }
    }
    match field(file, "rescale_factor") {
        None => Ok(()),
        Some(value) if value.as_f64().is_some_and(|factor| (factor - FACTOR).abs() <= 1e-6) => {
            Ok(())
        }
        Some(value) => {
            Err(format!("rescale_factor is {}, expected 1/255 ({FACTOR:.7})", described(value)))
        }
    }
}

#[cfg(test)]
mod tests {
    use detr_types::ResizeRule;
    use serde_json::json;

    use super::*;

    fn read(file: &Value) -> Result<PreprocessSpec, String> {
        let read = size(file.as_object().unwrap(), PreprocessSpec::default());
        read.map_err(|(SizeFault::Number(reason) | SizeFault::Form(reason))| reason)
    }

    #[test]
    fn every_form_of_a_size_is_read() {
        let short = ResizeRule::ShortestEdge {};
        for (file, rule, edges) in [
            (json!({}), short, [800, 1333]),
            (json!({ "size": null }), short, [800, 1333]),
            (json!({ "max_size": 1000 }), short, [800, 1000]),
            (json!({ "size": 480 }), short, [480, 1333]),
            (json!({ "size": 480.0 }), short, [480, 1333]),
            (json!({ "size": 800, "max_size": 800 }), short, [800, 800]),
            (json!({ "size": { "shortest_edge": 600, "longest_edge": 900 } }), short, [600, 900]),
            (json!({ "size": { "shortest_edge": 600 } }), short, [600, 16_384]),
            (json!({ "size": { "shortest_edge": 600 }, "max_size": 700 }), short, [600, 700]),
            (json!({ "size": { "shortest_edge": 8000 } }), short, [8000, 12_500]),
            (json!({ "size": { "longest_edge": 800 } }), ResizeRule::LongestEdge {}, [800, 800]),
            (
                json!({ "size": { "longest_edge": 800, "shortest_edge": null } }),
                ResizeRule::LongestEdge {},
                [800, 800],
            ),
            (
                json!({ "size": { "height": 480, "width": 640 } }),
                ResizeRule::Exact { height: 480, width: 640 },
                [480, 640],
            ),
            (
                json!({ "size": [640, 480] }),
                ResizeRule::Exact { height: 640, width: 480 },
                [480, 640],
            ),
            (
                json!({ "size": { "max_height": 480, "max_width": 640 } }),
                ResizeRule::Within { height: 480, width: 640 },
                [480, 640],
            ),
        ] {
            let spec = read(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
            assert_eq!(
                (spec.resize, [spec.shortest_edge, spec.longest_edge]),
                (rule, edges),
                "{file}"
            );
        }
    }

    #[test]
    fn a_size_that_is_none_is_refused_in_words() {
        for (size, message) in [
            (json!({}), "size has nothing, expected shortest_edge"),
            (json!({ "height": 480 }), "size has height, expected"),
            (json!({ "height": 480, "max_width": 480 }), "size has height and max_width"),
            (json!({ "min_pixels": 480 }), "size.min_pixels is unknown"),
            (json!([480]), "size is a list of 1, expected two: height and width"),
            (json!([480, "x"]), "size[1] is \"x\", expected a whole number of pixels"),
            (json!("480"), "size is \"480\", expected a number"),
            (json!(true), "size is true"),
            (json!(480.5), "size is 480.5"),
            (json!(-1), "size is -1"),
            (json!(1e12), "size is 1000000000000.0"),
            (json!({ "shortest_edge": [800] }), "shortest_edge is a list"),
        ] {
            let error = read(&json!({ "size": size })).unwrap_err();
            assert!(error.starts_with(message), "{error}");
        }
    }
}
