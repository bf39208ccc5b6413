//! The `console` blocks of README.md and docs/: each runs and prints what it shows.
//!
//! A block holds lines `$ COMMAND`, each followed by everything that the command prints. A line `...`
//! stands for any number of lines. Names of devices may differ, as may times, rates and amounts of
//! memory; other numbers agree within 2 % and 0.02. Blocks of one file run one after the other in one folder, with `assets`
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

/// Units of times, rates and memory, which differ from run to run.
const UNITS: [&str; 8] = ["s", " s", " ms", " s/step", " images/s", "%", " MB", " threads"];

/// Splits a line before and after each of its numbers, which are digits with dots between them.
fn pieces(line: &str) -> Vec<&str> {
    let is_digit = |at: usize| line.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let is_number = |at: usize| {
        let is_dot = line.as_bytes().get(at) == Some(&b'.') && at > 0;
        is_digit(at) || is_dot && is_digit(at - 1) && is_digit(at + 1)
    };
    let starts: Vec<usize> = (1..line.len())
        .filter(|&at| line.is_char_boundary(at) && is_number(at) != is_number(at - 1))
        .collect();
    let ends = starts.iter().copied().chain([line.len()]);
    std::iter::once(0).chain(starts.iter().copied()).zip(ends).map(|(a, b)| &line[a..b]).collect()
}

/// Returns whether a text begins with a unit.
fn begins_with_unit(text: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_alphanumeric() || next == '/');
    UNITS.iter().any(|unit| text.strip_prefix(unit).is_some_and(ends))
}

/// Returns whether texts are equal up to the last digits of numbers, and up to all numbers with a
/// unit. Processors round differently.
fn text_fits(shown: &str, found: &str) -> bool {
    let (shown, found) = (pieces(shown), pieces(found));
    let fits = |index: usize| match (shown[index].parse::<f64>(), found[index].parse::<f64>()) {
        (Ok(a), Ok(b)) => {
            let has_unit = shown.get(index + 1).is_some_and(|text| begins_with_unit(text));
            has_unit || (a - b).abs() <= 0.02 + 0.02 * a.abs()
        }
        _ => shown[index] == found[index],
    };
    shown.len() == found.len() && (0..shown.len()).all(fits)
}

/// Returns whether a line fits one of the manual. The device may be another one.
fn line_fits(shown: &str, found: &str) -> bool {
    for before_device in ["using ", " per image on "] {
        if let Some((text, _)) = shown.split_once(before_device) {
            let found = found.split_once(before_device);
            return found.is_some_and(|(found, _)| text_fits(text, found));
        }
    }
    text_fits(shown, found)
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
fn lines_of_the_manual_fit_up_to_rounding_times_and_devices() {
    assert!(line_fits("AP 0.661, step 4", "AP 0.669, step 4"));
    assert!(!line_fits("AP 0.661", "AP 0.761") && !line_fits("AP 0.661", "AR 0.661"));
    assert!(line_fits("after 21.1s, 3.5 s/step, 247 MB", "after 9s, 0.25 s/step, 1200 MB"));
    assert!(!line_fits("40 steps", "80 steps") && !line_fits("40 images", "80 images"));
    assert!(line_fits("using flex (CPU, 2 threads)", "using wgpu (a GPU)"));
    assert!(line_fits("8 images, 75 ms per image on flex", "8 images, 2 ms per image on cuda"));
    assert!(!line_fits("a", "ab") && !line_fits("ab", "a"));
    assert!(lines_fit(&["a", "...", "d"], &["a", "b", "c", "d"]));
    assert!(lines_fit(&["..."], &[]));
    assert!(!lines_fit(&["a", "...", "d"], &["a", "b"]) && !lines_fit(&["a"], &["a", "b"]));
}
