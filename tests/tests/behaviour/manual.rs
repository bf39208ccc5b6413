//! The `console` blocks of README.md and docs/: each runs and prints what it shows.
//!
//! A block holds lines `$ COMMAND`, each followed by everything that the command prints. In a line
//! of output `[..]` stands for any text, such as a time or the name of a device; a line `...` stands
//! for any number of lines. Blocks of one file run one after the other in one folder, with `assets`
//! and `configs` of the repository in it. The words behind `console` may be `network` or `minutes`,
//! for blocks that need the one or the other: they do not run here.

use std::path::Path;

use crate::support::{example, program, root};

/// A block of a file.
struct Block {
    /// The line that opens it, from 1.
    line: usize,
    runs: bool,
    commands: Vec<Shown>,
}

/// A command and its output as the manual shows them.
struct Shown {
    command: String,
    output: Vec<String>,
}

/// Reads the `console` blocks of a text in Markdown.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut inside = None;
    for (index, line) in text.lines().enumerate() {
        match (line.strip_prefix("```"), inside) {
            (Some(info), None) => {
                let mut words = info.split(' ');
                let is_console = words.next() == Some("console");
                inside = Some(is_console);
                if is_console {
                    let reasons: Vec<&str> = words.collect();
                    let known = reasons.iter().all(|word| ["network", "minutes"].contains(word));
                    assert!(known, "line {}: unknown words in {line}", index + 1);
                    let (line, runs) = (index + 1, reasons.is_empty());
                    blocks.push(Block { line, runs, commands: Vec::new() });
                }
            }
            (Some(_), Some(_)) => inside = None,
            (None, Some(true)) => {
                let commands = &mut blocks.last_mut().unwrap().commands;
                match (line.strip_prefix("$ "), commands.last_mut()) {
                    (Some(command), _) => {
                        commands.push(Shown { command: command.to_owned(), output: Vec::new() });
                    }
                    (None, Some(shown)) => shown.output.push(line.to_owned()),
                    (None, None) => panic!("line {}: output without a command", index + 1),
                }
            }
            (None, _) => {}
        }
    }
    blocks
}

/// Returns whether a line fits one of the manual, in which `[..]` stands for any text.
fn line_fits(shown: &str, found: &str) -> bool {
    let mut parts = shown.split("[..]");
    let first = parts.next().unwrap();
    let Some(mut rest) = found.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Returns whether lines fit those of the manual, in which `...` stands for any number of lines.
fn lines_fit(shown: &[impl AsRef<str>], found: &[&str]) -> bool {
    match shown.split_first() {
        None => found.is_empty(),
        Some((first, rest)) if first.as_ref() == "..." => {
            (0..=found.len()).any(|skipped| lines_fit(rest, &found[skipped..]))
        }
        Some((first, rest)) => found
            .split_first()
            .is_some_and(|(line, after)| line_fits(first.as_ref(), line) && lines_fit(rest, after)),
    }
}

/// Runs a command of the manual and returns what it prints; `None` if the program was not built.
fn run(folder: &Path, command: &str) -> Option<String> {
    let words: Vec<&str> = command.split_whitespace().collect();
    assert!(!command.contains(['\'', '"', '|', '>', '#']), "not a plain command: {command}");
    let run = match words.as_slice() {
        ["cargo", "run", "-p", "detr-cli", "--", args @ ..] | ["detr", args @ ..] => {
            program("detr", args)
        }
        ["cargo", "run", "-p", "detr-infer", "--", args @ ..] | ["detr-infer", args @ ..] => {
            program("detr-infer", args)
        }
        ["cargo", "run", "-p", "detr", "--example", name, "--", args @ ..] => example(name, args)?,
        _ => panic!("no program of this repository: {command}"),
    };
    let (code, output) = run.inside(folder).run_as_shown();
    assert_eq!(code, 0, "{command}\n{output}");
    Some(output)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn every_console_block_prints_what_it_shows() {
    let mut files = vec![root().join("README.md")];
    let docs = root().join("docs").read_dir().unwrap().map(|entry| entry.unwrap().path());
    files.extend(docs.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    files.sort();
    let mut failures = Vec::new();
    for file in files {
        let name = file.strip_prefix(root()).unwrap().display();
        let blocks = blocks(&std::fs::read_to_string(&file).unwrap());
        if name.to_string() == "README.md" {
            assert_eq!(blocks.iter().filter(|block| block.runs).count(), 3, "{name}");
        }
        let folder = tempfile::tempdir().unwrap();
        for part in ["assets", "configs"] {
            copy(&root().join(part), &folder.path().join(part));
        }
        for block in blocks.iter().filter(|block| block.runs) {
            for Shown { command, output } in &block.commands {
                let Some(found) = run(folder.path(), command) else { continue };
                let found: Vec<&str> = found.lines().collect();
                if !lines_fit(output, &found) {
                    let (shown, found) = (output.join("\n"), found.join("\n"));
                    let line = block.line;
                    failures.push(format!("{name}:{line}: $ {command}\n{shown}\n---\n{found}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "what is shown, and what is printed:\n{}", failures.join("\n\n"));
}

#[test]
fn wildcards_of_the_manual_stand_for_any_text() {
    assert!(line_fits("took [..] s on [..]", "took 1.5 s on a CPU"));
    assert!(line_fits("[..]a", "aa") && line_fits("a", "a"));
    assert!(!line_fits("took [..] s", "took 1.5 ms, 2") && !line_fits("a", "ab"));
    assert!(lines_fit(&["a", "...", "d"], &["a", "b", "c", "d"]));
    assert!(lines_fit(&["..."], &[]));
    assert!(!lines_fit(&["a", "...", "d"], &["a", "b"]) && !lines_fit(&["a"], &["a", "b"]));
}
