//! Input tensors: encoded pictures as bytes, or pixels.

use axum::http::StatusCode;
use bytes::Bytes;
use detr_data::RgbImage;
use serde_json::Value;

use crate::base64_text;
use crate::error::RequestError;
use crate::options::RequestLimits;
use crate::predict::{Content, Picture};

/// The input of encoded pictures.
pub(super) const IMAGE: &str = "image";
/// The input of pixels.
pub(super) const PIXELS: &str = "pixels";

/// A tensor of a request.
#[derive(Debug)]
pub(crate) struct InputTensor {
    pub(crate) name: String,
    pub(crate) datatype: String,
    pub(crate) shape: Vec<i64>,
    pub(crate) data: InputData,
}

/// The elements of a tensor, in the form in which they came.
#[derive(Debug)]
pub(crate) enum InputData {
    /// Little-endian bytes; elements of `BYTES` have their length before them.
    Raw(Bytes),
    /// A flat or nested array.
    Json(Value),
    /// Texts or files of a `BYTES` tensor, one by one.
    Elements(Vec<Bytes>),
}

/// Makes pictures of the inputs.
pub(super) fn pictures(
    inputs: Vec<InputTensor>,
    limits: &RequestLimits,
) -> Result<Vec<Picture>, RequestError> {
    let count = inputs.len();
    let mut inputs = inputs.into_iter();
    let (Some(input), None) = (inputs.next(), inputs.next()) else {
        return Err(RequestError::bad(format!(
            "{count} inputs\nhint: send one, `{IMAGE}` or `{PIXELS}`"
        )));
    };
    match input.name.as_str() {
        IMAGE => encoded(input, limits),
        PIXELS => pixels(input, limits),
        _ => Err(RequestError::bad(format!(
            "there is no such input\nhint: the inputs are `{IMAGE}` and `{PIXELS}`"
        ))),
    }
}

/// Checks the type and multiplies the sides of the shape.
fn check(input: &InputTensor, datatype: &str) -> Result<usize, RequestError> {
    let name = &input.name;
    if input.datatype != datatype {
        return Err(RequestError::bad(format!("inputs.{name}.datatype: expected {datatype}")));
    }
    let mut sides = input.shape.iter().map(|&side| usize::try_from(side).ok());
    let product = sides.try_fold(1_usize, |product, side| product.checked_mul(side?));
    product.ok_or_else(|| {
        RequestError::bad(format!(
            "inputs.{name}.shape: sides are whole numbers from 0, and their product must fit into memory"
        ))
    })
}

fn too_many(most: usize) -> RequestError {
    RequestError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("more than {most} pictures\nhint: send them in several requests"),
    )
}

fn other_length(name: &str, found: usize, expected: usize) -> RequestError {
    RequestError::bad(format!("inputs.{name}: {found} elements, but the shape has {expected}"))
}

/// Reads files, one for each element of the tensor.
fn encoded(input: InputTensor, limits: &RequestLimits) -> Result<Vec<Picture>, RequestError> {
    let expected = check(&input, "BYTES")?;
    let name = input.name;
    if expected > limits.images {
        return Err(too_many(limits.images));
    }
    let files: Vec<Result<Bytes, String>> = match input.data {
        InputData::Raw(bytes) => split(&bytes)
            .map_err(|reason| RequestError::bad(format!("inputs.{name}: {reason}")))?
            .into_iter()
            .map(Ok)
            .collect(),
        InputData::Json(value) => {
            let mut texts = Vec::new();
            flatten(&value, &mut texts, expected)
                .map_err(|found| other_length(&name, found, expected))?;
            let text = |value: &Value| match value {
                Value::String(text) => base64_text::decode(text).map(Bytes::from),
                _ => Err("a picture is a text in base64".to_owned()),
            };
            texts.into_iter().map(text).collect()
        }
        InputData::Elements(elements) => elements.into_iter().map(Ok).collect(),
    };
    if files.len() != expected {
        return Err(other_length(&name, files.len(), expected));
    }
    let picture = |(index, file): (usize, Result<Bytes, String>)| {
        let content = match file {
            Ok(bytes) => Content::File(unwrap_base64(bytes)),
            Err(fault) => Content::Fault(fault),
        };
        Picture { name: format!("{IMAGE}[{index}]"), content }
    };
    Ok(files.into_iter().enumerate().map(picture).collect())
}

/// Returns the file itself where a client sent base64 of it as bytes. No picture is also base64: files of the formats
/// that are read open with bytes that base64 does not have, or with these.
fn unwrap_base64(bytes: Bytes) -> Bytes {
    let is_netpbm = |bytes: &[u8]| matches!(bytes, [b'P', b'1'..=b'7', space, ..] if space.is_ascii_whitespace());
    if is_netpbm(&bytes) || bytes.starts_with(b"RIFF") || bytes.starts_with(b"BM") {
        return bytes;
    }
    let text = std::str::from_utf8(&bytes).ok();
    text.and_then(|text| base64_text::decode(text).ok()).map_or(bytes, Bytes::from)
}

/// Splits bytes into elements, each with its length before it.
fn split(bytes: &Bytes) -> Result<Vec<Bytes>, String> {
    let mut elements = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let length = bytes.get(at..at + 4).and_then(|length| length.try_into().ok());
        let length = length.map(u32::from_le_bytes).and_then(|length| usize::try_from(length).ok());
        let end = length.and_then(|length| (at + 4).checked_add(length));
        match end {
            Some(end) if end <= bytes.len() => {
                elements.push(bytes.slice(at + 4..end));
                at = end;
            }
            _ => return Err(format!("element {} ends behind the data", elements.len())),
        }
    }
    Ok(elements)
}

/// Collects the elements of nested arrays; the error is their number where there are too many.
fn flatten<'a>(value: &'a Value, out: &mut Vec<&'a Value>, most: usize) -> Result<(), usize> {
    match value {
        Value::Array(values) => values.iter().try_for_each(|value| flatten(value, out, most)),
        value => {
            out.push(value);
            if out.len() > most { Err(out.len()) } else { Ok(()) }
        }
    }
}

/// Reads pixels, `[N, H, W, 3]` or `[H, W, 3]`.
fn pixels(input: InputTensor, limits: &RequestLimits) -> Result<Vec<Picture>, RequestError> {
    let expected = check(&input, "UINT8")?;
    let name = input.name;
    let side = |side: i64| usize::try_from(side).unwrap_or(usize::MAX);
    let (count, height, width) = match input.shape[..] {
        [height, width, 3] => (1, side(height), side(width)),
        [count, height, width, 3] => (side(count), side(height), side(width)),
        _ => {
            return Err(RequestError::bad(format!(
                "inputs.{name}.shape: expected [N, H, W, 3] or [H, W, 3]"
            )));
        }
    };
    if count > limits.images {
        return Err(too_many(limits.images));
    }
    let area = height.saturating_mul(width);
    let sides = u32::try_from(height).ok().zip(u32::try_from(width).ok());
    let fits = area > 0 && area as u64 <= limits.decoding.limits.pixels;
    let Some((height, width)) = sides.filter(|_| fits) else {
        let most = limits.decoding.limits.pixels;
        return Err(RequestError::bad(format!(
            "inputs.{name}.shape: a picture has from 1 to {most} pixels"
        )));
    };
    let samples: Vec<u8> = match input.data {
        InputData::Raw(bytes) => bytes.to_vec(),
        InputData::Elements(_) => return Err(other_length(&name, 0, expected)),
        InputData::Json(value) => {
            let mut numbers = Vec::new();
            flatten(&value, &mut numbers, expected)
                .map_err(|found| other_length(&name, found, expected))?;
            let sample = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
            let samples: Option<Vec<u8>> = numbers.into_iter().map(sample).collect();
            samples.ok_or_else(|| {
                RequestError::bad(format!("inputs.{name}: samples are whole numbers from 0 to 255"))
            })?
        }
    };
    if samples.len() != expected {
        return Err(other_length(&name, samples.len(), expected));
    }
    let picture = |(index, samples): (usize, &[u8])| {
        let content = match RgbImage::from_raw(width, height, samples.to_vec()) {
            Some(picture) => Content::Pixels(picture),
            None => Content::Fault("there are too few samples".to_owned()),
        };
        Picture { name: format!("{PIXELS}[{index}]"), content }
    };
    Ok(samples.chunks_exact(3 * area).enumerate().map(picture).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use detr_data::DecodeOptions;
    use serde_json::json;

    use super::*;

    fn limits() -> RequestLimits {
        let mut decoding = DecodeOptions::default();
        decoding.limits.pixels = 100;
        RequestLimits {
            body_bytes: 1 << 20,
            images: 4,
            decoding,
            memory_bytes: 1 << 20,
            connections: 1,
            head_time: Duration::from_secs(1),
            body_time: Duration::from_secs(1),
        }
    }

    fn tensor(name: &str, datatype: &str, shape: &[i64], data: InputData) -> InputTensor {
        InputTensor { name: name.into(), datatype: datatype.into(), shape: shape.to_vec(), data }
    }

    fn files(data: InputData, shape: &[i64]) -> Vec<Vec<u8>> {
        let pictures = pictures(vec![tensor("image", "BYTES", shape, data)], &limits()).unwrap();
        let file = |picture: Picture| match picture.content {
            Content::File(bytes) => bytes.to_vec(),
            _ => panic!("no file"),
        };
        pictures.into_iter().map(file).collect()
    }

    #[test]
    fn files_come_raw_or_as_text() {
        let expected = [b"\xff\xd8one".to_vec(), b"P6 two".to_vec()];
        let raw =
            [&5_u32.to_le_bytes()[..], b"\xff\xd8one", &6_u32.to_le_bytes(), b"P6 two"].concat();
        assert_eq!(files(InputData::Raw(raw.into()), &[2]), expected);
        let json = json!([["/9hvbmU="], ["UDYgdHdv"]]);
        assert_eq!(files(InputData::Json(json), &[2, 1]), expected);
        let raw = [&7_u32.to_le_bytes()[..], b"/9hvbmU", &6_u32.to_le_bytes(), b"P6 two"].concat();
        assert_eq!(files(InputData::Raw(raw.into()), &[1, 2]), expected);
    }

    #[test]
    fn pixels_make_pictures() {
        let samples: Vec<u8> = (0..24).collect();
        let nested = json!([
            [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]],
            [[[12, 13, 14], [15, 16, 17]], [[18, 19, 20], [21, 22, 23]]]
        ]);
        for data in [
            InputData::Raw(samples.clone().into()),
            InputData::Json(nested),
            InputData::Json(json!(samples)),
        ] {
            let input = tensor("pixels", "UINT8", &[2, 2, 2, 3], data);
            let found = pictures(vec![input], &limits()).unwrap();
            let Content::Pixels(second) = &found[1].content else { panic!("no pixels") };
            assert_eq!((found.len(), second.get_pixel(1, 0).0), (2, [15, 16, 17]));
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let raw = |bytes: &'static [u8]| InputData::Raw(Bytes::from_static(bytes));
        for (input, part) in [
            (tensor("images", "BYTES", &[1], raw(b"")), "no such input"),
            (tensor("image", "FP32", &[1], raw(b"\0\0\0\0")), "expected BYTES"),
            (tensor("image", "BYTES", &[-1], raw(b"")), "shape"),
            (tensor("image", "BYTES", &[i64::MAX, i64::MAX, 4], raw(b"")), "shape"),
            (tensor("image", "BYTES", &[5], raw(b"")), "more than 4"),
            (tensor("image", "BYTES", &[1], raw(b"")), "0 elements"),
            (tensor("image", "BYTES", &[1], raw(b"\x09\0\0\0a")), "element 0 ends"),
            (tensor("image", "BYTES", &[1], raw(b"\xff\xff\xff\xffa")), "element 0 ends"),
            (tensor("image", "BYTES", &[1], raw(b"\0\0")), "element 0 ends"),
            (
                tensor("image", "BYTES", &[1], InputData::Json(json!(["YQ==", "YQ=="]))),
                "2 elements",
            ),
            (tensor("pixels", "FP32", &[1, 1, 3], raw(b"abc")), "expected UINT8"),
            (tensor("pixels", "UINT8", &[1, 1, 4], raw(b"abcd")), "[N, H, W, 3]"),
            (tensor("pixels", "UINT8", &[3], raw(b"abc")), "[N, H, W, 3]"),
            (tensor("pixels", "UINT8", &[0, 1, 3], raw(b"")), "from 1 to 100"),
            (tensor("pixels", "UINT8", &[11, 10, 3], raw(b"")), "from 1 to 100"),
            (tensor("pixels", "UINT8", &[9, 1, 1, 3], raw(b"")), "more than 4"),
            (tensor("pixels", "UINT8", &[1, 2, 3], raw(b"abc")), "3 elements"),
            (
                tensor("pixels", "UINT8", &[1, 1, 3], InputData::Json(json!([1, 2, 256]))),
                "0 to 255",
            ),
            (
                tensor("pixels", "UINT8", &[1, 1, 3], InputData::Json(json!([1, 2.5, 3]))),
                "0 to 255",
            ),
            (tensor("pixels", "UINT8", &[i64::MAX, i64::MAX, 3], raw(b"abc")), "shape"),
        ] {
            let shown = format!("{input:?}");
            let error = pictures(vec![input], &limits()).err().unwrap();
            assert!(error.message.contains(part), "{shown}: {}", error.message);
        }
        assert!(pictures(Vec::new(), &limits()).is_err());
    }
}
