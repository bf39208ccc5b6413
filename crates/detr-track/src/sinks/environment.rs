//! `environment.json`: the machine, the versions and the command line of a run, so that its numbers can be told from
//! those of another machine. A run that goes on elsewhere keeps what was written before. Environment variables are
//! left out, because they may hold secrets.

use std::io;
use std::path::{Path, PathBuf};

use detr_types::env;
use detr_types::fs::atomic_write;
use serde_json::{Value, json};

use crate::clock::{rfc3339, unix_now};
use crate::{Delivery, RunContext, RunEnd, RunInfo, Sink, SinkError, SinkResult, machine};

/// Name of the file.
pub const ENVIRONMENT_FILE: &str = "environment.json";

/// Key of what the file said before the run was resumed, the oldest first.
const EARLIER: &str = "earlier";
/// Number of resumes that are remembered.
const MAX_EARLIER: usize = 100;

/// The writer of `environment.json`, once for each process of a run.
#[derive(Debug)]
pub struct Environment {
    folder: PathBuf,
    written: bool,
}

impl Environment {
    /// Creates the sink for a run's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), written: false }
    }

    fn write(&mut self, run: &RunContext) -> SinkResult {
        write(&self.folder, run.info()).map_err(|error| SinkError::new(ENVIRONMENT_FILE, error))?;
        self.written = true;
        Ok(Delivery::Written)
    }
}

impl Sink for Environment {
    fn begin(&mut self, run: &RunContext) -> SinkResult {
        self.write(run)
    }

    fn finish(&mut self, _: &RunEnd, run: &RunContext) -> SinkResult {
        if self.written { Ok(Delivery::Idle) } else { self.write(run) }
    }
}

fn write(folder: &Path, info: &RunInfo) -> io::Result<()> {
    let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let path = folder.join(ENVIRONMENT_FILE);
    let mut now = describe(info, arguments);
    let earlier = std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    if let (Some(now), Some(Value::Object(mut before))) = (now.as_object_mut(), earlier) {
        let mut earlier = match before.remove(EARLIER) {
            Some(Value::Array(earlier)) => earlier,
            _ => Vec::new(),
        };
        earlier.push(before.into());
        earlier.drain(..earlier.len().saturating_sub(MAX_EARLIER));
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

/// Returns an address without the name and password before its host.
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
