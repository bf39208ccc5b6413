//! The rules for one source file. Each names the only places that are allowed to break it, and
//! the reason that a violation prints.

use super::Violation;
use super::source::{Kind, Source, is_identifier};

/// Longest file; one that needs more holds several ideas.
const MAX_LINES: usize = 600;

/// The module that turns `--backend` into a device.
const BACKEND: &str = "crates/detr-infer/src/backend/mod.rs";
/// The module that maps a weights file into memory.
const MAP: &str = "crates/detr-model/src/weights/file.rs";
/// The one way to read what a step or a prediction waits for.
const TRAFFIC: &str = "crates/detr-ops/src/traffic.rs";
/// The one list of environment variables.
const ENV: &str = "crates/detr-types/src/env.rs";
/// The one way to write a file.
const WRITE: &str = "crates/detr-types/src/fs.rs";
/// Below here the crate that scores is called.
const MATCHING: &str = "crates/detr-eval/src/engine/";
/// The crate whose steps wait for the device only where they must, and the modules that do so: the step
/// itself, the sums of gradients that several devices exchange through memory, and the loss for Burn's own
/// loop, which has no step of ours.
const TRAIN: &str = "crates/detr-train/src/";
const READING: [&str; 3] = [
    "crates/detr-train/src/step/non_finite.rs",
    "crates/detr-train/src/run/exchange.rs",
    "crates/detr-train/src/burn/metrics.rs",
];

/// Code that is not allowed, except in some places.
struct Ban {
    /// Paths, macros or keywords, found as whole words.
    words: &'static [&'static str],
    /// Whether the rule binds a file at all.
    binds: fn(&Source<'_>) -> bool,
    /// Whether it binds test code too.
    in_tests: bool,
    reason: &'static str,
}

const BANS: [Ban; 8] = [
    Ban {
        words: &[
            "Device::flex",
            "Device::ndarray",
            "Device::cuda",
            "Device::rocm",
            "Device::wgpu",
            "Device::webgpu",
            "Device::vulkan",
            "Device::metal",
            "Device::cpu",
            "Device::libtorch",
            "Device::remote",
            "Device::enumerate",
            "Device::default",
        ],
        binds: |source| source.path != BACKEND,
        in_tests: false,
        reason: "a Device is made only in detr-infer's backend.rs: take a `&Device` or call `backend::select`",
    },
    Ban {
        words: &[
            "File::create",
            "File::create_new",
            "File::options",
            "OpenOptions::new",
            "fs::write",
        ],
        binds: |source| source.path != WRITE && source.kind != Kind::Xtask,
        in_tests: false,
        reason: "files are written only by detr_types::fs: use `atomic_write`",
    },
    Ban {
        words: &["process::exit"],
        binds: |source| source.kind == Kind::Library,
        in_tests: false,
        reason: "libraries never exit: return the value",
    },
    Ban {
        words: &["catch_unwind"],
        binds: |source| source.path != BACKEND,
        in_tests: false,
        reason: "panics are caught only in detr-infer's backend.rs: use `catch_device`",
    },
    Ban {
        words: &["try_execute"],
        binds: |source| source.path.starts_with("crates/") && source.path != TRAFFIC,
        in_tests: false,
        reason: "reads are counted: use `detr_ops::traffic::read`",
    },
    Ban {
        words: &["unsafe"],
        binds: |source| !source.path.starts_with("crates/detr-ops/") && source.path != MAP,
        in_tests: true,
        reason: "unsafe code is only in detr-ops, and once where a weights file is mapped",
    },
    Ban {
        words: &["hotcoco"],
        binds: |source| !source.path.starts_with(MATCHING),
        in_tests: true,
        reason: "COCO's matching is behind detr-eval's engine: use the types of detr_eval",
    },
    Ban {
        words: &[
            "into_data",
            "try_into_data",
            "into_data_async",
            "to_data",
            "to_data_async",
            "into_scalar",
            "try_into_scalar",
            "into_scalar_async",
            "try_execute",
        ],
        binds: |source| source.path.starts_with(TRAIN) && !READING.contains(&source.path),
        in_tests: false,
        reason: "a training step reads from the device in step/non_finite.rs (and run/exchange.rs): keep the tensor, or read it there",
    },
];

/// Finds everything that is wrong with a file.
pub(super) fn check(source: &Source<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut report = |line: usize, reason: String| {
        found.push(Violation { path: source.path.to_owned(), line, reason });
    };
    for rule in BANS.iter().filter(|rule| (rule.binds)(source)) {
        for word in rule.words {
            for at in whole_words(&source.code, word) {
                let line = source.line(at);
                if rule.in_tests || !source.is_test(line) {
                    report(line, format!("`{word}`: {}", rule.reason));
                }
            }
        }
    }
    if source.path == MAP {
        for at in whole_words(&source.code, "unsafe").skip(1) {
            report(source.line(at), "`unsafe`: one map is enough".to_owned());
        }
    }
    for mark in ["TODO", "FIXME"] {
        for at in whole_words(&source.comments, mark) {
            report(source.line(at), format!("`{mark}`: do it, or open an issue"));
        }
    }
    if source.path.starts_with("crates/") && source.path != ENV {
        environment(source, &mut report);
    }
    let lines = source.text.lines().count();
    if lines > MAX_LINES {
        report(MAX_LINES + 1, format!("{lines} lines, at most {MAX_LINES}: split the file"));
    }
    let is_root = ["/src/lib.rs", "/src/main.rs"].iter().any(|end| source.path.ends_with(end));
    if is_root && !source.text.starts_with("//!") {
        report(
            1,
            "a crate opens with a `//!` paragraph: what it is, and what it is not".to_owned(),
        );
    }
    found
}

/// Checks that environment variables are read by the constants of `detr_types::env` only.
fn environment(source: &Source<'_>, report: &mut impl FnMut(usize, String)) {
    let reads = ["env::var", "env::var_os"];
    for at in reads.iter().flat_map(|read| whole_words(&source.code, read)) {
        let line = source.line(at);
        let argument = source.code[at..].split_once('(').map_or("", |(_, rest)| rest.trim_start());
        if argument.starts_with('"') && !source.is_test(line) {
            report(
                line,
                format!("an environment variable without a name in {ENV}: declare it there"),
            );
        }
    }
    for (at, name) in literals(source).filter(|(_, text)| is_variable_name(text)) {
        let line = source.line(at);
        if !source.is_test(line) {
            report(line, format!("`{name}` is an environment variable: use the constant in {ENV}"));
        }
    }
}

/// Returns whether a text is a name of the families that the program reads.
fn is_variable_name(text: &str) -> bool {
    let is_name =
        text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_name && (text.starts_with("DETR_") || text.starts_with("HF_") || text == "NO_COLOR")
}

/// Finds plain string literals on one line, with the place of their first quote.
fn literals<'a>(source: &'a Source<'_>) -> impl Iterator<Item = (usize, &'a str)> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let start = from + source.code[from..].find('"')?;
        let end = start + 1 + source.code[start + 1..].find('"')?;
        from = end + 1;
        Some((start, &source.text[start + 1..end]))
    })
}

/// Finds the places of a word that is not part of a longer one.
fn whole_words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let bytes = text.as_bytes();
    text.match_indices(word).map(|(at, _)| at).filter(move |&at| {
        let before = at.checked_sub(1).map(|at| bytes[at]);
        let after = bytes.get(at + word.len()).copied();
        !before.is_some_and(is_identifier) && !after.is_some_and(is_identifier)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: [usize; 0] = [];
    const LIBRARY: &str = "crates/detr-model/src/nn/mod.rs";

    /// Returns the lines that break a rule.
    fn lines(path: &str, text: &str) -> Vec<usize> {
        let mut lines: Vec<usize> =
            check(&Source::new(path, text)).iter().map(|violation| violation.line).collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn training_reads_from_the_device_in_three_places() {
        let text = "//! Reads.\nnorm.into_data();\nnorm.try_into_data()?;\nloss.into_data_async();\nloss.try_into_scalar::<f64>();\n";
        assert_eq!(lines("crates/detr-train/src/step/clip.rs", text), [2, 3, 4, 5]);
        for allowed in READING.into_iter().chain([LIBRARY]) {
            assert_eq!(lines(allowed, text), NONE);
        }
    }

    #[test]
    fn the_matching_is_called_in_one_place() {
        let text = "//! Calls hotcoco.\nuse hotcoco::COCO;\n";
        assert_eq!(lines("crates/detr-eval/src/metrics.rs", text), [2]);
        assert_eq!(lines("crates/detr-eval/src/engine/mod.rs", text), NONE);
    }

    #[test]
    fn devices_are_made_in_one_module_and_in_tests() {
        let text = "let a = Device::flex();\nlet b = MyDevice::flex();\nlet c: Device = d.clone();\n#[cfg(test)]\nmod tests { fn t() { Device::default(); } }\n";
        assert_eq!(lines(LIBRARY, text), [1]);
        assert_eq!(lines("crates/detr-infer/src/main.rs", &format!("//! A.\n{text}")), [2]);
        assert_eq!(lines(BACKEND, text), NONE);
        assert_eq!(lines("tests/golden.rs", text), NONE);
    }

    #[test]
    fn files_are_written_in_one_module_and_in_tests() {
        let text =
            "PendingFile::create(p);\nFile::create(p);\nstd::fs::write(p, b);\nfs::read(p);\n";
        assert_eq!(lines(LIBRARY, text), [2, 3]);
        assert_eq!(lines(WRITE, text), NONE);
        assert_eq!(lines("crates/detr-data/src/decode/tests.rs", text), NONE);
    }

    #[test]
    fn only_programs_exit() {
        let text = "//! A.\nstd::process::exit(1);\nwriteln!(out, \"process::exit\");\n";
        assert_eq!(lines("crates/detr/src/lib.rs", text), [2]);
        assert_eq!(lines("crates/detr-infer/src/main.rs", text), NONE);
        assert_eq!(lines("crates/detr/examples/detect.rs", text), NONE);
    }

    #[test]
    fn unsafe_code_is_counted() {
        let one = "//! unsafe is explained\n#[allow(unsafe_code)]\nlet m = unsafe { map() };\n";
        assert_eq!(lines(LIBRARY, one), [3]);
        assert_eq!(lines(MAP, one), NONE);
        assert_eq!(lines(MAP, &one.repeat(2)), [6]);
        assert_eq!(lines("crates/detr-ops/src/lib.rs", &one.repeat(2)), NONE);
    }

    #[test]
    fn environment_variables_have_one_list() {
        let text = "env::var(detr_types::env::HF_HOME);\nstd::env::var_os(\"PATH\");\n#[arg(env = \"DETR_SEED\")]\n\"set HF_TOKEN first\"\n";
        assert_eq!(lines(LIBRARY, text), [2, 3]);
        assert_eq!(lines(ENV, text), NONE);
        assert_eq!(lines("xtask/src/check.rs", text), NONE);
    }

    #[test]
    fn unfinished_work_is_found_in_comments_only() {
        assert_eq!(lines(LIBRARY, "a();\n// TODO: more\nlet t = \"TODO\";\n"), [2]);
        assert_eq!(lines("tests/x.rs", "/* FIXME */\n"), [1]);
    }

    #[test]
    fn panics_are_caught_in_one_module() {
        let text = "let r = std::panic::catch_unwind(work);\n";
        assert_eq!(lines(LIBRARY, text), [1]);
        assert_eq!(lines(BACKEND, text), NONE);
    }

    #[test]
    fn files_are_short_and_crates_say_what_they_are() {
        assert_eq!(lines(LIBRARY, &"a\n".repeat(601)), [601]);
        assert_eq!(lines(LIBRARY, &"a\n".repeat(600)), NONE);
        assert_eq!(lines("crates/detr/src/lib.rs", "mod a;\n"), [1]);
    }
}
