//! The numbers of `pycocotools`: golden case `11_transforms/polygons`.

use std::path::PathBuf;

use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::Value;

use super::*;

fn golden(name: &str) -> PathBuf {
    let folder = std::env::var_os(detr_types::env::DETR_GOLDEN_DIR).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden")),
        PathBuf::from,
    );
    folder.join("11_transforms").join(name)
}

fn f64s(view: &TensorView<'_>) -> Vec<f64> {
    view.data().as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect()
}

fn rows(view: &TensorView<'_>) -> Vec<[f64; 4]> {
    f64s(view).as_chunks::<4>().0.to_vec()
}

#[test]
fn polygons_and_codes_equal_pycocotools() {
    let json: Value =
        serde_json::from_slice(&std::fs::read(golden("polygons.json")).unwrap()).unwrap();
    let bytes = std::fs::read(golden("polygons.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let size = ImageSize::new(50, 64);
    let (mut codes, mut masks) = (Vec::new(), 0);
    for name in json["order"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()) {
        let polygon = &json["polygons"][name];
        let code = if polygon.is_null() {
            let text = json["encoded"][name]["counts_string"].as_str().unwrap();
            let code = Rle::from_compressed(size, text).unwrap();
            assert_eq!(code.to_compressed(), text, "{name}");
            code
        } else {
            let outline: Segmentation =
                serde_json::from_value(polygon["polygons"].clone()).unwrap();
            let Segmentation::Polygons(parts) = &outline else { panic!("{name}") };
            for (part, expected) in parts.iter().zip(polygon["rle_parts"].as_array().unwrap()) {
                let code = rasterize(part, size).unwrap().to_compressed();
                assert_eq!(&code, expected.as_str().unwrap(), "{name}");
            }
            let code = outline.to_rle(size).unwrap();
            assert_eq!(code.to_compressed(), polygon["rle_merged"].as_str().unwrap(), "{name}");
            assert_eq!(code.area(), polygon["area"].as_u64().unwrap(), "{name}");
            let bbox: Vec<f64> = serde_json::from_value(polygon["bbox"].clone()).unwrap();
            assert_eq!(code.bbox().to_array().to_vec(), bbox, "{name}");
            code
        };
        let mask = code.to_mask().unwrap();
        assert_eq!(mask.bits, tensors.tensor(&format!("mask.{name}")).unwrap().data(), "{name}");
        assert_eq!(mask.to_rle(), code, "{name}");
        masks += 1;
        codes.push(code);
    }
    assert_eq!(masks, 28);

    for (name, crowd) in [("iou.a0_8.b8_16", false), ("iou.a0_8.b8_16.crowd", true)] {
        let expected = f64s(&tensors.tensor(name).unwrap());
        for (index, expected) in expected.into_iter().enumerate() {
            let (a, b) = (&codes[index / 8], &codes[8 + index % 8]);
            assert_eq!(mask_iou(a, b, crowd), Some(expected), "{name} {index}");
        }
    }
    let (dt, gt) =
        ["bbox_iou.dt", "bbox_iou.gt"].map(|name| rows(&tensors.tensor(name).unwrap())).into();
    for (name, crowd) in [("bbox_iou.plain", false), ("bbox_iou.crowd", true)] {
        let expected = f64s(&tensors.tensor(name).unwrap());
        for (index, expected) in expected.into_iter().enumerate() {
            let found = box_iou(dt[index / gt.len()].into(), gt[index % gt.len()].into(), crowd);
            assert_eq!(found.to_bits(), expected.to_bits(), "{name} {index}");
        }
    }
}

#[test]
fn outlines_without_inside_and_absurd_ones_are_refused() {
    let size = ImageSize::new(4, 6);
    let polygon = |points: &[f64]| Segmentation::Polygons(vec![points.to_vec()]).to_mask(size);
    for (points, message) in [
        (vec![1.0, 1.0, 2.0, 2.0], "4 coordinates"),
        (vec![1.0; 7], "x and y for each point"),
        (vec![1.0, 1.0, f64::NAN, 1.0, 2.0, 2.0], "coordinate NaN at index 2"),
        (vec![1.0, 1.0, 1e308, 1.0, 2.0, 2.0], "at index 2"),
    ] {
        let error = polygon(&points).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let far: Vec<f64> = (0..40).map(|index| if index % 4 < 2 { -9e5 } else { 9e5 }).collect();
    assert!(matches!(polygon(&far), Err(SegmentationError::TooLong { .. })));
    for (json, message) in [
        (r#"{"size": [4, 5], "counts": [20]}"#, "for 5x4, the image is 6x4"),
        (r#"{"size": [4, 6], "counts": [20]}"#, "cover 20 pixels, expected 24"),
        (r#"{"size": [4, 6], "counts": [4294967295, 4294967295]}"#, "cover 8589934590 pixels"),
    ] {
        let outline: Segmentation = serde_json::from_str(json).unwrap();
        let error = outline.to_mask(size).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
    let huge = Segmentation::Rle(Rle::empty(ImageSize::new(100_000, 100_000)));
    assert!(matches!(
        huge.to_mask(ImageSize::new(100_000, 100_000)),
        Err(SegmentationError::TooLarge { .. })
    ));
    for code in ["\u{7f}", "é", "o", "zzzzzzzzzz", "O"] {
        assert!(Rle::from_compressed(size, code).is_err(), "{code}");
    }
    assert!(serde_json::from_str::<Segmentation>(r#"{"size": [4, 6], "counts": [-1]}"#).is_err());
}

proptest::proptest! {
    #[test]
    fn masks_and_codes_round_trip(height in 1_u32..9, width in 1_u32..9, seed: u64) {
        let bits = (0..height * width).map(|at| u8::from((seed >> at) & 1 == 1)).collect();
        let mask = Mask { size: ImageSize::new(height, width), bits };
        let code = mask.to_rle();
        let again = Rle::from_compressed(code.size, &code.to_compressed()).unwrap();
        proptest::prop_assert_eq!(&again, &code);
        proptest::prop_assert_eq!(code.area(), mask.area());
        proptest::prop_assert_eq!(Rle::union(&[code.clone(), again]), Some(code.clone()));
        proptest::prop_assert_eq!(code.to_mask().unwrap(), mask);
    }
}
