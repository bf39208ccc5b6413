//! There and back again: what a format holds comes back as it was.

use std::fs;

use detr_types::ImageSize;

use super::*;
use crate::dataset::{Category, Problem};
use crate::formats::{Accept, ReadOptions, ShardOptions, read, shard};
use crate::synth::{SynthOptions, synthesize};

/// Makes shapes with everything that formats disagree about: sparse ids, a crowd, a class name with
/// a space, one that no object has, a folder, an image without objects, a box over the border.
fn awkward(folder: &Path) -> Dataset {
    let options = SynthOptions {
        images: 8,
        size: ImageSize::new(60, 80),
        seed: 3,
        ..SynthOptions::default()
    };
    let mut dataset = synthesize(folder, &options, None).unwrap();
    dataset.categories[1].name = "traffic light & <sign>".to_owned();
    dataset.categories.push(Category {
        id: 90,
        name: "never".to_owned(),
        supercategory: None,
        is_thing: true,
    });
    dataset.images[0].objects[0].iscrowd = true;
    dataset.images[0].objects[0].bbox = [-3.5, 2.25, 40.0, 70.0].into();
    dataset.images[1].objects.clear();
    dataset.images[2].id = 77;
    let sub = folder.join("train/sub");
    fs::create_dir(&sub).unwrap();
    fs::copy(&dataset.images[3].path, sub.join("000000000001.png")).unwrap();
    dataset.images[3].path = sub.join("000000000001.png");
    dataset.images[3].file_name = "sub/000000000001.png".to_owned();
    dataset.images.sort_by_key(|image| image.id);
    dataset
}

/// Lists class, box and crowd flag of every object, image by image in the order of the file's
/// pixels.
fn content(dataset: &Dataset) -> Vec<Vec<(String, [f64; 4], bool)>> {
    let mut images: Vec<_> = dataset
        .images
        .iter()
        .map(|image| {
            let objects = image.objects.iter().map(|object| {
                let class = dataset.category(object.category_id).unwrap().name.clone();
                (class, object.bbox.to_array(), object.iscrowd)
            });
            (fs::read(&image.path).unwrap(), objects.collect::<Vec<_>>())
        })
        .collect();
    images.sort_by(|a, b| a.0.cmp(&b.0));
    images.into_iter().map(|(_, objects)| objects).collect()
}

fn without_crowds(images: &mut [Vec<(String, [f64; 4], bool)>]) {
    for objects in images {
        objects.retain(|object| !object.2);
    }
}

fn assert_close(
    found: &[Vec<(String, [f64; 4], bool)>],
    expected: &[Vec<(String, [f64; 4], bool)>],
) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.len(), expected.len(), "{found:?} {expected:?}");
        for ((class, bbox, crowd), (name, truth, is_crowd)) in found.iter().zip(expected) {
            assert_eq!((class, crowd), (name, is_crowd));
            assert!(
                bbox.iter().zip(truth).all(|(a, b)| (a - b).abs() < 1e-9),
                "{bbox:?} {truth:?}"
            );
        }
    }
}

#[test]
fn every_format_comes_back_without_what_it_cannot_hold() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = awkward(&folder.path().join("made"));
    let (objects, with_outline) = (dataset.object_count(), dataset.object_count());
    for format in [Format::Coco, Format::Kitti, Format::Yolo, Format::Voc] {
        let out = folder.path().join(format.name());
        let report = write(&dataset, format, &out, &WriteOptions::default()).unwrap();
        let options = ReadOptions { split: Some("train".to_owned()), ..ReadOptions::default() };
        let found = read(&out, &options).unwrap();
        assert!(found.report.sources[0].starts_with(&format!("{format} ")), "{:?}", found.report);
        let lost = |loss| report.losses.get(&loss).copied().unwrap_or(0);
        let mut expected = content(&dataset);
        match format {
            Format::Coco => {
                assert!(report.is_lossless(), "{report}");
                for (found, made) in found.images.iter().zip(&dataset.images) {
                    assert_eq!((found.id, &found.objects), (made.id, &made.objects));
                }
                assert_eq!(found.categories, dataset.categories);
            }
            Format::Kitti => {
                assert_eq!((lost(Loss::CrowdClasses), lost(Loss::ClassNames)), (1, 1));
                assert_eq!(found.report.count(Problem::IgnoredRegion), 1);
                without_crowds(&mut expected);
                for object in expected.iter_mut().flatten() {
                    object.0 = object.0.replace(' ', "_");
                }
            }
            Format::Yolo => {
                assert_eq!(lost(Loss::Crowds), 1);
                assert_eq!(found.categories.len(), dataset.categories.len());
                without_crowds(&mut expected);
            }
            _ => assert_eq!((lost(Loss::FileNames), lost(Loss::UnusedCategories)), (1, 1)),
        }
        if format != Format::Coco {
            let left_out = lost(Loss::Crowds);
            assert_eq!(lost(Loss::Outlines), with_outline - left_out, "{report}");
            assert_eq!(report.objects, objects - left_out);
        }
        assert_close(&content(&found), &expected);
        // The result is then converted to another format.
        let next = folder.path().join(format!("{format}-coco"));
        let again = write(&found, Format::Coco, &next, &WriteOptions::default()).unwrap();
        assert!(again.is_lossless(), "{again}");
        assert_close(&content(&read(&next, &options).unwrap()), &expected);
    }
}

#[test]
fn splits_share_a_folder_and_its_classes() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = awkward(&folder.path().join("made"));
    let out = folder.path().join("yolo");
    for split in ["train", "val"] {
        let options = WriteOptions { split, images: ImageMode::Link, ..WriteOptions::default() };
        write(&dataset, Format::Yolo, &out, &options).unwrap();
    }
    let options =
        |split: &str| ReadOptions { split: Some(split.to_owned()), ..ReadOptions::default() };
    assert_eq!(read(&out, &options("val")).unwrap().images.len(), 8);
    assert!(read(&out, &options("test")).unwrap_err().to_string().contains("has no `test:`"));
    let mut other = dataset.clone();
    other.categories[0].name = "disc".to_owned();
    let error =
        write(&other, Format::Yolo, &out, &WriteOptions::default()).unwrap_err().to_string();
    assert!(error.contains("other classes"), "{error}");
    let bad = WriteOptions { split: "../x", ..WriteOptions::default() };
    assert!(write(&dataset, Format::Voc, &out, &bad).is_err());
}

#[test]
fn shards_are_balanced_and_together_hold_everything() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    let options =
        SynthOptions { images: 23, size: ImageSize::new(32, 32), ..SynthOptions::default() };
    let dataset = synthesize(&made, &options, None).unwrap();
    let out = folder.path().join("shards");
    let report =
        shard(&dataset, &out, &ShardOptions { shards: 4, ..ShardOptions::default() }).unwrap();
    let counts: Vec<usize> = report.shards.iter().map(|shard| shard.images).collect();
    assert_eq!(counts.iter().sum::<usize>(), 23);
    assert!(counts.iter().all(|count| (5..=6).contains(count)), "{counts:?}");
    let objects = report.shards.iter().map(|shard| shard.objects);
    assert!(objects.clone().max().unwrap() - objects.clone().min().unwrap() <= 8);
    let mut ids = Vec::new();
    for part in &report.shards {
        let options = ReadOptions {
            images: Some(made.join("train")),
            accept: Accept::Warnings,
            ..ReadOptions::default()
        };
        let part = read(&out.join(&part.file), &options).unwrap();
        assert_eq!(part.categories, dataset.categories);
        ids.extend(part.images.iter().map(|image| image.id));
    }
    ids.sort_unstable();
    assert_eq!(ids, dataset.images.iter().map(|image| image.id).collect::<Vec<_>>());
    let mapping = fs::read_to_string(out.join("mapping.json")).unwrap();
    assert!(mapping.contains("\"circle\"") && mapping.contains("shard-00003-of-00004.json"));
    let absurd = ShardOptions { shards: 24, ..ShardOptions::default() };
    assert!(shard(&dataset, &out, &absurd).is_err());
}
