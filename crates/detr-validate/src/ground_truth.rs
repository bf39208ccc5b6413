//! Converts a data set to ground truth. Nothing is rounded, clamped or left out, so that the
//! metrics are pycocotools' to the last bit.

use detr_data::{Dataset, ObjectRecord, Segmentation};
use detr_eval::{Category, EvalError, GroundTruth, ImageTruth, IouKind, Mask, TruthObject};

/// Returns the true objects of the images, with masks if these are compared.
///
/// # Errors
/// Those of [`GroundTruth::new`].
pub fn ground_truth(dataset: &Dataset, iou: IouKind) -> Result<GroundTruth, EvalError> {
    let object = |object: &ObjectRecord| TruthObject {
        id: object.id,
        category_id: object.category_id,
        bbox: object.bbox,
        area: Some(object.area),
        iscrowd: object.iscrowd,
        mask: object.segmentation.as_ref().filter(|_| iou == IouKind::Segm).map(mask),
    };
    let images = dataset.images.iter().map(|image| ImageTruth {
        id: image.id,
        size: image.size,
        objects: image.objects.iter().map(object).collect(),
    });
    let categories =
        dataset.categories.iter().map(|class| Category { id: class.id, name: class.name.clone() });
    GroundTruth::new(images.collect(), categories.collect())
}

fn mask(outline: &Segmentation) -> Mask {
    match outline {
        Segmentation::Polygons(polygons) => Mask::Polygons(polygons.clone()),
        Segmentation::Rle(rle) | Segmentation::Segment(rle) => {
            Mask::Runs { size: rle.size, counts: rle.counts.clone() }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use detr_data::Rle;
    use detr_data::formats::{ReadOptions, read};
    use detr_eval::read_ground_truth;

    use super::*;

    /// Decompresses codes into run lengths, as data sets keep them.
    fn plain(mut image: ImageTruth) -> ImageTruth {
        for object in &mut image.objects {
            if let Some(Mask::Text { size, counts }) = &object.mask {
                let rle = Rle::from_compressed(*size, counts).unwrap();
                object.mask = Some(Mask::Runs { size: rle.size, counts: rle.counts });
            }
        }
        image
    }

    #[track_caller]
    fn check_lossless(file: &Path) {
        let options = ReadOptions { check_files: false, ..ReadOptions::default() };
        let dataset = read(file, &options).unwrap();
        for iou in [IouKind::Bbox, IouKind::Segm] {
            let found = ground_truth(&dataset, iou).unwrap();
            let expected = read_ground_truth(file, iou).unwrap();
            assert_eq!(found.categories(), expected.categories());
            let expected: Vec<_> = expected.images().iter().cloned().map(plain).collect();
            assert_eq!(found.images(), expected);
        }
    }

    #[test]
    fn a_data_set_holds_all_that_its_file_says() {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/12_coco");
        check_lossless(&golden.join("gt.json"));
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gt.json");
        let cases = std::fs::read(golden.join("edge_cases.json")).unwrap();
        let cases: serde_json::Value = serde_json::from_slice(&cases).unwrap();
        for case in cases.as_object().unwrap().values() {
            std::fs::write(&file, case["gt"].to_string()).unwrap();
            check_lossless(&file);
        }
        // Numbers that rounding would change, crowds, sparse ids, an image without objects.
        std::fs::write(
            &file,
            r#"{"images": [{"id": 9, "file_name": "b.jpg", "width": 4, "height": 3},
                           {"id": 2, "file_name": "a.jpg", "width": 640, "height": 480}],
                "categories": [{"id": 90, "name": "z"}, {"id": 7, "name": "a"}],
                "annotations": [
                  {"id": 5, "image_id": 2, "category_id": 90, "iscrowd": 0, "area": 0.30000000000000004,
                   "bbox": [226.72999999999996, -3.1, 0.1, 9007199254740993],
                   "segmentation": [[0.1, 0.2, 5.3, 0.7000000000000001, 3.3, 8.9]]},
                  {"id": 3, "image_id": 2, "category_id": 7, "iscrowd": 1, "area": 2,
                   "bbox": [1, 2, 0, -3], "segmentation": {"size": [480, 640], "counts": [307190, 10]}},
                  {"id": 4, "image_id": 2, "category_id": 7, "iscrowd": 1, "area": 0,
                   "bbox": [1, 2, 3, 4], "segmentation": {"size": [480, 640], "counts": "PP\\9"}}]}"#,
        )
        .unwrap();
        check_lossless(&file);
    }
}
