//! Clients that other people wrote: what they sent once, and they themselves where `DETR_TEST_CLIENTS` names a folder
//! for a virtual environment of Python.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use detr_types::env;
use prost::Message;
use serde_json::Value;

use super::client::{Answer, connect, read_whole};
use super::grpc::{InferResponse, MODEL_INFER, call, floats};
use super::{SMALL, Server, pictures, printed, shapes};
use crate::support::{detr, folder_with, root};

/// Returns the folder of this file.
fn ours() -> PathBuf {
    root().join("tests/tests/behaviour/serve")
}

/// Returns the folder of the requests that `clients.py --record` wrote, all for `shapes.jpg` beside them.
fn recorded() -> PathBuf {
    ours().join("requests")
}

/// Returns the Python of the virtual environment that `DETR_TEST_CLIENTS` names, and makes the environment if there is
/// none.
fn python() -> Option<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let environment = std::env::var_os(env::DETR_TEST_CLIENTS)?;
    let _guard = ONE_AT_A_TIME.lock().unwrap();
    let python = Path::new(&environment).join("bin/python");
    if !python.is_file() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status().unwrap();
        assert!(made.success());
        let mut install = Command::new(&python);
        install
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(ours().join("requirements.txt"));
        assert!(install.status().unwrap().success());
    }
    Some(python)
}

/// Returns the files of the folder that end so, with their names.
fn recorded_as(ending: &str) -> Vec<(String, Vec<u8>)> {
    let files = recorded().read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|found| found == ending));
    let file = |path: PathBuf| {
        (path.file_stem().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
    };
    files.map(file).collect()
}

/// Returns the scores of an answer, whatever its protocol.
fn scores(answer: &Answer) -> Vec<f64> {
    let numbers = |values: &Value| -> Vec<f64> {
        values.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let Some(length) = answer.header("inference-header-content-length") else {
        let json = answer.json();
        if let Some(rows) = json.get("predictions") {
            let found = rows[0]["detections"].as_array().unwrap();
            return found.iter().map(|detection| detection["score"].as_f64().unwrap()).collect();
        }
        let outputs = json["outputs"].as_array().unwrap();
        return numbers(&outputs.iter().find(|output| output["name"] == "scores").unwrap()["data"]);
    };
    let (head, mut tail) = answer.body.split_at(length.parse().unwrap());
    let head: Value = serde_json::from_slice(head).unwrap();
    for output in head["outputs"].as_array().unwrap() {
        let Some(size) = output["parameters"]["binary_data_size"].as_u64() else {
            assert_ne!(output["name"], "scores", "{head}");
            continue;
        };
        let (bytes, rest) = tail.split_at(usize::try_from(size).unwrap());
        tail = rest;
        if output["name"] == "scores" {
            return floats(bytes);
        }
    }
    panic!("no scores: {head}");
}

#[test]
fn what_clients_of_other_people_sent_is_answered() {
    let picture =
        vec![("shapes.jpg".to_owned(), std::fs::read(recorded().join("shapes.jpg")).unwrap())];
    let expected: Value = serde_json::from_str(&printed(&picture, &[], 0)).unwrap();
    let detections = expected[0]["detections"].as_array().unwrap();
    let score = |detection: &Value| detection["score"].as_f64().unwrap();
    let expected: Vec<f64> = detections.iter().map(score).collect();
    assert!(expected.len() > 3, "{expected:?}");
    let (server, rpc) = super::grpc::start_whole(&[]);
    let requests = recorded_as("http");
    assert!(requests.len() >= 9);
    for (name, bytes) in requests {
        let mut stream = connect(&server.address).unwrap();
        std::io::Write::write_all(&mut stream, &bytes).unwrap();
        let answer = read_whole(stream).unwrap().expect(200).decoded();
        assert_eq!(scores(&answer), expected, "{name}");
    }
    let messages = recorded_as("grpc");
    assert!(messages.len() >= 2);
    for (name, message) in messages {
        let answer = call(&rpc, MODEL_INFER, &[], &message);
        assert_eq!(answer.code, 0, "{name}: {answer:?}");
        let found = InferResponse::decode(answer.message).unwrap();
        let place = found.outputs.iter().position(|output| output.name == "scores").unwrap();
        assert_eq!(floats(&found.raw[place]), expected, "{name}");
    }
}

#[test]
fn clients_of_other_people_get_what_the_command_line_prints() {
    let Some(python) = python() else { return };
    let mut files = pictures();
    // Ten pictures.
    files.push(("again.png".to_owned(), files[1].1.clone()));
    let folder = folder_with(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    let names: Vec<&String> = files.iter().map(|(name, _)| name).collect();
    let run = detr(["predict", "--json", "--backend", "flex", "--model"]).arg(shapes());
    let printed = run.args(SMALL).args(&names).inside(folder.path()).run().expect(0).stdout;
    std::fs::write(folder.path().join("printed.json"), printed).unwrap();
    let (server, rpc) = super::grpc::start(&["--max-batch", "4", "--max-delay", "5"]);
    for maker in ["others", "kserve"] {
        let mut command = Command::new(&python);
        command.arg(ours().join("clients.py")).args([maker, &server.address, &rpc, "printed.json"]);
        let outcome = command.args(&names).current_dir(folder.path()).output().unwrap();
        let stderr = String::from_utf8_lossy(&outcome.stderr);
        let stdout = String::from_utf8_lossy(&outcome.stdout);
        assert!(outcome.status.success(), "{stdout}{stderr}");
        assert!(stdout.contains("all equal"), "{stdout}{stderr}");
    }
}

#[test]
fn the_page_shows_what_the_command_line_prints() {
    let Some(chromium) = std::env::var_os(env::DETR_TEST_BROWSER) else { return };
    let python = python().expect("the page's test needs DETR_TEST_CLIENTS, too");
    let server = Server::start(&[]);
    let files = &pictures()[..1];
    let (name, bytes) = &files[0];
    let printed = printed(files, &[], 0).into_bytes();
    let folder = folder_with([(name.as_str(), bytes.clone()), ("printed.json", printed)]);
    let mut command = Command::new(python);
    command.arg(ours().join("page.py")).arg(chromium).arg(&server.address);
    command.args(["printed.json", name, "page.png"]).current_dir(folder.path());
    let outcome = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&outcome.stderr);
    let stdout = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success(), "{stdout}{stderr}");
    assert!(stdout.contains("none elsewhere"), "{stdout}{stderr}");
}
