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
mod download;
mod error;
mod fetch;
mod http;
mod name;
mod progress;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use detr_types::{Limits, env};

use self::address::Endpoint;
use self::cache::RepoCache;
use self::http::Patience;

pub use self::error::HubError;
pub use self::name::{DEFAULT_REVISION, parse_remote_name};
pub use self::progress::{NoProgress, Progress};

/// Where models come from unless `HF_ENDPOINT` says otherwise.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The architecture; every model has it.
const CONFIG: &str = "config.json";
/// How images are prepared; older models lack it.
const PREPROCESSOR: &str = "preprocessor_config.json";
/// The only form of weights taken from the network: it cannot hold code.
const WEIGHTS: &str = "model.safetensors";
/// Without these a model is not complete.
const REQUIRED: [&str; 2] = [CONFIG, WEIGHTS];
/// Most bytes of a weights file.
const WEIGHTS_LIMIT: u64 = 8 << 30;

/// A model hub and the cache on this machine.
#[derive(Clone)]
pub struct Hub {
    endpoint: Endpoint,
    cache_dir: PathBuf,
    token: Option<String>,
    offline: bool,
    patience: Patience,
    weights_limit: u64,
    json_limit: u64,
}

/// The token is left out.
impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub")
            .field("endpoint", &self.endpoint.base())
            .field("cache_dir", &self.cache_dir)
            .field("has_token", &self.token.is_some())
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl Hub {
    /// A hub at `endpoint` (such as [`DEFAULT_ENDPOINT`]) with its cache in `cache_dir`, without
    /// a token, allowed to use the network.
    ///
    /// # Errors
    /// [`HubError::Endpoint`] when the address is not http or https or holds a password.
    pub fn new(endpoint: &str, cache_dir: impl Into<PathBuf>) -> Result<Self, HubError> {
        Ok(Self {
            endpoint: Endpoint::parse(endpoint)?,
            cache_dir: cache_dir.into(),
            token: None,
            offline: false,
            patience: Patience::default(),
            weights_limit: WEIGHTS_LIMIT,
            json_limit: Limits::default().json_bytes,
        })
    }

    /// The hub that the environment describes: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and
    /// `DETR_OFFLINE`; the cache is `HF_HUB_CACHE`, else `HF_HOME/hub`, else
    /// `~/.cache/huggingface/hub`. Empty variables count as unset.
    ///
    /// # Errors
    /// [`HubError::Endpoint`], [`HubError::Token`] or [`HubError::NoCacheFolder`] when a variable
    /// holds something unusable.
    pub fn from_env() -> Result<Self, HubError> {
        let offline = env::is_on(env::HF_HUB_OFFLINE) || env::is_on(env::DETR_OFFLINE);
        let hub = Self::from_variables(|name| std::env::var_os(name), std::env::home_dir())?;
        Ok(hub.with_offline(offline))
    }

    fn from_variables(
        variable: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<Self, HubError> {
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let text = |name| variable(name).map(|value| value.to_string_lossy().trim().to_owned());
        let text = |name| text(name).filter(|value| !value.is_empty());
        let cache_dir = variable(env::HF_HUB_CACHE)
            .map(PathBuf::from)
            .or_else(|| variable(env::HF_HOME).map(|folder| Path::new(&folder).join("hub")))
            .or_else(|| {
                let home = home.filter(|home| !home.as_os_str().is_empty());
                home.map(|home| home.join(".cache").join("huggingface").join("hub"))
            })
            .ok_or(HubError::NoCacheFolder)?;
        let endpoint = text(env::HF_ENDPOINT);
        let hub = Self::new(endpoint.as_deref().unwrap_or(DEFAULT_ENDPOINT), cache_dir)?;
        match text(env::HF_TOKEN) {
            Some(token) => hub.with_token(&token),
            None => Ok(hub),
        }
    }

    /// Sets the access token. It is sent to the hub itself only, never to where a redirect leads,
    /// and never unencrypted except to this machine.
    ///
    /// # Errors
    /// [`HubError::Token`] when it holds characters that no token has.
    pub fn with_token(mut self, token: &str) -> Result<Self, HubError> {
        let token = token.trim();
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HubError::Token);
        }
        self.token = Some(token.to_owned());
        Ok(self)
    }

    /// Forbids the network, or allows it.
    #[must_use]
    pub fn with_offline(mut self, offline: bool) -> Self {
        self.offline = offline;
        self
    }

    /// Whether the network is forbidden.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// The address of the hub, without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint.base()
    }

    /// The folder that holds all models of the cache.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// The folder of a model that is complete in the cache; never uses the network. Complete means
    /// that the optional file is there too, or known not to exist.
    ///
    /// # Errors
    /// [`HubError::Name`] when repository or revision are not of the allowed form.
    pub fn cached(&self, repo: &str, revision: &str) -> Result<Option<PathBuf>, HubError> {
        name::check(repo, revision)?;
        let cache = RepoCache::new(&self.cache_dir, repo);
        let complete = usable(&cache, revision).filter(|commit| cache.knows(commit, PREPROCESSOR));
        Ok(complete.map(|commit| cache.snapshot(&commit)))
    }

    /// The folder with the model's `config.json`, `model.safetensors` and, where the model has
    /// one, `preprocessor_config.json`; downloads what is missing. `repo` is `owner/name`,
    /// `revision` a branch, tag or commit: see [`parse_remote_name`].
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
                    // Without it the model works; it must not need the network, or a cache that can
                    // be written.
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

/// The commit of a revision, if the cache has all of it that is required.
fn usable(cache: &RepoCache, revision: &str) -> Option<String> {
    let commit = cache.commit_of(revision);
    commit.filter(|commit| REQUIRED.iter().all(|file| cache.has(commit, file)))
}

/// What the cache lacks, for when the network may not be asked.
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
