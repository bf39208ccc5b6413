//! Panoptic quality by `hotcoco`.

use std::path::Path;

use hotcoco::panoptic::{PanopticDataset, PanopticEval, PqSplit};

use crate::EvalError;
use crate::panoptic::{
    PanopticClass, PanopticFiles, PanopticMean, PanopticMetrics, PanopticQuality,
};

/// Compares predictions with the truth.
pub(crate) fn quality(
    truth: &PanopticFiles,
    predictions: &PanopticFiles,
) -> Result<PanopticMetrics, EvalError> {
    let gt = read(truth)?;
    let categories = gt.categories.clone();
    let refused = |error: hotcoco::Error| at(&predictions.json, &error);
    let mut eval = PanopticEval::new(gt, read(predictions)?);
    eval.run().map_err(refused)?;
    let result = eval.result().ok_or_else(|| EvalError::Engine("no result".to_owned()))?;
    let mut classes: Vec<PanopticClass> = Vec::with_capacity(categories.len());
    for (&id, counts) in &result.per_category {
        // The last of several entries with one id counts, as in the original code.
        let category = categories.iter().rev().find(|category| category.id == id);
        classes.push(PanopticClass {
            id: i64::try_from(id).unwrap_or(i64::MAX),
            name: category.map(|category| category.name.clone()).unwrap_or_default(),
            is_thing: category.and_then(|category| category.isthing).unwrap_or(false),
            quality: counts.scores().map(|scores| PanopticQuality {
                pq: scores.pq,
                sq: scores.sq,
                rq: scores.rq,
            }),
            true_positives: counts.tp,
            false_positives: counts.fp,
            false_negatives: counts.fn_,
        });
    }
    Ok(PanopticMetrics {
        all: mean(&result.all),
        things: mean(&result.things),
        stuff: mean(&result.stuff),
        classes,
        images: result.n_images,
    })
}

fn read(files: &PanopticFiles) -> Result<PanopticDataset, EvalError> {
    let dataset =
        PanopticDataset::from_file(&files.json).map_err(|error| at(&files.json, &error))?;
    Ok(dataset.with_folder(&files.pictures))
}

fn at(path: &Path, error: &hotcoco::Error) -> EvalError {
    let source = Box::new(EvalError::Panoptic(error.to_string()));
    EvalError::File { path: path.to_owned(), source }
}

fn mean(split: &PqSplit) -> PanopticMean {
    let quality = PanopticQuality { pq: split.scores.pq, sq: split.scores.sq, rq: split.scores.rq };
    PanopticMean { quality: (split.n > 0).then_some(quality), categories: split.n }
}
