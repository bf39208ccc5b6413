//! Tests of requests that are refused: each with its status, and the server goes on.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::client::{FORM, connect, form, read_answer, request};
use super::{SMALL, Server, pictures};
use crate::support::images::{png_claiming, truncated};

const JSON: &str = "application/json";

/// Requests that no server should take: path, type, body, status.
fn bad_requests() -> Vec<(&'static str, &'static str, Vec<u8>, u16)> {
    let (_, png) = &pictures()[1];
    let v2 = "/v2/models/shapes/infer";
    let input = |name: &str, datatype: &str, shape: &Value, data: &Value| {
        json!({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]})
            .to_string()
            .into_bytes()
    };
    let deep = "[".repeat(150_000).into_bytes();
    let deep_object = format!("{{\"inputs\": {}", "{\"a\":".repeat(150_000)).into_bytes();
    let text = STANDARD.encode(png);
    let mut all = vec![
        ("/detect", "image/png", b"".to_vec(), 400),
        ("/detect", "image/png", b"no picture".to_vec(), 400),
        ("/detect", "image/jpeg", truncated(&pictures()[2].1, 50), 400),
        ("/detect", "image/png", truncated(png, 50), 400),
        ("/detect", "image/png", png_claiming(100_000, 100_000, b""), 400),
        ("/detect", "image/gif", b"GIF89a\x01\0\x01\0".to_vec(), 400),
        ("/detect", "text/plain", png.clone(), 415),
        ("/detect", "application/xml", png.clone(), 415),
        ("/detect?threshold=2", "image/png", png.clone(), 400),
        ("/detect?threshold=NaN", "image/png", png.clone(), 400),
        ("/detect?threshold=high", "image/png", png.clone(), 400),
        ("/detect?max_detections=-1", "image/png", png.clone(), 400),
        ("/detect?masks=maybe", "image/png", png.clone(), 400),
        ("/detect?masks=1", "image/png", png.clone(), 400),
        ("/detect?annotated=gif", "image/png", png.clone(), 400),
        ("/detect?colour=red", "image/png", png.clone(), 400),
        ("/detect?model=../../etc/passwd", "image/png", png.clone(), 404),
        ("/detect?model=shapes&version=9", "image/png", png.clone(), 404),
        ("/detect", JSON, b"".to_vec(), 400),
        ("/detect", JSON, b"{".to_vec(), 400),
        ("/detect", JSON, b"[]".to_vec(), 400),
        ("/detect", JSON, b"{}".to_vec(), 400),
        ("/detect", JSON, b"\xff\xfe".to_vec(), 400),
        ("/detect", JSON, deep.clone(), 400),
        ("/detect", JSON, br#"{"image": "$$$$"}"#.to_vec(), 400),
        ("/detect", JSON, br#"{"image": "http://127.0.0.1:1/a.png"}"#.to_vec(), 400),
        ("/detect", JSON, br#"{"image": "data:image/png,abc"}"#.to_vec(), 400),
        ("/detect", JSON, br#"{"image": 7}"#.to_vec(), 400),
        ("/detect", JSON, br#"{"images": "abc"}"#.to_vec(), 400),
        ("/detect", JSON, format!(r#"{{"image": "{text}", "what": 1}}"#).into_bytes(), 400),
        ("/detect", "multipart/form-data", form(&pictures()[..1]), 400),
        ("/detect", FORM, b"--other\r\n".to_vec(), 400),
        ("/detect", FORM, form(&[]), 400),
        ("/invocations", "application/x-thing", b"".to_vec(), 415),
        ("/invocations", "application/json; charset=latin-1", b"{}".to_vec(), 415),
        ("/invocations", JSON, b"[1]".to_vec(), 400),
        ("/invocations", JSON, br#"{"inputs": [], "instances": []}"#.to_vec(), 400),
        ("/invocations", JSON, br#"{"inputs": []}"#.to_vec(), 400),
        ("/invocations", JSON, br#"{"inputs": ["abc="]}"#.to_vec(), 400),
        ("/invocations", JSON, deep_object, 400),
        ("/invocations", "text/csv", b"a,b\n1,2\n".to_vec(), 400),
        ("/v1/models/shapes:predict", JSON, b"{}".to_vec(), 400),
        ("/v1/models/shapes:explain", JSON, b"{}".to_vec(), 404),
        ("/v1/models/..%2f..%2fx:predict", JSON, b"{}".to_vec(), 404),
        (v2, JSON, deep, 400),
        (v2, JSON, b"{}".to_vec(), 400),
        (v2, JSON, input("image", "BYTES", &json!([2]), &json!([text])), 400),
        (v2, JSON, input("image", "FP32", &json!([1]), &json!([1.5])), 400),
        (v2, JSON, input("image", "BYTES", &json!([1]), &json!(["$"])), 400),
        (v2, JSON, input("pixels", "UINT8", &json!([1, 1, 1, 3]), &json!([1, 2])), 400),
        (v2, JSON, input("pixels", "UINT8", &json!([i64::MAX, i64::MAX, 3]), &json!([])), 400),
        (
            v2,
            JSON,
            input("pixels", "UINT8", &json!([1_i64 << 40, 1_i64 << 40, 3]), &json!([])),
            400,
        ),
        (v2, JSON, input("pixels", "UINT8", &json!([-1, -1, 3]), &json!([1, 2, 3])), 400),
        (v2, JSON, input("masks", "UINT8", &json!([1]), &json!([1])), 400),
        ("/v2/models/..%2F..%2Fx/infer", JSON, b"{}".to_vec(), 404),
        ("/v2/models/%252e%252e/infer", JSON, b"{}".to_vec(), 404),
        ("/v2/models/shapes/versions/..%2f1/infer", JSON, b"{}".to_vec(), 404),
        ("/v2/repository/models/shapes/unload", JSON, b"{}".to_vec(), 403),
        ("/nowhere", JSON, b"{}".to_vec(), 404),
        ("/ping", JSON, b"{}".to_vec(), 405),
    ];
    let many = vec![text.as_str(); 65];
    let many = json!({ "inputs": many }).to_string().into_bytes();
    all.push(("/invocations", JSON, many, 413));
    all
}

#[test]
fn bad_requests_have_their_status_and_a_reason() {
    let server = Server::start(&SMALL);
    let all = bad_requests();
    assert!(all.len() >= 60);
    for (path, kind, body, status) in all {
        let start = Instant::now();
        let answer = server.post(path, kind, &body);
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(answer.status, status, "{path} {kind} {shown}: {}", answer.text());
        assert!(start.elapsed() < Duration::from_secs(20), "{path} {kind} {shown}");
        if path.starts_with("/invocations") && status != 415 {
            let found = answer.json();
            assert!(found["error_code"].is_string() && found["message"].is_string(), "{found}");
        } else if status != 415 {
            assert!(answer.text().contains("\"error\""), "{path}: {}", answer.text());
        }
    }
    server.get("/v2/health/live").expect(200);
    server.post("/detect", "image/png", &pictures()[1].1).expect(200);
    let no_type = request(&server.address, "POST", "/invocations", &[], b"{}").unwrap();
    no_type.expect(415);
}

#[test]
fn bodies_have_a_limit_however_they_come() {
    let server = Server::start(&[&SMALL[..], &["--max-body", "1"]].concat());
    let large = vec![b'x'; (1 << 20) + 1];
    server.post("/detect", "image/png", &large).expect(413);
    server.post("/invocations", JSON, &large).expect(413);

    // Without a length, in chunks.
    let mut stream = connect(&server.address).unwrap();
    let head = "POST /detect HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: image/png\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for chunk in large.chunks(64 << 10) {
        let chunk = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        if stream.write_all(&chunk).is_err() {
            break;
        }
    }
    let _ = stream.write_all(b"0\r\n\r\n");
    assert_eq!(read_answer(stream).unwrap().status, 413);

    // A megabyte that grows to a gigabyte would.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = gzip.finish().unwrap();
    let headers = [("Content-Type", "image/png"), ("Content-Encoding", "gzip")];
    request(&server.address, "POST", "/detect", &headers, &bomb).unwrap().expect(413);
    let headers = [("Content-Type", "image/png"), ("Content-Encoding", "br")];
    request(&server.address, "POST", "/detect", &headers, b"x").unwrap().expect(415);
    let headers = [("Content-Type", "image/png"), ("Content-Encoding", "gzip")];
    request(&server.address, "POST", "/detect", &headers, b"x").unwrap().expect(400);
    server.post("/detect", "image/png", &pictures()[1].1).expect(200);
}

#[test]
fn slow_clients_are_cut_off_and_hold_nobody_up() {
    let flags = [&SMALL[..], &["--head-timeout", "1", "--body-timeout", "1"]].concat();
    let server = Server::start(&flags);
    let start = Instant::now();
    let connect_slowly = |index: usize| {
        let mut stream = connect(&server.address).unwrap();
        let head = match index % 3 {
            0 => "POST /detect HTTP/1.1\r\nHost: a\r\nContent-",
            1 => {
                "POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\nx"
            }
            _ => "",
        };
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut slow: Vec<_> = (0..200).map(connect_slowly).collect();
    for _ in 0..5 {
        server.post("/detect", "image/png", &pictures()[1].1).expect(200);
    }
    for (index, stream) in slow.iter_mut().enumerate() {
        let mut bytes = Vec::new();
        // A reset is an end, too.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes);
        if index % 3 == 1 {
            assert!(text.starts_with("HTTP/1.1 408"), "{index}: {text}");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn tiny_chunks_and_idle_connections_hold_nobody_up() {
    let server = Server::start(&SMALL);
    let idle: Vec<_> = (0..400).map(|_| connect(&server.address).unwrap()).collect();
    let head = "POST /detect HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: image/png\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let start = Instant::now();
    let answer = std::thread::scope(|scope| {
        let tiny = scope.spawn(|| {
            let mut stream = connect(&server.address).unwrap();
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all("1\r\nx\r\n".repeat(1_000_000).as_bytes()).unwrap();
            stream.write_all(b"0\r\n\r\n").unwrap();
            read_answer(stream).unwrap()
        });
        for _ in 0..5 {
            server.post("/detect", "image/png", &pictures()[1].1).expect(200);
        }
        tiny.join().unwrap()
    });
    // A megabyte that is no picture.
    assert_eq!(answer.status, 400, "{}", answer.text());
    assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
    drop(idle);
    server.get("/ping").expect(200);
}

#[test]
fn tokens_are_asked_for_and_never_told() {
    let folder =
        crate::support::folder_with([("tokens", b"# ours\nsesame-0123\n\nsecond\n".to_vec())]);
    let file = folder.path().join("tokens");
    let flags = ["--token-file", file.to_str().unwrap(), "--log-requests"];
    let mut server =
        Server::start_with(&[&SMALL[..], &flags].concat(), &[("DETR_SERVE_TOKEN", "third")]);
    let (_, png) = &pictures()[1];
    let post = |token: Option<&str>| {
        let mut headers = vec![("Content-Type", "image/png"), ("X-Request-Id", "mine-1")];
        headers.extend(token.map(|token| ("Authorization", token)));
        request(&server.address, "POST", "/detect?threshold=0.125", &headers, png).unwrap()
    };
    for token in ["Bearer sesame-0123", "bearer second", "Bearer third"] {
        assert_eq!(post(Some(token)).expect(200).header("x-request-id"), Some("mine-1"));
    }
    for token in
        [None, Some("Bearer sesame-012"), Some("Basic second"), Some("Bearer "), Some("second")]
    {
        let answer = post(token).expect(401);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    for path in ["/metrics", "/v2", "/v2/models/shapes", "/v1/models"] {
        server.get(path).expect(401);
    }
    for path in ["/ping", "/health", "/version", "/v2/health/live", "/v2/health/ready"] {
        server.get(path).expect(200);
    }
    let log = server.running().stderr();
    let lines: Vec<Value> =
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let mine = lines.iter().find(|line| line["id"] == "mine-1").unwrap();
    assert_eq!((&mine["path"], &mine["status"]), (&json!("/detect"), &json!(200)));
    assert!(mine["ms"].is_number() && mine["client"].as_str().unwrap().starts_with("127.0.0.1:"));
    for secret in ["sesame", "second\"", "third", "threshold", "Bearer"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[test]
fn flags_that_cannot_work_are_usage() {
    let folder = crate::support::folder_with([("empty", b"# nothing\n".to_vec())]);
    let file = folder.path().join("empty").display().to_string();
    let model = super::shapes().display().to_string();
    let again = format!("shapes={model}");
    for (flags, code, part) in [
        (vec!["--model", "no/such/model"], 3, "no model"),
        (vec!["--model", &model, "--token-file", &file], 2, "no token"),
        (vec!["--model", &model, "--token-file", "nowhere"], 2, "nowhere"),
        (vec!["--model", &model, "--model", &again], 2, "two models"),
        (vec!["--model", "a/b=c"], 2, "NAME=PATH"),
        (vec!["--model", &model, "--deadline=-1"], 2, "seconds"),
        (vec!["--model", &model, "--max-queue", "0"], 2, "--max-queue"),
        (vec!["--model", &model, "--host", "nowhere"], 2, "--host"),
        (vec![], 2, "--model"),
    ] {
        let run = crate::support::detr(["serve", "--backend", "flex", "--port", "0"]).args(&flags);
        let outcome = run.run().expect(code);
        assert!(outcome.stderr.contains(part), "{flags:?}: {}", outcome.stderr);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let flags = ["serve", "--backend", "flex", "--model", &model, "--port", &port];
    let outcome = crate::support::detr(flags).run().expect(1);
    assert!(outcome.stderr.contains("cannot listen") && outcome.ends_with_hint());
}
