//! The files that `DeepStream` and `trtexec` want beside a model, with the contents that NVIDIA TAO gives them
//! (`deformable_detr/types/ddetr_nvdsinfer.py` and `core/types/nvdsinfer.py` of `nvidia_tao_pytorch`).

use std::fmt::Write;

use detr_types::{ClassTable, ImageSize};

use crate::{Batch, ExportOptions, Normalisation};

/// The most images of a call that an engine is built for, where the file takes any number.
const MOST_IMAGES: usize = 8;

/// Returns the text of `labels.txt`: a line for every label of the head. Labels without a class are "unknown", and the
/// first one, which ids from 1 leave free, "background".
#[must_use]
pub fn labels(classes: &ClassTable) -> String {
    let mut text = String::new();
    for label in 0..classes.len() {
        let name = match (classes.get(label), label) {
            (Some(class), _) => class.name.replace(char::is_control, " "),
            (None, 0) => "background".to_owned(),
            (None, _) => "unknown".to_owned(),
        };
        text.push_str(&name);
        text.push('\n');
    }
    text
}

/// Returns the text of `nvdsinfer_config.yaml`, the settings of `nvinfer` for a model whose scores are sigmoids.
/// `normalisation` is what the caller does to pixels; `nvinfer` has one scale for all channels, so the mean of the three
/// deviations is taken. Without one, pixels go in as they are.
#[must_use]
pub fn nvdsinfer_config(
    onnx_file: &str,
    labels_file: &str,
    classes: usize,
    size: ImageSize,
    normalisation: Option<Normalisation>,
) -> String {
    let (scale, offsets) = match normalisation {
        Some(Normalisation { mean, std }) => {
            let deviation = std.map(decimal).iter().sum::<f64>() / 3.0 * 255.0;
            let offsets = mean.map(|mean| rounded(decimal(mean) * 255.0));
            (format!("{:.13}", 1.0 / deviation), offsets.join(";"))
        }
        None => ("1.0".to_owned(), "0;0;0".to_owned()),
    };
    let ImageSize { height, width } = size;
    // Keys in the order of the alphabet, as TAO writes them.
    format!(
        "class-attrs-all:
  pre-cluster-threshold: 0.5
  topk: 20
property:
  cluster-mode: 4
  custom-lib-path: /opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser_tao.so
  gie-unique-id: 1
  infer-dims: 3;{height};{width}
  labelfile-path: {}
  maintain-aspect-ratio: 1
  model-color-format: 0
  net-scale-factor: {scale}
  network-mode: 2
  network-type: 0
  num-detected-classes: {classes}
  offsets: {offsets}
  onnx-file: {}
  output-blob-names: pred_boxes;pred_logits
  output-tensor-meta: 1
  parse-bbox-func-name: NvDsInferParseCustomDDETRTAO
  workspace-size: 1048576
",
        quoted(labels_file),
        quoted(onnx_file),
    )
}

/// Returns the command that builds an engine of a file: for 1 to 8 images of a call where the file takes any number.
#[must_use]
pub fn trtexec(onnx_file: &str, options: &ExportOptions) -> String {
    let stem = onnx_file.strip_suffix(".onnx").unwrap_or(onnx_file);
    let mut line = format!(
        "trtexec --onnx={} --saveEngine={}",
        shell_quoted(onnx_file),
        shell_quoted(&format!("{stem}.engine"))
    );
    if options.batch == Batch::Any {
        let ImageSize { height, width } = options.size;
        for (name, images) in [("min", 1), ("opt", 1), ("max", MOST_IMAGES)] {
            // Writing to a string cannot fail.
            let _ = write!(line, " --{name}Shapes=inputs:{images}x3x{height}x{width}");
        }
    }
    line.push('\n');
    line
}

/// Returns the number that was written, without the rounding of f32.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Writes a number with at most six digits after the point.
fn rounded(value: f64) -> String {
    let text = format!("{value:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Writes a name as YAML, in quotes if it would be read as something else.
fn quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-/".contains(c);
    if name.starts_with(char::is_alphabetic) && name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "''"))
    }
}

/// Writes a name so that a shell reads it as one word.
fn shell_quoted(name: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "._-/".contains(c);
    if name.chars().all(is_plain) {
        name.to_owned()
    } else {
        format!("'{}'", name.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use detr_types::Category;

    use super::*;

    #[test]
    fn settings_are_those_that_tao_writes() {
        let imagenet = Normalisation { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
        let size = ImageSize::new(544, 960);
        let text = nvdsinfer_config("model.onnx", "labels.txt", 91, size, Some(imagenet));
        let expected = "\
class-attrs-all:
  pre-cluster-threshold: 0.5
  topk: 20
property:
  cluster-mode: 4
  custom-lib-path: /opt/nvidia/deepstream/deepstream/lib/libnvds_infercustomparser_tao.so
  gie-unique-id: 1
  infer-dims: 3;544;960
  labelfile-path: labels.txt
  maintain-aspect-ratio: 1
  model-color-format: 0
  net-scale-factor: 0.0173520735728
  network-mode: 2
  network-type: 0
  num-detected-classes: 91
  offsets: 123.675;116.28;103.53
  onnx-file: model.onnx
  output-blob-names: pred_boxes;pred_logits
  output-tensor-meta: 1
  parse-bbox-func-name: NvDsInferParseCustomDDETRTAO
  workspace-size: 1048576
";
        assert_eq!(text, expected);
        let text = nvdsinfer_config("a b.onnx", "labels.txt", 2, size, None);
        assert!(text.contains("net-scale-factor: 1.0\n") && text.contains("offsets: 0;0;0\n"));
        assert!(text.contains("onnx-file: 'a b.onnx'\n"));
    }

    #[test]
    fn labels_have_a_line_each() {
        let class = |label: usize, name: &str| Category {
            label,
            id: 0,
            name: name.to_owned(),
            is_thing: true,
        };
        let named = [class(1, "person"), class(3, "traffic light")].to_vec();
        let named =
            named.into_iter().zip(0..).map(|(class, id)| Category { id, ..class }).collect();
        let classes = ClassTable::new(4, named).unwrap();
        assert_eq!(labels(&classes), "background\nperson\nunknown\ntraffic light\n");
    }

    #[test]
    fn the_command_has_shapes_where_the_batch_is_open() {
        let mut options = ExportOptions::new(ImageSize::new(544, 960));
        let expected = "trtexec --onnx=model.onnx --saveEngine=model.engine --minShapes=inputs:1x3x544x960 \
                        --optShapes=inputs:1x3x544x960 --maxShapes=inputs:8x3x544x960\n";
        assert_eq!(trtexec("model.onnx", &options), expected);
        options.batch = Batch::Fixed(2);
        let expected = "trtexec --onnx='my model.onnx' --saveEngine='my model.engine'\n";
        assert_eq!(trtexec("my model.onnx", &options), expected);
    }
}
