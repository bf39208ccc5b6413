//! Reports about places of a data set's files: folders, splits, names and links.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::images::{picture, png};
use crate::support::{Outcome, detr};

const LABEL: &[u8] = b"0 0.5 0.5 0.5 0.5\n";
const CAR: &[u8] = b"Car 0 0 0 5 5 25 25 0 0 0 0 0 0 0\n";
const XML: &str = "<annotation><filename>NAME</filename><size><width>60</width><height>40</height></size>\
    <object><name>cat</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>25</xmax><ymax>25</ymax></bndbox></object>\
    </annotation>";

/// Makes a folder of files; those that end like an image are pictures, each another one.
fn data_set(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for ((name, bytes), seed) in files.iter().zip(1..) {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let is_image = bytes.is_empty() && (name.ends_with("png") || name.ends_with("PNG"));
        let bytes = if is_image { png(picture(seed, 60, 40)) } else { bytes.to_vec() };
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn xml(name: &str) -> Vec<u8> {
    XML.replace("NAME", name).into_bytes()
}

/// COCO's annotations of one image with one object.
fn coco(name: &str) -> Vec<u8> {
    format!(
        r#"{{"images": [{{"id": 1, "file_name": {name:?}, "width": 60, "height": 40}}],
            "annotations": [{{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400,
                              "iscrowd": 0}}],
            "categories": [{{"id": 1, "name": "cat"}}]}}"#
    )
    .into_bytes()
}

fn check(folder: &Path, args: &[&str]) -> Outcome {
    detr(["data", "check"]).args(args).inside(folder).run()
}

/// Returns the numbers of images and objects that `detr data check` counts.
#[track_caller]
fn counts(folder: &Path, args: &[&str]) -> (u64, u64) {
    let outcome = check(folder, &[args, &["--json"]].concat());
    assert!(outcome.code < 2, "{args:?}: {}", outcome.stderr);
    let report = outcome.json();
    (report["images"].as_u64().unwrap(), report["objects"].as_u64().unwrap())
}

#[track_caller]
fn refused(folder: &Path, args: &[&str], parts: &[&str]) {
    let outcome = check(folder, args).expect(3);
    for part in parts {
        assert!(outcome.stderr.contains(part), "{args:?}: {}", outcome.stderr);
    }
    assert!(outcome.ends_with_hint(), "{}", outcome.stderr);
}

/// Writes the settings of a training that is only prepared.
fn settings(train: &str, val: &str) -> String {
    format!(
        "[model]\narch = \"deformable-detr-tiny\"\n[data]\ntrain = {{ sources = [{train}] }}\n\
         val = {{ sources = [{val}] }}\npreprocess = {{ shortest_edge = 64, longest_edge = 96 }}\n\
         [data.augmentation]\ntransforms = [{{ random_resize = {{ short_sides = [64], max_size = 96 }} }}]\n\
         [data.loader]\nbatch_size = 1\nworkers = 1\n[train]\nepochs = 1\nlr = 1e-12\nlr_backbone = 1e-12\n\
         frozen = []\n[run]\nsamples = 0\n"
    )
}

fn dry_run(folder: &Path, train: &str, val: &str) -> Outcome {
    fs::write(folder.join("run.toml"), settings(train, val)).unwrap();
    let args = ["train", "--config", "run.toml", "--dry-run", "--backend", "flex"];
    detr(args).inside(folder).run()
}

#[test]
fn a_folder_called_images_above_the_data_set_changes_nothing() {
    let folder = data_set(&[
        ("images/proj/data.yaml", b"train: train\nval: train\nnames: [cat]\n"),
        ("images/proj/train/a.png", b""),
        ("images/proj/train/a.txt", LABEL),
        ("images/proj/train/b.png", b""),
        ("images/proj/train/b.txt", LABEL),
    ]);
    let proj = folder.path().join("images/proj");
    let absolute = proj.join("data.yaml").display().to_string();
    assert_eq!(counts(&proj, &["data.yaml"]), (2, 2));
    assert_eq!(counts(folder.path(), &["images/proj/data.yaml"]), (2, 2));
    assert_eq!(counts(Path::new("/"), &[&absolute]), (2, 2));
    // A run keeps absolute paths; going on reads the same data.
    let source = "{ path = \"data.yaml\" }";
    fs::write(proj.join("run.toml"), settings(source, source)).unwrap();
    let train = ["train", "--config", "run.toml", "--output", "run", "--backend", "flex"];
    detr(train).inside(&proj).run().expect(0);
    let resume = ["train", "--resume", "--set", "train.epochs=2", "--backend", "flex", "--output"];
    let again = detr(resume).arg(proj.join("run")).run().expect(0);
    assert!(!again.stdout.contains("AP -"), "{}", again.stdout);
}

#[test]
fn labels_beside_the_images_are_found_below_a_folder_called_images() {
    let folder = data_set(&[
        ("data.yaml", b"train: images/train\nval: images/val\nnames: [cat]\n"),
        ("images/train/a.png", b""),
        ("images/train/a.txt", LABEL),
        ("images/val/b.png", b""),
        ("labels/val/b.txt", LABEL),
        ("images/val/b.txt", b"0 0.1 0.1 0.1 0.1\n0 0.5 0.5 0.1 0.1\n"),
    ]);
    assert_eq!(counts(folder.path(), &["."]), (1, 1));
    assert_eq!(counts(folder.path(), &[".", "--split", "val"]), (1, 1));
}

#[test]
fn a_split_that_is_not_there_is_never_replaced_by_everything() {
    let folder = data_set(&[
        ("voc/Annotations/a.xml", &xml("a.png")),
        ("voc/Annotations/b.xml", &xml("b.png")),
        ("voc/JPEGImages/a.png", b""),
        ("voc/JPEGImages/b.png", b""),
        ("voc/ImageSets/Main/train.txt", b"a\n"),
        ("cvat/Annotations/a.xml", &xml("a.png")),
        ("cvat/JPEGImages/a.png", b""),
        ("cvat/ImageSets/Main/default.txt", b"a\n"),
        ("kitti/train/image_2/a.png", b""),
        ("kitti/train/label_2/a.txt", CAR),
        ("plain/image_2/a.png", b""),
        ("plain/label_2/a.txt", CAR),
        ("train.json", &coco("plain/image_2/a.png")),
    ]);
    let here = folder.path();
    assert_eq!(counts(here, &["voc"]), (2, 2));
    assert_eq!(counts(here, &["voc", "--split", "train"]), (1, 1));
    for split in ["val", "vla", "trainval"] {
        refused(here, &["voc", "--split", split], &[split, "it has train"]);
        refused(here, &["cvat", "--split", split], &[split, "it has default"]);
        refused(here, &["kitti", "--split", split], &[split, "it has train"]);
        refused(here, &["plain", "--split", split], &[split, "no splits at all"]);
        refused(here, &["train.json", "--split", split], &[split, "has no splits"]);
    }
    for command in ["stats", "convert"] {
        let args = ["data", command, "voc", "--split", "val"];
        let more = ["--to", "coco", "--output", "out"];
        let more = if command == "convert" { &more[..] } else { &[] };
        detr(args).args(more).inside(here).run().expect(3);
    }
    let train = "{ path = \"voc\", split = \"train\" }";
    let outcome = dry_run(here, train, &train.replace("train", "val")).expect(3);
    assert!(outcome.stderr.contains("it has train"), "{}", outcome.stderr);
    dry_run(here, train, train).expect(0);
}

#[test]
fn absolute_names_inside_of_the_data_set_are_inside() {
    let folder = data_set(&[
        ("images/train/a.png", b""),
        ("labels/train/a.txt", LABEL),
        ("images/val/b.png", b""),
        ("labels/val/b.txt", LABEL),
        ("annotations/x.json", b""),
    ]);
    let here = folder.path();
    let absolute = here.display().to_string();
    let write = |name: &str, text: &str| fs::write(here.join(name), text).unwrap();
    write(
        "abs.yaml",
        &format!("train: {absolute}/images/train\nval: {absolute}/images/val\nnames: [cat]\n"),
    );
    write(
        "list.yaml",
        &format!("path: {absolute}\ntrain: train.txt\nval: val.txt\nnames: [cat]\n"),
    );
    write("train.txt", &format!("{absolute}/images/train/a.png\n"));
    write("val.txt", "/content/proj/images/val/b.png\n");
    write("colab.yaml", "train: /content/proj-1/images/train\nval: ../images/val\nnames: [cat]\n");
    for yaml in ["abs.yaml", "list.yaml", "colab.yaml"] {
        for split in ["train", "val"] {
            assert_eq!(counts(here, &[yaml, "--split", split]), (1, 1), "{yaml} {split}");
        }
        let source = |split: &str| format!("{{ path = \"{yaml}\", split = \"{split}\" }}");
        dry_run(here, &source("train"), &source("val")).expect(0);
    }
    for name in [
        &format!("{absolute}/images/train/a.png"),
        "../images/train/a.png",
        "/content/images/train/a.png",
        "C:\\proj\\images\\train\\a.png",
        "/data/local-files/?d=images/train/a.png",
    ] {
        fs::write(here.join("annotations/x.json"), coco(name)).unwrap();
        check(here, &["annotations/x.json"]).expect(0);
    }
    fs::write(here.join("annotations/x.json"), coco("https://example.com/c.png")).unwrap();
    let outcome = check(here, &["annotations/x.json"]).expect(1);
    assert!(outcome.stdout.contains("address of a web page"), "{}", outcome.stdout);
}

#[cfg(unix)]
#[test]
fn a_source_of_a_training_may_be_allowed_to_lead_outside() {
    let folder = data_set(&[
        ("snap/data.yaml", b"train: train\nval: train\nnames: [cat]\n"),
        ("snap/train/a.txt", LABEL),
        ("blobs/1.png", b""),
    ]);
    let here = folder.path();
    std::os::unix::fs::symlink("../../blobs/1.png", here.join("snap/train/a.png")).unwrap();
    let refused = dry_run(here, "{ path = \"snap\" }", "{ path = \"snap\" }").expect(3);
    assert!(refused.stderr.contains("follow_symlinks = true"), "{}", refused.stderr);
    let allowed = "{ path = \"snap\", follow_symlinks = true }";
    dry_run(here, allowed, allowed).expect(0);
    assert_eq!(counts(here, &["snap", "--follow-symlinks"]), (1, 1));
}

#[test]
fn voc_images_are_found_by_the_name_of_their_xml_file() {
    for name in ["a", "", "IMG_2041.jpg", "C:\\me\\a.bmp"] {
        let folder = data_set(&[("Annotations/a.xml", &xml(name)), ("JPEGImages/a.png", b"")]);
        check(folder.path(), &["."]).expect(0);
    }
    let folder = data_set(&[("Annotations/a.xml", &xml("b.png")), ("JPEGImages/c.png", b"")]);
    let outcome = check(folder.path(), &["."]).expect(1);
    assert!(outcome.stdout.contains("image file that is not there"), "{}", outcome.stdout);
}

#[test]
fn hidden_files_and_folders_are_no_data() {
    let folder = data_set(&[
        ("voc/Annotations/a.xml", &xml("a.png")),
        ("voc/Annotations/._a.xml", b"\0\xff"),
        ("voc/JPEGImages/a.png", b""),
        ("kitti/image_2/a.png", b""),
        ("kitti/image_2/._a.png", b"\0\xff"),
        ("kitti/label_2/a.txt", CAR),
        ("kitti/label_2/._a.txt", b"\0\xff"),
        ("yolo/data.yaml", b"train: images\nnames: [cat]\n"),
        ("yolo/images/a.png", b""),
        ("yolo/images/._a.png", b"\0\xff"),
        ("yolo/images/.ipynb_checkpoints/a-checkpoint.png", b""),
        ("yolo/labels/a.txt", LABEL),
    ]);
    for data in ["voc", "kitti", "yolo"] {
        assert_eq!(counts(folder.path(), &[data]), (1, 1), "{data}");
        check(folder.path(), &[data]).expect(0);
    }
}

#[test]
fn strangers_beside_the_data_are_passed_over_and_named() {
    let notes: &[u8] = br#"{"categories": [{"id": 0, "name": "cat"}], "info": {}}"#;
    let folder = data_set(&[
        ("coco/dvc.yaml", b"stages: {}\n"),
        ("coco/annotations/instances_train.json", &coco("a.png")),
        ("coco/train/a.png", b""),
        ("voc/label_map.json", notes),
        ("voc/dataset_meta.json", b"{}"),
        ("voc/Annotations/a.xml", &xml("a.png")),
        ("voc/JPEGImages/a.png", b""),
        ("studio/notes.json", notes),
        ("studio/classes.txt", b"cat\n"),
        ("studio/images/a.png", b""),
        ("studio/labels/a.txt", LABEL),
        ("none/notes.json", notes),
        ("none/dvc.yaml", b"stages: {}\n"),
    ]);
    for data in ["coco", "voc", "studio"] {
        assert_eq!(counts(folder.path(), &[data]), (1, 1), "{data}");
    }
    refused(folder.path(), &["none"], &["dvc.yaml, notes.json"]);
    fs::remove_file(folder.path().join("studio/classes.txt")).unwrap();
    refused(folder.path(), &["studio"], &["looks like YOLO"]);
}

#[test]
fn darknet_as_cvat_writes_it_is_read() {
    let folder = data_set(&[
        (
            "obj.data",
            b"classes = 1\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        ),
        ("obj.names", b"car\n"),
        ("train.txt", b"data/obj_train_data/a.png\n"),
        ("obj_train_data/a.png", b""),
        ("obj_train_data/a.txt", LABEL),
    ]);
    assert_eq!(counts(folder.path(), &["."]), (1, 1));
    assert_eq!(counts(folder.path(), &["obj.data", "--split", "train"]), (1, 1));
    refused(folder.path(), &[".", "--split", "val"], &["has no `val:`", "`train:`"]);
}

#[test]
fn labelme_is_named_and_lists_of_names_are_cut() {
    let folder = tempfile::tempdir().unwrap();
    for number in 0..300 {
        let json = format!(r#"{{"shapes": [], "imagePath": "{number}.jpg"}}"#);
        fs::write(folder.path().join(format!("{number:03}.json")), json).unwrap();
    }
    refused(folder.path(), &["."], &["labelme", "004.json and 295 more"]);
    refused(folder.path(), &["007.json"], &["labelme"]);
    for number in 0..300 {
        fs::write(folder.path().join(format!("{number:03}.json")), coco("a.png")).unwrap();
    }
    refused(folder.path(), &["."], &["several files of annotations", "and 295 more"]);
}

#[test]
fn val_valid_and_validation_are_one_split() {
    let folder = data_set(&[
        ("coco/valid/_annotations.coco.json", &coco("a.png")),
        ("coco/valid/a.png", b""),
        ("coco/train/_annotations.coco.json", &coco("b.png")),
        ("coco/train/b.png", b""),
        ("voc/ImageSets/Main/val.txt", b"a\n"),
        ("voc/Annotations/a.xml", &xml("a.png")),
        ("voc/JPEGImages/a.png", b""),
        ("kitti/validation/image_2/a.png", b""),
        ("kitti/validation/label_2/a.txt", CAR),
        ("yolo/data.yaml", b"valid: images\nnames: [cat]\n"),
        ("yolo/images/a.png", b""),
        ("yolo/labels/a.txt", LABEL),
    ]);
    for data in ["coco", "voc", "kitti", "yolo"] {
        for split in ["val", "valid", "validation"] {
            assert_eq!(counts(folder.path(), &[data, "--split", split]), (1, 1), "{data} {split}");
        }
    }
    refused(folder.path(), &["coco", "--split", "test"], &["it has train, valid"]);
}

#[test]
fn folders_are_found_in_any_spelling() {
    for (annotations, images) in [
        ("annotations", "images"),
        ("annotations/xmls", "Images"),
        ("xmls", "images"),
        ("ANNOTATIONS", "jpegimages"),
    ] {
        let (file, image) = (format!("{annotations}/a.xml"), format!("{images}/a.png"));
        let folder = data_set(&[(&file, &xml("a.png")), (&image, b"")]);
        check(folder.path(), &["."]).expect(0);
    }
    let folder = data_set(&[("Annotations/x.json", &coco("a.png")), ("Images/a.png", b"")]);
    check(folder.path(), &["."]).expect(0);
}

#[test]
fn a_missing_file_with_a_neighbour_of_almost_that_name_names_it() {
    let folder = data_set(&[("images/DSC_0.PNG", b""), ("images/cafe\u{301}.png", b"")]);
    for (name, part) in [
        ("DSC_0.png", "there is DSC_0.PNG, in another case"),
        ("caf\u{e9}.png", "cafe\\u{301}.png, in another form of Unicode"),
    ] {
        fs::write(folder.path().join("x.json"), coco(name)).unwrap();
        let outcome = check(folder.path(), &["x.json"]).expect(1);
        assert!(outcome.stdout.contains(part), "{}", outcome.stdout);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf_8_are_kept() {
    use std::os::unix::ffi::OsStrExt;
    let folder =
        data_set(&[("data.yaml", b"train: images\nnames: [cat]\n"), ("images/a.png", b"")]);
    let name = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes);
    fs::create_dir(folder.path().join("labels")).unwrap();
    let images = folder.path().join("images");
    fs::rename(images.join("a.png"), images.join(name(b"caf\xe9.png"))).unwrap();
    fs::write(folder.path().join("labels").join(name(b"caf\xe9.txt")), LABEL).unwrap();
    assert_eq!(counts(folder.path(), &["."]), (1, 1));
    let outcome = check(folder.path(), &["."]).expect(0);
    assert!(outcome.stdout.contains("caf\\xe9.png"), "{}", outcome.stdout);
    fs::write(folder.path().join("x.json"), coco("caf\u{e9}.png")).unwrap();
    let outcome = check(folder.path(), &["x.json"]).expect(1);
    assert!(outcome.stdout.contains("in another encoding"), "{}", outcome.stdout);
}
