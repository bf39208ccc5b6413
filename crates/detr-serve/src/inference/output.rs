//! Output tensors: the detections of all pictures, padded to the longest list.

use detr_model::postprocess::HostOutput;
use serde_json::{Value, json};

use crate::error::RequestError;
use crate::predict::Answer;
use crate::request_options::RequestOptions;

/// The output of the last layer's logits, as they are.
pub(super) const LOGITS: &str = "pred_logits";
/// The output of the last layer's boxes, relative centre and size.
pub(super) const BOXES: &str = "pred_boxes";
/// The output of masks.
pub(super) const MASKS: &str = "masks";

/// A tensor of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OutputTensor {
    pub(crate) name: &'static str,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: OutputData,
}

/// The elements of a tensor in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OutputData {
    Fp32(Vec<f32>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Bytes(Vec<String>),
}

impl OutputData {
    pub(crate) const fn datatype(&self) -> &'static str {
        match self {
            Self::Fp32(_) => "FP32",
            Self::Int32(_) => "INT32",
            Self::Int64(_) => "INT64",
            Self::Bytes(_) => "BYTES",
        }
    }

    /// Returns the elements as a flat array.
    pub(crate) fn json(&self) -> Value {
        match self {
            Self::Fp32(values) => json!(values),
            Self::Int32(values) => json!(values),
            Self::Int64(values) => json!(values),
            Self::Bytes(values) => json!(values),
        }
    }

    /// Appends the elements as little-endian bytes, texts with their lengths before them.
    pub(crate) fn write_raw(&self, out: &mut Vec<u8>) {
        match self {
            Self::Fp32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Int32(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Int64(values) => out.extend(values.iter().flat_map(|value| value.to_le_bytes())),
            Self::Bytes(values) => {
                for value in values {
                    let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
                    out.extend(length.to_le_bytes());
                    out.extend(value.as_bytes());
                }
            }
        }
    }
}

/// Refuses outputs that do not exist.
pub(super) fn check_names(names: &[String]) -> Result<(), RequestError> {
    let all = super::OUTPUTS.iter().chain(&super::FURTHER_OUTPUTS);
    let all: Vec<&str> = all.map(|info| info.name).collect();
    if names.iter().all(|name| all.contains(&name.as_str())) {
        return Ok(());
    }
    Err(RequestError::bad(format!(
        "there is no such output\nhint: the outputs are {}",
        all.join(", ")
    )))
}

/// Returns whether an output is one of the last layer.
pub(super) fn is_prediction(name: &str) -> bool {
    matches!(name, LOGITS | BOXES)
}

/// Makes the tensors of the last layer's predictions; those of a picture that failed are 0.
fn predictions(answers: &[Answer]) -> Option<[OutputTensor; 2]> {
    let output = |answer: &Answer| answer.found.as_ref().ok()?.output.clone();
    let outputs: Vec<Option<HostOutput>> = answers.iter().map(output).collect();
    let (queries, columns) =
        outputs.iter().flatten().map(|output| (output.queries, output.columns)).next()?;
    let all = |side: usize, values: fn(&HostOutput) -> &[f32]| -> Vec<f32> {
        let of_picture = |output: &Option<HostOutput>| {
            output
                .as_ref()
                .map_or_else(|| vec![0.0; queries * side], |output| values(output).to_vec())
        };
        outputs.iter().flat_map(of_picture).collect()
    };
    let tensor = |name, side, values| {
        let shape = vec![outputs.len(), queries, side];
        OutputTensor { name, shape, data: OutputData::Fp32(all(side, values)) }
    };
    Some([
        tensor(LOGITS, columns, |output| &output.logits),
        tensor(BOXES, 4, |output| &output.boxes),
    ])
}

/// Makes the tensors that are wanted, or all if no names are given. A picture that failed has the count -1 and a text
/// in `errors`; if all failed the request did.
pub(super) fn tensors(
    answers: Vec<Answer>,
    wanted: &[String],
    options: RequestOptions,
) -> Result<Vec<OutputTensor>, RequestError> {
    if let Some(Answer { name, found: Err(fault) }) = answers.first()
        && answers.iter().all(|answer| answer.found.is_err())
    {
        return Err(RequestError::bad(format!("{name}: {fault}")));
    }
    let images = answers.len();
    let predictions = if options.output { predictions(&answers) } else { None };
    let lengths = answers.iter().filter_map(|answer| answer.found.as_ref().ok());
    let most = lengths.map(|found| found.detections.len()).max().unwrap_or(0);
    let mut boxes = vec![0.0_f32; images * most * 4];
    let mut scores = vec![0.0_f32; images * most];
    let mut labels = vec![-1_i64; images * most];
    let mut names = vec![String::new(); images * most];
    let mut codes = vec![String::new(); images * most];
    let mut counts = Vec::with_capacity(images);
    let mut sizes = Vec::with_capacity(2 * images);
    let mut errors = Vec::with_capacity(images);
    for (image, Answer { found, .. }) in answers.into_iter().enumerate() {
        let found = match found {
            Ok(found) => found,
            Err(fault) => {
                counts.push(-1);
                sizes.extend([0, 0]);
                errors.push(fault);
                continue;
            }
        };
        let size = found.size();
        counts.push(i32::try_from(found.detections.len()).unwrap_or(i32::MAX));
        sizes.extend([i64::from(size.height), i64::from(size.width)]);
        errors.push(String::new());
        for (index, detection) in found.detections.into_iter().enumerate() {
            let at = image * most + index;
            let corners = detection.bbox;
            boxes[4 * at..4 * at + 4]
                .copy_from_slice(&[corners.x1, corners.y1, corners.x2, corners.y2]);
            scores[at] = detection.score;
            labels[at] = i64::try_from(detection.label).unwrap_or(i64::MAX);
            names[at] = detection.name;
            if let Some(mask) = &detection.mask {
                codes[at] = json!(mask).to_string();
            }
        }
    }
    let tensor = |name, shape, data| OutputTensor { name, shape, data };
    let mut all = vec![
        tensor("num_detections", vec![images], OutputData::Int32(counts)),
        tensor("boxes", vec![images, most, 4], OutputData::Fp32(boxes)),
        tensor("scores", vec![images, most], OutputData::Fp32(scores)),
        tensor("labels", vec![images, most], OutputData::Int64(labels)),
        tensor("names", vec![images, most], OutputData::Bytes(names)),
        tensor("image_sizes", vec![images, 2], OutputData::Int64(sizes)),
        tensor("errors", vec![images], OutputData::Bytes(errors)),
    ];
    all.extend(predictions.into_iter().flatten());
    if options.masks {
        all.push(tensor(MASKS, vec![images, most], OutputData::Bytes(codes)));
    }
    if !wanted.is_empty() {
        all.retain(|tensor| wanted.iter().any(|name| name == tensor.name));
        // Clients may go by position.
        all.sort_by_key(|tensor| wanted.iter().position(|name| name == tensor.name));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_bytes_are_those_of_the_protocol() {
        let mut out = Vec::new();
        OutputData::Bytes(vec!["ab".into(), String::new()]).write_raw(&mut out);
        OutputData::Int64(vec![-2]).write_raw(&mut out);
        OutputData::Fp32(vec![1.0]).write_raw(&mut out);
        let expected = [
            &[2, 0, 0, 0, b'a', b'b', 0, 0, 0, 0][..],
            &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0, 0, 0x80, 0x3f],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn a_picture_that_failed_stands_beside_the_others_but_not_alone() {
        let bad = || Answer { name: "image[0]".into(), found: Err("no picture".into()) };
        let error = tensors(vec![bad()], &[], RequestOptions::default()).unwrap_err();
        assert_eq!(error.message, "image[0]: no picture");
        assert!(check_names(&["boxes".to_owned(), "masks".to_owned()]).is_ok());
        assert!(check_names(&["box".to_owned()]).unwrap_err().message.contains("num_detections"));
    }
}
