//! One file's request to the hub: redirects followed by hand, headers judged, 429 and 5xx tried
//! again. What it returns is an answer whose body has not been read yet; `download.rs` does that.
//!
//! Only the hub's own answers are believed about commit, hash and size (`X-Repo-Commit`,
//! `X-Linked-Etag` or `ETag`, `X-Linked-Size`): the host that a redirect leads to delivers bytes.

use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, Uri};
use ureq::{Agent, Body};

use super::HubError;
use super::address::{self, Endpoint};
use super::cache;
use super::error::{shown, shown_url};

/// Redirects followed for one file.
const MAX_REDIRECTS: usize = 5;
/// The possible meanings of a 404 that says nothing of the file.
pub(super) const GONE: [&str; 2] = ["the repository", "the revision"];
/// The hint for a file that does not exist.
const NEEDED: &str = "check the name; a usable model has config.json and model.safetensors (OWNER/NAME@REVISION selects another revision)";

/// Patience; the tests shorten it.
#[derive(Clone, Debug)]
pub(super) struct Patience {
    /// For the name look-up, and for connecting.
    pub(super) connect: Duration,
    /// The time without a single byte.
    pub(super) idle: Duration,
    /// For the start of a body, however slow.
    pub(super) grace: Duration,
    /// Bytes per second that a body must have on average, not counting the time of grace.
    pub(super) rate: u32,
    /// Before the second try, the third, and so on.
    pub(super) pauses: Vec<Duration>,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            grace: Duration::from_secs(30),
            rate: 10 << 10,
            pauses: vec![Duration::from_secs(1), Duration::from_secs(4)],
        }
    }
}

impl Patience {
    /// Returns the time, from the start of a body, by which this number of bytes must have come.
    pub(super) fn deadline(&self, bytes: u64) -> Duration {
        let whole = Duration::from_secs(bytes / u64::from(self.rate));
        let rest = u32::try_from(bytes % u64::from(self.rate)).unwrap_or_default();
        self.grace + whole + Duration::from_secs(1) * rest / self.rate
    }

    /// Returns the message about a body that misses its deadline.
    pub(super) fn too_slow(&self, got: u64) -> String {
        format!("slower than {} bytes a second, given up after {got} bytes", self.rate)
    }
}

/// The hash of the content as the hub states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ContentHash {
    /// The hash of a file in large file storage.
    Sha256(String),
    /// The hash of a small file: git's hash of the blob.
    GitSha1(String),
    /// Something of a form that cannot be computed from the content.
    Opaque(String),
}

impl ContentHash {
    /// Returns the name of the blob in the cache.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Sha256(text) | Self::GitSha1(text) | Self::Opaque(text) => text,
        }
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sha256(text) => write!(f, "sha256:{text}"),
            Self::GitSha1(text) => write!(f, "git-sha1:{text}"),
            Self::Opaque(text) => write!(f, "{text} (cannot be verified)"),
        }
    }
}

/// A successful answer.
pub(super) struct Reply {
    /// The address that was asked for, as messages show it.
    pub(super) url: String,
    /// The commit that the revision stands for.
    pub(super) commit: String,
    /// The hash that the content must have.
    pub(super) hash: ContentHash,
    /// Bytes of the content, where the server says.
    pub(super) size: Option<u64>,
    /// The content, not yet read.
    pub(super) body: Body,
}

/// The headers of the hub's own answers, before they are judged; a later answer overrides an
/// earlier.
#[derive(Default)]
struct HubHeaders {
    commit: Option<String>,
    linked_etag: Option<String>,
    etag: Option<String>,
    linked_size: Option<String>,
}

/// Asks the hub for files.
pub(super) struct Client<'a> {
    agent: Agent,
    endpoint: &'a Endpoint,
    token: Option<&'a str>,
    patience: &'a Patience,
}

impl<'a> Client<'a> {
    /// Makes no connection yet.
    pub(super) fn new(
        endpoint: &'a Endpoint,
        token: Option<&'a str>,
        patience: &'a Patience,
    ) -> Self {
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("detr/", env!("CARGO_PKG_VERSION")))
            // Hash and length are those of the plain content.
            .accept_encoding("identity")
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_recv_response(Some(patience.idle))
            .timeout_per_read(Some(patience.idle))
            .timeout_per_write(Some(patience.idle));
        if endpoint.is_loopback() {
            config = config.proxy(None);
        }
        Self { agent: config.build().new_agent(), endpoint, token, patience }
    }

    /// Asks for a file of a revision, again after a pause where the server is busy or broken.
    /// `limit` is the most bytes that the file may have.
    pub(super) fn get(
        &self,
        repo: &str,
        revision: &str,
        file: &str,
        limit: u64,
    ) -> Result<Reply, HubError> {
        let url = format!("{}/{repo}/resolve/{revision}/{file}", self.endpoint.base());
        let mut tries = 0;
        loop {
            tries += 1;
            let outcome = self.follow(&url, limit, tries);
            let Some(pause) = self.patience.pauses.get(tries - 1) else { return outcome };
            match outcome {
                Err(HubError::Status { status, .. }) if status == 429 || status >= 500 => {
                    tracing::warn!("{url}: HTTP {status}, trying again");
                    std::thread::sleep(*pause);
                }
                outcome => return outcome,
            }
        }
    }

    /// Tries once: the request and its redirects.
    fn follow(&self, url: &str, limit: u64, tries: usize) -> Result<Reply, HubError> {
        let unusable = |reason| HubError::Endpoint { endpoint: shown(url), reason };
        let mut current: Uri = url.parse().map_err(|_| unusable("it is not an address"))?;
        let mut claims = HubHeaders::default();
        for _ in 0..=MAX_REDIRECTS {
            let own = self.endpoint.owns(&current);
            let mut request = self.agent.get(&current);
            // `download.rs` sees the bytes that arrive. This ends what it does not see: layers below
            // that get a byte now and then, but never enough for one of theirs.
            let longest = self.patience.deadline(limit);
            request = request.config().timeout_recv_body(Some(longest)).build();
            if let Some(token) = self.token.filter(|_| own && self.endpoint.is_private()) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| self.unreachable(&current, &error))?;
            let (parts, body) = response.into_parts();
            if own {
                claims.take(&parts.headers);
            }
            match parts.status {
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT => {
                    current = self.next(&current, &parts.headers)?;
                }
                StatusCode::OK => return claims.judge(url, &parts.headers, body),
                status => {
                    let url = shown_url(&current.to_string());
                    return Err(failure(url, status.as_u16(), &parts.headers, tries));
                }
            }
        }
        Err(HubError::Redirect {
            from: shown_url(url),
            to: shown_url(&current.to_string()),
            reason: "it is the sixth in a row",
        })
    }

    fn next(&self, current: &Uri, headers: &HeaderMap) -> Result<Uri, HubError> {
        let location = header(headers, "location").unwrap_or_default();
        address::redirect(self.endpoint, current, &location).map_err(|reason| HubError::Redirect {
            from: shown_url(&current.to_string()),
            to: shown_url(&location),
            reason,
        })
    }

    fn unreachable(&self, uri: &Uri, error: &ureq::Error) -> HubError {
        let Patience { connect, idle, .. } = self.patience;
        let reason = match error {
            ureq::Error::Timeout(ureq::Timeout::Resolve | ureq::Timeout::Connect) => {
                format!("no connection within {connect:?}")
            }
            ureq::Error::Timeout(_) => format!("no data for {idle:?}"),
            ureq::Error::HostNotFound => "the host is unknown".to_owned(),
            other => shown(&other.to_string()),
        };
        HubError::Network { url: shown_url(&uri.to_string()), reason }
    }
}

impl HubHeaders {
    fn take(&mut self, headers: &HeaderMap) {
        for (place, name) in [
            (&mut self.commit, "x-repo-commit"),
            (&mut self.linked_etag, "x-linked-etag"),
            (&mut self.etag, "etag"),
            (&mut self.linked_size, "x-linked-size"),
        ] {
            if let Some(value) = header(headers, name) {
                *place = Some(value);
            }
        }
    }

    /// Turns what was said into what is believed; `headers` are those of the last answer.
    fn judge(self, url: &str, headers: &HeaderMap, body: Body) -> Result<Reply, HubError> {
        let url = shown_url(url);
        let refuse = |header, value: &str, reason| HubError::Header {
            url: url.clone(),
            header,
            value: shown(value),
            reason,
        };
        let commit = self.commit.unwrap_or_default();
        if !cache::is_commit(&commit) {
            return Err(refuse("X-Repo-Commit", &commit, "is not a commit of 40 hex digits"));
        }
        let etag = self.linked_etag.or(self.etag).unwrap_or_default();
        let hash = parse_etag(&etag)
            .ok_or_else(|| refuse("ETag", &etag, "cannot be the name of a file"))?;
        let encoding = header(headers, "content-encoding").unwrap_or_default();
        if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
            return Err(refuse("Content-Encoding", &encoding, "was not asked for"));
        }
        let length = body.content_length();
        let size = match self.linked_size {
            None => length,
            Some(text) => {
                let size: u64 = text
                    .parse()
                    .map_err(|_| refuse("X-Linked-Size", &text, "is not a number of bytes"))?;
                if length.is_some_and(|length| length != size) {
                    return Err(refuse("X-Linked-Size", &text, "differs from Content-Length"));
                }
                Some(size)
            }
        };
        Ok(Reply { url, commit, hash, size, body })
    }
}

/// Returns a header as text; bytes outside ASCII make it a value that no check accepts.
fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
}

/// `"HASH"` or `W/"HASH"`; nothing when the text could not safely name a file.
fn parse_etag(etag: &str) -> Option<ContentHash> {
    let text = etag.strip_prefix("W/").unwrap_or(etag);
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if cache::is_lower_hex(text, 64) {
        return Some(ContentHash::Sha256(text.to_owned()));
    }
    if cache::is_lower_hex(text, 40) {
        return Some(ContentHash::GitSha1(text.to_owned()));
    }
    let safe = (1..=128).contains(&text.len())
        && !text.starts_with('.')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    safe.then(|| ContentHash::Opaque(text.to_owned()))
}

/// Returns the error for a status that is neither success nor redirect.
fn failure(url: String, status: u16, headers: &HeaderMap, tries: usize) -> HubError {
    match status {
        401 | 403 => HubError::Denied { url, status },
        404 => {
            let (what, hint) = match header(headers, "x-error-code").as_deref() {
                Some("RepoNotFound") => (GONE[0], "check owner and name"),
                Some("RevisionNotFound") => (GONE[1], "check what follows the `@`"),
                Some("EntryNotFound") => ("the file", NEEDED),
                _ => ("the repository or file", NEEDED),
            };
            HubError::NotFound { url, what, hint }
        }
        _ => HubError::Status { url, status, tries },
    }
}
