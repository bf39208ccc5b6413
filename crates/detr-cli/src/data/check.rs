//! `detr data check`: the dataset doctor.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use detr_data::dataset::Severity;
use detr_data::doctor::{
    CheckOptions, ClassDifferences, FileCheck, Findings, check, common_images, compare_classes,
};
use detr_data::formats::Accept;
use detr_infer::cli::{CliError, Console, escaped, print, print_json};
use detr_types::{Limits, counted};
use serde::Serialize;

use super::{ReadArgs, UprightArgs};
use crate::classes::listed;

/// Flags of `detr data check`.
#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Data sets, looked at as one: files or folders of annotations, or TOML lists of sources
    #[arg(required = true, value_name = "DATA")]
    data: Vec<PathBuf>,

    #[command(flatten)]
    read: ReadArgs,

    #[command(flatten)]
    upright: UprightArgs,

    /// The care with which image files are checked
    #[arg(long, value_enum, default_value_t = Files::Decode)]
    files: Files,

    /// Objects that the model can find on one image
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    queries: usize,

    /// Classes with fewer objects are reported
    #[arg(long, value_name = "N", default_value_t = 10)]
    rare: usize,

    /// Another data set, such as that for validation, which must not share images with this one and
    /// should have the same classes
    #[arg(long, value_name = "DATA")]
    against: Option<PathBuf>,

    /// Refuse images with more pixels than this
    #[arg(long, value_name = "N", default_value_t = Limits::default().pixels, value_parser = clap::value_parser!(u64).range(1..))]
    max_pixels: u64,

    /// Warnings fail too
    #[arg(long)]
    strict: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Files {
    /// Not at all
    Skip,
    /// Check that they are there and have a readable header
    Header,
    /// Decode all pixels, which finds truncated and damaged files
    Decode,
}

/// The findings, as `--json` prints them.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    findings: &'a Findings,
    /// The files that are in both data sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_images: Option<Vec<(String, String)>>,
    /// The differences between the classes of the two data sets.
    #[serde(skip_serializing_if = "Option::is_none")]
    classes: Option<ClassDifferences>,
}

pub(crate) fn run(args: &CheckArgs, console: &Console) -> Result<(), CliError> {
    let dataset = args.read.load(&args.data, Accept::Everything, args.upright)?;
    let other = match &args.against {
        Some(path) => {
            let path = std::slice::from_ref(path);
            Some(args.read.load(path, Accept::Everything, args.upright)?)
        }
        None => None,
    };
    let bar = console.progress("files");
    let progress = |done, all| bar.set(done, all);
    let findings = check(
        &dataset,
        &CheckOptions {
            files: match args.files {
                Files::Skip => FileCheck::Skip,
                Files::Header => FileCheck::Header,
                Files::Decode => FileCheck::Decode,
            },
            duplicates: args.files != Files::Skip,
            queries: args.queries,
            rare: args.rare,
            limits: Limits { pixels: args.max_pixels, ..Limits::default() },
            apply_exif: args.upright.apply_exif,
            progress: Some(&progress),
            ..CheckOptions::default()
        },
    );
    drop(bar);
    let classes = other.as_ref().map(|other| compare_classes(&dataset, other));
    let shared_images = other.map(|other| common_images(&dataset, &other));
    let shared = shared_images.as_ref().map_or(0, Vec::len);
    let class_kinds = classes.as_ref().map_or(0, |classes| class_problems(classes, args.strict));
    if args.json {
        let report = Report { findings: &findings, shared_images, classes };
        print_json(&report)?;
    } else {
        let mut text = format!("{findings}\n");
        if let Some(pairs) = &shared_images {
            // Writing to a string cannot fail.
            let verb = if shared == 1 { "is" } else { "are" };
            let _ = writeln!(text, "{} {verb} in both data sets", counted(shared, "image"));
            for (first, second) in pairs.iter().take(5) {
                let _ = writeln!(text, "                  {first} = {second}");
            }
        }
        if let Some(classes) = &classes {
            text += &describe_classes(classes);
        }
        print(&escaped(&text))?;
    }
    let least = if args.strict { Severity::Warning } else { Severity::Error };
    let bad = findings.findings.iter().filter(|finding| finding.severity >= least);
    let kinds = bad.count() + usize::from(shared > 0) + class_kinds;
    if kinds > 0 {
        let kinds = if kinds == 1 {
            "1 kind of problem".to_owned()
        } else {
            format!("{kinds} kinds of problems")
        };
        return Err(CliError::Failed(format!(
            "{kinds} should be looked at\n\
             hint: they are listed above, each with what to do"
        )));
    }
    Ok(())
}

/// Counts the kinds of differences that fail the check: classes of other names may be missing from a small split,
/// but two data sets for one model have some in common.
fn class_problems(classes: &ClassDifferences, strict: bool) -> usize {
    let ClassDifferences { shared, only_first, only_second, .. } = classes;
    let differ = [only_first, only_second].into_iter().filter(|names| !names.is_empty()).count();
    if *shared == 0 { usize::from(differ > 0) } else { differ * usize::from(strict) }
}

/// Describes the differences of classes, each with what it means.
fn describe_classes(classes: &ClassDifferences) -> String {
    let ClassDifferences { shared, only_first, only_second, other_ids } = classes;
    let mut text = String::new();
    let mut add = |severity: Severity, count: usize, what: &str, examples: &str, hint: &str| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{severity:<8}{count:>8}  {what}\n                  {examples}\n");
        let _ = writeln!(text, "                  hint: {hint}");
    };
    let severity = if *shared == 0 { Severity::Error } else { Severity::Warning };
    for (names, whose, meaning) in [
        (only_first, "this data set", "are never scored"),
        (only_second, "the other data set", "are never found by a model of this one"),
    ] {
        if !names.is_empty() {
            let similar =
                similar(only_first, only_second).map_or_else(String::new, |(one, two)| {
                    format!("; {one:?} and {two:?} differ in case alone, and --map renames")
                });
            let what = format!("classes that only {whose} has");
            let hint = format!("classes are joined by name, so these {meaning}{similar}");
            add(severity, names.len(), &what, &listed(names), &hint);
        }
    }
    if !other_ids.is_empty() {
        let pairs: Vec<String> = other_ids
            .iter()
            .map(|class| format!("{} is {} and {}", class.name, class.first, class.second))
            .collect();
        let hint = "classes are joined by name here; tools that join them by id would mix them up";
        add(Severity::Info, other_ids.len(), "classes of other ids", &listed(&pairs), hint);
    }
    if text.is_empty() {
        text = format!("both data sets have the same {shared} classes\n");
    }
    text
}

/// Finds two names that are one but for case.
fn similar<'a>(first: &'a [String], second: &'a [String]) -> Option<(&'a str, &'a str)> {
    first.iter().find_map(|one| {
        let two = second.iter().find(|two| two.to_lowercase() == one.to_lowercase())?;
        Some((one.as_str(), two.as_str()))
    })
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number from 1".to_owned())
}
