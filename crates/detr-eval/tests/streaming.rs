//! Evaluation in pieces: any order, several ranks, images given twice, saved parts.

#![allow(clippy::unwrap_used)] // helpers of tests

#[path = "generated/mod.rs"]
mod generated;

use std::sync::Arc;

use detr_eval::{
    Category, ConfusionOptions, EvalDetection, EvalError, EvalOptions, Evaluator, GroundTruth,
    ImageTruth, IouKind, Metrics, Results, TruthObject,
};

fn options(iou: IouKind) -> EvalOptions {
    let confusion = Some(ConfusionOptions { score: 0.3, iou: 0.5 });
    EvalOptions { iou, confusion, ..EvalOptions::default() }
}

fn whole(truth: &Arc<GroundTruth>, results: &Results, options: &EvalOptions) -> Metrics {
    let mut evaluator = Evaluator::new(truth.clone(), options.clone()).unwrap();
    evaluator.add_results(results.clone()).unwrap();
    evaluator.finish().unwrap()
}

/// Makes a set with six images.
fn set(iou: IouKind) -> (Arc<GroundTruth>, Results) {
    let mut sets = (0..).map(|seed| generated::random_set(seed, iou));
    let set = sets.find(|set| set.truth.images().len() == 6).unwrap();
    (Arc::new(set.truth), set.results)
}

#[test]
fn ranks_give_the_result_of_one_whatever_they_share_and_in_whatever_order() {
    for iou in [IouKind::Bbox, IouKind::Segm] {
        let (truth, results) = set(iou);
        let options = options(iou);
        let mut expected = whole(&truth, &results, &options);
        let images: Vec<(i64, Vec<EvalDetection>)> = results.images.into_iter().collect();
        // A sampler that gives every rank the same number of images repeats some: here two come
        // twice.
        let mut ranks: Vec<Evaluator> = Vec::new();
        for rank in 0..3 {
            let mut evaluator = Evaluator::new(truth.clone(), options.clone()).unwrap();
            for index in [rank + 3, rank, (rank + 1) % 3] {
                let (image, detections) = images[index].clone();
                evaluator.add(image, detections).unwrap();
            }
            // Sent as bytes.
            let bytes = evaluator.to_bytes().unwrap();
            ranks.push(Evaluator::from_bytes(truth.clone(), &bytes).unwrap());
        }
        let mut first = ranks.pop().unwrap();
        for rank in ranks {
            first.merge(rank).unwrap();
        }
        expected.counts.duplicate_images = 3;
        assert_eq!(first.finish().unwrap(), expected);
    }
}

#[test]
fn of_an_image_given_twice_the_first_result_counts() {
    let (truth, results) = set(IouKind::Bbox);
    let options = options(IouKind::Bbox);
    let expected = whole(&truth, &results, &options);
    let empty = |ids: &[i64]| {
        let mut evaluator = Evaluator::new(truth.clone(), options.clone()).unwrap();
        for &id in ids {
            evaluator.add(id, Vec::new()).unwrap();
        }
        evaluator
    };
    let ids: Vec<i64> = results.images.keys().copied().collect();
    let mut evaluator = empty(&[]);
    evaluator.add_results(results).unwrap();
    evaluator.add(ids[2], Vec::new()).unwrap();
    evaluator.merge(empty(&ids)).unwrap();
    let found = evaluator.finish().unwrap();
    assert_eq!((found.summary, &found.confusion), (expected.summary, &expected.confusion));
    assert_eq!(found.counts.duplicate_images, 7);
}

#[test]
fn parts_of_other_evaluations_are_refused() {
    let (truth, _) = set(IouKind::Bbox);
    let other = Arc::new(generated::random_set(1, IouKind::Bbox).truth);
    let make = |truth: &Arc<GroundTruth>, options: EvalOptions| {
        Evaluator::new(truth.clone(), options).unwrap()
    };
    let plain = EvalOptions::default;
    let few = EvalOptions { max_detections: [1, 2, 3], ..plain() };
    for (part, what) in [(make(&other, plain()), "ground truth"), (make(&truth, few), "options")] {
        let error = make(&truth, plain()).merge(part).unwrap_err();
        assert!(matches!(error, EvalError::Merge { .. }) && error.to_string().contains(what));
    }
    let bytes = make(&truth, plain()).to_bytes().unwrap();
    assert!(Evaluator::from_bytes(other, &bytes).is_err());
    for end in 0..bytes.len() {
        assert!(Evaluator::from_bytes(truth.clone(), &bytes[..end]).is_err(), "{end} bytes");
    }
}

#[test]
fn damaged_parts_never_panic() {
    let (truth, results) = set(IouKind::Bbox);
    let mut evaluator = Evaluator::new(truth.clone(), options(IouKind::Bbox)).unwrap();
    evaluator.add_results(results).unwrap();
    let bytes = evaluator.to_bytes().unwrap();
    for at in (0..bytes.len()).step_by(11) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        if let Ok(part) = Evaluator::from_bytes(truth.clone(), &damaged) {
            part.finish().unwrap();
        }
    }
}

#[test]
fn images_that_never_came_count_as_missed() {
    let (truth, mut results) = set(IouKind::Bbox);
    let options = options(IouKind::Bbox);
    let gone = *results.images.keys().next().unwrap();
    results.images.insert(gone, Vec::new());
    let expected = whole(&truth, &results, &options);
    results.images.remove(&gone);
    assert_eq!(whole(&truth, &results, &options), expected);
}

#[test]
fn what_is_left_out_is_counted() {
    let (truth, mut results) = set(IouKind::Bbox);
    let plain = options(IouKind::Bbox);
    let expected = whole(&truth, &results, &plain);
    // A class that the ground truth lacks changes nothing else.
    let images: Vec<i64> = results.images.keys().copied().collect();
    for image in &images {
        let bbox = Some([0.0, 0.0, 9.0, 9.0].into());
        let stray = EvalDetection { category_id: -4, score: 0.99, bbox, mask: None };
        results.images.get_mut(image).unwrap().push(stray);
    }
    let found = whole(&truth, &results, &plain);
    assert_eq!((found.summary, &found.classes), (expected.summary, &expected.classes));
    assert_eq!(found.counts.unknown_category, images.len());

    let strict = EvalOptions { score_threshold: Some(0.5), ..plain.clone() };
    let found = whole(&truth, &results, &strict);
    let low = results.images.values().flatten().filter(|found| found.score < 0.5).count();
    assert_eq!(found.counts.below_threshold, low);
    results.images.values_mut().for_each(|found| found.retain(|found| found.score >= 0.5));
    assert_eq!(whole(&truth, &results, &plain).summary, found.summary);

    let some = EvalOptions { images: Some(images[1..3].to_vec()), ..plain };
    let counts = whole(&truth, &results, &some).counts;
    assert_eq!((counts.images, counts.other_images), (2, 4));
}

#[test]
fn a_choice_of_classes_is_the_mean_of_those_classes() {
    let (truth, results) = set(IouKind::Bbox);
    let all = whole(&truth, &results, &options(IouKind::Bbox));
    for class in &all.classes {
        let options =
            EvalOptions { categories: Some(vec![class.category_id]), ..options(IouKind::Bbox) };
        let found = whole(&truth, &results, &options);
        assert_eq!(found.classes, std::slice::from_ref(class));
        assert_eq!((found.summary.ap, found.summary.ap50), (class.ap, class.ap50));
        assert_eq!(found.summary.ar.to_bits(), class.ar.to_bits());
    }
}

/// Every object that is no crowd has a row; every detection from the score on has a column, unless
/// it is in a crowd.
#[test]
fn confusion_counts_every_object_and_every_detection_once() {
    for iou in [IouKind::Bbox, IouKind::Segm] {
        let (truth, results) = set(iou);
        let metrics = whole(&truth, &results, &options(iou));
        let confusion = metrics.confusion.unwrap();
        let nothing = confusion.classes.len();
        for (class, row) in metrics.classes.iter().zip(&confusion.counts) {
            assert_eq!(row.iter().sum::<u64>(), class.objects as u64);
        }
        let found: u64 = confusion.counts.iter().flat_map(|row| &row[..nothing]).sum();
        let high = |found: &&EvalDetection| found.score >= 0.3;
        let all = results.images.values().flatten().filter(high).count() as u64;
        let crowded = truth.images().iter().filter(|one| one.objects.iter().any(|o| o.iscrowd));
        let maybe: usize = crowded
            .filter_map(|image| results.images.get(&image.id))
            .map(|found| found.iter().filter(high).count())
            .sum();
        assert!((all - maybe as u64..=all).contains(&found), "{found} of {all}");
        assert_eq!(confusion.counts[nothing][nothing], 0);
    }
}

/// Two classes, an object of each and a crowd of the first, beside each other.
#[test]
fn confusion_knows_right_wrong_missed_spurious_and_crowd() {
    let object = |category_id, x, iscrowd| TruthObject {
        id: 0,
        category_id,
        bbox: [x, 0.0, 10.0, 10.0].into(),
        area: None,
        iscrowd,
        mask: None,
    };
    let objects = vec![
        object(1, 0.0, false),
        object(1, 20.0, false),
        object(2, 40.0, false),
        object(1, 60.0, true),
    ];
    let images = vec![ImageTruth { id: 1, size: None, objects }];
    let category = |id: i64| Category { id, name: id.to_string() };
    let truth = Arc::new(GroundTruth::new(images, vec![category(2), category(1)]).unwrap());
    let found = |category_id, x, score| EvalDetection {
        category_id,
        score,
        bbox: Some([x, 0.0, 10.0, 9.0].into()),
        mask: None,
    };
    let detections = vec![
        found(1, 0.0, 0.9),   // right
        found(1, 40.0, 0.8),  // the other class
        found(2, 80.0, 0.7),  // nothing there
        found(1, 62.0, 0.6),  // in the crowd
        found(2, 62.0, 0.6),  // of another class than the crowd
        found(1, 20.0, 0.29), // below the score
    ];
    let mut evaluator = Evaluator::new(truth, options(IouKind::Bbox)).unwrap();
    evaluator.add(1, detections).unwrap();
    let confusion = evaluator.finish().unwrap().confusion.unwrap();
    assert_eq!(confusion.classes, ["1", "2"]);
    assert_eq!(confusion.counts, [[1, 0, 1], [1, 0, 0], [0, 2, 0]]);
}

#[test]
fn metrics_survive_json() {
    let (truth, results) = set(IouKind::Segm);
    let metrics = whole(&truth, &results, &options(IouKind::Segm));
    let text = serde_json::to_string(&metrics).unwrap();
    assert_eq!(serde_json::from_str::<Metrics>(&text).unwrap(), metrics);
}
