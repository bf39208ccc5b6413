//! `cargo xtask infer`: `detr-infer` with the cargo features that the word after `--backend`
//! needs, so that nobody has to remember them.

use std::ffi::OsString;
use std::process::{Command, ExitCode};

use crate::shell;

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Arguments of detr-infer, as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut command = program("detr-infer", &args.args);
    command.args(&args.args);
    eprintln!("{}", shell::shown(&command));
    Ok(shell::exit_code(shell::status(&mut command)?))
}

/// An optimised program with the features that its arguments ask for; the arguments are still to come.
pub(crate) fn program(package: &str, args: &[OsString]) -> Command {
    let mut command = shell::cargo();
    command.args(["run", "--release", "--quiet", "--manifest-path"]);
    command.arg(shell::root().join("Cargo.toml")).args(["-p", package]);
    command.args(feature_flags(backend(args).as_deref())).arg("--");
    command
}

/// The last word after `--backend`, in either spelling.
pub(crate) fn backend(args: &[OsString]) -> Option<String> {
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
pub(crate) fn feature_flags(backend: Option<&str>) -> Vec<String> {
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
        let args: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        feature_flags(backend(&args).as_deref()).join(" ")
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
}
