//! Pictures in the JSON and CSV of MLflow, TensorFlow Serving, `SageMaker`, Vertex AI and `KServe`'s first version.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::input::{picture_of, position_name};
use crate::error::RequestError;
use crate::predict::Picture;
use crate::request_options::RequestOptions;

/// The columns that may hold the picture, by preference.
const PICTURE_COLUMNS: [&str; 5] = ["image", "b64", "data", "image_bytes", "bytes"];
/// The columns that may hold its name.
const NAME_COLUMNS: [&str; 2] = ["file", "name"];
/// The keys of which a request has exactly one.
const INPUTS: [&str; 4] = ["dataframe_split", "dataframe_records", "instances", "inputs"];

/// The pictures of a request and its options.
pub(super) type Request = (Vec<Picture>, RequestOptions);

/// Reads a request to `/invocations`.
///
/// # Errors
/// The forms that MLflow refuses, too.
pub(super) fn parse_invocation(value: Value) -> Result<Request, RequestError> {
    let Value::Object(mut object) = value else {
        return Err(RequestError::bad(format!(
            "expected an object with exactly one of {}",
            INPUTS.join(", ")
        )));
    };
    let given: Vec<&str> = INPUTS.into_iter().filter(|key| object.contains_key(*key)).collect();
    let [key] = given[..] else {
        return Err(RequestError::bad(format!(
            "expected exactly one of {}, found {}",
            INPUTS.join(", "),
            if given.is_empty() { "none".to_owned() } else { given.join(", ") }
        )));
    };
    let input = object.remove(key).unwrap_or_default();
    let choice = take_options(&mut object)?;
    if let Some(key) = object.keys().next() {
        let shown: String = key.chars().take(40).collect();
        return Err(RequestError::bad(format!("there is no key `{shown}` in such a request")));
    }
    let pictures = match key {
        "dataframe_split" => split(&input)?,
        "dataframe_records" => records(&input)?,
        "instances" => instances(&input)?,
        _ => inputs(&input)?,
    };
    Ok((pictures, choice))
}

/// Reads a request to `:predict`: `{"instances": [..]}`.
pub(super) fn parse_instances(value: Value) -> Result<Request, RequestError> {
    let Value::Object(mut object) = value else {
        return Err(RequestError::bad("expected an object with `instances`"));
    };
    let input = object
        .remove("instances")
        .ok_or_else(|| RequestError::bad("expected an object with `instances`"))?;
    let choice = take_options(&mut object)?;
    Ok((instances(&input)?, choice))
}

/// Takes the options, which MLflow calls params and Vertex AI parameters.
fn take_options(object: &mut Map<String, Value>) -> Result<RequestOptions, RequestError> {
    let mut choice = RequestOptions::default();
    for key in ["params", "parameters"] {
        if let Some(value) = object.remove(key).filter(|value| !value.is_null()) {
            choice = RequestOptions::from_json(&value, key)?.or(choice);
        }
    }
    Ok(choice)
}

/// Finds the columns of pictures and names.
fn columns(names: &[&str]) -> Result<(usize, Option<usize>), RequestError> {
    let find = |wanted: &[&str]| {
        wanted.iter().find_map(|wanted| names.iter().position(|name| name == wanted))
    };
    let picture = if names.len() == 1 { Some(0) } else { find(&PICTURE_COLUMNS) };
    let picture = picture.ok_or_else(|| {
        RequestError::bad("no column has pictures\nhint: call the column with base64 `image`")
    })?;
    Ok((picture, find(&NAME_COLUMNS).filter(|column| *column != picture)))
}

fn name_of(value: Option<&Value>, index: usize) -> String {
    value.and_then(Value::as_str).map_or_else(|| position_name(index), str::to_owned)
}

fn split(value: &Value) -> Result<Vec<Picture>, RequestError> {
    let wrong = |reason: &str| RequestError::bad(format!("dataframe_split: {reason}"));
    let data = value["data"].as_array().ok_or_else(|| wrong("`data` must be an array of rows"))?;
    let (picture, name) = match value.get("columns") {
        None => (0, None),
        Some(names) => {
            let names = names.as_array().ok_or_else(|| wrong("`columns` must be an array"))?;
            // pandas numbers columns without names.
            let names: Vec<&str> = names.iter().map(|name| name.as_str().unwrap_or("")).collect();
            columns(&names)?
        }
    };
    let row = |(index, row): (usize, &Value)| {
        let cells =
            row.as_array().ok_or_else(|| wrong(&format!("data[{index}] must be an array")))?;
        let cell = cells
            .get(picture)
            .ok_or_else(|| wrong(&format!("data[{index}] has no column {picture}")))?;
        Ok(picture_of(cell, name_of(name.and_then(|name| cells.get(name)), index)))
    };
    data.iter().enumerate().map(row).collect()
}

fn records(value: &Value) -> Result<Vec<Picture>, RequestError> {
    let rows = value
        .as_array()
        .ok_or_else(|| RequestError::bad("dataframe_records: expected an array of objects"))?;
    let row = |(index, row): (usize, &Value)| match row {
        Value::Object(object) => record(object, index),
        _ => Err(RequestError::bad(format!("dataframe_records[{index}]: expected an object"))),
    };
    rows.iter().enumerate().map(row).collect()
}

fn record(object: &Map<String, Value>, index: usize) -> Result<Picture, RequestError> {
    let names: Vec<&str> = object.keys().map(String::as_str).collect();
    let (picture, name) = columns(&names)?;
    let cell = &object[names[picture]];
    Ok(picture_of(cell, name_of(name.map(|name| &object[names[name]]), index)))
}

fn instances(value: &Value) -> Result<Vec<Picture>, RequestError> {
    let rows = value.as_array().ok_or_else(|| RequestError::bad("instances: expected an array"))?;
    rows.iter().enumerate().map(|(index, row)| element(row, index)).collect()
}

/// Reads a picture by itself, or an object with one in a column.
fn element(value: &Value, index: usize) -> Result<Picture, RequestError> {
    match value {
        Value::Object(object) if !object.contains_key("b64") => record(object, index),
        value => Ok(picture_of(value, position_name(index))),
    }
}

fn inputs(value: &Value) -> Result<Vec<Picture>, RequestError> {
    match value {
        Value::Array(rows) => {
            rows.iter().enumerate().map(|(index, row)| element(row, index)).collect()
        }
        Value::Object(object) if !object.contains_key("b64") => {
            let names: Vec<&str> = object.keys().map(String::as_str).collect();
            let (picture, name) = columns(&names)?;
            let names = name.map(|name| &object[names[name]]);
            match &object[object.keys().nth(picture).map_or("", String::as_str)] {
                Value::Array(cells) => {
                    let name =
                        |index: usize| name_of(names.and_then(|names| names.get(index)), index);
                    let cells = cells.iter().enumerate();
                    Ok(cells.map(|(index, cell)| picture_of(cell, name(index))).collect())
                }
                cell => Ok(vec![picture_of(cell, name_of(names, 0))]),
            }
        }
        value => Ok(vec![picture_of(value, position_name(0))]),
    }
}

/// Reads a table with a line of names.
pub(super) fn parse_csv(bytes: &[u8]) -> Result<Vec<Picture>, RequestError> {
    let wrong = |error: csv::Error| RequestError::bad(format!("the body is not CSV: {error}"));
    let mut reader = csv::Reader::from_reader(bytes);
    let names = reader.headers().map_err(wrong)?.clone();
    let names: Vec<&str> = names.iter().map(str::trim).collect();
    if names.iter().all(|name| name.is_empty()) {
        return Err(RequestError::bad("the body is not CSV: it has no line of names"));
    }
    let (picture, name) = columns(&names)?;
    let mut pictures = Vec::new();
    for (index, row) in reader.records().enumerate() {
        let row = row.map_err(wrong)?;
        let cell = Value::from(row.get(picture).unwrap_or(""));
        let name = name.and_then(|name| row.get(name)).map(Value::from);
        pictures.push(picture_of(&cell, name_of(name.as_ref(), index)));
    }
    Ok(pictures)
}

/// Returns MLflow's word for a status.
pub(super) fn error_code(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 => "UNAUTHENTICATED",
        404 => "RESOURCE_DOES_NOT_EXIST",
        503 => "TEMPORARILY_UNAVAILABLE",
        500..=599 => "INTERNAL_ERROR",
        _ => "BAD_REQUEST",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::predict::Content;

    /// Returns names and contents of pictures; faults open with an exclamation mark.
    fn shown(pictures: &[Picture]) -> Vec<(String, String)> {
        let content = |picture: &Picture| match &picture.content {
            Content::File(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Content::Fault(fault) => format!("!{fault}"),
            Content::Pixels(_) => "pixels".to_owned(),
        };
        pictures.iter().map(|picture| (picture.name.clone(), content(picture))).collect()
    }

    #[test]
    fn every_form_of_mlflow_is_read() {
        let two =
            [("image-0".to_owned(), "one".to_owned()), ("image-1".to_owned(), "two".to_owned())];
        for request in [
            json!({"dataframe_split": {"columns": ["image"], "data": [["b25l"], ["dHdv"]]}}),
            json!({"dataframe_split": {"columns": [0], "index": [0, 1], "data": [["b25l"], ["dHdv"]]}}),
            json!({"dataframe_split": {"data": [["b25l"], ["dHdv"]]}}),
            json!({"dataframe_split": {"columns": ["x", "image"], "data": [[1, "b25l\n"], [2, "dHdv"]]}}),
            json!({"dataframe_records": [{"image": "b25l"}, {"picture": "dHdv"}]}),
            json!({"instances": ["b25l", {"b64": "dHdv"}]}),
            json!({"instances": [{"image_bytes": {"b64": "b25l"}}, {"image": "dHdv", "key": 3}]}),
            json!({"inputs": ["b25l", "dHdv"], "params": {"threshold": 0.25}}),
            json!({"inputs": {"image": ["b25l", "dHdv"]}, "params": null}),
        ] {
            let (pictures, _) = parse_invocation(request.clone()).unwrap();
            assert_eq!(shown(&pictures), two, "{request}");
        }
        let named = json!({"dataframe_records": [{"file": "a.png", "image": "b25l"}]});
        assert_eq!(shown(&parse_invocation(named).unwrap().0), [("a.png".into(), "one".into())]);
        for request in [json!({"inputs": "b25l"}), json!({"inputs": {"b64": "b25l"}})] {
            assert_eq!(shown(&parse_invocation(request).unwrap().0), two[..1]);
        }
        let options = json!({"inputs": "b25l", "params": {"threshold": 0.25, "max_detections": 3}});
        let (_, choice) = parse_invocation(options).unwrap();
        assert_eq!((choice.threshold, choice.max_detections), (Some(0.25), Some(3)));
    }

    #[test]
    fn other_forms_are_refused() {
        for (request, part) in [
            (json!([1]), "expected an object"),
            (json!("b25l"), "expected an object"),
            (json!({}), "found none"),
            (json!({"instances": [], "inputs": []}), "instances, inputs"),
            (json!({"messages": []}), "found none"),
            (json!({"inputs": "b25l", "more": 1}), "no key `more`"),
            (json!({"inputs": "b25l", "params": {"temperature": 1}}), "no option `temperature`"),
            (json!({"inputs": "b25l", "params": [1]}), "params: expected an object"),
            (json!({"inputs": "b25l", "params": {"threshold": "high"}}), "params.threshold"),
            (json!({"inputs": "b25l", "params": {"max_detections": -1}}), "params.max_detections"),
            (json!({"dataframe_split": {"columns": ["image"]}}), "`data` must be"),
            (json!({"dataframe_split": {"columns": 1, "data": []}}), "`columns` must be"),
            (json!({"dataframe_split": {"columns": ["image"], "data": [1]}}), "data[0]"),
            (
                json!({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}),
                "no column has",
            ),
            (
                json!({"dataframe_split": {"columns": ["a", "image"], "data": [["x"]]}}),
                "no column 1",
            ),
            (json!({"dataframe_records": {"image": "b25l"}}), "an array of objects"),
            (json!({"dataframe_records": ["b25l"]}), "dataframe_records[0]"),
            (json!({"dataframe_records": [{}]}), "no column has"),
            (json!({"instances": "b25l"}), "instances: expected an array"),
            (json!({"instances": [{}]}), "no column has"),
            (json!({"inputs": {"a": [1], "c": [2]}}), "no column has"),
        ] {
            let error = parse_invocation(request.clone()).err().unwrap();
            assert!(error.message.contains(part), "{request}: {}", error.message);
            assert_eq!(error.status, StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn a_bad_picture_does_not_refuse_the_others() {
        let request = json!({"instances": ["b25l", "$", 7, {"b64": 1}, null, ["b25l"]]});
        let found = shown(&parse_invocation(request).unwrap().0);
        assert_eq!(found[0].1, "one");
        assert!(found[1..].iter().all(|(_, content)| content.starts_with('!')), "{found:?}");
    }

    #[test]
    fn tables_are_read() {
        let found = parse_csv(b"file,image\na.png,b25l\n\"b,c\",\"dHdv\"\n").unwrap();
        let expected = [("a.png".to_owned(), "one".to_owned()), ("b,c".into(), "two".into())];
        assert_eq!(shown(&found), expected);
        assert_eq!(shown(&parse_csv(b"anything\nb25l\n").unwrap())[0].1, "one");
        for bytes in [&b""[..], b"\n\n", b"a,b\n1,2\n", b"image,x\nb25l\n", b"image\n\xff\xff\n"] {
            assert!(parse_csv(bytes).is_err(), "{bytes:?}");
        }
        assert!(parse_csv(b"image\n").unwrap().is_empty());
    }
}
