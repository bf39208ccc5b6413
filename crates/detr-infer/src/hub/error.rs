//! The errors between a model's name and its files.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::text::escaped;

/// Why a remote model could not be resolved. Addresses are shown without their query, which may
/// hold a signature, and never with the access token.
#[derive(Debug, Error)]
pub enum HubError {
    /// The text is no name of a remote model.
    #[error(
        "`{name}` is no name of a remote model: {reason}\nhint: use an existing path, or OWNER/NAME or OWNER/NAME@REVISION, such as facebook/detr-resnet-50"
    )]
    Name {
        /// The text, with control characters escaped.
        name: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// The address of the hub cannot be used.
    #[error(
        "`{endpoint}` is no usable hub address: {reason}\nhint: set HF_ENDPOINT to an address such as https://huggingface.co, or unset it"
    )]
    Endpoint {
        /// The address, without user and password.
        endpoint: String,
        /// The reason why it is refused.
        reason: &'static str,
    },
    /// The access token holds characters that cannot be sent; it is not shown.
    #[error(
        "the access token holds spaces, line breaks or other characters that no token has\nhint: set HF_TOKEN to the token alone, or unset it"
    )]
    Token,
    /// No folder for the cache is known.
    #[error(
        "no folder for downloaded models: the home folder is unknown\nhint: set HF_HOME to a folder"
    )]
    NoCacheFolder,
    /// The network is forbidden and the cache does not hold the model.
    #[error("{name} is not in the cache and the network is off: {} missing, looked in {looked}\nhint: with the network on, `detr models pull {name}` fetches it", missing.join(" and "), looked = looked.display())]
    Offline {
        /// The model, with its revision where that is not the default.
        name: String,
        /// The files that are missing.
        missing: Vec<&'static str>,
        /// The folder that was looked in.
        looked: PathBuf,
    },
    /// HTTP 401 or 403.
    #[error(
        "{url}: access refused (HTTP {status})\nhint: the model may not exist, or be private or gated: accept its terms on its page, and set HF_TOKEN to a token that may read it (sent only over https)"
    )]
    Denied {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// HTTP 404 or 410 for something that is needed.
    #[error("{url}: {what} does not exist (HTTP 404)\nhint: {hint}")]
    NotFound {
        /// The address.
        url: String,
        /// Repository, revision or file, as far as the server said.
        what: &'static str,
        /// The remedy.
        hint: &'static str,
    },
    /// Another HTTP status than success.
    #[error("{url}: HTTP {status} (tries: {tries})\nhint: {}", status_hint(*status))]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The number of attempts.
        tries: usize,
    },
    /// A redirect that is not followed.
    #[error(
        "{from}: redirect to `{to}` is not followed: {reason}\nhint: if this hub is a mirror, it or HF_ENDPOINT is set up wrongly; otherwise something on the way changes the answers"
    )]
    Redirect {
        /// The address that redirected.
        from: String,
        /// The target of the redirect.
        to: String,
        /// The rule it breaks.
        reason: &'static str,
    },
    /// A header is missing, malformed or contradicts another.
    #[error(
        "{url}: header {header} `{value}` {reason}\nhint: the address is no Hugging Face hub, or something on the way changes the answers; check HF_ENDPOINT"
    )]
    Header {
        /// The address.
        url: String,
        /// The header's name.
        header: &'static str,
        /// Its value, escaped and cut.
        value: String,
        /// The reason why it is not followed.
        reason: &'static str,
    },
    /// Weights without a SHA-256 to check them against.
    #[error(
        "{url}: the server gives no SHA-256 for the weights (only `{etag}`), so they cannot be verified\nhint: fetch from https://huggingface.co, or download by hand and pass the path"
    )]
    Unverifiable {
        /// The address.
        url: String,
        /// The tag that was sent instead.
        etag: String,
    },
    /// More bytes than a file of this kind may have.
    #[error("{url}: {got} bytes or more, the limit is {limit}")]
    TooLarge {
        /// The address.
        url: String,
        /// Bytes announced or received.
        got: u64,
        /// The limit.
        limit: u64,
    },
    /// The connection ended early or the length is not the announced one.
    #[error("{url}: got {got} of {expected} bytes; nothing was kept\nhint: try again")]
    Length {
        /// The address.
        url: String,
        /// Bytes received.
        got: u64,
        /// Bytes announced, or `?`.
        expected: String,
    },
    /// The content is not what its hash says.
    #[error(
        "{url}: the content's {kind} is {actual}, not {expected}; nothing was kept\nhint: try again; if it stays, a proxy or mirror changes the file"
    )]
    Mismatch {
        /// The address.
        url: String,
        /// Name of the hash.
        kind: &'static str,
        /// The hash announced.
        expected: String,
        /// The hash of the content that was sent.
        actual: String,
    },
    /// The server could not be reached, or said nothing for too long.
    #[error(
        "{url}: {reason}\nhint: check the connection and HF_ENDPOINT; models already in the cache work without the network"
    )]
    Network {
        /// The address.
        url: String,
        /// The error, in words.
        reason: String,
    },
    /// The cache could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl HubError {
    /// Wraps errors of the file system, for `map_err`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

fn status_hint(status: u16) -> &'static str {
    match status {
        429 => "the hub limits requests; wait some minutes, or set HF_TOKEN",
        500.. => "the hub has a problem; try again later",
        _ => "check HF_ENDPOINT",
    }
}

/// Escapes the control characters of a text from outside, and cuts it at 200 characters.
pub(super) fn shown(text: &str) -> String {
    let cut = text.char_indices().nth(200).map(|(at, _)| at);
    let ellipsis = if cut.is_some() { "…" } else { "" };
    escaped(&text[..cut.unwrap_or(text.len())]).replace('\n', "\\n") + ellipsis
}

/// Returns an address without query and fragment, for messages.
pub(super) fn shown_url(url: &str) -> String {
    shown(url.split(['?', '#']).next().unwrap_or(url))
}
