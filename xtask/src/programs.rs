//! `cargo xtask infer | train | bench`: a program, optimised and with the cargo features that the word after `--backend`
//! needs, so that nobody has to remember them.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::shell;

/// The arguments of a program, as they are.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Arguments of the program, as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn infer(Args { args }: &Args) -> anyhow::Result<ExitCode> {
    run(program("detr-infer", args).args(args))
}

pub(crate) fn train(Args { args }: &Args) -> anyhow::Result<ExitCode> {
    check(args)?;
    run(program("detr-cli", args).arg("train").args(args))
}

pub(crate) fn bench(Args { args }: &Args) -> anyhow::Result<ExitCode> {
    check(args)?;
    // `bench all` measures the start and the size of detr-infer, too.
    if args.first().is_some_and(|command| command == "all") {
        let mut build = cargo("build", "detr-infer", args);
        eprintln!("{}", shell::shown(&build));
        anyhow::ensure!(shell::status(&mut build)?.success(), "detr-infer cannot be built");
    }
    run(program("detr-bench", args).args(args))
}

fn run(command: &mut Command) -> anyhow::Result<ExitCode> {
    eprintln!("{}", shell::shown(command));
    Ok(shell::exit_code(shell::status(command)?))
}

/// Makes the command of an optimised program with the features that its arguments ask for, but without the arguments.
fn program(package: &str, args: &[OsString]) -> Command {
    let mut command = cargo("run", package, args);
    command.arg("--");
    command
}

/// Returns cargo at work on an optimised package with the features that the arguments of its program ask for.
fn cargo(verb: &str, package: &str, args: &[OsString]) -> Command {
    let mut command = shell::cargo();
    command.args([verb, "--release", "--quiet", "--manifest-path"]);
    command.arg(shell::root().join("Cargo.toml")).args(["-p", package]);
    command.args(feature_flags(backend(args).as_deref()));
    command
}

/// The words that `--backend` takes.
const BACKENDS: [&str; 7] = ["auto", "cuda", "flex", "metal", "ndarray", "vulkan", "wgpu"];

/// Compiling takes minutes; a typing error is told at once.
fn check(args: &[OsString]) -> anyhow::Result<()> {
    match backend(args) {
        Some(name) if !BACKENDS.contains(&name.as_str()) => {
            anyhow::bail!("unknown backend `{name}`\nhint: --backend takes {}", BACKENDS.join(", "))
        }
        _ => Ok(()),
    }
}

/// Returns the last word after `--backend`, in either spelling.
fn backend(args: &[OsString]) -> Option<String> {
    let mut found = None;
    let mut args = args.iter().map(|arg| arg.to_string_lossy());
    while let Some(arg) = args.next() {
        match arg.as_ref() {
            "--" => break,
            "--backend" => found = args.next().map(Into::into).or(found),
            arg => found = arg.strip_prefix("--backend=").map(str::to_owned).or(found),
        }
    }
    found
}

/// Feature flags for a backend. `flex` stays in, so that a machine without the GPU can still fall
/// back; a GPU gets fused kernels, and the fastest of several tuned at first use. Unknown words get the defaults: the program itself explains which ones there are.
fn feature_flags(backend: Option<&str>) -> Vec<String> {
    match backend {
        Some("ndarray") => flags("flex,ndarray"),
        Some(name @ ("cuda" | "vulkan" | "metal")) => {
            flags(&format!("flex,{name},fusion,autotune"))
        }
        _ => Vec::new(),
    }
}

fn flags(features: &str) -> Vec<String> {
    ["--no-default-features", "--features", features].map(str::to_owned).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(line: &str) -> String {
        feature_flags(backend(&arguments(line)).as_deref()).join(" ")
    }

    #[test]
    fn the_backend_chooses_the_features() {
        let cuda = "--no-default-features --features flex,cuda,fusion,autotune";
        assert_eq!(picked("--backend cuda a.jpg"), cuda);
        assert_eq!(picked("a.jpg --backend=cuda --json"), cuda);
        assert_eq!(picked("--backend flex --backend cuda"), cuda);
        for line in ["a.jpg", "--backend auto", "--backend wgpu", "--backend flex", "--backend"] {
            assert_eq!(picked(line), "", "{line}");
        }
        assert_eq!(picked("-- --backend cuda"), "", "a file name after --");
    }

    fn arguments(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn training_runs_optimised_with_the_features_of_its_backend() {
        let line = "--backend cuda --config a.toml --set train.lr=1e-4";
        let command = shell::shown(&program("detr-cli", &arguments(line)));
        assert!(command.contains(" run --release --quiet --manifest-path "), "{command}");
        let end = "-p detr-cli --no-default-features --features flex,cuda,fusion,autotune --";
        assert!(command.ends_with(end), "{command}");
        let command = shell::shown(&program("detr-cli", &arguments("--config a.toml")));
        assert!(command.ends_with("-p detr-cli --"), "{command}");
    }

    #[test]
    fn unknown_backends_are_refused_with_those_that_there_are() {
        for name in BACKENDS {
            assert!(check(&arguments(&format!("--backend {name}"))).is_ok());
        }
        assert!(check(&arguments("--config a.toml -- --backend tpu")).is_ok());
        let error = check(&arguments("--backend=tpu --config a.toml")).unwrap_err().to_string();
        assert!(error.starts_with("unknown backend `tpu`\nhint: ") && error.contains("cuda"));
    }
}
