//! Remote models: from a name such as `facebook/detr-resnet-50` to a folder with its files, by
//! way of the cache that Hugging Face's own tools use (`huggingface_hub`, see `cache.rs`).
//!
//! A model that is complete in the cache costs no network. Otherwise the needed files are
//! downloaded, each verified against the hash that the hub states, and put in place together: a
//! failed fetch leaves neither half a file nor half a model. The system's proxy variables
//! (`HTTPS_PROXY`, `NO_PROXY`) are honoured by the HTTP library. This module does not read the
//! files, does not resume partial downloads, and never prints: see [`Progress`].

mod address;
mod cache;
mod config;
mod download;
mod error;
mod fetch;
mod files;
mod http;
mod name;
mod progress;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;

use self::cache::RepoCache;
use self::files::{PREPROCESSOR, REQUIRED};

pub use self::config::{DEFAULT_ENDPOINT, Hub};
pub use self::error::HubError;
pub use self::name::{DEFAULT_REVISION, parse_remote_name};
pub use self::progress::{NoProgress, Progress};

impl Hub {
    /// Finds the folder of a model that is complete in the cache; never uses the network. Complete
    /// means that the optional file is there too, or known not to exist.
    ///
    /// # Errors
    /// [`HubError::Name`] when repository or revision are not of the allowed form.
    pub fn cached(&self, repo: &str, revision: &str) -> Result<Option<PathBuf>, HubError> {
        name::check(repo, revision)?;
        let cache = RepoCache::new(&self.cache_dir, repo);
        let complete = usable(&cache, revision).filter(|commit| cache.knows(commit, PREPROCESSOR));
        Ok(complete.map(|commit| cache.snapshot(&commit)))
    }

    /// Fetches the folder with the model's `config.json`, `model.safetensors` and, if the model has
    /// one, `preprocessor_config.json`; downloads the files that are missing. `repo` is
    /// `owner/name`, `revision` a branch, tag or commit: see [`parse_remote_name`].
    ///
    /// A model in the cache that only lacks the optional file is used without it, and a warning
    /// logged, when the network is off, the hub does not deliver it or the cache cannot be written.
    ///
    /// # Errors
    /// [`HubError`] says what failed. Nothing that was not verified is then under a final name, and
    /// the model counts as missing.
    pub fn fetch(
        &self,
        repo: &str,
        revision: &str,
        progress: &dyn Progress,
    ) -> Result<PathBuf, HubError> {
        if let Some(folder) = self.cached(repo, revision)? {
            return Ok(folder);
        }
        let cache = RepoCache::new(&self.cache_dir, repo);
        let defaults = |reason: &dyn fmt::Display| {
            tracing::warn!(
                "{repo}: {PREPROCESSOR} is not in the cache ({reason}), so images are prepared in \
                 the default way"
            );
        };
        match usable(&cache, revision) {
            None if self.offline => Err(missing(&cache, repo, revision)),
            None => fetch::download(self, &cache, repo, revision, progress),
            Some(commit) if self.offline => {
                defaults(&"the network is off");
                Ok(cache.snapshot(&commit))
            }
            Some(commit) => {
                match fetch::complete(self, &cache, repo, &commit, progress) {
                    // The model works if this file is missing; it must not need the network, or a
                    // cache that can be written.
                    Err(
                        error @ (HubError::Network { .. }
                        | HubError::Length { .. }
                        | HubError::Status { .. }
                        | HubError::NotFound { .. }
                        | HubError::Denied { .. }
                        | HubError::Io { .. }),
                    ) => defaults(&error.to_string().lines().next().unwrap_or_default()),
                    outcome => outcome?,
                }
                Ok(cache.snapshot(&commit))
            }
        }
    }
}

/// Returns the commit of a revision, if the cache has all of it that is required.
fn usable(cache: &RepoCache, revision: &str) -> Option<String> {
    let commit = cache.commit_of(revision);
    commit.filter(|commit| REQUIRED.iter().all(|file| cache.has(commit, file)))
}

/// Returns the error that names what the cache lacks if the network may not be asked.
fn missing(cache: &RepoCache, repo: &str, revision: &str) -> HubError {
    let commit = cache.commit_of(revision);
    let has = |file: &str| commit.as_ref().is_some_and(|commit| cache.has(commit, file));
    let name =
        if revision == DEFAULT_REVISION { repo.to_owned() } else { format!("{repo}@{revision}") };
    HubError::Offline {
        name,
        missing: REQUIRED.into_iter().filter(|file| !has(file)).collect(),
        looked: commit
            .as_ref()
            .map_or_else(|| cache.root().to_path_buf(), |commit| cache.snapshot(commit)),
    }
}
