//! `detr data check`: the dataset doctor.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use detr_data::dataset::Severity;
use detr_data::doctor::{CheckOptions, FileCheck, Findings, check, common_images};
use detr_data::formats::Accept;
use detr_infer::cli::{CliError, Console, escaped, print, print_json};
use detr_types::Limits;
use serde::Serialize;

use super::{ReadArgs, UprightArgs};

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

    /// How closely image files are looked at
    #[arg(long, value_enum, default_value_t = Files::Decode)]
    files: Files,

    /// Objects that the model can find on one image
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = at_least_one)]
    queries: usize,

    /// Classes with fewer objects are reported
    #[arg(long, value_name = "N", default_value_t = 10)]
    rare: usize,

    /// Another data set that must not share images with this one, such as that for validation
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
    /// That they are there and have a readable header
    Header,
    /// Decode all pixels, which finds truncated and damaged files
    Decode,
}

/// What is printed with --json.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    findings: &'a Findings,
    /// Files of the two data sets that are the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    shared_images: Option<Vec<(String, String)>>,
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
    let shared_images = other.map(|other| common_images(&dataset, &other));
    let shared = shared_images.as_ref().map_or(0, Vec::len);
    if args.json {
        let report = Report { findings: &findings, shared_images };
        print_json(&report)?;
    } else {
        let mut text = format!("{findings}\n");
        if let Some(pairs) = &shared_images {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{shared} images are in both data sets");
            for (first, second) in pairs.iter().take(5) {
                let _ = writeln!(text, "                  {first} = {second}");
            }
        }
        print(&escaped(&text))?;
    }
    let least = if args.strict { Severity::Warning } else { Severity::Error };
    let bad = findings.findings.iter().filter(|finding| finding.severity >= least);
    let kinds = bad.count() + usize::from(shared > 0);
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

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&n| n > 0).ok_or_else(|| "expected a number from 1".to_owned())
}
