//! Tests of the end of a server, and of models that are loaded again while requests come in.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::client::request;
use super::{SMALL, Server, pictures, shapes};

/// Copies the shapes model into a folder.
fn copy_of_shapes() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in shapes().read_dir().unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn a_server_that_is_told_to_stop_answers_what_it_took() {
    let flags = [&SMALL[..], &["--linger", "1.5", "--drain", "30"]].concat();
    let mut server = Server::start(&flags);
    let (address, png) = (server.address.clone(), pictures()[1].1.clone());
    let (good, told) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                // Clients learn from readiness, as load balancers do.
                while !told.load(Ordering::SeqCst) {
                    let headers = [("Content-Type", "image/png")];
                    let answer = request(&address, "POST", "/detect", &headers, &png).unwrap();
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    good.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        while good.load(Ordering::SeqCst) < 8 {
            std::thread::sleep(Duration::from_millis(5));
        }
        server.running().signal("TERM");
        let start = Instant::now();
        while request(&address, "GET", "/v2/health/ready", &[], b"").unwrap().status == 200 {
            assert!(start.elapsed() < Duration::from_secs(1), "still ready");
        }
        let live = request(&address, "GET", "/v2/health/live", &[], b"").unwrap();
        assert_eq!((live.status, live.header("connection")), (200, Some("close")));
        told.store(true, Ordering::SeqCst);
    });
    let start = Instant::now();
    let (code, _) = server.end();
    assert_eq!(code, Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut server = Server::start(&[&SMALL[..], &["--linger", "60"]].concat());
    server.running().signal("INT");
    let start = Instant::now();
    while server.get("/ping").status == 200 {
        assert!(start.elapsed() < Duration::from_secs(10));
    }
    server.running().signal("INT");
    assert_eq!(server.end().0, Some(130));
}

#[test]
fn models_are_loaded_again_without_a_lost_request() {
    let folder = copy_of_shapes();
    let model = format!("copy={}", folder.path().display());
    let flags = [&SMALL[..], &["--model", &model, "--model-control"]].concat();
    let mut server = Server::start(&flags);
    let (address, png) = (server.address.clone(), pictures()[0].1.clone());
    let post = |path: &str| request(&address, "POST", path, &[("Content-Type", "image/png")], &png);
    let expected = post("/detect").unwrap().expect(200).text();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    assert_eq!(post("/detect").unwrap().expect(200).text(), expected);
                }
            });
        }
        server.running().signal("HUP");
        let start = Instant::now();
        while !server.running().stderr().contains("models are loaded again") {
            assert!(start.elapsed() < Duration::from_mins(1));
            std::thread::sleep(Duration::from_millis(10));
        }
        post("/v2/repository/models/copy/load").unwrap().expect(200);
        // Weights that are not there any more change nothing.
        std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        let answer = post("/v2/repository/models/copy/load").unwrap().expect(400);
        assert!(answer.text().contains("cannot be read again"), "{}", answer.text());
        assert_eq!(post("/detect").unwrap().expect(200).text(), expected);
        done.store(true, Ordering::SeqCst);
    });
    post("/v2/repository/models/copy/unload").unwrap().expect(200);
    post("/detect").unwrap().expect(503);
    let index = post("/v2/repository/index").unwrap().expect(200).json();
    let line =
        json!({"name": "copy", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"});
    assert_eq!(index, json!([line]));
    post("/v2/repository/models/other/load").unwrap().expect(404);
}

#[test]
fn a_server_that_is_killed_while_it_loads_leaves_its_model_whole() {
    let folder = copy_of_shapes();
    let model = format!("copy={}", folder.path().display());
    let flags = [&SMALL[..], &["--model", &model]].concat();
    for pause in [0, 5, 20] {
        let mut server = Server::start(&flags);
        server.running().signal("HUP");
        std::thread::sleep(Duration::from_millis(pause));
        server.running().kill();
    }
    let server = Server::start(&flags);
    server.post("/detect", "image/png", &pictures()[0].1).expect(200);
}

#[test]
fn clouds_name_port_and_paths() {
    let variables = [("AIP_HEALTH_ROUTE", "/up"), ("AIP_PREDICT_ROUTE", "/vertex/predict")];
    let server = Server::start_with(&SMALL, &variables);
    server.get("/up").expect(200);
    let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, &pictures()[1].1);
    let body = json!({"instances": [{"b64": text}], "parameters": {"threshold": 0.1}}).to_string();
    let found = server.post("/vertex/predict", "application/json", body.as_bytes()).expect(200);
    assert_eq!(found.json()["predictions"].as_array().unwrap().len(), 1);
}
