//! `cargo xtask check`: everything that must hold before a change is merged. CI runs this same
//! command, through `.ci/run`; licences and spelling only where their programs are installed.

use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use crate::{shell, tidy};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run every check, even after one has failed
    #[arg(long)]
    keep_going: bool,
}

/// The action of a check.
enum Step {
    /// The invariants, inside this program.
    Tidy,
    /// `cargo` with these arguments and variables.
    Cargo(&'static [&'static str], &'static [(&'static str, &'static str)]),
    /// A program that not every machine has, and its arguments; the last text is how to get it.
    Optional(&'static str, &'static [&'static str], &'static str),
}

/// Cheap ones first.
const STEPS: [Step; 7] = [
    Step::Tidy,
    Step::Cargo(&["fmt", "--all", "--check"], &[]),
    // The cuda feature is enabled here, so that the type check below finds its dependencies checked
    // already. DOCS_RS=1 makes Burn's build scripts skip the download of LLVM, which neither needs;
    // nothing is linked.
    Step::Cargo(
        &["clippy", "--workspace", "--all-targets", "--features", "cuda", "--", "-D", "warnings"],
        &[("DOCS_RS", "1")],
    ),
    // The README names this command.
    Step::Cargo(&["test", "--workspace"], &[]),
    Step::Cargo(
        &["check", "-p", "detr-infer", "-p", "detr-cli", "--features", "cuda"],
        &[("DOCS_RS", "1")],
    ),
    Step::Optional("cargo-deny", &["deny", "check"], "cargo install --locked cargo-deny"),
    Step::Optional("typos", &[], "cargo install --locked typos-cli"),
];

enum Outcome {
    Passed,
    Failed,
    Skipped(&'static str),
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut report: Vec<(String, Outcome, Duration)> = Vec::new();
    for step in &STEPS {
        let start = Instant::now();
        let (name, outcome) = step.run()?;
        let failed = matches!(outcome, Outcome::Failed);
        eprintln!("==> {} in {:.1} s\n", outcome.word(), start.elapsed().as_secs_f64());
        report.push((name, outcome, start.elapsed()));
        if failed && !args.keep_going {
            break;
        }
    }
    for (name, outcome, time) in &report {
        eprintln!("{:>7} {:>7.1} s  {name}", outcome.word(), time.as_secs_f64());
        if let Outcome::Skipped(hint) = outcome {
            eprintln!("hint: {hint}");
        }
    }
    let left = STEPS.len() - report.len();
    if left > 0 {
        eprintln!("{left} more not run after the failure; --keep-going runs them");
    }
    let failed = report.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl Step {
    fn run(&self) -> anyhow::Result<(String, Outcome)> {
        match self {
            Self::Tidy => {
                eprintln!("==> cargo xtask tidy");
                let passed = tidy::run()? == ExitCode::SUCCESS;
                Ok(("cargo xtask tidy".to_owned(), Outcome::of(passed)))
            }
            Self::Cargo(args, variables) => {
                let mut command = shell::cargo();
                command.args(*args).envs(variables.iter().copied());
                run_shown(command)
            }
            Self::Optional(program, args, install) => match shell::find_program(program) {
                None => {
                    eprintln!("==> {program} is not installed: skipped");
                    Ok(((*program).to_owned(), Outcome::Skipped(install)))
                }
                Some(path) => {
                    // Cargo's plug-ins are started by cargo.
                    let mut command = match program.strip_prefix("cargo-") {
                        Some(_) => shell::cargo(),
                        None => Command::new(path),
                    };
                    command.args(*args);
                    run_shown(command)
                }
            },
        }
    }
}

fn run_shown(mut command: Command) -> anyhow::Result<(String, Outcome)> {
    command.current_dir(shell::root());
    let name = shell::shown(&command);
    eprintln!("==> {name}");
    let passed = shell::status(&mut command)?.success();
    Ok((name, Outcome::of(passed)))
}

impl Outcome {
    fn of(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::Failed }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed => "FAILED",
            Self::Skipped(_) => "skipped",
        }
    }
}
