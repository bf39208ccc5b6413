//! `detr runs compare`: shows where the settings of runs differ, and their results.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use detr_eval::{Chart, ChartLine, charts_svg};
use detr_infer::cli::{CliError, Console, escaped, print, print_json, write_text};
use detr_track::{RunRecord, ValidationSummary, smooth};
use serde_json::{Value, json};

use super::table::{number, table};
use super::{folder, list, numbers, settings};

/// Flags of `detr runs compare`.
#[derive(Args)]
pub(crate) struct CompareArgs {
    /// Folders of the runs
    #[arg(value_name = "RUN", required = true, num_args = 2..)]
    runs: Vec<PathBuf>,

    /// Draw loss and AP of all runs into this file
    #[arg(long, value_name = "FILE.svg")]
    svg: Option<PathBuf>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CompareArgs, console: &Console) -> Result<(), CliError> {
    let runs = args.runs.iter().map(|path| folder::open(path)).collect::<Result<Vec<_>, _>>()?;
    if let Some(path) = &args.svg {
        draw(path, &runs, console)?;
    }
    let configs: Vec<&toml::Table> = runs.iter().map(|run| &run.settings).collect();
    let differences = settings::differences(&configs);
    if args.json {
        return print_json(&described(&runs, &differences));
    }
    for run in &runs {
        for problem in &run.problems {
            console.note(&format!("{}: {problem}", run.name));
        }
    }
    print(&escaped(&text(&runs, &differences)))
}

type Difference = (String, Vec<Option<String>>);

fn text(runs: &[RunRecord], differences: &[Difference]) -> String {
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let head: Vec<&str> = ["setting"].into_iter().chain(names.iter().copied()).collect();
    let or_dash = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let rows: Vec<Vec<String>> = differences
        .iter()
        .map(|(key, values)| [key.clone()].into_iter().chain(values.iter().map(or_dash)).collect())
        .collect();
    let mut text = if rows.is_empty() {
        "the settings are the same\n".to_owned()
    } else {
        table(&head, &rows, &[])
    };
    let row = |run: &RunRecord| {
        let status = &run.status;
        vec![
            run.name.clone(),
            run.state.word().to_owned(),
            status.epoch.to_string(),
            status.step.to_string(),
            number(status.loss, 4),
            list::duration(status.seconds),
        ]
    };
    let rows: Vec<Vec<String>> = runs.iter().map(row).collect();
    let head = ["run", "state", "epoch", "step", "last loss", "duration"];
    text = text + "\n" + &table(&head, &rows, &[2, 3, 4, 5]);
    for (which, of) in CHOICES {
        let rows: Vec<(String, &ValidationSummary)> =
            runs.iter().filter_map(|run| Some((run.name.clone(), of(run)?))).collect();
        if !rows.is_empty() {
            text = text + "\n" + which + " validation\n" + &numbers::table_of(&rows);
        }
    }
    text
}

/// The validations that are compared.
type Choice = (&'static str, fn(&RunRecord) -> Option<&ValidationSummary>);
const CHOICES: [Choice; 2] =
    [("best", |run| run.history.best()), ("last", |run| run.history.validations.last())];

fn described(runs: &[RunRecord], differences: &[Difference]) -> Value {
    let run = |run: &RunRecord| {
        let mut value = list::described(run);
        if let Value::Object(value) = &mut value {
            for (which, of) in CHOICES {
                value.insert(which.to_owned(), json!(of(run)));
            }
        }
        value
    };
    let settings: BTreeMap<&String, &Vec<Option<String>>> =
        differences.iter().map(|(key, values)| (key, values)).collect();
    json!({ "runs": runs.iter().map(run).collect::<Vec<_>>(), "settings": settings })
}

/// Draws the loss over steps and AP over epochs, a line for each run.
fn draw(path: &Path, runs: &[RunRecord], console: &Console) -> Result<(), CliError> {
    let chart = |title: &str, x: &str, y: &str, points: &dyn Fn(&RunRecord) -> Vec<[f64; 2]>| {
        let line = |run: &RunRecord| ChartLine { name: run.name.clone(), points: points(run) };
        Chart::new(title, x, y, runs.iter().map(line).collect())
    };
    let charts = [
        chart("Loss, smoothed", "step", "loss", &|run| smooth(&run.history.loss.points())),
        chart("Average precision", "epoch", "AP", &|run| run.history.metric_over_epochs(0)),
    ];
    write_text(path, &charts_svg(&charts))?;
    console.note(&format!("written to {}", path.display()));
    Ok(())
}
