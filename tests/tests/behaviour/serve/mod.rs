//! Tests of `detr serve` from outside: the real program, and clients over plain sockets.

mod client;
mod clients;
mod encryption;
mod grpc;
mod protocols;
mod refusals;
#[cfg(unix)]
mod signals;
mod traffic;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::images::{jpeg, picture, png};
use crate::support::{Running, detr, folder_with, root};
use client::{Answer, request};

/// A server of the shapes model; it is killed when dropped.
struct Server {
    running: Option<Running>,
    address: String,
}

impl Server {
    /// Starts a server with further flags on a free port, and waits until it is ready.
    fn start(flags: &[&str]) -> Self {
        Self::start_with(flags, &[])
    }

    /// Starts a server with further flags and environment variables, and waits until it is ready.
    fn start_with(flags: &[&str], variables: &[(&str, &str)]) -> Self {
        let server = Self::start_early(flags, variables, "listening on http://");
        let start = Instant::now();
        while server.get("/ping").status != 200 {
            assert!(start.elapsed() < Duration::from_mins(1), "never ready");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    /// Starts a server whose connections are encrypted, and does not wait until it is ready.
    fn start_encrypted(flags: &[&str]) -> Self {
        Self::start_early(flags, &[], "listening on https://")
    }

    fn start_early(flags: &[&str], variables: &[(&str, &str)], says: &str) -> Self {
        let mut run = detr(["serve", "--backend", "flex", "--port", "0"]).args(flags);
        if !flags.contains(&"--model") {
            run = run.arg("--model").arg(shapes());
        }
        for (name, value) in variables {
            run = run.env(name, value);
        }
        let mut running = run.start();
        let start = Instant::now();
        let address = loop {
            let stdout = running.stdout();
            if let Some(line) = stdout.lines().next().filter(|_| stdout.ends_with('\n')) {
                break line.strip_prefix(says).unwrap().to_owned();
            }
            let patient = start.elapsed() < Duration::from_mins(1) && running.runs();
            assert!(patient, "no address: {}", running.stderr());
            std::thread::sleep(Duration::from_millis(5));
        };
        Self { running: Some(running), address }
    }

    fn running(&mut self) -> &mut Running {
        self.running.as_mut().unwrap()
    }

    fn get(&self, path: &str) -> Answer {
        request(&self.address, "GET", path, &[], b"").unwrap()
    }

    fn post(&self, path: &str, kind: &str, body: &[u8]) -> Answer {
        request(&self.address, "POST", path, &[("Content-Type", kind)], body).unwrap()
    }

    /// Waits for its end: the exit code and what it said on stderr.
    fn end(mut self) -> (Option<i32>, String) {
        self.running.take().unwrap().end()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(running) = &mut self.running {
            running.kill();
        }
    }
}

/// Returns the folder of the shapes model.
fn shapes() -> PathBuf {
    root().join("assets/shapes")
}

/// Flags that make the shapes model quick.
const SMALL: [&str; 4] = ["--size", "96", "--max-size", "128"];

/// Returns pictures of several formats and sizes by their names; the first has shapes in it.
fn pictures() -> Vec<(String, Vec<u8>)> {
    let shapes = std::fs::read(root().join("assets/shapes.png")).unwrap();
    let mut all = vec![("shapes.png".to_owned(), shapes)];
    for (seed, (width, height)) in (1..).zip([(64, 48), (48, 64), (96, 96), (120, 40)]) {
        all.push((format!("{seed}.png"), png(picture(seed, width, height))));
        all.push((format!("{seed}.jpg"), jpeg(&picture(seed + 9, width, height))));
    }
    all
}

/// Returns what the command line prints for these files.
fn printed(files: &[(String, Vec<u8>)], flags: &[&str], code: i32) -> String {
    let folder = folder_with(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone())));
    let run = detr(["predict", "--json", "--backend", "flex", "--model"]).arg(shapes());
    let run = run.args(flags).args(files.iter().map(|(name, _)| name)).inside(folder.path());
    run.run().expect(code).stdout
}
