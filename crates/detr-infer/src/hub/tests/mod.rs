//! The module against a hub on this machine; `tests/faults.rs` has what a bad one may do.

mod faults;
mod server;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use self::server::{Answer, Request, Server};
use super::download::{git_blob_sha1, hex};
use super::{Hub, HubError, NoProgress, Progress};

const REPO: &str = "tiny/detr-test";
const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const CONFIG: &[u8] = b"{\"model_type\": \"detr\"}\n";
const PREPROCESSOR: &[u8] = b"{\"size\": 800}\n";
const TOKEN: &str = "hf_secretsecret";

/// Returns content that is longer than the buffers on the way.
fn weights() -> Vec<u8> {
    (0..700_001_u32).map(|i| u8::try_from(i % 251).unwrap()).collect()
}

fn weights_sha256() -> String {
    hex(&Sha256::digest(weights()))
}

/// Answers like the real hub: weights by way of a redirect, small files directly.
fn good(request: &Request) -> Answer {
    let path = &request.path;
    if path == "/cdn/weights?signature=x" {
        return Answer::new(200, &weights()).with("ETag", "\"some-storage-tag-7\"");
    }
    let revisions = ["main", "v1.0", COMMIT];
    let file = revisions
        .iter()
        .find_map(|revision| path.strip_prefix(&format!("/{REPO}/resolve/{revision}/")));
    let small = |content: &[u8]| {
        let etag = format!("W/\"{}\"", git_blob_sha1(content));
        Answer::new(200, content).with("ETag", &etag).with("X-Repo-Commit", COMMIT)
    };
    match file {
        Some("config.json") => small(CONFIG),
        Some("preprocessor_config.json") => small(PREPROCESSOR),
        Some("model.safetensors") => Answer::new(302, b"moved")
            .with("Location", "/cdn/weights?signature=x")
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Etag", &format!("\"{}\"", weights_sha256()))
            .with("X-Linked-Size", &weights().len().to_string()),
        _ => Answer::new(404, b"").with("X-Error-Code", "EntryNotFound"),
    }
}

/// Creates a hub that does not pause between its tries.
fn hub(endpoint: &str, cache: &TempDir) -> Hub {
    let mut hub = Hub::new(endpoint, cache.path()).unwrap().with_token(TOKEN).unwrap();
    hub.patience.pauses = vec![Duration::ZERO; 2];
    hub
}

fn repo_dir(cache: &TempDir) -> std::path::PathBuf {
    cache.path().join("models--tiny--detr-test")
}

/// Lists all files and links below a folder.
fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            names.extend(files(&entry.path()));
        } else {
            names.push(entry.file_name().into_string().unwrap());
        }
    }
    names.sort();
    names
}

fn assert_nothing_kept(cache: &TempDir) {
    for folder in ["blobs", "snapshots", "refs"] {
        assert_eq!(files(&repo_dir(cache).join(folder)), [""; 0], "left in {folder}");
    }
}

/// Records the progress that it is told.
#[derive(Default)]
struct ProgressLog(Mutex<Vec<String>>);

impl Progress for ProgressLog {
    fn announce(&self, url: &str, size: Option<u64>, hash: &str) {
        let path = url.split_once(REPO).map_or(url, |(_, path)| path);
        self.0.lock().unwrap().push(format!("{path} {size:?} {hash}"));
    }
    fn start(&self, file: &str, _total: Option<u64>) {
        self.0.lock().unwrap().push(format!("start {file}"));
    }
    fn finish(&self) {
        self.0.lock().unwrap().push("finish".to_owned());
    }
}

#[test]
fn a_model_is_laid_out_as_the_python_tools_do_it() {
    let server = Server::start(good);
    let cache = TempDir::new().unwrap();
    let ear = ProgressLog::default();
    let folder = hub(&server.url(), &cache).fetch(REPO, "main", &ear).unwrap();

    let root = repo_dir(&cache);
    assert_eq!(folder, root.join("snapshots").join(COMMIT));
    assert_eq!(std::fs::read(root.join("refs/main")).unwrap(), COMMIT.as_bytes());
    let expected = [
        ("config.json", git_blob_sha1(CONFIG), CONFIG.to_vec()),
        ("model.safetensors", weights_sha256(), weights()),
        ("preprocessor_config.json", git_blob_sha1(PREPROCESSOR), PREPROCESSOR.to_vec()),
    ];
    for (file, hash, content) in &expected {
        assert_eq!(&std::fs::read(folder.join(file)).unwrap(), content);
        assert_eq!(&std::fs::read(root.join("blobs").join(hash)).unwrap(), content);
        #[cfg(unix)]
        assert_eq!(
            std::fs::read_link(folder.join(file)).unwrap(),
            Path::new("../../blobs").join(hash)
        );
    }
    assert_eq!(files(&root).len(), 7, "no temporary file is left");
    let heard = ear.0.into_inner().unwrap();
    assert_eq!(heard.len(), 9);
    assert_eq!(
        heard[6],
        format!("/resolve/{COMMIT}/model.safetensors Some(700001) sha256:{}", weights_sha256())
    );
    assert_eq!(heard[7..], ["start model.safetensors", "finish"]);
    // Once the commit is known, the branch is not asked for again.
    let paths: Vec<_> = server.seen().into_iter().map(|request| request.path).collect();
    assert_eq!(paths[0], format!("/{REPO}/resolve/main/config.json"));
    assert_eq!(paths[1], format!("/{REPO}/resolve/{COMMIT}/preprocessor_config.json"));
}

#[test]
fn a_complete_model_in_the_cache_needs_no_network() {
    let server = Server::start(good);
    let cache = TempDir::new().unwrap();
    let hub = hub(&server.url(), &cache);
    let folder = hub.fetch(REPO, "main", &NoProgress).unwrap();
    let asked = server.seen().len();
    assert_eq!(hub.fetch(REPO, "main", &NoProgress).unwrap(), folder);
    assert_eq!(hub.fetch(REPO, COMMIT, &NoProgress).unwrap(), folder);
    assert_eq!(server.seen().len(), asked);
    // Another name for the same commit costs one small request.
    assert_eq!(hub.fetch(REPO, "v1.0", &NoProgress).unwrap(), folder);
    assert_eq!(server.seen().len(), asked + 1);
}

#[test]
fn an_interrupted_model_is_completed_without_fetching_the_weights_again() {
    let server = Server::start(good);
    let cache = TempDir::new().unwrap();
    let hub = hub(&server.url(), &cache);
    let folder = hub.fetch(REPO, "main", &NoProgress).unwrap();
    std::fs::remove_file(folder.join("config.json")).unwrap();
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    let ear = ProgressLog::default();
    hub.fetch(REPO, "main", &ear).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
    assert_eq!(ear.0.into_inner().unwrap().len(), 3, "config only");
    // A blob that somebody damaged is not trusted.
    std::fs::remove_file(folder.join("model.safetensors")).unwrap();
    let blob = repo_dir(&cache).join("blobs").join(weights_sha256());
    std::fs::write(&blob, b"damaged").unwrap();
    let ear = ProgressLog::default();
    hub.fetch(REPO, "main", &ear).unwrap();
    assert_eq!(std::fs::read(blob).unwrap(), weights());
    assert_eq!(ear.0.into_inner().unwrap().len(), 6, "config and weights");
}

#[test]
fn a_model_without_preprocessor_config_is_complete() {
    let server = Server::start(|request| {
        if request.path.ends_with("preprocessor_config.json") {
            Answer::new(404, b"").with("X-Error-Code", "EntryNotFound")
        } else {
            good(request)
        }
    });
    let cache = TempDir::new().unwrap();
    let folder = hub(&server.url(), &cache).fetch(REPO, "v1.0", &NoProgress).unwrap();
    assert_eq!(files(&folder), ["config.json", "model.safetensors"]);
    let noted = repo_dir(&cache).join(".no_exist").join(COMMIT).join("preprocessor_config.json");
    assert!(noted.is_file());
}

#[test]
fn a_missing_preprocessor_config_is_fetched_for_the_commit_in_the_cache() {
    let server = Server::start(good);
    let cache = TempDir::new().unwrap();
    let online = hub(&server.url(), &cache);
    let folder = online.fetch(REPO, "main", &NoProgress).unwrap();
    let file = folder.join("preprocessor_config.json");
    std::fs::remove_file(&file).unwrap();
    assert!(online.cached(REPO, "main").unwrap().is_none());

    // Off the network, and where the hub does not answer, the model still works.
    let closed = Server::start(good).url();
    for other in [online.clone().with_offline(true), hub(&closed, &cache)] {
        assert_eq!(other.fetch(REPO, "main", &NoProgress).unwrap(), folder);
        assert!(!file.exists());
    }
    // A damaged file is not put in place.
    let damaged = Server::start(|request| {
        let mut answer = good(request);
        answer.body[0] ^= 1;
        answer
    });
    hub(&damaged.url(), &cache).fetch(REPO, "main", &NoProgress).unwrap_err();
    assert!(!file.exists());

    let asked = server.seen().len();
    assert_eq!(online.fetch(REPO, "main", &NoProgress).unwrap(), folder);
    assert_eq!(std::fs::read(&file).unwrap(), PREPROCESSOR);
    let paths: Vec<_> = server.seen().into_iter().skip(asked).map(|r| r.path).collect();
    assert_eq!(paths, [format!("/{REPO}/resolve/{COMMIT}/preprocessor_config.json")]);
    assert_eq!(online.cached(REPO, "main").unwrap(), Some(folder));
}

#[test]
fn offline_finds_what_python_left_and_says_what_is_missing() {
    let cache = TempDir::new().unwrap();
    let hub = hub("https://hub.invalid", &cache).with_offline(true);
    let error = hub.fetch(REPO, "main", &NoProgress).unwrap_err().to_string();
    for part in
        ["config.json and model.safetensors missing", "models pull tiny/detr-test`", "--tiny--"]
    {
        assert!(error.contains(part), "{part}: {error}");
    }
    let root = repo_dir(&cache);
    let snapshot = root.join("snapshots").join(COMMIT);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(root.join("refs")).unwrap();
    std::fs::write(root.join("refs/no_timm"), COMMIT).unwrap();
    std::fs::write(snapshot.join("config.json"), CONFIG).unwrap();
    let error = hub.fetch(REPO, "no_timm", &NoProgress).unwrap_err().to_string();
    for part in ["off: model.safetensors missing", "models pull tiny/detr-test@no_timm`", COMMIT] {
        assert!(error.contains(part), "{part}: {error}");
    }
    std::fs::write(snapshot.join("model.safetensors"), b"weights").unwrap();
    assert_eq!(hub.fetch(REPO, "no_timm", &NoProgress).unwrap(), snapshot);
    // A reference that is no commit must not become a path.
    std::fs::rename(&snapshot, cache.path().join("elsewhere")).unwrap();
    std::fs::write(root.join("refs/no_timm"), "../../elsewhere").unwrap();
    assert!(hub.cached(REPO, "no_timm").unwrap().is_none());
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let storage = Server::start(|_| Answer::new(200, &weights()));
    let target = format!("{}/elsewhere", storage.url());
    let server = Server::start(move |request| {
        let answer = good(request);
        if answer.status == 302 { answer.with("Location", &target) } else { answer }
    });
    let cache = TempDir::new().unwrap();
    hub(&server.url(), &cache).fetch(REPO, "main", &NoProgress).unwrap();
    let expected = Some(format!("Bearer {TOKEN}"));
    assert!(server.seen().iter().all(|request| request.authorization == expected));
    let [elsewhere] = &storage.seen()[..] else { panic!("one request") };
    assert_eq!((elsewhere.path.as_str(), &elsewhere.authorization), ("/elsewhere", &None));
    assert!(!format!("{:?}", hub(&server.url(), &cache)).contains(TOKEN));
}

#[test]
fn a_busy_hub_is_asked_three_times() {
    let asked = AtomicUsize::new(0);
    let server = Server::start(move |request| match asked.fetch_add(1, Ordering::SeqCst) {
        0 => Answer::new(500, b"").with("X-Repo-Commit", "nonsense"),
        1 => Answer::new(429, b""),
        _ => good(request),
    });
    let cache = TempDir::new().unwrap();
    hub(&server.url(), &cache).fetch(REPO, "main", &NoProgress).unwrap();
}

#[test]
fn two_fetches_at_once_agree() {
    let server = Server::start(good);
    let cache = TempDir::new().unwrap();
    let hub = hub(&server.url(), &cache);
    std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..4).map(|_| scope.spawn(|| hub.fetch(REPO, "main", &NoProgress))).collect();
        for one in all {
            let folder = one.join().unwrap().unwrap();
            assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights());
        }
    });
    assert_eq!(files(&repo_dir(&cache)).len(), 7);
}

#[test]
fn halves_that_are_no_name_touch_neither_network_nor_disk() {
    let cache = TempDir::new().unwrap();
    let hub = hub("https://hub.invalid", &cache);
    for (repo, revision) in [("../x", "main"), ("a/b", "../main"), ("a/b", ""), ("a/b@c", "main")] {
        let error = hub.fetch(repo, revision, &NoProgress).unwrap_err();
        assert!(matches!(error, HubError::Name { .. }), "{error}");
    }
    assert!(files(cache.path()).is_empty());
}

#[test]
fn the_environment_is_read_as_by_the_python_tools() {
    let from = |pairs: &[(&str, &str)]| {
        let map: HashMap<String, std::ffi::OsString> =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        Hub::from_variables(|name| map.get(name).cloned(), Some("/home/me".into()))
    };
    let hub = from(&[("HF_TOKEN", " hf_x\n"), ("HF_ENDPOINT", "")]).unwrap();
    assert_eq!(hub.cache_dir(), Path::new("/home/me/.cache/huggingface/hub"));
    assert_eq!((hub.endpoint(), hub.token.as_deref()), ("https://huggingface.co", Some("hf_x")));
    let hub = from(&[("HF_HOME", "/hf"), ("HF_ENDPOINT", "https://mirror.example/hf/")]).unwrap();
    assert_eq!(hub.cache_dir(), Path::new("/hf/hub"));
    assert_eq!(hub.endpoint(), "https://mirror.example/hf");
    assert_eq!(
        from(&[("HF_HOME", "/hf"), ("HF_HUB_CACHE", "/c")]).unwrap().cache_dir(),
        Path::new("/c")
    );
    for bad in ["huggingface.co", "ftp://x", "https://", "https://x?y=1", "https://me:pw@x"] {
        let error = from(&[("HF_ENDPOINT", bad)]).unwrap_err();
        assert!(matches!(error, HubError::Endpoint { .. }), "{bad}: {error}");
        assert!(!error.to_string().contains("pw"), "{error}");
    }
    let error = from(&[("HF_TOKEN", "a\r\nX-Evil: 1")]).unwrap_err();
    assert!(matches!(error, HubError::Token), "{error}");
}
