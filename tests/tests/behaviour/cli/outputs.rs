//! Results in files: COCO, KITTI, YOLO, CSV, and annotated pictures.

use serde_json::Value;

use super::{SIZES, pictures, text, tiny};
use crate::support::images::{encoded, picture};
use crate::support::{folder_with, names_in};

/// Runs all pictures and gives the folder they and the output `o` are in, and the JSON results.
fn run(format: &str) -> (tempfile::TempDir, Vec<Value>) {
    let folder = pictures();
    let args = ["*.png", "--jsonl", "--format", format, "--output", "o"];
    let outcome = tiny(&args).inside(folder.path()).run().expect(0);
    assert!(outcome.stderr.contains("in 5 images: o"), "{}", outcome.stderr);
    (folder, outcome.json_lines())
}

fn count(results: &[Value]) -> usize {
    results.iter().map(|result| result["detections"].as_array().unwrap().len()).sum()
}

#[test]
fn coco_results_carry_the_numbers_of_the_file_names() {
    let (folder, results) = run("coco");
    let objects: Vec<Value> = serde_json::from_str(&text(folder.path(), "o")).unwrap();
    assert_eq!(objects.len(), count(&results));
    for object in &objects {
        let id = object["image_id"].as_u64().unwrap();
        assert_eq!(object["file_name"], format!("{id}.png"));
        assert!((1..=90).contains(&object["category_id"].as_u64().unwrap()));
        assert!(object["score"].is_number());
        assert!(object["bbox"].as_array().unwrap().iter().all(Value::is_number));
        assert_eq!(object["bbox"].as_array().unwrap().len(), 4);
    }
    let first = &results[0]["detections"][0]["box"];
    let side = |name: &str| first[name].as_f64().unwrap();
    let width = objects[0]["bbox"][2].as_f64().unwrap();
    assert!((width - (side("x2") - side("x1"))).abs() < 1e-3);
}

#[test]
fn names_that_are_no_numbers_get_positions_as_ids_and_a_note() {
    let folder = folder_with([
        ("b.png", crate::support::images::png(picture(1, 40, 40))),
        ("a.png", crate::support::images::png(picture(2, 40, 40))),
    ]);
    let args = ["b.png", "a.png", "--format", "coco", "--output", "o"];
    let outcome = tiny(&args).inside(folder.path()).run().expect(0);
    assert!(outcome.stderr.contains("positions from 1"), "{}", outcome.stderr);
    let objects: Vec<Value> = serde_json::from_str(&text(folder.path(), "o")).unwrap();
    assert!(objects.iter().all(|o| (o["image_id"] == 1) == (o["file_name"] == "b.png")));
}

#[test]
fn kitti_labels_have_sixteen_columns() {
    let (folder, _) = run("kitti");
    let labels = folder.path().join("o");
    assert_eq!(names_in(&labels), ["1.txt", "2.txt", "3.txt", "4.txt", "5.txt"]);
    let mut lines = 0;
    for (name, width, height) in SIZES {
        for line in text(&labels, &name.replace("png", "txt")).lines() {
            let columns: Vec<&str> = line.split(' ').collect();
            assert_eq!(columns.len(), 16, "{line}");
            let number = |i: usize| columns[i].parse::<f64>().unwrap();
            assert!((1..16).all(|i| number(i).is_finite()));
            assert!(0.0 <= number(4) && number(6) <= f64::from(width), "{line}");
            assert!(0.0 <= number(5) && number(7) <= f64::from(height), "{line}");
            lines += 1;
        }
    }
    assert!(lines > 0);
}

#[test]
fn yolo_labels_are_relative_and_come_with_the_class_names() {
    let (folder, results) = run("yolo");
    let labels = folder.path().join("o");
    assert_eq!(names_in(&labels).last().unwrap(), "classes.txt");
    let classes = text(&labels, "classes.txt");
    let classes: Vec<&str> = classes.lines().collect();
    assert_eq!((classes.len(), classes[1]), (91, "person"));
    let first = text(&labels, "1.txt");
    for line in first.lines() {
        let numbers: Vec<f64> = line.split(' ').map(|number| number.parse().unwrap()).collect();
        assert_eq!(numbers.len(), 6);
        assert!(numbers[1..].iter().all(|number| (0.0..=1.0).contains(number)), "{line}");
    }
    let label: usize = first.split(' ').next().unwrap().parse().unwrap();
    assert_eq!(classes[label], results[0]["detections"][0]["name"]);
}

#[test]
fn csv_has_a_row_per_object() {
    let (folder, results) = run("csv");
    let table = text(folder.path(), "o");
    let mut rows = table.lines();
    let header = rows.next().unwrap();
    assert_eq!(header, "file,width,height,label,category_id,name,score,x1,y1,x2,y2");
    let rows: Vec<&str> = rows.collect();
    assert_eq!(rows.len(), count(&results));
    assert!(rows.iter().all(|row| row.split(',').count() == 11));
}

#[test]
fn annotated_pictures_keep_the_size_and_differ_from_the_image() {
    let folder = pictures();
    let args = ["*.png", "--save", "out/drawn", "--color", "person=#f00", "--color", "sheep=lime"];
    tiny(&args).inside(folder.path()).run().expect(0);
    let drawn = folder.path().join("out/drawn");
    assert_eq!(names_in(&drawn), SIZES.map(|(name, ..)| name));
    for (name, width, height) in SIZES {
        let image = image::open(drawn.join(name)).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (width, height));
        assert_ne!(image, picture(width + height, width, height));
    }
}

#[test]
fn pictures_and_labels_never_replace_what_they_must_not() {
    let folder = pictures();
    let bmp = encoded(&picture(1, 30, 30).into(), image::ImageFormat::Bmp);
    std::fs::write(folder.path().join("1.bmp"), bmp).unwrap();
    let before = std::fs::read(folder.path().join("1.png")).unwrap();
    let outcome = tiny(&["1.png", "--save", "."]).inside(folder.path()).run().expect(2);
    assert!(outcome.stderr.contains("would replace the image itself"), "{}", outcome.stderr);
    assert!(outcome.ends_with_hint());
    assert_eq!(std::fs::read(folder.path().join("1.png")).unwrap(), before);
    std::fs::copy(folder.path().join("1.png"), folder.path().join("a.txt")).unwrap();
    for (image, format, output) in
        [("1.png", "csv", "./1.png"), ("a.txt", "kitti", "."), ("a.txt", "yolo", ".")]
    {
        let args = [image, "--format", format, "--output", output];
        let outcome = tiny(&args).inside(folder.path()).run().expect(2);
        assert!(outcome.stderr.contains("would replace the image itself"), "{}", outcome.stderr);
        assert!(outcome.ends_with_hint());
        assert_eq!(std::fs::read(folder.path().join(image)).unwrap(), before);
    }
    assert!(!folder.path().join("classes.txt").exists());
    let args = ["1.png", "1.bmp", "--format", "kitti", "--output", "o"];
    let outcome = tiny(&args).inside(folder.path()).run().expect(2);
    assert!(outcome.stderr.contains("would both be written to 1.txt"), "{}", outcome.stderr);
    tiny(&["1.png", "1.bmp", "--save", "drawn"]).inside(folder.path()).run().expect(0);
    assert_eq!(names_in(&folder.path().join("drawn")), ["1-2.png", "1.png"]);
}
