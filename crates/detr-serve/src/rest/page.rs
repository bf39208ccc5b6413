//! The page at `/` and the description of the routes. Both are part of the program; the page loads nothing else.

use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

const PAGE: &str = include_str!("../page.html");
/// The description of all routes in the form of `OpenAPI` 3.1.
pub(super) const OPENAPI: &str = include_str!("../openapi.json");

/// Answers with the page. Its policy allows the script and the style that are in the page, by their hashes, and requests
/// to this server.
pub(super) async fn page() -> Response {
    let fixed = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    let fixed = fixed.map(|(name, value)| (name, HeaderValue::from_static(value)));
    let mut response = (fixed, PAGE).into_response();
    if let Ok(policy) = HeaderValue::from_str(&policy()) {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

fn policy() -> String {
    let (script, style) = (hash_of("script"), hash_of("style"));
    format!(
        "default-src 'none'; script-src 'sha256-{script}'; style-src 'sha256-{style}'; img-src 'self' blob: data:; \
         media-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}

/// Returns the hash of what is between the tags of this name.
fn hash_of(tag: &str) -> String {
    let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
    let inside = PAGE.split_once(&open).and_then(|(_, rest)| Some(rest.split_once(&close)?.0));
    STANDARD.encode(Sha256::digest(inside.unwrap_or_default()))
}

/// Answers with the description of the routes.
pub(super) async fn openapi() -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(header::CONTENT_TYPE, kind)], OPENAPI).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_one_script_one_style_and_nothing_from_elsewhere() {
        for tag in ["script", "style"] {
            assert_eq!(PAGE.matches(&format!("<{tag}")).count(), 1, "{tag}");
            assert_eq!(PAGE.matches(&format!("<{tag}>")).count(), 1, "{tag}");
        }
        for outside in ["http://", "https://", "src=", "@import", " url(", "style=", "onclick"] {
            assert!(!PAGE.contains(outside), "{outside}");
        }
        assert!(!policy().contains("unsafe"));
    }

    #[test]
    fn the_description_is_json_and_its_references_lead_somewhere() {
        let value: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(value["info"]["version"], env!("CARGO_PKG_VERSION"));
        for part in OPENAPI.split("\"#/components/schemas/").skip(1) {
            let name = part.split('"').next().unwrap();
            assert!(value["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
