//! `cargo xtask train`: `detr train`, optimised and with the cargo features that the word after
//! `--backend` needs. An unknown word is refused before anything is compiled.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::{infer, shell};

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Arguments of detr train, as they are
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// What `detr train --backend` knows.
const BACKENDS: [&str; 7] = ["auto", "cuda", "flex", "metal", "ndarray", "vulkan", "wgpu"];

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    check(&args.args)?;
    let mut command = infer::program("detr-cli", &args.args);
    command.arg("train").args(&args.args);
    eprintln!("{}", shell::shown(&command));
    Ok(shell::exit_code(shell::status(&mut command)?))
}

/// Compiling takes minutes; a typing error is told at once.
fn check(args: &[OsString]) -> anyhow::Result<()> {
    match infer::backend(args) {
        Some(name) if !BACKENDS.contains(&name.as_str()) => {
            anyhow::bail!("unknown backend `{name}`\nhint: --backend takes {}", BACKENDS.join(", "))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn training_runs_optimised_with_the_features_of_its_backend() {
        let line = "--backend cuda --config a.toml --set train.lr=1e-4";
        let command = shell::shown(&infer::program("detr-cli", &arguments(line)));
        assert!(command.contains(" run --release --quiet --manifest-path "), "{command}");
        let end = "-p detr-cli --no-default-features --features flex,cuda,fusion,autotune --";
        assert!(command.ends_with(end), "{command}");
        let command = shell::shown(&infer::program("detr-cli", &arguments("--config a.toml")));
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
