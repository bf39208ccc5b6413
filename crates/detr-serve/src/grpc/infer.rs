//! Requests and answers of `ModelInfer` in the form of [`crate::inference`], and back.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::messages::{
    InferInputTensor, ModelInferRequest, ModelInferResponse, ParameterValue, TensorMetadata,
};
use crate::error::RequestError;
use crate::inference::{InferRequest, InferResponse, InputData, InputTensor, OutputTensor};
use crate::request_options::RequestOptions;

/// Reads a request.
pub(super) fn read(request: ModelInferRequest) -> Result<InferRequest, RequestError> {
    let ModelInferRequest { model_name, model_version, parameters, inputs, outputs, .. } = request;
    let mut raw = request.raw_input_contents.into_iter();
    let is_raw = raw.len() > 0;
    if is_raw && raw.len() != inputs.len() {
        return Err(RequestError::bad(format!(
            "raw_input_contents: {} tensors, but inputs has {}",
            raw.len(),
            inputs.len()
        )));
    }
    let input = |(index, input)| tensor(input, index, raw.next());
    let inputs = inputs.into_iter().enumerate().map(input).collect::<Result<_, _>>()?;
    let options: Map<String, Value> = parameters
        .into_iter()
        .filter(|(key, _)| !is_of_client(key))
        .map(|(key, parameter)| (key, parameter.value.map_or(Value::Null, json)))
        .collect();
    let choice = RequestOptions::from_json(&Value::Object(options), "parameters")?;
    let outputs = outputs.into_iter().map(|output| output.name).collect();
    let version = Some(model_version);
    Ok(InferRequest { model: model_name, version, inputs, outputs, choice })
}

/// Returns whether a parameter is one that Triton's client sets of its own accord.
fn is_of_client(key: &str) -> bool {
    matches!(key, "sequence_id" | "sequence_start" | "sequence_end" | "priority" | "timeout")
}

fn json(value: ParameterValue) -> Value {
    match value {
        ParameterValue::Bool(value) => value.into(),
        ParameterValue::Int64(value) => value.into(),
        ParameterValue::Uint64(value) => value.into(),
        ParameterValue::Double(value) => value.into(),
        ParameterValue::Text(value) => value.into(),
    }
}

fn tensor(
    input: InferInputTensor,
    index: usize,
    raw: Option<Bytes>,
) -> Result<InputTensor, RequestError> {
    let InferInputTensor { name, datatype, shape, contents } = input;
    let data = match (raw, contents) {
        (Some(_), Some(_)) => {
            return Err(RequestError::bad(format!(
                "inputs[{index}].contents: expected nothing beside raw_input_contents"
            )));
        }
        (Some(raw), None) => InputData::Raw(raw),
        (None, Some(contents)) if datatype == "BYTES" => {
            InputData::Elements(contents.bytes_contents)
        }
        (None, Some(contents)) => {
            let samples = contents.uint_contents.into_iter().map(u8::try_from);
            let samples: Result<Vec<u8>, _> = samples.collect();
            let samples = samples.map_err(|_| {
                RequestError::bad(format!(
                    "inputs[{index}].contents: samples are whole numbers from 0 to 255"
                ))
            })?;
            InputData::Raw(samples.into())
        }
        (None, None) => {
            return Err(RequestError::bad(format!(
                "inputs[{index}]: expected contents or raw_input_contents"
            )));
        }
    };
    Ok(InputTensor { name, datatype, shape, data })
}

/// Writes an answer. All tensors are raw, as Triton's clients want them.
pub(super) fn write(response: InferResponse, id: String) -> ModelInferResponse {
    let InferResponse { model, version, outputs } = response;
    let mut described = Vec::with_capacity(outputs.len());
    let mut contents = Vec::with_capacity(outputs.len());
    for OutputTensor { name, shape, data } in outputs {
        let mut raw = Vec::new();
        data.write_raw(&mut raw);
        contents.push(raw.into());
        described.push(TensorMetadata {
            name: name.to_owned(),
            datatype: data.datatype().to_owned(),
            shape: shape.into_iter().map(|side| i64::try_from(side).unwrap_or(i64::MAX)).collect(),
        });
    }
    ModelInferResponse {
        model_name: model,
        model_version: version,
        id,
        outputs: described,
        raw_output_contents: contents,
    }
}

#[cfg(test)]
mod tests {
    use super::super::messages::{InferParameter, InferTensorContents};
    use super::*;

    fn request(contents: Option<InferTensorContents>, raw: &[&'static [u8]]) -> ModelInferRequest {
        let input = InferInputTensor {
            name: "image".into(),
            datatype: "BYTES".into(),
            shape: vec![1],
            contents,
        };
        let raw = raw.iter().map(|raw| Bytes::from_static(raw)).collect();
        ModelInferRequest { inputs: vec![input], raw_input_contents: raw, ..Default::default() }
    }

    fn files() -> InferTensorContents {
        InferTensorContents {
            bytes_contents: vec![Bytes::from_static(b"P6")],
            ..Default::default()
        }
    }

    #[test]
    fn tensors_are_raw_or_have_elements() {
        let found = read(request(Some(files()), &[])).unwrap();
        assert!(matches!(&found.inputs[0].data, InputData::Elements(files) if files.len() == 1));
        let found = read(request(None, &[b"\x02\0\0\0P6"])).unwrap();
        assert!(matches!(&found.inputs[0].data, InputData::Raw(raw) if raw.len() == 6));
        for (contents, raw, part) in [
            (None, &[][..], "inputs[0]: expected contents"),
            (Some(files()), &[&b"a"[..]], "beside raw_input_contents"),
            (None, &[b"a", b"b"], "2 tensors, but inputs has 1"),
        ] {
            let error = read(request(contents, raw)).err().unwrap();
            assert!(error.message.contains(part), "{}", error.message);
        }
        let mut pixels = request(None, &[]);
        pixels.inputs[0].datatype = "UINT8".into();
        pixels.inputs[0].contents =
            Some(InferTensorContents { uint_contents: vec![0, 256], ..Default::default() });
        assert!(read(pixels).err().unwrap().message.contains("from 0 to 255"));
    }

    #[test]
    fn parameters_are_options_or_those_of_the_client() {
        let parameter = |value| InferParameter { value: Some(value) };
        let mut asked = request(Some(files()), &[]);
        asked.parameters.insert("threshold".into(), parameter(ParameterValue::Double(0.25)));
        asked.parameters.insert("max_detections".into(), parameter(ParameterValue::Int64(3)));
        asked.parameters.insert("priority".into(), parameter(ParameterValue::Uint64(1)));
        let choice = read(asked.clone()).unwrap().choice;
        assert_eq!((choice.threshold, choice.max_detections), (Some(0.25), Some(3)));
        asked.parameters.insert("other".into(), parameter(ParameterValue::Bool(true)));
        assert!(read(asked).err().unwrap().message.contains("no option `other`"));
    }
}
