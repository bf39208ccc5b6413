//! Tests of the Open Inference Protocol over gRPC, with messages written field by field.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;
use prost::Message;

use super::{SMALL, Server, pictures, printed};

/// An answer to a call: the code, the message of an error, and the bytes of the answer's message.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) code: i32,
    error: String,
    pub(super) message: Bytes,
}

/// Calls a method over HTTP/2 and waits for its answer.
pub(super) fn call(address: &str, path: &str, headers: &[(&str, &str)], message: &[u8]) -> Answer {
    let address: SocketAddr = address.parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let mut request = http::Request::post(format!("http://{address}{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        body.send_data([&[0], &length[..], message].concat().into(), true).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        let (parts, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend(data);
        }
        let trailers = body.trailers().await.unwrap().unwrap_or(parts.headers);
        let text = |name| trailers.get(name).map_or("", |value| value.to_str().unwrap());
        let message = bytes.get(5..).unwrap_or_default().to_vec().into();
        let error = text("grpc-message").to_owned();
        Answer { code: text("grpc-status").parse().unwrap(), error, message }
    })
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Tensor {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    datatype: String,
    #[prost(int64, repeated, tag = "3")]
    shape: Vec<i64>,
    #[prost(message, optional, tag = "5")]
    contents: Option<Contents>,
}

#[derive(Clone, PartialEq, Message)]
struct Contents {
    #[prost(bytes = "bytes", repeated, tag = "8")]
    bytes: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct Parameter {
    #[prost(double, optional, tag = "4")]
    double: Option<f64>,
}

#[derive(Clone, PartialEq, Message)]
struct InferRequest {
    #[prost(string, tag = "1")]
    model: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(map = "string, message", tag = "4")]
    parameters: HashMap<String, Parameter>,
    #[prost(message, repeated, tag = "5")]
    inputs: Vec<Tensor>,
    #[prost(message, repeated, tag = "6")]
    outputs: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "7")]
    raw: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InferResponse {
    #[prost(string, tag = "1")]
    model: String,
    #[prost(string, tag = "2")]
    version: String,
    #[prost(string, tag = "3")]
    id: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) outputs: Vec<Tensor>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub(super) raw: Vec<Bytes>,
}

/// The path of the call that detects.
pub(super) const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";

/// Writes a request for the shapes model with one input of some files, with its elements or raw.
fn request(files: &[&[u8]], raw: bool) -> InferRequest {
    let files = files.iter().map(|file| Bytes::copy_from_slice(file));
    let shape = vec![i64::try_from(files.len()).unwrap()];
    let (contents, raw) = if raw {
        let element = |file: Bytes| {
            let length = u32::try_from(file.len()).unwrap().to_le_bytes();
            [&length[..], &file].concat()
        };
        (None, vec![files.flat_map(element).collect::<Vec<u8>>().into()])
    } else {
        (Some(Contents { bytes: files.collect() }), Vec::new())
    };
    let input = Tensor { name: "image".into(), datatype: "BYTES".into(), shape, contents };
    InferRequest { model: "shapes".into(), inputs: vec![input], raw, ..Default::default() }
}

/// Starts a server with a port for gRPC, and returns it with the address of that.
pub(super) fn start(flags: &[&str]) -> (Server, String) {
    start_whole(&[&SMALL[..], flags].concat())
}

/// Starts a server as [`start`] does, at the size of the model.
pub(super) fn start_whole(flags: &[&str]) -> (Server, String) {
    let mut server = Server::start(&[&["--grpc-port", "0"], flags].concat());
    let stdout = server.running().stdout();
    let address = stdout.lines().find_map(|line| line.strip_prefix("listening on grpc://"));
    (server, address.unwrap().to_owned())
}

/// Reads little-endian numbers.
pub(super) fn floats(raw: &[u8]) -> Vec<f64> {
    let float = |bytes: &[u8]| f64::from(f32::from_le_bytes(bytes.try_into().unwrap()));
    raw.chunks(4).map(float).collect()
}

#[test]
fn grpc_gives_what_the_command_line_prints() {
    let (_server, address) = start(&[]);
    let files = pictures();
    let flags = [&SMALL[..], &["--threshold", "0.25"]].concat();
    let expected: serde_json::Value = serde_json::from_str(&printed(&files, &flags, 0)).unwrap();
    let contents: Vec<&[u8]> = files.iter().map(|(_, bytes)| &bytes[..]).collect();
    for raw in [false, true] {
        let mut asked = request(&contents, raw);
        asked.id = "7".into();
        asked.parameters.insert("threshold".into(), Parameter { double: Some(0.25) });
        let wanted = |name: &str| Tensor { name: name.into(), ..Default::default() };
        asked.outputs = ["scores", "num_detections"].map(wanted).into();
        let answer = call(&address, MODEL_INFER, &[], &asked.encode_to_vec());
        assert_eq!(answer.code, 0, "{answer:?}");
        let found = InferResponse::decode(answer.message).unwrap();
        assert_eq!((&found.model[..], &found.version[..], &found.id[..]), ("shapes", "1", "7"));
        let names: Vec<&str> = found.outputs.iter().map(|output| &output.name[..]).collect();
        assert_eq!(names, ["scores", "num_detections"]);
        let most = usize::try_from(found.outputs[0].shape[1]).unwrap();
        let scores = floats(&found.raw[0]);
        for (index, row) in expected.as_array().unwrap().iter().enumerate() {
            let detections = row["detections"].as_array().unwrap();
            let count = i32::try_from(detections.len()).unwrap();
            assert_eq!(found.raw[1][4 * index..4 * index + 4], count.to_le_bytes());
            let score = |detection: &serde_json::Value| detection["score"].as_f64().unwrap();
            let expected: Vec<f64> = detections.iter().map(score).collect();
            assert_eq!(scores[index * most..][..expected.len()], expected);
        }
    }
}

#[test]
fn grpc_tells_state_and_models() {
    let (_server, address) = start(&[]);
    let ask = |path: &str, message: &[u8]| call(&address, path, &[], message);
    for name in ["ServerLive", "ServerReady"] {
        let answer = ask(&format!("/inference.GRPCInferenceService/{name}"), b"");
        assert_eq!((answer.code, &answer.message[..]), (0, &[8, 1][..]), "{name}");
    }
    let answer = ask("/grpc.health.v1.Health/Check", b"");
    assert_eq!((answer.code, &answer.message[..]), (0, &[8, 1][..]));
    // Field 1, a text.
    let shapes = [&[10, 6][..], b"shapes"].concat();
    let answer = ask("/inference.GRPCInferenceService/ModelReady", &shapes);
    assert_eq!((answer.code, &answer.message[..]), (0, &[8, 1][..]));
    for (name, part) in [
        ("ServerMetadata", "model_repository"),
        ("ModelMetadata", "num_detections"),
        ("RepositoryIndex", "READY"),
    ] {
        let answer = ask(&format!("/inference.GRPCInferenceService/{name}"), &shapes);
        assert_eq!(answer.code, 0, "{name}: {answer:?}");
        assert!(String::from_utf8_lossy(&answer.message).contains(part), "{name}");
    }
}

#[test]
fn grpc_refuses_with_the_code_of_the_fault() {
    let folder = crate::support::folder_with([("tokens", b"sesame\n".to_vec())]);
    let file = folder.path().join("tokens");
    let flags = ["--token-file", file.to_str().unwrap(), "--max-body", "1"];
    let (server, address) = start(&flags);
    let token = ("authorization", "Bearer sesame");
    let good = request(&[&pictures()[1].1], true);
    assert_eq!(call(&address, MODEL_INFER, &[token], &good.encode_to_vec()).code, 0);
    assert_eq!(call(&address, MODEL_INFER, &[], &good.encode_to_vec()).code, 16);
    assert_eq!(call(&address, "/inference.GRPCInferenceService/ServerLive", &[], b"").code, 0);
    let changed = |change: &dyn Fn(&mut InferRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request.encode_to_vec()
    };
    let repository = [&[18, 6][..], b"shapes"].concat();
    for (path, message, code, part) in [
        (MODEL_INFER, b"\xff\xff\xff".to_vec(), 13, ""),
        (MODEL_INFER, changed(&|request| request.model = "../x".into()), 5, "no such model"),
        (MODEL_INFER, changed(&|request| request.inputs.clear()), 3, "raw_input_contents"),
        (MODEL_INFER, changed(&|request| request.raw.clear()), 3, "expected contents"),
        (MODEL_INFER, changed(&|request| request.inputs[0].shape = vec![i64::MAX, 9]), 3, "shape"),
        (MODEL_INFER, changed(&|request| request.inputs[0].shape = vec![2]), 3, "elements"),
        (
            MODEL_INFER,
            changed(&|request| request.inputs[0].name = "other".into()),
            3,
            "no such input",
        ),
        (
            MODEL_INFER,
            changed(&|request| request.raw[0] = Bytes::from_static(b"\x09\0\0\0a")),
            3,
            "ends",
        ),
        (MODEL_INFER, vec![0; (1 << 20) + 1], 8, "more than"),
        ("/inference.GRPCInferenceService/RepositoryModelLoad", repository, 7, "--model-control"),
        ("/inference.GRPCInferenceService/Other", Vec::new(), 12, ""),
    ] {
        let answer = call(&address, path, &[token], &message);
        let shown = format!("{path} {:?}: {answer:?}", &message[..message.len().min(40)]);
        assert_eq!(answer.code, code, "{shown}");
        assert!(answer.error.replace("%20", " ").contains(part), "{shown}");
    }
    assert_eq!(
        call(&address, MODEL_INFER, &[token, ("grpc-timeout", "1n")], &good.encode_to_vec()).code,
        4
    );
    assert_eq!(call(&address, MODEL_INFER, &[token], &good.encode_to_vec()).code, 0);
    let headers = [("Authorization", "Bearer sesame")];
    let metrics =
        super::client::request(&server.address, "GET", "/metrics", &headers, b"").unwrap();
    assert!(metrics.text().contains(MODEL_INFER), "{}", metrics.text());
}
