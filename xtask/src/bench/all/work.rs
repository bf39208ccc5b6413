//! One measurement, and one side that makes it: our programs, or the scripts of the peers.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::bench::parse;
use crate::bench::programs::Programs;
use crate::bench::rounds::median;
use crate::shell;

/// The most memory of the host that a process had, by its own account.
const MEMORY: &str = "peak_memory_mb";

/// What is measured, on both sides.
pub(super) struct Measurement {
    /// What people call it; no two have the same.
    pub(super) name: String,
    /// Of its numbers.
    pub(super) unit: &'static str,
    /// How we do it.
    pub(super) ours: Ours,
    /// How the peer does it, if there is one.
    pub(super) theirs: Option<Script>,
    /// How ONNX Runtime does it, if it does.
    pub(super) onnx: Option<Script>,
    /// The numbers in what either side printed, by the names of parts; `""` for a whole.
    pub(super) read: fn(&Value) -> Vec<(String, f64)>,
    /// The same work on one image, if this is on several, and on how many.
    pub(super) scaled: Option<(String, usize)>,
}

/// A script of `benches/peers/` and its arguments.
pub(super) type Script = (&'static str, Vec<String>);

/// What we do.
pub(super) enum Ours {
    /// A program that prints JSON, and its arguments.
    Program(&'static str, Vec<String>),
    /// How long a program takes from its start to its first line, several times.
    FirstLine(&'static str, Vec<String>, usize),
    /// How large a program is.
    Bytes(&'static str),
}

/// A number, and the most memory of the process that found it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Reading {
    /// Median of the rounds.
    pub(super) value: Option<f64>,
    /// Number of every round.
    pub(super) rounds: Vec<f64>,
    pub(super) memory_mb: Option<f64>,
    /// What was allocated on a GPU, if the process tells.
    pub(super) gpu_memory_mb: Option<f64>,
}

/// Who measures.
pub(in crate::bench) struct Side {
    /// What people call it.
    pub(super) name: &'static str,
    kind: Kind,
    /// What was printed for a measurement, round after round.
    printed: BTreeMap<String, Vec<Value>>,
    /// Why there is nothing; no second round is tried.
    errors: BTreeMap<String, String>,
}

enum Kind {
    Ours(Programs, usize),
    Peer(PathBuf),
    Onnx(PathBuf),
}

impl Side {
    /// Programs, with this many threads on the CPU.
    pub(super) fn ours(programs: Programs, threads: usize) -> Self {
        Self::new("detr", Kind::Ours(programs, threads))
    }

    /// Scripts run by this Python.
    pub(in crate::bench) fn peer(python: PathBuf) -> Self {
        Self::new("peer", Kind::Peer(python))
    }

    /// The scripts of ONNX Runtime run by this Python.
    pub(in crate::bench) fn onnx(python: PathBuf) -> Self {
        Self::new("ONNX Runtime", Kind::Onnx(python))
    }

    fn new(name: &'static str, kind: Kind) -> Self {
        Self { name, kind, printed: BTreeMap::new(), errors: BTreeMap::new() }
    }

    /// Whether there is such work for this side.
    pub(super) fn knows(&self, measurement: &Measurement) -> bool {
        match self.kind {
            Kind::Ours(..) => true,
            Kind::Peer(_) => measurement.theirs.is_some(),
            Kind::Onnx(_) => measurement.onnx.is_some(),
        }
    }

    /// Measures, and keeps what was printed, or why nothing was.
    pub(super) fn measure(&mut self, measurement: &Measurement, limit_mb: Option<f64>) {
        let name = &measurement.name;
        if self.errors.contains_key(name) {
            return;
        }
        let done = match self.too_large(measurement, limit_mb) {
            Some(reason) => Err(anyhow::Error::msg(reason)),
            None => self.run(measurement),
        };
        match done {
            Ok(Some(value)) if (measurement.read)(&value).is_empty() => {
                self.fail(name, "what was printed lacks the numbers");
            }
            Ok(Some(value)) => self.printed.entry(name.clone()).or_default().push(value),
            Ok(None) => {}
            Err(error) => self.fail(name, &format!("{error:#}")),
        }
    }

    fn fail(&mut self, name: &str, reason: &str) {
        eprintln!("  {}: {reason}", self.name);
        self.errors.insert(name.to_owned(), reason.to_owned());
    }

    /// Why a batch is left out, going by the memory of one image.
    fn too_large(&self, measurement: &Measurement, limit_mb: Option<f64>) -> Option<String> {
        let (one, batch) = measurement.scaled.as_ref()?;
        let peak = self.printed.get(one)?.first()?[MEMORY].as_f64()?;
        #[allow(clippy::cast_precision_loss)] // a few
        let needed = peak * *batch as f64;
        let limit = limit_mb.filter(|&limit| needed > limit)?;
        Some(format!(
            "left out: one image took {peak:.0} MB, so {batch} may take {needed:.0}, more than the limit of {limit:.0}"
        ))
    }

    fn run(&self, measurement: &Measurement) -> anyhow::Result<Option<Value>> {
        match (&self.kind, &measurement.ours) {
            (Kind::Ours(programs, threads), Ours::Program(name, args)) => {
                let mut command = programs.command(name)?;
                command.env("RAYON_NUM_THREADS", threads.to_string());
                printed(command.args(args)).map(Some)
            }
            (Kind::Ours(programs, threads), Ours::FirstLine(name, args, runs)) => {
                let once = |_| {
                    let mut command = programs.command(name)?;
                    command.env("RAYON_NUM_THREADS", threads.to_string());
                    first_line(command.args(args))
                };
                let times: Vec<f64> = (0..*runs).map(once).collect::<anyhow::Result<_>>()?;
                Ok(Some(json!({ "ms": times })))
            }
            (Kind::Ours(programs, _), Ours::Bytes(name)) => {
                Ok(Some(json!({ "bytes": programs.path(name)?.metadata()?.len() })))
            }
            (Kind::Peer(python), _) => scripted(python, measurement.theirs.as_ref()),
            (Kind::Onnx(python), _) => scripted(python, measurement.onnx.as_ref()),
        }
    }

    /// Medians over the rounds of every number, and the most memory.
    pub(super) fn readings(&self, measurement: &Measurement) -> BTreeMap<String, Reading> {
        let mut numbers: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        let rounds = self.printed.get(&measurement.name).map_or(&[][..], Vec::as_slice);
        for round in rounds {
            for (part, number) in (measurement.read)(round) {
                numbers.entry(part).or_default().push(number);
            }
        }
        let most = |key: &str| rounds.iter().filter_map(|one| one[key].as_f64()).reduce(f64::max);
        let (memory_mb, gpu_memory_mb) = (most(MEMORY), most("peak_gpu_memory_mb"));
        let reading = |rounds: Vec<f64>| Reading {
            value: median(rounds.clone()),
            rounds,
            memory_mb,
            gpu_memory_mb,
        };
        numbers.into_iter().map(|(part, numbers)| (part, reading(numbers))).collect()
    }

    /// Why a measurement has no numbers.
    pub(super) fn error(&self, name: &str) -> Option<String> {
        self.errors.get(name).cloned()
    }

    /// A field of anything that was printed.
    pub(super) fn seen(&self, key: &str) -> Value {
        let mut values = self.printed.values().flatten().map(|value| &value[key]);
        values.find(|value| !value.is_null()).cloned().unwrap_or_default()
    }
}

fn scripted(python: &Path, script: Option<&Script>) -> anyhow::Result<Option<Value>> {
    let Some((script, args)) = script else { return Ok(None) };
    let mut command = Command::new(python);
    command.arg(shell::root().join("benches/peers").join(script)).args(args);
    printed(&mut command).map(Some)
}

fn printed(command: &mut Command) -> anyhow::Result<Value> {
    parse(&shell::captured(command)?, command)
}

/// Milliseconds from the start of a program to its first line.
fn first_line(command: &mut Command) -> anyhow::Result<f64> {
    let start = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start `{}`", shell::shown(command)))?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?);
    let mut line = String::new();
    let read = lines.read_line(&mut line);
    let time = start.elapsed();
    std::io::copy(&mut lines, &mut std::io::sink())?;
    let status = child.wait()?;
    ensure!(status.success(), "`{}` failed: {status}", shell::shown(command));
    ensure!(read? > 0, "`{}` printed nothing", shell::shown(command));
    Ok(time.as_secs_f64() * 1000.0)
}

/// Memory of the machine, where Linux tells, in units of 1000 * 1000 bytes.
pub(super) fn total_memory_mb() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(name: &str, scaled: Option<(String, usize)>) -> Measurement {
        Measurement {
            name: name.to_owned(),
            unit: "ms",
            ours: Ours::Program("no such program", Vec::new()),
            theirs: None,
            onnx: None,
            read: |value| value["ms"].as_f64().map(|ms| (String::new(), ms)).into_iter().collect(),
            scaled,
        }
    }

    #[test]
    fn what_fails_says_why_and_is_not_tried_again() {
        let mut side = Side::ours(Programs::of_folder(std::path::Path::new("nowhere")), 2);
        let one = measurement("one", None);
        side.measure(&one, None);
        side.measure(&one, None);
        assert!(side.readings(&one).is_empty());
        assert!(side.error("one").unwrap().contains("no program"));
        let mut peer = Side::peer("no-such-python".into());
        assert!(side.knows(&one) && !peer.knows(&one));
        peer.measure(&one, None);
        assert_eq!(peer.error("one"), None, "there is no peer for it");
    }

    #[test]
    fn batches_that_would_not_fit_are_left_out() {
        let mut side = Side::ours(Programs::of_folder(std::path::Path::new("nowhere")), 2);
        let printed = |ms: f64| json!({ "ms": ms, "peak_memory_mb": 300.0 });
        side.printed.insert("one".to_owned(), vec![printed(1.0), printed(4.0), printed(3.0)]);
        let four = measurement("four", Some(("one".to_owned(), 4)));
        assert_eq!(side.too_large(&four, Some(1200.0)), None);
        side.measure(&four, Some(1199.0));
        assert!(side.error("four").unwrap().starts_with("left out: one image took 300 MB"));
        let expected = Reading {
            value: Some(3.0),
            rounds: vec![1.0, 4.0, 3.0],
            memory_mb: Some(300.0),
            gpu_memory_mb: None,
        };
        assert_eq!(side.readings(&measurement("one", None))[""], expected);
    }
}
