//! The predictor as a library: shareable, deterministic, and with errors instead of panics.

use std::sync::Arc;

use detr_data::RgbImage;
use detr_infer::backend::{Backend, Precision, select};
use detr_infer::{PredictOptions, Predictor};
use detr_model::ModelConfig;
use detr_model::weights::Checkpoint;
use detr_types::{Detection, PreprocessSpec};

fn predictor() -> Predictor {
    let selected = select(Backend::Flex, 0, Precision::F32).unwrap();
    let ModelConfig::Detr(mut config) = ModelConfig::preset("detr-r18").unwrap() else {
        unreachable!()
    };
    (config.enc_layers, config.dec_layers, config.num_queries) = (1, 1, 15);
    config.num_classes = 20; // no holes among the labels
    let checkpoint = Checkpoint::recipe(&ModelConfig::Detr(config), 5, &selected.device);
    let spec = PreprocessSpec { shortest_edge: 96, longest_edge: 160, ..PreprocessSpec::default() };
    let options = PredictOptions { threshold: 0.0, ..PredictOptions::default() };
    Predictor::new(&checkpoint, &selected, Precision::F32)
        .and_then(|predictor| predictor.with_preprocess(spec))
        .and_then(|predictor| predictor.with_options(options))
        .unwrap()
}

fn picture(seed: u8, width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| {
        let wave =
            |k: u32| u8::try_from((x * k + y * (7 - k) + u32::from(seed) * 31) % 256).unwrap();
        image::Rgb([wave(1), wave(3), wave(5)])
    })
}

#[test]
fn sixteen_threads_get_the_answers_of_one() {
    let predictor = Arc::new(predictor());
    let pictures: Vec<RgbImage> =
        (0..16).map(|seed| picture(seed, 60 + 7 * u32::from(seed), 80)).collect();
    let serial: Vec<Vec<Detection>> =
        pictures.iter().map(|picture| predictor.predict(picture).unwrap()).collect();
    assert!(serial.iter().all(|detections| !detections.is_empty()));
    let threads: Vec<_> = pictures
        .into_iter()
        .map(|picture| {
            let predictor = Arc::clone(&predictor);
            std::thread::spawn(move || predictor.predict(&picture).unwrap())
        })
        .collect();
    drop(predictor);
    for (thread, expected) in threads.into_iter().zip(serial) {
        assert_eq!(thread.join().unwrap(), expected);
    }
}

#[test]
fn detections_come_best_first_within_threshold_count_and_classes() {
    let predictor = predictor();
    let image = picture(1, 100, 80);
    let all = predictor.predict(&image).unwrap();
    assert!(all.is_sorted_by(|a, b| a.score >= b.score));
    let name = all[0].name.clone();
    let options =
        PredictOptions { threshold: all[3].score, max_detections: 2, classes: vec![name.clone()] };
    let some = predictor.with_options(options).unwrap().predict(&image).unwrap();
    assert!(!some.is_empty() && some.len() <= 2);
    assert!(some.iter().all(|d| d.name == name && d.score >= all[3].score));
}

#[test]
fn batches_of_any_composition_agree_with_single_images() {
    let predictor = predictor();
    let pictures: Vec<RgbImage> =
        [(1, 64), (2, 96), (3, 64), (4, 128), (5, 64)].map(|(seed, w)| picture(seed, w, 64)).into();
    let together = predictor.predict_batch(&pictures.iter().collect::<Vec<_>>()).unwrap();
    assert_eq!(together.len(), 5);
    assert!(predictor.predict_batch(&[]).unwrap().is_empty());
    for (picture, batched) in pictures.iter().zip(&together) {
        let alone = predictor.predict(picture).unwrap();
        for (a, b) in alone.iter().zip(batched) {
            assert_eq!(a.label, b.label);
            assert!((a.score - b.score).abs() < 1e-4);
            assert!((a.bbox.x1 - b.bbox.x1).abs() < 0.05);
        }
    }
}

#[test]
fn an_image_without_pixels_and_impossible_options_are_typed_errors() {
    let good = picture(0, 32, 32);
    let empty = RgbImage::new(0, 17);
    let error = predictor().predict_batch(&[&good, &empty]).unwrap_err().to_string();
    assert!(error.starts_with("image 1:"), "{error}");
    for (options, message) in [
        (PredictOptions { threshold: f32::NAN, ..PredictOptions::default() }, "threshold is NaN"),
        (PredictOptions { threshold: 1.5, ..PredictOptions::default() }, "expected 0 to 1"),
        (
            PredictOptions { classes: vec!["persn".into()], ..PredictOptions::default() },
            "no class `persn`",
        ),
    ] {
        let error = predictor().with_options(options).err().unwrap().to_string();
        assert!(error.contains(message), "{error}");
    }
}
