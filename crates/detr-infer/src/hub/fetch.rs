//! One model's download as a whole: all of it is put in place, or none.
//!
//! The small files wait in memory until the weights are safe on disk; links come after contents,
//! the link that makes the model complete comes after the others, and the reference to the commit
//! comes last. So an interruption at any point leaves a cache that is correct, if incomplete.

use std::path::PathBuf;

use super::cache::{self, RepoCache};
use super::config::Hub;
use super::download::{self, Rules};
use super::error::HubError;
use super::files::{CONFIG, PREPROCESSOR, WEIGHTS};
use super::http::{Client, ContentHash, GONE, Reply};
use super::progress::Progress;

/// A verified file that is not in the cache yet.
struct SmallFile {
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
    let session = Session::new(hub, repo, progress);
    let reply = session.ask(revision, CONFIG, hub.json_limit)?;
    // The branch may move while we work: everything else is asked for by commit.
    let commit = reply.commit.clone();
    let config = session.read(reply, CONFIG)?;
    let preprocessor = if cache.has(&commit, PREPROCESSOR) {
        None
    } else {
        session.preprocessor(cache, &commit)?
    };
    let weights = if cache.has(&commit, WEIGHTS) {
        None
    } else {
        let mut reply = session.ask(&commit, WEIGHTS, hub.weights_limit)?;
        let blob = cache.blob(reply.hash.text());
        download::to_file(&mut reply, WEIGHTS, &blob, session.rules(hub.weights_limit))?;
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

/// Adds the optional file to a commit of which the cache has the rest.
pub(super) fn complete(
    hub: &Hub,
    cache: &RepoCache,
    repo: &str,
    commit: &str,
    progress: &dyn Progress,
) -> Result<(), HubError> {
    match Session::new(hub, repo, progress).preprocessor(cache, commit)? {
        Some(small) => place(cache, commit, &small),
        None => Ok(()),
    }
}

/// Requests about one repository.
struct Session<'a> {
    hub: &'a Hub,
    client: Client<'a>,
    repo: &'a str,
    progress: &'a dyn Progress,
}

impl<'a> Session<'a> {
    fn new(hub: &'a Hub, repo: &'a str, progress: &'a dyn Progress) -> Self {
        let client = Client::new(&hub.endpoint, hub.token.as_deref(), &hub.patience);
        Self { hub, client, repo, progress }
    }

    fn rules(&self, limit: u64) -> Rules<'a> {
        Rules { limit, patience: &self.hub.patience, progress: self.progress }
    }

    fn ask(&self, revision: &str, file: &str, limit: u64) -> Result<Reply, HubError> {
        let reply = self.client.get(self.repo, revision, file, limit)?;
        check_commit(&reply, revision)?;
        Ok(reply)
    }

    fn read(&self, mut reply: Reply, file: &'static str) -> Result<SmallFile, HubError> {
        let content = download::to_memory(&mut reply, file, self.rules(self.hub.json_limit))?;
        Ok(SmallFile { file, content, hash: reply.hash })
    }

    /// Fetches the optional file, and notes in the cache if it does not exist.
    fn preprocessor(&self, cache: &RepoCache, commit: &str) -> Result<Option<SmallFile>, HubError> {
        match self.ask(commit, PREPROCESSOR, self.hub.json_limit) {
            Ok(reply) => self.read(reply, PREPROCESSOR).map(Some),
            Err(HubError::NotFound { what, .. }) if !GONE.contains(&what) => {
                cache.write_no_exist(commit, PREPROCESSOR)?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

fn place(cache: &RepoCache, commit: &str, small: &SmallFile) -> Result<(), HubError> {
    cache.write_blob(small.hash.text(), &small.content)?;
    cache.link(commit, small.file, small.hash.text())
}

/// Checks that the answer belongs to the commit that was asked for, if one was.
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
