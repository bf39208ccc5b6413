//! Starting other programs: where the workspace is, which cargo, and commands as people type them.

use std::env;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::Context;

/// The folder of the workspace.
pub(crate) fn root() -> &'static Path {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package)
}

/// Returns a command for the cargo that started this program. Variables that cargo sets about the package it
/// runs are taken away: build scripts that watch them, such as ring's, would run again and compile TLS anew.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Runs a command to its end, with this program's terminal.
pub(crate) fn status(command: &mut Command) -> anyhow::Result<ExitStatus> {
    command.status().with_context(|| format!("cannot start `{}`", shown(command)))
}

/// Runs a command to its end and returns its standard output; its standard error is shown.
pub(crate) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(std::process::Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    anyhow::ensure!(output.status.success(), "`{}` failed: {}", shown(command), output.status);
    String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", shown(command)))
}

/// Runs a command to its end and returns its standard output; the error of one that fails has the end of
/// what it said.
pub(crate) fn captured(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start `{}`", shown(command)))?;
    anyhow::ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        last_words(&String::from_utf8_lossy(&output.stderr))
    );
    String::from_utf8(output.stdout).with_context(|| format!("output of `{}`", shown(command)))
}

/// From the last line that names an error on, or the last line.
fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let error = lines.iter().rposition(|line| line.to_lowercase().contains("error"));
    let from = error.unwrap_or_else(|| lines.len().saturating_sub(1));
    let some: Vec<&str> = lines[from..].iter().take(3).copied().collect();
    if some.is_empty() { "it said nothing".to_owned() } else { some.join("; ") }
}

/// A command as one would type it: variables, program, arguments.
pub(crate) fn shown(command: &Command) -> String {
    let quoted = |text: &OsStr| {
        let text = text.to_string_lossy();
        if text.is_empty() || text.contains([' ', '\'', '"', '*', '?', '$', '\\']) {
            format!("'{}'", text.replace('\'', r"'\''"))
        } else {
            text.into_owned()
        }
    };
    let program = Path::new(command.get_program());
    let variables = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}={}", name.to_string_lossy(), quoted(value?))));
    variables
        .chain(program.file_name().map(quoted))
        .chain(command.get_args().map(quoted))
        .collect::<Vec<_>>()
        .join(" ")
}

/// Whether a program is on the search path.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let search = env::var_os("PATH")?;
    env::split_paths(&search).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// Another program's exit code as ours; a program ended by a signal has failed.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_is_the_end_of_what_was_said() {
        let text = "a note\nerror: first\nmore\nValueError: last\nhint: this\n\n";
        assert_eq!(last_words(text), "ValueError: last; hint: this");
        assert_eq!(last_words("one\ntwo\n"), "two");
        assert_eq!(last_words(""), "it said nothing");
    }

    #[test]
    fn commands_are_shown_as_they_would_be_typed() {
        let mut command = Command::new("/somewhere/bin/cargo");
        command.args(["run", "--", "my file.png", "it's"]).env("DOCS_RS", "1");
        assert_eq!(shown(&command), r"DOCS_RS=1 cargo run -- 'my file.png' 'it'\''s'");
    }
}
