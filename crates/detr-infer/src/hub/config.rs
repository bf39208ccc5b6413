//! The address of a hub, its cache on this machine, and its limits. The requests are in `fetch.rs`.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use detr_types::{Limits, env};

use super::address::Endpoint;
use super::error::HubError;
use super::http::Patience;

/// The hub that models come from unless `HF_ENDPOINT` says otherwise.
pub const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The largest number of bytes of a weights file.
const WEIGHTS_LIMIT: u64 = 8 << 30;

/// A model hub and the cache on this machine.
#[derive(Clone)]
pub struct Hub {
    pub(super) endpoint: Endpoint,
    pub(super) cache_dir: PathBuf,
    pub(super) token: Option<String>,
    pub(super) offline: bool,
    pub(super) patience: Patience,
    pub(super) weights_limit: u64,
    pub(super) json_limit: u64,
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
    /// Makes a hub at `endpoint` (such as [`DEFAULT_ENDPOINT`]) with its cache in `cache_dir`, without
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

    /// Makes the hub that the environment describes: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE` and
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

    pub(super) fn from_variables(
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

    /// Returns whether the network is forbidden.
    #[must_use]
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    /// Returns the address of the hub, without a slash at its end.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        self.endpoint.base()
    }

    /// Returns the folder that holds all models of the cache.
    #[must_use]
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }
}
