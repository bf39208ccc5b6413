//! `cargo xtask bench data`: the training augmentation of images, on one core, and with `--peer` the
//! same with torchvision and Pillow.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::{Map, Value, json};

use super::rounds::{Flags, Peer, Rounds, example, median_of};
use crate::shell;

const PEER: Peer = Peer {
    name: "torchvision",
    script: "data_torchvision.py",
    needs: "torch, torchvision and Pillow",
};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// JPEG files in this folder and below [default: generated pictures of 480x640]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// Seconds per side and round
    #[arg(long, default_value_t = 10)]
    seconds: u32,
    #[command(flatten)]
    flags: Flags,
}

pub(super) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let folder = match &args.images {
        Some(folder) => folder.clone(),
        None => generated()?,
    };
    let files = jpegs(&folder)?;
    ensure!(
        !files.is_empty(),
        "{}: no JPEG files there\nhint: --images names a folder with .jpg files",
        folder.display()
    );
    let seconds = args.seconds.to_string();
    let ours = |_| {
        let mut command = example("detr-data", "bench_data");
        command.args(["--seconds", &seconds]).args(&files);
        command
    };
    let rounds = args.flags.measure(&PEER, ours, |command| {
        command.args(["--seconds", &seconds]).args(&files);
    })?;
    let name = if args.images.is_some() { "data" } else { "data-generated" };
    args.flags.finish(name, combine(&rounds, files.len())?, text)
}

/// Pictures for those who have none at hand.
fn generated() -> anyhow::Result<PathBuf> {
    let folder = shell::root().join("target/bench/photos");
    let mut command = example("detr-data", "photos");
    command.arg(&folder);
    shell::output(&mut command)?;
    Ok(folder)
}

/// In order, so that both sides see the same.
pub(super) fn jpegs(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            let is_jpeg =
                |end: &OsStr| ["jpg", "jpeg"].iter().any(|jpeg| end.eq_ignore_ascii_case(jpeg));
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(is_jpeg) {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// What both sides print, and what people call it.
const NUMBERS: [(&str, &str, &str); 6] = [
    ("images_per_second", "/images_per_second", "images per second per core"),
    ("without_decoding", "/without_decoding", "  without decoding"),
    ("decode_ms", "/ms/decode", "ms per image: decode"),
    ("augment_ms", "/ms/augment", "  augment"),
    ("normalize_ms", "/ms/normalize", "  normalise"),
    ("megapixels", "/megapixels", "megapixels per image"),
];

fn combine(rounds: &Rounds, files: usize) -> anyhow::Result<Value> {
    let side = |rounds: &[Value], name: &str| {
        let mut numbers = Map::new();
        for (key, path, _) in NUMBERS {
            let number = median_of(rounds, |round| round.pointer(path).unwrap_or(&Value::Null));
            let number =
                number.with_context(|| format!("the measurement of {name} lacks {path}"))?;
            numbers.insert(key.to_owned(), json!(number));
        }
        anyhow::Ok(Value::Object(numbers))
    };
    let detr = side(&rounds.ours, "detr")?;
    let peer = match rounds.theirs.as_slice() {
        [] => Value::Null,
        theirs => side(theirs, PEER.name)?,
    };
    let times_faster = |key: &str| Some(detr[key].as_f64()? / peer[key].as_f64()?);
    Ok(json!({
        "files": files,
        "times_faster_than_peer": times_faster("images_per_second"),
        "times_faster_without_decoding": times_faster("without_decoding"),
        "detr": detr,
        "peer": peer,
        "rounds": { "detr": rounds.ours, "peer": rounds.theirs },
    }))
}

fn text(results: &Value) -> String {
    let (detr, peer) = (&results["detr"], &results["peer"]);
    let number = |number: &Value| {
        number.as_f64().map_or_else(String::new, |number| format!("{number:12.2}"))
    };
    let mut text = format!(
        "{} files, medians of {} rounds, one core\n",
        results["files"],
        results["rounds"]["detr"].as_array().map_or(0, Vec::len)
    );
    let title = if peer.is_null() { "" } else { PEER.name };
    let _ = writeln!(text, "{:<28}{:>12}{title:>12}", "", "detr"); // writing to a string cannot fail
    for (key, _, name) in NUMBERS {
        let _ = writeln!(text, "{name:<28}{}{}", number(&detr[key]), number(&peer[key]));
    }
    if let Some(times) = results["times_faster_than_peer"].as_f64() {
        let without = results["times_faster_without_decoding"].as_f64().unwrap_or_default();
        let _ = writeln!(text, "detr is {times:.2} times faster, without decoding {without:.2}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_of_medians() {
        let round = |rate: f64| {
            let ms = json!({"decode": 1.0, "augment": 2.0, "normalize": 3.0});
            json!({"images_per_second": rate, "without_decoding": 2.0 * rate, "ms": ms, "megapixels": 0.5})
        };
        let ours = vec![round(90.0), round(400.0), round(100.0)];
        let both = combine(&Rounds { ours, theirs: vec![round(25.0)] }, 2).unwrap();
        assert_eq!(both["times_faster_than_peer"], json!(4.0));
        assert!(text(&both).contains("4.00 times faster, without decoding 4.00"));
        let alone = combine(&Rounds { ours: vec![round(90.0)], theirs: vec![] }, 2).unwrap();
        assert!(alone["times_faster_than_peer"].is_null());
        assert!(!text(&alone).contains("torchvision"));
        assert!(combine(&Rounds { ours: vec![json!({})], theirs: vec![] }, 2).is_err());
    }
}
