//! One repository's folder in the Hugging Face cache, laid out as `huggingface_hub` does it, so
//! that either tool finds what the other has downloaded:
//!
//! ```text
//! models--OWNER--NAME/refs/REVISION              commit that the branch or tag stood for
//! models--OWNER--NAME/snapshots/COMMIT/FILE      -> ../../blobs/HASH (a copy without symlinks)
//! models--OWNER--NAME/blobs/HASH                 the content
//! models--OWNER--NAME/.no_exist/COMMIT/FILE      empty: the commit has no such file
//! ```
//!
//! Every file appears by a rename, so several processes may work in one cache at once.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use detr_types::fs::atomic_write;

use super::HubError;

/// One repository's part of the cache.
#[derive(Debug)]
pub(super) struct RepoCache {
    root: PathBuf,
}

impl RepoCache {
    /// `repo` has passed the checks of `name.rs`.
    pub(super) fn new(cache_dir: &Path, repo: &str) -> Self {
        Self { root: cache_dir.join(format!("models--{}", repo.replace('/', "--"))) }
    }

    /// Returns the repository's folder.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Reads the commit that a revision stood for when it was last fetched. A file that does not
    /// hold a commit counts as absent: its content becomes part of a path.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let mut text = String::new();
        let file = File::open(self.root.join("refs").join(revision)).ok()?;
        file.take(256).read_to_string(&mut text).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Returns the folder of a commit's files.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.root.join("snapshots").join(commit)
    }

    /// Returns the path of the content with this hash.
    pub(super) fn blob(&self, hash: &str) -> PathBuf {
        self.root.join("blobs").join(hash)
    }

    /// Returns whether a commit's file is there; a link to nothing is not.
    pub(super) fn has(&self, commit: &str, file: &str) -> bool {
        std::fs::metadata(self.snapshot(commit).join(file))
            .is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
    }

    /// Returns whether a commit's file is there, or noted not to exist.
    pub(super) fn knows(&self, commit: &str, file: &str) -> bool {
        self.has(commit, file) || self.no_exist(commit, file).is_file()
    }

    fn no_exist(&self, commit: &str, file: &str) -> PathBuf {
        self.root.join(".no_exist").join(commit).join(file)
    }

    /// Puts a small content under its hash.
    pub(super) fn write_blob(&self, hash: &str, content: &[u8]) -> Result<(), HubError> {
        let path = self.blob(hash);
        atomic_write(&path, |writer| writer.write_all(content)).map_err(HubError::io(&path))
    }

    /// Makes a commit's file stand for a content that is already among the blobs.
    pub(super) fn link(&self, commit: &str, file: &str, hash: &str) -> Result<(), HubError> {
        let folder = self.snapshot(commit);
        std::fs::create_dir_all(&folder).map_err(HubError::io(&folder))?;
        let path = folder.join(file);
        let target = Path::new("..").join("..").join("blobs").join(hash);
        if place_symlink(&folder, &target, &path).is_ok() {
            return Ok(());
        }
        // Windows without the right to make links, FAT, some network drives.
        let blob = self.blob(hash);
        let mut content = File::open(&blob).map_err(HubError::io(&blob))?;
        atomic_write(&path, |writer| io::copy(&mut content, writer).map(drop))
            .map_err(HubError::io(&path))
    }

    /// Notes that the commit has no such file, as `huggingface_hub` does.
    pub(super) fn write_no_exist(&self, commit: &str, file: &str) -> Result<(), HubError> {
        let path = self.no_exist(commit, file);
        atomic_write(&path, |_| Ok(())).map_err(HubError::io(&path))
    }

    /// Notes which commit a revision stands for; called last, when all files are in place.
    pub(super) fn write_ref(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if is_commit(revision) {
            return Ok(());
        }
        let path = self.root.join("refs").join(revision);
        atomic_write(&path, |writer| writer.write_all(commit.as_bytes()))
            .map_err(HubError::io(&path))
    }
}

/// Returns whether the text is a full commit hash as git prints it.
pub(super) fn is_commit(text: &str) -> bool {
    is_lower_hex(text, 40)
}

/// Returns whether the text consists of that many lower-case hexadecimal digits.
pub(super) fn is_lower_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Makes the link under a passing name and renames it, so that an old one is replaced at once.
fn place_symlink(folder: &Path, target: &Path, path: &Path) -> io::Result<()> {
    let link = tempfile::Builder::new()
        .prefix(".detr-")
        .suffix(".tmp")
        .make_in(folder, |passing| symlink(target, passing))?;
    link.persist(path).map(drop).map_err(|error| error.error)
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}
