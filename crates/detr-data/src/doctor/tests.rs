//! Every kind of problem is found where it is, and nothing else.

use std::fs;

use super::*;
use crate::synth::{SynthOptions, synthesize};

fn made(folder: &Path) -> Dataset {
    let options = SynthOptions {
        images: 12,
        size: ImageSize::new(120, 160),
        objects: 6..=6,
        scale: 0.2..=0.3,
        seed: 1,
        ..SynthOptions::default()
    };
    synthesize(folder, &options, None).unwrap()
}

fn options() -> CheckOptions<'static> {
    CheckOptions { rare: 2, ..CheckOptions::default() }
}

#[test]
fn a_sound_data_set_has_no_findings() {
    let folder = tempfile::tempdir().unwrap();
    made(folder.path());
    for files in [FileCheck::Skip, FileCheck::Header, FileCheck::Decode] {
        let options = CheckOptions { files, ..options() };
        let findings = check_path(folder.path(), &ReadOptions::default(), &options).unwrap();
        assert_eq!(findings.findings, [], "{findings}");
        assert_eq!((findings.images, findings.categories), (12, 6));
    }
}

#[test]
fn broken_files_and_wrong_sizes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = made(folder.path());
    let path = |dataset: &Dataset, at: usize| dataset.images[at].path.clone();
    fs::remove_file(path(&dataset, 0)).unwrap();
    fs::write(path(&dataset, 1), b"<!doctype html><html></html>").unwrap();
    let bytes = fs::read(path(&dataset, 2)).unwrap();
    fs::write(path(&dataset, 2), &bytes[..bytes.len() / 2]).unwrap();
    fs::copy(path(&dataset, 3), path(&dataset, 4)).unwrap();
    dataset.images[5].size = Some(ImageSize::new(160, 120));
    dataset.images[6].size = Some(ImageSize::new(240, 320));
    dataset.images[8].path = path(&dataset, 7);
    let options = CheckOptions { files: FileCheck::Decode, queries: 5, ..options() };
    let findings = check(&dataset, &options);
    let count = |kind| findings.get(kind).map_or(0, |finding| finding.count);
    for (kind, expected) in [
        (Problem::MissingFile, 1),
        (Problem::UnreadableImage, 2),
        (Problem::DuplicateContent, 1),
        (Problem::AspectDiffers, 1),
        (Problem::SizeDiffers, 1),
        (Problem::DuplicateFileName, 1),
        (Problem::TooManyObjects, 12),
    ] {
        assert_eq!(count(kind), expected, "{kind}\n{findings}");
    }
    assert_eq!(findings.findings.len(), 7, "{findings}");
    let unreadable = findings.get(Problem::UnreadableImage).unwrap();
    assert!(unreadable.first[0].contains("an HTML page"), "{findings}");
    assert_eq!(findings.get(Problem::TooManyObjects).unwrap().first.len(), 5);
    let text = findings.to_string();
    assert!(text.contains("hint: copy the file") && text.contains(", ..."), "{text}");
}

#[test]
fn statistics_count_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = made(folder.path());
    dataset.images[0].objects[0].iscrowd = true;
    dataset.images[1].objects.clear();
    let stats = Stats::of(&dataset);
    assert_eq!((stats.images, stats.empty_images, stats.crowds), (12, 1, 1));
    assert_eq!(stats.objects + 1, dataset.object_count());
    assert_eq!(stats.categories.iter().map(|c| c.objects).sum::<usize>(), stats.objects);
    assert_eq!(stats.box_side_bins.iter().map(|bin| bin.count).sum::<usize>(), stats.objects);
    assert_eq!(stats.small_medium_large.iter().sum::<usize>(), stats.objects);
    assert_eq!(stats.image_sizes, [("160x120".to_owned(), 12)]);
    let per_image: Vec<_> =
        stats.objects_per_image_bins.iter().map(|b| (b.label.as_str(), b.count)).collect();
    assert_eq!(per_image, [("0", 1), ("1", 0), ("2-3", 0), ("4-7", 11)]);
    assert!(stats.to_string().contains("circle"));
    let svg = stats.to_svg();
    assert!(roxmltree::Document::parse(&svg).is_ok() && svg.contains("circle"));
    assert_eq!(Stats::of(&Dataset::default()).box_side, Summary::default());
}

#[test]
fn images_shared_by_two_data_sets_are_found_by_content() {
    let folder = tempfile::tempdir().unwrap();
    let (train, mut val) = (made(&folder.path().join("a")), made(&folder.path().join("b")));
    let copy = folder.path().join("renamed.png");
    fs::copy(&train.images[4].path, &copy).unwrap();
    val.images.truncate(3);
    val.images[0].path = train.images[6].path.clone();
    for (image, text) in val.images[1..].iter().zip(["not", "an"]) {
        fs::write(&image.path, text).unwrap();
    }
    val.images[2].path = copy;
    let pair =
        |a: usize, b: usize| (train.images[a].file_name.clone(), val.images[b].file_name.clone());
    let mut common = common_images(&train, &val);
    common.sort();
    assert_eq!(common, [pair(4, 2), pair(6, 0)]);
}

#[test]
fn boxes_are_compared_with_the_file_where_no_size_is_stated() {
    let folder = tempfile::tempdir().unwrap();
    let mut dataset = made(folder.path());
    dataset.images[3].size = None;
    dataset.images[3].objects[1].bbox = [150.0, 10.0, 30.0, 30.0].into();
    let findings = check(&dataset, &options());
    assert_eq!(findings.findings.len(), 1, "{findings}");
    let beyond = findings.get(Problem::BoxBeyondImage).unwrap();
    let id = dataset.images[3].objects[1].id;
    assert_eq!(beyond.first, [format!("annotation {id}")]);
}
