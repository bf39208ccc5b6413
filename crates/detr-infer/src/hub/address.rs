//! Addresses: the hub's own, and where its redirects may lead.
//!
//! The rules of [`redirect`]: encryption once had is never given up; plain http is followed only
//! to the host of a hub that was itself configured as http (another port is allowed); an address
//! with user or password in it is never followed.

use std::net::IpAddr;

use ureq::http::Uri;

use super::HubError;
use super::error::shown;

/// Scheme, host and port: what may see the access token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    https: bool,
    host: String,
    port: u16,
}

/// The hub's address, checked.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    base: String,
    origin: Origin,
}

impl Endpoint {
    /// Checks an address such as `https://huggingface.co` (a path may follow, no query).
    pub(super) fn parse(text: &str) -> Result<Self, HubError> {
        let base = text.trim().trim_end_matches('/');
        let refused = |reason| HubError::Endpoint { endpoint: without_user(base), reason };
        let uri: Uri = base.parse().map_err(|_| refused("it is not an address"))?;
        let origin = Origin::of(&uri).map_err(refused)?;
        if uri.query().is_some() || base.contains('#') {
            return Err(refused("it may not have a query or fragment"));
        }
        Ok(Self { base: base.to_owned(), origin })
    }

    /// Returns the address without a slash at its end.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// Returns whether the address belongs to the hub itself.
    pub(super) fn owns(&self, uri: &Uri) -> bool {
        Origin::of(uri).is_ok_and(|origin| origin == self.origin)
    }

    /// Returns whether the hub runs on this machine.
    pub(super) fn is_loopback(&self) -> bool {
        let host = self.origin.host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Returns whether a token can be sent without others on the way reading it.
    pub(super) fn is_private(&self) -> bool {
        self.origin.https || self.is_loopback()
    }
}

impl Origin {
    fn of(uri: &Uri) -> Result<Self, &'static str> {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("it is neither http nor https"),
        };
        let authority = uri.authority().ok_or("it names no host")?;
        if authority.as_str().contains('@') {
            return Err("it holds a user name or password");
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err("it names no host");
        }
        let port = match (uri.port_u16(), https) {
            (Some(port), _) => port,
            (None, true) => 443,
            (None, false) => 80,
        };
        Ok(Self { https, host, port })
    }
}

/// Returns the target of a redirect from `current`, or the reason why it is not followed.
pub(super) fn redirect(
    endpoint: &Endpoint,
    current: &Uri,
    location: &str,
) -> Result<Uri, &'static str> {
    let target = resolve(current, location)?;
    let (from, to) = (Origin::of(current)?, Origin::of(&target)?);
    if !to.https {
        if from.https {
            return Err("it leads from https to plain http");
        }
        if to.host != endpoint.origin.host {
            return Err("it leads to another host over plain http");
        }
    }
    Ok(target)
}

/// Resolves an address by RFC 3986, section 5.2, as far as servers use it: an address,
/// `//host/path`, `/path` or `path`.
fn resolve(current: &Uri, location: &str) -> Result<Uri, &'static str> {
    const BAD: &str = "it is not an address";
    let location = location.split('#').next().unwrap_or(location);
    let has_scheme = location
        .split_once(':')
        .is_some_and(|(scheme, _)| !scheme.is_empty() && !scheme.contains(['/', '?']));
    let scheme = current.scheme_str().ok_or(BAD)?;
    let authority = current.authority().ok_or(BAD)?;
    let text = if has_scheme {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}")
    } else if location.is_empty() || location.starts_with('?') {
        format!("{scheme}://{authority}{}{location}", current.path())
    } else {
        let folder = current.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}")
    };
    text.parse().map_err(|_| BAD)
}

/// Returns the part of an address that messages may show, since it may hold a password.
fn without_user(text: &str) -> String {
    match (text.split_once("://"), text.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => shown(&format!("{scheme}://{host}")),
        (None, Some((_, host))) => shown(host),
        (_, None) => shown(text),
    }
}
