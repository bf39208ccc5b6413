//! `detr devices`: what this machine can compute on, and what could be compiled in.

use std::fmt::Write;

use clap::Args;
use detr_infer::backend::{self, Backend, DeviceInfo, Precision};
use detr_infer::cli::{CliError, print, print_json};
use serde::Serialize;

/// Flags of `detr devices`.
#[derive(Args)]
pub(crate) struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    devices: Vec<DeviceInfo>,
    /// The backend that `--backend auto` takes, or `None` if none works.
    auto: Option<Auto>,
    not_compiled: Vec<Missing>,
}

#[derive(Serialize)]
struct Auto {
    backend: String,
    name: String,
}

#[derive(Serialize)]
struct Missing {
    backend: String,
    /// The command that builds the program with this backend.
    command: String,
}

pub(crate) fn run(args: &DevicesArgs) -> Result<(), CliError> {
    let report = Report {
        devices: backend::list(),
        auto: backend::select(Backend::Auto, 0, Precision::F32)
            .ok()
            .map(|selected| Auto { backend: selected.backend.to_string(), name: selected.name }),
        not_compiled: Backend::ALL
            .into_iter()
            .filter(|backend| !backend.is_compiled())
            .map(|backend| Missing {
                backend: backend.to_string(),
                command: format!("cargo build --release -p detr-cli --features {backend}"),
            })
            .collect(),
    };
    if args.json { print_json(&report) } else { print(&table(&report)) }
}

fn table(report: &Report) -> String {
    let width = report.devices.iter().map(|device| device.name.chars().count()).max();
    let width = width.unwrap_or(0).max("name".len());
    let mut text = format!("{:<8} {:>6}  {:<width$}  dtypes\n", "backend", "device", "name");
    for device in &report.devices {
        let mut remarks = Vec::new();
        if device.software {
            remarks.push("software, slow");
        }
        if device.opengl {
            remarks.push("OpenGL: only if named, and trains only after a passed self-test");
        }
        let remarks =
            if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join("; ")) };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{:<8} {:>6}  {:<width$}  {}{remarks}",
            device.backend,
            device.index,
            device.name,
            device.precisions.join(" "),
        );
    }
    let auto = report.auto.as_ref().map_or("nothing", |auto| &auto.name);
    let _ = writeln!(text, "\n--backend auto takes {auto}");
    if !report.not_compiled.is_empty() {
        text += "\nnot compiled in; add them with:\n";
    }
    for missing in &report.not_compiled {
        let _ = writeln!(text, "{:<8} {}", missing.backend, missing.command);
    }
    text
}
