//! Tests of what each format contains and of what happens when something is wrong.

use std::fs;

use detr_types::{ImageSize, Xyxy};
use serde_json::{Value, json};

use super::*;

fn detection(label: usize, score: f32, [x1, y1, x2, y2]: [f32; 4]) -> Detection {
    let name = ClassTable::coco().get(label).unwrap().name.clone();
    let bbox = Xyxy { x1, y1, x2, y2 };
    let category_id = i64::try_from(label).unwrap();
    Detection { label, category_id, name, score, bbox, mask: None }
}

fn image(file: &str, detections: Vec<Detection>) -> ImageResult {
    ImageResult { file: file.to_owned(), size: ImageSize::new(100, 200), detections }
}

/// Writes all results as `format` below a new folder.
fn write_all(
    format: OutputFormat,
    results: &[ImageResult],
) -> (tempfile::TempDir, PathBuf, Result<WriteSummary, WriteError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/out");
    let files: Vec<String> = results.iter().map(|result| result.file.clone()).collect();
    let written =
        ResultWriter::create(format, &path, &files, &ClassTable::coco()).and_then(|mut w| {
            results.iter().try_for_each(|result| w.write(result))?;
            w.finish()
        });
    (folder, path, written)
}

fn two_images() -> [ImageResult; 2] {
    [
        image(
            "in/139.jpg",
            vec![
                detection(10, 0.75, [-10.0, 20.0, 50.0, 60.0]),
                detection(3, 0.5, [300.0, 0.0, 310.0, 10.0]),
            ],
        ),
        image("in/000000000285.png", vec![]),
    ]
}

#[test]
fn coco_results_keep_raw_boxes_and_take_ids_from_numeric_names() {
    let (_folder, path, written) = write_all(OutputFormat::Coco, &two_images());
    assert_eq!(written.unwrap(), WriteSummary { images: 2, detections: 2, outside: 0 });
    let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        json,
        json!([
            {"image_id": 139, "category_id": 10, "bbox": [-10.0, 20.0, 60.0, 40.0],
             "score": 0.75, "file_name": "in/139.jpg"},
            {"image_id": 139, "category_id": 3, "bbox": [300.0, 0.0, 10.0, 10.0],
             "score": 0.5, "file_name": "in/139.jpg"},
        ])
    );
    let (_folder, path, _) = write_all(OutputFormat::Coco, &[image("a.jpg", vec![])]);
    assert_eq!(fs::read_to_string(path).unwrap(), "[]\n");
}

#[test]
fn image_ids_are_positions_unless_all_names_are_distinct_numbers() {
    for (files, expected) in [
        (["7.jpg", "a/08.jpg"], [7, 8]),
        (["7.jpg", "a/007.jpg"], [1, 2]),
        (["7.jpg", "+8.jpg"], [1, 2]),
        (["7.jpg", "99999999999999999999.jpg"], [1, 2]),
        (["stdin", "8.jpg"], [1, 2]),
    ] {
        let results = files.map(|file| image(file, vec![detection(1, 0.5, [0.0; 4])]));
        let (_folder, path, _) = write_all(OutputFormat::Coco, &results);
        let json: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let ids = [0, 1].map(|i| json[i]["image_id"].as_u64().unwrap());
        assert_eq!(ids, expected, "{files:?}");
    }
}

#[test]
fn label_folders_have_a_clipped_file_per_image() {
    let outcome = WriteSummary { images: 2, detections: 1, outside: 1 };
    let (_folder, path, written) = write_all(OutputFormat::Kitti, &two_images());
    assert_eq!(written.unwrap(), outcome);
    assert_eq!(
        fs::read_to_string(path.join("139.txt")).unwrap(),
        "traffic_light 0.00 0 0.00 0.00 20.00 50.00 60.00 \
         0.00 0.00 0.00 0.00 0.00 0.00 0.00 0.750000\n"
    );
    assert_eq!(fs::read_to_string(path.join("000000000285.txt")).unwrap(), "");

    let (_folder, path, written) = write_all(OutputFormat::Yolo, &two_images());
    assert_eq!(written.unwrap(), outcome);
    assert_eq!(
        fs::read_to_string(path.join("139.txt")).unwrap(),
        "10 0.125000 0.400000 0.250000 0.400000 0.750000\n"
    );
    let classes = fs::read_to_string(path.join("classes.txt")).unwrap();
    let classes: Vec<_> = classes.lines().collect();
    assert_eq!((classes.len(), classes[10], classes[12]), (91, "traffic light", "unused-12"));
}

#[test]
fn csv_quotes_what_needs_it() {
    let mut odd = detection(1, 0.25, [1.5, 2.0, 3.0, 4.25]);
    odd.name = "a \"b\", c".to_owned();
    let (_folder, path, _) = write_all(OutputFormat::Csv, &[image("x,y\n.jpg", vec![odd])]);
    assert_eq!(
        fs::read_to_string(path).unwrap(),
        "file,width,height,label,category_id,name,score,x1,y1,x2,y2\n\
         \"x,y\n.jpg\",200,100,1,1,\"a \"\"b\"\", c\",0.25,1.5,2,3,4.25\n"
    );
}

#[test]
fn images_that_would_share_a_label_file_are_refused_before_any_work() {
    for (files, parts) in [
        (["a/1.jpg", "b/1.jpg"], ["a/1.jpg and b/1.jpg", "1.txt"]),
        (["a/1.jpg", "a/1.png"], ["a/1.jpg and a/1.png", "hint:"]),
        (["a/1.jpg", "a/classes.png"], ["a/classes.png", "classes.txt"]),
    ] {
        let (_folder, path, written) =
            write_all(OutputFormat::Yolo, &files.map(|file| image(file, vec![])));
        let message = written.unwrap_err().to_string();
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        assert!(!path.exists());
        let (_folder, _, written) =
            write_all(OutputFormat::Csv, &files.map(|file| image(file, vec![])));
        assert!(written.is_ok(), "one file has room for both");
    }
}

#[test]
fn an_unfinished_or_refused_output_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.json");
    fs::write(&path, "old").unwrap();
    let files = ["1.jpg".to_owned()];
    let create =
        || ResultWriter::create(OutputFormat::Coco, &path, &files, &ClassTable::coco()).unwrap();
    let mut writer = create();
    let bad = image("1.jpg", vec![detection(1, 0.5, [0.0, 0.0, f32::NAN, 1.0])]);
    let message = writer.write(&bad).unwrap_err().to_string();
    assert!(message.contains("1.jpg: detection 0 (person)"), "{message}");
    let stranger = writer.write(&image("2.jpg", vec![])).unwrap_err().to_string();
    assert!(stranger.contains("2.jpg is not among"), "{stranger}");
    writer.write(&image("1.jpg", vec![])).unwrap();
    assert!(matches!(writer.write(&image("1.jpg", vec![])), Err(WriteError::Repeated { .. })));
    drop(writer);
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file is left");
    create().finish().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "[]\n");

    for (format, path) in [(OutputFormat::Csv, folder.path()), (OutputFormat::Kitti, &path)] {
        let error = ResultWriter::create(format, path, &files, &ClassTable::coco()).err().unwrap();
        assert!(matches!(error, WriteError::Kind { .. }), "{error}");
    }
}

#[test]
fn json_and_terminal_show_the_documented_form() {
    let two = vec![detection(3, 0.5, [1.0, 2.0, 3.0, 4.0]), detection(1, 0.984, [0.0; 4])];
    let result = image("a b.jpg", two);
    assert_eq!(
        serde_json::to_string(&image("a.jpg", result.detections[..1].to_vec())).unwrap(),
        "{\"file\":\"a.jpg\",\"width\":200,\"height\":100,\"detections\":[{\"label\":3,\
         \"category_id\":3,\"name\":\"car\",\"score\":0.5,\
         \"box\":{\"x1\":1.0,\"y1\":2.0,\"x2\":3.0,\"y2\":4.0}}]}"
    );
    assert_eq!(human_line(&result), "a b.jpg 200x100: 2 objects: person 0.98, car 0.50");
    assert_eq!(human_line(&image("a\x1b.jpg", vec![])), "a?.jpg 200x100: no objects");
    let many = image("a.jpg", vec![detection(3, 0.5, [0.0; 4]); 20]);
    assert!(human_line(&many).ends_with("car 0.50, car 0.50, +12 more"));
}
