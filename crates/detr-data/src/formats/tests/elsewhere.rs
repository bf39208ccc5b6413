//! Data sets as other tools leave them: written for other places, in other spellings, with strangers beside them.

use super::*;

const BOX: &[u8] = b"0 0.5 0.5 1 1\n";
const CAR: &[u8] = b"Car 0 0 0 0 0 1 1 0 0 0 0 0 0 0\n";

fn options(split: Option<&str>) -> ReadOptions {
    let split = split.map(str::to_owned);
    ReadOptions { split, accept: Accept::Everything, ..ReadOptions::default() }
}

/// Reads a data set, and returns the names of the images and the number of all objects.
fn found(path: &Path, split: Option<&str>) -> (Vec<String>, usize) {
    let dataset = read(path, &options(split)).unwrap_or_else(|error| panic!("{error}"));
    (dataset.images.iter().map(|i| i.file_name.clone()).collect(), dataset.object_count())
}

fn refusal(path: &Path, split: Option<&str>) -> String {
    read(path, &options(split)).unwrap_err().to_string()
}

fn xml(file_name: &str) -> String {
    let name = match file_name {
        "" => String::new(),
        name => format!("<filename>{name}</filename>"),
    };
    format!(
        "<annotation>{name}<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>1</xmax>\
         <ymax>1</ymax></bndbox></object></annotation>"
    )
}

fn image_named(name: &str) -> String {
    coco(&format!(r#"{{"id": 1, "file_name": {name:?}, "width": 1, "height": 1}}"#), "", CATEGORY)
}

#[test]
fn labels_are_found_wherever_the_data_set_lies() {
    let folder = folder(&[
        (
            "images/proj/data.yaml",
            b"train: train\nval: images/val\ntest: Images/test\nnames: [cat]\n",
        ),
        ("images/proj/train/a.png", PNG),
        ("images/proj/train/a.txt", BOX),
        ("images/proj/images/val/a.png", PNG),
        ("images/proj/labels/val/a.txt", BOX),
        ("images/proj/images/val/b.png", PNG),
        ("images/proj/images/val/b.txt", BOX),
        ("images/proj/Images/test/a.png", PNG),
        ("images/proj/Labels/test/a.txt", BOX),
    ]);
    let yaml = folder.path().join("images/proj/data.yaml");
    for (split, images) in [("train", 1), ("val", 2), ("test", 1)] {
        let (names, objects) = found(&yaml, Some(split));
        assert_eq!((names.len(), objects), (images, images), "{split}");
    }
}

#[test]
fn absolute_places_of_yolo_are_found_below_its_folder() {
    let folder = folder(&[
        ("images/train/a.png", PNG),
        ("labels/train/a.txt", BOX),
        ("images/val/b.png", PNG),
        ("labels/val/b.txt", BOX),
    ]);
    let here = folder.path().display().to_string();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let lists = [
        format!("{here}/images/train/a.png\n"),
        "/elsewhere/images/train/a.png\r\n".to_owned(),
        "C:\\x\\images\\train\\a.png\n".to_owned(),
        "data/images/train/a.png\n".to_owned(),
        format!("{here}/labels/../images/train/a.png\n"),
    ];
    for (number, list) in lists.iter().enumerate() {
        write(&format!("list{number}.txt"), list);
    }
    for (path, train) in [
        ("", format!("{here}/images/train")),
        (here.as_str(), "images/train".to_owned()),
        ("/content/proj", "images/train".to_owned()),
        ("", "/content/proj/images/train".to_owned()),
        ("", "C:\\proj\\images\\train".to_owned()),
        ("", "../proj/images/train".to_owned()),
        ("", "list0.txt".to_owned()),
        ("", "/content/proj/list1.txt".to_owned()),
        ("", "list2.txt".to_owned()),
        ("", "list3.txt".to_owned()),
        ("", "list4.txt".to_owned()),
    ] {
        write(
            "data.yaml",
            &format!("path: '{path}'\ntrain: '{train}'\nval: images/val\nnames: [cat]\n"),
        );
        let (names, objects) = found(&folder.path().join("data.yaml"), None);
        assert_eq!((names.len(), objects), (1, 1), "{path} {train}");
        assert!(names[0].ends_with("a.png"), "{names:?}");
    }
    // Another split is never taken instead.
    for place in ["/content/train", "/content/test/images", "/content/images/test"] {
        write("data.yaml", &format!("train: {place}\nnames: [cat]\n"));
        let error = refusal(folder.path(), None);
        assert!(error.contains("follow_symlinks") && error.contains(place), "{error}");
    }
    write("data.yaml", "train: /a/images\nval: /b/images\nnames: [cat]\n");
    assert!(refusal(folder.path(), None).contains("both end like"));
}

#[test]
fn absolute_names_of_coco_are_found_below_its_folder() {
    let folder = folder(&[("set/images/b.png", PNG), ("set/annotations/x.json", b"")]);
    let set = folder.path().join("set");
    let inside = set.join("images/b.png").display().to_string();
    for (name, count) in [
        (inside.as_str(), 1),
        ("../images/b.png", 1),
        ("/content/x/images/b.png", 1),
        ("/data/local-files/?d=images/b.png", 1),
        ("D:\\x\\b.png", 1),
        ("https://example.com/x/b.png", 1),
        ("https://example.com/x/c.png", 0),
        ("/content/c.png", 0),
        ("../../a.png", 0),
        ("..\\..\\x\\b.png", 0),
    ] {
        for file in ["annotations/x.json", "x.json"] {
            if name == "../images/b.png" && file == "x.json" {
                continue;
            }
            std::fs::write(set.join(file), image_named(name)).unwrap();
            let dataset = read(&set.join(file), &options(None)).unwrap();
            let read = dataset.images.iter().filter(|image| image.path.is_file()).count();
            assert_eq!(read, count, "{file}: {name}: {:?}", dataset.report);
            let refused = dataset.report.count(Problem::UnsafeFileName);
            assert_eq!(refused, 1 - count, "{file}: {name}: {:?}", dataset.report);
            if name.starts_with("..\\") {
                let first = &dataset.report.problems[&Problem::UnsafeFileName].first[0];
                assert!(first.contains("b.png is in") && first.contains("images"), "{first}");
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn links_are_inside_if_they_lead_into_the_data_set_and_else_allowed_or_counted() {
    use std::os::unix::fs::symlink;
    let folder = folder(&[
        ("snap/data.yaml", b"train: images/train\nnames: [cat]\n"),
        ("snap/store/1", PNG),
        ("snap/labels/train/a.txt", BOX),
        ("snap/labels/train/part/b.txt", BOX),
        ("blobs/2/b.png", PNG),
    ]);
    let snap = folder.path().join("snap");
    std::fs::create_dir_all(snap.join("images/train")).unwrap();
    symlink("../../store/1", snap.join("images/train/a.png")).unwrap();
    assert_eq!(found(&snap, None).1, 1);
    symlink("../../../blobs/2", snap.join("images/train/part")).unwrap();
    let dataset = read(&snap, &options(None)).unwrap();
    assert_eq!(dataset.report.count(Problem::UnsafeFileName), 1);
    let allowed = ReadOptions { allow_outside: true, ..options(None) };
    assert_eq!(read(&snap, &allowed).unwrap().object_count(), 2);
}

#[test]
fn splits_that_are_not_there_are_refused_and_named() {
    let a = xml("a.png");
    let json = coco(IMAGE, OBJECT, CATEGORY);
    let files: &[(&str, &[u8])] = &[
        ("voc/Annotations/a.xml", a.as_bytes()),
        ("voc/ImageSets/Main/train.txt", b"a\n"),
        ("voc/ImageSets/Main/cat_train.txt", b"a 1\n"),
        ("voc/ImageSets/Main/default.txt", b"a\n"),
        ("voc/JPEGImages/a.png", PNG),
        ("bare/Annotations/a.xml", a.as_bytes()),
        ("folders/train/a.xml", a.as_bytes()),
        ("folders/train/a.png", PNG),
        ("kitti/train/image_2/a.png", PNG),
        ("kitti/train/label_2/a.txt", CAR),
        ("flat/images/a.png", PNG),
        ("flat/labels/a.txt", CAR),
        ("yolo/data.yaml", b"train: .\nnames: [cat]\n"),
        ("yolo/a.png", PNG),
        ("coco/train/_annotations.coco.json", json.as_bytes()),
        ("coco/train/a.png", PNG),
        ("one/annotations/instances_train2017.json", json.as_bytes()),
    ];
    let folder = folder(files);
    for (data, has) in [
        ("voc", "train, default"),
        ("bare", "no splits at all"),
        ("folders", "it has train"),
        ("kitti", "it has train"),
        ("flat", "no splits at all"),
        ("yolo", "it has `train:`"),
        ("coco", "it has train"),
        ("one", "it has train2017"),
        ("one/annotations/instances_train2017.json", "does not say"),
    ] {
        for split in ["val", "vla", "trainval"] {
            let error = refusal(&folder.path().join(data), Some(split));
            assert!(error.contains(split) && error.contains("hint: "), "{data}: {error}");
            let sorted = has.split(", ").all(|part| error.contains(part));
            assert!(sorted, "{data}: {error}");
            assert!(!error.contains("cat_train"), "{error}");
        }
        if !has.contains("no splits") {
            assert_eq!(found(&folder.path().join(data), Some("train")).0.len(), 1, "{data}");
        }
    }
}

#[test]
fn names_of_the_validation_are_one_split_in_every_format() {
    let a = xml("a.png");
    let json = coco(IMAGE, OBJECT, CATEGORY);
    for written in ["val", "valid", "validation", "Valid"] {
        let name = |pattern: &str| pattern.replace("SPLIT", written);
        let yaml = format!("{}: images/{written}\nnames: [cat]\n", written.to_lowercase());
        let files: Vec<(String, &[u8])> = vec![
            (name("voc/Annotations/a.xml"), a.as_bytes()),
            (name("voc/ImageSets/Main/SPLIT.txt"), b"a\n"),
            (name("folders/SPLIT/a.xml"), a.as_bytes()),
            (name("kitti/SPLIT/image_2/a.png"), PNG),
            (name("kitti/SPLIT/label_2/a.txt"), CAR),
            (name("yolo/data.yaml"), yaml.as_bytes()),
            (name("yolo/images/SPLIT/a.png"), PNG),
            (name("classes/classes.txt"), b"cat\n"),
            (name("classes/images/SPLIT/a.png"), PNG),
            (name("classes/labels/SPLIT/a.txt"), BOX),
            (name("coco/SPLIT/_annotations.coco.json"), json.as_bytes()),
            (name("plain/annotations/instances_SPLIT.json"), json.as_bytes()),
        ];
        let files: Vec<(&str, &[u8])> = files.iter().map(|(n, b)| (n.as_str(), *b)).collect();
        let folder = folder(&files);
        for data in ["voc", "folders", "kitti", "yolo", "classes", "coco", "plain"] {
            for split in ["val", "valid", "validation"] {
                let (names, _) = found(&folder.path().join(data), Some(split));
                assert_eq!(names.len(), 1, "{data} {written} {split}");
            }
        }
    }
}

#[test]
fn folders_of_voc_and_coco_have_any_spelling() {
    let a = xml("a.png");
    let json = coco(IMAGE, OBJECT, CATEGORY);
    for (annotations, images) in [
        ("annotations", "images"),
        ("Annotations", "Images"),
        ("annotations/xmls", "images"),
        ("xmls", "JPEGImages"),
        ("ANNOTATIONS", "jpegimages"),
        ("Annotations", "imgs"),
    ] {
        let (xml_file, image) = (format!("{annotations}/a.xml"), format!("{images}/a.png"));
        let voc = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| {
            let path = voc.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write(&xml_file, a.as_bytes());
        write(&image, PNG);
        let dataset = read(voc.path(), &options(None)).unwrap();
        assert_eq!(dataset.report.count(Problem::MissingFile), 0, "{annotations} {images}");
        assert_eq!(dataset.object_count(), 1);
        if annotations.eq_ignore_ascii_case("annotations") {
            std::fs::remove_file(voc.path().join(&xml_file)).unwrap();
            write(&format!("{annotations}/labels.json"), json.as_bytes());
            let dataset = read(voc.path(), &options(None)).unwrap();
            assert_eq!(dataset.report.count(Problem::MissingFile), 0, "{annotations} {images}");
        }
    }
}

#[test]
fn images_of_voc_are_found_by_the_name_of_the_xml_file() {
    for (file_name, image) in [
        ("x", "x.jpg"),
        ("x", "x.png"),
        ("", "x.png"),
        ("IMG_2041.JPG", "x.PNG"),
        ("/home/me/x.png", "x.png"),
        ("C:\\me\\y.png", "x.png"),
        ("y", "y.png"),
        ("y.jpg", "y.png"),
        ("y.jpg", "z.png"),
    ] {
        let a = xml(file_name);
        let path = format!("JPEGImages/{image}");
        let folder = folder(&[("Annotations/x.xml", a.as_bytes()), (&path, PNG)]);
        let dataset = read(folder.path(), &options(None)).unwrap();
        let there = dataset.images.iter().filter(|image| image.path.is_file()).count();
        let expected = usize::from(image != "z.png");
        assert_eq!(there, expected, "{file_name} {image}: {:?}", dataset.report);
    }
    // Two images of that name in different folders: it cannot be told.
    let a = xml("IMG.jpg");
    let folder = folder(&[
        ("Annotations/x.xml", a.as_bytes()),
        ("JPEGImages/1/x.png", PNG),
        ("JPEGImages/2/x.png", PNG),
    ]);
    let dataset = read(folder.path(), &options(None)).unwrap();
    assert_eq!(dataset.report.count(Problem::MissingFile), 1);
}

#[test]
fn hidden_files_are_not_data() {
    let a = xml("a.png");
    let folder = folder(&[
        ("voc/Annotations/a.xml", a.as_bytes()),
        ("voc/Annotations/._a.xml", b"\xff\x00"),
        ("voc/JPEGImages/a.png", PNG),
        ("kitti/image_2/a.png", PNG),
        ("kitti/image_2/._a.png", b"\xff"),
        ("kitti/label_2/a.txt", CAR),
        ("kitti/label_2/._a.txt", b"\xff\x00"),
        ("yolo/data.yaml", b"train: images\nnames: [cat]\n"),
        ("yolo/._data.yaml", b"\xff"),
        ("yolo/images/a.png", PNG),
        ("yolo/images/._a.png", b"\xff"),
        ("yolo/images/.ipynb_checkpoints/a-checkpoint.png", PNG),
        ("yolo/labels/a.txt", BOX),
    ]);
    for data in ["voc", "kitti", "yolo"] {
        let dataset = read(&folder.path().join(data), &options(None)).unwrap();
        assert_eq!((dataset.images.len(), dataset.object_count()), (1, 1), "{data}");
        assert!(dataset.report.problems.is_empty(), "{data}: {:?}", dataset.report);
    }
}

#[test]
fn strangers_beside_the_data_are_passed_over() {
    let a = xml("a.png");
    let json = coco(IMAGE, OBJECT, CATEGORY);
    let stranger: &[u8] = br#"{"categories": [{"id": 0, "name": "a"}], "info": {}}"#;
    let folder = folder(&[
        ("coco/dvc.yaml", b"stages:\n  train:\n    cmd: x\n"),
        ("coco/params.yaml", b"train:\n  epochs: 3\n"),
        ("coco/meta.json", stranger),
        ("coco/predictions.json", b"[]"),
        ("coco/annotations/instances_train.json", json.as_bytes()),
        ("coco/train/a.png", PNG),
        ("voc/label_map.json", stranger),
        ("voc/dataset_meta.json", b"[1]"),
        ("voc/Annotations/a.xml", a.as_bytes()),
        ("voc/JPEGImages/a.png", PNG),
        ("yolo/dvc.yaml", b"stages: {}\n"),
        ("yolo/mine.yml", b"train: images\nnames: [cat]\n"),
        ("yolo/images/a.png", PNG),
        ("yolo/labels/a.txt", BOX),
        ("several/a.yaml", b"names: [a]\n"),
        ("several/b.yaml", b"names: [b]\n"),
        ("nothing/dvc.yaml", b"stages: {}\n"),
        ("nothing/meta.json", stranger),
    ]);
    for data in ["coco", "voc", "yolo"] {
        assert_eq!(found(&folder.path().join(data), None).1, 1, "{data}");
    }
    assert!(refusal(&folder.path().join("several"), None).contains("a.yaml, b.yaml"));
    let error = refusal(&folder.path().join("nothing"), None);
    assert!(error.contains("dvc.yaml, meta.json"), "{error}");
}

#[test]
fn layouts_without_yaml_are_read() {
    let folder = folder(&[
        ("studio/notes.json", b"{\"categories\": []}"),
        ("studio/classes.txt", b"cat\ndog\n"),
        ("studio/images/a.png", PNG),
        ("studio/labels/a.txt", b"1 0.5 0.5 1 1\n"),
        ("labelimg/images/a.png", PNG),
        ("labelimg/labels/classes.txt", b"cat\ndog\n"),
        ("labelimg/labels/a.txt", b"1 0.5 0.5 1 1\n"),
        ("flat/classes.txt", b"cat\ndog\n"),
        ("flat/a.png", PNG),
        ("flat/a.txt", b"1 0.5 0.5 1 1\n"),
        (
            "cvat/obj.data",
            b"classes = 2\ntrain = data/train.txt\nnames = data/obj.names\nbackup = backup/\n",
        ),
        ("cvat/obj.names", b"cat\ndog\n"),
        ("cvat/train.txt", b"data/obj_train_data/a.png\n"),
        ("cvat/obj_train_data/a.png", PNG),
        ("cvat/obj_train_data/a.txt", b"1 0.5 0.5 1 1\n"),
    ]);
    for data in ["studio", "labelimg", "flat", "cvat", "studio/classes.txt", "cvat/obj.data"] {
        let dataset = read(&folder.path().join(data), &options(None)).unwrap();
        assert_eq!((dataset.images.len(), dataset.object_count()), (1, 1), "{data}");
        let names: Vec<&str> = dataset.categories.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["cat", "dog"], "{data}");
        assert_eq!(dataset.images[0].objects[0].category_id, 2);
    }
    assert!(refusal(&folder.path().join("cvat"), Some("val")).contains("it has `train:`"));
    assert!(refusal(&folder.path().join("studio"), Some("val")).contains("has no `val:`"));
}

#[test]
fn labelme_is_named_and_long_lists_are_cut() {
    let folder = folder(&[]);
    for number in 0..300 {
        let json = format!(r#"{{"version": "5", "shapes": [], "imagePath": "{number}.jpg"}}"#);
        std::fs::write(folder.path().join(format!("{number:03}.json")), json).unwrap();
    }
    for path in [folder.path().to_owned(), folder.path().join("007.json")] {
        let error = refusal(&path, None);
        assert!(error.contains("labelme") && error.contains("hint: "), "{error}");
        assert!(error.len() < 800, "{error}");
    }
}

#[test]
fn create_ml_is_named() {
    let folder = folder(&[]);
    let path = folder.path().join("_annotations.createml.json");
    let json = r#"[{"image": "a.jpg", "annotations": [{"label": "x", "coordinates": {"x": 20, "y": 20, "width": 9, "height": 9}}]}]"#;
    std::fs::write(&path, json).unwrap();
    for path in [folder.path().to_owned(), path] {
        let error = refusal(&path, None);
        assert!(error.contains("CreateML") && error.contains("hint: export"), "{error}");
    }
}

#[test]
fn a_folder_laid_out_like_kitti_says_what_its_labels_lack() {
    let folder = folder(&[]);
    std::fs::create_dir(folder.path().join("label_2")).unwrap();
    let line = "\nCar 0,00 0 -1,57 10,5 10 30 30 1 1 3 1 2 3 0\n";
    std::fs::write(folder.path().join("label_2/000000.txt"), line).unwrap();
    let error = refusal(folder.path(), None);
    assert!(error.contains("looks like KITTI, but label_2/000000.txt:2: "), "{error}");
}

#[test]
fn a_file_of_almost_that_name_is_named() {
    let folder = folder(&[
        ("images/DSC_0.PNG", PNG),
        ("images/cafe\u{301}.png", PNG),
        ("images/my dog.png", PNG),
    ]);
    for (name, part) in [
        ("DSC_0.png", "there is DSC_0.PNG, in another case"),
        ("caf\u{e9}.png", "Unicode"),
        ("my%20dog.png", "there is my dog.png"),
    ] {
        let json = folder.path().join("x.json");
        std::fs::write(&json, image_named(name)).unwrap();
        let report = read(&json, &options(None)).unwrap().report;
        let first = &report.problems[&Problem::MissingFile].first[0];
        assert!(first.contains(part), "{first}");
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_not_utf_8_are_kept() {
    use std::os::unix::ffi::OsStrExt;
    let folder = folder(&[
        ("yolo/data.yaml", b"train: images\nnames: [cat]\n"),
        ("kitti/label_2/b.txt", CAR),
        ("coco/x.json", image_named("caf\u{e9}.png").as_bytes()),
    ]);
    let write = |folder: std::path::PathBuf, name: &[u8], bytes: &[u8]| {
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(std::ffi::OsStr::from_bytes(name)), bytes).unwrap();
    };
    let at = |name: &str| folder.path().join(name);
    write(at("yolo/images"), b"caf\xe9.png", PNG);
    write(at("yolo/labels"), b"caf\xe9.txt", BOX);
    write(at("kitti/image_2"), b"caf\xe9.png", PNG);
    write(at("kitti/label_2"), b"caf\xe9.txt", CAR);
    write(at("coco/images"), b"caf\xe9.png", PNG);
    for data in ["yolo", "kitti"] {
        let dataset = read(&at(data), &options(None)).unwrap();
        assert_eq!((dataset.images.len(), dataset.object_count()), (1, 1), "{data}");
        assert!(dataset.images[0].path.is_file(), "{data}");
        assert_eq!(dataset.report.problems[&Problem::NameNotUtf8].first, ["caf\\xe9.png"]);
    }
    let report = read(&at("coco"), &options(None)).unwrap().report;
    let first = &report.problems[&Problem::MissingFile].first[0];
    assert!(first.contains("caf\\xe9.png, in another encoding"), "{first}");
}
