//! Answers of a broken or hostile hub: each fault is an error that names it, and nothing is kept of
//! what came before.

use std::time::Duration;

use tempfile::TempDir;

use super::server::{Answer, Request, Server};
use super::{COMMIT, TOKEN, assert_nothing_kept, good, hub, weights, weights_sha256};
use crate::hub::address::{Endpoint, redirect};
use crate::hub::http::Patience;
use crate::hub::{HubError, NoProgress};

/// Fetches from a hub that answers well except where the path contains `at`.
fn check_fault(at: &'static str, expected: &str, fault: fn(Answer) -> Answer) -> usize {
    check_fault_with(|_| {}, at, expected, fault)
}

/// Runs [`check_fault`] with less patience.
fn check_fault_with(
    hurry: fn(&mut Patience),
    at: &'static str,
    expected: &str,
    fault: fn(Answer) -> Answer,
) -> usize {
    let broken = move |request: &Request| {
        let answer = good(request);
        if request.path.contains(at) { fault(answer) } else { answer }
    };
    let server = Server::start(broken);
    let cache = TempDir::new().unwrap();
    let mut hub = hub(&server.url(), &cache);
    hurry(&mut hub.patience);
    hub.weights_limit = 800_000;
    hub.json_limit = 1_000;
    let error = hub.fetch(super::REPO, "main", &NoProgress).unwrap_err().to_string();
    assert!(error.contains(expected), "{at}: expected `{expected}` in: {error}");
    assert!(error.contains(&server.url()), "the address is named: {error}");
    assert!(!error.contains(TOKEN) && !error.contains("signature="), "{error}");
    assert_nothing_kept(&cache);
    server.seen().iter().filter(|request| request.path.contains(at)).count()
}

const WEIGHTS: &str = "model.safetensors";
const STORAGE: &str = "/cdn/";
const CONFIG: &str = "/config.json";

#[test]
fn damaged_content_is_refused() {
    check_fault(STORAGE, "SHA-256 is", |mut answer| {
        answer.body[600_000] ^= 1;
        answer
    });
    check_fault(CONFIG, "git SHA-1 is", |mut answer| {
        answer.body[3] ^= 1;
        answer
    });
    check_fault(STORAGE, "got 500000 of 700001 bytes", |mut answer| {
        answer.body.truncate(500_000);
        answer
    });
    // A body that states no length must have the one that the hub has announced.
    check_fault(STORAGE, "got 500000 of 700001 bytes", |mut answer| {
        answer.body.truncate(500_000);
        answer.with("Content-Length", "")
    });
    check_fault(STORAGE, "of 700001 bytes", |mut answer| {
        answer.body.push(0);
        answer.with("Content-Length", "")
    });
}

#[test]
fn refusals_of_the_server_are_explained_and_tried_again_where_that_helps() {
    assert_eq!(check_fault(WEIGHTS, "HTTP 404", |_| Answer::new(404, b"")), 1);
    assert_eq!(
        check_fault(CONFIG, "the repository does not exist", |_| {
            Answer::new(404, b"").with("X-Error-Code", "RepoNotFound")
        }),
        1
    );
    assert_eq!(check_fault(CONFIG, "HF_TOKEN", |_| Answer::new(401, b"")), 1);
    assert_eq!(check_fault(WEIGHTS, "gated", |_| Answer::new(403, b"")), 1);
    assert_eq!(check_fault(STORAGE, "HTTP 500 (tries: 3)", |_| Answer::new(500, b"")), 3);
    assert_eq!(check_fault(CONFIG, "HTTP 429 (tries: 3)", |_| Answer::new(429, b"")), 3);
    assert_eq!(check_fault("preprocessor", "HTTP 503", |_| Answer::new(503, b"")), 3);
    assert_eq!(check_fault(CONFIG, "HTTP 206", |answer| Answer { status: 206, ..answer }), 1);
}

#[test]
fn silence_ends_the_download() {
    let check = |at, expected, fault| {
        check_fault_with(|patience| patience.idle = Duration::from_millis(300), at, expected, fault)
    };
    let silent = |answer: Answer| Answer { stall_after: Some(answer.body.len() / 2), ..answer };
    check(STORAGE, "no data for 300ms after", silent);
    check(CONFIG, "no data for 300ms", silent);
    check(WEIGHTS, "no data for 300ms", |answer| Answer { mute: true, ..answer });
}

#[test]
fn a_trickle_ends_the_download() {
    let check = |at, fault| {
        let expected = "slower than 10240 bytes a second, given up after";
        check_fault_with(|p| p.grace = Duration::from_millis(300), at, expected, fault)
    };
    check(STORAGE, |answer| Answer { drip: Some(Duration::from_millis(10)), ..answer });
    check("preprocessor", |answer| {
        let answer = answer.with("Content-Length", "600");
        Answer { body: vec![b' '; 600], drip: Some(Duration::from_millis(10)), ..answer }
    });
}

#[test]
fn a_hub_that_cannot_be_reached_is_named() {
    let closed = Server::start(good).url();
    let cache = TempDir::new().unwrap();
    let error = hub(&closed, &cache).fetch(super::REPO, "main", &NoProgress).unwrap_err();
    assert!(matches!(error, HubError::Network { .. }), "{error}");
    assert!(error.to_string().contains(&closed), "{error}");
    assert_nothing_kept(&cache);
}

#[test]
fn headers_that_cannot_be_believed_are_refused() {
    check_fault(WEIGHTS, "header ETag `\"../../../evil\"`", |answer| {
        answer.with("X-Linked-Etag", "\"../../../evil\"")
    });
    check_fault(CONFIG, "cannot be the name of a file", |a| a.with("ETag", "\"..\\evil\""));
    check_fault(CONFIG, "cannot be the name of a file", |a| a.with("ETag", "\"..\""));
    check_fault(CONFIG, "cannot be the name of a file", |a| a.with("ETag", ""));
    check_fault(CONFIG, "is not a commit", |a| a.with("X-Repo-Commit", "../../../evil"));
    check_fault(CONFIG, "is not a commit", |a| a.with("X-Repo-Commit", ""));
    check_fault(WEIGHTS, "is not the commit that was asked for", |answer| {
        answer.with("X-Repo-Commit", &COMMIT.replace('0', "1"))
    });
    check_fault(WEIGHTS, "differs from Content-Length", |a| a.with("X-Linked-Size", "700000"));
    check_fault(WEIGHTS, "is not a number", |a| a.with("X-Linked-Size", "-1"));
    check_fault(CONFIG, "was not asked for", |a| a.with("Content-Encoding", "gzip"));
}

#[test]
fn weights_need_a_sha256_and_small_files_need_none() {
    check_fault(WEIGHTS, "no SHA-256", |a| a.with("X-Linked-Etag", "\"5f3a-1\""));
    check_fault(WEIGHTS, "no SHA-256", |a| a.with("X-Linked-Etag", &format!("\"{COMMIT}\"")));
    // The hash of the host that only stores the bytes is not the hub's word.
    let storage = Server::start(|_| {
        Answer::new(200, &weights()).with("ETag", &format!("\"{}\"", weights_sha256()))
    });
    let target = storage.url();
    let server = Server::start(move |request| {
        let answer = good(request);
        if answer.status == 302 {
            answer.with("Location", &target).with("X-Linked-Etag", "")
        } else {
            answer
        }
    });
    let cache = TempDir::new().unwrap();
    let error = hub(&server.url(), &cache).fetch(super::REPO, "main", &NoProgress).unwrap_err();
    assert!(matches!(error, HubError::Header { header: "ETag", .. }), "{error}");
    assert_nothing_kept(&cache);

    let server = Server::start(|request| {
        let answer = good(request);
        if request.path.ends_with(CONFIG) { answer.with("ETag", "W/\"5f3a-1\"") } else { answer }
    });
    let cache = TempDir::new().unwrap();
    let folder = hub(&server.url(), &cache).fetch(super::REPO, "main", &NoProgress).unwrap();
    assert_eq!(std::fs::read(folder.join("config.json")).unwrap(), super::CONFIG);
}

#[test]
fn oversized_files_are_refused() {
    check_fault(WEIGHTS, "800001 bytes or more, the limit is 800000", |answer| {
        Answer { headers: answer.headers, ..Answer::new(200, &vec![0; 800_001]) }
            .with("Content-Length", "800001")
            .with("X-Linked-Size", "")
    });
    check_fault(CONFIG, "the limit is 1000", |_| {
        Answer::new(200, &[b' '; 2_000])
            .with("Content-Length", "")
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", "x")
    });
}

#[test]
fn redirects_that_are_not_safe_are_not_followed() {
    check_fault(WEIGHTS, "another host over plain http", |answer| {
        answer.with("Location", "http://other-host.invalid/weights?signature=1")
    });
    check_fault(WEIGHTS, "neither http nor https", |a| a.with("Location", "ftp://127.0.0.1/x"));
    check_fault(WEIGHTS, "is not an address", |a| a.with("Location", "file:///etc/passwd"));
    check_fault(WEIGHTS, "user name", |a| a.with("Location", "http://me:pw@127.0.0.1/x"));
    let hops = check_fault(WEIGHTS, "sixth in a row", |a| a.with("Location", "model.safetensors"));
    assert_eq!(hops, 6);
}

#[test]
fn encryption_is_never_given_up() {
    let hub = Endpoint::parse("https://hub.example").unwrap();
    let from = "https://hub.example/a/b/resolve/main/f".parse().unwrap();
    let to = |location| redirect(&hub, &from, location).map(|uri| uri.to_string());
    for bad in
        ["http://hub.example/x", "http://127.0.0.1/x", "http://other.example/x", "gopher://x/"]
    {
        assert!(to(bad).is_err(), "{bad}");
    }
    for (location, expected) in [
        ("https://cdn.example/x?sig=1", "https://cdn.example/x?sig=1"),
        ("//cdn.example/x", "https://cdn.example/x"),
        ("/api/x#part", "https://hub.example/api/x"),
        ("g?u=http://x", "https://hub.example/a/b/resolve/main/g?u=http://x"),
    ] {
        assert_eq!(to(location).unwrap(), expected);
    }
    // A hub set up as plain http may redirect into encryption, but not back.
    let hub = Endpoint::parse("http://mirror.example").unwrap();
    let plain = "http://mirror.example/f".parse().unwrap();
    assert!(redirect(&hub, &plain, "https://cdn.example/x").is_ok());
    assert!(redirect(&hub, &plain, "http://mirror.example:8080/x").is_ok());
    assert!(redirect(&hub, &plain, "http://other.example/x").is_err());
    let encrypted = "https://cdn.example/x".parse().unwrap();
    assert!(redirect(&hub, &encrypted, "http://mirror.example/x").is_err());
    assert!(!hub.is_private(), "no token over plain http");
    assert!(Endpoint::parse("http://[::1]:8080").unwrap().is_private());
    let lookalike = Endpoint::parse("http://127.0.0.1.evil.example").unwrap();
    assert!(!lookalike.is_private());
}
