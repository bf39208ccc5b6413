//! Evaluation image by image, in any order, on one rank or several.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use crate::curves::Arrays;
use crate::engine::{ClassPair, Engine, Pair, confused_pairs};
use crate::metrics::{Confusion, Counts, Metrics};
use crate::options::{EvalOptions, IouKind};
use crate::results::{EvalDetection, Results, check_detections};
use crate::truth::GroundTruth;
use crate::{ConfusionOptions, EvalError};

/// Images that are matched together, so that the work spreads over the cores.
const BATCH_IMAGES: usize = 256;
/// Detections that wait at most before they are matched.
const BATCH_DETECTIONS: usize = 16_384;

/// An evaluation in progress. Detections are matched soon after they come and then dropped; what
/// stays are about 20 bytes for each, and 24 for each class of each image.
pub struct Evaluator {
    pub(crate) truth: Arc<GroundTruth>,
    pub(crate) options: EvalOptions,
    pub(crate) engine: Engine,
    /// Indices of the classes to evaluate, sorted.
    classes: Vec<usize>,
    /// Whether an image, by index, is to be evaluated.
    wanted: Vec<bool>,
    /// The results of the images that were added so far, by index.
    pub(crate) seen: BTreeMap<usize, ImageSummary>,
    /// The images that were added but not matched yet.
    pending: Vec<(usize, Vec<EvalDetection>)>,
    pending_detections: usize,
    pub(crate) duplicate_images: usize,
    pub(crate) other_images: usize,
}

/// The facts about an image that are kept beside its matches.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct ImageSummary {
    pub(crate) detections: usize,
    pub(crate) below_threshold: usize,
    pub(crate) unknown_category: usize,
    pub(crate) confused: Vec<ClassPair>,
}

impl Evaluator {
    /// Creates an evaluation to which nothing has been added.
    ///
    /// # Errors
    /// Options that are impossible or name images or classes that the ground truth lacks; for
    /// masks, an object without a usable one.
    pub fn new(truth: Arc<GroundTruth>, options: EvalOptions) -> Result<Self, EvalError> {
        options.check()?;
        if options.iou == IouKind::Segm {
            truth.check_masks()?;
        }
        let classes =
            chosen("categories", options.categories.as_deref(), truth.categories().len(), |id| {
                truth.category_rank(id)
            })?;
        let images = chosen("images", options.images.as_deref(), truth.images().len(), |id| {
            truth.image_rank(id)
        })?;
        let mut wanted = vec![false; truth.images().len()];
        for rank in images {
            wanted[rank] = true;
        }
        let engine = Engine::new(&truth, &classes, &options)?;
        Ok(Self {
            truth,
            options,
            engine,
            classes,
            wanted,
            seen: BTreeMap::new(),
            pending: Vec::new(),
            pending_detections: 0,
            duplicate_images: 0,
            other_images: 0,
        })
    }

    /// Returns what is compared.
    #[must_use]
    pub const fn iou(&self) -> IouKind {
        self.options.iou
    }

    /// Adds an image with all that was found in it. Of an image that comes again, the first result
    /// counts; an image that is not to be evaluated is passed over; both are counted.
    ///
    /// # Errors
    /// An image that the ground truth lacks, or a detection that cannot be compared; nothing is
    /// added then.
    pub fn add(
        &mut self,
        image_id: i64,
        mut detections: Vec<EvalDetection>,
    ) -> Result<(), EvalError> {
        let rank = self.truth.image_rank(image_id).ok_or(EvalError::UnknownImage { image_id })?;
        if !self.wanted[rank] {
            self.other_images += 1;
            return Ok(());
        }
        if self.seen.contains_key(&rank) {
            self.duplicate_images += 1;
            return Ok(());
        }
        check_detections(&self.truth.images()[rank], &detections, self.options.iou)?;
        let mut seen = ImageSummary::default();
        detections.retain(|detected| {
            let low = self.options.score_threshold.is_some_and(|least| detected.score < least);
            let unknown = self.truth.category_rank(detected.category_id).is_none();
            seen.below_threshold += usize::from(low);
            seen.unknown_category += usize::from(unknown && !low);
            !low && !unknown
        });
        seen.detections = detections.len();
        self.seen.insert(rank, seen);
        self.pending_detections += detections.len();
        self.pending.push((rank, detections));
        if self.pending.len() >= BATCH_IMAGES || self.pending_detections >= BATCH_DETECTIONS {
            self.flush()?;
        }
        Ok(())
    }

    /// Adds all images of a results file.
    ///
    /// # Errors
    /// Those of [`add`](Self::add).
    pub fn add_results(&mut self, results: Results) -> Result<(), EvalError> {
        results.images.into_iter().try_for_each(|(image, detections)| self.add(image, detections))
    }

    /// Returns the number of images added.
    #[must_use]
    pub fn images_added(&self) -> usize {
        self.seen.len()
    }

    /// Adds what another rank evaluated. For an image of both, the result of this one counts.
    ///
    /// # Errors
    /// [`EvalError::Merge`] if the other had other ground truth or options.
    pub fn merge(&mut self, mut other: Self) -> Result<(), EvalError> {
        if self.truth.fingerprint() != other.truth.fingerprint() {
            return Err(EvalError::Merge { what: "the ground truth" });
        }
        if self.options != other.options {
            return Err(EvalError::Merge { what: "the options" });
        }
        self.flush()?;
        other.flush()?;
        self.duplicate_images += other.duplicate_images;
        self.other_images += other.other_images;
        for (rank, seen) in other.seen {
            match self.seen.entry(rank) {
                std::collections::btree_map::Entry::Occupied(_) => self.duplicate_images += 1,
                std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert(seen)),
            }
        }
        // The engine lets the newcomer win, so this one joins the other.
        std::mem::swap(&mut self.engine, &mut other.engine);
        self.engine.merge(other.engine)
    }

    /// Computes the result. Images that never came count as images in which nothing was found.
    ///
    /// # Errors
    /// None that more input could cause; see [`EvalError::Engine`].
    pub fn finish(self) -> Result<Metrics, EvalError> {
        self.finish_with_arrays().map(|(metrics, _)| metrics)
    }

    /// Computes the result, and returns it with the arrays that it was made of.
    ///
    /// # Errors
    /// Those of [`finish`](Self::finish).
    pub fn finish_with_arrays(mut self) -> Result<(Metrics, Arrays), EvalError> {
        for rank in 0..self.wanted.len() {
            if self.wanted[rank] && !self.seen.contains_key(&rank) {
                self.seen.insert(rank, ImageSummary::default());
                self.pending.push((rank, Vec::new()));
            }
        }
        self.flush()?;
        let mut counts = Counts {
            images: self.seen.len(),
            duplicate_images: self.duplicate_images,
            other_images: self.other_images,
            ..Counts::default()
        };
        let mut objects = vec![0; self.truth.categories().len()];
        for (&rank, seen) in &self.seen {
            counts.images_without_detections += usize::from(seen.detections == 0);
            counts.detections += seen.detections;
            counts.below_threshold += seen.below_threshold;
            counts.unknown_category += seen.unknown_category;
            for object in &self.truth.images()[rank].objects {
                let class = self.truth.category_rank(object.category_id);
                let Some(class) = class.filter(|class| self.classes.binary_search(class).is_ok())
                else {
                    continue;
                };
                counts.objects += 1;
                counts.crowds += usize::from(object.iscrowd);
                objects[class] += usize::from(!object.iscrowd);
            }
        }
        let confusion = self.options.confusion.map(|at| self.confusion(at));
        let arrays = self.engine.finish()?;
        let metrics =
            Metrics::new(&self.truth, &arrays, &self.options, counts, &objects, confusion);
        Ok((metrics, arrays))
    }

    /// Matches what is pending.
    pub(crate) fn flush(&mut self) -> Result<(), EvalError> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_detections = 0;
        for batch in pending.chunks(BATCH_IMAGES) {
            let pairs: Vec<Pair<'_>> = batch
                .iter()
                .map(|(rank, found)| Pair {
                    rank: *rank,
                    truth: &self.truth.images()[*rank],
                    found,
                })
                .collect();
            self.engine.update(&self.truth, &pairs)?;
            let Some(at) = self.options.confusion else { continue };
            let confused = pairs
                .par_iter()
                .map(|pair| confused_pairs(&self.truth, &self.classes, pair, &self.options, at))
                .collect::<Result<Vec<_>, _>>()?;
            for (pair, confused) in pairs.iter().zip(confused) {
                if let Some(seen) = self.seen.get_mut(&pair.rank) {
                    seen.confused = confused;
                }
            }
        }
        Ok(())
    }

    fn confusion(&self, at: ConfusionOptions) -> Confusion {
        let nothing = self.classes.len();
        let mut counts = vec![vec![0; nothing + 1]; nothing + 1];
        let index = |class: Option<u32>| {
            class.and_then(|class| self.classes.binary_search(&(class as usize)).ok())
        };
        for (real, found) in self.seen.values().flat_map(|seen| &seen.confused) {
            counts[index(*real).unwrap_or(nothing)][index(*found).unwrap_or(nothing)] += 1;
        }
        let name = |&rank: &usize| self.truth.categories()[rank].name.clone();
        let classes = self.classes.iter().map(name).collect();
        Confusion { score: at.score, iou: at.iou, classes, counts }
    }
}

/// Indices of the chosen ids, sorted; of all if there is no choice.
fn chosen(
    field: &'static str,
    ids: Option<&[i64]>,
    all: usize,
    rank: impl Fn(i64) -> Option<usize>,
) -> Result<Vec<usize>, EvalError> {
    let Some(ids) = ids else { return Ok((0..all).collect()) };
    let wrong = |message| EvalError::Option { field, message };
    if ids.is_empty() {
        return Err(wrong("an empty choice".to_owned()));
    }
    let unknown = |id| wrong(format!("{id} is not in the ground truth"));
    let mut ranks =
        ids.iter().map(|&id| rank(id).ok_or_else(|| unknown(id))).collect::<Result<Vec<_>, _>>()?;
    ranks.sort_unstable();
    ranks.dedup();
    Ok(ranks)
}
