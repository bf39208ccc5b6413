//! The names that a remote model may have: `owner/name` or `owner/name@revision`.
//!
//! The rules follow the Hub's own for repository names and are stricter for revisions, because
//! both become parts of paths in the cache and of addresses: nothing that passes here can leave
//! the folder it is put in. Whether a text is an existing local path is for the caller to check
//! first; this file looks at the text alone.

use super::HubError;

/// The revision that is meant when a name gives none.
pub const DEFAULT_REVISION: &str = "main";

/// The Hub's limit for the length of a repository name, owner included.
const MAX_REPO_LEN: usize = 96;
/// Longest revision; a file of that name must exist in the cache.
const MAX_REVISION_LEN: usize = 128;
/// A name that ends like this is a mistyped path: it must not reach the network.
const FILE_ENDINGS: [&str; 10] =
    ["safetensors", "pth", "pt", "bin", "ckpt", "onnx", "bpk", "mpk", "json", "toml"];

/// Splits a remote model's name into repository (`owner/name`) and revision (default `main`).
///
/// ```text
/// facebook/detr-resnet-50            yes
/// facebook/detr-resnet-50@no_timm    yes
/// model.safetensors, ../x/y, a/b/c   no
/// ```
///
/// # Errors
/// [`HubError::Name`] says which rule the text breaks.
pub fn parse_remote_name(text: &str) -> Result<(&str, &str), HubError> {
    let (repo, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
    check_repo(repo)
        .and_then(|()| check_revision(revision))
        .map_err(|reason| name(text, reason))?;
    Ok((repo, revision))
}

/// Checks the two halves of a name that did not come through [`parse_remote_name`].
pub(super) fn check(repo: &str, revision: &str) -> Result<(), HubError> {
    check_repo(repo).map_err(|reason| name(repo, reason))?;
    check_revision(revision).map_err(|reason| name(revision, reason))
}

fn name(text: &str, reason: &'static str) -> HubError {
    HubError::Name { name: super::error::shown(text), reason }
}

fn check_repo(repo: &str) -> Result<(), &'static str> {
    check_characters(repo)?;
    let Some((owner, model)) = repo.split_once('/') else {
        return Err("it has no `/` between owner and name");
    };
    if model.contains('/') {
        return Err("it has more than one `/`");
    }
    if repo.len() > MAX_REPO_LEN {
        return Err("it is longer than 96 characters");
    }
    check_part(owner)?;
    check_part(model)?;
    let ending = model.rsplit_once('.').map_or("", |(_, ending)| ending);
    if FILE_ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)) {
        return Err("it ends like a file, and no such file exists");
    }
    Ok(())
}

/// Checks the owner or the name alone.
fn check_part(part: &str) -> Result<(), &'static str> {
    check_start(part)?;
    if part.ends_with(['.', '-']) {
        return Err("owner and name may not end with `.` or `-`");
    }
    // The cache folder is `models--OWNER--NAME`: two repositories must not share one.
    if part.contains("--") {
        return Err("owner and name may not contain `--`");
    }
    Ok(())
}

fn check_revision(revision: &str) -> Result<(), &'static str> {
    check_characters(revision)?;
    if revision.contains('/') {
        return Err("a revision may not contain `/`");
    }
    if revision.len() > MAX_REVISION_LEN {
        return Err("the revision is longer than 128 characters");
    }
    check_start(revision)
}

fn check_start(part: &str) -> Result<(), &'static str> {
    if part.is_empty() {
        return Err("a part of it is empty");
    }
    if part.starts_with(['.', '-']) {
        return Err("no part may start with `.` or `-`");
    }
    Ok(())
}

fn check_characters(text: &str) -> Result<(), &'static str> {
    if text.contains("..") {
        return Err("it contains `..`");
    }
    if text
        .bytes()
        .any(|byte| !matches!(byte, b'/' | b'.' | b'_' | b'-') && !byte.is_ascii_alphanumeric())
    {
        return Err("only letters, digits, `.`, `_` and `-` may be used");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths() {
        assert_eq!(parse_remote_name("a/b_c.d-1").unwrap(), ("a/b_c.d-1", "main"));
        assert_eq!(
            parse_remote_name("facebook/detr-resnet-50@no_timm").unwrap(),
            ("facebook/detr-resnet-50", "no_timm")
        );
        let long = format!("a/{}", "b".repeat(96));
        for bad in [
            "",
            "model",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../../x",
            "a/../b",
            "a/..",
            "./b",
            "a/.b",
            "-a/b",
            "a/-b",
            "a/b-",
            "a--b/c",
            "%2e%2e/x",
            "a/%2e",
            "a\\b",
            "a/b\\c",
            "a/b\0",
            "a/b c",
            "~/b",
            "a/b\n",
            "a/b?x",
            "a/b#x",
            "a/ü",
            "a/b@",
            "a/b@../x",
            "a/b@x/y",
            "a/b@.x",
            "a/b@x@y",
            "https://a/b",
            "a:b/c",
            "weights/model.safetensors",
            "out/best.PTH",
            long.as_str(),
        ] {
            let error = parse_remote_name(bad).unwrap_err().to_string();
            assert!(error.contains("hint: ") && !error.contains('\0'), "{error}");
        }
    }
}
