//! `detr self-test`: checks in every precision that a device computes the same numbers as the CPU.

use burn::tensor::Device;
use clap::Args;
use detr_infer::backend::{self, Backend, BackendError, Precision, Purpose};
use detr_infer::cli::{CliError, Console, print, print_json};
use detr_infer::self_test::{Extent, Report, TestedCode, self_test_of};
use detr_infer::verdicts::Verdicts;

/// Flags of `detr self-test`.
#[derive(Args)]
pub(crate) struct SelfTestArgs {
    /// The backend to test
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    backend: Backend,

    /// Number of the device, where a backend has several
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,

    /// Precision to test [default: every one that the device has]
    #[arg(long, value_name = "DTYPE", value_parser = backend::precision_parser())]
    dtype: Option<Precision>,

    /// Test the sizes of models on large pictures, too; it takes minutes on a CPU
    #[arg(long)]
    full: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &SelfTestArgs, console: &Console) -> Result<(), CliError> {
    let reports = reports(args, console)?;
    if args.json {
        print_json(&reports)?;
    } else {
        let tables: Vec<String> = reports.iter().map(ToString::to_string).collect();
        print(&tables.join("\n"))?;
    }
    let refused: Vec<String> = reports.iter().filter_map(refused).collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(CliError::Failed(format!(
        "the self-test failed on {}\nhint: use another --dtype or --backend, or update the driver and test again",
        refused.join(" and on ")
    )))
}

/// Names the device of a report that failed, and what is refused from now on.
fn refused(report: &Report) -> Option<String> {
    let consequence = if report.failure.is_some() {
        "which broke off"
    } else if report.refused(Purpose::Prediction).is_some() {
        "which is refused from now on"
    } else if report.refused(Purpose::Training).is_some() {
        "which is refused for training from now on"
    } else {
        return None;
    };
    Some(format!("{} in {}, {consequence}", report.device, report.dtype))
}

fn reports(args: &SelfTestArgs, console: &Console) -> Result<Vec<Report>, CliError> {
    let cpu = cpu()?;
    let precisions = match args.dtype {
        Some(precision) => vec![precision],
        None => vec![Precision::F32, Precision::F16, Precision::Bf16],
    };
    // All precisions are tested on one device, even if `auto` would take another for a precision
    // that it lacks.
    let first = backend::select_untested(args.backend, args.device, precisions[0])?;
    let mut reports = Vec::new();
    for precision in precisions {
        let selected = match backend::select_untested(first.backend, args.device, precision) {
            Ok(selected) => selected,
            Err(BackendError::Precision { .. }) if args.dtype.is_none() => continue,
            Err(error) => return Err(error.into()),
        };
        console.note(&format!("testing {} in {precision}", selected.name));
        let extent = if args.full { Extent::Full } else { Extent::Quick };
        let report = self_test_of(TestedCode::new(extent), &selected, precision, &cpu);
        let failed = report.failure.is_some();
        // A device that failed may have been short of memory, which says nothing about its numbers.
        if !failed {
            match Verdicts::of_user().record_report(&selected, precision, &report) {
                Ok(false) => {}
                Ok(true) => console.warn(&format!(
                    "{} stays refused in {precision} for what --full found; test with --full again",
                    selected.name
                )),
                Err(error) => console.warn(&format!("the verdict cannot be kept: {error}")),
            }
        }
        reports.push(report);
        if failed {
            // It must not be used again.
            break;
        }
    }
    Ok(reports)
}

/// Returns the CPU device that results are compared with, whatever its own self-test found.
fn cpu() -> Result<Device, CliError> {
    [Backend::Flex, Backend::Ndarray]
        .into_iter()
        .find_map(|backend| backend::select_untested(backend, 0, Precision::F32).ok())
        .map(|selected| selected.device)
        .ok_or_else(|| CliError::from(BackendError::NotCompiled { backend: Backend::Flex }))
}
