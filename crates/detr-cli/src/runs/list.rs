//! `detr runs list`: one line for a run.

use std::path::PathBuf;

use clap::Args;
use detr_infer::cli::{CliError, Console, escaped, print, print_json};
use detr_track::RunRecord;
use detr_track::clock::format_duration;
use serde_json::{Value, json};

use super::folder;
use super::table::{number, table};

/// Flags of `detr runs list`.
#[derive(Args)]
pub(crate) struct ListArgs {
    /// Folder that holds runs, or folders of runs
    #[arg(value_name = "DIR", default_value = "runs")]
    folder: PathBuf,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ListArgs, console: &Console) -> Result<(), CliError> {
    let runs = folder::find(&args.folder)?;
    if args.json {
        return print_json(&runs.iter().map(described).collect::<Vec<_>>());
    }
    for run in &runs {
        for problem in &run.problems {
            console.note(&format!("{}: {problem}", run.name));
        }
    }
    if runs.is_empty() {
        console.note(&format!("no runs in {}", args.folder.display()));
    }
    let head =
        ["run", "state", "epoch", "step", "best AP", "last loss", "duration", "model", "config"];
    let rows: Vec<Vec<String>> = runs.iter().map(cells).collect();
    print(&escaped(&table(&head, &rows, &[2, 3, 4, 5, 6])))
}

fn cells(run: &RunRecord) -> Vec<String> {
    let status = &run.status;
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    vec![
        run.name.clone(),
        run.state.word().to_owned(),
        of(status.epoch, status.epochs, "/"),
        of(status.step, status.steps, "/"),
        number(status.best.map(|best| best.ap), 3),
        number(status.loss, 4),
        duration(status.seconds),
        or_dash(&status.model),
        or_dash(&status.config),
    ]
}

/// Returns the progress as text, with the total if it is known.
pub(super) fn of(done: u64, all: u64, between: &str) -> String {
    if all == 0 { done.to_string() } else { format!("{done}{between}{all}") }
}

/// Writes a span of time, or a dash if it is not known.
pub(super) fn duration(seconds: f64) -> String {
    if seconds > 0.0 { format_duration(seconds) } else { "-".to_owned() }
}

/// Describes a run for programs that read the list.
pub(super) fn described(run: &RunRecord) -> Value {
    let status = &run.status;
    json!({
        "run": run.name,
        "path": run.path,
        "state": run.state,
        "epoch": status.epoch,
        "epochs": status.epochs,
        "step": status.step,
        "steps": status.steps,
        "best_ap": status.best.map(|best| best.ap),
        "last_ap": status.ap,
        "last_loss": status.loss,
        "seconds": status.seconds,
        "eta_seconds": status.eta_seconds,
        "model": status.model,
        "config": status.config,
        "started": status.started,
        "error": status.error,
        "problems": run.problems,
    })
}
