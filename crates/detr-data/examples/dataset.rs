//! Looks at a data set, and takes it to every format and back:
//! `cargo run --release -p detr-data --example dataset -- PATH [SPLIT] [SCRATCH-FOLDER]`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use detr_data::doctor::{CheckOptions, FileCheck, Stats, check_path};
use detr_data::formats::{Format, ImageMode, ReadOptions, WriteOptions, read, write};

#[allow(clippy::print_stdout)] // what an example is for
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = PathBuf::from(arguments.next().ok_or("which data set?")?);
    let options = ReadOptions { split: arguments.next(), ..ReadOptions::default() };
    let start = Instant::now();
    let check = CheckOptions { files: FileCheck::Decode, ..CheckOptions::default() };
    println!("{}\nchecked in {:.2?}\n", check_path(&path, &options, &check)?, start.elapsed());
    let start = Instant::now();
    let dataset = read(&path, &options)?;
    println!("read in {:.2?}\n{}\n", start.elapsed(), Stats::of(&dataset));
    let Some(scratch) = arguments.next() else { return Ok(()) };
    let split = "train";
    for format in [Format::Coco, Format::Kitti, Format::Yolo, Format::Voc] {
        let folder = Path::new(&scratch).join(format.name());
        let images = ImageMode::Link;
        let report = write(
            &dataset,
            format,
            &folder,
            &WriteOptions { split, images, ..WriteOptions::default() },
        )?;
        let back = read(
            &folder,
            &ReadOptions { split: Some(split.to_owned()), ..ReadOptions::default() },
        )?;
        let (count, worst) = difference(&dataset, &back);
        println!(
            "{report}\nback: {} images, {count} objects equal to {worst:e} pixels\n",
            back.images.len()
        );
    }
    Ok(())
}

/// Counts the objects that came back with their class, by file name, and returns the largest
/// difference of a corner, too.
fn difference(made: &detr_data::Dataset, back: &detr_data::Dataset) -> (usize, f64) {
    let name = |set: &detr_data::Dataset, id| {
        set.category(id).map_or(String::new(), |c| c.name.replace(' ', "_"))
    };
    let corners = |object: &detr_data::ObjectRecord| object.bbox.to_xyxy().to_array();
    let (mut count, mut worst) = (0, 0.0_f64);
    for image in &back.images {
        let Some(old) = made.images.iter().find(|old| old.file_name == image.file_name) else {
            continue;
        };
        let mut objects = old.objects.iter();
        for object in &image.objects {
            let same = |old: &&detr_data::ObjectRecord| {
                let mut pairs = corners(old).into_iter().zip(corners(object));
                let near = pairs.all(|(a, b)| (a - b).abs() < 1e-6);
                near && name(made, old.category_id) == name(back, object.category_id)
            };
            if let Some(old) = objects.find(same) {
                count += 1;
                let pairs = corners(old).into_iter().zip(corners(object));
                worst = pairs.map(|(a, b)| (a - b).abs()).fold(worst, f64::max);
            }
        }
    }
    (count, worst)
}
