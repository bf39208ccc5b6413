//! One model's download as a whole: all of it is put in place, or none.
//!
//! The small files wait in memory until the weights are safe on disk; links come after contents,
//! the link that makes the model complete comes after the others, and the reference to the commit
//! comes last. So an interruption at any point leaves a cache that is correct, if incomplete.

use std::path::PathBuf;

use super::cache::{self, RepoCache};
use super::download::{self, Rules};
use super::http::{Client, ContentHash, Reply};
use super::progress::Progress;
use super::{CONFIG, Hub, HubError, PREPROCESSOR, WEIGHTS};

/// A verified file that is not in the cache yet.
struct Small {
    file: &'static str,
    content: Vec<u8>,
    hash: ContentHash,
}

/// Downloads what the cache lacks of a revision; the folder of its commit.
pub(super) fn download(
    hub: &Hub,
    cache: &RepoCache,
    repo: &str,
    revision: &str,
    progress: &dyn Progress,
) -> Result<PathBuf, HubError> {
    let client = Client::new(&hub.endpoint, hub.token.as_deref(), &hub.patience);
    let rules = |limit| Rules { limit, idle: hub.patience.idle, progress };
    let ask = |revision: &str, file| {
        let reply = client.get(repo, revision, file)?;
        check_commit(&reply, revision)?;
        Ok(reply)
    };
    let read = |mut reply: Reply, file| {
        let content = download::to_memory(&mut reply, file, rules(hub.json_limit))?;
        Ok(Small { file, content, hash: reply.hash })
    };

    let reply = ask(revision, CONFIG)?;
    // The branch may move while we work: everything else is asked for by commit.
    let commit = reply.commit.clone();
    let config = read(reply, CONFIG)?;
    let preprocessor = if cache.has(&commit, PREPROCESSOR) {
        None
    } else {
        match ask(&commit, PREPROCESSOR) {
            Ok(reply) => Some(read(reply, PREPROCESSOR)?),
            Err(HubError::NotFound { .. }) => {
                cache.write_no_exist(&commit, PREPROCESSOR)?;
                None
            }
            Err(error) => return Err(error),
        }
    };
    let weights = if cache.has(&commit, WEIGHTS) {
        None
    } else {
        let mut reply = ask(&commit, WEIGHTS)?;
        let blob = cache.blob(reply.hash.text());
        download::to_file(&mut reply, WEIGHTS, &blob, rules(hub.weights_limit))?;
        Some(reply.hash)
    };

    if let Some(small) = &preprocessor {
        place(cache, &commit, small)?;
    }
    if let Some(hash) = &weights {
        cache.link(&commit, WEIGHTS, hash.text())?;
    }
    place(cache, &commit, &config)?;
    cache.write_ref(revision, &commit)?;
    Ok(cache.snapshot(&commit))
}

fn place(cache: &RepoCache, commit: &str, small: &Small) -> Result<(), HubError> {
    cache.write_blob(small.hash.text(), &small.content)?;
    cache.link(commit, small.file, small.hash.text())
}

/// Where a commit was asked for, the answer must be of that commit.
fn check_commit(reply: &Reply, asked: &str) -> Result<(), HubError> {
    if cache::is_commit(asked) && reply.commit != asked {
        return Err(HubError::Header {
            url: reply.url.clone(),
            header: "X-Repo-Commit",
            value: reply.commit.clone(),
            reason: "is not the commit that was asked for",
        });
    }
    Ok(())
}
