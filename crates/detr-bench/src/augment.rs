//! `cargo xtask bench augment`: the training augmentation of images, on one core. Seconds are those of the processor
//! where the system tells them (Linux), so that other programs disturb less.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use detr_data::{
    Augmentation, DecodeOptions, ImageRecord, ObjectRecord, Purpose, SampleRng, Target,
    TargetRules, decode_image, normalize,
};
use detr_infer::cli::{CliError, Console};
use detr_types::ClassTable;
use serde_json::json;

use crate::photos;
use crate::report::{Report, Row, root};
use crate::sides::{Benchmark, Flags, Script};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// JPEG files in this folder and below [default: generated pictures of 480x640]
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,

    /// Generated pictures, where no folder is given
    #[arg(long, default_value = "24", value_parser = clap::value_parser!(u32).range(1..=999))]
    count: u32,

    /// Seconds that are measured
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

impl Benchmark for Args {
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_possible_wrap
    )] // counts
    fn measure(&self, _flags: &Flags, _console: &Console) -> Result<Report, CliError> {
        let failed = |error: &dyn std::fmt::Display| CliError::Failed(error.to_string());
        if self.images.is_none() {
            photos::write(&folder(), self.count).map_err(|error| failed(&error))?;
        }
        let paths = self.files().map_err(|error| failed(&error))?;
        if paths.is_empty() {
            let message = "there are no JPEG files\nhint: --images names a folder with .jpg files";
            return Err(CliError::Usage(message.to_owned()));
        }
        let files = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>();
        let files = files.map_err(|error| failed(&error))?;
        let augmentation = Augmentation::training();
        let spec = augmentation.normalization();
        let rules = TargetRules::new(&ClassTable::coco());
        let mut spent = [Duration::ZERO; 3];
        let mut images: u64 = 0;
        let mut pixels = 0;
        let (start, cpu) = (Instant::now(), cpu_seconds());
        while start.elapsed().as_secs_f64() < self.seconds {
            let at = images as usize % files.len();
            let epoch = images / files.len() as u64;
            let id = at as i64;
            let begin = Instant::now();
            let image = decode_image(&files[at], &DecodeOptions::default())
                .map_err(|error| failed(&error))?;
            let decoded = Instant::now();
            let (mut sample, _) = rules.sample(&record(id), image);
            augmentation.apply(&mut sample, &mut SampleRng::new(0, epoch, Purpose::Sample(id)));
            let (image, target) = Target::finish(sample);
            let augmented = Instant::now();
            let normalized = normalize(&image, &spec);
            let end = Instant::now();
            std::hint::black_box((normalized, &target));
            for (spent, (from, to)) in
                spent.iter_mut().zip([(begin, decoded), (decoded, augmented), (augmented, end)])
            {
                *spent += to - from;
            }
            pixels += target.size.pixels();
            images += 1;
        }
        let count = images as f64;
        let wall: f64 = spent.iter().map(Duration::as_secs_f64).sum();
        let busy = cpu_seconds().zip(cpu).map_or(wall, |(end, start)| end - start);
        let per_image = spent.map(|time| time.as_secs_f64() / wall * busy * 1e3 / count);
        let total: f64 = per_image.iter().sum();
        let megapixels = pixels as f64 / count / 1e6;
        let one = |name: &str, ms: f64| Row::of_runs(name, "ms", vec![ms]);
        let rows = vec![
            one("image", total),
            one("decode", per_image[0]),
            one("augment", per_image[1]),
            one("normalize", per_image[2]),
        ];
        let facts = json!({
            "files": files.len(),
            "images_per_second": 1e3 / total,
            "without_decoding": 1e3 / (total - per_image[0]),
            "megapixels": megapixels,
        });
        Ok(Report::new(facts, rows))
    }

    fn peers(&self, _flags: &Flags) -> [Option<Script>; 2] {
        let mut args = vec!["--seconds".to_owned(), self.seconds.to_string()];
        let files = self.files().unwrap_or_default();
        args.extend(files.iter().map(|file| file.display().to_string()));
        [Some(("data_torchvision.py", args)), None]
    }
}

impl Args {
    /// Returns the files in order, so that both sides see the same.
    fn files(&self) -> std::io::Result<Vec<PathBuf>> {
        let mut files = jpegs(self.images.as_deref().unwrap_or(&folder()))?;
        if self.images.is_none() {
            files.truncate(self.count as usize);
        }
        Ok(files)
    }
}

/// Returns the folder of the generated pictures.
fn folder() -> PathBuf {
    root().join("target/bench/photos")
}

fn jpegs(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
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

/// Returns the seconds that this thread was running, as Linux counts them.
fn cpu_seconds() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(text.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}

/// Makes eight objects, as an image of COCO has on average.
fn record(id: i64) -> ImageRecord {
    let object = |number: i32| ObjectRecord {
        id: i64::from(number),
        category_id: 1,
        bbox: [f64::from(number) * 30.0, f64::from(number) * 20.0, 100.0, 120.0].into(),
        area: 12_000.0,
        iscrowd: false,
        segmentation: None,
    };
    ImageRecord {
        id,
        path: PathBuf::new(),
        file_name: String::new(),
        size: None,
        objects: (0..8).map(object).collect(),
    }
}
