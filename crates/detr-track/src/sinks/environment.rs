//! `environment.json`: on what a run was made, so that its numbers can be told from those of another
//! machine. A run that goes on elsewhere keeps what was true before. Of the environment variables it
//! holds none: they may hold secrets.

use std::io;
use std::path::Path;

use detr_types::env;
use detr_types::fs::atomic_write;
use serde_json::{Value, json};

use crate::RunInfo;
use crate::clock::{rfc3339, unix_now};
use crate::machine;

/// Name of the file.
pub const ENVIRONMENT: &str = "environment.json";

/// Key of what it said before the run was resumed, the oldest first.
const EARLIER: &str = "earlier";
/// Resumes that are remembered.
const KEPT: usize = 100;

/// Writes the file.
///
/// # Errors
/// What the file system reports.
pub fn write(folder: &Path, info: &RunInfo) -> io::Result<()> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let path = folder.join(ENVIRONMENT);
    let mut now = describe(info, arguments);
    let earlier = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let (Some(now), Some(Value::Object(mut before))) = (now.as_object_mut(), earlier) {
        let mut earlier = match before.remove(EARLIER) {
            Some(Value::Array(earlier)) => earlier,
            _ => Vec::new(),
        };
        earlier.push(before.into());
        earlier.drain(..earlier.len().saturating_sub(KEPT));
        now.insert(EARLIER.to_owned(), earlier.into());
    }
    let text = serde_json::to_string_pretty(&now)?;
    atomic_write(&path, |file| writeln!(file, "{text}"))
}

fn describe(info: &RunInfo, arguments: impl Iterator<Item = String>) -> Value {
    let command: Vec<String> = arguments.map(|argument| without_password(&argument)).collect();
    json!({
        "detr": env!("CARGO_PKG_VERSION"),
        "commit": env::BUILD_COMMIT,
        "burn": info.burn,
        "optimized": !cfg!(debug_assertions),
        "device": info.device,
        "cpu": machine::cpu_name(),
        "threads": std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        "memory_mb": machine::total_memory_mb().map(f64::round),
        "os": std::env::consts::OS,
        "arch": std::env::consts::ARCH,
        "host": machine::host_name(),
        "command": command,
        "folder": std::env::current_dir().ok(),
        "config": info.config,
        "seed": info.seed,
        "time": rfc3339(unix_now()),
    })
}

/// An address without the name and password before its host.
fn without_password(argument: &str) -> String {
    let Some((scheme, rest)) = argument.split_once("://") else { return argument.to_owned() };
    let host_end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..host_end].rfind('@') {
        Some(at) => format!("{scheme}://***{}", &rest[at..]),
        None => argument.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_addresses_are_not_kept() {
        for (argument, kept) in [
            ("https://me:secret@host/a@b", "https://***@host/a@b"),
            ("model.init=https://token@host", "model.init=https://***@host"),
            ("https://host/a@b", "https://host/a@b"),
            ("a@b", "a@b"),
        ] {
            assert_eq!(without_password(argument), kept);
        }
    }
}
