//! The folders in which data sets are found in the wild.

use super::*;

fn read_split(folder: &Path, split: &str) -> Result<Dataset, DatasetError> {
    read(folder, &ReadOptions { split: Some(split.to_owned()), ..ReadOptions::default() })
}

#[test]
fn yolo_written_for_another_place_is_found() {
    let yaml = "path: ../datasets/mine\ntrain: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['cat']\n";
    let folder = folder(&[
        ("data.yaml", yaml.as_bytes()),
        ("train/images/a.png", PNG),
        ("train/images/deep/b.png", PNG),
        ("train/labels/a.txt", b"0 0.5 0.5 1 1\n\n"),
        ("train/labels/deep/b.txt", b"0 0.5 0.5 0.5 0.5\n0 0 0 1 0 1 1\n"),
        ("valid/images/c.png", PNG),
    ]);
    let dataset = read(folder.path(), &ReadOptions::default()).unwrap();
    let names: Vec<&str> = dataset.images.iter().map(|image| image.file_name.as_str()).collect();
    assert_eq!(names, ["a.png", "deep/b.png"]);
    assert_eq!(dataset.images[0].objects[0].bbox.to_array(), [0.0, 0.0, 1.0, 1.0]);
    let outline = &dataset.images[1].objects[1];
    assert!(outline.segmentation.is_some() && outline.bbox.to_array() == [0.0, 0.0, 1.0, 1.0]);
    let val = read_split(folder.path(), "val").unwrap();
    assert_eq!((val.images.len(), val.report.count(Problem::MissingLabels)), (1, 1));
}

#[test]
fn yolo_takes_lists_of_files() {
    let folder = folder(&[
        ("data.yaml", b"train: [train.txt]\nnames: {0: cat, 2: dog}\n"),
        ("train.txt", b"./images/a.png\r\nimages/missing.png\n../x.png\n"),
        ("images/a.png", PNG),
        ("labels/a.txt", b"2 0.5 0.5 1 1\n"),
    ]);
    let options = ReadOptions { accept: Accept::Everything, ..ReadOptions::default() };
    let dataset = read(folder.path(), &options).unwrap();
    let names: Vec<&str> = dataset.categories.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(names, ["cat", "class 1", "dog"]);
    assert_eq!((dataset.images.len(), dataset.images[0].objects[0].category_id), (1, 3));
    assert_eq!(dataset.report.count(Problem::MissingFile), 1);
    assert_eq!(dataset.report.count(Problem::UnsafeFileName), 1);
}

#[test]
fn kitti_leaves_out_what_has_no_class() {
    let labels = "Car 0.00 0 -1.5 1.5 2 3 4.25 1 2 3 4 5 6 7\nDontCare -1 -1 -10 1 2 3 4 -1 -1 -1 -1000 -1000 -1000 -10\n";
    let folder = folder(&[
        ("training/image_2/000000.png", PNG),
        ("training/image_2/000001.png", PNG),
        ("training/label_2/000000.txt", labels.as_bytes()),
        ("training/label_2/000009.txt", labels.as_bytes()),
    ]);
    let dataset = read(folder.path(), &ReadOptions::default()).unwrap();
    assert_eq!((dataset.images.len(), dataset.object_count()), (2, 1));
    assert_eq!(dataset.images[0].objects[0].bbox.to_array(), [1.5, 2.0, 1.5, 2.25]);
    for problem in [Problem::IgnoredRegion, Problem::MissingLabels, Problem::OrphanLabels] {
        assert_eq!(dataset.report.count(problem), 1, "{problem}");
    }
}

#[test]
fn splits_are_chosen_by_name() {
    let xml = |name: &str| format!("<annotation><filename>{name}.png</filename></annotation>");
    let (a, b) = (xml("a"), xml("b"));
    let json = coco(IMAGE, OBJECT, CATEGORY);
    let folder = folder(&[
        ("voc/Annotations/a.xml", a.as_bytes()),
        ("voc/Annotations/b.xml", b.as_bytes()),
        ("voc/ImageSets/Main/val.txt", b"b -1\n"),
        ("voc/JPEGImages/a.png", PNG),
        ("voc/JPEGImages/b.png", PNG),
        ("coco/annotations/instances_train2017.json", json.as_bytes()),
        ("coco/annotations/instances_val2017.json", json.as_bytes()),
        ("coco/annotations/captions_val2017.json", b"{}"),
        ("coco/train2017/a.png", PNG),
        ("coco/val2017/a.png", PNG),
        ("roboflow/test/_annotations.coco.json", json.as_bytes()),
        ("roboflow/test/a.png", PNG),
    ]);
    let root = folder.path();
    let voc = read_split(&root.join("voc"), "val").unwrap();
    assert_eq!(voc.images.iter().map(|i| i.file_name.as_str()).collect::<Vec<_>>(), ["b.png"]);
    for (data, split, image) in [
        ("coco", "val", "coco/val2017/a.png"),
        ("coco", "train2017", "coco/train2017/a.png"),
        ("roboflow", "test", "roboflow/test/a.png"),
    ] {
        let dataset = read_split(&root.join(data), split).unwrap();
        assert_eq!(dataset.images[0].path, root.join(image));
        assert!(dataset.report.problems.is_empty(), "{:?}", dataset.report);
    }
    let error = read(&root.join("coco"), &ReadOptions::default()).unwrap_err().to_string();
    assert!(
        error.contains("instances_train2017.json") && error.contains("or the split"),
        "{error}"
    );
}
