//! What the measurements have in common: the flags, rounds in which ours and theirs take turns,
//! medians, and where results go.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::SystemTime;

use anyhow::anyhow;
use serde_json::{Map, Value, json};

use super::all::Side;
use super::{at_least_one, commit, date, measure, save};
use crate::shell;

#[derive(clap::Args)]
pub(super) struct Flags {
    /// Rounds: with --peer, ours and theirs take turns [default: 1, or 3 with --peer]
    #[arg(long, value_parser = at_least_one)]
    rounds: Option<usize>,
    /// Measure the same work in Python too, if it has the packages
    #[arg(long)]
    pub(super) peer: bool,
    /// The Python of --peer
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// More arguments of the scripts that run models in PyTorch: --peer-option=--compile, --peer-option=--tf32
    #[arg(long = "peer-option", value_name = "ARG", allow_hyphen_values = true)]
    pub(super) peer_options: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Keep the JSON under benches/results/
    #[arg(long)]
    save: bool,
}

/// A program in Python that does what we do.
pub(super) struct Peer {
    /// What people call it.
    pub(super) name: &'static str,
    /// Below `benches/peers/`.
    pub(super) script: &'static str,
    /// The packages it needs.
    pub(super) needs: &'static str,
}

/// What the rounds printed.
pub(super) struct Rounds {
    pub(super) ours: Vec<Value>,
    /// Empty without `--peer`.
    pub(super) theirs: Vec<Value>,
}

impl Flags {
    /// How many rounds, if not asked for.
    pub(super) fn rounds_or(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default)
    }

    /// With `--peer`, PyTorch and what else is our like, and ONNX Runtime, run by the Python of `--python`.
    pub(super) fn peer_sides(&self) -> [Option<Side>; 2] {
        [Side::peer, Side::onnx].map(|side| self.peer.then(|| side(self.python.clone())))
    }

    /// Runs our command and, with `--peer`, the peer in turns. Both are told the number of the round,
    /// from 1; the peer's command gets the script and needs its arguments only.
    pub(super) fn measure(
        &self,
        peer: &Peer,
        ours: impl Fn(usize) -> Command,
        theirs: impl Fn(&mut Command),
    ) -> anyhow::Result<Rounds> {
        let count = self.rounds_or(if self.peer { 3 } else { 1 });
        let mut rounds = Rounds { ours: Vec::new(), theirs: Vec::new() };
        for round in 1..=count {
            eprintln!("round {round} of {count}: detr");
            rounds.ours.push(measure(&mut ours(round))?);
            if self.peer {
                eprintln!("round {round} of {count}: {}", peer.name);
                let mut command = Command::new(&self.python);
                command.arg(shell::root().join("benches/peers").join(peer.script));
                theirs(&mut command);
                let measured = measure(&mut command).map_err(|error| {
                    anyhow!(
                        "{} could not be measured: {error:#}\nhint: --python PATH names a Python that has {}",
                        peer.name,
                        peer.needs
                    )
                })?;
                rounds.theirs.push(measured);
            }
        }
        Ok(rounds)
    }

    /// Adds date and commit, keeps and prints the results.
    pub(super) fn finish(
        &self,
        name: &str,
        results: Value,
        text: impl FnOnce(&Value) -> String,
    ) -> anyhow::Result<ExitCode> {
        self.finish_with(name, results, text, |_, _| Ok(()))
    }

    /// The same, and keeps more beside the file of the results.
    pub(super) fn finish_with(
        &self,
        name: &str,
        results: Value,
        text: impl FnOnce(&Value) -> String,
        beside: impl FnOnce(&Path, &Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<ExitCode> {
        let mut dated = Map::new();
        dated.insert("date".to_owned(), json!(date(SystemTime::now())));
        dated.insert("commit".to_owned(), json!(commit()));
        if let Value::Object(fields) = results {
            dated.extend(fields);
        }
        let results = Value::Object(dated);
        if self.save {
            let path = save(name, &results)?;
            beside(&path, &results)?;
            eprintln!("saved {}", path.display());
        }
        let mut out = std::io::stdout().lock();
        if self.json {
            writeln!(out, "{results:#}")?;
        } else {
            write!(out, "{}", text(&results))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// An example of one of our packages, built with optimisation.
pub(super) fn example(package: &str, name: &str) -> Command {
    let mut command = shell::cargo();
    command.args(["run", "--release", "--quiet", "--manifest-path"]);
    command.arg(shell::root().join("Cargo.toml"));
    command.args(["-p", package, "--example", name, "--"]);
    command
}

/// The one in the middle, or between the two there.
pub(super) fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let last = numbers.len().checked_sub(1)?;
    Some(f64::midpoint(numbers[last / 2], numbers[numbers.len() / 2]))
}

/// The median of what `numbers` finds in every round: one number, or a list of them.
pub(super) fn median_of<'a>(
    rounds: impl IntoIterator<Item = &'a Value>,
    numbers: impl Fn(&Value) -> &Value,
) -> Option<f64> {
    let mut all = Vec::new();
    for round in rounds {
        match numbers(round) {
            Value::Array(list) => {
                for number in list {
                    all.push(number.as_f64()?);
                }
            }
            number => all.push(number.as_f64()?),
        }
    }
    median(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_all_runs_of_all_rounds() {
        let rounds = [json!({"s": [3.0, 1.0, 9.0]}), json!({"s": [2.0]})];
        assert_eq!(median_of(&rounds, |round| &round["s"]), Some(2.5));
        assert_eq!(median_of(&rounds, |round| &round["s"][0]), Some(2.5));
        assert_eq!(median_of(&rounds, |round| &round["t"]), None);
        assert_eq!(median(Vec::new()), None);
    }
}
