//! Tests that every protocol gives what `detr predict --json` prints.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::{GzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};
use serde_json::{Value, json};

use super::client::{FORM, form, request};
use super::{SMALL, Server, pictures, printed, shapes};
use crate::support::images::truncated;
use crate::support::{detr, folder_with};

/// Replaces the names that a protocol gives pictures by those of the files.
fn renamed(mut rows: Value, files: &[(String, Vec<u8>)]) -> Value {
    for (row, (name, _)) in rows.as_array_mut().unwrap().iter_mut().zip(files) {
        row["file"] = name.as_str().into();
    }
    rows
}

#[test]
fn detect_prints_what_the_command_line_does() {
    let mut files = pictures();
    let bad = truncated(&files[2].1, 60);
    files.insert(3, ("bad.jpg".to_owned(), bad));
    let server = Server::start(&[]);
    let answer = server.post("/detect", FORM, &form(&files)).expect(200);
    assert_eq!(answer.text(), printed(&files, &[], 1));
    assert!(answer.text().contains("\"error\"") && answer.text().contains("star"));
    assert!(answer.header("server-timing").unwrap().contains("infer;dur="));
    assert!(answer.header("x-request-id").is_some());

    let one = &files[..1];
    let expected: Value = serde_json::from_str(&printed(one, &["--threshold", "0.9"], 0)).unwrap();
    let raw = server.post("/detect?threshold=0.9", "image/png", &one[0].1).expect(200).json();
    assert_eq!(renamed(raw, one), expected);
    let text = STANDARD.encode(&one[0].1);
    for body in [
        json!({"image": text, "threshold": 0.9}),
        json!({"images": [{"b64": text, "file": "shapes.png"}], "threshold": 0.9}),
    ] {
        let body = body.to_string();
        let found = server.post("/detect", "application/json", body.as_bytes()).expect(200);
        assert_eq!(renamed(found.json(), one), expected);
    }
    let best = server.post("/detect?max_detections=2", "image/png", &one[0].1).expect(200).json();
    assert_eq!(best[0]["detections"].as_array().unwrap().len(), 2);
}

#[test]
fn annotated_pictures_are_those_of_the_command_line() {
    let files = &pictures()[..1];
    let folder = folder_with(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    let run = detr(["predict", "--backend", "flex", "--save", "out", "shapes.png", "--model"]);
    run.arg(shapes()).inside(folder.path()).run().expect(0);
    let saved = image::open(folder.path().join("out/shapes.png")).unwrap();
    let server = Server::start(&[]);
    let answer = server.post("/detect?annotated=png", "image/png", &files[0].1).expect(200);
    assert_eq!(answer.header("content-type"), Some("image/png"));
    assert_eq!(image::load_from_memory(&answer.body).unwrap(), saved);
}

#[test]
fn mlflow_and_kserve_give_the_same_rows() {
    let files = pictures();
    let server = Server::start(&SMALL);
    let expected: Value = serde_json::from_str(&printed(&files, &SMALL, 0)).unwrap();
    let texts: Vec<String> = files.iter().map(|(_, bytes)| STANDARD.encode(bytes)).collect();
    // Python's encodebytes breaks lines.
    let lines = |text: &String| {
        let lines: Vec<&str> =
            text.as_bytes().chunks(76).map(|line| std::str::from_utf8(line).unwrap()).collect();
        lines.join("\n") + "\n"
    };
    let wrapped: Vec<String> = texts.iter().map(lines).collect();
    let column: Vec<[&String; 1]> = wrapped.iter().map(|text| [text]).collect();
    let records: Vec<Value> = texts.iter().map(|text| json!({ "image": text })).collect();
    let objects: Vec<Value> = texts.iter().map(|text| json!({ "b64": text })).collect();
    for body in [
        json!({"dataframe_split": {"columns": ["image"], "data": column}}),
        json!({"dataframe_records": records}),
        json!({"instances": objects, "params": {"threshold": 0.5}}),
        json!({"inputs": {"image": texts}}),
    ] {
        let body = body.to_string();
        let answer =
            server.post("/invocations", "application/json; charset=utf-8", body.as_bytes());
        let rows = answer.expect(200).json()["predictions"].clone();
        assert_eq!(renamed(rows, &files), expected);
    }
    let lines = files.iter().zip(&texts).map(|((name, _), text)| format!("{name},{text}\n"));
    let table = "file,image\n".to_owned() + &lines.collect::<String>();
    let answer = server.post("/invocations", "text/csv", table.as_bytes()).expect(200);
    assert_eq!(answer.json()["predictions"], expected);
    let answer = server.post("/invocations", FORM, &form(&files)).expect(200);
    assert_eq!(answer.json()["predictions"], expected);
    let raw = server.post("/invocations", "image/jpeg", &files[2].1).expect(200).json();
    assert_eq!(renamed(raw["predictions"].clone(), &files[2..3])[0], expected[2]);

    let body = json!({"instances": objects}).to_string();
    let path = "/v1/models/shapes:predict";
    let rows = server.post(path, "application/json", body.as_bytes()).expect(200).json();
    assert_eq!(renamed(rows["predictions"].clone(), &files), expected);
    assert_eq!(server.get("/v1/models").json(), json!({"models": ["shapes"]}));
    assert_eq!(server.get("/v1/models/shapes").json(), json!({"name": "shapes", "ready": true}));
}

/// Makes rows like those of the command line from the tensors of an answer.
fn rows(tensor: impl Fn(&str) -> Value, files: &[(String, Vec<u8>)]) -> Value {
    let [counts, boxes, scores] = ["num_detections", "boxes", "scores"].map(&tensor);
    let [labels, names, sizes] = ["labels", "names", "image_sizes"].map(&tensor);
    let most = scores.as_array().unwrap().len() / files.len();
    let rows = files.iter().enumerate().map(|(image, (name, _))| {
        let count = usize::try_from(counts[image].as_u64().unwrap()).unwrap();
        let found = (image * most..image * most + count).map(|at| {
            let [x1, y1, x2, y2] = [0, 1, 2, 3].map(|corner| &boxes[4 * at + corner]);
            json!({"label": labels[at], "name": names[at], "score": scores[at],
                   "box": {"x1": x1, "y1": y1, "x2": x2, "y2": y2}})
        });
        let found: Vec<Value> = found.collect();
        json!({"file": name, "width": sizes[2 * image + 1], "height": sizes[2 * image],
               "detections": found})
    });
    rows.collect()
}

/// Reads a tensor from the bytes behind the JSON.
fn binary(answer: &Value, tail: &[u8], name: &str) -> Value {
    let mut at = 0;
    for output in answer["outputs"].as_array().unwrap() {
        let size = output["parameters"]["binary_data_size"].as_u64().unwrap();
        let size = usize::try_from(size).unwrap();
        let bytes = &tail[at..at + size];
        at += size;
        if output["name"] == name {
            let four = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).unwrap();
            return match output["datatype"].as_str().unwrap() {
                "FP32" => {
                    bytes.chunks(4).map(|part| json!(f32::from_le_bytes(four(part)))).collect()
                }
                "INT32" => {
                    bytes.chunks(4).map(|part| json!(i32::from_le_bytes(four(part)))).collect()
                }
                "INT64" => {
                    let long = |part: &[u8]| i64::from_le_bytes(part.try_into().unwrap());
                    bytes.chunks(8).map(|part| json!(long(part))).collect()
                }
                _ => {
                    let (mut texts, mut rest) = (Vec::new(), bytes);
                    while !rest.is_empty() {
                        let length = u32::from_le_bytes(four(&rest[..4]));
                        let end = 4 + usize::try_from(length).unwrap();
                        texts.push(json!(std::str::from_utf8(&rest[4..end]).unwrap()));
                        rest = &rest[end..];
                    }
                    texts.into()
                }
            };
        }
    }
    panic!("no output {name}")
}

#[test]
fn the_open_inference_protocol_gives_the_same_detections() {
    let files = pictures();
    let server = Server::start(&SMALL);
    let mut expected: Value = serde_json::from_str(&printed(&files, &SMALL, 0)).unwrap();
    for row in expected.as_array_mut().unwrap() {
        for detection in row["detections"].as_array_mut().unwrap() {
            detection.as_object_mut().unwrap().remove("category_id");
        }
    }
    let texts: Vec<String> = files.iter().map(|(_, bytes)| STANDARD.encode(bytes)).collect();
    let path = "/v2/models/shapes/versions/1/infer";
    let body = json!({"id": "seven", "inputs": [
        {"name": "image", "datatype": "BYTES", "shape": [files.len()], "data": texts}]});
    let answer = server.post(path, "application/json", body.to_string().as_bytes()).expect(200);
    let found = answer.json();
    assert_eq!((&found["id"], &found["model_name"]), (&json!("seven"), &json!("shapes")));
    let tensor = |name: &str| {
        let outputs = found["outputs"].as_array().unwrap();
        outputs.iter().find(|output| output["name"] == name).unwrap()["data"].clone()
    };
    assert_eq!(rows(tensor, &files), expected);

    let mut tail = Vec::new();
    for (_, bytes) in &files {
        tail.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        tail.extend(bytes);
    }
    let head = json!({"parameters": {"binary_data_output": true}, "inputs": [
        {"name": "image", "datatype": "BYTES", "shape": [files.len(), 1],
         "parameters": {"binary_data_size": tail.len()}}]})
    .to_string();
    let body = [head.as_bytes(), &tail].concat();
    let length = head.len().to_string();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&body).unwrap();
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
    zlib.write_all(&body).unwrap();
    for (coding, body) in
        [("identity", body), ("gzip", gzip.finish().unwrap()), ("deflate", zlib.finish().unwrap())]
    {
        let headers = [
            ("Inference-Header-Content-Length", length.as_str()),
            ("Content-Encoding", coding),
            ("Accept-Encoding", coding),
        ];
        let path = "/v2/models/shapes/infer";
        let answer = request(&server.address, "POST", path, &headers, &body).unwrap().expect(200);
        let mut bytes = Vec::new();
        match answer.header("content-encoding") {
            None => bytes.extend(&answer.body),
            Some("gzip") => drop(GzDecoder::new(&answer.body[..]).read_to_end(&mut bytes).unwrap()),
            _ => drop(ZlibDecoder::new(&answer.body[..]).read_to_end(&mut bytes).unwrap()),
        }
        assert_eq!(answer.header("content-encoding").unwrap_or("identity"), coding);
        let length: usize =
            answer.header("inference-header-content-length").unwrap().parse().unwrap();
        let (head, tail) = bytes.split_at(length);
        let head: Value = serde_json::from_slice(head).unwrap();
        assert!(head.get("id").is_none(), "an id is returned where one was given");
        assert_eq!(rows(|name| binary(&head, tail, name), &files), expected, "{coding}");
    }
}

#[test]
fn pixels_are_a_picture_too_and_models_describe_themselves() {
    let server = Server::start(&SMALL);
    let (_, bytes) = &pictures()[0];
    let pixels = image::load_from_memory(bytes).unwrap().into_rgb8();
    let shape = [1, pixels.height(), pixels.width(), 3];
    let head = json!({"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": shape,
        "parameters": {"binary_data_size": pixels.as_raw().len()}}],
        "outputs": [{"name": "scores"}, {"name": "num_detections"}]})
    .to_string();
    let length = head.len().to_string();
    let body = [head.as_bytes(), pixels.as_raw()].concat();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let path = "/v2/models/shapes/infer";
    let found = request(&server.address, "POST", path, &headers, &body).unwrap().expect(200).json();
    let raw = server.post("/detect", "image/png", bytes).expect(200).json();
    let scores: Vec<Value> = raw[0]["detections"]
        .as_array()
        .unwrap()
        .iter()
        .map(|found| found["score"].clone())
        .collect();
    assert_eq!(found["outputs"][0]["name"], "scores");
    assert_eq!(found["outputs"][0]["data"], Value::from(scores.clone()));
    assert_eq!(found["outputs"][1]["data"], json!([scores.len()]));

    let about = server.get("/v2/models/shapes").expect(200).json();
    assert_eq!((&about["name"], &about["versions"]), (&json!("shapes"), &json!(["1"])));
    assert_eq!(about["inputs"][0]["name"], "image");
    assert_eq!(server.get("/v2").expect(200).json()["name"], "detr");
    server.get("/v2/models/shapes/ready").expect(200);
    server.get("/v2/models/shapes/versions/1/config").expect(200);
    for path in ["/v2/health/live", "/v2/health/ready", "/ping", "/health"] {
        server.get(path).expect(200);
    }
    assert_eq!(server.get("/version").expect(200).text(), env!("CARGO_PKG_VERSION"));
    let index = server.post("/v2/repository/index", "application/json", b"{}").expect(200).json();
    assert_eq!(index[0]["state"], "READY");
}

#[test]
fn the_last_layer_is_told_to_those_who_name_it() {
    let server = Server::start(&SMALL);
    let files = pictures();
    let texts = [&files[0].1, &files[1].1].map(|bytes| STANDARD.encode(bytes));
    let mut body = json!({
        "inputs": [{"name": "image", "datatype": "BYTES", "shape": [2], "data": texts}],
        "outputs": [{"name": "pred_boxes"}, {"name": "pred_logits"}, {"name": "scores"}],
        "parameters": {"threshold": 0.0, "max_detections": 1},
    });
    let post = |body: &Value| {
        let path = "/v2/models/shapes/infer";
        let found = server.post(path, "application/json", body.to_string().as_bytes());
        found.expect(200).json()["outputs"].clone()
    };
    let found = post(&body);
    assert_eq!(found[0]["shape"], json!([2, 50, 4]));
    assert_eq!(found[1]["shape"], json!([2, 50, 6]));
    let numbers = |values: &Value| -> Vec<f64> {
        values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let (logits, scores) = (numbers(&found[1]["data"]), numbers(&found[2]["data"]));
    for (logits, score) in logits.chunks(50 * 6).zip(scores) {
        let best = logits.iter().copied().fold(f64::MIN, f64::max);
        let expected = 1.0 / (1.0 + (-best).exp());
        assert!((expected - score).abs() < 1e-6, "{expected} {score}");
    }
    assert!(numbers(&found[0]["data"]).iter().all(|side| (0.0..=1.0).contains(side)));
    // Nobody else gets them.
    body["outputs"] = json!([]);
    assert!(!post(&body).to_string().contains("pred_"));
    let description = server.get("/v2/models/shapes").json()["outputs"].to_string();
    assert!(description.contains("pred_logits") && !description.contains("masks"), "{description}");
}
