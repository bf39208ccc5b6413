//! Ours and the peers' measurements of the same work in turns, so that all see the same noise of the machine. Every
//! measurement is a process of its own, whose memory is its own.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use clap::Parser;
use detr_infer::cli::{CliError, Console};
use serde_json::{Value, json};

use crate::Cli;
use crate::report::{Report, Row, median, ms, over, root};

/// A benchmark.
pub(crate) trait Benchmark {
    /// Measures in this process.
    fn measure(&self, flags: &Flags, console: &Console) -> Result<Report, CliError>;

    /// Returns the scripts that do the same work: that of PyTorch or another like it, and that of ONNX Runtime.
    fn peers(&self, _flags: &Flags) -> [Option<Script>; 2] {
        [None, None]
    }

    /// Refuses two results of the same work that differ.
    fn agree(&self, _ours: &Report, _theirs: &Value) -> Result<(), String> {
        Ok(())
    }
}

/// A script of `benches/peers/` and its arguments.
pub(crate) type Script = (&'static str, Vec<String>);

/// Flags that all benchmarks have.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Flags {
    /// Measured runs of every round [default: what suits the benchmark]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) runs: Option<u32>,

    /// Runs before the measured ones [default: what suits the benchmark]
    #[arg(long, global = true, value_name = "N")]
    pub(crate) warmup: Option<u32>,

    /// Threads on the CPU [default: as many as the machine has]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) threads: Option<u32>,

    /// Rounds: with --peer, ours and theirs take turns [default: 1, or 3 with --peer]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: Option<u32>,

    /// Measure the same work in Python too, if it has the packages
    #[arg(long, global = true)]
    pub(crate) peer: bool,

    /// The Python of --peer
    #[arg(long, global = true, default_value = "python3")]
    pub(crate) python: PathBuf,

    /// More arguments of the scripts that run models in PyTorch: --peer-option=--compile, --peer-option=--tf32
    #[arg(long = "peer-option", global = true, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) peer_options: Vec<String>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Keep JSON and Markdown under benches/results/
    #[arg(long, global = true)]
    pub(crate) save: bool,
}

impl Flags {
    /// Returns the number of threads.
    pub(crate) fn threads() -> String {
        rayon::current_num_threads().to_string()
    }

    /// Returns whether this process measures itself, rather than starting others.
    pub(crate) fn is_alone(&self) -> bool {
        !self.peer && self.rounds.is_none_or(|rounds| rounds == 1)
    }
}

/// Work that is measured.
pub(crate) struct Work {
    /// The name in front of those of its rows.
    pub(crate) name: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Ours,
    /// The row of the report that counts; without it, all do.
    pub(crate) row: Option<&'static str>,
    /// The name of the same work on one image, if this is on several, and how many.
    pub(crate) scaled: Option<(String, usize)>,
}

/// The way in which we do the work.
pub(crate) enum Ours {
    /// A benchmark of this program, by its arguments.
    Benchmark(Vec<String>),
    /// The time from the start of `detr-infer` with these arguments to its first line, several times.
    FirstLine(Vec<String>, usize),
    /// The size of `detr-infer`.
    Bytes,
}

/// The names of the sides in the numbers of a row.
const SIDES: [&str; 3] = ["detr", "peer", "onnx"];

/// The reports of one side, one for each round, or the reason why there are none.
#[derive(Default)]
struct Rounds {
    reports: Vec<Report>,
    error: Option<String>,
}

impl Work {
    /// Returns the benchmark with its flags, if it is one.
    fn benchmark(&self) -> Option<Cli> {
        let Ours::Benchmark(args) = &self.ours else { return None };
        let words = std::iter::once("detr-bench").chain(args.iter().map(String::as_str));
        Cli::try_parse_from(words).ok()
    }

    /// Measures ours, or the side of a peer that has this work.
    fn measure(&self, side: usize, flags: &Flags) -> Option<Result<(Report, Value), String>> {
        let command = match (side, &self.ours) {
            (0, Ours::Benchmark(args)) => this_program().map(|mut command| {
                command.args(args).args(["--json", "--threads", &Flags::threads()]);
                command
            }),
            (0, Ours::FirstLine(args, runs)) => {
                let runs: Result<Vec<f64>, String> = (0..*runs).map(|_| first_line(args)).collect();
                return Some(runs.map(|runs| single(Row::of_runs("", self.unit, runs))));
            }
            (0, Ours::Bytes) => {
                #[allow(clippy::cast_precision_loss)] // megabytes for people
                let size = detr_infer().and_then(|path| {
                    let size = path.metadata().map_err(|error| error.to_string())?.len();
                    Ok(single(Row::of_runs("", self.unit, vec![size as f64 / 1e6])))
                });
                return Some(size);
            }
            (side, _) => {
                let Cli { command, flags: own, .. } = self.benchmark()?;
                let own = Flags { peer_options: flags.peer_options.clone(), ..own };
                let [peer, onnx] = command.benchmark()?.peers(&own);
                let (script, args) = if side == 1 { peer? } else { onnx? };
                let mut python = Command::new(&flags.python);
                python.arg(root().join("benches/peers").join(script)).args(args);
                Ok(python)
            }
        };
        let printed = command.and_then(|mut command| captured(&mut command));
        Some(printed.and_then(|text| {
            let start = text.find('{').unwrap_or(0);
            let value: Value = serde_json::from_str(&text[start..])
                .map_err(|error| format!("the output is no JSON: {error}"))?;
            let report = match side {
                0 => serde_json::from_value(value.clone()).map_err(|error| error.to_string())?,
                _ => of_peer(&value),
            };
            Ok((report, value))
        }))
    }

    /// Tells why a batch is left out, going by the memory of one image.
    fn too_large(&self, one: Option<&Rounds>, limit_mb: Option<f64>) -> Option<String> {
        let (_, batch) = self.scaled.as_ref()?;
        let peak = one?.reports.first()?.facts.get("peak_memory_mb")?.as_f64()?;
        #[allow(clippy::cast_precision_loss)] // a few
        let needed = peak * *batch as f64;
        let limit = limit_mb.filter(|&limit| needed > limit)?;
        Some(format!(
            "left out: one image took {peak:.0} MB, so {batch} may take {needed:.0}, more than the limit of {limit:.0}"
        ))
    }
}

/// Measures all work, round after round, and returns a row for every number of every work, and one for work without
/// any.
pub(crate) fn measure_all(works: &[Work], flags: &Flags, limit_mb: Option<f64>) -> Report {
    let rounds = flags.rounds.unwrap_or(if flags.peer { 3 } else { 1 });
    let mut all: Vec<[Rounds; 3]> = Vec::new();
    all.resize_with(works.len(), Default::default);
    for round in 1..=rounds {
        for (number, work) in works.iter().enumerate() {
            for side in 0..if flags.peer { 3 } else { 1 } {
                if all[number][side].error.is_some() {
                    continue;
                }
                let at = format!("round {round} of {rounds}, {} of {}", number + 1, works.len());
                let one = work.scaled.as_ref().and_then(|(one, _)| {
                    let at = works.iter().position(|other| other.name == *one)?;
                    Some(&all[at][side])
                });
                let done = match work.too_large(one, limit_mb) {
                    Some(reason) => Some(Err(reason)),
                    None => work.measure(side, flags),
                };
                let Some(done) = done else { continue };
                let colon = if work.name.is_empty() { "" } else { ": " };
                eprintln!("{at}: {}{colon}{}", work.name, SIDES[side]);
                let ours = all[number][0].reports.last();
                let checked = done.and_then(|(report, value)| {
                    let wanted = work.rows(&report).next().is_some();
                    if !wanted {
                        return Err("what was printed lacks the numbers".to_owned());
                    }
                    if let (1.., Some(cli), Some(ours)) = (side, work.benchmark(), ours) {
                        cli.command.benchmark().map_or(Ok(()), |b| b.agree(ours, &value))?;
                    }
                    Ok(report)
                });
                match checked {
                    Ok(report) => all[number][side].reports.push(report),
                    Err(error) => {
                        eprintln!("  {}: {error}", SIDES[side]);
                        all[number][side].error = Some(error);
                    }
                }
            }
        }
    }
    let rows = works.iter().zip(&all).flat_map(|(work, sides)| rows(work, sides)).collect();
    let seen = |side: usize, key: &str| {
        let mut reports = all.iter().flat_map(|sides| &sides[side].reports);
        reports.find_map(|report| report.facts.get(key)).cloned()
    };
    let mut versions = serde_json::Map::new();
    for (side, keys) in [
        (0, &["version", "burn"][..]),
        (1, &["python", "torch", "transformers", "torchvision", "scipy", "gpu"]),
        (2, &["onnxruntime"]),
    ] {
        for key in keys {
            let name = if *key == "version" { "detr" } else { key };
            versions.extend(seen(side, key).map(|value| (name.to_owned(), value)));
        }
    }
    let hardware = json!({
        "cpu": seen(0, "cpu"),
        "device": seen(0, "device"),
        "threads": rayon::current_num_threads(),
        "memory_mb": total_memory_mb(),
        "system": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
    });
    // One benchmark beside its peers has the facts of ours; those of many differ.
    let mut facts = match &all[..] {
        [[ours, ..]] => ours.reports.first().map(|report| report.facts.clone()).unwrap_or_default(),
        _ => serde_json::Map::new(),
    };
    facts.insert("hardware".to_owned(), hardware);
    facts.insert("versions".to_owned(), Value::Object(versions));
    facts.insert("backend".to_owned(), seen(0, "backend").unwrap_or_default());
    facts.insert("rounds".to_owned(), json!(rounds));
    Report { facts, rows }
}

impl Work {
    /// Returns the rows of a report that count.
    fn rows<'a>(&self, report: &'a Report) -> impl Iterator<Item = &'a Row> + use<'a> {
        let only = self.row;
        report.rows.iter().filter(move |row| {
            row.get("median").is_some() && only.is_none_or(|only| row.name == only)
        })
    }
}

/// Puts the sides of some work beside each other.
fn rows(work: &Work, sides: &[Rounds; 3]) -> Vec<Row> {
    let mut parts: Vec<(&str, &str)> = Vec::new();
    for row in sides.iter().flat_map(|side| &side.reports).flat_map(|report| work.rows(report)) {
        if parts.iter().all(|(name, _)| *name != row.name) {
            parts.push((&row.name, &row.unit));
        }
    }
    if parts.is_empty() {
        parts.push(("", work.unit));
    }
    let mut rows = Vec::new();
    for (part, unit) in parts {
        let is_whole = part.is_empty() || work.row.is_some();
        let mut row = match (work.name.as_str(), is_whole) {
            (name, true) => Row::new(name, unit),
            ("", false) => Row::new(part, unit),
            (name, false) => Row::new(format!("{name}: {part}"), unit),
        };
        for (side, Rounds { reports, error }) in SIDES.iter().zip(sides) {
            let medians: Vec<f64> =
                reports.iter().filter_map(|report| report.row(part)?.get("median")).collect();
            let most = |key: &str| {
                let all = reports.iter().filter_map(|report| report.facts.get(key)?.as_f64());
                all.reduce(f64::max)
            };
            row.set(side, median(medians.clone()));
            row.set(&format!("{side}_memory_mb"), most("peak_memory_mb"));
            row.set(&format!("{side}_gpu_memory_mb"), most("peak_gpu_memory_mb"));
            if !medians.is_empty() {
                row.numbers.insert(format!("{side}_rounds"), json!(medians));
            }
            if let Some(error) = error {
                row.numbers.insert(format!("{side}_error"), json!(error));
            }
            if *side == "detr" {
                row.set("gflop", most("total_flops").map(|flops| flops / 1e9));
            }
        }
        for (ratio, above, below) in [
            ("ratio", "detr", "peer"),
            ("memory_ratio", "detr_memory_mb", "peer_memory_mb"),
            ("onnx_ratio", "detr", "onnx"),
            ("onnx_memory_ratio", "detr_memory_mb", "onnx_memory_mb"),
        ] {
            row.set(ratio, over(row.get(above), row.get(below)));
        }
        rows.push(row);
    }
    rows
}

/// Reads what a script printed: stages, cases of several calls, or runs.
fn of_peer(printed: &Value) -> Report {
    let mut rows = Vec::new();
    let mut one = |name: String, unit: &str, median: Option<f64>| {
        let mut row = Row::new(name, unit);
        row.set("median", median);
        rows.push(row);
    };
    let list = |value: &Value| -> Option<f64> {
        median(value.as_array()?.iter().filter_map(Value::as_f64).collect())
    };
    let stage = |name: &str| printed["stages_ms"][name]["median"].as_f64();
    for (name, numbers) in printed["stages_ms"].as_object().into_iter().flatten() {
        one(name.clone(), "ms", numbers["median"].as_f64());
    }
    if let (None, Some(backbone), Some(transformer)) =
        (stage("model"), stage("backbone"), stage("transformer"))
    {
        one("model".to_owned(), "ms", Some(backbone + transformer));
    }
    for case in printed["cases"].as_array().into_iter().flatten() {
        let name = case["name"].as_str().unwrap_or_default();
        for pass in ["forward", "forward_backward"] {
            if let Some(ms) = case[pass]["ms"]["median"].as_f64() {
                one(format!("{name}, {}", pass.replace('_', " and ")), "ms", Some(ms));
            }
        }
        if let Some(ms) = list(&case["assign_ms"]) {
            one(name.to_owned(), "ms", Some(ms));
        }
    }
    if let Some(seconds) = list(&printed["seconds"]) {
        one("scoring".to_owned(), "s", Some(seconds));
    }
    let whole = printed["images_per_second"].as_f64().map(|rate| 1000.0 / rate);
    if whole.is_some() {
        one("image".to_owned(), "ms", whole);
        for step in ["decode", "augment", "normalize"] {
            one(step.to_owned(), "ms", printed["ms"][step].as_f64());
        }
    }
    Report { facts: printed.as_object().cloned().unwrap_or_default(), rows }
}

fn single(row: Row) -> (Report, Value) {
    (Report { rows: vec![row], ..Report::default() }, Value::Null)
}

fn this_program() -> Result<Command, String> {
    std::env::current_exe().map(Command::new).map_err(|error| error.to_string())
}

/// Returns the path of `detr-infer` beside this program.
fn detr_infer() -> Result<PathBuf, String> {
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let path = this.with_file_name(format!("detr-infer{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() { Ok(path) } else { Err("there is no program `detr-infer`".to_owned()) }
}

/// Returns the milliseconds from the start of `detr-infer` to its first line.
fn first_line(args: &[String]) -> Result<f64, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut command = Command::new(detr_infer()?);
    command.args(args).stdout(Stdio::piped()).stderr(Stdio::null());
    let start = Instant::now();
    let mut child = command.spawn().map_err(failed)?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?);
    let read = lines.read_line(&mut String::new());
    let time = start.elapsed();
    std::io::copy(&mut lines, &mut std::io::sink()).map_err(failed)?;
    let status = child.wait().map_err(failed)?;
    match (status.success(), read.map_err(failed)?) {
        (false, _) => Err(format!("detr-infer failed: {status}")),
        (_, 0) => Err("detr-infer printed nothing".to_owned()),
        _ => Ok(ms(time)),
    }
}

/// Runs a command to its end and returns its standard output; the error of one that fails has the end of what it said.
fn captured(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("cannot start `{program}`: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}", output.status, last_words(&said)));
    }
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

/// Returns the last line that names an error and what follows it, or the last line.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rposition(|line| line.to_lowercase().contains("error"));
    let from = error.unwrap_or_else(|| lines.len().saturating_sub(1));
    let some: Vec<&str> = lines[from..].iter().take(3).copied().collect();
    if some.is_empty() { "it said nothing".to_owned() } else { some.join("; ") }
}

/// Returns the memory of the machine, where Linux tells, in units of 1000 * 1000 bytes.
pub(crate) fn total_memory_mb() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(row: Option<&'static str>) -> Work {
        let ours = Ours::Bytes;
        Work { name: "work".to_owned(), unit: "ms", ours, row, scaled: None }
    }

    fn rounds(report: &Value) -> Rounds {
        let report = serde_json::from_value(report.clone()).unwrap();
        Rounds { reports: vec![report], error: None }
    }

    #[test]
    fn sides_are_put_beside_each_other_by_the_names_of_rows() {
        let ours = json!({ "peak_memory_mb": 30.0, "total_flops": 2e9, "rows": [
            { "name": "a", "unit": "ms", "median": 1.0 },
            { "name": "b", "unit": "ms", "median": 2.0 },
        ]});
        let theirs = json!({ "peak_memory_mb": 60.0, "rows": [
            { "name": "b", "unit": "ms", "median": 8.0 },
        ]});
        let sides = [rounds(&ours), rounds(&theirs), Rounds::default()];
        let found = rows(&work(None), &sides);
        let names: Vec<&str> = found.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["work: a", "work: b"]);
        assert_eq!((found[0].get("ratio"), found[1].get("ratio")), (None, Some(0.25)));
        assert_eq!((found[1].get("memory_ratio"), found[1].get("gflop")), (Some(0.5), Some(2.0)));
        let one = rows(&work(Some("b")), &sides);
        assert_eq!((one[0].name.as_str(), one[0].get("peer")), ("work", Some(8.0)));
    }

    #[test]
    fn work_that_could_not_be_measured_has_a_row_with_the_reason() {
        let error = Some("no torch".to_owned());
        let peer = Rounds { reports: Vec::new(), error };
        let found = rows(&work(None), &[Rounds::default(), peer, Rounds::default()]);
        assert_eq!((found.len(), found[0].name.as_str()), (1, "work"));
        assert_eq!(found[0].numbers["peer_error"], "no torch");
    }

    #[test]
    fn what_scripts_print_becomes_rows() {
        let read = |printed: Value| -> Vec<(String, f64)> {
            let rows = of_peer(&printed).rows.into_iter();
            rows.map(|row| (row.name.clone(), row.get("median").unwrap())).collect()
        };
        let of = |name: &str, number: f64| (name.to_owned(), number);
        let stage = |median: f64| json!({ "median": median });
        let stages = json!({ "stages_ms": { "backbone": stage(1.0), "transformer": stage(2.0) } });
        assert_eq!(read(stages).last(), Some(&of("model", 3.0)));
        let ms = json!({ "ms": { "median": 5.0 } });
        let cases = json!({ "cases": [{ "name": "a", "forward": ms, "forward_backward": ms }] });
        assert_eq!(read(cases), [of("a, forward", 5.0), of("a, forward and backward", 5.0)]);
        let cases = json!({ "cases": [{ "name": "a", "assign_ms": [3.0, 1.0, 2.0] }] });
        assert_eq!(read(cases), [of("a", 2.0)]);
        assert_eq!(read(json!({ "seconds": [3.0, 1.0] })), [of("scoring", 2.0)]);
        let steps = json!({ "decode": 1.0, "augment": 2.0, "normalize": 3.0 });
        let images = json!({ "images_per_second": 100.0, "ms": steps });
        assert_eq!(read(images)[0], of("image", 10.0));
        assert!(read(json!({ "error": "x" })).is_empty());
    }

    #[test]
    fn batches_beyond_the_memory_are_left_out() {
        let many = Work { scaled: Some(("one".to_owned(), 4)), ..work(None) };
        let one = rounds(&json!({ "peak_memory_mb": 100.0, "rows": [] }));
        assert!(many.too_large(Some(&one), Some(399.0)).unwrap().contains("limit of 399"));
        assert_eq!(many.too_large(Some(&one), Some(401.0)), None);
        assert_eq!(many.too_large(None, Some(1.0)), None);
    }

    #[test]
    fn the_error_is_the_end_of_what_was_said() {
        let text = "a note\nerror: first\nmore\nValueError: last\nhint: this\n\n";
        assert_eq!(last_words(text), "ValueError: last; hint: this");
        assert_eq!(last_words("one\ntwo\n"), "two");
        assert_eq!(last_words(""), "it said nothing");
    }
}
