//! Models by name, from a hub on this machine.

use std::collections::HashMap;
use std::path::Path;

use crate::support::server::{Answer, Hub};
use crate::support::{Run, detr, detr_infer, golden};

use super::pictures;

const NAME: &str = "tiny/detr-test";
const COMMIT: &str = "89abcdef0123456789abcdef0123456789abcdef";

/// A change that damages an answer.
type Change = fn(&mut Answer);

/// Returns the answers of a hub that holds the tiny Hugging Face model.
fn answers() -> HashMap<String, Answer> {
    let folder = golden("hf_detr_tiny");
    let report = detr(["models", "inspect", "--json"]).arg(&folder).run().expect(0).json();
    let sha256 = report["sha256"].as_str().unwrap();
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let answer = |name: &str, etag: (&'static str, &str)| {
        let headers =
            vec![("X-Repo-Commit", COMMIT.to_owned()), (etag.0, format!("\"{}\"", etag.1))];
        Answer { status: 200, headers, body: read(name) }
    };
    let resolved = |name: &str, answer: Answer| {
        ["main", COMMIT].map(|rev| (format!("/{NAME}/resolve/{rev}/{name}"), answer.clone()))
    };
    let config = resolved("config.json", answer("config.json", ("ETag", "first")));
    let mut weights = answer("model.safetensors", ("X-Linked-Etag", sha256));
    weights.headers.push(("X-Linked-Size", weights.body.len().to_string()));
    config.into_iter().chain(resolved("model.safetensors", weights)).collect()
}

fn set(answers: &mut HashMap<String, Answer>, file: &str, change: Change) {
    answers.iter_mut().filter(|(path, _)| path.ends_with(file)).for_each(|(_, a)| change(a));
}

fn at(run: Run, hub: &Hub, cache: &Path) -> Run {
    run.env("HF_ENDPOINT", hub.url()).env("HF_HOME", cache)
}

/// Lists the files under final names anywhere below a folder.
fn snapshots(folder: &Path) -> Vec<String> {
    let pattern = folder.join("**/snapshots/**/*");
    let found = glob::glob(pattern.to_str().unwrap()).unwrap();
    found.map(|path| path.unwrap().display().to_string()).collect()
}

#[test]
fn a_model_is_fetched_once_and_then_needs_no_network() {
    let (folder, cache, hub) = (pictures(), tempfile::tempdir().unwrap(), Hub::start(answers()));
    let pulled = at(detr(["models", "pull", NAME]), &hub, cache.path()).run().expect(0);
    assert!(pulled.stderr.contains("downloading http://127.0.0.1"), "{}", pulled.stderr);
    assert!(Path::new(pulled.stdout.trim()).join("model.safetensors").is_file());
    let requests = hub.requests();
    assert!(requests >= 2);

    let args = ["*.png", "--json", "--threshold", "0.05", "--model"];
    let local = detr_infer(args).arg(golden("hf_detr_tiny")).quick().inside(folder.path());
    let local = local.run().expect(0);
    for flag in ["--quiet", "--offline"] {
        let run = detr_infer(args).args([NAME, flag]).quick().inside(folder.path());
        let remote = at(run, &hub, cache.path()).run().expect(0);
        assert_eq!(remote.stdout, local.stdout);
    }
    let again = at(detr(["models", "pull", NAME]), &hub, cache.path()).run().expect(0);
    assert!(again.stderr.contains("already in the cache"), "{}", again.stderr);
    assert_eq!(hub.requests(), requests);
}

#[test]
fn a_model_without_the_optional_file_works_offline_with_a_warning() {
    let (folder, cache, hub) = (pictures(), tempfile::tempdir().unwrap(), Hub::start(answers()));
    at(detr(["models", "pull", NAME]), &hub, cache.path()).run().expect(0);
    // The cache then looks like that of another tool, which has fetched config and weights only.
    std::fs::remove_dir_all(cache.path().join("hub/models--tiny--detr-test/.no_exist")).unwrap();
    let predict = || detr_infer(["1.png", "--model", NAME]).quick().inside(folder.path());
    for (flags, warned) in [(&["--offline"][..], true), (&[], false), (&["--offline"], false)] {
        let outcome = at(predict().args(flags), &hub, cache.path()).run().expect(0);
        let warning = "preprocessor_config.json is not in the cache";
        assert_eq!(outcome.stderr.contains(warning), warned, "{}", outcome.stderr);
    }
}

#[test]
fn nothing_that_is_not_verified_gets_its_final_name() {
    let body: Change = |answer| *answer.body.last_mut().unwrap() ^= 1;
    let cut: Change = |answer| answer.body.truncate(1000);
    let cases: [(&str, &str, Change, &str); 5] = [
        ("a changed byte", "safetensors", body, "sha256"),
        ("half the bytes", "safetensors", cut, "differs from content-length"),
        ("no such file", "safetensors", |answer| answer.status = 404, "404"),
        ("no such model", "", |answer| answer.status = 404, "404"),
        ("refused", "", |answer| answer.status = 403, "access refused"),
    ];
    let folder = pictures();
    let good = answers();
    for (what, file, change, message) in cases {
        let mut answers = good.clone();
        set(&mut answers, file, change);
        let (cache, hub) = (tempfile::tempdir().unwrap(), Hub::start(answers));
        let pull = at(detr(["models", "pull", NAME]), &hub, cache.path());
        let predict = detr_infer(["1.png", "--model", NAME]).quick().inside(folder.path());
        for run in [pull, at(predict, &hub, cache.path())] {
            let outcome = run.run().expect(3);
            assert!(outcome.stderr.to_lowercase().contains(message), "{what}: {}", outcome.stderr);
            assert!(outcome.ends_with_hint(), "{what}: {}", outcome.stderr);
            assert_eq!(snapshots(cache.path()), [""; 0], "{what}");
        }
    }
}

#[test]
fn a_broken_hub_is_asked_again_and_then_given_up() {
    let mut answers = answers();
    set(&mut answers, "", |answer| answer.status = 500);
    let (cache, hub) = (tempfile::tempdir().unwrap(), Hub::start(answers));
    let outcome = at(detr(["models", "pull", NAME]), &hub, cache.path()).run().expect(3);
    assert!(outcome.stderr.contains("HTTP 500 (tries: 3)"), "{}", outcome.stderr);
    assert_eq!(hub.requests(), 3);
    assert_eq!(snapshots(cache.path()), [""; 0]);
}

#[test]
fn offline_means_offline() {
    let (folder, cache, hub) = (pictures(), tempfile::tempdir().unwrap(), Hub::start(answers()));
    let predict = || detr_infer(["1.png", "--model", NAME]).quick().inside(folder.path());
    let runs = [
        predict().arg("--offline"),
        predict().env("DETR_OFFLINE", "1"),
        predict().env("HF_HUB_OFFLINE", "1"),
        detr(["models", "pull", NAME, "--offline"]),
        detr(["models", "inspect", NAME, "--offline"]),
    ];
    for run in runs {
        let outcome = at(run, &hub, cache.path()).run().expect(3);
        let error = &outcome.stderr;
        assert!(error.contains("not in the cache and the network is off"), "{error}");
        assert!(outcome.ends_with_hint(), "{error}");
    }
    assert_eq!(hub.requests(), 0);
}
