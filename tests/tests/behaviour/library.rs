//! The predictor as a library: shareable, deterministic, and with errors instead of panics.

use std::sync::Arc;

use detr_data::RgbImage;
use detr_infer::backend::{Backend, Precision, select_untested as select};
use detr_infer::{PredictOptions, Predictor, PredictorError};
use detr_model::ModelConfig;
use detr_model::weights::{Checkpoint, StoredTensor, WeightsError};
use detr_types::{Detection, PreprocessSpec};

fn predictor() -> Predictor {
    let checkpoint = checkpoint();
    in_precision(&checkpoint, Precision::F32).unwrap()
}

fn checkpoint() -> Checkpoint {
    let selected = select(Backend::Flex, 0, Precision::F32).unwrap();
    let ModelConfig::Detr(mut config) = ModelConfig::preset("detr-r18").unwrap() else {
        unreachable!()
    };
    (config.enc_layers, config.dec_layers, config.num_queries) = (1, 1, 15);
    config.num_classes = 20; // no holes among the labels
    Checkpoint::recipe(&ModelConfig::Detr(config), 5, &selected.device)
}

fn in_precision(
    checkpoint: &Checkpoint,
    precision: Precision,
) -> Result<Predictor, PredictorError> {
    let selected = select(Backend::Flex, 0, precision)?;
    let spec = PreprocessSpec { shortest_edge: 96, longest_edge: 160, ..PreprocessSpec::default() };
    let options = PredictOptions { threshold: 0.0, ..PredictOptions::default() };
    Predictor::new(checkpoint, &selected, precision)
        .and_then(|predictor| predictor.with_preprocess(spec))
        .and_then(|predictor| predictor.with_options(options))
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

/// A GPU pads images of several sizes to one batch, a CPU does not; neither may show.
#[test]
fn deformable_detr_gives_one_answer_alone_and_in_company_on_every_backend() {
    for backend in [Backend::Flex, Backend::Wgpu] {
        // Whether wgpu may be missing is for the golden tests to say.
        let Ok(selected) = select(backend, 0, Precision::F32) else { continue };
        let config = ModelConfig::preset("deformable-detr-tiny").unwrap();
        let checkpoint = Checkpoint::recipe(&config, 5, &selected.device);
        let spec =
            PreprocessSpec { shortest_edge: 96, longest_edge: 160, ..PreprocessSpec::default() };
        let options =
            PredictOptions { threshold: 0.0, max_detections: 7, ..PredictOptions::default() };
        let predictor = Predictor::new(&checkpoint, &selected, Precision::F32)
            .and_then(|predictor| predictor.with_preprocess(spec))
            .and_then(|predictor| predictor.with_options(options))
            .unwrap();
        let pictures = [picture(1, 60, 80), picture(2, 90, 41), picture(3, 60, 80)];
        let together = predictor.predict_batch(&pictures.each_ref()).unwrap();
        for (picture, together) in pictures.iter().zip(together) {
            let alone = predictor.predict(picture).unwrap();
            // A label that is a hole in COCO names nothing and is left out.
            assert!(alone.len() >= 5 && alone.len() == together.len());
            for (a, b) in alone.iter().zip(&together) {
                let near = |a: f32, b: f32, by: f32| (a - b).abs() <= by;
                assert!(a.label == b.label && near(a.score, b.score, 1e-4), "{a:?} {b:?}");
                let (a, b) = (a.bbox, b.bbox);
                assert!(near(a.x1, b.x1, 0.01) && near(a.y2, b.y2, 0.01), "{a:?} {b:?}");
            }
        }
    }
}

#[test]
fn the_classes_asked_for_are_ranked_among_themselves() {
    let selected = select(Backend::Flex, 0, Precision::F32).unwrap();
    let config = ModelConfig::preset("deformable-detr-tiny").unwrap();
    let checkpoint = Checkpoint::recipe(&config, 5, &selected.device);
    let with = |classes: &[&str], max_detections| {
        let classes = classes.iter().map(|&name| name.to_owned()).collect();
        let options = PredictOptions { threshold: 0.0, max_detections, classes, masks: true };
        let spec =
            PreprocessSpec { shortest_edge: 96, longest_edge: 160, ..PreprocessSpec::default() };
        Predictor::new(&checkpoint, &selected, Precision::F32)
            .and_then(|predictor| predictor.with_preprocess(spec)?.with_options(options))
            .unwrap()
            .predict(&picture(1, 60, 80))
            .unwrap()
    };
    let everything = with(&[], 10_000);
    let person: Vec<_> = everything.into_iter().filter(|found| found.name == "person").collect();
    assert_eq!(with(&["person"], 3), person[..3]);
}

#[test]
fn detections_come_best_first_within_threshold_count_and_classes() {
    let predictor = predictor();
    let image = picture(1, 100, 80);
    let all = predictor.predict(&image).unwrap();
    assert!(all.is_sorted_by(|a, b| a.score >= b.score));
    let name = all[0].name.clone();
    let options = PredictOptions {
        threshold: all[3].score,
        max_detections: 2,
        classes: vec![name.clone()],
        masks: true,
    };
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

#[test]
fn half_precision_gives_nearly_the_same_scores() {
    // A variance that f16 cannot hold: norms are folded before they are rounded.
    let mut checkpoint = checkpoint();
    let norm = "backbone.0.body.layer1.0.bn1";
    let channels = checkpoint.state.shape(&format!("{norm}.weight")).unwrap()[0];
    let filled = |value| StoredTensor::from_f32(&vec![value; channels], vec![channels]);
    checkpoint.state.insert(format!("{norm}.running_var"), filled(1e6));
    checkpoint.state.insert(format!("{norm}.weight"), filled(1e3));
    let image = picture(1, 100, 80);
    let scores = |precision| -> Vec<f32> {
        let predictor = in_precision(&checkpoint, precision).unwrap();
        predictor.predict(&image).unwrap().iter().map(|detection| detection.score).collect()
    };
    let exact = scores(Precision::F32);
    assert!(!exact.is_empty());
    for (precision, allowed) in [(Precision::F16, 0.02), (Precision::Bf16, 0.05)] {
        let rounded = scores(precision);
        assert_eq!(rounded.len(), exact.len(), "{precision}");
        for (a, b) in exact.iter().zip(&rounded) {
            assert!((a - b).abs() < allowed, "{precision}: {b} instead of {a}");
        }
    }
}

#[test]
fn a_weight_beyond_f16_is_named_and_fits_elsewhere() {
    let mut checkpoint = checkpoint();
    let name = "class_embed.bias";
    let classes = checkpoint.state.shape(name).unwrap()[0];
    let mut values = vec![0.0; classes];
    values[2] = -70_000.0;
    checkpoint.state.insert(name, StoredTensor::from_f32(&values, vec![classes]));
    match in_precision(&checkpoint, Precision::F16).err() {
        Some(PredictorError::Weights(WeightsError::BeyondHalf { names, .. })) => {
            assert_eq!(names, [name]);
        }
        other => panic!("{other:?}"),
    }
    assert!(in_precision(&checkpoint, Precision::Bf16).is_ok());
}
